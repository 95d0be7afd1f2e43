/*
 * lease.c
 *		The lease word in shared memory, and the SQL functions that read it.
 *
 * The supervisor is the only writer; every backend reads. What decides about writing (deadline and open) is ONE atomic
 * 64-bit word, so that a reader can never see half of a change: the deadline in nanoseconds with its lowest bit
 * replaced by `open`. 0 is "expired and closed", the state at every start of the server. The token beside it is only
 * shown and compared by the supervisor; it is changed only while the word is 0.
 */
#include "pg_replica.h"

#include <time.h>

#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"

typedef struct PgReplicaShared
{
	pg_atomic_uint64 word;		/* deadline_ns with bit 0 = open */
	pg_atomic_uint64 version;	/* odd while token is being changed */
	pg_atomic_uint64 term;
	pg_atomic_uint64 index;
	pg_atomic_uint32 startup_generation;
	pg_atomic_uint64 logged_at_ns[REPEATING_LINES];	/* log_throttle.c */
	pg_atomic_uint64 logged_text[REPEATING_LINES];
	char		marker_key[MARKER_KEY_LENGTH + 1];
} PgReplicaShared;

#define WORD_OPEN UINT64CONST(1)

static PgReplicaShared *shared = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;
#if PG_VERSION_NUM >= 150000
static shmem_request_hook_type previous_shmem_request = NULL;
#endif

PG_FUNCTION_INFO_V1(pg_replica_lease);
PG_FUNCTION_INFO_V1(pg_replica_startup_generation);

static void
request_shared_memory(void)
{
#if PG_VERSION_NUM >= 150000
	if (previous_shmem_request)
		previous_shmem_request();
#endif
	RequestAddinShmemSpace(MAXALIGN(sizeof(PgReplicaShared)));
}

/* Runs at each (re)initialisation of shared memory, so that the lease is born expired after a crash restart as well. */
static void
create_shared_memory(void)
{
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("pg_replica", sizeof(PgReplicaShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(PgReplicaShared));
		pg_atomic_init_u64(&shared->word, 0);
		pg_atomic_init_u64(&shared->version, 0);
		pg_atomic_init_u64(&shared->term, 0);
		pg_atomic_init_u64(&shared->index, 0);
		pg_atomic_init_u32(&shared->startup_generation, 0);
		for (int i = 0; i < REPEATING_LINES; i++)
		{
			pg_atomic_init_u64(&shared->logged_at_ns[i], 0);
			pg_atomic_init_u64(&shared->logged_text[i], 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

void
pg_replica_install_shared_memory(void)
{
#if PG_VERSION_NUM >= 150000
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
#else
	request_shared_memory();
#endif
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = create_shared_memory;
}

bool
pg_replica_shared_memory_ready(void)
{
	return shared != NULL;
}

uint64
pg_replica_boottime_ns(void)
{
	struct timespec now;

	/* It can fail only for a clock that the kernel does not have; a time without end keeps the fence shut then. */
	if (clock_gettime(CLOCK_BOOTTIME, &now) != 0)
		return PG_UINT64_MAX;
	return (uint64) now.tv_sec * UINT64CONST(1000000000) + (uint64) now.tv_nsec;
}

void
pg_replica_lease_word(uint64 *deadline_ns, bool *open)
{
	uint64		word = shared ? pg_atomic_read_u64(&shared->word) : 0;

	*deadline_ns = word & ~WORD_OPEN;
	*open = (word & WORD_OPEN) != 0;
}

/*
 * The whole word, for showing and for the supervisor. When the token changes under us again and again, the answer is
 * "expired and closed": a torn read must never look valid.
 */
PgReplicaLease
pg_replica_lease_read(void)
{
	PgReplicaLease lease = {{0, 0}, 0, false};

	if (shared == NULL)
		return lease;
	for (int attempt = 0; attempt < 1000; attempt++)
	{
		uint64		before = pg_atomic_read_u64(&shared->version);

		pg_read_barrier();
		lease.token.term = pg_atomic_read_u64(&shared->term);
		lease.token.index = pg_atomic_read_u64(&shared->index);
		pg_replica_lease_word(&lease.deadline_ns, &lease.open);
		pg_read_barrier();
		if ((before & 1) == 0 && pg_atomic_read_u64(&shared->version) == before)
			return lease;
	}
	memset(&lease, 0, sizeof(lease));
	return lease;
}

uint64
pg_replica_lease_remaining_ms(const PgReplicaLease *lease)
{
	uint64		now = pg_replica_boottime_ns();

	return lease->deadline_ns > now ? (lease->deadline_ns - now) / NANOS_PER_MILLI : 0;
}

int
pg_replica_token_compare(PgReplicaToken a, PgReplicaToken b)
{
	if (a.term != b.term)
		return a.term < b.term ? -1 : 1;
	if (a.index != b.index)
		return a.index < b.index ? -1 : 1;
	return 0;
}

/* The word becomes (token, expired, closed). The word is emptied first: no reader sees the new token with the old time. */
void
pg_replica_lease_grant(PgReplicaToken token)
{
	pg_atomic_write_u64(&shared->word, 0);
	pg_memory_barrier();
	pg_atomic_fetch_add_u64(&shared->version, 1);
	pg_atomic_write_u64(&shared->term, token.term);
	pg_atomic_write_u64(&shared->index, token.index);
	pg_atomic_fetch_add_u64(&shared->version, 1);
	pg_memory_barrier();
}

/* Moves the deadline, never backwards. The lowest bit is given away, downwards: 1 ns earlier at most. */
void
pg_replica_lease_extend(uint64 deadline_ns)
{
	uint64		word = pg_atomic_read_u64(&shared->word);

	deadline_ns &= ~WORD_OPEN;
	if (deadline_ns > (word & ~WORD_OPEN))
		pg_atomic_write_u64(&shared->word, deadline_ns | (word & WORD_OPEN));
	pg_memory_barrier();
}

void
pg_replica_lease_open(void)
{
	pg_atomic_fetch_or_u64(&shared->word, WORD_OPEN);
}

void
pg_replica_lease_expire(void)
{
	pg_atomic_exchange_u64(&shared->word, 0);
	pg_memory_barrier();
}

/* A new random key for each start of the supervisor; the key of an earlier one is void from then on. */
const char *
pg_replica_new_marker_key(void)
{
	uint8		bytes[MARKER_KEY_LENGTH / 2];

	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(FATAL,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("pg_replica: could not generate the key of the marker session"),
				 errdetail("The system's source of random numbers failed.")));
	hex_encode((const char *) bytes, sizeof(bytes), shared->marker_key);
	shared->marker_key[MARKER_KEY_LENGTH] = '\0';
	pg_memory_barrier();
	return shared->marker_key;
}

/* Compares in constant time. An unset key never matches. */
bool
pg_replica_marker_key_matches(const char *key)
{
	uint8		difference = 0;

	if (shared == NULL || shared->marker_key[0] == '\0' || key == NULL || strlen(key) != MARKER_KEY_LENGTH)
		return false;
	for (int i = 0; i < MARKER_KEY_LENGTH; i++)
		difference |= (uint8) (key[i] ^ shared->marker_key[i]);
	return difference == 0;
}

void
pg_replica_acknowledge_generation(int generation)
{
	if (shared != NULL)
		pg_atomic_write_u32(&shared->startup_generation, (uint32) generation);
}

/*
 * Shall a repeating line be written? It is remembered here, because each attempt to connect is a process of its own.
 * Two processes at once may both write: it is only a log.
 */
bool
pg_replica_log_is_due(int line, uint64 text, uint64 interval_ns)
{
	uint64		now = pg_replica_boottime_ns();

	if (shared == NULL)
		return true;
	if (pg_atomic_read_u64(&shared->logged_text[line]) == text &&
		now - pg_atomic_read_u64(&shared->logged_at_ns[line]) < interval_ns)
		return false;
	pg_atomic_write_u64(&shared->logged_text[line], text);
	pg_atomic_write_u64(&shared->logged_at_ns[line], now);
	return true;
}

static void
require_shared_memory(void)
{
	if (shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_replica must be loaded at server start"),
				 errhint("Add pg_replica to shared_preload_libraries and restart the server.")));
}

/* pg_replica.lease(): token, remaining_ms, open, fenced. */
Datum
pg_replica_lease(PG_FUNCTION_ARGS)
{
	TupleDesc	descriptor;
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};
	PgReplicaLease lease;

	require_shared_memory();
	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "pg_replica.lease() must be declared to return a row");
	lease = pg_replica_lease_read();
	if (lease.token.term == 0 && lease.token.index == 0)
		nulls[0] = true;
	else
		values[0] = CStringGetTextDatum(psprintf(UINT64_FORMAT "." UINT64_FORMAT, lease.token.term, lease.token.index));
	values[1] = Int64GetDatum((int64) pg_replica_lease_remaining_ms(&lease));
	values[2] = BoolGetDatum(lease.open);
	values[3] = BoolGetDatum(pg_replica_fenced());
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}

/* pg_replica.startup_generation(): the last pg_replica.reload_generation that the startup process has read. */
Datum
pg_replica_startup_generation(PG_FUNCTION_ARGS)
{
	require_shared_memory();
	PG_RETURN_INT32((int32) pg_atomic_read_u32(&shared->startup_generation));
}
