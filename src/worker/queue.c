/*
 * What is done with the queue as a whole, now and then.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "worker/queue.h"
#include "worker/statement.h"

WhTransactionResult
wh_queue_transact(WhQueue *queue, const char *activity, void (*work) (void *), void *state)
{
	WhTransaction tx = {
		.in_session = queue->in_session, .activity = activity, .work = work, .state = state
	};

	return wh_transact(&tx);
}

/* Skips from endpoint to endpoint in the index: endpoints with nothing queued cost nothing. */
static WhStatement look_statement = {
	"WITH RECURSIVE e AS ("
	" (SELECT endpoint_id, due_at FROM webhooks.queue"
	" ORDER BY endpoint_id, due_at, delivery_id LIMIT 1)"
	" UNION ALL"
	" SELECT n.endpoint_id, n.due_at FROM e CROSS JOIN LATERAL"
	"  (SELECT q.endpoint_id, q.due_at FROM webhooks.queue q WHERE q.endpoint_id > e.endpoint_id"
	"   ORDER BY q.endpoint_id, q.due_at, q.delivery_id LIMIT 1) n"
	") SELECT endpoint_id, due_at,"
	" (SELECT p.tenant_id FROM webhooks.endpoints p WHERE p.endpoint_id = e.endpoint_id) FROM e"
};

static void
look(void *state)
{
	WhQueue    *queue = state;

	wh_statement_execute(&look_statement, NULL, true, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		bool		gone;			/* the endpoint, not what is queued for it */
		Datum		tenant_id = wh_column(row, 3, &gone);
		WhWake		wake = {
			.endpoint_id = *DatumGetUUIDP(wh_value(row, 1)),
			.due_at = DatumGetTimestampTz(wh_value(row, 2))
		};

		if (gone || (queue->shards & (UINT64CONST(1) << wh_shard(&wake.endpoint_id))) == 0)
			continue;
		wake.tenant = wh_tenant_hash(TextDatumGetCString(tenant_id));
		wh_scheduler_wake(queue->scheduler, &wake);
	}
}

WhTransactionResult
wh_queue_look(WhQueue *queue)
{
	return wh_queue_transact(queue, "looking for queued deliveries", look, queue);
}


/* ---- partitions ---- */

static WhStatement maintain_statement = {
	"SELECT webhooks.maintain() IS NULL, EXISTS (SELECT FROM webhooks.endpoints)"
};

static void
maintain(void *state)
{
	WhMaintenance *maintenance = state;

	wh_statement_execute(&maintain_statement, NULL, false, SPI_OK_SELECT);
	maintenance->done = DatumGetBool(wh_value(SPI_tuptable->vals[0], 1));
	maintenance->needed = DatumGetBool(wh_value(SPI_tuptable->vals[0], 2));
}

WhTransactionResult
wh_queue_maintain(WhQueue *queue, WhMaintenance *maintenance)
{
	*maintenance = (WhMaintenance) {0};
	return wh_queue_transact(queue, "making partitions", maintain, maintenance);
}
