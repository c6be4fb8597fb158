/*
 * HTTP over libcurl: many requests at once. Knows nothing of the database.
 *
 * It runs in a thread that is not PostgreSQL's, so nothing here raises, allocates with palloc or
 * reads a setting that a reload may change under it: settings come as a copy. A request that cannot
 * even be started comes back finished, with class internal.
 */
#ifndef WH_WORKER_TRANSPORT_H
#define WH_WORKER_TRANSPORT_H

#include "postgres.h"

#include "core/client_certificate.h"
#include "core/retry.h"
#include "lib/ilist.h"

#define WH_RESPONSE_HEADERS_MAX (16 * 1024)	/* bytes of an answer's header block that are read */
#define WH_ERROR_SIZE 320
#define WH_RESPONSE_SMALL 1024	/* bytes of an answer that need no allocation */

typedef struct WhTransport WhTransport;
typedef struct WhExchange WhExchange;

/* Why a request did not come through the proxy; nothing of it was sent. */
typedef enum WhProxyTrouble
{
	WH_PROXY_FINE,
	WH_PROXY_FAILS,				/* it cannot be used */
	WH_PROXY_REFUSES			/* it does not connect to this receiver */
} WhProxyTrouble;

/* What a receiver that asks for it is shown. */
typedef struct WhClientCertificate
{
	char		id[WH_CERTIFICATE_ID_SIZE];	/* tells it from others */
	char	   *certificate;	/* PEM */
	char	   *key;
} WhClientCertificate;

/* The caller's, to embed; its strings must stay as they are until the request is released. */
typedef struct WhRequest
{
	const char *url;

	/*
	 * Kept with the URL, 0 at first, for the transport to write down under which settings it has
	 * judged it, so that it judges it once.
	 */
	int		   *url_allowed_by;
	const char *const *headers; /* "Name: value", NULL-terminated */
	const char *body;
	size_t		body_len;
	int			timeout_ms;
	const WhClientCertificate *certificate; /* NULL: none */

	/*
	 * What came of it; set when the request is finished, the pointers valid until it is cleared.
	 */
	WhAnswer	answer;
	char		error[WH_ERROR_SIZE];	/* empty after a 2xx */
	int64		duration_us;
	bool		sent;			/* it had a connection to the receiver, and went out, if not whole */
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

	WhProxyTrouble proxy_trouble;	/* if the error is the proxy's */
	bool		let_through;	/* a connection was opened through the proxy */

	char	   *large_response; /* malloc'd; NULL where the answer fits into the next */
	char		small_response[WH_RESPONSE_SMALL];
	WhExchange *exchange;		/* the transport's; NULL while it waits, and at its end */
	struct WhOrigin *origin;	/* the transport's */
	int64		started_ms;		/* the transport's */
	dlist_node	node;			/* whose list it stands in: the sender's or the transport's */
} WhRequest;

/* With the settings of this moment. NULL when out of memory or descriptors. */
extern WhTransport *wh_transport_create(void);

/* Ends what is under way without a result. NULL is allowed. */
extern void wh_transport_destroy(WhTransport *transport);

extern void wh_transport_start(WhTransport *transport, WhRequest *request);

/*
 * Sends, receives and ends what can be. Waits for something to do for at most max_wait_ms, -1 being
 * for ever; returns whether there was something.
 */
extern bool wh_transport_drive(WhTransport *transport, int max_wait_ms);

/* The next finished request, or NULL. */
extern WhRequest *wh_transport_finished(WhTransport *transport);

/* The three functions that another thread may call: */

/*
 * How many requests may be under way: less than wanted while descriptors are short, and more again
 * later. With more than that under way, those without a connection would end with starved set.
 */
extern int	wh_transport_capacity(const WhTransport *transport);

/*
 * Takes over changed settings: for requests started from now on, and address rules also for
 * connections kept open. False when out of memory: it goes on with the old ones.
 */
extern bool wh_transport_reload(WhTransport *transport);

/* Ends the wait of wh_transport_drive, the present one or the next. */
extern void wh_transport_wake(WhTransport *transport);

/* Frees what a finished request holds. */
extern void wh_request_clear(WhRequest *request);

#endif
