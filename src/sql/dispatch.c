/*
 * dispatch(): one event row and a queue row for each endpoint that takes it, in the caller's transaction.
 *
 * It is called once for every change an application makes, so it inserts below the executor, as logical replication's apply
 * worker does: three planned statements would cost several times as much. It writes nothing until every argument is found good.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "core/event_type.h"
#include "core/id.h"
#include "executor/executor.h"
#include "id.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "settings.h"
#include "sql/session.h"
#include "sql/subscription.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(wh_sql_dispatch);

/* The arguments of dispatch, in their order. */
typedef enum DispatchArgument
{
	EVENT_TYPE, PAYLOAD, TENANT_ID, ENDPOINT_IDS, IDEMPOTENCY_KEY, ORDERING_KEY, COALESCE_KEY, OCCURRED_AT, DELIVER_AT,
	EXPIRES_AT, HEADERS
} DispatchArgument;

/* Columns of events and queue, from 0. */
enum
{
	EVENTS_EVENT_ID, EVENTS_TENANT_ID, EVENTS_EVENT_TYPE, EVENTS_PAYLOAD, EVENTS_OCCURRED_AT, EVENTS_CREATED_AT
};
enum
{
	QUEUE_DELIVERY_ID, QUEUE_EVENT_ID, QUEUE_ENDPOINT_ID, QUEUE_DUE_AT, QUEUE_ATTEMPTS
};

typedef struct Event
{
	pg_uuid_t	event_id;
	char	   *tenant_id;
	char	   *event_type;
	Datum		payload;
	TimestampTz occurred_at;
	TimestampTz created_at;
	TimestampTz due_at;
} Event;


/* ---- inserting below the executor ---- */

typedef struct Inserter
{
	EState	   *estate;
	ResultRelInfo *target;
	TupleTableSlot *slot;
} Inserter;

static void
open_inserter(Inserter *inserter, Relation rel)
{
	inserter->estate = CreateExecutorState();
	inserter->target = makeNode(ResultRelInfo);
	InitResultRelInfo(inserter->target, rel, 1, NULL, 0);
	ExecOpenIndices(inserter->target, false);
	inserter->slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), table_slot_callbacks(rel));
}

/* Clears the slot for the next row: what is not set stays NULL. */
static void
begin_row(Inserter *inserter)
{
	ExecClearTuple(inserter->slot);
	memset(inserter->slot->tts_isnull, true, inserter->slot->tts_tupleDescriptor->natts);
}

static void
set_column(Inserter *inserter, int column, Datum datum)
{
	inserter->slot->tts_values[column] = datum;
	inserter->slot->tts_isnull[column] = false;
}

static void
insert_row(Inserter *inserter)
{
	Relation	rel = inserter->target->ri_RelationDesc;

	ExecStoreVirtualTuple(inserter->slot);
	if (rel->rd_att->constr)
		ExecConstraints(inserter->target, inserter->slot, inserter->estate);
	table_tuple_insert(rel, inserter->slot, GetCurrentCommandId(true), 0, NULL);
	(void) ExecInsertIndexTuples(inserter->target, inserter->slot, inserter->estate, false, false, NULL, NIL);
	ResetPerTupleExprContext(inserter->estate);
}

static void
close_inserter(Inserter *inserter)
{
	ExecDropSingleTupleTableSlot(inserter->slot);
	ExecCloseIndices(inserter->target);
	FreeExecutorState(inserter->estate);
}

static Oid
table_oid(const char *name)
{
	return get_relname_relid(name, get_namespace_oid("webhooks", false));
}

/* The partition that holds the id, by the parent's bounds as they are now. */
static Oid
find_partition(Relation parent, const pg_uuid_t *event_id)
{
	PartitionKey key = RelationGetPartitionKey(parent);
	PartitionDesc desc = RelationGetPartitionDesc(parent, true);
	Datum		datum = UUIDPGetDatum(event_id);
	bool		equal;
	int			index = -1;

	if (desc->nparts > 0)
	{
		int			offset = partition_range_datum_bsearch(key->partsupfunc, key->partcollation, desc->boundinfo, 1,
														   &datum, &equal);

		index = desc->boundinfo->indexes[offset + 1];
		if (index < 0)
			index = desc->boundinfo->default_index;
	}
	if (index < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("webhooks.events has no partition for event %s",
						DatumGetCString(DirectFunctionCall1(uuid_out, datum))),
				 errhint("Attach the default partition webhooks.events_default again.")));
	return desc->oids[index];
}

/*
 * Opens the partition for the id. While its lock was waited for, a partition may have been made that takes the id
 * from the default one: look again until nothing changed.
 */
static Relation
open_partition(Relation parent, const pg_uuid_t *event_id)
{
	for (;;)
	{
		Oid			oid = find_partition(parent, event_id);
		Relation	partition = try_table_open(oid, RowExclusiveLock);

		if (partition && find_partition(parent, event_id) == oid)
			return partition;
		if (partition)
			table_close(partition, RowExclusiveLock);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
insert_event(const Event *event)
{
	Relation	parent = table_open(table_oid("events"), RowExclusiveLock);
	Relation	partition = open_partition(parent, &event->event_id);
	Inserter	inserter;

	open_inserter(&inserter, partition);
	begin_row(&inserter);
	set_column(&inserter, EVENTS_EVENT_ID, UUIDPGetDatum(&event->event_id));
	set_column(&inserter, EVENTS_TENANT_ID, CStringGetTextDatum(event->tenant_id));
	set_column(&inserter, EVENTS_EVENT_TYPE, CStringGetTextDatum(event->event_type));
	set_column(&inserter, EVENTS_PAYLOAD, event->payload);
	set_column(&inserter, EVENTS_OCCURRED_AT, TimestampTzGetDatum(event->occurred_at));
	set_column(&inserter, EVENTS_CREATED_AT, TimestampTzGetDatum(event->created_at));
	insert_row(&inserter);
	close_inserter(&inserter);
	table_close(partition, NoLock);
	table_close(parent, NoLock);
}

static void
enqueue(const Event *event, const pg_uuid_t *endpoint_ids, int count)
{
	Relation	queue = table_open(table_oid("queue"), RowExclusiveLock);
	Inserter	inserter;

	open_inserter(&inserter, queue);
	for (int i = 0; i < count; i++)
	{
		pg_uuid_t	delivery_id;

		wh_id_delivery(delivery_id.data, event->event_id.data, endpoint_ids[i].data);
		begin_row(&inserter);
		set_column(&inserter, QUEUE_DELIVERY_ID, UUIDPGetDatum(&delivery_id));
		set_column(&inserter, QUEUE_EVENT_ID, UUIDPGetDatum(&event->event_id));
		set_column(&inserter, QUEUE_ENDPOINT_ID, UUIDPGetDatum(&endpoint_ids[i]));
		set_column(&inserter, QUEUE_DUE_AT, TimestampTzGetDatum(event->due_at));
		set_column(&inserter, QUEUE_ATTEMPTS, Int32GetDatum(0));
		insert_row(&inserter);
		wh_wake_endpoint(&endpoint_ids[i], event->due_at);
	}
	close_inserter(&inserter);
	table_close(queue, NoLock);
}


/* ---- who gets it ---- */

/* Every enabled endpoint of the tenant that subscribed to the type. Returns their number. */
static int
match_subscribers(const WhSubscriptions *all, const char *event_type, pg_uuid_t *endpoint_ids)
{
	int			count = 0;

	for (int i = 0; i < all->count; i++)
		if (all->items[i].enabled && wh_subscription_takes(&all->items[i], event_type))
			endpoint_ids[count++] = all->items[i].endpoint_id;
	return count;
}

static const WhSubscription *
find_endpoint(const WhSubscriptions *all, const pg_uuid_t *endpoint_id)
{
	for (int i = 0; i < all->count; i++)
		if (memcmp(&all->items[i].endpoint_id, endpoint_id, UUID_LEN) == 0)
			return &all->items[i];
	return NULL;
}

static bool
contains(const pg_uuid_t *ids, int count, const pg_uuid_t *id)
{
	for (int i = 0; i < count; i++)
		if (memcmp(&ids[i], id, UUID_LEN) == 0)
			return true;
	return false;
}

/* Just the endpoints named, whatever they subscribed to. Each must be the tenant's; a disabled one takes nothing new. */
static int
match_named(const WhSubscriptions *all, ArrayType *named, pg_uuid_t *endpoint_ids)
{
	Datum	   *items;
	bool	   *nulls;
	int			named_count;
	int			count = 0;

	deconstruct_array(named, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &items, &nulls, &named_count);
	for (int i = 0; i < named_count; i++)
	{
		const WhSubscription *endpoint;

		if (nulls[i])
			wh_refuse("endpoint_ids", "must not contain NULL");
		endpoint = find_endpoint(all, DatumGetUUIDP(items[i]));
		if (endpoint == NULL)
			wh_refuse_unknown("endpoint", DatumGetUUIDP(items[i]));
		if (endpoint->enabled && !contains(endpoint_ids, count, &endpoint->endpoint_id))
			endpoint_ids[count++] = endpoint->endpoint_id;
	}
	return count;
}


/* ---- judging arguments ---- */

static char *
event_type_argument(FunctionCallInfo fcinfo)
{
	char	   *event_type = PG_ARGISNULL(EVENT_TYPE) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(EVENT_TYPE));

	if (event_type == NULL)
		wh_refuse("event_type", "must not be NULL");
	if (!wh_event_type_valid(event_type))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event_type is not valid: \"%s\"", event_type),
				 errdetail("An event type has at most %d characters: letters, digits, \"_\" and \"-\", in parts joined by single dots.",
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

	/* Its text is what is sent, and may be far larger than what is stored: 1e100000 takes ten bytes. */
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
time_argument(FunctionCallInfo fcinfo, DispatchArgument number, const char *name, TimestampTz otherwise)
{
	TimestampTz at = PG_ARGISNULL(number) ? otherwise : PG_GETARG_TIMESTAMPTZ(number);

	if (TIMESTAMP_NOT_FINITE(at))
		wh_refuse(name, "must be finite");
	return at;
}

static void
refuse_unsupported_arguments(FunctionCallInfo fcinfo)
{
	static const struct
	{
		DispatchArgument number;
		const char *name;
	}			unsupported[] = {
		{IDEMPOTENCY_KEY, "idempotency_key"}, {ORDERING_KEY, "ordering_key"}, {COALESCE_KEY, "coalesce_key"},
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
	const WhSubscriptions *all;
	pg_uuid_t  *endpoint_ids;
	pg_uuid_t  *result;
	int			count;

	PreventCommandIfReadOnly("webhooks.dispatch()");
	event.event_type = event_type_argument(fcinfo);
	event.payload = payload_argument(fcinfo);
	event.tenant_id = wh_tenant_named(PG_ARGISNULL(TENANT_ID) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(TENANT_ID)));
	refuse_unsupported_arguments(fcinfo);
	event.event_id = wh_new_id(&event.created_at);
	event.occurred_at = time_argument(fcinfo, OCCURRED_AT, "occurred_at", event.created_at);
	event.due_at = time_argument(fcinfo, DELIVER_AT, "deliver_at", event.created_at);
	event.due_at = Max(event.due_at, event.created_at);

	all = wh_subscriptions(event.tenant_id);
	endpoint_ids = palloc_extended(Max(1, all->count) * sizeof(pg_uuid_t), MCXT_ALLOC_HUGE);
	count = PG_ARGISNULL(ENDPOINT_IDS) ? match_subscribers(all, event.event_type, endpoint_ids)
		: match_named(all, PG_GETARG_ARRAYTYPE_P(ENDPOINT_IDS), endpoint_ids);

	if (count > 0 || wh_store_unmatched)
		insert_event(&event);
	if (count > 0)
		enqueue(&event, endpoint_ids, count);

	result = palloc(sizeof(pg_uuid_t));
	*result = event.event_id;
	PG_RETURN_UUID_P(result);
}
