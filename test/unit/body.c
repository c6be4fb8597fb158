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
check_body(WhBodyFormat format, const WhBodyEvent *event, const char *body, const char *name)
{
	char	   *out = malloc(wh_body_bound(format, event));
	size_t		len = wh_body_write(format, out, event);

	is_text(out, body, name);
	if (len != strlen(out))
		ok(false, "the length returned is the body's");
	free(out);
}

static void
test_standard(void)
{
	for (size_t i = 0; i < COUNT(body_cases); i++)
	{
		const BodyCase *c = &body_cases[i];
		WhBodyEvent event = {
			.event_type = c->event_type, .occurred_at_us = c->occurred_at_us,
			.data = c->data, .data_len = strlen(c->data)
		};

		check_body(WH_BODY_STANDARD, &event, c->body, c->name);
	}
}

#define ID "01a2074d-e9d4-73ca-b172-2a1a60dd4a1b"
#define CLOUD_EVENT(source) \
	"{\"specversion\":\"1.0\",\"id\":\"" ID "\",\"source\":\"" source "\"," \
	"\"type\":\"order.paid\",\"time\":\"1970-01-01T00:00:00.000000Z\"," \
	"\"datacontenttype\":\"application/json\",\"data\":1}"

static void
test_formats(void)
{
	WhBodyEvent event = {
		.id = ID, .tenant_id = "", .event_type = "order.paid", .data = "1234", .data_len = 1
	};
	char		every_byte[256];
	char		encoded[1024] = "";

	check_body(WH_BODY_STANDARD, &event, "{\"type\":\"order.paid\","
			   "\"timestamp\":\"1970-01-01T00:00:00.000000Z\",\"data\":1}",
			   "data ends at its length, not at a NUL");
	event.api_version = "2026-11-23";
	check_body(WH_BODY_STANDARD, &event, "{\"type\":\"order.paid\","
			   "\"timestamp\":\"1970-01-01T00:00:00.000000Z\","
			   "\"api_version\":\"2026-11-23\",\"data\":1}",
			   "the version stands before the data");
	check_body(WH_BODY_RAW, &event, "1", "a raw body is the data alone");
	check_body(WH_BODY_CLOUDEVENTS, &event, CLOUD_EVENT("/webhooks"),
			   "a CloudEvent of no tenant");
	event.tenant_id = "acme-1._~";
	check_body(WH_BODY_CLOUDEVENTS, &event, CLOUD_EVENT("/webhooks/acme-1._~"),
			   "a CloudEvent of a tenant");
	event.tenant_id = "a/b \"\xC3\xBC%";
	check_body(WH_BODY_CLOUDEVENTS, &event, CLOUD_EVENT("/webhooks/a%2Fb%20%22%C3%BC%25"),
			   "a tenant's name is percent-encoded");

	for (int i = 1; i < 256; i++)
	{
		every_byte[i - 1] = (char) i;
		if ((i >= '0' && i <= '9') || (i >= 'A' && i <= 'Z') || (i >= 'a' && i <= 'z') ||
			i == '-' || i == '.' || i == '_' || i == '~')
			sprintf(encoded + strlen(encoded), "%c", i);
		else
			sprintf(encoded + strlen(encoded), "%%%02X", i);
	}
	every_byte[255] = '\0';
	event.tenant_id = every_byte;
	{
		char		expected[2048];

		sprintf(expected, CLOUD_EVENT("/webhooks/%s"), encoded);
		check_body(WH_BODY_CLOUDEVENTS, &event, expected, "whatever its bytes are");
	}
}

static void
test_names(void)
{
	static const char *const names[] = {"standard", "raw", "cloudevents"};
	WhBodyFormat format;

	for (int i = 0; i < 3; i++)
		ok(wh_body_format_parse(names[i], &format) && (int) format == i, names[i]);
	ok(!wh_body_format_parse("", &format) && !wh_body_format_parse("Raw", &format) &&
	   !wh_body_format_parse("rawx", &format), "anything else is no format");
	is_text(wh_body_content_type(WH_BODY_STANDARD), "application/json", "standard is JSON");
	is_text(wh_body_content_type(WH_BODY_RAW), "application/json", "raw is JSON");
	is_text(wh_body_content_type(WH_BODY_CLOUDEVENTS), "application/cloudevents+json",
			"cloudevents has a media type of its own");
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
				WhBodyEvent event = {
					.event_type = "t", .occurred_at_us = noon_us, .data = "1", .data_len = 1
				};

				wh_body_write(WH_BODY_STANDARD, out, &event);
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
	test_standard();
	test_formats();
	test_names();
	test_calendar();
	return done();
}
