/*
 * What shared memory tells, as SQL; and the install script's word to the launcher.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "shmem.h"
#include "utils/tuplestore.h"
#include "utils/timestamp.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(wh_sql_in_flight);
PG_FUNCTION_INFO_V1(wh_sql_announce);

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

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

Datum
wh_sql_announce(PG_FUNCTION_ARGS)
{
	if (!wh_shmem_available())
		ereport(NOTICE,
				(errmsg("webhooks is not preloaded: no background worker will deliver"),
				 errhint("Add webhooks to shared_preload_libraries and restart the server, "
						 "or CALL webhooks.deliver_due().")));
	wh_wake_launcher(MyDatabaseId);
	PG_RETURN_VOID();
}
