/*
 * What shared memory and the session tell, as SQL; and the install script's word to the launcher.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "open_breakers.h"
#include "shmem.h"
#include "sql/session.h"
#include "sql/subscription.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"
#include "utils/timestamp.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(wh_sql_in_flight);
PG_FUNCTION_INFO_V1(wh_sql_endpoint_breakers);
PG_FUNCTION_INFO_V1(wh_sql_processes);
PG_FUNCTION_INFO_V1(wh_sql_session_tenant);
PG_FUNCTION_INFO_V1(wh_sql_is_preloaded);
PG_FUNCTION_INFO_V1(wh_sql_announce);

/* Whether the session's tenant, if it has one, is the endpoint's. */
static bool
is_seen(const pg_uuid_t *endpoint_id)
{
	const char *tenant = wh_session_tenant();
	WhSubscriber endpoint;

	return tenant == NULL ||
		wh_endpoint_standing(tenant, endpoint_id, &endpoint) != WH_ENDPOINT_UNKNOWN;
}

Datum
wh_sql_in_flight(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	WhInFlight *requests;
	int			count = wh_shmem_in_flight(MyDatabaseId, &requests);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < count; i++)
	{
		Datum		values[4] = {
			UUIDPGetDatum(&requests[i].delivery_id), UUIDPGetDatum(&requests[i].endpoint_id),
			TimestampTzGetDatum(requests[i].started_at), Int32GetDatum(requests[i].worker_pid)
		};
		bool		nulls[4] = {false};

		if (is_seen(&requests[i].endpoint_id))
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

Datum
wh_sql_endpoint_breakers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	WhOpenBreaker *open;
	int			count = wh_open_breakers(MyDatabaseId, &open);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < count; i++)
	{
		Datum		values[5] = {
			UUIDPGetDatum(&open[i].endpoint_id),
			CStringGetTextDatum(open[i].probing ? "probing" : "open"),
			TimestampTzGetDatum(open[i].since), TimestampTzGetDatum(open[i].next_probe_at),
			Int32GetDatum(open[i].worker_pid)
		};
		bool		nulls[5] = {[3] = open[i].probing};

		if (is_seen(&open[i].endpoint_id))
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

static void
put_process(ReturnSetInfo *result, const WhProcess *process)
{
	/*
	 * a tenant is told no figures, which are of all tenants; what went wrong, in its database only
	 */
	bool		confined = wh_session_tenant() != NULL;
	bool		told = process->last_error_at != 0 && process->database == MyDatabaseId &&
		!confined;
	char	   *database = get_database_name(process->database);
	Size		error_len = pg_mbcliplen(process->last_error, strlen(process->last_error),
										 WH_LAST_ERROR_SIZE - 1);
	Datum		values[] = {
		Int32GetDatum(process->pid), Int32GetDatum(process->number),
		database ? CStringGetTextDatum(database) : (Datum) 0,
		Int32GetDatum(process->in_flight),
		Int64GetDatum(process->counts.attempted), Int64GetDatum(process->counts.succeeded),
		Int64GetDatum(process->counts.retried), Int64GetDatum(process->counts.dead_lettered),
		Int64GetDatum(process->counts.bytes_sent), TimestampTzGetDatum(process->started_at),
		PointerGetDatum(cstring_to_text_with_len(process->last_error, error_len)),
		TimestampTzGetDatum(process->last_error_at)
	};
	bool		nulls[lengthof(values)] = {
		[1] = process->number < 0, [2] = database == NULL, [10] = !told, [11] = !told
	};

	for (int i = 3; i <= 8; i++)
		nulls[i] = confined;

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
wh_sql_processes(PG_FUNCTION_ARGS)
{
	WhProcess  *processes = palloc(WH_SLOTS * sizeof(WhProcess));
	int			count = wh_shmem_processes(processes);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < count; i++)
		put_process((ReturnSetInfo *) fcinfo->resultinfo, &processes[i]);
	return (Datum) 0;
}

Datum
wh_sql_session_tenant(PG_FUNCTION_ARGS)
{
	const char *tenant = wh_session_tenant();

	if (tenant == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(tenant));
}

Datum
wh_sql_is_preloaded(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(wh_shmem_available());
}

Datum
wh_sql_announce(PG_FUNCTION_ARGS)
{
	/* CREATE EXTENSION lets nothing less than a warning through */
	if (!wh_shmem_available())
		ereport(WARNING,
				(errmsg("webhooks is not preloaded: no background worker will deliver"),
				 errhint("Add webhooks to shared_preload_libraries and restart the server, "
						 "or CALL webhooks.deliver_due().")));
	wh_wake_launcher(MyDatabaseId);
	PG_RETURN_VOID();
}
