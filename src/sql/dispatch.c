/*
 * dispatch() and dispatch_raw(): judge their arguments, and write nothing until every one is found
 * good.
 */
#include "postgres.h"

#include "core/media_type.h"
#include "miscadmin.h"
#include "secret.h"
#include "sql/catalog.h"
#include "sql/event.h"
#include "sql/header.h"
#include "sql/payload.h"
#include "sql/session.h"
#include "sql/target.h"
#include "tcop/utility.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#define COALESCE_KEY_MAX 255	/* bytes */

PG_FUNCTION_INFO_V1(wh_sql_dispatch);
PG_FUNCTION_INFO_V1(wh_sql_dispatch_to_urls);
PG_FUNCTION_INFO_V1(wh_sql_dispatch_raw);

/* The arguments of dispatch, in their order; dispatch_raw has them after content_type. */
typedef enum DispatchArgument
{
	EVENT_TYPE, PAYLOAD, TENANT_ID, ENDPOINT_IDS, IDEMPOTENCY_KEY, ORDERING_KEY, COALESCE_KEY,
	OCCURRED_AT, DELIVER_AT, EXPIRES_AT, HEADERS
} DispatchArgument;


/* ---- judging arguments ---- */

static char *
event_type_argument(FunctionCallInfo fcinfo)
{
	char	   *event_type = wh_required_text(fcinfo, EVENT_TYPE, "event_type");

	wh_event_type_check("event_type", event_type);
	return event_type;
}

static Datum
payload_argument(FunctionCallInfo fcinfo)
{
	Jsonb	   *payload;

	if (PG_ARGISNULL(PAYLOAD))
		wh_refuse("payload", "must not be NULL");
	payload = PG_GETARG_JSONB_P(PAYLOAD);
	wh_payload_check_size(payload, "payload");
	return JsonbPGetDatum(payload);
}

static bytea *
body_argument(FunctionCallInfo fcinfo, int number)
{
	bytea	   *body;

	if (PG_ARGISNULL(number))
		wh_refuse("body", "must not be NULL");
	body = PG_GETARG_BYTEA_PP(number);
	wh_payload_check_len(VARSIZE_ANY_EXHDR(body), "body");
	return body;
}

static char *
content_type_argument(FunctionCallInfo fcinfo, int number)
{
	char	   *content_type = wh_required_text(fcinfo, number, "content_type");

	if (!wh_media_type_valid(content_type))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("content_type must be a media type of at most %d bytes", WH_MEDIA_TYPE_MAX),
				 errhint("For example \"text/plain; charset=utf-8\".")));
	return content_type;
}

/* DT_NOBEGIN: it was not given. Receivers get times by RFC 3339, with years of four digits. */
static TimestampTz
time_argument(FunctionCallInfo fcinfo, DispatchArgument number, const char *name)
{
	TimestampTz at;

	if (PG_ARGISNULL(number))
		return DT_NOBEGIN;
	at = PG_GETARG_TIMESTAMPTZ(number);
	if (TIMESTAMP_NOT_FINITE(at))
		wh_refuse(name, "must be finite");
	if (at < (date2j(1, 1, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY ||
		at >= (date2j(10000, 1, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)
		wh_refuse(name, "must lie in the years 1 to 9999");
	return at;
}

/* NULL: it was not given. */
static char *
key_argument(FunctionCallInfo fcinfo, DispatchArgument number, const char *name, int max)
{
	char	   *key = wh_given_text(fcinfo, number);

	if (key && (key[0] == '\0' || strlen(key) > max))
		wh_refuse(name, psprintf("must have 1 to %d bytes", max));
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

/* NULL: it was not given. */
static WhHeaders *
headers_argument(FunctionCallInfo fcinfo)
{
	WhHeaders  *headers;

	if (PG_ARGISNULL(HEADERS))
		return NULL;
	headers = palloc(sizeof(WhHeaders));
	*headers = wh_headers_judge_new("headers", PG_GETARG_JSONB_P(HEADERS));
	return headers;
}

/* NULL: it was not given. */
static ArrayType *
endpoint_ids_argument(FunctionCallInfo fcinfo)
{
	Datum	   *elements;

	if (PG_ARGISNULL(ENDPOINT_IDS))
		return NULL;
	(void) wh_elements("endpoint_ids", PG_GETARG_ARRAYTYPE_P(ENDPOINT_IDS), &elements);
	return PG_GETARG_ARRAYTYPE_P(ENDPOINT_IDS);
}

/* From tenant_id on. */
static void
read_options(FunctionCallInfo fcinfo, WhEvent *event)
{
	event->tenant_id = wh_tenant_named_by(fcinfo, TENANT_ID);
	event->endpoint_ids = endpoint_ids_argument(fcinfo);
	event->idempotency_key = key_argument(fcinfo, IDEMPOTENCY_KEY, "idempotency_key",
											WH_IDEMPOTENCY_KEY_MAX);
	event->ordering_key = key_argument(fcinfo, ORDERING_KEY, "ordering_key", WH_ORDERING_KEY_MAX);
	event->occurred_at = time_argument(fcinfo, OCCURRED_AT, "occurred_at");
	event->deliver_at = time_argument(fcinfo, DELIVER_AT, "deliver_at");
	event->expires_at = expires_at_argument(fcinfo, event->deliver_at);
	event->coalesce_key = key_argument(fcinfo, COALESCE_KEY, "coalesce_key", COALESCE_KEY_MAX);
	event->headers = headers_argument(fcinfo);
}


/* ---- dispatching ---- */

static Datum
dispatch(const WhEvent *event)
{
	WhDispatcher *dispatcher = wh_dispatch_begin();
	pg_uuid_t  *event_id = palloc(sizeof(pg_uuid_t));

	*event_id = wh_dispatch_add(dispatcher, event);
	wh_dispatch_end(dispatcher);
	if (event->headers)
		wh_secret_wipe(event->headers->authorization);
	return UUIDPGetDatum(event_id);
}

Datum
wh_sql_dispatch(PG_FUNCTION_ARGS)
{
	WhEvent		event = {0};

	PreventCommandIfReadOnly("webhooks.dispatch()");
	event.event_type = event_type_argument(fcinfo);
	event.payload = payload_argument(fcinfo);
	read_options(fcinfo, &event);
	return dispatch(&event);
}

Datum
wh_sql_dispatch_raw(PG_FUNCTION_ARGS)
{
	enum
	{
		BODY = 1, CONTENT_TYPE, OPTIONS
	};
	WhEvent		event = {0};
	LOCAL_FCINFO(options, HEADERS + 1);

	PreventCommandIfReadOnly("webhooks.dispatch_raw()");
	event.event_type = event_type_argument(fcinfo);
	event.body = body_argument(fcinfo, BODY);
	event.content_type = content_type_argument(fcinfo, CONTENT_TYPE);

	/* where dispatch has them */
	memcpy(&options->args[TENANT_ID], &fcinfo->args[OPTIONS],
		   (HEADERS - TENANT_ID + 1) * sizeof(NullableDatum));
	read_options(options, &event);
	return dispatch(&event);
}


/* ---- dispatch_to_urls ---- */

/* Its arguments, in their order; the first two are those of dispatch. */
typedef enum TargetArgument
{
	TARGETS = 2, TARGET_HEADERS, SIGNING_KEY_ID, TARGET_TENANT_ID, RETRY_SCHEDULE
} TargetArgument;

Datum
wh_sql_dispatch_to_urls(PG_FUNCTION_ARGS)
{
	WhEvent		event = {WH_EVENT_NOW};
	WhTargetOptions options = {.retry_schedule = fcinfo->args[RETRY_SCHEDULE]};
	WhHeaders	headers;

	PreventCommandIfReadOnly("webhooks.dispatch_to_urls()");
	event.event_type = event_type_argument(fcinfo);
	event.payload = payload_argument(fcinfo);
	event.tenant_id = wh_tenant_named_by(fcinfo, TARGET_TENANT_ID);
	if (PG_ARGISNULL(TARGETS))
		wh_refuse("targets", "must not be NULL");
	if (PG_ARGISNULL(TARGET_HEADERS))
		wh_refuse("headers", "must not be NULL");
	headers = wh_headers_judge_new("headers", PG_GETARG_JSONB_P(TARGET_HEADERS));
	if (JB_ROOT_COUNT(headers.stored) > 0)
		event.headers = &headers;
	options.tenant_id = event.tenant_id;
	options.signing_key_id = wh_given_text(fcinfo, SIGNING_KEY_ID);
	(void) wh_catalog_check(event.event_type);	/* before rows are added for targets */
	event.endpoint_ids = wh_targets(&options, PG_GETARG_ARRAYTYPE_P(TARGETS));
	return dispatch(&event);
}
