/*
 * Whether a request's HTTP Message Signatures (RFC 9421) are valid. One that does not cover the
 * body's digest (Content-Digest, RFC 9530), or does not say when it was created, is not.
 */
#ifndef WH_CORE_HTTP_VERIFICATION_H
#define WH_CORE_HTTP_VERIFICATION_H

#include <stdbool.h>

#include "core/verification.h"

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
