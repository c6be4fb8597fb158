/*
 * The launcher: sees to it that each database that has the extension has its workers, without being
 * told their names.
 *
 * Which databases have the extension is written in each of them, and a process can look into one
 * database only, so the launcher starts a first worker everywhere, and a worker that finds no
 * extension says so and ends. After that nothing is asked again until CREATE EXTENSION commits
 * somewhere, or a database appears.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "settings.h"
#include "shmem.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/worker.h"

#define DATABASES_S 60			/* between looks at the list of databases */
#define RESTART_S 2				/* before a worker that failed is started again */
#define COMPLAINT_S 60			/* between lines of the log about missing slots */
#define PROBES_MAX 4			/* databases looked into at the same time */

typedef enum Presence
{
	UNKNOWN,					/* a first worker has to look */
	PRESENT,
	ABSENT
} Presence;

typedef struct Worker
{
	BackgroundWorkerHandle *handle; /* NULL while there is none */
	int			slot;
	bool		asked;			/* the extension may have come to its database since its start */
	TimestampTz not_before;		/* of its next start */
} Worker;

typedef struct Database
{
	Oid			oid;
	bool		listed;			/* found in pg_database at the last look */
	Presence	presence;
	Worker		workers[WH_WORKERS_MAX];
} Database;

static List *databases = NIL;

static Database *
find_database(Oid oid)
{
	ListCell   *cell;
	Database   *db;

	foreach(cell, databases)
	{
		db = lfirst(cell);
		if (db->oid == oid)
			return db;
	}
	db = MemoryContextAllocZero(TopMemoryContext, sizeof(Database));
	db->oid = oid;
	return db;
}

static void
list_database(Form_pg_database form)
{
	MemoryContext before;
	Database   *db;

	if (!form->datallowconn)
		return;
	db = find_database(form->oid);
	db->listed = true;
	before = MemoryContextSwitchTo(TopMemoryContext);
	databases = list_append_unique_ptr(databases, db);
	MemoryContextSwitchTo(before);
}

static bool
has_worker(const Database *db)
{
	for (int i = 0; i < WH_WORKERS_MAX; i++)
		if (db->workers[i].handle)
			return true;
	return false;
}

static void
list_databases(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	ListCell   *cell;

	foreach(cell, databases)
		((Database *) lfirst(cell))->listed = false;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
		list_database((Form_pg_database) GETSTRUCT(tuple));
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();

	foreach(cell, databases)
	{
		Database   *db = lfirst(cell);

		if (!db->listed && !has_worker(db))
		{
			databases = foreach_delete_current(databases, cell);
			pfree(db);
		}
	}
}

/*
 * The extension may have come to this database. A worker that is under way, or ending, may have
 * looked before, whatever it will say.
 */
static void
take_notice(Database *db)
{
	for (int i = 0; i < WH_WORKERS_MAX; i++)
		db->workers[i].asked = true;
	if (db->presence != ABSENT)
		return;
	db->presence = UNKNOWN;
	db->workers[0].not_before = 0;
}

/* The extension may have come to a database, or to any; returns whether there may be new ones. */
static bool
take_notices(void)
{
	Oid			oid;
	ListCell   *cell;

	if (!wh_launcher_take_notice(&oid))
		return false;
	foreach(cell, databases)
	{
		Database   *db = lfirst(cell);

		if (oid == InvalidOid || oid == db->oid)
			take_notice(db);
	}
	return true;
}

static void
start_worker(Database *db, int number, TimestampTz now)
{
	static TimestampTz complained_at = 0;
	Worker	   *w = &db->workers[number];
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_notify_pid = MyProcPid
	};
	WhWorkerTask task = {
		.database = db->oid, .launcher_pid = MyProcPid, .number = number
	};

	w->asked = false;
	w->not_before = now + RESTART_S * USECS_PER_SEC;
	task.slot = wh_slot_reserve(db->oid);
	if (task.slot != WH_SLOT_NONE)
	{
		strlcpy(worker.bgw_library_name, "webhooks", BGW_MAXLEN);
		strlcpy(worker.bgw_function_name, "wh_worker_main", BGW_MAXLEN);
		strlcpy(worker.bgw_type, "webhooks worker", BGW_MAXLEN);
		snprintf(worker.bgw_name, BGW_MAXLEN, "webhooks worker %d of database %u", number, db->oid);
		memcpy(worker.bgw_extra, &task, sizeof(task));
		if (RegisterDynamicBackgroundWorker(&worker, &w->handle))
		{
			w->slot = task.slot;
			return;
		}
		wh_slot_release(task.slot);
	}
	w->handle = NULL;
	if (now < complained_at + COMPLAINT_S * USECS_PER_SEC)
		return;
	complained_at = now;
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("webhooks: no background worker slot is free for database %u", db->oid),
			 errhint("Raise max_worker_processes; the launcher tries again every few seconds.")));
}

/* Takes note of a worker that has ended; its slot says why. */
static void
reap_worker(Database *db, Worker *w, TimestampTz now)
{
	pid_t		pid;

	if (w->handle == NULL || GetBackgroundWorkerPid(w->handle, &pid) != BGWH_STOPPED)
		return;
	switch (wh_slot_state(w->slot))
	{
		case WH_SLOT_NO_EXTENSION:
			db->presence = w->asked ? UNKNOWN : ABSENT;
			break;
		case WH_SLOT_ENDED:
		case WH_SLOT_STARTING:
		case WH_SLOT_RUNNING:
		case WH_SLOT_FREE:
			break;
	}
	wh_slot_release(w->slot);
	pfree(w->handle);
	w->handle = NULL;
	w->not_before = now + RESTART_S * USECS_PER_SEC;
}

/* Returns whether a start has to wait. */
static bool
keep_workers(Database *db, int *probes, TimestampTz now)
{
	int			wanted = 0;
	bool		waiting = false;

	if (!db->listed || !wh_enabled || wh_database_barred(db->oid))
		return false;
	if (db->presence == UNKNOWN && db->workers[0].handle == NULL)
	{
		if (*probes >= PROBES_MAX)
			return true;
		wanted = 1;
	}
	if (db->presence == PRESENT)
		wanted = wh_workers;

	for (int i = 0; i < wanted; i++)
	{
		if (db->workers[i].handle)
			continue;
		if (db->workers[i].not_before <= now)
			start_worker(db, i, now);
		waiting |= db->workers[i].handle == NULL;
	}
	return waiting;
}

/* A first worker that runs and has not said otherwise has found the extension. */
static void
judge_presence(Database *db, int *probes)
{
	Worker	   *w = &db->workers[0];

	if (db->presence != UNKNOWN || w->handle == NULL)
		return;
	if (wh_slot_serves(w->slot))
		db->presence = PRESENT;
	else
		(*probes)++;
}

/* Returns for how long there is nothing to do, in milliseconds. */
static long
tend(void)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;
	int			probes = 0;
	bool		waiting = false;

	foreach(cell, databases)
	{
		Database   *db = lfirst(cell);

		for (int i = 0; i < WH_WORKERS_MAX; i++)
			reap_worker(db, &db->workers[i], now);
		judge_presence(db, &probes);
	}
	foreach(cell, databases)
		waiting |= keep_workers(lfirst(cell), &probes, now);
	return waiting || probes > 0 ? RESTART_S * 250L : DATABASES_S * 1000L;
}

void
wh_launcher_main(Datum arg)
{
	TimestampTz listed_at = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	wh_launcher_attach();

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		long		ms;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (take_notices() || now >= listed_at + DATABASES_S * USECS_PER_SEC)
		{
			list_databases();
			listed_at = now;
		}
		ms = tend();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
wh_launcher_register(void)
{
	BackgroundWorker launcher = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = RESTART_S
	};

	strlcpy(launcher.bgw_library_name, "webhooks", BGW_MAXLEN);
	strlcpy(launcher.bgw_function_name, "wh_launcher_main", BGW_MAXLEN);
	strlcpy(launcher.bgw_name, "webhooks launcher", BGW_MAXLEN);
	strlcpy(launcher.bgw_type, "webhooks launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&launcher);
}
