/*
 * What PostgreSQL's versions have by other names: 15 to 18.
 */
#ifndef WH_COMPAT_H
#define WH_COMPAT_H

#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "parser/parse_relation.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/guc_tables.h"
#include "utils/jsonpath.h"
#include "utils/regproc.h"
#include "utils/varlena.h"

#if PG_VERSION_NUM < 160000
#define wh_string_to_qualified_names(string) stringToQualifiedNameList(string)
#define wh_may_execute(function, role) pg_proc_aclcheck(function, role, ACL_EXECUTE)
#define wh_owns_relation(relation, role) pg_class_ownercheck(relation, role)
#define wh_owns_database(database, role) pg_database_ownercheck(database, role)
#else
#define wh_string_to_qualified_names(string) stringToQualifiedNameList(string, NULL)
#define wh_may_execute(function, role) \
	object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE)
#define wh_owns_relation(relation, role) object_ownercheck(RelationRelationId, relation, role)
#define wh_owns_database(database, role) object_ownercheck(DatabaseRelationId, database, role)
#endif

#if PG_VERSION_NUM < 170000
#define wh_my_proc_number() (MyProc->pgprocno)
#define wh_my_local_transaction() (MyProc->lxid)
#define wh_create_wait_event_set(context, events) CreateWaitEventSet(context, events)
#else
#define wh_my_proc_number() MyProcNumber
#define wh_my_local_transaction() (MyProc->vxid.lxid)
#define wh_create_wait_event_set(context, events) CreateWaitEventSet(NULL, events)
#endif

#if PG_VERSION_NUM < 180000
#define wh_begin_index_scan(table, index, snapshot, keys) \
	index_beginscan(table, index, snapshot, keys, 0)
#else
#define wh_begin_index_scan(table, index, snapshot, keys) \
	index_beginscan(table, index, snapshot, NULL, keys, 0)
#endif

/* A range table of one relation. */
static inline void
wh_init_range_table(EState *estate, RangeTblEntry *entry)
{
#if PG_VERSION_NUM < 160000
	ExecInitRangeTable(estate, list_make1(entry));
#else
	List	   *permissions = NIL;

	addRTEPermissionInfo(&permissions, entry);
#if PG_VERSION_NUM < 180000
	ExecInitRangeTable(estate, list_make1(entry), permissions);
#else
	ExecInitRangeTable(estate, list_make1(entry), permissions, bms_make_singleton(1));
#endif
#endif
}

/* The entries of a new row in all indexes of its table. */
static inline void
wh_insert_index_entries(ResultRelInfo *target, TupleTableSlot *slot, EState *estate)
{
#if PG_VERSION_NUM < 160000
	(void) ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL);
#else
	(void) ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL, false);
#endif
}

/* The flags of a jsonpath's like_regex, as its parser took them, for the regular expression. */
static inline int
wh_regex_flags(uint32 xflags)
{
#if PG_VERSION_NUM < 160000
	return jspConvertRegexFlags(xflags);
#else
	int			flags;

	(void) jspConvertRegexFlags(xflags, &flags, NULL);
	return flags;
#endif
}

/* What a check hook hands over to guc.c, zeroed; NULL when out of memory. */
static inline void *
wh_setting_alloc(Size size)
{
#if PG_VERSION_NUM < 160000
	return calloc(1, size);
#else
	void	   *data = guc_malloc(LOG, size);

	return data ? memset(data, 0, size) : NULL;
#endif
}

static inline void
wh_setting_free(void *data)
{
#if PG_VERSION_NUM < 160000
	free(data);
#else
	guc_free(data);
#endif
}

/* NULL: nobody has defined or set it. */
static inline const struct config_generic *
wh_find_setting(const char *name)
{
#if PG_VERSION_NUM < 160000
	struct config_generic **settings = get_guc_variables();

	for (int i = 0; i < GetNumConfigOptions(); i++)
		if (strcmp(settings[i]->name, name) == 0)
			return settings[i];
	return NULL;
#else
	return find_option(name, false, true, 0);
#endif
}

#endif
