/*
 * Takes what is replaced out of the queue, and notes it as cancelled: without SQL, as dispatch does
 * everything, so no privilege is needed and no operator of the session's search path is used.
 *
 * The queue is read with the newest snapshot, not the transaction's, since the caller has waited
 * for whoever dispatched with the same key. The worker that has a delivery in hand already sends
 * it: then both its attempt and its cancellation are recorded.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "id.h"
#include "miscadmin.h"
#include "shmem.h"
#include "sql/coalesce.h"
#include "tables.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "wake.h"

typedef struct Coalescer
{
	const WhCoalescing *coalescing;
	Relation	queue;
	Oid			index;
	WhInFlight *in_flight;
	int			in_flight_count;	/* -1: not asked yet */
	Relation	attempts;		/* the partition; NULL until something was replaced */
	WhInserter *inserter;
} Coalescer;

static bool
is_in_flight(Coalescer *c, const pg_uuid_t *delivery_id)
{
	if (c->in_flight_count < 0)
		c->in_flight_count = wh_shmem_in_flight(MyDatabaseId, &c->in_flight);
	for (int i = 0; i < c->in_flight_count; i++)
		if (memcmp(&c->in_flight[i].delivery_id, delivery_id, UUID_LEN) == 0)
			return true;
	return false;
}

/* The endpoint's address as a text datum. */
static Datum
endpoint_url(const pg_uuid_t *endpoint_id)
{
	Relation	rel = table_open(wh_table("endpoints"), AccessShareLock);
	HeapTuple	tuple = wh_read_endpoint(rel, endpoint_id);
	bool		isnull;
	Datum		url = tuple ? heap_getattr(tuple, ENDPOINTS_URL, RelationGetDescr(rel), &isnull) :
		CStringGetTextDatum("");

	table_close(rel, AccessShareLock);
	return url;
}

static void
open_attempts(Coalescer *c)
{
	Relation	parent = table_open(wh_table("attempts"), RowExclusiveLock);

	c->attempts = wh_open_partition(parent, TimestampTzGetDatum(c->coalescing->now),
									RowExclusiveLock);
	c->inserter = wh_inserter_open(c->attempts);
	table_close(parent, NoLock);
}

static Datum
copy_id(const Coalescer *c, HeapTuple row, int column)
{
	bool		isnull;

	return UUIDPGetDatum(wh_uuid_copy(DatumGetUUIDP(
		heap_getattr(row, column, RelationGetDescr(c->queue), &isnull))));
}

static void
note_cancelled(Coalescer *c, HeapTuple row)
{
	const WhCoalescing *coalescing = c->coalescing;
	Datum		endpoint_id = copy_id(c, row, QUEUE_ENDPOINT_ID);

	if (c->attempts == NULL)
		open_attempts(c);
	wh_inserter_row(c->inserter);
	wh_inserter_set(c->inserter, ATTEMPTS_DELIVERY_ID, copy_id(c, row, QUEUE_DELIVERY_ID));
	wh_inserter_set(c->inserter, ATTEMPTS_EVENT_ID, copy_id(c, row, QUEUE_EVENT_ID));
	wh_inserter_set(c->inserter, ATTEMPTS_ENDPOINT_ID, endpoint_id);
	wh_inserter_set_text(c->inserter, ATTEMPTS_TENANT_ID, coalescing->tenant_id);
	wh_inserter_set(c->inserter, ATTEMPTS_URL, endpoint_url(DatumGetUUIDP(endpoint_id)));
	wh_inserter_set(c->inserter, ATTEMPTS_ATTEMPT, Int32GetDatum(0));
	wh_inserter_set(c->inserter, ATTEMPTS_ATTEMPTED_AT, TimestampTzGetDatum(coalescing->now));
	wh_inserter_set_text(c->inserter, ATTEMPTS_OUTCOME, "cancelled");
	wh_inserter_set_text(c->inserter, ATTEMPTS_ERROR,
						 psprintf("replaced by event %s, which has the same coalesce_key",
								  wh_uuid_text(&coalescing->event_id)));
}

/* It may have been the first of its lane, and those behind it need not wait for its time. */
static void
wake_lane(Coalescer *c, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(c->queue);
	bool		isnull;
	WhWake		wake = {
		.due_at = c->coalescing->now, .tenant = wh_tenant_hash(c->coalescing->tenant_id),
		.lanes = true
	};

	(void) heap_getattr(row, QUEUE_LANE, desc, &isnull);
	if (isnull)
		return;
	wake.endpoint_id = *DatumGetUUIDP(heap_getattr(row, QUEUE_ENDPOINT_ID, desc, &isnull));
	wh_wake_endpoint(&wake);
}

/* Returns false when the row was changed meanwhile, and is to be read again. */
static bool
replace(Coalescer *c, HeapTuple row, Snapshot snapshot)
{
	TupleDesc	desc = RelationGetDescr(c->queue);
	ItemPointerData tid = row->t_self;
	TM_FailureData failure;
	bool		isnull;

	if (DatumGetInt32(heap_getattr(row, QUEUE_ATTEMPTS, desc, &isnull)) > 0 ||
		is_in_flight(c, DatumGetUUIDP(heap_getattr(row, QUEUE_DELIVERY_ID, desc, &isnull))))
		return true;
	switch (table_tuple_delete(c->queue, &tid, GetCurrentCommandId(true), snapshot, InvalidSnapshot,
							   true, &failure, false))
	{
		case TM_Ok:
			note_cancelled(c, row);
			wake_lane(c, row);
			return true;
		case TM_Deleted:
		case TM_SelfModified:
			return true;
		case TM_Updated:
			return false;
		case TM_Invisible:
		case TM_BeingModified:
		case TM_WouldBlock:
			break;
	}
	elog(ERROR, "could not take a delivery out of the queue");
}

static void
coalesce_at(Coalescer *c, const pg_uuid_t *endpoint_id)
{
	bool		again = true;

	while (again)
	{
		ScanKeyData keys[2];	/* a scan turns the table's columns in them into the index's */
		Snapshot	snapshot;
		SysScanDesc scan;
		HeapTuple	row;

		CHECK_FOR_INTERRUPTS();
		ScanKeyInit(&keys[0], QUEUE_ENDPOINT_ID, BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum(endpoint_id));
		ScanKeyInit(&keys[1], QUEUE_COALESCE_KEY, BTEqualStrategyNumber, F_TEXTEQ,
					CStringGetTextDatum(c->coalescing->coalesce_key));
		CommandCounterIncrement();	/* to see what this very statement did */
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		scan = systable_beginscan(c->queue, c->index, true, snapshot, lengthof(keys), keys);
		again = false;
		while ((row = systable_getnext(scan)) != NULL)
			again |= !replace(c, row, snapshot);
		systable_endscan(scan);
		UnregisterSnapshot(snapshot);
	}
}

void
wh_coalesce(const WhCoalescing *coalescing, Relation queue, const WhSubscriber *subscribers,
			int count)
{
	Coalescer	c = {
		.coalescing = coalescing, .queue = queue, .index = wh_table("queue_coalesce_key_idx"),
		.in_flight_count = -1
	};

	for (int i = 0; i < count; i++)
		coalesce_at(&c, &subscribers[i].endpoint_id);
	if (c.attempts == NULL)
		return;
	wh_inserter_close(c.inserter);
	table_close(c.attempts, NoLock);
}
