/*
 * One round after another: fetch what is due, hand it to the sender, record what came back. No
 * transaction is open meanwhile, and the sender's thread goes on while one is.
 */
#include "postgres.h"

#include "compat.h"
#include "miscadmin.h"
#include "open_breakers.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/engine_state.h"

#define LOOK_MS 5000			/* between looks at everything, or so many times what one took: */
#define LOOK_SHARE 20
#define PART_SHARE 4			/* between parts of a look, so many times what one took */
#define MAINTAIN_MS (5 * 60 * 1000)
#define MAINTAIN_RETRY_MS (60 * 1000)


/* ---- what is new ---- */

void
wh_engine_note(WhEngine *e, WhTransactionResult result, TimestampTz *not_before)
{
	switch (result)
	{
		case WH_TRANSACTION_DONE:
			break;
		case WH_TRANSACTION_FAILED:
		case WH_TRANSACTION_HINDERED:
			*not_before = wh_later(GetCurrentTimestamp(), WH_FAILURE_WAIT_MS);
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
	TimestampTz expires_at;
	bool		done;

	if (e->looking ? now < e->look_part_at :
		!(e->look_wanted && now >= e->look_not_before) && now < e->look_at)
		return;
	if (!e->looking)
	{
		e->looking = true;
		e->look_wanted = false;
		e->looking_for = e->lost;
		e->lost = WH_LOST_NONE;
		e->look_cost_us = 0;
		memset(&e->looked, 0, sizeof(pg_uuid_t));
	}
	result = wh_queue_look(&e->queue, &e->looking_for, &e->looked, &done, &expires_at);
	after = GetCurrentTimestamp();
	e->look_cost_us += after - now;
	e->look_part_at = after + PART_SHARE * (after - now);
	if (result == WH_TRANSACTION_DONE && !done)
		return;
	e->looking = false;
	if (result == WH_TRANSACTION_DONE && e->expired_to == DT_NOBEGIN)
		e->expire_at = Max(expires_at, e->expire_not_before);
	if (result != WH_TRANSACTION_DONE)
		wh_look_for_lost(e, e->looking_for);
	e->look_not_before = after + LOOK_SHARE * e->look_cost_us;
	wh_engine_note(e, result, &e->look_not_before);
	e->look_at = Max(wh_later(after, LOOK_MS), e->look_not_before);
}

static void
take_wakes(WhEngine *e, TimestampTz now)
{
	WhLost		lost;
	int			count = wh_slot_take_wakes(e->wakes, &lost);

	for (int i = 0; i < count; i++)
		if (e->queue.shards & wh_shard_bit(wh_shard(&e->wakes[i].endpoint_id)))
			wh_scheduler_wake(e->queue.scheduler, &e->wakes[i]);
	if (lost.due_at != DT_NOEND)
		wh_look_for_lost(e, lost);
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

	if (now < e->maintain_at || !wh_shards_serve_first(e))
		return;
	switch (wh_queue_maintain(&e->queue, &maintenance))
	{
		case WH_TRANSACTION_DONE:
			if (maintenance.done)
				e->maintain_at = wh_later(now, maintenance.needed ? MAINTAIN_MS : LOOK_MS);
			else if (e->options.in_session)
				maintain(e, now);
			break;
		case WH_TRANSACTION_FAILED:
		case WH_TRANSACTION_HINDERED:
			e->maintain_at = wh_later(now, MAINTAIN_RETRY_MS);
			break;
		case WH_TRANSACTION_NO_EXTENSION:
			e->no_extension = true;
			break;
	}
}

/*
 * What has expired while nothing could be sent to its endpoint (it is paused, held back, or waits
 * in a lane) is read by no fetch. A part of a sweep, or nothing when none is due:
 * each look tells when the next is.
 */
static void
expire(WhEngine *e, TimestampTz now)
{
	TimestampTz next = DT_NOBEGIN;
	TimestampTz after;
	TimestampTz not_before = DT_NOBEGIN;
	WhTransactionResult result;

	if (e->queue.shards == 0 || now < e->expire_at)
		return;
	result = wh_queue_expire(&e->queue, &e->expired_to, &next);
	after = GetCurrentTimestamp();
	e->expire_cost_us += after - now;
	if (result == WH_TRANSACTION_DONE && next == DT_NOBEGIN)
		return;
	wh_engine_note(e, result, &not_before);
	e->expire_not_before = Max(after + LOOK_SHARE * e->expire_cost_us, not_before);
	e->expire_at = Max(next == DT_NOBEGIN ? DT_NOEND : next, e->expire_not_before);
	e->expired_to = DT_NOBEGIN;
	e->expire_cost_us = 0;
}


/* ---- waiting ---- */

bool
wh_engine_idle(WhEngine *e)
{
	TimestampTz now = GetCurrentTimestamp();

	if (e->in_flight > 0 || e->result_count > 0 || e->looking ||
		e->look_wanted || (e->queue.shards != 0 && now >= e->expire_at))
		return false;
	if (e->options.max_deliveries > 0 && e->started >= e->options.max_deliveries)
		return true;
	return !wh_scheduler_paced(e->queue.scheduler) &&
		wh_scheduler_next(e->queue.scheduler, now, wh_hand_room(e).places) > now;
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
	WhRoom		left = wh_hand_room(e);

	if (e->result_count > 0)
		ms = until(now, Max(e->record_not_before,
							e->in_flight == 0 ? now : e->record_at), ms);
	if (!dlist_is_empty(&e->recorded))
		ms = until(now, e->flush_at, ms);
	if (!dlist_is_empty(&e->stuck))
		ms = until(now, e->stuck_at, ms);
	if (e->wanted & ~e->owned)
		ms = until(now, e->acquire_at, ms);
	ms = until(now, e->looking ? e->look_part_at :
			   e->look_wanted ? e->look_not_before : e->look_at, ms);
	if (wh_shards_serve_first(e))
		ms = until(now, e->maintain_at, ms);
	if (e->queue.shards != 0 && !e->draining)
		ms = until(now, e->expire_at, ms);
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
		wh_hand_receive(e, (WhDelivery *) request);
}

bool
wh_engine_step(WhEngine *e, long max_wait_ms)
{
	MemoryContext before = MemoryContextSwitchTo(e->context);
	TimestampTz now = GetCurrentTimestamp();

	if (!e->draining)
	{
		wh_shards_acquire(e, now);
		take_wakes(e, now);
		maintain(e, now);
		expire(e, now);
	}
	receive(e);
	wh_results_record(e, now);
	wh_results_record_stuck(e, now);
	wh_results_settle(e, GetCurrentTimestamp());
	wh_shards_release(e);
	wh_hand_fill(e, now);
	wh_results_count_expired(e);
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
	wh_results_settle(e, DT_NOEND);
}

WhCounts
wh_engine_counts(const WhEngine *e)
{
	return e->counts;
}

void
wh_engine_reload(WhEngine *e)
{
	wh_detour_forget(e);
	if (!wh_sender_reload(e->sender))
		ereport(LOG,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("webhooks: out of memory; requests are made with the old settings")));

	/*
	 * the keys that open secrets may be others now: whoever was held for want of one is looked at
	 */
	wh_scheduler_forget_configs(e->queue.scheduler);
	e->look_wanted = true;
}

static void
start_sender(WhEngine *e)
{
	e->sender = wh_sender_create();
	if (e->sender == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not start the thread that sends requests"),
				 errhint("The server may be short of memory or file descriptors.")));
	if (!e->options.in_session && wh_sender_capacity(e->sender) < wh_max_in_flight)
		ereport(LOG,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("webhooks: the limit of file descriptors allows %d requests at once, "
						"not %d",
						wh_sender_capacity(e->sender), wh_max_in_flight),
				 errhint("Raise it (ulimit -n, LimitNOFILE), or lower webhooks.max_in_flight.")));
	e->wait_set = wh_create_wait_event_set(e->context, 3);
	AddWaitEventToSet(e->wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(e->wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(e->wait_set, WL_SOCKET_READABLE, wh_sender_descriptor(e->sender),
					  NULL, NULL);
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
	e->record_limit = WH_FLUSH_COUNT;
	e->expired_to = DT_NOBEGIN;
	e->lost = WH_LOST_NONE;
	e->queue.in_session = options.in_session;
	e->queue.context = context;
	e->queue.scheduler = wh_scheduler_create(context);
	e->queue.lanes = wh_lanes_create(context);
	e->queue.in_hand = hash_create("webhooks in hand", 1024, &ctl,
								   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&e->taken);
	dlist_init(&e->results);
	dlist_init(&e->stuck);
	dlist_init(&e->recorded);
	e->free_index_count = WH_IN_FLIGHT_MAX;
	for (int i = 0; i < WH_IN_FLIGHT_MAX; i++)
		e->free_indexes[i] = WH_IN_FLIGHT_MAX - 1 - i;

	PG_TRY();
	{
		start_sender(e);
	}
	PG_CATCH();
	{
		/* a session lives on, and would keep the thread and the descriptors */
		wh_sender_destroy(e->sender);
		if (e->wait_set)
			FreeWaitEventSet(e->wait_set);
		PG_RE_THROW();
	}
	PG_END_TRY();
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
	wh_open_breakers_withdraw_all();
	wh_shards_release_all(e);
	MemoryContextDelete(e->context);
}
