/*
 * Options are kept until an endpoint changes anywhere: the trigger on endpoints invalidates their
 * relation, and every transaction begins with the invalidations that came in.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "secret.h"
#include "tables.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/timestamp.h"
#include "worker/config.h"
#include "worker/statement.h"

static WhStatement config_statement = {
	"SELECT n, e.state = 'active', e.tenant_id, e.url,"
	/* libcurl takes "Name;" for a header without a value, and "Name:" for one to leave out */
	" CASE WHEN e.headers = '{}' THEN '{}'::text[] ELSE ARRAY(SELECT h.key || CASE WHEN btrim(h.value, E' \\t') = '' THEN ';' ELSE ': ' || h.value END"
	"  FROM jsonb_each_text(e.headers) h WHERE lower(h.key COLLATE \"C\") <> 'authorization') END,"
	" coalesce(s.secrets, '{}'::text[]), coalesce(s.expiries, '{}'::timestamptz[]),"
	" CASE WHEN e.retry_schedule IS NOT NULL THEN"
	"  ARRAY(SELECT (EXTRACT(epoch FROM w) * 1000)::bigint"
	" FROM unnest(e.retry_schedule) WITH ORDINALITY u(w, i) ORDER BY i) END,"
	" e.retry_on, (EXTRACT(epoch FROM e.timeout) * 1000)::integer, e.max_in_flight,"
	" coalesce(e.rate_limit, 0)::double precision, coalesce(s.key_ids, '{}'::text[]),"
	" a.secret, a.encryption_key_id,"
	" EXISTS (SELECT FROM jsonb_object_keys(e.headers) k"
	"  WHERE lower(k COLLATE \"C\") = 'authorization'), e.signature_schemes"
	" FROM unnest($1) WITH ORDINALITY p(endpoint_id, n)"
	" JOIN webhooks.endpoints e ON e.endpoint_id = p.endpoint_id"
	" CROSS JOIN LATERAL (SELECT array_agg(o.secret) AS secrets,"
	"   array_agg(coalesce(o.expires_at, 'infinity')) AS expiries,"
	"   array_agg(coalesce(o.encryption_key_id, '')) AS key_ids"
	"  FROM (SELECT x.secret, x.expires_at, x.encryption_key_id FROM webhooks.endpoint_secrets x"
	"   WHERE x.endpoint_id = e.endpoint_id AND x.kind = 'signing'"
	"   ORDER BY x.expires_at DESC NULLS FIRST, x.created_at DESC) o) s"
	" LEFT JOIN LATERAL (SELECT x.secret, x.encryption_key_id FROM webhooks.endpoint_secrets x"
	"  WHERE x.endpoint_id = e.endpoint_id AND x.kind = 'authorization' LIMIT 1) a ON true",
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
	char	  **headers = text_array(wh_value(row, 5), &config->header_count);
	char	   *authorization;
	bool		isnull;
	Datum		datum;

	config->headers = MemoryContextAlloc(context, (config->header_count + 1) * sizeof(char *));
	for (int i = 0; i < config->header_count; i++)
		config->headers[i] = MemoryContextStrdup(context, headers[i]);
	if (!DatumGetBool(wh_value(row, 16)))
		return NULL;

	datum = wh_column(row, 14, &isnull);
	if (isnull)
		return "the value of its Authorization header is missing";
	authorization = open_secret(endpoint_id, "authorization",
								(WhSealed) {TextDatumGetCString(datum), optional_text(row, 15)},
								&reason);
	if (authorization == NULL)
		return reason;
	config->headers[config->header_count++] = header_line(context, "Authorization", authorization);
	explicit_bzero(authorization, strlen(authorization));
	return NULL;
}

/* False: there is one that is not known, as in a table that a newer version wrote. */
static bool
read_schemes(HeapTuple row, WhConfig *config)
{
	int			count;
	char	  **names = text_array(wh_value(row, 17), &count);

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
read_keys(HeapTuple row, const pg_uuid_t *endpoint_id, WhConfig *config, MemoryContext context)
{
	const char *reason = NULL;	/* of a current one */
	const char *ignored;
	Datum	   *expiries;
	int			count;
	char	  **secrets = text_array(wh_value(row, 6), &count);
	char	  **key_ids = text_array(wh_value(row, 13), &count);

	if (!read_schemes(row, config))
		return "it has an unknown signature scheme";
	deconstruct_array(DatumGetArrayTypeP(wh_value(row, 7)), TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &expiries, NULL, &count);
	config->keys = MemoryContextAllocZero(context, Max(1, 2 * count) * sizeof(WhSigningKey));

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
			explicit_bzero(secret, strlen(secret));
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

static void
read_schedule(HeapTuple row, WhConfig *config, MemoryContext context)
{
	Datum	   *waits;
	bool		isnull;
	Datum		datum = wh_column(row, 8, &isnull);

	if (isnull)
		return;
	deconstruct_array(DatumGetArrayTypeP(datum), INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
					  &waits, NULL, &config->wait_count);
	config->waits_ms = MemoryContextAlloc(context, Max(1, config->wait_count) * sizeof(int64));
	for (int i = 0; i < config->wait_count; i++)
		config->waits_ms[i] = DatumGetInt64(waits[i]);
}

static int32
integer_or_zero(HeapTuple row, int number)
{
	bool		isnull;
	Datum		datum = wh_column(row, number, &isnull);

	return isnull ? 0 : DatumGetInt32(datum);
}

static WhConfig *
read_config(HeapTuple row, const pg_uuid_t *endpoint_id, MemoryContext context)
{
	WhConfig   *config = MemoryContextAllocZero(context, sizeof(WhConfig));
	const char *unsendable;
	bool		isnull;
	Datum		retry_on = wh_column(row, 9, &isnull);

	config->references = 1;
	config->active = DatumGetBool(wh_value(row, 2));
	config->tenant_id = MemoryContextStrdup(context, TextDatumGetCString(wh_value(row, 3)));
	config->url = MemoryContextStrdup(context, TextDatumGetCString(wh_value(row, 4)));
	unsendable = read_headers(row, endpoint_id, config, context);
	if (unsendable == NULL)
		unsendable = read_keys(row, endpoint_id, config, context);
	if (unsendable == NULL)
		unsendable = read_target(config, context);
	read_schedule(row, config, context);
	if (!isnull)
		config->has_retry_on = wh_status_set_parse(TextDatumGetCString(retry_on), &config->retry_on);
	config->timeout_ms = integer_or_zero(row, 10);
	config->max_in_flight = integer_or_zero(row, 11);
	config->rate_limit = DatumGetFloat8(wh_value(row, 12));
	if (unsendable)
	{
		/* never sent unsigned; held until its secrets change */
		config->active = false;
		ereport(LOG,
				(errmsg("webhooks: endpoint %s is held: %s",
						DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(endpoint_id))), unsendable),
				 errhint("Give it another with webhooks.rotate_secret.")));
	}
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

void
wh_config_load(WhScheduler *scheduler, WhPick *picks, int count, MemoryContext context)
{
	Datum	   *ids = palloc(count * sizeof(Datum));
	int		   *positions = palloc(count * sizeof(int));
	int			wanted = 0;
	Datum		argument;

	forget_changed(scheduler);
	for (int i = 0; i < count; i++)
		if (picks[i].endpoint->config == NULL)
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
		WhEndpoint *endpoint = picks[positions[DatumGetInt64(wh_value(row, 1)) - 1]].endpoint;

		endpoint->config = read_config(row, &endpoint->endpoint_id, context);
	}
}
