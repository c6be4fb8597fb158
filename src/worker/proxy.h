/*
 * Requests through the proxy of webhooks.proxy, and telling its failures from the receiver's. For
 * exchange alone.
 */
#ifndef WH_WORKER_PROXY_H
#define WH_WORKER_PROXY_H

#include "postgres.h"

#include <curl/curl.h>

#include "worker/exchange.h"

/* Tells the handle which proxy to use, be it none. */
extern CURLcode wh_proxy_set_up(WhExchange *exchange);

/*
 * After a failure: whether it is the proxy's. Then the request says so, with the error and the
 * class that it has if it is counted as an attempt.
 */
extern bool wh_proxy_take_failure(const WhExchange *exchange, CURLcode code);

/* Whether a connection was opened through the proxy. */
extern bool wh_proxy_let_through(const WhExchange *exchange);

#endif
