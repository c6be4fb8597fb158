/*
 * emit_change(): turns what a trigger sees into events, a row at a time or a whole statement's rows
 * in one pass.
 *
 * It runs as whoever changes the table, who needs no right to dispatch: the right to make the
 * trigger was its owner's. Nothing is rendered, nor compared, before somebody is known to take the
 * event.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "sql/change.h"
#include "sql/event.h"
#include "sql/session.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#define BATCH_BYTES (256 * 1024)	/* of events not written yet: no more than stay in a cache */

PG_FUNCTION_INFO_V1(wh_sql_emit_change);

typedef enum Answer
{
	UNASKED, NO, YES
} Answer;

typedef struct Emitter
{
	WhWatch    *watch;
	WhDispatcher *dispatcher;	/* NULL: nothing to write so far */
	MemoryContext context;		/* the dispatcher's */
	MemoryContext batch;		/* of what is to be written; rows of a statement share one */
	bool	   *differing;		/* for each column of the watch */

	/* the last row's tenant, in batch */
	char	   *tenant_id;		/* NULL: none yet */
	Datum		tenant_value;
	Answer		wanted[WH_CHANGE_KINDS];	/* by that tenant */
} Emitter;


/* ---- how the trigger was made ---- */

static void
refuse_firing(const TriggerData *data, const char *rule, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("emit_change %s", rule),
			 data ? errdetail("It was called by trigger \"%s\" on \"%s\".",
							  data->tg_trigger->tgname,
							  RelationGetRelationName(data->tg_relation)) : 0,
			 errhint("%s", hint)));
}

static void
check_firing(const TriggerData *data)
{
	TriggerEvent event = data->tg_event;

	if (!TRIGGER_FIRED_AFTER(event))
		refuse_firing(data, "must be called by an AFTER trigger",
					  "What a BEFORE trigger sees may yet be changed or left out.");
	if (TRIGGER_FIRED_FOR_ROW(event) || TRIGGER_FIRED_BY_TRUNCATE(event))
		return;
	if ((TRIGGER_FIRED_BY_INSERT(event) || TRIGGER_FIRED_BY_UPDATE(event)) &&
		data->tg_newtable == NULL)
		refuse_firing(data, "needs the new rows in a statement-level trigger",
					  "Create it FOR EACH ROW, or with REFERENCING NEW TABLE AS new_rows "
					  "(for UPDATE with OLD TABLE AS old_rows as well).");
	if ((TRIGGER_FIRED_BY_DELETE(event) || TRIGGER_FIRED_BY_UPDATE(event)) &&
		data->tg_oldtable == NULL)
		refuse_firing(data, "needs the old rows in a statement-level trigger",
					  "Create it FOR EACH ROW, or with REFERENCING OLD TABLE AS old_rows "
					  "(for UPDATE with NEW TABLE AS new_rows as well).");
}


/* ---- who wants it ---- */

static void
forget_tenant(Emitter *emitter)
{
	emitter->tenant_id = NULL;
	memset(emitter->wanted, 0, sizeof(emitter->wanted));
}

static bool
has_tenant(const WhWatch *watch, const TupleTableSlot *row)
{
	return watch->tenant == NULL || !row->tts_isnull[watch->tenant->number - 1];
}

/* Sets the emitter's tenant to the row's. */
static void
find_tenant(Emitter *emitter, const TupleTableSlot *row)
{
	const WhColumn *column = emitter->watch->tenant;
	MemoryContext before;

	if (emitter->tenant_id && column == NULL)
		return;
	if (emitter->tenant_id && has_tenant(emitter->watch, row) &&
		datumIsEqual(emitter->tenant_value, row->tts_values[column->number - 1],
					 column->by_value, column->length))
		return;

	forget_tenant(emitter);
	before = MemoryContextSwitchTo(emitter->batch);
	emitter->tenant_id = wh_row_tenant(emitter->watch, row);
	if (column)
		emitter->tenant_value = datumCopy(row->tts_values[column->number - 1],
										  column->by_value, column->length);
	MemoryContextSwitchTo(before);
}

/* By the emitter's tenant. */
static bool
is_wanted(Emitter *emitter, WhChangeKind kind)
{
	if (emitter->wanted[kind] == UNASKED)
		emitter->wanted[kind] =
			wh_dispatch_wanted(emitter->tenant_id, emitter->watch->event_types[kind]) ? YES : NO;
	return emitter->wanted[kind] == YES;
}


/* ---- events ---- */

static Emitter *
begin(WhWatch *watch, Size batch_bytes)
{
	Emitter    *emitter = palloc0(sizeof(Emitter));

	emitter->watch = watch;
	emitter->context = CurrentMemoryContext;
	emitter->batch = AllocSetContextCreate(CurrentMemoryContext, "webhooks events", batch_bytes,
										   ALLOCSET_DEFAULT_INITSIZE, ALLOCSET_DEFAULT_MAXSIZE);
	emitter->differing = palloc(watch->column_count * sizeof(bool));
	return emitter;
}

static void
flush(Emitter *emitter)
{
	if (emitter->dispatcher)
		wh_dispatch_flush(emitter->dispatcher);
	forget_tenant(emitter);
	MemoryContextReset(emitter->batch);
}

static void
end(Emitter *emitter)
{
	if (emitter->dispatcher)
		wh_dispatch_end(emitter->dispatcher);
	MemoryContextDelete(emitter->batch);
}

/* The row's event to the emitter's tenant; row is NULL where there is none. */
static void
add(Emitter *emitter, WhChangeKind kind, const TupleTableSlot *row, Jsonb *payload)
{
	WhEvent		event = {
		.event_type = emitter->watch->event_types[kind],
		.tenant_id = emitter->tenant_id,
		.ordering_key = row ? wh_ordering_key(emitter->watch, row) : NULL,
		.idempotency_key = row ? wh_change_idempotency_key(emitter->watch, kind, row) : NULL,
		.payload = JsonbPGetDatum(payload),
		WH_EVENT_NOW
	};

	if (emitter->dispatcher == NULL)
	{
		MemoryContext before = MemoryContextSwitchTo(emitter->context);

		emitter->dispatcher = wh_dispatch_begin();
		MemoryContextSwitchTo(before);
	}
	(void) wh_dispatch_add(emitter->dispatcher, &event);
}

/* created or deleted */
static void
emit_row(Emitter *emitter, WhChangeKind kind, const TupleTableSlot *row)
{
	/* nobody was told of a row that had no tenant, and its owner must be able to delete it */
	if (kind == WH_DELETED && !has_tenant(emitter->watch, row))
		return;
	find_tenant(emitter, row);
	if (is_wanted(emitter, kind))
		add(emitter, kind, row, wh_render_change(emitter->watch, row, NULL, NULL));
}

static bool
any_differs(WhColumn *columns, int count, const TupleTableSlot *before, const TupleTableSlot *after)
{
	for (int i = 0; i < count; i++)
		if (wh_column_differs(&columns[i], before, after))
			return true;
	return false;
}

/* Sets emitter->differing; false: no column that is sent has changed. */
static bool
find_differing(Emitter *emitter, const TupleTableSlot *before, const TupleTableSlot *after)
{
	bool		any = false;

	for (int i = 0; i < emitter->watch->column_count; i++)
	{
		emitter->differing[i] = wh_column_differs(&emitter->watch->columns[i], before, after);
		any |= emitter->differing[i];
	}
	return any;
}

static void
emit_update(Emitter *emitter, const TupleTableSlot *before, const TupleTableSlot *after)
{
	WhWatch    *watch = emitter->watch;

	/* To one tenant the row is gone, to the other new; neither sees what the other had. */
	if (watch->tenant && wh_column_differs(watch->tenant, before, after))
	{
		emit_row(emitter, WH_DELETED, before);
		emit_row(emitter, WH_CREATED, after);
		return;
	}
	find_tenant(emitter, after);
	if (is_wanted(emitter, WH_UPDATED) &&
		(watch->when_changed_count == 0 ||
		 any_differs(watch->when_changed, watch->when_changed_count, before, after)) &&
		find_differing(emitter, before, after))
		add(emitter, WH_UPDATED, after,
			wh_render_change(watch, after, before, emitter->differing));
}


/*
 * A row's change, in batch: before is NULL for a row that is new, after for one that is gone. What
 * belongs to the caller is not in batch, which may end here.
 */
static void
take(Emitter *emitter, const TupleTableSlot *before, const TupleTableSlot *after)
{
	MemoryContext caller = MemoryContextSwitchTo(emitter->batch);

	if (before && after)
		emit_update(emitter, before, after);
	else if (after)
		emit_row(emitter, WH_CREATED, after);
	else
		emit_row(emitter, WH_DELETED, before);
	MemoryContextSwitchTo(caller);

	CHECK_FOR_INTERRUPTS();
	if (MemoryContextMemAllocated(emitter->batch, true) > BATCH_BYTES)
		flush(emitter);
}

static void
emit_for_row(Emitter *emitter, const TriggerData *data)
{
	slot_getallattrs(data->tg_trigslot);
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		take(emitter, NULL, data->tg_trigslot);
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		take(emitter, data->tg_trigslot, NULL);
	else
	{
		slot_getallattrs(data->tg_newslot);
		take(emitter, data->tg_trigslot, data->tg_newslot);
	}
}


/* ---- a statement's rows ---- */

/* The rows of a transition table, which other triggers read, too. */
typedef struct Rows
{
	Tuplestorestate *store;
	int			pointer;
	TupleTableSlot *row;
} Rows;

static Rows
open_rows(Tuplestorestate *store, Relation relation)
{
	Rows		rows = {.store = store};

	rows.pointer = tuplestore_alloc_read_pointer(store, EXEC_FLAG_REWIND);
	tuplestore_select_read_pointer(store, rows.pointer);
	tuplestore_rescan(store);
	rows.row = MakeSingleTupleTableSlot(RelationGetDescr(relation), &TTSOpsMinimalTuple);
	return rows;
}

static bool
next_row(Rows *rows)
{
	tuplestore_select_read_pointer(rows->store, rows->pointer);
	if (!tuplestore_gettupleslot(rows->store, true, false, rows->row))
		return false;
	slot_getallattrs(rows->row);
	return true;
}

static void
close_rows(Rows *rows)
{
	ExecDropSingleTupleTableSlot(rows->row);
}

static void
emit_rows(Emitter *emitter, const TriggerData *data, WhChangeKind kind)
{
	Rows		rows = open_rows(kind == WH_CREATED ? data->tg_newtable : data->tg_oldtable,
								 data->tg_relation);

	while (next_row(&rows))
		take(emitter, kind == WH_DELETED ? rows.row : NULL, kind == WH_CREATED ? rows.row : NULL);
	close_rows(&rows);
}

/*
 * Both tables are filled by the same call for each row, so they are in one order. But a row that
 * moves to another partition is entered as old, and then, unless a trigger there leaves it out, as
 * new. When one was left out, which row became which cannot be told, the partition being part of
 * the key: all are then told as deleted and created.
 */
static void
emit_updates(Emitter *emitter, const TriggerData *data)
{
	Rows		before;
	Rows		after;

	if (tuplestore_tuple_count(data->tg_oldtable) != tuplestore_tuple_count(data->tg_newtable))
	{
		emit_rows(emitter, data, WH_DELETED);
		emit_rows(emitter, data, WH_CREATED);
		return;
	}
	before = open_rows(data->tg_oldtable, data->tg_relation);
	after = open_rows(data->tg_newtable, data->tg_relation);
	while (next_row(&before) && next_row(&after))
		take(emitter, before.row, after.row);
	close_rows(&before);
	close_rows(&after);
}

static void
emit_for_statement(Emitter *emitter, const TriggerData *data)
{
	WhChangeKind kind = TRIGGER_FIRED_BY_INSERT(data->tg_event) ? WH_CREATED :
		TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? WH_UPDATED :
		TRIGGER_FIRED_BY_DELETE(data->tg_event) ? WH_DELETED : WH_TRUNCATED;

	if (emitter->watch->tenant == NULL || kind == WH_TRUNCATED)
	{
		emitter->tenant_id = wh_tenant_named(NULL);
		if (!is_wanted(emitter, kind))
			return;
	}
	switch (kind)
	{
		case WH_CREATED:
		case WH_DELETED:
			emit_rows(emitter, data, kind);
			break;
		case WH_UPDATED:
			emit_updates(emitter, data);
			break;
		case WH_TRUNCATED:
			add(emitter, kind, NULL, wh_render_no_object());
			break;
		case WH_SNAPSHOT:
			break;
	}
}

Datum
wh_sql_emit_change(PG_FUNCTION_ARGS)
{
	const TriggerData *data = (const TriggerData *) fcinfo->context;
	Emitter    *emitter;
	bool		for_row;

	if (!CALLED_AS_TRIGGER(fcinfo))
		refuse_firing(NULL, "must be called by a trigger",
					  "Call webhooks.watch, which makes the triggers.");
	check_firing(data);

	for_row = TRIGGER_FIRED_FOR_ROW(data->tg_event);
	emitter = begin(wh_watch_of(data->tg_relation, data->tg_trigger), for_row ? 0 : BATCH_BYTES);
	if (for_row)
		emit_for_row(emitter, data);
	else
		emit_for_statement(emitter, data);
	end(emitter);
	return PointerGetDatum(NULL);
}
