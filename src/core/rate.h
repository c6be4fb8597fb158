/*
 * How often an endpoint is sent to: a token bucket. A request takes a token; tokens come back at
 * the rate, up to one second's worth or, where that is less, to one. So over any ten seconds no
 * more than ten seconds' worth and one burst of a second are taken.
 */
#ifndef WH_CORE_RATE_H
#define WH_CORE_RATE_H

#include <stdbool.h>
#include <stdint.h>

#define WH_RATE_MAX 1000000		/* requests a second */

/*
 * All zeros is a new bucket. It begins with one token: one that is lost and made anew grants no
 * second burst.
 */
typedef struct WhRate
{
	bool		begun;
	double		tokens;			/* at at_us; below zero when the rate was lowered meanwhile */
	int64_t		at_us;
} WhRate;

/*
 * per_second is the rate, above zero and at most WH_RATE_MAX; it may be another one each time.
 * Time that goes backwards brings no tokens and takes none.
 */

/* How many requests may be sent now. */
extern int	wh_rate_tokens(WhRate *rate, double per_second, int64_t now_us);

/* A request is sent now. */
extern void wh_rate_take(WhRate *rate, double per_second, int64_t now_us);

/*
 * How long to wait for a token beside those reserved, which are going to be taken at once; 0 when
 * there is one. Where tokens come fast, it is the wait for several of them.
 */
extern int64_t wh_rate_wait_us(WhRate *rate, double per_second, int reserved, int64_t now_us);

#endif
