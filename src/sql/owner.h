/*
 * Statements on the extension's tables in functions that run as their caller, since what they call
 * or check is the caller's: for these statements alone the session is the extension's owner.
 */
#ifndef WH_SQL_OWNER_H
#define WH_SQL_OWNER_H

#include "postgres.h"

#include "executor/spi.h"

typedef struct WhOwnerScope
{
	Oid			user;			/* who it was before */
	int			security_context;
} WhOwnerScope;

/*
 * Connects to SPI and becomes the owner of a table of schema webhooks; ends with the transaction on
 * an error.
 */
extern WhOwnerScope wh_owner_begin(const char *table);
extern void wh_owner_end(const WhOwnerScope *scope);

/*
 * A statement whose plan is kept, to be a static variable. The caller's search_path is in force, so
 * operators have to be qualified, too.
 */
#define WH_OWNER_ARGUMENTS_MAX 5

typedef struct WhOwnerStatement
{
	const char *sql;
	int			argument_count;
	Oid			types[WH_OWNER_ARGUMENTS_MAX];
	SPIPlanPtr	plan;
} WhOwnerStatement;

/*
 * Returns the number of rows processed; they are in SPI_tuptable. nulls as SPI wants them, or NULL.
 */
extern uint64 wh_owner_execute(WhOwnerStatement *statement, Datum *values, const char *nulls);

#endif
