/*
 * Rows read through an index, below the executor: a query for each would cost twice as much. Inside
 * a transaction of wh_transact.
 */
#ifndef WH_WORKER_READER_H
#define WH_WORKER_READER_H

#include "postgres.h"

#include "access/genam.h"
#include "executor/tuptable.h"
#include "storage/block.h"
#include "utils/relcache.h"
#include "utils/uuid.h"

/* An index scan, started anew for each key (index_rescan). */
typedef struct WhReader
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;		/* the row found */
} WhReader;

/* rel is open, and closed with the reader. */
extern WhReader *wh_reader_open(Relation rel, Oid index, int keys);
extern void wh_reader_close(WhReader *reader);

/* Reads the next row into slot. */
extern bool wh_reader_next(WhReader *reader);

/*
 * Whether the row of that id stands at that place, which may be from an earlier transaction: by now
 * it may have been given to another row, or cut off with the end of the table. In slot then.
 */
extern bool wh_row_at(Relation rel, BlockNumber end, ItemPointer place, int id_column,
					  const pg_uuid_t *id, TupleTableSlot *slot);

/* What became of a row that the scan's snapshot does not show. */
typedef enum WhUnseen
{
	WH_UNSEEN_GONE,				/* deleted, or never committed: no later snapshot shows it either */
	WH_UNSEEN_PENDING,			/* whoever wrote it is under way */
	WH_UNSEEN_NEW				/* committed since the snapshot was taken */
} WhUnseen;

/*
 * Of the row at whose index entry the scan stands. With WH_UNSEEN_PENDING *xid is the transaction,
 * not one of its savepoints.
 */
extern WhUnseen wh_reader_unseen(WhReader *reader, TransactionId *xid);

/* Whether a transaction under way has locked the row in slot, or is changing or deleting it. */
extern bool wh_reader_held(WhReader *reader);

/* A column of a row, for those that cannot be NULL. */
extern Datum wh_slot_get(TupleTableSlot *slot, int column);

#endif
