/*
 * The decision after an attempt, and the words for it.
 *
 * It depends on nothing but its arguments, the random number among them, so that the same answer
 * under the same policy can be judged again in a test. Every verdict is made in wh_retry_decide.
 */
#include "core/retry.h"

#include <string.h>

#define STATUS_MIN 100
#define STATUS_MAX 999

#define STATUS_GONE 410
#define STATUS_TOO_MANY_REQUESTS 429
#define STATUS_UNAVAILABLE 503

#define HOUR_MS (60 * 60 * INT64_C(1000))

const char *
wh_error_class_name(WhErrorClass error_class)
{
	switch (error_class)
	{
		case WH_ERROR_NONE:
			return NULL;
		case WH_ERROR_DNS:
			return "dns";
		case WH_ERROR_CONNECT:
			return "connect";
		case WH_ERROR_TLS:
			return "tls";
		case WH_ERROR_TIMEOUT:
			return "timeout";
		case WH_ERROR_BLOCKED_ADDRESS:
			return "blocked_address";
		case WH_ERROR_REDIRECT:
			return "redirect";
		case WH_ERROR_STATUS:
			return "status";
		case WH_ERROR_PROTOCOL:
			return "protocol";
		case WH_ERROR_INTERNAL:
			return "internal";
	}
	return NULL;
}

const char *
wh_outcome_name(WhOutcome outcome)
{
	switch (outcome)
	{
		case WH_SUCCEEDED:
			return "succeeded";
		case WH_RETRYING:
			return "retrying";
		case WH_DEAD_LETTER:
			return "dead_letter";
		case WH_CANCELLED:
			return "cancelled";
	}
	return NULL;
}

const char *
wh_dead_reason_name(WhDeadReason reason)
{
	switch (reason)
	{
		case WH_DEAD_NOT:
			return NULL;
		case WH_DEAD_EXHAUSTED:
			return "exhausted";
		case WH_DEAD_PERMANENT:
			return "permanent";
		case WH_DEAD_GONE:
			return "gone";
		case WH_DEAD_EXPIRED:
			return "expired";
		case WH_DEAD_BLOCKED_ADDRESS:
			return "blocked_address";
	}
	return NULL;
}

static void
add(WhStatusSet *set, int first, int last)
{
	for (int status = first; status <= last; status++)
		set->bits[status / 64] |= UINT64_C(1) << status % 64;
}

static const char *
skip_blanks(const char *text)
{
	return text + strspn(text, " \t");
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Adds the item that text begins with, "503" or "5xx", and returns what follows, or NULL. */
static const char *
add_item(WhStatusSet *set, const char *text)
{
	int			hundred = (text[0] - '0') * 100;

	if (!is_digit(text[0]) || hundred < STATUS_MIN)
		return NULL;
	if (text[1] == 'x' && text[2] == 'x')
		add(set, hundred, hundred + 99);
	else if (is_digit(text[1]) && is_digit(text[2]))
	{
		int			status = hundred + (text[1] - '0') * 10 + (text[2] - '0');

		add(set, status, status);
	}
	else
		return NULL;
	return text + 3;
}

bool
wh_status_set_parse(const char *text, WhStatusSet *set)
{
	memset(set, 0, sizeof(*set));
	if (*text == '\0')
		return true;

	text = skip_blanks(text);
	if (*text == '*')
	{
		add(set, STATUS_MIN, STATUS_MAX);
		return *skip_blanks(text + 1) == '\0';
	}

	for (;;)
	{
		text = add_item(set, skip_blanks(text));
		if (text == NULL)
			return false;
		text = skip_blanks(text);
		if (*text == '\0')
			return true;
		if (*text++ != ',')
			return false;
	}
}

bool
wh_status_set_has(const WhStatusSet *set, int status)
{
	if (status < STATUS_MIN || status > STATUS_MAX)
		return false;
	return (set->bits[status / 64] >> status % 64) & 1;
}

WhErrorClass
wh_status_class(int status)
{
	if (status >= 200 && status <= 299)
		return WH_ERROR_NONE;
	if (status >= 300 && status <= 399)
		return WH_ERROR_REDIRECT;
	return WH_ERROR_STATUS;
}

/* Why no further attempt could help, or WH_DEAD_NOT. */
static WhDeadReason
rule_out(const WhRetryPolicy *policy, const WhAnswer *answer)
{
	switch (answer->error_class)
	{
		case WH_ERROR_REDIRECT:
		case WH_ERROR_STATUS:
			/* 410 asks for no further request, whatever the endpoint's retry_on says */
			if (answer->status == STATUS_GONE)
				return WH_DEAD_GONE;
			return wh_status_set_has(policy->statuses, answer->status)
				? WH_DEAD_NOT : WH_DEAD_PERMANENT;
		case WH_ERROR_BLOCKED_ADDRESS:
			return WH_DEAD_BLOCKED_ADDRESS;
		case WH_ERROR_NONE:
		case WH_ERROR_DNS:
		case WH_ERROR_CONNECT:
		case WH_ERROR_TLS:
		case WH_ERROR_TIMEOUT:
		case WH_ERROR_PROTOCOL:
		case WH_ERROR_INTERNAL:
			break;
	}
	return WH_DEAD_NOT;
}

/* The answer's Retry-After, cut so that a receiver cannot park a delivery for ever. */
static int64_t
bound_retry_after(const WhRetryPolicy *policy, const WhAnswer *answer)
{
	int64_t		bound_ms = HOUR_MS;

	if (answer->status != STATUS_TOO_MANY_REQUESTS && answer->status != STATUS_UNAVAILABLE)
		return 0;
	for (size_t i = 0; i < policy->wait_count; i++)
		if (policy->waits_ms[i] > bound_ms)
			bound_ms = policy->waits_ms[i];
	return answer->retry_after_ms < bound_ms ? answer->retry_after_ms : bound_ms;
}

WhVerdict
wh_retry_decide(const WhRetryPolicy *policy, const WhAnswer *answer, int attempt, double random)
{
	WhDeadReason reason = rule_out(policy, answer);
	int64_t		wait_ms;
	int64_t		retry_after_ms;

	if (answer->error_class == WH_ERROR_NONE)
		return (WhVerdict) {.outcome = WH_SUCCEEDED};
	if (reason == WH_DEAD_NOT && (size_t) attempt > policy->wait_count)
		reason = WH_DEAD_EXHAUSTED;
	if (reason != WH_DEAD_NOT)
		return (WhVerdict) {.outcome = WH_DEAD_LETTER, .reason = reason};

	wait_ms = policy->waits_ms[attempt - 1];
	wait_ms += (int64_t) ((double) wait_ms * policy->jitter * random);
	retry_after_ms = bound_retry_after(policy, answer);
	if (retry_after_ms > wait_ms)
		wait_ms = retry_after_ms;
	return (WhVerdict) {.outcome = WH_RETRYING, .wait_ms = wait_ms};
}
