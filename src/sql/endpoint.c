/*
 * Endpoints: registering, and what is done to them later.
 *
 * Every argument is judged before anything is written. The tables are written as the extension's
 * owner (the functions are SECURITY DEFINER), so the tenant rule is in each statement.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "core/event_type.h"
#include "core/rate.h"
#include "core/retry.h"
#include "core/signature.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "id.h"
#include "miscadmin.h"
#include "settings.h"
#include "sql/endpoint_secret.h"
#include "sql/header.h"
#include "sql/session.h"
#include "url.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "wake.h"

#define NEW_SECRET_BYTES 32

PG_FUNCTION_INFO_V1(wh_sql_register_endpoint);
PG_FUNCTION_INFO_V1(wh_sql_pause_endpoint);
PG_FUNCTION_INFO_V1(wh_sql_resume_endpoint);
PG_FUNCTION_INFO_V1(wh_sql_disable_endpoint);
PG_FUNCTION_INFO_V1(wh_sql_enable_endpoint);
PG_FUNCTION_INFO_V1(wh_sql_remove_endpoint);
PG_FUNCTION_INFO_V1(wh_sql_rotate_secret);
PG_FUNCTION_INFO_V1(wh_sql_check_url);
PG_FUNCTION_INFO_V1(wh_sql_endpoint_changed);

/* The arguments of register_endpoint, in their order. */
typedef enum EndpointOption
{
	URL, EVENT_TYPES, TENANT_ID, DESCRIPTION, FILTER, HEADERS, SECRET, SIGNATURE_SCHEMES,
	PAYLOAD_FORMAT, API_VERSION, RETRY_SCHEDULE, RETRY_ON, TIMEOUT, RATE_LIMIT, MAX_IN_FLIGHT,
	ORDERING, CLIENT_CERTIFICATE, CLIENT_KEY, METADATA
} EndpointOption;


/* ---- judging arguments ---- */

static void
check_url(FunctionCallInfo fcinfo)
{
	char	   *refusal;

	if (PG_ARGISNULL(URL))
		wh_refuse("url", "must not be NULL");
	refusal = wh_url_refusal(text_to_cstring(PG_GETARG_TEXT_PP(URL)));
	if (refusal)
		wh_refuse("url", psprintf("is refused: %s", refusal));
}

static void
check_event_types(FunctionCallInfo fcinfo)
{
	Datum	   *items;
	bool	   *nulls;
	int			count;

	if (PG_ARGISNULL(EVENT_TYPES))
		wh_refuse("event_types", "must not be NULL");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(EVENT_TYPES), TEXTOID, -1, false, TYPALIGN_INT,
					  &items, &nulls, &count);
	if (count == 0)
		wh_refuse("event_types", "must not be empty");
	for (int i = 0; i < count; i++)
	{
		char	   *pattern = nulls[i] ? NULL : TextDatumGetCString(items[i]);

		if (pattern == NULL)
			wh_refuse("event_types", "must not contain NULL");
		if (!wh_event_pattern_valid(pattern))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("event_types contains a bad pattern: \"%s\"", pattern),
					 errhint("A pattern is an event type such as \"invoice.paid\", \"*\", "
							 "or \"invoice.*\".")));
	}
}

static WhHeaders
check_headers(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(HEADERS))
		wh_refuse("headers", "must not be NULL");
	return wh_headers_judge_new("headers", PG_GETARG_JSONB_P(HEADERS));
}

static void
check_secret(const char *secret)
{
	WhSecretKey key;

	switch (wh_secret_decode(secret, &key))
	{
		case WH_SECRET_OK:
			break;
		case WH_SECRET_NO_PREFIX:
			wh_refuse("secret", "must begin with \"" WH_SECRET_PREFIX "\"");
		case WH_SECRET_NOT_BASE64:
			wh_refuse("secret", "must be base64 after \"" WH_SECRET_PREFIX "\"");
		case WH_SECRET_TOO_SHORT:
			wh_refuse("secret",
					  psprintf("must have at least %d bytes when decoded", WH_SECRET_MIN_BYTES));
		case WH_SECRET_TOO_LONG:
			wh_refuse("secret",
					  psprintf("must have at most %d bytes when decoded", WH_SECRET_MAX_BYTES));
	}
	explicit_bzero(&key, sizeof(key));
}

/* Milliseconds; a month counts thirty days. Saturates far outside what any rule allows. */
static int64
interval_ms(const Interval *span)
{
	double		ms = span->time / 1000.0 + (span->day + span->month * 30.0) * 86400000.0;

	return (int64) Min(Max(ms, -1e15), 1e15);
}

static void
check_retry_schedule(FunctionCallInfo fcinfo)
{
	Datum	   *items;
	bool	   *nulls;
	int			count;

	if (PG_ARGISNULL(RETRY_SCHEDULE))
		return;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(RETRY_SCHEDULE), INTERVALOID, sizeof(Interval), false,
					  TYPALIGN_DOUBLE, &items, &nulls, &count);
	if (count > WH_RETRY_WAITS_MAX)
		wh_refuse("retry_schedule", psprintf("must have at most %d waits", WH_RETRY_WAITS_MAX));
	for (int i = 0; i < count; i++)
	{
		int64		ms = nulls[i] ? -1 : interval_ms(DatumGetIntervalP(items[i]));

		if (ms < 0 || ms > WH_RETRY_WAIT_MAX_MS)
			wh_refuse("retry_schedule", "must consist of waits between 0 and 366 days");
	}
}

static bool
text_is(FunctionCallInfo fcinfo, int number, const char *expected)
{
	return !PG_ARGISNULL(number) &&
		strcmp(text_to_cstring(PG_GETARG_TEXT_PP(number)), expected) == 0;
}

static void
check_limits(FunctionCallInfo fcinfo)
{
	WhStatusSet statuses;

	if (!PG_ARGISNULL(RETRY_ON) &&
		!wh_status_set_parse(text_to_cstring(PG_GETARG_TEXT_PP(RETRY_ON)), &statuses))
		wh_refuse("retry_on", "must be a list of statuses such as \"408,425,429,5xx\", or \"*\"");
	if (!PG_ARGISNULL(TIMEOUT))
	{
		int64		ms = interval_ms(PG_GETARG_INTERVAL_P(TIMEOUT));

		if (ms < 1 || ms > WH_TIMEOUT_MAX_MS)
			wh_refuse("timeout", "must be between 1 ms and 1 hour");
	}
	if (!PG_ARGISNULL(MAX_IN_FLIGHT) &&
		(PG_GETARG_INT32(MAX_IN_FLIGHT) < 1 || PG_GETARG_INT32(MAX_IN_FLIGHT) > WH_IN_FLIGHT_MAX))
		wh_refuse("max_in_flight", psprintf("must be between 1 and %d", WH_IN_FLIGHT_MAX));
	if (!PG_ARGISNULL(RATE_LIMIT) &&
		!(PG_GETARG_FLOAT4(RATE_LIMIT) > 0 && PG_GETARG_FLOAT4(RATE_LIMIT) <= WH_RATE_MAX))
		wh_refuse("rate_limit",
				  psprintf("must be above 0 and at most %d requests a second", WH_RATE_MAX));
	if (!text_is(fcinfo, ORDERING, "none") && !text_is(fcinfo, ORDERING, "endpoint") &&
		!text_is(fcinfo, ORDERING, "key"))
		wh_refuse("ordering", "must be none, endpoint or key");
	if (PG_ARGISNULL(METADATA) || !JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(METADATA)))
		wh_refuse("metadata", "must be a JSON object");
}

static void
refuse_unsupported(const char *option)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s is not supported yet", option),
			 errhint("Leave it at its default.")));
}

static void
check_supported(FunctionCallInfo fcinfo)
{
	Datum	   *schemes;
	bool	   *nulls;
	int			count = 0;

	if (!PG_ARGISNULL(SIGNATURE_SCHEMES))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(SIGNATURE_SCHEMES), TEXTOID, -1, false,
						  TYPALIGN_INT, &schemes, &nulls, &count);
	if (count != 1 || nulls[0] || strcmp(TextDatumGetCString(schemes[0]), "v1") != 0)
		refuse_unsupported("a value of signature_schemes other than {v1}");
	if (!text_is(fcinfo, PAYLOAD_FORMAT, "standard"))
		refuse_unsupported("a value of payload_format other than standard");
	if (!PG_ARGISNULL(FILTER))
		refuse_unsupported("filter");
	if (!PG_ARGISNULL(API_VERSION))
		refuse_unsupported("api_version");
	if (!PG_ARGISNULL(CLIENT_CERTIFICATE))
		refuse_unsupported("client_certificate");
	if (!PG_ARGISNULL(CLIENT_KEY))
		refuse_unsupported("client_key");
}


/* ---- registering ---- */

static char *
new_secret(void)
{
	char	   *text = palloc(WH_SECRET_TEXT_SIZE);
	WhSecretKey key = {.len = NEW_SECRET_BYTES};

	if (!pg_strong_random(key.bytes, key.len))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a secret")));
	wh_secret_encode(&key, text);
	explicit_bzero(&key, sizeof(key));
	return text;
}

static char *
given_or_new_secret(FunctionCallInfo fcinfo, int number)
{
	char	   *secret;

	if (PG_ARGISNULL(number))
		return new_secret();
	secret = text_to_cstring(PG_GETARG_TEXT_PP(number));
	check_secret(secret);
	return secret;
}

static void
insert_endpoint(FunctionCallInfo fcinfo, const pg_uuid_t *endpoint_id, const char *tenant_id,
				const WhHeaders *headers)
{
	static const struct
	{
		EndpointOption option;
		Oid			type;
	}			stored[] = {
		{URL, TEXTOID}, {EVENT_TYPES, TEXTARRAYOID}, {DESCRIPTION, TEXTOID},
		{SIGNATURE_SCHEMES, TEXTARRAYOID}, {PAYLOAD_FORMAT, TEXTOID},
		{RETRY_SCHEDULE, INTERVALARRAYOID}, {RETRY_ON, TEXTOID}, {TIMEOUT, INTERVALOID},
		{RATE_LIMIT, FLOAT4OID}, {MAX_IN_FLIGHT, INT4OID}, {ORDERING, TEXTOID},
		{METADATA, JSONBOID}
	};
	WhArgument	arguments[3 + lengthof(stored)] = {
		{UUIDOID, UUIDPGetDatum(endpoint_id)}, {TEXTOID, CStringGetTextDatum(tenant_id)},
		{JSONBOID, JsonbPGetDatum(headers->stored)}
	};

	for (int i = 0; i < lengthof(stored); i++)
		arguments[3 + i] = (WhArgument)
	{
		stored[i].type, PG_GETARG_DATUM(stored[i].option), PG_ARGISNULL(stored[i].option)
	};
	wh_execute("INSERT INTO webhooks.endpoints (endpoint_id, tenant_id, headers, url,"
			   " event_types, description, signature_schemes, payload_format, retry_schedule,"
			   " retry_on, timeout, rate_limit, max_in_flight, ordering, metadata)"
			   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
			   lengthof(arguments), arguments);
}

Datum
wh_sql_register_endpoint(PG_FUNCTION_ARGS)
{
	pg_uuid_t	endpoint_id = wh_new_id(NULL);
	char	   *tenant_id;
	char	   *secret;
	WhHeaders	headers;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false};

	check_url(fcinfo);
	check_event_types(fcinfo);
	tenant_id = wh_tenant_named(PG_ARGISNULL(TENANT_ID) ? NULL :
								text_to_cstring(PG_GETARG_TEXT_PP(TENANT_ID)));
	headers = check_headers(fcinfo);
	check_retry_schedule(fcinfo);
	check_limits(fcinfo);
	check_supported(fcinfo);
	secret = given_or_new_secret(fcinfo, SECRET);

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = UUIDPGetDatum(&endpoint_id);
	values[1] = CStringGetTextDatum(secret);

	SPI_connect();
	insert_endpoint(fcinfo, &endpoint_id, tenant_id, &headers);
	wh_endpoint_secret_add(&endpoint_id, "signing", secret);
	if (headers.authorization)
		wh_endpoint_secret_add(&endpoint_id, "authorization", headers.authorization);
	SPI_finish();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

Datum
wh_sql_check_url(PG_FUNCTION_ARGS)
{
	char	   *refusal = PG_ARGISNULL(0) ? pstrdup("it is NULL") :
		wh_url_refusal(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	TupleDesc	desc;
	Datum		values[2] = {BoolGetDatum(refusal == NULL)};
	bool		nulls[2] = {false, refusal == NULL};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (refusal)
		values[1] = CStringGetTextDatum(refusal);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}


/* ---- what is done to an endpoint later ---- */

/*
 * The state of an endpoint of the session's tenant, its row locked; raises P0002 when there is
 * none. Connected to SPI.
 */
static char *
lock_endpoint(const pg_uuid_t *endpoint_id)
{
	const char *tenant = wh_session_tenant();
	WhArgument	arguments[] = {
		{UUIDOID, UUIDPGetDatum(endpoint_id)},
		{TEXTOID, tenant ? CStringGetTextDatum(tenant) : (Datum) 0, tenant == NULL}
	};

	if (wh_execute("SELECT state FROM webhooks.endpoints"
				   " WHERE endpoint_id = $1 AND tenant_id = coalesce($2, tenant_id)"
				   " FOR NO KEY UPDATE", 2, arguments) != 1)
		wh_refuse_unknown("endpoint", endpoint_id);
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

static void
set_state(const pg_uuid_t *endpoint_id, const char *state, const char *reason)
{
	WhArgument	arguments[] = {
		{UUIDOID, UUIDPGetDatum(endpoint_id)},
		{TEXTOID, CStringGetTextDatum(state)},
		{TEXTOID, reason ? CStringGetTextDatum(reason) : (Datum) 0, reason == NULL}
	};

	wh_execute("UPDATE webhooks.endpoints SET state = $2, disabled_reason = $3, updated_at = now()"
			   " WHERE endpoint_id = $1",
			   3, arguments);
}

static void
refuse_state(const pg_uuid_t *endpoint_id, const char *state, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("endpoint %s is %s",
					DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(endpoint_id))),
					state),
			 errhint("%s", hint)));
}

Datum
wh_sql_pause_endpoint(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");
	char	   *state;

	SPI_connect();
	state = lock_endpoint(endpoint_id);
	if (strcmp(state, "disabled") == 0)
		refuse_state(endpoint_id, state,
					 "A disabled endpoint is sent nothing; "
					 "enable_endpoint takes it back into service.");
	if (strcmp(state, "paused") != 0)
		set_state(endpoint_id, "paused", NULL);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
wh_sql_resume_endpoint(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");
	char	   *state;

	SPI_connect();
	state = lock_endpoint(endpoint_id);
	if (strcmp(state, "disabled") == 0)
		refuse_state(endpoint_id, state, "Use enable_endpoint.");
	if (strcmp(state, "active") != 0)
		set_state(endpoint_id, "active", NULL);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
wh_sql_disable_endpoint(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");

	if (PG_ARGISNULL(1))
		wh_refuse("reason", "must not be NULL");
	SPI_connect();
	(void) lock_endpoint(endpoint_id);
	set_state(endpoint_id, "disabled", text_to_cstring(PG_GETARG_TEXT_PP(1)));
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
wh_sql_enable_endpoint(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");

	SPI_connect();
	if (strcmp(lock_endpoint(endpoint_id), "active") != 0)
		set_state(endpoint_id, "active", NULL);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
wh_sql_remove_endpoint(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");
	WhArgument	argument = {UUIDOID, UUIDPGetDatum(endpoint_id)};

	SPI_connect();
	(void) lock_endpoint(endpoint_id);
	wh_execute("WITH cancelled AS (DELETE FROM webhooks.queue WHERE endpoint_id = $1"
			   "  RETURNING delivery_id, event_id, endpoint_id, attempts)"
			   " INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url,"
			   " attempt, attempted_at, outcome)"
			   " SELECT c.delivery_id, c.event_id, c.endpoint_id, e.tenant_id, e.url, c.attempts,"
			   " clock_timestamp(), 'cancelled'"
			   " FROM cancelled c JOIN webhooks.endpoints e ON e.endpoint_id = c.endpoint_id",
			   1, &argument);
	wh_execute("DELETE FROM webhooks.endpoint_secrets WHERE endpoint_id = $1", 1, &argument);
	wh_execute("DELETE FROM webhooks.endpoints WHERE endpoint_id = $1", 1, &argument);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
wh_sql_rotate_secret(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");
	WhArgument	retire[] = {{UUIDOID, UUIDPGetDatum(endpoint_id)}, {INTERVALOID}};
	char	   *secret;

	if (PG_ARGISNULL(1) || interval_ms(PG_GETARG_INTERVAL_P(1)) < 0)
		wh_refuse("overlap", "must not be negative or NULL");
	retire[1].value = PG_GETARG_DATUM(1);
	secret = given_or_new_secret(fcinfo, 2);

	SPI_connect();
	(void) lock_endpoint(endpoint_id);

	/* one that already expires sooner keeps its time */
	wh_execute("UPDATE webhooks.endpoint_secrets SET expires_at = least(expires_at, now() + $2)"
			   " WHERE endpoint_id = $1 AND kind = 'signing'",
			   2, retire);
	wh_endpoint_secret_add(endpoint_id, "signing", secret);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(secret));
}


/* ---- the trigger on endpoints and their secrets ---- */

static WhWake
changed_endpoint(const TriggerData *data)
{
	HeapTuple	tuple = data->tg_newtuple && TRIGGER_FIRED_BY_UPDATE(data->tg_event) ?
		data->tg_newtuple : data->tg_trigtuple;
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	int			tenant_id = SPI_fnumber(desc, "tenant_id");	/* secrets have none */
	bool		isnull;
	WhWake		wake = {
		.endpoint_id = *DatumGetUUIDP(SPI_getbinval(tuple, desc, SPI_fnumber(desc, "endpoint_id"),
													&isnull)),
		.due_at = DT_NOBEGIN, .tenant = WH_TENANT_UNKNOWN
	};

	if (tenant_id > 0)
		wake.tenant = wh_tenant_hash(SPI_getvalue(tuple, desc, tenant_id));
	return wake;
}

Datum
wh_sql_endpoint_changed(PG_FUNCTION_ARGS)
{
	TriggerData *data;
	Oid			namespace;
	Oid			endpoints;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("endpoint_changed must be called as a trigger")));
	data = (TriggerData *) fcinfo->context;
	namespace = RelationGetNamespace(data->tg_relation);
	endpoints = get_relname_relid("endpoints", namespace);
	if (OidIsValid(endpoints))
		CacheInvalidateRelcacheByRelid(endpoints);

	if (TRIGGER_FIRED_FOR_ROW(data->tg_event))
	{
		WhWake		wake = changed_endpoint(data);

		wh_wake_endpoint(&wake);
	}
	else
		wh_wake_all();
	return PointerGetDatum(NULL);
}
