/*
 * pg_replica.h
 *		Shared declarations of the C part of pg_replica: settings, the lease word, the fence, the supervisor worker.
 *
 * pg_replica.c		_PG_init: which process are we in, forced settings, standby start
 * guc.c			the settings and their checks
 * lease.c			the lease word in shared memory, and the SQL functions that read it
 * fence.c			hooks that keep every backend from writing without a lease
 * supervisor.c		the background worker's loop: lease, reloads, shutdown, postmaster death
 * agent_process.c	starting and reaping the agent process, the non-blocking pipe to it
 * agent_message.c	the JSON of that pipe (docs/supervisor-protocol.md)
 * log_throttle.c	one line in 10 s of those that a standby without an upstream repeats
 * socket_call.c	SQL function -> agent over its local socket
 *
 * Linux only: CLOCK_BOOTTIME and /proc are used.
 */
#ifndef PG_REPLICA_H
#define PG_REPLICA_H

#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"

#define PG_REPLICA_VERSION "0.1.0"
#define NANOS_PER_MILLI INT64CONST(1000000)

/* ---- settings (guc.c) ---- */

typedef struct PgReplicaPeer
{
	char	   *name;
	char	   *host;			/* without the brackets of an IPv6 address */
	int			port;
} PgReplicaPeer;

typedef struct PgReplicaTags
{
	bool		nofailover;
	bool		nosync;
	bool		noloadbalance;
	int			failover_priority;
} PgReplicaTags;

extern bool pg_replica_enabled;
extern char *pg_replica_node_id;
extern char *pg_replica_peers;
extern int	pg_replica_raft_port;
extern char *pg_replica_listen_addresses;
extern int	pg_replica_http_port;
extern bool pg_replica_bootstrap;
extern int	pg_replica_synchronous;
extern int	pg_replica_failover_timeout_ms;
extern char *pg_replica_advertise_dsn;
extern char *pg_replica_state_dir;
extern char *pg_replica_tags;
extern char *pg_replica_secret_file;
extern char *pg_replica_tls_cert_file;
extern char *pg_replica_tls_key_file;
extern char *pg_replica_tls_ca_file;
extern char *pg_replica_node_path;
extern int	pg_replica_log_level;
extern int	pg_replica_maximum_lag_kb;
extern char *pg_replica_on_role_change;
extern char *pg_replica_pre_promote;
extern char *pg_replica_marker_key;
extern int	pg_replica_reload_generation;

/* Defines every setting. With `strict`, a bad value in a configuration file or on the command line is FATAL. */
extern void pg_replica_define_settings(bool strict);

/* The state directory as an absolute path (palloc'd). */
extern char *pg_replica_state_directory(void);

/* Names of enum values, as the agent and pg_settings write them. */
extern const char *pg_replica_log_level_name(void);
extern const char *pg_replica_synchronous_name(void);

/* Parse a setting's text. On failure: false, and *problem and *advice say what is wrong and what to write. */
extern bool pg_replica_parse_peers(const char *text, List **peers, char **problem, char **advice);
extern bool pg_replica_parse_tags(const char *text, PgReplicaTags *tags, char **problem, char **advice);

/* ---- the lease word (lease.c) ---- */

#define MARKER_KEY_LENGTH 64	/* hexadecimal digits */

typedef struct PgReplicaToken
{
	uint64		term;
	uint64		index;
} PgReplicaToken;

typedef struct PgReplicaLease
{
	PgReplicaToken token;
	uint64		deadline_ns;	/* CLOCK_BOOTTIME; 0: expired */
	bool		open;
} PgReplicaLease;

extern void pg_replica_install_shared_memory(void);
extern bool pg_replica_shared_memory_ready(void);

/* CLOCK_BOOTTIME in nanoseconds: it goes on while the machine is suspended. */
extern uint64 pg_replica_boottime_ns(void);

/* For every backend. */
extern PgReplicaLease pg_replica_lease_read(void);
extern void pg_replica_lease_word(uint64 *deadline_ns, bool *open);
extern bool pg_replica_marker_key_matches(const char *key);
extern uint64 pg_replica_lease_remaining_ms(const PgReplicaLease *lease);

/* For the supervisor only. */
extern void pg_replica_lease_grant(PgReplicaToken token);
extern void pg_replica_lease_extend(uint64 deadline_ns);
extern void pg_replica_lease_open(void);
extern void pg_replica_lease_expire(void);
extern const char *pg_replica_new_marker_key(void);
extern int	pg_replica_token_compare(PgReplicaToken a, PgReplicaToken b);

/* For the startup process: it has read a configuration with this pg_replica.reload_generation. */
extern void pg_replica_acknowledge_generation(int generation);

/* ---- the log (log_throttle.c) ---- */

#define REPEATING_LINES 2

extern void pg_replica_install_log_throttle(void);
extern bool pg_replica_log_is_due(int line, uint64 text, uint64 interval_ns);

/* ---- the fence (fence.c) ---- */

extern void pg_replica_install_fence(void);

/* May this session not write now? */
extern bool pg_replica_fenced(void);

/* ---- the supervisor (supervisor.c) ---- */

extern void pg_replica_register_supervisor(void);
extern PGDLLEXPORT void pg_replica_supervisor_main(Datum arg);

/* ---- the agent process (agent_process.c) ---- */

typedef struct AgentProcess
{
	pid_t		pid;			/* 0: not running */
	int			fd;				/* our end of the socketpair, -1: none */
	StringInfoData in;			/* bytes of lines not yet complete */
	StringInfoData out;			/* bytes that the socket did not take yet */
	bool		skipping;		/* inside a line that is too long */
	bool		broken;			/* the agent does not read: hang up, it exits */
} AgentProcess;

#define AGENT_LINE_MAX (64 * 1024)

extern void agent_process_init(AgentProcess *agent);

/* Starts the agent. On failure: false and *problem (palloc'd) says why. */
extern bool agent_process_start(AgentProcess *agent, char **problem);

/* Reads what is there; calls `handle` for each whole line. False: the agent has closed its end. */
extern bool agent_process_read(AgentProcess *agent, void (*handle) (const char *line, void *arg), void *arg);

/* Queues a line (the newline is added) and writes what the socket takes. Never blocks. */
extern void agent_process_send(AgentProcess *agent, const char *line);
extern void agent_process_flush(AgentProcess *agent);
extern void agent_process_hang_up(AgentProcess *agent);

/* ---- messages (agent_message.c) ---- */

typedef enum AgentMessageType
{
	AGENT_LOG,
	AGENT_STAMP,
	AGENT_TOKEN,
	AGENT_RENEW,
	AGENT_OPEN,
	AGENT_EXPIRE,
	AGENT_STOP
} AgentMessageType;

typedef struct AgentMessage
{
	AgentMessageType type;
	int64		id;
	PgReplicaToken token;
	uint64		stamp_ns;
	int64		duration_ms;
	int			level;			/* of a log line: an elevel below ERROR */
	char	   *text;			/* of a log line */
	bool		immediate;		/* of a stop */
} AgentMessage;

/* False: not understood. Allocates in the current context; never throws. */
extern bool agent_message_parse(const char *line, AgentMessage *message);
extern bool pg_replica_parse_token(const char *text, PgReplicaToken *token);

/* Each gives one line without the newline, palloc'd. */
extern char *agent_message_config(const char *marker_key);
extern char *agent_message_stamp(int64 id, uint64 stamp_ns);
extern char *agent_message_lease(int64 id, PgReplicaLease lease);
extern char *agent_message_shutdown(void);
extern char *agent_message_released(PgReplicaToken token, int backends, bool gone);

/* ---- the local socket (socket_call.c) ---- */

/* <first unix_socket_directories entry>/.s.pg_replica.<port>; NULL when there is none, with *problem set. */
extern char *pg_replica_socket_directory(char **problem);
extern char *pg_replica_socket_path(char **problem);

#endif							/* PG_REPLICA_H */
