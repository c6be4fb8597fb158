/*
 * CALL webhooks.deliver_due(): the engine run by hand in a session, for a server without workers,
 * for cron, for tests.
 *
 * It serves the endpoints whose shards no worker holds, so it does no harm beside running workers.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "settings.h"
#include "shmem.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/timestamp.h"
#include "worker/engine.h"

#define STEP_MS 100
#define TIME_LIMIT_MAX_DAYS 366

PG_FUNCTION_INFO_V1(wh_sql_deliver_due);

/* A month counts thirty days. */
static double
seconds(const Interval *span)
{
	return span->time / 1000000.0 + (span->day + span->month * 30.0) * SECS_PER_DAY;
}

static WhCounts
deliver(int64 max_deliveries, TimestampTz deadline)
{
	WhEngine   *engine = wh_engine_create(PortalContext,
										  (WhEngineOptions) {.in_session = true,
										  .max_deliveries = max_deliveries});
	WhCounts	counts;

	PG_TRY();
	{
		(void) wh_slot_attach_session();
		wh_engine_want(engine, WH_ALL_SHARDS);
		while (!wh_engine_idle(engine) && GetCurrentTimestamp() < deadline)
			(void) wh_engine_step(engine, STEP_MS);

		/* the requests' own timeouts bound this */
		wh_engine_drain(engine, DT_NOEND);
		counts = wh_engine_counts(engine);
	}
	PG_FINALLY();
	{
		wh_engine_destroy(engine);
		wh_slot_detach(WH_SLOT_FREE);
	}
	PG_END_TRY();
	return counts;
}

static Datum
make_result(FunctionCallInfo fcinfo, const WhCounts *counts)
{
	TupleDesc	desc;
	Datum		values[4] = {
		Int64GetDatum(counts->attempted), Int64GetDatum(counts->succeeded),
		Int64GetDatum(counts->retried), Int64GetDatum(counts->dead_lettered)
	};
	bool		nulls[4] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum
wh_sql_deliver_due(PG_FUNCTION_ARGS)
{
	CallContext *context = castNode(CallContext, fcinfo->context);
	TimestampTz now = GetCurrentTimestamp();
	double		limit_s;
	WhCounts	counts;
	Datum		result;

	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_deliveries must be at least 1")));
	limit_s = PG_ARGISNULL(1) ? -1 : seconds(PG_GETARG_INTERVAL_P(1));
	if (limit_s < 0 || limit_s > (double) TIME_LIMIT_MAX_DAYS * SECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time_limit must be between 0 and %d days, and not NULL",
						TIME_LIMIT_MAX_DAYS)));
	PreventCommandIfReadOnly("webhooks.deliver_due()");
	if (wh_tenant_id[0])
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("deliver_due delivers for all tenants"),
				 errdetail("The session is confined to one tenant by webhooks.tenant_id.")));
	if (context->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("deliver_due cannot run in a transaction block"),
				 errdetail("It commits between fetching deliveries, "
						   "sending them and recording the results."),
				 errhint("CALL it by itself, outside BEGIN and functions.")));

	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect_ext failed");
	counts = deliver(PG_GETARG_INT32(0), now + (TimestampTz) (limit_s * 1000000));
	SPI_finish();
	result = make_result(fcinfo, &counts);
	PG_RETURN_DATUM(result);
}
