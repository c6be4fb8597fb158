/*
 * Rows written in batches: one page locked, one WAL record for many rows, as COPY does it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "tables.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"

#define BATCH 64

struct WhInserter
{
	EState	   *estate;
	ResultRelInfo *target;
	bool		plain_indexes;	/* see has_plain_indexes */
	int			count;			/* rows begun and not inserted */
	int			slot_count;		/* slots made */
	TupleTableSlot *slots[BATCH];
};

Oid
wh_table(const char *name)
{
	Oid			oid = get_relname_relid(name, get_namespace_oid("webhooks", false));

	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation webhooks.%s does not exist", name),
				 errhint("The extension is damaged, or older than the library: "
						 "ALTER EXTENSION webhooks UPDATE.")));
	return oid;
}

static Oid
find_partition(Relation parent, Datum key)
{
	PartitionKey partition_key = RelationGetPartitionKey(parent);
	PartitionDesc desc = RelationGetPartitionDesc(parent, true);
	PartitionBoundInfo bounds = desc->boundinfo;
	bool		equal;
	int			index = -1;

	if (desc->nparts > 0)
	{
		int			offset = partition_range_datum_bsearch(partition_key->partsupfunc,
														   partition_key->partcollation,
														   bounds, 1, &key, &equal);

		index = bounds->indexes[offset + 1] >= 0 ? bounds->indexes[offset + 1] :
			bounds->default_index;
	}
	if (index < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("webhooks.%s has no partition for a row", RelationGetRelationName(parent)),
				 errhint("Attach its default partition again.")));
	return desc->oids[index];
}

Relation
wh_open_partition(Relation parent, Datum key, LOCKMODE lockmode)
{
	for (;;)
	{
		Oid			oid = find_partition(parent, key);
		Relation	partition = try_table_open(oid, lockmode);

		/*
		 * while the lock was waited for, the key's own partition may have been made, or this one
		 * dropped
		 */
		if (partition && find_partition(parent, key) == oid)
			return partition;
		if (partition)
			table_close(partition, lockmode);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Whether all indexes are of columns, over all rows or over those in which a column is not NULL:
 * then entries are made without the executor, which would compile the condition for each row. Of
 * the extension's own indexes all are.
 */
static bool
has_plain_indexes(const ResultRelInfo *target)
{
	for (int i = 0; i < target->ri_NumIndices; i++)
	{
		const IndexInfo *info = target->ri_IndexRelationInfo[i];
		NullTest   *test = (NullTest *) (info->ii_Predicate ? linitial(info->ii_Predicate) : NULL);

		if (info->ii_Expressions || info->ii_ExclusionOps || list_length(info->ii_Predicate) > 1 ||
			!target->ri_IndexRelationDescs[i]->rd_index->indimmediate)
			return false;
		if (test && !(IsA(test, NullTest) && test->nulltesttype == IS_NOT_NULL && !test->argisrow &&
					  IsA(test->arg, Var) && ((Var *) test->arg)->varattno > 0))
			return false;
	}
	return true;
}

/* Whether the row belongs into a plain index. */
static bool
is_indexed(const IndexInfo *info, const TupleTableSlot *slot)
{
	const NullTest *test;

	if (info->ii_Predicate == NIL)
		return true;
	test = linitial(info->ii_Predicate);
	return !slot->tts_isnull[((const Var *) test->arg)->varattno - 1];
}

static void
insert_plain_entries(ResultRelInfo *target, TupleTableSlot *slot)
{
	for (int i = 0; i < target->ri_NumIndices; i++)
	{
		Relation	index = target->ri_IndexRelationDescs[i];
		IndexInfo  *info = target->ri_IndexRelationInfo[i];
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS];

		if (!info->ii_ReadyForInserts || !is_indexed(info, slot))
			continue;
		FormIndexDatum(info, slot, NULL, values, nulls);
		(void) index_insert(index, values, nulls, &slot->tts_tid, target->ri_RelationDesc,
							index->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
							false, info);
	}
}

WhInserter *
wh_inserter_open(Relation rel)
{
	WhInserter *inserter = palloc(sizeof(WhInserter));
	RangeTblEntry *entry = makeNode(RangeTblEntry);

	/* a violated constraint's message asks the range table which columns may be shown */
	entry->rtekind = RTE_RELATION;
	entry->relid = RelationGetRelid(rel);
	entry->relkind = rel->rd_rel->relkind;
	entry->rellockmode = RowExclusiveLock;
	inserter->estate = CreateExecutorState();
	ExecInitRangeTable(inserter->estate, list_make1(entry));
	inserter->target = makeNode(ResultRelInfo);
	InitResultRelInfo(inserter->target, rel, 1, NULL, 0);
	ExecOpenIndices(inserter->target, false);
	inserter->plain_indexes = has_plain_indexes(inserter->target);
	inserter->count = 0;
	inserter->slot_count = 0;
	return inserter;
}

static void
flush(WhInserter *inserter)
{
	Relation	rel = inserter->target->ri_RelationDesc;

	for (int i = 0; i < inserter->count; i++)
	{
		ExecStoreVirtualTuple(inserter->slots[i]);
		if (rel->rd_att->constr)
			ExecConstraints(inserter->target, inserter->slots[i], inserter->estate);
	}
	if (inserter->count == 1)
		table_tuple_insert(rel, inserter->slots[0], GetCurrentCommandId(true), 0, NULL);
	else if (inserter->count > 1)
		table_multi_insert(rel, inserter->slots, inserter->count, GetCurrentCommandId(true), 0,
						   NULL);
	for (int i = 0; i < inserter->count; i++)
	{
		if (inserter->plain_indexes)
			insert_plain_entries(inserter->target, inserter->slots[i]);
		else
			(void) ExecInsertIndexTuples(inserter->target, inserter->slots[i], inserter->estate,
										 false, false, NULL, NIL);
		ResetPerTupleExprContext(inserter->estate);
	}
	inserter->count = 0;
}

void
wh_inserter_row(WhInserter *inserter)
{
	Relation	rel = inserter->target->ri_RelationDesc;
	TupleTableSlot *slot;

	if (inserter->count == BATCH)
		flush(inserter);
	if (inserter->count == inserter->slot_count)
		inserter->slots[inserter->slot_count++] =
			MakeSingleTupleTableSlot(RelationGetDescr(rel), table_slot_callbacks(rel));
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
wh_inserter_close(WhInserter *inserter)
{
	flush(inserter);
	for (int i = 0; i < inserter->slot_count; i++)
		ExecDropSingleTupleTableSlot(inserter->slots[i]);
	ExecCloseIndices(inserter->target);
	FreeExecutorState(inserter->estate);
	pfree(inserter);
}
