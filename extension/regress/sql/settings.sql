SELECT name, vartype, unit, min_val, max_val, boot_val, context, enumvals
FROM pg_settings WHERE name LIKE 'pg\_replica.%' ORDER BY name;
-- each says what is wrong and what to write
ALTER SYSTEM SET pg_replica.peers = 'a';
ALTER SYSTEM SET pg_replica.peers = 'a=host';
ALTER SYSTEM SET pg_replica.peers = 'a=host:1,a=other:2';
ALTER SYSTEM SET pg_replica.peers = 'a=fe80::1:7400';
ALTER SYSTEM SET pg_replica.node_id = 'Node One';
ALTER SYSTEM SET pg_replica.tags = 'nofailovr';
ALTER SYSTEM SET pg_replica.tags = 'failover_priority=high';
ALTER SYSTEM SET pg_replica.synchronous = 'quorum';
ALTER SYSTEM SET pg_replica.failover_timeout_ms = '10ms';
