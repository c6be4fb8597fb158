/*
 * Signatures and secrets. The signatures expected here were made by other implementations: some are
 * published with Standard Webhooks, by GitHub and in RFCs, the others come from Python's hmac
 * module and Node's crypto.
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

typedef struct KeyCase
{
	const char *name;
	const char *text;
	WhSecretError error;
} KeyCase;

/* The Ed25519 key of RFC 9421, B.1.4. */
#define SEED "n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU="
#define PAIR \
	"n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcUmtAuPk//z2JcRL368WCsjLb1yUX0IL+g8+zDdzkPRuw=="
#define OTHER_PAIR \
	"n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcUmtAuPk//z2JcRL368WCsjLb1yUX0IL+g8+zDdzkPRug=="
#define PUBLIC "JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="

static const KeyCase key_cases[] = {
	{"a seed is a private key", "whsk_" SEED, WH_SECRET_OK},
	{"a seed and its public key are one", "whsk_" PAIR, WH_SECRET_OK},
	{"a public key is one", "whpk_" PUBLIC, WH_SECRET_OK},
	{"a seed beside the public key of another is refused", "whsk_" OTHER_PAIR, WH_SECRET_MISMATCH},
	{"31 bytes are no private key", "whsk_" A10 A10 A10 A10 "AA==", WH_SECRET_TOO_SHORT},
	{"33 bytes are none either", "whsk_" A10 A10 A10 A10 "AAAA", WH_SECRET_TOO_SHORT},
	{"nor are 65", "whsk_" A80 "AAAAAAA=", WH_SECRET_TOO_LONG},
	{"nor is what is no base64", "whsk_" A10 A10 A10 A10 "A*A=", WH_SECRET_NOT_BASE64},
	{"64 bytes are no public key", "whpk_" PAIR, WH_SECRET_TOO_LONG},
	{"a shared secret is no Ed25519 key", PUBLISHED_SECRET, WH_SECRET_NO_PREFIX},
	{"and neither is an empty text", "", WH_SECRET_NO_PREFIX},
};

static void
test_ed25519_keys(void)
{
	WhSecretKey key;
	char		text[WH_SECRET_TEXT_SIZE];

	for (size_t i = 0; i < COUNT(key_cases); i++)
		is_number(wh_key_decode_ed25519(key_cases[i].text, &key), key_cases[i].error,
				  key_cases[i].name);

	(void) wh_key_decode_ed25519("whsk_" SEED, &key);
	wh_secret_encode(&key, text);
	is_text(text, "whsk_" PAIR, "a private key is written with its public half");
	wh_key_encode_public(&key, text);
	is_text(text, "whpk_" PUBLIC, "and the public half alone");
	(void) wh_key_decode_ed25519("whpk_" PUBLIC, &key);
	wh_secret_encode(&key, text);
	is_text(text, "whpk_" PUBLIC, "as a public key is");
}

static void
test_literal_keys(void)
{
	WhSecretKey key;
	char		text[WH_SECRET_TEXT_MAX + 2];

	ok(wh_key_literal(PUBLISHED_SECRET, &key) == WH_SECRET_OK &&
	   key.len == strlen(PUBLISHED_SECRET) && memcmp(key.bytes, PUBLISHED_SECRET, key.len) == 0,
	   "a text is the key itself, prefix and all");
	ok(wh_key_literal("x", &key) == WH_SECRET_OK && key.len == 1, "of one byte, too");
	is_number(wh_key_literal("", &key), WH_SECRET_TOO_SHORT, "but not of none");
	is_number(wh_key_literal("whsk_" SEED, &key), WH_SECRET_NO_PREFIX,
			  "a private key is no shared secret");
	memset(text, 'k', sizeof(text));
	text[WH_SECRET_TEXT_MAX] = '\0';
	is_number(wh_key_literal(text, &key), WH_SECRET_OK, "a text may be long");
	text[WH_SECRET_TEXT_MAX] = 'k';
	text[WH_SECRET_TEXT_MAX + 1] = '\0';
	is_number(wh_key_literal(text, &key), WH_SECRET_TOO_LONG, "but not without end");
}

static void
test_key_ids(void)
{
	WhSecretKey key;
	char		id[WH_KEY_ID_SIZE];

	(void) wh_key_decode_ed25519("whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", &key);
	ok(wh_key_id(&key, id), "an id is made");
	is_text(id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "the thumbprint of RFC 8037, A.3");
	(void) wh_key_decode_ed25519("whsk_" SEED, &key);
	(void) wh_key_id(&key, id);
	is_text(id, "poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U",
			"a private key has its public key's");
	(void) wh_secret_decode(PUBLISHED_SECRET, &key);
	(void) wh_key_id(&key, id);
	is_text(id, "LzOz4ihK63zzaCTfl-j0hWG0FuiOPodoGPHiB0TpCnY", "a shared secret has one");
	(void) wh_secret_decode(COUNTING_SECRET, &key);
	ok(wh_key_id(&key, id), "and so has the longest");
}

static void
test_schemes(void)
{
	bool		same = true;
	WhScheme	scheme;

	for (int i = 0; i < WH_SCHEME_COUNT; i++)
		same = same && wh_scheme_parse(wh_scheme_name((WhScheme) i), &scheme) &&
			scheme == (WhScheme) i;
	ok(same, "each scheme is read by its name");
	ok(!wh_scheme_parse("", &scheme) && !wh_scheme_parse("V1", &scheme) &&
	   !wh_scheme_parse("v1 ", &scheme) && !wh_scheme_parse("v2", &scheme), "and by no other");
}

typedef struct SignatureCase
{
	const char *name;
	WhScheme	scheme;
	const char *secret;
	const char *id;
	int64_t		timestamp_s;
	const char *body;
	size_t		body_len;
	const char *signature;
} SignatureCase;

#define BODY(text) text, sizeof(text) - 1
#define K50 "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
#define V1 WH_SCHEME_V1

static const SignatureCase signature_cases[] = {
	{"the published vector", V1, PUBLISHED_SECRET, PUBLISHED_ID, 1614265330,
	BODY("{\"test\": 2432232314}"), PUBLISHED_SIGNATURE},
	{"an empty body is signed", V1, PUBLISHED_SECRET, PUBLISHED_ID, 1614265330,
	NULL, 0, "v1,v48jdbgvh29KJz2Qc+ghw8G6vG3nAKnujWBg8oM/62A="},
	{"a body may hold NULs", V1, PUBLISHED_SECRET, PUBLISHED_ID, 1614265330,
	BODY("a\0b"), "v1,OCz/PmGBdMa0Av1gDdWl33myIh8dApC6qlZDpRISdA8="},
	{"every byte of a key of 64 counts", V1, COUNTING_SECRET, "id", 1,
	BODY("{}"), "v1,EZAtN5iEC1F6qW+CttU3f+kM7Sve51vMzygHKv3jTWY="},
	{"timestamp zero", V1, PUBLISHED_SECRET, "id", 0,
	BODY("{}"), "v1,7assG6dXFtrc51nP/pxpZQxH+0sCv9FTwDlXhnAWatE="},
	{"a timestamp before 1970", V1, PUBLISHED_SECRET, "id", -1,
	BODY("{}"), "v1,jLfGz5Apa1I+puNF2wA7W64sCYYSymu6ao0l/GvBASU="},
	{"the greatest timestamp", V1, PUBLISHED_SECRET, "id", INT64_MAX,
	BODY("{}"), "v1,I54+eCfvvWuemhKWvtcpqApLxW+iVeXTs+GXUjtO0fg="},
	{"the least timestamp", V1, PUBLISHED_SECRET, "id", INT64_MIN,
	BODY("{}"), "v1,M3XJgtEMkFSKleSE0O8v/PJDoxlyGrI3okXPi+bCtsA="},
	{"no key is left over from the one before", V1, PUBLISHED_SECRET, PUBLISHED_ID, 1614265330,
	BODY("{\"test\": 2432232314}"), PUBLISHED_SIGNATURE},
	{"Ed25519", WH_SCHEME_V1A, "whsk_" SEED, PUBLISHED_ID, 1614265330,
		BODY("{\"test\": 2432232314}"),
	"v1a,DUtvzXtl5qIXze3JPo6rALmXavfKANTNhBE5t63gLd1HoLKp8vFSx57KKvKnGVHRv1wu4zZRKjF8iB6z6ginAw=="},
	{"of seed and public key the same", WH_SCHEME_V1A, "whsk_" PAIR, PUBLISHED_ID, 1614265330,
		BODY("{\"test\": 2432232314}"),
	"v1a,DUtvzXtl5qIXze3JPo6rALmXavfKANTNhBE5t63gLd1HoLKp8vFSx57KKvKnGVHRv1wu4zZRKjF8iB6z6ginAw=="},
	{"stripe takes the secret's text", WH_SCHEME_STRIPE, PUBLISHED_SECRET, "ignored", 1614265330,
		BODY("{\"test\": 2432232314}"),
	"v1=2e37df5d4a028c51a7f3133d64ae1e300d2c2c900f1b1d49d4369ad2530f8964"},
	{"GitHub's published vector", WH_SCHEME_GITHUB, "It's a Secret to Everybody", "ignored", 1,
		BODY("Hello, World!"),
	"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
	{"a secret of a hundred bytes", WH_SCHEME_GITHUB, K50 K50, "", 1,
		BODY("{\"test\": 2432232314}"),
	"sha256=4a182efe5847ae223263080544096632d30e67d549610c7736e7aeba4af41e70"},
	{"x-webhook", WH_SCHEME_X_WEBHOOK, "secret", "ignored", 1614265330,
		BODY("{\"test\": 2432232314}"),
	"v1=d0c5e92cbfd6a4ad865333d1e79ed52ba82849d84281eff5e3c3233e92439630"},
};

static void
test_signatures(void)
{
	for (size_t i = 0; i < COUNT(signature_cases); i++)
	{
		const SignatureCase *c = &signature_cases[i];
		WhSecretKey key;
		char		scratch[WH_SIGNED_SCRATCH_SIZE(64, 64)];
		WhSigned	message = {c->id, c->timestamp_s, {c->body, c->body_len}, scratch};
		char		signature[WH_SIGNATURE_SIZE] = "";

		wh_scheme_key(c->scheme, c->secret, &key);
		if (!wh_signature_make(c->scheme, &key, &message, signature))
			printf("# OpenSSL failed\n");
		is_text(signature, c->signature, c->name);
	}
}

static void
test_unsignable(void)
{
	char		scratch[WH_SIGNED_SCRATCH_SIZE(2, 2)];
	WhSigned	message = {"id", 1, {"{}", 2}, scratch};
	char		signature[WH_SIGNATURE_SIZE];
	WhSecretKey key;

	wh_scheme_key(WH_SCHEME_V1A, "whpk_" PUBLIC, &key);
	ok(!wh_signature_make(WH_SCHEME_V1A, &key, &message, signature), "a public key signs nothing");
}

int
main(void)
{
	test_secrets();
	test_secret_bytes();
	test_round_trip();
	test_ed25519_keys();
	test_literal_keys();
	test_key_ids();
	test_schemes();
	test_signatures();
	test_unsignable();
	return done();
}
