/*
 * Replays: a delivery goes back into the queue, with its id and its event's, as if it had just been
 * dispatched.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "sql/delivery.h"
#include "sql/session.h"
#include "utils/timestamp.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(wh_sql_replay_delivery);
PG_FUNCTION_INFO_V1(wh_sql_replay_event);
PG_FUNCTION_INFO_V1(wh_sql_replay_failed);
PG_FUNCTION_INFO_V1(wh_sql_discard_dead_letter);

/* An endpoint whose deliveries are replayed. */
typedef struct Target
{
	WhWake		wake;			/* for what is going to be queued */
	bool		by_key;			/* its lanes are those of ordering keys */
} Target;

/* Against remove_endpoint: what is queued for an endpoint that is gone would never be sent. */
static Target
lock_endpoint_row(const pg_uuid_t *endpoint_id)
{
	WhArgument	arguments[] = {{UUIDOID, UUIDPGetDatum(endpoint_id)}, wh_tenant_argument()};
	char	   *ordering;

	if (wh_execute("SELECT tenant_id, ordering FROM webhooks.endpoints"
				   " WHERE endpoint_id = $1 AND tenant_id = coalesce($2, tenant_id)"
				   " FOR KEY SHARE", 2, arguments) == 0)
		wh_refuse_unknown("endpoint", endpoint_id);
	ordering = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	return (Target)
	{
		.wake = {
			.endpoint_id = *endpoint_id, .due_at = GetCurrentTransactionStartTimestamp(),
			.tenant = wh_tenant_hash(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)),
			.lanes = strcmp(ordering, "none") != 0
		},
		.by_key = strcmp(ordering, "key") == 0
	};
}

/* One that is queued already starts anew; whatever it carried to end it sooner is forgotten. */
#define START_ANEW \
	" ON CONFLICT (delivery_id) DO UPDATE SET due_at = excluded.due_at, attempts = 0," \
	"  expires_at = NULL, coalesce_key = NULL"

Datum
wh_sql_replay_delivery(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *delivery_id = wh_uuid_argument(fcinfo, 0, "delivery_id");
	pg_uuid_t	event_id;
	pg_uuid_t	endpoint_id;
	Target		target;

	SPI_connect();
	wh_find_delivery(delivery_id, &event_id, &endpoint_id);
	target = lock_endpoint_row(&endpoint_id);
	{
		WhArgument	arguments[] = {
			{UUIDOID, UUIDPGetDatum(delivery_id)}, {UUIDOID, UUIDPGetDatum(&event_id)},
			{UUIDOID, UUIDPGetDatum(&endpoint_id)}
		};

		wh_execute("INSERT INTO webhooks.queue"
				   " (delivery_id, event_id, endpoint_id, due_at, attempts, lane)"
				   " SELECT $1, $2, $3, clock_timestamp(), 0,"
				   "  webhooks.lane(ep.ordering, ev.ordering_key)"
				   " FROM webhooks.events ev, webhooks.endpoints ep"
				   " WHERE ev.event_id = $2 AND ep.endpoint_id = $3"
				   START_ANEW, 3, arguments);
		/* afterwards: it may have become one while its row was waited for */
		wh_execute("DELETE FROM webhooks.dead_letters WHERE delivery_id = $1", 1, arguments);
	}
	SPI_finish();
	wh_wake_endpoint(&target.wake);
	PG_RETURN_UUID_P(delivery_id);
}

/*
 * Whatever became of the event's deliveries. Those to endpoints that are gone are left out, unless
 * just one was asked for.
 */
Datum
wh_sql_replay_event(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *event_id = wh_uuid_argument(fcinfo, 0, "event_id");
	WhArgument	arguments[] = {
		{UUIDOID, UUIDPGetDatum(event_id)}, {UUIDOID, PG_GETARG_DATUM(1), PG_ARGISNULL(1)}
	};
	uint64		count;

	SPI_connect();
	wh_find_event(event_id);
	if (!PG_ARGISNULL(1))
		(void) lock_endpoint_row(PG_GETARG_UUID_P(1));
	count = wh_execute("WITH made AS MATERIALIZED ("
					   "  SELECT DISTINCT d.delivery_id, d.endpoint_id"
					   "  FROM webhooks.delivery_id_range($1) r, LATERAL ("
					   "   SELECT q.delivery_id, q.event_id, q.endpoint_id FROM webhooks.queue q"
					   "    WHERE q.delivery_id BETWEEN r.low AND r.high"
					   "   UNION ALL"
					   "   SELECT l.delivery_id, l.event_id, l.endpoint_id"
					   "    FROM webhooks.dead_letters l"
					   "    WHERE l.delivery_id BETWEEN r.low AND r.high"
					   "   UNION ALL"
					   "   SELECT a.delivery_id, a.event_id, a.endpoint_id FROM webhooks.attempts a"
					   "    WHERE a.delivery_id BETWEEN r.low AND r.high) d"
					   "  WHERE d.event_id = $1 AND d.endpoint_id = coalesce($2, d.endpoint_id)"
					   " ), locked AS MATERIALIZED ("
					   "  SELECT ep.endpoint_id, ep.ordering, m.delivery_id"
					   "  FROM webhooks.endpoints ep JOIN made m ON m.endpoint_id = ep.endpoint_id"
					   "  FOR KEY SHARE OF ep)"
					   " INSERT INTO webhooks.queue AS q"
					   "  (delivery_id, event_id, endpoint_id, due_at, attempts, lane)"
					   " SELECT k.delivery_id, $1, k.endpoint_id, clock_timestamp(), 0,"
					   "  webhooks.lane(k.ordering, ev.ordering_key)"
					   " FROM locked k, webhooks.events ev WHERE ev.event_id = $1"
					   " ORDER BY k.delivery_id"
					   START_ANEW
					   " RETURNING endpoint_id, (SELECT tenant_id FROM webhooks.events"
					   "  WHERE event_id = $1), lane IS NOT NULL",
					   2, arguments);
	wh_wake_returned();
	/* afterwards: one may have become a dead letter while its row was waited for */
	wh_execute("DELETE FROM webhooks.dead_letters l"
			   " USING webhooks.delivery_id_range($1) r, webhooks.queue q"
			   " WHERE l.delivery_id BETWEEN r.low AND r.high AND l.event_id = $1"
			   "  AND q.delivery_id = l.delivery_id", 1, arguments);
	SPI_finish();
	PG_RETURN_INT64((int64) count);
}

/*
 * In one statement, however many they are: the server sorts and keeps them in its own files, and
 * the endpoint is woken once. Only the keys of an endpoint that orders by them are looked up.
 */
Datum
wh_sql_replay_failed(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");
	WhArgument	arguments[] = {
		{UUIDOID, UUIDPGetDatum(endpoint_id)}, {TIMESTAMPTZOID, PG_GETARG_DATUM(1)},
		{TIMESTAMPTZOID, PG_GETARG_DATUM(2)}
	};
	Target		target;
	uint64		count;
	const char *sql = "WITH dead AS (DELETE FROM webhooks.dead_letters"
		"  WHERE endpoint_id = $1 AND dead_at >= $2 AND dead_at <= $3"
		"  RETURNING delivery_id, event_id, endpoint_id)"
		" INSERT INTO webhooks.queue (delivery_id, event_id, endpoint_id, due_at, attempts, lane)"
		" SELECT d.delivery_id, d.event_id, d.endpoint_id, clock_timestamp(), 0, %s"
		" FROM dead d %s JOIN webhooks.endpoints ep ON ep.endpoint_id = d.endpoint_id"
		" ORDER BY d.delivery_id" START_ANEW;

	if (PG_ARGISNULL(1))
		wh_refuse("since", "must not be NULL");
	if (PG_ARGISNULL(2))
		wh_refuse("until", "must not be NULL");
	if (PG_GETARG_TIMESTAMPTZ(1) > PG_GETARG_TIMESTAMPTZ(2))
		wh_refuse("since", "must not be later than until");

	SPI_connect();
	target = lock_endpoint_row(endpoint_id);
	count = wh_execute(target.by_key
					   ? psprintf(sql, "webhooks.lane(ep.ordering, ev.ordering_key)",
								  "LEFT JOIN webhooks.events ev ON ev.event_id = d.event_id")
					   : psprintf(sql, "webhooks.lane(ep.ordering, NULL)", ""), 3, arguments);
	SPI_finish();
	if (count > 0)
		wh_wake_endpoint(&target.wake);
	PG_RETURN_INT64((int64) count);
}

Datum
wh_sql_discard_dead_letter(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *delivery_id = wh_uuid_argument(fcinfo, 0, "delivery_id");
	WhArgument	arguments[] = {{UUIDOID, UUIDPGetDatum(delivery_id)}, wh_tenant_argument()};

	SPI_connect();
	if (wh_execute("DELETE FROM webhooks.dead_letters"
				   " WHERE delivery_id = $1 AND tenant_id = coalesce($2, tenant_id)",
				   2, arguments) == 0)
		wh_refuse_unknown("dead letter", delivery_id);
	SPI_finish();
	PG_RETURN_VOID();
}
