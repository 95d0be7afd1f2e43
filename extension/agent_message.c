/*
 * agent_message.c
 *		The JSON lines between the supervisor and the agent (docs/supervisor-protocol.md).
 *
 * The supervisor runs outside of any transaction and must survive whatever the agent sends: everything that may throw
 * runs under PG_TRY here, and a line that is not understood is just that.
 */
#include "pg_replica.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

/* ---- reading ---- */

static JsonbValue *
field(Jsonb *object, const char *name, enum jbvType type)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&object->root, name, strlen(name), NULL);

	return value != NULL && value->type == type ? value : NULL;
}

static char *
text_field(Jsonb *object, const char *name)
{
	JsonbValue *value = field(object, name, jbvString);

	return value ? pnstrdup(value->val.string.val, value->val.string.len) : NULL;
}

/* Whole numbers from 0 up. */
static bool
number_field(Jsonb *object, const char *name, int64 *number)
{
	JsonbValue *value = field(object, name, jbvNumeric);

	if (value == NULL)
		return false;
	*number = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value->val.numeric)));
	return *number >= 0;
}

/* A whole decimal number of at most 64 bits that fills the text up to `end`. */
static bool
parse_uint64(const char *text, const char *end, uint64 *number)
{
	if (text == end || (end - text > 1 && text[0] == '0'))
		return false;
	*number = 0;
	for (; text < end; text++)
	{
		uint64		digit = (uint64) (*text - '0');

		if (*text < '0' || *text > '9' || *number > (PG_UINT64_MAX - digit) / 10)
			return false;
		*number = *number * 10 + digit;
	}
	return true;
}

bool
pg_replica_parse_token(const char *text, PgReplicaToken *token)
{
	const char *dot = strchr(text, '.');

	return dot != NULL && parse_uint64(text, dot, &token->term) &&
		parse_uint64(dot + 1, dot + 1 + strlen(dot + 1), &token->index);
}

static bool
token_field(Jsonb *object, PgReplicaToken *token)
{
	char	   *text = text_field(object, "token");

	return text != NULL && pg_replica_parse_token(text, token);
}

static bool
uint64_text_field(Jsonb *object, const char *name, uint64 *number)
{
	char	   *text = text_field(object, name);

	return text != NULL && parse_uint64(text, text + strlen(text), number);
}

/* An agent's "error" is a WARNING of the server: ERROR would end this worker's loop. */
static bool
parse_level(const char *name, int *level)
{
	if (strcmp(name, "debug") == 0)
		*level = DEBUG1;
	else if (strcmp(name, "info") == 0)
		*level = LOG;
	else if (strcmp(name, "warning") == 0 || strcmp(name, "error") == 0)
		*level = WARNING;
	else
		return false;
	return true;
}

static bool
read_log(Jsonb *object, AgentMessage *message)
{
	char	   *level = text_field(object, "level");

	message->type = AGENT_LOG;
	message->text = text_field(object, "message");
	if (level == NULL || message->text == NULL || !parse_level(level, &message->level))
		return false;
	if (strcmp(level, "error") == 0)
		message->text = psprintf("error: %s", message->text);
	return true;
}

static bool
read_stop(Jsonb *object, AgentMessage *message)
{
	char	   *mode = text_field(object, "mode");

	message->type = AGENT_STOP;
	if (mode == NULL)
		return false;
	message->immediate = strcmp(mode, "immediate") == 0;
	return message->immediate || strcmp(mode, "fast") == 0;
}

static bool
read_message(Jsonb *object, AgentMessage *message)
{
	char	   *type;

	if (!JB_ROOT_IS_OBJECT(object) || (type = text_field(object, "type")) == NULL)
		return false;
	if (strcmp(type, "log") == 0)
		return read_log(object, message);
	if (strcmp(type, "stop") == 0)
		return read_stop(object, message);
	if (!number_field(object, "id", &message->id))
		return false;
	if (strcmp(type, "stamp") == 0)
	{
		message->type = AGENT_STAMP;
		return true;
	}
	if (strcmp(type, "expire") == 0)
	{
		message->type = AGENT_EXPIRE;
		return true;
	}
	if (!token_field(object, &message->token))
		return false;
	if (strcmp(type, "token") == 0)
	{
		message->type = AGENT_TOKEN;
		return true;
	}
	if (strcmp(type, "open") == 0)
	{
		message->type = AGENT_OPEN;
		return true;
	}
	message->type = AGENT_RENEW;
	return strcmp(type, "renew") == 0 && uint64_text_field(object, "stampNs", &message->stamp_ns) &&
		number_field(object, "durationMs", &message->duration_ms);
}

bool
agent_message_parse(const char *line, AgentMessage *message)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool understood = false;

	memset(message, 0, sizeof(*message));
	PG_TRY();
	{
		Jsonb	   *object = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(line)));

		understood = read_message(object, message);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		understood = false;
	}
	PG_END_TRY();
	return understood;
}

/* ---- writing ---- */

static void
begin_field(StringInfo json, const char *name)
{
	if (json->len > 0 && json->data[json->len - 1] != '{')
		appendStringInfoChar(json, ',');
	escape_json(json, name);
	appendStringInfoChar(json, ':');
}

static void
append_text(StringInfo json, const char *name, const char *value)
{
	begin_field(json, name);
	escape_json(json, value ? value : "");
}

static void
append_number(StringInfo json, const char *name, int64 value)
{
	begin_field(json, name);
	appendStringInfo(json, INT64_FORMAT, value);
}

static void
append_flag(StringInfo json, const char *name, bool value)
{
	begin_field(json, name);
	appendStringInfoString(json, value ? "true" : "false");
}

static void
append_token(StringInfo json, PgReplicaToken token)
{
	begin_field(json, "token");
	appendStringInfo(json, "\"" UINT64_FORMAT "." UINT64_FORMAT "\"", token.term, token.index);
}

static void
append_peers(StringInfo json)
{
	List	   *peers;
	ListCell   *cell;
	char	   *problem;
	char	   *advice;
	const char *separator = "";

	begin_field(json, "peers");
	appendStringInfoChar(json, '[');
	/* It passed the check hook, so it parses. */
	if (pg_replica_parse_peers(pg_replica_peers, &peers, &problem, &advice))
		foreach(cell, peers)
		{
			PgReplicaPeer *peer = lfirst(cell);

			appendStringInfo(json, "%s{", separator);
			append_text(json, "name", peer->name);
			append_text(json, "host", peer->host);
			append_number(json, "port", peer->port);
			appendStringInfoChar(json, '}');
			separator = ",";
		}
	appendStringInfoChar(json, ']');
}

static void
append_tags(StringInfo json)
{
	PgReplicaTags tags;
	char	   *problem;
	char	   *advice;

	(void) pg_replica_parse_tags(pg_replica_tags, &tags, &problem, &advice);
	begin_field(json, "tags");
	appendStringInfoChar(json, '{');
	append_flag(json, "nofailover", tags.nofailover);
	append_number(json, "failoverPriority", tags.failover_priority);
	append_flag(json, "nosync", tags.nosync);
	append_flag(json, "noloadbalance", tags.noloadbalance);
	appendStringInfoChar(json, '}');
}

static void
append_server(StringInfo json)
{
	char		bindir[MAXPGPATH];
	char		identifier[32];
	char	   *problem;

	strlcpy(bindir, my_exec_path, sizeof(bindir));
	get_parent_directory(bindir);
	snprintf(identifier, sizeof(identifier), UINT64_FORMAT, GetSystemIdentifier());

	begin_field(json, "server");
	appendStringInfoChar(json, '{');
	append_text(json, "pgdata", DataDir);
	append_text(json, "bindir", bindir);
	append_number(json, "port", PostPortNumber);
	append_text(json, "socketDirectory", pg_replica_socket_directory(&problem));
	append_number(json, "versionNum", PG_VERSION_NUM);
	append_text(json, "systemIdentifier", identifier);
	append_number(json, "postmasterPid", PostmasterPid);
	append_flag(json, "dataChecksums", DataChecksumsEnabled());
	append_text(json, "configFile", ConfigFileName);
	appendStringInfoChar(json, '}');
}

/* The fields of AgentConfig in src/control/types.ts. */
char *
agent_message_config(const char *marker_key)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"type\":\"config\",\"config\":{");
	append_text(&json, "nodeId", pg_replica_node_id);
	append_peers(&json);
	append_number(&json, "raftPort", pg_replica_raft_port);
	append_text(&json, "listenAddresses", pg_replica_listen_addresses);
	append_number(&json, "httpPort", pg_replica_http_port);
	append_flag(&json, "bootstrap", pg_replica_bootstrap);
	append_text(&json, "synchronous", pg_replica_synchronous_name());
	append_number(&json, "failoverTimeoutMs", pg_replica_failover_timeout_ms);
	append_text(&json, "advertiseDsn", pg_replica_advertise_dsn);
	append_text(&json, "stateDir", pg_replica_state_directory());
	append_tags(&json);
	append_text(&json, "secretFile", pg_replica_secret_file);
	append_text(&json, "tlsCertFile", pg_replica_tls_cert_file);
	append_text(&json, "tlsKeyFile", pg_replica_tls_key_file);
	append_text(&json, "tlsCaFile", pg_replica_tls_ca_file);
	append_text(&json, "logLevel", pg_replica_log_level_name());
	append_number(&json, "maximumLagOnFailover",
				  pg_replica_maximum_lag_kb < 0 ? -1 : (int64) pg_replica_maximum_lag_kb * 1024);
	append_text(&json, "onRoleChange", pg_replica_on_role_change);
	append_text(&json, "prePromote", pg_replica_pre_promote);
	append_server(&json);
	append_text(&json, "markerKey", marker_key);
	appendStringInfoString(&json, "}}");
	return json.data;
}

char *
agent_message_stamp(int64 id, uint64 stamp_ns)
{
	return psprintf("{\"type\":\"stamp\",\"id\":" INT64_FORMAT ",\"boottimeNs\":\"" UINT64_FORMAT "\"}", id, stamp_ns);
}

char *
agent_message_lease(int64 id, PgReplicaLease lease)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"type\":\"lease\"");
	append_number(&json, "id", id);
	append_token(&json, lease.token);
	begin_field(&json, "deadlineNs");
	appendStringInfo(&json, "\"" UINT64_FORMAT "\"", lease.deadline_ns);
	append_flag(&json, "open", lease.open);
	append_number(&json, "remainingMs", (int64) pg_replica_lease_remaining_ms(&lease));
	appendStringInfoChar(&json, '}');
	return json.data;
}

char *
agent_message_shutdown(void)
{
	return pstrdup("{\"type\":\"shutdown\",\"mode\":\"stop\"}");
}

char *
agent_message_released(PgReplicaToken token, int backends, bool gone)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"type\":\"released\"");
	append_token(&json, token);
	append_number(&json, "backends", backends);
	append_flag(&json, "gone", gone);
	appendStringInfoChar(&json, '}');
	return json.data;
}
