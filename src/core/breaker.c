/*
 * It opens on failure that lasts, not on failures that are many: hundreds of requests may fail
 * within the second in which a receiver restarts.
 */
#include "core/breaker.h"

#define STATUS_TOO_MANY_REQUESTS 429
#define STATUS_SERVER_ERRORS 500

typedef enum Sign
{
	NO_SIGN,					/* it tells of this side alone */
	LIFE,
	FAILURE
} Sign;

static Sign
judge(const WhAnswer *answer)
{
	switch (answer->error_class)
	{
		case WH_ERROR_NONE:
		case WH_ERROR_REDIRECT:
		case WH_ERROR_STATUS:
			return answer->status >= STATUS_SERVER_ERRORS ||
				answer->status == STATUS_TOO_MANY_REQUESTS ? FAILURE : LIFE;
		case WH_ERROR_DNS:
		case WH_ERROR_CONNECT:
		case WH_ERROR_TLS:
		case WH_ERROR_TIMEOUT:
		case WH_ERROR_PROTOCOL:
			return FAILURE;
		case WH_ERROR_BLOCKED_ADDRESS:
		case WH_ERROR_INTERNAL:
			break;
	}
	return NO_SIGN;
}

bool
wh_breaker_is_open(const WhBreaker *breaker)
{
	return breaker->open_us > 0;
}

/* While closed. */
static WhBreakerChange
count_failure(WhBreaker *breaker, int64_t sent_at_us, int64_t now_us)
{
	if (breaker->failures == 0)
		breaker->since_us = sent_at_us;
	if (breaker->failures < WH_BREAKER_FAILURES)
		breaker->failures++;
	if (breaker->failures < WH_BREAKER_FAILURES ||
		now_us - breaker->since_us < WH_BREAKER_SUSTAINED_US)
		return WH_BREAKER_SAME;
	breaker->open_us = WH_BREAKER_FIRST_US;
	breaker->probe_at_us = now_us + breaker->open_us;
	return WH_BREAKER_OPENED;
}

/* While open. What was under way when it opened says nothing new. */
static void
end_probe(WhBreaker *breaker, Sign sign, int64_t now_us)
{
	breaker->probing = false;
	if (sign == FAILURE)
		breaker->open_us *= 2;
	if (breaker->open_us > WH_BREAKER_LONGEST_US)
		breaker->open_us = WH_BREAKER_LONGEST_US;
	breaker->probe_at_us = now_us + breaker->open_us;
}

WhBreakerChange
wh_breaker_note(WhBreaker *breaker, const WhAnswer *answer, bool probe, int64_t sent_at_us,
				int64_t now_us)
{
	bool		was_open = wh_breaker_is_open(breaker);
	Sign		sign = judge(answer);

	if (sign == LIFE)
	{
		*breaker = (WhBreaker) {0};
		return was_open ? WH_BREAKER_CLOSED : WH_BREAKER_SAME;
	}
	if (was_open && probe)
		end_probe(breaker, sign, now_us);
	if (was_open || sign == NO_SIGN)
		return WH_BREAKER_SAME;
	return count_failure(breaker, sent_at_us, now_us);
}

int64_t
wh_breaker_until_us(const WhBreaker *breaker)
{
	if (!wh_breaker_is_open(breaker))
		return INT64_MIN;
	return breaker->probing ? INT64_MAX : breaker->probe_at_us;
}

void
wh_breaker_begin_probe(WhBreaker *breaker)
{
	breaker->probing = true;
}

void
wh_breaker_drop_probe(WhBreaker *breaker)
{
	breaker->probing = false;
}

void
wh_breaker_hurry(WhBreaker *breaker, int64_t now_us)
{
	if (wh_breaker_is_open(breaker) && now_us < breaker->probe_at_us)
		breaker->probe_at_us = now_us;
}
