/*
 * guc.c
 *		The settings of pg_replica and their checks.
 *
 * A bad value in postgresql.conf for a setting of a preloaded library is by default only a WARNING, and the default is
 * used instead. For a cluster's identity that would be dangerous, so a real server start with one is refused.
 */
#include "pg_replica.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"

bool		pg_replica_enabled = true;
char	   *pg_replica_node_id = NULL;
char	   *pg_replica_peers = NULL;
int			pg_replica_raft_port = 7400;
char	   *pg_replica_listen_addresses = NULL;
int			pg_replica_http_port = 8008;
bool		pg_replica_bootstrap = false;
int			pg_replica_synchronous = 0;
int			pg_replica_failover_timeout_ms = 3000;
char	   *pg_replica_advertise_dsn = NULL;
char	   *pg_replica_state_dir = NULL;
char	   *pg_replica_tags = NULL;
char	   *pg_replica_secret_file = NULL;
char	   *pg_replica_tls_cert_file = NULL;
char	   *pg_replica_tls_key_file = NULL;
char	   *pg_replica_tls_ca_file = NULL;
char	   *pg_replica_node_path = NULL;
int			pg_replica_log_level = 1;
int			pg_replica_maximum_lag_kb = 1024;
char	   *pg_replica_on_role_change = NULL;
char	   *pg_replica_pre_promote = NULL;
char	   *pg_replica_marker_key = NULL;
int			pg_replica_reload_generation = 0;

#define SYNCHRONOUS_ASYNC 0
#define SYNCHRONOUS_QUORUM 1

static const struct config_enum_entry synchronous_options[] = {
	{"async", SYNCHRONOUS_ASYNC, false},
	{"quorum", SYNCHRONOUS_QUORUM, false},
	{NULL, 0, false}
};

static const struct config_enum_entry log_level_options[] = {
	{"debug", 0, false},
	{"info", 1, false},
	{"warning", 2, false},
	{"error", 3, false},
	{NULL, 0, false}
};

#define NODE_ID_MAX 63
#define NODE_ID_ADVICE "Use 1 to 63 of the characters a-z, 0-9, \"_\", \".\" and \"-\", for example \"db1\"."
#define PEERS_ADVICE "Write \"name=host:port,name=host:port\", for example \"a=10.0.0.1:7400,b=[fd00::2]:7400\"."
#define TAGS_ADVICE "Write for example \"nofailover, failover_priority=50, nosync, noloadbalance\"."

static bool
valid_node_id(const char *name, size_t length)
{
	if (length < 1 || length > NODE_ID_MAX)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		char		c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-'))
			return false;
	}
	return true;
}

/* Copy of text[0..length) without the blanks around it. */
static char *
trimmed(const char *text, size_t length)
{
	while (length > 0 && strchr(" \t\r\n", text[0]) != NULL)
	{
		text++;
		length--;
	}
	while (length > 0 && strchr(" \t\r\n", text[length - 1]) != NULL)
		length--;
	return pnstrdup(text, length);
}

/* Splits at commas; entries without the blanks around them. The empty text gives no entry. */
static List *
split_at_commas(const char *text)
{
	List	   *entries = NIL;
	const char *start = text;

	if (text[strspn(text, " \t\r\n")] == '\0')
		return NIL;
	for (;;)
	{
		const char *comma = strchr(start, ',');
		size_t		length = comma ? (size_t) (comma - start) : strlen(start);

		entries = lappend(entries, trimmed(start, length));
		if (comma == NULL)
			return entries;
		start = comma + 1;
	}
}

/* Decimal digits only, within min..max. */
static bool
parse_whole_number(const char *text, long min, long max, int *value)
{
	char	   *end;
	long		number;

	if (text[0] == '\0' || strlen(text) > 10 || strspn(text, "0123456789") != strlen(text))
		return false;
	errno = 0;
	number = strtol(text, &end, 10);
	if (errno != 0 || *end != '\0' || number < min || number > max)
		return false;
	*value = (int) number;
	return true;
}

/* One "name=host:port". False: *problem says what is wrong with it. */
static bool
parse_peer(const char *entry, PgReplicaPeer *peer, char **problem)
{
	const char *equals = strchr(entry, '=');
	const char *host;
	const char *host_end;
	const char *port;

	if (entry[0] == '\0')
	{
		*problem = pstrdup("There is an empty entry (two commas in a row, or a comma at an end).");
		return false;
	}
	if (equals == NULL)
	{
		*problem = psprintf("The entry \"%s\" has no \"=\" between name and address.", entry);
		return false;
	}
	peer->name = trimmed(entry, equals - entry);
	if (!valid_node_id(peer->name, strlen(peer->name)))
	{
		*problem = psprintf("\"%s\" in the entry \"%s\" is not a valid node name.", peer->name, entry);
		return false;
	}
	host = equals + 1 + strspn(equals + 1, " \t");
	if (host[0] == '[')
	{
		host++;
		host_end = strchr(host, ']');
		if (host_end == NULL)
		{
			*problem = psprintf("The bracket of the IPv6 address in the entry \"%s\" is not closed.", entry);
			return false;
		}
		port = host_end + 1;
	}
	else
	{
		host_end = strchr(host, ':');
		if (host_end != NULL && strchr(host_end + 1, ':') != NULL)
		{
			*problem = psprintf("The entry \"%s\" has several colons; an IPv6 address must stand in brackets.", entry);
			return false;
		}
		if (host_end == NULL)
			host_end = host + strlen(host);
		port = host_end;
	}
	if (port[0] != ':')
	{
		*problem = psprintf("The entry \"%s\" has no \":port\" after the host.", entry);
		return false;
	}
	peer->host = pnstrdup(host, host_end - host);
	if (peer->host[0] == '\0' || strpbrk(peer->host, " \t[]=\"'/\\") != NULL)
	{
		*problem = psprintf("\"%s\" in the entry \"%s\" is not a host name or address.", peer->host, entry);
		return false;
	}
	if (!parse_whole_number(port + 1, 1, 65535, &peer->port))
	{
		*problem = psprintf("\"%s\" in the entry \"%s\" is not a port (1 to 65535).", port + 1, entry);
		return false;
	}
	return true;
}

bool
pg_replica_parse_peers(const char *text, List **peers, char **problem, char **advice)
{
	ListCell   *cell;

	*peers = NIL;
	*advice = PEERS_ADVICE;
	foreach(cell, split_at_commas(text))
	{
		PgReplicaPeer *peer = palloc0(sizeof(PgReplicaPeer));
		ListCell   *other;

		if (!parse_peer(lfirst(cell), peer, problem))
			return false;
		foreach(other, *peers)
		{
			if (strcmp(((PgReplicaPeer *) lfirst(other))->name, peer->name) == 0)
			{
				*problem = psprintf("The node name \"%s\" stands there twice.", peer->name);
				*advice = "Give each node a name of its own, and name each once.";
				return false;
			}
		}
		*peers = lappend(*peers, peer);
	}
	return true;
}

/* "nosync", "nosync=true" and "nosync=false"; NULL value: true. */
static bool
parse_flag(const char *value, bool *flag)
{
	if (value == NULL || strcmp(value, "true") == 0 || strcmp(value, "on") == 0)
		*flag = true;
	else if (strcmp(value, "false") == 0 || strcmp(value, "off") == 0)
		*flag = false;
	else
		return false;
	return true;
}

bool
pg_replica_parse_tags(const char *text, PgReplicaTags *tags, char **problem, char **advice)
{
	ListCell   *cell;
	bool		ok;

	memset(tags, 0, sizeof(*tags));
	tags->failover_priority = 100;
	*advice = TAGS_ADVICE;
	foreach(cell, split_at_commas(text))
	{
		char	   *entry = lfirst(cell);
		char	   *equals = strchr(entry, '=');
		char	   *name = equals ? trimmed(entry, equals - entry) : entry;
		char	   *value = equals ? trimmed(equals + 1, strlen(equals + 1)) : NULL;

		if (strcmp(name, "nofailover") == 0)
			ok = parse_flag(value, &tags->nofailover);
		else if (strcmp(name, "nosync") == 0)
			ok = parse_flag(value, &tags->nosync);
		else if (strcmp(name, "noloadbalance") == 0)
			ok = parse_flag(value, &tags->noloadbalance);
		else if (strcmp(name, "failover_priority") == 0)
		{
			ok = value != NULL && parse_whole_number(value, 0, INT_MAX, &tags->failover_priority);
			if (!ok)
			{
				*problem = psprintf("\"%s\" needs a whole number from 0 up, as in \"failover_priority=100\".", entry);
				return false;
			}
		}
		else
		{
			*problem = psprintf("\"%s\" is not a tag that pg_replica knows.", name);
			return false;
		}
		if (!ok)
		{
			*problem = psprintf("\"%s\": the value must be true or false, or left away.", entry);
			return false;
		}
	}
	return true;
}

/*
 * The parsers palloc. A check hook can run at any time, also in a long-lived context of the postmaster or of the
 * supervisor: run them in a context that is thrown away.
 */
static MemoryContext
enter_check_context(MemoryContext *old)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "pg_replica setting", ALLOCSET_SMALL_SIZES);

	*old = MemoryContextSwitchTo(context);
	return context;
}

static void
leave_check_context(MemoryContext context, MemoryContext old)
{
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* GUC_check_errdetail copies into the memory of error reporting, so it is called before the context is deleted. */
static bool
finish_check(MemoryContext context, MemoryContext old, bool ok, const char *problem, const char *advice)
{
	if (!ok)
	{
		GUC_check_errdetail("%s", problem);
		GUC_check_errhint("%s", advice);
	}
	leave_check_context(context, old);
	return ok;
}

static bool
check_node_id(char **value, void **extra, GucSource source)
{
	/* Empty is the default; an enabled server refuses to start with it (pg_replica.c). */
	if ((*value)[0] == '\0' || valid_node_id(*value, strlen(*value)))
		return true;
	GUC_check_errdetail("\"%s\" is not a valid node name.", *value);
	GUC_check_errhint("%s", NODE_ID_ADVICE);
	return false;
}

static bool
check_peers(char **value, void **extra, GucSource source)
{
	MemoryContext old;
	MemoryContext context = enter_check_context(&old);
	List	   *peers;
	char	   *problem = NULL;
	char	   *advice = NULL;
	bool		ok = pg_replica_parse_peers(*value, &peers, &problem, &advice);

	return finish_check(context, old, ok, problem, advice);
}

static bool
check_tags(char **value, void **extra, GucSource source)
{
	MemoryContext old;
	MemoryContext context = enter_check_context(&old);
	PgReplicaTags tags;
	char	   *problem = NULL;
	char	   *advice = NULL;
	bool		ok = pg_replica_parse_tags(*value, &tags, &problem, &advice);

	return finish_check(context, old, ok, problem, advice);
}

static bool
check_synchronous(int *value, void **extra, GucSource source)
{
	if (*value != SYNCHRONOUS_QUORUM)
		return true;
	GUC_check_errdetail("This release supports asynchronous replication only.");
	GUC_check_errhint("Write \"async\".");
	return false;
}

/* The startup process proves with this that it has read a configuration (docs/supervisor-protocol.md). */
static void
assign_reload_generation(int value, void *extra)
{
	if (MyBackendType == B_STARTUP)
		pg_replica_acknowledge_generation(value);
}

/* ---- definitions ---- */

#define FILE_NAME_FLAGS GUC_SUPERUSER_ONLY
#define HIDDEN_FLAGS (GUC_NO_SHOW_ALL | GUC_NO_RESET_ALL | GUC_NOT_IN_SAMPLE)

static void
define_string(const char *name, const char *description, const char *details, char **variable, const char *initial,
			  GucContext context, int flags, GucStringCheckHook check)
{
	DefineCustomStringVariable(name, description, details, variable, initial, context, flags, check, NULL, NULL);
}

static void
define_identity(void)
{
	DefineCustomBoolVariable("pg_replica.enabled",
							 "Whether pg_replica manages this server.",
							 "Off: no worker, no fence, no forced settings; the server is plain PostgreSQL. The environment "
							 "variable PG_REPLICA_DISABLE=1 does the same.",
							 &pg_replica_enabled, true, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	define_string("pg_replica.node_id",
				  "Stable name of this node in the cluster.",
				  "1 to 63 of the characters a-z, 0-9, \"_\", \".\" and \"-\"; must differ on every node.",
				  &pg_replica_node_id, "", PGC_POSTMASTER, 0, check_node_id);
	define_string("pg_replica.peers",
				  "Addresses of the cluster's nodes, as name=host:port separated by commas.",
				  "The port is the node's pg_replica.raft_port. An IPv6 address stands in brackets. This node may be "
				  "listed as well. Only needed to find the cluster: members are kept in its replicated log.",
				  &pg_replica_peers, "", PGC_SIGHUP, 0, check_peers);
	DefineCustomBoolVariable("pg_replica.bootstrap",
							 "Whether this node may create the cluster.",
							 "Set it on one node only. It makes a cluster of one, once: never when a peer answers that a "
							 "cluster exists, and never when this node has state of a cluster.",
							 &pg_replica_bootstrap, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
	define_string("pg_replica.advertise_dsn",
				  "Connection string by which the other nodes reach this server.",
				  "For example \"host=10.0.0.1 port=5432 user=replicator\". Empty: made from the host of this node in "
				  "pg_replica.peers and the server's port. Do not put a password here, use a password file.",
				  &pg_replica_advertise_dsn, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL);
	define_string("pg_replica.state_dir",
				  "Directory of the node's replicated log and identity.",
				  "Empty: pg_replica in the data directory. A relative path is below the data directory.",
				  &pg_replica_state_dir, "", PGC_POSTMASTER, FILE_NAME_FLAGS, NULL);
	define_string("pg_replica.tags",
				  "What this node may be used for.",
				  "A list of nofailover (never promoted), failover_priority=N (higher wins an exact tie; default 100), "
				  "nosync (never waited for) and noloadbalance.",
				  &pg_replica_tags, "", PGC_SIGHUP, 0, check_tags);
}

static void
define_network(void)
{
	DefineCustomIntVariable("pg_replica.raft_port",
							"TCP port on which the nodes' agents talk to each other.",
							NULL,
							&pg_replica_raft_port, 7400, 1, 65535, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	define_string("pg_replica.listen_addresses",
				  "Addresses on which the agent listens for peers and for HTTP.",
				  "Host names or addresses separated by commas; \"*\" means all.",
				  &pg_replica_listen_addresses, "*", PGC_POSTMASTER, 0, NULL);
	DefineCustomIntVariable("pg_replica.http_port",
							"TCP port of the health checks, metrics and the page.",
							"0 turns HTTP off.",
							&pg_replica_http_port, 8008, 0, 65535, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	define_string("pg_replica.secret_file",
				  "File with the secret that the nodes of the cluster share.",
				  "It must not be readable by others. The secret itself is never sent and never shown.",
				  &pg_replica_secret_file, "", PGC_SIGHUP, FILE_NAME_FLAGS, NULL);
	define_string("pg_replica.tls_cert_file",
				  "File with this node's TLS certificate for the connections between agents.",
				  NULL, &pg_replica_tls_cert_file, "", PGC_SIGHUP, FILE_NAME_FLAGS, NULL);
	define_string("pg_replica.tls_key_file",
				  "File with the private key of pg_replica.tls_cert_file.",
				  NULL, &pg_replica_tls_key_file, "", PGC_SIGHUP, FILE_NAME_FLAGS, NULL);
	define_string("pg_replica.tls_ca_file",
				  "File with the certificate authorities that sign the nodes' certificates.",
				  NULL, &pg_replica_tls_ca_file, "", PGC_SIGHUP, FILE_NAME_FLAGS, NULL);
}

static void
define_failover(void)
{
	DefineCustomEnumVariable("pg_replica.synchronous",
							 "Whether a commit waits for a quorum of standbys.",
							 "async: the lowest latency; a failover may lose the last commits (see "
							 "pg_replica.maximum_lag_on_failover). This release supports async only.",
							 &pg_replica_synchronous, SYNCHRONOUS_ASYNC, synchronous_options,
							 PGC_SIGHUP, 0, check_synchronous, NULL, NULL);
	DefineCustomIntVariable("pg_replica.failover_timeout_ms",
							"How long the primary may write without word from a majority.",
							"The duration of the primary's lease: after this time without a renewal it stops writing, and "
							"the others may take over. All other intervals are derived from it.",
							&pg_replica_failover_timeout_ms, 3000, 500, 600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("pg_replica.maximum_lag_on_failover",
							"How far a standby may be behind the last known position of the primary and still be promoted.",
							"Counts in asynchronous mode. -1: no limit. A number without a unit is in kilobytes.",
							&pg_replica_maximum_lag_kb, 1024, -1, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	define_string("pg_replica.on_role_change",
				  "Shell command that the agent runs after this node's role has changed.",
				  "A failure is logged and changes nothing. Empty: none.",
				  &pg_replica_on_role_change, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL);
	define_string("pg_replica.pre_promote",
				  "Shell command that must succeed before this node is promoted.",
				  "When it fails, the node is not promoted. Empty: none.",
				  &pg_replica_pre_promote, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL);
}

static void
define_agent(void)
{
	define_string("pg_replica.node_path",
				  "The Node.js program that runs the agent.",
				  "A name without a slash is searched in PATH, then in /usr/bin and /usr/local/bin. A change counts from "
				  "the next start of the agent.",
				  &pg_replica_node_path, "node", PGC_SIGHUP, FILE_NAME_FLAGS, NULL);
	DefineCustomEnumVariable("pg_replica.log_level",
							 "The least severe messages that the agent writes to the server log.",
							 NULL, &pg_replica_log_level, 1, log_level_options, PGC_SIGHUP, 0, NULL, NULL, NULL);

	/* Internal: the agent sets these itself. */
	DefineCustomStringVariable("pg_replica.marker_key",
							   "Internal: opens the agent's own session past the fence.",
							   NULL, &pg_replica_marker_key, "", PGC_SUSET,
							   HIDDEN_FLAGS | GUC_SUPERUSER_ONLY | GUC_DISALLOW_IN_FILE, NULL, NULL, NULL);
	DefineCustomIntVariable("pg_replica.reload_generation",
							"Internal: number of a reload that the startup process acknowledges.",
							NULL, &pg_replica_reload_generation, 0, 0, INT_MAX, PGC_SIGHUP,
							HIDDEN_FLAGS, NULL, assign_reload_generation, NULL);
}

/* What the configuration says before the settings are defined: PostgreSQL keeps it as unchecked text. */
static const char *const all_settings[] = {
	"pg_replica.enabled", "pg_replica.node_id", "pg_replica.peers", "pg_replica.bootstrap", "pg_replica.advertise_dsn",
	"pg_replica.state_dir", "pg_replica.tags", "pg_replica.raft_port", "pg_replica.listen_addresses",
	"pg_replica.http_port", "pg_replica.secret_file", "pg_replica.tls_cert_file", "pg_replica.tls_key_file",
	"pg_replica.tls_ca_file", "pg_replica.synchronous", "pg_replica.failover_timeout_ms",
	"pg_replica.maximum_lag_on_failover", "pg_replica.on_role_change", "pg_replica.pre_promote",
	"pg_replica.node_path", "pg_replica.log_level", "pg_replica.reload_generation"
};

void
pg_replica_define_settings(bool strict)
{
	char	   *configured[lengthof(all_settings)] = {NULL};

	for (int i = 0; strict && i < lengthof(all_settings); i++)
	{
		const char *text = GetConfigOption(all_settings[i], true, false);

		if (text != NULL)
			configured[i] = pstrdup(text);
	}

	define_identity();
	define_network();
	define_failover();
	define_agent();
#if PG_VERSION_NUM >= 150000
	MarkGUCPrefixReserved("pg_replica");
#else
	EmitWarningsOnPlaceholders("pg_replica");
#endif

	/* Check again what was configured, without setting it: FATAL with the check's own DETAIL and HINT. */
	for (int i = 0; i < lengthof(all_settings); i++)
	{
		if (configured[i] == NULL)
			continue;
		(void) set_config_option(all_settings[i], configured[i], PGC_POSTMASTER, PGC_S_FILE, GUC_ACTION_SET, false,
								 FATAL, false);
		pfree(configured[i]);
	}
}

const char *
pg_replica_log_level_name(void)
{
	return log_level_options[pg_replica_log_level].name;
}

const char *
pg_replica_synchronous_name(void)
{
	return synchronous_options[pg_replica_synchronous].name;
}

char *
pg_replica_state_directory(void)
{
	if (pg_replica_state_dir == NULL || pg_replica_state_dir[0] == '\0')
		return psprintf("%s/pg_replica", DataDir);
	if (pg_replica_state_dir[0] == '/')
		return pstrdup(pg_replica_state_dir);
	return psprintf("%s/%s", DataDir, pg_replica_state_dir);
}
