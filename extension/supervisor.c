/*
 * supervisor.c
 *		The background worker "pg_replica supervisor": starts the agent, owns the lease word, relays log lines.
 *
 * It has no database connection and does nothing that could fail with an error: were it to crash, every backend would
 * be reset. It never waits for the agent. When the agent dies, the lease word stays as it is and runs out by itself.
 */
#include "pg_replica.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#if PG_VERSION_NUM >= 140000
#include "utils/wait_event.h"
#endif

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 10000
/* An agent that lived this long is not in a crash loop. */
#define BACKOFF_RESET_NS (INT64CONST(10000) * NANOS_PER_MILLI)
#define RENEW_MAX_MS (10 * 60 * 1000)
/* A backend in the middle of an fsync ends only after it; waiting for it is cheaper than waiting for the lease. */
#define ORPHAN_WAIT_MS 400
/* How many stamps may be under way: a renewal takes one and an agent asks for about ten in a lease. */
#define STAMPS_KEPT 256

typedef struct Supervisor
{
	AgentProcess agent;
	const char *marker_key;
	uint64		agent_started_ns;
	uint64		next_start_ns;	/* 0: now */
	int			backoff_ms;
	bool		may_arm;		/* restart_after_crash is off */
	uint64		stamps[STAMPS_KEPT];
	int			stamp_next;
} Supervisor;

static volatile sig_atomic_t got_term = false;
static volatile sig_atomic_t got_hup = false;
static volatile sig_atomic_t got_chld = false;

static void
wake(volatile sig_atomic_t *flag)
{
	int			saved_errno = errno;

	*flag = true;
	SetLatch(MyLatch);
	errno = saved_errno;
}

static void
on_term(SIGNAL_ARGS)
{
	wake(&got_term);
}

static void
on_hup(SIGNAL_ARGS)
{
	wake(&got_hup);
}

static void
on_chld(SIGNAL_ARGS)
{
	wake(&got_chld);
}

/* ---- the lease ---- */

static void
remember_stamp(Supervisor *supervisor, uint64 stamp_ns)
{
	supervisor->stamps[supervisor->stamp_next] = stamp_ns;
	supervisor->stamp_next = (supervisor->stamp_next + 1) % STAMPS_KEPT;
}

static bool
known_stamp(const Supervisor *supervisor, uint64 stamp_ns)
{
	if (stamp_ns == 0)
		return false;
	for (int i = 0; i < STAMPS_KEPT; i++)
		if (supervisor->stamps[i] == stamp_ns)
			return true;
	return false;
}

static bool
refused(const char *request, const char *why)
{
	ereport(WARNING,
			(errmsg("pg_replica: refused the agent's request \"%s\": %s", request, why)));
	return false;
}

static bool
grant_token(Supervisor *supervisor, const AgentMessage *message)
{
	PgReplicaLease lease = pg_replica_lease_read();
	int			order = pg_replica_token_compare(message->token, lease.token);

	if (!supervisor->may_arm)
		return refused("token", "restart_after_crash is on, so a crashed server could come back writable");
	/* An agent that was started again beside its primary: the word stays as it is, the answer tells how that is. */
	if (order == 0)
		return true;
	if (order < 0)
		return refused("token", "it is not newer than the token of the lease word");
	pg_replica_lease_grant(message->token);
	return true;
}

static bool
renew(Supervisor *supervisor, const AgentMessage *message)
{
	PgReplicaLease lease = pg_replica_lease_read();

	if (pg_replica_token_compare(message->token, lease.token) != 0)
		return refused("renew", "its token is not the lease word's");
	if (message->duration_ms > RENEW_MAX_MS)
		return refused("renew", "its duration is over 10 minutes");
	if (!known_stamp(supervisor, message->stamp_ns))
		return refused("renew", "its stamp was not handed out to this agent lately");
	pg_replica_lease_extend(message->stamp_ns + (uint64) message->duration_ms * NANOS_PER_MILLI);
	return true;
}

static bool
open_lease(const AgentMessage *message)
{
	PgReplicaLease lease = pg_replica_lease_read();

	if (lease.token.term == 0 || pg_replica_token_compare(message->token, lease.token) != 0)
		return refused("open", "its token is not the lease word's");
	pg_replica_lease_open();
	return true;
}

/* ---- what the agent says ---- */

static void
give_stamp(Supervisor *supervisor, int64 id, uint64 read_at_ns)
{
	remember_stamp(supervisor, read_at_ns);
	agent_process_send(&supervisor->agent, agent_message_stamp(id, read_at_ns));
}

static void
answer_lease(Supervisor *supervisor, int64 id)
{
	agent_process_send(&supervisor->agent, agent_message_lease(id, pg_replica_lease_read()));
}

static void
stop_server(bool immediate)
{
	ereport(LOG,
			(errmsg("pg_replica: stopping the server (%s) at the agent's request", immediate ? "immediate" : "fast")));
	if (kill(PostmasterPid, immediate ? SIGQUIT : SIGINT) != 0)
		ereport(WARNING,
				(errmsg("pg_replica: could not signal the postmaster: %m")));
}

static void
obey(Supervisor *supervisor, const AgentMessage *message, uint64 read_at_ns)
{
	switch (message->type)
	{
		case AGENT_LOG:
			ereport(message->level,
					(errmsg_internal("pg_replica: %s", message->text)));
			return;
		case AGENT_STAMP:
			give_stamp(supervisor, message->id, read_at_ns);
			return;
		case AGENT_STOP:
			stop_server(message->immediate);
			return;
		case AGENT_TOKEN:
			(void) grant_token(supervisor, message);
			break;
		case AGENT_RENEW:
			(void) renew(supervisor, message);
			break;
		case AGENT_OPEN:
			(void) open_lease(message);
			break;
		case AGENT_EXPIRE:
			pg_replica_lease_expire();
			break;
	}
	answer_lease(supervisor, message->id);
}

static void
handle_line(const char *line, void *arg)
{
	/* The time is taken before anything else: a stamp must not be later than the request. */
	uint64		read_at_ns = pg_replica_boottime_ns();
	AgentMessage message;

	if (agent_message_parse(line, &message))
		obey(arg, &message, read_at_ns);
	else
		ereport(WARNING,
				(errmsg("pg_replica: did not understand a line of the agent, ignored: %.200s", line)));
}

/* ---- the agent's life ---- */

static void
schedule_start(Supervisor *supervisor)
{
	uint64		now = pg_replica_boottime_ns();

	if (supervisor->agent_started_ns != 0 && now - supervisor->agent_started_ns >= BACKOFF_RESET_NS)
		supervisor->backoff_ms = BACKOFF_FIRST_MS;
	supervisor->next_start_ns = now + (uint64) supervisor->backoff_ms * NANOS_PER_MILLI;
	supervisor->agent_started_ns = 0;
	supervisor->backoff_ms = Min(supervisor->backoff_ms * 2, BACKOFF_MAX_MS);
}

static void
send_config(Supervisor *supervisor)
{
	agent_process_send(&supervisor->agent, agent_message_config(supervisor->marker_key));
}

static void
start_agent(Supervisor *supervisor)
{
	char	   *problem = NULL;

	/* Stamps of an earlier agent say nothing about this one's rounds. */
	memset(supervisor->stamps, 0, sizeof(supervisor->stamps));
	if (!agent_process_start(&supervisor->agent, &problem))
	{
		schedule_start(supervisor);
		ereport(LOG,
				(errmsg("pg_replica: %s", problem),
				 errdetail("Trying again in %d ms at most.", BACKOFF_MAX_MS)));
		return;
	}
	supervisor->agent_started_ns = pg_replica_boottime_ns();
	ereport(LOG,
			(errmsg("pg_replica: agent started with PID %d", (int) supervisor->agent.pid)));
	send_config(supervisor);
}

static void
log_agent_end(int status, int delay_ms)
{
	if (WIFSIGNALED(status))
		ereport(LOG,
				(errmsg("pg_replica: the agent was ended by signal %d; starting it again in %d ms",
						WTERMSIG(status), delay_ms)));
	else
		ereport(LOG,
				(errmsg("pg_replica: the agent ended with exit code %d; starting it again in %d ms",
						WEXITSTATUS(status), delay_ms)));
}

static void
reap_agent(Supervisor *supervisor)
{
	int			status;
	int			delay_ms;

	if (supervisor->agent.pid == 0 || waitpid(supervisor->agent.pid, &status, WNOHANG) != supervisor->agent.pid)
		return;
	/* Its last words are still in the socket. */
	(void) agent_process_read(&supervisor->agent, handle_line, supervisor);
	agent_process_hang_up(&supervisor->agent);
	supervisor->agent.pid = 0;
	schedule_start(supervisor);
	delay_ms = (int) ((supervisor->next_start_ns - pg_replica_boottime_ns()) / NANOS_PER_MILLI) + 1;
	log_agent_end(status, delay_ms);
}

/* ---- the postmaster died ---- */

/* Runs the same program as we do? Guards against a process id that was given to somebody else meanwhile. */
static bool
runs_our_program(pid_t pid)
{
	char		path[64];
	char		ours[MAXPGPATH];
	char		theirs[MAXPGPATH];
	ssize_t		our_length;
	ssize_t		their_length;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int) pid);
	our_length = readlink("/proc/self/exe", ours, sizeof(ours));
	their_length = readlink(path, theirs, sizeof(theirs));
	if (their_length < 0)
		return errno != ENOENT;
	return our_length == their_length && memcmp(ours, theirs, our_length) == 0;
}

/* Gone, or dead and only waiting for its new parent to notice. */
static bool
has_ended(pid_t pid)
{
	char		path[64];
	char		text[512];
	char	   *state;
	FILE	   *file;
	size_t		length;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
	file = fopen(path, "r");
	if (file == NULL)
		return errno == ENOENT;
	length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[length] = '\0';
	/* "pid (name) state ...", and a name may hold anything. */
	state = strrchr(text, ')');
	return length == 0 || (state != NULL && (state[2] == 'Z' || state[2] == 'X'));
}

/*
 * Every other process of the server, auxiliary ones too: the data directory is free for the next start the sooner. The
 * list holds them only for the wait. Returns how many were killed; *gone: all were seen to have ended.
 */
static int
kill_orphans(bool *gone)
{
	pid_t	   *pids = palloc(sizeof(pid_t) * ProcGlobal->allProcCount);
	int			killed = 0;
	int			left;
	uint64		deadline;

	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		pid_t		pid = ((volatile PGPROC *) &ProcGlobal->allProcs[i])->pid;

		if (pid <= 0 || pid == MyProcPid || !runs_our_program(pid) || kill(pid, SIGKILL) != 0)
			continue;
		pids[killed++] = pid;
	}
	deadline = pg_replica_boottime_ns() + ORPHAN_WAIT_MS * NANOS_PER_MILLI;
	left = killed;
	for (;;)
	{
		while (left > 0 && has_ended(pids[left - 1]))
			left--;
		if (left == 0 || pg_replica_boottime_ns() >= deadline)
			break;
		pg_usleep(1000);
	}
	*gone = left == 0;
	return killed;
}

/* Writes what is queued, waiting for the agent for as long as `ms`. */
static void
flush_within(AgentProcess *agent, int ms)
{
	uint64		deadline = pg_replica_boottime_ns() + (uint64) ms * NANOS_PER_MILLI;

	agent_process_flush(agent);
	while (agent->fd >= 0 && agent->out.len > 0 && !agent->broken && pg_replica_boottime_ns() < deadline)
	{
		struct pollfd wait = {agent->fd, POLLOUT, 0};

		(void) poll(&wait, 1, 10);
		agent_process_flush(agent);
	}
}

static void
postmaster_died(Supervisor *supervisor)
{
	PgReplicaToken token = pg_replica_lease_read().token;
	bool		gone;
	int			killed;

	pg_replica_lease_expire();
	killed = kill_orphans(&gone);
	agent_process_send(&supervisor->agent, agent_message_released(token, killed, gone));
	flush_within(&supervisor->agent, ORPHAN_WAIT_MS);
	/* No exit handlers: they would touch shared memory that the killed may have left in any state. */
	_exit(1);
}

/* ---- the loop ---- */

static void
shut_down(Supervisor *supervisor)
{
	/* The end of fd 3 is the real message; shutdown of the server never waits for the agent. */
	agent_process_send(&supervisor->agent, agent_message_shutdown());
	agent_process_hang_up(&supervisor->agent);
	/*
	 * Not 0: somebody may have sent SIGTERM to this worker alone, and the postmaster would never start it again. When
	 * the server is stopping, no worker is started again in either case.
	 */
	proc_exit(1);
}

static void
handle_signals(Supervisor *supervisor)
{
	if (got_term)
		shut_down(supervisor);
	if (got_chld)
	{
		got_chld = false;
		reap_agent(supervisor);
	}
	if (got_hup)
	{
		got_hup = false;
		ProcessConfigFile(PGC_SIGHUP);
		send_config(supervisor);
	}
}

static long
wait_ms(const Supervisor *supervisor)
{
	uint64		now;

	if (supervisor->agent.pid != 0)
		return 60000;
	now = pg_replica_boottime_ns();
	return supervisor->next_start_ns <= now ? 0 : (long) ((supervisor->next_start_ns - now) / NANOS_PER_MILLI) + 1;
}

static void
wait_and_talk(Supervisor *supervisor)
{
	AgentProcess *agent = &supervisor->agent;
	int			wanted = WL_LATCH_SET | WL_POSTMASTER_DEATH | WL_TIMEOUT;
	int			events;

	if (agent->fd >= 0)
		wanted |= WL_SOCKET_READABLE | (agent->out.len > 0 ? WL_SOCKET_WRITEABLE : 0);
	events = WaitLatchOrSocket(MyLatch, wanted, agent->fd >= 0 ? agent->fd : PGINVALID_SOCKET, wait_ms(supervisor),
							   PG_WAIT_EXTENSION);
	if (events & WL_POSTMASTER_DEATH)
		postmaster_died(supervisor);
	if (events & WL_LATCH_SET)
		ResetLatch(MyLatch);
	if (events & WL_SOCKET_WRITEABLE)
		agent_process_flush(agent);
	if (events & WL_SOCKET_READABLE && !agent_process_read(agent, handle_line, supervisor))
		agent_process_hang_up(agent);
	if (agent->broken)
	{
		ereport(WARNING,
				(errmsg("pg_replica: the agent does not read what it is sent; closing the connection to it")));
		agent_process_hang_up(agent);
	}
}

static bool
restart_after_crash_is_off(void)
{
	const char *value = GetConfigOption("restart_after_crash", false, false);

	return strcmp(value, "off") == 0;
}

void
pg_replica_supervisor_main(Datum arg)
{
	Supervisor *supervisor = MemoryContextAllocZero(TopMemoryContext, sizeof(Supervisor));
	MemoryContext turn;

	pqsignal(SIGTERM, on_term);
	pqsignal(SIGHUP, on_hup);
	pqsignal(SIGCHLD, on_chld);
	BackgroundWorkerUnblockSignals();

	MemoryContextSwitchTo(TopMemoryContext);
	agent_process_init(&supervisor->agent);
	supervisor->backoff_ms = BACKOFF_FIRST_MS;
	supervisor->marker_key = pg_replica_new_marker_key();
	supervisor->may_arm = restart_after_crash_is_off();
	turn = AllocSetContextCreate(TopMemoryContext, "pg_replica supervisor turn", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		MemoryContextSwitchTo(turn);
		MemoryContextReset(turn);
		handle_signals(supervisor);
		if (supervisor->agent.pid == 0 && wait_ms(supervisor) == 0)
			start_agent(supervisor);
		wait_and_talk(supervisor);
	}
}

void
pg_replica_register_supervisor(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_name, "pg_replica supervisor", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pg_replica supervisor", BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, "pg_replica", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "pg_replica_supervisor_main", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
