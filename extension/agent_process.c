/*
 * agent_process.c
 *		Starting the agent, and the non-blocking pipe of lines to it.
 *
 * The agent runs in a session of its own: PostgreSQL signals the process groups of its children at shutdown, and the
 * agent must outlive the server a little, to hand its lease over. It ends by itself when fd 3 ends, so it gets no
 * parent-death signal, and it is never killed from here: an agent that dies by a signal after it was handed to a
 * postmaster that is process 1 would look like a crashed backend.
 */
#include "pg_replica.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "miscadmin.h"
#include "postmaster/postmaster.h"

#define AGENT_OUT_MAX (1024 * 1024)

/* Everything the child needs, made before fork: after it only async-signal-safe calls are allowed. */
typedef struct SpawnPlan
{
	char	   *node;
	char	   *bundle;
	char	   *argv[4];
	int			socket_fd;
	int			postmaster_fd;
	int			null_fd;
	int			max_fd;
} SpawnPlan;

void
agent_process_init(AgentProcess *agent)
{
	agent->pid = 0;
	agent->fd = -1;
	initStringInfo(&agent->in);
	initStringInfo(&agent->out);
	agent->skipping = false;
	agent->broken = false;
}

static bool
is_program(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

/* pg_replica.node_path: a path, or a name searched in PATH, /usr/bin and /usr/local/bin. NULL: not found. */
static char *
find_node(const char *name)
{
	const char *path = getenv("PATH");
	char	   *places;
	char	   *rest = NULL;

	if (strchr(name, '/') != NULL)
		return is_program(name) ? pstrdup(name) : NULL;
	places = psprintf("%s:/usr/bin:/usr/local/bin", path ? path : "");
	for (char *place = strtok_r(places, ":", &rest); place != NULL; place = strtok_r(NULL, ":", &rest))
	{
		char	   *candidate = psprintf("%s/%s", place, name);

		if (is_program(candidate))
			return candidate;
		pfree(candidate);
	}
	return NULL;
}

static char *
bundle_path(void)
{
	char		share[MAXPGPATH];

	get_share_path(my_exec_path, share);
	return psprintf("%s/pg_replica/pg_replica.mjs", share);
}

/* A duplicate out of the way of 0..4, so that dup2 in the child can not overwrite its own source. */
static int
duplicate_high(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 10);
}

static void
close_from(int first, int max_fd)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, (unsigned int) first, ~0U, 0) == 0)
		return;
#endif
	for (int fd = first; fd < max_fd; fd++)
		(void) close(fd);
}

/* In the child. The exit code 1 of a failed exec is what the parent logs; nothing else can be said here. */
static void
run_agent(const SpawnPlan *plan)
{
	struct sigaction action;
	sigset_t	none;

	memset(&action, 0, sizeof(action));
	action.sa_handler = SIG_DFL;
	sigemptyset(&action.sa_mask);
	for (int signal_number = 1; signal_number < NSIG; signal_number++)
		(void) sigaction(signal_number, &action, NULL);
	(void) setsid();
	if (dup2(plan->null_fd, 0) < 0 || dup2(2, 1) < 0 || dup2(plan->socket_fd, 3) < 0 ||
		dup2(plan->postmaster_fd, 4) < 0)
		_exit(1);
	close_from(5, plan->max_fd);
	sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);
	execv(plan->node, plan->argv);
	_exit(1);
}

static bool
make_plan(SpawnPlan *plan, char **problem)
{
	struct rlimit limit;

	plan->node = find_node(pg_replica_node_path);
	if (plan->node == NULL)
	{
		*problem = psprintf("could not find the Node.js program \"%s\": set pg_replica.node_path to its full path",
							pg_replica_node_path);
		return false;
	}
	plan->bundle = bundle_path();
	if (access(plan->bundle, R_OK) != 0)
	{
		*problem = psprintf("could not read the agent's program \"%s\": %m (is pg_replica installed completely?)",
							plan->bundle);
		return false;
	}
	plan->argv[0] = plan->node;
	plan->argv[1] = plan->bundle;
	plan->argv[2] = "agent";
	plan->argv[3] = NULL;
	plan->max_fd = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536 ? (int) limit.rlim_cur : 65536;
	return true;
}

/* Forks with all signals blocked: the worker's handlers must not run in the child, which shares its latch. */
static pid_t
fork_agent(const SpawnPlan *plan)
{
	sigset_t	all;
	sigset_t	old;
	pid_t		pid;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = fork();
	if (pid == 0)
		run_agent(plan);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return pid;
}

static void
close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

bool
agent_process_start(AgentProcess *agent, char **problem)
{
	SpawnPlan	plan;
	int			ends[2] = {-1, -1};
	int			saved_errno;

	agent_process_hang_up(agent);
	if (!make_plan(&plan, problem))
		return false;

	plan.socket_fd = plan.postmaster_fd = plan.null_fd = -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0 &&
		(plan.socket_fd = duplicate_high(ends[1])) >= 0 &&
		(plan.postmaster_fd = duplicate_high(postmaster_alive_fds[POSTMASTER_FD_WATCH])) >= 0 &&
		(plan.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0)
		agent->pid = fork_agent(&plan);
	else
		agent->pid = -1;
	saved_errno = errno;
	close_if_open(ends[1]);
	close_if_open(plan.socket_fd);
	close_if_open(plan.postmaster_fd);
	close_if_open(plan.null_fd);
	if (agent->pid < 0)
	{
		close_if_open(ends[0]);
		agent->pid = 0;
		errno = saved_errno;
		*problem = psprintf("could not start the agent: %m");
		return false;
	}
	agent->fd = ends[0];
	return true;
}

void
agent_process_hang_up(AgentProcess *agent)
{
	close_if_open(agent->fd);
	agent->fd = -1;
	resetStringInfo(&agent->in);
	resetStringInfo(&agent->out);
	agent->skipping = false;
	agent->broken = false;
}

/* Hands over each whole line of `in`; what is left is the beginning of the next. */
static void
take_lines(AgentProcess *agent, void (*handle) (const char *line, void *arg), void *arg)
{
	char	   *start = agent->in.data;
	char	   *end = agent->in.data + agent->in.len;
	char	   *newline;

	while ((newline = memchr(start, '\n', end - start)) != NULL)
	{
		*newline = '\0';
		if (!agent->skipping)
			handle(start, arg);
		agent->skipping = false;
		start = newline + 1;
	}
	if (agent->skipping)
		start = end;
	else if (end - start > AGENT_LINE_MAX)
	{
		/* Longer than any message: hand over the beginning, which is then logged as not understood. */
		start[200] = '\0';
		handle(start, arg);
		agent->skipping = true;
		start = end;
	}
	agent->in.len = end - start;
	memmove(agent->in.data, start, agent->in.len);
	agent->in.data[agent->in.len] = '\0';
}

bool
agent_process_read(AgentProcess *agent, void (*handle) (const char *line, void *arg), void *arg)
{
	char		chunk[8192];

	/* A bounded number of rounds: signals and the postmaster's death must get their turn. */
	for (int round = 0; round < 32 && agent->fd >= 0; round++)
	{
		ssize_t		got = recv(agent->fd, chunk, sizeof(chunk), 0);

		if (got > 0)
		{
			appendBinaryStringInfo(&agent->in, chunk, (int) got);
			take_lines(agent, handle, arg);
			continue;
		}
		if (got < 0 && errno == EINTR)
			continue;
		return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
	}
	return agent->fd >= 0;
}

void
agent_process_flush(AgentProcess *agent)
{
	int			sent = 0;

	while (agent->fd >= 0 && sent < agent->out.len)
	{
		ssize_t		taken = send(agent->fd, agent->out.data + sent, agent->out.len - sent, MSG_NOSIGNAL);

		if (taken > 0)
			sent += (int) taken;
		else if (taken < 0 && errno == EINTR)
			continue;
		else
		{
			if (taken < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
				agent->broken = true;
			break;
		}
	}
	agent->out.len -= sent;
	memmove(agent->out.data, agent->out.data + sent, agent->out.len);
	agent->out.data[agent->out.len] = '\0';
}

void
agent_process_send(AgentProcess *agent, const char *line)
{
	if (agent->fd < 0 || agent->broken)
		return;
	/* Half a conversation is worse than none: an agent that has not read a megabyte is hung up on. */
	if (agent->out.len + strlen(line) + 1 > AGENT_OUT_MAX)
	{
		agent->broken = true;
		return;
	}
	appendStringInfoString(&agent->out, line);
	appendStringInfoChar(&agent->out, '\n');
	agent_process_flush(agent);
}
