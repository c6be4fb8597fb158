/*
 * Whether a message that came in was signed by whoever knows the secret.
 *
 * Each signature is compared in constant time, and a verdict is all that is told: nothing says how
 * much of a signature was right, or what of a message was missing.
 */
#ifndef WH_CORE_VERIFICATION_H
#define WH_CORE_VERIFICATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/signature.h"

/* Names are in lower case, and each stands once: fields of one name are joined by ", ". */
typedef struct WhHeader
{
	const char *name;
	const char *value;
} WhHeader;

typedef struct WhReceived
{
	const WhHeader *headers;
	int			header_count;
	WhBytes		body;
	int64_t		now_ms;			/* Unix time */
	int64_t		tolerance_ms;	/* how old, or how far ahead, the message may be */
	const WhSecretKey *keys;	/* of the scheme; one that fits is enough */
	int			key_count;
	char	   *scratch;
	size_t		scratch_size;	/* what wh_verify_scratch_size tells */
} WhReceived;

extern size_t wh_verify_scratch_size(const WhReceived *message);

/*
 * Whether one of the message's signatures is by one of the keys and its time within the tolerance
 * (github has no time). Seconds and milliseconds are told apart by their size.
 *
 * v1 and v1a take their headers by any prefix ("webhook-", "svix-", …), all three by the same. *id,
 * unless id is NULL, gets the message's id when the signature covers it, else NULL.
 */
extern bool wh_verify(WhScheme scheme, const WhReceived *message, const char **id);

/* The value of a header; NULL when there is none. */
extern const char *wh_header_find(const WhReceived *message, const char *name);

/* The value of the header that is called prefix and name together; NULL when there is none. */
extern const char *wh_header_find_prefixed(const WhReceived *message, WhBytes prefix,
										   const char *name);

/* A Unix time in digits alone, seconds or milliseconds, within the tolerance. */
extern bool wh_timestamp_acceptable(const WhReceived *message, const char *text, size_t len);

#endif
