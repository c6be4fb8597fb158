/*
 * Rows read through an index, below the executor: a query for each would cost twice as much. Inside
 * a transaction of wh_transact.
 */
#ifndef WH_WORKER_READER_H
#define WH_WORKER_READER_H

#include "postgres.h"

#include "access/genam.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"

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

/* A column of a row, for those that cannot be NULL. */
extern Datum wh_slot_get(TupleTableSlot *slot, int column);

#endif
