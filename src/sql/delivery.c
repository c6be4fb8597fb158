/*
 * Finding deliveries and events by their id, under the tenant rule.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "sql/delivery.h"
#include "sql/session.h"
#include "wake.h"

void
wh_find_delivery(const pg_uuid_t *delivery_id, pg_uuid_t *event_id, pg_uuid_t *endpoint_id)
{
	WhArgument	arguments[] = {{UUIDOID, UUIDPGetDatum(delivery_id)}, wh_tenant_argument()};

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
	*event_id = wh_result_id(0, 1);
	*endpoint_id = wh_result_id(0, 2);
}

void
wh_find_event(const pg_uuid_t *event_id)
{
	WhArgument	arguments[] = {{UUIDOID, UUIDPGetDatum(event_id)}, wh_tenant_argument()};

	if (wh_execute("SELECT FROM webhooks.events"
				   " WHERE event_id = $1 AND tenant_id = coalesce($2, tenant_id)",
				   2, arguments) == 0)
		wh_refuse_unknown("event", event_id);
}

void
wh_wake_returned(void)
{
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		WhWake		wake = {
			.endpoint_id = wh_result_id(i, 1), .due_at = GetCurrentTransactionStartTimestamp(),
			.tenant = wh_tenant_hash(SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2)),
			.lanes = DatumGetBool(wh_result(i, 3, &isnull))
		};

		wh_wake_endpoint(&wake);
	}
}
