-- Complain if the script is sourced in psql rather than run by CREATE EXTENSION.
\echo Use "CREATE EXTENSION pg_replica" to load this file. \quit

-- Names that begin with pg_ are PostgreSQL's own; the name of the schema is part of what users know.
SET LOCAL allow_system_table_mods = on;
CREATE SCHEMA pg_replica;
SET LOCAL allow_system_table_mods = off;

COMMENT ON SCHEMA pg_replica IS 'consensus-driven failover: status, switchover and fencing';

-- The marker: each new primary writes its fencing token here, so that a standby can read after replay whose history
-- it has, and a clone carries it.
CREATE TABLE pg_replica.token (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    term bigint NOT NULL,
    index bigint NOT NULL,
    parent_term bigint,
    parent_index bigint,
    node text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE pg_replica.token IS 'fencing token of the promotion under which this history was last opened';

-- Straight from shared memory: these work without the agent.

CREATE FUNCTION pg_replica.lease(OUT token text, OUT remaining_ms bigint, OUT open boolean, OUT fenced boolean)
RETURNS record
AS 'MODULE_PATHNAME', 'pg_replica_lease'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION pg_replica.lease() IS
    'this server''s write lease: its token, how long it lasts, whether it is open, whether this session is fenced';

CREATE FUNCTION pg_replica.startup_generation() RETURNS integer
AS 'MODULE_PATHNAME', 'pg_replica_startup_generation'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION pg_replica.startup_generation() IS
    'internal: the newest pg_replica.reload_generation that the startup process has read';

-- Through the agent.

CREATE FUNCTION pg_replica._call(command text, args json) RETURNS json
AS 'MODULE_PATHNAME', 'pg_replica_call'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION pg_replica._call(text, json) IS 'internal: one request to this node''s agent';

CREATE FUNCTION pg_replica.status()
RETURNS TABLE (
    node_id text,
    role text,
    raft_role text,
    term bigint,
    leader text,
    "primary" text,
    token text,
    timeline integer,
    receive_lsn pg_lsn,
    replay_lsn pg_lsn,
    flush_lsn pg_lsn,
    lag_bytes bigint,
    lag_seconds double precision,
    lease_remaining_ms bigint,
    synchronous text,
    paused boolean,
    version text
)
LANGUAGE sql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT *
    FROM json_to_record(pg_replica._call('status', '{}')) AS r (
        node_id text,
        role text,
        raft_role text,
        term bigint,
        leader text,
        "primary" text,
        token text,
        timeline integer,
        receive_lsn pg_lsn,
        replay_lsn pg_lsn,
        flush_lsn pg_lsn,
        lag_bytes bigint,
        lag_seconds double precision,
        lease_remaining_ms bigint,
        synchronous text,
        paused boolean,
        version text
    )
$$;
COMMENT ON FUNCTION pg_replica.status() IS 'how this node sees itself and the cluster';

CREATE FUNCTION pg_replica.members()
RETURNS TABLE (
    node_id text,
    host text,
    port integer,
    role text,
    raft_role text,
    state text,
    timeline integer,
    lsn pg_lsn,
    lag_bytes bigint,
    sync_state text,
    tags jsonb,
    last_seen timestamptz
)
LANGUAGE sql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT *
    FROM json_to_recordset(pg_replica._call('members', '{}')) AS r (
        node_id text,
        host text,
        port integer,
        role text,
        raft_role text,
        state text,
        timeline integer,
        lsn pg_lsn,
        lag_bytes bigint,
        sync_state text,
        tags jsonb,
        last_seen timestamptz
    )
$$;
COMMENT ON FUNCTION pg_replica.members() IS 'one row for each member of the cluster';

CREATE FUNCTION pg_replica.history()
RETURNS TABLE (index bigint, at timestamptz, kind text, token text, node text, description text)
LANGUAGE sql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT *
    FROM json_to_recordset(pg_replica._call('history', '{}')) AS r (
        index bigint,
        at timestamptz,
        kind text,
        token text,
        node text,
        description text
    )
$$;
COMMENT ON FUNCTION pg_replica.history() IS 'what the cluster has decided, and why';

CREATE FUNCTION pg_replica.failover(target text DEFAULT NULL, allow_data_loss boolean DEFAULT false) RETURNS text
LANGUAGE sql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_replica._call('failover', json_build_object('target', target, 'allow_data_loss', allow_data_loss)) #>> '{}'
$$;
COMMENT ON FUNCTION pg_replica.failover(text, boolean) IS
    'moves the primary to target, or to the most advanced standby: a switchover when the primary is healthy';

CREATE FUNCTION pg_replica.pause() RETURNS text
LANGUAGE sql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT pg_replica._call('pause', '{}') #>> '{}' $$;
COMMENT ON FUNCTION pg_replica.pause() IS 'no automatic failover until resume()';

CREATE FUNCTION pg_replica.resume() RETURNS text
LANGUAGE sql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT pg_replica._call('resume', '{}') #>> '{}' $$;
COMMENT ON FUNCTION pg_replica.resume() IS 'automatic failover again after pause()';

-- Reading is for monitoring, changing is for superusers and whom they grant it to.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pg_replica FROM PUBLIC;
GRANT USAGE ON SCHEMA pg_replica TO pg_monitor;
GRANT SELECT ON pg_replica.token TO pg_monitor;
GRANT EXECUTE ON FUNCTION
    pg_replica.lease(),
    pg_replica.startup_generation(),
    pg_replica.status(),
    pg_replica.members(),
    pg_replica.history()
TO pg_monitor;
