/*
 * The background processes: one launcher, and for each database that has the extension
 * webhooks.workers workers.
 */
#ifndef WH_WORKER_WORKER_H
#define WH_WORKER_WORKER_H

#include "postgres.h"

/* Registers the launcher; to be called from _PG_init while preloading. */
extern void wh_launcher_register(void);

/* What the launcher tells a worker, in bgw_extra. */
typedef struct WhWorkerTask
{
	Oid			database;
	int			slot;			/* reserved for it, see shmem.h */
	int			launcher_pid;	/* by whom */
	int			number;			/* among the database's workers, from 0 */
} WhWorkerTask;

/*
 * Makes DROP DATABASE and the like work beside the workers; to be called from _PG_init while
 * preloading.
 */
extern void wh_vacate_install(void);

/* Entry points, found by name. */
extern PGDLLEXPORT void wh_launcher_main(Datum arg);
extern PGDLLEXPORT void wh_worker_main(Datum arg);

#endif
