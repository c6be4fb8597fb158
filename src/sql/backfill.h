/*
 * A backfill's batch, and its reading of a table.
 */
#ifndef WH_SQL_BACKFILL_H
#define WH_SQL_BACKFILL_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "sql/change.h"
#include "sql/session.h"
#include "sql/subscription.h"
#include "utils/array.h"

/* What the call is about; lasts from one transaction to the next. */
typedef struct WhBackfill
{
	Oid			relid;
	pg_uuid_t	endpoint_id;
	const char *resource;		/* NULL: not known yet, and the table has but one */
	int			batch_size;
	int64		sent;			/* by this call */
} WhBackfill;

/* A batch: what is known in one transaction. */
typedef struct WhBatch
{
	WhBackfill   *backfill;
	Relation	relation;
	WhWatch    *watch;
	const char *tenant_id;		/* the endpoint's */
	WhSubscriber endpoint;
	List	   *key;			/* the primary key's column numbers */
	List	   *selected;		/* numbers of the columns that are read */
	TupleTableSlot *row;
	ArrayType  *last;			/* the key before the batch, as text; NULL: from the start */
	int			count;
	ArrayType **keys;			/* of the rows listed */
	char	  **orders;			/* their orders; NULL: the table's events have none */
} WhBatch;

/*
 * Runs a statement as the owner of the extension's tables, which whoever may call this need not be
 * able to read.
 */
extern uint64 wh_execute_as_owner(const char *sql, int count, const WhArgument *arguments);

/*
 * Reads the rows after the batch's last key, up to one (NULL: as many as a batch has), as the
 * caller. Returns their number.
 */
extern uint64 wh_backfill_read(const WhBatch *batch, ArrayType *upto);

/* Puts a row that was read into the batch's slot. */
extern void wh_backfill_row(const WhBatch *batch, int row);

/* The key of a row that was read, a column each as text. */
extern ArrayType *wh_backfill_key(int row);

#endif
