/*
 * Registering endpoints.
 *
 * Every argument is judged before anything is written. The tables are written as the extension's
 * owner (the functions are SECURITY DEFINER), so the tenant rule is in each statement.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "id.h"
#include "sql/options.h"
#include "sql/scheme.h"
#include "sql/session.h"
#include "sql/signing_secret.h"
#include "url.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(wh_sql_register_endpoint);
PG_FUNCTION_INFO_V1(wh_sql_check_url);

/*
 * The arguments of register_endpoint that are no options, by their place; the options stand around.
 */
#define TENANT_ID 2
#define SECRET 6

static void
read_options(FunctionCallInfo fcinfo, WhOptions *options)
{
	int			option = 0;

	for (int i = 0; i < PG_NARGS(); i++)
	{
		if (i == TENANT_ID || i == SECRET)
			continue;
		options->values[option] = fcinfo->args[i];
		options->given[option] = true;
		option++;
	}
	Assert(option == OPTION_COUNT);
}

static void
insert_endpoint(const pg_uuid_t *endpoint_id, const char *tenant_id, const WhOptions *options)
{
	WhArgument	arguments[2 + OPTION_COUNT] = {
		{UUIDOID, UUIDPGetDatum(endpoint_id)}, wh_text_argument(tenant_id)
	};
	int			count = 2;
	StringInfoData columns;
	StringInfoData values;

	initStringInfo(&columns);
	initStringInfo(&values);
	for (int i = 0; i < OPTION_COUNT; i++)
	{
		const WhOptionColumn *column = &wh_option_columns[i];

		if (column->type == InvalidOid)
			continue;
		arguments[count++] = (WhArgument)
		{
			column->type, options->values[i].value, options->values[i].isnull
		};
		appendStringInfo(&columns, ", %s", column->name);
		appendStringInfo(&values, ", $%d", count);
	}
	wh_execute(psprintf("INSERT INTO webhooks.endpoints (endpoint_id, tenant_id%s)"
						" VALUES ($1, $2%s)", columns.data, values.data),
			   count, arguments);
}

Datum
wh_sql_register_endpoint(PG_FUNCTION_ARGS)
{
	pg_uuid_t	endpoint_id = wh_new_id(NULL);
	WhOptions	options = {.is_new = true};
	char	   *tenant_id;
	WhSecrets	secrets;
	TupleDesc	desc;
	Datum		values[2] = {UUIDPGetDatum(&endpoint_id)};
	bool		nulls[2] = {false};

	tenant_id = wh_tenant_named_by(fcinfo, TENANT_ID);
	read_options(fcinfo, &options);
	wh_options_judge(&options);
	secrets = wh_secrets_for_schemes(
		wh_schemes_argument(DatumGetArrayTypeP(options.values[OPTION_SIGNATURE_SCHEMES].value)),
		wh_given_text(fcinfo, SECRET));

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	nulls[1] = wh_secrets_told(&secrets) == NULL;
	if (!nulls[1])
		values[1] = CStringGetTextDatum(wh_secrets_told(&secrets));

	SPI_connect();
	insert_endpoint(&endpoint_id, tenant_id, &options);
	wh_insert_secrets(&endpoint_id, &secrets);
	wh_options_store_secrets(&endpoint_id, &options);
	SPI_finish();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

Datum
wh_sql_check_url(PG_FUNCTION_ARGS)
{
	char	   *refusal = PG_ARGISNULL(0) ? pstrdup("it is NULL") :
		wh_url_refusal(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	TupleDesc	desc;
	Datum		values[2] = {BoolGetDatum(refusal == NULL)};
	bool		nulls[2] = {false, refusal == NULL};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (refusal)
		values[1] = CStringGetTextDatum(refusal);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
