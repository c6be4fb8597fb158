/*
 * The piece of shared memory itself, for the files that keep it: shmem (the memory, and what is one
 * for the whole server), shmem_slots, shmem_bars, shmem_wakes and shmem_activity. For them alone.
 *
 * A latch is found through the process's PGPROC, whose address is good for as long as the server
 * runs: setting the latch of a process that has gone in the meantime wakes a stranger once, which
 * every latch user must expect anyway.
 */
#ifndef WH_SHMEM_STATE_H
#define WH_SHMEM_STATE_H

#include "postgres.h"

#include "port/atomics.h"
#include "settings.h"
#include "shmem.h"
#include "storage/lwlock.h"
#include "storage/proc.h"

#define WH_BARS_MAX 16

typedef struct WhSlot
{
	LWLock	   *lock;
	Oid			database;
	WhSlotState state;
	int			launcher_pid;	/* who reserved it; 0 for a session's */
	int			number;			/* of the worker */
	bool		serves;			/* its worker has found the extension */
	int			pid;
	int			pgprocno;
	uint64		shards;
	WhLost		lost;
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
	WhBar		bars[WH_BARS_MAX];
	int			launcher_pid;	/* 0 while there is none */
	int			launcher_pgprocno;
	bool		noticed;
	Oid			noticed_database;
	WhSlot		slots[WH_SLOTS];
} WhShared;

/* NULL when the library was not preloaded. */
extern WhShared *wh_shared;

/* This process's slot, or WH_SLOT_NONE. */
extern int	wh_my_slot;

static inline void
wh_set_latch(int pgprocno)
{
	SetLatch(&ProcGlobal->allProcs[pgprocno].procLatch);
}

/* Whether a worker (not a session) of the database runs there. Under the slot's lock. */
static inline bool
wh_slot_is_worker_of(const WhSlot *slot, Oid database)
{
	return slot->database == database && slot->state == WH_SLOT_RUNNING &&
		slot->launcher_pid != 0;
}

#endif
