/*
 * Writes down what came of a batch of requests, in one transaction: all of it or nothing, save the
 * deliveries whose rows somebody else's transaction holds. Those are left for later: to wait for
 * it would hold up everybody else's.
 *
 * What every delivery needs (its queue row deleted, its attempt inserted) is done on the rows
 * themselves; what only failures need is SQL. A row that is no longer where it was fetched was
 * changed or removed by somebody else meanwhile, and is looked up by its id.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/text.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "storage/bufmgr.h"
#include "tables.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/clean.h"
#include "worker/health.h"
#include "worker/queue.h"
#include "worker/reader.h"
#include "worker/statement.h"

#define STORED_HEADERS_MAX 100

typedef struct Record
{
	WhQueue    *queue;
	WhDelivery **results;
	int			count;
} Record;


/* ---- the queue's rows ---- */

/* Deletes the row where it was fetched, if it still is there and nobody holds it. */
static TM_Result
delete_in_place(Relation rel, BlockNumber end, TupleTableSlot *slot, const WhDelivery *d)
{
	ItemPointerData row = d->row;
	TM_FailureData failure;

	if (!wh_row_at(rel, end, &row, QUEUE_DELIVERY_ID, &d->delivery_id, slot))
		return TM_Deleted;
	return table_tuple_delete(rel, &row, GetCurrentCommandId(true), GetActiveSnapshot(),
							  InvalidSnapshot, false, &failure, false);
}

static void
end_in_place(Record *record)
{
	Relation	rel = table_open(wh_table("queue"), RowExclusiveLock);
	BlockNumber end = RelationGetNumberOfBlocks(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	for (int i = 0; i < record->count; i++)
	{
		WhDelivery *d = record->results[i];
		TM_Result	result;

		if (d->verdict.outcome == WH_RETRYING)
			continue;
		result = delete_in_place(rel, end, slot, d);
		d->ended = d->in_queue = result == TM_Ok;
		d->held = result == TM_BeingModified;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
}

/* Runs a statement for the deliveries that are wanted; false: there are none. */
static bool
execute_for(Record *record, WhStatement *statement, bool (*wanted) (const WhDelivery *), int expected)
{
	Datum	   *ids = palloc(record->count * sizeof(Datum));
	Datum		argument;
	int			n = 0;

	for (int i = 0; i < record->count; i++)
		if (wanted(record->results[i]))
			ids[n++] = UUIDPGetDatum(&record->results[i]->delivery_id);
	if (n == 0)
		return false;
	argument = wh_array(UUIDOID, ids, NULL, n);
	wh_statement_execute(statement, &argument, false, expected);
	return true;
}

/* That of a row which the last statement returned. */
static WhDelivery *
returned(const Record *record, uint64 row)
{
	Datum		id = wh_value(SPI_tuptable->vals[row], 1);
	WhInHand   *entry = hash_search(record->queue->in_hand, DatumGetUUIDP(id), HASH_FIND, NULL);

	return entry->delivery;
}

/* It was replayed while its request was under way: that attempt does not end it. */
static void
start_anew(WhDelivery *d, TimestampTz due_at)
{
	d->requeued_at = due_at;
	if (d->verdict.outcome == WH_SUCCEEDED)
		return;
	d->verdict.outcome = WH_RETRYING;
	d->next_attempt_at = due_at;
}

static bool
is_not_found(const WhDelivery *d)
{
	return !d->in_queue && !d->held;
}

static WhStatement lock_statement = {
	"SELECT delivery_id, due_at FROM webhooks.queue WHERE delivery_id = ANY ($1)"
	" FOR UPDATE SKIP LOCKED",
	1, {UUIDARRAYOID}
};

static WhStatement find_statement = {
	"SELECT delivery_id FROM webhooks.queue WHERE delivery_id = ANY ($1)",
	1, {UUIDARRAYOID}
};

/* The rows that were not deleted at once. What is found but cannot be locked is held. */
static void
lock_rows(Record *record)
{
	if (!execute_for(record, &lock_statement, is_not_found, SPI_OK_SELECT))
		return;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		WhDelivery *d = returned(record, i);
		TimestampTz due_at = DatumGetTimestampTz(wh_value(SPI_tuptable->vals[i], 2));

		d->in_queue = true;
		if (due_at != d->due_at)
			start_anew(d, due_at);
	}
	if (!execute_for(record, &find_statement, is_not_found, SPI_OK_SELECT))
		return;
	for (uint64 i = 0; i < SPI_processed; i++)
		returned(record, i)->held = true;
}

/* Moves what is held behind the others, and leaves it out. */
static void
leave_held(Record *record)
{
	int			kept = 0;

	for (int i = 0; i < record->count; i++)
	{
		WhDelivery *d = record->results[i];

		if (d->held)
			continue;
		record->results[i] = record->results[kept];
		record->results[kept++] = d;
	}
	record->count = kept;
}

/* Its row is locked, and nobody has asked for it to be sent once more. */
static bool
is_to_be_settled(const WhDelivery *d)
{
	return d->in_queue && !d->ended && d->requeued_at == DT_NOEND;
}

static bool
is_to_be_ended(const WhDelivery *d)
{
	return is_to_be_settled(d) && d->verdict.outcome != WH_RETRYING;
}

static WhStatement end_statement = {
	"DELETE FROM webhooks.queue WHERE delivery_id = ANY ($1)",
	1, {UUIDARRAYOID}
};

static WhStatement retry_statement = {
	"UPDATE webhooks.queue q SET due_at = r.due_at, attempts = r.attempts"
	" FROM unnest($1, $2, $3) r(delivery_id, due_at, attempts)"
	" WHERE q.delivery_id = r.delivery_id",
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

		if (!is_to_be_settled(d) || d->verdict.outcome != WH_RETRYING)
			continue;
		ids[n] = UUIDPGetDatum(&d->delivery_id);
		due[n] = TimestampTzGetDatum(d->next_attempt_at);
		attempts[n++] = Int32GetDatum(d->attempt);
	}
	if (n == 0)
		return;
	arguments[0] = wh_array(UUIDOID, ids, NULL, n);
	arguments[1] = wh_array(TIMESTAMPTZOID, due, NULL, n);
	arguments[2] = wh_array(INT4OID, attempts, NULL, n);
	wh_statement_execute(&retry_statement, arguments, false, SPI_OK_UPDATE);
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

/* Ends each delivery, or puts it off to its next attempt. */
static void
settle_rows(Record *record)
{
	/* it may have been tried before, and rolled back or left */
	for (int i = 0; i < record->count; i++)
	{
		WhDelivery *d = record->results[i];

		d->in_queue = d->ended = d->held = false;
		d->requeued_at = DT_NOEND;
	}
	end_in_place(record);
	lock_rows(record);
	leave_held(record);
	(void) execute_for(record, &end_statement, is_to_be_ended, SPI_OK_DELETE);
	reschedule(record);
	cancel_missing(record);
}


/* ---- attempts ---- */

typedef struct Header
{
	char	   *name;			/* lower case */
	char	   *value;
} Header;

/* Fields of one name become one value, in their order: RFC 9110, 5.3. Returns the new count. */
static int
add_header(Header *headers, int count, Header new)
{
	for (char *c = new.name; *c; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	for (int i = 0; i < count; i++)
		if (strcmp(headers[i].name, new.name) == 0)
		{
			headers[i].value = psprintf("%s, %s", headers[i].value, new.value);
			return count;
		}
	if (count < STORED_HEADERS_MAX)
		headers[count++] = new;
	return count;
}

/* Cuts the header block, in place, into its fields; returns their number. */
static int
parse_headers(char *block, Header *headers)
{
	int			count = 0;

	for (char *line = block, *next; line; line = next)
	{
		char	   *end = strchr(line, '\n');
		char	   *text;

		next = end ? end + 1 : NULL;
		if (end == NULL)
			end = line + strlen(line);
		while (end > line && (end[-1] == '\r' || end[-1] == ' ' || end[-1] == '\t'))
			end--;
		*end = '\0';
		text = strchr(line, ':');
		if (text == NULL)
			continue;
		*text++ = '\0';
		text += strspn(text, " \t");
		count = add_header(headers, count, (Header) {line, text});
	}
	return count;
}

static JsonbValue
json_string(char *text)
{
	return (JsonbValue)
	{
		.type = jbvString, .val.string = {.val = text, .len = strlen(text)}
	};
}

/* The order of keys in a jsonb: the shorter first. */
static int
compare_keys(const void *a, const void *b)
{
	const JsonbValue *key_a = &((const JsonbPair *) a)->key;
	const JsonbValue *key_b = &((const JsonbPair *) b)->key;

	if (key_a->val.string.len != key_b->val.string.len)
		return key_a->val.string.len > key_b->val.string.len ? 1 : -1;
	return memcmp(key_a->val.string.val, key_b->val.string.val, key_a->val.string.len);
}

static Datum
headers_json(const char *block, size_t len)
{
	Header		headers[STORED_HEADERS_MAX];
	JsonbPair	pairs[STORED_HEADERS_MAX];
	int			count = parse_headers(wh_clean(block, len, false), headers);
	JsonbValue	object = {.type = jbvObject, .val.object = {.nPairs = count, .pairs = pairs}};

	for (int i = 0; i < count; i++)
		pairs[i] = (JsonbPair)
	{
		json_string(headers[i].name), json_string(headers[i].value), i
	};
	qsort(pairs, count, sizeof(JsonbPair), compare_keys);
	return JsonbPGetDatum(JsonbValueToJsonb(&object));
}

/* What lets the sender in is not to be stored because a receiver says it back. */
static void
mask_authorization(const WhRequest *r)
{
	static const char name[] = "Authorization: ";

	for (const char *const *h = r->headers; h && *h; h++)
	{
		const char *parts[2];	/* the value, and what follows its scheme */

		if (pg_strncasecmp(*h, name, strlen(name)) != 0)
			continue;
		parts[0] = *h + strlen(name);
		parts[1] = parts[0] + strcspn(parts[0], " ");
		parts[1] += strspn(parts[1], " ");
		for (int i = 0; i < lengthof(parts); i++)
		{
			/* both stand in the request's own copy of the answer */
			wh_text_mask((char *) r->response_headers, r->response_headers_len, parts[i]);
			wh_text_mask((char *) r->response_body, r->response_body_len, parts[i]);
		}
	}
}

static void
set_answer(WhInserter *row, const WhRequest *r)
{
	mask_authorization(r);
	wh_inserter_set(row, ATTEMPTS_STATUS_CODE, Int32GetDatum(r->answer.status));
	wh_inserter_set(row, ATTEMPTS_RESPONSE_HEADERS,
					headers_json(r->response_headers, r->response_headers_len));
	wh_inserter_set_text(row, ATTEMPTS_RESPONSE_BODY,
						 wh_clean(r->response_body, r->response_body_len, r->response_body_cut));
}

static void
insert_attempt(WhInserter *row, const WhDelivery *d)
{
	const WhRequest *r = &d->request;

	wh_inserter_row(row);
	wh_inserter_set(row, ATTEMPTS_DELIVERY_ID, UUIDPGetDatum(&d->delivery_id));
	wh_inserter_set(row, ATTEMPTS_EVENT_ID, UUIDPGetDatum(&d->event_id));
	wh_inserter_set(row, ATTEMPTS_ENDPOINT_ID, UUIDPGetDatum(&d->endpoint->endpoint_id));
	wh_inserter_set_text(row, ATTEMPTS_TENANT_ID, d->config->tenant_id);
	wh_inserter_set_text(row, ATTEMPTS_URL, d->config->url);
	wh_inserter_set(row, ATTEMPTS_ATTEMPT, Int32GetDatum(d->attempt));
	wh_inserter_set(row, ATTEMPTS_ATTEMPTED_AT, TimestampTzGetDatum(d->attempted_at));
	wh_inserter_set(row, ATTEMPTS_DURATION_MS, Float4GetDatum((float4) (r->duration_us / 1000.0)));
	wh_inserter_set_text(row, ATTEMPTS_OUTCOME, wh_outcome_name(d->verdict.outcome));
	wh_inserter_set_text(row, ATTEMPTS_ERROR_CLASS, wh_error_class_name(r->answer.error_class));
	wh_inserter_set_text(row, ATTEMPTS_ERROR, wh_error_text(d));
	if (r->answer.status != 0)
		set_answer(row, r);
	if (r->remote_address[0])
		wh_inserter_set(row, ATTEMPTS_REMOTE_ADDRESS,
						DirectFunctionCall1(inet_in, CStringGetDatum(r->remote_address)));
	if (d->verdict.outcome == WH_RETRYING)
		wh_inserter_set(row, ATTEMPTS_NEXT_ATTEMPT_AT, TimestampTzGetDatum(d->next_attempt_at));
}

static void
insert_attempts(Record *record)
{
	Relation	parent = table_open(wh_table("attempts"), RowExclusiveLock);
	WhPartitionInserter *inserter = wh_partition_inserter_open(parent);

	for (int i = 0; i < record->count; i++)
	{
		const WhDelivery *d = record->results[i];

		insert_attempt(wh_partition_inserter(inserter, TimestampTzGetDatum(d->attempted_at)), d);
	}
	wh_partition_inserter_close(inserter);
	table_close(parent, NoLock);
}


/* ---- failures ---- */

static WhStatement dead_letters_statement = {
	"INSERT INTO webhooks.dead_letters (delivery_id, event_id, endpoint_id, tenant_id, attempts,"
	" last_status_code, error_class, last_error, dead_at, reason)"
	" SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
	" ON CONFLICT (delivery_id) DO NOTHING",
	10, {UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID}
};

static const Oid dead_letter_types[10] = {
	UUIDOID, UUIDOID, UUIDOID, TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID
};

typedef struct Columns
{
	Datum	   *values[lengthof(dead_letter_types)];
	bool	   *nulls[lengthof(dead_letter_types)];
} Columns;

static void
put_dead_letter(Columns *columns, int n, const WhDelivery *d)
{
	const WhAnswer *answer = &d->request.answer;
	NullableDatum row[lengthof(dead_letter_types)] = {
		{UUIDPGetDatum(&d->delivery_id)}, {UUIDPGetDatum(&d->event_id)},
		{UUIDPGetDatum(&d->endpoint->endpoint_id)}, wh_text_or_null(d->config->tenant_id),
		{Int32GetDatum(d->attempt)}, {Int32GetDatum(answer->status), answer->status == 0},
		wh_text_or_null(wh_error_class_name(answer->error_class)),
		wh_text_or_null(wh_error_text(d)),
		{TimestampTzGetDatum(d->attempted_at + d->request.duration_us)},
		wh_text_or_null(wh_dead_reason_name(d->verdict.reason))
	};

	for (int c = 0; c < lengthof(dead_letter_types); c++)
	{
		columns->values[c][n] = row[c].value;
		columns->nulls[c][n] = row[c].isnull;
	}
}

static void
insert_dead_letters(Record *record)
{
	Columns		columns;
	Datum		arguments[lengthof(dead_letter_types)];
	int			n = 0;

	for (int c = 0; c < lengthof(dead_letter_types); c++)
	{
		columns.values[c] = palloc0(record->count * sizeof(Datum));
		columns.nulls[c] = palloc0(record->count * sizeof(bool));
	}
	for (int i = 0; i < record->count; i++)
		if (record->results[i]->verdict.outcome == WH_DEAD_LETTER)
			put_dead_letter(&columns, n++, record->results[i]);
	if (n == 0)
		return;
	for (int c = 0; c < lengthof(dead_letter_types); c++)
		arguments[c] = wh_array(dead_letter_types[c], columns.values[c], columns.nulls[c], n);
	wh_statement_execute(&dead_letters_statement, arguments, false, SPI_OK_INSERT);
}

static void
record_results(void *state)
{
	Record	   *record = state;

	settle_rows(record);
	insert_attempts(record);
	insert_dead_letters(record);
	wh_health_note(record->results, record->count);
}

WhTransactionResult
wh_queue_record(WhQueue *queue, WhDelivery **results, int count, int *recorded)
{
	Record		record = {.queue = queue, .results = results, .count = count};
	WhTransaction tx = {
		.in_session = queue->in_session, .activity = "recording attempts",
		.work = record_results, .state = &record, .flush_later = true
	};
	WhTransactionResult result = wh_transact(&tx);

	*recorded = record.count;
	if (result == WH_TRANSACTION_DONE)
		wh_health_noted(results, record.count);
	return result;
}
