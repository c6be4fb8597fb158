/*
 * A look at the whole queue, for what no wake told of. It skips from endpoint to endpoint in the
 * queue's index, so it costs as much as there are endpoints that have something queued, however
 * much that is; and it is done in parts, since deliveries wait meanwhile.
 *
 * The index is read first, and the queue only for endpoints that are not at work: a row that is
 * deleted stays in the index as long as an old snapshot may see it. Those at work are left alone,
 * unless the look stands in for wakes: these may have told of rows before their cursors.
 *
 * What was dispatched by one transaction while another removed the endpoint is found here, too, and
 * cancelled: remove_endpoint did not see it.
 */
#include "postgres.h"

#include "access/itup.h"
#include "access/relscan.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "id.h"
#include "shmem.h"
#include "tables.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"
#include "worker/queue.h"
#include "worker/reader.h"
#include "worker/statement.h"

#define ENTRIES_AT_ONCE 512		/* of the index, in one part */

typedef struct Look
{
	WhQueue    *queue;
	const WhLost *lost;
	pg_uuid_t  *after;
	bool		done;
	TimestampTz expires_at;		/* the queue's earliest, once it is done; DT_NOEND: there is none */
	TimestampTz now;
	WhReader   *rows;
	WhReader   *endpoints;
	Datum		removed[ENTRIES_AT_ONCE];	/* endpoints that are no more, as uuids */
	int			removed_count;
} Look;

/* Of the queue's index, whether of a row that is seen or not. */
typedef struct Entry
{
	pg_uuid_t	endpoint_id;
	TimestampTz due_at;
} Entry;

static bool
next_entry(Look *look, Entry *entry)
{
	IndexScanDesc scan = look->rows->scan;
	bool		isnull;

	if (index_getnext_tid(scan, ForwardScanDirection) == NULL)
		return false;
	entry->endpoint_id =
		*DatumGetUUIDP(index_getattr(scan->xs_itup, 1, scan->xs_itupdesc, &isnull));
	entry->due_at =
		DatumGetTimestampTz(index_getattr(scan->xs_itup, 2, scan->xs_itupdesc, &isnull));
	return true;
}

static void
skip_to_next(Look *look)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_UUID_GT, UUIDPGetDatum(look->after));
	index_rescan(look->rows->scan, &key, 1, NULL, 0);
}

/* False: there is no such endpoint. */
static bool
find_tenant(Look *look, WhWake *wake)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&wake->endpoint_id));
	index_rescan(look->endpoints->scan, &key, 1, NULL, 0);
	if (!wh_reader_next(look->endpoints))
		return false;
	wake->tenant = wh_tenant_hash(TextDatumGetCString(wh_slot_get(look->endpoints->slot,
																  ENDPOINTS_TENANT_ID)));
	return true;
}

/*
 * What is past its cursor it finds by itself. The cursor moves back no further than it must: before
 * it may be many dead entries.
 */
static void
wake_at_work(Look *look, const Entry *entry)
{
	WhWake		wake = {
		.endpoint_id = entry->endpoint_id, .due_at = Max(entry->due_at, look->lost->due_at),
		.tenant = WH_TENANT_UNKNOWN, .lanes = look->lost->lanes
	};

	if (look->lost->due_at != DT_NOEND)
		wh_scheduler_wake(look->queue->scheduler, &wake);
}

/* Returns whether the entry's endpoint is dealt with. */
static bool
look_at_entry(Look *look, const Entry *entry, bool last)
{
	WhWake		wake = {
		.endpoint_id = entry->endpoint_id, .due_at = entry->due_at, .lanes = true
	};

	if ((look->queue->shards & wh_shard_bit(wh_shard(&entry->endpoint_id))) == 0)
		return true;
	if (wh_scheduler_at_work(look->queue->scheduler, &entry->endpoint_id, look->now))
	{
		wake_at_work(look, entry);
		return true;
	}

	/* a dead one, perhaps the first of many: who reads the endpoint will find out */
	if (!index_fetch_heap(look->rows->scan, look->rows->slot) && !last)
		return false;
	if (find_tenant(look, &wake))
		wh_scheduler_found(look->queue->scheduler, &wake, look->now);
	else
		look->removed[look->removed_count++] = UUIDPGetDatum(wh_uuid_copy(&wake.endpoint_id));
	return true;
}

/* Where endpoints have a row each, the next entry is the next endpoint's: nothing is to skip. */
static void
read_entries(Look *look)
{
	skip_to_next(look);
	for (int i = 1; i <= ENTRIES_AT_ONCE; i++)
	{
		Entry		entry;

		if (!next_entry(look, &entry))
		{
			look->done = true;
			return;
		}
		if (memcmp(&entry.endpoint_id, look->after, UUID_LEN) == 0)
			skip_to_next(look);
		else if (look_at_entry(look, &entry, i == ENTRIES_AT_ONCE))
			*look->after = entry.endpoint_id;
	}
}

/*
 * As many as is little work; the next look finds the rest. Without any endpoint it is a dump that
 * is being restored, and those are still to come.
 */
static WhStatement cancel_statement = {
	"WITH cancelled AS (DELETE FROM webhooks.queue WHERE delivery_id IN"
	"   (SELECT q.delivery_id FROM webhooks.queue q"
	"    WHERE q.endpoint_id = ANY ($1) AND EXISTS (SELECT FROM webhooks.endpoints)"
	"     AND NOT EXISTS (SELECT FROM webhooks.endpoints e WHERE e.endpoint_id = q.endpoint_id)"
	"    LIMIT 1000 FOR UPDATE OF q SKIP LOCKED)"
	"  RETURNING delivery_id, event_id, endpoint_id, attempts)"
	" INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url, attempt,"
	"  attempted_at, outcome)"
	" SELECT c.delivery_id, c.event_id, c.endpoint_id, ev.tenant_id,"
	"  coalesce((SELECT a.url FROM webhooks.attempts a WHERE a.delivery_id = c.delivery_id"
	"   LIMIT 1), ''),"
	"  c.attempts, clock_timestamp(), 'cancelled'"
	" FROM cancelled c JOIN webhooks.events ev ON ev.event_id = c.event_id",
	1, {UUIDARRAYOID}
};

static void
cancel_removed(Look *look)
{
	Datum		argument = wh_array(UUIDOID, look->removed, NULL, look->removed_count);

	wh_statement_execute(&cancel_statement, &argument, false, SPI_OK_INSERT);
}

/* The first entry, whether of a row that is seen or not: who sweeps will find out. */
static TimestampTz
first_expiry(void)
{
	WhReader   *reader = wh_reader_open(table_open(wh_table("queue"), AccessShareLock),
										wh_table("queue_expires_at_idx"), 0);
	IndexScanDesc scan = reader->scan;
	TimestampTz at = DT_NOEND;
	bool		isnull;

	scan->xs_want_itup = true;
	index_rescan(scan, NULL, 0, NULL, 0);
	if (index_getnext_tid(scan, ForwardScanDirection) != NULL)
		at = DatumGetTimestampTz(index_getattr(scan->xs_itup, 1, scan->xs_itupdesc, &isnull));
	wh_reader_close(reader);
	return at;
}

static void
look(void *state)
{
	Look	   *look = state;

	look->rows = wh_reader_open(table_open(wh_table("queue"), AccessShareLock),
								wh_table("queue_endpoint_id_due_at_idx"), 1);
	look->rows->scan->xs_want_itup = true;
	look->endpoints = wh_reader_open(table_open(wh_table("endpoints"), AccessShareLock),
									 wh_table("endpoints_pkey"), 1);
	read_entries(look);
	wh_reader_close(look->rows);
	wh_reader_close(look->endpoints);
	if (look->removed_count > 0)
		cancel_removed(look);
	if (look->done)
		look->expires_at = first_expiry();
}

WhTransactionResult
wh_queue_look(WhQueue *queue, const WhLost *lost, pg_uuid_t *after, bool *done,
			  TimestampTz *expires_at)
{
	Look		part = {
		.queue = queue, .lost = lost, .after = after, .now = GetCurrentTimestamp()
	};
	WhTransactionResult result = wh_queue_transact(queue, "looking for queued deliveries", look,
												   &part);

	*done = part.done;
	*expires_at = part.expires_at;
	return result;
}
