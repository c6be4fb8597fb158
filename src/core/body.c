/*
 * Request bodies are written by hand, timestamp and all: a body is signed, so a formatting function
 * that heeds the locale, the time zone or leap seconds must have no say in it.
 */
#include "core/body.h"

#include <stdbool.h>
#include <string.h>

#define BEFORE_TYPE "{\"type\":\""
#define BEFORE_TIMESTAMP "\",\"timestamp\":\""
#define BEFORE_API_VERSION "\",\"api_version\":\""
#define BEFORE_DATA "\",\"data\":"
#define AFTER_DATA "}"

#define BEFORE_ID "{\"specversion\":\"1.0\",\"id\":\""
#define BEFORE_SOURCE "\",\"source\":\"/webhooks"
#define BEFORE_CLOUD_TYPE "\",\"type\":\""
#define BEFORE_TIME "\",\"time\":\""
#define BEFORE_CLOUD_DATA "\",\"datacontenttype\":\"application/json\",\"data\":"

/* RFC 3986, 2.3 */
#define UNRESERVED \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

#define TIMESTAMP_EXAMPLE "2026-11-23T06:30:00.123456Z"

#define SECOND_US INT64_C(1000000)
#define DAY_S INT64_C(86400)

/* 0001-01-01T00:00:00.000000Z and 9999-12-31T23:59:59.999999Z */
#define FIRST_US (INT64_C(-62135596800) * SECOND_US)
#define LAST_US (INT64_C(253402300800) * SECOND_US - 1)

typedef struct Date
{
	int64_t		year;
	int64_t		month;
	int64_t		day;
} Date;

/*
 * The Gregorian date so many days after 0001-01-01. Years are reckoned from March, which puts the
 * leap day at a year's end, where it moves no other day; months from March on are then 153 days
 * for each five.
 */
static Date
find_date(int64_t days)
{
	int64_t		march_days = days + 306;	/* since 0000-03-01 */
	int64_t		era = march_days / 146097;	/* of 400 years */
	int64_t		era_day = march_days % 146097;
	int64_t		era_year = (era_day - era_day / 1460 + era_day / 36524 - era_day / 146096) / 365;
	int64_t		year_day = era_day - (era_year * 365 + era_year / 4 - era_year / 100);
	int64_t		month = (year_day * 5 + 2) / 153;	/* 0 for March */
	bool		next_year = month >= 10;	/* January and February */

	return (Date) {
		.year = era * 400 + era_year + (next_year ? 1 : 0),
		.month = next_year ? month - 9 : month + 3,
		.day = year_day - (month * 153 + 2) / 5 + 1,
	};
}

static char *
append(char *out, const char *bytes, size_t len)
{
	memcpy(out, bytes, len);
	return out + len;
}

static char *
append_text(char *out, const char *text)
{
	return append(out, text, strlen(text));
}

/* Appends the number in so many digits, then the character that ends it. */
static char *
append_number(char *out, int64_t number, int digits, char end)
{
	for (int i = digits - 1; i >= 0; i--, number /= 10)
		out[i] = (char) ('0' + number % 10);
	out[digits] = end;
	return out + digits + 1;
}

static char *
append_timestamp(char *out, int64_t unix_us)
{
	int64_t		us;				/* since FIRST_US, so that nothing below is negative */
	int64_t		seconds;
	Date		date;

	if (unix_us < FIRST_US)
		unix_us = FIRST_US;
	if (unix_us > LAST_US)
		unix_us = LAST_US;
	us = unix_us - FIRST_US;
	seconds = us / SECOND_US;
	date = find_date(seconds / DAY_S);

	out = append_number(out, date.year, 4, '-');
	out = append_number(out, date.month, 2, '-');
	out = append_number(out, date.day, 2, 'T');
	out = append_number(out, seconds % DAY_S / 3600, 2, ':');
	out = append_number(out, seconds / 60 % 60, 2, ':');
	out = append_number(out, seconds % 60, 2, '.');
	return append_number(out, us % SECOND_US, 6, 'Z');
}

/* A segment of a path: RFC 3986, 2.1. */
static char *
append_percent_encoded(char *out, const char *text)
{
	static const char digits[] = "0123456789ABCDEF";

	for (; *text; text++)
	{
		unsigned char byte = (unsigned char) *text;

		if (strchr(UNRESERVED, byte))
			*out++ = *text;
		else
		{
			*out++ = '%';
			*out++ = digits[byte >> 4];
			*out++ = digits[byte & 15];
		}
	}
	return out;
}

static size_t
write_standard(char *out, const WhBodyEvent *event)
{
	char	   *end = out;

	end = append_text(end, BEFORE_TYPE);
	end = append_text(end, event->event_type);
	end = append_text(end, BEFORE_TIMESTAMP);
	end = append_timestamp(end, event->occurred_at_us);
	if (event->api_version)
	{
		end = append_text(end, BEFORE_API_VERSION);
		end = append_text(end, event->api_version);
	}
	end = append_text(end, BEFORE_DATA);
	end = append(end, event->data, event->data_len);
	end = append_text(end, AFTER_DATA);
	return (size_t) (end - out);
}

static size_t
write_cloudevents(char *out, const WhBodyEvent *event)
{
	char	   *end = out;

	end = append_text(end, BEFORE_ID);
	end = append_text(end, event->id);
	end = append_text(end, BEFORE_SOURCE);
	if (event->tenant_id[0])
	{
		end = append_text(end, "/");
		end = append_percent_encoded(end, event->tenant_id);
	}
	end = append_text(end, BEFORE_CLOUD_TYPE);
	end = append_text(end, event->event_type);
	end = append_text(end, BEFORE_TIME);
	end = append_timestamp(end, event->occurred_at_us);
	end = append_text(end, BEFORE_CLOUD_DATA);
	end = append(end, event->data, event->data_len);
	end = append_text(end, AFTER_DATA);
	return (size_t) (end - out);
}

bool
wh_body_format_parse(const char *name, WhBodyFormat *format)
{
	if (strcmp(name, "standard") == 0)
		*format = WH_BODY_STANDARD;
	else if (strcmp(name, "raw") == 0)
		*format = WH_BODY_RAW;
	else if (strcmp(name, "cloudevents") == 0)
		*format = WH_BODY_CLOUDEVENTS;
	else
		return false;
	return true;
}

const char *
wh_body_content_type(WhBodyFormat format)
{
	return format == WH_BODY_CLOUDEVENTS ? "application/cloudevents+json" : "application/json";
}

size_t
wh_body_bound(WhBodyFormat format, const WhBodyEvent *event)
{
	switch (format)
	{
		case WH_BODY_STANDARD:
			return sizeof(BEFORE_TYPE BEFORE_TIMESTAMP TIMESTAMP_EXAMPLE BEFORE_API_VERSION
						  BEFORE_DATA AFTER_DATA)
				+ strlen(event->event_type) + event->data_len
				+ (event->api_version ? strlen(event->api_version) : 0);
		case WH_BODY_RAW:
			return event->data_len + 1;
		case WH_BODY_CLOUDEVENTS:
			return sizeof(BEFORE_ID BEFORE_SOURCE "/" BEFORE_CLOUD_TYPE BEFORE_TIME
						  TIMESTAMP_EXAMPLE BEFORE_CLOUD_DATA AFTER_DATA)
				+ strlen(event->id) + 3 * strlen(event->tenant_id)
				+ strlen(event->event_type) + event->data_len;
	}
	return 0;
}

size_t
wh_body_write(WhBodyFormat format, char *out, const WhBodyEvent *event)
{
	size_t		len = 0;

	switch (format)
	{
		case WH_BODY_STANDARD:
			len = write_standard(out, event);
			break;
		case WH_BODY_RAW:
			len = (size_t) (append(out, event->data, event->data_len) - out);
			break;
		case WH_BODY_CLOUDEVENTS:
			len = write_cloudevents(out, event);
			break;
	}
	out[len] = '\0';
	return len;
}
