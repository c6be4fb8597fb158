/*
 * A hash table, and two lists in each endpoint: its open lanes, which the next read looks up, and
 * the others.
 */
#include "postgres.h"

#include "utils/snapmgr.h"
#include "worker/lane.h"

HTAB *
wh_lanes_create(MemoryContext context)
{
	HASHCTL		ctl = {
		.keysize = sizeof(WhLaneKey), .entrysize = sizeof(WhLane), .hcxt = context
	};

	return hash_create("webhooks lanes", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
list(WhLane *lane)
{
	bool		open = lane->state == WH_LANE_OPEN || lane->state == WH_LANE_HALF_READ;

	dlist_push_tail(open ? &lane->endpoint->open_lanes : &lane->endpoint->lanes, &lane->node);
}

static void
start_over(WhLane *lane)
{
	memset(&lane->from, 0, sizeof(pg_uuid_t));
	lane->pending_count = 0;
}

WhLane *
wh_lane_enter(HTAB *lanes, WhEndpoint *endpoint, int64 number)
{
	WhLaneKey	key = {.endpoint_id = endpoint->endpoint_id, .number = number};
	bool		found;
	WhLane	   *lane = hash_search(lanes, &key, HASH_ENTER, &found);

	if (found)
		return lane;
	lane->table = lanes;
	lane->endpoint = endpoint;
	lane->state = WH_LANE_OPEN;
	lane->more = false;
	lane->head_due_at = 0;
	start_over(lane);
	list(lane);
	return lane;
}

WhLane *
wh_lane_find(HTAB *lanes, const pg_uuid_t *endpoint_id, int64 number)
{
	WhLaneKey	key = {.endpoint_id = *endpoint_id, .number = number};

	return hash_search(lanes, &key, HASH_FIND, NULL);
}

void
wh_lane_set(WhLane *lane, WhLaneState state)
{
	dlist_delete(&lane->node);
	lane->state = state;
	list(lane);
}

void
wh_lane_open_if_due(WhLane *lane, TimestampTz now)
{
	if (lane->state == WH_LANE_WAITING && lane->head_due_at <= now)
		wh_lane_set(lane, WH_LANE_OPEN);
}

void
wh_lane_note(WhLane *lane, const pg_uuid_t *delivery_id)
{
	/* a replay comes back to its old place */
	if (memcmp(delivery_id, &lane->from, UUID_LEN) < 0)
		start_over(lane);
}

void
wh_lane_read(WhLane *lane, Snapshot snapshot)
{
	for (int i = 0; i < lane->pending_count; i++)
		if (!XidInMVCCSnapshot(lane->pending[i], snapshot))
		{
			lane->from = lane->pending_from;
			lane->pending_count = 0;
		}
}

bool
wh_lane_pass(WhLane *lane, TransactionId xid)
{
	for (int i = 0; i < lane->pending_count; i++)
		if (lane->pending[i] == xid)
			return true;
	if (lane->pending_count == WH_LANE_PENDING_MAX)
		return false;
	if (lane->pending_count == 0)
		lane->pending_from = lane->from;
	lane->pending[lane->pending_count++] = xid;
	return true;
}

bool
wh_lane_end(WhLane *lane)
{
	if (!lane->more)
	{
		wh_lane_drop(lane);
		return false;
	}
	wh_lane_set(lane, WH_LANE_OPEN);
	return true;
}

void
wh_lane_drop(WhLane *lane)
{
	dlist_delete(&lane->node);
	hash_search(lane->table, &lane->key, HASH_REMOVE, NULL);
}

void
wh_lanes_forget(WhEndpoint *endpoint, bool half_read)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &endpoint->open_lanes)
	{
		WhLane	   *lane = dlist_container(WhLane, node, iter.cur);

		if (half_read || lane->state != WH_LANE_HALF_READ)
			wh_lane_drop(lane);
	}
	dlist_foreach_modify(iter, &endpoint->lanes)
	{
		WhLane	   *lane = dlist_container(WhLane, node, iter.cur);

		if (lane->state != WH_LANE_BUSY)
			wh_lane_drop(lane);
		else
		{
			lane->more = true;
			start_over(lane);
		}
	}
}
