/*
 * Raises operational events.
 *
 * They are raised where deliveries are recorded, so nothing here may make that fail or wait: an
 * event takes no lock of an order, an error in writing it is logged and undoes that event alone,
 * and no notification is sent when their queue is filling up, since a full one would fail the
 * commit.
 *
 * A notification reaches every session of the database that listens, whoever it belongs to: it has
 * ids and words of ours, and no address, answer or payload.
 */
#include "postgres.h"

#include "commands/async.h"
#include "fmgr.h"
#include "id.h"
#include "mb/pg_wchar.h"
#include "sql/event.h"
#include "sql/guard.h"
#include "sql/operational.h"
#include "sql/subscription.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#define CHANNEL "webhooks"
#define NOTIFIED_TEXT_MAX 255	/* bytes of a value, so that all fit into a notification */
#define QUEUE_USAGE_MAX 0.5		/* of PostgreSQL's notification queue */

PG_FUNCTION_INFO_V1(wh_sql_raise_operational);

typedef struct Operational
{
	const char *event_type;
	const char *tenant_id;
	Jsonb	   *data;
} Operational;


/* ---- the notification ---- */

static void
append_member(StringInfo json, const char *name, const char *value, int len)
{
	char	   *cut = pnstrdup(value, pg_mbcliplen(value, len, NOTIFIED_TEXT_MAX));

	appendStringInfoString(json, json->len > 0 ? ", " : "{");
	escape_json(json, name);
	appendStringInfoString(json, ": ");
	escape_json(json, cut);
	pfree(cut);
}

static void
append_from_data(StringInfo json, Jsonb *data, const char *name)
{
	JsonbValue	buffer;
	JsonbValue *value = getKeyJsonValueFromContainer(&data->root, name, strlen(name), &buffer);

	if (value && value->type == jbvString)
		append_member(json, name, value->val.string.val, value->val.string.len);
}

static bool
queue_has_room(void)
{
	LOCAL_FCINFO(fcinfo, 0);

	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	return DatumGetFloat8(pg_notification_queue_usage(fcinfo)) < QUEUE_USAGE_MAX;
}

static void
notify(const Operational *o)
{
	static const char *const told[] = {"endpoint_id", "reason", "delivery_id", "event_id"};
	StringInfoData json;

	if (!queue_has_room())
		return;
	initStringInfo(&json);
	append_member(&json, "type", o->event_type, strlen(o->event_type));
	append_member(&json, "tenant_id", o->tenant_id, strlen(o->tenant_id));
	for (int i = 0; i < lengthof(told); i++)
		append_from_data(&json, o->data, told[i]);
	appendStringInfoChar(&json, '}');
	Async_Notify(CHANNEL, json.data);
	pfree(json.data);
}


/* ---- the event ---- */

static void
dispatch(void *state)
{
	const Operational *o = state;
	WhEvent		event = {
		.event_type = o->event_type, .tenant_id = o->tenant_id,
		.payload = JsonbPGetDatum(o->data), .waits_for_nobody = true, WH_EVENT_NOW
	};
	WhDispatcher *dispatcher = wh_dispatch_begin();

	(void) wh_dispatch_add(dispatcher, &event);
	wh_dispatch_end(dispatcher);
}

static void
dispatch_caught(const Operational *o)
{
	ErrorData  *error = wh_guard(dispatch, unconstify(Operational *, o));

	if (error == NULL)
		return;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("webhooks: could not raise %s: %s", o->event_type, error->message)));
	FreeErrorData(error);
}

/* Nothing is stored of an event that nobody asked for. */
static void
raise_event(const Operational *o)
{
	const WhSubscriber *subscribers;

	notify(o);
	if (wh_subscribers(o->tenant_id, o->event_type, &subscribers) > 0)
		dispatch_caught(o);
}

Datum
wh_sql_raise_operational(PG_FUNCTION_ARGS)
{
	Operational o = {
		.event_type = text_to_cstring(PG_GETARG_TEXT_PP(0)),
		.tenant_id = text_to_cstring(PG_GETARG_TEXT_PP(1)),
		.data = PG_GETARG_JSONB_P(2)
	};

	if (PG_GETARG_BOOL(3))
		notify(&o);
	else
		raise_event(&o);
	PG_RETURN_VOID();
}

void
wh_operational_disabled(const pg_uuid_t *endpoint_id, const WhLockedEndpoint *endpoint,
						const char *reason)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"endpoint_id\": \"%s\", \"url\": ",
					 wh_uuid_text(endpoint_id));
	escape_json(&json, endpoint->url);
	appendStringInfoString(&json, ", \"reason\": ");
	escape_json(&json, reason);
	appendStringInfoChar(&json, '}');
	raise_event(&(Operational) {
		.event_type = "webhooks.endpoint_disabled", .tenant_id = endpoint->tenant_id,
		.data = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)))
	});
}
