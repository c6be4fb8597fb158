/*
 * A certificate that the sender shows to a receiver that asks for one, and its key, both in PEM.
 */
#ifndef WH_CORE_CLIENT_CERTIFICATE_H
#define WH_CORE_CLIENT_CERTIFICATE_H

#include <stdbool.h>
#include <stddef.h>

#define WH_PEM_MAX (64 * 1024)	/* bytes */
#define WH_CERTIFICATE_CHAIN_MAX 10

/* SHA-256 in hexadecimal, and a NUL */
#define WH_CERTIFICATE_ID_SIZE 65

typedef enum WhCertificateError
{
	WH_CERTIFICATE_OK,
	WH_CERTIFICATE_TOO_LARGE,	/* either of them */
	WH_CERTIFICATE_HAS_KEY,		/* the certificate, which is no secret, has a private key with it */
	WH_CERTIFICATE_BAD,
	WH_CERTIFICATE_CHAIN_TOO_LONG,
	WH_CERTIFICATE_KEY_ENCRYPTED,
	WH_CERTIFICATE_KEY_BAD,
	WH_CERTIFICATE_KEY_OF_ANOTHER
} WhCertificateError;

/*
 * Whether certificate is one, perhaps followed by those between it and its CA, and key the private
 * key of the first. *reason is OpenSSL's, a static text that shows nothing of either; NULL when it
 * has none.
 */
extern WhCertificateError wh_client_certificate_check(const char *certificate, const char *key,
													  const char **reason);

/* What tells one certificate from another. False when OpenSSL fails. */
extern bool wh_client_certificate_id(const char *certificate, char out[WH_CERTIFICATE_ID_SIZE]);

#endif
