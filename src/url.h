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

#endif
