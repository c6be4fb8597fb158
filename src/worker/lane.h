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
#include "worker/scheduler.h"

typedef enum WhLaneState
{
	WH_LANE_OPEN,				/* its first delivery is to be looked up */
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
	pg_uuid_t	last;			/* the last to end: none before it is queued; zeros: not known */
	dlist_node	node;			/* of the endpoint's open lanes, or of its others */
} WhLane;

/* The table of a process's lanes, in context; each lane must go before its endpoint does. */
extern HTAB *wh_lanes_create(MemoryContext context);

/* A lane that was not there is open, with nothing known of it. */
extern WhLane *wh_lane_enter(HTAB *lanes, WhEndpoint *endpoint, int64 number);

/* NULL: nothing of it is under way. */
extern WhLane *wh_lane_find(HTAB *lanes, const pg_uuid_t *endpoint_id, int64 number);

extern void wh_lane_set(WhLane *lane, WhLaneState state);

/* A delivery of the lane was seen that cannot be sent now. */
extern void wh_lane_note_more(WhLane *lane, const pg_uuid_t *delivery_id);

/* Its delivery in hand ended. Returns whether the endpoint is to be read again. */
extern bool wh_lane_end(WhLane *lane, const pg_uuid_t *delivery_id);

extern void wh_lane_drop(WhLane *lane);

/* The endpoint's queue may have changed altogether: what is not in hand is looked up again. */
extern void wh_lanes_forget(WhEndpoint *endpoint);

#endif
