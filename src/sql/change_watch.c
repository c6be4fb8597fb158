/*
 * Watches, kept by trigger for as long as the session lives and its table stays as it is. A trigger
 * is called with nothing of the call before, and for a statement that inserts one row the making of
 * its watch would cost more than the event.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "mb/pg_wchar.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "sql/change.h"
#include "sql/event.h"
#include "sql/session.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

static HTAB *watches = NULL;	/* of WhWatch * by trigger */
static bool any_stale = false;
static uint64 invalidations = 0;

typedef struct WatchEntry
{
	Oid			trigger;		/* hash key: first */
	WhWatch    *watch;
} WatchEntry;


/* ---- columns by name ---- */

static void
prepare_named(WhColumn *column, Relation relation, const char *option, const char *name)
{
	TupleDesc	desc = RelationGetDescr(relation);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), name) == 0)
		{
			wh_column_prepare(column, attribute);
			return;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s names a column that table \"%s\" does not have: \"%s\"", option,
					RelationGetRelationName(relation), name),
			 errhint("If it was renamed or dropped, call webhooks.watch again.")));
}

static int
prepare_list(WhColumn **columns, Relation relation, const char *option, List *names)
{
	ListCell   *cell;
	int			count = 0;

	*columns = palloc(Max(1, list_length(names)) * sizeof(WhColumn));
	foreach(cell, names)
	{
		prepare_named(&(*columns)[count], relation, option, lfirst(cell));
		for (int i = 0; i < count; i++)
			if ((*columns)[i].number == (*columns)[count].number)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("%s names column \"%s\" twice", option, (*columns)[i].name)));
		count++;
	}
	return count;
}

static WhColumn *
prepare_single(Relation relation, const char *option, List *names)
{
	WhColumn   *columns;

	return prepare_list(&columns, relation, option, names) ? columns : NULL;
}

/* Tenants are named in text, by whoever registers endpoints and confines sessions. */
static WhColumn *
prepare_tenant(Relation relation, List *names)
{
	WhColumn   *column = prepare_single(relation, "tenant_column", names);

	if (column && !wh_column_is_readable(column))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tenant_column \"%s\" must not be of type %s", column->name,
						format_type_be(column->type)),
				 errdetail("A tenant's name must be the same text in every session."),
				 errhint("Strings, enums, whole numbers, numeric, boolean, uuid and inet are.")));
	return column;
}

List *
wh_primary_key(Relation relation)
{
	Oid			index_oid;
	Relation	index;
	List	   *numbers = NIL;

	(void) RelationGetIndexList(relation);	/* which finds the primary key */
	index_oid = relation->rd_pkindex;
	if (!OidIsValid(index_oid))
		return NIL;
	index = relation_open(index_oid, AccessShareLock);
	for (int i = 0; index->rd_index->indimmediate && i < index->rd_index->indnkeyatts; i++)
		numbers = lappend_int(numbers, index->rd_index->indkey.values[i]);
	relation_close(index, AccessShareLock);
	return numbers;
}

static bool
has_deferrable_key(Relation relation)
{
	Oid			constraint;
	Oid			relid = RelationGetRelid(relation);

	return get_primary_key_attnos(relid, true, &constraint) != NULL &&
		get_primary_key_attnos(relid, false, &constraint) == NULL;
}

static int
prepare_key(WhColumn **columns, Relation relation)
{
	List	   *numbers = wh_primary_key(relation);
	ListCell   *cell;
	int			count = 0;

	if (numbers == NIL && has_deferrable_key(relation))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ordered events need a primary key that is not deferrable"),
				 errdetail("That of table \"%s\" is DEFERRABLE.",
						   RelationGetRelationName(relation)),
				 errhint("Or name the columns in a trigger's option ordering_columns.")));
	if (numbers == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ordered events need a primary key, which table \"%s\" does not have",
						RelationGetRelationName(relation)),
				 errhint("Without one, name the columns in a trigger's option ordering_columns.")));
	*columns = palloc(list_length(numbers) * sizeof(WhColumn));
	foreach(cell, numbers)
		wh_column_prepare(&(*columns)[count++],
						  TupleDescAttr(RelationGetDescr(relation), lfirst_int(cell) - 1));
	return count;
}


/* ---- the columns that are sent ---- */

static bool
is_named(const WhColumn *columns, int count, int number)
{
	for (int i = 0; i < count; i++)
		if (columns[i].number == number)
			return true;
	return false;
}

/* As a jsonb sorts its keys. */
static int
compare_keys(const void *a, const void *b)
{
	const char *left = ((const WhColumn *) a)->name;
	const char *right = ((const WhColumn *) b)->name;
	int			by_length = (int) strlen(left) - (int) strlen(right);

	return by_length != 0 ? by_length : memcmp(left, right, strlen(left));
}

static void
prepare_sent(WhWatch *watch, Relation relation, const WhChangeOptions *options)
{
	TupleDesc	desc = RelationGetDescr(relation);
	WhColumn   *named;
	bool		included = options->include != NIL;
	int			named_count = prepare_list(&named, relation, included ? "include" : "exclude",
										   included ? options->include : options->exclude);

	watch->columns = palloc(Max(1, desc->natts) * sizeof(WhColumn));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped &&
			is_named(named, named_count, attribute->attnum) == included)
			wh_column_prepare(&watch->columns[watch->column_count++], attribute);
	}
	if (watch->column_count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("no column of table \"%s\" is left to send",
						RelationGetRelationName(relation))));
	qsort(watch->columns, watch->column_count, sizeof(WhColumn), compare_keys);

	watch->pairs = palloc0(watch->column_count * sizeof(JsonbPair));
	for (int i = 0; i < watch->column_count; i++)
	{
		JsonbValue *key = &watch->pairs[i].key;

		key->type = jbvString;
		key->val.string.val = unconstify(char *, watch->columns[i].name);
		key->val.string.len = strlen(watch->columns[i].name);
	}
}


/* ---- making watches ---- */

static void
tell_trigger(void *arg)
{
	errcontext("arguments of trigger \"%s\", which calls webhooks.emit_change",
			   ((const Trigger *) arg)->tgname);
}

static WhWatch *
make_watch(Relation relation, const Trigger *trigger)
{
	WhWatch    *watch = palloc0(sizeof(WhWatch));
	WhChangeOptions *options = wh_change_options(trigger->tgnargs, trigger->tgargs);

	watch->trigger = trigger->tgoid;
	watch->relation = RelationGetRelid(relation);
	watch->context = CurrentMemoryContext;
	watch->resource = options->resource;
	for (WhChangeKind kind = 0; kind < WH_CHANGE_KINDS; kind++)
		watch->event_types[kind] = psprintf("%s.%s", options->resource, wh_change_word(kind));
	prepare_sent(watch, relation, options);
	watch->tenant = prepare_tenant(relation, options->tenant_column);
	watch->idempotency = prepare_single(relation, "idempotency_column",
										options->idempotency_column);
	watch->ordering_count = options->ordered_by_key
		? prepare_key(&watch->ordering, relation)
		: prepare_list(&watch->ordering, relation, "ordering_columns", options->ordering_columns);
	watch->when_changed_count = prepare_list(&watch->when_changed, relation, "when_changed",
											 options->when_changed);
	return watch;
}

/* In a context of its own, which goes with the caller's on an error. */
static WhWatch *
make_watch_apart(Relation relation, const Trigger *trigger)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "webhooks watch",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	ErrorContextCallback callback = {
		.previous = error_context_stack, .callback = tell_trigger,
		.arg = unconstify(Trigger *, trigger)
	};
	WhWatch    *watch;

	error_context_stack = &callback;
	watch = make_watch(relation, trigger);
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(before);
	return watch;
}

static void
on_relcache_invalidation(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	WatchEntry *entry;

	invalidations++;
	if (watches == NULL)
		return;
	hash_seq_init(&status, watches);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (!OidIsValid(relid) || entry->watch->relation == relid)
			any_stale = entry->watch->stale = true;
}

/* Not freed at once: a caller further up may still be at work with one. */
static void
drop_stale(void)
{
	HASH_SEQ_STATUS status;
	WatchEntry *entry;

	any_stale = false;
	hash_seq_init(&status, watches);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (entry->watch->stale)
		{
			MemoryContextSetParent(entry->watch->context, TopTransactionContext);
			(void) hash_search(watches, &entry->trigger, HASH_REMOVE, NULL);
		}
}

Oid
wh_emit_change_function(void)
{
	return LookupFuncName(list_make2(makeString("webhooks"), makeString("emit_change")), 0, NULL,
						  false);
}

WhWatch *
wh_watch_of(Relation relation, const Trigger *trigger)
{
	WatchEntry *entry;
	WhWatch    *watch;
	uint64		before;

	if (watches == NULL)
	{
		HASHCTL		ctl = {
			.keysize = sizeof(Oid), .entrysize = sizeof(WatchEntry), .hcxt = CacheMemoryContext
		};

		watches = hash_create("webhooks watches", 16, &ctl,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		CacheRegisterRelcacheCallback(on_relcache_invalidation, (Datum) 0);
	}
	if (any_stale)
		drop_stale();
	entry = hash_search(watches, &trigger->tgoid, HASH_FIND, NULL);
	if (entry)
		return entry->watch;

	before = invalidations;
	watch = make_watch_apart(relation, trigger);
	if (invalidations != before)
		return watch;			/* perhaps of this table: good for now, and no longer */
	entry = hash_search(watches, &trigger->tgoid, HASH_ENTER, NULL);
	entry->watch = watch;
	MemoryContextSetParent(watch->context, CacheMemoryContext);
	return watch;
}


/* ---- what a row's values say ---- */

static char *
digest(const char *text)
{
	uint8		result[PG_SHA256_DIGEST_LENGTH];
	char	   *hex = palloc0(2 * sizeof(result) + 1);
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	if (context == NULL || pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) text, strlen(text)) < 0 ||
		pg_cryptohash_final(context, result, sizeof(result)) < 0)
		elog(ERROR, "could not compute a digest: %s", pg_cryptohash_error(context));
	pg_cryptohash_free(context);
	(void) hex_encode((const char *) result, sizeof(result), hex);
	return hex;
}

/* Begins with a colon; what stands between two colons is one value, whatever it holds. */
static void
append_value(StringInfo key, const char *value)
{
	appendStringInfoChar(key, ':');
	for (; *value; value++)
	{
		if (*value == ':' || *value == '\\')
			appendStringInfoChar(key, '\\');
		appendStringInfoChar(key, *value);
	}
}

char *
wh_ordering_key(const WhWatch *watch, const TupleTableSlot *row)
{
	StringInfoData key;

	if (watch->ordering_count == 0)
		return NULL;
	initStringInfo(&key);
	appendStringInfoString(&key, watch->resource);
	for (int i = 0; i < watch->ordering_count; i++)
	{
		const WhColumn *column = &watch->ordering[i];

		if (row->tts_isnull[column->number - 1])
			appendStringInfoString(&key, ":\\N");
		else
			append_value(&key, wh_column_text(column, row->tts_values[column->number - 1]));
	}
	if (key.len > WH_ORDERING_KEY_MAX)
		return psprintf("%s:\\%s", watch->resource, digest(key.data));
	return key.data;
}

char *
wh_change_idempotency_key(const WhWatch *watch, WhChangeKind kind, const TupleTableSlot *row)
{
	const WhColumn *column = watch->idempotency;
	const char *event_type = watch->event_types[kind];
	char	   *value;

	if (column == NULL || row->tts_isnull[column->number - 1])
		return NULL;
	value = wh_column_text(column, row->tts_values[column->number - 1]);
	if (strlen(event_type) + strlen(value) + 1 > WH_IDEMPOTENCY_KEY_MAX)
		return psprintf("%.128s:\\%s", event_type, digest(psprintf("%s:%s", event_type, value)));
	return psprintf("%s:%s", event_type, value);
}

char *
wh_row_tenant(const WhWatch *watch, const TupleTableSlot *row)
{
	const WhColumn *column = watch->tenant;

	if (column == NULL)
		return wh_tenant_named(NULL);
	if (row->tts_isnull[column->number - 1])
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tenant_column \"%s\" must not be NULL in a row of \"%s\"", column->name,
						get_rel_name(watch->relation)),
				 errdetail("The tenant says whose event the change of a row is."),
				 errhint("Declare the column NOT NULL, or leave such rows out with the trigger's "
						 "WHEN.")));
	return wh_tenant_named(wh_column_text(column, row->tts_values[column->number - 1]));
}
