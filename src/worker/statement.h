/*
 * SQL statements of the delivering process: planned once, kept, and run inside a transaction of
 * wh_transact.
 */
#ifndef WH_WORKER_STATEMENT_H
#define WH_WORKER_STATEMENT_H

#include "postgres.h"

#include "access/htup.h"

#define WH_STATEMENT_ARGUMENTS_MAX 10

/* To be a static variable; the plan is made at the first use. */
typedef struct WhStatement
{
	const char *sql;
	int			argument_count;
	Oid			types[WH_STATEMENT_ARGUMENTS_MAX];
	struct _SPI_plan *plan;
} WhStatement;

/*
 * Raises an error when SPI's result is not the expected SPI_OK_… code. Rows are then in
 * SPI_tuptable.
 */
extern void wh_statement_execute(WhStatement *statement, Datum *values, bool read_only,
								 int expected);

/* A column, from 1, of a row of SPI_tuptable. wh_value is for those that cannot be NULL. */
extern Datum wh_column(HeapTuple row, int number, bool *isnull);
extern Datum wh_value(HeapTuple row, int number);

/* NULL becomes NULL. */
extern NullableDatum wh_text_or_null(const char *text);

/* An array to unnest; nulls may be NULL. */
extern Datum wh_array(Oid element_type, Datum *values, bool *nulls, int count);

#endif
