/*
 * Options are kept until an endpoint changes anywhere: the trigger on endpoints invalidates their
 * relation, and every transaction begins with the invalidations that came in.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "id.h"
#include "secret.h"
#include "tables.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/timestamp.h"
#include "worker/config.h"
#include "worker/statement.h"

#define HELD_S 10
#define TELL_AGAIN_S 60

/*
 * The columns of config_statement. Behind each secret stands the id of the key that it is encrypted
 * with.
 */
enum
{
	CONFIG_POSITION = 1, CONFIG_ACTIVE, CONFIG_TENANT_ID, CONFIG_URL, CONFIG_HEADERS,
	CONFIG_SECRETS, CONFIG_SECRET_EXPIRIES, CONFIG_RETRY_SCHEDULE, CONFIG_RETRY_ON,
	CONFIG_TIMEOUT_MS, CONFIG_MAX_IN_FLIGHT, CONFIG_RATE_LIMIT, CONFIG_SECRET_KEY_IDS,
	CONFIG_AUTHORIZATION, CONFIG_AUTHORIZATION_KEY_ID, CONFIG_HAS_AUTHORIZATION,
	CONFIG_CLIENT_CERTIFICATE, CONFIG_CLIENT_KEY, CONFIG_CLIENT_KEY_KEY_ID, CONFIG_SCHEMES,
	CONFIG_SIGNING_KEY_ID, CONFIG_SIGNING_KEY, CONFIG_SIGNING_KEY_KEY_ID, CONFIG_PAYLOAD_FORMAT,
	CONFIG_API_VERSION
};

static WhStatement config_statement = {
	"SELECT n, e.state = 'active', e.tenant_id, e.url,"
	/* libcurl takes "Name;" for a header without a value, and "Name:" for one to leave out */
	" CASE WHEN e.headers = '{}' THEN '{}'::text[] ELSE ARRAY(SELECT h.key ||"
	"   CASE WHEN btrim(h.value, E' \\t') = '' THEN ';' ELSE ': ' || h.value END"
	"  FROM jsonb_each_text(e.headers) h WHERE lower(h.key COLLATE \"C\") <> 'authorization') END,"
	" coalesce(s.secrets, '{}'::text[]),"
	" coalesce(s.expiries, '{}'::timestamptz[]),"
	" CASE WHEN e.retry_schedule IS NOT NULL THEN"
	"  ARRAY(SELECT (EXTRACT(epoch FROM w) * 1000)::bigint"
	"   FROM unnest(e.retry_schedule) WITH ORDINALITY u(w, i) ORDER BY i) END,"
	" e.retry_on,"
	" (EXTRACT(epoch FROM e.timeout) * 1000)::integer,"
	" e.max_in_flight,"
	" coalesce(e.rate_limit, 0)::double precision,"
	" coalesce(s.key_ids, '{}'::text[]),"
	" a.secret, a.encryption_key_id,"
	" e.headers <> '{}' AND EXISTS (SELECT FROM jsonb_object_keys(e.headers) k"
	"  WHERE lower(k COLLATE \"C\") = 'authorization'),"
	" e.client_certificate, k.secret, k.encryption_key_id,"
	" e.signature_schemes,"
	" e.signing_key_id, g.secret, g.encryption_key_id,"
	" e.payload_format, e.api_version"
	" FROM unnest($1) WITH ORDINALITY p(endpoint_id, n)"
	" JOIN webhooks.endpoints e ON e.endpoint_id = p.endpoint_id"
	" LEFT JOIN webhooks.signing_keys g"
	"  ON g.tenant_id = e.tenant_id AND g.key_id = e.signing_key_id"
	" CROSS JOIN LATERAL (SELECT array_agg(o.secret) AS secrets,"
	"   array_agg(coalesce(o.expires_at, 'infinity')) AS expiries,"
	"   array_agg(coalesce(o.encryption_key_id, '')) AS key_ids"
	"  FROM (SELECT x.secret, x.expires_at, x.encryption_key_id FROM webhooks.endpoint_secrets x"
	"   WHERE x.endpoint_id = e.endpoint_id AND x.kind = 'signing'"
	"   ORDER BY x.expires_at DESC NULLS FIRST, x.created_at DESC) o) s"
	" LEFT JOIN LATERAL (SELECT x.secret, x.encryption_key_id FROM webhooks.endpoint_secrets x"
	"  WHERE x.endpoint_id = e.endpoint_id AND x.kind = 'authorization'"
	"   AND e.headers <> '{}' LIMIT 1) a ON true"
	" LEFT JOIN LATERAL (SELECT x.secret, x.encryption_key_id FROM webhooks.endpoint_secrets x"
	"  WHERE x.endpoint_id = e.endpoint_id AND x.kind = 'client_key'"
	"   AND e.client_certificate IS NOT NULL LIMIT 1) k ON true",
	1, {UUIDARRAYOID}
};

static char **
text_array(Datum datum, int *count)
{
	Datum	   *items;
	char	  **texts;

	deconstruct_array(DatumGetArrayTypeP(datum), TEXTOID, -1, false, TYPALIGN_INT,
					  &items, NULL, count);
	texts = palloc(Max(1, *count) * sizeof(char *));
	for (int i = 0; i < *count; i++)
		texts[i] = TextDatumGetCString(items[i]);
	return texts;
}

static char *
optional_text(HeapTuple row, int number)
{
	bool		isnull;
	Datum		datum = wh_column(row, number, &isnull);

	return isnull ? NULL : TextDatumGetCString(datum);
}

static char *
text_value(HeapTuple row, int number)
{
	return TextDatumGetCString(wh_value(row, number));
}

/* A secret of the row; its text is NULL when there is none. */
static WhSealed
sealed_value(HeapTuple row, int number)
{
	return (WhSealed) {optional_text(row, number), optional_text(row, number + 1)};
}

/* As libcurl takes it: "Name;" is a header without a value. */
static char *
header_line(MemoryContext context, const char *name, const char *value)
{
	bool		empty = value[strspn(value, " \t")] == '\0';
	size_t		size = strlen(name) + strlen(value) + sizeof(": ");
	char	   *line = MemoryContextAlloc(context, size);

	snprintf(line, size, "%s%s%s", name, empty ? ";" : ": ", empty ? "" : value);
	return line;
}

/* NULL, with the reason, when it cannot be opened. The caller wipes it. */
static char *
open_secret(const pg_uuid_t *endpoint_id, const char *kind, WhSealed sealed, const char **reason)
{
	return wh_secret_open(&sealed, wh_secret_owner("endpoint", endpoint_id, kind), reason);
}

/* Returns NULL, or why the endpoint can be sent nothing. */
static const char *
read_headers(HeapTuple row, const pg_uuid_t *endpoint_id, WhConfig *config, MemoryContext context)
{
	const char *reason = NULL;
	char	  **headers = text_array(wh_value(row, CONFIG_HEADERS), &config->header_count);
	WhSealed	sealed = sealed_value(row, CONFIG_AUTHORIZATION);
	char	   *authorization;

	config->headers = MemoryContextAlloc(context, (config->header_count + 1) * sizeof(char *));
	for (int i = 0; i < config->header_count; i++)
		config->headers[i] = MemoryContextStrdup(context, headers[i]);
	if (!DatumGetBool(wh_value(row, CONFIG_HAS_AUTHORIZATION)))
		return NULL;

	if (sealed.text == NULL)
		return "the value of its Authorization header is missing";
	authorization = open_secret(endpoint_id, "authorization", sealed, &reason);
	if (authorization == NULL)
		return reason;
	config->headers[config->header_count++] = header_line(context, "Authorization", authorization);
	wh_secret_wipe(authorization);
	return NULL;
}

/* Returns NULL, or why the endpoint can be sent nothing. */
static const char *
read_certificate(HeapTuple row, const pg_uuid_t *endpoint_id, WhConfig *config,
				 MemoryContext context)
{
	const char *reason = NULL;
	char	   *certificate = optional_text(row, CONFIG_CLIENT_CERTIFICATE);
	WhSealed	sealed = sealed_value(row, CONFIG_CLIENT_KEY);
	char	   *key;

	if (certificate == NULL)
		return NULL;
	if (sealed.text == NULL)
		return "the key of its client certificate is missing";
	key = open_secret(endpoint_id, "client_key", sealed, &reason);
	if (key == NULL)
		return reason;
	config->certificate = MemoryContextAllocZero(context, sizeof(WhClientCertificate));
	config->certificate->certificate = MemoryContextStrdup(context, certificate);
	config->certificate->key = MemoryContextStrdup(context, key);
	wh_secret_wipe(key);
	return wh_client_certificate_id(certificate, config->certificate->id) ? NULL :
		"OpenSSL failed to tell its client certificate from others";
}

/* False: there is one that is not known, as in a table that a newer version wrote. */
static bool
read_schemes(HeapTuple row, WhConfig *config)
{
	int			count;
	char	  **names = text_array(wh_value(row, CONFIG_SCHEMES), &count);

	for (int i = 0; i < count; i++)
	{
		WhScheme	scheme;

		if (!wh_scheme_parse(names[i], &scheme))
			return false;
		if (scheme != WH_SCHEME_NONE)
			config->schemes |= WH_SCHEME_BIT(scheme);
	}
	return true;
}

/* What one secret is to those of the endpoint's schemes that key alike. */
static void
add_key(WhConfig *config, const char *secret, uint32 schemes, WhScheme alike,
		TimestampTz expires_at)
{
	WhSigningKey *key = &config->keys[config->key_count];

	schemes &= config->schemes;
	if (schemes == 0 || wh_scheme_key(alike, secret, &key->key) != WH_SECRET_OK ||
		key->key.kind == WH_KEY_PUBLIC)
		return;
	key->schemes = schemes;
	key->expires_at = expires_at;
	config->key_count++;
}

/* Schemes that key with what the secret's base64 stands for, and with its text. */
#define DECODED (WH_SCHEME_BIT(WH_SCHEME_V1) | WH_SCHEME_BIT(WH_SCHEME_RFC9421))
#define LITERAL (WH_SCHEME_BIT(WH_SCHEME_STRIPE) | WH_SCHEME_BIT(WH_SCHEME_GITHUB) | \
				 WH_SCHEME_BIT(WH_SCHEME_X_WEBHOOK))
#define ED25519 (WH_SCHEME_BIT(WH_SCHEME_V1A) | WH_SCHEME_BIT(WH_SCHEME_RFC9421))

static void
add_keys(WhConfig *config, const char *secret, TimestampTz expires_at)
{
	if (wh_key_is_ed25519(secret))
		add_key(config, secret, ED25519, WH_SCHEME_V1A, expires_at);
	else
	{
		add_key(config, secret, DECODED, WH_SCHEME_V1, expires_at);
		add_key(config, secret, LITERAL, WH_SCHEME_STRIPE, expires_at);
	}
}

/* The schemes that have a current key, be there older ones or not. */
static uint32
signable_schemes(const WhConfig *config)
{
	uint32		schemes = 0;

	for (int i = 0; i < config->key_count; i++)
		if (TIMESTAMP_IS_NOEND(config->keys[i].expires_at))
			schemes |= config->keys[i].schemes;
	return schemes;
}

/* Returns NULL, or why the endpoint's requests cannot be signed. */
static const char *
read_keys(HeapTuple row, const pg_uuid_t *endpoint_id, WhConfig *config)
{
	const char *reason = NULL;	/* of a current one */
	const char *ignored;
	Datum	   *expiries;
	int			count;
	char	  **secrets = text_array(wh_value(row, CONFIG_SECRETS), &count);
	char	  **key_ids = text_array(wh_value(row, CONFIG_SECRET_KEY_IDS), &count);

	deconstruct_array(DatumGetArrayTypeP(wh_value(row, CONFIG_SECRET_EXPIRIES)), TIMESTAMPTZOID,
					  8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &expiries, NULL, &count);
	config->keys = palloc0(Max(1, 2 * count) * sizeof(WhSigningKey));

	/*
	 * The current ones come first. An older one that is broken is left out, or no rotation could
	 * mend it.
	 */
	for (int i = 0; i < count; i++)
	{
		TimestampTz expires_at = DatumGetTimestampTz(expiries[i]);
		char	   *secret = open_secret(endpoint_id, "signing",
										 (WhSealed) {secrets[i], key_ids[i][0] ? key_ids[i] : NULL},
										 TIMESTAMP_IS_NOEND(expires_at) ? &reason : &ignored);

		if (secret)
		{
			add_keys(config, secret, expires_at);
			wh_secret_wipe(secret);
		}
	}
	if ((config->schemes & ~signable_schemes(config)) == 0)
		return NULL;
	if (count == 0)
		return "it has no secret";
	return reason ? reason : "its secret cannot be decoded for its signature schemes";
}

/* Returns NULL, or why the endpoint's requests cannot be signed. */
static const char *
read_target(WhConfig *config, MemoryContext context)
{
	WhUrlTarget target;

	if ((config->schemes & WH_SCHEME_BIT(WH_SCHEME_RFC9421)) == 0)
		return NULL;
	if (!wh_url_target(config->url, &target))
		return "its URL cannot be parsed";
	config->target.authority = MemoryContextStrdup(context, target.authority);
	config->target.path = MemoryContextStrdup(context, target.path);
	if (target.query)
		config->target.query = MemoryContextStrdup(context, target.query);
	return NULL;
}

/* The key that a target signs with. Returns NULL, or why its requests cannot be signed. */
static const char *
read_signing_key(HeapTuple row, WhConfig *config)
{
	char	   *key_id = text_value(row, CONFIG_SIGNING_KEY_ID);
	WhSealed	sealed = sealed_value(row, CONFIG_SIGNING_KEY);
	char	   *secret;
	const char *reason;

	if (sealed.text == NULL)
		return "its signing key does not exist";
	secret = wh_secret_open(&sealed, psprintf("signing_key %s %s", config->tenant_id, key_id),
							&reason);
	if (secret == NULL)
		return reason;
	config->keys = palloc0(2 * sizeof(WhSigningKey));
	add_keys(config, secret, DT_NOEND);
	wh_secret_wipe(secret);
	return (config->schemes & ~signable_schemes(config)) == 0 ? NULL :
		"its signing key cannot be decoded";
}

/* Those that were made, and room for no more: there may be very many endpoints. */
static void
keep_keys(WhConfig *config, MemoryContext context)
{
	WhSigningKey *made = config->keys;
	Size		size = config->key_count * sizeof(WhSigningKey);

	if (made == NULL)
		return;
	config->keys = memcpy(MemoryContextAlloc(context, size), made, size);
	explicit_bzero(made, size);
	pfree(made);
}

/* Returns NULL, or why the endpoint's requests cannot be signed. */
static const char *
read_signatures(HeapTuple row, const pg_uuid_t *endpoint_id, WhConfig *config,
				MemoryContext context)
{
	const char *reason;
	bool		isnull;

	if (!read_schemes(row, config))
		return "it has an unknown signature scheme";
	if (config->schemes == 0)
		return NULL;
	(void) wh_column(row, CONFIG_SIGNING_KEY_ID, &isnull);
	reason = isnull ? read_keys(row, endpoint_id, config) : read_signing_key(row, config);
	keep_keys(config, context);
	return reason ? reason : read_target(config, context);
}

static void
read_schedule(HeapTuple row, WhConfig *config, MemoryContext context)
{
	Datum	   *waits;
	bool		isnull;
	Datum		datum = wh_column(row, CONFIG_RETRY_SCHEDULE, &isnull);

	if (isnull)
		return;
	deconstruct_array(DatumGetArrayTypeP(datum), INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
					  &waits, NULL, &config->wait_count);
	config->waits_ms = MemoryContextAlloc(context, Max(1, config->wait_count) * sizeof(int64));
	for (int i = 0; i < config->wait_count; i++)
		config->waits_ms[i] = DatumGetInt64(waits[i]);
}

/* NULL when it cannot be parsed, as in a table that a newer version wrote. */
static WhStatusSet *
parse_statuses(const char *text, MemoryContext context)
{
	WhStatusSet set;

	if (!wh_status_set_parse(text, &set))
		return NULL;
	return memcpy(MemoryContextAlloc(context, sizeof(set)), &set, sizeof(set));
}

static int32
integer_or_zero(HeapTuple row, int number)
{
	bool		isnull;
	Datum		datum = wh_column(row, number, &isnull);

	return isnull ? 0 : DatumGetInt32(datum);
}

/*
 * Never sent unsigned, or without what lets it in: held until its secrets change, or can be had
 * after all, as when a key file is mended.
 */
static void
hold(WhConfig *config, WhEndpoint *endpoint, const char *reason)
{
	TimestampTz now = GetCurrentTimestamp();

	config->active = false;
	config->stale_at = now + HELD_S * USECS_PER_SEC;
	if (reason == wh_secret_no_key || now < endpoint->told_at + TELL_AGAIN_S * USECS_PER_SEC)
		return;
	endpoint->told_at = now;
	ereport(LOG,
			(errmsg("webhooks: endpoint %s is held: %s",
					wh_uuid_text(&endpoint->endpoint_id), reason),
			 errdetail("Its deliveries wait in the queue.")));
}

static WhConfig *
read_config(HeapTuple row, WhEndpoint *endpoint, MemoryContext context)
{
	const pg_uuid_t *endpoint_id = &endpoint->endpoint_id;
	WhConfig   *config = MemoryContextAllocZero(context, sizeof(WhConfig));
	const char *unsendable;
	const char *api_version;
	bool		isnull;
	Datum		retry_on = wh_column(row, CONFIG_RETRY_ON, &isnull);

	config->references = 1;
	config->active = DatumGetBool(wh_value(row, CONFIG_ACTIVE));
	config->tenant_id = MemoryContextStrdup(context, text_value(row, CONFIG_TENANT_ID));
	config->url = MemoryContextStrdup(context, text_value(row, CONFIG_URL));
	unsendable = read_headers(row, endpoint_id, config, context);
	if (unsendable == NULL)
		unsendable = read_certificate(row, endpoint_id, config, context);
	if (unsendable == NULL)
		unsendable = read_signatures(row, endpoint_id, config, context);
	if (!wh_body_format_parse(text_value(row, CONFIG_PAYLOAD_FORMAT), &config->payload_format) &&
		unsendable == NULL)
		unsendable = "its payload_format is unknown";
	api_version = optional_text(row, CONFIG_API_VERSION);
	config->api_version = api_version ? MemoryContextStrdup(context, api_version) : NULL;
	read_schedule(row, config, context);
	if (!isnull)
		config->retry_on = parse_statuses(TextDatumGetCString(retry_on), context);
	config->timeout_ms = integer_or_zero(row, CONFIG_TIMEOUT_MS);
	config->max_in_flight = integer_or_zero(row, CONFIG_MAX_IN_FLIGHT);
	config->rate_limit = DatumGetFloat8(wh_value(row, CONFIG_RATE_LIMIT));
	config->stale_at = DT_NOEND;
	if (unsendable)
		hold(config, endpoint, unsendable);
	return config;
}

static bool endpoints_changed = true;
static Oid	endpoints_relid = InvalidOid;

static void
on_relcache_invalidation(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == endpoints_relid)
		endpoints_changed = true;
}

/* Endpoints' triggers invalidate their relation, so what was cached before the change goes here. */
static void
forget_changed(WhScheduler *scheduler)
{
	static bool registered = false;

	if (!registered)
		CacheRegisterRelcacheCallback(on_relcache_invalidation, (Datum) 0);
	registered = true;
	if (!endpoints_changed)
		return;
	endpoints_changed = false;
	endpoints_relid = wh_table("endpoints");
	wh_scheduler_forget_configs(scheduler);
}

/* Whether its options are to be loaded. What is stale goes. */
static bool
is_wanted(WhEndpoint *endpoint, TimestampTz now)
{
	if (endpoint->config && endpoint->config->stale_at <= now)
	{
		wh_config_release(endpoint->config);
		endpoint->config = NULL;
	}
	return endpoint->config == NULL;
}

void
wh_config_load(WhScheduler *scheduler, WhPick *picks, int count, MemoryContext context)
{
	Datum	   *ids = palloc(count * sizeof(Datum));
	int		   *positions = palloc(count * sizeof(int));
	int			wanted = 0;
	TimestampTz now = GetCurrentTimestamp();
	Datum		argument;

	forget_changed(scheduler);
	for (int i = 0; i < count; i++)
		if (is_wanted(picks[i].endpoint, now))
		{
			positions[wanted] = i;
			ids[wanted++] = UUIDPGetDatum(&picks[i].endpoint->endpoint_id);
		}
	if (wanted == 0)
		return;

	argument = wh_array(UUIDOID, ids, NULL, wanted);
	wh_statement_execute(&config_statement, &argument, true, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		int64		position = DatumGetInt64(wh_value(row, CONFIG_POSITION));
		WhEndpoint *endpoint = picks[positions[position - 1]].endpoint;

		endpoint->config = read_config(row, endpoint, context);
		endpoint->health = WH_HEALTH_UNKNOWN;	/* who changed the options may have changed it */
	}
}
