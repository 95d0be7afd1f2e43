-- straight from shared memory: works without the agent, born expired
SELECT * FROM pg_replica.lease();
SELECT pg_replica.startup_generation();
-- the rest needs a managed server
SELECT * FROM pg_replica.status();
SELECT pg_replica.failover();
SELECT pg_replica._call(NULL, '{}') IS NULL;
