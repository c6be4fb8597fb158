/*
 * Reads due rows and their events. Every delivery passes here, so the rows are read from the
 * indexes themselves: a query for them costs twice as much.
 *
 * A delivery costs no write until it is over: whoever holds the endpoint's shard may send it, and
 * the row stays in the queue until its end is recorded. A crash between the request and the record
 * sends it once more, with the same webhook-id.
 */
#include "postgres.h"

#include "access/itup.h"
#include "access/relscan.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "id.h"
#include "shmem.h"
#include "storage/bufmgr.h"
#include "tables.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "worker/config.h"
#include "worker/delivery.h"
#include "worker/expire.h"
#include "worker/held.h"
#include "worker/queue.h"
#include "worker/reader.h"
#include "worker/statement.h"

#define MISSING_EVENT_WAIT_S 60
#define PASSED_OVER_MAX 256		/* rows of busy lanes and held ones, in one turn of an endpoint */
#define EXPIRED_MAX 1024		/* rows given up by one fetch */
#define UNSEEN_MAX 4096			/* index entries of rows not seen, in one turn of an endpoint; as
								 * many in its lanes */

/* One of events. */
typedef struct Partition
{
	WhReader   *reader;
	BlockNumber end;			/* it is not cut off while it is open */
} Partition;

typedef struct Fetch
{
	WhQueue    *queue;
	WhPick	   *picks;
	int			count;
	WhReader   *queue_reader;
	WhReader   *lanes;			/* the queue by lane; NULL until one is looked up */
	int			unseen;			/* index entries passed over in lanes, in this turn */
	void		(*take) (WhDelivery *delivery, void *state);
	void	   *state;
	TimestampTz now;
	Relation	events;
	List	   *partitions;		/* of Partition: those read so far */
	StringInfoData payload;		/* scratch */
	List	   *missing;		/* ids of rows without their event */
	List	   *expired;		/* ids of rows that nobody may be sent any more */
	int			expired_count;	/* of them, those that became dead letters */
} Fetch;


/* ---- events ---- */

static Partition *
find_partition(Fetch *fetch, const pg_uuid_t *event_id)
{
	Datum		key = UUIDPGetDatum(event_id);
	Oid			oid = wh_find_partition(fetch->events, key);
	Relation	rel;
	Partition  *partition;
	ListCell   *cell;

	foreach(cell, fetch->partitions)
	{
		partition = lfirst(cell);
		if (RelationGetRelid(partition->reader->rel) == oid)
			return partition;
	}
	rel = wh_open_partition(fetch->events, key, AccessShareLock);
	(void) RelationGetIndexList(rel);
	if (!OidIsValid(rel->rd_pkindex))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("partition webhooks.%s has no primary key", RelationGetRelationName(rel)),
				 errhint("ALTER TABLE webhooks.%s ADD PRIMARY KEY (event_id).",
						 RelationGetRelationName(rel))));
	partition = palloc(sizeof(Partition));
	partition->reader = wh_reader_open(rel, rel->rd_pkindex, 1);
	partition->end = RelationGetNumberOfBlocks(rel);
	fetch->partitions = lappend(fetch->partitions, partition);
	return partition;
}

/* The event of a row of the queue, good until the next is read; NULL when there is none. */
static TupleTableSlot *
read_event(Fetch *fetch, TupleTableSlot *row)
{
	pg_uuid_t  *event_id = DatumGetUUIDP(wh_slot_get(row, QUEUE_EVENT_ID));
	Partition  *partition = find_partition(fetch, event_id);
	WhReader   *reader = partition->reader;
	bool		isnull;
	Datum		place = slot_getattr(row, QUEUE_EVENT_PLACE, &isnull);
	ScanKeyData key;

	if (!isnull && wh_row_at(reader->rel, partition->end, (ItemPointer) DatumGetPointer(place),
							 EVENTS_EVENT_ID, event_id, reader->slot))
		return reader->slot;
	ScanKeyInit(&key, EVENTS_EVENT_ID, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(event_id));
	index_rescan(reader->scan, &key, 1, NULL, 0);
	return wh_reader_next(reader) ? reader->slot : NULL;
}


/* ---- the queue ---- */

/*
 * Rows of the endpoint past its cursor, in order:
 * endpoint_id = … AND (due_at, delivery_id) > (…, …).
 */
static void
start_at_cursor(WhReader *reader, const WhEndpoint *e)
{
	/* the columns of the index, in its order */
	enum
	{
		ENDPOINT_ID = 1, DUE_AT, DELIVERY_ID
	};
	static ScanKeyData row[2];
	ScanKeyData keys[2];

	ScanKeyEntryInitialize(&row[0], SK_ROW_MEMBER, DUE_AT, BTGreaterStrategyNumber,
						   InvalidOid, InvalidOid, F_TIMESTAMPTZ_CMP,
						   TimestampTzGetDatum(e->cursor.due_at));
	ScanKeyEntryInitialize(&row[1], SK_ROW_MEMBER | SK_ROW_END, DELIVERY_ID,
						   BTGreaterStrategyNumber, InvalidOid, InvalidOid, F_UUID_CMP,
						   UUIDPGetDatum(&e->cursor.delivery_id));
	ScanKeyInit(&keys[0], ENDPOINT_ID, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(&e->endpoint_id));
	memset(&keys[1], 0, sizeof(ScanKeyData));
	keys[1].sk_flags = SK_ROW_HEADER;
	keys[1].sk_attno = DUE_AT;
	keys[1].sk_strategy = BTGreaterStrategyNumber;
	keys[1].sk_argument = PointerGetDatum(row);
	index_rescan(reader->scan, keys, 2, NULL, 0);
}

/* DT_NOEND: it never expires. */
static TimestampTz
read_expiry(TupleTableSlot *row)
{
	bool		isnull;
	Datum		at = slot_getattr(row, QUEUE_EXPIRES_AT, &isnull);

	return isnull ? DT_NOEND : DatumGetTimestampTz(at);
}

/*
 * Notes a row that has expired; false: it has not, or it is in flight and finishes. It is given up
 * when the fetch has read its rows.
 */
static bool
give_up_expired(Fetch *fetch, TupleTableSlot *row)
{
	if (read_expiry(row) > fetch->now ||
		hash_search(fetch->queue->in_hand, DatumGetUUIDP(wh_slot_get(row, QUEUE_DELIVERY_ID)),
					HASH_FIND, NULL))
		return false;
	fetch->expired = lappend(fetch->expired, wh_uuid_copy(
		DatumGetUUIDP(wh_slot_get(row, QUEUE_DELIVERY_ID))));
	return true;
}

static bool
gave_up_enough(const Fetch *fetch)
{
	return list_length(fetch->expired) >= EXPIRED_MAX;
}


/* ---- lanes, and the rows of an endpoint ---- */

/* False: its event is missing. */
static bool
take_row(Fetch *fetch, WhEndpoint *e, WhLane *lane, TupleTableSlot *row)
{
	WhQueue    *queue = fetch->queue;
	TupleTableSlot *event;

	queue->reading = *DatumGetUUIDP(wh_slot_get(row, QUEUE_DELIVERY_ID));
	event = read_event(fetch, row);
	if (event)
	{
		WhDelivery *d = wh_delivery_make(queue->context, &fetch->payload, e, row, event);

		d->lane = lane;
		d->expires_at = read_expiry(row);
		fetch->take(d, fetch->state);
	}
	else
		fetch->missing = lappend(fetch->missing, wh_uuid_copy(&queue->reading));
	memset(&queue->reading, 0, sizeof(pg_uuid_t));
	return event != NULL;
}

/* The lanes' turn is over: the rest of them is read in the next one. */
static bool
passed_enough(const Fetch *fetch)
{
	return fetch->unseen >= UNSEEN_MAX || gave_up_enough(fetch);
}

/* The columns of the index of lanes, in its order. */
enum
{
	LANE_ENDPOINT_ID = 1, LANE_NUMBER, LANE_DELIVERY_ID
};

static void
start_in_lane(Fetch *fetch, WhLane *lane)
{
	ScanKeyData keys[3];

	if (fetch->lanes == NULL)
	{
		fetch->lanes = wh_reader_open(table_open(wh_table("queue"), AccessShareLock),
									  wh_table("queue_lane_idx"), lengthof(keys));
		fetch->lanes->scan->xs_want_itup = true;
	}
	wh_lane_read(lane, fetch->lanes->scan->xs_snapshot);
	ScanKeyInit(&keys[0], LANE_ENDPOINT_ID, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(&lane->key.endpoint_id));
	ScanKeyInit(&keys[1], LANE_NUMBER, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(lane->key.number));
	ScanKeyInit(&keys[2], LANE_DELIVERY_ID, BTGreaterEqualStrategyNumber, F_UUID_GE,
				UUIDPGetDatum(&lane->from));
	index_rescan(fetch->lanes->scan, keys, lengthof(keys), NULL, 0);
}

typedef enum Lookup
{
	FOUND,						/* in the slot of the reader of lanes */
	NONE,
	HALF_READ
} Lookup;

/*
 * The first row of the lane that has not expired. Of rows that are not seen it passes over only so
 * many in a turn, and goes on from there in the next. No row that has become visible meanwhile may
 * be overtaken so. What is gone stays so. What is pending does while its transaction lasts, and the
 * snapshot is asked for that: it shows the rows before the wake comes that tells of them.
 */
static Lookup
read_lane(Fetch *fetch, WhLane *lane)
{
	bool		known = true;	/* what became of all that was passed over */
	WhReader   *reader;

	start_in_lane(fetch, lane);
	reader = fetch->lanes;
	while (index_getnext_tid(reader->scan, ForwardScanDirection) != NULL)
	{
		bool		isnull;
		pg_uuid_t  *id = DatumGetUUIDP(index_getattr(reader->scan->xs_itup, LANE_DELIVERY_ID,
													 reader->scan->xs_itupdesc, &isnull));
		bool		moved = memcmp(id, &lane->from, UUID_LEN) != 0;
		bool		seen = index_fetch_heap(reader->scan, reader->slot);
		TransactionId xid = InvalidTransactionId;

		if (known)
			lane->from = *id;
		if (seen)
		{
			if (gave_up_enough(fetch))
				return HALF_READ;
			if (give_up_expired(fetch, reader->slot))
				continue;
			lane->from = *id;
			return FOUND;
		}
		switch (wh_reader_unseen(reader, &xid))
		{
			case WH_UNSEEN_GONE:
				break;
			case WH_UNSEEN_PENDING:
				known = known && wh_lane_pass(lane, xid);
				break;
			case WH_UNSEEN_NEW:
				fetch->unseen = UNSEEN_MAX;
				return HALF_READ;
		}
		if (known && ++fetch->unseen >= UNSEEN_MAX && moved)
			return HALF_READ;
	}
	return NONE;
}

/*
 * The lane's first delivery is in hand though the lane did not know: it was taken before the
 * endpoint had this ordering. It becomes the lane's.
 */
static bool
adopt_in_hand(Fetch *fetch, WhLane *lane, const pg_uuid_t *delivery_id)
{
	WhInHand   *entry = hash_search(fetch->queue->in_hand, delivery_id, HASH_FIND, NULL);

	if (entry == NULL)
		return false;
	if (entry->delivery->lane)
		wh_lane_drop(entry->delivery->lane);
	entry->delivery->lane = lane;
	wh_lane_set(lane, WH_LANE_BUSY);
	lane->more = true;
	return true;
}

/* Takes the first delivery of a lane that has none in hand. False: there is none that may go now. */
static bool
take_first(Fetch *fetch, WhLane *lane)
{
	TupleTableSlot *row;

	switch (read_lane(fetch, lane))
	{
		case FOUND:
			break;
		case NONE:
			wh_lane_drop(lane);
			return false;
		case HALF_READ:
			wh_lane_set(lane, WH_LANE_HALF_READ);
			return false;
	}
	row = fetch->lanes->slot;
	if (adopt_in_hand(fetch, lane, DatumGetUUIDP(wh_slot_get(row, QUEUE_DELIVERY_ID))))
		return false;
	lane->head_due_at = DatumGetTimestampTz(wh_slot_get(row, QUEUE_DUE_AT));
	if (lane->head_due_at <= fetch->now && wh_reader_held(fetch->lanes))
	{
		wh_held_pass_over(lane->endpoint, &lane->endpoint->cursor);
		lane->head_due_at = fetch->now + WH_HELD_WAIT_US;
	}
	if (lane->head_due_at <= fetch->now && take_row(fetch, lane->endpoint, lane, row))
	{
		wh_lane_set(lane, WH_LANE_BUSY);
		return true;
	}
	wh_lane_set(lane, WH_LANE_WAITING);
	return false;
}

/* A row of a lane came up: whatever is first in the lane goes. Returns whether something did. */
static bool
take_in_lane(Fetch *fetch, WhEndpoint *e, int64 number)
{
	WhLane	   *lane = wh_lane_enter(fetch->queue->lanes, e, number);
	bool		more = lane->more;

	wh_lane_note(lane, &e->cursor.delivery_id);
	wh_lane_open_if_due(lane, fetch->now);
	lane->more = true;			/* this row, unless it is the one that goes */
	if (lane->state == WH_LANE_BUSY || lane->state == WH_LANE_WAITING || passed_enough(fetch) ||
		!take_first(fetch, lane))
		return false;
	if (memcmp(&lane->from, &e->cursor.delivery_id, UUID_LEN) == 0)
		lane->more = more;
	return true;
}

static int
read_open_lanes(Fetch *fetch, WhEndpoint *e, int limit)
{
	int			taken = 0;

	while (taken < limit && !passed_enough(fetch) && !dlist_is_empty(&e->open_lanes))
		taken += take_first(fetch, dlist_container(WhLane, node, dlist_head_node(&e->open_lanes)));
	return taken;
}

/* To the next entry of the queue's index, be its row seen or not. False: there is none. */
static bool
next_entry(WhReader *queue, WhCursor *entry)
{
	IndexScanDesc scan = queue->scan;
	bool		isnull;

	if (index_getnext_tid(scan, ForwardScanDirection) == NULL)
		return false;
	entry->due_at = DatumGetTimestampTz(index_getattr(scan->xs_itup, 2, scan->xs_itupdesc,
													  &isnull));
	entry->delivery_id = *DatumGetUUIDP(index_getattr(scan->xs_itup, 3, scan->xs_itupdesc,
													  &isnull));
	return true;
}

/* Returns whether it took something. */
static bool
take_at_cursor(Fetch *fetch, WhEndpoint *e, const WhCursor *before)
{
	TupleTableSlot *row = fetch->queue_reader->slot;
	bool		isnull;
	Datum		lane = slot_getattr(row, QUEUE_LANE, &isnull);
	WhInHand   *in_hand = hash_search(fetch->queue->in_hand, &e->cursor.delivery_id, HASH_FIND,
									  NULL);

	if (in_hand)
	{
		/* what was recorded and is queued again goes when it has left the hand */
		if (in_hand->delivery->recorded)
			in_hand->delivery->requeued_at = e->cursor.due_at;
		return false;
	}
	if (!isnull)
		return take_in_lane(fetch, e, DatumGetInt64(lane));
	if (wh_reader_held(fetch->queue_reader))
	{
		wh_held_pass_over(e, before);
		return false;
	}
	return !give_up_expired(fetch, row) && take_row(fetch, e, NULL, row);
}

/*
 * Reads due rows past the cursor, and the index's entry after them: returns the time at which to
 * come back. Of rows that are not seen it passes over only so many at once: somebody may be putting
 * a million into the queue, and other endpoints wait meanwhile. Their commit, if it comes, sets the
 * cursor back.
 */
static TimestampTz
read_past_cursor(Fetch *fetch, WhEndpoint *e, int taken, int limit)
{
	WhReader   *queue = fetch->queue_reader;
	int			read = 0;
	int			unseen = 0;
	WhCursor	entry;

	start_at_cursor(queue, e);
	while (next_entry(queue, &entry))
	{
		if (entry.due_at > fetch->now)
			return entry.due_at;
		if (taken == limit || read == limit + PASSED_OVER_MAX || unseen == UNSEEN_MAX ||
			gave_up_enough(fetch))
			return fetch->now;
		if (index_fetch_heap(queue->scan, queue->slot))
		{
			WhCursor	before = e->cursor;

			e->cursor = entry;
			taken += take_at_cursor(fetch, e, &before);
			read++;
		}
		else if (++unseen == UNSEEN_MAX)
			e->cursor = entry;
	}
	return DT_NOEND;
}

static void
read_endpoint(Fetch *fetch, WhPick *pick)
{
	WhEndpoint *e = pick->endpoint;
	int			limit = Min(pick->limit, wh_endpoint_allowance(e, fetch->now));
	int			taken;

	/* to be given up, which an endpoint that always has something in hand would put off for ever */
	e->next_at = DT_NOEND;
	if ((fetch->queue->shards & wh_shard_bit(wh_shard(&e->endpoint_id))) == 0)
		return;

	/* removed, paused or disabled: a wake comes when that changes */
	if (e->config == NULL)
		wh_endpoint_drop_breaker(e);
	if (e->config == NULL || !e->config->active)
		return;

	fetch->unseen = 0;
	wh_held_go_back(e, fetch->now);
	pick->from = e->cursor;
	taken = read_open_lanes(fetch, e, limit);
	e->next_at = read_past_cursor(fetch, e, taken, limit);
	if (!dlist_is_empty(&e->open_lanes))
		e->next_at = fetch->now;
	wh_held_come_back(e, fetch->now);
}

static WhStatement postpone_statement = {
	"UPDATE webhooks.queue SET due_at = $2 WHERE delivery_id IN"
	" (SELECT q.delivery_id FROM webhooks.queue q WHERE q.delivery_id = ANY ($1)"
	"  FOR UPDATE SKIP LOCKED)",
	2, {UUIDARRAYOID, TIMESTAMPTZOID}
};

/*
 * A dump being restored brings the queue before the events, so a row without its event is left for
 * later, not given up.
 */
static void
postpone_missing(Fetch *fetch)
{
	int			count = list_length(fetch->missing);
	Datum	   *ids = palloc(Max(1, count) * sizeof(Datum));
	Datum		arguments[2];

	if (count == 0)
		return;
	for (int i = 0; i < count; i++)
		ids[i] = UUIDPGetDatum(list_nth(fetch->missing, i));
	ereport(LOG,
			(errmsg("webhooks: %d queued deliveries have no event, such as %s; "
					"looking again in %d seconds",
					count, wh_uuid_text(linitial(fetch->missing)), MISSING_EVENT_WAIT_S)));
	arguments[0] = wh_array(UUIDOID, ids, NULL, count);
	arguments[1] = TimestampTzGetDatum(fetch->now + MISSING_EVENT_WAIT_S * USECS_PER_SEC);
	wh_statement_execute(&postpone_statement, arguments, false, SPI_OK_UPDATE);
}

static void
expire(Fetch *fetch)
{
	int			count = list_length(fetch->expired);
	Datum	   *ids = palloc(Max(1, count) * sizeof(Datum));

	for (int i = 0; i < count; i++)
		ids[i] = UUIDPGetDatum(list_nth(fetch->expired, i));
	fetch->expired_count = wh_expire(ids, count, fetch->now);
}

static void
fetch_rows(void *state)
{
	Fetch	   *fetch = state;
	ListCell   *cell;

	initStringInfo(&fetch->payload);
	wh_config_load(fetch->queue->scheduler, fetch->picks, fetch->count, fetch->queue->context);
	fetch->events = table_open(wh_table("events"), AccessShareLock);
	fetch->queue_reader = wh_reader_open(table_open(wh_table("queue"), AccessShareLock),
									  wh_table("queue_endpoint_id_due_at_idx"), 2);
	fetch->queue_reader->scan->xs_want_itup = true;
	for (int i = 0; i < fetch->count; i++)
		read_endpoint(fetch, &fetch->picks[i]);

	wh_reader_close(fetch->queue_reader);
	if (fetch->lanes)
		wh_reader_close(fetch->lanes);
	foreach(cell, fetch->partitions)
		wh_reader_close(((Partition *) lfirst(cell))->reader);
	table_close(fetch->events, AccessShareLock);
	postpone_missing(fetch);
	expire(fetch);
}

WhTransactionResult
wh_queue_fetch(WhQueue *queue, WhPick *picks, int count,
			   void (*take) (WhDelivery *, void *), void *state)
{
	Fetch		fetch = {
		.queue = queue, .picks = picks, .count = count, .take = take, .state = state,
		.now = GetCurrentTimestamp()
	};
	WhTransactionResult result;

	memset(&queue->reading, 0, sizeof(pg_uuid_t));
	result = wh_queue_transact(queue, "fetching deliveries", fetch_rows, &fetch);
	if (result == WH_TRANSACTION_DONE)
		queue->expired += fetch.expired_count;
	return result;
}


/* ---- a row that cannot be read ---- */

static WhStatement put_off_statement = {
	"UPDATE webhooks.queue SET due_at = now() + interval '1 hour' WHERE delivery_id = $1",
	1, {UUIDOID}
};

static void
put_off(void *state)
{
	WhQueue    *queue = state;
	Datum		argument = UUIDPGetDatum(&queue->reading);

	wh_statement_execute(&put_off_statement, &argument, false, SPI_OK_UPDATE);
	if (SPI_processed > 0)
		ereport(WARNING,
				(errmsg("webhooks: delivery %s cannot be read; trying again in an hour",
						wh_uuid_text(&queue->reading))));
}

WhTransactionResult
wh_queue_put_off(WhQueue *queue)
{
	return wh_queue_transact(queue, "putting off a delivery", put_off, queue);
}
