#include "postgres.h"

#include "worker/held.h"
#include "worker/lane.h"

static bool
stands_before(const WhCursor *a, const WhCursor *b)
{
	if (a->due_at != b->due_at)
		return a->due_at < b->due_at;
	return memcmp(&a->delivery_id, &b->delivery_id, UUID_LEN) < 0;
}

void
wh_held_pass_over(WhEndpoint *e, const WhCursor *place)
{
	if (e->passed_over)
	{
		/* a wake may have set the cursor back since */
		if (stands_before(place, &e->passed_from))
			e->passed_from = *place;
		return;
	}
	e->passed_over = true;
	e->passed_from = *place;
	e->again_at = 0;
}

void
wh_held_go_back(WhEndpoint *e, TimestampTz now)
{
	dlist_mutable_iter iter;

	if (!e->passed_over || e->again_at == 0 || e->again_at > now)
		return;
	e->passed_over = false;
	if (stands_before(&e->passed_from, &e->cursor))
		e->cursor = e->passed_from;
	dlist_foreach_modify(iter, &e->lanes)
		wh_lane_open_if_due(dlist_container(WhLane, node, iter.cur), now);
}

void
wh_held_come_back(WhEndpoint *e, TimestampTz now)
{
	if (!e->passed_over)
		return;
	if (e->again_at == 0 && e->next_at > now)
		e->again_at = now + WH_HELD_WAIT_US;
	if (e->again_at != 0)
		e->next_at = Min(e->next_at, e->again_at);
}
