/*
 * What results say of the endpoints themselves: which are gone, which fail, and what the tenant is
 * to be told.
 */
#ifndef WH_WORKER_HEALTH_H
#define WH_WORKER_HEALTH_H

#include "postgres.h"

#include "worker/queue.h"

/*
 * For the transaction that records the results, when they are written: disables endpoints, and
 * raises the operational events.
 */
extern void wh_health_note(WhDelivery **results, int count);

/* That transaction has committed. */
extern void wh_health_noted(WhDelivery **results, int count);

#endif
