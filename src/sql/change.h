/*
 * Events from tables: what a trigger that calls emit_change() was told to do, ready to be done for
 * each row.
 *
 * A watch is made from a trigger's arguments and its table's columns, once, and kept until either
 * changes. What one points to is the cache's and stays to the end of the transaction, whatever
 * happens to the trigger.
 */
#ifndef WH_SQL_CHANGE_H
#define WH_SQL_CHANGE_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/typcache.h"

typedef enum WhChangeKind
{
	WH_CREATED, WH_UPDATED, WH_DELETED, WH_TRUNCATED, WH_SNAPSHOT
} WhChangeKind;

#define WH_CHANGE_KINDS 5

extern const char *wh_change_word(WhChangeKind kind);


/* ---- what the arguments say ---- */

/* Lists are of char *, as SQL reads names; NIL where the option was not given. */
typedef struct WhChangeOptions
{
	const char *resource;
	List	   *tenant_column;	/* this and the next: one name */
	List	   *idempotency_column;
	List	   *include;
	List	   *exclude;
	List	   *ordering_columns;
	bool		ordered_by_key; /* the order is the primary key's, whatever its columns are */
	List	   *when_changed;
} WhChangeOptions;

#define WH_ORDERED_BY_KEY "primary key" /* a value of ordering_columns that is no name */

/* Raises 22023 for a trigger whose arguments are no options. */
extern WhChangeOptions *wh_change_options(int count, char **arguments);

/* Raises 22023 unless the resource's events have valid types. */
extern void wh_check_resource(const char *resource);


/* ---- columns ---- */

/* How a value becomes JSON, as to_jsonb would do it. */
typedef enum WhRendering
{
	WH_RENDER_BOOL,
	WH_RENDER_INT2,
	WH_RENDER_INT4,
	WH_RENDER_INT8,
	WH_RENDER_NUMERIC,
	WH_RENDER_TEXT,				/* varlena whose bytes are the text */
	WH_RENDER_TIME,				/* date, timestamp, timestamptz */
	WH_RENDER_OUTPUT,			/* a string: what the output function gives */
	WH_RENDER_ANY				/* by to_jsonb itself */
} WhRendering;

typedef struct WhColumn
{
	int			number;			/* attnum, from 1 */
	const char *name;
	Oid			type;			/* of a domain: its base type */
	int16		length;
	bool		by_value;
	Oid			collation;
	WhRendering rendering;
	FmgrInfo	function;		/* of WH_RENDER_OUTPUT and WH_RENDER_ANY */
	TypeCacheEntry *equality;	/* NULL: the type has none */
	bool		equal_as_bytes; /* values of different length are never equal */
} WhColumn;

/* Raises an error when the column cannot be rendered; allocates in the current context. */
extern void wh_column_prepare(WhColumn *column, Form_pg_attribute attribute);

/* Whether the text of the column's values is what a reader would write for them. */
extern bool wh_column_is_readable(const WhColumn *column);

/*
 * The value as text that does not depend on the session's settings; where it is not readable, that
 * of its binary form in hexadecimal.
 */
extern char *wh_column_text(const WhColumn *column, Datum value);

/* Whether the row's value of the column differs between two versions; all values are deformed. */
extern bool wh_column_differs(WhColumn *column, const TupleTableSlot *before,
							  const TupleTableSlot *after);


/* ---- watches ---- */

typedef struct WhWatch
{
	Oid			trigger;		/* hash key: first */
	Oid			relation;
	bool		stale;
	MemoryContext context;
	const char *resource;
	const char *event_types[WH_CHANGE_KINDS];
	int			column_count;
	WhColumn   *columns;		/* those that are sent, in the order of a jsonb object's keys */
	JsonbPair  *pairs;			/* for each a pair that has its key */
	WhColumn   *tenant;			/* NULL: the session's tenant */
	WhColumn   *idempotency;	/* NULL: none */
	int			ordering_count;
	WhColumn   *ordering;
	int			when_changed_count;
	WhColumn   *when_changed;
} WhWatch;

extern Oid	wh_emit_change_function(void);

/* Raises 22023 when the trigger's arguments do not fit its table. */
extern WhWatch *wh_watch_of(Relation relation, const Trigger *trigger);

/* The order that the row's events keep; NULL: none. Allocated in the current context. */
extern char *wh_ordering_key(const WhWatch *watch, const TupleTableSlot *row);

/*
 * The event type and the column's value: a row that is created and then deleted is two events. NULL
 * without an idempotency_column, or with NULL in it.
 */
extern char *wh_change_idempotency_key(const WhWatch *watch, WhChangeKind kind,
									   const TupleTableSlot *row);

/*
 * The primary key's column numbers, in its order; NIL when there is none that is valid and not
 * deferrable.
 */
extern List *wh_primary_key(Relation relation);

/*
 * The payload {"object": row}, with "previous_attributes" where differing says, for each of the
 * watch's columns, whether before's value is to be told. All values are deformed. Raises 54000 for
 * what is larger than webhooks.max_payload_size. Allocates in the current context.
 */
extern Jsonb *wh_render_change(const WhWatch *watch, const TupleTableSlot *row,
							   const TupleTableSlot *before, const bool *differing);

/* The same for a change that has no row. */
extern Jsonb *wh_render_no_object(void);

/*
 * The tenant whose event a row's change is: its tenant column's, or the session's. Raises 22023 for
 * NULL, 42501 for another than the session is confined to. Allocates in the current context.
 */
extern char *wh_row_tenant(const WhWatch *watch, const TupleTableSlot *row);

#endif
