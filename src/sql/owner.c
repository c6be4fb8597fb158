/*
 * The way PostgreSQL's own foreign key checks take: a change of the user id that SET ROLE and the
 * like cannot undo meanwhile.
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "sql/owner.h"
#include "tables.h"
#include "utils/rel.h"

WhOwnerScope
wh_owner_begin(const char *table)
{
	Relation	rel = table_open(wh_table(table), AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;
	WhOwnerScope scope;

	table_close(rel, NoLock);
	GetUserIdAndSecContext(&scope.user, &scope.security_context);
	SPI_connect();
	SetUserIdAndSecContext(owner, scope.security_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_NOFORCE_RLS);
	return scope;
}

void
wh_owner_end(const WhOwnerScope *scope)
{
	SetUserIdAndSecContext(scope->user, scope->security_context);
	SPI_finish();
}

uint64
wh_owner_execute(WhOwnerStatement *statement, Datum *values, const char *nulls)
{
	int			result;

	if (statement->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(statement->sql, statement->argument_count,
									   statement->types);

		if (plan == NULL)
			elog(ERROR, "statement cannot be planned: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		statement->plan = plan;
	}
	result = SPI_execute_plan(statement->plan, values, nulls, false, 0);
	if (result < 0)
		elog(ERROR, "statement failed: %s", SPI_result_code_string(result));
	return SPI_processed;
}
