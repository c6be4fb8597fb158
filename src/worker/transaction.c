/*
 * Every touch of the database goes through wh_transact, so that none can be left open across the
 * network, none runs under somebody's search_path, and an error costs the work of one transaction
 * and not the process.
 *
 * The planner is told to use the indexes: the queue's statistics are those of a moment at which it
 * was empty or full.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "worker/transaction.h"

#define WORK_KEPT_BYTES (1024 * 1024)
#define SHORTAGE_LOG_S 60

/* an error raised now would be caught, and lose nothing */
static volatile sig_atomic_t cancellable = false;

/* the same, or held by wh_transaction_hold_sigterm */
static volatile sig_atomic_t working = false;

static bool sigterm_held = false;

void
wh_transaction_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	if (cancellable)
	{
		InterruptPending = true;
		QueryCancelPending = true;
	}
	ShutdownRequestPending = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

/*
 * How PostgreSQL tells of lock_timeout, and pg_cancel_backend. Between transactions there is
 * nothing to cancel.
 */
void
wh_transaction_sigint(SIGNAL_ARGS)
{
	int			save_errno = errno;

	if (working)
	{
		InterruptPending = true;
		QueryCancelPending = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

void
wh_transaction_hold_sigterm(bool hold)
{
	sigterm_held = hold;
}

static Oid
extension_owner(void)
{
	Oid			namespace = get_namespace_oid("webhooks", true);
	Oid			events;
	HeapTuple	tuple;
	Oid			owner = InvalidOid;

	if (!OidIsValid(get_extension_oid("webhooks", true)) || !OidIsValid(namespace) ||
		!OidIsValid(events = get_relname_relid("events", namespace)))
		return InvalidOid;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(events));
	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

static void
set_environment(void)
{
	set_local("search_path", "pg_catalog, pg_temp");
	set_local("enable_seqscan", "off");
	set_local("enable_bitmapscan", "off");	/* each lookup would ask for the size of the file */
	set_local("enable_hashjoin", "off");
	set_local("enable_mergejoin", "off");
	set_local("jit", "off");
	set_local("lock_timeout", "5s");
	/* the database may have been given one */
	set_local("webhooks.tenant_id", "");
}

static bool
passes(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
			return true;
		default:
			return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	}
}

/* A shortage lasts, and fails the same work every second: a line a minute tells as much. */
static bool
is_told_already(const WhTransaction *tx, int sqlerrcode)
{
	static struct
	{
		const char *activity;
		TimestampTz at;
	}			told[8];
	TimestampTz now = GetCurrentTimestamp();

	if (ERRCODE_TO_CATEGORY(sqlerrcode) != ERRCODE_INSUFFICIENT_RESOURCES)
		return false;
	for (int i = 0; i < lengthof(told); i++)
	{
		if (told[i].activity != NULL && strcmp(told[i].activity, tx->activity) != 0)
			continue;
		if (told[i].activity != NULL && now < told[i].at + SHORTAGE_LOG_S * USECS_PER_SEC)
			return true;
		told[i].activity = tx->activity;
		told[i].at = now;
		break;
	}
	return false;
}

/* A worker's cancel that came too late for the work must not hit what follows. */
static void
forget_cancel(const WhTransaction *tx)
{
	if (tx->in_session)
		return;
	cancellable = false;
	working = false;
	QueryCancelPending = false;
}

/*
 * For what work allocates: kept, with its first block, from one transaction to the next. To give so
 * much memory back and ask for it again each time costs more than many a query.
 */
static MemoryContext
work_context(void)
{
	static MemoryContext context = NULL;

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "webhooks transaction",
										WORK_KEPT_BYTES, WORK_KEPT_BYTES, ALLOCSET_DEFAULT_MAXSIZE);
	return context;
}

static WhTransactionResult
run_caught(const WhTransaction *tx)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	WhTransactionResult result = WH_TRANSACTION_DONE;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		/* opened inside, so that an error takes snapshot and connection with it */
		PushActiveSnapshot(GetTransactionSnapshot());
		SPI_connect();
		working = !tx->in_session;
		cancellable = working && !sigterm_held;
		MemoryContextSwitchTo(work_context());
		tx->work(tx->state);
		forget_cancel(tx);
		SPI_finish();
		PopActiveSnapshot();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		forget_cancel(tx);
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		/* a session's own cancel is not ours to swallow */
		if (tx->in_session &&
			ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			ReThrowError(error);

		/* no detail: it may show a row, and with it what an application or a receiver sent */
		if (!is_told_already(tx, error->sqlerrcode))
			ereport(LOG,
					(errcode(error->sqlerrcode),
					 errmsg("webhooks: %s failed: %s", tx->activity, error->message)));
		result = passes(error->sqlerrcode) ? WH_TRANSACTION_HINDERED : WH_TRANSACTION_FAILED;
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	MemoryContextReset(work_context());
	CurrentResourceOwner = owner;
	return result;
}

static WhTransactionResult
run_as_owner(const WhTransaction *tx)
{
	Oid			owner = extension_owner();
	Oid			save_user;
	int			save_context;
	int			nest_level;
	WhTransactionResult result;

	if (!OidIsValid(owner))
		return WH_TRANSACTION_NO_EXTENSION;

	GetUserIdAndSecContext(&save_user, &save_context);
	SetUserIdAndSecContext(owner, save_context | SECURITY_LOCAL_USERID_CHANGE);
	nest_level = NewGUCNestLevel();
	set_environment();
	result = run_caught(tx);
	AtEOXact_GUC(true, nest_level);
	SetUserIdAndSecContext(save_user, save_context);
	return result;
}

WhTransactionResult
wh_transact(const WhTransaction *tx)
{
	WhTransactionResult result;

	if (tx->in_session)
	{
		result = run_as_owner(tx);
		SPI_commit();
		return result;
	}

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, tx->activity);
	result = run_as_owner(tx);
	/* not by set_local, which ends with the work: this is for the commit */
	if (tx->flush_later && synchronous_commit > SYNCHRONOUS_COMMIT_OFF)
		(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	return result;
}
