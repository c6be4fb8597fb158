/*
 * Everything in a body comes from the event and the endpoint's options, so that every attempt sends
 * the same bytes.
 *
 * No function of a user runs here: what an API version makes of the payload was made by dispatch.
 * An event that lacks the endpoint's version (it was dispatched before the endpoint wanted it) is
 * sent as it is, and does not claim the version.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/body.h"
#include "core/event_type.h"
#include "core/header.h"
#include "core/id.h"
#include "executor/spi.h"
#include "secret.h"
#include "tables.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "worker/delivery.h"
#include "worker/reader.h"
#include "worker/statement.h"

#define UNIX_EPOCH_US ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)
#define BEFORE_CONTENT_TYPE "Content-Type: "

/* What a delivery is put together of; good until the next row is read. */
typedef struct Parts
{
	WhBodyFormat format;
	WhBodyEvent body;
	const char *content_type;
	char		id[WH_ID_TEXT_SIZE];
	char	   *headers[WH_HEADERS_MAX];	/* as libcurl takes them */
	int			header_count;
} Parts;


/* ---- the body ---- */

/* The payload as the endpoint wants it. */
static Jsonb *
choose_payload(Parts *parts, const WhConfig *config, TupleTableSlot *event)
{
	bool		isnull = true;
	Datum		versions = config->api_version ? slot_getattr(event, EVENTS_VERSIONS, &isnull) : 0;

	if (!isnull)
	{
		Jsonb	   *object = DatumGetJsonbP(versions);
		JsonbValue *version = getKeyJsonValueFromContainer(&object->root, config->api_version,
														   strlen(config->api_version), NULL);

		if (version)
		{
			parts->body.api_version = config->api_version;
			return JsonbValueToJsonb(version);
		}
	}
	return DatumGetJsonbP(wh_slot_get(event, EVENTS_PAYLOAD));
}

static void
read_body(Parts *parts, StringInfo scratch, const WhConfig *config, TupleTableSlot *event)
{
	WhBodyEvent *body = &parts->body;
	bool		isnull;
	Datum		raw = slot_getattr(event, EVENTS_BODY, &isnull);

	if (!isnull)
	{
		bytea	   *bytes = DatumGetByteaPP(raw);

		parts->format = WH_BODY_RAW;
		parts->content_type = TextDatumGetCString(wh_slot_get(event, EVENTS_CONTENT_TYPE));
		body->data = VARDATA_ANY(bytes);
		body->data_len = VARSIZE_ANY_EXHDR(bytes);
	}
	else
	{
		Jsonb	   *payload = choose_payload(parts, config, event);

		resetStringInfo(scratch);
		(void) JsonbToCString(scratch, &payload->root, VARSIZE(payload));
		parts->format = config->payload_format;
		parts->content_type = wh_body_content_type(config->payload_format);
		body->data = scratch->data;
		body->data_len = scratch->len;
	}
	wh_id_text(parts->id, DatumGetUUIDP(wh_slot_get(event, EVENTS_EVENT_ID))->data);
	body->id = parts->id;
	body->tenant_id = config->tenant_id;
	body->event_type = TextDatumGetCString(wh_slot_get(event, EVENTS_EVENT_TYPE));
	body->occurred_at_us = DatumGetTimestampTz(wh_slot_get(event, EVENTS_OCCURRED_AT)) +
		UNIX_EPOCH_US;
}


/* ---- headers ---- */

static void
refuse_authorization(const Parts *parts, const char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the Authorization header of event %s cannot be read: %s", parts->id, reason)));
}

static WhStatement secret_statement = {
	"SELECT secret, encryption_key_id FROM webhooks.event_secrets WHERE event_id = $1",
	1, {UUIDOID}
};

/* The caller wipes it. */
static char *
open_authorization(const Parts *parts, TupleTableSlot *event)
{
	const char *reason = NULL;
	Datum		event_id = wh_slot_get(event, EVENTS_EVENT_ID);
	WhSealed	sealed = {0};
	Datum		key_id;
	bool		is_plain;
	char	   *value;

	wh_statement_execute(&secret_statement, &event_id, true, SPI_OK_SELECT);
	if (SPI_processed == 0)
		refuse_authorization(parts, "its value is missing");
	sealed.text = TextDatumGetCString(wh_value(SPI_tuptable->vals[0], 1));
	key_id = wh_column(SPI_tuptable->vals[0], 2, &is_plain);
	if (!is_plain)
		sealed.key_id = TextDatumGetCString(key_id);
	SPI_freetuptable(SPI_tuptable);
	value = wh_secret_open(&sealed,
						   wh_secret_owner("event", DatumGetUUIDP(event_id), "authorization"),
						   &reason);
	if (value == NULL)
		refuse_authorization(parts, reason);
	return value;
}

/* "Name;" is what libcurl takes for a header without a value. */
static void
add_header(Parts *parts, const char *name, const char *value)
{
	if (parts->header_count == WH_HEADERS_MAX)
		return;
	parts->headers[parts->header_count++] = value[strspn(value, " \t")] == '\0'
		? psprintf("%s;", name) : psprintf("%s: %s", name, value);
}

static void
read_headers(Parts *parts, TupleTableSlot *event)
{
	bool		isnull;
	Datum		headers = slot_getattr(event, EVENTS_HEADERS, &isnull);
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *name = NULL;

	if (isnull)
		return;
	iterator = JsonbIteratorInit(&DatumGetJsonbP(headers)->root);
	while ((token = JsonbIteratorNext(&iterator, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE &&
				 wh_header_same_name(name, strlen(name), "authorization", strlen("authorization")))
		{
			char	   *value = open_authorization(parts, event);

			add_header(parts, name, value);
			wh_secret_wipe(value);
		}
		else if (token == WJB_VALUE && v.type == jbvString)
			add_header(parts, name, pnstrdup(v.val.string.val, v.val.string.len));
	}
}


/* ---- putting it together ---- */

/* The body, the list of headers, and the text of those, one after the other. */
static WhDelivery *
assemble(MemoryContext context, const Parts *parts)
{
	Size		list_at = MAXALIGN(offsetof(WhDelivery, body) +
								   wh_body_bound(parts->format, &parts->body));
	Size		size = list_at + parts->header_count * sizeof(char *) +
		sizeof(BEFORE_CONTENT_TYPE) + strlen(parts->content_type) +
		strlen(parts->body.event_type) + 1;
	WhDelivery *d;
	char	   *text;

	for (int i = 0; i < parts->header_count; i++)
		size += strlen(parts->headers[i]) + 1;
	d = MemoryContextAllocExtended(context, size, MCXT_ALLOC_HUGE);
	memset(d, 0, offsetof(WhDelivery, body));
	d->request.body = d->body;
	d->request.body_len = wh_body_write(parts->format, d->body, &parts->body);

	d->event_headers = (const char **) ((char *) d + list_at);
	d->event_header_count = parts->header_count;
	text = (char *) (d->event_headers + parts->header_count);
	for (int i = 0; i < parts->header_count; i++)
	{
		d->event_headers[i] = text;
		text = stpcpy(text, parts->headers[i]) + 1;
		wh_secret_wipe(parts->headers[i]);
	}
	d->content_type = text;
	text = stpcpy(stpcpy(text, BEFORE_CONTENT_TYPE), parts->content_type) + 1;
	d->event_type = text;
	(void) stpcpy(text, parts->body.event_type);
	return d;
}

WhDelivery *
wh_delivery_make(MemoryContext context, StringInfo scratch, WhEndpoint *endpoint,
				 TupleTableSlot *row, TupleTableSlot *event)
{
	Parts		parts;
	WhDelivery *d;

	memset(&parts.body, 0, sizeof(parts.body));
	parts.header_count = 0;
	read_body(&parts, scratch, endpoint->config, event);
	read_headers(&parts, event);
	d = assemble(context, &parts);
	d->delivery_id = *DatumGetUUIDP(wh_slot_get(row, QUEUE_DELIVERY_ID));
	d->event_id = *DatumGetUUIDP(wh_slot_get(row, QUEUE_EVENT_ID));
	d->attempt = DatumGetInt32(wh_slot_get(row, QUEUE_ATTEMPTS)) + 1;
	d->row = row->tts_tid;
	d->due_at = DatumGetTimestampTz(wh_slot_get(row, QUEUE_DUE_AT));
	d->operational = wh_event_type_is_operational(parts.body.event_type);
	d->endpoint = endpoint;
	return d;
}
