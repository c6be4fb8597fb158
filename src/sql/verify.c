/*
 * sign() and verify(): what the sender does for its requests and receive() for what comes in, for
 * whoever wants it alone.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/http_signature.h"
#include "fmgr.h"
#include "sql/message.h"
#include "sql/scheme.h"
#include "sql/session.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(wh_sql_sign_text);
PG_FUNCTION_INFO_V1(wh_sql_sign_bytea);
PG_FUNCTION_INFO_V1(wh_sql_verify_text);
PG_FUNCTION_INFO_V1(wh_sql_verify_bytea);
PG_FUNCTION_INFO_V1(wh_sql_verify_any_text);
PG_FUNCTION_INFO_V1(wh_sql_verify_any_bytea);

/* What no receiver's clock shows is no time to sign: 1970 to 9999. */
#define SENT_AT_MIN ((UNIX_EPOCH_JDATE - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)
#define SENT_AT_END ((DATE_OF_YEAR_10000 - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)
#define DATE_OF_YEAR_10000 5373485	/* a Julian day */


/* ---- signing ---- */

/* The arguments of sign, in their order. */
typedef enum SignArgument
{
	SIGN_SECRET, MESSAGE_ID, SENT_AT, SIGN_BODY, SIGN_SCHEME
} SignArgument;

/*
 * Where the id is signed, it stands before a full stop: with one of its own, two messages could be
 * signed alike.
 */
static char *
message_id_argument(FunctionCallInfo fcinfo, WhScheme scheme)
{
	char	   *id;

	if (scheme != WH_SCHEME_V1 && scheme != WH_SCHEME_V1A && scheme != WH_SCHEME_RFC9421)
		return "";
	id = wh_required_text(fcinfo, MESSAGE_ID, "message_id");
	if (id[0] == '\0')
		wh_refuse("message_id", "must not be empty");
	for (const char *c = id; *c; c++)
		if (*c <= ' ' || *c > '~' || *c == '.')
			wh_refuse("message_id", "must be of visible ASCII characters without a full stop");
	return id;
}

static int64
sent_at_argument(FunctionCallInfo fcinfo, WhScheme scheme)
{
	TimestampTz at;

	if (scheme == WH_SCHEME_GITHUB)
		return 0;
	if (PG_ARGISNULL(SENT_AT) || TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(SENT_AT)))
		wh_refuse("sent_at", "must be finite and not NULL");
	at = PG_GETARG_TIMESTAMPTZ(SENT_AT);
	if (at < SENT_AT_MIN || at >= SENT_AT_END)
		wh_refuse("sent_at", "must be in the years 1970 to 9999, in UTC");
	return wh_unix_ms(at) / 1000;
}

static void
refuse_unsigned(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("the message could not be signed")));
}

/* The three headers that belong together, a line each: there is no one value that would do. */
static char *
sign_http(const WhSecretKey *key, const WhSigned *message)
{
	char		digest[WH_CONTENT_DIGEST_SIZE];
	char	   *timestamp = psprintf(INT64_FORMAT, message->timestamp_s);
	WhHeader	items[] = {
		{"content-digest", digest}, {"webhook-id", message->id}, {"webhook-timestamp", timestamp}
	};
	WhComponents components = {items, lengthof(items), message->timestamp_s};
	WhHttpSignature made;

	if (!wh_content_digest(message->body, digest) ||
		!wh_http_signature_make(key, &components, palloc(wh_http_scratch_size(&components)), &made))
		refuse_unsigned();
	return psprintf("Content-Digest: %s\nSignature-Input: sig1=%s\nSignature: sig1=:%s:",
					digest, made.input, made.signature);
}

static Datum
sign(FunctionCallInfo fcinfo, WhBytes body)
{
	WhScheme	scheme = wh_scheme_argument(wh_required_text(fcinfo, SIGN_SCHEME, "scheme"));
	WhSecretKey key = wh_secret_argument(scheme, wh_required_text(fcinfo, SIGN_SECRET, "secret"));
	WhSigned	message = {
		.id = message_id_argument(fcinfo, scheme), .timestamp_s = sent_at_argument(fcinfo, scheme),
		.body = body
	};
	char		signature[WH_SIGNATURE_SIZE];
	char	   *result;

	if (key.kind == WH_KEY_PUBLIC)
		wh_refuse("secret", "must not be a public key: it signs nothing");
	if (scheme == WH_SCHEME_RFC9421)
		result = sign_http(&key, &message);
	else
	{
		if (scheme == WH_SCHEME_V1A)
			message.scratch = palloc_extended(WH_SIGNED_SCRATCH_SIZE(strlen(message.id), body.len),
											  MCXT_ALLOC_HUGE);
		if (!wh_signature_make(scheme, &key, &message, signature))
			refuse_unsigned();
		result = scheme != WH_SCHEME_STRIPE ? signature :
			psprintf("t=" INT64_FORMAT ",%s", message.timestamp_s, signature);
	}
	explicit_bzero(&key, sizeof(key));
	return CStringGetTextDatum(result);
}

Datum
wh_sql_sign_text(PG_FUNCTION_ARGS)
{
	return sign(fcinfo, wh_body_text(fcinfo, SIGN_BODY));
}

Datum
wh_sql_sign_bytea(PG_FUNCTION_ARGS)
{
	return sign(fcinfo, wh_body_bytea(fcinfo, SIGN_BODY));
}


/* ---- verifying ---- */

/* The arguments of verify, in their order. */
typedef enum VerifyArgument
{
	VERIFY_SECRET, HEADERS, VERIFY_BODY, TOLERANCE, VERIFY_SCHEME
} VerifyArgument;

static bool
verify(FunctionCallInfo fcinfo, WhBytes body, WhScheme scheme, WhSecretKey *keys, int count)
{
	WhReceived	message;

	if (PG_ARGISNULL(HEADERS))
		wh_refuse("headers", "must be a JSON object");
	message = wh_message_read(PG_GETARG_JSONB_P(HEADERS), body);
	message.tolerance_ms = wh_tolerance_argument(fcinfo, TOLERANCE);
	message.now_ms = wh_unix_ms(GetCurrentStatementStartTimestamp());
	return wh_message_verify(scheme, &message, keys, count, NULL);
}

static bool
verify_one(FunctionCallInfo fcinfo, WhBytes body)
{
	WhScheme	scheme = wh_scheme_argument(wh_required_text(fcinfo, VERIFY_SCHEME, "scheme"));
	WhSecretKey key = wh_secret_argument(scheme, wh_required_text(fcinfo, VERIFY_SECRET, "secret"));

	return verify(fcinfo, body, scheme, &key, 1);
}

static bool
verify_any(FunctionCallInfo fcinfo, WhBytes body)
{
	WhScheme	scheme = wh_scheme_argument(wh_required_text(fcinfo, VERIFY_SCHEME, "scheme"));
	Datum	   *secrets;
	int			count = PG_ARGISNULL(VERIFY_SECRET) ? 0 :
		wh_elements("secrets", PG_GETARG_ARRAYTYPE_P(VERIFY_SECRET), &secrets);
	WhSecretKey *keys;

	if (count == 0)
		wh_refuse("secrets", "must not be empty or NULL");
	keys = palloc(count * sizeof(WhSecretKey));
	for (int i = 0; i < count; i++)
		keys[i] = wh_secret_argument(scheme, TextDatumGetCString(secrets[i]));
	return verify(fcinfo, body, scheme, keys, count);
}

Datum
wh_sql_verify_text(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(verify_one(fcinfo, wh_body_text(fcinfo, VERIFY_BODY)));
}

Datum
wh_sql_verify_bytea(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(verify_one(fcinfo, wh_body_bytea(fcinfo, VERIFY_BODY)));
}

Datum
wh_sql_verify_any_text(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(verify_any(fcinfo, wh_body_text(fcinfo, VERIFY_BODY)));
}

Datum
wh_sql_verify_any_bytea(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(verify_any(fcinfo, wh_body_bytea(fcinfo, VERIFY_BODY)));
}
