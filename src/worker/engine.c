/*
 * One round after another: fetch what is due, hand it to the sender, record what came back. No
 * transaction is open meanwhile, and the sender's thread goes on while one is.
 *
 * A delivery is "in hand" from its fetch until its result is recorded. What is in hand is never
 * fetched again, so nothing is in flight twice; and no more than webhooks.max_in_flight are in
 * hand, so no crash repeats more than that many. A result that cannot be recorded stays in hand and
 * is tried again: it is neither lost nor re-sent.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "core/id.h"
#include "core/signature.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "settings.h"
#include "shmem.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/engine.h"
#include "worker/queue.h"
#include "worker/scheduler.h"
#include "worker/sender.h"

#define LOCK_SPACE 0x5748		/* field 4 of an advisory lock's tag; pg_advisory_lock uses 1 and
								 * 2 */

#define FLUSH_COUNT 256			/* results recorded at once, unless they wait longer than: */
#define FLUSH_MS 10
#define PICKS_MAX 256			/* endpoints read by one fetch */
#define LOOK_MS 5000			/* between looks at everything, or so many times what one took: */
#define LOOK_SHARE 20
#define MAINTAIN_MS (5 * 60 * 1000)
#define MAINTAIN_RETRY_MS (60 * 1000)
#define ACQUIRE_MS 50			/* between tries for shards another process holds */
#define FAILURE_WAIT_MS 1000	/* after a transaction failed */
#define STARVED_WAIT_MS 1000	/* after descriptors or memory were wanting */
#define STARVED_LOG_MS 60000	/* without that, before it is logged again */
#define STUCK_WAIT_MS 10000		/* between tries to record what could not be recorded */

struct WhEngine
{
	WhEngineOptions options;
	MemoryContext context;
	WhSender   *sender;
	WhQueue		queue;			/* with the scheduler and what is in hand */
	WaitEventSet *wait_set;
	WhEngineCounts counts;
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
	TimestampTz results_since;
	TimestampTz record_not_before;
	int			record_limit;	/* results of one record; small while recording is hindered */
	dlist_head	stuck;			/* in hand and answered, but could not be recorded: tried again one
								 * by one */
	TimestampTz stuck_at;
	TimestampTz fetch_not_before;
	int			fetch_limit;	/* rows of one fetch; small while fetching is hindered */
	TimestampTz starved_at;		/* last */

	bool		look_wanted;
	bool		looking;		/* a look is under way */
	pg_uuid_t	looked;			/* the last endpoint it came to */
	int64		look_cost_us;	/* so far */
	TimestampTz look_at;		/* the slow look */
	TimestampTz look_not_before;
	TimestampTz maintain_at;

	int			free_indexes[WH_IN_FLIGHT_MAX];
	int			free_index_count;
	WhWake		wakes[WH_WAKES_MAX];
};

static TimestampTz
later(TimestampTz at, int64 ms)
{
	return at + ms * 1000;
}


/* ---- shards ---- */

static LOCKTAG
shard_lock(int shard)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, shard, LOCK_SPACE);
	return tag;
}

static uint64
shard_bit(int shard)
{
	return UINT64CONST(1) << shard;
}

static void
release_unwanted(WhEngine *e)
{
	uint64		released = 0;

	for (int shard = 0; shard < WH_SHARDS; shard++)
	{
		LOCKTAG		tag = shard_lock(shard);

		if ((e->owned & ~e->wanted & shard_bit(shard)) == 0 || e->shard_in_hand[shard] > 0)
			continue;
		LockRelease(&tag, ExclusiveLock, true);
		released |= shard_bit(shard);
	}
	if (released == 0)
		return;
	e->owned &= ~released;
	e->queue.shards = e->owned & e->wanted;
	wh_slot_own(e->queue.shards);
	wh_scheduler_drop_shards(e->queue.scheduler, released);
}

static void
acquire_wanted(WhEngine *e, TimestampTz now)
{
	uint64		before = e->owned;

	if ((e->wanted & ~e->owned) == 0 || now < e->acquire_at)
		return;
	e->acquire_at = later(now, ACQUIRE_MS);
	for (int shard = 0; shard < WH_SHARDS; shard++)
	{
		LOCKTAG		tag = shard_lock(shard);

		if ((e->wanted & ~e->owned & shard_bit(shard)) &&
			LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL)
			e->owned |= shard_bit(shard);
	}
	if (e->owned == before)
		return;
	e->queue.shards = e->owned & e->wanted;

	/* First be found by whoever commits now, then look for what was committed before. */
	wh_slot_own(e->queue.shards);
	e->look_wanted = true;
	e->look_not_before = now;
}

void
wh_engine_want(WhEngine *e, uint64 shards)
{
	e->wanted = shards;
	e->queue.shards = e->owned & e->wanted;
	wh_slot_own(e->queue.shards);
	e->look_wanted = true;		/* for those taken back before they were released */
	e->acquire_at = 0;
}


/* ---- what is new ---- */

static void
note_result(WhEngine *e, WhTransactionResult result, TimestampTz *not_before)
{
	switch (result)
	{
		case WH_TRANSACTION_DONE:
			break;
		case WH_TRANSACTION_FAILED:
		case WH_TRANSACTION_HINDERED:
			*not_before = later(GetCurrentTimestamp(), FAILURE_WAIT_MS);
			break;
		case WH_TRANSACTION_NO_EXTENSION:
			e->no_extension = true;
			break;
	}
}

/* A part of a look, or nothing when none is due. */
static void
look(WhEngine *e, TimestampTz now)
{
	WhTransactionResult result;
	TimestampTz after;
	bool		done;

	if (!e->looking && !(e->look_wanted && now >= e->look_not_before) && now < e->look_at)
		return;
	if (!e->looking)
	{
		e->looking = true;
		e->look_wanted = false;
		e->look_cost_us = 0;
		memset(&e->looked, 0, sizeof(pg_uuid_t));
	}
	result = wh_queue_look(&e->queue, &e->looked, &done);
	after = GetCurrentTimestamp();
	e->look_cost_us += after - now;
	if (result == WH_TRANSACTION_DONE && !done)
		return;
	e->looking = false;
	e->look_wanted |= result != WH_TRANSACTION_DONE;
	e->look_not_before = after + LOOK_SHARE * e->look_cost_us;
	note_result(e, result, &e->look_not_before);
	e->look_at = Max(later(after, LOOK_MS), e->look_not_before);
}

static void
take_wakes(WhEngine *e, TimestampTz now)
{
	bool		overflow;
	int			count = wh_slot_take_wakes(e->wakes, &overflow);

	for (int i = 0; i < count; i++)
		if (e->queue.shards & shard_bit(wh_shard(&e->wakes[i].endpoint_id)))
			wh_scheduler_wake(e->queue.scheduler, &e->wakes[i]);
	if (overflow)
		e->look_wanted = true;
	look(e, now);				/* even with no shards: it is also how a dropped extension is
								 * noticed */
}

/*
 * One process of a database is enough: that of the first shard. A worker takes a step at a time,
 * since answers wait meanwhile; a session does it all before it sends anything.
 */
static void
maintain(WhEngine *e, TimestampTz now)
{
	WhMaintenance maintenance;

	if (now < e->maintain_at || (e->queue.shards & shard_bit(0)) == 0)
		return;
	switch (wh_queue_maintain(&e->queue, &maintenance))
	{
		case WH_TRANSACTION_DONE:
			if (maintenance.done)
				e->maintain_at = later(now, maintenance.needed ? MAINTAIN_MS : LOOK_MS);
			else if (e->options.in_session)
				maintain(e, now);
			break;
		case WH_TRANSACTION_FAILED:
		case WH_TRANSACTION_HINDERED:
			e->maintain_at = later(now, MAINTAIN_RETRY_MS);
			break;
		case WH_TRANSACTION_NO_EXTENSION:
			e->no_extension = true;
			break;
	}
}


/* ---- sending ---- */

static WhWake
wake_for(const WhDelivery *d, TimestampTz due_at)
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

static void
leave_hand(WhEngine *e, WhDelivery *d)
{
	hash_search(e->queue.in_hand, &d->delivery_id, HASH_REMOVE, NULL);
	d->endpoint->in_hand--;
	d->endpoint->tenant->in_hand--;
	e->shard_in_hand[wh_shard(&d->endpoint->endpoint_id)]--;
	e->in_hand--;
	if (d->index >= 0)
	{
		wh_slot_in_flight(d->index, NULL);
		e->free_indexes[e->free_index_count++] = d->index;
	}
	wh_request_clear(&d->request);
	wh_config_release(d->config);
	if (d->headers)
		pfree(d->headers);
	pfree(d);
}

/* In the transaction of the fetch: takes the row, and sends nothing yet. */
static void
take_delivery(WhDelivery *d, void *state)
{
	WhEngine   *e = state;

	d->config = wh_config_hold(d->endpoint->config);
	d->index = -1;
	enter_in_hand(e, d);
	d->endpoint->in_flight++;
	d->endpoint->unsent++;
	d->probe = wh_breaker_is_open(&d->endpoint->breaker);
	if (d->probe)
		wh_breaker_begin_probe(&d->endpoint->breaker);
	dlist_push_tail(&e->taken, &d->node);
}

/* It was taken and is not sent: its row stands in the queue as it was. */
static void
let_go(WhEngine *e, WhDelivery *d)
{
	if (d->probe)
		wh_breaker_drop_probe(&d->endpoint->breaker);
	if (d->lane)
		wh_lane_set(d->lane, WH_LANE_OPEN);
	d->endpoint->in_flight--;
	d->endpoint->unsent--;
	leave_hand(e, d);
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

/* "name: value" and a NUL; returns what follows. */
static char *
put_header(char *out, const char *prefix, const char *name, const char *value)
{
	out = stpcpy(out, prefix);
	out = stpcpy(out, name);
	out = stpcpy(out, ": ");
	return stpcpy(out, value) + 1;
}

/* All signatures of a request, apart by blanks. False: there is none, or OpenSSL failed. */
static bool
sign(const WhDelivery *d, const char *id, int64 timestamp_s, char *out)
{
	char	   *end = out;

	for (int i = 0; i < d->config->key_count; i++)
	{
		const WhSigningKey *key = &d->config->keys[i];

		if (key->expires_at <= d->attempted_at)
			continue;
		if (end > out)
			*end++ = ' ';
		if (!wh_signature_v1(&key->key, id, timestamp_s, d->request.body, d->request.body_len, end))
			return false;
		end += WH_SIGNATURE_V1_SIZE - 1;
	}
	return end > out;
}

/*
 * Signs anew for each attempt: a receiver that checks the timestamp's age must take a late one.
 * False: it cannot be signed. One allocation holds the list and what is new in it.
 */
static bool
make_headers(WhDelivery *d)
{
	const WhConfig *config = d->config;
	int64		timestamp_s = d->attempted_at / USECS_PER_SEC +
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	Size		list_size = (config->header_count + WH_HEADERS_FIXED) * sizeof(char *);
	Size		signatures_size = config->key_count * WH_SIGNATURE_V1_SIZE + 1;
	Size		name_size = strlen(wh_header_prefix) + sizeof("signature: ");
	char		id[WH_ID_TEXT_SIZE];
	char		timestamp[MAXINT8LEN + 1];
	char	   *signatures;
	char	   *text;
	int			n = 0;

	d->headers = palloc(list_size + 3 * name_size + sizeof(id) + sizeof(timestamp) +
						2 * signatures_size);
	text = (char *) d->headers + list_size;
	signatures = text + 3 * name_size + sizeof(id) + sizeof(timestamp) + signatures_size;
	wh_id_text(id, d->event_id.data);
	pg_lltoa(timestamp_s, timestamp);
	if (!sign(d, id, timestamp_s, signatures))
		return false;

	d->headers[n++] = "Content-Type: application/json";
	d->headers[n++] = "Expect:";	/* never wait for 100 Continue */
	d->headers[n++] = text;
	text = put_header(text, wh_header_prefix, "id", id);
	d->headers[n++] = text;
	text = put_header(text, wh_header_prefix, "timestamp", timestamp);
	d->headers[n++] = text;
	(void) put_header(text, wh_header_prefix, "signature", signatures);
	for (int i = 0; i < config->header_count; i++)
		d->headers[n++] = config->headers[i];
	d->headers[n] = NULL;
	d->request.headers = d->headers;
	return true;
}

static WhVerdict
decide(const WhDelivery *d)
{
	const WhConfig *config = d->endpoint->config ? d->endpoint->config : d->config;
	const WhRetrySchedule *schedule = wh_setting_retry_schedule();
	WhRetryPolicy policy = {
		.waits_ms = config->waits_ms ? config->waits_ms : schedule->waits_ms,
		.wait_count = config->waits_ms ? config->wait_count : schedule->wait_count,
		.statuses = config->has_retry_on ? config->retry_on : *wh_setting_retry_on(),
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

	if (change == WH_BREAKER_SAME)
		return;
	id = DatumGetCString(DirectFunctionCall1(uuid_out,
											 UUIDPGetDatum(&d->endpoint->endpoint_id)));
	if (change == WH_BREAKER_OPENED)
		ereport(LOG,
				(errmsg("webhooks: endpoint %s fails; probing it until it answers", id),
				 errdetail("Its deliveries wait in the queue and keep their attempts.")));
	else
		ereport(LOG,
				(errmsg("webhooks: endpoint %s answers again", id)));
	pfree(id);
}

/* The answer is in, or there will be none. */
static void
finish_delivery(WhEngine *e, WhDelivery *d)
{
	TimestampTz now = GetCurrentTimestamp();

	d->verdict = decide(d);
	if (d->verdict.outcome == WH_RETRYING)
		d->next_attempt_at = later(now, d->verdict.wait_ms);
	d->endpoint->in_flight--;
	e->in_flight--;
	note_answer(d, now);
	wh_scheduler_place(e->queue.scheduler, d->endpoint, now);

	if (e->result_count++ == 0)
		e->results_since = now;
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
	d->request.timeout_ms = d->config->timeout_ms > 0 ? d->config->timeout_ms : wh_timeout_ms;
	if (make_headers(d))
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

/*
 * Descriptors or memory were wanting. The delivery has not been sent, so nothing is recorded: it
 * stays in the queue, and a moment later as many are fetched as there is room for then. A line in
 * the log tells of it once, not once a request.
 */
static void
starve(WhEngine *e, WhDelivery *d)
{
	TimestampTz now = GetCurrentTimestamp();
	WhWake		wake = wake_for(d, DT_NOBEGIN);

	if (now >= later(e->starved_at, STARVED_LOG_MS))
		ereport(LOG,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("webhooks: requests have to wait: %s", d->request.error),
				 errhint("They are sent when the process has file descriptors and memory again.")));
	e->starved_at = now;
	e->fetch_not_before = later(now, STARVED_WAIT_MS);
	e->started--;
	e->in_flight--;
	d->endpoint->unsent++;
	let_go(e, d);
	wh_scheduler_wake(e->queue.scheduler, &wake);
}

static WhRoom
room(const WhEngine *e)
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
				note_result(e, wh_queue_put_off(&e->queue), &e->fetch_not_before);

				/* the more of its rows are bad, the more time is left to the others */
				endpoint->next_at = later(GetCurrentTimestamp(),
										  10 << Min(endpoint->failures++, 10));
				break;
			case WH_TRANSACTION_HINDERED:
				untake(e, &picks[i], count - i);
				e->fetch_not_before = later(GetCurrentTimestamp(), FAILURE_WAIT_MS);
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
		e->fetch_not_before = later(GetCurrentTimestamp(), FAILURE_WAIT_MS);
	}
}

static void
fetch_due(WhEngine *e, TimestampTz now)
{
	WhPick		picks[PICKS_MAX];
	int			count;

	if (e->draining || e->queue.shards == 0 || now < e->fetch_not_before)
		return;
	count = wh_scheduler_pick(e->queue.scheduler, now, room(e), picks, PICKS_MAX);
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


/* ---- recording ---- */

/* The delivery's lane goes on, or waits for its retry. */
static void
free_lane(WhEngine *e, WhDelivery *d)
{
	WhWake		wake;

	if (d->lane == NULL)
		return;
	if (d->verdict.outcome == WH_RETRYING)
	{
		d->lane->head_due_at = d->next_attempt_at;
		wh_lane_set(d->lane, WH_LANE_WAITING);
	}
	else if (wh_lane_end(d->lane, &d->delivery_id))
	{
		wake = wake_for(d, GetCurrentTimestamp());
		wh_scheduler_wake(e->queue.scheduler, &wake);
	}
}

static void
complete(WhEngine *e, WhDelivery *d)
{
	WhWake		wake;

	e->counts.attempted++;
	switch (d->verdict.outcome)
	{
		case WH_SUCCEEDED:
			e->counts.succeeded++;
			break;
		case WH_RETRYING:
			e->counts.retried++;
			wake = wake_for(d, d->next_attempt_at);
			wh_scheduler_wake(e->queue.scheduler, &wake);
			break;
		case WH_DEAD_LETTER:
			e->counts.dead_lettered++;
			break;
		case WH_CANCELLED:
			break;
	}
	free_lane(e, d);
	leave_hand(e, d);
}

static WhTransactionResult
record(WhEngine *e, WhDelivery **batch, int count)
{
	WhTransactionResult result;

	/* a request that was made must not be forgotten because the server is stopping */
	wh_transaction_hold_sigterm(true);
	result = wh_queue_record(&e->queue, batch, count);
	wh_transaction_hold_sigterm(false);

	if (result == WH_TRANSACTION_DONE)
		for (int i = 0; i < count; i++)
			complete(e, batch[i]);
	return result;
}

static void
record_singly(WhEngine *e, WhDelivery **batch, int count)
{
	for (int i = 0; i < count && !e->no_extension; i++)
	{
		switch (record(e, &batch[i], 1))
		{
			case WH_TRANSACTION_DONE:
				break;
			case WH_TRANSACTION_FAILED:
			case WH_TRANSACTION_HINDERED:
				dlist_push_tail(&e->stuck, &batch[i]->node);
				e->stuck_at = later(GetCurrentTimestamp(), STUCK_WAIT_MS);
				break;
			case WH_TRANSACTION_NO_EXTENSION:
				e->no_extension = true;
				break;
		}
	}
}

static void
record_results(WhEngine *e, TimestampTz now)
{
	while (e->result_count > 0 && !e->no_extension && now >= e->record_not_before &&
		   (e->result_count >= FLUSH_COUNT || e->in_flight == 0 ||
			now >= later(e->results_since, FLUSH_MS)))
	{
		WhDelivery *batch[FLUSH_COUNT];
		int			count = 0;

		while (count < e->record_limit && !dlist_is_empty(&e->results))
			batch[count++] = dlist_container(WhDelivery, node, dlist_pop_head_node(&e->results));
		e->result_count -= count;

		switch (record(e, batch, count))
		{
			case WH_TRANSACTION_DONE:
				e->record_limit = Min(FLUSH_COUNT, 2 * e->record_limit);
				break;
			case WH_TRANSACTION_FAILED:
				record_singly(e, batch, count);
				break;
			case WH_TRANSACTION_HINDERED:
				e->record_limit = Max(1, count / 2);	/* it may be the memory they take */
				for (int i = 0; i < count; i++)
					dlist_push_tail(&e->results, &batch[i]->node);
				e->result_count += count;
				e->record_not_before = later(GetCurrentTimestamp(), FAILURE_WAIT_MS);
				return;
			case WH_TRANSACTION_NO_EXTENSION:
				e->no_extension = true;
				break;
		}
	}
}

static void
record_stuck(WhEngine *e, TimestampTz now)
{
	WhDelivery *batch[WH_IN_FLIGHT_MAX];
	int			count = 0;

	if (dlist_is_empty(&e->stuck) || now < e->stuck_at)
		return;
	while (!dlist_is_empty(&e->stuck))
		batch[count++] = dlist_container(WhDelivery, node, dlist_pop_head_node(&e->stuck));
	record_singly(e, batch, count);
}


/* ---- waiting ---- */

bool
wh_engine_idle(WhEngine *e)
{
	TimestampTz now = GetCurrentTimestamp();

	if (e->in_flight > 0 || e->result_count > 0 || e->looking ||
		e->look_wanted)
		return false;
	if (e->options.max_deliveries > 0 && e->started >= e->options.max_deliveries)
		return true;
	return !wh_scheduler_paced(e->queue.scheduler) &&
		wh_scheduler_next(e->queue.scheduler, now, room(e).places) > now;
}

static long
until(TimestampTz now, TimestampTz at, long ms)
{
	if (at == DT_NOEND)
		return ms;
	return Min(ms, TimestampDifferenceMilliseconds(now, at));
}

static long
wait_time(WhEngine *e, long ms)
{
	TimestampTz now = GetCurrentTimestamp();
	WhRoom		left = room(e);

	if (e->result_count > 0)
		ms = until(now, Max(e->record_not_before,
							e->in_flight == 0 ? now : later(e->results_since, FLUSH_MS)), ms);
	if (!dlist_is_empty(&e->stuck))
		ms = until(now, e->stuck_at, ms);
	if (e->wanted & ~e->owned)
		ms = until(now, e->acquire_at, ms);
	if (e->looking)
		ms = 0;
	ms = until(now, e->look_wanted ? e->look_not_before : e->look_at, ms);
	if (e->queue.shards & shard_bit(0))
		ms = until(now, e->maintain_at, ms);
	if (e->queue.shards != 0 && !e->draining && left.rows > 0)
		ms = until(now, Max(e->fetch_not_before,
							wh_scheduler_next(e->queue.scheduler, now, left.places)), ms);
	return ms;
}

static void
wait_for_work(WhEngine *e, long max_wait_ms)
{
	WaitEvent	event;
	long		ms = wait_time(e, max_wait_ms);

	if ((e->options.in_session && wh_engine_idle(e)) || wh_sender_has_finished(e->sender))
		ms = 0;
	(void) WaitEventSetWait(e->wait_set, ms, &event, 1, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}


/* ---- the loop's round ---- */

static void
receive(WhEngine *e)
{
	WhRequest  *request;

	while ((request = wh_sender_finished(e->sender)) != NULL)
		if (request->starved)
			starve(e, (WhDelivery *) request);
		else
			finish_delivery(e, (WhDelivery *) request);
}

bool
wh_engine_step(WhEngine *e, long max_wait_ms)
{
	MemoryContext before = MemoryContextSwitchTo(e->context);
	TimestampTz now = GetCurrentTimestamp();

	if (!e->draining)
	{
		acquire_wanted(e, now);
		take_wakes(e, now);
		maintain(e, now);
	}
	receive(e);
	record_results(e, now);
	record_stuck(e, now);
	release_unwanted(e);
	fetch_due(e, now);
	if (!e->no_extension)
		wait_for_work(e, max_wait_ms);
	MemoryContextSwitchTo(before);
	return !e->no_extension;
}

void
wh_engine_drain(WhEngine *e, TimestampTz deadline)
{
	e->draining = true;
	while ((e->in_flight > 0 || e->result_count > 0) && GetCurrentTimestamp() < deadline)
		if (!wh_engine_step(e, 50))
			break;
}

WhEngineCounts
wh_engine_counts(const WhEngine *e)
{
	return e->counts;
}

void
wh_engine_reload(WhEngine *e)
{
	if (!wh_sender_reload(e->sender))
		ereport(LOG,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("webhooks: out of memory; requests are made with the old settings")));
}

WhEngine *
wh_engine_create(MemoryContext parent, WhEngineOptions options)
{
	MemoryContext context = AllocSetContextCreate(parent, "webhooks engine",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	WhEngine   *e = palloc0(sizeof(WhEngine));
	HASHCTL		ctl = {
		.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(WhInHand), .hcxt = context
	};

	e->options = options;
	e->context = context;
	e->fetch_limit = WH_IN_FLIGHT_MAX;
	e->record_limit = FLUSH_COUNT;
	e->queue.in_session = options.in_session;
	e->queue.context = context;
	e->queue.scheduler = wh_scheduler_create(context);
	e->queue.lanes = wh_lanes_create(context);
	e->queue.in_hand = hash_create("webhooks in hand", 1024, &ctl,
								   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&e->taken);
	dlist_init(&e->results);
	dlist_init(&e->stuck);
	e->free_index_count = WH_IN_FLIGHT_MAX;
	for (int i = 0; i < WH_IN_FLIGHT_MAX; i++)
		e->free_indexes[i] = WH_IN_FLIGHT_MAX - 1 - i;

	e->sender = wh_sender_create();
	if (e->sender == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not start the thread that sends requests"),
				 errhint("The server may be short of memory or file descriptors.")));
	if (!options.in_session && wh_sender_capacity(e->sender) < wh_max_in_flight)
		ereport(LOG,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("webhooks: the limit of file descriptors allows %d requests at once, not %d",
						wh_sender_capacity(e->sender), wh_max_in_flight),
				 errhint("Raise it (ulimit -n, LimitNOFILE), or lower webhooks.max_in_flight.")));
	e->wait_set = CreateWaitEventSet(context, 3);
	AddWaitEventToSet(e->wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(e->wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(e->wait_set, WL_SOCKET_READABLE, wh_sender_descriptor(e->sender),
					  NULL, NULL);
	MemoryContextSwitchTo(before);
	return e;
}

void
wh_engine_destroy(WhEngine *e)
{
	HASH_SEQ_STATUS scan;
	WhInHand   *entry;

	wh_sender_destroy(e->sender);
	hash_seq_init(&scan, e->queue.in_hand);
	while ((entry = hash_seq_search(&scan)) != NULL)
		wh_request_clear(&entry->delivery->request);
	FreeWaitEventSet(e->wait_set);
	for (int shard = 0; shard < WH_SHARDS; shard++)
	{
		LOCKTAG		tag = shard_lock(shard);

		if (e->owned & shard_bit(shard))
			LockRelease(&tag, ExclusiveLock, true);
	}
	MemoryContextDelete(e->context);
}
