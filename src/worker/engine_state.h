/*
 * The engine's state, for the files that the engine is made of: engine (the loop), shards, hand
 * (what is in hand, and how it is sent), detour (what the proxy made of it) and results. For them
 * alone.
 */
#ifndef WH_WORKER_ENGINE_STATE_H
#define WH_WORKER_ENGINE_STATE_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "lib/ilist.h"
#include "settings.h"
#include "shmem.h"
#include "storage/latch.h"
#include "worker/engine.h"
#include "worker/queue.h"
#include "worker/scheduler.h"
#include "worker/sender.h"

#define WH_FAILURE_WAIT_MS 1000 /* after a transaction failed */
#define WH_FLUSH_COUNT 256		/* results recorded at once, unless they wait longer than: */
#define WH_FLUSH_MS 10
#define WH_FLUSH_LANE_MS 1		/* the same of one that others wait for */
#define WH_DISK_MS 50			/* for which what was recorded waits for somebody else to flush the
								 * WAL */
#define WH_UNBEGUN_MIN 192		/* requests that the sender should have left to begin: it goes on while
								 * the worker flushes and fetches */

/* How the proxy does. */
typedef struct WhProxyState
{
	TimestampTz let_through_at; /* when the last request was sent that it opened a connection for */
	int			wait_ms;		/* the last wait of all, because it cannot be used */
	TimestampTz logged_at;		/* when the log was last told of it */
} WhProxyState;

struct WhEngine
{
	WhEngineOptions options;
	MemoryContext context;
	WhSender   *sender;
	WhQueue		queue;			/* with the scheduler and what is in hand */
	WaitEventSet *wait_set;
	WhCounts counts;
	int64		started;		/* requests, ever */
	bool		draining;
	bool		no_extension;

	uint64		wanted;			/* shards */
	uint64		owned;
	int			shard_in_hand[WH_SHARDS];
	TimestampTz acquire_at;

	int			in_hand;
	int			in_flight;		/* in hand and without an answer */
	dlist_head	taken;			/* in hand by the fetch that runs; empty between fetches */
	dlist_head	results;		/* in hand and answered: to be recorded */
	int			result_count;
	TimestampTz record_at;		/* while there are results: when they have waited long enough */
	TimestampTz record_not_before;
	int			record_limit;	/* results of one record; small while recording is hindered */
	dlist_head	stuck;			/* in hand and answered, but could not be recorded: tried again one
								 * by one */
	TimestampTz stuck_at;
	dlist_head	recorded;		/* in hand and recorded, which is not known to be on disk yet */
	XLogRecPtr	recorded_to;	/* the end of their last commit */
	TimestampTz flush_at;		/* while there are such: when they have waited long enough */
	TimestampTz fetch_not_before;
	int			fetch_limit;	/* rows of one fetch; small while fetching is hindered */
	TimestampTz starved_at;		/* last */
	WhProxyState proxy;

	bool		look_wanted;
	WhLost		lost;			/* what the next look is to find, and no wake tells */
	bool		looking;		/* a look is under way */
	WhLost		looking_for;	/* what lost was when it began */
	pg_uuid_t	looked;			/* the last endpoint it came to */
	int64		look_cost_us;	/* so far */
	TimestampTz look_part_at;	/* its next part */
	TimestampTz look_at;		/* the slow look */
	TimestampTz look_not_before;
	TimestampTz maintain_at;
	TimestampTz expire_at;		/* the next sweep of what has expired, or its next part */
	TimestampTz expire_not_before;	/* for what the last one took */
	TimestampTz expired_to;		/* how far it has come; DT_NOBEGIN: none is under way */
	int64		expire_cost_us;	/* so far */

	int			free_indexes[WH_IN_FLIGHT_MAX];
	int			free_index_count;
	WhWake		wakes[WH_WAKES_MAX];
};

static inline TimestampTz
wh_later(TimestampTz at, int64 ms)
{
	return at + ms * 1000;
}

/* Asks for a look that stands in for wakes that are lost. */
static inline void
wh_look_for_lost(WhEngine *engine, WhLost lost)
{
	wh_lose(&engine->lost, lost);
	engine->look_wanted = true;
}

/* Takes note of how a transaction ended; *not_before is set when it is to be tried again later. */
extern void wh_engine_note(WhEngine *engine, WhTransactionResult result, TimestampTz *not_before);

/* Gives up the shards that are no longer wanted and of which nothing is in hand. */
extern void wh_shards_release(WhEngine *engine);

/* Takes those wanted that are free, when it is time to try. */
extern void wh_shards_acquire(WhEngine *engine, TimestampTz now);
extern void wh_shards_release_all(WhEngine *engine);
extern bool wh_shards_serve_first(const WhEngine *engine);

/* Fetches what is due and there is room for, and sends it. */
extern void wh_hand_fill(WhEngine *engine, TimestampTz now);
extern WhRoom wh_hand_room(const WhEngine *engine);

/* Takes in a request that is over. */
extern void wh_hand_receive(WhEngine *engine, WhDelivery *delivery);

/* Sessions see it in flight no longer. */
extern void wh_hand_withdraw(WhEngine *engine, WhDelivery *delivery);

/* It is over and done with; frees it. */
extern void wh_hand_leave(WhEngine *engine, WhDelivery *delivery);

/*
 * The delivery goes back to where it was fetched from, having used up no attempt; its endpoint may
 * have something due at once.
 */
extern void wh_hand_put_back(WhEngine *engine, WhDelivery *delivery);

/*
 * Takes note of what the proxy made of the delivery's request. Returns false when it must go back
 * and wait, since the proxy kept it from being an attempt.
 */
extern bool wh_detour_passed(WhEngine *engine, WhDelivery *delivery);

/* The settings were reloaded: whatever waits for the proxy is tried at once. */
extern void wh_detour_forget(WhEngine *engine);

/* That the delivery's endpoint may have something due then. */
extern WhWake wh_wake_for(const WhDelivery *delivery, TimestampTz due_at);

/* Records what came back, when there is enough of it or it has waited long enough. */
extern void wh_results_record(WhEngine *engine, TimestampTz now);

/* Lets go of what was recorded, when it is on disk; sees to that when it has waited long enough. */
extern void wh_results_settle(WhEngine *engine, TimestampTz now);

/* Counts what was given up unsent. */
extern void wh_results_count_expired(WhEngine *engine);

/* Tries again what could not be recorded. */
extern void wh_results_record_stuck(WhEngine *engine, TimestampTz now);

#endif
