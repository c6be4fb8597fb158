/*
 * Media types: which may stand in a Content-Type header, and which of them are JSON.
 */
#include "core/media_type.h"

#include <stdlib.h>

#include "tap.h"

typedef struct MediaTypeCase
{
	const char *media_type;
	bool		valid;
	bool		json;
} MediaTypeCase;

static const MediaTypeCase cases[] = {
	{"application/json", true, true},
	{"Application/JSON; charset=utf-8", true, true},
	{"application/json;charset=utf-8", true, true},
	{"application/vnd.acme.v2+json", true, true},
	{"application/cloudevents+json; a=\"b; c\"", true, true},
	{"text/json", true, true},
	{"text/plain", true, false},
	{"text/plain ; a=b ; c=\"d\\\"e\"", true, false},
	{"text/plain;", true, false},
	{"text/plain;;a=b", true, false},
	{"application/xml+json2", true, false},
	{"application/x-json", true, false},
	{"json", false, false},
	{"", false, false},
	{"/", false, false},
	{"text/", false, false},
	{"/plain", false, false},
	{" text/plain", false, false},
	{"text /plain", false, false},
	{"text/plain a=b", false, false},
	{"text/plain; a", false, false},
	{"text/plain; a=", false, false},
	{"text/plain; a = b", false, false},
	{"text/plain; a=\"b", false, false},
	{"text/plain; a=\"b\\", false, false},
	{"text/plain; a=b c", false, false},
	{"text/plain, text/html", false, false},
	{"text/plain\r\nX-Evil: 1", false, false},
	{"text/plain; a=\"b\r\nX-Evil: 1\"", false, false},
	{"text/plain; a=\"b\\\n\"", false, false},
	{"text/plain;\ta=b", false, false},
	{"text/pl\xC3\xA4in", false, false},
	{"text/plain; a=\"\xC3\xA4\"", false, false},
	{"text/plain\x7F", false, false},
};

/* Each in a block of exactly its length, so that the sanitizer sees a read past the end. */
static void
test_cases(void)
{
	for (size_t i = 0; i < COUNT(cases); i++)
	{
		const MediaTypeCase *c = &cases[i];
		char	   *copy = malloc(strlen(c->media_type) + 1);
		char		name[64];

		strcpy(copy, c->media_type);
		snprintf(name, sizeof(name), "%s: case %zu", c->valid ? "valid" : "not valid", i);
		ok(wh_media_type_valid(copy) == c->valid, name);
		if (c->valid)
			ok(wh_media_type_is_json(copy) == c->json, c->json ? "is JSON" : "is not JSON");
		free(copy);
	}
}

static void
test_length(void)
{
	char		text[WH_MEDIA_TYPE_MAX + 2];

	memset(text, 'x', sizeof(text));
	text[4] = '/';
	text[WH_MEDIA_TYPE_MAX] = '\0';
	ok(wh_media_type_valid(text), "255 bytes are allowed");
	text[WH_MEDIA_TYPE_MAX] = 'x';
	text[WH_MEDIA_TYPE_MAX + 1] = '\0';
	ok(!wh_media_type_valid(text), "256 are not");
}

int
main(void)
{
	test_cases();
	test_length();
	return done();
}
