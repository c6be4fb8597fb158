/*
 * The environment's proxies are never used. Through the setting's all requests go in a tunnel, http
 * ones too, so that what the proxy says for itself cannot be taken for the receiver's answer.
 *
 * Where the proxy cannot be used at all, everybody has to wait. Where it can, but does not connect
 * this request, it may have a reason against the receiver, or be unable to reach it: that is told
 * apart by how others fare, which is not known here.
 */
#include "postgres.h"

#include "worker/proxy.h"

#define STATUS_FORBIDDEN 403

#define SET(option, value) \
	do { if (code == CURLE_OK) code = curl_easy_setopt(x->easy, option, value); } while (0)

CURLcode
wh_proxy_set_up(WhExchange *x)
{
	const WhTransportSettings *settings = x->context->settings;
	CURLcode	code = CURLE_OK;

	x->proxied = settings->proxy[0] != '\0';
	SET(CURLOPT_PROXY, settings->proxy);	/* the empty one is none, not even the environment's */
	SET(CURLOPT_NOPROXY, "");
	if (!x->proxied)
		return code;
	SET(CURLOPT_HTTPPROXYTUNNEL, 1L);
	SET(CURLOPT_USERAGENT, settings->user_agent);	/* for the proxy; the receiver's is one of the
													 * request's headers */
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_PROXYAUTH, (long) CURLAUTH_BASIC);
	SET(CURLOPT_SOCKS5_AUTH, (long) CURLAUTH_BASIC);
	SET(CURLOPT_PROXY_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (settings->ca_file[0] != '\0')
	{
		SET(CURLOPT_PROXY_CAINFO, settings->ca_file);
		SET(CURLOPT_PROXY_CAPATH, NULL);
	}
	return code;
}

/* What the proxy answered to CONNECT; 0: nothing. */
static long
connect_status(const WhExchange *x)
{
	long		status = 0;

	curl_easy_getinfo(x->easy, CURLINFO_HTTP_CONNECTCODE, &status);
	return status;
}

static bool
proxy_is_connected(const WhExchange *x)
{
	curl_off_t	time_us = 0;

	curl_easy_getinfo(x->easy, CURLINFO_CONNECT_TIME_T, &time_us);
	return time_us > 0;
}

/* SOCKS: whether the proxy spoke of the receiver. */
static bool
socks_refuses(const WhExchange *x)
{
	long		reply = CURLPX_OK;

	curl_easy_getinfo(x->easy, CURLINFO_PROXY_ERROR, &reply);
	switch (reply)
	{
		case CURLPX_REPLY_CONNECTION_REFUSED:
		case CURLPX_REPLY_GENERAL_SERVER_FAILURE:
		case CURLPX_REPLY_HOST_UNREACHABLE:
		case CURLPX_REPLY_NETWORK_UNREACHABLE:
		case CURLPX_REPLY_NOT_ALLOWED:
		case CURLPX_REPLY_TTL_EXPIRED:
		case CURLPX_REPLY_UNASSIGNED:
			return true;
		default:
			return false;
	}
}

static bool
is_forbidden(const WhExchange *x)
{
	long		reply = CURLPX_OK;

	curl_easy_getinfo(x->easy, CURLINFO_PROXY_ERROR, &reply);
	return connect_status(x) == STATUS_FORBIDDEN || reply == CURLPX_REPLY_NOT_ALLOWED;
}

static WhProxyTrouble
find_trouble(const WhExchange *x, CURLcode code)
{
	bool		has_tls = strncmp(x->context->settings->proxy, "https:", 6) == 0;
	bool		is_http = strncmp(x->context->settings->proxy, "http", 4) == 0;

	if (connect_status(x) >= 300)
		return WH_PROXY_REFUSES;
	switch (code)
	{
		case CURLE_COULDNT_RESOLVE_PROXY:
		case CURLE_COULDNT_CONNECT:
			return WH_PROXY_FAILS;
		case CURLE_PROXY:
			return socks_refuses(x) ? WH_PROXY_REFUSES : WH_PROXY_FAILS;
		case CURLE_OPERATION_TIMEDOUT:
			/* once it is connected, it is the receiver that it waits for */
			return proxy_is_connected(x) ? WH_PROXY_FINE : WH_PROXY_FAILS;
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_GOT_NOTHING:
		case CURLE_WEIRD_SERVER_REPLY:
			/* after its 200 the receiver's connection ends, or its TLS does not begin */
			return is_http && connect_status(x) == 0 ? WH_PROXY_REFUSES : WH_PROXY_FINE;
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CACERT_BADFILE:
			return has_tls && connect_status(x) == 0 ? WH_PROXY_FAILS : WH_PROXY_FINE;
		default:
			return WH_PROXY_FINE;
	}
}

bool
wh_proxy_take_failure(const WhExchange *x, CURLcode code)
{
	WhRequest  *request = x->request;
	long		status = connect_status(x);

	if (!x->proxied || x->connected)
		return false;
	request->proxy_trouble = find_trouble(x, code);
	if (request->proxy_trouble == WH_PROXY_FINE)
		return false;
	request->answer.status = 0;
	request->answer.error_class = is_forbidden(x) ? WH_ERROR_BLOCKED_ADDRESS : WH_ERROR_CONNECT;
	if (status >= 300)
		snprintf(request->error, sizeof(request->error),
				 "proxy: CONNECT was answered with status %ld", status);
	else
		snprintf(request->error, sizeof(request->error), "proxy: %s",
				 x->libcurl_error[0] ? x->libcurl_error : curl_easy_strerror(code));
	return true;
}

bool
wh_proxy_let_through(const WhExchange *x)
{
	long		connects = 0;

	curl_easy_getinfo(x->easy, CURLINFO_NUM_CONNECTS, &connects);
	return x->proxied && x->connected && connects > 0;
}
