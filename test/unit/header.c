/*
 * The headers that an endpoint or an event may have, and those it may not.
 */
#include "core/header.h"

#include <stdlib.h>

#include "tap.h"

#define PREFIX "acme-"

/* A copy on the heap, without a NUL, so that the sanitizer sees a read past its end. */
static WhHeaderError
check(WhHeaderError (*rule) (const char *, size_t), const char *text, size_t len)
{
	char	   *copy = malloc(len > 0 ? len : 1);
	WhHeaderError error;

	memcpy(copy, text, len);
	error = rule(copy, len);
	free(copy);
	return error;
}

static WhHeaderError
name_rule(const char *name, size_t len)
{
	return wh_header_check_name(name, len, PREFIX);
}

static WhHeaderError
check_name(const char *name)
{
	return check(name_rule, name, strlen(name));
}

static void
test_reserved(void)
{
	static const char *const names[] = {
		"host", "Host", "HOST", "content-length", "Content-Type", "content-encoding",
		"content-range", "range", "Transfer-Encoding", "connection", "keep-alive", "TE", "Trailer",
		"upgrade", "http2-settings", "expect", "max-forwards", "alt-used", "proxy-connection",
		"proxy-authorization", "Proxy-Authenticate", "proxy-anything", "proxy-", "cookie",
		"Cookie2", "user-agent", "content-digest", "repr-digest", "digest", "content-md5",
		"signature", "Signature-Input", "stripe-signature", "X-Hub-Signature",
		"x-hub-signature-256", "webhook-id", "Webhook-Signature", "webhook-anything",
		"x-webhook-event", "X-Webhook-Signature", "svix-id", "svix-signature", "forwarded", "via",
		"x-forwarded-for", "X-Forwarded-Host", "x-forwarded", "x-real-ip", "x-client-ip",
		"true-client-ip", "cf-connecting-ip", "x-original-url", "x-original-host", "x-rewrite-url",
		"x-host", "x-http-method", "X-HTTP-Method-Override", "x-method-override", "acme-id",
		"ACME-Signature", "acme-"
	};
	static const char *const as_cgi_reads_them[] = {
		"content_length", "Transfer_Encoding", "x_forwarded_for", "Webhook_Id", "ACME_Signature"
	};
	char		name[64];

	for (size_t i = 0; i < COUNT(names); i++)
	{
		snprintf(name, sizeof(name), "reserved: %s", names[i]);
		is_number(check_name(names[i]), WH_HEADER_RESERVED, name);
	}
	for (size_t i = 0; i < COUNT(as_cgi_reads_them); i++)
	{
		snprintf(name, sizeof(name), "'_' is the same as '-': %s", as_cgi_reads_them[i]);
		is_number(check_name(as_cgi_reads_them[i]), WH_HEADER_RESERVED, name);
	}
}

static void
test_allowed(void)
{
	static const char *const names[] = {
		"authorization", "Authorization", "x-api-key", "X-Tenant", "accept", "accept-encoding",
		"hosts", "hos", "content-language", "prefer", "traceparent", "idempotency-key", "date",
		"x-signature", "signatures", "webhook", "webhooks-id", "svix", "proxy", "acme", "acm-id",
		"x-github-event", "x", "0", "!#$%&'*+-.^_`|~", "cookies", "_host"
	};
	char		name[64];

	for (size_t i = 0; i < COUNT(names); i++)
	{
		snprintf(name, sizeof(name), "allowed: %s", names[i]);
		is_number(check_name(names[i]), WH_HEADER_OK, name);
	}
}

static void
test_names(void)
{
	char		longest[WH_HEADER_NAME_MAX + 1];
	char		only[2] = {0};
	size_t		tokens = 0;

	is_number(check_name(""), WH_HEADER_NOT_A_TOKEN, "an empty name is none");
	is_number(check_name(":path"), WH_HEADER_NOT_A_TOKEN, "nor is a pseudo-header's");
	is_number(check_name("a b"), WH_HEADER_NOT_A_TOKEN, "nor one with a blank");
	is_number(check_name("host "), WH_HEADER_NOT_A_TOKEN, "at its end");
	is_number(check_name(" host"), WH_HEADER_NOT_A_TOKEN, "or at its beginning");
	is_number(check_name("a:b"), WH_HEADER_NOT_A_TOKEN, "nor one with a colon");
	is_number(check_name("a;"), WH_HEADER_NOT_A_TOKEN, "nor one with a semicolon");
	is_number(check_name("a\r\nb"), WH_HEADER_NOT_A_TOKEN, "nor one with a new line");
	is_number(check_name("caf\xC3\xA9"), WH_HEADER_NOT_A_TOKEN, "nor one beyond ASCII");
	is_number(check(name_rule, "host\0x", 6), WH_HEADER_NOT_A_TOKEN, "nor one with a NUL");
	for (int c = 0; c < 256; c++)
	{
		only[0] = (char) c;
		tokens += check(name_rule, only, 1) == WH_HEADER_OK;
	}
	is_number(tokens, 77, "77 characters make a token (RFC 9110, 5.6.2)");

	memset(longest, 'x', sizeof(longest));
	is_number(check(name_rule, longest, WH_HEADER_NAME_MAX), WH_HEADER_OK,
			  "256 characters are allowed");
	is_number(check(name_rule, longest, WH_HEADER_NAME_MAX + 1), WH_HEADER_NAME_TOO_LONG,
			  "257 are not");
}

static void
test_values(void)
{
	char		longest[WH_HEADER_VALUE_MAX + 1];
	char		around[] = "a?b";
	size_t		refused = 0;

	is_number(check(wh_header_check_value, "", 0), WH_HEADER_OK, "a value may be empty");
	is_number(check(wh_header_check_value, "a\tb c", 5), WH_HEADER_OK, "and hold tab and blank");
	is_number(check(wh_header_check_value, "\xC3\xA9", 2), WH_HEADER_OK, "and what is not ASCII");
	is_number(check(wh_header_check_value, "a\r\nX: b", 7), WH_HEADER_CONTROL_CHARACTER,
			  "no new line");
	is_number(check(wh_header_check_value, "a\r", 2), WH_HEADER_CONTROL_CHARACTER, "no CR");
	is_number(check(wh_header_check_value, "\n", 1), WH_HEADER_CONTROL_CHARACTER, "no LF");
	is_number(check(wh_header_check_value, "a\0b", 3), WH_HEADER_CONTROL_CHARACTER, "no NUL");
	is_number(check(wh_header_check_value, "\x7f", 1), WH_HEADER_CONTROL_CHARACTER, "no DEL");
	for (int c = 0; c < 256; c++)
	{
		around[1] = (char) c;
		refused += check(wh_header_check_value, around, 3) != WH_HEADER_OK;
	}
	is_number(refused, 32, "no control character but tab, which are 32");

	memset(longest, 'x', sizeof(longest));
	is_number(check(wh_header_check_value, longest, WH_HEADER_VALUE_MAX), WH_HEADER_OK,
			  "4,096 bytes are allowed");
	is_number(check(wh_header_check_value, longest, WH_HEADER_VALUE_MAX + 1),
			  WH_HEADER_VALUE_TOO_LONG, "4,097 are not");
}

static void
test_same_name(void)
{
	ok(wh_header_same_name("X-Api-Key", 9, "x-aPI-kEY", 9), "case does not tell headers apart");
	ok(!wh_header_same_name("x-a", 3, "x-b", 3), "a letter does");
	ok(!wh_header_same_name("x-a", 3, "x-ab", 4), "and length");
	ok(!wh_header_same_name("x-a", 3, "x_a", 3), "and '_'");
	ok(!wh_header_same_name("[", 1, "{", 1), "only letters have a case");
}

int
main(void)
{
	test_reserved();
	test_allowed();
	test_names();
	test_values();
	test_same_name();
	return done();
}
