/*
 * dispatch(): one event row and a queue row for each endpoint that takes it, in the caller's
 * transaction.
 *
 * It is called once for every change an application makes, so it runs no SQL of its own. It writes
 * nothing until every argument is found good.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "core/event_type.h"
#include "core/id.h"
#include "id.h"
#include "miscadmin.h"
#include "settings.h"
#include "sql/order.h"
#include "sql/session.h"
#include "sql/subscription.h"
#include "tables.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "wake.h"

#define ORDERING_KEY_MAX 512

PG_FUNCTION_INFO_V1(wh_sql_dispatch);

/* The arguments of dispatch, in their order. */
typedef enum DispatchArgument
{
	EVENT_TYPE, PAYLOAD, TENANT_ID, ENDPOINT_IDS, IDEMPOTENCY_KEY, ORDERING_KEY, COALESCE_KEY,
	OCCURRED_AT, DELIVER_AT, EXPIRES_AT, HEADERS
} DispatchArgument;

typedef struct Event
{
	pg_uuid_t	event_id;
	char	   *tenant_id;
	char	   *event_type;
	char	   *ordering_key;	/* NULL: none */
	Datum		payload;
	TimestampTz occurred_at;
	TimestampTz created_at;
	TimestampTz due_at;
} Event;


/* ---- writing ---- */

static void
insert_event(const Event *event)
{
	Relation	parent = table_open(wh_table("events"), RowExclusiveLock);
	Relation	partition = wh_open_partition(parent, UUIDPGetDatum(&event->event_id),
											  RowExclusiveLock);
	WhInserter *inserter = wh_inserter_open(partition);

	wh_inserter_row(inserter);
	wh_inserter_set(inserter, EVENTS_EVENT_ID, UUIDPGetDatum(&event->event_id));
	wh_inserter_set_text(inserter, EVENTS_TENANT_ID, event->tenant_id);
	wh_inserter_set_text(inserter, EVENTS_EVENT_TYPE, event->event_type);
	wh_inserter_set(inserter, EVENTS_PAYLOAD, event->payload);
	wh_inserter_set(inserter, EVENTS_OCCURRED_AT, TimestampTzGetDatum(event->occurred_at));
	wh_inserter_set(inserter, EVENTS_CREATED_AT, TimestampTzGetDatum(event->created_at));
	wh_inserter_set_text(inserter, EVENTS_ORDERING_KEY, event->ordering_key);
	wh_inserter_close(inserter);
	table_close(partition, NoLock);
	table_close(parent, NoLock);
}

/* What webhooks.lane says. False: the delivery has none. */
static bool
find_lane(const Event *event, const WhSubscriber *subscriber, int64 *lane)
{
	switch (subscriber->ordering)
	{
		case WH_ORDERING_NONE:
			return false;
		case WH_ORDERING_ENDPOINT:
			*lane = 0;
			return true;
		case WH_ORDERING_KEY:
			if (event->ordering_key)
				*lane = (int64) wh_hash_ordering_key(event->ordering_key);
			return event->ordering_key != NULL;
	}
	return false;
}

static void
enqueue(const Event *event, const WhSubscriber *subscribers, int count)
{
	Relation	queue = table_open(wh_table("queue"), RowExclusiveLock);
	WhInserter *inserter = wh_inserter_open(queue);
	pg_uuid_t  *delivery_ids = palloc_extended(count * sizeof(pg_uuid_t), MCXT_ALLOC_HUGE);
	WhWake		wake = {.due_at = event->due_at, .tenant = wh_tenant_hash(event->tenant_id)};

	for (int i = 0; i < count; i++)
	{
		const pg_uuid_t *endpoint_id = &subscribers[i].endpoint_id;
		int64		lane;

		wh_id_delivery(delivery_ids[i].data, event->event_id.data, endpoint_id->data);
		wh_inserter_row(inserter);
		wh_inserter_set(inserter, QUEUE_DELIVERY_ID, UUIDPGetDatum(&delivery_ids[i]));
		wh_inserter_set(inserter, QUEUE_EVENT_ID, UUIDPGetDatum(&event->event_id));
		wh_inserter_set(inserter, QUEUE_ENDPOINT_ID, UUIDPGetDatum(endpoint_id));
		wh_inserter_set(inserter, QUEUE_DUE_AT, TimestampTzGetDatum(event->due_at));
		wh_inserter_set(inserter, QUEUE_ATTEMPTS, Int32GetDatum(0));
		if (find_lane(event, &subscribers[i], &lane))
			wh_inserter_set(inserter, QUEUE_LANE, Int64GetDatum(lane));
		wake.endpoint_id = *endpoint_id;
		wh_wake_endpoint(&wake);
	}
	wh_inserter_close(inserter);
	table_close(queue, NoLock);
}


/* ---- who gets it ---- */

static bool
contains(const WhSubscriber *subscribers, int count, const pg_uuid_t *id)
{
	for (int i = 0; i < count; i++)
		if (memcmp(&subscribers[i].endpoint_id, id, UUID_LEN) == 0)
			return true;
	return false;
}

/*
 * Just the endpoints named, whatever they subscribed to. Each must be the tenant's; a disabled one
 * takes nothing new.
 */
static int
take_named(const char *tenant_id, ArrayType *named, const WhSubscriber **subscribers)
{
	Datum	   *items;
	bool	   *nulls;
	int			named_count;
	int			count = 0;
	WhSubscriber *taken;

	deconstruct_array(named, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &items, &nulls, &named_count);
	taken = palloc(Max(1, named_count) * sizeof(WhSubscriber));
	for (int i = 0; i < named_count; i++)
	{
		pg_uuid_t  *id = nulls[i] ? NULL : DatumGetUUIDP(items[i]);
		WhSubscriber subscriber;

		if (id == NULL)
			wh_refuse("endpoint_ids", "must not contain NULL");
		switch (wh_endpoint_standing(tenant_id, id, &subscriber))
		{
			case WH_ENDPOINT_UNKNOWN:
				wh_refuse_unknown("endpoint", id);
			case WH_ENDPOINT_DISABLED:
				break;
			case WH_ENDPOINT_ENABLED:
				if (!contains(taken, count, id))
					taken[count++] = subscriber;
				break;
		}
	}
	*subscribers = taken;
	return count;
}


/* ---- judging arguments ---- */

static char *
event_type_argument(FunctionCallInfo fcinfo)
{
	char	   *event_type = PG_ARGISNULL(EVENT_TYPE) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(EVENT_TYPE));

	if (event_type == NULL)
		wh_refuse("event_type", "must not be NULL");
	if (!wh_event_type_valid(event_type))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event_type is not valid: \"%s\"", event_type),
				 errdetail("An event type has at most %d characters: "
						   "letters, digits, \"_\" and \"-\", in parts joined by single dots.",
						   WH_EVENT_TYPE_MAX),
				 errhint("For example \"invoice.paid\".")));
	return event_type;
}

static Datum
payload_argument(FunctionCallInfo fcinfo)
{
	Jsonb	   *payload;
	StringInfoData text;

	if (PG_ARGISNULL(PAYLOAD))
		wh_refuse("payload", "must not be NULL");
	payload = PG_GETARG_JSONB_P(PAYLOAD);

	/*
	 * Its text is what is sent, and may be far larger than what is stored: 1e100000 takes ten
	 * bytes.
	 */
	initStringInfo(&text);
	(void) JsonbToCString(&text, &payload->root, VARSIZE(payload));
	if (text.len > wh_max_payload_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("payload is too large: %d bytes", text.len),
				 errdetail("webhooks.max_payload_size allows %d bytes.", wh_max_payload_bytes),
				 errhint("Send an id by which the receiver can fetch the rest.")));
	pfree(text.data);
	return JsonbPGetDatum(payload);
}

static TimestampTz
time_argument(FunctionCallInfo fcinfo, DispatchArgument number, const char *name,
			  TimestampTz otherwise)
{
	TimestampTz at = PG_ARGISNULL(number) ? otherwise : PG_GETARG_TIMESTAMPTZ(number);

	if (TIMESTAMP_NOT_FINITE(at))
		wh_refuse(name, "must be finite");
	return at;
}

static char *
ordering_key_argument(FunctionCallInfo fcinfo)
{
	char	   *key = PG_ARGISNULL(ORDERING_KEY) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(ORDERING_KEY));

	if (key && (key[0] == '\0' || strlen(key) > ORDERING_KEY_MAX))
		wh_refuse("ordering_key", psprintf("must have 1 to %d bytes", ORDERING_KEY_MAX));
	return key;
}

static void
refuse_unsupported_arguments(FunctionCallInfo fcinfo)
{
	static const struct
	{
		DispatchArgument number;
		const char *name;
	}			unsupported[] = {
		{IDEMPOTENCY_KEY, "idempotency_key"}, {COALESCE_KEY, "coalesce_key"},
		{EXPIRES_AT, "expires_at"}, {HEADERS, "headers"}
	};

	for (int i = 0; i < lengthof(unsupported); i++)
		if (!PG_ARGISNULL(unsupported[i].number))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s is not supported yet", unsupported[i].name),
					 errhint("Leave it NULL.")));
}

Datum
wh_sql_dispatch(PG_FUNCTION_ARGS)
{
	Event		event;
	const WhSubscriber *subscribers;
	pg_uuid_t  *result;
	int			count;

	PreventCommandIfReadOnly("webhooks.dispatch()");
	event.event_type = event_type_argument(fcinfo);
	event.payload = payload_argument(fcinfo);
	event.tenant_id = wh_tenant_named(PG_ARGISNULL(TENANT_ID) ? NULL :
									  text_to_cstring(PG_GETARG_TEXT_PP(TENANT_ID)));
	event.ordering_key = ordering_key_argument(fcinfo);
	refuse_unsupported_arguments(fcinfo);

	count = PG_ARGISNULL(ENDPOINT_IDS)
		? wh_subscribers(event.tenant_id, event.event_type, &subscribers)
		: take_named(event.tenant_id, PG_GETARG_ARRAYTYPE_P(ENDPOINT_IDS), &subscribers);

	/* before the id is made: ids then have the order in which transactions commit */
	wh_lock_order(event.tenant_id, event.ordering_key, subscribers, count);
	event.event_id = wh_new_id(&event.created_at);
	event.occurred_at = time_argument(fcinfo, OCCURRED_AT, "occurred_at", event.created_at);
	event.due_at = time_argument(fcinfo, DELIVER_AT, "deliver_at", event.created_at);
	event.due_at = Max(event.due_at, event.created_at);
	if (count > 0 || wh_store_unmatched)
		insert_event(&event);
	if (count > 0)
		enqueue(&event, subscribers, count);

	result = palloc(sizeof(pg_uuid_t));
	*result = event.event_id;
	PG_RETURN_UUID_P(result);
}
