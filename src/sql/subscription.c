/*
 * Tenants' endpoints, read once and kept until an endpoint changes anywhere: the trigger on
 * endpoints invalidates their relation, and that message reaches every session before its next
 * dispatch.
 *
 * The table is read with the newest snapshot, not the transaction's: what an old REPEATABLE READ
 * snapshot shows must not stay in the cache for the transactions after it. It is read below the
 * executor, so no privilege on it is needed and no operator is looked up.
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
#define CACHED_MAX 100000		/* past that the cache starts afresh */

typedef struct Subscription
{
	WhSubscriber subscriber;
	bool		enabled;
	int			pattern_count;
	char	  **patterns;
} Subscription;

typedef struct Tenant
{
	char		tenant_id[TENANT_ID_MAX];	/* hash key: first */
	int			count;
	Subscription *items;
} Tenant;

/* Who takes events of one type: found once by going through all of the tenant's patterns. */
typedef struct MatchKey
{
	const Tenant *tenant;
	char		event_type[WH_EVENT_TYPE_MAX + 1];
} MatchKey;

typedef struct Match
{
	MatchKey	key;			/* hash key: first; its padding is zero */
	int			count;
	WhSubscriber *subscribers;
} Match;

static MemoryContext cache_context = NULL;
static HTAB *tenants = NULL;	/* of Tenant; NULL: nothing cached */
static HTAB *matches = NULL;	/* of Match */
static int	cached = 0;			/* endpoints in both */
static bool stale = false;
static Oid	endpoints_relid = InvalidOid;

static void
on_relcache_invalidation(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == endpoints_relid)
		stale = true;
}

static HTAB *
create_hash(const char *name, Size key_size, Size entry_size, int flags)
{
	HASHCTL		ctl = {.keysize = key_size, .entrysize = entry_size, .hcxt = cache_context};

	return hash_create(name, 16, &ctl, HASH_ELEM | HASH_CONTEXT | flags);
}

static void
start_afresh(void)
{
	if (cache_context == NULL)
	{
		cache_context = AllocSetContextCreate(CacheMemoryContext, "webhooks subscriptions",
											  ALLOCSET_DEFAULT_SIZES);
		CacheRegisterRelcacheCallback(on_relcache_invalidation, (Datum) 0);
	}
	tenants = NULL;				/* until all of it is there again */
	MemoryContextReset(cache_context);
	endpoints_relid = wh_table("endpoints");
	stale = false;
	cached = 0;
	matches = create_hash("webhooks matches", sizeof(MatchKey), sizeof(Match), HASH_BLOBS);
	tenants = create_hash("webhooks tenants", TENANT_ID_MAX, sizeof(Tenant), HASH_STRINGS);
}

static WhOrdering
read_ordering(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	char	   *ordering = TextDatumGetCString(heap_getattr(tuple, ENDPOINTS_ORDERING, desc, &isnull));

	return strcmp(ordering, "endpoint") == 0 ? WH_ORDERING_ENDPOINT :
		strcmp(ordering, "key") == 0 ? WH_ORDERING_KEY : WH_ORDERING_NONE;
}

static void
read_subscription(Subscription *item, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum	   *patterns;
	char	   *state = TextDatumGetCString(heap_getattr(tuple, ENDPOINTS_STATE, desc, &isnull));

	item->subscriber.endpoint_id =
		*DatumGetUUIDP(heap_getattr(tuple, ENDPOINTS_ENDPOINT_ID, desc, &isnull));
	item->subscriber.ordering = read_ordering(tuple, desc);
	item->enabled = strcmp(state, "disabled") != 0;
	deconstruct_array(DatumGetArrayTypeP(heap_getattr(tuple, ENDPOINTS_EVENT_TYPES, desc, &isnull)),
					  TEXTOID, -1, false, TYPALIGN_INT, &patterns, NULL, &item->pattern_count);
	item->patterns = palloc(item->pattern_count * sizeof(char *));
	for (int i = 0; i < item->pattern_count; i++)
		item->patterns[i] = TextDatumGetCString(patterns[i]);
}

static void
load(const char *tenant_id, Tenant *tenant)
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

	tenant->count = 0;
	tenant->items = palloc(room * sizeof(Subscription));
	ScanKeyInit(&key, ENDPOINTS_TENANT_ID, BTEqualStrategyNumber, F_TEXTEQ, key_value);
	scan = systable_beginscan(rel, index, true, snapshot, 1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		if (tenant->count == room)
		{
			room *= 2;
			tenant->items = repalloc_huge(tenant->items, room * sizeof(Subscription));
		}
		read_subscription(&tenant->items[tenant->count++], tuple, RelationGetDescr(rel));
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	MemoryContextSwitchTo(before);
}

static const Tenant *
find_tenant(const char *tenant_id)
{
	Tenant	   *tenant;
	Tenant		loaded;

	AcceptInvalidationMessages();
	if (tenants == NULL || stale || cached > CACHED_MAX)
		start_afresh();
	tenant = hash_search(tenants, tenant_id, HASH_FIND, NULL);
	if (tenant)
		return tenant;

	/* entered when complete: an error on the way must not leave half of it */
	load(tenant_id, &loaded);
	tenant = hash_search(tenants, tenant_id, HASH_ENTER, NULL);
	tenant->count = loaded.count;
	tenant->items = loaded.items;
	cached += loaded.count + 1;
	return tenant;
}

static bool
takes(const Subscription *subscription, const char *event_type)
{
	if (!subscription->enabled)
		return false;
	for (int i = 0; i < subscription->pattern_count; i++)
		if (wh_event_pattern_match(subscription->patterns[i], event_type))
			return true;
	return false;
}

static int
count_takers(const Tenant *tenant, const char *event_type, WhSubscriber *subscribers)
{
	int			count = 0;

	for (int i = 0; i < tenant->count; i++)
		if (takes(&tenant->items[i], event_type))
		{
			if (subscribers)
				subscribers[count] = tenant->items[i].subscriber;
			count++;
		}
	return count;
}

int
wh_subscribers(const char *tenant_id, const char *event_type, const WhSubscriber **subscribers)
{
	const Tenant *tenant = find_tenant(tenant_id);
	MatchKey	key;
	Match	   *match;
	int			count;
	WhSubscriber *takers;

	memset(&key, 0, sizeof(key));
	key.tenant = tenant;
	strlcpy(key.event_type, event_type, sizeof(key.event_type));
	match = hash_search(matches, &key, HASH_FIND, NULL);
	if (match == NULL)
	{
		count = count_takers(tenant, event_type, NULL);
		takers = MemoryContextAllocHuge(cache_context, Max(1, count) * sizeof(WhSubscriber));
		(void) count_takers(tenant, event_type, takers);
		match = hash_search(matches, &key, HASH_ENTER, NULL);
		match->count = count;
		match->subscribers = takers;
		cached += count + 1;
	}
	*subscribers = match->subscribers;
	return match->count;
}

WhEndpointStanding
wh_endpoint_standing(const char *tenant_id, const pg_uuid_t *endpoint_id, WhSubscriber *subscriber)
{
	const Tenant *tenant = find_tenant(tenant_id);

	for (int i = 0; i < tenant->count; i++)
	{
		const Subscription *item = &tenant->items[i];

		if (memcmp(&item->subscriber.endpoint_id, endpoint_id, UUID_LEN) != 0)
			continue;
		*subscriber = item->subscriber;
		return item->enabled ? WH_ENDPOINT_ENABLED : WH_ENDPOINT_DISABLED;
	}
	return WH_ENDPOINT_UNKNOWN;
}
