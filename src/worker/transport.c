/*
 * HTTP/1.1 and HTTP/2 by libcurl's multi interface. Exchanges and connections are kept and used
 * again.
 *
 * The first request to an origin connects, and the others wait until it has: then they share the
 * connection where the receiver speaks HTTP/2, open their own where not, and share the failure when
 * there is none. (libcurl's own way to wait, CURLOPT_PIPEWAIT, has one queue for all origins, looks
 * at its head only and forgets timeouts there: a dead receiver's requests would hold up everybody
 * else's.)
 */
#include "postgres.h"

#include <curl/curl.h>

#include "settings.h"
#include "worker/exchange.h"
#include "worker/origin.h"
#include "worker/sockets.h"
#include "worker/transport.h"

/* libcurl keeps eight TLS sessions in a share, so there are many shares and each origin has one. */
#define SHARES 64

#define RAISE_MS 1000			/* after descriptors were short, between steps back up */

struct WhTransport
{
	WhExchangeContext common;
	WhTransportSettings *next_settings; /* handed over by a reload, atomically; NULL when there are
										 * none */
	CURLSH	   *shares[SHARES]; /* of TLS sessions */
	WhOrigins	origins;
	int			capacity;		/* requests under way, and connections; read by another thread */
	int64		raise_ms;		/* when a lowered capacity is raised again */
	int64		waiting_until_ms;	/* a waiting request may time out then; PG_INT64_MAX: none
									 * waits */
	dlist_head	spare;			/* of WhExchange */
	dlist_head	finished;		/* of WhRequest */
	dlist_head	active;			/* of WhRequest: libcurl has them */
	dlist_head	admitted;		/* of WhRequest: waited, and may go now */
};

static void
take_settings(WhTransport *t)
{
	WhTransportSettings *next = __atomic_exchange_n(&t->next_settings, NULL, __ATOMIC_ACQ_REL);

	if (next == NULL)
		return;
	wh_transport_settings_free(t->common.settings);
	t->common.settings = next;
	t->common.generation++;
}

static WhExchange *
take_exchange(WhTransport *t)
{
	if (dlist_is_empty(&t->spare))
		return wh_exchange_create(&t->common);
	return dlist_container(WhExchange, node, dlist_pop_head_node(&t->spare));
}

static void
give_back(WhTransport *t, WhRequest *request)
{
	wh_exchange_clear(request->exchange);
	dlist_push_head(&t->spare, &request->exchange->node);
	request->exchange = NULL;
}

static CURLcode
run(WhExchange *x, WhPool *pool)
{
	x->pool = pool;
	return wh_pool_run(pool, x->easy);
}


/* ---- the end of a request ---- */

/* The connection is there: those who waited for it may go. */
static void
let_go(WhTransport *t, WhOrigin *origin)
{
	origin->leader = NULL;
	while (!dlist_is_empty(&origin->waiting))
		dlist_push_tail(&t->admitted, dlist_pop_head_node(&origin->waiting));
}

static void
on_connected(void *state, WhRequest *request)
{
	if (request->origin->leader == request)
		let_go(state, request->origin);
}

/* The request is over; what came of it is filled in. */
static void
hand_back(WhTransport *t, WhRequest *request)
{
	wh_origin_leave(request->origin);
	request->origin = NULL;
	dlist_push_tail(&t->finished, &request->node);
}

static void
fail_unsent(WhRequest *request, WhErrorClass error_class, const char *error)
{
	request->answer.error_class = error_class;
	request->duration_us = (wh_monotonic_ms() - request->started_ms) * 1000;
	strlcpy(request->error, error, sizeof(request->error));
}

/*
 * There was no connection for the leader, so there is none for those who waited for it: it is not
 * asked for once more for each of them. A leader in a hurry of its own only makes room for the next
 * one.
 */
static void
disappoint_waiting(WhTransport *t, WhRequest *leader, CURLcode code)
{
	WhOrigin   *origin = leader->origin;

	if (code == CURLE_OPERATION_TIMEDOUT &&
		leader->timeout_ms < t->common.settings->connect_timeout_ms)
	{
		origin->pool = WH_NO_POOL;
		let_go(t, origin);
		return;
	}
	origin->leader = NULL;
	while (!dlist_is_empty(&origin->waiting))
	{
		WhRequest  *request = dlist_container(WhRequest, node,
											  dlist_pop_head_node(&origin->waiting));

		fail_unsent(request, leader->answer.error_class, leader->error);
		request->starved = leader->starved;
		request->proxy_trouble = leader->proxy_trouble;
		strlcpy(request->remote_address, leader->remote_address, sizeof(request->remote_address));
		hand_back(t, request);
	}
}

static void
finish(WhTransport *t, WhRequest *request, CURLcode code)
{
	wh_exchange_finish(request->exchange, code);
	give_back(t, request);
	if (request->origin->leader == request)
		disappoint_waiting(t, request, code);
	hand_back(t, request);
}

static void
collect(WhTransport *t)
{
	CURLcode	code;
	CURL	   *easy;

	while ((easy = wh_sockets_ended(t->common.sockets, &code)) != NULL)
	{
		WhRequest  *request;

		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &request);
		wh_pool_remove(request->exchange->pool, easy);
		if (wh_exchange_may_repeat(request->exchange, code) &&
			wh_exchange_repeat(request->exchange) == CURLE_OK &&
			run(request->exchange, wh_sockets_pool(t->common.sockets)) == CURLE_OK)
			continue;
		dlist_delete(&request->node);
		finish(t, request, code);
	}
}


/* ---- who connects, and who waits ---- */

/* Gives the request to libcurl. */
static void
begin(WhTransport *t, WhRequest *request, WhPool *pool)
{
	WhExchange *x = take_exchange(t);
	CURLcode	code;

	request->exchange = x;
	code = x ? wh_exchange_prepare(x, request, t->shares[request->origin->hash % SHARES]) :
		CURLE_OUT_OF_MEMORY;
	if (code == CURLE_OK)
		code = run(x, pool);
	if (code == CURLE_OK)
	{
		dlist_push_tail(&t->active, &request->node);
		return;
	}
	if (x)
		give_back(t, request);
	fail_unsent(request, WH_ERROR_INTERNAL, curl_easy_strerror(code));
	request->starved = code == CURLE_OUT_OF_MEMORY;
	if (request->origin->leader == request)
		disappoint_waiting(t, request, code);
	hand_back(t, request);
}

static void
begin_or_wait(WhTransport *t, WhRequest *request)
{
	WhOrigin   *origin = request->origin;
	WhPool	   *pool = wh_sockets_pool(t->common.sockets);

	if (origin->leader)
	{
		dlist_push_tail(&origin->waiting, &request->node);
		t->waiting_until_ms = Min(t->waiting_until_ms, request->started_ms + request->timeout_ms);
		return;
	}
	if (origin->pool != wh_pool_number(pool))
	{
		origin->leader = request;
		origin->pool = wh_pool_number(pool);
	}
	begin(t, request, pool);
}

/* Those who waited for a connection that now is there, or for the end of somebody else's try. */
static void
begin_admitted(WhTransport *t)
{
	while (!dlist_is_empty(&t->admitted))
	{
		while (!dlist_is_empty(&t->admitted))
			begin_or_wait(t, dlist_container(WhRequest, node, dlist_pop_head_node(&t->admitted)));
		(void) wh_sockets_drive(t->common.sockets, 0);
		collect(t);
	}
}

static void
end_overdue(WhTransport *t)
{
	int64		now_ms = wh_monotonic_ms();
	dlist_iter	origins;
	dlist_mutable_iter iter;

	if (now_ms < t->waiting_until_ms)
		return;
	t->waiting_until_ms = PG_INT64_MAX;
	for (int i = 0; i < WH_ORIGIN_BUCKETS; i++)
		dlist_foreach(origins, &t->origins.buckets[i])
		{
			WhOrigin   *origin = dlist_container(WhOrigin, node, origins.cur);

			dlist_foreach_modify(iter, &origin->waiting)
			{
				WhRequest  *request = dlist_container(WhRequest, node, iter.cur);
				int64		until_ms = request->started_ms + request->timeout_ms;

				if (until_ms > now_ms)
				{
					t->waiting_until_ms = Min(t->waiting_until_ms, until_ms);
					continue;
				}
				dlist_delete(&request->node);
				fail_unsent(request, WH_ERROR_TIMEOUT, "timed out waiting for a connection");
				hand_back(t, request);	/* the origin stays: its leader is under way */
			}
		}
}


/* ---- how many connections ---- */

static void
set_capacity(WhTransport *t, int capacity)
{
	__atomic_store_n(&t->capacity, capacity, __ATOMIC_RELAXED);
	t->raise_ms = wh_monotonic_ms() + RAISE_MS;
	wh_sockets_set_capacity(t->common.sockets, capacity);
}

static void
adapt_capacity(WhTransport *t)
{
	int			most;

	if (t->common.short_of_descriptors)
	{
		t->common.short_of_descriptors = false;
		wh_sockets_leave_reserve(t->common.sockets);
		set_capacity(t, Max(1, wh_sockets_count(t->common.sockets) * 3 / 4));
	}
	else if (t->capacity < WH_IN_FLIGHT_MAX && wh_monotonic_ms() >= t->raise_ms)
	{
		most = Min(WH_IN_FLIGHT_MAX, wh_sockets_limit());
		set_capacity(t, wh_sockets_take_reserve(t->common.sockets) ?
					 Min(most, 2 * t->capacity) : t->capacity);
	}
}


/* ---- what the sender calls ---- */

static CURLSH *
create_share(void)
{
	CURLSH	   *share = curl_share_init();

	if (share)
		curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	return share;
}

WhTransport *
wh_transport_create(void)
{
	static bool initialized = false;
	WhTransport *t = calloc(1, sizeof(WhTransport));

	if (t == NULL)
		return NULL;
	/* in a worker wh_memory_use has set libcurl up, and this counts one user more */
	if (!initialized && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		initialized = true;
	wh_origins_init(&t->origins);
	t->waiting_until_ms = PG_INT64_MAX;
	dlist_init(&t->spare);
	dlist_init(&t->finished);
	dlist_init(&t->active);
	dlist_init(&t->admitted);
	t->common.sockets = initialized ? wh_sockets_create() : NULL;
	t->common.settings = wh_transport_settings_copy();
	t->common.generation = 1;
	t->common.connected = on_connected;
	t->common.state = t;
	if (t->common.sockets == NULL || t->common.settings == NULL)
	{
		wh_transport_destroy(t);
		return NULL;
	}

	/* without a share, each handle has TLS sessions of its own */
	for (int i = 0; i < SHARES; i++)
		t->shares[i] = create_share();
	(void) wh_sockets_take_reserve(t->common.sockets);
	set_capacity(t, Min(WH_IN_FLIGHT_MAX, wh_sockets_limit()));
	return t;
}

void
wh_transport_destroy(WhTransport *t)
{
	dlist_mutable_iter iter;

	if (t == NULL)
		return;
	dlist_foreach_modify(iter, &t->active)
	{
		WhRequest  *request = dlist_container(WhRequest, node, iter.cur);

		wh_pool_remove(request->exchange->pool, request->exchange->easy);
		wh_exchange_free(request->exchange);
	}
	dlist_foreach_modify(iter, &t->finished)
		wh_request_clear(dlist_container(WhRequest, node, iter.cur));
	dlist_foreach_modify(iter, &t->spare)
		wh_exchange_free(dlist_container(WhExchange, node, iter.cur));
	wh_sockets_destroy(t->common.sockets);
	for (int i = 0; i < SHARES; i++)
		if (t->shares[i])
			curl_share_cleanup(t->shares[i]);
	wh_transport_settings_free(t->common.settings);
	wh_transport_settings_free(t->next_settings);
	wh_origins_free(&t->origins);
	free(t);
}

bool
wh_transport_reload(WhTransport *t)
{
	WhTransportSettings *settings = wh_transport_settings_copy();

	if (settings == NULL)
		return false;
	wh_transport_settings_free(__atomic_exchange_n(&t->next_settings, settings, __ATOMIC_ACQ_REL));
	wh_transport_wake(t);
	return true;
}

void
wh_transport_wake(WhTransport *t)
{
	wh_sockets_wake(t->common.sockets);
}

int
wh_transport_capacity(const WhTransport *t)
{
	return __atomic_load_n(&t->capacity, __ATOMIC_RELAXED);
}

void
wh_request_clear(WhRequest *request)
{
	free(request->large_response);
	request->large_response = NULL;
}

/*
 * The rules may have changed since it was registered. False: the request has failed, or, while it
 * has no error, memory was short.
 */
static bool
url_allowed(WhTransport *t, WhRequest *request)
{
	char		reason[WH_URL_REASON_SIZE];

	if (*request->url_allowed_by == t->common.generation)
		return true;
	switch (wh_url_judge(&t->common.settings->rules, request->url, reason))
	{
		case WH_URL_ALLOWED:
			*request->url_allowed_by = t->common.generation;
			return true;
		case WH_URL_MALFORMED:
			fail_unsent(request, WH_ERROR_PROTOCOL, reason);
			break;
		case WH_URL_REFUSED:
			fail_unsent(request, WH_ERROR_BLOCKED_ADDRESS, reason);
			break;
		case WH_URL_NOT_JUDGED:
			break;
	}
	return false;
}

void
wh_transport_start(WhTransport *t, WhRequest *request)
{
	memset(&request->answer, 0, sizeof(request->answer));
	request->error[0] = request->remote_address[0] = '\0';
	request->duration_us = 0;
	request->response_headers = request->response_body = NULL;
	request->response_headers_len = request->response_body_len = 0;
	request->response_body_cut = request->starved = request->let_through = false;
	request->proxy_trouble = WH_PROXY_FINE;
	request->large_response = NULL;
	request->exchange = NULL;
	request->started_ms = wh_monotonic_ms();
	request->origin = url_allowed(t, request) ? wh_origin_enter(&t->origins, request) : NULL;
	if (request->origin)
	{
		begin_or_wait(t, request);
		return;
	}
	if (request->error[0] == '\0')
	{
		fail_unsent(request, WH_ERROR_INTERNAL, "out of memory");
		request->starved = true;
	}
	dlist_push_tail(&t->finished, &request->node);
}

static int
wait_time_ms(const WhTransport *t, int max_wait_ms)
{
	int64		now_ms = wh_monotonic_ms();
	int64		ms;

	if (t->waiting_until_ms == PG_INT64_MAX)
		return max_wait_ms;
	ms = Max(0, t->waiting_until_ms - now_ms);
	return (int) (max_wait_ms < 0 ? Min(ms, PG_INT32_MAX) : Min(ms, max_wait_ms));
}

bool
wh_transport_drive(WhTransport *t, int max_wait_ms)
{
	bool		busy;

	take_settings(t);
	busy = wh_sockets_drive(t->common.sockets, wait_time_ms(t, max_wait_ms));
	collect(t);
	begin_admitted(t);
	end_overdue(t);
	adapt_capacity(t);
	return busy || !dlist_is_empty(&t->finished);
}

WhRequest *
wh_transport_finished(WhTransport *t)
{
	if (dlist_is_empty(&t->finished))
		return NULL;
	return dlist_container(WhRequest, node, dlist_pop_head_node(&t->finished));
}
