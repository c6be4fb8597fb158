/*
 * Replays: a delivery goes back into the queue, with its id and its event's, as if it had just been
 * dispatched.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "sql/session.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(wh_sql_replay_delivery);
PG_FUNCTION_INFO_V1(wh_sql_replay_failed);
PG_FUNCTION_INFO_V1(wh_sql_discard_dead_letter);

static WhArgument
tenant_argument(void)
{
	const char *tenant = wh_session_tenant();

	return (WhArgument)
	{
		TEXTOID, tenant ? CStringGetTextDatum(tenant) : (Datum) 0, tenant == NULL
	};
}

/* The event and the endpoint of a delivery, wherever it stands; raises P0002 when it is unknown. */
static void
find_delivery(const pg_uuid_t *delivery_id, pg_uuid_t *event_id, pg_uuid_t *endpoint_id)
{
	WhArgument	arguments[] = {{UUIDOID, UUIDPGetDatum(delivery_id)}, tenant_argument()};
	bool		isnull;

	if (wh_execute("SELECT d.event_id, d.endpoint_id FROM ("
				   "  SELECT event_id, endpoint_id FROM webhooks.queue WHERE delivery_id = $1"
				   "  UNION ALL"
				   " SELECT event_id, endpoint_id FROM webhooks.dead_letters WHERE delivery_id = $1"
				   "  UNION ALL"
				   " SELECT event_id, endpoint_id FROM webhooks.attempts WHERE delivery_id = $1"
				   " ) d JOIN webhooks.events e"
				   " ON e.event_id = d.event_id AND e.tenant_id = coalesce($2, e.tenant_id)"
				   " LIMIT 1", 2, arguments) == 0)
		wh_refuse_unknown("delivery", delivery_id);
	*event_id = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
											 &isnull));
	*endpoint_id = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2,
												&isnull));
}

/*
 * Against remove_endpoint: what is queued for an endpoint that is gone would never be sent. Gives
 * the wake for what is going to be queued.
 */
static WhWake
lock_endpoint_row(const pg_uuid_t *endpoint_id)
{
	WhArgument	arguments[] = {{UUIDOID, UUIDPGetDatum(endpoint_id)}, tenant_argument()};

	if (wh_execute("SELECT tenant_id FROM webhooks.endpoints"
				   " WHERE endpoint_id = $1 AND tenant_id = coalesce($2, tenant_id)"
				   " FOR KEY SHARE", 2, arguments) == 0)
		wh_refuse_unknown("endpoint", endpoint_id);
	return (WhWake)
	{
		.endpoint_id = *endpoint_id, .due_at = GetCurrentTransactionStartTimestamp(),
		.tenant = wh_tenant_hash(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1))
	};
}

Datum
wh_sql_replay_delivery(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *delivery_id = wh_uuid_argument(fcinfo, 0, "delivery_id");
	pg_uuid_t	event_id;
	pg_uuid_t	endpoint_id;
	WhWake		wake;

	SPI_connect();
	find_delivery(delivery_id, &event_id, &endpoint_id);
	wake = lock_endpoint_row(&endpoint_id);
	{
		WhArgument	arguments[] = {
			{UUIDOID, UUIDPGetDatum(delivery_id)}, {UUIDOID, UUIDPGetDatum(&event_id)},
			{UUIDOID, UUIDPGetDatum(&endpoint_id)}
		};

		wh_execute("DELETE FROM webhooks.dead_letters WHERE delivery_id = $1", 1, arguments);
		wh_execute("INSERT INTO webhooks.queue"
				   " (delivery_id, event_id, endpoint_id, due_at, attempts, lane)"
				   " SELECT $1, $2, $3, clock_timestamp(), 0,"
				   "  webhooks.lane(ep.ordering, ev.ordering_key)"
				   " FROM webhooks.events ev, webhooks.endpoints ep"
				   " WHERE ev.event_id = $2 AND ep.endpoint_id = $3"
				   " ON CONFLICT (delivery_id)"
				   " DO UPDATE SET due_at = excluded.due_at, attempts = 0, expires_at = NULL,"
				   "  coalesce_key = NULL", 3, arguments);
	}
	SPI_finish();
	wh_wake_endpoint(&wake);
	PG_RETURN_UUID_P(delivery_id);
}

Datum
wh_sql_replay_failed(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");
	WhArgument	arguments[] = {
		{UUIDOID, UUIDPGetDatum(endpoint_id)}, {TIMESTAMPTZOID, PG_GETARG_DATUM(1)},
		{TIMESTAMPTZOID, PG_GETARG_DATUM(2)}
	};
	uint64		count;
	WhWake		wake;

	if (PG_ARGISNULL(1))
		wh_refuse("since", "must not be NULL");
	if (PG_ARGISNULL(2))
		wh_refuse("until", "must not be NULL");

	SPI_connect();
	wake = lock_endpoint_row(endpoint_id);
	count = wh_execute("WITH dead AS (DELETE FROM webhooks.dead_letters"
					   "  WHERE endpoint_id = $1 AND dead_at >= $2 AND dead_at <= $3"
					   "  RETURNING delivery_id, event_id, endpoint_id)"
					   " INSERT INTO webhooks.queue"
					   " (delivery_id, event_id, endpoint_id, due_at, attempts, lane)"
					   " SELECT d.delivery_id, d.event_id, d.endpoint_id, clock_timestamp(), 0,"
					   "  webhooks.lane(ep.ordering, ev.ordering_key)"
					   " FROM dead d LEFT JOIN webhooks.events ev ON ev.event_id = d.event_id"
					   " JOIN webhooks.endpoints ep ON ep.endpoint_id = d.endpoint_id"
					   " ORDER BY d.delivery_id",
					   3, arguments);
	SPI_finish();
	if (count > 0)
		wh_wake_endpoint(&wake);
	PG_RETURN_INT64((int64) count);
}

Datum
wh_sql_discard_dead_letter(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *delivery_id = wh_uuid_argument(fcinfo, 0, "delivery_id");
	WhArgument	arguments[] = {{UUIDOID, UUIDPGetDatum(delivery_id)}, tenant_argument()};

	SPI_connect();
	if (wh_execute("DELETE FROM webhooks.dead_letters"
				   " WHERE delivery_id = $1 AND tenant_id = coalesce($2, tenant_id)",
				   2, arguments) == 0)
		wh_refuse_unknown("dead letter", delivery_id);
	SPI_finish();
	PG_RETURN_VOID();
}
