/*
 * Retries: the statuses that are retried, and the verdict on an attempt.
 */
#include "core/retry.h"

#include "tap.h"

#define SECOND INT64_C(1000)
#define HOUR (3600 * SECOND)

static int
count(const WhStatusSet *set)
{
	int			statuses = 0;

	for (int status = -2000; status <= 2000; status++)
		if (wh_status_set_has(set, status))
			statuses++;
	return statuses;
}

typedef struct SetCase
{
	const char *name;
	const char *text;
	int			statuses;		/* how many it holds, -1 when it is refused */
	int			member;			/* one that it holds, or 0 */
	int			stranger;		/* one that it does not hold, or 0 */
} SetCase;

static const SetCase set_cases[] = {
	{"the default", "408,425,429,5xx", 103, 425, 404},
	{"the empty text is the empty set", "", 0, 0, 500},
	{"one status", "503", 1, 503, 502},
	{"a class begins at its hundred", "5xx", 100, 500, 499},
	{"a class ends before the next hundred", "5xx", 100, 599, 600},
	{"the lowest status", "100", 1, 100, 99},
	{"the highest status", "999", 1, 999, 1000},
	{"the star has every status from 100", "*", 900, 100, 99},
	{"the star has every status to 999", "*", 900, 999, 1000},
	{"a status named twice is there once", "5xx,500", 100, 500, 0},
	{"blanks around items", " 408 ,\t5xx ", 101, 408, 0},
	{"blanks around a star", " * ", 900, 404, 0},
	{"blanks within an item are refused", "4 08", -1, 0, 0},
	{"blanks for a comma are refused", "408 425", -1, 0, 0},
	{"blanks alone are an empty item", " ", -1, 0, 0},
	{"a comma alone is refused", ",", -1, 0, 0},
	{"an empty item at the end is refused", "408,", -1, 0, 0},
	{"an empty item at the beginning is refused", ",408", -1, 0, 0},
	{"an empty item in the middle is refused", "408,,425", -1, 0, 0},
	{"99 is refused", "99", -1, 0, 0},
	{"099 is refused", "099", -1, 0, 0},
	{"0xx is refused", "0xx", -1, 0, 0},
	{"1000 is refused", "1000", -1, 0, 0},
	{"a sign is refused", "-500", -1, 0, 0},
	{"half a class is refused", "50x", -1, 0, 0},
	{"a class cut short is refused", "5x", -1, 0, 0},
	{"a class with a digit at the end is refused", "5x0", -1, 0, 0},
	{"a class in capitals is refused", "5XX", -1, 0, 0},
	{"one digit is refused", "5", -1, 0, 0},
	{"a star among others is refused", "408,*", -1, 0, 0},
	{"others after a star are refused", "*,408", -1, 0, 0},
	{"two stars are refused", "**", -1, 0, 0},
	{"a semicolon is refused", "408;425", -1, 0, 0},
};

static void
test_sets(void)
{
	for (size_t i = 0; i < COUNT(set_cases); i++)
	{
		const SetCase *c = &set_cases[i];
		WhStatusSet set;
		bool		parsed = wh_status_set_parse(c->text, &set);

		ok(parsed == (c->statuses >= 0)
		   && (!parsed || (count(&set) == c->statuses
						   && wh_status_set_has(&set, c->member) == (c->member != 0)
						   && !wh_status_set_has(&set, c->stranger))), c->name);
	}
}

static void
test_classes(void)
{
	is_number(wh_status_class(199), WH_ERROR_STATUS, "199 is a failure");
	is_number(wh_status_class(200), WH_ERROR_NONE, "200 is a success");
	is_number(wh_status_class(299), WH_ERROR_NONE, "299 is a success");
	is_number(wh_status_class(300), WH_ERROR_REDIRECT, "300 is a redirect");
	is_number(wh_status_class(399), WH_ERROR_REDIRECT, "399 is a redirect");
	is_number(wh_status_class(400), WH_ERROR_STATUS, "400 is a failure");
}

static const int64_t short_waits[] = {5 * SECOND, 60 * SECOND, 10 * SECOND};
static const int64_t long_waits[] = {5 * SECOND, 24 * HOUR, HOUR};

typedef struct DecideCase
{
	const char *name;
	const int64_t *waits_ms;	/* three of them, or NULL for none */
	const char *retry_on;
	double		jitter;
	WhAnswer	answer;
	int			attempt;
	double		random;
	WhVerdict	verdict;
} DecideCase;

#define DEFAULT_ON "408,425,429,5xx"
#define STATUS(status) {WH_ERROR_STATUS, status, 0}
#define ASKED(status, retry_after_ms) {WH_ERROR_STATUS, status, retry_after_ms}
#define FAILED(error_class) {error_class, 0, 0}
#define RETRY(wait_ms) {WH_RETRYING, WH_DEAD_NOT, wait_ms}
#define DEAD(reason) {WH_DEAD_LETTER, reason, 0}
#define SUCCESS {WH_SUCCEEDED, WH_DEAD_NOT, 0}

static const DecideCase decide_cases[] = {
	{"a success is a success", short_waits, DEFAULT_ON, 0,
	{WH_ERROR_NONE, 200, 0}, 1, 0, SUCCESS},
	{"a success at the last attempt is one, too", short_waits, DEFAULT_ON, 0,
	{WH_ERROR_NONE, 204, 0}, 4, 0, SUCCESS},
	{"a success is one though its status be in retry_on", short_waits, "*", 0,
	{WH_ERROR_NONE, 200, 0}, 1, 0, SUCCESS},

	{"the first attempt is followed by the first wait", short_waits, DEFAULT_ON, 0,
	STATUS(500), 1, 0, RETRY(5 * SECOND)},
	{"the second attempt is followed by the second wait", short_waits, DEFAULT_ON, 0,
	STATUS(500), 2, 0, RETRY(60 * SECOND)},
	{"three waits allow a fourth attempt", short_waits, DEFAULT_ON, 0,
	STATUS(500), 3, 0, RETRY(10 * SECOND)},
	{"three waits allow no fifth attempt", short_waits, DEFAULT_ON, 0,
	STATUS(500), 4, 0, DEAD(WH_DEAD_EXHAUSTED)},
	{"attempts beyond the schedule are exhausted, too", short_waits, DEFAULT_ON, 0,
	STATUS(500), 1000, 0, DEAD(WH_DEAD_EXHAUSTED)},
	{"no waits allow one attempt", NULL, DEFAULT_ON, 0,
	STATUS(500), 1, 0, DEAD(WH_DEAD_EXHAUSTED)},

	{"a status outside retry_on is permanent", short_waits, DEFAULT_ON, 0,
	STATUS(404), 1, 0, DEAD(WH_DEAD_PERMANENT)},
	{"a permanent failure is not called exhausted", short_waits, DEFAULT_ON, 0,
	STATUS(404), 4, 0, DEAD(WH_DEAD_PERMANENT)},
	{"every status can be retried", short_waits, "*", 0,
	STATUS(404), 1, 0, RETRY(5 * SECOND)},
	{"no status needs to be retried", short_waits, "", 0,
	STATUS(500), 1, 0, DEAD(WH_DEAD_PERMANENT)},
	{"a redirect is permanent", short_waits, DEFAULT_ON, 0,
	{WH_ERROR_REDIRECT, 302, 0}, 1, 0, DEAD(WH_DEAD_PERMANENT)},
	{"a redirect in retry_on is retried", short_waits, "3xx", 0,
	{WH_ERROR_REDIRECT, 302, 0}, 1, 0, RETRY(5 * SECOND)},
	{"410 is gone", short_waits, DEFAULT_ON, 0,
	STATUS(410), 1, 0, DEAD(WH_DEAD_GONE)},
	{"410 is gone though it be in retry_on", short_waits, "*", 0,
	STATUS(410), 1, 0, DEAD(WH_DEAD_GONE)},
	{"410 is gone at the last attempt, too", short_waits, "*", 0,
	STATUS(410), 4, 0, DEAD(WH_DEAD_GONE)},

	{"a name that is not found is retried", short_waits, "", 0,
	FAILED(WH_ERROR_DNS), 1, 0, RETRY(5 * SECOND)},
	{"a refused connection is retried", short_waits, "", 0,
	FAILED(WH_ERROR_CONNECT), 1, 0, RETRY(5 * SECOND)},
	{"a bad certificate is retried", short_waits, "", 0,
	FAILED(WH_ERROR_TLS), 1, 0, RETRY(5 * SECOND)},
	{"a timeout is retried", short_waits, "", 0,
	FAILED(WH_ERROR_TIMEOUT), 1, 0, RETRY(5 * SECOND)},
	{"a broken answer is retried", short_waits, "", 0,
	FAILED(WH_ERROR_PROTOCOL), 1, 0, RETRY(5 * SECOND)},
	{"an internal error is retried", short_waits, "", 0,
	FAILED(WH_ERROR_INTERNAL), 1, 0, RETRY(5 * SECOND)},
	{"a failure without a status is retried till exhausted", short_waits, "", 0,
	FAILED(WH_ERROR_TIMEOUT), 4, 0, DEAD(WH_DEAD_EXHAUSTED)},
	{"a timeout after the status is a failure without one", short_waits, "", 0,
	{WH_ERROR_TIMEOUT, 404, 0}, 1, 0, RETRY(5 * SECOND)},
	{"a blocked address is not retried", short_waits, "*", 0,
	FAILED(WH_ERROR_BLOCKED_ADDRESS), 1, 0, DEAD(WH_DEAD_BLOCKED_ADDRESS)},
	{"a blocked address is not called exhausted", NULL, "*", 0,
	FAILED(WH_ERROR_BLOCKED_ADDRESS), 1, 0, DEAD(WH_DEAD_BLOCKED_ADDRESS)},

	{"jitter adds nothing at random 0", short_waits, DEFAULT_ON, 0.25,
	STATUS(500), 2, 0, RETRY(60 * SECOND)},
	{"jitter adds its share", short_waits, DEFAULT_ON, 0.25,
	STATUS(500), 2, 0.5, RETRY(67500)},
	{"no jitter adds nothing", short_waits, DEFAULT_ON, 0,
	STATUS(500), 2, 0.999, RETRY(60 * SECOND)},

	{"Retry-After lengthens the wait on 429", short_waits, DEFAULT_ON, 0,
	ASKED(429, 30 * SECOND), 1, 0, RETRY(30 * SECOND)},
	{"Retry-After lengthens the wait on 503", short_waits, DEFAULT_ON, 0,
	ASKED(503, 30 * SECOND), 1, 0, RETRY(30 * SECOND)},
	{"Retry-After does not count on 500", short_waits, DEFAULT_ON, 0,
	ASKED(500, 30 * SECOND), 1, 0, RETRY(5 * SECOND)},
	{"Retry-After does not shorten the wait", short_waits, DEFAULT_ON, 0,
	ASKED(429, 1 * SECOND), 1, 0, RETRY(5 * SECOND)},
	{"Retry-After does not shorten the jitter", short_waits, DEFAULT_ON, 0.25,
	ASKED(429, 61 * SECOND), 2, 0.5, RETRY(67500)},
	{"Retry-After is bounded by an hour", short_waits, DEFAULT_ON, 0,
	ASKED(503, HOUR + 1), 1, 0, RETRY(HOUR)},
	{"Retry-After may be the hour itself", short_waits, DEFAULT_ON, 0,
	ASKED(503, HOUR), 1, 0, RETRY(HOUR)},
	{"Retry-After is bounded by the longest wait when that is more", long_waits, DEFAULT_ON, 0,
	ASKED(503, 48 * HOUR), 1, 0, RETRY(24 * HOUR)},
	{"Retry-After may lie between the hour and the longest wait", long_waits, DEFAULT_ON, 0,
	ASKED(503, 2 * HOUR), 1, 0, RETRY(2 * HOUR)},
	{"the greatest Retry-After is bounded, too", short_waits, DEFAULT_ON, 0,
	ASKED(503, INT64_MAX), 1, 0, RETRY(HOUR)},
	{"a Retry-After in the past does not count", short_waits, DEFAULT_ON, 0,
	ASKED(429, -30 * SECOND), 1, 0, RETRY(5 * SECOND)},
	{"Retry-After grants no further attempt", short_waits, DEFAULT_ON, 0,
	ASKED(429, 30 * SECOND), 4, 0, DEAD(WH_DEAD_EXHAUSTED)},
	{"Retry-After does not make a status retried", short_waits, "5xx", 0,
	ASKED(429, 30 * SECOND), 1, 0, DEAD(WH_DEAD_PERMANENT)},
};

static void
test_decisions(void)
{
	for (size_t i = 0; i < COUNT(decide_cases); i++)
	{
		const DecideCase *c = &decide_cases[i];
		WhStatusSet statuses;
		WhRetryPolicy policy = {
			.statuses = &statuses,
			.waits_ms = c->waits_ms,
			.wait_count = c->waits_ms != NULL ? 3 : 0,
			.jitter = c->jitter,
		};
		WhVerdict	verdict;

		wh_status_set_parse(c->retry_on, &statuses);
		verdict = wh_retry_decide(&policy, &c->answer, c->attempt, c->random);
		if (!ok(verdict.outcome == c->verdict.outcome && verdict.reason == c->verdict.reason
				&& verdict.wait_ms == c->verdict.wait_ms, c->name))
			printf("# got outcome %d, reason %d, wait %lld ms\n", (int) verdict.outcome,
				   (int) verdict.reason, (long long) verdict.wait_ms);
	}
}

static void
test_names(void)
{
	static const char *const error_classes[] = {
		NULL, "dns", "connect", "tls", "timeout", "blocked_address", "redirect", "status",
		"protocol", "internal"
	};
	static const char *const outcomes[] = {"succeeded", "retrying", "dead_letter", "cancelled"};
	static const char *const reasons[] = {
		NULL, "exhausted", "permanent", "gone", "expired", "blocked_address"
	};

	for (size_t i = 0; i < COUNT(error_classes); i++)
		is_text(wh_error_class_name((WhErrorClass) i), error_classes[i],
				"an error class has its word in SQL");
	for (size_t i = 0; i < COUNT(outcomes); i++)
		is_text(wh_outcome_name((WhOutcome) i), outcomes[i], "an outcome has its word in SQL");
	for (size_t i = 0; i < COUNT(reasons); i++)
		is_text(wh_dead_reason_name((WhDeadReason) i), reasons[i],
				"a dead letter's reason has its word in SQL");
}

int
main(void)
{
	test_sets();
	test_classes();
	test_decisions();
	test_names();
	return done();
}
