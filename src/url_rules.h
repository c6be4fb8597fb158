/*
 * The rules for URLs: applied when one is registered, and again when it is sent to, for the rules
 * may have changed since. Nothing of PostgreSQL is used, so that any thread may ask.
 */
#ifndef WH_URL_RULES_H
#define WH_URL_RULES_H

#include <stdbool.h>
#include <stddef.h>

#include "core/address.h"

#define WH_URL_MAX 2048			/* bytes */
#define WH_URL_REASON_SIZE 160

/* The lists are the caller's. */
typedef struct WhUrlRules
{
	bool		allow_http;
	bool		proxied;		/* a proxy resolves the names */
	const int  *ports;			/* allowed ones; none: every port is */
	size_t		port_count;
	WhAddressPolicy addresses;
} WhUrlRules;

typedef enum WhUrlVerdict
{
	WH_URL_ALLOWED,
	WH_URL_MALFORMED,			/* it is no URL */
	WH_URL_REFUSED,
	WH_URL_NOT_JUDGED			/* out of memory */
} WhUrlVerdict;

/*
 * Judges what can be told from the URL's text; the address of a name is judged when it is connected
 * to. Unless allowed, reason says why not; it never repeats the URL, which may hold a password.
 */
extern WhUrlVerdict wh_url_judge(const WhUrlRules *rules, const char *url,
								 char reason[WH_URL_REASON_SIZE]);

/* Whether it is what webhooks.proxy may name: http, https or socks5h, a host and a port. */
extern bool wh_proxy_is_valid(const char *url);

#endif
