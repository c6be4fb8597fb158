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
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "core/event_type.h"
#include "sql/session.h"
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

#define ENDPOINTS_CACHED_MAX 100000 /* with more than that, a further tenant makes all others go */
#define MATCHED_MAX 200000		/* takers of all types; past that they are found anew */

typedef struct Subscription
{
	WhSubscriber subscriber;
	bool		enabled;
	int			pattern_count;
	char	  **patterns;
} Subscription;

/* A pattern without a "*", and who has it. */
typedef struct ExactPattern
{
	const char *event_type;
	int			item;
} ExactPattern;

typedef struct Tenant
{
	char		tenant_id[WH_TENANT_ID_MAX + 1];	/* hash key: first */
	int			count;
	Subscription *items;
	int			exact_count;
	ExactPattern *exact;		/* by event type */
	int			wildcard_count;
	int		   *wildcards;		/* items that have a pattern with a "*", in order */
} Tenant;

/* Who takes events of one type: found once, whether or not anybody does. */
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

static MemoryContext tenants_context = NULL;
static MemoryContext matches_context = NULL;
static HTAB *tenants = NULL;	/* of Tenant; NULL: nothing cached */
static HTAB *matches = NULL;	/* of Match; NULL: the same */
static const Match *latest = NULL;	/* what was asked for the last time; NULL: not there any more */
static int	cached = 0;			/* endpoints, and tenants without any */
static int	matched = 0;		/* takers, and types without any */
static bool stale = false;
static Oid	endpoints_relid = InvalidOid;

static void
on_relcache_invalidation(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == endpoints_relid)
		stale = true;
}

static HTAB *
create_hash(const char *name, HASHCTL ctl, int flags)
{
	return hash_create(name, 16, &ctl, HASH_ELEM | HASH_CONTEXT | flags);
}

static void
forget_matches(void)
{
	latest = NULL;
	matches = NULL;				/* until it is there again */
	MemoryContextReset(matches_context);
	matched = 0;
	matches = create_hash("webhooks matches",
						  (HASHCTL) {.keysize = sizeof(MatchKey), .entrysize = sizeof(Match),
						  .hcxt = matches_context}, HASH_BLOBS);
}

static void
start_afresh(void)
{
	if (matches_context == NULL)
	{
		tenants_context = AllocSetContextCreate(CacheMemoryContext, "webhooks subscriptions",
												ALLOCSET_DEFAULT_SIZES);
		matches_context = AllocSetContextCreate(CacheMemoryContext, "webhooks matches",
												ALLOCSET_DEFAULT_SIZES);
		CacheRegisterRelcacheCallback(on_relcache_invalidation, (Datum) 0);
	}
	latest = NULL;
	tenants = NULL;				/* until all of it is there again */
	MemoryContextReset(tenants_context);
	endpoints_relid = wh_table("endpoints");
	stale = false;
	cached = 0;
	forget_matches();
	tenants = create_hash("webhooks tenants",
						  (HASHCTL) {.keysize = WH_TENANT_ID_MAX + 1,
						  .entrysize = sizeof(Tenant), .hcxt = tenants_context}, HASH_STRINGS);
}

static WhOrdering
read_ordering(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, ENDPOINTS_ORDERING, desc, &isnull);
	char	   *ordering = TextDatumGetCString(value);

	return strcmp(ordering, "endpoint") == 0 ? WH_ORDERING_ENDPOINT :
		strcmp(ordering, "key") == 0 ? WH_ORDERING_KEY : WH_ORDERING_NONE;
}

/* NULL: none. In the current context. */
static char *
read_api_version(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		version = heap_getattr(tuple, ENDPOINTS_API_VERSION, desc, &isnull);

	return isnull ? NULL : TextDatumGetCString(version);
}

static WhFilter *
read_filter(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		filter = heap_getattr(tuple, ENDPOINTS_FILTER, desc, &isnull);

	return isnull ? NULL : wh_filter_read(DatumGetJsonPathP(filter));
}

static bool
is_enabled(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	char	   *state = TextDatumGetCString(heap_getattr(tuple, ENDPOINTS_STATE, desc, &isnull));

	return strcmp(state, "disabled") != 0;
}

static void
read_subscription(Subscription *item, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum	   *patterns;

	item->subscriber.endpoint_id =
		*DatumGetUUIDP(heap_getattr(tuple, ENDPOINTS_ENDPOINT_ID, desc, &isnull));
	item->subscriber.ordering = read_ordering(tuple, desc);
	item->subscriber.filter = read_filter(tuple, desc);
	item->subscriber.api_version = read_api_version(tuple, desc);
	item->enabled = is_enabled(tuple, desc);
	deconstruct_array(DatumGetArrayTypeP(heap_getattr(tuple, ENDPOINTS_EVENT_TYPES, desc, &isnull)),
					  TEXTOID, -1, false, TYPALIGN_INT, &patterns, NULL, &item->pattern_count);
	item->patterns = palloc(item->pattern_count * sizeof(char *));
	for (int i = 0; i < item->pattern_count; i++)
		item->patterns[i] = TextDatumGetCString(patterns[i]);
}

static int
compare_exact(const void *a, const void *b)
{
	return strcmp(((const ExactPattern *) a)->event_type, ((const ExactPattern *) b)->event_type);
}

/* So that the takers of a type are found without going through all patterns of the tenant. */
static void
index_patterns(Tenant *tenant)
{
	int			patterns = 0;

	for (int i = 0; i < tenant->count; i++)
		patterns += tenant->items[i].pattern_count;
	tenant->exact = palloc_extended(Max(1, patterns) * sizeof(ExactPattern), MCXT_ALLOC_HUGE);
	tenant->wildcards = palloc_extended(Max(1, tenant->count) * sizeof(int), MCXT_ALLOC_HUGE);
	tenant->exact_count = tenant->wildcard_count = 0;
	for (int i = 0; i < tenant->count; i++)
	{
		const Subscription *item = &tenant->items[i];
		bool		wildcard = false;

		for (int p = 0; p < item->pattern_count; p++)
			if (strchr(item->patterns[p], '*'))
				wildcard = true;
			else
				tenant->exact[tenant->exact_count++] = (ExactPattern) {item->patterns[p], i};
		if (wildcard)
			tenant->wildcards[tenant->wildcard_count++] = i;
	}
	qsort(tenant->exact, tenant->exact_count, sizeof(ExactPattern), compare_exact);
}

static void
load(const char *tenant_id, Tenant *tenant)
{
	MemoryContext before = MemoryContextSwitchTo(tenants_context);
	Oid			index = wh_table("endpoints_registered_idx");
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
	index_patterns(tenant);
	MemoryContextSwitchTo(before);
}

static const Tenant *
find_tenant(const char *tenant_id)
{
	Tenant	   *tenant;
	Tenant		loaded;

	if (tenants == NULL || matches == NULL || stale)
		start_afresh();
	tenant = hash_search(tenants, tenant_id, HASH_FIND, NULL);
	if (tenant)
		return tenant;
	if (cached > ENDPOINTS_CACHED_MAX)
		start_afresh();

	/* entered when complete: an error on the way must not leave half of it */
	load(tenant_id, &loaded);
	strlcpy(loaded.tenant_id, tenant_id, sizeof(loaded.tenant_id));
	tenant = hash_search(tenants, tenant_id, HASH_ENTER, NULL);
	*tenant = loaded;
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

/* Where the type's exact patterns begin, or would. */
static int
first_exact(const Tenant *tenant, const char *event_type)
{
	int			low = 0;
	int			high = tenant->exact_count;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (strcmp(tenant->exact[middle].event_type, event_type) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int
compare_ints(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}

/* The tenant's endpoints that take the type, in their order, in the current context. */
static int
find_takers(const Tenant *tenant, const char *event_type, WhSubscriber **takers)
{
	int			first = first_exact(tenant, event_type);
	int			last = first;
	int			candidate_count;
	int			count = 0;
	int		   *candidates;

	while (last < tenant->exact_count && strcmp(tenant->exact[last].event_type, event_type) == 0)
		last++;
	candidate_count = last - first + tenant->wildcard_count;
	candidates = palloc_extended(Max(1, candidate_count) * sizeof(int), MCXT_ALLOC_HUGE);
	memcpy(candidates, tenant->wildcards, tenant->wildcard_count * sizeof(int));
	for (int i = first; i < last; i++)
		candidates[tenant->wildcard_count + i - first] = tenant->exact[i].item;
	qsort(candidates, candidate_count, sizeof(int), compare_ints);

	*takers = palloc_extended(Max(1, candidate_count) * sizeof(WhSubscriber), MCXT_ALLOC_HUGE);
	for (int i = 0; i < candidate_count; i++)
		if ((i == 0 || candidates[i] != candidates[i - 1]) &&
			takes(&tenant->items[candidates[i]], event_type))
			(*takers)[count++] = tenant->items[candidates[i]].subscriber;
	pfree(candidates);
	return count;
}

static const Match *
find_match(const char *tenant_id, const char *event_type)
{
	const Tenant *tenant = find_tenant(tenant_id);
	MatchKey	key;
	Match	   *match;
	MemoryContext before;
	WhSubscriber *takers;
	int			count;

	memset(&key, 0, sizeof(key));
	key.tenant = tenant;
	strlcpy(key.event_type, event_type, sizeof(key.event_type));
	match = hash_search(matches, &key, HASH_FIND, NULL);
	if (match)
		return match;

	if (matched > MATCHED_MAX)
		forget_matches();
	before = MemoryContextSwitchTo(matches_context);
	count = find_takers(tenant, event_type, &takers);
	match = hash_search(matches, &key, HASH_ENTER, NULL);
	match->count = count;
	match->subscribers = takers;
	matched += count + 1;
	MemoryContextSwitchTo(before);
	return match;
}

int
wh_subscribers(const char *tenant_id, const char *event_type, const WhSubscriber **subscribers)
{
	/* mostly it is the same once more, which costs less to see than to find */
	AcceptInvalidationMessages();
	if (latest == NULL || stale || strcmp(latest->key.event_type, event_type) != 0 ||
		strcmp(latest->key.tenant->tenant_id, tenant_id) != 0)
		latest = find_match(tenant_id, event_type);
	*subscribers = latest->subscribers;
	return latest->count;
}

HeapTuple
wh_read_endpoint(Relation endpoints, const pg_uuid_t *endpoint_id)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan;
	HeapTuple	tuple;
	ScanKeyData key;

	ScanKeyInit(&key, ENDPOINTS_ENDPOINT_ID, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(endpoint_id));
	scan = systable_beginscan(endpoints, wh_table("endpoints_pkey"), true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (tuple)
		tuple = toast_flatten_tuple(tuple, RelationGetDescr(endpoints));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return tuple;
}

static bool
belongs_to(HeapTuple tuple, TupleDesc desc, const char *tenant_id)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, ENDPOINTS_TENANT_ID, desc, &isnull);

	return strcmp(TextDatumGetCString(value), tenant_id) == 0;
}

/* Read anew each time: who names endpoints names few, and their tenant may have very many. */
WhEndpointStanding
wh_endpoint_standing(const char *tenant_id, const pg_uuid_t *endpoint_id, WhSubscriber *subscriber)
{
	Relation	rel = table_open(wh_table("endpoints"), AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	HeapTuple	tuple = wh_read_endpoint(rel, endpoint_id);
	WhEndpointStanding standing = WH_ENDPOINT_UNKNOWN;

	if (tuple && belongs_to(tuple, desc, tenant_id))
	{
		*subscriber = (WhSubscriber) {
			.endpoint_id = *endpoint_id, .ordering = read_ordering(tuple, desc),
			.api_version = read_api_version(tuple, desc)
		};
		standing = is_enabled(tuple, desc) ? WH_ENDPOINT_ENABLED : WH_ENDPOINT_DISABLED;
	}
	table_close(rel, AccessShareLock);
	return standing;
}
