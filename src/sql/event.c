/*
 * One event row and a queue row for each endpoint that takes it, in the caller's transaction,
 * without SQL: it is done once for every change an application makes.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "core/id.h"
#include "id.h"
#include "secret.h"
#include "settings.h"
#include "sql/coalesce.h"
#include "sql/content.h"
#include "sql/event.h"
#include "sql/idempotency.h"
#include "sql/order.h"
#include "sql/session.h"
#include "tables.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "wake.h"

struct WhDispatcher
{
	Relation	events;
	WhPartitionInserter *event_inserter;
	Relation	queue;
	WhInserter *queue_inserter;
	WhContent	content;
};


/* ---- the tables ---- */

WhDispatcher *
wh_dispatch_begin(void)
{
	WhDispatcher *dispatcher = palloc0(sizeof(WhDispatcher));

	dispatcher->events = table_open(wh_table("events"), RowExclusiveLock);
	dispatcher->event_inserter = wh_partition_inserter_open(dispatcher->events);
	dispatcher->queue = table_open(wh_table("queue"), RowExclusiveLock);
	dispatcher->queue_inserter = wh_inserter_open(dispatcher->queue);
	wh_inserter_follow(dispatcher->queue_inserter, dispatcher->event_inserter);
	dispatcher->content.context = CurrentMemoryContext;
	return dispatcher;
}

void
wh_dispatch_flush(WhDispatcher *dispatcher)
{
	wh_inserter_flush(dispatcher->queue_inserter);
}

void
wh_dispatch_end(WhDispatcher *dispatcher)
{
	wh_inserter_close(dispatcher->queue_inserter);
	wh_partition_inserter_close(dispatcher->event_inserter);
	table_close(dispatcher->queue, NoLock);
	table_close(dispatcher->events, NoLock);
	if (dispatcher->content.scratch)
		MemoryContextDelete(dispatcher->content.scratch);
	pfree(dispatcher);
}


/* ---- writing ---- */

/* An event that has its id and its times. */
typedef struct StampedEvent
{
	const WhEvent *event;
	pg_uuid_t	event_id;
	TimestampTz created_at;
	TimestampTz due_at;
	Datum		versions;		/* jsonb; 0: none */
	ItemPointer place;			/* where its row stands, once that is inserted */
} StampedEvent;

/* The value of Authorization. Few events have one, so the table is not opened before. */
static void
insert_secret(const pg_uuid_t *event_id, const char *authorization)
{
	WhSealed	sealed = wh_secret_seal(authorization,
										wh_secret_owner("event", event_id, "authorization"));
	Relation	rel = table_open(wh_table("event_secrets"), RowExclusiveLock);
	WhInserter *inserter = wh_inserter_open(rel);

	wh_inserter_row(inserter);
	wh_inserter_set(inserter, EVENT_SECRETS_EVENT_ID, UUIDPGetDatum(event_id));
	wh_inserter_set_text(inserter, EVENT_SECRETS_SECRET, sealed.text);
	wh_inserter_set_text(inserter, EVENT_SECRETS_ENCRYPTION_KEY_ID, sealed.key_id);
	wh_inserter_close(inserter);
	table_close(rel, NoLock);
}

static void
set_headers(WhInserter *inserter, const StampedEvent *stamped)
{
	const WhHeaders *headers = stamped->event->headers;

	if (headers == NULL || JB_ROOT_COUNT(headers->stored) == 0)
		return;
	wh_inserter_set(inserter, EVENTS_HEADERS, JsonbPGetDatum(headers->stored));
	if (headers->authorization)
		insert_secret(&stamped->event_id, headers->authorization);
}

static void
set_content(WhInserter *inserter, const StampedEvent *stamped)
{
	const WhEvent *event = stamped->event;

	if (event->body)
	{
		wh_inserter_set(inserter, EVENTS_BODY, PointerGetDatum(event->body));
		wh_inserter_set_text(inserter, EVENTS_CONTENT_TYPE, event->content_type);
	}
	else
		wh_inserter_set(inserter, EVENTS_PAYLOAD, event->payload);
	if (stamped->versions)
		wh_inserter_set(inserter, EVENTS_VERSIONS, stamped->versions);
}

static void
insert_event(WhDispatcher *dispatcher, StampedEvent *stamped)
{
	const WhEvent *event = stamped->event;
	WhInserter *inserter = wh_partition_inserter(dispatcher->event_inserter,
												 UUIDPGetDatum(&stamped->event_id));
	TimestampTz occurred_at = TIMESTAMP_IS_NOBEGIN(event->occurred_at) ? stamped->created_at :
		event->occurred_at;

	wh_inserter_row(inserter);
	stamped->place = palloc(sizeof(ItemPointerData));
	wh_inserter_tell_place(inserter, stamped->place);
	wh_inserter_set(inserter, EVENTS_EVENT_ID, UUIDPGetDatum(wh_uuid_copy(&stamped->event_id)));
	wh_inserter_set_text(inserter, EVENTS_TENANT_ID, event->tenant_id);
	wh_inserter_set_text(inserter, EVENTS_EVENT_TYPE, event->event_type);
	set_content(inserter, stamped);
	set_headers(inserter, stamped);
	wh_inserter_set(inserter, EVENTS_OCCURRED_AT, TimestampTzGetDatum(occurred_at));
	wh_inserter_set(inserter, EVENTS_CREATED_AT, TimestampTzGetDatum(stamped->created_at));
	wh_inserter_set_text(inserter, EVENTS_ORDERING_KEY, event->ordering_key);
}

/* What webhooks.lane says. False: the delivery has none. */
static bool
find_lane(const WhEvent *event, const WhSubscriber *subscriber, int64 *lane)
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
enqueue(WhDispatcher *dispatcher, const StampedEvent *stamped, const WhSubscriber *subscribers,
		int count)
{
	pg_uuid_t  *delivery_ids = palloc_extended(count * sizeof(pg_uuid_t), MCXT_ALLOC_HUGE);
	Datum		event_id = UUIDPGetDatum(wh_uuid_copy(&stamped->event_id));
	WhWake		wake = {
		.due_at = stamped->due_at, .tenant = wh_tenant_hash(stamped->event->tenant_id)
	};
	WhInserter *inserter = dispatcher->queue_inserter;

	for (int i = 0; i < count; i++)
	{
		const pg_uuid_t *endpoint_id = &subscribers[i].endpoint_id;
		int64		lane;

		wh_id_delivery(delivery_ids[i].data, stamped->event_id.data, endpoint_id->data);
		wh_inserter_row(inserter);
		wh_inserter_set(inserter, QUEUE_DELIVERY_ID, UUIDPGetDatum(&delivery_ids[i]));
		wh_inserter_set(inserter, QUEUE_EVENT_ID, event_id);
		wh_inserter_set(inserter, QUEUE_ENDPOINT_ID, UUIDPGetDatum(wh_uuid_copy(endpoint_id)));
		wh_inserter_set(inserter, QUEUE_DUE_AT, TimestampTzGetDatum(stamped->due_at));
		wh_inserter_set(inserter, QUEUE_ATTEMPTS, Int32GetDatum(0));
		if (find_lane(stamped->event, &subscribers[i], &lane))
			wh_inserter_set(inserter, QUEUE_LANE, Int64GetDatum(lane));
		if (!TIMESTAMP_IS_NOBEGIN(stamped->event->expires_at))
			wh_inserter_set(inserter, QUEUE_EXPIRES_AT,
							TimestampTzGetDatum(stamped->event->expires_at));
		wh_inserter_set_text(inserter, QUEUE_COALESCE_KEY, stamped->event->coalesce_key);
		wh_inserter_set(inserter, QUEUE_EVENT_PLACE, PointerGetDatum(stamped->place));
		wake.endpoint_id = *endpoint_id;
		wh_wake_endpoint(&wake);
	}
}

/* Takes away what this event's deliveries replace. */
static void
coalesce(WhDispatcher *dispatcher, const StampedEvent *stamped, const WhSubscriber *subscribers,
		 int count)
{
	WhCoalescing coalescing = {
		.tenant_id = stamped->event->tenant_id, .coalesce_key = stamped->event->coalesce_key,
		.event_id = stamped->event_id, .now = stamped->created_at
	};

	wh_dispatch_flush(dispatcher);	/* they may be of this very transaction */
	wh_coalesce(&coalescing, dispatcher->queue, subscribers, count);
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

bool
wh_dispatch_wanted(const char *tenant_id, const char *event_type)
{
	const WhSubscriber *subscribers;

	return wh_store_unmatched || wh_subscribers(tenant_id, event_type, &subscribers) > 0;
}

/* Who gets the event, and with it the versions of the payload that they want. */
static int
choose_subscribers(WhDispatcher *dispatcher, StampedEvent *stamped,
				   const WhSubscriber **subscribers)
{
	const WhEvent *event = stamped->event;
	WhContent  *content = &dispatcher->content;
	int			count;

	wh_content_judge(content, event);
	count = event->endpoint_ids
		? take_named(event->tenant_id, event->endpoint_ids, subscribers)
		: wh_subscribers(event->tenant_id, event->event_type, subscribers);
	count = wh_content_filter(content, subscribers, count);
	stamped->versions = wh_content_versions(content, subscribers, count);
	wh_content_done(content);
	return count;
}

pg_uuid_t
wh_dispatch_add(WhDispatcher *dispatcher, const WhEvent *event)
{
	StampedEvent stamped = {.event = event};
	const char *key = event->idempotency_key;
	const WhSubscriber *subscribers;
	int			count;

	if (key && wh_idempotency_find(event->tenant_id, key, &stamped.event_id))
		return stamped.event_id;
	count = choose_subscribers(dispatcher, &stamped, &subscribers);

	/* before the id is made: ids then have the order in which transactions commit */
	if (!event->waits_for_nobody)
		wh_lock_order(event->tenant_id, event->ordering_key, subscribers, count);
	if (event->coalesce_key && count > 0)
		wh_lock_coalescing(event->tenant_id, event->coalesce_key);
	stamped.event_id = wh_new_id(&stamped.created_at);
	if (key && !wh_idempotency_claim(event->tenant_id, key, stamped.created_at, &stamped.event_id))
		return stamped.event_id;
	stamped.due_at = Max(event->deliver_at, stamped.created_at);
	if (count > 0 || wh_store_unmatched)
		insert_event(dispatcher, &stamped);
	if (count > 0)
	{
		if (event->coalesce_key)
			coalesce(dispatcher, &stamped, subscribers, count);
		enqueue(dispatcher, &stamped, subscribers, count);
	}
	return stamped.event_id;
}
