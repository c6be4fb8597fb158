/*
 * Rows of endpoints for URLs. They are added as the extension's owner, since dispatch_to_urls runs
 * as its caller; that does not invalidate what sessions and workers know of endpoints, or an
 * application with a new URL in every call would have all of them read everything anew.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "id.h"
#include "sql/options.h"
#include "sql/order.h"
#include "sql/owner.h"
#include "sql/session.h"
#include "sql/signing_key.h"
#include "sql/subscription.h"
#include "sql/target.h"
#include "url.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define TARGETS_MAX 1000		/* of one call */
#define REMOVED_AT_ONCE 200		/* each takes locks */

PG_FUNCTION_INFO_V1(wh_sql_remove_unused_targets);

typedef struct Target
{
	pg_uuid_t	endpoint_id;
	Datum		url;
} Target;


/* ---- judging ---- */

static void
check_retry_schedule(const WhTargetOptions *options)
{
	WhOptions	judged = {0};

	judged.given[OPTION_RETRY_SCHEDULE] = true;
	judged.values[OPTION_RETRY_SCHEDULE] = options->retry_schedule;
	wh_options_judge(&judged);
}

static void
check_url(Datum url, int number)
{
	char	   *refusal = wh_url_refusal(TextDatumGetCString(url));

	if (refusal)
		wh_refuse(psprintf("targets[%d]", number), psprintf("is refused: %s", refusal));
}


/* ---- ids ---- */

static void
hash_part(pg_cryptohash_ctx *hash, const void *part, uint32 len)
{
	/* with its length, so that no two lists of parts are the same bytes */
	if (pg_cryptohash_update(hash, (const uint8 *) &len, sizeof(len)) < 0 ||
		pg_cryptohash_update(hash, part, len) < 0)
		elog(ERROR, "could not hash a target: %s", pg_cryptohash_error(hash));
}

static void
hash_schedule(pg_cryptohash_ctx *hash, NullableDatum schedule)
{
	Datum	   *waits;
	int			count;

	if (schedule.isnull)
	{
		hash_part(hash, "setting", strlen("setting"));
		return;
	}
	deconstruct_array(DatumGetArrayTypeP(schedule.value), INTERVALOID, sizeof(Interval), false,
					  TYPALIGN_DOUBLE, &waits, NULL, &count);
	for (int i = 0; i < count; i++)
		hash_part(hash, DatumGetIntervalP(waits[i]), sizeof(Interval));
}

/* A UUID of version 8: RFC 9562, 5.8. */
static pg_uuid_t
make_id(const WhTargetOptions *options, Datum url)
{
	const char *key_id = options->signing_key_id ? options->signing_key_id : "";
	char	   *address = TextDatumGetCString(url);
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	pg_uuid_t	id;

	if (hash == NULL || pg_cryptohash_init(hash) < 0)
		elog(ERROR, "could not hash a target: %s", pg_cryptohash_error(hash));
	hash_part(hash, options->tenant_id, strlen(options->tenant_id));
	hash_part(hash, address, strlen(address));
	hash_part(hash, key_id, strlen(key_id));
	hash_schedule(hash, options->retry_schedule);
	if (pg_cryptohash_final(hash, digest, sizeof(digest)) < 0)
		elog(ERROR, "could not hash a target: %s", pg_cryptohash_error(hash));
	pg_cryptohash_free(hash);
	memcpy(id.data, digest, UUID_LEN);
	id.data[6] = (id.data[6] & 0x0F) | 0x80;
	id.data[8] = (id.data[8] & 0x3F) | 0x80;
	return id;
}

static int
compare_targets(const void *a, const void *b)
{
	return memcmp(&((const Target *) a)->endpoint_id, &((const Target *) b)->endpoint_id, UUID_LEN);
}

/* In the order of ids: transactions that share targets then cannot wait for each other. */
static int
sort_and_unite(Target *targets, int count)
{
	int			n = 0;

	qsort(targets, count, sizeof(Target), compare_targets);
	for (int i = 0; i < count; i++)
		if (n == 0 || compare_targets(&targets[n - 1], &targets[i]) != 0)
			targets[n++] = targets[i];
	return n;
}


/* ---- rows ---- */

static WhOwnerStatement add_statement = {
	"INSERT INTO webhooks.endpoints (endpoint_id, tenant_id, url, retry_schedule, signing_key_id,"
	"  signature_schemes, event_types, headers, payload_format, ordering, metadata, registered)"
	" SELECT t.endpoint_id, $2, t.url, $4, $5,"
	"  CASE WHEN $5 IS NULL THEN '{none}'::pg_catalog.text[] ELSE '{v1}'::pg_catalog.text[] END,"
	"  '{}', '{}', 'standard', 'none', '{}', false"
	" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($3)) t(endpoint_id, url)"
	" ON CONFLICT (endpoint_id) DO NOTHING",
	5, {UUIDARRAYOID, TEXTOID, TEXTARRAYOID, INTERVALARRAYOID, TEXTOID}
};

static void
add(const WhTargetOptions *options, Datum *ids, Datum *urls, int count)
{
	bool		unsigned_ = options->signing_key_id == NULL;
	Datum		values[] = {
		PointerGetDatum(construct_array(ids, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)),
		CStringGetTextDatum(options->tenant_id),
		PointerGetDatum(construct_array(urls, count, TEXTOID, -1, false, TYPALIGN_INT)),
		options->retry_schedule.value,
		unsigned_ ? (Datum) 0 : CStringGetTextDatum(options->signing_key_id)
	};
	char		nulls[] = {
		' ', ' ', ' ', options->retry_schedule.isnull ? 'n' : ' ', unsigned_ ? 'n' : ' '
	};
	WhOwnerScope scope;

	if (count == 0)
		return;
	scope = wh_owner_begin("endpoints");
	(void) wh_owner_execute(&add_statement, values, nulls);
	wh_owner_end(&scope);
}

/*
 * Of those that are there nothing is written, nor their rows locked: they are used again and again.
 */
static void
add_missing(const WhTargetOptions *options, Target *targets, int count)
{
	Datum	   *ids = palloc(count * sizeof(Datum));
	Datum	   *urls = palloc(count * sizeof(Datum));
	int			missing = 0;
	WhSubscriber subscriber;

	for (int i = 0; i < count; i++)
	{
		wh_lock_target(&targets[i].endpoint_id);
		if (wh_endpoint_standing(options->tenant_id, &targets[i].endpoint_id, &subscriber) !=
			WH_ENDPOINT_UNKNOWN)
			continue;
		ids[missing] = UUIDPGetDatum(&targets[i].endpoint_id);
		urls[missing++] = targets[i].url;
	}
	add(options, ids, urls, missing);
}

ArrayType *
wh_targets(const WhTargetOptions *options, ArrayType *urls)
{
	Datum	   *items;
	int			count = wh_elements("targets", urls, &items);
	Target	   *targets;

	if (count == 0 || count > TARGETS_MAX)
		wh_refuse("targets", psprintf("must have 1 to %d URLs", TARGETS_MAX));
	targets = palloc(count * sizeof(Target));
	for (int i = 0; i < count; i++)
		check_url(items[i], i + 1);
	check_retry_schedule(options);
	if (options->signing_key_id)
		wh_signing_key_check(options->tenant_id, options->signing_key_id);

	for (int i = 0; i < count; i++)
		targets[i] = (Target) {make_id(options, items[i]), items[i]};
	count = sort_and_unite(targets, count);
	add_missing(options, targets, count);
	for (int i = 0; i < count; i++)
		items[i] = UUIDPGetDatum(&targets[i].endpoint_id);
	return construct_array(items, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

void
wh_refuse_target(const pg_uuid_t *endpoint_id)
{
	WhArgument	argument = {UUIDOID, UUIDPGetDatum(endpoint_id)};

	if (wh_execute("SELECT FROM webhooks.endpoints WHERE endpoint_id = $1 AND NOT registered",
				   1, &argument) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("endpoint %s is a target of dispatch_to_urls",
						wh_uuid_text(endpoint_id)),
				 errhint("What it is sent, and how, is said by each call of dispatch_to_urls.")));
}


/* ---- removing those that nothing needs ---- */

#define UNUSED \
	"NOT e.registered AND e.state = 'active' AND e.created_at < now() - interval '1 day'" \
	" AND NOT EXISTS (SELECT FROM webhooks.queue q WHERE q.endpoint_id = e.endpoint_id)" \
	" AND NOT EXISTS (SELECT FROM webhooks.dead_letters d WHERE d.endpoint_id = e.endpoint_id)"

/*
 * A transaction may have dispatched to it and not have committed: so it is asked again under a
 * lock.
 */
static uint64
remove_unless_used(const pg_uuid_t *endpoint_id)
{
	WhArgument	argument = {UUIDOID, UUIDPGetDatum(endpoint_id)};

	return wh_lock_target_away(endpoint_id)
		? wh_execute("DELETE FROM webhooks.endpoints e WHERE e.endpoint_id = $1 AND " UNUSED,
					 1, &argument) : 0;
}

/* Removes some; returns whether there may be more. */
Datum
wh_sql_remove_unused_targets(PG_FUNCTION_ARGS)
{
	pg_uuid_t	ids[REMOVED_AT_ONCE];
	uint64		count;
	uint64		removed = 0;

	if (IsolationUsesXactSnapshot())	/* it would not see what came in since */
		PG_RETURN_BOOL(false);
	SPI_connect();
	count = wh_execute(psprintf("SELECT e.endpoint_id FROM webhooks.endpoints e WHERE " UNUSED
								" LIMIT %d", REMOVED_AT_ONCE), 0, NULL);
	for (uint64 i = 0; i < count; i++)
		ids[i] = wh_result_id(i, 1);
	for (uint64 i = 0; i < count; i++)
		removed += remove_unless_used(&ids[i]);
	SPI_finish();
	PG_RETURN_BOOL(count == REMOVED_AT_ONCE && removed > 0);
}
