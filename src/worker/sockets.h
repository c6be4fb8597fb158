/*
 * The sockets of libcurl's multi interface: an epoll set of their own, libcurl's timer, and how
 * many of them there may be. For transport alone.
 *
 * Nothing here raises or calls a function of PostgreSQL.
 */
#ifndef WH_WORKER_SOCKETS_H
#define WH_WORKER_SOCKETS_H

#include "postgres.h"

#include <curl/curl.h>

typedef struct WhSockets WhSockets;

/* Takes over the multi handle's callbacks. NULL when out of memory or descriptors. */
extern WhSockets *wh_sockets_create(CURLM *multi);

/* After curl_multi_cleanup, which still closes sockets. NULL is allowed. */
extern void wh_sockets_destroy(WhSockets *sockets);

/* Gives libcurl a request to run. */
extern CURLcode wh_sockets_run(WhSockets *sockets, CURL *easy);

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
