/*
 * CALL webhooks.backfill(): a table's present rows, to one endpoint, in batches that commit.
 *
 * No change may be lost, and none may be overtaken by what was read before it. So what began before
 * the endpoint could be seen is waited for; and a row is read while its order is locked: whoever
 * changes it either has ended by then, and the row is read as they left it, or makes an event that
 * comes after this one.
 *
 * A lock is waited for only while no other is held, so that no application can get into a deadlock
 * with this.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parse_func.h"
#include "sql/backfill.h"
#include "sql/event.h"
#include "sql/order.h"
#include "storage/lmgr.h"
#include "tcop/pquery.h"
#include "utils/lsyscache.h"

/* Fewer than the orders that a transaction may lock one by one. */
#define BATCH_MAX 150

PG_FUNCTION_INFO_V1(wh_sql_backfill);


/* ---- what the table and the endpoint say ---- */

static void
refuse_now(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s", message),
			 errhint("%s", hint)));
}

static WhWatch *
find_watch(Relation relation, const char *resource)
{
	Oid			emit_change = LookupFuncName(list_make2(makeString("webhooks"),
														makeString("emit_change")),
											 0, NULL, false);
	const TriggerDesc *triggers = relation->trigdesc;
	const Trigger *found = NULL;

	for (int i = 0; triggers && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (trigger->tgfoid != emit_change || trigger->tgnargs == 0 ||
			(resource && strcmp(trigger->tgargs[0], resource) != 0))
			continue;
		if (found && strcmp(trigger->tgargs[0], found->tgargs[0]) != 0)
			wh_refuse("resource", psprintf("must be named, since \"%s\" emits events of several",
										   RelationGetRelationName(relation)));
		found = trigger;
	}
	if (found == NULL)
		refuse_now(psprintf("table \"%s\" does not emit events%s%s",
							RelationGetRelationName(relation), resource ? " of " : "",
							resource ? resource : ""),
				   "Changes made during a backfill would be lost: call webhooks.watch first.");
	return wh_watch_of(relation, found);
}

/* Raises P0002 when the session's tenant has no such endpoint. */
static char *
tenant_of(const pg_uuid_t *endpoint_id)
{
	WhArgument	arguments[] = {
		{UUIDOID, UUIDPGetDatum(endpoint_id)}, wh_tenant_argument()
	};

	if (wh_execute_as_owner("SELECT tenant_id FROM webhooks.endpoints"
						 " WHERE endpoint_id = $1 AND tenant_id = coalesce($2, tenant_id)",
						 2, arguments) == 0)
		wh_refuse_unknown("endpoint", endpoint_id);
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

static void
find_endpoint(WhBatch *batch)
{
	const pg_uuid_t *endpoint_id = &batch->backfill->endpoint_id;

	batch->tenant_id = tenant_of(endpoint_id);
	switch (wh_endpoint_standing(batch->tenant_id, endpoint_id, &batch->endpoint))
	{
		case WH_ENDPOINT_UNKNOWN:
			wh_refuse_unknown("endpoint", endpoint_id);
		case WH_ENDPOINT_DISABLED:
			refuse_now("the endpoint is disabled and takes no new deliveries",
					   "Enable it with webhooks.enable_endpoint.");
		case WH_ENDPOINT_ENABLED:
			break;
	}
}

static List *
select_columns(const WhWatch *watch)
{
	List	   *numbers = NIL;

	for (int i = 0; i < watch->column_count; i++)
		numbers = list_append_unique_int(numbers, watch->columns[i].number);
	for (int i = 0; i < watch->ordering_count; i++)
		numbers = list_append_unique_int(numbers, watch->ordering[i].number);
	return numbers;
}

static void
open_batch(WhBatch *batch, WhBackfill *backfill)
{
	if (XactIsoLevel >= XACT_REPEATABLE_READ)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("backfill cannot see rows change in a transaction that is not "
						"READ COMMITTED"),
				 errhint("Set default_transaction_isolation to 'read committed'.")));
	EnsurePortalSnapshotExists();	/* which a commit took away, and out-of-line values need */
	memset(batch, 0, sizeof(WhBatch));
	batch->backfill = backfill;
	batch->relation = table_open(backfill->relid, AccessShareLock);
	batch->watch = find_watch(batch->relation, backfill->resource);
	batch->key = wh_primary_key(batch->relation);
	if (batch->key == NIL)
		refuse_now(psprintf("table \"%s\" has no primary key",
							RelationGetRelationName(batch->relation)),
				   "A backfill goes along the primary key, and can be resumed there.");
	find_endpoint(batch);
	batch->selected = select_columns(batch->watch);
	batch->row = MakeSingleTupleTableSlot(RelationGetDescr(batch->relation), &TTSOpsVirtual);
}

static void
close_batch(WhBatch *batch)
{
	ExecDropSingleTupleTableSlot(batch->row);
	table_close(batch->relation, NoLock);
}


/* ---- where it stands ---- */

static void
identify(const WhBatch *batch, WhArgument *arguments)
{
	arguments[0] = (WhArgument) {REGCLASSOID, ObjectIdGetDatum(batch->backfill->relid)};
	arguments[1] = (WhArgument) {UUIDOID, UUIDPGetDatum(&batch->backfill->endpoint_id)};
	arguments[2] = wh_text_argument(batch->watch->resource);
}

/* Begins, anew if it had been finished, or goes on where it was left. */
static void
enter(const WhBatch *batch)
{
	WhArgument	arguments[3];

	identify(batch, arguments);
	(void) wh_execute_as_owner("INSERT INTO webhooks.backfills AS b"
							" (relation, endpoint_id, resource)"
							" VALUES ($1, $2, $3) ON CONFLICT (relation, endpoint_id, resource)"
							" DO UPDATE SET last_key = NULL, sent = 0, started_at = now(),"
							" updated_at = now(), finished_at = NULL"
							" WHERE b.finished_at IS NOT NULL", 3, arguments);
}

/* Locks its row, so that two calls take turns. False: another one has finished it. */
static bool
read_state(WhBatch *batch)
{
	WhArgument	arguments[3];
	bool		isnull;
	Datum		last;

	identify(batch, arguments);
	if (wh_execute_as_owner("SELECT last_key FROM webhooks.backfills WHERE relation = $1"
						 " AND endpoint_id = $2 AND resource = $3 AND finished_at IS NULL"
						 " FOR UPDATE", 3, arguments) == 0)
		return false;
	last = wh_result(0, 1, &isnull);
	batch->last = isnull ? NULL : DatumGetArrayTypePCopy(last);
	return true;
}

static void
write_state(const WhBatch *batch, int done, int sent, bool finished)
{
	WhArgument	arguments[6];

	identify(batch, arguments);
	arguments[3] = (WhArgument) {
		TEXTARRAYOID, done > 0 ? PointerGetDatum(batch->keys[done - 1]) : (Datum) 0, done == 0
	};
	arguments[4] = (WhArgument) {INT8OID, Int64GetDatum(sent)};
	arguments[5] = (WhArgument) {BOOLOID, BoolGetDatum(finished)};
	(void) wh_execute_as_owner("UPDATE webhooks.backfills SET last_key = coalesce($4, last_key),"
							" sent = sent + $5, updated_at = now(),"
							" finished_at = CASE WHEN $6 THEN now() END"
							" WHERE relation = $1 AND endpoint_id = $2 AND resource = $3",
							6, arguments);
}


/* ---- a batch ---- */

/* The keys of the next rows, and their orders. */
static void
list_rows(WhBatch *batch)
{
	batch->count = wh_backfill_read(batch, NULL);
	batch->keys = palloc(Max(1, batch->count) * sizeof(ArrayType *));
	batch->orders = palloc(Max(1, batch->count) * sizeof(char *));
	for (int i = 0; i < batch->count; i++)
	{
		wh_backfill_row(batch, i);
		batch->keys[i] = wh_backfill_key(i);
		batch->orders[i] = wh_ordering_key(batch->watch, batch->row);
	}
}

/* Locks the orders of the first rows, of as many as can be had; returns their number. */
static int
lock_rows(WhBatch *batch)
{
	if (batch->count == 0)
		return 0;
	wh_lock_order(batch->tenant_id, batch->orders[0], &batch->endpoint, 1);
	for (int i = 1; i < batch->count; i++)
		if (!wh_try_lock_order(batch->tenant_id, batch->orders[i]))
			return i;
	return batch->count;
}

static void
send_row(WhDispatcher *dispatcher, const WhBatch *batch)
{
	Datum		endpoint_id = UUIDPGetDatum(&batch->backfill->endpoint_id);
	WhEvent		event = {
		.event_type = batch->watch->event_types[WH_SNAPSHOT],
		.tenant_id = batch->tenant_id,
		.ordering_key = wh_ordering_key(batch->watch, batch->row),
		.payload = JsonbPGetDatum(wh_render_change(batch->watch, batch->row, NULL, NULL)),
		.endpoint_ids = construct_array(&endpoint_id, 1, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR),
		WH_EVENT_NOW
	};

	(void) wh_dispatch_add(dispatcher, &event);
}

static bool
is_same_key(const ArrayType *a, const ArrayType *b)
{
	return VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0;
}

static bool
is_same_order(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/*
 * Sends the first rows as they are now, those gone since left out; *done becomes the number of rows
 * that are through. One whose order has changed meanwhile is not locked: it is left to the next
 * batch.
 */
static int
send_rows(WhBatch *batch, int *done)
{
	int			rows = *done > 0 ? wh_backfill_read(batch, batch->keys[*done - 1]) : 0;
	WhDispatcher *dispatcher = wh_dispatch_begin();
	int			sent = 0;
	int			next = 0;

	for (int i = 0; i < rows; i++)
	{
		ArrayType  *key = wh_backfill_key(i);
		int			listed = next;

		/* one that is not listed came later, and had an event */
		while (listed < *done && !is_same_key(batch->keys[listed], key))
			listed++;
		if (listed == *done)
			continue;
		next = listed + 1;
		wh_backfill_row(batch, i);
		if (!is_same_order(batch->orders[listed], wh_ordering_key(batch->watch, batch->row)))
		{
			*done = listed;
			break;
		}
		send_row(dispatcher, batch);
		sent++;
	}
	wh_dispatch_end(dispatcher);
	return sent;
}

/* Returns whether more is to do. */
static bool
run_batch(WhBackfill *backfill)
{
	WhBatch		batch;
	bool		more;

	open_batch(&batch, backfill);
	more = read_state(&batch);
	if (more)
	{
		int			done;
		int			sent;

		list_rows(&batch);
		done = lock_rows(&batch);
		sent = send_rows(&batch, &done);
		more = done < batch.count || batch.count == backfill->batch_size;
		write_state(&batch, done, sent, !more);
		backfill->sent += sent;
	}
	close_batch(&batch);
	return more;
}


/* ---- the call ---- */

/* Those who changed the table before they could see the endpoint. */
static void
wait_for_writers(Oid relid)
{
	List	   *tags = NIL;
	ListCell   *cell;

	foreach(cell, find_all_inheritors(relid, NoLock, NULL))
	{
		LOCKTAG    *tag = palloc(sizeof(LOCKTAG));

		SET_LOCKTAG_RELATION(*tag, MyDatabaseId, lfirst_oid(cell));
		tags = lappend(tags, tag);
	}
	WaitForLockersMultiple(tags, ShareLock, false);
}

static void
begin_backfill(WhBackfill *backfill)
{
	WhBatch		batch;

	open_batch(&batch, backfill);
	backfill->resource = MemoryContextStrdup(PortalContext, batch.watch->resource);
	enter(&batch);
	close_batch(&batch);
	SPI_commit();
	wait_for_writers(backfill->relid);
	SPI_commit();
}

static void
read_arguments(FunctionCallInfo fcinfo, WhBackfill *backfill)
{
	char		relkind;

	if (PG_ARGISNULL(0))
		wh_refuse("relation", "must not be NULL");
	backfill->relid = PG_GETARG_OID(0);
	relkind = get_rel_relkind(backfill->relid);
	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		wh_refuse("relation", "must be a table");
	backfill->endpoint_id = *wh_uuid_argument(fcinfo, 1, "endpoint_id");
	backfill->resource = wh_given_text(fcinfo, 2);
	if (PG_ARGISNULL(3) || PG_GETARG_INT32(3) < 1 || PG_GETARG_INT32(3) > BATCH_MAX)
		wh_refuse("batch_size", psprintf("must be from 1 to %d", BATCH_MAX));
	backfill->batch_size = PG_GETARG_INT32(3);
}

static void
refuse_atomic(FunctionCallInfo fcinfo)
{
	if (castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("backfill cannot run in a transaction block"),
				 errdetail("It commits after each batch of rows."),
				 errhint("CALL it by itself, outside BEGIN and functions.")));
}

static Datum
make_result(FunctionCallInfo fcinfo, int64 sent)
{
	TupleDesc	desc;
	Datum		value = Int64GetDatum(sent);
	bool		isnull = false;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), &value, &isnull));
}

Datum
wh_sql_backfill(PG_FUNCTION_ARGS)
{
	WhBackfill	backfill = {0};

	read_arguments(fcinfo, &backfill);
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect_ext failed");
	(void) tenant_of(&backfill.endpoint_id);
	refuse_atomic(fcinfo);
	begin_backfill(&backfill);
	for (bool more = true; more;)
	{
		CHECK_FOR_INTERRUPTS();
		more = run_batch(&backfill);
		SPI_commit();
	}
	SPI_finish();
	PG_RETURN_DATUM(make_result(fcinfo, backfill.sent));
}
