/*
 * Keeps workers out of databases in which somebody wants to be alone. Whoever bars a database first
 * says so and then tells the workers that are there to end; a worker first becomes seen and then
 * looks whether its database is barred: so none is missed.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "shmem_state.h"
#include "storage/ipc.h"

static WhBar *
find_bar(Oid database, int pid)
{
	for (int i = 0; i < WH_BARS_MAX; i++)
		if (wh_shared->bars[i].database == database && (pid == 0 || wh_shared->bars[i].pid == pid))
			return &wh_shared->bars[i];
	return NULL;
}

/* Whoever ends in the middle of the statement: the database is as it was, and has no workers. */
static void
unbar_at_exit(int code, Datum arg)
{
	bool		barred = false;

	LWLockAcquire(wh_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < WH_BARS_MAX; i++)
		if (wh_shared->bars[i].pid == MyProcPid)
		{
			wh_shared->bars[i] = (WhBar) {0};
			barred = true;
		}
	LWLockRelease(wh_shared->lock);
	if (barred)
		wh_launcher_notify(InvalidOid);
}

bool
wh_database_bar(Oid database)
{
	static bool registered = false;
	WhBar	   *bar;

	if (wh_shared == NULL)
		return false;
	if (!registered)
		before_shmem_exit(unbar_at_exit, 0);
	registered = true;

	LWLockAcquire(wh_shared->lock, LW_EXCLUSIVE);
	bar = find_bar(InvalidOid, 0);
	if (bar)
		*bar = (WhBar) {.database = database, .pid = MyProcPid};
	LWLockRelease(wh_shared->lock);
	if (bar == NULL)
		return false;

	for (int i = 0; i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &wh_shared->slots[i];

		LWLockAcquire(slot->lock, LW_SHARED);
		if (wh_slot_is_worker_of(slot, database))
			kill(slot->pid, SIGTERM);
		LWLockRelease(slot->lock);
	}
	return true;
}

void
wh_database_unbar(Oid database)
{
	WhBar	   *bar;

	LWLockAcquire(wh_shared->lock, LW_EXCLUSIVE);
	bar = find_bar(database, MyProcPid);
	if (bar)
		*bar = (WhBar) {0};
	LWLockRelease(wh_shared->lock);
}

bool
wh_database_barred(Oid database)
{
	bool		barred;

	LWLockAcquire(wh_shared->lock, LW_SHARED);
	barred = find_bar(database, 0) != NULL;
	LWLockRelease(wh_shared->lock);
	return barred;
}

bool
wh_database_occupied(Oid database)
{
	bool		occupied = false;

	for (int i = 0; i < WH_SLOTS && !occupied; i++)
	{
		WhSlot	   *slot = &wh_shared->slots[i];

		LWLockAcquire(slot->lock, LW_SHARED);
		occupied = slot->database == database && slot->launcher_pid != 0 &&
			(slot->state == WH_SLOT_RUNNING || slot->state == WH_SLOT_STARTING);
		LWLockRelease(slot->lock);
	}
	return occupied;
}
