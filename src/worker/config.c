/*
 * Options are kept until an endpoint changes anywhere: the trigger on endpoints invalidates their
 * relation, and every transaction begins with the invalidations that came in.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/header.h"
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
#include "worker/secrets.h"
#include "worker/statement.h"

#define HELD_S 10
#define TELL_AGAIN_S 60

/* The columns of options_statement. Behind a secret stands the id of the key it is encrypted with. */
enum
{
	POSITION, ACTIVE, TENANT_ID, URL, HEADERS, RETRY_SCHEDULE, RETRY_ON, TIMEOUT_MS, MAX_IN_FLIGHT,
	RATE_LIMIT, CLIENT_CERTIFICATE, SCHEMES, SIGNING_KEY_ID, SIGNING_KEY, SIGNING_KEY_KEY_ID,
	PAYLOAD_FORMAT, API_VERSION, OPTION_COUNT
};

static WhStatement options_statement = {
	"SELECT n, e.state = 'active', e.tenant_id, e.url,"
	/* libcurl takes "Name;" for a header without a value, and "Name:" for one to leave out */
	" CASE WHEN e.headers <> '{}' THEN ARRAY(SELECT h.key ||"
	"   CASE WHEN btrim(h.value, E' \\t') = '' THEN ';' ELSE ': ' || h.value END"
	"  FROM jsonb_each_text(e.headers) h) END,"
	" CASE WHEN e.retry_schedule IS NOT NULL THEN"
	"  ARRAY(SELECT (EXTRACT(epoch FROM w) * 1000)::bigint"
	"   FROM unnest(e.retry_schedule) WITH ORDINALITY u(w, i) ORDER BY i) END,"
	" e.retry_on,"
	" (EXTRACT(epoch FROM e.timeout) * 1000)::integer,"
	" e.max_in_flight,"
	" e.rate_limit::double precision,"
	" e.client_certificate,"
	" e.signature_schemes,"
	" e.signing_key_id, g.secret, g.encryption_key_id,"
	" e.payload_format, e.api_version"
	" FROM unnest($1) WITH ORDINALITY p(endpoint_id, n)"
	" JOIN webhooks.endpoints e ON e.endpoint_id = p.endpoint_id"
	" LEFT JOIN webhooks.signing_keys g"
	"  ON g.tenant_id = e.tenant_id AND g.key_id = e.signing_key_id",
	1, {UUIDARRAYOID}
};

/* One of its rows. */
typedef struct Row
{
	Datum		values[OPTION_COUNT];
	bool		nulls[OPTION_COUNT];
} Row;

static Row
read_row(uint64 number)
{
	Row			row;

	heap_deform_tuple(SPI_tuptable->vals[number], SPI_tuptable->tupdesc, row.values, row.nulls);
	return row;
}

/* Of a column that cannot be NULL. */
static Datum
value_of(const Row *row, int column)
{
	if (row->nulls[column])
		elog(ERROR, "column %d is unexpectedly NULL", column);
	return row->values[column];
}

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
optional_text(const Row *row, int column)
{
	return row->nulls[column] ? NULL : TextDatumGetCString(row->values[column]);
}

static char *
text_of(const Row *row, int column)
{
	return TextDatumGetCString(value_of(row, column));
}

/* NULL for NULL. */
static char *
keep_text(const Row *row, int column, MemoryContext context)
{
	MemoryContext before = MemoryContextSwitchTo(context);
	char	   *text = optional_text(row, column);

	MemoryContextSwitchTo(before);
	return text;
}

/* A secret of the row; its text is NULL when there is none. */
static WhSealed
sealed_of(const Row *row, int column)
{
	return (WhSealed) {optional_text(row, column), optional_text(row, column + 1)};
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

/* Returns NULL, or why the endpoint can be sent nothing. */
static const char *
read_authorization(List *secrets, const pg_uuid_t *endpoint_id, char **line, MemoryContext context)
{
	const char *reason = NULL;
	const WhEndpointSecret *secret = wh_endpoint_secret_find(secrets, "authorization");
	char	   *value;

	if (secret == NULL)
		return "the value of its Authorization header is missing";
	value = wh_endpoint_secret_open(endpoint_id, secret, &reason);
	if (value == NULL)
		return reason;
	*line = header_line(context, "Authorization", value);
	wh_secret_wipe(value);
	return NULL;
}

/* A header, as libcurl takes it, whose value in the table is a mask: it stands among the secrets. */
static bool
is_authorization(const char *line)
{
	return wh_header_same_name(line, strcspn(line, ":;"), "authorization", strlen("authorization"));
}

/* Returns NULL, or why the endpoint can be sent nothing. */
static const char *
read_headers(const Row *row, List *secrets, const pg_uuid_t *endpoint_id, WhConfig *config,
			 MemoryContext context)
{
	const char *reason = NULL;
	char	  **lines;
	int			count;

	if (row->nulls[HEADERS])
		return NULL;
	lines = text_array(row->values[HEADERS], &count);
	config->headers = MemoryContextAlloc(context, count * sizeof(char *));
	for (int i = 0; i < count && reason == NULL; i++)
	{
		char	  **line = &config->headers[config->header_count];

		if (is_authorization(lines[i]))
			reason = read_authorization(secrets, endpoint_id, line, context);
		else
			*line = MemoryContextStrdup(context, lines[i]);
		config->header_count += reason == NULL;
	}
	return reason;
}

/* Returns NULL, or why the endpoint can be sent nothing. */
static const char *
read_certificate(const Row *row, List *secrets, const pg_uuid_t *endpoint_id, WhConfig *config,
				 MemoryContext context)
{
	const char *reason = NULL;
	const WhEndpointSecret *secret = wh_endpoint_secret_find(secrets, "client_key");
	char	   *key;

	if (row->nulls[CLIENT_CERTIFICATE])
		return NULL;
	if (secret == NULL)
		return "the key of its client certificate is missing";
	key = wh_endpoint_secret_open(endpoint_id, secret, &reason);
	if (key == NULL)
		return reason;
	config->certificate = MemoryContextAllocZero(context, sizeof(WhClientCertificate));
	config->certificate->certificate = keep_text(row, CLIENT_CERTIFICATE, context);
	config->certificate->key = MemoryContextStrdup(context, key);
	wh_secret_wipe(key);
	return wh_client_certificate_id(config->certificate->certificate, config->certificate->id) ?
		NULL : "OpenSSL failed to tell its client certificate from others";
}

/* False: there is one that is not known, as in a table that a newer version wrote. */
static bool
read_schemes(const Row *row, WhConfig *config)
{
	int			count;
	char	  **names = text_array(value_of(row, SCHEMES), &count);

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
read_keys(List *secrets, const pg_uuid_t *endpoint_id, WhConfig *config)
{
	const char *reason = NULL;	/* of a current one */
	const char *ignored;
	ListCell   *cell;

	config->keys = palloc0(Max(1, 2 * list_length(secrets)) * sizeof(WhSigningKey));

	/*
	 * The current ones come first. An older one that is broken is left out, or no rotation could
	 * mend it.
	 */
	foreach(cell, secrets)
	{
		const WhEndpointSecret *secret = lfirst(cell);
		bool		current = TIMESTAMP_IS_NOEND(secret->expires_at);
		char	   *text;

		if (strcmp(secret->kind, "signing") != 0)
			continue;
		text = wh_endpoint_secret_open(endpoint_id, secret, current ? &reason : &ignored);
		if (text)
			add_keys(config, text, secret->expires_at);
		wh_secret_wipe(text);
	}
	if ((config->schemes & ~signable_schemes(config)) == 0)
		return NULL;
	if (wh_endpoint_secret_find(secrets, "signing") == NULL)
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
read_signing_key(const Row *row, WhConfig *config)
{
	char	   *key_id = text_of(row, SIGNING_KEY_ID);
	WhSealed	sealed = sealed_of(row, SIGNING_KEY);
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
read_signatures(const Row *row, List *secrets, const pg_uuid_t *endpoint_id, WhConfig *config,
				MemoryContext context)
{
	const char *reason;

	if (!read_schemes(row, config))
		return "it has an unknown signature scheme";
	if (config->schemes == 0)
		return NULL;
	reason = row->nulls[SIGNING_KEY_ID] ? read_keys(secrets, endpoint_id, config) :
		read_signing_key(row, config);
	keep_keys(config, context);
	return reason ? reason : read_target(config, context);
}

static void
read_schedule(const Row *row, WhConfig *config, MemoryContext context)
{
	Datum	   *waits;

	if (row->nulls[RETRY_SCHEDULE])
		return;
	deconstruct_array(DatumGetArrayTypeP(row->values[RETRY_SCHEDULE]), INT8OID, 8, FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &waits, NULL, &config->wait_count);
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
integer_or_zero(const Row *row, int column)
{
	return row->nulls[column] ? 0 : DatumGetInt32(row->values[column]);
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
read_config(const Row *row, List *secrets, WhEndpoint *endpoint, MemoryContext context)
{
	const pg_uuid_t *endpoint_id = &endpoint->endpoint_id;
	WhConfig   *config = MemoryContextAllocZero(context, sizeof(WhConfig));
	const char *unsendable;

	config->references = 1;
	config->active = DatumGetBool(value_of(row, ACTIVE));
	config->tenant_id = keep_text(row, TENANT_ID, context);
	config->url = keep_text(row, URL, context);
	unsendable = read_headers(row, secrets, endpoint_id, config, context);
	if (unsendable == NULL)
		unsendable = read_certificate(row, secrets, endpoint_id, config, context);
	if (unsendable == NULL)
		unsendable = read_signatures(row, secrets, endpoint_id, config, context);
	if (!wh_body_format_parse(text_of(row, PAYLOAD_FORMAT), &config->payload_format) &&
		unsendable == NULL)
		unsendable = "its payload_format is unknown";
	config->api_version = keep_text(row, API_VERSION, context);
	read_schedule(row, config, context);
	if (!row->nulls[RETRY_ON])
		config->retry_on = parse_statuses(text_of(row, RETRY_ON), context);
	config->timeout_ms = integer_or_zero(row, TIMEOUT_MS);
	config->max_in_flight = integer_or_zero(row, MAX_IN_FLIGHT);
	config->rate_limit = row->nulls[RATE_LIMIT] ? 0 : DatumGetFloat8(row->values[RATE_LIMIT]);
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
	Datum		endpoint_ids;
	List	  **secrets;

	forget_changed(scheduler);
	for (int i = 0; i < count; i++)
		if (is_wanted(picks[i].endpoint, now))
		{
			positions[wanted] = i;
			ids[wanted++] = UUIDPGetDatum(&picks[i].endpoint->endpoint_id);
		}
	if (wanted == 0)
		return;

	endpoint_ids = wh_array(UUIDOID, ids, NULL, wanted);
	secrets = wh_endpoint_secrets_read(endpoint_ids, wanted);
	wh_statement_execute(&options_statement, &endpoint_ids, true, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Row			row = read_row(i);
		int64		position = DatumGetInt64(value_of(&row, POSITION));
		WhEndpoint *endpoint = picks[positions[position - 1]].endpoint;

		endpoint->config = read_config(&row, secrets[position - 1], endpoint, context);
		endpoint->health = WH_HEALTH_UNKNOWN;	/* who changed the options may have changed it */
	}
}
