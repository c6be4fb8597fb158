/*
 * Deliveries that are called off: taken out of the queue, and noted as cancelled. What is in flight
 * meanwhile ends as it ends, and is not tried again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "sql/delivery.h"
#include "sql/session.h"

PG_FUNCTION_INFO_V1(wh_sql_cancel_event);
PG_FUNCTION_INFO_V1(wh_sql_cancel_delivery);

/*
 * The queued deliveries that a condition about $1 chooses; returns how many there were. The workers
 * are told, since those behind them in a lane need not wait for their time any more.
 */
static uint64
cancel(const char *condition, const pg_uuid_t *id)
{
	WhArgument	argument = {UUIDOID, UUIDPGetDatum(id)};
	uint64		count;
	char	   *sql = psprintf(
		"WITH cancelled AS (DELETE FROM webhooks.queue q WHERE %s"
		"  RETURNING q.delivery_id, q.event_id, q.endpoint_id, q.attempts, q.lane),"
		" noted AS (INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id,"
		"   url, attempt, attempted_at, outcome)"
		"  SELECT c.delivery_id, c.event_id, c.endpoint_id, ev.tenant_id, coalesce(ep.url, ''),"
		"   c.attempts, clock_timestamp(), 'cancelled'"
		"  FROM cancelled c JOIN webhooks.events ev ON ev.event_id = c.event_id"
		"  LEFT JOIN webhooks.endpoints ep ON ep.endpoint_id = c.endpoint_id)"
		" SELECT c.endpoint_id, ev.tenant_id, c.lane IS NOT NULL"
		" FROM cancelled c JOIN webhooks.events ev ON ev.event_id = c.event_id",
		condition);

	count = wh_execute(sql, 1, &argument);
	wh_wake_returned();
	return count;
}

Datum
wh_sql_cancel_event(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *event_id = wh_uuid_argument(fcinfo, 0, "event_id");
	uint64		count;

	SPI_connect();
	wh_find_event(event_id);
	count = cancel("q.event_id = $1"
				   " AND q.delivery_id BETWEEN (SELECT low FROM webhooks.delivery_id_range($1))"
				   "  AND (SELECT high FROM webhooks.delivery_id_range($1))", event_id);
	SPI_finish();
	PG_RETURN_INT64((int64) count);
}

Datum
wh_sql_cancel_delivery(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *delivery_id = wh_uuid_argument(fcinfo, 0, "delivery_id");
	pg_uuid_t	event_id;
	pg_uuid_t	endpoint_id;
	uint64		count;

	SPI_connect();
	wh_find_delivery(delivery_id, &event_id, &endpoint_id);
	count = cancel("q.delivery_id = $1", delivery_id);
	SPI_finish();
	PG_RETURN_BOOL(count > 0);
}
