/*
 * watch() and unwatch(): make and drop the triggers by which a table emits events, as the caller,
 * whose right to the table PostgreSQL checks.
 *
 * All that is known of a watch stands in its triggers: they are dumped with the table, go with it,
 * and are there for each partition.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "catalog/namespace.h"
#include "compat.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "sql/change.h"
#include "sql/session.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(wh_sql_watch);
PG_FUNCTION_INFO_V1(wh_sql_unwatch);

#define TRIGGER_PREFIX "webhooks_"

/* The arguments of watch, in their order. */
typedef enum WatchArgument
{
	RELATION, RESOURCE, EVENTS, INCLUDE_COLUMNS, EXCLUDE_COLUMNS, TENANT_COLUMN, ORDERED, LEVEL
} WatchArgument;

/* What watch makes triggers for; the other kinds have none. */
static const struct
{
	WhChangeKind kind;
	const char *event;
	const char *tables;			/* of a statement-level trigger */
}			watched[] = {
	{WH_CREATED, "INSERT", "REFERENCING NEW TABLE AS new_rows"},
	{WH_UPDATED, "UPDATE", "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"},
	{WH_DELETED, "DELETE", "REFERENCING OLD TABLE AS old_rows"},
	{WH_TRUNCATED, "TRUNCATE", ""}
};


/* ---- the table ---- */

static _Noreturn void
refuse_relation(Oid relid, const char *rule, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("relation \"%s\" %s", get_rel_name(relid), rule),
			 errdetail("%s", detail)));
}

static Oid
relation_argument(FunctionCallInfo fcinfo)
{
	Oid			relid = PG_ARGISNULL(RELATION) ? InvalidOid : PG_GETARG_OID(RELATION);
	Relation	relation;

	if (PG_ARGISNULL(RELATION))
		wh_refuse("relation", "must not be NULL");
	if (get_rel_name(relid) == NULL)
		wh_refuse("relation", "must be a table");
	if (!wh_owns_relation(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relid)),
					   get_rel_name(relid));

	relation = relation_open(relid, AccessShareLock);
	switch (relation->rd_rel->relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			break;
		case RELKIND_VIEW:
		case RELKIND_MATVIEW:
			refuse_relation(relid, "is a view", "Watch the tables it reads.");
		case RELKIND_FOREIGN_TABLE:
			refuse_relation(relid, "is a foreign table",
							"Changes made where it is kept would go unseen.");
		default:
			refuse_relation(relid, "is not a table", "Tables can be watched, and nothing else.");
	}
	if (IsSystemRelation(relation))
		refuse_relation(relid, "is a system catalog", "It can have no triggers.");
	if (RelationGetNamespace(relation) == get_namespace_oid("webhooks", false))
		refuse_relation(relid, "is a table of the extension",
						"An event for each event would have no end.");
	if (relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		refuse_relation(relid, "is a temporary table",
						"Its trigger would go with the session; dispatch its events.");
	relation_close(relation, NoLock);
	return relid;
}


/* ---- the other arguments ---- */

static bool
has_event(ArrayType *events, WhChangeKind kind)
{
	Datum	   *items;
	int			count = wh_elements("events", events, &items);
	bool		found = false;

	for (int i = 0; i < count; i++)
		found |= strcmp(TextDatumGetCString(items[i]), wh_change_word(kind)) == 0;
	return found;
}

static ArrayType *
events_argument(FunctionCallInfo fcinfo)
{
	ArrayType  *events = PG_ARGISNULL(EVENTS) ? NULL : PG_GETARG_ARRAYTYPE_P(EVENTS);
	Datum	   *items;
	int			count = events ? wh_elements("events", events, &items) : 0;
	int			named[lengthof(watched)] = {0};

	if (count == 0)
		wh_refuse("events", "must name at least one of created, updated, deleted, truncated");
	for (int i = 0; i < count; i++)
	{
		const char *event = TextDatumGetCString(items[i]);
		int			w = 0;

		while (w < lengthof(watched) && strcmp(event, wh_change_word(watched[w].kind)) != 0)
			w++;
		if (w == lengthof(watched))
			wh_refuse("events", psprintf("must be of created, updated, deleted, truncated: \"%s\"",
										 event));
		if (named[w]++ > 0)
			wh_refuse("events", psprintf("contains \"%s\" twice", event));
	}
	return events;
}

static const char *
resource_argument(FunctionCallInfo fcinfo, Oid relid)
{
	const char *resource = PG_ARGISNULL(RESOURCE) ? get_rel_name(relid) :
		text_to_cstring(PG_GETARG_TEXT_PP(RESOURCE));

	wh_check_resource(resource);
	return resource;
}

static void
check_column(Oid relid, const char *argument, const char *name)
{
	if (get_attnum(relid, name) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s names a column that table \"%s\" does not have: \"%s\"", argument,
						get_rel_name(relid), name)));
}

/* "option=a,b" as a literal, behind a comma; nothing when the argument is NULL. */
static void
append_columns(StringInfo arguments, FunctionCallInfo fcinfo, WatchArgument number,
			   const char *argument, const char *option)
{
	StringInfoData value;
	Datum	   *items;
	int			count;

	if (PG_ARGISNULL(number))
		return;
	count = wh_elements(argument, PG_GETARG_ARRAYTYPE_P(number), &items);
	if (count == 0)
		wh_refuse(argument, "must name at least one column, or be NULL");
	initStringInfo(&value);
	appendStringInfo(&value, "%s=", option);
	for (int i = 0; i < count; i++)
	{
		const char *name = NameStr(*DatumGetName(items[i]));

		check_column(PG_GETARG_OID(RELATION), argument, name);
		for (int before = 0; before < i; before++)
			if (strcmp(NameStr(*DatumGetName(items[before])), name) == 0)
				wh_refuse(argument, psprintf("contains \"%s\" twice", name));
		appendStringInfo(&value, "%s%s", i > 0 ? "," : "", quote_identifier(name));
	}
	appendStringInfo(arguments, ", %s", quote_literal_cstr(value.data));
}

static const char *
trigger_arguments(FunctionCallInfo fcinfo, Oid relid)
{
	StringInfoData arguments;

	initStringInfo(&arguments);
	appendStringInfoString(&arguments, quote_literal_cstr(resource_argument(fcinfo, relid)));
	if (!PG_ARGISNULL(INCLUDE_COLUMNS) && !PG_ARGISNULL(EXCLUDE_COLUMNS))
		wh_refuse("include_columns", "must be NULL where exclude_columns is given");
	append_columns(&arguments, fcinfo, INCLUDE_COLUMNS, "include_columns", "include");
	append_columns(&arguments, fcinfo, EXCLUDE_COLUMNS, "exclude_columns", "exclude");
	if (!PG_ARGISNULL(TENANT_COLUMN))
	{
		const char *column = NameStr(*PG_GETARG_NAME(TENANT_COLUMN));

		check_column(relid, "tenant_column", column);
		appendStringInfo(&arguments, ", %s",
						 quote_literal_cstr(psprintf("tenant_column=%s",
													 quote_identifier(column))));
	}
	if (PG_ARGISNULL(ORDERED))
		wh_refuse("ordered", "must not be NULL");
	if (PG_GETARG_BOOL(ORDERED))
		appendStringInfoString(&arguments, ", 'ordering_columns=" WH_ORDERED_BY_KEY "'");
	return arguments.data;
}

/* true: row */
static bool
level_argument(FunctionCallInfo fcinfo)
{
	const char *level = PG_ARGISNULL(LEVEL) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(LEVEL));

	if (strcmp(level, "row") != 0 && strcmp(level, "statement") != 0)
		wh_refuse("level", "must be row or statement");
	return strcmp(level, "row") == 0;
}


/* ---- triggers ---- */

static const char *
trigger_name(WhChangeKind kind)
{
	return psprintf(TRIGGER_PREFIX "%s", wh_change_word(kind));
}

static const char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

static void
execute(const char *statement)
{
	int			result = SPI_execute(statement, false, 0);

	if (result != SPI_OK_UTILITY)
		elog(ERROR, "statement failed: %s", SPI_result_code_string(result));
}

/* Those that watch made; what someone made by CREATE TRIGGER is theirs. */
static void
drop_triggers(Oid relid)
{
	for (int i = 0; i < lengthof(watched); i++)
	{
		const char *name = trigger_name(watched[i].kind);
		WhArgument	arguments[] = {
			{OIDOID, ObjectIdGetDatum(relid)}, {TEXTOID, CStringGetTextDatum(name)}
		};

		if (wh_execute("SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = $1 AND tgname = $2"
					   " AND tgparentid = 0 AND tgfoid ="
					   " 'webhooks.emit_change()'::pg_catalog.regprocedure", 2, arguments) > 0)
			execute(psprintf("DROP TRIGGER %s ON %s", name, qualified_name(relid)));
	}
}

/* Has each trigger's arguments judged as they would be when it fires. */
static void
check_triggers(Oid relid)
{
	Relation	relation = table_open(relid, AccessShareLock);
	Oid			emit_change = wh_emit_change_function();

	for (int i = 0; relation->trigdesc && i < relation->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &relation->trigdesc->triggers[i];

		if (trigger->tgfoid == emit_change &&
			strncmp(trigger->tgname, TRIGGER_PREFIX, strlen(TRIGGER_PREFIX)) == 0)
			(void) wh_watch_of(relation, trigger);
	}
	table_close(relation, NoLock);
}

Datum
wh_sql_watch(PG_FUNCTION_ARGS)
{
	Oid			relid = relation_argument(fcinfo);
	ArrayType  *events = events_argument(fcinfo);
	bool		row = level_argument(fcinfo);
	const char *arguments = trigger_arguments(fcinfo, relid);

	SPI_connect();
	drop_triggers(relid);
	for (int i = 0; i < lengthof(watched); i++)
	{
		bool		for_row = row && watched[i].kind != WH_TRUNCATED;

		if (has_event(events, watched[i].kind))
			execute(psprintf("CREATE TRIGGER %s AFTER %s ON %s %s FOR EACH %s"
							 " EXECUTE FUNCTION webhooks.emit_change(%s)",
							 trigger_name(watched[i].kind), watched[i].event,
							 qualified_name(relid), for_row ? "" : watched[i].tables,
							 for_row ? "ROW" : "STATEMENT", arguments));
	}
	check_triggers(relid);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
wh_sql_unwatch(PG_FUNCTION_ARGS)
{
	Oid			relid = relation_argument(fcinfo);

	SPI_connect();
	drop_triggers(relid);
	SPI_finish();
	PG_RETURN_VOID();
}
