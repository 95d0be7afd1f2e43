/*
 * pg_replica.c
 *		_PG_init: finds out which process it is in, and makes every real server start a standby start.
 *
 * Side effects happen in a real postmaster only. initdb, single-user mode, pg_upgrade and `postgres -C` load the
 * library too, and must see nothing but the definitions of the settings.
 */
#include "pg_replica.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "storage/fd.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

#define AUTO_CONF "postgresql.auto.conf"
#define AUTO_CONF_NEW "postgresql.auto.conf.tmp"
#define STANDBY_SIGNAL "standby.signal"

/* ---- which process ---- */

/* The whole of a small file, palloc'd and zero-terminated; NULL with errno set. */
static char *
read_file(const char *path, size_t *length)
{
	StringInfoData text;
	char		chunk[4096];
	ssize_t		got;
	int			fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	initStringInfo(&text);
	while ((got = read(fd, chunk, sizeof(chunk))) != 0)
	{
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
		{
			int			saved_errno = errno;

			close(fd);
			errno = saved_errno;
			return NULL;
		}
		appendBinaryStringInfo(&text, chunk, (int) got);
	}
	close(fd);
	*length = text.len;
	return text.data;
}

/* Does this argument, a cluster of short options, contain -C? *takes_next: its last option's value is the next one. */
static bool
has_option_c(const char *argument, bool *takes_next)
{
	*takes_next = false;
	for (const char *letter = argument + 1; *letter != '\0'; letter++)
	{
		if (*letter == 'C')
			return true;
		/* The options of the postmaster that take a value: it is the rest of this argument, or the next one. */
		if (strchr("BcDdfhkNprStW-", *letter) != NULL)
		{
			*takes_next = letter[1] == '\0';
			return false;
		}
	}
	return false;
}

/*
 * `postgres -C name` for a setting that is computed at run time goes through here with every global looking like a
 * real start; only the command line tells. When that can not be read, be careful: no start is better than a wrong one.
 */
static bool
only_shows_a_setting(void)
{
	size_t		length;
	char	   *arguments = read_file("/proc/self/cmdline", &length);
	char	   *end;
	bool		takes_next = false;

	if (arguments == NULL)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("pg_replica: could not read \"/proc/self/cmdline\": %m"),
				 errdetail("It is needed to tell a server start from \"postgres -C\".")));
	end = arguments + length;
	for (char *argument = arguments + strlen(arguments) + 1; argument < end; argument += strlen(argument) + 1)
	{
		if (takes_next)
			takes_next = false;
		else if (argument[0] == '-' && argument[1] != '-' && has_option_c(argument, &takes_next))
			return true;
	}
	return false;
}

static bool
is_real_server_start(void)
{
	return IsPostmasterEnvironment && !IsUnderPostmaster && !IsBinaryUpgrade && PostmasterPid == getpid() &&
		!only_shows_a_setting();
}

static bool
disabled_by_environment(void)
{
	const char *value = getenv("PG_REPLICA_DISABLE");

	return value != NULL && strcmp(value, "1") == 0;
}

/* ---- what must be right before a start ---- */

static void
refuse_if_there(const char *directory, const char *name)
{
	char	   *path = psprintf("%s/%s", directory, name);

	if (access(path, F_OK) == 0)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_replica: this server must rejoin its cluster before it can start"),
				 errdetail("\"%s\" says that a rejoin is pending or was interrupted.", path),
				 errhint("Run \"pg_replica prepare -D %s\" before each start, as a systemd ExecStartPre or in the "
						 "container's entry point.", DataDir)));
	if (errno != ENOENT && errno != ENOTDIR)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("pg_replica: could not look for \"%s\": %m", path),
				 errhint("The server's user must be able to read the directory pg_replica.state_dir.")));
	pfree(path);
}

static bool
is_inside(const char *path, const char *directory)
{
	size_t		length = strlen(directory);

	return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static void
check_configuration(void)
{
	char	   *problem = NULL;
	char	   *socket_path;

	if (pg_replica_node_id[0] == '\0')
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("pg_replica: this node has no name"),
				 errhint("Set pg_replica.node_id in postgresql.conf, for example pg_replica.node_id = 'db1'; or set "
						 "pg_replica.enabled = off.")));
	socket_path = pg_replica_socket_path(&problem);
	if (socket_path != NULL && is_inside(socket_path, DataDir))
	{
		problem = "the first entry of unix_socket_directories is inside the data directory, where a socket makes "
			"pg_rewind fail";
		socket_path = NULL;
	}
	if (socket_path == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("pg_replica: there is no place for the agent's local socket"),
				 errdetail("%s.", problem),
				 errhint("Set unix_socket_directories to a directory outside of the data directory with a short path.")));
}

/* ---- the standby start ---- */

static void
create_standby_signal(void)
{
	int			fd = open(STANDBY_SIGNAL, O_WRONLY | O_CREAT | O_CLOEXEC, pg_file_create_mode);

	if (fd < 0 || pg_fsync(fd) != 0 || close(fd) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("pg_replica: could not create \"%s\": %m", STANDBY_SIGNAL),
				 errdetail("Without it this server could start as a second primary.")));
	fsync_fname(".", true);
}

/* Is `line` an assignment to the setting `name`? */
static bool
assigns(const char *line, size_t length, const char *name)
{
	size_t		name_length = strlen(name);
	size_t		blanks = 0;

	while (blanks < length && (line[blanks] == ' ' || line[blanks] == '\t'))
		blanks++;
	line += blanks;
	length -= blanks;
	return length > name_length && pg_strncasecmp(line, name, name_length) == 0 && strchr(" \t=", line[name_length]);
}

/* The new text of postgresql.auto.conf: no upstream; restore_command and everything else stays. */
static char *
without_upstream(const char *text)
{
	StringInfoData result;

	initStringInfo(&result);
	while (*text != '\0')
	{
		const char *newline = strchr(text, '\n');
		size_t		length = newline ? (size_t) (newline - text) : strlen(text);

		if (!assigns(text, length, "primary_conninfo") && !assigns(text, length, "primary_slot_name"))
		{
			appendBinaryStringInfo(&result, text, (int) length);
			appendStringInfoChar(&result, '\n');
		}
		text += newline ? length + 1 : length;
	}
	appendStringInfoString(&result, "primary_conninfo = ''\n");
	return result.data;
}

static void
write_auto_conf(const char *text)
{
	size_t		length = strlen(text);
	int			fd = open(AUTO_CONF_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, pg_file_create_mode);

	errno = 0;
	if (fd < 0 || write(fd, text, length) != (ssize_t) length || pg_fsync(fd) != 0 || close(fd) != 0)
	{
		/* A short write without an error is a full disk. */
		if (errno == 0)
			errno = ENOSPC;
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("pg_replica: could not write \"%s\": %m", AUTO_CONF_NEW)));
	}
	(void) durable_rename(AUTO_CONF_NEW, AUTO_CONF, FATAL);
}

/*
 * Start without an upstream: only the agent knows, once it has heard from a majority, whom this node may follow. The
 * file is rewritten and the value in memory cleared as if read from it, so that the agent's ALTER SYSTEM applies.
 */
static void
clear_upstream(void)
{
	size_t		length;
	char	   *text = read_file(AUTO_CONF, &length);
	char	   *cleared;

	if (text == NULL && errno != ENOENT)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("pg_replica: could not read \"%s\": %m", AUTO_CONF)));
	cleared = without_upstream(text ? text : "");
	if (text == NULL || strcmp(text, cleared) != 0)
		write_auto_conf(cleared);
	SetConfigOption("primary_conninfo", "", PGC_POSTMASTER, PGC_S_FILE);
	/* Not when it is unset: the next reload would report it as removed from the file. */
	if (GetConfigOption("primary_slot_name", false, false)[0] != '\0')
		SetConfigOption("primary_slot_name", "", PGC_POSTMASTER, PGC_S_FILE);
	if (GetConfigOption("primary_conninfo", false, false)[0] != '\0')
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("pg_replica: primary_conninfo must not be set on the server's command line"),
				 errdetail("pg_replica points each node at its primary itself."),
				 errhint("Remove it from the command that starts the server.")));
}

/* PGC_S_OVERRIDE: neither a file, nor ALTER SYSTEM, nor the command line changes these. */
static void
force_setting(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_POSTMASTER, PGC_S_OVERRIDE);
}

static void
force_settings(void)
{
	/* A crash must end the server, so that the next start comes through here. */
	force_setting("restart_after_crash", "off");
	force_setting("hot_standby", "on");
	/* pg_rewind needs hint bits in the WAL, by this or by checksums. */
	if (!DataChecksumsEnabled())
		force_setting("wal_log_hints", "on");
	/* A standby that lost its receiver would sleep 5 s before it looks at a promotion request. */
	force_setting("wal_retrieve_retry_interval", "100ms");
}

void
_PG_init(void)
{
	bool		real;

	if (!process_shared_preload_libraries_in_progress)
		return;

	real = is_real_server_start();
	pg_replica_define_settings(real);
	if (disabled_by_environment())
		SetConfigOption("pg_replica.enabled", "off", PGC_POSTMASTER, PGC_S_OVERRIDE);
	/* Also in `postgres -C shared_memory_size`, which must count it. */
	pg_replica_install_shared_memory();
	if (!real || !pg_replica_enabled)
		return;

	check_configuration();
	refuse_if_there(pg_replica_state_directory(), "rejoin.json");
	refuse_if_there(pg_replica_state_directory(), "rejoin.phase");
	create_standby_signal();
	clear_upstream();
	force_settings();
	pg_replica_install_log_throttle();
	pg_replica_install_fence();
	pg_replica_register_supervisor();
}
