CREATE EXTENSION pg_replica;
SELECT extname, extversion FROM pg_extension WHERE extname = 'pg_replica';
SELECT pg_describe_object(classid, objid, 0) COLLATE "C" AS object FROM pg_depend
WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_replica') AND deptype = 'e'
AND classid <> 'pg_type'::regclass ORDER BY 1;
-- nothing is for everybody
SELECT proname FROM pg_proc WHERE pronamespace = 'pg_replica'::regnamespace AND has_function_privilege('public', oid, 'EXECUTE');
SELECT proname FROM pg_proc WHERE pronamespace = 'pg_replica'::regnamespace AND has_function_privilege('pg_monitor', oid, 'EXECUTE') ORDER BY 1;
-- the marker is one row
\set VERBOSITY terse
INSERT INTO pg_replica.token (term, index, node) VALUES (1, 2, 'a');
INSERT INTO pg_replica.token (term, index, node) VALUES (1, 3, 'b');
INSERT INTO pg_replica.token (id, term, index, node) VALUES (false, 1, 3, 'b');
DROP EXTENSION pg_replica;
SELECT count(*) FROM pg_namespace WHERE nspname = 'pg_replica';
CREATE EXTENSION pg_replica;
