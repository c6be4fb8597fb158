/*
 * Deliveries whose time is over. A fetch finds those that it could send; the sweep, by their time,
 * those that nobody reads: of endpoints that are paused or held back, and behind others in a lane.
 *
 * What is in hand is left alone: a request that is under way when its delivery expires ends as it
 * ends. What another transaction holds is left for a later sweep.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "shmem.h"
#include "tables.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"
#include "worker/expire.h"
#include "worker/queue.h"
#include "worker/reader.h"
#include "worker/statement.h"

#define ROWS_AT_ONCE 1024		/* deliveries wait meanwhile */

static WhStatement expire_statement = {
	"WITH expired AS (DELETE FROM webhooks.queue WHERE delivery_id IN"
	"   (SELECT q.delivery_id FROM webhooks.queue q"
	"    WHERE q.delivery_id = ANY ($1) AND q.expires_at <= $2 FOR UPDATE SKIP LOCKED)"
	"  RETURNING delivery_id, event_id, endpoint_id, attempts)"
	" INSERT INTO webhooks.dead_letters (delivery_id, event_id, endpoint_id, tenant_id, reason,"
	"  attempts, last_status_code, error_class, last_error, dead_at)"
	" SELECT x.delivery_id, x.event_id, x.endpoint_id, coalesce(ep.tenant_id, ev.tenant_id, ''),"
	"  'expired', x.attempts, last.status_code, last.error_class, last.error, $2"
	" FROM expired x"
	" LEFT JOIN webhooks.endpoints ep ON ep.endpoint_id = x.endpoint_id"
	" LEFT JOIN webhooks.events ev ON ev.event_id = x.event_id"
	" LEFT JOIN LATERAL (SELECT a.status_code, a.error_class, a.error FROM webhooks.attempts a"
	"  WHERE a.delivery_id = x.delivery_id AND x.attempts > 0"
	"  ORDER BY a.attempted_at DESC LIMIT 1) last ON true"
	" ON CONFLICT (delivery_id) DO NOTHING",
	2, {UUIDARRAYOID, TIMESTAMPTZOID}
};

int
wh_expire(Datum *ids, int count, TimestampTz now)
{
	Datum		arguments[2];

	if (count == 0)
		return 0;
	arguments[0] = wh_array(UUIDOID, ids, NULL, count);
	arguments[1] = TimestampTzGetDatum(now);
	wh_statement_execute(&expire_statement, arguments, false, SPI_OK_INSERT);
	return (int) SPI_processed;
}


/* ---- the sweep ---- */

typedef struct Row
{
	pg_uuid_t	delivery_id;
	pg_uuid_t	endpoint_id;
	bool		in_lane;
	int64		lane;
} Row;

typedef struct Sweep
{
	WhQueue    *queue;
	TimestampTz now;
	TimestampTz after;
	TimestampTz next;			/* DT_NOBEGIN: not known, there may be more that have expired */
	Row			rows[ROWS_AT_ONCE];
	int			count;
	int			expired_count;
} Sweep;

static void
take_row(Sweep *sweep, TupleTableSlot *slot)
{
	Row		   *row = &sweep->rows[sweep->count];
	bool		isnull;

	row->delivery_id = *DatumGetUUIDP(wh_slot_get(slot, QUEUE_DELIVERY_ID));
	row->endpoint_id = *DatumGetUUIDP(wh_slot_get(slot, QUEUE_ENDPOINT_ID));
	if ((sweep->queue->shards & wh_shard_bit(wh_shard(&row->endpoint_id))) == 0 ||
		hash_search(sweep->queue->in_hand, &row->delivery_id, HASH_FIND, NULL))
		return;
	row->lane = DatumGetInt64(slot_getattr(slot, QUEUE_LANE, &isnull));
	row->in_lane = !isnull;
	sweep->count++;
}

static void
read_rows(Sweep *sweep)
{
	WhReader   *reader = wh_reader_open(table_open(wh_table("queue"), AccessShareLock),
										wh_table("queue_expires_at_idx"), 1);
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(sweep->after));
	index_rescan(reader->scan, &key, 1, NULL, 0);
	sweep->next = DT_NOBEGIN;
	while (sweep->count < ROWS_AT_ONCE && sweep->next == DT_NOBEGIN)
	{
		CHECK_FOR_INTERRUPTS();
		if (!wh_reader_next(reader))
		{
			sweep->next = DT_NOEND;
			break;
		}
		sweep->after = DatumGetTimestampTz(wh_slot_get(reader->slot, QUEUE_EXPIRES_AT));
		if (sweep->after <= sweep->now)
			take_row(sweep, reader->slot);
		else
			sweep->next = sweep->after;
	}
	wh_reader_close(reader);
}

static void
sweep_part(void *state)
{
	Sweep	   *sweep = state;
	Datum		ids[ROWS_AT_ONCE];

	read_rows(sweep);
	for (int i = 0; i < sweep->count; i++)
		ids[i] = UUIDPGetDatum(&sweep->rows[i].delivery_id);
	sweep->expired_count = wh_expire(ids, sweep->count, sweep->now);
}

/* What stood first in a lane may be gone: those behind it need not wait for its time. */
static void
free_lanes(const Sweep *sweep)
{
	for (int i = 0; i < sweep->count; i++)
	{
		const Row  *row = &sweep->rows[i];
		WhLane	   *lane = row->in_lane ?
			wh_lane_find(sweep->queue->lanes, &row->endpoint_id, row->lane) : NULL;

		if (lane && lane->state == WH_LANE_WAITING)
		{
			WhWake		wake = {
				.endpoint_id = row->endpoint_id, .due_at = sweep->now,
				.tenant = lane->endpoint->tenant->hash
			};

			wh_lane_set(lane, WH_LANE_OPEN);
			wh_scheduler_wake(sweep->queue->scheduler, &wake);
		}
	}
}

WhTransactionResult
wh_queue_expire(WhQueue *queue, TimestampTz *after, TimestampTz *next)
{
	Sweep		sweep = {.queue = queue, .now = GetCurrentTimestamp(), .after = *after};
	WhTransactionResult result = wh_queue_transact(queue, "giving up expired deliveries",
												   sweep_part, &sweep);

	if (result != WH_TRANSACTION_DONE)
		return result;
	queue->expired += sweep.expired_count;
	free_lanes(&sweep);
	*after = sweep.after;
	*next = sweep.next;
	return result;
}
