/*
 * exponential_backoff(): a retry schedule by rule.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "settings.h"
#include "sql/options.h"
#include "sql/session.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#define FACTOR_MAX 1000.0

PG_FUNCTION_INFO_V1(wh_sql_exponential_backoff);

static int64
wait_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	int64		ms;

	if (PG_ARGISNULL(number))
		wh_refuse(name, "must not be NULL");
	ms = wh_interval_ms(PG_GETARG_INTERVAL_P(number));
	if (ms < 1 || ms > WH_RETRY_WAIT_MAX_MS)
		wh_refuse(name, "must be between 1 ms and 366 days");
	return ms;
}

Datum
wh_sql_exponential_backoff(PG_FUNCTION_ARGS)
{
	int64		initial_ms = wait_argument(fcinfo, 0, "initial");
	double		factor = PG_ARGISNULL(1) ? 0 : PG_GETARG_FLOAT8(1);
	int64		maximum_ms = wait_argument(fcinfo, 2, "maximum");
	int			attempts = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT32(3);
	Datum		waits[WH_RETRY_WAITS_MAX];
	double		wait_ms = initial_ms;

	if (!(factor >= 1 && factor <= FACTOR_MAX)) /* NaN is neither */
		wh_refuse("factor", psprintf("must be between 1 and %g", FACTOR_MAX));
	if (maximum_ms < initial_ms)
		wh_refuse("maximum", "must not be less than initial");
	if (attempts < 1 || attempts > WH_RETRY_WAITS_MAX + 1)
		wh_refuse("attempts", psprintf("must be between 1 and %d", WH_RETRY_WAITS_MAX + 1));

	/* between so many attempts there is one wait fewer */
	for (int i = 0; i < attempts - 1; i++)
	{
		Interval   *wait = palloc0(sizeof(Interval));

		wait->time = (TimeOffset) rint(Min(wait_ms, (double) maximum_ms) * 1000);
		waits[i] = IntervalPGetDatum(wait);
		wait_ms = Min(wait_ms * factor, (double) maximum_ms);
	}
	PG_RETURN_ARRAYTYPE_P(construct_array(waits, attempts - 1, INTERVALOID, sizeof(Interval),
										  false, TYPALIGN_DOUBLE));
}
