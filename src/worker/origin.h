/*
 * Origins (scheme, host and port, and the client certificate shown there) that requests are under
 * way to, so that the first of them makes the connection and the others wait for it. Requests with
 * different certificates share no connection. For transport alone.
 *
 * Nothing here raises or calls a function of PostgreSQL.
 */
#ifndef WH_WORKER_ORIGIN_H
#define WH_WORKER_ORIGIN_H

#include "postgres.h"

#include "core/client_certificate.h"
#include "lib/ilist.h"

#define WH_ORIGIN_BUCKETS 1024
#define WH_NO_POOL (-1)

struct WhRequest;

typedef struct WhOrigin
{
	dlist_node	node;			/* of its bucket */
	uint32		hash;
	int			requests;		/* under way and waiting; it goes with the last */
	int			pool;			/* number of the one that has, or is to have, a connection to it */
	struct WhRequest *leader;	/* is connecting, and the waiting ones wait for that; or NULL */
	dlist_head	waiting;		/* of WhRequest */
	char		certificate[WH_CERTIFICATE_ID_SIZE];	/* empty: none */
	size_t		name_len;
	char		name[FLEXIBLE_ARRAY_MEMBER];
} WhOrigin;

typedef struct WhOrigins
{
	dlist_head	buckets[WH_ORIGIN_BUCKETS];
} WhOrigins;

extern void wh_origins_init(WhOrigins *origins);
extern void wh_origins_free(WhOrigins *origins);

/* The request's origin, with one request more; NULL when out of memory. */
extern WhOrigin *wh_origin_enter(WhOrigins *origins, const struct WhRequest *request);

/* One request less. */
extern void wh_origin_leave(WhOrigin *origin);

#endif
