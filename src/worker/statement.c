/*
 * The least that is needed around SPI: a plan made once, a column read, a batch handed over as
 * arrays.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "worker/statement.h"

void
wh_statement_execute(WhStatement *statement, Datum *values, bool read_only, int expected)
{
	int			result;

	if (statement->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(statement->sql, statement->argument_count, statement->types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare: %s", SPI_result_code_string(SPI_result));
		statement->plan = plan;
	}
	result = SPI_execute_plan(statement->plan, values, NULL, read_only, 0);
	if (result != expected)
		elog(ERROR, "unexpected result of a statement: %s", SPI_result_code_string(result));
}

Datum
wh_column(HeapTuple row, int number, bool *isnull)
{
	return SPI_getbinval(row, SPI_tuptable->tupdesc, number, isnull);
}

Datum
wh_value(HeapTuple row, int number)
{
	bool		isnull;
	Datum		datum = wh_column(row, number, &isnull);

	if (isnull)
		elog(ERROR, "column %d is unexpectedly NULL", number);
	return datum;
}

NullableDatum
wh_text_or_null(const char *text)
{
	return (NullableDatum) {text ? CStringGetTextDatum(text) : (Datum) 0, text == NULL};
}

Datum
wh_array(Oid element_type, Datum *values, bool *nulls, int count)
{
	int			lower = 1;
	int16		len;
	bool		byval;
	char		align;

	get_typlenbyvalalign(element_type, &len, &byval, &align);
	return PointerGetDatum(construct_md_array(values, nulls, 1, &count, &lower, element_type,
											  len, byval, align));
}
