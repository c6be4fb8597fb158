/*
 * A covered component with parameters ("@query-param", ;sf, ;bs, ;key, ;req, ;tr) is not supported:
 * a signature that has one is passed over.
 */
#include "core/http_verification.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "core/structured_field.h"
#include "core/writer.h"

#define LABELS_MAX 8			/* signatures looked at */
#define COMPONENTS_MAX 32		/* of one of them */
#define SHA512_BYTES 64

/* ---- reading the two headers ---- */

/* A member of Signature-Input. */
typedef struct Input
{
	WhBytes		label;
	WhBytes		text;			/* the inner list and its parameters, as they stand there */
	WhBytes		components[COMPONENTS_MAX];
	int			component_count;
	WhBytes		created;		/* len 0: there is none */
	WhBytes		expires;		/* the same */
	WhBytes		alg;			/* the same; without its quotes */
	bool		supported;
} Input;

static bool
is_bytes(WhBytes bytes, const char *text)
{
	return bytes.len == strlen(text) && memcmp(bytes.data, text, bytes.len) == 0;
}

static bool
read_components(const char **text, Input *input)
{
	if (*(*text)++ != '(')
		return false;
	for (;;)
	{
		*text += strspn(*text, " ");
		if (**text == ')')
			break;
		if (input->component_count == COMPONENTS_MAX ||
			!wh_field_string(text, &input->components[input->component_count]))
			return false;
		input->component_count++;
		while (**text == ';')
		{
			WhBytes		name;
			WhBytes		value;

			input->supported = false;
			if (!wh_field_parameter(text, &name, &value))
				return false;
		}
	}
	(*text)++;
	return true;
}

/* label=("…" "…");created=…;alg="…" */
static bool
read_input(const char **text, Input *input)
{
	memset(input, 0, sizeof(Input));
	input->supported = true;
	if (!wh_field_key(text, &input->label) || *(*text)++ != '=')
		return false;
	input->text.data = *text;
	if (!read_components(text, input))
		return false;
	while (**text == ';')
	{
		WhBytes		name;
		WhBytes		value;

		if (!wh_field_parameter(text, &name, &value))
			return false;
		if (is_bytes(name, "created"))
			input->created = value;
		else if (is_bytes(name, "expires"))
			input->expires = value;
		else if (is_bytes(name, "alg"))
			input->alg = value;
	}
	input->text.len = (size_t) (*text - (const char *) input->text.data);
	return true;
}


/* ---- the signature base ---- */

/* The parts of "@target-uri". */
typedef struct Target
{
	WhBytes		scheme;
	WhBytes		authority;
	WhBytes		path;
	WhBytes		query;			/* with its "?" */
} Target;

static bool
split_target(const char *uri, Target *target)
{
	const char *authority = strstr(uri, "://");
	const char *path;

	if (authority == NULL)
		return false;
	target->scheme = (WhBytes) {uri, (size_t) (authority - uri)};
	authority += 3;
	target->authority = (WhBytes) {authority, strcspn(authority, "/?#")};
	path = authority + target->authority.len;
	target->path = (WhBytes) {path, strcspn(path, "?#")};
	target->query = (WhBytes) {path + target->path.len, 0};
	target->query.len = strcspn(target->query.data, "#");
	return true;
}

/* In lower case and without the scheme's own port (RFC 9421, 2.2.3). */
static void
put_authority(WhWriter *out, WhBytes authority, WhBytes scheme)
{
	const char *text = authority.data;
	size_t		len = authority.len;

	if (is_bytes(scheme, "https") && len > 4 && memcmp(text + len - 4, ":443", 4) == 0)
		len -= 4;
	else if (is_bytes(scheme, "http") && len > 3 && memcmp(text + len - 3, ":80", 3) == 0)
		len -= 3;
	wh_put_lower(out, text, len);
}

static void
put_path(WhWriter *out, const Target *target)
{
	if (target->path.len == 0)
		wh_put_text(out, "/");
	wh_put(out, target->path.data, target->path.len);
}

/* A component that "@target-uri" or Host tells, where it is not given itself. */
static bool
put_derived(WhWriter *out, const WhReceived *message, WhBytes name)
{
	const char *uri = wh_header_find(message, "@target-uri");
	const char *host = wh_header_find(message, "host");
	Target		target;

	if (uri == NULL || !split_target(uri, &target))
	{
		if (!is_bytes(name, "@authority") || host == NULL)
			return false;
		wh_put_lower(out, host, strlen(host));
		return true;
	}
	if (is_bytes(name, "@authority"))
		put_authority(out, target.authority, target.scheme);
	else if (is_bytes(name, "@scheme"))
		wh_put_lower(out, target.scheme.data, target.scheme.len);
	else if (is_bytes(name, "@path"))
		put_path(out, &target);
	else if (is_bytes(name, "@query"))
		wh_put(out, target.query.len > 0 ? target.query.data : "?",
			target.query.len > 0 ? target.query.len : 1);
	else if (is_bytes(name, "@request-target"))
	{
		put_path(out, &target);
		wh_put(out, target.query.data, target.query.len);
	}
	else
		return false;
	return true;
}

static const char *
find_component(const WhReceived *message, WhBytes name)
{
	return wh_header_find_prefixed(message, name, "");
}

/* "name": value; false when the message has no such component. */
static bool
put_component(WhWriter *out, const WhReceived *message, WhBytes name)
{
	const char *value = find_component(message, name);

	wh_put_text(out, "\"");
	wh_put(out, name.data, name.len);
	wh_put_text(out, "\": ");
	if (value != NULL)
		wh_put_trimmed(out, value);
	else if (name.len == 0 || *(const char *) name.data != '@' || !put_derived(out, message, name))
		return false;
	wh_put_text(out, "\n");
	return true;
}

/* False when the base cannot be made, or names a component twice (RFC 9421, 2.5). */
static bool
write_base(const WhReceived *message, const Input *input, WhBytes *base)
{
	WhWriter	out = {message->scratch, 0, message->scratch_size, false};

	for (int i = 0; i < input->component_count; i++)
	{
		const WhBytes *name = &input->components[i];

		for (int j = 0; j < i; j++)
			if (input->components[j].len == name->len &&
				memcmp(input->components[j].data, name->data, name->len) == 0)
				return false;
		if (!put_component(&out, message, *name))
			return false;
	}
	wh_put_text(&out, "\"@signature-params\": ");
	wh_put(&out, input->text.data, input->text.len);
	*base = (WhBytes) {out.start, out.len};
	return !out.failed;
}


/* ---- verifying ---- */

static bool
is_by_key(const WhReceived *message, const Input *input, const WhSecretKey *key, WhBytes base)
{
	bool		shared = key->kind == WH_KEY_HMAC;
	const char *list = wh_header_find(message, "signature");
	unsigned char given[WH_ED25519_BYTES];
	unsigned char hmac[WH_HMAC_BYTES];
	bool		valid;

	if (input->alg.len > 0 && !is_bytes(input->alg, shared ? "hmac-sha256" : "ed25519"))
		return false;
	if (!wh_field_find_bytes(list, input->label, given, shared ? WH_HMAC_BYTES : WH_ED25519_BYTES))
		return false;
	if (!shared)
		return wh_ed25519_verify(key, base, given);
	valid = wh_hmac_sha256(key, &base, 1, hmac) &&
		CRYPTO_memcmp(given, hmac, sizeof(hmac)) == 0;
	OPENSSL_cleanse(hmac, sizeof(hmac));
	return valid;
}

/* Whether Content-Digest is the body's: all of its digests that are of a known algorithm. */
static bool
digest_matches(const WhReceived *message)
{
	static const struct
	{
		const char *name;
		size_t		len;
	}			algorithms[] = {{"sha-256", WH_HMAC_BYTES}, {"sha-512", SHA512_BYTES}};
	const char *header = wh_header_find(message, "content-digest");
	int			matching = 0;

	if (header == NULL)
		return false;
	for (int i = 0; i < 2; i++)
	{
		unsigned char given[SHA512_BYTES];
		unsigned char digest[SHA512_BYTES];
		WhBytes		name = {algorithms[i].name, strlen(algorithms[i].name)};

		if (!wh_field_find_bytes(header, name, given, algorithms[i].len))
			continue;
		if (!EVP_Digest(message->body.data, message->body.len, digest, NULL,
						i == 0 ? EVP_sha256() : EVP_sha512(), NULL) ||
			CRYPTO_memcmp(given, digest, algorithms[i].len) != 0)
			return false;
		matching++;
	}
	return matching > 0;
}

/* Unix seconds alone, unlike in other schemes: RFC 9421 says so. */
static bool
expired(const WhReceived *message, WhBytes expires)
{
	const char *text = expires.data;
	int64_t		number = 0;

	if (expires.len == 0)
		return false;
	for (size_t i = 0; i < expires.len; i++)
	{
		if (text[i] < '0' || text[i] > '9' || number > INT64_MAX / 100000)
			return true;
		number = number * 10 + (text[i] - '0');
	}
	return number * 1000 < message->now_ms - message->tolerance_ms;
}

static bool
is_complete(const WhReceived *message, const Input *input)
{
	bool		covers_body = false;

	for (int i = 0; i < input->component_count; i++)
		covers_body |= is_bytes(input->components[i], "content-digest");
	return covers_body && digest_matches(message) &&
		wh_timestamp_acceptable(message, input->created.data, input->created.len) &&
		!expired(message, input->expires);
}

/* The message's id among what is covered; NULL when there is none. */
static const char *
find_id(const WhReceived *message, const Input *input)
{
	for (int i = 0; i < input->component_count; i++)
	{
		WhBytes		prefix = input->components[i];

		if (prefix.len < 4 || memcmp((const char *) prefix.data + prefix.len - 3, "-id", 3) != 0)
			continue;
		prefix.len -= 2;
		if (wh_header_find_prefixed(message, prefix, "timestamp") != NULL)
			return find_component(message, input->components[i]);
	}
	return NULL;
}

bool
wh_http_signature_valid(const WhReceived *message, bool complete, const char **id)
{
	const char *text = wh_header_find(message, "signature-input");
	int			looked_at = 0;

	if (text == NULL || wh_header_find(message, "signature") == NULL)
		return false;
	text += strspn(text, " \t");
	do
	{
		Input		input;
		WhBytes		base;

		if (!read_input(&text, &input))
			return false;
		if (!input.supported || (complete && !is_complete(message, &input)) ||
			!write_base(message, &input, &base))
			continue;
		for (int i = 0; i < message->key_count; i++)
			if (is_by_key(message, &input, &message->keys[i], base))
			{
				*id = find_id(message, &input);
				return true;
			}
	} while (++looked_at < LABELS_MAX && wh_field_next(&text));
	return false;
}
