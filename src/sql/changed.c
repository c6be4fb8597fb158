/*
 * The trigger on endpoints and their secrets: whoever changes them, by these functions or by hand,
 * has sessions and workers told.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(wh_sql_endpoint_changed);

static WhWake
changed_endpoint(const TriggerData *data)
{
	HeapTuple	tuple = data->tg_newtuple && TRIGGER_FIRED_BY_UPDATE(data->tg_event) ?
		data->tg_newtuple : data->tg_trigtuple;
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	int			tenant_id = SPI_fnumber(desc, "tenant_id");	/* secrets have none */
	bool		isnull;
	WhWake		wake = {
		.endpoint_id = *DatumGetUUIDP(SPI_getbinval(tuple, desc, SPI_fnumber(desc, "endpoint_id"),
													&isnull)),
		.due_at = DT_NOBEGIN, .tenant = WH_TENANT_UNKNOWN
	};

	if (tenant_id > 0)
		wake.tenant = wh_tenant_hash(SPI_getvalue(tuple, desc, tenant_id));
	return wake;
}

Datum
wh_sql_endpoint_changed(PG_FUNCTION_ARGS)
{
	TriggerData *data;
	Oid			namespace;
	Oid			endpoints;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("endpoint_changed must be called as a trigger")));
	data = (TriggerData *) fcinfo->context;
	namespace = RelationGetNamespace(data->tg_relation);
	endpoints = get_relname_relid("endpoints", namespace);
	if (OidIsValid(endpoints))
		CacheInvalidateRelcacheByRelid(endpoints);

	if (TRIGGER_FIRED_FOR_ROW(data->tg_event))
	{
		WhWake		wake = changed_endpoint(data);

		wh_wake_endpoint(&wake);
	}
	else
		wh_wake_all();
	return PointerGetDatum(NULL);
}
