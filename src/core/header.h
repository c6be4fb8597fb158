/*
 * Which headers an endpoint or an event may add to its requests.
 */
#ifndef WH_CORE_HEADER_H
#define WH_CORE_HEADER_H

#include <stdbool.h>
#include <stddef.h>

#define WH_HEADERS_MAX 64
#define WH_HEADER_NAME_MAX 256	/* bytes */
#define WH_HEADER_VALUE_MAX 4096	/* bytes */

typedef enum WhHeaderError
{
	WH_HEADER_OK,
	WH_HEADER_NOT_A_TOKEN,		/* the name is empty, or has a character that no header name has */
	WH_HEADER_NAME_TOO_LONG,
	WH_HEADER_RESERVED,			/* the name is one that only the sender sets, or nobody does */
	WH_HEADER_VALUE_TOO_LONG,
	WH_HEADER_CONTROL_CHARACTER /* in the value: CR, LF, NUL or another one but tab */
} WhHeaderError;

/* prefix is what the sender's own headers begin with: webhooks.header_prefix. */
extern WhHeaderError wh_header_check_name(const char *name, size_t len, const char *prefix);

extern WhHeaderError wh_header_check_value(const char *value, size_t len);

/* Whether two names are one header's: their case does not count. */
extern bool wh_header_same_name(const char *a, size_t a_len, const char *b, size_t b_len);

#endif
