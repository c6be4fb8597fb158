/*
 * libcurl's multi interface: its sockets in an epoll set of their own, its timers, and how many
 * sockets there may be. For transport alone.
 *
 * A pool is a multi handle, with its connections and the addresses it looked up. The present pool
 * takes new requests for less than a minute, then another does, and the old one goes when its last
 * request has ended: so nothing is sent to an address that a name had more than a minute ago, even
 * over a connection that never has a rest.
 *
 * Nothing here raises or calls a function of PostgreSQL.
 */
#ifndef WH_WORKER_SOCKETS_H
#define WH_WORKER_SOCKETS_H

#include "postgres.h"

#include <curl/curl.h>

/*
 * libcurl looks names up in threads, and leaves a thread to itself when its request has timed out.
 * More of them than this are a dead resolver's.
 */
#define WH_RESOLVER_THREADS_MAX 256

typedef struct WhSockets WhSockets;
typedef struct WhPool WhPool;

/* NULL when out of memory or descriptors. */
extern WhSockets *wh_sockets_create(void);

/* When no request is left in libcurl's hands. NULL is allowed. */
extern void wh_sockets_destroy(WhSockets *sockets);

/* The present pool. */
extern WhPool *wh_sockets_pool(WhSockets *sockets);

/* A number for each pool there ever was. */
extern int	wh_pool_number(const WhPool *pool);

/* Gives libcurl a request to run, and takes it back, whether it has ended or not. */
extern CURLcode wh_pool_run(WhPool *pool, CURL *easy);
extern void wh_pool_remove(WhPool *pool, CURL *easy);

/* The next request that has ended, still to be removed, and with what result; or NULL. */
extern CURL *wh_sockets_ended(WhSockets *sockets, CURLcode *result);

/* How many connections a pool may have; it keeps as many. */
extern void wh_sockets_set_capacity(WhSockets *sockets, int connections);

/*
 * Lets libcurl do what can be done. Waits for that for at most max_wait_ms, -1 being for ever;
 * returns whether there was something.
 */
extern bool wh_sockets_drive(WhSockets *sockets, int max_wait_ms);

/* Ends the wait of wh_sockets_drive, the present one or the next. Any thread may call it. */
extern void wh_sockets_wake(WhSockets *sockets);

/* For CURLOPT_OPENSOCKETFUNCTION and CURLOPT_CLOSESOCKETFUNCTION. -1, with errno. */
extern int	wh_sockets_open(WhSockets *sockets, const struct curl_sockaddr *peer);
extern int	wh_sockets_close(void *sockets, curl_socket_t fd);

/* How many are open. */
extern int	wh_sockets_count(const WhSockets *sockets);

/* How many there may be, beside the files that PostgreSQL counts on opening. */
extern int	wh_sockets_limit(void);

/* Whether the process has a descriptor left. */
extern bool wh_sockets_descriptor_left(const WhSockets *sockets);

/*
 * A few descriptors are held for PostgreSQL, which opens files between two looks at the sockets: to
 * be left to it when there are no others, and taken again later. False: there are too few to take.
 */
extern void wh_sockets_leave_reserve(WhSockets *sockets);
extern bool wh_sockets_take_reserve(WhSockets *sockets);

/* Milliseconds of the monotonic clock. */
extern int64 wh_monotonic_ms(void);

#endif
