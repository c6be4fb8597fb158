/*
 * Status sets, and the decision after an answer: the input is "[set]|[bytes]", the bytes being an
 * answer and a schedule.
 */
#include "core/retry.h"

#include "fuzz.h"

#define HOUR_MS (60 * 60 * INT64_C(1000))
#define WAITS_MAX 4

/* Takes up to eight bytes as a number. */
static int64_t
take_number(const char **bytes, const char *end, int size)
{
	uint64_t	number = 0;

	for (int i = 0; i < size && *bytes < end; i++)
		number = number << 8 | (unsigned char) *(*bytes)++;
	return (int64_t) number;
}

static void
print_set(const WhStatusSet *set, char *text)
{
	*text = '\0';
	for (int status = 100; status <= 999; status++)
		if (wh_status_set_has(set, status))
			text += sprintf(text, "%d,", status);
	if (text[0] == '\0' && text[-1] == ',')
		text[-1] = '\0';
}

/* A set that was read is printed and read as the same one, and has statuses of 100 to 999 only. */
static bool
check_set(const char *text, WhStatusSet *set)
{
	static char buffer[1 + 900 * 4 + 1] = {'x'};
	char	   *printed = buffer + 1;
	WhStatusSet again;

	if (!wh_status_set_parse(text, set))
		return false;
	for (int status = -1000; status < 100; status++)
		HOLDS(!wh_status_set_has(set, status));
	for (int status = 1000; status < 3000; status++)
		HOLDS(!wh_status_set_has(set, status));
	print_set(set, printed);
	HOLDS(wh_status_set_parse(printed, &again));
	HOLDS(memcmp(set, &again, sizeof(again)) == 0);
	return true;
}

static void
check_wait(const WhRetryPolicy *policy, const WhAnswer *answer, int attempt, WhVerdict verdict)
{
	int64_t		wait_ms = policy->waits_ms[attempt - 1];
	int64_t		bound_ms = HOUR_MS;

	HOLDS(verdict.outcome == WH_RETRYING && verdict.reason == WH_DEAD_NOT);
	for (size_t i = 0; i < policy->wait_count; i++)
		if (policy->waits_ms[i] > bound_ms)
			bound_ms = policy->waits_ms[i];
	HOLDS(verdict.wait_ms >= wait_ms);
	if ((answer->status == 429 || answer->status == 503) && answer->retry_after_ms <= bound_ms)
		HOLDS(verdict.wait_ms >= answer->retry_after_ms);
	HOLDS(verdict.wait_ms <= bound_ms || verdict.wait_ms <= wait_ms + wait_ms * policy->jitter);
}

static void
check_verdict(const WhRetryPolicy *policy, const WhAnswer *answer, int attempt, double random)
{
	WhVerdict	verdict = wh_retry_decide(policy, answer, attempt, random);

	HOLDS((verdict.outcome == WH_DEAD_LETTER) == (wh_dead_reason_name(verdict.reason) != NULL));
	HOLDS(wh_outcome_name(verdict.outcome) != NULL);
	HOLDS((verdict.outcome == WH_SUCCEEDED) == (answer->error_class == WH_ERROR_NONE));
	HOLDS(verdict.outcome != WH_CANCELLED);
	if (answer->error_class == WH_ERROR_BLOCKED_ADDRESS)
		HOLDS(verdict.reason == WH_DEAD_BLOCKED_ADDRESS);
	if (verdict.outcome == WH_RETRYING)
	{
		HOLDS((size_t) attempt <= policy->wait_count);
		check_wait(policy, answer, attempt, verdict);
	}
}

static void
target(const char *text, size_t len)
{
	const char *end = text + len;
	const char *bytes = memchr(text, '|', len);
	char		set_text[INPUT_MAX + 1];
	int64_t		waits_ms[WAITS_MAX];
	WhStatusSet statuses;
	WhRetryPolicy policy = {.waits_ms = waits_ms, .statuses = &statuses};
	WhAnswer	answer = {0};
	int			attempt;

	bytes = bytes ? bytes : end;
	memcpy(set_text, text, bytes - text);
	set_text[bytes - text] = '\0';
	if (!check_set(set_text, &statuses))
		memset(&statuses, 0, sizeof(statuses));
	bytes += bytes < end;

	policy.wait_count = (size_t) take_number(&bytes, end, 1) % (WAITS_MAX + 1);
	for (size_t i = 0; i < policy.wait_count; i++)
		waits_ms[i] = take_number(&bytes, end, 8) & 0x7ffffffff;	/* up to 397 days */
	policy.jitter = (double) (take_number(&bytes, end, 1) & 0xff) / 255;
	answer.status = (int) (take_number(&bytes, end, 2) % 1000);
	answer.error_class = (WhErrorClass) (take_number(&bytes, end, 1) % (WH_ERROR_INTERNAL + 1));
	if (answer.error_class == WH_ERROR_NONE && (answer.status < 200 || answer.status > 299))
		answer.error_class = wh_status_class(answer.status);
	if (answer.error_class == WH_ERROR_NONE && (answer.status < 200 || answer.status > 299))
		return;
	answer.retry_after_ms = take_number(&bytes, end, 8) & INT64_MAX;
	attempt = 1 + (int) (take_number(&bytes, end, 1) % (WAITS_MAX + 2));
	check_verdict(&policy, &answer, attempt, (double) (take_number(&bytes, end, 1) & 0xff) / 256);
}
