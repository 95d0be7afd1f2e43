/*
 * socket_call.c
 *		SQL function -> agent: one JSON line out, one back, over the agent's local socket.
 *
 * The wait can always be interrupted (cancel, terminate, statement_timeout) and has a deadline of its own, since
 * statement_timeout is off by default and a frozen agent still lets us connect.
 */
#include "pg_replica.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/postmaster.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#define CALL_TIMEOUT_MS 30000
#define REPLY_MAX (16 * 1024 * 1024)

PG_FUNCTION_INFO_V1(pg_replica_call);

/* The first of unix_socket_directories. The agent's socket must not be in the data directory: pg_rewind fails on it. */
char *
pg_replica_socket_directory(char **problem)
{
	char	   *copy = pstrdup(Unix_socket_directories ? Unix_socket_directories : "");
	List	   *directories = NIL;
	char	   *first;

	if (!SplitDirectoriesString(copy, ',', &directories) || directories == NIL)
	{
		*problem = "unix_socket_directories is empty";
		return NULL;
	}
	first = linitial(directories);
	if (first[0] != '/')
	{
		*problem = psprintf("the first entry of unix_socket_directories, \"%s\", is not a directory with a full path",
							first);
		return NULL;
	}
	return first;
}

char *
pg_replica_socket_path(char **problem)
{
	char	   *directory = pg_replica_socket_directory(problem);
	char	   *path;

	if (directory == NULL)
		return NULL;
	path = psprintf("%s/.s.pg_replica.%d", directory, PostPortNumber);
	if (strlen(path) >= sizeof(((struct sockaddr_un *) NULL)->sun_path))
	{
		*problem = psprintf("the path \"%s\" is too long for a socket (at most %d bytes)", path,
							(int) sizeof(((struct sockaddr_un *) NULL)->sun_path) - 1);
		return NULL;
	}
	return path;
}

/* ---- the wire ---- */

static void
unreachable(const char *path, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("could not reach the pg_replica agent of this node"),
			 errdetail("%s \"%s\": %m", what, path),
			 errhint("The server starts it again within 10 seconds; if it does not come back, the server's log says why.")));
}

/* Waits for `event` on the socket until `deadline`; throws when interrupted or too late. `socket` -1: only the time. */
static void
wait_for_socket(pgsocket socket, int event, TimestampTz deadline, long at_most_ms)
{
	long		left_ms = (long) ((deadline - GetCurrentTimestamp()) / 1000);

	if (left_ms <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the pg_replica agent of this node did not answer within %d seconds", CALL_TIMEOUT_MS / 1000),
				 errdetail("The command may still be carried out."),
				 errhint("See the server's log; SELECT pg_replica.history() shows what has been done.")));
	if (at_most_ms > 0 && at_most_ms < left_ms)
		left_ms = at_most_ms;
	(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | WL_TIMEOUT | event, socket, left_ms,
							 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* A local socket connects at once or says EAGAIN while the agent's queue of connections is full. */
static void
connect_agent(pgsocket sock, const char *path, TimestampTz deadline)
{
	struct sockaddr_un address;

	memset(&address, 0, sizeof(address));
	address.sun_family = AF_UNIX;
	strlcpy(address.sun_path, path, sizeof(address.sun_path));
	while (connect(sock, (struct sockaddr *) &address, sizeof(address)) != 0)
	{
		if (errno != EAGAIN && errno != EINTR)
			unreachable(path, "Could not connect to");
		wait_for_socket(PGINVALID_SOCKET, 0, deadline, 10);
	}
}

static void
send_request(pgsocket sock, const char *path, const char *request, size_t length, TimestampTz deadline)
{
	while (length > 0)
	{
		ssize_t		sent = send(sock, request, length, MSG_NOSIGNAL);

		if (sent > 0)
		{
			request += sent;
			length -= sent;
		}
		else if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
			wait_for_socket(sock, WL_SOCKET_WRITEABLE, deadline, 0);
		else
			unreachable(path, "Could not write to");
	}
}

static char *
receive_reply(pgsocket sock, const char *path, TimestampTz deadline)
{
	StringInfoData reply;
	char		chunk[8192];

	initStringInfo(&reply);
	for (;;)
	{
		ssize_t		got = recv(sock, chunk, sizeof(chunk), 0);
		char	   *newline;

		if (got > 0)
		{
			appendBinaryStringInfo(&reply, chunk, (int) got);
			newline = memchr(reply.data + reply.len - got, '\n', got);
			if (newline != NULL)
			{
				*newline = '\0';
				return reply.data;
			}
			if (reply.len > REPLY_MAX)
				ereport(ERROR,
						(errcode(ERRCODE_PROTOCOL_VIOLATION),
						 errmsg("the answer of the pg_replica agent is longer than %d bytes", REPLY_MAX)));
		}
		else if (got == 0)
		{
			errno = ECONNRESET;
			unreachable(path, "The agent closed the connection before it answered on");
		}
		else if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
			wait_for_socket(sock, WL_SOCKET_READABLE, deadline, 0);
		else
			unreachable(path, "Could not read from");
	}
}

static char *
exchange(const char *path, const char *request, size_t length)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CALL_TIMEOUT_MS);
	volatile pgsocket sock = PGINVALID_SOCKET;
	char	   *volatile reply = NULL;

	if (!AcquireExternalFD())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("too many open files to connect to the pg_replica agent")));
	PG_TRY();
	{
		sock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (sock == PGINVALID_SOCKET)
			unreachable(path, "Could not make a socket for");
		connect_agent(sock, path, deadline);
		send_request(sock, path, request, length, deadline);
		reply = receive_reply(sock, path, deadline);
	}
	PG_FINALLY();
	{
		if (sock != PGINVALID_SOCKET)
			close(sock);
		ReleaseExternalFD();
	}
	PG_END_TRY();
	return reply;
}

/* ---- the answer ---- */

static JsonbValue *
member(JsonbContainer *object, const char *name)
{
	return getKeyJsonValueFromContainer(object, name, strlen(name), NULL);
}

static char *
text_member(JsonbContainer *object, const char *name)
{
	JsonbValue *value = member(object, name);

	return value != NULL && value->type == jbvString ? pnstrdup(value->val.string.val, value->val.string.len) : NULL;
}

/* Five of 0-9A-Z, and a class that means an error; anything else becomes internal_error. */
static int
error_code(const char *sqlstate)
{
	if (sqlstate == NULL || strlen(sqlstate) != 5 ||
		strspn(sqlstate, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5 ||
		strncmp(sqlstate, "00", 2) == 0 || strncmp(sqlstate, "01", 2) == 0 || strncmp(sqlstate, "02", 2) == 0)
		return ERRCODE_INTERNAL_ERROR;
	return MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4]);
}

static void
throw_agent_error(JsonbContainer *error)
{
	char	   *message = text_member(error, "message");
	char	   *detail = text_member(error, "detail");
	char	   *hint = text_member(error, "hint");

	ereport(ERROR,
			(errcode(error_code(text_member(error, "sqlstate"))),
			 errmsg("%s", message ? message : "the pg_replica agent refused the command"),
			 detail && detail[0] ? errdetail("%s", detail) : 0,
			 hint && hint[0] ? errhint("%s", hint) : 0));
}

static void
not_understood(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("the answer of the pg_replica agent was not understood"),
			 errhint("The extension and the agent may be of different versions: install both again.")));
}

static char *
result_of(const char *reply)
{
	Jsonb	   *answer = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(reply)));
	JsonbValue *ok;
	JsonbValue *value;

	if (!JB_ROOT_IS_OBJECT(answer))
		not_understood();
	ok = member(&answer->root, "ok");
	if (ok == NULL || ok->type != jbvBool)
		not_understood();
	value = member(&answer->root, ok->val.boolean ? "result" : "error");
	if (!ok->val.boolean)
	{
		if (value == NULL || value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
			not_understood();
		throw_agent_error(value->val.binary.data);
	}
	if (value == NULL)
		return pstrdup("null");
	return JsonbToCString(NULL, &JsonbValueToJsonb(value)->root, 0);
}

/* pg_replica._call(command text, args json) RETURNS json */
Datum
pg_replica_call(PG_FUNCTION_ARGS)
{
	StringInfoData request;
	char	   *problem;
	char	   *path = pg_replica_socket_path(&problem);
	char	   *wire;
	char	   *reply;

	if (!pg_replica_shared_memory_ready() || !pg_replica_enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_replica is not active on this server"),
				 errhint("It needs shared_preload_libraries = 'pg_replica' and pg_replica.enabled = on at server start.")));
	if (path == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("could not reach the pg_replica agent of this node"),
				 errdetail("%s", problem)));

	initStringInfo(&request);
	appendStringInfoString(&request, "{\"command\":");
	escape_json(&request, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	appendStringInfo(&request, ",\"args\":%s}", text_to_cstring(PG_GETARG_TEXT_PP(1)));
	/* One line: newlines in the arguments can only be blanks between JSON tokens. */
	for (int i = 0; i < request.len; i++)
		if (request.data[i] == '\n' || request.data[i] == '\r')
			request.data[i] = ' ';
	wire = pg_server_to_any(request.data, request.len, PG_UTF8);
	if (wire != request.data)
	{
		resetStringInfo(&request);
		appendStringInfoString(&request, wire);
	}
	appendStringInfoChar(&request, '\n');

	reply = exchange(path, request.data, request.len);
	reply = pg_any_to_server(reply, strlen(reply), PG_UTF8);
	PG_RETURN_TEXT_P(cstring_to_text(result_of(reply)));
}
