/*
 * A delivery is "in hand" from its fetch until its result is recorded. What is in hand is never
 * fetched again, so nothing is in flight twice; and no more than webhooks.max_in_flight are in
 * hand, so no crash repeats more than that many.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "id.h"
#include "open_breakers.h"
#include "utils/timestamp.h"
#include "worker/engine_state.h"
#include "worker/headers.h"

#define PICKS_MAX 128			/* endpoints read by one fetch */
#define STARVED_WAIT_MS 1000	/* after descriptors or memory were wanting */
#define STARVED_LOG_MS 60000	/* without that, before it is logged again */

WhWake
wh_wake_for(const WhDelivery *d, TimestampTz due_at)
{
	return (WhWake)
	{
		.endpoint_id = d->endpoint->endpoint_id, .due_at = due_at,
		.tenant = d->endpoint->tenant->hash
	};
}

static void
enter_in_hand(WhEngine *e, WhDelivery *d)
{
	bool		found;
	WhInHand   *entry = hash_search(e->queue.in_hand, &d->delivery_id, HASH_ENTER, &found);

	Assert(!found);
	entry->delivery = d;
	d->endpoint->in_hand++;
	d->endpoint->tenant->in_hand++;
	e->shard_in_hand[wh_shard(&d->endpoint->endpoint_id)]++;
	e->in_hand++;
}

void
wh_hand_withdraw(WhEngine *e, WhDelivery *d)
{
	if (d->index < 0)
		return;
	wh_slot_in_flight(d->index, NULL);
	e->free_indexes[e->free_index_count++] = d->index;
	d->index = -1;
}

void
wh_hand_leave(WhEngine *e, WhDelivery *d)
{
	hash_search(e->queue.in_hand, &d->delivery_id, HASH_REMOVE, NULL);
	d->endpoint->in_hand--;
	d->endpoint->tenant->in_hand--;
	e->shard_in_hand[wh_shard(&d->endpoint->endpoint_id)]--;
	e->in_hand--;
	wh_hand_withdraw(e, d);
	wh_request_clear(&d->request);
	wh_config_release(d->config);
	if (d->headers)
		pfree(d->headers);
	pfree(d);
}

/* Lets sessions see an open breaker, and a closed one no longer. */
static void
publish_breaker(WhEndpoint *endpoint, TimestampTz now)
{
	WhBreaker  *breaker = &endpoint->breaker;
	WhOpenBreaker open = {
		.endpoint_id = endpoint->endpoint_id, .next_probe_at = breaker->probe_at_us,
		.probing = breaker->probing
	};

	if (wh_breaker_is_open(breaker))
	{
		if (endpoint->breaker_open_since == 0)
			endpoint->breaker_open_since = now;
		open.since = endpoint->breaker_open_since;
		wh_open_breaker_publish(&open);
	}
	else if (endpoint->breaker_open_since != 0)
	{
		endpoint->breaker_open_since = 0;
		wh_open_breaker_withdraw(&endpoint->endpoint_id);
	}
}

/* In the transaction of the fetch: takes the row, and sends nothing yet. */
static void
take_delivery(WhDelivery *d, void *state)
{
	WhEngine   *e = state;

	d->config = wh_config_hold(d->endpoint->config);
	d->index = -1;
	d->recorded = false;
	d->requeued_at = DT_NOEND;
	enter_in_hand(e, d);
	d->endpoint->in_flight++;
	d->endpoint->unsent++;
	d->probe = wh_breaker_is_open(&d->endpoint->breaker);
	if (d->probe)
	{
		wh_breaker_begin_probe(&d->endpoint->breaker);
		publish_breaker(d->endpoint, 0);
	}
	dlist_push_tail(&e->taken, &d->node);
}

/* It was taken and is not sent: its row stands in the queue as it was. */
static void
let_go(WhEngine *e, WhDelivery *d)
{
	if (d->probe)
	{
		wh_breaker_drop_probe(&d->endpoint->breaker);
		publish_breaker(d->endpoint, 0);
	}
	if (d->lane)
		wh_lane_set(d->lane, WH_LANE_OPEN);
	d->endpoint->in_flight--;
	d->endpoint->unsent--;
	wh_hand_leave(e, d);
}

/* The fetch failed half-way: puts back what it took. */
static void
untake(WhEngine *e, WhPick *picks, int count)
{
	while (!dlist_is_empty(&e->taken))
		let_go(e, dlist_container(WhDelivery, node, dlist_pop_head_node(&e->taken)));
	for (int i = 0; i < count; i++)
	{
		picks[i].endpoint->cursor = picks[i].from;
		picks[i].endpoint->next_at = picks[i].from.due_at;
	}
}

static WhVerdict
decide(const WhDelivery *d)
{
	const WhConfig *config = d->endpoint->config ? d->endpoint->config : d->config;
	const WhRetrySchedule *schedule = wh_setting_retry_schedule();
	WhRetryPolicy policy = {
		.waits_ms = config->waits_ms ? config->waits_ms : schedule->waits_ms,
		.wait_count = config->waits_ms ? config->wait_count : schedule->wait_count,
		.statuses = config->retry_on ? config->retry_on : wh_setting_retry_on(),
		.jitter = wh_retry_jitter
	};

	return wh_retry_decide(&policy, &d->request.answer, d->attempt,
						   pg_prng_double(&pg_global_prng_state));
}

static void
note_answer(const WhDelivery *d, TimestampTz now)
{
	WhBreakerChange change = wh_breaker_note(&d->endpoint->breaker, &d->request.answer, d->probe,
											 d->attempted_at, now);
	char	   *id;

	publish_breaker(d->endpoint, now);
	if (change == WH_BREAKER_SAME)
		return;
	id = wh_uuid_text(&d->endpoint->endpoint_id);
	if (change == WH_BREAKER_OPENED)
		ereport(LOG,
				(errmsg("webhooks: endpoint %s fails; probing it until it answers", id),
				 errdetail("Its deliveries wait in the queue and keep their attempts.")));
	else
		ereport(LOG,
				(errmsg("webhooks: endpoint %s answers again", id)));
	pfree(id);
}

/* A retry is not due later than the delivery expires, nor made when it has. */
static void
mind_expiry(WhDelivery *d, TimestampTz now)
{
	if (d->verdict.outcome != WH_RETRYING)
		return;
	if (d->expires_at <= now)
		d->verdict = (WhVerdict) {.outcome = WH_DEAD_LETTER, .reason = WH_DEAD_EXPIRED};
	else
		d->next_attempt_at = Min(wh_later(now, d->verdict.wait_ms), d->expires_at);
}

/* The answer is in, or there will be none. */
static void
finish_delivery(WhEngine *e, WhDelivery *d)
{
	TimestampTz now = GetCurrentTimestamp();

	d->verdict = decide(d);
	mind_expiry(d, now);
	d->endpoint->in_flight--;
	e->in_flight--;
	note_answer(d, now);
	wh_scheduler_place(e->queue.scheduler, d->endpoint, now);

	if (e->result_count++ == 0)
		e->record_at = wh_later(now, WH_FLUSH_MS);
	if (d->lane)
		e->record_at = Min(e->record_at, wh_later(now, WH_FLUSH_LANE_MS));
	dlist_push_tail(&e->results, &d->node);
}

static void
send_delivery(WhEngine *e, WhDelivery *d)
{
	WhInFlight	entry = {.delivery_id = d->delivery_id, .endpoint_id = d->endpoint->endpoint_id};

	d->attempted_at = entry.started_at = GetCurrentTimestamp();
	d->index = e->free_indexes[--e->free_index_count];
	wh_slot_in_flight(d->index, &entry);
	e->in_flight++;
	d->endpoint->unsent--;
	if (d->config->rate_limit > 0)
		wh_rate_take(&d->endpoint->rate, d->config->rate_limit, d->attempted_at);

	d->request.url = d->config->url;
	d->request.url_allowed_by = &d->config->url_allowed_by;
	d->request.certificate = d->config->certificate;
	d->request.timeout_ms = d->config->timeout_ms > 0 ? d->config->timeout_ms : wh_timeout_ms;
	if (wh_headers_make(d))
		wh_sender_start(e->sender, &d->request);
	else
	{
		d->request.answer.error_class = WH_ERROR_INTERNAL;
		strlcpy(d->request.error, "the request could not be signed", sizeof(d->request.error));
		finish_delivery(e, d);
	}
}

static void
send_taken(WhEngine *e)
{
	while (!dlist_is_empty(&e->taken))
	{
		e->started++;
		send_delivery(e, dlist_container(WhDelivery, node, dlist_pop_head_node(&e->taken)));
	}
	wh_sender_flush(e->sender);
}

void
wh_hand_put_back(WhEngine *e, WhDelivery *d)
{
	WhWake		wake = wh_wake_for(d, MIN_TIMESTAMP);	/* its queue is read from the start */

	e->started--;
	e->in_flight--;
	d->endpoint->unsent++;
	let_go(e, d);
	wh_scheduler_wake(e->queue.scheduler, &wake);
}

/*
 * Descriptors or memory were wanting, or the CA file. The delivery has not been sent, so nothing is recorded: it
 * stays in the queue, and a moment later as many are fetched as there is room for then. A line in
 * the log tells of it once, not once a request.
 */
static void
starve(WhEngine *e, WhDelivery *d)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now >= wh_later(e->starved_at, STARVED_LOG_MS))
		ereport(LOG,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("webhooks: requests have to wait: %s", d->request.error),
				 errhint("They are sent when the process has file descriptors and memory again, "
						 "and can read webhooks.ca_file.")));
	e->starved_at = now;
	e->fetch_not_before = wh_later(now, STARVED_WAIT_MS);
	wh_hand_put_back(e, d);
}

WhRoom
wh_hand_room(const WhEngine *e)
{
	int			places = Max(0, Min(wh_max_in_flight, wh_sender_capacity(e->sender)) - e->in_hand);
	int64		rows = Min(places, e->fetch_limit);

	if (e->options.max_deliveries > 0)
		rows = Min(rows, e->options.max_deliveries - e->started);
	return (WhRoom) {.places = places, .rows = (int) Max(0, rows)};
}

/*
 * A row that cannot be read must not hold up the others: after a failure the picked endpoints are
 * read a row at a time, and the row at which it fails is put off.
 */
static void
fetch_singly(WhEngine *e, WhPick *picks, int count)
{
	for (int i = 0; i < count; i++)
	{
		WhEndpoint *endpoint = picks[i].endpoint;

		picks[i].limit = 1;
		switch (wh_queue_fetch(&e->queue, &picks[i], 1, take_delivery, e))
		{
			case WH_TRANSACTION_DONE:
				endpoint->failures = 0;
				send_taken(e);
				break;
			case WH_TRANSACTION_FAILED:
				untake(e, &picks[i], 1);
				wh_engine_note(e, wh_queue_put_off(&e->queue), &e->fetch_not_before);

				/* the more of its rows are bad, the more time is left to the others */
				endpoint->next_at = wh_later(GetCurrentTimestamp(),
										  10 << Min(endpoint->failures++, 10));
				break;
			case WH_TRANSACTION_HINDERED:
				untake(e, &picks[i], count - i);
				e->fetch_not_before = wh_later(GetCurrentTimestamp(), WH_FAILURE_WAIT_MS);
				return;
			case WH_TRANSACTION_NO_EXTENSION:
				e->no_extension = true;
				return;
		}
	}
}

/*
 * What hinders a fetch may be the memory that its rows take: so the next one reads less, and when
 * that goes well, more again.
 */
static void
adapt_fetch(WhEngine *e, const WhPick *picks, int count, bool hindered)
{
	int			rows = 0;

	for (int i = 0; i < count; i++)
		rows += picks[i].limit;
	if (!hindered)
		e->fetch_limit = Min(WH_IN_FLIGHT_MAX, 2 * e->fetch_limit);
	else
	{
		e->fetch_limit = Max(1, rows / 2);
		e->fetch_not_before = wh_later(GetCurrentTimestamp(), WH_FAILURE_WAIT_MS);
	}
}

void
wh_hand_fill(WhEngine *e, TimestampTz now)
{
	WhPick		picks[PICKS_MAX];
	int			count;

	if (e->draining || e->queue.shards == 0 || now < e->fetch_not_before)
		return;
	count = wh_scheduler_pick(e->queue.scheduler, now, wh_hand_room(e), picks, PICKS_MAX);
	if (count == 0)
		return;

	switch (wh_queue_fetch(&e->queue, picks, count, take_delivery, e))
	{
		case WH_TRANSACTION_DONE:
			send_taken(e);
			adapt_fetch(e, picks, count, false);
			break;
		case WH_TRANSACTION_FAILED:
			untake(e, picks, count);
			fetch_singly(e, picks, count);
			break;
		case WH_TRANSACTION_HINDERED:
			untake(e, picks, count);
			adapt_fetch(e, picks, count, true);
			break;
		case WH_TRANSACTION_NO_EXTENSION:
			e->no_extension = true;
			break;
	}
	for (int i = 0; i < count; i++)
		wh_scheduler_place(e->queue.scheduler, picks[i].endpoint, GetCurrentTimestamp());
}

void
wh_hand_receive(WhEngine *e, WhDelivery *d)
{
	if (d->request.starved)
		starve(e, d);
	else if (wh_detour_passed(e, d))
		finish_delivery(e, d);
	else
		wh_hand_put_back(e, d);
}
