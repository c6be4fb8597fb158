/*
 * dispatch(): judges its arguments, and writes nothing until every one is found good.
 */
#include "postgres.h"

#include "core/event_type.h"
#include "miscadmin.h"
#include "settings.h"
#include "sql/event.h"
#include "sql/session.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#define ORDERING_KEY_MAX 512
#define COALESCE_KEY_MAX 255

PG_FUNCTION_INFO_V1(wh_sql_dispatch);

/* The arguments of dispatch, in their order. */
typedef enum DispatchArgument
{
	EVENT_TYPE, PAYLOAD, TENANT_ID, ENDPOINT_IDS, IDEMPOTENCY_KEY, ORDERING_KEY, COALESCE_KEY,
	OCCURRED_AT, DELIVER_AT, EXPIRES_AT, HEADERS
} DispatchArgument;


/* ---- judging arguments ---- */

static char *
event_type_argument(FunctionCallInfo fcinfo)
{
	char	   *event_type = PG_ARGISNULL(EVENT_TYPE) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(EVENT_TYPE));

	if (event_type == NULL)
		wh_refuse("event_type", "must not be NULL");
	if (!wh_event_type_valid(event_type))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event_type is not valid: \"%s\"", event_type),
				 errdetail("An event type has at most %d characters: "
						   "letters, digits, \"_\" and \"-\", in parts joined by single dots.",
						   WH_EVENT_TYPE_MAX),
				 errhint("For example \"invoice.paid\".")));
	return event_type;
}

static Datum
payload_argument(FunctionCallInfo fcinfo)
{
	Jsonb	   *payload;
	StringInfoData text;

	if (PG_ARGISNULL(PAYLOAD))
		wh_refuse("payload", "must not be NULL");
	payload = PG_GETARG_JSONB_P(PAYLOAD);

	/*
	 * Its text is what is sent, and may be far larger than what is stored: 1e100000 takes ten
	 * bytes.
	 */
	initStringInfo(&text);
	(void) JsonbToCString(&text, &payload->root, VARSIZE(payload));
	if (text.len > wh_max_payload_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("payload is too large: %d bytes", text.len),
				 errdetail("webhooks.max_payload_size allows %d bytes.", wh_max_payload_bytes),
				 errhint("Send an id by which the receiver can fetch the rest.")));
	pfree(text.data);
	return JsonbPGetDatum(payload);
}

/* DT_NOBEGIN: it was not given. */
static TimestampTz
time_argument(FunctionCallInfo fcinfo, DispatchArgument number, const char *name)
{
	if (PG_ARGISNULL(number))
		return DT_NOBEGIN;
	if (TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(number)))
		wh_refuse(name, "must be finite");
	return PG_GETARG_TIMESTAMPTZ(number);
}

static char *
ordering_key_argument(FunctionCallInfo fcinfo)
{
	char	   *key = PG_ARGISNULL(ORDERING_KEY) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(ORDERING_KEY));

	if (key && (key[0] == '\0' || strlen(key) > ORDERING_KEY_MAX))
		wh_refuse("ordering_key", psprintf("must have 1 to %d bytes", ORDERING_KEY_MAX));
	return key;
}

static char *
coalesce_key_argument(FunctionCallInfo fcinfo)
{
	char	   *key = PG_ARGISNULL(COALESCE_KEY) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(COALESCE_KEY));

	if (key && (key[0] == '\0' || strlen(key) > COALESCE_KEY_MAX))
		wh_refuse("coalesce_key", psprintf("must have 1 to %d bytes", COALESCE_KEY_MAX));
	return key;
}

static TimestampTz
expires_at_argument(FunctionCallInfo fcinfo, TimestampTz deliver_at)
{
	TimestampTz expires_at = time_argument(fcinfo, EXPIRES_AT, "expires_at");

	if (TIMESTAMP_IS_NOBEGIN(expires_at))
		return DT_NOBEGIN;
	if (expires_at <= GetCurrentTimestamp())
		wh_refuse("expires_at", "must lie in the future");
	if (expires_at <= deliver_at)
		wh_refuse("expires_at", "must be later than deliver_at");
	return expires_at;
}

static void
refuse_unsupported_arguments(FunctionCallInfo fcinfo)
{
	static const struct
	{
		DispatchArgument number;
		const char *name;
	}			unsupported[] = {
		{IDEMPOTENCY_KEY, "idempotency_key"}, {HEADERS, "headers"}
	};

	for (int i = 0; i < lengthof(unsupported); i++)
		if (!PG_ARGISNULL(unsupported[i].number))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s is not supported yet", unsupported[i].name),
					 errhint("Leave it NULL.")));
}

Datum
wh_sql_dispatch(PG_FUNCTION_ARGS)
{
	WhEvent		event = {0};
	WhDispatcher *dispatcher;
	pg_uuid_t  *event_id = palloc(sizeof(pg_uuid_t));

	PreventCommandIfReadOnly("webhooks.dispatch()");
	event.event_type = event_type_argument(fcinfo);
	event.payload = payload_argument(fcinfo);
	event.tenant_id = wh_tenant_named(PG_ARGISNULL(TENANT_ID) ? NULL :
									  text_to_cstring(PG_GETARG_TEXT_PP(TENANT_ID)));
	event.ordering_key = ordering_key_argument(fcinfo);
	event.endpoint_ids = PG_ARGISNULL(ENDPOINT_IDS) ? NULL : PG_GETARG_ARRAYTYPE_P(ENDPOINT_IDS);
	event.occurred_at = time_argument(fcinfo, OCCURRED_AT, "occurred_at");
	event.deliver_at = time_argument(fcinfo, DELIVER_AT, "deliver_at");
	event.expires_at = expires_at_argument(fcinfo, event.deliver_at);
	event.coalesce_key = coalesce_key_argument(fcinfo);
	refuse_unsupported_arguments(fcinfo);

	dispatcher = wh_dispatch_begin();
	*event_id = wh_dispatch_add(dispatcher, &event);
	wh_dispatch_end(dispatcher);
	PG_RETURN_UUID_P(event_id);
}
