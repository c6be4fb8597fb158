/*
 * Endpoints' options, read from the tables into the scheduler's endpoints. Inside a transaction of
 * wh_transact.
 */
#ifndef WH_WORKER_CONFIG_H
#define WH_WORKER_CONFIG_H

#include "postgres.h"

#include "worker/scheduler.h"

/*
 * Loads the options of the picked endpoints that have none, or none that are up to date; an
 * endpoint whose row is missing is left without. What is loaded is allocated in context.
 */
extern void wh_config_load(WhScheduler *scheduler, WhPick *picks, int count, MemoryContext context);

#endif
