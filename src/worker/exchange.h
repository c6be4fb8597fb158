/*
 * One request in libcurl's hands: an easy handle with the buffers of an answer, kept and used
 * again. For transport alone, in the transport's thread.
 *
 * Nothing here raises or calls a function of PostgreSQL.
 */
#ifndef WH_WORKER_EXCHANGE_H
#define WH_WORKER_EXCHANGE_H

#include "postgres.h"

#include <curl/curl.h>

#include "lib/ilist.h"
#include "url_rules.h"
#include "worker/sockets.h"
#include "worker/transport.h"

/* A copy: what the settings' own variables point to is freed at a reload. */
typedef struct WhTransportSettings
{
	WhUrlRules	rules;
	int			connect_timeout_ms;
	size_t		body_limit;
	char	   *ca_file;
	char	   *user_agent;
	char	   *proxy;			/* empty: none */
} WhTransportSettings;

/* What the exchanges of a transport have in common; the transport's. */
typedef struct WhExchangeContext
{
	WhSockets  *sockets;
	WhTransportSettings *settings;
	int			generation;		/* of the settings; counts up from 1 */
	bool		short_of_descriptors;	/* set here when there was none left */

	/* The request has a connection, and is about to be sent. */
	void		(*connected) (void *state, WhRequest *request);
	void	   *state;
} WhExchangeContext;

struct WhExchange
{
	WhExchangeContext *context;
	WhRequest  *request;
	CURL	   *easy;
	WhPool	   *pool;			/* that runs it */
	CURLSH	   *share;			/* that the handle has */
	struct curl_slist *headers; /* links of a list */
	int			header_room;
	int			generation;		/* of the settings that the handle was set up with; 0: none */
	bool		proxied;		/* it was set up to go through a proxy */
	bool		connected;		/* to the receiver */
	bool		refused;		/* the address rules kept it from connecting */
	bool		starved;		/* the machine did */
	bool		has_certificate;	/* the handle was given one */
	bool		unanswered;		/* sent once, and the connection ended without an answer */
	bool		is_http2;		/* the connection last used */
	bool		headers_full;
	bool		body_full;
	int			sockets_opened;
	int			sends;
	int64		waited_ms;		/* before libcurl got the request, this time */
	size_t		headers_len;
	size_t		body_len;
	size_t		body_room;
	char	   *body;
	char		libcurl_error[CURL_ERROR_SIZE];
	char		reason[WH_URL_REASON_SIZE]; /* why it was refused or starved */
	char		header_block[WH_RESPONSE_HEADERS_MAX];
	dlist_node	node;			/* among the spare ones: the transport's */
};

/* NULL when out of memory. */
extern WhTransportSettings *wh_transport_settings_copy(void);
extern void wh_transport_settings_free(WhTransportSettings *settings);

/* NULL when out of memory. */
extern WhExchange *wh_exchange_create(WhExchangeContext *context);
extern void wh_exchange_free(WhExchange *exchange);

/* Makes ready what the request says, to be given to libcurl. */
extern CURLcode wh_exchange_prepare(WhExchange *exchange, WhRequest *request, CURLSH *share);

/*
 * Whether the receiver has refused the request unseen where libcurl does not send it again by
 * itself; then it may be given to libcurl once more.
 */
extern bool wh_exchange_may_repeat(const WhExchange *exchange, CURLcode code);
extern CURLcode wh_exchange_repeat(WhExchange *exchange);

/* Fills in what came of the request, with a copy of the answer. */
extern void wh_exchange_finish(WhExchange *exchange, CURLcode code);

/* Makes the exchange a spare one. */
extern void wh_exchange_clear(WhExchange *exchange);

#endif
