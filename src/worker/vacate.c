/*
 * DROP DATABASE, ALTER DATABASE RENAME or SET TABLESPACE, and CREATE DATABASE with a template want
 * nobody else connected to the database. A worker is somebody, and one that comes back by itself:
 * while such a statement runs, workers are kept out of its database.
 *
 * Only for whoever may run the statement: another must not be able to stop deliveries by trying.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "shmem.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "wake.h"
#include "worker/worker.h"

#define LEAVE_S 5				/* PostgreSQL itself waits as long for others to leave */
#define POLL_US 5000

static ProcessUtility_hook_type previous_hook = NULL;

static bool
is_template(Oid database)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* As CREATE DATABASE judges it; not every minor version lets an extension call its function. */
static bool
may_create_databases(void)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool		result = superuser();

	if (HeapTupleIsValid(tuple))
	{
		result |= ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return result;
}

static Oid
if_owner(const char *name)
{
	Oid			database = get_database_oid(name, true);

	return OidIsValid(database) && wh_owns_database(database, GetUserId()) ?
		database : InvalidOid;
}

static Oid
if_may_copy(CreatedbStmt *stmt)
{
	const char *name = "template1";
	ListCell   *cell;
	Oid			database;

	foreach(cell, stmt->options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "template") == 0 && option->arg)
			name = defGetString(option);
	}
	database = get_database_oid(name, true);
	if (!OidIsValid(database) || !may_create_databases())
		return InvalidOid;
	return is_template(database) || wh_owns_database(database, GetUserId()) ?
		database : InvalidOid;
}

/* Other options of a database are changed beside whoever is connected. */
static bool
sets_tablespace(const AlterDatabaseStmt *stmt)
{
	ListCell   *cell;

	foreach(cell, stmt->options)
		if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0)
			return true;
	return false;
}

/*
 * The database that the statement wants for itself; InvalidOid for none, or when the user may not.
 */
static Oid
wanted_database(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			return if_owner(((DropdbStmt *) stmt)->dbname);
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType != OBJECT_DATABASE)
				return InvalidOid;
			return if_owner(((RenameStmt *) stmt)->subname);
		case T_AlterDatabaseStmt:
			if (!sets_tablespace((AlterDatabaseStmt *) stmt))
				return InvalidOid;
			return if_owner(((AlterDatabaseStmt *) stmt)->dbname);
		case T_CreatedbStmt:
			return if_may_copy((CreatedbStmt *) stmt);
		default:
			return InvalidOid;
	}
}

/* The launcher leaves out databases that allow no connections; that may have changed. */
static void
tell_of_options(Node *stmt)
{
	if (IsA(stmt, AlterDatabaseStmt))
		wh_wake_launcher(get_database_oid(((AlterDatabaseStmt *) stmt)->dbname, true));
}

static void
wait_until_left(Oid database)
{
	TimestampTz deadline = GetCurrentTimestamp() + LEAVE_S * USECS_PER_SEC;

	while (wh_database_occupied(database) && GetCurrentTimestamp() < deadline)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(POLL_US);
	}
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
				DestReceiver *dest, QueryCompletion *completion)
{
	ProcessUtility_hook_type next = previous_hook ? previous_hook : standard_ProcessUtility;
	Oid			database = wanted_database(pstmt->utilityStmt);

	if (!OidIsValid(database) || !wh_database_bar(database))
	{
		next(pstmt, query, read_only_tree, context, params, environment, dest, completion);
		tell_of_options(pstmt->utilityStmt);
		return;
	}
	PG_TRY();
	{
		wait_until_left(database);
		next(pstmt, query, read_only_tree, context, params, environment, dest, completion);
	}
	PG_CATCH();
	{
		wh_database_unbar(database);
		wh_launcher_notify(InvalidOid);
		PG_RE_THROW();
	}
	PG_END_TRY();
	wh_database_unbar(database);
	wh_wake_launcher(InvalidOid);
}

void
wh_vacate_install(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
