/*
 * Request bodies, byte for byte.
 */
#include "core/body.h"

#include <stdlib.h>

#include "tap.h"

typedef struct BodyCase
{
	const char *name;
	const char *event_type;
	int64_t		occurred_at_us;
	const char *data;
	const char *body;
} BodyCase;

#define AT(timestamp) "{\"type\":\"t\",\"timestamp\":\"" timestamp "\",\"data\":1}"

static const BodyCase body_cases[] = {
	{"type, timestamp and data, in this order", "invoice.paid", INT64_C(1795415400123456),
		"{\"id\": 7}", "{\"type\":\"invoice.paid\",\"timestamp\":\"2026-11-23T06:30:00.123456Z\","
	"\"data\":{\"id\": 7}}"},
	{"the data's own spelling is kept", "t", 0, " [ 1.0, \"\\u00e9\" ] ",
		"{\"type\":\"t\",\"timestamp\":\"1970-01-01T00:00:00.000000Z\","
	"\"data\": [ 1.0, \"\\u00e9\" ] }"},
	{"a microsecond after 1970", "t", 1, "1", AT("1970-01-01T00:00:00.000001Z")},
	{"a microsecond before 1970", "t", -1, "1", AT("1969-12-31T23:59:59.999999Z")},
	{"a leap day", "t", INT64_C(1709164800000000), "1", AT("2024-02-29T00:00:00.000000Z")},
	{"a year of 400 has a leap day", "t", INT64_C(951782400000000), "1",
	AT("2000-02-29T00:00:00.000000Z")},
	{"a year of 100 has none", "t", INT64_C(4107542400000000), "1",
	AT("2100-03-01T00:00:00.000000Z")},
	{"the last second of a year", "t", INT64_C(1798761599999999), "1",
	AT("2026-12-31T23:59:59.999999Z")},
	{"the first microsecond of year 1", "t", INT64_C(-62135596800000000), "1",
	AT("0001-01-01T00:00:00.000000Z")},
	{"what is before year 1 is clamped", "t", INT64_C(-62135596800000001), "1",
	AT("0001-01-01T00:00:00.000000Z")},
	{"the last microsecond of year 9999", "t", INT64_C(253402300799999999), "1",
	AT("9999-12-31T23:59:59.999999Z")},
	{"what is after year 9999 is clamped", "t", INT64_C(253402300800000000), "1",
	AT("9999-12-31T23:59:59.999999Z")},
	{"the least number is clamped", "t", INT64_MIN, "1", AT("0001-01-01T00:00:00.000000Z")},
	{"the greatest number is clamped", "t", INT64_MAX, "1", AT("9999-12-31T23:59:59.999999Z")},
};

/* Writes into a block of exactly the bound, so that the sanitizer sees one byte too many. */
static void
test_bodies(void)
{
	for (size_t i = 0; i < COUNT(body_cases); i++)
	{
		const BodyCase *c = &body_cases[i];
		char	   *out = malloc(wh_body_standard_bound(strlen(c->event_type), strlen(c->data)));
		size_t		len = wh_body_standard(out, c->event_type, c->occurred_at_us,
										   c->data, strlen(c->data));

		is_text(out, c->body, c->name);
		if (len != strlen(out))
			ok(false, "the length returned is the body's");
		free(out);
	}
}

static void
test_data_length(void)
{
	char		out[256];

	wh_body_standard(out, "t", 0, "1234", 1);
	is_text(out, AT("1970-01-01T00:00:00.000000Z"), "data ends at its length, not at a NUL");
}

/* Walks the calendar in the plain way, from the first day to the last. */
static void
test_calendar(void)
{
	static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int64_t		noon_us = INT64_C(-62135553600000000);
	bool		same = true;

	for (int year = 1; year <= 9999; year++)
	{
		bool		leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

		for (int month = 1; month <= 12; month++)
			for (int day = 1; day <= month_days[month - 1] + (leap && month == 2); day++)
			{
				const char *date;
				char		out[256];

				wh_body_standard(out, "t", noon_us, "1", 1);
				date = out + strlen("{\"type\":\"t\",\"timestamp\":\"");
				same = same && atoi(date) == year && atoi(date + 5) == month
					&& atoi(date + 8) == day && strncmp(date + 10, "T12:00:00.000000Z", 17) == 0;
				noon_us += INT64_C(86400000000);
			}
	}
	ok(same, "every day from 0001 to 9999 has its date");
}

int
main(void)
{
	test_bodies();
	test_data_length();
	test_calendar();
	return done();
}
