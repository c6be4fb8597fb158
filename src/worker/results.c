/*
 * What came back is recorded in batches. A result that cannot be recorded stays in hand and is
 * tried again: it is neither lost nor re-sent.
 *
 * A worker's commit does not wait for the disk: on a busy server somebody else's flushes the WAL
 * soon, and while the disk is slow there is still something to fetch and to send. What was recorded
 * stays in hand until it is on disk.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "utils/timestamp.h"
#include "worker/engine_state.h"

#define STUCK_WAIT_MS 10000		/* between tries to record what could not be recorded */
#define HELD_WAIT_MS 1000		/* the same while another transaction holds a row */

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
	else if (wh_lane_end(d->lane))
	{
		wake = wh_wake_for(d, GetCurrentTimestamp());
		wh_scheduler_wake(e->queue.scheduler, &wake);
	}
}

static void
count_result(WhEngine *e, const WhDelivery *d)
{
	e->counts.attempted++;
	if (d->request.sent)
		e->counts.bytes_sent += d->request.body_len;
	switch (d->verdict.outcome)
	{
		case WH_SUCCEEDED:
			e->counts.succeeded++;
			break;
		case WH_RETRYING:
			e->counts.retried++;
			break;
		case WH_DEAD_LETTER:
			e->counts.dead_lettered++;
			break;
		case WH_CANCELLED:
			break;
	}
}

/* It is recorded, and on disk. */
static void
complete(WhEngine *e, WhDelivery *d)
{
	TimestampTz due_at = d->verdict.outcome == WH_RETRYING ? d->next_attempt_at : d->requeued_at;
	WhWake		wake = wh_wake_for(d, due_at);

	if (due_at != DT_NOEND)
		wh_scheduler_wake(e->queue.scheduler, &wake);
	free_lane(e, d);
	wh_hand_leave(e, d);
}

/* Whether the sender is about to run out of requests because no place in hand is free for others. */
static bool
places_are_wanted(WhEngine *e)
{
	return wh_hand_room(e).places == 0 && wh_sender_unbegun(e->sender) < WH_UNBEGUN_MIN;
}

/*
 * By then somebody else has flushed it, or the worker does. At once when something waits for it: the
 * lane's next delivery, or the sender for others. To flush costs more than to record a hundred
 * deliveries, so the fewer flushes the better.
 */
void
wh_results_settle(WhEngine *e, TimestampTz now)
{
	if (dlist_is_empty(&e->recorded))
		return;
	if (GetFlushRecPtr(NULL) < e->recorded_to)
	{
		if (now < e->flush_at && !places_are_wanted(e))
			return;
		XLogFlush(e->recorded_to);
	}
	while (!dlist_is_empty(&e->recorded))
		complete(e, dlist_container(WhDelivery, node, dlist_pop_head_node(&e->recorded)));
}

static void
put_aside(WhEngine *e, WhDelivery *d, int wait_ms)
{
	TimestampTz at = wh_later(GetCurrentTimestamp(), wait_ms);

	e->stuck_at = dlist_is_empty(&e->stuck) ? at : Min(e->stuck_at, at);
	dlist_push_tail(&e->stuck, &d->node);
}

static WhTransactionResult
record(WhEngine *e, WhDelivery **batch, int count)
{
	WhTransactionResult result;
	int			recorded;
	TimestampTz now;
	char		last_error[WH_LAST_ERROR_SIZE] = "";

	/* a request that was made must not be forgotten because the server is stopping */
	wh_transaction_hold_sigterm(true);
	result = wh_queue_record(&e->queue, batch, count, &recorded);
	wh_transaction_hold_sigterm(false);

	if (result != WH_TRANSACTION_DONE)
		return result;
	now = GetCurrentTimestamp();
	if (recorded > 0 && dlist_is_empty(&e->recorded))
		e->flush_at = wh_later(now, WH_DISK_MS);
	for (int i = recorded; i < count; i++)
		put_aside(e, batch[i], HELD_WAIT_MS);
	for (int i = 0; i < recorded; i++)
	{
		if (batch[i]->request.error[0])
			strlcpy(last_error, batch[i]->request.error, sizeof(last_error));
		if (batch[i]->lane)
			e->flush_at = Min(e->flush_at, now);
		batch[i]->recorded = true;
		count_result(e, batch[i]);
		wh_hand_withdraw(e, batch[i]);
		dlist_push_tail(&e->recorded, &batch[i]->node);
	}
	/* whoever has turned synchronous_commit off does not want to wait either */
	e->recorded_to = synchronous_commit == SYNCHRONOUS_COMMIT_OFF ? InvalidXLogRecPtr :
		XactLastCommitEnd;
	wh_slot_report(&e->counts, last_error[0] ? last_error : NULL);
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
				put_aside(e, batch[i], STUCK_WAIT_MS);
				break;
			case WH_TRANSACTION_NO_EXTENSION:
				e->no_extension = true;
				break;
		}
	}
}

void
wh_results_record(WhEngine *e, TimestampTz now)
{
	while (e->result_count > 0 && !e->no_extension && now >= e->record_not_before &&
		   (e->result_count >= WH_FLUSH_COUNT || e->in_flight == 0 ||
			now >= e->record_at))
	{
		WhDelivery *batch[WH_FLUSH_COUNT];
		int			count = 0;

		while (count < e->record_limit && !dlist_is_empty(&e->results))
			batch[count++] = dlist_container(WhDelivery, node, dlist_pop_head_node(&e->results));
		e->result_count -= count;

		switch (record(e, batch, count))
		{
			case WH_TRANSACTION_DONE:
				e->record_limit = Min(WH_FLUSH_COUNT, 2 * e->record_limit);
				break;
			case WH_TRANSACTION_FAILED:
				record_singly(e, batch, count);
				break;
			case WH_TRANSACTION_HINDERED:
				e->record_limit = Max(1, count / 2);	/* it may be the memory they take */
				for (int i = 0; i < count; i++)
					dlist_push_tail(&e->results, &batch[i]->node);
				e->result_count += count;
				e->record_not_before = wh_later(GetCurrentTimestamp(), WH_FAILURE_WAIT_MS);
				return;
			case WH_TRANSACTION_NO_EXTENSION:
				e->no_extension = true;
				break;
		}
	}
}

void
wh_results_record_stuck(WhEngine *e, TimestampTz now)
{
	WhDelivery *batch[WH_IN_FLIGHT_MAX];
	int			count = 0;

	if (dlist_is_empty(&e->stuck) || now < e->stuck_at)
		return;
	while (!dlist_is_empty(&e->stuck))
		batch[count++] = dlist_container(WhDelivery, node, dlist_pop_head_node(&e->stuck));
	if (record(e, batch, count) != WH_TRANSACTION_DONE)
		record_singly(e, batch, count);
}

void
wh_results_count_expired(WhEngine *e)
{
	if (e->queue.expired == 0)
		return;
	e->counts.dead_lettered += e->queue.expired;
	e->queue.expired = 0;
	wh_slot_report(&e->counts, NULL);
}
