/*
 * What becomes of a delivery after one attempt: done, tried again later, or given up.
 */
#ifndef WH_CORE_RETRY_H
#define WH_CORE_RETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum WhErrorClass
{
	WH_ERROR_NONE,
	WH_ERROR_DNS,
	WH_ERROR_CONNECT,
	WH_ERROR_TLS,
	WH_ERROR_TIMEOUT,
	WH_ERROR_BLOCKED_ADDRESS,
	WH_ERROR_REDIRECT,
	WH_ERROR_STATUS,
	WH_ERROR_PROTOCOL,
	WH_ERROR_INTERNAL
} WhErrorClass;

typedef enum WhOutcome
{
	WH_SUCCEEDED,
	WH_RETRYING,
	WH_DEAD_LETTER,
	WH_CANCELLED
} WhOutcome;

typedef enum WhDeadReason
{
	WH_DEAD_NOT,
	WH_DEAD_EXHAUSTED,			/* the schedule has no further wait */
	WH_DEAD_PERMANENT,			/* a status that is not retried */
	WH_DEAD_GONE,				/* 410 */
	WH_DEAD_EXPIRED,
	WH_DEAD_BLOCKED_ADDRESS
} WhDeadReason;

/* The words of the SQL interface; NULL for WH_ERROR_NONE and WH_DEAD_NOT. */
extern const char *wh_error_class_name(WhErrorClass error_class);
extern const char *wh_outcome_name(WhOutcome outcome);
extern const char *wh_dead_reason_name(WhDeadReason reason);

/* The statuses 100 to 999 that are retried, one bit each. */
typedef struct WhStatusSet
{
	uint64_t	bits[16];
} WhStatusSet;

/*
 * Parses "408,425,429,5xx" or "*" (every status); blanks around items are allowed, the empty string
 * is the empty set. Returns false, leaving *set undefined, for anything else: another letter, a
 * status outside 100 to 999, an empty item.
 */
extern bool wh_status_set_parse(const char *text, WhStatusSet *set);
extern bool wh_status_set_has(const WhStatusSet *set, int status);

/* How often and when an endpoint's deliveries are tried again. */
typedef struct WhRetryPolicy
{
	const int64_t *waits_ms;	/* the waits between attempts: n waits allow n + 1 attempts */
	size_t		wait_count;
	const WhStatusSet *statuses;
	double		jitter;			/* adds up to this share of the wait */
} WhRetryPolicy;

/* What one attempt brought. */
typedef struct WhAnswer
{
	WhErrorClass error_class;	/* NONE, REDIRECT and STATUS when a whole answer came, else what
								 * went wrong */
	int			status;			/* 0 when none came */
	int64_t		retry_after_ms; /* what the answer's Retry-After asked for, 0 when it had none */
} WhAnswer;

typedef struct WhVerdict
{
	WhOutcome	outcome;
	WhDeadReason reason;		/* set with WH_DEAD_LETTER */
	int64_t		wait_ms;		/* set with WH_RETRYING: from the end of this attempt to the next */
} WhVerdict;

/* Sorts a whole answer's status: NONE for 2xx, REDIRECT for 3xx, else STATUS. */
extern WhErrorClass wh_status_class(int status);

/*
 * attempt is the number of the attempt just made, 1 for the first; random lies in [0, 1).
 * A failure without a status is always retried, save a blocked address. Retry-After counts on 429
 * and 503 (RFC 9110, 10.2.3); it lengthens the wait, by no more than the longest wait of the
 * schedule or an hour, whichever is more.
 */
extern WhVerdict wh_retry_decide(const WhRetryPolicy *policy, const WhAnswer *answer, int attempt,
								 double random);

#endif
