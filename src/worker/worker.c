/*
 * A worker: serves its share of one database's endpoints until the server stops, the extension is
 * dropped, or fewer workers are wanted, or none (webhooks.enabled off).
 *
 * Worker number i of n wants each shard s with s mod n = i, and of those of workers that do not
 * run, for want of a background worker slot or because they failed, an equal part. When that
 * changes, every worker works out its new share for itself: it takes nothing more of a shard that it
 * is to give up, gives it up once nothing of it is in hand, and the shard's lock keeps the new owner
 * from starting before.
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <sys/resource.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "settings.h"
#include "shmem.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/engine.h"
#include "worker/memory.h"
#include "worker/transaction.h"
#include "worker/worker.h"

#define WAIT_MS 60000
#define DRAIN_S 2				/* at a stop, for answers that are about to come */
#define KEPT_BYTES (8 * 1024 * 1024)	/* of freed memory, at the end of the heap */

/* The number of the worker that is to serve a shard; running is not empty. */
static int
owner(int shard, uint32 running)
{
	int			number = shard % wh_workers;
	int			turns;

	if (running & (1U << number))
		return number;
	for (turns = shard / wh_workers % pg_popcount32(running); turns > 0; turns--)
		running &= running - 1;
	return pg_rightmost_one_pos32(running);
}

static uint64
share(const WhWorkerTask *task)
{
	uint32		running = wh_workers_running(task->database) & ((1U << wh_workers) - 1);
	uint64		shards = 0;

	if (!wh_enabled || task->number >= wh_workers || running == 0)
		return 0;
	for (int s = 0; s < WH_SHARDS; s++)
		if (owner(s, running) == task->number)
			shards |= wh_shard_bit(s);
	return shards;
}

static void
reload(WhEngine *engine)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	wh_engine_reload(engine);
}

/*
 * The server's limit of file descriptors is for files. Connections come on top, two descriptors
 * each while a name is looked up or two addresses are tried.
 */
static void
raise_descriptor_limit(void)
{
	struct rlimit limit;
	rlim_t		wanted = max_safe_fds + 2 * WH_IN_FLIGHT_MAX;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = Min(limit.rlim_max, wanted);
	(void) setrlimit(RLIMIT_NOFILE, &limit);
}

/*
 * What one transaction frees the next one takes again. Left to itself malloc gives it back to the
 * system in between, which clears every page that it hands out anew: a tenth of the worker's time
 * while it loads the options of many endpoints.
 */
static void
keep_freed_memory(void)
{
#ifdef __GLIBC__
	(void) mallopt(M_MMAP_THRESHOLD, KEPT_BYTES / 2);
	(void) mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
#endif
}

static void
end_without_extension(void)
{
	wh_slot_detach(WH_SLOT_NO_EXTENSION);
	proc_exit(0);
}

/*
 * What a database has its sessions do by default is not meant for a worker: it would send, and
 * could not record what came of it.
 */
static void
set_transaction_defaults(void)
{
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
}

static void
do_nothing(void *state)
{
}

static void
check_extension(void)
{
	WhTransaction tx = {.activity = "looking for the extension", .work = do_nothing};

	if (wh_transact(&tx) == WH_TRANSACTION_NO_EXTENSION)
		end_without_extension();
}

void
wh_worker_main(Datum arg)
{
	WhWorkerTask task;
	WhEngine   *engine;
	uint32		changes = 0;	/* attaching is one, so this is none of those counted */

	memcpy(&task, MyBgworkerEntry->bgw_extra, sizeof(task));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, wh_transaction_sigterm);
	pqsignal(SIGINT, wh_transaction_sigint);
	BackgroundWorkerUnblockSignals();

	if (!wh_slot_attach(task.slot, task.launcher_pid, task.number))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(task.database, InvalidOid, 0);
	set_transaction_defaults();

	check_extension();
	wh_slot_serve();

	raise_descriptor_limit();
	keep_freed_memory();
	(void) wh_memory_use();		/* if libcurl fails, the sender says so */
	engine = wh_engine_create(TopMemoryContext, (WhEngineOptions) {0});

	while (!ShutdownRequestPending && wh_enabled && task.number < wh_workers)
	{
		bool		reloaded = ConfigReloadPending;

		if (reloaded)
			reload(engine);
		if (reloaded || changes != wh_workers_changes())
		{
			changes = wh_workers_changes();
			wh_engine_want(engine, share(&task));
		}
		if (!wh_engine_step(engine, WAIT_MS))
			end_without_extension();
	}

	wh_engine_drain(engine, GetCurrentTimestamp() + DRAIN_S * USECS_PER_SEC);
	proc_exit(0);
}
