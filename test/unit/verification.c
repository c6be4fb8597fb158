/*
 * What verifies and what does not: every scheme's own signature, altered in each way that counts,
 * and headers as libraries, proxies and attackers make them.
 */
#include "core/verification.h"

#include "tap.h"

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define OTHER_SECRET "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define PRIVATE "whsk_n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU="
#define PUBLIC "whpk_JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="
#define ID "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define BODY "{\"test\": 2432232314}"
#define NOW_MS INT64_C(1614265330000)
#define V1 "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
#define V1A \
	"v1a,DUtvzXtl5qIXze3JPo6rALmXavfKANTNhBE5t63gLd1HoLKp8vFSx57KKvKnGVHRv1wu4zZRKjF8iB6z6ginAw=="
#define STRIPE "v1=2e37df5d4a028c51a7f3133d64ae1e300d2c2c900f1b1d49d4369ad2530f8964"
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

typedef struct Case
{
	const char *name;
	WhScheme	scheme;
	bool		valid;
	WhHeader	headers[6];
} Case;

#define TRIPLE(prefix, id, timestamp, signature) \
	{prefix "id", id}, {prefix "timestamp", timestamp}, {prefix "signature", signature}

static const Case cases[] = {
	{"v1", WH_SCHEME_V1, true, {TRIPLE("webhook-", ID, "1614265330", V1)}},
	{"with another prefix", WH_SCHEME_V1, true, {TRIPLE("svix-", ID, "1614265330", V1)}},
	{"with two prefixes", WH_SCHEME_V1, true,
	{TRIPLE("a-", ID, "1614265330", "v1,AAAA"), TRIPLE("b-", ID, "1614265330", V1)}},
	{"all of one prefix", WH_SCHEME_V1, false,
	{{"webhook-id", ID}, {"svix-timestamp", "1614265330"}, {"webhook-signature", V1}}},
	{"another id", WH_SCHEME_V1, false, {TRIPLE("webhook-", "msg", "1614265330", V1)}},
	{"an empty id", WH_SCHEME_V1, false, {TRIPLE("webhook-", "", "1614265330", V1)}},
	{"another time", WH_SCHEME_V1, false, {TRIPLE("webhook-", ID, "1614265331", V1)}},
	{"another signature", WH_SCHEME_V1, false,
	{TRIPLE("webhook-", ID, "1614265330", "v1,h0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")}},
	{"no signature", WH_SCHEME_V1, false,
	{{"webhook-id", ID}, {"webhook-timestamp", "1614265330"}}},
	{"no id", WH_SCHEME_V1, false,
	{{"webhook-signature", V1}, {"webhook-timestamp", "1614265330"}}},
	{"no time", WH_SCHEME_V1, false, {{"webhook-signature", V1}, {"webhook-id", ID}}},
	{"no header", WH_SCHEME_V1, false, {{0}}},
	{"an empty signature", WH_SCHEME_V1, false, {TRIPLE("webhook-", ID, "1614265330", "")}},
	{"an empty one among others", WH_SCHEME_V1, true,
	{TRIPLE("webhook-", ID, "1614265330", "v1, v1,AAAA v2," " " V1)}},
	{"the second of two", WH_SCHEME_V1, true,
	{TRIPLE("webhook-", ID, "1614265330", "v1,AA== " V1)}},
	{"lines joined by a comma and a blank", WH_SCHEME_V1, true,
	{TRIPLE("webhook-", ID, "1614265330", "v1,AA==, " V1 ", v1,AA==")}},
	{"lines joined by a comma", WH_SCHEME_V1, true,
	{TRIPLE("webhook-", ID, "1614265330", V1 ",v1,AA==")}},
	{"a signature of another version", WH_SCHEME_V1, false,
	{TRIPLE("webhook-", ID, "1614265330", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")}},
	{"the right version is none of the wrong", WH_SCHEME_V1A, false,
	{TRIPLE("webhook-", ID, "1614265330", V1)}},
	{"blanks are no part of a time", WH_SCHEME_V1, false,
	{TRIPLE("webhook-", ID, " 1614265330", V1)}},
	{"a sign is none", WH_SCHEME_V1, false, {TRIPLE("webhook-", ID, "+1614265330", V1)}},
	{"nor is a fraction", WH_SCHEME_V1, false, {TRIPLE("webhook-", ID, "1614265330.0", V1)}},
	{"a time of many digits", WH_SCHEME_V1, false,
	{TRIPLE("webhook-", ID, "99999999999999999999999999", V1)}},
	{"an empty time", WH_SCHEME_V1, false, {TRIPLE("webhook-", ID, "", V1)}},
	{"v1a", WH_SCHEME_V1A, true, {TRIPLE("webhook-", ID, "1614265330", V1A)}},
	{"v1a beside v1", WH_SCHEME_V1A, true, {TRIPLE("webhook-", ID, "1614265330", V1 " " V1A)}},
	{"v1a, another id", WH_SCHEME_V1A, false, {TRIPLE("webhook-", "msg", "1614265330", V1A)}},
	{"stripe", WH_SCHEME_STRIPE, true, {{"stripe-signature", "t=1614265330," STRIPE}}},
	{"stripe, several", WH_SCHEME_STRIPE, true,
	{{"stripe-signature", "t=1614265330,v1=" ZEROS "," STRIPE ",v0=" ZEROS}}},
	{"stripe, in capitals", WH_SCHEME_STRIPE, true,
	{{"stripe-signature",
	"t=1614265330,v1=2E37DF5D4A028C51A7F3133D64AE1E300D2C2C900F1B1D49D4369AD2530F8964"}}},
	{"stripe, another time", WH_SCHEME_STRIPE, false,
	{{"stripe-signature", "t=1614265331," STRIPE}}},
	{"stripe, no time", WH_SCHEME_STRIPE, false, {{"stripe-signature", STRIPE}}},
	{"stripe, two times", WH_SCHEME_STRIPE, false,
	{{"stripe-signature", "t=1614265330,t=1614265330," STRIPE}}},
	{"stripe, another version", WH_SCHEME_STRIPE, false,
	{{"stripe-signature",
	"t=1614265330,v0=2e37df5d4a028c51a7f3133d64ae1e300d2c2c900f1b1d49d4369ad2530f8964"}}},
	{"stripe, half a signature", WH_SCHEME_STRIPE, false,
	{{"stripe-signature", "t=1614265330,v1=2e37df5d4a028c51a7f3133d64ae1e30"}}},
	{"stripe, more than a signature", WH_SCHEME_STRIPE, false,
	{{"stripe-signature", "t=1614265330," STRIPE "00"}}},
	{"stripe, signs and no names", WH_SCHEME_STRIPE, false, {{"stripe-signature", "==,=,t=,v1="}}},
	{"stripe's header is not v1's", WH_SCHEME_V1, false,
	{{"stripe-id", ID}, {"stripe-timestamp", "1614265330"},
	{"stripe-signature", "t=1614265330," STRIPE}}},
	{"x-webhook", WH_SCHEME_X_WEBHOOK, true,
	{{"x-webhook-timestamp", "1614265330"}, {"x-webhook-signature", STRIPE}}},
	{"x-webhook, another time", WH_SCHEME_X_WEBHOOK, false,
	{{"x-webhook-timestamp", "1614265329"}, {"x-webhook-signature", STRIPE}}},
	{"x-webhook without a time", WH_SCHEME_X_WEBHOOK, false, {{"x-webhook-signature", STRIPE}}},
	{"github has no signature of another scheme", WH_SCHEME_GITHUB, false,
	{{"x-hub-signature-256", STRIPE}}},
	{"none verifies nothing", WH_SCHEME_NONE, false, {{"webhook-id", ID}}},
};

static bool
verify(WhScheme scheme, WhReceived message, const char **id)
{
	static char scratch[16384];
	WhSecretKey keys[10];

	/* the right key is the last of many */
	for (int i = 0; i < 10; i++)
		(void) wh_scheme_key(scheme, i < 9 && scheme != WH_SCHEME_V1A ? OTHER_SECRET :
							 scheme == WH_SCHEME_V1A ? PUBLIC : SECRET, &keys[i]);
	while (message.header_count < 6 && message.headers[message.header_count].name != NULL)
		message.header_count++;
	if (message.body.data == NULL)
		message.body = (WhBytes) {BODY, sizeof(BODY) - 1};
	if (message.now_ms == 0)
		message.now_ms = NOW_MS;
	message.keys = keys;
	message.key_count = 10;
	message.scratch = scratch;
	message.scratch_size = wh_verify_scratch_size(&message);
	return message.scratch_size <= sizeof(scratch) && wh_verify(scheme, &message, id);
}

static void
test_cases(void)
{
	for (size_t i = 0; i < COUNT(cases); i++)
	{
		const char *id = "unset";
		WhReceived	message = {.headers = cases[i].headers};
		bool		valid = verify(cases[i].scheme, message, &id);

		ok(valid == cases[i].valid && (valid || id == NULL), cases[i].name);
	}
}

static void
test_ids(void)
{
	WhHeader	stripe[6] = {{"stripe-signature", "t=1614265330," STRIPE}, {"webhook-id", ID}};
	const char *id;

	(void) verify(WH_SCHEME_V1, (WhReceived) {.headers = cases[0].headers}, &id);
	is_text(id, ID, "the id that a signature covers is told");
	ok(verify(WH_SCHEME_STRIPE, (WhReceived) {.headers = stripe}, &id) && id == NULL,
	   "and no other");
}

static void
test_bodies(void)
{
	static const WhHeader v1[6] = {TRIPLE("webhook-", ID, "1614265330", V1)};
	static const WhHeader v1a[6] = {TRIPLE("webhook-", ID, "1614265330", V1A)};
	bool		any = false;

	for (size_t bit = 0; bit < 8 * (sizeof(BODY) - 1); bit++)
	{
		char		body[] = BODY;
		WhBytes		altered;

		body[bit / 8] = (char) (body[bit / 8] ^ (1 << bit % 8));
		altered = (WhBytes) {body, sizeof(BODY) - 1};
		any |= verify(WH_SCHEME_V1, (WhReceived) {.headers = v1, .body = altered}, NULL);
		any |= verify(WH_SCHEME_V1A, (WhReceived) {.headers = v1a, .body = altered}, NULL);
	}
	ok(!any, "no bit of the body can be altered");
	ok(!verify(WH_SCHEME_V1, (WhReceived) {.headers = v1, .body = {BODY, sizeof(BODY)}}, NULL) &&
	   !verify(WH_SCHEME_V1, (WhReceived) {.headers = v1, .body = {BODY, sizeof(BODY) - 2}}, NULL),
	   "it is neither longer nor shorter");
}

static void
test_signature_bits(void)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=, ";
	bool		any = false;

	for (size_t i = 3; i < sizeof(V1) - 1; i++)
		for (size_t c = 0; c < sizeof(alphabet); c++)
		{
			char		signature[] = V1;
			WhHeader	headers[6] = {TRIPLE("webhook-", ID, "1614265330", signature)};

			if (signature[i] == alphabet[c] || (i == sizeof(V1) - 2 && strchr(", ", alphabet[c])))
				continue;		/* padding may be left out */
			signature[i] = alphabet[c];
			any |= verify(WH_SCHEME_V1, (WhReceived) {.headers = headers}, NULL);
		}
	ok(!any, "no character of the signature can be another");
}

static void
test_tolerance(void)
{
	static const struct
	{
		const char *name;
		const char *timestamp;
		int64_t		now_ms;
		int64_t		tolerance_ms;
		bool		acceptable;
	}			times[] = {
		{"now", "1614265330", NOW_MS, 0, true},
		{"within the same second", "1614265330", NOW_MS + 999, 0, true},
		{"a second later", "1614265330", NOW_MS + 1000, 0, false},
		{"as old as is tolerated", "1614265330", NOW_MS + 300999, 300000, true},
		{"older than that", "1614265330", NOW_MS + 301000, 300000, false},
		{"as far ahead", "1614265330", NOW_MS - 300000, 300000, true},
		{"farther ahead", "1614265330", NOW_MS - 300001, 300000, false},
		{"milliseconds", "1614265330000", NOW_MS + 5, 5, true},
		{"too many milliseconds ago", "1614265330000", NOW_MS + 6, 5, false},
		{"milliseconds ahead", "1614265330000", NOW_MS - 5, 5, true},
		{"too many milliseconds ahead", "1614265330000", NOW_MS - 6, 5, false},
		{"the greatest number there is", "999999999999999", NOW_MS, 300000, false},
		{"zero", "0", NOW_MS, 300000, false},
		{"an endless tolerance", "0", NOW_MS, INT64_MAX / 4, true},
	};

	for (size_t i = 0; i < COUNT(times); i++)
	{
		WhReceived	message = {
			.now_ms = times[i].now_ms, .tolerance_ms = times[i].tolerance_ms
		};

		ok(wh_timestamp_acceptable(&message, times[i].timestamp, strlen(times[i].timestamp)) ==
		   times[i].acceptable, times[i].name);
	}
}

int
main(void)
{
	test_cases();
	test_ids();
	test_bodies();
	test_signature_bits();
	test_tolerance();
	return done();
}
