/*
 * The bucket is brought up to date whenever it is asked, so that it costs nothing in between. It
 * knows no clock: who asks says what time it is.
 */
#include "core/rate.h"

#define SECOND_US 1000000.0
#define BATCH_SECONDS 0.02		/* tokens are waited for together when more than one of them comes
								 * in this time: waiting for each would cost more than sending */
#define WAIT_MAX_US 1e15		/* thirty years */
#define TINY 1e-9				/* what a sum of shares may lack to a whole */

static double
capacity(double per_second)
{
	return per_second > 1 ? per_second : 1;
}

static void
refill(WhRate *rate, double per_second, int64_t now_us)
{
	if (!rate->begun)
		*rate = (WhRate) {.begun = true, .tokens = 1};
	else if (now_us > rate->at_us)
		rate->tokens += (double) (now_us - rate->at_us) * per_second / SECOND_US;
	rate->at_us = now_us;
	if (rate->tokens > capacity(per_second))
		rate->tokens = capacity(per_second);
}

int
wh_rate_tokens(WhRate *rate, double per_second, int64_t now_us)
{
	refill(rate, per_second, now_us);
	return rate->tokens > 0 ? (int) (rate->tokens + TINY) : 0;
}

void
wh_rate_take(WhRate *rate, double per_second, int64_t now_us)
{
	refill(rate, per_second, now_us);
	rate->tokens -= 1;
}

int64_t
wh_rate_wait_us(WhRate *rate, double per_second, int reserved, int64_t now_us)
{
	double		batch = per_second * BATCH_SECONDS;
	double		wait_us;

	if (wh_rate_tokens(rate, per_second, now_us) > reserved)
		return 0;
	if (batch < 1)
		batch = 1;
	wait_us = (batch + reserved - rate->tokens) / per_second * SECOND_US;
	return wait_us < WAIT_MAX_US ? (int64_t) wait_us + 1 : (int64_t) WAIT_MAX_US;
}
