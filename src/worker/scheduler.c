/*
 * Hash tables of endpoints and of their tenants, a list of the tenants that have ready ones, a heap
 * of the waiting ones.
 *
 * Endpoints about which nothing is known are kept for a while, for their options and their cursor,
 * and the longest idle of them are dropped when they are many: memory follows the endpoints at
 * work, not the endpoints there are.
 *
 * Tenants that must wait for more free places are passed over where they stand. They are few: each
 * has at least as much in hand as places are free, and all together webhooks.max_in_flight at most.
 */
#include "postgres.h"

#include "open_breakers.h"
#include "secret.h"
#include "settings.h"
#include "shmem.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/lane.h"
#include "worker/scheduler.h"

#define IDLE_MAX 16384
#define IDLE_CHECKS 8			/* idle endpoints looked at for a wake, of those that are too many */
#define TURN 8					/* rows an endpoint may have read when its turn comes: each turn
								 * costs a search */
#define REREAD_US (60 * USECS_PER_SEC)	/* between looks at the queue of one that is at work */
#define TENANT_FACTOR 4			/* a tenant may have in hand so many times the free places */

struct WhScheduler
{
	HTAB	   *endpoints;
	HTAB	   *tenants;
	dlist_head	turns;			/* tenants with ready endpoints */
	int			turn_count;
	int			ready_count;	/* their endpoints */
	uint32		round;			/* of picking */
	pairingheap *waiting;		/* by ready_at, earliest first */
	int			paced_count;
	dlist_head	idle;			/* longest idle first */
	int			idle_count;
};

static int
compare_ready_at(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	TimestampTz at_a = pairingheap_const_container(WhEndpoint, heap_node, a)->ready_at;
	TimestampTz at_b = pairingheap_const_container(WhEndpoint, heap_node, b)->ready_at;

	return at_a < at_b ? 1 : at_a > at_b ? -1 : 0;
}

static int
compare_in_flight(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	return pairingheap_const_container(WhEndpoint, heap_node, b)->in_flight -
		pairingheap_const_container(WhEndpoint, heap_node, a)->in_flight;
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
	{
		wh_secret_wipe(config->headers[i]);
		pfree(config->headers[i]);
	}
	if (config->headers)
		pfree(config->headers);
	if (config->keys)
	{
		explicit_bzero(config->keys, config->key_count * sizeof(WhSigningKey));
		pfree(config->keys);
	}
	if (config->certificate)
	{
		wh_secret_wipe(config->certificate->key);
		pfree(config->certificate->key);
		pfree(config->certificate->certificate);
		pfree(config->certificate);
	}
	if (config->target.authority)
	{
		pfree(config->target.authority);
		pfree(config->target.path);
	}
	if (config->target.query)
		pfree(config->target.query);
	if (config->waits_ms)
		pfree(config->waits_ms);
	if (config->retry_on)
		pfree(config->retry_on);
	if (config->api_version)
		pfree(config->api_version);
	pfree(config);
}


/* ---- what an endpoint may be sent ---- */

static int
cap(const WhEndpoint *e)
{
	if (e->config && e->config->max_in_flight > 0)
		return e->config->max_in_flight;
	return wh_max_in_flight_per_endpoint;
}

static bool
has_rate(const WhEndpoint *e)
{
	return e->config && e->config->rate_limit > 0;
}

/* Whatever is due, nothing is to be sent before. DT_NOEND: until its probe is answered. */
static TimestampTz
held_until(WhEndpoint *e, TimestampTz now)
{
	TimestampTz at = Max(wh_breaker_until_us(&e->breaker), e->detour.held_until);

	if (has_rate(e))
		at = Max(at, now + wh_rate_wait_us(&e->rate, e->config->rate_limit, e->unsent, now));
	return at;
}

int
wh_endpoint_allowance(WhEndpoint *e, TimestampTz now)
{
	int			rows = cap(e) - e->in_flight;

	if (Max(wh_breaker_until_us(&e->breaker), e->detour.held_until) > now)
		return 0;
	if (wh_breaker_is_open(&e->breaker))
		rows = Min(rows, 1);	/* a probe */
	if (has_rate(e))
		rows = Min(rows, wh_rate_tokens(&e->rate, e->config->rate_limit, now) - e->unsent);
	return Max(rows, 0);
}

void
wh_endpoint_drop_breaker(WhEndpoint *e)
{
	e->breaker = (WhBreaker) {0};
	if (e->breaker_open_since != 0)
		wh_open_breaker_withdraw(&e->endpoint_id);
	e->breaker_open_since = 0;
}


/* ---- places ---- */

static HTAB *
create_hash(const char *name, Size key_size, Size entry_size)
{
	HASHCTL		ctl = {
		.keysize = key_size, .entrysize = entry_size, .hcxt = CurrentMemoryContext
	};

	return hash_create(name, 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

WhScheduler *
wh_scheduler_create(MemoryContext context)
{
	MemoryContext before = MemoryContextSwitchTo(context);
	WhScheduler *s = palloc0(sizeof(WhScheduler));

	s->endpoints = create_hash("webhooks endpoints", sizeof(pg_uuid_t), sizeof(WhEndpoint));
	s->tenants = create_hash("webhooks tenants", sizeof(uint32), sizeof(WhTenant));
	s->waiting = pairingheap_allocate(compare_ready_at, NULL);
	dlist_init(&s->turns);
	dlist_init(&s->idle);
	MemoryContextSwitchTo(before);
	return s;
}

/* One of the tenant's endpoints is no longer ready. */
static void
leave_turns(WhScheduler *s, WhTenant *t)
{
	s->ready_count--;
	if (--t->ready_count > 0)
		return;
	dlist_delete(&t->node);
	s->turn_count--;
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
			leave_turns(s, e->tenant);
			break;
		case WH_CROWDED:
			pairingheap_remove(&e->tenant->crowded, &e->heap_node);
			leave_turns(s, e->tenant);
			break;
		case WH_WAITING:
			pairingheap_remove(s->waiting, &e->heap_node);
			s->paced_count -= e->paced;
			break;
		case WH_FULL:
			break;
	}
	e->place = WH_FULL;
}

static void
stand_idle(WhScheduler *s, WhEndpoint *e)
{
	e->place = WH_IDLE;
	dlist_push_tail(&s->idle, &e->node);
	s->idle_count++;
}

static void
stand_waiting(WhScheduler *s, WhEndpoint *e, TimestampTz ready_at, bool paced)
{
	e->place = WH_WAITING;
	e->ready_at = ready_at;
	e->paced = paced;
	s->paced_count += paced;
	pairingheap_add(s->waiting, &e->heap_node);
}

static void
stand_ready(WhScheduler *s, WhEndpoint *e)
{
	e->place = WH_READY;
	dlist_push_tail(&e->tenant->ready, &e->node);
	s->ready_count++;
	if (e->tenant->ready_count++ > 0)
		return;
	dlist_push_tail(&s->turns, &e->tenant->node);
	s->turn_count++;
}

void
wh_scheduler_place(WhScheduler *s, WhEndpoint *e, TimestampTz now)
{
	TimestampTz held;

	lift(s, e);
	e->tenant->promised -= e->promised;
	e->promised = 0;
	if (e->next_at == DT_NOEND)
	{
		stand_idle(s, e);
		return;
	}
	held = held_until(e, now);
	if (Max(e->next_at, held) > now)
	{
		if (held != DT_NOEND)
			stand_waiting(s, e, Max(e->next_at, held),
						  e->next_at <= now && e->detour.held_until <= now &&
						  !wh_breaker_is_open(&e->breaker));
	}
	else if (e->in_flight < cap(e))
		stand_ready(s, e);
}


/* ---- endpoints come and go ---- */

/*
 * This may run out of memory, so it comes before anything is changed. A tenant that no endpoint
 * joins then does no harm.
 */
static WhTenant *
enter_tenant(WhScheduler *s, uint32 hash)
{
	bool		found;
	WhTenant   *t = hash_search(s->tenants, &hash, HASH_ENTER, &found);

	if (!found)
	{
		*t = (WhTenant) {.hash = hash, .crowded.ph_compare = compare_in_flight};
		dlist_init(&t->ready);
	}
	return t;
}

static void
join_tenant(WhEndpoint *e, WhTenant *t)
{
	t->endpoint_count++;
	t->in_hand += e->in_hand;
	e->tenant = t;
}

/* Lifted before. */
static void
leave_tenant(WhScheduler *s, WhEndpoint *e)
{
	e->tenant->in_hand -= e->in_hand;
	if (--e->tenant->endpoint_count == 0)
		hash_search(s->tenants, &e->tenant->hash, HASH_REMOVE, NULL);
}

static WhEndpoint *
find_or_enter(WhScheduler *s, const WhWake *wake)
{
	WhEndpoint *e = hash_search(s->endpoints, &wake->endpoint_id, HASH_FIND, NULL);

	if (e == NULL)
	{
		WhTenant   *t = enter_tenant(s, wake->tenant);

		e = hash_search(s->endpoints, &wake->endpoint_id, HASH_ENTER, NULL);
		*e = (WhEndpoint) {
			.endpoint_id = wake->endpoint_id, .place = WH_FULL, .next_at = DT_NOEND,
			.cursor.due_at = wake->due_at, .looked_at = GetCurrentTimestamp()
		};
		dlist_init(&e->open_lanes);
		dlist_init(&e->lanes);
		join_tenant(e, t);
	}
	else if (e->tenant->hash != wake->tenant && wake->tenant != WH_TENANT_UNKNOWN)
	{
		WhTenant   *t = enter_tenant(s, wake->tenant);

		lift(s, e);
		leave_tenant(s, e);
		join_tenant(e, t);
	}
	return e;
}

static void
forget(WhScheduler *s, WhEndpoint *e)
{
	lift(s, e);
	leave_tenant(s, e);
	wh_lanes_forget(e, true);	/* all of them: nothing is in hand */
	wh_config_release(e->config);
	wh_endpoint_drop_breaker(e);
	hash_search(s->endpoints, &e->endpoint_id, HASH_REMOVE, NULL);
}

/* One that is held is kept: it would come back with a token, or a closed breaker. */
static void
drop_longest_idle(WhScheduler *s, TimestampTz now, int checks)
{
	for (int i = 0; i < checks && s->idle_count > IDLE_MAX; i++)
	{
		WhEndpoint *e = dlist_container(WhEndpoint, node, dlist_head_node(&s->idle));

		if (e->in_hand == 0 && held_until(e, now) <= now)
			forget(s, e);
		else
			dlist_move_tail(&s->idle, &e->node);
	}
}

/* What was known of it before it was changed. */
static void
forget_options(WhEndpoint *e, TimestampTz now)
{
	wh_lanes_forget(e, true);
	wh_config_release(e->config);
	e->config = NULL;			/* with its rate */
	wh_breaker_hurry(&e->breaker, now);
	e->detour = (WhDetour) {0};
}

void
wh_scheduler_wake(WhScheduler *s, const WhWake *wake)
{
	TimestampTz now = GetCurrentTimestamp();
	WhEndpoint *e = find_or_enter(s, wake);
	TimestampTz from = wake->lanes ? DT_NOBEGIN : wake->due_at;	/* rows passed over are read
																 * again */

	if (wake->due_at == DT_NOBEGIN)
		forget_options(e, now);
	else if (wake->lanes)
		wh_lanes_forget(e, false);
	if (from <= e->cursor.due_at)
	{
		e->cursor.due_at = from;
		memset(&e->cursor.delivery_id, 0, sizeof(pg_uuid_t));
	}
	e->next_at = Min(e->next_at, wake->due_at);
	if (e->place != WH_READY)	/* these keep their turn */
		wh_scheduler_place(s, e, now);
	drop_longest_idle(s, now, IDLE_CHECKS);
}

bool
wh_scheduler_at_work(const WhScheduler *s, const pg_uuid_t *endpoint_id, TimestampTz now)
{
	WhEndpoint *e = hash_search(s->endpoints, endpoint_id, HASH_FIND, NULL);

	return e && (e->in_hand > 0 || e->next_at <= now) && now < e->looked_at + REREAD_US;
}

void
wh_scheduler_found(WhScheduler *s, const WhWake *wake, TimestampTz now)
{
	WhEndpoint *e;

	wh_scheduler_wake(s, wake);
	e = hash_search(s->endpoints, &wake->endpoint_id, HASH_FIND, NULL);
	if (e)						/* it may have been one idle too many */
		e->looked_at = now;
}

/* Moves those whose time has come from waiting to ready. */
static void
advance(WhScheduler *s, TimestampTz now)
{
	while (!pairingheap_is_empty(s->waiting))
	{
		WhEndpoint *e = pairingheap_container(WhEndpoint, heap_node,
											  pairingheap_first(s->waiting));

		if (e->ready_at > now)
			break;
		wh_scheduler_place(s, e, now);
	}
}


/* ---- turns ---- */

/* A tenant alone takes nothing from anybody. */
static bool
tenant_is_crowded(const WhScheduler *s, const WhTenant *t, int places)
{
	return t->in_hand + t->promised >= TENANT_FACTOR * places &&
		hash_get_num_entries(s->tenants) > 1;
}

static WhEndpoint *
least_crowded(WhTenant *t, int places)
{
	WhEndpoint *e;

	if (pairingheap_is_empty(&t->crowded))
		return NULL;
	e = pairingheap_container(WhEndpoint, heap_node, pairingheap_first(&t->crowded));
	return e->in_flight < places ? e : NULL;
}

/* The tenant's endpoint whose turn it is, or NULL. */
static WhEndpoint *
first_of_tenant(WhTenant *t, int places)
{
	while (!dlist_is_empty(&t->ready))
	{
		WhEndpoint *e = dlist_container(WhEndpoint, node, dlist_head_node(&t->ready));

		if (e->in_flight < places)
			return e;
		dlist_delete(&e->node);
		e->place = WH_CROWDED;
		pairingheap_add(&t->crowded, &e->heap_node);
	}
	return least_crowded(t, places);
}

/* The endpoint whose turn it is, or NULL. Its tenant is then the last. */
static WhEndpoint *
take_turn(WhScheduler *s, int places)
{
	dlist_iter	iter;

	dlist_foreach(iter, &s->turns)
	{
		WhTenant   *t = dlist_container(WhTenant, node, iter.cur);
		WhEndpoint *e = tenant_is_crowded(s, t, places) ? NULL : first_of_tenant(t, places);

		if (e)
		{
			dlist_move_tail(&s->turns, &t->node);
			return e;
		}
	}
	return NULL;
}

/* How many of the free places the endpoint and its tenant may take. */
static int
fair_part(const WhScheduler *s, const WhEndpoint *e, int places)
{
	const WhTenant *t = e->tenant;
	int			rows = (places - e->in_flight + 1) / 2;

	if (hash_get_num_entries(s->tenants) > 1)
		rows = Min(rows, (TENANT_FACTOR * places - t->in_hand - t->promised + TENANT_FACTOR) /
				   (TENANT_FACTOR + 1));
	return rows;
}

int
wh_scheduler_pick(WhScheduler *s, TimestampTz now, WhRoom room, WhPick *picks, int max_picks)
{
	int			count = 0;
	int			tenant_share;
	WhEndpoint *e;

	drop_longest_idle(s, now, max_picks);	/* as many as the last pick may have left idle */
	advance(s, now);
	s->round++;
	tenant_share = s->turn_count > 0 ? room.rows / s->turn_count : 0;
	for (int turns = s->ready_count; turns > 0 && count < max_picks && room.rows > 0 &&
		 (e = take_turn(s, room.places)) != NULL; turns--)
	{
		WhTenant   *t = e->tenant;
		int			limit;

		if (t->round != s->round)
			t->share = tenant_share / t->ready_count;
		t->round = s->round;

		/* one that was never read has little, as a rule: in a crowd it is asked for one row */
		limit = Max(e->config ? TURN : 1, t->share);
		limit = Min(Min(limit, room.rows), fair_part(s, e, room.places));
		limit = Min(limit, wh_endpoint_allowance(e, now));
		if (limit <= 0)
		{
			wh_scheduler_place(s, e, now);	/* its cap went down while it stood there */
			continue;
		}
		lift(s, e);
		e->promised = limit;
		t->promised += limit;
		picks[count++] = (WhPick) {.endpoint = e, .limit = limit, .from = e->cursor};
		room.rows -= limit;
		room.places -= limit;
	}
	return count;
}

TimestampTz
wh_scheduler_next(WhScheduler *s, TimestampTz now, int places)
{
	dlist_iter	iter;

	dlist_foreach(iter, &s->turns)
	{
		WhTenant   *t = dlist_container(WhTenant, node, iter.cur);

		if (!tenant_is_crowded(s, t, places) &&
			(!dlist_is_empty(&t->ready) || least_crowded(t, places)))
			return now;
	}
	if (pairingheap_is_empty(s->waiting))
		return DT_NOEND;
	return pairingheap_container(WhEndpoint, heap_node, pairingheap_first(s->waiting))->ready_at;
}

bool
wh_scheduler_paced(const WhScheduler *s)
{
	return s->paced_count > 0;
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
wh_scheduler_forget_detours(WhScheduler *s)
{
	HASH_SEQ_STATUS scan;
	WhEndpoint *e;

	hash_seq_init(&scan, s->endpoints);
	while ((e = hash_seq_search(&scan)) != NULL)
	{
		bool		held = e->detour.held_until > 0;

		e->detour = (WhDetour) {0};
		if (held && e->place == WH_WAITING)
			wh_scheduler_place(s, e, GetCurrentTimestamp());
	}
}

void
wh_scheduler_drop_shards(WhScheduler *s, uint64 shards)
{
	HASH_SEQ_STATUS scan;
	WhEndpoint *e;

	hash_seq_init(&scan, s->endpoints);
	while ((e = hash_seq_search(&scan)) != NULL)
		if (shards & wh_shard_bit(wh_shard(&e->endpoint_id)))
			forget(s, e);
}
