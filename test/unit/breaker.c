/*
 * Breakers: what opens one, what is sent to an open one, what closes it.
 */
#include "core/breaker.h"

#include "tap.h"

#define SECOND INT64_C(1000000)
#define START (INT64_C(800000000) * SECOND)

static const WhAnswer success = {WH_ERROR_NONE, 200, 0};
static const WhAnswer failure = {WH_ERROR_STATUS, 503, 0};
static const WhAnswer blocked = {WH_ERROR_BLOCKED_ADDRESS, 0, 0};

/* One of so many that fail at regular times, the first at START, the last after so long. */
static WhBreakerChange
fail(WhBreaker *breaker, int count, int64_t span_us)
{
	WhBreakerChange change = WH_BREAKER_SAME;

	for (int i = 0; i < count; i++)
	{
		int64_t		at = START + (count > 1 ? span_us * i / (count - 1) : 0);

		change = wh_breaker_note(breaker, &failure, false, at, at);
	}
	return change;
}

static WhBreaker
opened(void)
{
	WhBreaker	breaker = {0};

	(void) fail(&breaker, WH_BREAKER_FAILURES, WH_BREAKER_SUSTAINED_US);
	return breaker;
}

static void
test_opening(void)
{
	WhBreaker	breaker = {0};

	is_number(wh_breaker_until_us(&breaker), INT64_MIN, "a new one is closed");
	is_number(fail(&breaker, 19, 3600 * SECOND), WH_BREAKER_SAME,
			  "nineteen failures do not open it, however long they take");

	breaker = (WhBreaker) {0};
	is_number(fail(&breaker, 100000, 5 * SECOND - 1), WH_BREAKER_SAME,
			  "nor do any number of them in less than five seconds");
	is_number(wh_breaker_note(&breaker, &failure, false, START + 5 * SECOND, START + 5 * SECOND),
			  WH_BREAKER_OPENED, "the next one does, five seconds after the first");

	breaker = (WhBreaker) {0};
	is_number(fail(&breaker, 20, 5 * SECOND), WH_BREAKER_OPENED, "twenty in five seconds open it");
	is_number(wh_breaker_until_us(&breaker), START + 7 * SECOND, "for two seconds at first");

	/* the first of them was sent before, and took its time to fail */
	breaker = (WhBreaker) {0};
	for (int i = 0; i < 19; i++)
		(void) wh_breaker_note(&breaker, &failure, false, START, START + 15 * SECOND);
	is_number(wh_breaker_note(&breaker, &failure, false, START, START + 15 * SECOND),
			  WH_BREAKER_OPENED, "the time counts from when the first was sent");

	breaker = (WhBreaker) {0};
	(void) fail(&breaker, 19, 10 * SECOND);
	(void) wh_breaker_note(&breaker, &success, false, START, START + 11 * SECOND);
	is_number(wh_breaker_note(&breaker, &failure, false, START, START + 12 * SECOND),
			  WH_BREAKER_SAME, "a success in between starts the count anew");
	ok(!wh_breaker_is_open(&breaker), "and leaves it closed");

	breaker = (WhBreaker) {0};
	(void) fail(&breaker, 19, 10 * SECOND);
	(void) wh_breaker_note(&breaker, &blocked, false, START, START + 11 * SECOND);
	is_number(wh_breaker_note(&breaker, &failure, false, START, START + 12 * SECOND),
			  WH_BREAKER_OPENED, "what is not sent at all counts neither way");
}

typedef struct SignCase
{
	const char *name;
	WhAnswer	answer;
	bool		opens;			/* a closed one, sent as the twentieth */
	bool		closes;			/* an open one */
} SignCase;

static const SignCase sign_cases[] = {
	{"no name", {WH_ERROR_DNS, 0, 0}, true, false},
	{"no connection", {WH_ERROR_CONNECT, 0, 0}, true, false},
	{"no TLS", {WH_ERROR_TLS, 0, 0}, true, false},
	{"no answer in time", {WH_ERROR_TIMEOUT, 0, 0}, true, false},
	{"half an answer in time", {WH_ERROR_TIMEOUT, 200, 0}, true, false},
	{"no HTTP", {WH_ERROR_PROTOCOL, 0, 0}, true, false},
	{"500", {WH_ERROR_STATUS, 500, 0}, true, false},
	{"599", {WH_ERROR_STATUS, 599, 0}, true, false},
	{"429", {WH_ERROR_STATUS, 429, 0}, true, false},
	{"200", {WH_ERROR_NONE, 200, 0}, false, true},
	{"302", {WH_ERROR_REDIRECT, 302, 0}, false, true},
	{"404", {WH_ERROR_STATUS, 404, 0}, false, true},
	{"410", {WH_ERROR_STATUS, 410, 0}, false, true},
	{"499", {WH_ERROR_STATUS, 499, 0}, false, true},
	{"a blocked address", {WH_ERROR_BLOCKED_ADDRESS, 0, 0}, false, false},
	{"an internal error", {WH_ERROR_INTERNAL, 0, 0}, false, false},
};

static void
test_signs(void)
{
	for (size_t i = 0; i < COUNT(sign_cases); i++)
	{
		const SignCase *c = &sign_cases[i];
		WhBreaker	closed = {0};
		WhBreaker	open = opened();
		char		name[100];

		(void) fail(&closed, 19, 6 * SECOND);
		snprintf(name, sizeof(name), "%s: %s", c->name, c->opens ? "a failure" : "no failure");
		is_number(wh_breaker_note(&closed, &c->answer, false, START, START + 7 * SECOND),
				  c->opens ? WH_BREAKER_OPENED : WH_BREAKER_SAME, name);
		snprintf(name, sizeof(name), "%s: %s", c->name,
				 c->closes ? "a sign of life" : "no sign of life");
		is_number(wh_breaker_note(&open, &c->answer, false, START, START + 7 * SECOND),
				  c->closes ? WH_BREAKER_CLOSED : WH_BREAKER_SAME, name);
	}
}

static void
test_probes(void)
{
	static const int waits_s[] = {4, 8, 16, 32, 60, 60, 60};
	WhBreaker	breaker = opened();
	int64_t		now = START + 7 * SECOND;
	bool		as_expected = true;

	(void) wh_breaker_note(&breaker, &failure, false, START, now);
	is_number(wh_breaker_until_us(&breaker), START + 7 * SECOND,
			  "what was under way when it opened keeps it open no longer");

	wh_breaker_begin_probe(&breaker);
	is_number(wh_breaker_until_us(&breaker), INT64_MAX, "one probe is enough at a time");
	(void) wh_breaker_note(&breaker, &failure, false, START, now);
	is_number(wh_breaker_until_us(&breaker), INT64_MAX, "whatever else comes in");
	wh_breaker_drop_probe(&breaker);
	is_number(wh_breaker_until_us(&breaker), now, "one that was not sent is not waited for");

	for (size_t i = 0; i < COUNT(waits_s); i++)
	{
		wh_breaker_begin_probe(&breaker);
		now += SECOND;
		(void) wh_breaker_note(&breaker, &failure, true, now - SECOND, now);
		as_expected &= wh_breaker_until_us(&breaker) == now + waits_s[i] * SECOND;
		now += waits_s[i] * SECOND;
	}
	ok(as_expected, "each probe that fails doubles the wait, up to a minute");

	wh_breaker_begin_probe(&breaker);
	(void) wh_breaker_note(&breaker, &blocked, true, now, now);
	is_number(wh_breaker_until_us(&breaker), now + 60 * SECOND,
			  "one that tells nothing is followed by another");

	wh_breaker_hurry(&breaker, now + SECOND);
	is_number(wh_breaker_until_us(&breaker), now + SECOND, "a changed endpoint is probed at once");
	wh_breaker_hurry(&breaker, now + 2 * SECOND);
	is_number(wh_breaker_until_us(&breaker), now + SECOND, "not later than it would have been");

	wh_breaker_begin_probe(&breaker);
	is_number(wh_breaker_note(&breaker, &success, true, now, now), WH_BREAKER_CLOSED,
			  "one that is answered closes it");
	is_number(wh_breaker_until_us(&breaker), INT64_MIN, "at once");
	(void) fail(&breaker, 20, 5 * SECOND);
	is_number(wh_breaker_until_us(&breaker), START + 7 * SECOND, "and it begins anew");
}

static void
test_late_life(void)
{
	WhBreaker	breaker = opened();

	wh_breaker_begin_probe(&breaker);
	is_number(wh_breaker_note(&breaker, &success, false, START, START + 8 * SECOND),
			  WH_BREAKER_CLOSED, "a late sign of life closes it, probe or not");
	is_number(wh_breaker_note(&breaker, &failure, true, START, START + 9 * SECOND),
			  WH_BREAKER_SAME, "and the probe's failure is one like others");
	ok(!wh_breaker_is_open(&breaker), "which does not open it");
	wh_breaker_hurry(&breaker, START);
	is_number(wh_breaker_until_us(&breaker), INT64_MIN, "a closed one cannot be hurried");
}

int
main(void)
{
	test_opening();
	test_signs();
	test_probes();
	test_late_life();
	return done();
}
