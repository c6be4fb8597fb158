/*
 * Queue rows that a transaction of somebody else's holds. It is about to cancel them, or to change
 * them otherwise; sent all the same, their results could not be recorded before it ends, and they
 * would keep their places in hand as long. So a read of the endpoint passes over them, and another
 * goes back to them a second later.
 */
#ifndef WH_WORKER_HELD_H
#define WH_WORKER_HELD_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "worker/scheduler.h"

#define WH_HELD_WAIT_US USECS_PER_SEC

/* The first row after this place is passed over. */
extern void wh_held_pass_over(WhEndpoint *endpoint, const WhCursor *place);

/* Before a read: when it is time, it begins at what was passed over. */
extern void wh_held_go_back(WhEndpoint *endpoint, TimestampTz now);

/*
 * After a read: the next comes in time for what was passed over. As long as there is more to read
 * that waits: else very many such rows would keep the reader from those behind them.
 */
extern void wh_held_come_back(WhEndpoint *endpoint, TimestampTz now);

#endif
