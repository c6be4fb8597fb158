/*
 * Changing an endpoint's options.
 *
 * What is queued already follows at its next attempt, since a request is made with the options as
 * they are when it is sent. Only its place in an order is written down when it is queued, and is
 * written anew here.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "id.h"
#include "sql/lifecycle.h"
#include "sql/options.h"
#include "sql/session.h"
#include "sql/signing_secret.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(wh_sql_update_endpoint);

/* The arguments of update_endpoint: the options stand between these. */
#define FIRST_OPTION 1
#define RESET (FIRST_OPTION + OPTION_COUNT)

static WhOption
named_option(const char *name)
{
	for (int i = 0; i < OPTION_COUNT; i++)
		if (strcmp(wh_option_columns[i].name, name) == 0)
			return i;
	wh_refuse("reset", psprintf("contains \"%s\", which is not an option", name));
}

static void
reset_option(FunctionCallInfo fcinfo, WhOptions *options, WhOption option)
{
	const char *name = wh_option_columns[option].name;

	if (!PG_ARGISNULL(FIRST_OPTION + option))
		wh_refuse("reset", psprintf("must not contain \"%s\", which is given a value", name));
	if (options->given[option])
		wh_refuse("reset", psprintf("contains \"%s\" twice", name));
	if (option == OPTION_URL)
		wh_refuse("reset", "must not contain \"url\", which has no default");
	options->given[option] = true;
	options->values[option] = wh_option_default(option);
}

static void
read_options(FunctionCallInfo fcinfo, WhOptions *options)
{
	Datum	   *names;
	int			count;

	for (int i = 0; i < OPTION_COUNT; i++)
	{
		options->values[i] = fcinfo->args[FIRST_OPTION + i];
		options->given[i] = !options->values[i].isnull;
	}
	if (PG_ARGISNULL(RESET))
		return;
	count = wh_elements("reset", PG_GETARG_ARRAYTYPE_P(RESET), &names);
	for (int i = 0; i < count; i++)
		reset_option(fcinfo, options, named_option(TextDatumGetCString(names[i])));
}

/* False: every one is as it was, and nothing was written. */
static bool
update_row(const pg_uuid_t *endpoint_id, const WhOptions *options)
{
	WhArgument	arguments[1 + OPTION_COUNT] = {{UUIDOID, UUIDPGetDatum(endpoint_id)}};
	int			count = 1;
	StringInfoData assignments;
	StringInfoData changes;

	initStringInfo(&assignments);
	initStringInfo(&changes);
	for (int i = 0; i < OPTION_COUNT; i++)
	{
		const WhOptionColumn *column = &wh_option_columns[i];
		/* a jsonpath can be compared by its text only */
		const char *cast = column->type == JSONPATHOID ? "::text" : "";

		if (!options->given[i] || column->type == InvalidOid)
			continue;
		arguments[count++] = (WhArgument)
		{
			column->type, options->values[i].value, options->values[i].isnull
		};
		appendStringInfo(&assignments, "%s = $%d, ", column->name, count);
		appendStringInfo(&changes, "%s%s%s IS DISTINCT FROM $%d%s", count > 2 ? " OR " : "",
						 column->name, cast, count, cast);
	}
	return count > 1 &&
		wh_execute(psprintf("UPDATE webhooks.endpoints SET %supdated_at = now()"
							" WHERE endpoint_id = $1 AND (%s)", assignments.data, changes.data),
				   count, arguments) > 0;
}

/*
 * What another transaction queues at this time by the old ordering keeps its place in that: to wait
 * for every dispatch that is under way would hold up all that come after.
 */
static void
renew_lanes(const pg_uuid_t *endpoint_id)
{
	WhArgument	argument = {UUIDOID, UUIDPGetDatum(endpoint_id)};

	wh_execute("UPDATE webhooks.queue q SET lane = n.lane"
			   " FROM (SELECT o.delivery_id, webhooks.lane(ep.ordering, ev.ordering_key) AS lane"
			   "  FROM webhooks.endpoints ep"
			   "  JOIN webhooks.queue o ON o.endpoint_id = ep.endpoint_id"
			   "  LEFT JOIN webhooks.events ev ON ev.event_id = o.event_id"
			   "  WHERE ep.endpoint_id = $1) n"
			   " WHERE q.delivery_id = n.delivery_id AND q.lane IS DISTINCT FROM n.lane",
			   1, &argument);
}

/* The mask means the Authorization value there is. */
static void
refuse_empty_mask(const pg_uuid_t *endpoint_id, const WhHeaders *headers)
{
	WhArgument	argument = {UUIDOID, UUIDPGetDatum(endpoint_id)};

	if (headers->masked &&
		wh_execute("SELECT FROM webhooks.endpoint_secrets"
				   " WHERE endpoint_id = $1 AND kind = 'authorization'", 1, &argument) == 0)
		wh_headers_refuse_mask("headers", headers);
}

Datum
wh_sql_update_endpoint(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");
	WhOptions	options = {0};

	read_options(fcinfo, &options);
	wh_options_judge(&options);

	SPI_connect();
	if (!wh_lock_endpoint_row(endpoint_id).registered)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("endpoint %s is a target of dispatch_to_urls",
						wh_uuid_text(endpoint_id)),
				 errhint("Its options are those that dispatch_to_urls was given.")));
	refuse_empty_mask(endpoint_id, &options.headers);
	if (options.given[OPTION_SIGNATURE_SCHEMES])
		wh_complete_secrets(endpoint_id, wh_schemes_argument(
			DatumGetArrayTypeP(options.values[OPTION_SIGNATURE_SCHEMES].value)));
	wh_options_store_secrets(endpoint_id, &options);
	if (update_row(endpoint_id, &options) && options.given[OPTION_ORDERING])
		renew_lanes(endpoint_id);
	SPI_finish();
	PG_RETURN_VOID();
}
