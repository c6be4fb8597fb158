/*
 * Judges endpoints by what came back from them.
 *
 * A table keeps what must outlive a worker: since when an endpoint fails. It is written when that
 * changes and not for each delivery: an endpoint's memory knows what the table says, from the first
 * result after its options were loaded on.
 *
 * What becomes of an operational event raises no other, or an endpoint that takes them and fails
 * would feed itself.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "settings.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "worker/clean.h"
#include "worker/health.h"
#include "worker/statement.h"

/* An endpoint that has results among those recorded. */
typedef struct Patient
{
	WhEndpoint *endpoint;
	TimestampTz failed_at;		/* the earliest failure */
	bool		succeeded;
	bool		failed;
	bool		gone;
	bool		dead_letter;
	bool		quiet;			/* none of its failures is another's than an operational event's */
	char	   *disabled;		/* why; NULL: it is not to be */
} Patient;

typedef struct Round
{
	WhDelivery **results;
	int			count;
	Patient    *patients;
	int			patient_count;
} Round;


/* ---- the endpoints ---- */

static Patient *
find_patient(Round *round, WhEndpoint *endpoint)
{
	Patient    *patient;

	/* results of one endpoint mostly follow each other */
	for (int i = round->patient_count - 1; i >= 0; i--)
		if (round->patients[i].endpoint == endpoint)
			return &round->patients[i];
	patient = &round->patients[round->patient_count++];
	*patient = (Patient) {.endpoint = endpoint, .failed_at = DT_NOEND, .quiet = true};
	return patient;
}

/* A failure of our own, as to sign, says nothing of the endpoint. */
static bool
is_failure(const WhDelivery *d)
{
	return (d->verdict.outcome == WH_RETRYING || d->verdict.outcome == WH_DEAD_LETTER) &&
		d->request.answer.error_class != WH_ERROR_INTERNAL;
}

static void
examine(Round *round, const WhDelivery *d)
{
	Patient    *patient = find_patient(round, d->endpoint);

	if (d->verdict.outcome == WH_SUCCEEDED)
		patient->succeeded = true;
	if (!is_failure(d))
		return;
	patient->failed = true;
	patient->failed_at = Min(patient->failed_at, d->attempted_at);
	patient->quiet &= d->operational;
	patient->dead_letter |= d->verdict.outcome == WH_DEAD_LETTER;
	patient->gone |= d->verdict.reason == WH_DEAD_GONE;
}

/* The ids of those that it is true of, as an array; 0 when there are none. */
static Datum
ids_of(Round *round, bool (*is_one) (const Patient *))
{
	Datum	   *ids = palloc(round->patient_count * sizeof(Datum));
	int			n = 0;

	for (int i = 0; i < round->patient_count; i++)
		if (is_one(&round->patients[i]))
			ids[n++] = UUIDPGetDatum(&round->patients[i].endpoint->endpoint_id);
	return n > 0 ? wh_array(UUIDOID, ids, NULL, n) : (Datum) 0;
}

static Patient *
returned_patient(Round *round, HeapTuple row)
{
	pg_uuid_t  *id = DatumGetUUIDP(wh_value(row, 1));

	for (int i = 0; i < round->patient_count; i++)
		if (memcmp(&round->patients[i].endpoint->endpoint_id, id, UUID_LEN) == 0)
			return &round->patients[i];
	elog(ERROR, "a statement returned an endpoint that it was not asked about");
}


/* ---- failing, and no longer ---- */

static bool
has_recovered(const Patient *patient)
{
	return patient->succeeded && patient->endpoint->health != WH_HEALTH_GOOD;
}

static bool
begins_to_fail(const Patient *patient)
{
	return patient->failed && !patient->succeeded && patient->endpoint->health != WH_HEALTH_BAD;
}

static bool
fails(const Patient *patient)
{
	return patient->failed && !patient->succeeded;
}

static WhStatement recovered_statement = {
	"UPDATE webhooks.endpoint_health SET failing_since = NULL"
	" WHERE endpoint_id = ANY ($1) AND failing_since IS NOT NULL",
	1, {UUIDARRAYOID}
};

static WhStatement failing_statement = {
	"INSERT INTO webhooks.endpoint_health (endpoint_id, tenant_id, failing_since)"
	" SELECT e.endpoint_id, e.tenant_id, f.since FROM unnest($1, $2) f(endpoint_id, since)"
	" JOIN webhooks.endpoints e ON e.endpoint_id = f.endpoint_id"
	" ON CONFLICT (endpoint_id) DO UPDATE SET failing_since = excluded.failing_since"
	" WHERE endpoint_health.failing_since IS NULL",
	2, {UUIDARRAYOID, TIMESTAMPTZARRAYOID}
};

static void
keep_failing_since(Round *round)
{
	Datum		recovered = ids_of(round, has_recovered);
	Datum		failing = ids_of(round, begins_to_fail);

	if (recovered)
		wh_statement_execute(&recovered_statement, &recovered, false, SPI_OK_UPDATE);
	if (failing)
	{
		Datum	   *since = palloc(round->patient_count * sizeof(Datum));
		Datum		arguments[2] = {failing};
		int			n = 0;

		for (int i = 0; i < round->patient_count; i++)
			if (begins_to_fail(&round->patients[i]))
				since[n++] = TimestampTzGetDatum(round->patients[i].failed_at);
		arguments[1] = wh_array(TIMESTAMPTZOID, since, NULL, n);
		wh_statement_execute(&failing_statement, arguments, false, SPI_OK_INSERT);
	}
}


/* ---- too much of it ---- */

static WhStatement too_long_statement = {
	"SELECT endpoint_id FROM webhooks.endpoint_health"
	" WHERE endpoint_id = ANY ($1) AND failing_since <= clock_timestamp() - $2",
	2, {UUIDARRAYOID, INTERVALOID}
};

/* How many there are, at most limit, of the endpoint's dead letters since it was enabled. */
#define DEAD_LETTERS_SINCE(age, limit) \
	"(SELECT count(*) FROM (SELECT FROM webhooks.dead_letters l" \
	" WHERE l.endpoint_id = i.endpoint_id AND l.dead_at > clock_timestamp() - interval '" age "'" \
	" AND l.dead_at >= coalesce(h.counted_from, '-infinity') LIMIT " limit ") n)"

static WhStatement too_many_statement = {
	"SELECT i.endpoint_id FROM unnest($1) i(endpoint_id)"
	" LEFT JOIN webhooks.endpoint_health h ON h.endpoint_id = i.endpoint_id"
	" WHERE " DEAD_LETTERS_SINCE("24 hours", "$2") " >= $2",
	2, {UUIDARRAYOID, INT4OID}
};

static WhStatement alert_statement = {
	"INSERT INTO webhooks.endpoint_health (endpoint_id, tenant_id, alerted_at)"
	" SELECT i.endpoint_id, i.tenant_id, clock_timestamp() FROM webhooks.endpoints i"
	" LEFT JOIN webhooks.endpoint_health h ON h.endpoint_id = i.endpoint_id"
	" WHERE i.endpoint_id = ANY ($1)"
	" AND (h.alerted_at IS NULL OR h.alerted_at <= clock_timestamp() - interval '1 hour')"
	" AND " DEAD_LETTERS_SINCE("1 hour", "$2") " >= $2"
	" ON CONFLICT (endpoint_id) DO UPDATE SET alerted_at = excluded.alerted_at"
	" RETURNING endpoint_id",
	2, {UUIDARRAYOID, INT4OID}
};

static bool
has_dead_letters(const Patient *patient)
{
	return patient->dead_letter && patient->disabled == NULL;
}

static bool
fails_on(const Patient *patient)
{
	return fails(patient) && patient->disabled == NULL;
}

static void
disable_returned(Round *round, char *reason)
{
	for (uint64 i = 0; i < SPI_processed; i++)
		returned_patient(round, SPI_tuptable->vals[i])->disabled = reason;
}

static void
find_gone(Round *round)
{
	for (int i = 0; i < round->patient_count; i++)
		if (round->patients[i].gone)
			round->patients[i].disabled = "gone";
}

static void
find_failing_too_long(Round *round)
{
	const char *after = wh_setting_auto_disable_after();
	Datum		arguments[2] = {ids_of(round, fails_on)};

	if (after == NULL || !arguments[0])
		return;
	arguments[1] = DirectFunctionCall3(interval_in, CStringGetDatum(after),
									   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	wh_statement_execute(&too_long_statement, arguments, true, SPI_OK_SELECT);
	disable_returned(round, psprintf("failing for %s", after));
}

static void
find_dead_letters_too_many(Round *round)
{
	Datum		arguments[2] = {
		ids_of(round, has_dead_letters), Int32GetDatum(wh_auto_disable_dead_letters)
	};

	if (wh_auto_disable_dead_letters == 0 || !arguments[0])
		return;
	/* not read-only, or it would not see those of this transaction */
	wh_statement_execute(&too_many_statement, arguments, false, SPI_OK_SELECT);
	disable_returned(round, psprintf("%d dead letters in 24 hours", wh_auto_disable_dead_letters));
}


/* ---- disabling ---- */

/*
 * An endpoint whose row somebody has locked is left for its next failure: no transaction of a
 * session may hold up what is recorded. A target of dispatch_to_urls stays as it is: nobody would
 * enable it.
 */
static WhStatement disable_statement = {
	"WITH free AS MATERIALIZED (SELECT e.endpoint_id, r.reason"
	"  FROM unnest($1, $2) r(endpoint_id, reason)"
	"  JOIN webhooks.endpoints e ON e.endpoint_id = r.endpoint_id"
	"  WHERE e.state <> 'disabled' AND e.registered FOR NO KEY UPDATE OF e SKIP LOCKED)"
	" UPDATE webhooks.endpoints e SET state = 'disabled', disabled_reason = free.reason,"
	"  updated_at = now()"
	" FROM free WHERE e.endpoint_id = free.endpoint_id RETURNING e.endpoint_id",
	2, {UUIDARRAYOID, TEXTARRAYOID}
};

static WhStatement raise_disabled_statement = {
	"SELECT webhooks.raise_operational('webhooks.endpoint_disabled', e.tenant_id,"
	" jsonb_strip_nulls(jsonb_build_object('endpoint_id', e.endpoint_id, 'url', e.url,"
	"  'reason', e.disabled_reason, 'failing_since', h.failing_since)), $2)"
	" FROM webhooks.endpoints e"
	" LEFT JOIN webhooks.endpoint_health h ON h.endpoint_id = e.endpoint_id"
	" WHERE e.endpoint_id = $1",
	2, {UUIDOID, BOOLOID}
};

static bool
is_to_be_disabled(const Patient *patient)
{
	return patient->disabled != NULL;
}

static void
disable(Round *round)
{
	Datum		arguments[2] = {ids_of(round, is_to_be_disabled)};
	Datum	   *reasons = palloc(round->patient_count * sizeof(Datum));
	Patient   **disabled;
	int			n = 0;

	if (!arguments[0])
		return;
	for (int i = 0; i < round->patient_count; i++)
		if (round->patients[i].disabled)
			reasons[n++] = CStringGetTextDatum(round->patients[i].disabled);
	arguments[1] = wh_array(TEXTOID, reasons, NULL, n);
	wh_statement_execute(&disable_statement, arguments, false, SPI_OK_UPDATE_RETURNING);

	n = (int) SPI_processed;
	disabled = palloc(n * sizeof(Patient *));
	for (int i = 0; i < n; i++)
		disabled[i] = returned_patient(round, SPI_tuptable->vals[i]);

	/* in a statement after it: they are then no subscribers any more */
	for (int i = 0; i < n; i++)
	{
		arguments[0] = UUIDPGetDatum(&disabled[i]->endpoint->endpoint_id);
		arguments[1] = BoolGetDatum(disabled[i]->quiet);
		wh_statement_execute(&raise_disabled_statement, arguments, false, SPI_OK_SELECT);
	}
}


/* ---- telling ---- */

static WhStatement raise_failing_statement = {
	"SELECT webhooks.raise_operational('webhooks.endpoint_failing', e.tenant_id,"
	" jsonb_strip_nulls(jsonb_build_object('endpoint_id', e.endpoint_id, 'url', e.url,"
	"  'reason', $2 || ' dead letters in 1 hour', 'failing_since', h.failing_since)), false)"
	" FROM unnest($1) i(endpoint_id)"
	" JOIN webhooks.endpoints e ON e.endpoint_id = i.endpoint_id"
	" LEFT JOIN webhooks.endpoint_health h ON h.endpoint_id = e.endpoint_id",
	2, {UUIDARRAYOID, TEXTOID}
};

static bool
has_to_be_told_of(const Patient *patient)
{
	return has_dead_letters(patient) && !patient->quiet;
}

static void
alert(Round *round)
{
	Datum		arguments[2] = {
		ids_of(round, has_to_be_told_of), Int32GetDatum(wh_failing_alert)
	};
	Datum	   *alerted;
	int			n;

	if (wh_failing_alert == 0 || !arguments[0])
		return;
	wh_statement_execute(&alert_statement, arguments, false, SPI_OK_INSERT_RETURNING);
	n = (int) SPI_processed;
	if (n == 0)
		return;
	alerted = palloc(n * sizeof(Datum));
	for (int i = 0; i < n; i++)
		alerted[i] = wh_value(SPI_tuptable->vals[i], 1);
	arguments[0] = wh_array(UUIDOID, alerted, NULL, n);
	arguments[1] = CStringGetTextDatum(psprintf("%d", wh_failing_alert));
	wh_statement_execute(&raise_failing_statement, arguments, false, SPI_OK_SELECT);
}

static WhStatement raise_deliveries_statement = {
	"SELECT webhooks.raise_operational('webhooks.delivery_' || r.what, ev.tenant_id,"
	" jsonb_strip_nulls(jsonb_build_object('delivery_id', r.delivery_id, 'event_id', r.event_id,"
	"  'event_type', ev.event_type, 'endpoint_id', r.endpoint_id, 'url', r.url,"
	"  'reason', r.reason, 'attempts', r.attempts, 'last_status_code', nullif(r.status, 0),"
	"  'error_class', r.error_class, 'last_error', r.error)), false)"
	" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
	"  r(what, delivery_id, event_id, endpoint_id, url, reason, attempts, status, error_class,"
	"   error)"
	" JOIN webhooks.events ev ON ev.event_id = r.event_id",
	10, {TEXTARRAYOID, UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID}
};

static const Oid delivery_types[10] = {
	TEXTOID, UUIDOID, UUIDOID, UUIDOID, TEXTOID, TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID
};

/* NULL: nothing that anybody is told. */
static const char *
told_of(const WhDelivery *d)
{
	if (d->operational)
		return NULL;
	if (d->verdict.outcome == WH_DEAD_LETTER)
		return "exhausted";
	return d->verdict.outcome == WH_SUCCEEDED && d->attempt > 1 ? "recovered" : NULL;
}

static void
raise_deliveries(Round *round)
{
	Datum	   *values[lengthof(delivery_types)];
	bool	   *nulls[lengthof(delivery_types)];
	Datum		arguments[lengthof(delivery_types)];
	int			n = 0;

	for (int c = 0; c < lengthof(delivery_types); c++)
	{
		values[c] = palloc(round->count * sizeof(Datum));
		nulls[c] = palloc(round->count * sizeof(bool));
	}
	for (int i = 0; i < round->count; i++)
	{
		WhDelivery *d = round->results[i];
		NullableDatum row[lengthof(delivery_types)] = {
			wh_text_or_null(told_of(d)), {UUIDPGetDatum(&d->delivery_id)},
			{UUIDPGetDatum(&d->event_id)}, {UUIDPGetDatum(&d->endpoint->endpoint_id)},
			wh_text_or_null(d->config->url),
			wh_text_or_null(wh_dead_reason_name(d->verdict.reason)),
			{Int32GetDatum(d->attempt)}, {Int32GetDatum(d->request.answer.status)},
			wh_text_or_null(wh_error_class_name(d->request.answer.error_class)),
			wh_text_or_null(wh_error_text(d))
		};

		if (row[0].isnull)
			continue;
		for (int c = 0; c < lengthof(delivery_types); c++)
		{
			values[c][n] = row[c].value;
			nulls[c][n] = row[c].isnull;
		}
		n++;
	}
	if (n == 0)
		return;
	for (int c = 0; c < lengthof(delivery_types); c++)
		arguments[c] = wh_array(delivery_types[c], values[c], nulls[c], n);
	wh_statement_execute(&raise_deliveries_statement, arguments, false, SPI_OK_SELECT);
}


void
wh_health_note(WhDelivery **results, int count)
{
	Round		round = {
		.results = results, .count = count, .patients = palloc(count * sizeof(Patient))
	};

	for (int i = 0; i < count; i++)
		examine(&round, results[i]);
	keep_failing_since(&round);
	raise_deliveries(&round);
	find_gone(&round);
	find_failing_too_long(&round);
	find_dead_letters_too_many(&round);
	disable(&round);
	alert(&round);
}

void
wh_health_noted(WhDelivery **results, int count)
{
	for (int i = 0; i < count; i++)
		if (is_failure(results[i]))
			results[i]->endpoint->health = WH_HEALTH_BAD;
	for (int i = 0; i < count; i++)
		if (results[i]->verdict.outcome == WH_SUCCEEDED)
			results[i]->endpoint->health = WH_HEALTH_GOOD;
}
