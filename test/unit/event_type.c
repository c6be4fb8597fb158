/*
 * Event types, the patterns over them, and which pattern takes which type.
 */
#include "core/event_type.h"

#include "tap.h"

#define X10 "xxxxxxxxxx"
#define X120 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10

typedef struct ValidCase
{
	const char *name;
	const char *text;
	bool		is_event_type;
	bool		is_pattern;
} ValidCase;

static const ValidCase valid_cases[] = {
	{"one segment is an event type", "paid", true, true},
	{"segments are joined by dots", "invoice.paid.v2", true, true},
	{"a segment may be one character", "a.b", true, true},
	{"letters, digits, '_' and '-' make a segment", "Az09_-", true, true},
	{"the empty text is nothing", "", false, false},
	{"a dot alone is nothing", ".", false, false},
	{"no dot begins it", ".paid", false, false},
	{"no dot ends it", "invoice.", false, false},
	{"no two dots follow each other", "invoice..paid", false, false},
	{"no blank", "invoice paid", false, false},
	{"no quote", "invoice\"", false, false},
	{"no slash", "invoice/paid", false, false},
	{"no newline at the end", "invoice.paid\n", false, false},
	{"no letter beyond ASCII", "facture.pay\xC3\xA9" "e", false, false},
	{"128 bytes are allowed", X120 "xxxxxxxx", true, true},
	{"129 bytes are not", X120 "xxxxxxxxx", false, false},
	{"129 bytes are not, whatever the segments", X120 ".xxxxxxxx", false, false},
	{"a star is a pattern", "*", false, true},
	{"a star after a dot is a pattern", "order.*", false, true},
	{"at any depth", "order.item.*", false, true},
	{"the star does not count to the length", X120 "xxxxxxxx.*", false, true},
	{"a star alone after a dot is not", ".*", false, false},
	{"two stars are not", "**", false, false},
	{"two stars after a dot are not", "order.**", false, false},
	{"a star in two places is not", "*.*", false, false},
	{"a star at the beginning is not", "*.paid", false, false},
	{"a star in the middle is not", "order.*.paid", false, false},
	{"a star for part of a segment is not", "order.p*", false, false},
	{"a star without a dot is not", "order*", false, false},
	{"two dots before the star are not", "order..*", false, false},
};

static void
test_valid(void)
{
	for (size_t i = 0; i < COUNT(valid_cases); i++)
	{
		const ValidCase *c = &valid_cases[i];

		ok(wh_event_type_valid(c->text) == c->is_event_type
		   && wh_event_pattern_valid(c->text) == c->is_pattern, c->name);
	}
}

typedef struct MatchCase
{
	const char *name;
	const char *pattern;
	const char *event_type;
	bool		matches;
} MatchCase;

static const MatchCase match_cases[] = {
	{"a type takes itself", "order.paid", "order.paid", true},
	{"a type takes no longer one", "order.paid", "order.paid.late", false},
	{"a type takes no shorter one", "order.paid", "order", false},
	{"letters match in their own case alone", "order.paid", "Order.paid", false},
	{"a star after a dot takes the next segment", "order.*", "order.x", true},
	{"a star after a dot takes any depth", "order.*", "order.x.y", true},
	{"a star after a dot does not take what stands before", "order.*", "order", false},
	{"a star after a dot stops at the dot", "order.*", "orders.x", false},
	{"a star after a dot takes nothing that only ends alike", "order.*", "my.order.x", false},
	{"a bare star takes one segment", "*", "paid", true},
	{"a bare star takes many segments", "*", "order.paid.late", true},
	{"a bare star does not take operational events", "*", "webhooks.endpoint_disabled", false},
	{"a bare star takes what only begins alike", "*", "webhooks_x.y", true},
	{"a bare star takes a type that is the bare word", "*", "webhooks", true},
	{"a bare star takes the word in a later segment", "*", "my.webhooks.x", true},
	{"an operational event can be named", "webhooks.ping", "webhooks.ping", true},
	{"the operational events can be named together", "webhooks.*", "webhooks.ping", true},
};

static void
test_match(void)
{
	for (size_t i = 0; i < COUNT(match_cases); i++)
	{
		const MatchCase *c = &match_cases[i];

		ok(wh_event_pattern_match(c->pattern, c->event_type) == c->matches, c->name);
	}
}

int
main(void)
{
	test_valid();
	test_match();
	return done();
}
