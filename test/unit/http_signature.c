/*
 * HTTP Message Signatures: the vectors of RFC 9421 (B.2.5, B.2.6) and RFC 9530 (B.1), and what must
 * not verify.
 */
#include "core/http_signature.h"
#include "core/http_verification.h"

#include "tap.h"

#define SHARED \
	"whsec_uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
#define PRIVATE "whsk_n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU="
#define PUBLIC "whpk_JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="
#define BODY "{\"hello\": \"world\"}"
#define CREATED INT64_C(1618884473)
#define HEADERS_MAX 16

#define B25_INPUT \
	"(\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\""
#define B25 "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="
#define B26_INPUT \
	"(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\");" \
	"created=1618884473;keyid=\"test-key-ed25519\""
#define B26 \
	"wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="

/* The request of RFC 9421, B.2. */
#define REQUEST \
	{"@method", "POST"}, {"@target-uri", "https://example.com/foo?param=Value&Pet=dog"}, \
	{"host", "example.com"}, {"date", "Tue, 20 Apr 2021 02:07:55 GMT"}, \
	{"content-type", "application/json"}, {"content-length", "18"}

static bool
verify(const char *secret, const WhHeader headers[HEADERS_MAX], bool complete, const char **id)
{
	static char scratch[16384];
	WhSecretKey key;
	WhReceived	message = {
		.headers = headers, .body = {BODY, sizeof(BODY) - 1}, .now_ms = CREATED * 1000,
		.tolerance_ms = 1000, .keys = &key, .key_count = 1, .scratch = scratch
	};
	const char *ignored;

	(void) wh_scheme_key(WH_SCHEME_RFC9421, secret, &key);
	while (message.header_count < HEADERS_MAX && headers[message.header_count].name != NULL)
		message.header_count++;
	message.scratch_size = wh_verify_scratch_size(&message);
	return message.scratch_size <= sizeof(scratch) &&
		wh_http_signature_valid(&message, complete, id != NULL ? id : &ignored);
}

static void
test_vectors(void)
{
	static const WhHeader b25[HEADERS_MAX] = {
		REQUEST, {"signature-input", "sig-b25=" B25_INPUT}, {"signature", "sig-b25=:" B25 ":"}
	};
	static const WhHeader b26[HEADERS_MAX] = {
		REQUEST, {"signature-input", "sig-b26=" B26_INPUT}, {"signature", "sig-b26=:" B26 ":"}
	};
	static const WhHeader both[HEADERS_MAX] = {
		REQUEST, {"signature-input", "sig-b25=" B25_INPUT ", sig-b26=" B26_INPUT},
		{"signature", "other=1, sig-b26=:" B26 ":, sig-b25=:" B25 ":"}
	};
	static const WhHeader swapped[HEADERS_MAX] = {
		REQUEST, {"signature-input", "sig-b25=" B25_INPUT}, {"signature", "sig-b26=:" B25 ":"}
	};
	static const WhHeader by_host[HEADERS_MAX] = {
		{"host", "Example.COM"}, {"date", "Tue, 20 Apr 2021 02:07:55 GMT"},
		{"content-type", " application/json "},
		{"signature-input", "sig-b25=" B25_INPUT}, {"signature", "sig-b25=:" B25 ":"}
	};
	char		digest[WH_CONTENT_DIGEST_SIZE];

	ok(verify(SHARED, b25, false, NULL), "RFC 9421, B.2.5: hmac-sha256");
	ok(verify(PUBLIC, b26, false, NULL), "RFC 9421, B.2.6: ed25519");
	ok(verify(PRIVATE, b26, false, NULL), "by the private key, too");
	ok(!verify(PUBLIC, b25, false, NULL) && !verify(SHARED, b26, false, NULL),
	   "a key of the other kind verifies nothing");
	ok(verify(SHARED, both, false, NULL) && verify(PUBLIC, both, false, NULL),
	   "one of two is enough");
	ok(!verify(SHARED, swapped, false, NULL), "a signature counts under its own label");
	ok(verify(SHARED, by_host, false, NULL), "the authority is also told by Host");
	ok(!verify(SHARED, b25, true, NULL) && !verify(PUBLIC, b26, true, NULL),
	   "what does not cover the body is not taken");
	ok(wh_content_digest((WhBytes) {BODY, sizeof(BODY) - 1}, digest), "a digest is made");
	is_text(digest, "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:", "RFC 9530, B.1");
}

#define DIGEST "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
#define SHA512 \
	"sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX" \
	"+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
#define OTHER_SHA512 \
	"sha-512=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==:"

/* A message as the sender makes it, signed with secret. */
typedef struct Sent
{
	WhHeader	headers[HEADERS_MAX];
	WhHttpSignature made;
	char		input[WH_HTTP_INPUT_SIZE + 8];
	char		signature[WH_HTTP_SIGNATURE_SIZE + 16];
} Sent;

static bool
send_message(Sent *sent, const char *secret, const WhHeader *components, int count)
{
	char		scratch[4096];
	WhComponents covered = {components, count, CREATED};
	WhSecretKey key;

	(void) wh_scheme_key(WH_SCHEME_RFC9421, secret, &key);
	memset(sent, 0, sizeof(Sent));
	if (wh_http_scratch_size(&covered) > sizeof(scratch) ||
		!wh_http_signature_make(&key, &covered, scratch, &sent->made))
		return false;
	memcpy(sent->headers, components, (size_t) count * sizeof(WhHeader));
	snprintf(sent->input, sizeof(sent->input), "sig1=%s", sent->made.input);
	snprintf(sent->signature, sizeof(sent->signature), "sig1=:%s:", sent->made.signature);
	sent->headers[count] = (WhHeader) {"signature-input", sent->input};
	sent->headers[count + 1] = (WhHeader) {"signature", sent->signature};
	return true;
}

static const WhHeader components[] = {
	{"@method", "POST"}, {"@authority", "example.com"}, {"@path", "/hook"},
	{"content-digest", DIGEST}, {"content-type", "application/json"},
	{"webhook-id", "msg_1"}, {"webhook-timestamp", "1618884473"}
};

static void
test_round_trip(const char *secret, const char *verifier, const char *name)
{
	Sent		sent;
	const char *id = NULL;
	bool		any = false;

	ok(send_message(&sent, secret, components, COUNT(components)) &&
	   verify(verifier, sent.headers, true, &id), name);
	is_text(id, "msg_1", "its id is told");
	for (size_t i = 0; i < COUNT(components) + 2; i++)
	{
		WhHeader	altered[HEADERS_MAX];
		char		value[1024];

		for (size_t bit = 0; bit < 8 * strlen(sent.headers[i].value); bit++)
		{
			memcpy(altered, sent.headers, sizeof(altered));
			strcpy(value, altered[i].value);
			value[bit / 8] = (char) (value[bit / 8] ^ (1 << bit % 8));
			altered[i].value = value;
			any |= verify(verifier, altered, true, NULL);
		}
		memcpy(altered, sent.headers, sizeof(altered));
		altered[i].name = "absent";
		any |= verify(verifier, altered, true, NULL);
	}
	ok(!any, "no bit of what is covered, and none of the signature, can be altered, "
	   "and nothing left out");
}

static bool
takes(const WhHeader *list, int count)
{
	Sent		sent;

	return send_message(&sent, SHARED, list, count) && verify(SHARED, sent.headers, true, NULL);
}

static void
test_digests(void)
{
	ok(takes((WhHeader[]) {{"content-digest", DIGEST}}, 1), "a digest alone is enough");
	ok(takes((WhHeader[]) {{"content-digest", SHA512}}, 1), "sha-512 is one");
	ok(takes((WhHeader[]) {{"content-digest", SHA512 ", " DIGEST}}, 1), "there may be both");
	ok(takes((WhHeader[]) {{"content-digest", "md5=:AAAA:, " DIGEST}}, 1), "and others");
	ok(!takes((WhHeader[]) {{"content-digest", "md5=:AAAA:"}}, 1), "but not only others");
	ok(!takes((WhHeader[]) {{"content-digest", ""}}, 1), "nor none");
	ok(!takes((WhHeader[]) {{"content-digest", DIGEST ", " OTHER_SHA512}}, 1),
	   "both must be the body's");
	ok(!takes((WhHeader[]) {{"content-type", "a"}}, 1), "a signature without it is not taken");
	ok(!takes((WhHeader[]) {{"content-digest", DIGEST}, {"content-digest", DIGEST}}, 2),
	   "a component stands once");
	ok(!takes((WhHeader[]) {{"content-digest", DIGEST}, {"x", "a\n\"y\": b"}}, 2),
	   "no value makes lines of its own");
}

static void
test_derived(void)
{
	static const struct
	{
		const char *name;
		const char *uri;
		WhHeader	component;
	}			derived[] = {
		{"an authority in lower case", "https://Example.COM/", {"@authority", "example.com"}},
		{"without https's own port", "https://example.com:443/", {"@authority", "example.com"}},
		{"or http's", "http://example.com:80/", {"@authority", "example.com"}},
		{"with another", "https://example.com:80/", {"@authority", "example.com:80"}},
		{"an empty path", "https://example.com", {"@path", "/"}},
		{"a path", "https://example.com/a/b?c=d#e", {"@path", "/a/b"}},
		{"a query", "https://example.com/a/b?c=d#e", {"@query", "?c=d"}},
		{"no query", "https://example.com/a/b#e", {"@query", "?"}},
		{"a scheme", "HTTPS://example.com/", {"@scheme", "https"}},
		{"a request target", "https://example.com/a?b", {"@request-target", "/a?b"}},
		{"the target itself", "https://example.com/a?b",
			{"@target-uri", "https://example.com/a?b"}},
	};

	for (size_t i = 0; i < COUNT(derived); i++)
	{
		WhHeader	list[] = {derived[i].component, {"content-digest", DIGEST}};
		Sent		sent;
		bool		made = send_message(&sent, SHARED, list, 2);

		sent.headers[0] = (WhHeader) {"@target-uri", derived[i].uri};
		ok(made && verify(SHARED, sent.headers, true, NULL), derived[i].name);
	}
}

/* Signature-Input headers that are broken, or ask for what there is not. */
static const char *const broken[] = {
	"", ",", "=", "sig1", "sig1=", "sig1=1", "sig1=(", "sig1=()", "sig1=(\"", "sig1=(\"a",
	"sig1=(\"a\"",
	"sig1=(a)", "sig1=(\"content-digest\");", "sig1=(\"content-digest\");=",
	"sig1=(\"content-digest\");created",
	"sig1=(\"content-digest\");created=", "sig1=(\"content-digest\");created=\"",
	"sig1=(\"content-digest\";sf)",
	"sig1=(\"content-digest\";key=\"sha-256\");created=1618884473",
	"sig1=(\"\");created=1618884473",
	"sig1=(\"@nothing\" \"content-digest\");created=1618884473",
	"SIG1=(\"content-digest\");created=1618884473",
	"sig1=(\"content-digest\\\"\");created=1618884473",
	"sig1=(\"content-digest\");created=99999999999999999999",
	"sig1=(\"content-digest\");created=-1",
	"sig1=(\"content-digest\");created=1618884473;expires=1618884471",
	"sig1=(\"content-digest\");created=1618884473;expires=x",
	"sig1=(\"content-digest\");created=1618884473;alg=\"none\"",
	"sig1=(\"content-digest\");created=1618884473,",
	"sig1=(\"content-digest\");created=1618884473, ,",
	"sig1=(((((((((((((((((((((((((((", "sig1=(\"content-digest\");created=1618884473;;;;"
};

static void
test_broken(void)
{
	bool		any = false;

	for (size_t i = 0; i < COUNT(broken); i++)
	{
		const WhHeader headers[HEADERS_MAX] = {
			{"content-digest", DIGEST}, {"signature-input", broken[i]},
			{"signature", "sig1=:" B25 ":"}
		};

		any |= verify(SHARED, headers, true, NULL);
	}
	ok(!any, "what is broken does not verify");
}

static void
test_limits(void)
{
	char		name[WH_HTTP_INPUT_SIZE];
	Sent		sent;

	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	ok(!send_message(&sent, SHARED, (WhHeader[]) {{name, "a"}}, 1),
	   "names too long are not signed");
	ok(!send_message(&sent, PUBLIC, components, COUNT(components)), "a public key signs nothing");
}

int
main(void)
{
	test_vectors();
	test_round_trip(SHARED, SHARED, "what the sender signs verifies: hmac-sha256");
	test_round_trip(PRIVATE, PUBLIC, "what the sender signs verifies: ed25519");
	test_digests();
	test_derived();
	test_broken();
	test_limits();
	return done();
}
