/*
 * Lanes: an endpoint's deliveries that are sent one after the other, in the order of their ids. The
 * next one goes when the end of the one before is recorded; one that waits for its retry holds back
 * those behind it. In memory only, and only of lanes that have something under way: the queue tells
 * the rest.
 */
#ifndef WH_WORKER_LANE_H
#define WH_WORKER_LANE_H

#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/snapshot.h"
#include "worker/scheduler.h"

#define WH_LANE_PENDING_MAX 4

typedef enum WhLaneState
{
	WH_LANE_OPEN,				/* its first delivery is to be looked up */
	WH_LANE_HALF_READ,			/* the same, and the lookup has begun */
	WH_LANE_BUSY,				/* its first delivery is in hand */
	WH_LANE_WAITING				/* its first delivery is not due before head_due_at */
} WhLaneState;

typedef struct WhLaneKey
{
	pg_uuid_t	endpoint_id;
	int64		number;			/* queue.lane */
} WhLaneKey;

typedef struct WhLane
{
	WhLaneKey	key;			/* hash key: first */
	HTAB	   *table;
	WhEndpoint *endpoint;
	WhLaneState state;
	bool		more;			/* deliveries behind the first were seen */
	TimestampTz head_due_at;
	pg_uuid_t	from;			/* none before it is queued, save by pending; zeros: not known */
	pg_uuid_t	pending_from;	/* none before it is queued by those either */
	TransactionId pending[WH_LANE_PENDING_MAX]; /* were under way when their rows were passed over */
	int			pending_count;
	dlist_node	node;			/* of the endpoint's open lanes, or of its others */
} WhLane;

/* The table of a process's lanes, in context; each lane must go before its endpoint does. */
extern HTAB *wh_lanes_create(MemoryContext context);

/* A lane that was not there is open, with nothing known of it. */
extern WhLane *wh_lane_enter(HTAB *lanes, WhEndpoint *endpoint, int64 number);

/* NULL: nothing of it is under way. */
extern WhLane *wh_lane_find(HTAB *lanes, const pg_uuid_t *endpoint_id, int64 number);

extern void wh_lane_set(WhLane *lane, WhLaneState state);

/* If it waits for a delivery that is due by now, its first is to be looked up. */
extern void wh_lane_open_if_due(WhLane *lane, TimestampTz now);

/* A delivery of the lane was seen. */
extern void wh_lane_note(WhLane *lane, const pg_uuid_t *delivery_id);

/* A lookup begins, or goes on, from lane->from on: what the snapshot shows must stand there. */
extern void wh_lane_read(WhLane *lane, Snapshot snapshot);

/*
 * At lane->from stands a row of a transaction that is under way. False: there are too many such
 * transactions, and from must not move past the row until a delivery is found.
 */
extern bool wh_lane_pass(WhLane *lane, TransactionId xid);

/* Its delivery in hand ended. Returns whether the endpoint is to be read again. */
extern bool wh_lane_end(WhLane *lane);

extern void wh_lane_drop(WhLane *lane);

/*
 * The endpoint's queue may have changed altogether: what is not in hand is looked up again. A
 * lookup that takes several turns may be left to go on, lest it never end.
 */
extern void wh_lanes_forget(WhEndpoint *endpoint, bool half_read);

#endif
