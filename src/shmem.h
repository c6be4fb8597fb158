/*
 * What processes tell each other through shared memory: which worker owns which endpoints, what it
 * has in flight, and what it should look at next. Nothing here outlives a server restart, and
 * nothing here is needed for correctness: a worker that missed every message still finds its
 * deliveries in the queue.
 *
 * Words: a shard is a fixed share of a database's endpoints; a slot stands for one process that
 * delivers; a wake says that an endpoint has, or may have, deliveries due from a time on.
 */
#ifndef WH_SHMEM_H
#define WH_SHMEM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#define WH_SHARDS 64			/* of each database; a set of them is the bits of a uint64 */
#define WH_ALL_SHARDS (~UINT64CONST(0))
#define WH_SLOTS 64				/* of the whole server */
#define WH_SLOT_NONE (-1)
#define WH_WAKES_MAX 1024		/* waiting for one process; of more only a WhLost is kept */
#define WH_TENANT_UNKNOWN 0		/* the hash of no tenant */

typedef enum WhSlotState
{
	WH_SLOT_FREE,
	WH_SLOT_STARTING,			/* reserved by the launcher for a worker that has not come up yet */
	WH_SLOT_RUNNING,
	WH_SLOT_NO_EXTENSION,		/* the worker ended because its database lacks the extension */
	WH_SLOT_ENDED				/* the worker ended otherwise */
} WhSlotState;

typedef struct WhWake
{
	pg_uuid_t	endpoint_id;
	TimestampTz due_at;			/* DT_NOBEGIN: forget what you know of the endpoint */
	uint32		tenant;			/* hash of whose endpoint it is; may be WH_TENANT_UNKNOWN */
	bool		lanes;			/* what is first in its lanes may have changed */
} WhWake;

/* Wakes that are not kept one by one: any endpoint may have been meant. */
typedef struct WhLost
{
	TimestampTz due_at;			/* the earliest; DT_NOEND: none is lost */
	bool		lanes;			/* of one of them */
} WhLost;

#define WH_LOST_NONE ((WhLost) {.due_at = DT_NOEND})
#define WH_LOST_ALL ((WhLost) {.due_at = DT_NOBEGIN, .lanes = true})

typedef struct WhInFlight
{
	pg_uuid_t	delivery_id;
	pg_uuid_t	endpoint_id;
	TimestampTz started_at;		/* 0 in an unused entry */
	int			worker_pid;
} WhInFlight;

/* What a process has done since it began to deliver. */
typedef struct WhCounts
{
	int64		attempted;
	int64		succeeded;
	int64		retried;
	int64		dead_lettered;
	int64		bytes_sent;		/* of request bodies */
} WhCounts;

#define WH_LAST_ERROR_SIZE 256

typedef struct WhProcess
{
	int			pid;
	int			number;			/* of the worker; -1: a session that runs deliver_due */
	Oid			database;
	int			in_flight;
	TimestampTz started_at;
	WhCounts	counts;
	TimestampTz last_error_at;	/* 0: there was none */
	char		last_error[WH_LAST_ERROR_SIZE];
} WhProcess;

/*
 * Installs the hooks that reserve and create the shared memory; to be called from _PG_init while
 * preloading.
 */
extern void wh_shmem_install(void);

/*
 * False when the library was not preloaded. All that follows then does nothing and returns nothing.
 */
extern bool wh_shmem_available(void);

/*
 * The later of tick and one after the last that any process got: ticks of this server never go
 * back, even if the clock does.
 */
extern uint64 wh_shmem_next_tick(uint64 tick);

/* The shard of an endpoint, the same in every process and on every restart. */
extern int	wh_shard(const pg_uuid_t *endpoint_id);

/* A set of the one shard. */
static inline uint64
wh_shard_bit(int shard)
{
	return UINT64CONST(1) << shard;
}

static inline void
wh_lose(WhLost *lost, WhLost more)
{
	lost->due_at = Min(lost->due_at, more.due_at);
	lost->lanes |= more.lanes;
}

/* Stands for a tenant where only turns are shared out: two tenants may have the same. */
extern uint32 wh_tenant_hash(const char *tenant_id);

/*
 * Launcher. A reserved slot belongs to the launcher until a worker attaches, and again once that
 * worker has ended.
 */
extern int	wh_slot_reserve(Oid database);
extern WhSlotState wh_slot_state(int slot);
extern void wh_slot_release(int slot);

/* Whether the slot's worker has found the extension, by wh_slot_serve. */
extern bool wh_slot_serves(int slot);

/* Makes this process the launcher. The workers of one that was there before are told to end. */
extern void wh_launcher_attach(void);

/* Tells the launcher that a database may have got the extension; safe in a commit callback. */
extern void wh_launcher_notify(Oid database);

/*
 * Keeps workers out of a database, and tells those that are in it to end, until wh_database_unbar.
 * Both may be called for several databases, once each at a time; the bar goes with the process that
 * set it. False: too many are barred at this time.
 */
extern bool wh_database_bar(Oid database);
extern void wh_database_unbar(Oid database);
extern bool wh_database_barred(Oid database);

/* Whether a worker is still in the database, or on its way there. */
extern bool wh_database_occupied(Oid database);

/* For the launcher: whether it was told, and of which database: InvalidOid means "look at all". */
extern bool wh_launcher_take_notice(Oid *database);

/*
 * Worker or session. The slot attached to is remembered, and given back when the process exits.
 * False: there is none to be had, or the launcher that reserved it is gone; the next one may have
 * reserved the slot for another worker by now.
 */
extern bool wh_slot_attach(int slot, int launcher_pid, int number);
extern bool wh_slot_attach_session(void);
extern void wh_slot_detach(WhSlotState state);

/* Tells the launcher that this worker has found the extension, so that others may be started. */
extern void wh_slot_serve(void);

/*
 * Which of a database's workers run, a bit for each number. When that changes, the count of changes
 * goes up and the workers' latches are set.
 */
extern uint32 wh_workers_running(Oid database);
extern uint32 wh_workers_changes(void);

/* Says which shards' wakes this process wants from now on. */
extern void wh_slot_own(uint64 shards);

/*
 * Copies the wakes that came in since the last call to wakes (room for WH_WAKES_MAX) and returns
 * their number. *lost stands for those that had no room.
 */
extern int	wh_slot_take_wakes(WhWake *wakes, WhLost *lost);

/*
 * Enters or, with NULL, removes a request. index, below WH_IN_FLIGHT_MAX, is the caller's to
 * choose.
 */
extern void wh_slot_in_flight(int index, const WhInFlight *request);

/* Makes known what this process has done; error may be NULL: none since the last report. */
extern void wh_slot_report(const WhCounts *counts, const char *error);

/*
 * Senders. Both may be called in a commit callback: they never raise.
 */
extern void wh_shmem_wake(Oid database, const WhWake *wakes, int count);
extern void wh_shmem_lose(Oid database, WhLost lost);

/* The requests in flight of a database, palloc'd; returns their number. */
extern int	wh_shmem_in_flight(Oid database, WhInFlight **requests);

/* The processes of the whole server that deliver, into room for WH_SLOTS; returns their number. */
extern int	wh_shmem_processes(WhProcess *processes);

#endif
