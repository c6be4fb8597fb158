/*
 * Every spelling of the table is decided on what it means; then what the rules depend on.
 */
#include "url_rules.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define LINE_MAX_BYTES 4096

static const WhUrlRules no_lists = {.allow_http = true};

static int
hex_value(char c)
{
	return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* Undoes \xNN and fills in the port. */
static void
write_url(const char *text, char *url)
{
	while (*text != '\0')
		if (strncmp(text, "{port}", 6) == 0)
		{
			memcpy(url, "8080", 4);
			url += 4;
			text += 6;
		}
		else if (strncmp(text, "\\x", 2) == 0)
		{
			*url++ = (char) (hex_value(text[2]) * 16 + hex_value(text[3]));
			text += 4;
		}
		else
			*url++ = *text++;
	*url = '\0';
}

static const char *
word(WhUrlVerdict verdict)
{
	switch (verdict)
	{
		case WH_URL_ALLOWED:
			return "allowed";
		case WH_URL_MALFORMED:
			return "malformed";
		case WH_URL_REFUSED:
			return "refused";
		case WH_URL_NOT_JUDGED:
			return "not judged";
	}
	return NULL;
}

static void
test_spelling(char *line)
{
	char	   *expected = strtok(line, "\t\n");
	char	   *text = strtok(NULL, "\t\n");
	char	   *expected_reason = strtok(NULL, "\t\n");
	char		url[LINE_MAX_BYTES];
	char		reason[WH_URL_REASON_SIZE] = "";
	char		name[120];

	snprintf(name, sizeof(name), "%s: %.100s", expected, text);
	write_url(text, url);
	is_text(word(wh_url_judge(&no_lists, url, reason)), expected, name);
	if (expected_reason != NULL)
		is_text(reason, expected_reason, "and the reason");
}

static void
test_spellings(const char *path)
{
	FILE	   *table = fopen(path, "r");
	char		line[LINE_MAX_BYTES];
	int			count = 0;

	if (!ok(table != NULL, "there is a table of spellings"))
		return;
	while (fgets(line, sizeof(line), table) != NULL)
	{
		if (strncmp(line, "# libcurl 7 only", strlen("# libcurl 7 only")) == 0 &&
			curl_version_info(CURLVERSION_NOW)->version_num >= 0x080000)
			break;
		if (line[0] == '#' || line[0] == '\n')
			continue;
		test_spelling(line);
		count++;
	}
	fclose(table);
	ok(count >= 150, "it has at least 150");
}

typedef struct RuleCase
{
	const char *name;
	WhUrlRules	rules;
	const char *url;
	const char *reason;			/* NULL: allowed */
} RuleCase;

static const int ports[] = {80, 8443};
static const WhNetwork loopback[] = {{AF_INET, {127}, 8}};

static const RuleCase rule_cases[] = {
	{"http needs to be allowed", {0}, "http://example.com/",
	"its scheme must be https while webhooks.allow_http is off"},
	{"https does not", {0}, "https://example.com/", NULL},
	{"a port that is listed", {.ports = ports, .port_count = 2}, "https://example.com:8443/", NULL},
	{"a port that is not", {.ports = ports, .port_count = 2}, "https://example.com/",
	"its port is not among webhooks.allowed_ports"},
	{"a port with zeros before it", {.ports = ports, .port_count = 2},
	"https://example.com:08443/", NULL},
	{"a network that is allowed", {.addresses = {loopback, 1, NULL, 0}}, "https://0x7f.1/", NULL},
	{"another is not", {.addresses = {loopback, 1, NULL, 0}}, "https://[::1]/",
	"its address is not allowed: loopback address"},
	{"a network that is blocked", {.addresses = {loopback, 1, loopback, 1}}, "https://0x7f.1/",
	"its address is not allowed: blocked by webhooks.blocked_networks"},
	{"a proxy's localhost", {.proxied = true}, "https://localhost/",
	"its address is not allowed: loopback address"},
	{"a name below it", {.proxied = true}, "https://x.LocalHost./",
	"its address is not allowed: loopback address"},
	{"a name that ends alike", {.proxied = true}, "https://xlocalhost/", NULL},
	{"a short name", {.proxied = true}, "https://host/", NULL},
	{"a proxy's localhost, allowed", {.proxied = true, .addresses = {loopback, 1, NULL, 0}},
	"https://localhost/", NULL},
};

static void
test_rules(void)
{
	for (size_t i = 0; i < COUNT(rule_cases); i++)
	{
		const RuleCase *c = &rule_cases[i];
		char		reason[WH_URL_REASON_SIZE] = "";
		WhUrlVerdict verdict = wh_url_judge(&c->rules, c->url, reason);

		is_text(verdict == WH_URL_ALLOWED ? NULL : reason, c->reason, c->name);
	}
}

static void
test_length(void)
{
	char		url[WH_URL_MAX + 2] = "https://example.com/";
	char		reason[WH_URL_REASON_SIZE];

	memset(url + strlen(url), 'a', sizeof(url) - strlen(url) - 1);
	is_text(word(wh_url_judge(&no_lists, url, reason)), "malformed", "a byte too long");
	url[WH_URL_MAX] = '\0';
	is_text(word(wh_url_judge(&no_lists, url, reason)), "allowed", "as long as may be");
}

int
main(void)
{
	test_spellings("../spellings.txt");
	test_rules();
	test_length();
	return done();
}
