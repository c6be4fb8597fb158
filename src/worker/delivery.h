/*
 * What is sent of an event to an endpoint: the body in the endpoint's format, and the event's
 * headers.
 */
#ifndef WH_WORKER_DELIVERY_H
#define WH_WORKER_DELIVERY_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "worker/queue.h"

/*
 * Makes a delivery of a queue row and its event, for an endpoint whose options are loaded. One
 * allocation in context holds all of it; scratch is reset. Raises an error when the event's
 * Authorization header cannot be opened.
 */
extern WhDelivery *wh_delivery_make(MemoryContext context, StringInfo scratch,
									WhEndpoint *endpoint, TupleTableSlot *row,
									TupleTableSlot *event);

#endif
