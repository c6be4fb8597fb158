/*
 * SQL from here to the tables, in batches: one statement reads the rows of many endpoints, one writes many attempts.
 *
 * A delivery costs no write until it is over: whoever holds the endpoint's shard may send it, and the row stays in the queue until its end
 * is recorded. A crash between the request and the record sends it once more, with the same webhook-id.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/body.h"
#include "core/text.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "shmem.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "worker/queue.h"

#define MISSING_EVENT_WAIT_S 60
#define STORED_HEADERS_MAX 100
#define UNIX_EPOCH_US ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* A saved plan, made at its first use. */
typedef struct Statement
{
	const char *sql;
	int			nargs;
	Oid			types[16];
	SPIPlanPtr	plan;
} Statement;

static void
execute(Statement *statement, Datum *values, bool read_only, int expected)
{
	int			result;

	if (statement->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(statement->sql, statement->nargs, statement->types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare: %s", SPI_result_code_string(SPI_result));
		statement->plan = plan;
	}
	result = SPI_execute_plan(statement->plan, values, NULL, read_only, 0);
	if (result != expected)
		elog(ERROR, "unexpected result of a statement: %s", SPI_result_code_string(result));
}

static Datum
column(HeapTuple row, int number, bool *isnull)
{
	return SPI_getbinval(row, SPI_tuptable->tupdesc, number, isnull);
}

/* For columns that cannot be NULL. */
static Datum
value(HeapTuple row, int number)
{
	bool		isnull;
	Datum		datum = column(row, number, &isnull);

	if (isnull)
		elog(ERROR, "column %d is unexpectedly NULL", number);
	return datum;
}

/* Parallel arrays, to be unnested: one Datum array a column. */
static Datum
array_of(Oid type, Datum *values, bool *nulls, int count)
{
	int			lower = 1;
	int16		len;
	bool		byval;
	char		align;

	get_typlenbyvalalign(type, &len, &byval, &align);
	return PointerGetDatum(construct_md_array(values, nulls, 1, &count, &lower, type, len, byval, align));
}

static WhTransactionResult
transact(WhQueue *queue, const char *activity, void (*work) (void *), void *state)
{
	WhTransaction tx = {.in_session = queue->in_session, .activity = activity, .work = work, .state = state};

	return wh_transact(&tx);
}


/* ---- looking at everything ---- */

/* Skips from endpoint to endpoint in the index: endpoints with nothing queued cost nothing. */
static Statement look_statement = {
	"WITH RECURSIVE e AS ("
	" (SELECT endpoint_id, due_at FROM webhooks.queue ORDER BY endpoint_id, due_at, delivery_id LIMIT 1)"
	" UNION ALL"
	" SELECT n.endpoint_id, n.due_at FROM e CROSS JOIN LATERAL"
	"  (SELECT q.endpoint_id, q.due_at FROM webhooks.queue q WHERE q.endpoint_id > e.endpoint_id"
	"   ORDER BY q.endpoint_id, q.due_at, q.delivery_id LIMIT 1) n"
	") SELECT endpoint_id, due_at FROM e"
};

static void
look(void *state)
{
	WhQueue    *queue = state;

	execute(&look_statement, NULL, true, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		pg_uuid_t  *endpoint_id = DatumGetUUIDP(value(row, 1));

		if (queue->shards & (UINT64CONST(1) << wh_shard(endpoint_id)))
			wh_scheduler_wake(queue->scheduler, endpoint_id, DatumGetTimestampTz(value(row, 2)));
	}
}

WhTransactionResult
wh_queue_look(WhQueue *queue)
{
	return transact(queue, "looking for queued deliveries", look, queue);
}


/* ---- fetching ---- */

typedef struct Fetch
{
	WhQueue    *queue;
	WhPick	   *picks;
	int			count;
	void		(*take) (WhDelivery *delivery, void *state);
	void	   *state;
	TimestampTz now;
	int			missing;		/* rows without their event */
	Datum	   *missing_ids;
} Fetch;

static Statement config_statement = {
	"SELECT n, e.state = 'active', e.tenant_id, e.url,"
	" ARRAY(SELECT h.key || ': ' || h.value FROM jsonb_each_text(e.headers) h),"
	" ARRAY(SELECT s.secret FROM webhooks.endpoint_secrets s WHERE s.endpoint_id = e.endpoint_id"
	"  ORDER BY s.expires_at DESC NULLS FIRST, s.created_at DESC),"
	" ARRAY(SELECT coalesce(s.expires_at, 'infinity') FROM webhooks.endpoint_secrets s WHERE s.endpoint_id = e.endpoint_id"
	"  ORDER BY s.expires_at DESC NULLS FIRST, s.created_at DESC),"
	" CASE WHEN e.retry_schedule IS NOT NULL THEN"
	"  ARRAY(SELECT (EXTRACT(epoch FROM w) * 1000)::bigint FROM unnest(e.retry_schedule) WITH ORDINALITY u(w, i) ORDER BY i) END,"
	" e.retry_on, (EXTRACT(epoch FROM e.timeout) * 1000)::integer, e.max_in_flight"
	" FROM unnest($1) WITH ORDINALITY p(endpoint_id, n) JOIN webhooks.endpoints e ON e.endpoint_id = p.endpoint_id",
	1, {UUIDARRAYOID}
};

static char **
text_array(Datum datum, int *count)
{
	Datum	   *items;
	char	  **texts;

	deconstruct_array(DatumGetArrayTypeP(datum), TEXTOID, -1, false, TYPALIGN_INT, &items, NULL, count);
	texts = palloc(Max(1, *count) * sizeof(char *));
	for (int i = 0; i < *count; i++)
		texts[i] = TextDatumGetCString(items[i]);
	return texts;
}

static void
read_keys(HeapTuple row, WhConfig *config)
{
	Datum	   *expiries;
	char	  **secrets = text_array(value(row, 6), &config->key_count);

	deconstruct_array(DatumGetArrayTypeP(value(row, 7)), TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
					  &expiries, NULL, &config->key_count);
	config->keys = palloc0(Max(1, config->key_count) * sizeof(WhSigningKey));
	for (int i = 0; i < config->key_count; i++)
	{
		if (wh_secret_decode(secrets[i], &config->keys[i].key) != WH_SECRET_OK)
			elog(ERROR, "a stored secret cannot be decoded");
		config->keys[i].expires_at = DatumGetTimestampTz(expiries[i]);
	}
}

static WhConfig *
read_config(HeapTuple row)
{
	WhConfig   *config = palloc0(sizeof(WhConfig));
	bool		isnull;
	Datum		datum;

	config->references = 1;
	config->active = DatumGetBool(value(row, 2));
	config->tenant_id = TextDatumGetCString(value(row, 3));
	config->url = TextDatumGetCString(value(row, 4));
	config->headers = text_array(value(row, 5), &config->header_count);
	read_keys(row, config);

	datum = column(row, 8, &isnull);
	if (!isnull)
	{
		Datum	   *waits;

		deconstruct_array(DatumGetArrayTypeP(datum), INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
						  &waits, NULL, &config->wait_count);
		config->waits_ms = palloc(Max(1, config->wait_count) * sizeof(int64));
		for (int i = 0; i < config->wait_count; i++)
			config->waits_ms[i] = DatumGetInt64(waits[i]);
	}
	datum = column(row, 9, &isnull);
	if (!isnull)
		config->has_retry_on = wh_status_set_parse(TextDatumGetCString(datum), &config->retry_on);
	datum = column(row, 10, &isnull);
	config->timeout_ms = isnull ? 0 : DatumGetInt32(datum);
	datum = column(row, 11, &isnull);
	config->max_in_flight = isnull ? 0 : DatumGetInt32(datum);
	return config;
}

static bool endpoints_changed = true;
static Oid	endpoints_relid = InvalidOid;

static void
on_relcache_invalidation(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == endpoints_relid)
		endpoints_changed = true;
}

/* Endpoints' triggers invalidate their relation, so what was cached before the change goes here. */
static void
forget_changed_configs(WhScheduler *scheduler)
{
	static bool registered = false;

	if (!registered)
		CacheRegisterRelcacheCallback(on_relcache_invalidation, (Datum) 0);
	registered = true;
	if (!endpoints_changed)
		return;
	endpoints_changed = false;
	endpoints_relid = get_relname_relid("endpoints", get_namespace_oid("webhooks", false));
	wh_scheduler_forget_configs(scheduler);
}

/* An endpoint whose row is missing is left without options. */
static void
load_configs(Fetch *fetch)
{
	Datum	   *ids = palloc(fetch->count * sizeof(Datum));
	int		   *positions = palloc(fetch->count * sizeof(int));
	int			wanted = 0;
	Datum		argument;

	forget_changed_configs(fetch->queue->scheduler);
	for (int i = 0; i < fetch->count; i++)
		if (fetch->picks[i].endpoint->config == NULL)
		{
			positions[wanted] = i;
			ids[wanted++] = UUIDPGetDatum(&fetch->picks[i].endpoint->endpoint_id);
		}
	if (wanted == 0)
		return;

	argument = array_of(UUIDOID, ids, NULL, wanted);
	execute(&config_statement, &argument, true, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		int			n = (int) DatumGetInt64(value(row, 1));
		MemoryContext before = MemoryContextSwitchTo(fetch->queue->context);

		fetch->picks[positions[n - 1]].endpoint->config = read_config(row);
		MemoryContextSwitchTo(before);
	}
}

/* The row after the last due one is read too: it tells when to come back. */
static Statement fetch_statement = {
	"SELECT p.n, q.delivery_id, q.event_id, q.due_at, q.attempts, e.event_type, e.payload, e.occurred_at"
	" FROM unnest($1, $2, $3, $4) WITH ORDINALITY p(endpoint_id, due_at, delivery_id, lim, n)"
	" CROSS JOIN LATERAL (SELECT * FROM webhooks.queue q"
	"  WHERE q.endpoint_id = p.endpoint_id AND (q.due_at, q.delivery_id) > (p.due_at, p.delivery_id)"
	"  ORDER BY q.due_at, q.delivery_id LIMIT p.lim) q"
	" LEFT JOIN webhooks.events e ON e.event_id = q.event_id AND q.due_at <= $5",
	5, {UUIDARRAYOID, TIMESTAMPTZARRAYOID, UUIDARRAYOID, INT4ARRAYOID, TIMESTAMPTZOID}
};

/* Returns the number of endpoints to read from; positions gets their places among the picks. */
static int
execute_fetch(Fetch *fetch, int *positions)
{
	Datum	   *ids = palloc(fetch->count * sizeof(Datum));
	Datum	   *due = palloc(fetch->count * sizeof(Datum));
	Datum	   *after = palloc(fetch->count * sizeof(Datum));
	Datum	   *limits = palloc(fetch->count * sizeof(Datum));
	Datum		arguments[5];
	int			n = 0;

	for (int i = 0; i < fetch->count; i++)
	{
		WhEndpoint *e = fetch->picks[i].endpoint;
		int			limit = Min(fetch->picks[i].limit, wh_endpoint_cap(e) - e->in_flight);

		/* removed, paused or disabled: a wake comes when that changes */
		e->next_at = DT_NOEND;
		if (e->config == NULL || !e->config->active)
			continue;

		/* picked before its options were known to have changed */
		fetch->picks[i].limit = limit;
		if (limit <= 0)
		{
			e->next_at = fetch->now;
			continue;
		}
		positions[n] = i;
		ids[n] = UUIDPGetDatum(&e->endpoint_id);
		due[n] = TimestampTzGetDatum(e->cursor.due_at);
		after[n] = UUIDPGetDatum(&e->cursor.delivery_id);
		limits[n++] = Int32GetDatum(limit);
	}
	if (n == 0)
		return 0;
	arguments[0] = array_of(UUIDOID, ids, NULL, n);
	arguments[1] = array_of(TIMESTAMPTZOID, due, NULL, n);
	arguments[2] = array_of(UUIDOID, after, NULL, n);
	arguments[3] = array_of(INT4OID, limits, NULL, n);
	arguments[4] = TimestampTzGetDatum(fetch->now);
	execute(&fetch_statement, arguments, true, SPI_OK_SELECT);
	return n;
}

static WhDelivery *
make_delivery(Fetch *fetch, WhEndpoint *endpoint, HeapTuple row)
{
	char	   *event_type = TextDatumGetCString(value(row, 6));
	Jsonb	   *payload = DatumGetJsonbP(value(row, 7));
	int64		occurred_at_us = DatumGetTimestampTz(value(row, 8)) + UNIX_EPOCH_US;
	StringInfoData data;
	WhDelivery *d;

	initStringInfo(&data);
	(void) JsonbToCString(&data, &payload->root, VARSIZE(payload));
	d = MemoryContextAlloc(fetch->queue->context,
						   offsetof(WhDelivery, body) + wh_body_standard_bound(strlen(event_type), data.len));
	memset(d, 0, offsetof(WhDelivery, body));
	d->request.body = d->body;
	d->request.body_len = wh_body_standard(d->body, event_type, occurred_at_us, data.data, data.len);
	d->delivery_id = *DatumGetUUIDP(value(row, 2));
	d->event_id = *DatumGetUUIDP(value(row, 3));
	d->attempt = DatumGetInt32(value(row, 5)) + 1;
	d->endpoint = endpoint;
	pfree(data.data);
	return d;
}

static void
take_row(Fetch *fetch, WhPick *pick, HeapTuple row)
{
	WhEndpoint *e = pick->endpoint;
	TimestampTz due_at = DatumGetTimestampTz(value(row, 4));
	bool		no_event;

	if (due_at > fetch->now)
	{
		e->next_at = Min(e->next_at, due_at);
		return;
	}
	e->cursor.due_at = due_at;
	e->cursor.delivery_id = *DatumGetUUIDP(value(row, 2));
	if (++pick->read == pick->limit)
		e->next_at = fetch->now;	/* there may be more */

	if (hash_search(fetch->queue->in_hand, &e->cursor.delivery_id, HASH_FIND, NULL))
		return;
	(void) column(row, 6, &no_event);
	if (no_event)
		fetch->missing_ids[fetch->missing++] = value(row, 2);
	else
		fetch->take(make_delivery(fetch, e, row), fetch->state);
}

static Statement postpone_statement = {
	"UPDATE webhooks.queue SET due_at = $2 WHERE delivery_id = ANY ($1)",
	2, {UUIDARRAYOID, TIMESTAMPTZOID}
};

/*
 * A dump being restored brings the queue before the events, so a row without its event is left for later, not given up.
 */
static void
postpone_missing(Fetch *fetch)
{
	Datum		arguments[2];

	if (fetch->missing == 0)
		return;
	ereport(LOG,
			(errmsg("webhooks: %d queued deliveries have no event, such as %s; looking again in %d seconds",
					fetch->missing, DatumGetCString(DirectFunctionCall1(uuid_out, fetch->missing_ids[0])),
					MISSING_EVENT_WAIT_S)));
	arguments[0] = array_of(UUIDOID, fetch->missing_ids, NULL, fetch->missing);
	arguments[1] = TimestampTzGetDatum(fetch->now + MISSING_EVENT_WAIT_S * USECS_PER_SEC);
	execute(&postpone_statement, arguments, false, SPI_OK_UPDATE);
}

static void
fetch_rows(void *state)
{
	Fetch	   *fetch = state;
	int		   *positions = palloc(fetch->count * sizeof(int));
	int			rows = 0;

	for (int i = 0; i < fetch->count; i++)
	{
		fetch->picks[i].read = 0;
		rows += fetch->picks[i].limit;
	}
	fetch->missing_ids = palloc(rows * sizeof(Datum));

	load_configs(fetch);
	if (execute_fetch(fetch, positions) == 0)
		return;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];

		take_row(fetch, &fetch->picks[positions[DatumGetInt64(value(row, 1)) - 1]], row);
	}
	postpone_missing(fetch);
}

WhTransactionResult
wh_queue_fetch(WhQueue *queue, WhPick *picks, int count, void (*take) (WhDelivery *, void *), void *state)
{
	Fetch		fetch = {
		.queue = queue, .picks = picks, .count = count, .take = take, .state = state,
		.now = GetCurrentTimestamp()
	};

	return transact(queue, "fetching deliveries", fetch_rows, &fetch);
}


static Statement put_off_statement = {
	"UPDATE webhooks.queue SET due_at = now() + interval '1 hour' WHERE delivery_id ="
	" (SELECT q.delivery_id FROM webhooks.queue q"
	"  WHERE q.endpoint_id = $1 AND (q.due_at, q.delivery_id) > ($2, $3) AND q.due_at <= now()"
	"  ORDER BY q.due_at, q.delivery_id LIMIT 1) RETURNING delivery_id",
	3, {UUIDOID, TIMESTAMPTZOID, UUIDOID}
};

static void
put_off_next(void *state)
{
	WhEndpoint *e = state;
	Datum		arguments[3] = {
		UUIDPGetDatum(&e->endpoint_id), TimestampTzGetDatum(e->cursor.due_at), UUIDPGetDatum(&e->cursor.delivery_id)
	};

	execute(&put_off_statement, arguments, false, SPI_OK_UPDATE_RETURNING);
	for (uint64 i = 0; i < SPI_processed; i++)
		ereport(WARNING,
				(errmsg("webhooks: delivery %s cannot be read; trying again in an hour",
						DatumGetCString(DirectFunctionCall1(uuid_out, value(SPI_tuptable->vals[i], 1))))));
}

WhTransactionResult
wh_queue_put_off_next(WhQueue *queue, WhEndpoint *endpoint)
{
	return transact(queue, "putting off a delivery", put_off_next, endpoint);
}


/* ---- recording ---- */

typedef struct Record
{
	WhQueue    *queue;
	WhDelivery **results;
	int			count;
} Record;

static char *
clean(const char *text, size_t len, bool truncated)
{
	char	   *out = palloc(WH_TEXT_CLEAN_BOUND(len));

	if (GetDatabaseEncoding() == PG_UTF8)
		(void) wh_text_clean(out, text, len, truncated);
	else
		(void) wh_text_clean_ascii(out, text, len);
	return out;
}

typedef struct Header
{
	char	   *name;			/* lower case */
	StringInfoData value;
} Header;

/* Fields of one name become one value, in their order: RFC 9110, 5.3. */
static void
add_header(Header *headers, int *count, char *name, char *text)
{
	for (char *c = name; *c; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	for (int i = 0; i < *count; i++)
		if (strcmp(headers[i].name, name) == 0)
		{
			appendStringInfo(&headers[i].value, ", %s", text);
			return;
		}
	if (*count == STORED_HEADERS_MAX)
		return;
	headers[*count].name = name;
	initStringInfo(&headers[*count].value);
	appendStringInfoString(&headers[(*count)++].value, text);
}

/* The header block as a JSON object. */
static char *
headers_json(const char *block, size_t len)
{
	Header		headers[STORED_HEADERS_MAX];
	int			count = 0;
	const char *end = block + len;
	StringInfoData json;

	for (const char *line = block; line < end;)
	{
		const char *newline = memchr(line, '\n', end - line);
		const char *stop = newline ? newline : end;
		const char *colon = memchr(line, ':', stop - line);

		if (colon)
		{
			const char *from = colon + 1;
			const char *to = stop;

			while (from < to && (*from == ' ' || *from == '\t'))
				from++;
			while (to > from && (to[-1] == '\r' || to[-1] == ' ' || to[-1] == '\t'))
				to--;
			add_header(headers, &count, clean(line, colon - line, false), clean(from, to - from, false));
		}
		line = newline ? newline + 1 : end;
	}

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (int i = 0; i < count; i++)
	{
		if (i > 0)
			appendStringInfoChar(&json, ',');
		escape_json(&json, headers[i].name);
		appendStringInfoChar(&json, ':');
		escape_json(&json, headers[i].value.data);
	}
	appendStringInfoChar(&json, '}');
	return json.data;
}

static Datum
ids_of(Record *record, bool (*which) (const WhDelivery *), int *count)
{
	Datum	   *ids = palloc(record->count * sizeof(Datum));

	*count = 0;
	for (int i = 0; i < record->count; i++)
		if (which(record->results[i]))
			ids[(*count)++] = UUIDPGetDatum(&record->results[i]->delivery_id);
	return array_of(UUIDOID, ids, NULL, *count);
}

static bool
has_ended(const WhDelivery *d)
{
	return d->verdict.outcome != WH_RETRYING;
}

/* Rows that a statement returned were still in the queue. */
static void
mark_in_queue(Record *record)
{
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		id = value(SPI_tuptable->vals[i], 1);
		WhInHand   *entry = hash_search(record->queue->in_hand, DatumGetUUIDP(id), HASH_FIND, NULL);

		if (entry)
			entry->delivery->in_queue = true;
	}
}

static Statement end_statement = {
	"DELETE FROM webhooks.queue WHERE delivery_id = ANY ($1) RETURNING delivery_id",
	1, {UUIDARRAYOID}
};

static void
end_deliveries(Record *record)
{
	int			count;
	Datum		ids = ids_of(record, has_ended, &count);

	if (count == 0)
		return;
	execute(&end_statement, &ids, false, SPI_OK_DELETE_RETURNING);
	mark_in_queue(record);
}

static Statement retry_statement = {
	"UPDATE webhooks.queue q SET due_at = r.due_at, attempts = r.attempts"
	" FROM unnest($1, $2, $3) r(delivery_id, due_at, attempts) WHERE q.delivery_id = r.delivery_id RETURNING q.delivery_id",
	3, {UUIDARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID}
};

static void
reschedule(Record *record)
{
	Datum	   *ids = palloc(record->count * sizeof(Datum));
	Datum	   *due = palloc(record->count * sizeof(Datum));
	Datum	   *attempts = palloc(record->count * sizeof(Datum));
	Datum		arguments[3];
	int			n = 0;

	for (int i = 0; i < record->count; i++)
	{
		WhDelivery *d = record->results[i];

		if (d->verdict.outcome != WH_RETRYING)
			continue;
		ids[n] = UUIDPGetDatum(&d->delivery_id);
		due[n] = TimestampTzGetDatum(d->next_attempt_at);
		attempts[n++] = Int32GetDatum(d->attempt);
	}
	if (n == 0)
		return;
	arguments[0] = array_of(UUIDOID, ids, NULL, n);
	arguments[1] = array_of(TIMESTAMPTZOID, due, NULL, n);
	arguments[2] = array_of(INT4OID, attempts, NULL, n);
	execute(&retry_statement, arguments, false, SPI_OK_UPDATE_RETURNING);
	mark_in_queue(record);
}

static void
cancel_missing(Record *record)
{
	for (int i = 0; i < record->count; i++)
	{
		WhDelivery *d = record->results[i];

		if (!d->in_queue && d->verdict.outcome != WH_SUCCEEDED)
			d->verdict.outcome = WH_CANCELLED;
	}
}

/* The columns of an attempt; a dead letter has the first nine of them, and its reason in place of the URL. */
typedef enum AttemptColumn
{
	A_DELIVERY_ID, A_EVENT_ID, A_ENDPOINT_ID, A_TENANT_ID, A_ATTEMPT, A_STATUS, A_CLASS, A_ERROR, A_AT,
	A_URL, A_DURATION, A_OUTCOME, A_HEADERS, A_BODY, A_ADDRESS, A_NEXT,
	A_COLUMNS
} AttemptColumn;

static const Oid attempt_types[A_COLUMNS] = {
	UUIDOID, UUIDOID, UUIDOID, TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID, TIMESTAMPTZOID,
	TEXTOID, FLOAT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID
};

static Statement attempts_statement = {
	"INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, attempt, status_code, error_class, error,"
	" attempted_at, url, duration_ms, outcome, response_headers, response_body, remote_address, next_attempt_at)"
	" SELECT delivery_id, event_id, endpoint_id, tenant_id, attempt, status_code, error_class, error,"
	" attempted_at, url, duration_ms, outcome, response_headers::jsonb, response_body, remote_address::inet, next_attempt_at"
	" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
	" r(delivery_id, event_id, endpoint_id, tenant_id, attempt, status_code, error_class, error,"
	" attempted_at, url, duration_ms, outcome, response_headers, response_body, remote_address, next_attempt_at)",
	16, {UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TIMESTAMPTZARRAYOID, TEXTARRAYOID, FLOAT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TIMESTAMPTZARRAYOID}
};

/* A delivery that died before and was replayed, and dies again, may still have an old letter if the replay was rolled back by hand. */
static Statement dead_letters_statement = {
	"INSERT INTO webhooks.dead_letters (delivery_id, event_id, endpoint_id, tenant_id, attempts, last_status_code, error_class,"
	" last_error, dead_at, reason)"
	" SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (delivery_id) DO NOTHING",
	10, {UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TIMESTAMPTZARRAYOID, TEXTARRAYOID}
};

typedef struct Columns
{
	Datum	   *values[A_COLUMNS];
	bool	   *nulls[A_COLUMNS];
	int			count;
} Columns;

static void
make_columns(Columns *columns, int room)
{
	columns->count = 0;
	for (int c = 0; c < A_COLUMNS; c++)
	{
		columns->values[c] = palloc0(room * sizeof(Datum));
		columns->nulls[c] = palloc0(room * sizeof(bool));
	}
}

static void
put(Columns *columns, AttemptColumn c, Datum datum, bool isnull)
{
	columns->values[c][columns->count] = datum;
	columns->nulls[c][columns->count] = isnull;
}

static void
put_text(Columns *columns, AttemptColumn c, const char *text)
{
	put(columns, c, text ? CStringGetTextDatum(text) : (Datum) 0, text == NULL);
}

/* What attempts and dead letters have in common; at is attempted_at or dead_at. */
static void
put_common(Columns *columns, const WhDelivery *d, TimestampTz at)
{
	const WhRequest *r = &d->request;

	put(columns, A_DELIVERY_ID, UUIDPGetDatum(&d->delivery_id), false);
	put(columns, A_EVENT_ID, UUIDPGetDatum(&d->event_id), false);
	put(columns, A_ENDPOINT_ID, UUIDPGetDatum(&d->endpoint->endpoint_id), false);
	put_text(columns, A_TENANT_ID, d->config->tenant_id);
	put(columns, A_ATTEMPT, Int32GetDatum(d->attempt), false);
	put(columns, A_STATUS, Int32GetDatum(r->answer.status), r->answer.status == 0);
	put_text(columns, A_CLASS, wh_error_class_name(r->answer.error_class));
	put_text(columns, A_ERROR, r->error[0] ? clean(r->error, strlen(r->error), false) : NULL);
	put(columns, A_AT, TimestampTzGetDatum(at), false);
}

static void
put_attempt(Columns *columns, const WhDelivery *d)
{
	const WhRequest *r = &d->request;
	bool		answered = r->answer.status != 0;

	put_common(columns, d, d->attempted_at);
	put_text(columns, A_URL, d->config->url);
	put(columns, A_DURATION, Float4GetDatum((float4) (r->duration_us / 1000.0)), false);
	put_text(columns, A_OUTCOME, wh_outcome_name(d->verdict.outcome));
	put_text(columns, A_HEADERS, answered ? headers_json(r->response_headers, r->response_headers_len) : NULL);
	put_text(columns, A_BODY, answered ? clean(r->response_body, r->response_body_len, r->response_body_cut) : NULL);
	put_text(columns, A_ADDRESS, r->remote_address[0] ? r->remote_address : NULL);
	put(columns, A_NEXT, TimestampTzGetDatum(d->next_attempt_at), d->verdict.outcome != WH_RETRYING);
	columns->count++;
}

static void
insert_columns(Statement *statement, Columns *columns)
{
	Datum		arguments[A_COLUMNS];

	for (int c = 0; c < statement->nargs; c++)
		arguments[c] = array_of(attempt_types[c], columns->values[c], columns->nulls[c], columns->count);
	execute(statement, arguments, false, SPI_OK_INSERT);
}

static void
insert_attempts(Record *record)
{
	Columns		columns;

	make_columns(&columns, record->count);
	for (int i = 0; i < record->count; i++)
		put_attempt(&columns, record->results[i]);
	insert_columns(&attempts_statement, &columns);
}

static void
insert_dead_letters(Record *record)
{
	Columns		columns;

	make_columns(&columns, record->count);
	for (int i = 0; i < record->count; i++)
	{
		WhDelivery *d = record->results[i];

		if (d->verdict.outcome != WH_DEAD_LETTER)
			continue;
		put_common(&columns, d, d->attempted_at + d->request.duration_us);
		put_text(&columns, A_URL, wh_dead_reason_name(d->verdict.reason));
		columns.count++;
	}
	if (columns.count > 0)
		insert_columns(&dead_letters_statement, &columns);
}

static Statement gone_statement = {
	"UPDATE webhooks.endpoints SET state = 'disabled', disabled_reason = 'gone', updated_at = now()"
	" WHERE endpoint_id = ANY ($1) AND state <> 'disabled'",
	1, {UUIDARRAYOID}
};

static void
disable_gone(Record *record)
{
	Datum	   *ids = palloc(record->count * sizeof(Datum));
	Datum		argument;
	int			count = 0;

	for (int i = 0; i < record->count; i++)
		if (record->results[i]->verdict.reason == WH_DEAD_GONE)
			ids[count++] = UUIDPGetDatum(&record->results[i]->endpoint->endpoint_id);
	if (count == 0)
		return;
	argument = array_of(UUIDOID, ids, NULL, count);
	execute(&gone_statement, &argument, false, SPI_OK_UPDATE);
}

static void
record_results(void *state)
{
	Record	   *record = state;

	end_deliveries(record);
	reschedule(record);
	cancel_missing(record);
	insert_attempts(record);
	insert_dead_letters(record);
	disable_gone(record);
}

WhTransactionResult
wh_queue_record(WhQueue *queue, WhDelivery **results, int count)
{
	Record		record = {.queue = queue, .results = results, .count = count};

	return transact(queue, "recording attempts", record_results, &record);
}


/* ---- partitions ---- */

typedef struct Maintenance
{
	bool		done;
	bool		needed;
} Maintenance;

static Statement maintain_statement = {
	"SELECT webhooks.maintain() IS NULL, EXISTS (SELECT FROM webhooks.endpoints)"
};

static void
maintain(void *state)
{
	Maintenance *maintenance = state;

	execute(&maintain_statement, NULL, false, SPI_OK_SELECT);
	maintenance->done = DatumGetBool(value(SPI_tuptable->vals[0], 1));
	maintenance->needed = DatumGetBool(value(SPI_tuptable->vals[0], 2));
}

WhTransactionResult
wh_queue_maintain(WhQueue *queue, bool *needed)
{
	WhTransactionResult result;
	Maintenance maintenance = {0};

	do
		result = transact(queue, "making partitions", maintain, &maintenance);
	while (result == WH_TRANSACTION_DONE && !maintenance.done);
	*needed = maintenance.needed;
	return result;
}
