/*
 * Event types ("invoice.paid") and the patterns by which an endpoint subscribes to them.
 */
#ifndef WH_CORE_EVENT_TYPE_H
#define WH_CORE_EVENT_TYPE_H

#include <stdbool.h>

#define WH_EVENT_TYPE_MAX 128	/* bytes */

/*
 * One or more segments joined by single dots, each of ASCII letters, digits, '_' and '-'; at most
 * WH_EVENT_TYPE_MAX bytes. The alphabet needs no escaping in JSON, HTTP headers or URLs.
 */
extern bool wh_event_type_valid(const char *event_type);

/* Whether a valid event type is kept for the sender's own events: it begins with "webhooks.". */
extern bool wh_event_type_is_operational(const char *event_type);

/* An event type, "*", or an event type followed by ".*". */
extern bool wh_event_pattern_valid(const char *pattern);

/*
 * Whether the pattern takes the event type: "order.*" takes "order.x" and "order.x.y", not "order"
 * nor "orders.x". A bare "*" takes everything but the operational events, whose types begin with
 * "webhooks.".
 */
extern bool wh_event_pattern_match(const char *pattern, const char *event_type);

#endif
