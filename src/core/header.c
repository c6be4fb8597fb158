/*
 * Headers come from whoever registers an endpoint, often a stranger, and go out in the sender's
 * name. So none may end a header or the request early, none may say anything about the message that
 * the sender says itself, and none may pass for what a proxy in front of a receiver says.
 */
#include "core/header.h"

#include <string.h>

/*
 * Names are reserved in this spelling, '_' being the same as '-': a receiver behind CGI or WSGI
 * gets "Content_Length" and "Content-Length" as one variable.
 */
static const char *const reserved_names[] = {
	/* where a message begins, ends and goes: RFC 9110 and 9112, RFC 9113 (8.2.2) */
	"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer",
	"upgrade", "http2-settings", "expect", "max-forwards", "alt-used",

	/* what its body is */
	"content-type", "content-encoding", "content-range", "range",

	/* digests of the body and signatures: RFC 9530 and 9421, and the schemes of webhooks */
	"content-digest", "repr-digest", "digest", "content-md5", "signature", "signature-input",
	"stripe-signature", "x-hub-signature", "x-hub-signature-256",

	/* who sends it: Authorization is the one way to say that, and kept as a secret */
	"cookie", "cookie2", "user-agent",

	/*
	 * What proxies tell of the way a request came. Receivers let in, route and log by it, and those
	 * whose proxy does not overwrite it would believe a stranger.
	 */
	"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip",
	"x-original-url", "x-original-host", "x-rewrite-url", "x-host",

	/* to be read as another method than POST */
	"x-http-method", "x-http-method-override", "x-method-override"
};

static const char *const reserved_prefixes[] = {
	"proxy-", "x-forwarded", "webhook-", "x-webhook-", "svix-"
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* RFC 9110, 5.6.2: what a header name is made of. */
static bool
is_token_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		(c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

/* As names are compared with the reserved ones. */
static char
fold(char c)
{
	return c == '_' ? '-' : lower(c);
}

static bool
begins_with(const char *name, size_t len, const char *prefix)
{
	size_t		prefix_len = strlen(prefix);

	if (len < prefix_len)
		return false;
	for (size_t i = 0; i < prefix_len; i++)
		if (fold(name[i]) != fold(prefix[i]))
			return false;
	return true;
}

static bool
is_reserved(const char *name, size_t len, const char *prefix)
{
	for (size_t i = 0; i < COUNT(reserved_names); i++)
		if (len == strlen(reserved_names[i]) && begins_with(name, len, reserved_names[i]))
			return true;
	for (size_t i = 0; i < COUNT(reserved_prefixes); i++)
		if (begins_with(name, len, reserved_prefixes[i]))
			return true;
	return begins_with(name, len, prefix);
}

WhHeaderError
wh_header_check_name(const char *name, size_t len, const char *prefix)
{
	if (len == 0)
		return WH_HEADER_NOT_A_TOKEN;
	for (size_t i = 0; i < len; i++)
		if (!is_token_character(name[i]))
			return WH_HEADER_NOT_A_TOKEN;
	if (len > WH_HEADER_NAME_MAX)
		return WH_HEADER_NAME_TOO_LONG;
	return is_reserved(name, len, prefix) ? WH_HEADER_RESERVED : WH_HEADER_OK;
}

WhHeaderError
wh_header_check_value(const char *value, size_t len)
{
	if (len > WH_HEADER_VALUE_MAX)
		return WH_HEADER_VALUE_TOO_LONG;
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) value[i];

		if ((c < ' ' && c != '\t') || c == 0x7f)
			return WH_HEADER_CONTROL_CHARACTER;
	}
	return WH_HEADER_OK;
}

bool
wh_header_same_name(const char *a, size_t a_len, const char *b, size_t b_len)
{
	if (a_len != b_len)
		return false;
	for (size_t i = 0; i < a_len; i++)
		if (lower(a[i]) != lower(b[i]))
			return false;
	return true;
}
