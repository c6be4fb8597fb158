/*
 * HTTP Message Signatures (RFC 9421) over requests, with Content-Digest (RFC 9530) for the body:
 * algorithms hmac-sha256 and ed25519, by the kind of key.
 *
 * A signature here always covers the body's digest and says when it was created; one that does not
 * is not taken for valid either.
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

/*
 * Whether one of the message's signatures is valid. The message's headers may hold "@method",
 * "@target-uri" and the other derived components of a request, which are no header's name; those
 * that are missing are derived from "@target-uri", and @authority from Host.
 *
 * With complete set, which everything but a test of single steps wants: that the signature covers
 * Content-Digest, that the digest is the body's, and that the signature's time is within the
 * tolerance. *id gets a covered header "<prefix>id" that has a "<prefix>timestamp" beside it, or
 * NULL.
 */
extern bool wh_http_signature_valid(const WhReceived *message, bool complete, const char **id);

#endif
