/*
 * AES-256-GCM by the vectors of others, and that a sealed text opens only as it was sealed.
 */
#include "core/cipher.h"

#include <stdlib.h>

#include "tap.h"

#define TEXT_MAX 80

/*
 * The first four are test cases 13 to 16 of the GCM specification submitted to NIST, the others of
 * NIST's validation suite (gcmEncryptExtIV256.rsp). All in hexadecimal.
 */
typedef struct Vector
{
	const char *name;
	const char *key;
	const char *nonce;
	const char *associated;
	const char *plain;
	const char *encrypted;
	const char *tag;
} Vector;

#define ZEROS "00000000000000000000000000000000"
#define SPEC_KEY "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
#define SPEC_PLAIN \
	"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" \
	"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
#define SPEC_ENCRYPTED \
	"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa" \
	"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"

static const Vector vectors[] = {
	{"nothing to encrypt", ZEROS ZEROS, "000000000000000000000000", "", "", "",
	"530f8afbc74536b9a963b4f1c4cb738b"},
	{"a block", ZEROS ZEROS, "000000000000000000000000", "", ZEROS,
	"cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
	{"four blocks", SPEC_KEY, "cafebabefacedbaddecaf888", "", SPEC_PLAIN "1aafd255",
	SPEC_ENCRYPTED "898015ad", "b094dac5d93471bdec1a502270e3cc6c"},
	{"part of a block, and associated data", SPEC_KEY, "cafebabefacedbaddecaf888",
		"feedfacedeadbeeffeedfacedeadbeefabaddad2", SPEC_PLAIN, SPEC_ENCRYPTED,
	"76fc6ece0f4e1768cddf8853bb2d551b"},
	{"a key of NIST's, nothing to encrypt",
		"b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4",
	"516c33929df5a3284ff463d7", "", "", "", "bdc1ac884d332457a1d2664f168c76f0"},
	{"a key of NIST's, a block",
		"31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22",
		"0d18e06c7c725ac9e362e1ce", "", "2db5168e932556f8089a0622981d017d",
	"fa4362189661d163fcd6a56d8bf0405a", "d636ac1bbedd5cc3ee727dc2ab4a9489"},
	{"a key of NIST's, associated data alone",
		"78dc4e0aaf52d935c3c01eea57428f00ca1fd475f5da86a49c8dd73d68c8e223",
		"d79cf22d504cc793c3fb6c8a", "b96baa8c1c75a671bfb2d08d06be5f36", "", "",
	"3e5d486aa2e30b22e040b85723a06e76"},
};

static size_t
unhex(const char *hex, unsigned char *out)
{
	size_t		len = strlen(hex) / 2;

	for (size_t i = 0; i < len; i++)
	{
		unsigned int byte;

		sscanf(hex + 2 * i, "%2x", &byte);
		out[i] = (unsigned char) byte;
	}
	return len;
}

static void
test_vectors(void)
{
	for (size_t i = 0; i < COUNT(vectors); i++)
	{
		const Vector *v = &vectors[i];
		unsigned char key[WH_CIPHER_KEY_BYTES];
		unsigned char nonce[WH_CIPHER_NONCE_BYTES];
		unsigned char associated[TEXT_MAX];
		unsigned char plain[TEXT_MAX];
		unsigned char encrypted[TEXT_MAX];
		unsigned char expected_tag[WH_CIPHER_TAG_BYTES];
		unsigned char out[TEXT_MAX] = {0};
		unsigned char tag[WH_CIPHER_TAG_BYTES] = {0};
		size_t		len = unhex(v->plain, plain);
		WhCipher	cipher = {key, nonce, associated, unhex(v->associated, associated)};
		char		name[100];

		unhex(v->key, key);
		unhex(v->nonce, nonce);
		unhex(v->encrypted, encrypted);
		unhex(v->tag, expected_tag);
		snprintf(name, sizeof(name), "%s: encrypted", v->name);
		ok(wh_cipher_encrypt(&cipher, plain, len, out, tag) &&
		   memcmp(out, encrypted, len) == 0 && memcmp(tag, expected_tag, sizeof(tag)) == 0, name);
		snprintf(name, sizeof(name), "%s: decrypted, in place", v->name);
		ok(wh_cipher_decrypt(&cipher, encrypted, len, expected_tag, encrypted) &&
		   memcmp(encrypted, plain, len) == 0, name);
	}
}

static const unsigned char key_a[] = "key A, which has its 32 bytes...";
static const unsigned char key_b[] = "key B, which has its 32 bytes...";
static const unsigned char nonce_a[WH_CIPHER_NONCE_BYTES] = "nonce A....";
static const unsigned char nonce_b[WH_CIPHER_NONCE_BYTES] = "nonce B....";

#define OWNER "endpoint 1 signing"
#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

/* In rooms of just the size that the header names, on the heap, so that the sanitizer sees more. */
static char *
seal(const unsigned char *key, const unsigned char *nonce, const char *text)
{
	char	   *out = malloc(WH_SEALED_SIZE(strlen(text)));

	if (!wh_cipher_seal(key, nonce, OWNER, text, out))
		abort();
	return out;
}

/* Whether it opens; then the text is to be text. When it does not, nothing is left in the room. */
static bool
opens(const unsigned char *key, const char *owner, const char *sealed, const char *text)
{
	size_t		size = WH_OPENED_SIZE(strlen(sealed));
	char	   *out = malloc(size);
	bool		opened;
	bool		as_expected;

	memset(out, '?', size);
	opened = wh_cipher_open(key, owner, sealed, out);
	as_expected = opened ? strcmp(out, text) == 0 : strstr(out, "whsec_") == NULL;
	free(out);
	if (!as_expected)
		ok(false, "what is opened is what was sealed, or nothing");
	return opened;
}

static void
test_sealing(void)
{
	char	   *sealed = seal(key_a, nonce_a, SECRET);
	char	   *again = seal(key_a, nonce_b, SECRET);
	char	   *empty = seal(key_a, nonce_a, "");
	char		long_text[5001];
	size_t		wrong = 0;

	ok(strstr(sealed, "MfKQ9r8G") == NULL, "a sealed text does not show the text");
	ok(strcmp(sealed, again) != 0, "another nonce seals otherwise");
	ok(opens(key_a, OWNER, sealed, SECRET), "it opens");
	ok(opens(key_a, OWNER, again, SECRET), "with either nonce");
	ok(!opens(key_b, OWNER, sealed, SECRET), "not with another key");
	ok(!opens(key_a, "endpoint 2 signing", sealed, SECRET), "not for another owner");
	ok(!opens(key_a, "endpoint 1 authorization", sealed, SECRET), "not for another purpose");
	ok(!opens(key_a, "", sealed, SECRET), "not for no owner");
	ok(opens(key_a, OWNER, empty, ""), "the empty text can be sealed");
	free(sealed);
	free(again);
	free(empty);

	for (size_t len = 0; len < 100; len++)
	{
		memset(long_text, 'x', len);
		long_text[len] = '\0';
		sealed = seal(key_a, nonce_a, long_text);
		wrong += !opens(key_a, OWNER, sealed, long_text);
		free(sealed);
	}
	is_number(wrong, 0, "a text of any length opens");
	memset(long_text, 'x', 5000);
	long_text[5000] = '\0';
	sealed = seal(key_a, nonce_a, long_text);
	ok(opens(key_a, OWNER, sealed, long_text), "a long one, too");
	free(sealed);
}

static void
test_alterations(void)
{
	/* of three lengths, so that base64 ends in each way it can */
	static const char *const texts[] = {SECRET, SECRET "x", SECRET "xy"};

	for (size_t t = 0; t < COUNT(texts); t++)
	{
		char	   *sealed = seal(key_a, nonce_a, texts[t]);
		size_t		len = strlen(sealed);
		char	   *altered = malloc(len + 5);
		char		name[80];
		size_t		opened = 0;

		for (size_t bit = 0; bit < 8 * len; bit++)
		{
			strcpy(altered, sealed);
			altered[bit / 8] = (char) (altered[bit / 8] ^ (1 << bit % 8));
			opened += opens(key_a, OWNER, altered, texts[t]);
		}
		snprintf(name, sizeof(name), "no bit can be altered (%zu characters)", len);
		is_number(opened, 0, name);

		opened = 0;
		for (size_t i = 0; i < len; i++)
		{
			strcpy(altered, sealed);
			altered[i] = '\0';
			opened += opens(key_a, OWNER, altered, texts[t]);
			strcpy(altered, sealed + i + 1);
			opened += opens(key_a, OWNER, altered, texts[t]);
		}
		snprintf(name, sizeof(name), "none of it can be cut off (%zu characters)", len);
		is_number(opened, 0, name);

		opened = 0;
		for (const char *const *tail = (const char *const[]) {"\n", " ", "=", "====", "AAAA", NULL};
			 *tail; tail++)
		{
			strcpy(altered, sealed);
			strcat(altered, *tail);
			opened += opens(key_a, OWNER, altered, texts[t]);
		}
		snprintf(name, sizeof(name), "nothing can be added (%zu characters)", len);
		is_number(opened, 0, name);
		free(altered);
		free(sealed);
	}
	ok(!opens(key_a, OWNER, "", ""), "the empty text is not a sealed one");
	ok(!opens(key_a, OWNER, SECRET, ""), "nor is one that never was sealed");
}

static void
test_wiping(void)
{
	unsigned char tag[WH_CIPHER_TAG_BYTES];
	unsigned char text[16] = "a text to seal.";
	unsigned char zeros[16] = {0};
	unsigned char encrypted[16];
	unsigned char out[16];
	WhCipher	cipher = {key_a, nonce_a, NULL, 0};

	wh_cipher_encrypt(&cipher, text, sizeof(text), encrypted, tag);
	tag[0] ^= 1;
	memset(out, '?', sizeof(out));
	ok(!wh_cipher_decrypt(&cipher, encrypted, sizeof(encrypted), tag, out), "a wrong tag");
	ok(memcmp(out, zeros, sizeof(out)) == 0, "leaves nothing of what it is wrong for");
}

int
main(void)
{
	test_vectors();
	test_sealing();
	test_alterations();
	test_wiping();
	return done();
}
