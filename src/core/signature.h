/*
 * The schemes by which requests are signed, and the signatures of those that sign
 * "id.timestamp.body", "timestamp.body" or the body:
 *
 *	 v1, v1a	Standard Webhooks: HMAC-SHA256, Ed25519, over id.timestamp.body
 *				(github.com/standard-webhooks, spec/standard-webhooks.md)
 *	 stripe		Stripe-Signature: t=…,v1=hex: HMAC-SHA256 over timestamp.body
 *	 github		X-Hub-Signature-256: sha256=hex: HMAC-SHA256 over the body
 *	 x-webhook	X-Webhook-Timestamp, X-Webhook-Signature: v1=hex: HMAC-SHA256 over timestamp.body
 *	 rfc9421	HTTP Message Signatures: see http_signature.h, http_verification.h
 *	 none		no signature
 *
 * v1 and rfc9421 key the HMAC with the bytes that the secret's base64 stands for; stripe, github
 * and x-webhook with the secret's text, as the libraries of those services do.
 */
#ifndef WH_CORE_SIGNATURE_H
#define WH_CORE_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/key.h"

typedef enum WhScheme
{
	WH_SCHEME_V1,
	WH_SCHEME_V1A,
	WH_SCHEME_STRIPE,
	WH_SCHEME_GITHUB,
	WH_SCHEME_X_WEBHOOK,
	WH_SCHEME_RFC9421,
	WH_SCHEME_NONE
} WhScheme;

#define WH_SCHEME_COUNT (WH_SCHEME_NONE + 1)
#define WH_SCHEME_BIT(scheme) (1u << (scheme))

extern bool wh_scheme_parse(const char *name, WhScheme *scheme);
extern const char *wh_scheme_name(WhScheme scheme);

/* The key that a secret is for a scheme; of WH_SCHEME_NONE it is any. */
extern WhSecretError wh_scheme_key(WhScheme scheme, const char *secret, WhSecretKey *key);

/* "v1a,", 88 characters of base64 and the terminating NUL: the longest of them */
#define WH_SIGNATURE_SIZE 93

/* What is signed, of an outgoing message. */
typedef struct WhSigned
{
	const char *id;
	int64_t		timestamp_s;	/* Unix time */
	WhBytes		body;			/* may hold any bytes */
	char	   *scratch;		/* WH_SIGNED_SCRATCH_SIZE; only v1a needs it */
} WhSigned;

#define WH_SIGNED_SCRATCH_SIZE(id_len, body_len) ((id_len) + 24 + (body_len))

/*
 * Writes one signature, as the scheme's header has it: "v1,<base64>", "v1a,<base64>", "v1=<hex>"
 * (stripe, x-webhook) or "sha256=<hex>". False when OpenSSL fails, or the key signs nothing; not
 * for rfc9421 and none.
 */
extern bool wh_signature_make(WhScheme scheme, const WhSecretKey *key, const WhSigned *message,
							  char out[WH_SIGNATURE_SIZE]);

#endif
