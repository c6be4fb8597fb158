/*
 * What a backfill reads: the extension's own tables as their owner, the watched table as the
 * caller.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "sql/backfill.h"
#include "tables.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"


/* ---- statements ---- */

/* Has what keys look like as text, and what names mean, not depend on the session. */
static int
begin_settings(bool trusted)
{
	int			nest = NewGUCNestLevel();
	const char *settings[][2] = {
		{"datestyle", "ISO"}, {"intervalstyle", "postgres"}, {"extra_float_digits", "3"},
		{"bytea_output", "hex"}, {"search_path", "pg_catalog, pg_temp"}
	};

	for (int i = 0; i < lengthof(settings) - (trusted ? 0 : 1); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

uint64
wh_execute_as_owner(const char *sql, int count, const WhArgument *arguments)
{
	Relation	table = table_open(wh_table("backfills"), AccessShareLock);
	Oid			user;
	int			context;
	int			nest;
	uint64		rows;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(table->rd_rel->relowner,
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	table_close(table, NoLock);
	nest = begin_settings(true);
	rows = wh_execute(sql, count, arguments);
	AtEOXact_GUC(false, nest);
	SetUserIdAndSecContext(user, context);
	return rows;
}


/* ---- reading rows ---- */

static const char *
column_name(const WhBatch *batch, int number)
{
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(batch->relation), number - 1);

	return quote_identifier(NameStr(attribute->attname));
}

static void
append_key(StringInfo sql, const WhBatch *batch)
{
	ListCell   *cell;

	foreach(cell, batch->key)
		appendStringInfo(sql, "%s%s", cell == list_head(batch->key) ? "" : ", ",
						 column_name(batch, lfirst_int(cell)));
}

/* "AND (key) > (key's values)", whose parts stand in the array that is the parameter. */
static void
append_bound(StringInfo sql, const WhBatch *batch, const char *operator, int parameter)
{
	TupleDesc	desc = RelationGetDescr(batch->relation);
	ListCell   *cell;
	int			part = 0;

	appendStringInfoString(sql, " AND (");
	append_key(sql, batch);
	appendStringInfo(sql, ") %s (", operator);
	foreach(cell, batch->key)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, lfirst_int(cell) - 1);

		appendStringInfo(sql, "%s($%d)[%d]::%s", part > 0 ? ", " : "", parameter, part + 1,
						 format_type_be_qualified(attribute->atttypid));
		part++;
	}
	appendStringInfoChar(sql, ')');
}

/* Of each row the key as an array of text, then the selected columns. */
uint64
wh_backfill_read(const WhBatch *batch, ArrayType *upto)
{
	Relation	relation = batch->relation;
	bool		partitioned = relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	WhArgument	arguments[] = {
		{TEXTARRAYOID, PointerGetDatum(batch->last), batch->last == NULL},
		{TEXTARRAYOID, PointerGetDatum(upto), upto == NULL},
		wh_text_argument(batch->tenant_id)
	};
	StringInfoData sql;
	ListCell   *cell;
	int			nest;
	uint64		rows;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ARRAY[");
	foreach(cell, batch->key)
		appendStringInfo(&sql, "%s%s::pg_catalog.text", cell == list_head(batch->key) ? "" : ", ",
						 column_name(batch, lfirst_int(cell)));
	appendStringInfoChar(&sql, ']');
	foreach(cell, batch->selected)
		appendStringInfo(&sql, ", %s", column_name(batch, lfirst_int(cell)));
	appendStringInfo(&sql, " FROM %s%s WHERE true", partitioned ? "" : "ONLY ",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
												RelationGetRelationName(relation)));
	if (batch->last)
		append_bound(&sql, batch, ">", 1);
	if (upto)
		append_bound(&sql, batch, "<=", 2);
	if (batch->watch->tenant)
		appendStringInfo(&sql, " AND %s::pg_catalog.text = $3",
						 column_name(batch, batch->watch->tenant->number));
	appendStringInfoString(&sql, " ORDER BY ");
	append_key(&sql, batch);
	if (upto == NULL)
		appendStringInfo(&sql, " LIMIT %d", batch->backfill->batch_size);

	nest = begin_settings(false);
	rows = wh_execute(sql.data, 3, arguments);
	AtEOXact_GUC(false, nest);
	return rows;
}

void
wh_backfill_row(const WhBatch *batch, int row)
{
	TupleTableSlot *slot = batch->row;
	ListCell   *cell;
	int			column = 2;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts);
	foreach(cell, batch->selected)
	{
		int			number = lfirst_int(cell);

		slot->tts_values[number - 1] = wh_result(row, column++, &slot->tts_isnull[number - 1]);
	}
	ExecStoreVirtualTuple(slot);
}

ArrayType *
wh_backfill_key(int row)
{
	bool		isnull;

	return DatumGetArrayTypePCopy(wh_result(row, 1, &isnull));
}
