/*
 * What an endpoint's options may be. Each is judged by itself here, whichever function was given
 * it, and what holds among several of them after that.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/body.h"
#include "core/event_type.h"
#include "core/rate.h"
#include "core/retry.h"
#include "secret.h"
#include "settings.h"
#include "sql/catalog.h"
#include "sql/filter.h"
#include "sql/endpoint_secret.h"
#include "sql/options.h"
#include "sql/scheme.h"
#include "sql/session.h"
#include "url.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#define PATTERNS_MAX 1000		/* every session keeps them */
#define OVERLAP_MAX_DAYS 366
#define OVERLAP_MAX_MS (OVERLAP_MAX_DAYS * INT64CONST(86400000))
#define RATE_MIN 0.00001		/* with less, nothing would ever be sent again */


/* ---- one by one; none is NULL ---- */

static void
check_url(Datum value)
{
	char	   *refusal = wh_url_refusal(TextDatumGetCString(value));

	if (refusal)
		wh_refuse("url", psprintf("is refused: %s", refusal));
}

static void
check_event_types(Datum value)
{
	Datum	   *items;
	int			count = wh_elements("event_types", DatumGetArrayTypeP(value), &items);

	if (count < 1 || count > PATTERNS_MAX)
		wh_refuse("event_types", psprintf("must have 1 to %d patterns", PATTERNS_MAX));
	for (int i = 0; i < count; i++)
	{
		char	   *pattern = TextDatumGetCString(items[i]);

		if (!wh_event_pattern_valid(pattern))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("event_types contains a bad pattern: \"%s\"", pattern),
					 errhint("A pattern is an event type such as \"invoice.paid\", \"*\", "
							 "or \"invoice.*\".")));
	}
}

static void
check_filter(Datum value)
{
	wh_filter_check(DatumGetJsonPathP(value));
}

static void
check_signature_schemes(Datum value)
{
	(void) wh_schemes_argument(DatumGetArrayTypeP(value));
}

static void
check_payload_format(Datum value)
{
	WhBodyFormat format;

	if (!wh_body_format_parse(TextDatumGetCString(value), &format))
		wh_refuse("payload_format", "must be standard, raw or cloudevents");
}

static void
check_api_version(Datum value)
{
	wh_api_version_check(TextDatumGetCString(value));
}

int64
wh_interval_ms(const Interval *span)
{
	double		ms = span->time / 1000.0 + (span->day + span->month * 30.0) * 86400000.0;

	return (int64) Min(Max(ms, -1e15), 1e15);
}

static bool
is_within_overlap(Interval span)
{
	int64		ms = wh_interval_ms(&span);

	return ms >= -OVERLAP_MAX_MS && ms <= OVERLAP_MAX_MS;
}

/*
 * Adding an interval to a time adds the months first, then the days: what they come to together is
 * not enough to know.
 */
Datum
wh_overlap_argument(FunctionCallInfo fcinfo, int number)
{
	Interval   *span;

	if (PG_ARGISNULL(number))
		wh_refuse("overlap", "must not be NULL");
	span = PG_GETARG_INTERVAL_P(number);
	if (wh_interval_ms(span) < 0 || !is_within_overlap(*span))
		wh_refuse("overlap", psprintf("must be between 0 and %d days", OVERLAP_MAX_DAYS));
	if (!is_within_overlap((Interval) {.month = span->month}) ||
		!is_within_overlap((Interval) {.day = span->day}))
		wh_refuse("overlap", psprintf("must not have more than %d days that others take back",
									  OVERLAP_MAX_DAYS));
	return PG_GETARG_DATUM(number);
}

static void
check_retry_schedule(Datum value)
{
	Datum	   *items;
	int			count = wh_elements("retry_schedule", DatumGetArrayTypeP(value), &items);

	if (count > WH_RETRY_WAITS_MAX)
		wh_refuse("retry_schedule", psprintf("must have at most %d waits", WH_RETRY_WAITS_MAX));
	for (int i = 0; i < count; i++)
	{
		int64		ms = wh_interval_ms(DatumGetIntervalP(items[i]));

		if (ms < 0 || ms > WH_RETRY_WAIT_MAX_MS)
			wh_refuse("retry_schedule", "must consist of waits between 0 and 366 days");
	}
}

static void
check_retry_on(Datum value)
{
	WhStatusSet statuses;

	if (!wh_status_set_parse(TextDatumGetCString(value), &statuses))
		wh_refuse("retry_on", "must be a list of statuses such as \"408,425,429,5xx\", or \"*\"");
}

static void
check_timeout(Datum value)
{
	int64		ms = wh_interval_ms(DatumGetIntervalP(value));

	if (ms < 1 || ms > WH_TIMEOUT_MAX_MS)
		wh_refuse("timeout", "must be between 1 ms and 1 hour");
}

static void
check_rate_limit(Datum value)
{
	float4		limit = DatumGetFloat4(value);

	if (!(limit >= (float4) RATE_MIN && limit <= WH_RATE_MAX))	/* NaN is neither */
		wh_refuse("rate_limit", psprintf("must be between %.5f, about one a day, and %d requests a "
										 "second", RATE_MIN, WH_RATE_MAX));
}

static void
check_max_in_flight(Datum value)
{
	int32		max = DatumGetInt32(value);

	if (max < 1 || max > WH_IN_FLIGHT_MAX)
		wh_refuse("max_in_flight", psprintf("must be between 1 and %d", WH_IN_FLIGHT_MAX));
}

static void
check_ordering(Datum value)
{
	char	   *ordering = TextDatumGetCString(value);

	if (strcmp(ordering, "none") != 0 && strcmp(ordering, "endpoint") != 0 &&
		strcmp(ordering, "key") != 0)
		wh_refuse("ordering", "must be none, endpoint or key");
}

static void
check_metadata(Datum value)
{
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(value)))
		wh_refuse("metadata", "must be a JSON object");
}


/* ---- those that have a secret ---- */

/* What is stored in the argument's place has no secret. */
static void
judge_headers(WhOptions *options)
{
	NullableDatum *value = &options->values[OPTION_HEADERS];

	if (!options->given[OPTION_HEADERS])
		return;
	options->headers = options->is_new ?
		wh_headers_judge_new("headers", DatumGetJsonbP(value->value)) :
		wh_headers_judge("headers", DatumGetJsonbP(value->value));
	value->value = JsonbPGetDatum(options->headers.stored);
}

static bool
is_set(const WhOptions *options, WhOption option)
{
	return options->given[option] && !options->values[option].isnull;
}

static void
judge_certificate(WhOptions *options)
{
	bool		certificate = is_set(options, OPTION_CLIENT_CERTIFICATE);
	bool		key = is_set(options, OPTION_CLIENT_KEY);

	if (key && !certificate)
		wh_refuse("client_certificate", "must not be NULL when client_key is given");
	if (certificate && !key)
		wh_refuse("client_key", "must not be NULL when client_certificate is given");
	if (options->given[OPTION_CLIENT_KEY] && !key && !options->is_new &&
		!options->given[OPTION_CLIENT_CERTIFICATE])
		wh_refuse("client_key", "must not be NULL while there is a client_certificate");
	if (!key)
		return;
	options->client_key = TextDatumGetCString(options->values[OPTION_CLIENT_KEY].value);
	wh_client_certificate_judge(
		TextDatumGetCString(options->values[OPTION_CLIENT_CERTIFICATE].value),
		options->client_key);
}

void
wh_options_store_secrets(const pg_uuid_t *endpoint_id, WhOptions *options)
{
	/* without an Authorization header there is none to keep a value for */
	if (options->given[OPTION_HEADERS] && !options->headers.masked)
		wh_endpoint_secret_replace(endpoint_id, "authorization", options->headers.authorization);
	if (options->given[OPTION_CLIENT_CERTIFICATE])
		wh_endpoint_secret_replace(endpoint_id, "client_key", options->client_key);
	wh_secret_wipe(options->headers.authorization);
	wh_secret_wipe(options->client_key);
}


/* ---- all of them ---- */

typedef enum NullMeaning
{
	NULL_REFUSED,
	NULL_ALLOWED
} NullMeaning;

static const struct
{
	NullMeaning null;
	void		(*check) (Datum value); /* NULL: whatever its type holds */
	const char *initially;		/* register_endpoint's default; NULL: NULL */
}			rules[OPTION_COUNT] = {
	[OPTION_URL] = {NULL_REFUSED, check_url},
	[OPTION_EVENT_TYPES] = {NULL_REFUSED, check_event_types, "{*}"},
	[OPTION_DESCRIPTION] = {NULL_ALLOWED},
	[OPTION_FILTER] = {NULL_ALLOWED, check_filter},
	[OPTION_HEADERS] = {NULL_REFUSED, NULL, "{}"},
	[OPTION_SIGNATURE_SCHEMES] = {NULL_REFUSED, check_signature_schemes, "{v1}"},
	[OPTION_PAYLOAD_FORMAT] = {NULL_REFUSED, check_payload_format, "standard"},
	[OPTION_API_VERSION] = {NULL_ALLOWED, check_api_version},
	[OPTION_RETRY_SCHEDULE] = {NULL_ALLOWED, check_retry_schedule},
	[OPTION_RETRY_ON] = {NULL_ALLOWED, check_retry_on},
	[OPTION_TIMEOUT] = {NULL_ALLOWED, check_timeout},
	[OPTION_RATE_LIMIT] = {NULL_ALLOWED, check_rate_limit},
	[OPTION_MAX_IN_FLIGHT] = {NULL_ALLOWED, check_max_in_flight},
	[OPTION_ORDERING] = {NULL_REFUSED, check_ordering, "none"},
	[OPTION_CLIENT_CERTIFICATE] = {NULL_ALLOWED},
	[OPTION_CLIENT_KEY] = {NULL_ALLOWED},
	[OPTION_METADATA] = {NULL_REFUSED, check_metadata, "{}"}
};

const WhOptionColumn wh_option_columns[OPTION_COUNT] = {
	[OPTION_URL] = {"url", TEXTOID},
	[OPTION_EVENT_TYPES] = {"event_types", TEXTARRAYOID},
	[OPTION_DESCRIPTION] = {"description", TEXTOID},
	[OPTION_FILTER] = {"filter", JSONPATHOID},
	[OPTION_HEADERS] = {"headers", JSONBOID},
	[OPTION_SIGNATURE_SCHEMES] = {"signature_schemes", TEXTARRAYOID},
	[OPTION_PAYLOAD_FORMAT] = {"payload_format", TEXTOID},
	[OPTION_API_VERSION] = {"api_version", TEXTOID},
	[OPTION_RETRY_SCHEDULE] = {"retry_schedule", INTERVALARRAYOID},
	[OPTION_RETRY_ON] = {"retry_on", TEXTOID},
	[OPTION_TIMEOUT] = {"timeout", INTERVALOID},
	[OPTION_RATE_LIMIT] = {"rate_limit", FLOAT4OID},
	[OPTION_MAX_IN_FLIGHT] = {"max_in_flight", INT4OID},
	[OPTION_ORDERING] = {"ordering", TEXTOID},
	[OPTION_CLIENT_CERTIFICATE] = {"client_certificate", TEXTOID},
	[OPTION_CLIENT_KEY] = {"client_key", InvalidOid},
	[OPTION_METADATA] = {"metadata", JSONBOID}
};

void
wh_options_judge(WhOptions *options)
{
	for (int i = 0; i < OPTION_COUNT; i++)
	{
		const NullableDatum *value = &options->values[i];

		if (!options->given[i])
			continue;
		if (value->isnull && rules[i].null == NULL_REFUSED)
			wh_refuse(wh_option_columns[i].name, "must not be NULL");
		if (!value->isnull && rules[i].check)
			rules[i].check(value->value);
	}
	judge_headers(options);
	judge_certificate(options);
	if (options->headers.authorization || options->client_key)
		(void) wh_secret_current_key();
}

NullableDatum
wh_option_default(WhOption option)
{
	NullableDatum result = {.isnull = rules[option].initially == NULL};
	Oid			input;
	Oid			io_parameter;

	if (result.isnull)
		return result;
	getTypeInputInfo(wh_option_columns[option].type, &input, &io_parameter);
	result.value = OidInputFunctionCall(input, pstrdup(rules[option].initially), io_parameter, -1);
	return result;
}
