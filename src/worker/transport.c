/*
 * libcurl's multi interface on an epoll set.
 *
 * An exchange (an easy handle with the buffers of an answer) is kept and used again, and so are
 * connections, by libcurl. The address rules are asked twice: before a socket is opened, about the
 * address it would connect to, and before a request goes out, about the address the connection
 * really has, since a kept connection may be older than the rules.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/address.h"
#include "settings.h"
#include "worker/transport.h"

#define EVENTS_AT_ONCE 128

/* A copy: what the settings' own variables point to is freed at a reload. */
typedef struct Settings
{
	bool		allow_http;
	int			connect_timeout_ms;
	size_t		body_limit;
	char	   *ca_file;
	char	   *user_agent;
	WhAddressPolicy policy;
} Settings;

struct WhExchange
{
	WhTransport *transport;
	CURL	   *easy;
	struct curl_slist *headers;
	int			generation;		/* of the settings that the handle was set up with */
	bool		refused;		/* the address rules kept it from connecting */
	bool		unanswered;		/* sent once, and the connection ended without an answer */
	bool		headers_full;
	bool		body_full;
	int			sockets_opened;
	size_t		headers_len;
	size_t		body_len;
	size_t		body_room;
	char	   *body;
	char		libcurl_error[CURL_ERROR_SIZE];
	char		refusal[128];
	char		header_block[WH_RESPONSE_HEADERS_MAX];
	dlist_node	node;			/* among the spare ones */
};

/*
 * What epoll watches for on a descriptor, and whether libcurl still wants it. Between two requests
 * on a kept connection libcurl wants nothing; the watch is left in place until something happens,
 * which spares two system calls a request.
 */
typedef struct Watch
{
	uint32		events;			/* 0: not in the epoll set */
	bool		wanted;
	bool		ours;			/* opened here, so that its closing is seen here; libcurl's resolver
								 * has some of its own */
} Watch;

struct WhTransport
{
	CURLM	   *multi;
	int			epoll;
	int			wake;			/* an eventfd */
	Settings   *settings;
	Settings   *next_settings;	/* handed over by a reload, atomically; NULL when there are none */
	Watch	   *watches;		/* by descriptor */
	int			watch_count;
	int			generation;
	int64		timer_ms;		/* when libcurl wants to be called, on the monotonic clock; -1 for
								 * never */
	dlist_head	spare;			/* of WhExchange */
	dlist_head	finished;		/* of WhRequest */
	dlist_head	active;			/* of WhRequest */
};

static int64
monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
free_settings(Settings *s)
{
	if (s == NULL)
		return;
	free(s->ca_file);
	free(s->user_agent);
	free((void *) s->policy.allowed);
	free((void *) s->policy.blocked);
	free(s);
}

static void *
copy(const void *data, size_t size)
{
	void	   *out = malloc(size + 1);

	return out ? memcpy(out, data, size) : NULL;
}

static Settings *
copy_settings(void)
{
	WhAddressPolicy policy = wh_setting_address_policy();
	Settings   *s = calloc(1, sizeof(Settings));

	if (s == NULL)
		return NULL;
	s->allow_http = wh_allow_http;
	s->connect_timeout_ms = wh_connect_timeout_ms;
	s->body_limit = wh_response_body_limit_bytes;
	s->ca_file = strdup(wh_ca_file);
	s->user_agent = strdup(wh_user_agent);
	s->policy = policy;
	s->policy.allowed = copy(policy.allowed, policy.allowed_count * sizeof(WhNetwork));
	s->policy.blocked = copy(policy.blocked, policy.blocked_count * sizeof(WhNetwork));
	if (s->ca_file && s->user_agent && s->policy.allowed && s->policy.blocked)
		return s;
	free_settings(s);
	return NULL;
}

static void
take_settings(WhTransport *t)
{
	Settings   *next = __atomic_exchange_n(&t->next_settings, NULL, __ATOMIC_ACQ_REL);

	if (next == NULL)
		return;
	free_settings(t->settings);
	t->settings = next;
	t->generation++;
}


/* ---- what libcurl calls ---- */

/* NULL when out of memory. */
static Watch *
find_watch(WhTransport *t, int fd)
{
	if (fd >= t->watch_count)
	{
		int			count = Max(fd + 1, 2 * t->watch_count);
		Watch	   *larger = realloc(t->watches, count * sizeof(Watch));

		if (larger == NULL)
			return NULL;
		memset(larger + t->watch_count, 0, (count - t->watch_count) * sizeof(Watch));
		t->watches = larger;
		t->watch_count = count;
	}
	return &t->watches[fd];
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
	WhTransport *t = arg;
	Watch	   *watch = find_watch(t, fd);
	struct epoll_event event = {.data.fd = fd};

	if (watch == NULL)
		return -1;
	watch->wanted = what != CURL_POLL_REMOVE;
	if (!watch->wanted)
	{
		if (!watch->ours)
		{
			epoll_ctl(t->epoll, EPOLL_CTL_DEL, fd, NULL);
			watch->events = 0;
		}
		return 0;
	}
	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;
	if (event.events == watch->events)
		return 0;
	if (epoll_ctl(t->epoll, watch->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0)
		return -1;
	watch->events = event.events;
	return 0;
}

/* Closing takes a descriptor out of the epoll set, and its number may come again. */
static int
on_close_socket(void *arg, curl_socket_t fd)
{
	WhTransport *t = arg;

	if (fd < t->watch_count)
		t->watches[fd] = (Watch) {0};
	return close(fd);
}

static int
on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	WhTransport *t = arg;

	t->timer_ms = timeout_ms < 0 ? -1 : monotonic_ms() + timeout_ms;
	return 0;
}

static bool
peer_allowed(WhExchange *x, const struct sockaddr *peer)
{
	const char *refusal = wh_address_refusal(&x->transport->settings->policy, peer);
	char		text[INET6_ADDRSTRLEN] = "an address";

	if (refusal == NULL)
		return true;
	if (peer->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *) peer)->sin_addr, text, sizeof(text));
	else if (peer->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *) peer)->sin6_addr, text, sizeof(text));
	snprintf(x->refusal, sizeof(x->refusal), "%s is not allowed: %s", text, refusal);
	x->refused = true;
	return false;
}

static curl_socket_t
on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *peer)
{
	WhExchange *x = arg;
	Watch	   *watch;
	int			fd;

	/* libcurl goes on to the name's next address, if there is one */
	if (!peer_allowed(x, &peer->addr))
		return CURL_SOCKET_BAD;
	fd = socket(peer->family, peer->socktype | SOCK_CLOEXEC, peer->protocol);
	if (fd < 0)
		return CURL_SOCKET_BAD;
	x->sockets_opened++;
	watch = find_watch(x->transport, fd);
	if (watch)
		*watch = (Watch) {.ours = true};
	return fd;
}

static int
on_before_request(void *arg, char *peer_ip, char *local_ip, int peer_port, int local_port)
{
	WhExchange *x = arg;
	long		sent = 0;
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	const struct sockaddr *peer = NULL;

	if (inet_pton(AF_INET, peer_ip, &v4.sin_addr) == 1)
		peer = (struct sockaddr *) &v4;
	else if (inet_pton(AF_INET6, peer_ip, &v6.sin6_addr) == 1)
		peer = (struct sockaddr *) &v6;

	/* whoever cannot be named cannot be allowed */
	if (peer == NULL || !peer_allowed(x, peer))
	{
		x->refused = true;
		x->sockets_opened = 0;
		return CURL_PREREQFUNC_ABORT;
	}

	/*
	 * libcurl sends again by itself when a kept connection ends without an answer. An attempt is
	 * one request, recorded as such: only what never left is sent again here.
	 */
	curl_easy_getinfo(x->easy, CURLINFO_REQUEST_SIZE, &sent);
	if (sent > 0)
	{
		x->unanswered = true;
		return CURL_PREREQFUNC_ABORT;
	}
	return CURL_PREREQFUNC_OK;
}

static size_t
on_header(char *line, size_t size, size_t count, void *arg)
{
	WhExchange *x = arg;
	size_t		len = size * count;

	/* a status line begins an answer; what came before was an interim one */
	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
	{
		x->headers_len = 0;
		return len;
	}
	if (len > sizeof(x->header_block) - x->headers_len)
	{
		x->headers_full = true;
		return 0;
	}
	memcpy(x->header_block + x->headers_len, line, len);
	x->headers_len += len;
	return len;
}

static size_t
on_body(char *data, size_t size, size_t count, void *arg)
{
	WhExchange *x = arg;
	size_t		len = size * count;
	size_t		limit = x->transport->settings->body_limit;
	size_t		kept = Min(len, limit - Min(limit, x->body_len));

	if (x->body_len + kept > x->body_room)
	{
		size_t		room = Min(limit, Max(1024, 2 * (x->body_len + kept)));
		char	   *larger = realloc(x->body, room);

		if (larger == NULL)
			return 0;
		x->body = larger;
		x->body_room = room;
	}
	if (kept > 0)
		memcpy(x->body + x->body_len, data, kept);
	x->body_len += kept;
	if (kept < len)
	{
		/*
		 * the answer is known and its rest not wanted: an endless body must cost no more than this
		 */
		x->body_full = true;
		return 0;
	}
	return len;
}


/* ---- exchanges ---- */

#define SET(option, value) \
	do { if (code == CURLE_OK) code = curl_easy_setopt(x->easy, option, value); } while (0)

/* What all requests have in common. */
static CURLcode
set_up(WhTransport *t, WhExchange *x)
{
	const Settings *settings = t->settings;
	CURLcode	code = CURLE_OK;

	curl_easy_reset(x->easy);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROTOCOLS_STR, settings->allow_http ? "https,http" : "https");
	SET(CURLOPT_PROXY, "");		/* not even the environment's */
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (settings->ca_file[0] != '\0')
	{
		SET(CURLOPT_CAINFO, settings->ca_file);
		SET(CURLOPT_CAPATH, NULL);
	}
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) settings->connect_timeout_ms);
	SET(CURLOPT_USERAGENT, settings->user_agent[0] ? settings->user_agent : NULL);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, x);
	SET(CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
	SET(CURLOPT_CLOSESOCKETDATA, t);
	SET(CURLOPT_PREREQFUNCTION, on_before_request);
	SET(CURLOPT_PREREQDATA, x);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, x);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, x);
	SET(CURLOPT_ERRORBUFFER, x->libcurl_error);
	if (code == CURLE_OK)
		x->generation = t->generation;
	return code;
}

static CURLcode
prepare(WhTransport *t, WhExchange *x, WhRequest *request)
{
	CURLcode	code = CURLE_OK;

	x->refused = x->unanswered = x->headers_full = x->body_full = false;
	x->sockets_opened = 0;
	x->headers_len = x->body_len = 0;
	x->libcurl_error[0] = '\0';

	if (x->generation != t->generation)
		code = set_up(t, x);
	for (const char *const *h = request->headers; *h && code == CURLE_OK; h++)
	{
		struct curl_slist *longer = curl_slist_append(x->headers, *h);

		if (longer == NULL)
			code = CURLE_OUT_OF_MEMORY;
		else
			x->headers = longer;
	}
	SET(CURLOPT_URL, request->url);
	SET(CURLOPT_HTTPHEADER, x->headers);
	SET(CURLOPT_POSTFIELDS, request->body);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_len);
	SET(CURLOPT_TIMEOUT_MS, (long) request->timeout_ms);
	SET(CURLOPT_PRIVATE, request);
	return code;
}

static void
free_exchange(WhExchange *x)
{
	curl_easy_cleanup(x->easy);
	curl_slist_free_all(x->headers);
	free(x->body);
	free(x);
}

static WhExchange *
take_exchange(WhTransport *t)
{
	WhExchange *x;

	if (!dlist_is_empty(&t->spare))
		return dlist_container(WhExchange, node, dlist_pop_head_node(&t->spare));

	x = calloc(1, sizeof(WhExchange));
	if (x == NULL)
		return NULL;
	x->transport = t;
	x->generation = -1;
	x->easy = curl_easy_init();
	if (x->easy == NULL)
	{
		free(x);
		return NULL;
	}
	return x;
}


/* ---- what came of a request ---- */

static WhErrorClass
classify_failure(const WhExchange *x, CURLcode code)
{
	switch (code)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
			return WH_ERROR_DNS;
		case CURLE_COULDNT_CONNECT:
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_GOT_NOTHING:
			return WH_ERROR_CONNECT;
		case CURLE_OPERATION_TIMEDOUT:
			return WH_ERROR_TIMEOUT;
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_INVALIDCERTSTATUS:
			return WH_ERROR_TLS;
		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_UNSUPPORTED_PROTOCOL:
		case CURLE_PARTIAL_FILE:
		case CURLE_BAD_CONTENT_ENCODING:
		case CURLE_HTTP2:
		case CURLE_HTTP2_STREAM:
			return WH_ERROR_PROTOCOL;
		case CURLE_WRITE_ERROR:
			return x->headers_full ? WH_ERROR_PROTOCOL : WH_ERROR_INTERNAL;
		default:
			return WH_ERROR_INTERNAL;
	}
}

static void
describe_failure(WhRequest *request, CURLcode code)
{
	WhExchange *x = request->exchange;
	const char *scheme = NULL;

	if (x->refused && x->sockets_opened == 0)
	{
		request->answer.error_class = WH_ERROR_BLOCKED_ADDRESS;
		strlcpy(request->error, x->refusal, sizeof(request->error));
		return;
	}
	if (code == CURLE_UNSUPPORTED_PROTOCOL &&
		curl_easy_getinfo(x->easy, CURLINFO_SCHEME, &scheme) == CURLE_OK &&
		scheme == NULL && !x->transport->settings->allow_http)
	{
		request->answer.error_class = WH_ERROR_BLOCKED_ADDRESS;
		strlcpy(request->error, "http is not allowed: webhooks.allow_http is off",
				sizeof(request->error));
		return;
	}
	if (x->unanswered)
	{
		request->answer.error_class = WH_ERROR_CONNECT;
		strlcpy(request->error, "the connection was closed without an answer",
				sizeof(request->error));
		return;
	}
	request->answer.error_class = classify_failure(x, code);
	if (x->headers_full)
		snprintf(request->error, sizeof(request->error),
				 "the answer's headers are larger than %d bytes", WH_RESPONSE_HEADERS_MAX);
	else
		strlcpy(request->error, x->libcurl_error[0] ? x->libcurl_error : curl_easy_strerror(code),
				sizeof(request->error));
}

/* The exchange is used again at once, so the request gets a copy. */
static void
keep_response(WhRequest *request)
{
	const WhExchange *x = request->exchange;

	request->response = malloc(x->headers_len + x->body_len + 1);
	if (request->response == NULL)
		return;
	memcpy(request->response, x->header_block, x->headers_len);
	if (x->body_len > 0)
		memcpy(request->response + x->headers_len, x->body, x->body_len);
	request->response_headers = request->response;
	request->response_headers_len = x->headers_len;
	request->response_body = request->response + x->headers_len;
	request->response_body_len = x->body_len;
	request->response_body_cut = x->body_full;
}

static void
give_back(WhTransport *t, WhRequest *request)
{
	WhExchange *x = request->exchange;

	curl_slist_free_all(x->headers);
	x->headers = NULL;
	dlist_push_head(&t->spare, &x->node);
	request->exchange = NULL;
}

static void
finish(WhTransport *t, WhRequest *request, CURLcode code)
{
	WhExchange *x = request->exchange;
	long		status = 0;
	curl_off_t	duration_us = 0;
	curl_off_t	retry_after_s = 0;
	char	   *ip = NULL;

	curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(x->easy, CURLINFO_TOTAL_TIME_T, &duration_us);
	curl_easy_getinfo(x->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
	curl_easy_getinfo(x->easy, CURLINFO_PRIMARY_IP, &ip);
	request->answer.status = (int) status;
	request->answer.retry_after_ms = (int64) Min(retry_after_s, PG_INT32_MAX) * 1000;
	request->duration_us = duration_us;
	strlcpy(request->remote_address, ip ? ip : "", sizeof(request->remote_address));

	if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && x->body_full))
	{
		request->answer.error_class = wh_status_class((int) status);
		if (request->answer.error_class != WH_ERROR_NONE)
			snprintf(request->error, sizeof(request->error), "HTTP status %ld", status);
	}
	else
		describe_failure(request, code);

	keep_response(request);
	give_back(t, request);
	dlist_push_tail(&t->finished, &request->node);
}

static void
finish_unsent(WhTransport *t, WhRequest *request, const char *error)
{
	request->answer.error_class = WH_ERROR_INTERNAL;
	strlcpy(request->error, error, sizeof(request->error));
	if (request->exchange)
		give_back(t, request);
	dlist_push_tail(&t->finished, &request->node);
}

static void
collect(WhTransport *t)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(t->multi, &left)) != NULL)
	{
		CURL	   *easy = message->easy_handle;
		CURLcode	code = message->data.result;
		WhRequest  *request;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &request);
		curl_multi_remove_handle(t->multi, easy);	/* message is gone from here on */
		dlist_delete(&request->node);
		finish(t, request, code);
	}
}


/* ---- what the engine calls ---- */

WhTransport *
wh_transport_create(void)
{
	static bool initialized = false;
	WhTransport *t = calloc(1, sizeof(WhTransport));
	struct epoll_event wake = {.events = EPOLLIN};

	if (t == NULL)
		return NULL;
	if (!initialized && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		initialized = true;
	t->timer_ms = -1;
	dlist_init(&t->spare);
	dlist_init(&t->finished);
	dlist_init(&t->active);
	t->epoll = epoll_create1(EPOLL_CLOEXEC);
	t->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->multi = initialized ? curl_multi_init() : NULL;
	t->settings = copy_settings();
	wake.data.fd = t->wake;
	if (t->epoll < 0 || t->wake < 0 || t->multi == NULL || t->settings == NULL ||
		epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->wake, &wake) != 0)
	{
		wh_transport_destroy(t);
		return NULL;
	}
	curl_multi_setopt(t->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(t->multi, CURLMOPT_SOCKETDATA, t);
	curl_multi_setopt(t->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(t->multi, CURLMOPT_TIMERDATA, t);
	curl_multi_setopt(t->multi, CURLMOPT_MAXCONNECTS, (long) WH_IN_FLIGHT_MAX);
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

		curl_multi_remove_handle(t->multi, request->exchange->easy);
		free_exchange(request->exchange);
	}
	dlist_foreach_modify(iter, &t->finished)
		wh_request_clear(dlist_container(WhRequest, node, iter.cur));
	dlist_foreach_modify(iter, &t->spare)
		free_exchange(dlist_container(WhExchange, node, iter.cur));
	if (t->multi)
		curl_multi_cleanup(t->multi);
	if (t->epoll >= 0)
		close(t->epoll);
	if (t->wake >= 0)
		close(t->wake);
	free_settings(t->settings);
	free_settings(t->next_settings);
	free(t->watches);
	free(t);
}

bool
wh_transport_reload(WhTransport *t)
{
	Settings   *settings = copy_settings();

	if (settings == NULL)
		return false;
	free_settings(__atomic_exchange_n(&t->next_settings, settings, __ATOMIC_ACQ_REL));
	wh_transport_wake(t);
	return true;
}

void
wh_transport_wake(WhTransport *t)
{
	uint64		one = 1;

	/* it cannot fail but when there are 2^64 - 2 wakes already */
	(void) !write(t->wake, &one, sizeof(one));
}

void
wh_request_clear(WhRequest *request)
{
	free(request->response);
	request->response = NULL;
}

void
wh_transport_start(WhTransport *t, WhRequest *request)
{
	WhExchange *x = take_exchange(t);
	CURLcode	code;

	memset(&request->answer, 0, sizeof(request->answer));
	request->error[0] = request->remote_address[0] = '\0';
	request->duration_us = 0;
	request->response_headers = request->response_body = NULL;
	request->response_headers_len = request->response_body_len = 0;
	request->response_body_cut = false;
	request->response = NULL;
	request->exchange = x;
	if (x == NULL)
	{
		finish_unsent(t, request, "out of memory");
		return;
	}
	code = prepare(t, x, request);
	if (code != CURLE_OK)
		finish_unsent(t, request, curl_easy_strerror(code));
	else if (curl_multi_add_handle(t->multi, x->easy) != CURLM_OK)
		finish_unsent(t, request, "libcurl took no further request");
	else
		dlist_push_tail(&t->active, &request->node);
}

static int
wait_time_ms(const WhTransport *t, int max_wait_ms)
{
	int64		timer_ms;

	if (t->timer_ms < 0)
		return max_wait_ms;
	timer_ms = Max(0, t->timer_ms - monotonic_ms());
	return (int) (max_wait_ms < 0 ? Min(timer_ms, PG_INT32_MAX) : Min(timer_ms, max_wait_ms));
}

static void
serve(WhTransport *t, const struct epoll_event *event)
{
	int			fd = event->data.fd;
	int			what = 0;
	int			running;

	if (fd == t->wake)
	{
		uint64		count;

		(void) !read(fd, &count, sizeof(count));
		return;
	}
	if (!t->watches[fd].wanted)
	{
		/* libcurl finds out when it wants to use the connection again */
		epoll_ctl(t->epoll, EPOLL_CTL_DEL, fd, NULL);
		t->watches[fd].events = 0;
		return;
	}
	if (event->events & EPOLLIN)
		what |= CURL_CSELECT_IN;
	if (event->events & EPOLLOUT)
		what |= CURL_CSELECT_OUT;
	if (event->events & (EPOLLERR | EPOLLHUP))
		what |= CURL_CSELECT_ERR;
	curl_multi_socket_action(t->multi, fd, what, &running);
}

bool
wh_transport_drive(WhTransport *t, int max_wait_ms)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	int			count;
	bool		timer_due;

	take_settings(t);
	count = epoll_wait(t->epoll, events, EVENTS_AT_ONCE, wait_time_ms(t, max_wait_ms));
	for (int i = 0; i < count; i++)
		serve(t, &events[i]);
	timer_due = t->timer_ms >= 0 && t->timer_ms <= monotonic_ms();
	if (timer_due)
	{
		int			running;

		t->timer_ms = -1;
		curl_multi_socket_action(t->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	collect(t);
	return count > 0 || timer_due;
}

WhRequest *
wh_transport_finished(WhTransport *t)
{
	if (dlist_is_empty(&t->finished))
		return NULL;
	return dlist_container(WhRequest, node, dlist_pop_head_node(&t->finished));
}
