/*
 * HTTP/1.1 and HTTP/2 by libcurl's multi interface.
 *
 * An exchange (an easy handle with the buffers of an answer) is kept and used again, and so are
 * connections, by libcurl. The address rules are asked twice: before a socket is opened, about the
 * address it would connect to, and before a request goes out, about the address the connection
 * really has, since a kept connection may be older than the rules.
 *
 * The first request to an origin connects, and the others wait until it has: then they share the
 * connection where the receiver speaks HTTP/2, open their own where not, and share the failure when
 * there is none. (libcurl's own way to wait, CURLOPT_PIPEWAIT, has one queue for all origins, looks
 * at its head only and forgets timeouts there: a dead receiver's requests would hold up everybody
 * else's.)
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/address.h"
#include "settings.h"
#include "worker/origin.h"
#include "worker/sockets.h"
#include "worker/transport.h"

/*
 * An address is asked for anew after half a minute, and a connection used for as long, so that
 * nothing is sent to an address that the name had more than a minute ago.
 */
#define DNS_CACHE_S 30
#define CONNECTION_LIFE_S 30
#define AGE_GROUPS 4

/*
 * libcurl looks names up in threads, and leaves a thread to itself when its request has timed out.
 * More of them than this are a dead resolver's.
 */
#define THREADS_MAX 256

/* libcurl keeps eight TLS sessions in a share, so there are many shares and each origin has one. */
#define SHARES 64

#define SENDS_MAX 5				/* of a request that the receiver refuses unseen */

#define BODY_KEPT (16 * 1024)	/* room for an answer that a spare exchange keeps */

#define RAISE_MS 1000			/* after descriptors were short, between steps back up */

struct WhExchange
{
	WhTransport *transport;
	WhRequest  *request;
	CURL	   *easy;
	struct curl_slist *headers;
	int			generation;		/* of the settings that the handle was set up with */
	bool		refused;		/* the address rules kept it from connecting */
	bool		starved;		/* the machine did */
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
	char		reason[128];	/* why it was refused or starved */
	char		header_block[WH_RESPONSE_HEADERS_MAX];
	dlist_node	node;			/* among the spare ones */
};

struct WhTransport
{
	CURLM	   *multi;
	WhSockets  *sockets;
	CURLSH	   *shares[SHARES]; /* of TLS sessions */
	WhOrigins	origins;
	int			generation;
	int			capacity;		/* requests under way, and connections */
	int64		raise_ms;		/* when a lowered capacity is raised again */
	bool		short_of_descriptors;
	int64		waiting_until_ms;	/* a waiting request may time out then; PG_INT64_MAX: none waits */
	dlist_head	spare;			/* of WhExchange */
	dlist_head	finished;		/* of WhRequest */
	dlist_head	active;			/* of WhRequest: libcurl has them */
	dlist_head	admitted;		/* of WhRequest: waited, and may go now */
};

/*
 * libcurl starts threads to resolve names. They must not take signals that PostgreSQL's handlers
 * expect in the main thread, and a new thread has the mask of the one that starts it.
 */
static void
block_signals(sigset_t *before)
{
	sigset_t	all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, before);
}

static void
restore_signals(const sigset_t *before)
{
	pthread_sigmask(SIG_SETMASK, before, NULL);
}


/* ---- what libcurl calls ---- */

static bool
peer_allowed(WhExchange *x, const struct sockaddr *peer)
{
	WhAddressPolicy policy = wh_setting_address_policy();
	const char *refusal = wh_address_refusal(&policy, peer);
	char		text[INET6_ADDRSTRLEN] = "an address";

	if (refusal == NULL)
		return true;
	if (peer->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *) peer)->sin_addr, text, sizeof(text));
	else if (peer->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *) peer)->sin6_addr, text, sizeof(text));
	snprintf(x->reason, sizeof(x->reason), "%s is not allowed: %s", text, refusal);
	x->refused = true;
	return false;
}

static int
on_look_up(void *resolver, void *reserved, void *arg)
{
	WhExchange *x = arg;
	struct stat tasks;

	/* this directory's links are ".", ".." and one for each thread */
	if (stat("/proc/self/task", &tasks) != 0 || tasks.st_nlink <= THREADS_MAX + 2)
		return 0;
	x->starved = true;
	strlcpy(x->reason, "too many look-ups of names are without an answer", sizeof(x->reason));
	return 1;
}

static curl_socket_t
on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *peer)
{
	WhExchange *x = arg;
	int			fd;

	/* libcurl goes on to the name's next address, if there is one */
	if (!peer_allowed(x, &peer->addr))
		return CURL_SOCKET_BAD;
	fd = wh_sockets_open(x->transport->sockets, peer);
	if (fd >= 0)
	{
		x->sockets_opened++;
		return fd;
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
	{
		x->starved = x->transport->short_of_descriptors = true;
		snprintf(x->reason, sizeof(x->reason), "could not open a socket: %m");
	}
	return CURL_SOCKET_BAD;
}

/* Whether HTTP/2 was agreed upon for the connection that the handle is about to use. */
static bool
speaks_http2(CURL *easy)
{
	const struct curl_tlssessioninfo *tls = NULL;
	const unsigned char *protocol = NULL;
	unsigned int len = 0;

	if (curl_easy_getinfo(easy, CURLINFO_TLS_SSL_PTR, &tls) != CURLE_OK || tls == NULL ||
		tls->backend != CURLSSLBACKEND_OPENSSL || tls->internals == NULL)
		return false;
	SSL_get0_alpn_selected(tls->internals, &protocol, &len);
	return len == 2 && memcmp(protocol, "h2", 2) == 0;
}

/*
 * libcurl sends again by itself when a connection ends without an answer. An attempt is one
 * request, recorded as such: only what the receiver cannot have acted upon is sent again here.
 * That is a stream of HTTP/2 that it refused, or that came after the last one it announced to
 * serve (RFC 9113, 8.7); nothing else ends a stream there without a word of libcurl's about it.
 */
static bool
may_send_again(const WhExchange *x)
{
	return x->is_http2 &&
		(x->libcurl_error[0] == '\0' || strstr(x->libcurl_error, "HTTP_1_1_REQUIRED") != NULL);
}

/* The connection is there: those who waited for it may go. */
static void
let_go(WhTransport *t, WhOrigin *origin)
{
	origin->leader = NULL;
	while (!dlist_is_empty(&origin->waiting))
		dlist_push_tail(&t->admitted, dlist_pop_head_node(&origin->waiting));
}

static int
on_before_request(void *arg, char *peer_ip, char *local_ip, int peer_port, int local_port)
{
	WhExchange *x = arg;
	WhRequest  *request = x->request;
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

	curl_easy_getinfo(x->easy, CURLINFO_REQUEST_SIZE, &sent);
	if (sent > 0 && !may_send_again(x))
	{
		x->unanswered = true;
		return CURL_PREREQFUNC_ABORT;
	}
	x->is_http2 = speaks_http2(x->easy);
	if (request->origin->leader == request)
		let_go(x->transport, request->origin);
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

/* Returns how much of the body there is room for, up to len; less when out of memory. */
static size_t
make_room(WhExchange *x, size_t len)
{
	size_t		limit = wh_response_body_limit_bytes;
	size_t		room = Min(limit, Max(1024, 2 * (x->body_len + len)));
	char	   *larger;

	len = Min(len, limit - Min(limit, x->body_len));
	if (x->body_len + len > x->body_room)
	{
		larger = realloc(x->body, room);
		if (larger == NULL)
			return x->body_room - x->body_len;
		x->body = larger;
		x->body_room = room;
	}
	return len;
}

static size_t
on_body(char *data, size_t size, size_t count, void *arg)
{
	WhExchange *x = arg;
	size_t		len = size * count;
	size_t		kept = make_room(x, len);

	if (kept > 0)
		memcpy(x->body + x->body_len, data, kept);
	x->body_len += kept;
	if (kept < len)
	{
		/*
		 * The answer is known and its rest not wanted: an endless body must cost no more than this.
		 * Over HTTP/2 it ends this stream and no other.
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
	CURLcode	code = CURLE_OK;

	curl_easy_reset(x->easy);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L);	/* never wait for a thread that looks up a name */
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROTOCOLS_STR, wh_allow_http ? "https,http" : "https");
	SET(CURLOPT_PROXY, "");		/* not even the environment's */
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (wh_ca_file[0] != '\0')
	{
		SET(CURLOPT_CAINFO, wh_ca_file);
		SET(CURLOPT_CAPATH, NULL);
	}
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) wh_connect_timeout_ms);
	SET(CURLOPT_DNS_CACHE_TIMEOUT, (long) DNS_CACHE_S);
	SET(CURLOPT_MAXLIFETIME_CONN, (long) CONNECTION_LIFE_S);
	SET(CURLOPT_USERAGENT, wh_user_agent[0] ? wh_user_agent : NULL);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_RESOLVER_START_FUNCTION, on_look_up);
	SET(CURLOPT_RESOLVER_START_DATA, x);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, x);
	SET(CURLOPT_CLOSESOCKETFUNCTION, wh_sockets_close);
	SET(CURLOPT_CLOSESOCKETDATA, t->sockets);
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

	x->request = request;
	x->waited_ms = wh_monotonic_ms() - request->started_ms;
	x->refused = x->starved = x->unanswered = x->is_http2 = x->headers_full = x->body_full = false;
	x->sockets_opened = x->sends = 0;
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
	SET(CURLOPT_TIMEOUT_MS, (long) Max(1, request->timeout_ms - x->waited_ms));
	SET(CURLOPT_SHARE, t->shares[request->origin->hash % SHARES]);

	/*
	 * A connection with requests on it is never too old for libcurl, and over HTTP/2 it may always
	 * have some. What a request asks of GSSAPI, which is not used at all, must be the same for
	 * requests of one connection; so it tells one half minute's connections from the next one's.
	 */
	SET(CURLOPT_GSSAPI_DELEGATION, (long) request->origin->age_group);
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
		case CURLE_PARTIAL_FILE:
			/* over HTTP/2 also for a connection that ended before any of the answer came */
			return x->headers_len > 0 ? WH_ERROR_PROTOCOL : WH_ERROR_CONNECT;
		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_UNSUPPORTED_PROTOCOL:
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
		strlcpy(request->error, x->reason, sizeof(request->error));
		return;
	}
	if (code == CURLE_UNSUPPORTED_PROTOCOL &&
		curl_easy_getinfo(x->easy, CURLINFO_SCHEME, &scheme) == CURLE_OK &&
		scheme == NULL && !wh_allow_http)
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

/*
 * Whether the machine kept the request from being sent: asked after a failure. Much of what needs a
 * descriptor on the way, from reading /etc/resolv.conf to reading certificates, fails with some
 * other word for it.
 */
static bool
is_starved(WhTransport *t, const WhExchange *x, CURLcode code)
{
	long		sent = 0;
	bool		full;

	curl_easy_getinfo(x->easy, CURLINFO_REQUEST_SIZE, &sent);
	if (sent > 0 || x->refused)
		return false;
	full = x->sockets_opened == 0 && !wh_sockets_descriptor_left(t->sockets);
	t->short_of_descriptors |= full;
	return full || x->starved || code == CURLE_OUT_OF_MEMORY ||
		strstr(x->libcurl_error, "thread failed to start") != NULL;
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

	if (code == CURLE_OPERATION_TIMEDOUT && leader->timeout_ms < wh_connect_timeout_ms)
	{
		origin->age_group = WH_NO_AGE_GROUP;
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
		strlcpy(request->remote_address, leader->remote_address, sizeof(request->remote_address));
		hand_back(t, request);
	}
}

static void
take_answer(WhRequest *request)
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
	request->duration_us = x->waited_ms * 1000 + duration_us;
	strlcpy(request->remote_address, ip ? ip : "", sizeof(request->remote_address));
	request->response_headers = x->header_block;
	request->response_headers_len = x->headers_len;
	request->response_body = x->body;
	request->response_body_len = x->body_len;
	request->response_body_cut = x->body_full;
}

static void
finish(WhTransport *t, WhRequest *request, CURLcode code)
{
	WhExchange *x = request->exchange;

	take_answer(request);
	if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && x->body_full))
	{
		request->answer.error_class = wh_status_class(request->answer.status);
		if (request->answer.error_class != WH_ERROR_NONE)
			snprintf(request->error, sizeof(request->error), "HTTP status %d",
					 request->answer.status);
	}
	else
	{
		describe_failure(request, code);
		request->starved = is_starved(t, x, code);
		if (request->starved && x->starved)
			strlcpy(request->error, x->reason, sizeof(request->error));
	}
	if (request->origin->leader == request)
		disappoint_waiting(t, request, code);
	hand_back(t, request);
}

/*
 * A stream that a GOAWAY does not cover ends so, where libcurl does not send again by itself.
 */
static bool
is_refused_unseen(const WhExchange *x, CURLcode code)
{
	return code == CURLE_HTTP2 && may_send_again(x) && x->headers_len == 0 && x->sends < SENDS_MAX;
}

/* False: it cannot be. */
static bool
send_again(WhTransport *t, WhRequest *request)
{
	WhExchange *x = request->exchange;
	CURLcode	code = CURLE_OK;

	x->sends++;
	x->waited_ms = wh_monotonic_ms() - request->started_ms;
	SET(CURLOPT_TIMEOUT_MS, (long) Max(1, request->timeout_ms - x->waited_ms));
	return code == CURLE_OK && wh_sockets_run(t->sockets, x->easy) == CURLE_OK;
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
		if (is_refused_unseen(request->exchange, code))
		{
			curl_multi_remove_handle(t->multi, easy);	/* message is gone from here on */
			if (send_again(t, request))
				continue;
		}
		dlist_delete(&request->node);
		finish(t, request, code);
		curl_multi_remove_handle(t->multi, easy);
	}
}


/* ---- who connects, and who waits ---- */

/* Which half minute's connections an origin uses; the origins change over at different times. */
static int
age_group(const WhOrigin *origin, int64 now_ms)
{
	int64		life_ms = CONNECTION_LIFE_S * 1000;

	return (int) ((now_ms + origin->hash % life_ms) / life_ms % AGE_GROUPS);
}

/* Gives the request to libcurl. */
static void
begin(WhTransport *t, WhRequest *request)
{
	WhExchange *x = take_exchange(t);
	CURLcode	code;

	request->exchange = x;
	code = x ? prepare(t, x, request) : CURLE_OUT_OF_MEMORY;
	if (code == CURLE_OK)
		code = wh_sockets_run(t->sockets, x->easy);
	if (code == CURLE_OK)
	{
		dlist_push_tail(&t->active, &request->node);
		return;
	}
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
	int			group = age_group(origin, wh_monotonic_ms());

	if (origin->leader)
	{
		dlist_push_tail(&origin->waiting, &request->node);
		t->waiting_until_ms = Min(t->waiting_until_ms, request->started_ms + request->timeout_ms);
		return;
	}
	if (group != origin->age_group)
	{
		origin->leader = request;
		origin->age_group = group;
	}
	begin(t, request);
}

/* Those who waited for a connection that now is there, or for the end of somebody else's try. */
static void
begin_admitted(WhTransport *t)
{
	while (!dlist_is_empty(&t->admitted))
	{
		while (!dlist_is_empty(&t->admitted))
			begin_or_wait(t, dlist_container(WhRequest, node, dlist_pop_head_node(&t->admitted)));
		wh_sockets_drive(t->sockets);
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
	t->capacity = capacity;
	t->raise_ms = wh_monotonic_ms() + RAISE_MS;

	/* a new connection takes an idle one's place; at no time are more in use than requests run */
	curl_multi_setopt(t->multi, CURLMOPT_MAXCONNECTS, (long) capacity);
	curl_multi_setopt(t->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) capacity);
}

static void
adapt_capacity(WhTransport *t)
{
	int			most;

	if (t->short_of_descriptors)
	{
		t->short_of_descriptors = false;
		wh_sockets_leave_reserve(t->sockets);
		set_capacity(t, Max(1, wh_sockets_count(t->sockets) * 3 / 4));
	}
	else if (t->capacity < WH_IN_FLIGHT_MAX && wh_monotonic_ms() >= t->raise_ms)
	{
		most = Min(WH_IN_FLIGHT_MAX, wh_sockets_limit());
		set_capacity(t, wh_sockets_take_reserve(t->sockets) ?
					 Min(most, 2 * t->capacity) : t->capacity);
	}
}


/* ---- what the engine calls ---- */

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
	if (!initialized && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		initialized = true;
	wh_origins_init(&t->origins);
	t->waiting_until_ms = PG_INT64_MAX;
	dlist_init(&t->spare);
	dlist_init(&t->finished);
	dlist_init(&t->active);
	dlist_init(&t->admitted);
	t->multi = initialized ? curl_multi_init() : NULL;
	t->sockets = t->multi ? wh_sockets_create(t->multi) : NULL;
	if (t->sockets == NULL)
	{
		wh_transport_destroy(t);
		return NULL;
	}

	/* without a share, each handle has TLS sessions of its own */
	for (int i = 0; i < SHARES; i++)
		t->shares[i] = create_share();
	(void) wh_sockets_take_reserve(t->sockets);
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

		curl_multi_remove_handle(t->multi, request->exchange->easy);
		free_exchange(request->exchange);
	}
	dlist_foreach_modify(iter, &t->finished)
	{
		WhRequest  *request = dlist_container(WhRequest, node, iter.cur);

		if (request->exchange)
			free_exchange(request->exchange);
	}
	dlist_foreach_modify(iter, &t->spare)
		free_exchange(dlist_container(WhExchange, node, iter.cur));
	if (t->multi)
		curl_multi_cleanup(t->multi);
	wh_sockets_destroy(t->sockets);
	for (int i = 0; i < SHARES; i++)
		if (t->shares[i])
			curl_share_cleanup(t->shares[i]);
	wh_origins_free(&t->origins);
	free(t);
}

void
wh_transport_reload(WhTransport *t)
{
	t->generation++;
}

int
wh_transport_descriptor(const WhTransport *t)
{
	return wh_sockets_descriptor(t->sockets);
}

long
wh_transport_timeout_ms(const WhTransport *t)
{
	long		ms = wh_sockets_timeout_ms(t->sockets);
	int64		waiting_ms;

	if (t->waiting_until_ms == PG_INT64_MAX)
		return ms;
	waiting_ms = Max(0, t->waiting_until_ms - wh_monotonic_ms());
	return ms < 0 ? (long) waiting_ms : (long) Min(ms, waiting_ms);
}

int
wh_transport_capacity(const WhTransport *t)
{
	return t->capacity;
}

void
wh_transport_start(WhTransport *t, WhRequest *request)
{
	memset(&request->answer, 0, sizeof(request->answer));
	request->error[0] = request->remote_address[0] = '\0';
	request->duration_us = 0;
	request->response_headers = request->response_body = NULL;
	request->response_headers_len = request->response_body_len = 0;
	request->response_body_cut = request->starved = false;
	request->exchange = NULL;
	request->started_ms = wh_monotonic_ms();
	request->origin = wh_origin_enter(&t->origins, request->url);
	if (request->origin)
		begin_or_wait(t, request);
	else
	{
		fail_unsent(request, WH_ERROR_INTERNAL, "out of memory");
		request->starved = true;
		dlist_push_tail(&t->finished, &request->node);
	}
}

void
wh_transport_drive(WhTransport *t)
{
	sigset_t	before;

	block_signals(&before);
	wh_sockets_drive(t->sockets);
	collect(t);
	begin_admitted(t);
	end_overdue(t);
	adapt_capacity(t);
	restore_signals(&before);
}

WhRequest *
wh_transport_finished(WhTransport *t)
{
	if (dlist_is_empty(&t->finished))
		return NULL;
	return dlist_container(WhRequest, node, dlist_pop_head_node(&t->finished));
}

void
wh_transport_release(WhTransport *t, WhRequest *request)
{
	WhExchange *x = request->exchange;

	if (x == NULL)
		return;
	curl_slist_free_all(x->headers);
	x->headers = NULL;
	if (x->body_room > BODY_KEPT)
	{
		free(x->body);
		x->body = NULL;
		x->body_room = 0;
	}
	dlist_push_head(&t->spare, &x->node);
	request->exchange = NULL;
}
