/*
 * Each process reads the keys for itself, so what one of them knows may be a moment older than what
 * another sealed with: a key id that is not known makes it read them once more.
 */
#include "postgres.h"

#include "core/cipher.h"
#include "core/keyring.h"
#include "id.h"
#include "key_source.h"
#include "miscadmin.h"
#include "secret.h"
#include "utils/timestamp.h"

#define READ_AGAIN_S 10			/* after keys could not be had, or one was not among them */
#define LOG_AGAIN_S 60

const char *const wh_secret_no_key = "no key can be had that opens its secrets";

/* The process's keys. */
static struct
{
	bool		read;			/* what follows is of the settings as they were loaded at
								 * reloaded_at */
	TimestampTz reloaded_at;
	TimestampTz read_at;
	char		failure[512];	/* why there are none; empty when there are */
	WhKeyring	ring;
}			keys;

char *
wh_secret_owner(const char *what, const pg_uuid_t *id, const char *purpose)
{
	return psprintf("%s %s %s", what, wh_uuid_text(id), purpose);
}

void
wh_secret_wipe(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
}


/* ---- keys ---- */

static char *
describe_line(WhKeyringError error, int line)
{
	switch (error)
	{
		case WH_KEYRING_OK:
			return NULL;
		case WH_KEYRING_EMPTY:
			return pstrdup("there is no key");
		case WH_KEYRING_NO_COLON:
			return psprintf("line %d is not <key id>:<key>", line);
		case WH_KEYRING_BAD_ID:
			return psprintf("the key id in line %d is not 1 to %d letters, digits, \".\", \"_\" "
							"and \"-\"", line, WH_KEY_ID_MAX);
		case WH_KEYRING_BAD_KEY:
			return psprintf("the key in line %d is not %d bytes in base64", line,
							WH_CIPHER_KEY_BYTES);
		case WH_KEYRING_SAME_ID:
			return psprintf("the key id in line %d is that of another line", line);
		case WH_KEYRING_TOO_MANY:
			return psprintf("there are more than %d keys", WH_KEYS_MAX);
	}
	return NULL;
}

/* NULL, or why it failed; the ring is then not to be used. */
static char *
read_ring(WhKeyring *ring)
{
	size_t		len;
	int			line;
	char	   *failure;
	char	   *text = wh_key_source_read(&len, &failure);
	WhKeyringError error;

	if (text == NULL)
		return failure;
	error = wh_keyring_parse(text, len, ring, &line);
	explicit_bzero(text, len);
	pfree(text);
	return describe_line(error, line);
}

/* Reads the keys. Those that are had are kept if they still hold and others cannot be had. */
static void
read_keys(bool still_hold)
{
	WhKeyring	ring;
	char	   *failure = read_ring(&ring);

	keys.read = true;
	keys.read_at = GetCurrentTimestamp();
	keys.reloaded_at = PgReloadTime;
	if (failure == NULL)
	{
		keys.failure[0] = '\0';
		keys.ring = ring;
		explicit_bzero(&ring, sizeof(ring));
	}
	else if (!still_hold)
	{
		strlcpy(keys.failure, failure, sizeof(keys.failure));
		explicit_bzero(&keys.ring, sizeof(keys.ring));
	}
}

static bool
may_read_again(void)
{
	return GetCurrentTimestamp() >= keys.read_at + READ_AGAIN_S * USECS_PER_SEC;
}

/*
 * Sees to it that the keys are those of the settings. Returns whether there are any; if the
 * settings name some nevertheless, failure says why. What failed is tried again after a while, or
 * at once.
 */
static bool
have_keys(bool at_once)
{
	if (!wh_key_source_is_set())
	{
		if (keys.read)
			explicit_bzero(&keys, sizeof(keys));
		return false;
	}
	if (!keys.read || keys.reloaded_at != PgReloadTime ||
		(keys.failure[0] && (at_once || may_read_again())))
		read_keys(false);
	return keys.failure[0] == '\0';
}

static const WhKey *
find_key(const char *id)
{
	const WhKey *key = wh_keyring_find(&keys.ring, id);

	if (key || !may_read_again())
		return key;
	read_keys(true);
	return wh_keyring_find(&keys.ring, id);
}

/*
 * For whoever waits for it. The reason names files of the server, which not everybody is to know.
 */
static void
refuse_without_keys(void)
{
	bool		may_know = superuser_arg(GetSessionUserId());

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the key that encrypts secrets cannot be had"),
			 may_know ? errdetail("%s.", keys.failure) : errdetail_log("%s.", keys.failure),
			 may_know ? errhint("See webhooks.secret_key_file and webhooks.secret_key_command.") :
			 errhint("The server's log says why.")));
}

/* For whom nobody waits. */
static void
log_missing_keys(void)
{
	static TimestampTz logged_at = DT_NOBEGIN;
	TimestampTz now = GetCurrentTimestamp();

	if (now < logged_at + LOG_AGAIN_S * USECS_PER_SEC)
		return;
	logged_at = now;
	ereport(LOG,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("webhooks: the key that encrypts secrets cannot be had: %s", keys.failure),
			 errdetail("Deliveries to endpoints whose secrets are encrypted wait in the queue.")));
}

const char *
wh_secret_current_key(void)
{
	if (have_keys(true))
		return keys.ring.keys[0].id;
	if (wh_key_source_is_set())
		refuse_without_keys();
	return NULL;
}


/* ---- secrets ---- */

WhSealed
wh_secret_seal(const char *secret, const char *owner)
{
	const char *key_id = wh_secret_current_key();
	unsigned char nonce[WH_CIPHER_NONCE_BYTES];
	WhSealed	sealed;

	if (key_id == NULL)
		return (WhSealed)
	{
		.text = pstrdup(secret)
	};
	sealed.key_id = pstrdup(key_id);
	sealed.text = palloc(WH_SEALED_SIZE(strlen(secret)));
	if (!pg_strong_random(nonce, sizeof(nonce)) ||
		!wh_cipher_seal(keys.ring.keys[0].bytes, nonce, owner, secret, sealed.text))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not encrypt a secret")));
	return sealed;
}

char *
wh_secret_open(const WhSealed *sealed, const char *owner, const char **reason)
{
	const WhKey *key;
	char	   *secret;

	if (sealed->key_id == NULL)
		return pstrdup(sealed->text);
	if (!wh_key_source_is_set())
	{
		*reason = "its secret is encrypted, and neither webhooks.secret_key_file nor "
			"webhooks.secret_key_command is set";
		return NULL;
	}
	if (!have_keys(false))
	{
		log_missing_keys();
		*reason = wh_secret_no_key;
		return NULL;
	}
	key = find_key(sealed->key_id);
	if (key == NULL)
	{
		*reason = "its secret is encrypted with a key that is not among those configured";
		return NULL;
	}
	secret = palloc(WH_OPENED_SIZE(strlen(sealed->text)));
	if (wh_cipher_open(key->bytes, owner, sealed->text, secret))
		return secret;
	pfree(secret);
	*reason = "its secret does not open: it was altered, or belongs to something else";
	return NULL;
}
