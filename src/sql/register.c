/*
 * What is registered of events: their types, and the API versions in which endpoints want them.
 * Both are the database's, not a tenant's.
 *
 * These functions run as their caller, since it is the caller who needs EXECUTE on the functions
 * named.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "sql/catalog.h"
#include "sql/owner.h"
#include "sql/session.h"
#include "sql/user_function.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(wh_sql_register_event_type);
PG_FUNCTION_INFO_V1(wh_sql_retire_event_type);
PG_FUNCTION_INFO_V1(wh_sql_register_api_version);

static void
refuse_tenant_session(const char *what)
{
	if (wh_session_tenant())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s are for all tenants", what),
				 errdetail("The session is confined to one tenant by webhooks.tenant_id.")));
}

static WhOwnerStatement register_type_statement = {
	"INSERT INTO webhooks.event_types (name, description, example, validator)"
	" VALUES ($1, $2, $3, $4)"
	" ON CONFLICT (name) DO UPDATE SET description = excluded.description,"
	"  example = excluded.example, validator = excluded.validator, retired_at = NULL",
	4, {TEXTOID, TEXTOID, JSONBOID, TEXTOID}
};

Datum
wh_sql_register_event_type(PG_FUNCTION_ARGS)
{
	char	   *name;
	Datum		values[4] = {0};
	char		nulls[] = "    ";
	WhOwnerScope scope;

	PreventCommandIfReadOnly("webhooks.register_event_type()");
	refuse_tenant_session("event types");
	name = wh_required_text(fcinfo, 0, "name");
	wh_event_type_check("name", name);

	values[0] = CStringGetTextDatum(name);
	for (int i = 1; i < 4; i++)
		if (PG_ARGISNULL(i))
			nulls[i] = 'n';
		else
			values[i] = PG_GETARG_DATUM(i);
	if (!PG_ARGISNULL(3))
		values[3] = CStringGetTextDatum(wh_user_function_name(WH_VALIDATOR, PG_GETARG_OID(3)));

	scope = wh_owner_begin("event_types");
	wh_owner_execute(&register_type_statement, values, nulls);
	wh_owner_end(&scope);
	PG_RETURN_VOID();
}

static WhOwnerStatement retire_type_statement = {
	"UPDATE webhooks.event_types SET retired_at = coalesce(retired_at, pg_catalog.now())"
	" WHERE name OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}
};

Datum
wh_sql_retire_event_type(PG_FUNCTION_ARGS)
{
	char	   *name;
	Datum		value;
	WhOwnerScope scope;

	PreventCommandIfReadOnly("webhooks.retire_event_type()");
	refuse_tenant_session("event types");
	name = wh_required_text(fcinfo, 0, "name");
	value = CStringGetTextDatum(name);

	scope = wh_owner_begin("event_types");
	if (wh_owner_execute(&retire_type_statement, &value, NULL) == 0)
		wh_refuse_unknown_name("event type", name);
	wh_owner_end(&scope);
	PG_RETURN_VOID();
}

static WhOwnerStatement register_version_statement = {
	"INSERT INTO webhooks.api_versions (version, transform) VALUES ($1, $2)"
	" ON CONFLICT (version) DO UPDATE SET transform = excluded.transform",
	2, {TEXTOID, TEXTOID}
};

/* It stands in bodies, so it needs no escaping in JSON. */
static bool
is_version(const char *version)
{
	size_t		len = strlen(version);

	return len >= 1 && len <= WH_API_VERSION_MAX &&
		strspn(version, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

Datum
wh_sql_register_api_version(PG_FUNCTION_ARGS)
{
	char	   *version;
	Datum		values[2];
	WhOwnerScope scope;

	PreventCommandIfReadOnly("webhooks.register_api_version()");
	refuse_tenant_session("API versions");
	version = wh_required_text(fcinfo, 0, "version");
	if (!is_version(version))
		wh_refuse("version", psprintf("must have 1 to %d characters: letters, digits, \".\", \"_\" "
									  "and \"-\"", WH_API_VERSION_MAX));
	if (PG_ARGISNULL(1))
		wh_refuse("transform", "must not be NULL");
	values[0] = CStringGetTextDatum(version);
	values[1] = CStringGetTextDatum(wh_user_function_name(WH_TRANSFORM, PG_GETARG_OID(1)));

	scope = wh_owner_begin("api_versions");
	wh_owner_execute(&register_version_statement, values, NULL);
	wh_owner_end(&scope);
	PG_RETURN_VOID();
}
