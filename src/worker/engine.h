/*
 * The delivery engine: the loop that joins scheduler, queue and transport, and the only part that
 * knows both the database and the network. A background worker runs it for ever, CALL deliver_due()
 * until nothing is due.
 */
#ifndef WH_WORKER_ENGINE_H
#define WH_WORKER_ENGINE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "shmem.h"

typedef struct WhEngine WhEngine;

typedef struct WhEngineOptions
{
	bool		in_session;
	int64		max_deliveries; /* stop starting requests after so many; 0 is no limit */
} WhEngineOptions;

/* Allocated in a child of context. Raises when libcurl or descriptors are not to be had. */
extern WhEngine *wh_engine_create(MemoryContext context, WhEngineOptions options);

/*
 * Gives back locks, connections and memory. What is in flight is forgotten: its rows are still
 * queued.
 */
extern void wh_engine_destroy(WhEngine *engine);

/*
 * Asks to serve just these shards. Of those no longer wanted nothing more is taken, and they are
 * given up once nothing of them is in hand; those wanted and free are taken, now or as soon as their owner lets go.
 */
extern void wh_engine_want(WhEngine *engine, uint64 shards);

/* Settings were reloaded. */
extern void wh_engine_reload(WhEngine *engine);

/*
 * One round: take in what is new, record results, fetch, send, and wait for at most max_wait_ms.
 * Returns false when the database lacks the extension.
 */
extern bool wh_engine_step(WhEngine *engine, long max_wait_ms);

/*
 * Nothing is in flight or to be recorded, and nothing due that the engine knows of and may still
 * send.
 */
extern bool wh_engine_idle(WhEngine *engine);

/* Starts no further request, and waits until the present ones are recorded, or the time is over. */
extern void wh_engine_drain(WhEngine *engine, TimestampTz deadline);

extern WhCounts wh_engine_counts(const WhEngine *engine);

#endif
