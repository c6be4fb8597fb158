/*
 * HTTP Message Signatures (RFC 9421) of requests, with Content-Digest (RFC 9530) for the body:
 * algorithms hmac-sha256 and ed25519, by the kind of key. Each says when it was created.
 */
#ifndef WH_CORE_HTTP_SIGNATURE_H
#define WH_CORE_HTTP_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/key.h"
#include "core/verification.h"

/* "sha-256=:", 44 characters, ":" and the terminating NUL */
#define WH_CONTENT_DIGEST_SIZE 55

/* Covered names, their quotes and blanks, and the parameters */
#define WH_HTTP_INPUT_SIZE 512

/* Base64 of an Ed25519 signature, and the terminating NUL */
#define WH_HTTP_SIGNATURE_SIZE 89

/* Writes the value of a Content-Digest header. False when OpenSSL fails. */
extern bool wh_content_digest(WhBytes body, char out[WH_CONTENT_DIGEST_SIZE]);

typedef struct WhHttpSignature
{
	char		input[WH_HTTP_INPUT_SIZE];	/* a member of Signature-Input, without its label */
	char		signature[WH_HTTP_SIGNATURE_SIZE];	/* the same of Signature, without the colons */
} WhHttpSignature;

/* Components are named as the signature names them: "@method", or a header's name in lower case. */
typedef struct WhComponents
{
	const WhHeader *items;
	int			count;
	int64_t		created_s;		/* Unix time */
} WhComponents;

/* How much scratch memory wh_http_signature_make needs. */
extern size_t wh_http_scratch_size(const WhComponents *components);

/* False when OpenSSL fails, the key signs nothing, or the names are too long together. */
extern bool wh_http_signature_make(const WhSecretKey *key, const WhComponents *components,
								   char *scratch, WhHttpSignature *out);

#endif
