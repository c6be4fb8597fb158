/*
 * A hash table of endpoints, a list of the ready ones, a heap of the waiting ones.
 *
 * Endpoints about which nothing is known are kept for a while, for their options and their cursor,
 * and the longest idle of them are dropped when they are many: memory follows the endpoints at
 * work, not the endpoints there are.
 */
#include "postgres.h"

#include "settings.h"
#include "shmem.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/scheduler.h"

#define IDLE_MAX 16384
#define TURN 8					/* rows an endpoint may have read when its turn comes: each turn
								 * costs a search */

struct WhScheduler
{
	HTAB	   *endpoints;
	dlist_head	ready;
	int			ready_count;
	pairingheap *waiting;		/* by next_at, earliest first */
	dlist_head	idle;			/* longest idle first */
	int			idle_count;
};

static int
compare_next_at(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	TimestampTz at_a = pairingheap_const_container(WhEndpoint, timer, a)->next_at;
	TimestampTz at_b = pairingheap_const_container(WhEndpoint, timer, b)->next_at;

	return at_a < at_b ? 1 : at_a > at_b ? -1 : 0;
}

WhConfig *
wh_config_hold(WhConfig *config)
{
	config->references++;
	return config;
}

void
wh_config_release(WhConfig *config)
{
	if (config == NULL || --config->references > 0)
		return;
	pfree(config->tenant_id);
	pfree(config->url);
	for (int i = 0; i < config->header_count; i++)
		pfree(config->headers[i]);
	pfree(config->headers);
	pfree(config->keys);
	if (config->waits_ms)
		pfree(config->waits_ms);
	pfree(config);
}

int
wh_endpoint_cap(const WhEndpoint *endpoint)
{
	if (endpoint->config && endpoint->config->max_in_flight > 0)
		return endpoint->config->max_in_flight;
	return wh_max_in_flight_per_endpoint;
}

WhScheduler *
wh_scheduler_create(MemoryContext context)
{
	MemoryContext before = MemoryContextSwitchTo(context);
	WhScheduler *s = palloc0(sizeof(WhScheduler));
	HASHCTL		ctl = {
		.keysize = sizeof(pg_uuid_t),
		.entrysize = sizeof(WhEndpoint),
		.hcxt = context
	};

	s->endpoints = hash_create("webhooks endpoints", 1024, &ctl,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	s->waiting = pairingheap_allocate(compare_next_at, NULL);
	dlist_init(&s->ready);
	dlist_init(&s->idle);
	MemoryContextSwitchTo(before);
	return s;
}

/* Takes the endpoint from where it stands. */
static void
lift(WhScheduler *s, WhEndpoint *e)
{
	switch (e->place)
	{
		case WH_IDLE:
			dlist_delete(&e->node);
			s->idle_count--;
			break;
		case WH_READY:
			dlist_delete(&e->node);
			s->ready_count--;
			break;
		case WH_WAITING:
			pairingheap_remove(s->waiting, &e->timer);
			break;
		case WH_FULL:
			break;
	}
	e->place = WH_FULL;
}

static void
forget(WhScheduler *s, WhEndpoint *e)
{
	lift(s, e);
	wh_config_release(e->config);
	hash_search(s->endpoints, &e->endpoint_id, HASH_REMOVE, NULL);
}

static void
drop_longest_idle(WhScheduler *s)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &s->idle)
	{
		WhEndpoint *e = dlist_container(WhEndpoint, node, iter.cur);

		if (s->idle_count <= IDLE_MAX)
			break;
		if (e->in_hand == 0)
			forget(s, e);
	}
}

void
wh_scheduler_place(WhScheduler *s, WhEndpoint *e, TimestampTz now)
{
	lift(s, e);
	if (e->next_at == DT_NOEND)
	{
		e->place = WH_IDLE;
		dlist_push_tail(&s->idle, &e->node);
		s->idle_count++;
	}
	else if (e->next_at > now)
	{
		e->place = WH_WAITING;
		pairingheap_add(s->waiting, &e->timer);
	}
	else if (e->in_flight < wh_endpoint_cap(e))
	{
		e->place = WH_READY;
		dlist_push_tail(&s->ready, &e->node);
		s->ready_count++;
	}
}

void
wh_scheduler_wake(WhScheduler *s, const pg_uuid_t *endpoint_id, TimestampTz due_at)
{
	bool		found;
	WhEndpoint *e = hash_search(s->endpoints, endpoint_id, HASH_ENTER, &found);

	if (!found)
	{
		MemSet((char *) e + sizeof(pg_uuid_t), 0, sizeof(WhEndpoint) - sizeof(pg_uuid_t));
		e->place = WH_FULL;
		e->cursor.due_at = due_at;
		e->next_at = due_at;
	}
	if (due_at <= e->cursor.due_at)
	{
		e->cursor.due_at = due_at;
		memset(&e->cursor.delivery_id, 0, sizeof(pg_uuid_t));
	}
	if (found && e->place == WH_READY)
		e->next_at = Min(e->next_at, due_at);	/* keeps its turn */
	else
	{
		lift(s, e);				/* next_at orders the heap: not to be changed within it */
		e->next_at = Min(e->next_at, due_at);
		wh_scheduler_place(s, e, GetCurrentTimestamp());
	}
	if (!found)
		drop_longest_idle(s);
}

/* Moves those whose time has come from waiting to ready. */
static void
advance(WhScheduler *s, TimestampTz now)
{
	while (!pairingheap_is_empty(s->waiting))
	{
		WhEndpoint *e = pairingheap_container(WhEndpoint, timer, pairingheap_first(s->waiting));

		if (e->next_at > now)
			break;
		wh_scheduler_place(s, e, now);
	}
}

int
wh_scheduler_pick(WhScheduler *s, TimestampTz now, int room, WhPick *picks, int max_picks)
{
	int			count = 0;
	int			share;

	advance(s, now);
	share = s->ready_count > 0 ? Max(TURN, room / s->ready_count) : 0;
	while (count < max_picks && room > 0 && !dlist_is_empty(&s->ready))
	{
		WhEndpoint *e = dlist_container(WhEndpoint, node, dlist_head_node(&s->ready));
		int			limit = Min(Min(share, room), wh_endpoint_cap(e) - e->in_flight);

		lift(s, e);
		if (limit <= 0)
			continue;			/* its cap went down while it stood there */
		picks[count++] = (WhPick) {.endpoint = e, .limit = limit, .from = e->cursor};
		room -= limit;
	}
	return count;
}

TimestampTz
wh_scheduler_next(WhScheduler *s, TimestampTz now)
{
	if (!dlist_is_empty(&s->ready))
		return now;
	if (pairingheap_is_empty(s->waiting))
		return DT_NOEND;
	return pairingheap_container(WhEndpoint, timer, pairingheap_first(s->waiting))->next_at;
}

void
wh_scheduler_forget_configs(WhScheduler *s)
{
	HASH_SEQ_STATUS scan;
	WhEndpoint *e;

	hash_seq_init(&scan, s->endpoints);
	while ((e = hash_seq_search(&scan)) != NULL)
	{
		wh_config_release(e->config);
		e->config = NULL;
	}
}

void
wh_scheduler_drop_shards(WhScheduler *s, uint64 shards)
{
	HASH_SEQ_STATUS scan;
	WhEndpoint *e;

	hash_seq_init(&scan, s->endpoints);
	while ((e = hash_seq_search(&scan)) != NULL)
		if (shards & (UINT64CONST(1) << wh_shard(&e->endpoint_id)))
			forget(s, e);
}
