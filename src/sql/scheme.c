/*
 * The rules for secrets stand here once: for those who send and for those who receive.
 */
#include "postgres.h"

#include "secret.h"
#include "sql/scheme.h"
#include "sql/session.h"
#include "utils/builtins.h"

#define NEW_SECRET_BYTES 32
#define LITERAL_MIN_BYTES 8		/* of an endpoint's; whoever verifies takes what the sender has */

#define BIT(scheme) WH_SCHEME_BIT(WH_SCHEME_ ## scheme)
#define DECODED (BIT(V1) | BIT(RFC9421))
#define LITERAL (BIT(STRIPE) | BIT(GITHUB) | BIT(X_WEBHOOK))
#define ED25519 (BIT(V1A) | BIT(RFC9421))

WhScheme
wh_scheme_argument(const char *name)
{
	WhScheme	scheme;

	if (!wh_scheme_parse(name, &scheme) || scheme == WH_SCHEME_NONE)
		wh_refuse("scheme", "must be v1, v1a, stripe, github, x-webhook or rfc9421");
	return scheme;
}

uint32
wh_schemes_argument(ArrayType *names)
{
	Datum	   *items;
	int			count = wh_elements("signature_schemes", names, &items);
	uint32		schemes = 0;

	if (count == 0)
		wh_refuse("signature_schemes", "must not be empty: {none} signs nothing");
	for (int i = 0; i < count; i++)
	{
		WhScheme	scheme;

		if (!wh_scheme_parse(TextDatumGetCString(items[i]), &scheme))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("signature_schemes contains an unknown scheme: \"%s\"",
							TextDatumGetCString(items[i])),
					 errhint("There are v1, v1a, stripe, github, x-webhook, rfc9421 and none.")));
		if (schemes & WH_SCHEME_BIT(scheme))
			wh_refuse("signature_schemes", psprintf("contains %s twice", wh_scheme_name(scheme)));
		schemes |= WH_SCHEME_BIT(scheme);
	}
	if ((schemes & BIT(NONE)) && count > 1)
		wh_refuse("signature_schemes", "must not contain none beside others");
	return schemes;
}


/* ---- secrets ---- */

static void
refuse_shared(WhSecretError error)
{
	switch (error)
	{
		case WH_SECRET_OK:
			break;
		case WH_SECRET_NO_PREFIX:
			wh_refuse("secret", "must begin with \"" WH_SECRET_PREFIX "\"");
		case WH_SECRET_NOT_BASE64:
		case WH_SECRET_MISMATCH:
			wh_refuse("secret", "must be base64 after \"" WH_SECRET_PREFIX "\"");
		case WH_SECRET_TOO_SHORT:
			wh_refuse("secret",
					  psprintf("must have at least %d bytes when decoded", WH_SECRET_MIN_BYTES));
		case WH_SECRET_TOO_LONG:
			wh_refuse("secret",
					  psprintf("must have at most %d bytes when decoded", WH_SECRET_MAX_BYTES));
	}
}

static void
refuse_pair(WhSecretError error)
{
	switch (error)
	{
		case WH_SECRET_OK:
			break;
		case WH_SECRET_NO_PREFIX:
			wh_refuse("secret", "must be an Ed25519 key: \"" WH_PRIVATE_PREFIX "\", or \""
					  WH_PUBLIC_PREFIX "\" to verify with, and base64");
		case WH_SECRET_NOT_BASE64:
			wh_refuse("secret", "must be base64 after \"" WH_PRIVATE_PREFIX "\" or \""
					  WH_PUBLIC_PREFIX "\"");
		case WH_SECRET_TOO_SHORT:
		case WH_SECRET_TOO_LONG:
			wh_refuse("secret", "must have 32 or 64 bytes when decoded as a private Ed25519 key, "
					  "32 as a public one");
		case WH_SECRET_MISMATCH:
			wh_refuse("secret", "has a public half that is not that of its private one");
	}
}

static void
refuse_literal(WhSecretError error)
{
	if (error == WH_SECRET_NO_PREFIX)
		wh_refuse("secret", "must not be an Ed25519 key: the scheme shares it with both sides");
	if (error != WH_SECRET_OK)
		wh_refuse("secret", psprintf("must have 1 to %d bytes", WH_SECRET_TEXT_MAX));
}

WhSecretKey
wh_secret_argument(WhScheme scheme, const char *secret)
{
	WhSecretKey key;
	WhSecretError error = wh_scheme_key(scheme, secret, &key);

	if (WH_SCHEME_BIT(scheme) & LITERAL)
		refuse_literal(error);
	else if (scheme == WH_SCHEME_V1A || wh_key_is_ed25519(secret))
	{
		if (scheme == WH_SCHEME_V1)
			refuse_shared(error);
		refuse_pair(error);
	}
	else
		refuse_shared(error);
	return key;
}

static char *
new_secret(WhKeyKind kind)
{
	char	   *text = palloc(WH_SECRET_TEXT_SIZE);
	WhSecretKey key = {.len = NEW_SECRET_BYTES, .kind = kind};

	if (!pg_strong_random(key.bytes, key.len) ||
		(kind == WH_KEY_PRIVATE && !wh_key_complete(&key)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a secret")));
	wh_secret_encode(&key, text);
	explicit_bzero(&key, sizeof(key));
	return text;
}

static void
check_given(uint32 schemes, const char *given)
{
	WhSecretKey key;

	if (strncmp(given, WH_PUBLIC_PREFIX, strlen(WH_PUBLIC_PREFIX)) == 0)
		wh_refuse("secret", "must not be a public key: it signs nothing");
	if (wh_key_is_ed25519(given))
	{
		if ((schemes & ED25519) == 0)
			wh_refuse("secret", "must not be an Ed25519 key for signature_schemes without v1a or "
					  "rfc9421");
		key = wh_secret_argument(WH_SCHEME_V1A, given);
	}
	else
	{
		if ((schemes & (DECODED | LITERAL)) == 0)
			wh_refuse("secret", "must begin with \"" WH_PRIVATE_PREFIX
					  "\" for signature_schemes of v1a alone");
		if (schemes & DECODED)
			key = wh_secret_argument(WH_SCHEME_V1, given);
		else
		{
			if (strlen(given) < LITERAL_MIN_BYTES || strlen(given) > WH_SECRET_TEXT_MAX)
				wh_refuse("secret", psprintf("must have %d to %d bytes", LITERAL_MIN_BYTES,
											 WH_SECRET_TEXT_MAX));
			key = wh_secret_argument(WH_SCHEME_STRIPE, given);
		}
	}
	explicit_bzero(&key, sizeof(key));
}

WhSecrets
wh_secrets_for_schemes(uint32 schemes, const char *given)
{
	WhSecrets	secrets = {NULL, NULL};

	if (schemes & BIT(NONE))
	{
		if (given)
			wh_refuse("secret", "must be NULL for signature_schemes {none}");
		return secrets;
	}
	if (given)
	{
		check_given(schemes, given);
		if (wh_key_is_ed25519(given))
			secrets.pair = pstrdup(given);
		else
			secrets.shared = pstrdup(given);
	}
	if (secrets.pair == NULL && (schemes & BIT(V1A)))
		secrets.pair = new_secret(WH_KEY_PRIVATE);
	if (secrets.shared == NULL &&
		((schemes & (BIT(V1) | LITERAL)) || secrets.pair == NULL))
		secrets.shared = new_secret(WH_KEY_HMAC);
	(void) wh_secret_current_key();
	return secrets;
}

void
wh_schemes_check_shared(uint32 schemes, const WhSecrets *secrets)
{
	WhSecretKey key;

	/* rfc9421 signs with the pair as well */
	if (secrets->pair)
		schemes &= ~BIT(RFC9421);
	if (secrets->shared && (schemes & DECODED) &&
		wh_scheme_key(WH_SCHEME_V1, secrets->shared, &key) != WH_SECRET_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("signature_schemes must not contain v1 or rfc9421 while the endpoint's "
						"secret is plain text"),
				 errhint("Give it one that begins with \"%s\" first, by webhooks.rotate_secret.",
						 WH_SECRET_PREFIX)));
	explicit_bzero(&key, sizeof(key));
}

char *
wh_secrets_told(const WhSecrets *secrets)
{
	return secrets->shared ? secrets->shared : secrets->pair;
}
