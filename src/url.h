/*
 * Whether a URL may be registered: the rules that can be told from its text. The address a name
 * leads to is judged when a connection is made.
 */
#ifndef WH_URL_H
#define WH_URL_H

#include "postgres.h"

#include "url_rules.h"

/*
 * NULL when the URL is allowed, else why not, palloc'd. The reason never repeats the URL: it may
 * hold a password.
 */
extern char *wh_url_refusal(const char *url);

/* What a request's own headers say of where it goes, as a signature names it (RFC 9421, 2.2). */
typedef struct WhUrlTarget
{
	char	   *authority;		/* in lower case, without the scheme's own port */
	char	   *path;
	char	   *query;			/* with its "?"; NULL: there is none */
} WhUrlTarget;

/* Of a URL that was allowed, palloc'd; false when it cannot be parsed. */
extern bool wh_url_target(const char *url, WhUrlTarget *target);

#endif
