/*
 * Rates: what a bucket grants over simulated time. Times are in microseconds.
 */
#include "core/rate.h"

#include "tap.h"

#define SECOND INT64_C(1000000)
#define START (INT64_C(800000000) * SECOND)	/* what a clock shows is far from zero */
#define SENT_MAX 200000

static int64_t sent[SENT_MAX];
static int	sent_count;

/*
 * A sender that always has more to send, and that looks again when the bucket says, some time late:
 * fills sent.
 */
static void
send_for(WhRate *rate, double per_second, int64_t from, int64_t until, int64_t late)
{
	int64_t		now = from;

	while (now < until)
	{
		for (int n = wh_rate_tokens(rate, per_second, now); n > 0 && sent_count < SENT_MAX; n--)
		{
			wh_rate_take(rate, per_second, now);
			sent[sent_count++] = now;
		}
		now += wh_rate_wait_us(rate, per_second, 0, now) + late;
	}
}

/* The most that were sent in any ten seconds. */
static int
most_in_ten_seconds(void)
{
	int			most = 0;

	for (int first = 0, last = 0; last < sent_count; last++)
	{
		while (sent[last] - sent[first] >= 10 * SECOND)
			first++;
		if (last - first + 1 > most)
			most = last - first + 1;
	}
	return most;
}

static const double rates[] = {0.05, 0.1, 0.5, 0.9, 1, 1.5, 3, 20, 99.9, 1000};

static void
test_bounds(void)
{
	for (size_t i = 0; i < COUNT(rates); i++)
	{
		double		r = rates[i];
		double		burst = r > 1 ? r : 1;
		int64_t		seconds = r < 1 ? 1000 : 100;
		WhRate		rate = {0};
		char		name[100];

		/* busy, idle until the bucket is full, and busy again */
		sent_count = 0;
		send_for(&rate, r, START, START + seconds * SECOND, SECOND / 1000);
		snprintf(name, sizeof(name), "%g a second: no less than 0.95 of it", r);
		if (!ok(sent_count >= (int) (0.95 * r * (double) seconds), name))
			printf("# got %d in %d s\n", sent_count, (int) seconds);

		send_for(&rate, r, START + (seconds + 60) * SECOND,
				 START + (2 * seconds + 60) * SECOND, SECOND / 1000);
		snprintf(name, sizeof(name), "%g a second: no more in any ten seconds", r);
		if (!ok(most_in_ten_seconds() <= (int) (10 * r + burst + 1e-6), name))
			printf("# got %d\n", most_in_ten_seconds());
	}
}

static void
test_bucket(void)
{
	WhRate		rate = {0};

	is_number(wh_rate_tokens(&rate, 100, START), 1, "a new bucket has one token");
	wh_rate_take(&rate, 100, START);
	is_number(wh_rate_tokens(&rate, 100, START), 0, "which can be taken once");
	is_number(wh_rate_tokens(&rate, 100, START + SECOND / 10), 10, "tokens come back at the rate");
	is_number(wh_rate_tokens(&rate, 100, START + 60 * SECOND), 100, "up to a second's worth");
	is_number(wh_rate_tokens(&rate, 100, START), 100, "a clock that is set back takes none");
	wh_rate_take(&rate, 100, START);
	is_number(wh_rate_tokens(&rate, 100, START), 99, "and grants none");
	is_number(wh_rate_tokens(&rate, 100, START + SECOND), 100, "and goes on from there");

	is_number(wh_rate_tokens(&rate, 0.5, START + SECOND), 1, "a lower rate leaves its own burst");
	wh_rate_take(&rate, 0.5, START + SECOND);
	wh_rate_take(&rate, 0.5, START + SECOND);
	is_number(wh_rate_tokens(&rate, 0.5, START + 3 * SECOND - 10), 0,
			  "what was taken beyond it is owed");
	is_number(wh_rate_tokens(&rate, 0.5, START + 5 * SECOND), 1, "and comes back");
}

static void
test_waits(void)
{
	WhRate		rate = {0};
	WhRate		fast = {0};
	WhRate		slowest = {0};

	is_number(wh_rate_wait_us(&rate, 10, 0, START), 0, "no wait while there is a token");
	is_number(wh_rate_wait_us(&rate, 10, 1, START) / 1000, 100,
			  "one that is reserved does not count");
	wh_rate_take(&rate, 10, START);
	is_number(wh_rate_wait_us(&rate, 10, 0, START) / 1000, 100, "the wait is for the next token");
	is_number(wh_rate_wait_us(&rate, 10, 3, START) / 1000, 400, "beside those reserved");
	is_number(wh_rate_tokens(&rate, 10, START + wh_rate_wait_us(&rate, 10, 0, START)), 1,
			  "after it there is one");

	wh_rate_take(&fast, 1000, START);
	is_number(wh_rate_wait_us(&fast, 1000, 0, START) / 1000, 20,
			  "where tokens come fast, the wait is for several");

	/* a float4's smallest value */
	wh_rate_take(&slowest, 1.4e-45, START);
	ok(wh_rate_wait_us(&slowest, 1.4e-45, 0, START) > 1000000 * SECOND,
	   "the slowest rate waits long");
	is_number(wh_rate_tokens(&slowest, 1.4e-45, START + 1000 * SECOND), 0,
			  "and stays without a token");
	is_number(wh_rate_tokens(&fast, WH_RATE_MAX, START + 10 * SECOND), WH_RATE_MAX,
			  "the highest rate has a second's worth");
}

int
main(void)
{
	test_bucket();
	test_waits();
	test_bounds();
	return done();
}
