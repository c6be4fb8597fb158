/*
 * The least that is needed around an index scan.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/relscan.h"
#include "access/subtrans.h"
#include "access/table.h"
#include "access/tableam.h"
#include "compat.h"
#include "storage/procarray.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "worker/reader.h"

WhReader *
wh_reader_open(Relation rel, Oid index, int keys)
{
	WhReader   *reader = palloc(sizeof(WhReader));

	reader->rel = rel;
	reader->index = index_open(index, AccessShareLock);
	reader->scan = wh_begin_index_scan(rel, reader->index, GetActiveSnapshot(), keys);
	reader->slot = table_slot_create(rel, NULL);
	return reader;
}

void
wh_reader_close(WhReader *reader)
{
	ExecDropSingleTupleTableSlot(reader->slot);
	index_endscan(reader->scan);
	index_close(reader->index, AccessShareLock);
	table_close(reader->rel, AccessShareLock);
}

bool
wh_reader_next(WhReader *reader)
{
	return index_getnext_slot(reader->scan, ForwardScanDirection, reader->slot);
}

bool
wh_row_at(Relation rel, BlockNumber end, ItemPointer place, int id_column, const pg_uuid_t *id,
		  TupleTableSlot *slot)
{
	return ItemPointerGetBlockNumber(place) < end &&
		table_tuple_fetch_row_version(rel, place, GetActiveSnapshot(), slot) &&
		memcmp(DatumGetUUIDP(wh_slot_get(slot, id_column)), id, UUID_LEN) == 0;
}

WhUnseen
wh_reader_unseen(WhReader *reader, TransactionId *xid)
{
	ItemPointerData tid = reader->scan->xs_heaptid;
	SnapshotData dirty;
	bool		again = false;

	InitDirtySnapshot(dirty);
	if (!table_index_fetch_tuple(reader->scan->xs_heapfetch, &tid, &dirty, reader->slot,
								 &again, NULL))
		return WH_UNSEEN_GONE;
	if (!TransactionIdIsValid(dirty.xmin))
		return WH_UNSEEN_NEW;
	*xid = SubTransGetTopmostTransaction(dirty.xmin);
	return WH_UNSEEN_PENDING;
}

bool
wh_reader_held(WhReader *reader)
{
	HeapTupleHeader row = ExecFetchSlotHeapTuple(reader->slot, false, NULL)->t_data;
	TransactionId holder = HeapTupleHeaderGetRawXmax(row);

	if (row->t_infomask & HEAP_XMAX_INVALID)
		return false;
	if (row->t_infomask & HEAP_XMAX_IS_MULTI)
		return MultiXactIdIsRunning(holder, HEAP_XMAX_IS_LOCKED_ONLY(row->t_infomask));
	return TransactionIdIsInProgress(holder);
}

Datum
wh_slot_get(TupleTableSlot *slot, int column)
{
	bool		isnull;

	return slot_getattr(slot, column, &isnull);
}
