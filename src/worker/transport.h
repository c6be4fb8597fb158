/*
 * HTTP over libcurl: many requests at once, on one descriptor to wait for. Knows nothing of the
 * database.
 *
 * Nothing here raises: a request that cannot even be started comes back finished, with class
 * internal. Callbacks run inside libcurl's frames, where an ereport would jump across them.
 */
#ifndef WH_WORKER_TRANSPORT_H
#define WH_WORKER_TRANSPORT_H

#include "postgres.h"

#include "core/retry.h"
#include "lib/ilist.h"

#define WH_RESPONSE_HEADERS_MAX (16 * 1024)	/* bytes of an answer's header block that are read */
#define WH_ERROR_SIZE 320

typedef struct WhTransport WhTransport;
typedef struct WhExchange WhExchange;

/* The caller's, to embed; its strings must stay as they are until the request is released. */
typedef struct WhRequest
{
	const char *url;
	const char *const *headers; /* "Name: value", NULL-terminated */
	const char *body;
	size_t		body_len;
	int			timeout_ms;

	/*
	 * What came of it; set when the request is finished, the pointers valid until it is released.
	 */
	WhAnswer	answer;
	char		error[WH_ERROR_SIZE];	/* empty after a 2xx */
	int64		duration_us;
	char		remote_address[46]; /* empty when no connection was made */
	const char *response_headers;	/* the header block as it came, without the status line */
	size_t		response_headers_len;
	const char *response_body;
	size_t		response_body_len;
	bool		response_body_cut;	/* there was more than the limit */

	/*
	 * Descriptors or memory were wanting, and nothing was sent: no attempt was made, and error says
	 * why.
	 */
	bool		starved;

	/* the transport's: */
	WhExchange *exchange;		/* NULL while it waits, and when it ended so */
	struct WhOrigin *origin;
	int64		started_ms;
	dlist_node	node;
} WhRequest;

/* NULL when out of memory or descriptors. */
extern WhTransport *wh_transport_create(void);

/* Ends what is under way without a result. NULL is allowed. */
extern void wh_transport_destroy(WhTransport *transport);

/*
 * Takes over changed settings: for requests started from now on, and address rules also for
 * connections kept open.
 */
extern void wh_transport_reload(WhTransport *transport);

/* Becomes readable when wh_transport_drive has something to do. */
extern int	wh_transport_descriptor(const WhTransport *transport);

/* Milliseconds until wh_transport_drive must be called even so; -1 for never. */
extern long wh_transport_timeout_ms(const WhTransport *transport);

/*
 * How many requests may be under way. Less than wanted while descriptors are short, and more again
 * later. With more than that under way, those without a connection would end with starved set.
 */
extern int	wh_transport_capacity(const WhTransport *transport);

extern void wh_transport_start(WhTransport *transport, WhRequest *request);

/* Sends, receives and ends what can be, without waiting. */
extern void wh_transport_drive(WhTransport *transport);

/* The next finished request, or NULL. */
extern WhRequest *wh_transport_finished(WhTransport *transport);

/* Gives back what a finished request holds of the transport. */
extern void wh_transport_release(WhTransport *transport, WhRequest *request);

#endif
