/*
 * The headers of a delivery's request, its signature among them.
 */
#ifndef WH_WORKER_HEADERS_H
#define WH_WORKER_HEADERS_H

#include "postgres.h"

#include "worker/queue.h"

/*
 * Signs the request and fills in its headers, palloc'd. False: it cannot be signed.
 */
extern bool wh_headers_make(WhDelivery *delivery);

#endif
