/*
 * The tenant rule and the error classes of the SQL interface stand here once, so that every
 * function keeps them alike.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "id.h"
#include "settings.h"
#include "sql/session.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

const char *
wh_session_tenant(void)
{
	return wh_tenant_id && wh_tenant_id[0] ? wh_tenant_id : NULL;
}

char *
wh_tenant_named(const char *tenant_id)
{
	const char *own = wh_session_tenant();

	if (own && tenant_id && strcmp(own, tenant_id) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("tenant_id must be the session's own tenant"),
				 errdetail("The session is confined to one tenant by webhooks.tenant_id.")));
	if (tenant_id == NULL)
		tenant_id = own ? own : "";
	if (strlen(tenant_id) > WH_TENANT_ID_MAX)
		wh_refuse("tenant_id", psprintf("must have at most %d bytes", WH_TENANT_ID_MAX));
	return pstrdup(tenant_id);
}

char *
wh_tenant_named_by(FunctionCallInfo fcinfo, int number)
{
	return wh_tenant_named(wh_given_text(fcinfo, number));
}

void
wh_refuse(const char *argument, const char *rule)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s %s", argument, rule)));
}

void
wh_refuse_unknown(const char *what, const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("%s %s does not exist", what, wh_uuid_text(id))));
}

void
wh_refuse_unknown_name(const char *what, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("%s \"%s\" does not exist", what, name)));
}

char *
wh_given_text(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(number));
}

char *
wh_required_text(FunctionCallInfo fcinfo, int number, const char *name)
{
	char	   *text = wh_given_text(fcinfo, number);

	if (text == NULL)
		wh_refuse(name, "must not be NULL");
	return text;
}

pg_uuid_t *
wh_uuid_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		wh_refuse(name, "must not be NULL");
	return PG_GETARG_UUID_P(number);
}

int
wh_elements(const char *name, ArrayType *array, Datum **elements)
{
	int16		len;
	bool		by_value;
	char		align;
	int			count;

	if (ARR_NDIM(array) > 1)
		wh_refuse(name, "must have one dimension");
	if (array_contains_nulls(array))
		wh_refuse(name, "must not contain NULL");
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &len, &by_value, &align);
	deconstruct_array(array, ARR_ELEMTYPE(array), len, by_value, align, elements, NULL, &count);
	return count;
}

uint64
wh_execute(const char *sql, int count, const WhArgument *arguments)
{
	Oid		   *types = palloc((count + 1) * sizeof(Oid));
	Datum	   *values = palloc((count + 1) * sizeof(Datum));
	char	   *nulls = palloc(count + 1);
	int			result;

	for (int i = 0; i < count; i++)
	{
		types[i] = arguments[i].type;
		values[i] = arguments[i].value;
		nulls[i] = arguments[i].isnull ? 'n' : ' ';
	}
	result = SPI_execute_with_args(sql, count, types, values, nulls, false, 0);
	if (result < 0)
		elog(ERROR, "statement failed: %s", SPI_result_code_string(result));
	return SPI_processed;
}

WhArgument
wh_text_argument(const char *text)
{
	return (WhArgument)
	{
		TEXTOID, text ? CStringGetTextDatum(text) : (Datum) 0, text == NULL
	};
}

WhArgument
wh_tenant_argument(void)
{
	return wh_text_argument(wh_session_tenant());
}

Datum
wh_result(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

pg_uuid_t
wh_result_id(uint64 row, int column)
{
	bool		isnull;

	return *DatumGetUUIDP(wh_result(row, column, &isnull));
}
