/*
 * Rows written in batches: one page locked, one WAL record for many rows, as COPY does it.
 *
 * Index entries are made without the executor where an index is plain: a B-tree of columns, over
 * all rows or over those in which a column is not NULL. Of the extension's own indexes all are.
 * What a table's indexes are like is kept, for to find it out takes longer than a row; the indexes
 * that no row belongs into are not even opened. Whoever gives a table an index of another kind, or
 * a CHECK, has its rows go through the executor.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "compat.h"
#include "executor/executor.h"
#include "nodes/parsenodes.h"
#include "tables.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/rel.h"

#define BATCH 64
#define INDEXES_MAX 8
#define KEYS_MAX 4

typedef struct PlainIndex
{
	Oid			oid;
	bool		unique;
	AttrNumber	needed;			/* rows in which it is NULL have no entry; 0: all have one */
	int			key_count;
	AttrNumber	keys[KEYS_MAX];
} PlainIndex;

/* What is known of a table. */
typedef struct InsertPlan
{
	Oid			relation;		/* hash key: first */
	bool		plain;			/* or else it needs the executor, and has no indexes here */
	int			count;
	PlainIndex	indexes[INDEXES_MAX];
} InsertPlan;

struct WhInserter
{
	MemoryContext context;
	Relation	rel;
	InsertPlan	plan;
	Relation	indexes[INDEXES_MAX];	/* of the plan; NULL: not opened yet */
	EState	   *estate;			/* the executor's, and the next; NULL: not needed so far */
	ResultRelInfo *target;
	int			count;			/* rows begun and not inserted */
	int			slot_count;		/* slots made */
	TupleTableSlot *slots[BATCH];
	ItemPointer places[BATCH];	/* where to put the row's; NULL: nowhere */
	WhPartitionInserter *leader;	/* flushed first; NULL: none */
};

struct WhPartitionInserter
{
	MemoryContext context;
	Relation	parent;
	Relation	partition;		/* the one written to; NULL: none yet */
	WhInserter *inserter;		/* into that */
};


/* ---- what is known of tables ---- */

static HTAB *plans = NULL;
static uint64 changes = 0;		/* of any relation, as far as this session was told */

static void
on_relcache_invalidation(Datum arg, Oid relid)
{
	changes++;
	if (OidIsValid(relid))
		hash_search(plans, &relid, HASH_REMOVE, NULL);
	else
	{
		HASH_SEQ_STATUS scan;
		InsertPlan *plan;

		hash_seq_init(&scan, plans);
		while ((plan = hash_seq_search(&scan)) != NULL)
			hash_search(plans, &plan->relation, HASH_REMOVE, NULL);
	}
}

/* False: the index is not plain. */
static bool
plan_index(Relation index, PlainIndex *plain)
{
	const Form_pg_index form = index->rd_index;
	List	   *predicate = RelationGetIndexPredicate(index);
	const NullTest *test = predicate ? linitial(predicate) : NULL;

	if (index->rd_rel->relam != BTREE_AM_OID || RelationGetIndexExpressions(index) ||
		form->indisexclusion || !form->indimmediate || form->indnatts > KEYS_MAX ||
		list_length(predicate) > 1)
		return false;
	if (test && !(IsA(test, NullTest) && test->nulltesttype == IS_NOT_NULL && !test->argisrow &&
				  IsA(test->arg, Var) && ((const Var *) test->arg)->varattno > 0))
		return false;
	*plain = (PlainIndex)
	{
		.oid = RelationGetRelid(index), .unique = form->indisunique,
		.needed = test ? ((const Var *) test->arg)->varattno : 0, .key_count = form->indnatts
	};
	for (int i = 0; i < form->indnatts; i++)
		plain->keys[i] = form->indkey.values[i];
	return true;
}

static InsertPlan
make_plan(Relation rel)
{
	const TupleConstr *constraints = RelationGetDescr(rel)->constr;
	List	   *oids = RelationGetIndexList(rel);
	InsertPlan	plan = {.relation = RelationGetRelid(rel)};
	ListCell   *cell;

	plan.plain = (constraints == NULL || constraints->num_check == 0) &&
		list_length(oids) <= INDEXES_MAX;
	foreach(cell, oids)
	{
		Relation	index;

		if (!plan.plain)
			break;
		index = index_open(lfirst_oid(cell), RowExclusiveLock);
		if (index->rd_index->indisready)
			plan.plain = plan_index(index, &plan.indexes[plan.count++]);
		index_close(index, NoLock);
	}
	if (!plan.plain)
		plan.count = 0;
	list_free(oids);
	return plan;
}

/*
 * Good as long as the transaction holds its lock on the table: indexes are neither made nor made
 * ready for inserts before it has ended.
 */
static InsertPlan
find_plan(Relation rel)
{
	InsertPlan *found;
	InsertPlan	plan;
	uint64		changes_before;

	if (plans == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(InsertPlan)};

		plans = hash_create("webhooks insert plans", 8, &ctl, HASH_ELEM | HASH_BLOBS);
		CacheRegisterRelcacheCallback(on_relcache_invalidation, (Datum) 0);
	}
	found = hash_search(plans, &rel->rd_id, HASH_FIND, NULL);
	if (found)
		return *found;
	changes_before = changes;
	plan = make_plan(rel);
	if (changes == changes_before)
	{
		found = hash_search(plans, &rel->rd_id, HASH_ENTER, NULL);
		*found = plan;
	}
	return plan;
}


/* ---- the executor ---- */

static void
open_executor(WhInserter *inserter)
{
	RangeTblEntry *entry = makeNode(RangeTblEntry);

	/* a violated constraint's message asks the range table which columns may be shown */
	entry->rtekind = RTE_RELATION;
	entry->relid = RelationGetRelid(inserter->rel);
	entry->relkind = inserter->rel->rd_rel->relkind;
	entry->rellockmode = RowExclusiveLock;
	inserter->estate = CreateExecutorState();
	wh_init_range_table(inserter->estate, entry);
	inserter->target = makeNode(ResultRelInfo);
	InitResultRelInfo(inserter->target, inserter->rel, 1, NULL, 0);
	if (!inserter->plan.plain)
		ExecOpenIndices(inserter->target, false);
}

static bool
lacks_value(const TupleTableSlot *slot)
{
	const TupleDesc desc = slot->tts_tupleDescriptor;

	for (int i = 0; i < desc->natts; i++)
		if (slot->tts_isnull[i] && TupleDescAttr(desc, i)->attnotnull)
			return true;
	return false;
}

static void
check_constraints(WhInserter *inserter, TupleTableSlot *slot)
{
	if (inserter->plan.plain && !lacks_value(slot))
		return;
	if (inserter->target == NULL)
		open_executor(inserter);
	if (RelationGetDescr(inserter->rel)->constr)
		ExecConstraints(inserter->target, slot, inserter->estate);
}


/* ---- inserting ---- */

static void
insert_entries(WhInserter *inserter, int number)
{
	const PlainIndex *plain = &inserter->plan.indexes[number];
	Datum		values[KEYS_MAX];
	bool		nulls[KEYS_MAX];

	for (int i = 0; i < inserter->count; i++)
	{
		TupleTableSlot *slot = inserter->slots[i];

		if (plain->needed > 0 && slot_attisnull(slot, plain->needed))
			continue;
		if (inserter->indexes[number] == NULL)
			inserter->indexes[number] = index_open(plain->oid, RowExclusiveLock);
		for (int k = 0; k < plain->key_count; k++)
			values[k] = slot_getattr(slot, plain->keys[k], &nulls[k]);

		/* a B-tree asks no IndexInfo */
		(void) index_insert(inserter->indexes[number], values, nulls, &slot->tts_tid, inserter->rel,
							plain->unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, NULL);
	}
}

void
wh_inserter_flush(WhInserter *inserter)
{
	if (inserter->leader && inserter->leader->partition)
		wh_inserter_flush(inserter->leader->inserter);
	for (int i = 0; i < inserter->count; i++)
	{
		ExecStoreVirtualTuple(inserter->slots[i]);
		check_constraints(inserter, inserter->slots[i]);
	}
	if (inserter->count == 1)
		table_tuple_insert(inserter->rel, inserter->slots[0], GetCurrentCommandId(true), 0, NULL);
	else if (inserter->count > 1)
		table_multi_insert(inserter->rel, inserter->slots, inserter->count,
						   GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < inserter->count; i++)
		if (inserter->places[i])
			*inserter->places[i] = inserter->slots[i]->tts_tid;
	for (int i = 0; i < inserter->plan.count; i++)
		insert_entries(inserter, i);
	for (int i = 0; i < inserter->count && !inserter->plan.plain; i++)
	{
		wh_insert_index_entries(inserter->target, inserter->slots[i], inserter->estate);
		ResetPerTupleExprContext(inserter->estate);
	}
	inserter->count = 0;
}

WhInserter *
wh_inserter_open(Relation rel)
{
	WhInserter *inserter = palloc(sizeof(WhInserter));

	inserter->context = CurrentMemoryContext;
	inserter->rel = rel;
	inserter->plan = find_plan(rel);
	memset(inserter->indexes, 0, sizeof(inserter->indexes));
	inserter->estate = NULL;
	inserter->target = NULL;
	inserter->leader = NULL;
	inserter->count = 0;
	inserter->slot_count = 0;
	return inserter;
}

void
wh_inserter_row(WhInserter *inserter)
{
	TupleTableSlot *slot;

	if (inserter->count == BATCH)
		wh_inserter_flush(inserter);
	if (inserter->count == inserter->slot_count)
	{
		MemoryContext before = MemoryContextSwitchTo(inserter->context);

		inserter->slots[inserter->slot_count] =
			MakeSingleTupleTableSlot(RelationGetDescr(inserter->rel),
									 table_slot_callbacks(inserter->rel));
		inserter->slot_count++;
		MemoryContextSwitchTo(before);
	}
	inserter->places[inserter->count] = NULL;
	slot = inserter->slots[inserter->count++];
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts);
}

void
wh_inserter_set(WhInserter *inserter, int column, Datum datum)
{
	TupleTableSlot *slot = inserter->slots[inserter->count - 1];

	slot->tts_values[column - 1] = datum;
	slot->tts_isnull[column - 1] = false;
}

void
wh_inserter_set_text(WhInserter *inserter, int column, const char *text)
{
	if (text)
		wh_inserter_set(inserter, column, CStringGetTextDatum(text));
}

void
wh_inserter_tell_place(WhInserter *inserter, ItemPointer place)
{
	inserter->places[inserter->count - 1] = place;
}

void
wh_inserter_follow(WhInserter *follower, WhPartitionInserter *leader)
{
	follower->leader = leader;
}

void
wh_inserter_close(WhInserter *inserter)
{
	wh_inserter_flush(inserter);
	for (int i = 0; i < inserter->slot_count; i++)
		ExecDropSingleTupleTableSlot(inserter->slots[i]);

	/* the locks stay with that on the table; giving them back and taking them again takes time */
	for (int i = 0; i < inserter->plan.count; i++)
		if (inserter->indexes[i])
			index_close(inserter->indexes[i], NoLock);
	if (inserter->target)
	{
		ExecCloseIndices(inserter->target);
		FreeExecutorState(inserter->estate);
	}
	pfree(inserter);
}


/* ---- partitions ---- */

WhPartitionInserter *
wh_partition_inserter_open(Relation parent)
{
	WhPartitionInserter *p = palloc0(sizeof(WhPartitionInserter));

	p->context = CurrentMemoryContext;
	p->parent = parent;
	return p;
}

static void
leave_partition(WhPartitionInserter *p)
{
	if (p->partition == NULL)
		return;
	wh_inserter_close(p->inserter);
	table_close(p->partition, NoLock);
	p->partition = NULL;
}

WhInserter *
wh_partition_inserter(WhPartitionInserter *p, Datum key)
{
	MemoryContext before;

	if (p->partition && RelationGetRelid(p->partition) == wh_find_partition(p->parent, key))
		return p->inserter;
	leave_partition(p);
	before = MemoryContextSwitchTo(p->context);
	p->partition = wh_open_partition(p->parent, key, RowExclusiveLock);
	p->inserter = wh_inserter_open(p->partition);
	MemoryContextSwitchTo(before);
	return p->inserter;
}

void
wh_partition_inserter_close(WhPartitionInserter *p)
{
	leave_partition(p);
	pfree(p);
}
