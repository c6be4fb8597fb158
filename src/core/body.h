/*
 * The bytes of a request body, in each of the formats that an endpoint may want. The same event
 * gives the same bytes on every attempt.
 */
#ifndef WH_CORE_BODY_H
#define WH_CORE_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum WhBodyFormat
{
	WH_BODY_STANDARD,			/* {"type":…,"timestamp":…,"data":…}, with "api_version" before
								 * "data" if there is one */
	WH_BODY_RAW,				/* the data alone */
	WH_BODY_CLOUDEVENTS			/* CloudEvents 1.0, structured mode */
} WhBodyFormat;

typedef struct WhBodyEvent
{
	const char *id;				/* for CloudEvents alone: the event's, as text */
	const char *tenant_id;		/* for CloudEvents alone: its source is /webhooks/<tenant_id>, or
								 * /webhooks when it is empty */
	const char *event_type;		/* valid: see event_type.h */
	const char *api_version;	/* for the standard format alone, needs no escaping; NULL: none */
	int64_t		occurred_at_us; /* since the Unix epoch; written in RFC 3339 form in UTC with six
								 * digits of fraction, 2026-11-23T06:30:00.123456Z; years outside
								 * 0001 to 9999 are clamped to those */
	const char *data;			/* JSON text */
	size_t		data_len;
} WhBodyEvent;

/* False: it is no format's name. */
extern bool wh_body_format_parse(const char *name, WhBodyFormat *format);

extern const char *wh_body_content_type(WhBodyFormat format);

/* Upper bound of what wh_body_write writes, the terminating NUL included. */
extern size_t wh_body_bound(WhBodyFormat format, const WhBodyEvent *event);

/* Writes the body, NUL-terminated, and returns its length. */
extern size_t wh_body_write(WhBodyFormat format, char *out, const WhBodyEvent *event);

#endif
