/*
 * What libcurl is told about a request, what it asks while it sends, and what came of it.
 *
 * The address rules are asked twice: before a socket is opened, about the address it would connect
 * to, and before a request goes out, about the address the connection really has, since a kept
 * connection may be older than the rules.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include "settings.h"
#include "worker/exchange.h"
#include "worker/proxy.h"

#define SENDS_MAX 5				/* of a request that the receiver refuses unseen */
#define BODY_KEPT (16 * 1024)	/* room for an answer that a spare exchange keeps */


/* ---- settings ---- */

void
wh_transport_settings_free(WhTransportSettings *s)
{
	if (s == NULL)
		return;
	free(s->ca_file);
	free(s->user_agent);
	free(s->proxy);
	free((void *) s->rules.ports);
	free((void *) s->rules.addresses.allowed);
	free((void *) s->rules.addresses.blocked);
	free(s);
}

static void *
copy(const void *data, size_t size)
{
	void	   *out = malloc(size + 1);

	return out ? memcpy(out, data, size) : NULL;
}

WhTransportSettings *
wh_transport_settings_copy(void)
{
	WhUrlRules	rules = wh_setting_url_rules();
	WhTransportSettings *s = calloc(1, sizeof(WhTransportSettings));

	if (s == NULL)
		return NULL;
	s->connect_timeout_ms = wh_connect_timeout_ms;
	s->body_limit = wh_response_body_limit_bytes;
	s->ca_file = strdup(wh_ca_file);
	s->user_agent = strdup(wh_user_agent);
	s->proxy = strdup(wh_proxy);
	s->rules = rules;
	s->rules.ports = copy(rules.ports, rules.port_count * sizeof(int));
	s->rules.addresses.allowed = copy(rules.addresses.allowed,
									  rules.addresses.allowed_count * sizeof(WhNetwork));
	s->rules.addresses.blocked = copy(rules.addresses.blocked,
									  rules.addresses.blocked_count * sizeof(WhNetwork));
	if (s->ca_file && s->user_agent && s->proxy && s->rules.ports &&
		s->rules.addresses.allowed && s->rules.addresses.blocked)
		return s;
	wh_transport_settings_free(s);
	return NULL;
}


/* ---- what libcurl calls ---- */

static bool
peer_allowed(WhExchange *x, const struct sockaddr *peer)
{
	const char *refusal;
	char		text[INET6_ADDRSTRLEN] = "";

	/* the administrator named the proxy; to whom it connects is for itself to judge */
	if (x->proxied)
		return true;
	refusal = wh_address_refusal(&x->context->settings->rules.addresses, peer);
	if (refusal == NULL)
		return true;
	if (peer->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *) peer)->sin_addr, text, sizeof(text));
	else if (peer->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *) peer)->sin6_addr, text, sizeof(text));
	snprintf(x->reason, sizeof(x->reason), "its address %s is not allowed: %s", text, refusal);
	x->refused = true;
	return false;
}

static int
on_look_up(void *resolver, void *reserved, void *arg)
{
	WhExchange *x = arg;
	struct stat tasks;

	/* this directory's links are ".", ".." and one for each thread */
	if (stat("/proc/self/task", &tasks) != 0 || tasks.st_nlink <= WH_RESOLVER_THREADS_MAX + 2)
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
	fd = wh_sockets_open(x->context->sockets, peer);
	if (fd >= 0)
	{
		x->sockets_opened++;
		return fd;
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
	{
		x->starved = x->context->short_of_descriptors = true;
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
	if (!x->proxied && (peer == NULL || !peer_allowed(x, peer)))
	{
		x->refused = true;
		x->sockets_opened = 0;
		return CURL_PREREQFUNC_ABORT;
	}

	/* what was sent before the first time was for the proxy */
	curl_easy_getinfo(x->easy, CURLINFO_REQUEST_SIZE, &sent);
	if (x->connected && sent > 0 && !may_send_again(x))
	{
		x->unanswered = true;
		return CURL_PREREQFUNC_ABORT;
	}
	x->connected = true;
	x->is_http2 = speaks_http2(x->easy);
	x->context->connected(x->context->state, x->request);
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
	size_t		limit = x->context->settings->body_limit;
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


/* ---- what libcurl is told ---- */

#define SET(option, value) \
	do { if (code == CURLE_OK) code = curl_easy_setopt(x->easy, option, value); } while (0)

/* What all requests have in common. */
static CURLcode
set_up(WhExchange *x)
{
	const WhTransportSettings *settings = x->context->settings;
	CURLcode	code = CURLE_OK;

	curl_easy_reset(x->easy);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L);	/* never wait for a thread that looks up a name */
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROTOCOLS_STR, settings->rules.allow_http ? "https,http" : "https");
	if (code == CURLE_OK)
		code = wh_proxy_set_up(x);
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (settings->ca_file[0] != '\0')
	{
		SET(CURLOPT_CAINFO, settings->ca_file);
		SET(CURLOPT_CAPATH, NULL);
	}
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) settings->connect_timeout_ms);
	SET(CURLOPT_DNS_CACHE_TIMEOUT, -1L);	/* a pool does not live long */
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_RESOLVER_START_FUNCTION, on_look_up);
	SET(CURLOPT_RESOLVER_START_DATA, x);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, x);
	SET(CURLOPT_CLOSESOCKETFUNCTION, wh_sockets_close);
	SET(CURLOPT_CLOSESOCKETDATA, x->context->sockets);
	SET(CURLOPT_PREREQFUNCTION, on_before_request);
	SET(CURLOPT_PREREQDATA, x);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, x);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, x);
	SET(CURLOPT_ERRORBUFFER, x->libcurl_error);
	if (code == CURLE_OK)
		x->generation = x->context->generation;
	return code;
}

/*
 * libcurl reads them when it connects, from the request's own memory. It uses a connection, or a
 * TLS session, again only for the same certificate.
 */
static CURLcode
set_certificate(WhExchange *x, const WhClientCertificate *certificate)
{
	struct curl_blob pem = {.flags = CURL_BLOB_NOCOPY};
	struct curl_blob key = {.flags = CURL_BLOB_NOCOPY};
	CURLcode	code = CURLE_OK;

	if (certificate)
	{
		pem.data = certificate->certificate;
		pem.len = strlen(certificate->certificate);
		key.data = certificate->key;
		key.len = strlen(certificate->key);
	}
	SET(CURLOPT_SSLCERT_BLOB, certificate ? &pem : NULL);
	SET(CURLOPT_SSLKEY_BLOB, certificate ? &key : NULL);
	x->has_certificate = certificate != NULL;
	return code;
}

/*
 * The links of a list are the exchange's own and lie side by side: libcurl only reads them, and to have
 * it allocate each would be a good part of what a request costs.
 */
static CURLcode
set_headers(WhExchange *x, const char *const *headers)
{
	CURLcode	code = CURLE_OK;
	int			count = 0;

	while (headers[count])
		count++;
	if (count > x->header_room)
	{
		struct curl_slist *larger = realloc(x->headers, count * sizeof(struct curl_slist));

		if (larger == NULL)
			return CURLE_OUT_OF_MEMORY;
		x->headers = larger;
		x->header_room = count;
	}
	for (int i = 0; i < count; i++)
	{
		x->headers[i].data = unconstify(char *, headers[i]);
		x->headers[i].next = i + 1 < count ? &x->headers[i + 1] : NULL;
	}
	SET(CURLOPT_HTTPHEADER, count > 0 ? x->headers : NULL);
	return code;
}

CURLcode
wh_exchange_prepare(WhExchange *x, WhRequest *request, CURLSH *share)
{
	CURLcode	code = CURLE_OK;

	x->request = request;
	x->waited_ms = wh_monotonic_ms() - request->started_ms;
	x->connected = x->refused = x->starved = x->unanswered = x->is_http2 = false;
	x->headers_full = x->body_full = false;
	x->sockets_opened = x->sends = 0;
	x->headers_len = x->body_len = 0;
	x->libcurl_error[0] = '\0';

	if (x->generation != x->context->generation)
		code = set_up(x);
	if (code == CURLE_OK && (request->certificate || x->has_certificate))
		code = set_certificate(x, request->certificate);
	if (code == CURLE_OK)
		code = set_headers(x, request->headers);
	SET(CURLOPT_URL, request->url);
	SET(CURLOPT_POSTFIELDS, request->body);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_len);
	SET(CURLOPT_TIMEOUT_MS, (long) Max(1, request->timeout_ms - x->waited_ms));
	SET(CURLOPT_PRIVATE, request);
	if (x->share != share)
		SET(CURLOPT_SHARE, share);
	if (code == CURLE_OK)
		x->share = share;
	return code;
}

void
wh_exchange_free(WhExchange *x)
{
	curl_easy_cleanup(x->easy);
	free(x->headers);
	free(x->body);
	free(x);
}

WhExchange *
wh_exchange_create(WhExchangeContext *context)
{
	WhExchange *x = calloc(1, sizeof(WhExchange));

	if (x == NULL)
		return NULL;
	x->context = context;
	x->easy = curl_easy_init();
	if (x->easy == NULL)
	{
		free(x);
		return NULL;
	}
	return x;
}

void
wh_exchange_clear(WhExchange *x)
{
	/* the request's memory goes with it */
	if (x->has_certificate)
		(void) set_certificate(x, NULL);
	if (x->body_room > BODY_KEPT)
	{
		free(x->body);
		x->body = NULL;
		x->body_room = 0;
	}
}

/*
 * A stream that a GOAWAY does not cover ends so. From libcurl 8 on a connection that ends without an
 * answer does, too, and nothing tells them apart: then it is an attempt that failed.
 */
bool
wh_exchange_may_repeat(const WhExchange *x, CURLcode code)
{
	return code == CURLE_HTTP2 && curl_version_info(CURLVERSION_NOW)->version_num < 0x080000 &&
		may_send_again(x) && x->headers_len == 0 && x->sends < SENDS_MAX;
}

CURLcode
wh_exchange_repeat(WhExchange *x)
{
	CURLcode	code = CURLE_OK;

	x->sends++;
	x->waited_ms = wh_monotonic_ms() - x->request->started_ms;
	SET(CURLOPT_TIMEOUT_MS, (long) Max(1, x->request->timeout_ms - x->waited_ms));
	return code;
}


/* ---- what came of it ---- */

/* libcurl has no memory for a line that is longer than it takes; later ones have a word for it. */
static bool
header_too_long(const WhExchange *x, CURLcode code)
{
#if LIBCURL_VERSION_NUM >= 0x080600
	if (code == CURLE_TOO_LARGE)
		return true;
#endif
	return code == CURLE_OUT_OF_MEMORY && x->request->answer.status != 0;
}

static WhErrorClass
classify_failure(const WhExchange *x, CURLcode code)
{
	switch (code)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
			return WH_ERROR_DNS;
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
			/* with TLS 1.3 a receiver refuses a client's certificate, or its want, only now */
			return strstr(x->libcurl_error, "SSL") && strstr(x->libcurl_error, " alert ") ?
				WH_ERROR_TLS : WH_ERROR_CONNECT;
		case CURLE_COULDNT_CONNECT:
		case CURLE_GOT_NOTHING:
			return WH_ERROR_CONNECT;
		case CURLE_OPERATION_TIMEDOUT:
			/* nothing but its words tells what libcurl was waiting for */
			return strncmp(x->libcurl_error, "Resolving", strlen("Resolving")) == 0 ?
				WH_ERROR_DNS : WH_ERROR_TIMEOUT;
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
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
			return header_too_long(x, code) ? WH_ERROR_PROTOCOL : WH_ERROR_INTERNAL;
	}
}

/* Over HTTP/2, libcurl 8 has no words for the connection's end. */
static bool
is_unanswered(const WhExchange *x, CURLcode code)
{
	return x->unanswered ||
		(code == CURLE_HTTP2 && x->headers_len == 0 && x->libcurl_error[0] == '\0');
}

static void
describe_failure(WhExchange *x, CURLcode code)
{
	WhRequest  *request = x->request;

	if (x->refused && x->sockets_opened == 0)
	{
		request->answer.error_class = WH_ERROR_BLOCKED_ADDRESS;
		strlcpy(request->error, x->reason, sizeof(request->error));
		return;
	}
	if (is_unanswered(x, code))
	{
		request->answer.error_class = WH_ERROR_CONNECT;
		strlcpy(request->error, "the connection was closed without an answer",
				sizeof(request->error));
		return;
	}
	if (wh_proxy_take_failure(x, code))
		return;
	request->answer.error_class = classify_failure(x, code);
	if (x->headers_full || header_too_long(x, code))
		snprintf(request->error, sizeof(request->error),
				 "the answer's headers are larger than %d bytes", WH_RESPONSE_HEADERS_MAX);
	else
		strlcpy(request->error, x->libcurl_error[0] ? x->libcurl_error : curl_easy_strerror(code),
				sizeof(request->error));
}

/*
 * Whether this side kept the request from being sent: asked after a failure. Much of what needs a
 * descriptor on the way, from reading /etc/resolv.conf to reading certificates, fails with some
 * other word for it.
 */
static bool
is_starved(const WhExchange *x, CURLcode code)
{
	long		sent = 0;
	bool		full;

	curl_easy_getinfo(x->easy, CURLINFO_REQUEST_SIZE, &sent);
	if (sent > 0 || x->refused)
		return false;
	full = x->sockets_opened == 0 && !wh_sockets_descriptor_left(x->context->sockets);
	x->context->short_of_descriptors |= full;
	return full || x->starved || code == CURLE_OUT_OF_MEMORY || code == CURLE_SSL_CACERT_BADFILE ||
		strstr(x->libcurl_error, "thread failed to start") != NULL;
}

/* The exchange is used again at once, so the request gets a copy. */
static void
keep_response(WhRequest *request, const WhExchange *x)
{
	size_t		len = x->headers_len + x->body_len;
	char	   *response = request->small_response;

	/* freed by another thread, which costs both of them more than a copy */
	if (len > WH_RESPONSE_SMALL)
		response = request->large_response = malloc(len);
	if (response == NULL)
		return;
	memcpy(response, x->header_block, x->headers_len);
	if (x->body_len > 0)
		memcpy(response + x->headers_len, x->body, x->body_len);
	request->response_headers = response;
	request->response_headers_len = x->headers_len;
	request->response_body = response + x->headers_len;
	request->response_body_len = x->body_len;
	request->response_body_cut = x->body_full;
}

static void
take_answer(WhExchange *x)
{
	WhRequest  *request = x->request;
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
	request->sent = x->connected;
	request->let_through = wh_proxy_let_through(x);

	/* the proxy's address is not the receiver's */
	if (x->proxied)
		ip = NULL;
	strlcpy(request->remote_address, ip ? ip : "", sizeof(request->remote_address));
}

void
wh_exchange_finish(WhExchange *x, CURLcode code)
{
	WhRequest  *request = x->request;

	take_answer(x);
	keep_response(request, x);
	if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && x->body_full))
	{
		request->answer.error_class = wh_status_class(request->answer.status);
		if (request->answer.error_class != WH_ERROR_NONE)
			snprintf(request->error, sizeof(request->error), "HTTP status %d",
					 request->answer.status);
		return;
	}
	describe_failure(x, code);
	request->starved = is_starved(x, code);
	if (request->starved && x->starved)
		strlcpy(request->error, x->reason, sizeof(request->error));
}
