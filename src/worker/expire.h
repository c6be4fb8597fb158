/*
 * Gives up deliveries that have expired.
 */
#ifndef WH_WORKER_EXPIRE_H
#define WH_WORKER_EXPIRE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * Makes dead letters of the queued deliveries with these ids, as uuid datums, that have expired by
 * now; returns their number. Inside a transaction of wh_transact.
 */
extern int	wh_expire(Datum *ids, int count, TimestampTz now);

#endif
