/*
 * Signatures and secrets. The signatures expected here were made by other implementations: one is
 * published with Standard Webhooks, the others come from Python's hmac module.
 */
#include "core/signature.h"

#include "tap.h"

#define PUBLISHED_SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
/* the bytes 1 to 64 */
#define COUNTING_SECRET \
	"whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAh" \
	"IiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/QA=="

#define PUBLISHED_ID "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define PUBLISHED_SIGNATURE "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

#define A10 "AAAAAAAAAA"
#define A80 A10 A10 A10 A10 A10 A10 A10 A10
#define BYTES_24 A10 A10 A10 "AA"
#define BYTES_64 A80 "AAAAAA=="

typedef struct SecretCase
{
	const char *name;
	const char *secret;
	WhSecretError error;
	size_t		len;			/* with WH_SECRET_OK */
} SecretCase;

static const SecretCase secret_cases[] = {
	{"the published secret decodes", PUBLISHED_SECRET, WH_SECRET_OK, 24},
	{"24 bytes are enough", "whsec_" BYTES_24, WH_SECRET_OK, 24},
	{"23 bytes are too short", "whsec_" A10 A10 A10 "A=", WH_SECRET_TOO_SHORT, 0},
	{"64 bytes are allowed", "whsec_" BYTES_64, WH_SECRET_OK, 64},
	{"65 bytes are too long", "whsec_" A80 "AAAAAAA=", WH_SECRET_TOO_LONG, 0},
	{"a thousand bytes are too long, not a crash",
		"whsec_" A80 A80 A80 A80 A80 A80 A80 A80 A80 A80 A80 A80 A80 A80 A80 A80 A80,
	WH_SECRET_TOO_LONG, 0},
	{"an empty secret is too short", "whsec_", WH_SECRET_TOO_SHORT, 0},
	{"an empty text has no prefix", "", WH_SECRET_NO_PREFIX, 0},
	{"a secret needs its prefix", BYTES_24, WH_SECRET_NO_PREFIX, 0},
	{"the prefix is in lower case", "WHSEC_" BYTES_24, WH_SECRET_NO_PREFIX, 0},
	{"the prefix of another scheme is refused", "whsk_" BYTES_24, WH_SECRET_NO_PREFIX, 0},
	{"two padding characters may be left out", "whsec_" A10 A10 A10 "AAAA", WH_SECRET_OK, 25},
	{"one padding character may be left out", "whsec_" A10 A10 A10 "AAAAA", WH_SECRET_OK, 26},
	{"padding is not left out by half", "whsec_" A10 A10 A10 "AAAA=", WH_SECRET_NOT_BASE64, 0},
	{"padding is not overdone", "whsec_" BYTES_24 "=", WH_SECRET_NOT_BASE64, 0},
	{"padding of four is refused", "whsec_" BYTES_24 "====", WH_SECRET_NOT_BASE64, 0},
	{"nothing follows the padding", "whsec_" A10 A10 A10 "AA==AAAA", WH_SECRET_NOT_BASE64, 0},
	{"a lone last character is refused", "whsec_" BYTES_24 "A", WH_SECRET_NOT_BASE64, 0},
	{"stray bits before two paddings are refused",
	"whsec_" A10 A10 A10 "AAAB==", WH_SECRET_NOT_BASE64, 0},
	{"stray bits before one padding are refused",
	"whsec_" A10 A10 A10 "AAAAB=", WH_SECRET_NOT_BASE64, 0},
	{"stray bits are refused without padding, too",
	"whsec_" A10 A10 A10 "AAAB", WH_SECRET_NOT_BASE64, 0},
	{"white space before the base64 is refused", "whsec_ " BYTES_24, WH_SECRET_NOT_BASE64, 0},
	{"white space within it is refused", "whsec_AAAA AAAA" A10 A10 A10, WH_SECRET_NOT_BASE64, 0},
	{"a newline after it is refused", "whsec_" BYTES_24 "\n", WH_SECRET_NOT_BASE64, 0},
	{"the alphabet for URLs is refused", "whsec_" A10 A10 A10 "-_", WH_SECRET_NOT_BASE64, 0},
	{"a byte above ASCII is refused", "whsec_" A10 A10 A10 "A\xC3", WH_SECRET_NOT_BASE64, 0},
};

static void
test_secrets(void)
{
	for (size_t i = 0; i < COUNT(secret_cases); i++)
	{
		const SecretCase *c = &secret_cases[i];
		WhSecretKey key;
		WhSecretError error = wh_secret_decode(c->secret, &key);

		ok(error == c->error && (error != WH_SECRET_OK || key.len == c->len), c->name);
	}
}

static void
test_secret_bytes(void)
{
	static const unsigned char published[] = {
		0x31, 0xf2, 0x90, 0xf6, 0xbf, 0x06, 0x29, 0x8a, 0xab, 0x4f, 0x08, 0xd4,
		0x3c, 0x3f, 0x08, 0x2c, 0xf6, 0x48, 0xa3, 0x62, 0xda, 0x2d, 0xa4, 0xb0
	};
	WhSecretKey key;

	wh_secret_decode(PUBLISHED_SECRET, &key);
	ok(key.len == sizeof(published) && memcmp(key.bytes, published, key.len) == 0,
	   "the key is what the base64 stands for");
}

static void
test_round_trip(void)
{
	bool		same = true;

	for (size_t len = WH_SECRET_MIN_BYTES; len <= WH_SECRET_MAX_BYTES; len++)
	{
		WhSecretKey key = {.len = len};
		WhSecretKey again;
		char		text[WH_SECRET_TEXT_SIZE];

		for (size_t i = 0; i < len; i++)
			key.bytes[i] = (unsigned char) (255 - i * 7);
		wh_secret_encode(&key, text);
		same = same && wh_secret_decode(text, &again) == WH_SECRET_OK
			&& again.len == len && memcmp(again.bytes, key.bytes, len) == 0;
	}
	ok(same, "what is encoded decodes to the same, at every length");
}

typedef struct SignatureCase
{
	const char *name;
	const char *secret;
	const char *id;
	int64_t		timestamp_s;
	const char *body;
	size_t		body_len;
	const char *signature;
} SignatureCase;

#define BODY(text) text, sizeof(text) - 1

static const SignatureCase signature_cases[] = {
	{"the published vector", PUBLISHED_SECRET, PUBLISHED_ID, 1614265330,
	BODY("{\"test\": 2432232314}"), PUBLISHED_SIGNATURE},
	{"an empty body is signed", PUBLISHED_SECRET, PUBLISHED_ID, 1614265330,
	NULL, 0, "v1,v48jdbgvh29KJz2Qc+ghw8G6vG3nAKnujWBg8oM/62A="},
	{"a body may hold NULs", PUBLISHED_SECRET, PUBLISHED_ID, 1614265330,
	BODY("a\0b"), "v1,OCz/PmGBdMa0Av1gDdWl33myIh8dApC6qlZDpRISdA8="},
	{"every byte of a key of 64 counts", COUNTING_SECRET, "id", 1,
	BODY("{}"), "v1,EZAtN5iEC1F6qW+CttU3f+kM7Sve51vMzygHKv3jTWY="},
	{"timestamp zero", PUBLISHED_SECRET, "id", 0,
	BODY("{}"), "v1,7assG6dXFtrc51nP/pxpZQxH+0sCv9FTwDlXhnAWatE="},
	{"a timestamp before 1970", PUBLISHED_SECRET, "id", -1,
	BODY("{}"), "v1,jLfGz5Apa1I+puNF2wA7W64sCYYSymu6ao0l/GvBASU="},
	{"the greatest timestamp", PUBLISHED_SECRET, "id", INT64_MAX,
	BODY("{}"), "v1,I54+eCfvvWuemhKWvtcpqApLxW+iVeXTs+GXUjtO0fg="},
	{"the least timestamp", PUBLISHED_SECRET, "id", INT64_MIN,
	BODY("{}"), "v1,M3XJgtEMkFSKleSE0O8v/PJDoxlyGrI3okXPi+bCtsA="},
	{"no key is left over from the one before", PUBLISHED_SECRET, PUBLISHED_ID, 1614265330,
	BODY("{\"test\": 2432232314}"), PUBLISHED_SIGNATURE},
};

static void
test_signatures(void)
{
	for (size_t i = 0; i < COUNT(signature_cases); i++)
	{
		const SignatureCase *c = &signature_cases[i];
		WhSecretKey key;
		char		signature[WH_SIGNATURE_V1_SIZE] = "";

		wh_secret_decode(c->secret, &key);
		if (!wh_signature_v1(&key, c->id, c->timestamp_s, c->body, c->body_len, signature))
			printf("# OpenSSL failed\n");
		is_text(signature, c->signature, c->name);
	}
}

int
main(void)
{
	test_secrets();
	test_secret_bytes();
	test_round_trip();
	test_signatures();
	return done();
}
