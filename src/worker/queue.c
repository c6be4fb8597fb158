/*
 * What is done with the queue as a whole, now and then.
 */
#include "postgres.h"

#include "executor/spi.h"
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

static WhStatement maintain_statement = {
	"SELECT webhooks.maintain() IS NULL, EXISTS (SELECT FROM webhooks.endpoints)"
	" OR EXISTS (SELECT FROM webhooks.sources)"
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
