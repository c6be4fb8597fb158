/*
 * One array of slots, each under a lock of its own, in one piece of shared memory.
 *
 * A latch is found through the process's PGPROC, whose address is good for as long as the server
 * runs: setting the latch of a process that has gone in the meantime wakes a stranger once, which
 * every latch user must expect anyway.
 */
#include "postgres.h"

#include <signal.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "settings.h"
#include "shmem.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#define TRANCHE "webhooks"
#define BARS_MAX 16

typedef struct WhSlot
{
	LWLock	   *lock;
	Oid			database;
	WhSlotState state;
	int			launcher_pid;	/* who reserved it; 0 for a session's */
	int			number;			/* of the worker */
	bool		serves;
	int			pid;
	int			pgprocno;
	uint64		shards;
	bool		look;
	int			wake_count;
	WhWake		wakes[WH_WAKES_MAX];
	TimestampTz started_at;
	WhCounts	counts;
	TimestampTz last_error_at;
	char		last_error[WH_LAST_ERROR_SIZE];
	int			in_flight_end;	/* entries from here on are unused */
	WhInFlight	in_flight[WH_IN_FLIGHT_MAX];
} WhSlot;

typedef struct WhBar
{
	Oid			database;		/* InvalidOid in an unused one */
	int			pid;
} WhBar;

typedef struct WhShared
{
	pg_atomic_uint64 last_tick;
	pg_atomic_uint32 workers_changes;
	LWLock	   *lock;			/* for what follows, and for taking a slot */
	WhBar		bars[BARS_MAX];
	int			launcher_pid;	/* 0 while there is none */
	int			launcher_pgprocno;
	bool		noticed;
	Oid			noticed_database;
	WhSlot		slots[WH_SLOTS];
} WhShared;

static WhShared *shared = NULL;
static int	my_slot = WH_SLOT_NONE;
static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static void
request(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(sizeof(WhShared));
	RequestNamedLWLockTranche(TRANCHE, 1 + WH_SLOTS);
}

static void
startup(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("webhooks", sizeof(WhShared), &found);
	if (!found)
	{
		LWLockPadded *locks = GetNamedLWLockTranche(TRANCHE);

		memset(shared, 0, sizeof(WhShared));
		pg_atomic_init_u64(&shared->last_tick, 0);
		pg_atomic_init_u32(&shared->workers_changes, 0);
		shared->lock = &locks[0].lock;
		for (int i = 0; i < WH_SLOTS; i++)
			shared->slots[i].lock = &locks[i + 1].lock;
	}
	LWLockRelease(AddinShmemInitLock);
}

void
wh_shmem_install(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

bool
wh_shmem_available(void)
{
	return shared != NULL;
}

uint64
wh_shmem_next_tick(uint64 tick)
{
	uint64		last;
	uint64		next;

	if (shared == NULL)
		return tick;
	last = pg_atomic_read_u64(&shared->last_tick);
	do
		next = Max(tick, last + 1);
	while (!pg_atomic_compare_exchange_u64(&shared->last_tick, &last, next));
	return next;
}

int
wh_shard(const pg_uuid_t *endpoint_id)
{
	/* the last byte of a UUIDv7 is random */
	return endpoint_id->data[UUID_LEN - 1] % WH_SHARDS;
}

uint32
wh_tenant_hash(const char *tenant_id)
{
	uint32		hash = hash_bytes((const unsigned char *) tenant_id, strlen(tenant_id));

	return hash == WH_TENANT_UNKNOWN ? 1 : hash;
}

static void
set_latch(int pgprocno)
{
	SetLatch(&ProcGlobal->allProcs[pgprocno].procLatch);
}

static int
take_free_slot(Oid database, WhSlotState state, int launcher_pid)
{
	int			taken = WH_SLOT_NONE;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < WH_SLOTS && taken == WH_SLOT_NONE; i++)
	{
		WhSlot	   *slot = &shared->slots[i];

		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		if (slot->state == WH_SLOT_FREE)
		{
			taken = i;
			slot->state = state;
			slot->database = database;
			slot->launcher_pid = launcher_pid;
			slot->serves = false;
			slot->pid = 0;
			slot->shards = 0;
			slot->look = false;
			slot->wake_count = 0;
			slot->in_flight_end = 0;
		}
		LWLockRelease(slot->lock);
	}
	LWLockRelease(shared->lock);
	return taken;
}

int
wh_slot_reserve(Oid database)
{
	return take_free_slot(database, WH_SLOT_STARTING, MyProcPid);
}

WhSlotState
wh_slot_state(int slot)
{
	WhSlotState state;

	LWLockAcquire(shared->slots[slot].lock, LW_SHARED);
	state = shared->slots[slot].state;
	LWLockRelease(shared->slots[slot].lock);
	return state;
}

bool
wh_slot_serves(int slot)
{
	bool		serves;

	LWLockAcquire(shared->slots[slot].lock, LW_SHARED);
	serves = shared->slots[slot].state == WH_SLOT_RUNNING && shared->slots[slot].serves;
	LWLockRelease(shared->slots[slot].lock);
	return serves;
}

/* Whether the launcher that reserved the slot is gone, so that nobody will release it. */
static bool
orphaned(const WhSlot *slot)
{
	return slot->launcher_pid != 0 && slot->launcher_pid != shared->launcher_pid;
}

/* The workers of a database share its endpoints among those that run. */
static void
tell_workers(Oid database)
{
	pg_atomic_fetch_add_u32(&shared->workers_changes, 1);
	for (int i = 0; i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &shared->slots[i];

		LWLockAcquire(slot->lock, LW_SHARED);
		if (slot->database == database && slot->state == WH_SLOT_RUNNING && slot->launcher_pid != 0)
			set_latch(slot->pgprocno);
		LWLockRelease(slot->lock);
	}
}

static void
set_state(int slot, WhSlotState state)
{
	WhSlot	   *s = &shared->slots[slot];
	bool		ran;

	LWLockAcquire(s->lock, LW_EXCLUSIVE);
	ran = s->state == WH_SLOT_RUNNING && s->launcher_pid != 0;
	s->state = orphaned(s) ? WH_SLOT_FREE : state;
	s->shards = 0;
	s->wake_count = 0;
	s->in_flight_end = 0;
	LWLockRelease(s->lock);
	if (ran)
		tell_workers(s->database);
}

void
wh_slot_release(int slot)
{
	set_state(slot, WH_SLOT_FREE);
}

static void
detach_launcher(int code, Datum arg)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->launcher_pid = 0;
	LWLockRelease(shared->lock);
}

void
wh_launcher_attach(void)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->launcher_pid = MyProcPid;
	shared->launcher_pgprocno = MyProc->pgprocno;
	LWLockRelease(shared->lock);
	before_shmem_exit(detach_launcher, 0);

	for (int i = 0; i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &shared->slots[i];

		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		if (slot->state == WH_SLOT_RUNNING && orphaned(slot))
			kill(slot->pid, SIGTERM);
		else if (orphaned(slot))
			slot->state = WH_SLOT_FREE;
		LWLockRelease(slot->lock);
	}
}

void
wh_launcher_notify(Oid database)
{
	if (shared == NULL)
		return;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (shared->noticed && shared->noticed_database != database)
		database = InvalidOid;
	shared->noticed = true;
	shared->noticed_database = database;
	if (shared->launcher_pid != 0)
		set_latch(shared->launcher_pgprocno);
	LWLockRelease(shared->lock);
}

bool
wh_launcher_take_notice(Oid *database)
{
	bool		noticed;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	noticed = shared->noticed;
	*database = shared->noticed_database;
	shared->noticed = false;
	LWLockRelease(shared->lock);
	return noticed;
}

static WhBar *
find_bar(Oid database, int pid)
{
	for (int i = 0; i < BARS_MAX; i++)
		if (shared->bars[i].database == database && (pid == 0 || shared->bars[i].pid == pid))
			return &shared->bars[i];
	return NULL;
}

static void
unbar_at_exit(int code, Datum arg)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < BARS_MAX; i++)
		if (shared->bars[i].pid == MyProcPid)
			shared->bars[i] = (WhBar) {0};
	LWLockRelease(shared->lock);
}

bool
wh_database_bar(Oid database)
{
	static bool registered = false;
	WhBar	   *bar;

	if (shared == NULL)
		return false;
	if (!registered)
		before_shmem_exit(unbar_at_exit, 0);
	registered = true;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	bar = find_bar(InvalidOid, 0);
	if (bar)
		*bar = (WhBar) {.database = database, .pid = MyProcPid};
	LWLockRelease(shared->lock);
	if (bar == NULL)
		return false;

	for (int i = 0; i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &shared->slots[i];

		LWLockAcquire(slot->lock, LW_SHARED);
		if (slot->database == database && slot->state == WH_SLOT_RUNNING && slot->launcher_pid != 0)
			kill(slot->pid, SIGTERM);
		LWLockRelease(slot->lock);
	}
	return true;
}

void
wh_database_unbar(Oid database)
{
	WhBar	   *bar;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	bar = find_bar(database, MyProcPid);
	if (bar)
		*bar = (WhBar) {0};
	LWLockRelease(shared->lock);
}

bool
wh_database_barred(Oid database)
{
	bool		barred;

	LWLockAcquire(shared->lock, LW_SHARED);
	barred = find_bar(database, 0) != NULL;
	LWLockRelease(shared->lock);
	return barred;
}

bool
wh_database_occupied(Oid database)
{
	bool		occupied = false;

	for (int i = 0; i < WH_SLOTS && !occupied; i++)
	{
		WhSlot	   *slot = &shared->slots[i];

		LWLockAcquire(slot->lock, LW_SHARED);
		occupied = slot->database == database && slot->launcher_pid != 0 &&
			(slot->state == WH_SLOT_RUNNING || slot->state == WH_SLOT_STARTING);
		LWLockRelease(slot->lock);
	}
	return occupied;
}

static void
detach_at_exit(int code, Datum arg)
{
	if (my_slot != WH_SLOT_NONE)
		wh_slot_detach((WhSlotState) DatumGetInt32(arg));
}

static bool
attach(int slot, WhSlotState expected)
{
	WhSlot	   *s = &shared->slots[slot];
	bool		mine;

	LWLockAcquire(s->lock, LW_EXCLUSIVE);
	mine = s->state == expected && !orphaned(s);
	if (mine)
	{
		s->state = WH_SLOT_RUNNING;
		s->pid = MyProcPid;
		s->pgprocno = MyProc->pgprocno;
		s->started_at = GetCurrentTimestamp();
		s->counts = (WhCounts) {0};
		s->last_error_at = 0;
		s->last_error[0] = '\0';
		my_slot = slot;
	}
	LWLockRelease(s->lock);
	return mine;
}

bool
wh_slot_attach(int slot, int number)
{
	shared->slots[slot].number = number;
	if (!attach(slot, WH_SLOT_STARTING))
		return false;
	before_shmem_exit(detach_at_exit, Int32GetDatum(WH_SLOT_ENDED));
	tell_workers(shared->slots[slot].database);

	/* whoever barred the database before this process could be seen has not told it to end */
	return !wh_database_barred(shared->slots[slot].database);
}

bool
wh_slot_attach_session(void)
{
	static bool registered = false;
	int			slot;

	if (shared == NULL || (slot = take_free_slot(MyDatabaseId, WH_SLOT_RUNNING, 0)) == WH_SLOT_NONE)
		return false;
	(void) attach(slot, WH_SLOT_RUNNING);
	if (!registered)
		before_shmem_exit(detach_at_exit, Int32GetDatum(WH_SLOT_FREE));
	registered = true;
	return true;
}

void
wh_slot_detach(WhSlotState state)
{
	if (my_slot == WH_SLOT_NONE)
		return;
	set_state(my_slot, state);
	my_slot = WH_SLOT_NONE;
}

uint32
wh_workers_running(Oid database)
{
	uint32		running = 0;

	for (int i = 0; i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &shared->slots[i];

		LWLockAcquire(slot->lock, LW_SHARED);
		if (slot->database == database && slot->state == WH_SLOT_RUNNING && slot->launcher_pid != 0)
			running |= 1U << slot->number;
		LWLockRelease(slot->lock);
	}
	return running;
}

uint32
wh_workers_changes(void)
{
	return pg_atomic_read_u32(&shared->workers_changes);
}

void
wh_slot_own(uint64 shards)
{
	if (my_slot == WH_SLOT_NONE)
		return;
	LWLockAcquire(shared->slots[my_slot].lock, LW_EXCLUSIVE);
	shared->slots[my_slot].shards = shards;
	shared->slots[my_slot].serves = true;
	LWLockRelease(shared->slots[my_slot].lock);
}

int
wh_slot_take_wakes(WhWake *wakes, bool *look)
{
	WhSlot	   *slot;
	int			count;

	*look = false;
	if (my_slot == WH_SLOT_NONE)
		return 0;

	slot = &shared->slots[my_slot];
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	count = slot->wake_count;
	memcpy(wakes, slot->wakes, count * sizeof(WhWake));
	*look = slot->look;
	slot->wake_count = 0;
	slot->look = false;
	LWLockRelease(slot->lock);
	return count;
}

void
wh_slot_in_flight(int index, const WhInFlight *request)
{
	WhSlot	   *slot;

	if (my_slot == WH_SLOT_NONE)
		return;

	slot = &shared->slots[my_slot];
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	while (slot->in_flight_end <= index)
		slot->in_flight[slot->in_flight_end++].started_at = 0;
	if (request)
		slot->in_flight[index] = *request;
	else
		slot->in_flight[index].started_at = 0;
	LWLockRelease(slot->lock);
}

void
wh_slot_report(const WhCounts *counts, const char *error)
{
	WhSlot	   *slot;

	if (my_slot == WH_SLOT_NONE)
		return;

	slot = &shared->slots[my_slot];
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->counts = *counts;
	if (error)
	{
		strlcpy(slot->last_error, error, WH_LAST_ERROR_SIZE);
		slot->last_error_at = GetCurrentTimestamp();
	}
	LWLockRelease(slot->lock);
}

void
wh_shmem_wake(Oid database, const WhWake *wakes, int count)
{
	if (shared == NULL)
		return;

	for (int i = 0; i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &shared->slots[i];
		bool		told = false;

		if (slot->database != database || slot->state != WH_SLOT_RUNNING)
			continue;

		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		for (int j = 0; j < count && slot->database == database; j++)
		{
			if ((slot->shards & wh_shard_bit(wh_shard(&wakes[j].endpoint_id))) == 0)
				continue;
			told = true;
			if (slot->wake_count < WH_WAKES_MAX)
				slot->wakes[slot->wake_count++] = wakes[j];
			else
				slot->look = true;
		}
		LWLockRelease(slot->lock);
		if (told)
			set_latch(slot->pgprocno);
	}
}

void
wh_shmem_look(Oid database)
{
	if (shared == NULL)
		return;

	for (int i = 0; i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &shared->slots[i];
		bool		told;

		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		told = slot->database == database && slot->state == WH_SLOT_RUNNING;
		if (told)
			slot->look = true;
		LWLockRelease(slot->lock);
		if (told)
			set_latch(slot->pgprocno);
	}
}

int
wh_shmem_in_flight(Oid database, WhInFlight **requests)
{
	int			count = 0;

	*requests = NULL;
	if (shared == NULL)
		return 0;

	for (int i = 0; i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &shared->slots[i];
		int			room = slot->in_flight_end;

		if (slot->database != database || room == 0)
			continue;
		*requests = *requests ? repalloc(*requests, (count + WH_IN_FLIGHT_MAX) * sizeof(WhInFlight))
			: palloc(WH_IN_FLIGHT_MAX * sizeof(WhInFlight));
		LWLockAcquire(slot->lock, LW_SHARED);
		for (int j = 0; j < slot->in_flight_end && slot->database == database; j++)
			if (slot->in_flight[j].started_at != 0)
			{
				(*requests)[count] = slot->in_flight[j];
				(*requests)[count++].worker_pid = slot->pid;
			}
		LWLockRelease(slot->lock);
	}
	return count;
}

int
wh_shmem_processes(WhProcess *processes)
{
	int			count = 0;

	for (int i = 0; shared && i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &shared->slots[i];
		WhProcess  *process = &processes[count];

		LWLockAcquire(slot->lock, LW_SHARED);
		if (slot->state == WH_SLOT_RUNNING)
		{
			*process = (WhProcess)
			{
				.pid = slot->pid, .number = slot->launcher_pid == 0 ? -1 : slot->number,
				.database = slot->database, .started_at = slot->started_at,
				.counts = slot->counts, .last_error_at = slot->last_error_at
			};
			strlcpy(process->last_error, slot->last_error, WH_LAST_ERROR_SIZE);
			for (int j = 0; j < slot->in_flight_end; j++)
				process->in_flight += slot->in_flight[j].started_at != 0;
			count++;
		}
		LWLockRelease(slot->lock);
	}
	return count;
}
