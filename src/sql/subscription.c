/*
 * Tenants' endpoints, read once and kept until an endpoint changes anywhere: the trigger on endpoints invalidates their relation, and
 * that message reaches every session before its next dispatch.
 *
 * The table is read with the newest snapshot, not the transaction's: what an old REPEATABLE READ snapshot shows must not stay in the
 * cache for the transactions after it. It is read below the executor, so no privilege on it is needed and no operator is looked up.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "core/event_type.h"
#include "sql/subscription.h"
#include "tables.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define TENANT_ID_MAX 256		/* with the NUL */
#define CACHED_MAX 50000		/* subscriptions; past that the cache starts afresh */

typedef struct Tenant
{
	char		tenant_id[TENANT_ID_MAX];	/* hash key: first */
	WhSubscriptions subscriptions;
} Tenant;

static MemoryContext cache_context = NULL;
static HTAB *cache = NULL;		/* NULL: nothing cached */
static int	cached = 0;
static bool stale = false;
static Oid	endpoints_relid = InvalidOid;

static void
on_relcache_invalidation(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == endpoints_relid)
		stale = true;
}

static void
start_afresh(void)
{
	HASHCTL		ctl = {.keysize = TENANT_ID_MAX, .entrysize = sizeof(Tenant)};

	if (cache_context == NULL)
	{
		cache_context = AllocSetContextCreate(CacheMemoryContext, "webhooks subscriptions", ALLOCSET_DEFAULT_SIZES);
		CacheRegisterRelcacheCallback(on_relcache_invalidation, (Datum) 0);
	}
	cache = NULL;
	MemoryContextReset(cache_context);
	endpoints_relid = wh_table("endpoints");
	stale = false;
	cached = 0;
	ctl.hcxt = cache_context;
	cache = hash_create("webhooks subscriptions", 16, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

static void
read_subscription(WhSubscription *item, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum	   *patterns;
	char	   *state = TextDatumGetCString(heap_getattr(tuple, ENDPOINTS_STATE, desc, &isnull));

	item->endpoint_id = *DatumGetUUIDP(heap_getattr(tuple, ENDPOINTS_ENDPOINT_ID, desc, &isnull));
	item->enabled = strcmp(state, "disabled") != 0;
	deconstruct_array(DatumGetArrayTypeP(heap_getattr(tuple, ENDPOINTS_EVENT_TYPES, desc, &isnull)),
					  TEXTOID, -1, false, TYPALIGN_INT, &patterns, NULL, &item->pattern_count);
	item->patterns = palloc(item->pattern_count * sizeof(char *));
	for (int i = 0; i < item->pattern_count; i++)
		item->patterns[i] = TextDatumGetCString(patterns[i]);
}

static void
load(const char *tenant_id, WhSubscriptions *subscriptions)
{
	MemoryContext before = MemoryContextSwitchTo(cache_context);
	Oid			index = wh_table("endpoints_tenant_id_idx");
	Relation	rel = table_open(endpoints_relid, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Datum		key_value = CStringGetTextDatum(tenant_id);
	SysScanDesc scan;
	HeapTuple	tuple;
	ScanKeyData key;
	int			room = 4;

	subscriptions->count = 0;
	subscriptions->items = palloc(room * sizeof(WhSubscription));
	ScanKeyInit(&key, ENDPOINTS_TENANT_ID, BTEqualStrategyNumber, F_TEXTEQ, key_value);
	scan = systable_beginscan(rel, index, true, snapshot, 1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		if (subscriptions->count == room)
		{
			room *= 2;
			subscriptions->items = repalloc_huge(subscriptions->items, room * sizeof(WhSubscription));
		}
		read_subscription(&subscriptions->items[subscriptions->count++], tuple, RelationGetDescr(rel));
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	MemoryContextSwitchTo(before);
}

const WhSubscriptions *
wh_subscriptions(const char *tenant_id)
{
	Tenant	   *tenant;
	WhSubscriptions loaded;

	AcceptInvalidationMessages();
	if (cache == NULL || stale || cached > CACHED_MAX)
		start_afresh();
	tenant = hash_search(cache, tenant_id, HASH_FIND, NULL);
	if (tenant)
		return &tenant->subscriptions;

	/* entered when complete: an error on the way must not leave half of it */
	load(tenant_id, &loaded);
	tenant = hash_search(cache, tenant_id, HASH_ENTER, NULL);
	tenant->subscriptions = loaded;
	cached += loaded.count + 1;
	return &tenant->subscriptions;
}

bool
wh_subscription_takes(const WhSubscription *subscription, const char *event_type)
{
	for (int i = 0; i < subscription->pattern_count; i++)
		if (wh_event_pattern_match(subscription->patterns[i], event_type))
			return true;
	return false;
}
