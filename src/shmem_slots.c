/*
 * Who delivers: a slot for each worker and for each session that runs deliver_due, and the launcher
 * that reserves them.
 *
 * Each slot has a lock of its own; the lock of all is for taking a free one, and for what is the
 * launcher's.
 */
#include "postgres.h"

#include <signal.h>

#include "compat.h"
#include "miscadmin.h"
#include "shmem_state.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

int			wh_my_slot = WH_SLOT_NONE;

static int
take_free_slot(Oid database, WhSlotState state, int launcher_pid)
{
	int			taken = WH_SLOT_NONE;

	LWLockAcquire(wh_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < WH_SLOTS && taken == WH_SLOT_NONE; i++)
	{
		WhSlot	   *slot = &wh_shared->slots[i];

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
			slot->lost = WH_LOST_NONE;
			slot->wake_count = 0;
			slot->in_flight_end = 0;
		}
		LWLockRelease(slot->lock);
	}
	LWLockRelease(wh_shared->lock);
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

	LWLockAcquire(wh_shared->slots[slot].lock, LW_SHARED);
	state = wh_shared->slots[slot].state;
	LWLockRelease(wh_shared->slots[slot].lock);
	return state;
}

bool
wh_slot_serves(int slot)
{
	bool		serves;

	LWLockAcquire(wh_shared->slots[slot].lock, LW_SHARED);
	serves = wh_shared->slots[slot].state == WH_SLOT_RUNNING && wh_shared->slots[slot].serves;
	LWLockRelease(wh_shared->slots[slot].lock);
	return serves;
}

/* Whether the launcher that reserved the slot is gone, so that nobody will release it. */
static bool
orphaned(const WhSlot *slot)
{
	return slot->launcher_pid != 0 && slot->launcher_pid != wh_shared->launcher_pid;
}

/* The workers of a database share its endpoints among those that run. */
static void
tell_workers(Oid database)
{
	pg_atomic_fetch_add_u32(&wh_shared->workers_changes, 1);
	for (int i = 0; i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &wh_shared->slots[i];

		LWLockAcquire(slot->lock, LW_SHARED);
		if (wh_slot_is_worker_of(slot, database))
			wh_set_latch(slot->pgprocno);
		LWLockRelease(slot->lock);
	}
}

static void
set_state(int slot, WhSlotState state)
{
	WhSlot	   *s = &wh_shared->slots[slot];
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
	LWLockAcquire(wh_shared->lock, LW_EXCLUSIVE);
	wh_shared->launcher_pid = 0;
	LWLockRelease(wh_shared->lock);
}

void
wh_launcher_attach(void)
{
	LWLockAcquire(wh_shared->lock, LW_EXCLUSIVE);
	wh_shared->launcher_pid = MyProcPid;
	wh_shared->launcher_pgprocno = wh_my_proc_number();
	LWLockRelease(wh_shared->lock);
	before_shmem_exit(detach_launcher, 0);

	for (int i = 0; i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &wh_shared->slots[i];

		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		if (slot->state == WH_SLOT_RUNNING && orphaned(slot))
			kill(slot->pid, SIGTERM);
		else if (orphaned(slot))
			slot->state = WH_SLOT_FREE;
		LWLockRelease(slot->lock);
	}
}

/* With the shared memory's lock held. */
static void
wake_launcher(void)
{
	if (wh_shared->launcher_pid != 0)
		wh_set_latch(wh_shared->launcher_pgprocno);
}

void
wh_launcher_notify(Oid database)
{
	if (wh_shared == NULL)
		return;

	LWLockAcquire(wh_shared->lock, LW_EXCLUSIVE);
	if (wh_shared->noticed && wh_shared->noticed_database != database)
		database = InvalidOid;
	wh_shared->noticed = true;
	wh_shared->noticed_database = database;
	wake_launcher();
	LWLockRelease(wh_shared->lock);
}

bool
wh_launcher_take_notice(Oid *database)
{
	bool		noticed;

	LWLockAcquire(wh_shared->lock, LW_EXCLUSIVE);
	noticed = wh_shared->noticed;
	*database = wh_shared->noticed_database;
	wh_shared->noticed = false;
	LWLockRelease(wh_shared->lock);
	return noticed;
}

static void
detach_at_exit(int code, Datum arg)
{
	if (wh_my_slot != WH_SLOT_NONE)
		wh_slot_detach((WhSlotState) DatumGetInt32(arg));
}

/* launcher_pid: of who reserved it, for whoever attaches; 0 for a session's. */
static bool
attach(int slot, WhSlotState expected, int launcher_pid, int number)
{
	WhSlot	   *s = &wh_shared->slots[slot];
	bool		mine;

	LWLockAcquire(s->lock, LW_EXCLUSIVE);
	mine = s->state == expected && s->launcher_pid == launcher_pid && !orphaned(s);
	if (mine)
	{
		s->state = WH_SLOT_RUNNING;
		s->number = number;
		s->pid = MyProcPid;
		s->pgprocno = wh_my_proc_number();
		s->started_at = GetCurrentTimestamp();
		s->counts = (WhCounts) {0};
		s->last_error_at = 0;
		s->last_error[0] = '\0';
		wh_my_slot = slot;
	}
	LWLockRelease(s->lock);
	return mine;
}

bool
wh_slot_attach(int slot, int launcher_pid, int number)
{
	if (!attach(slot, WH_SLOT_STARTING, launcher_pid, number))
		return false;
	before_shmem_exit(detach_at_exit, Int32GetDatum(WH_SLOT_ENDED));
	tell_workers(wh_shared->slots[slot].database);

	/* whoever barred the database before this process could be seen has not told it to end */
	return !wh_database_barred(wh_shared->slots[slot].database);
}

void
wh_slot_serve(void)
{
	WhSlot	   *slot = &wh_shared->slots[wh_my_slot];

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->serves = true;
	LWLockRelease(slot->lock);

	LWLockAcquire(wh_shared->lock, LW_SHARED);
	wake_launcher();
	LWLockRelease(wh_shared->lock);
}

bool
wh_slot_attach_session(void)
{
	static bool registered = false;
	int			slot;

	if (wh_shared == NULL)
		return false;
	slot = take_free_slot(MyDatabaseId, WH_SLOT_RUNNING, 0);
	if (slot == WH_SLOT_NONE)
		return false;
	(void) attach(slot, WH_SLOT_RUNNING, 0, -1);
	if (!registered)
		before_shmem_exit(detach_at_exit, Int32GetDatum(WH_SLOT_FREE));
	registered = true;
	return true;
}

void
wh_slot_detach(WhSlotState state)
{
	if (wh_my_slot == WH_SLOT_NONE)
		return;
	set_state(wh_my_slot, state);
	wh_my_slot = WH_SLOT_NONE;
}

uint32
wh_workers_running(Oid database)
{
	uint32		running = 0;

	for (int i = 0; i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &wh_shared->slots[i];

		LWLockAcquire(slot->lock, LW_SHARED);
		if (wh_slot_is_worker_of(slot, database))
			running |= 1U << slot->number;
		LWLockRelease(slot->lock);
	}
	return running;
}

uint32
wh_workers_changes(void)
{
	return pg_atomic_read_u32(&wh_shared->workers_changes);
}
