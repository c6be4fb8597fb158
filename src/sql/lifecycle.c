/*
 * What is done to an endpoint between registering and its end.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "id.h"
#include "sql/event.h"
#include "sql/lifecycle.h"
#include "sql/operational.h"
#include "sql/session.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#define IS_SENT_NOTHING \
	"A disabled endpoint is sent nothing; enable_endpoint takes it back into service."

#define REASON_MAX 10000		/* bytes */

PG_FUNCTION_INFO_V1(wh_sql_pause_endpoint);
PG_FUNCTION_INFO_V1(wh_sql_resume_endpoint);
PG_FUNCTION_INFO_V1(wh_sql_disable_endpoint);
PG_FUNCTION_INFO_V1(wh_sql_enable_endpoint);
PG_FUNCTION_INFO_V1(wh_sql_remove_endpoint);
PG_FUNCTION_INFO_V1(wh_sql_ping_endpoint);

WhLockedEndpoint
wh_lock_endpoint_row(const pg_uuid_t *endpoint_id)
{
	WhArgument	arguments[] = {{UUIDOID, UUIDPGetDatum(endpoint_id)}, wh_tenant_argument()};
	HeapTuple	row;
	TupleDesc	desc;
	bool		isnull;

	if (wh_execute("SELECT state, tenant_id, url, registered FROM webhooks.endpoints"
				   " WHERE endpoint_id = $1 AND tenant_id = coalesce($2, tenant_id)"
				   " FOR NO KEY UPDATE", 2, arguments) != 1)
		wh_refuse_unknown("endpoint", endpoint_id);
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	return (WhLockedEndpoint)
	{
		.state = SPI_getvalue(row, desc, 1), .tenant_id = SPI_getvalue(row, desc, 2),
		.url = SPI_getvalue(row, desc, 3),
		.registered = DatumGetBool(wh_result(0, 4, &isnull))
	};
}

char *
wh_lock_endpoint(const pg_uuid_t *endpoint_id)
{
	return wh_lock_endpoint_row(endpoint_id).state;
}

void
wh_find_endpoint(const pg_uuid_t *endpoint_id)
{
	WhArgument	arguments[] = {{UUIDOID, UUIDPGetDatum(endpoint_id)}, wh_tenant_argument()};

	if (wh_execute("SELECT FROM webhooks.endpoints"
				   " WHERE endpoint_id = $1 AND tenant_id = coalesce($2, tenant_id)",
				   2, arguments) != 1)
		wh_refuse_unknown("endpoint", endpoint_id);
}

static void
set_state(const pg_uuid_t *endpoint_id, const char *state, const char *reason)
{
	WhArgument	arguments[] = {
		{UUIDOID, UUIDPGetDatum(endpoint_id)}, wh_text_argument(state), wh_text_argument(reason)
	};

	wh_execute("UPDATE webhooks.endpoints SET state = $2, disabled_reason = $3, updated_at = now()"
			   " WHERE endpoint_id = $1",
			   3, arguments);
}

static void
refuse_disabled(const pg_uuid_t *endpoint_id, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("endpoint %s is disabled", wh_uuid_text(endpoint_id)),
			 errhint("%s", hint)));
}

/* Pauses or resumes an endpoint that is not disabled. */
static void
change_state(const pg_uuid_t *endpoint_id, const char *state, const char *hint_if_disabled)
{
	char	   *before;

	SPI_connect();
	before = wh_lock_endpoint(endpoint_id);
	if (strcmp(before, "disabled") == 0)
		refuse_disabled(endpoint_id, hint_if_disabled);
	if (strcmp(before, state) != 0)
		set_state(endpoint_id, state, NULL);
	SPI_finish();
}

Datum
wh_sql_pause_endpoint(PG_FUNCTION_ARGS)
{
	change_state(wh_uuid_argument(fcinfo, 0, "endpoint_id"), "paused", IS_SENT_NOTHING);
	PG_RETURN_VOID();
}

Datum
wh_sql_resume_endpoint(PG_FUNCTION_ARGS)
{
	change_state(wh_uuid_argument(fcinfo, 0, "endpoint_id"), "active", "Use enable_endpoint.");
	PG_RETURN_VOID();
}

Datum
wh_sql_disable_endpoint(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");
	WhLockedEndpoint endpoint;
	char	   *reason = wh_required_text(fcinfo, 1, "reason");

	if (reason[0] == '\0' || strlen(reason) > REASON_MAX)
		wh_refuse("reason", psprintf("must have 1 to %d bytes", REASON_MAX));
	SPI_connect();
	endpoint = wh_lock_endpoint_row(endpoint_id);
	set_state(endpoint_id, "disabled", reason);
	if (strcmp(endpoint.state, "disabled") != 0)
		wh_operational_disabled(endpoint_id, &endpoint, reason);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
wh_sql_enable_endpoint(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");
	WhLockedEndpoint endpoint;

	SPI_connect();
	endpoint = wh_lock_endpoint_row(endpoint_id);
	if (strcmp(endpoint.state, "active") != 0)
		set_state(endpoint_id, "active", NULL);

	/* or what led to its being disabled would disable it again at the next failure */
	if (strcmp(endpoint.state, "disabled") == 0)
	{
		WhArgument	arguments[] = {
			{UUIDOID, UUIDPGetDatum(endpoint_id)}, wh_text_argument(endpoint.tenant_id)
		};

		wh_execute("INSERT INTO webhooks.endpoint_health (endpoint_id, tenant_id, counted_from)"
				   " VALUES ($1, $2, now()) ON CONFLICT (endpoint_id)"
				   " DO UPDATE SET failing_since = NULL, alerted_at = NULL, counted_from = now()",
				   lengthof(arguments), arguments);
	}
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
wh_sql_remove_endpoint(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");
	WhArgument	argument = {UUIDOID, UUIDPGetDatum(endpoint_id)};

	SPI_connect();
	(void) wh_lock_endpoint(endpoint_id);
	wh_execute("WITH cancelled AS (DELETE FROM webhooks.queue WHERE endpoint_id = $1"
			   "  RETURNING delivery_id, event_id, endpoint_id, attempts)"
			   " INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url,"
			   " attempt, attempted_at, outcome)"
			   " SELECT c.delivery_id, c.event_id, c.endpoint_id, e.tenant_id, e.url, c.attempts,"
			   " clock_timestamp(), 'cancelled'"
			   " FROM cancelled c JOIN webhooks.endpoints e ON e.endpoint_id = c.endpoint_id",
			   1, &argument);
	wh_execute("DELETE FROM webhooks.endpoint_secrets WHERE endpoint_id = $1", 1, &argument);
	wh_execute("DELETE FROM webhooks.endpoint_health WHERE endpoint_id = $1", 1, &argument);
	wh_execute("DELETE FROM webhooks.endpoints WHERE endpoint_id = $1", 1, &argument);
	SPI_finish();
	PG_RETURN_VOID();
}

/* What the receiver gets tells which endpoint it is, and nothing else that it does not know. */
static Datum
ping_payload(const pg_uuid_t *endpoint_id)
{
	char	   *json = psprintf("{\"endpoint_id\": \"%s\"}", wh_uuid_text(endpoint_id));

	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

Datum
wh_sql_ping_endpoint(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");
	Datum		id = UUIDPGetDatum(endpoint_id);
	WhEvent		event = {
		.event_type = "webhooks.ping", .payload = ping_payload(endpoint_id),
		.endpoint_ids = construct_array(&id, 1, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR),
		WH_EVENT_NOW
	};
	pg_uuid_t  *event_id = palloc(sizeof(pg_uuid_t));
	WhLockedEndpoint endpoint;
	WhDispatcher *dispatcher;

	SPI_connect();
	endpoint = wh_lock_endpoint_row(endpoint_id);
	if (strcmp(endpoint.state, "disabled") == 0)
		refuse_disabled(endpoint_id, IS_SENT_NOTHING);
	event.tenant_id = endpoint.tenant_id;
	dispatcher = wh_dispatch_begin();
	*event_id = wh_dispatch_add(dispatcher, &event);
	wh_dispatch_end(dispatcher);
	SPI_finish();
	PG_RETURN_UUID_P(event_id);
}
