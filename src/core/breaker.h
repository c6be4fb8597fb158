/*
 * When to leave an endpoint alone that does not answer. While its breaker is open it is sent
 * nothing but a probe now and then, so that its deliveries wait in the queue instead of using up
 * their attempts.
 */
#ifndef WH_CORE_BREAKER_H
#define WH_CORE_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/retry.h"

#define WH_BREAKER_FAILURES 20	/* in a row, and over at least so long, open it: */
#define WH_BREAKER_SUSTAINED_US INT64_C(5000000)
#define WH_BREAKER_FIRST_US INT64_C(2000000)	/* open before the first probe; each that fails
												 * doubles it, up to: */
#define WH_BREAKER_LONGEST_US INT64_C(60000000)

/* All zeros is a closed one. */
typedef struct WhBreaker
{
	int			failures;		/* in a row, while closed */
	int64_t		since_us;		/* when the first of them was sent */
	int64_t		open_us;		/* how long it is open at a time; 0 while closed */
	int64_t		probe_at_us;	/* when it may be probed */
	bool		probing;		/* a probe is under way */
} WhBreaker;

typedef enum WhBreakerChange
{
	WH_BREAKER_SAME,
	WH_BREAKER_OPENED,
	WH_BREAKER_CLOSED
} WhBreakerChange;

/* A request, of which probe says what it was, was sent at sent_at_us and brought this. */
extern WhBreakerChange wh_breaker_note(WhBreaker *breaker, const WhAnswer *answer, bool probe,
									   int64_t sent_at_us, int64_t now_us);

extern bool wh_breaker_is_open(const WhBreaker *breaker);

/*
 * Until when nothing may be sent: INT64_MIN while it is closed, INT64_MAX while a probe is under
 * way. An open one may then be sent one probe.
 */
extern int64_t wh_breaker_until_us(const WhBreaker *breaker);

/* The next request is a probe; or it was to be one and is not sent after all. */
extern void wh_breaker_begin_probe(WhBreaker *breaker);
extern void wh_breaker_drop_probe(WhBreaker *breaker);

/* Something about the endpoint was changed: an open breaker is probed at once. */
extern void wh_breaker_hurry(WhBreaker *breaker, int64_t now_us);

#endif
