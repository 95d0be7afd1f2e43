/*
 * fence.c
 *		Keeps every backend from writing while this node holds no open lease.
 *
 * Each backend reads the clock itself, so the fence holds with the supervisor and the agent killed, frozen or swapped
 * out. It is checked where a statement starts (XactReadOnly), where a transaction that has written commits, and again
 * between the commit and its acknowledgement: a commit that crosses the deadline there is never acknowledged, the
 * connection closes instead, as it does when the server dies.
 *
 * Who is not fenced, and why:
 *	- a server in recovery: PostgreSQL itself refuses writes; the lease counts from the promotion on;
 *	- autovacuum: it changes no row that a client can see and acknowledges nothing to anyone, and stopping it could let
 *	  transaction ids run out;
 *	- the agent's marker session (superuser with this supervisor's marker_key) before `open`, never past the deadline.
 * Parallel workers inherit XactReadOnly from their leader, are refused xids by PostgreSQL, and only the leader commits.
 * Other background workers (logical apply, extensions' own) are fenced like a client: what they commit must not be
 * confirmed to anyone either. Lazy VACUUM, CHECKPOINT, pg_switch_wal and non-transactional logical messages are let
 * through: they acknowledge no change of rows.
 */
#include "pg_replica.h"

#include <sys/socket.h>

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "executor/executor.h"
#include "libpq/auth.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "postmaster/autovacuum.h"
#include "storage/latch.h"
#include "tcop/dest.h"
#include "tcop/utility.h"
#include "utils/guc.h"

#if PG_VERSION_NUM >= 170000
#define is_autovacuum() (AmAutoVacuumWorkerProcess() || AmAutoVacuumLauncherProcess())
#else
#define is_autovacuum() (IsAutoVacuumWorkerProcess() || IsAutoVacuumLauncherProcess())
#endif

typedef enum FenceState
{
	FENCE_CLEAR,
	FENCE_NO_LEASE,
	FENCE_NOT_OPEN
} FenceState;

static ExecutorStart_hook_type previous_executor_start = NULL;
static ProcessUtility_hook_type previous_process_utility = NULL;
static ClientAuthentication_hook_type previous_client_authentication = NULL;

/* The transaction being committed belongs to the marker session; looked up while catalogs can still be read. */
static bool commit_is_marker = false;

/* This session began fenced and was made to report read-only. */
static bool session_made_read_only = false;

/* The key alone decides nothing: setting it needs a superuser, and so does using it. */
static bool
is_marker_session(void)
{
	return pg_replica_marker_key != NULL && pg_replica_marker_key[0] != '\0' &&
		pg_replica_marker_key_matches(pg_replica_marker_key) && superuser_arg(GetSessionUserId());
}

/* The clock first, recovery last: RecoveryInProgress() reads shared memory as long as recovery lasts. */
static FenceState
fence_state(bool marker)
{
	uint64		deadline_ns;
	bool		open;
	FenceState	state;

	pg_replica_lease_word(&deadline_ns, &open);
	if (pg_replica_boottime_ns() >= deadline_ns)
		state = FENCE_NO_LEASE;
	else if (!open && !marker)
		state = FENCE_NOT_OPEN;
	else
		return FENCE_CLEAR;
	if (is_autovacuum() || RecoveryInProgress())
		return FENCE_CLEAR;
	return state;
}

/* As fence_state, but looks for the marker key only when that could make a difference. Needs a transaction. */
static FenceState
session_fence_state(void)
{
	FenceState	state = fence_state(false);

	if (state == FENCE_NOT_OPEN && is_marker_session())
		state = fence_state(true);
	return state;
}

bool
pg_replica_fenced(void)
{
	return pg_replica_enabled && session_fence_state() != FENCE_CLEAR;
}

static const char *
state_detail(FenceState state)
{
	return state == FENCE_NO_LEASE
		? "This node holds no valid lease as primary."
		: "This node has been promoted but is not open for writing yet.";
}

static void
refuse(FenceState state, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("cannot execute %s: pg_replica does not let this node write now", what),
			 errdetail("%s", state_detail(state)),
			 errhint("Connect to the current primary; SELECT pg_replica.status() names it.")));
}

/* ---- session start ---- */

/*
 * target_session_attrs=read-write and poolers decide by what a new session reports. RecoveryInProgress() and the lease
 * can be read here, catalogs can not: a marker session begins read-only and is let through later.
 */
static void
client_authentication(Port *port, int status)
{
	if (previous_client_authentication)
		previous_client_authentication(port, status);
	if (status != STATUS_OK || fence_state(false) == FENCE_CLEAR || DefaultXactReadOnly)
		return;
	SetConfigOption("default_transaction_read_only", "on", PGC_SUSET, PGC_S_OVERRIDE);
	session_made_read_only = true;
}

/*
 * A session that began fenced may write once the node is open. The transaction at hand is let off only when this is its
 * first statement (no block open yet): it then got read-only from our default, not from the user. A serializable one
 * has already told its snapshot that it only reads, so it stays read-only.
 */
static void
lift_session_read_only(void)
{
	session_made_read_only = false;
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);
	if (!DefaultXactReadOnly && !IsTransactionBlock() && !IsSubTransaction() && !IsolationIsSerializable())
		XactReadOnly = false;
}

/* Each statement passes here first. */
static FenceState
check_statement(void)
{
	FenceState	state = session_fence_state();

	/* Settings can not be changed while parallel workers run; a later statement will do. */
	if (session_made_read_only && state == FENCE_CLEAR && !RecoveryInProgress() && !IsInParallelMode())
		lift_session_read_only();
	return state;
}

/* ---- statements ---- */

static bool
changes_rows(const QueryDesc *query)
{
	return query->operation != CMD_SELECT || query->plannedstmt->hasModifyingCTE;
}

static const char *
operation_name(CmdType operation)
{
	switch (operation)
	{
		case CMD_INSERT:
			return "INSERT";
		case CMD_UPDATE:
			return "UPDATE";
		case CMD_DELETE:
			return "DELETE";
		case CMD_SELECT:
			return "a data-modifying WITH";
		default:
			return "MERGE";
	}
}

static void
executor_start(QueryDesc *query, int eflags)
{
	FenceState	state = check_statement();

	if (state != FENCE_CLEAR)
	{
		if (changes_rows(query) && !(eflags & EXEC_FLAG_EXPLAIN_ONLY))
			refuse(state, operation_name(query->operation));
		/* Row locks, nextval() and whatever functions do inside. */
		XactReadOnly = true;
	}
	if (previous_executor_start)
		previous_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
}

static bool
finishes_prepared(const Node *statement)
{
	return IsA(statement, TransactionStmt) &&
		(((const TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED ||
		 ((const TransactionStmt *) statement)->kind == TRANS_STMT_ROLLBACK_PREPARED);
}

static void
check_utility(const Node *statement)
{
	FenceState	state;

	/* COMMIT and ROLLBACK must work in an aborted transaction, where catalogs can not be read. */
	if (IsAbortedTransactionBlockState())
		return;
	state = check_statement();
	if (state == FENCE_CLEAR)
		return;
	if (finishes_prepared(statement))
		refuse(state, "COMMIT PREPARED or ROLLBACK PREPARED");
	if (IsA(statement, TransactionStmt))
		return;
	if (IsA(statement, NotifyStmt))
		refuse(state, "NOTIFY");
	/* The agent must be able to configure a primary that has lost its lease. */
	if (IsA(statement, AlterSystemStmt) && !is_marker_session())
		refuse(state, "ALTER SYSTEM");
	XactReadOnly = true;
}

static void suppress_acknowledgement(void);

#if PG_VERSION_NUM >= 140000
#define UTILITY_TREE_PARAMETER bool readOnlyTree,
#define UTILITY_TREE_ARGUMENT readOnlyTree,
#else
#define UTILITY_TREE_PARAMETER
#define UTILITY_TREE_ARGUMENT
#endif

static void
process_utility(PlannedStmt *statement, const char *queryString, UTILITY_TREE_PARAMETER
				ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *queryEnv,
				DestReceiver *dest, QueryCompletion *completion)
{
	/* The standard function may free the tree of a transaction statement. */
	bool		finishing = finishes_prepared(statement->utilityStmt);

	check_utility(statement->utilityStmt);
	if (previous_process_utility)
		previous_process_utility(statement, queryString, UTILITY_TREE_ARGUMENT context, params, queryEnv, dest,
								 completion);
	else
		standard_ProcessUtility(statement, queryString, UTILITY_TREE_ARGUMENT context, params, queryEnv, dest,
								completion);
	/* It is committed under the prepared transaction's own xid: no transaction callback sees that. */
	if (finishing && session_fence_state() != FENCE_CLEAR)
		suppress_acknowledgement();
}

/* ---- commit ---- */

/*
 * Let the client see a closed connection instead of success. Called after the commit record is written, so nothing
 * here may throw; the backend ends at its next check for interrupts, before it flushes anything.
 */
static void
suppress_acknowledgement(void)
{
	whereToSendOutput = DestNone;
	if (MyProcPort != NULL && MyProcPort->sock != PGINVALID_SOCKET)
		(void) shutdown(MyProcPort->sock, SHUT_RDWR);
	ProcDiePending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
	ereport(LOG,
			(errmsg("pg_replica: the lease ended during a commit; the client is disconnected without an answer")));
}

static void
transaction_callback(XactEvent event, void *arg)
{
	FenceState	state;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			commit_is_marker = false;
			if (!TransactionIdIsValid(GetTopTransactionIdIfAny()))
				return;
			state = fence_state(false);
			if (state == FENCE_NOT_OPEN && is_marker_session())
			{
				commit_is_marker = true;
				state = fence_state(true);
			}
			if (state != FENCE_CLEAR)
				refuse(state, event == XACT_EVENT_PRE_COMMIT ? "COMMIT" : "PREPARE TRANSACTION");
			return;

		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			/* pg_notify() gets its xid only after PRE_COMMIT, so ask again. */
			if (TransactionIdIsValid(GetTopTransactionIdIfAny()) && fence_state(commit_is_marker) != FENCE_CLEAR)
				suppress_acknowledgement();
			commit_is_marker = false;
			return;

		default:
			commit_is_marker = false;
			return;
	}
}

void
pg_replica_install_fence(void)
{
	previous_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	previous_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	previous_client_authentication = ClientAuthentication_hook;
	ClientAuthentication_hook = client_authentication;
	RegisterXactCallback(transaction_callback, NULL);
}
