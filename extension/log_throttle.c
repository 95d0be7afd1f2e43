/*
 * log_throttle.c
 *		Keeps a standby without an upstream from filling the server's log.
 *
 * The forced wal_retrieve_retry_interval of 100 ms (a promotion would otherwise wait up to 5 s) makes PostgreSQL write
 * up to ten lines a second for as long as the primary is away. Of those, an equal line is let through every 10 seconds;
 * a different one (another upstream, another reason) at once. Nothing else is touched.
 */
#include "pg_replica.h"

#include "miscadmin.h"
#include "utils/elog.h"

#define EQUAL_LINE_INTERVAL_NS (INT64CONST(10000) * NANOS_PER_MILLI)

static emit_log_hook_type previous_emit_log = NULL;

/* Which of the lines that repeat is this? -1: none of them. */
static int
repeating_line(const ErrorData *error)
{
	if (error->message_id == NULL)
		return -1;
	if (MyBackendType == B_STARTUP && strncmp(error->message_id, "waiting for WAL to become available", 35) == 0)
		return 0;
	if (MyBackendType == B_WAL_RECEIVER && strstr(error->message_id, "could not connect to the primary server") != NULL)
		return 1;
	return -1;
}

static uint64
fingerprint(const char *text)
{
	uint64		hash = UINT64CONST(14695981039346656037);	/* FNV-1a */

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char) *text) * UINT64CONST(1099511628211);
	return hash;
}

static void
throttle(ErrorData *error)
{
	int			line = repeating_line(error);

	if (line >= 0 && !pg_replica_log_is_due(line, fingerprint(error->message ? error->message : ""), EQUAL_LINE_INTERVAL_NS))
		error->output_to_server = false;
	if (previous_emit_log)
		previous_emit_log(error);
}

void
pg_replica_install_log_throttle(void)
{
	previous_emit_log = emit_log_hook;
	emit_log_hook = throttle;
}
