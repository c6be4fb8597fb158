/*
 * Both tables map a name to a function. As with endpoints, a trigger on the table invalidates its
 * relation, and it is read with the newest snapshot, below the executor. Nothing falls back to
 * "allowed" when that fails: the error ends the dispatch.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "commands/trigger.h"
#include "core/event_type.h"
#include "settings.h"
#include "sql/catalog.h"
#include "sql/payload.h"
#include "sql/session.h"
#include "tables.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(wh_sql_catalog_changed);

StaticAssertDecl(WH_API_VERSION_MAX <= WH_EVENT_TYPE_MAX, "a name of either table fits");

typedef struct Entry
{
	char		name[WH_EVENT_TYPE_MAX + 1];	/* hash key: first */
	bool		retired;
	char	   *function;		/* NULL: none */
} Entry;

typedef struct Catalog
{
	const char *table;
	int			name_column;
	int			function_column;
	int			retired_column; /* 0: none is ever retired */
	MemoryContext context;
	HTAB	   *entries;		/* of Entry; NULL: not read */
	bool		stale;
	Oid			relid;
} Catalog;

static Catalog event_types = {
	"event_types", EVENT_TYPES_NAME, EVENT_TYPES_VALIDATOR, EVENT_TYPES_RETIRED_AT
};
static Catalog api_versions = {
	"api_versions", API_VERSIONS_VERSION, API_VERSIONS_TRANSFORM, 0
};


/* ---- reading the tables ---- */

static void
on_relcache_invalidation(Datum arg, Oid relid)
{
	event_types.stale |= !OidIsValid(relid) || relid == event_types.relid;
	api_versions.stale |= !OidIsValid(relid) || relid == api_versions.relid;
}

static void
read_entry(const Catalog *catalog, HTAB *entries, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		name = heap_getattr(tuple, catalog->name_column, desc, &isnull);
	Entry	   *entry = hash_search(entries, TextDatumGetCString(name), HASH_ENTER, NULL);
	Datum		function = heap_getattr(tuple, catalog->function_column, desc, &isnull);

	entry->function = isnull ? NULL : TextDatumGetCString(function);
	entry->retired = catalog->retired_column > 0 &&
		!heap_attisnull(tuple, catalog->retired_column, desc);
}

/* In the current context. */
static HTAB *
read_entries(const Catalog *catalog)
{
	HASHCTL		control = {
		.keysize = sizeof(((Entry *) NULL)->name), .entrysize = sizeof(Entry),
		.hcxt = CurrentMemoryContext
	};
	HTAB	   *entries = hash_create("webhooks catalog", 16, &control,
									  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	Relation	rel = table_open(catalog->relid, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple	tuple;

	while ((tuple = systable_getnext(scan)) != NULL)
		read_entry(catalog, entries, tuple, RelationGetDescr(rel));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return entries;
}

static void
load(Catalog *catalog)
{
	static bool registered = false;
	MemoryContext before;

	if (!registered)
		CacheRegisterRelcacheCallback(on_relcache_invalidation, (Datum) 0);
	registered = true;
	if (catalog->context == NULL)
		catalog->context = AllocSetContextCreate(CacheMemoryContext, "webhooks catalog",
												 ALLOCSET_SMALL_SIZES);
	catalog->entries = NULL;	/* until all of it is there again */
	MemoryContextReset(catalog->context);
	catalog->relid = wh_table(catalog->table);
	catalog->stale = false;
	before = MemoryContextSwitchTo(catalog->context);
	catalog->entries = read_entries(catalog);
	MemoryContextSwitchTo(before);
}

/* NULL: there is none. Good until the next call. */
static const Entry *
find(Catalog *catalog, const char *name)
{
	AcceptInvalidationMessages();
	if (catalog->entries == NULL || catalog->stale)
		load(catalog);
	if (hash_get_num_entries(catalog->entries) == 0)
		return NULL;
	return hash_search(catalog->entries, name, HASH_FIND, NULL);
}


/* ---- event types ---- */

void
wh_event_type_check(const char *argument, const char *event_type)
{
	if (event_type == NULL)
		wh_refuse(argument, "must not be NULL");
	if (!wh_event_type_valid(event_type))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is not valid: \"%s\"", argument, event_type),
				 errdetail("An event type has at most %d characters: "
						   "letters, digits, \"_\" and \"-\", in parts joined by single dots.",
						   WH_EVENT_TYPE_MAX),
				 errhint("For example \"invoice.paid\".")));
	if (wh_event_type_is_operational(event_type))
		wh_refuse(argument, "must not begin with \"webhooks.\", which is reserved");
}

static void
refuse_type(const char *event_type, const char *rule, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("event_type \"%s\" %s", event_type, rule),
			 errhint("%s", hint)));
}

char *
wh_catalog_check(const char *event_type)
{
	const Entry *entry;

	if (wh_event_type_is_operational(event_type))
		return NULL;
	entry = find(&event_types, event_type);
	if (wh_event_catalog == WH_CATALOG_ENFORCED && entry == NULL)
		refuse_type(event_type, "is not registered",
					"Register it with webhooks.register_event_type(), "
					"or set webhooks.event_catalog to open.");
	if (wh_event_catalog == WH_CATALOG_ENFORCED && entry->retired)
		refuse_type(event_type, "is retired",
					"webhooks.register_event_type() takes it back into service.");
	return entry && entry->function ? pstrdup(entry->function) : NULL;
}

void
wh_catalog_validate(WhUserFunctions *functions, const char *validator, const char *event_type,
					Jsonb *payload)
{
	NullableDatum verdict;

	if (payload == NULL)
		refuse_type(event_type, "has a validator, and the body is not JSON",
					"Send JSON, with a content_type that says so.");
	verdict = wh_user_function_call(functions, WH_VALIDATOR, validator, event_type, payload);
	if (verdict.isnull || !DatumGetBool(verdict.value))
		wh_refuse("payload", psprintf("is refused by %s, the validator of event_type \"%s\"",
									  validator, event_type));
}


/* ---- API versions ---- */

void
wh_api_version_check(const char *version)
{
	if (strlen(version) > WH_API_VERSION_MAX || find(&api_versions, version) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("api_version \"%s\" is not registered", version),
				 errhint("Register it with webhooks.register_api_version().")));
}

Jsonb *
wh_api_version_transform(WhUserFunctions *functions, const char *version, const char *event_type,
						 Jsonb *payload)
{
	const Entry *entry = find(&api_versions, version);
	NullableDatum result;

	if (entry == NULL || entry->function == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("api_version \"%s\" of an endpoint is not registered", version),
				 errhint("Register it with webhooks.register_api_version().")));
	result = wh_user_function_call(functions, WH_TRANSFORM, pstrdup(entry->function), event_type,
								   payload);
	if (result.isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the transform of api_version \"%s\" returned NULL", version)));
	payload = DatumGetJsonbP(result.value);
	wh_payload_check_size(payload, psprintf("payload for api_version \"%s\"", version));
	return payload;
}


/* ---- the trigger on both tables ---- */

Datum
wh_sql_catalog_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("catalog_changed must be called as a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}
