/*
 * Judged when it is registered, with the reason, and not for the first time when a delivery fails.
 */
#include "core/client_certificate.h"

#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

/*
 * OpenSSL would ask for a password on the terminal; and what it asks for tells that there is one.
 */
static int
refuse_password(char *buffer, int size, int writing, void *asked)
{
	*(bool *) asked = true;
	return -1;
}

/* Takes what OpenSSL has to say, and leaves it nothing. */
static const char *
take_reason(void)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	ERR_clear_error();
	return reason;
}

static bool
at_end(void)
{
	unsigned long error = ERR_peek_last_error();

	return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

/* Reads the whole chain; *first is the caller's to free. */
static WhCertificateError
read_chain(BIO *pem, X509 **first)
{
	bool		asked = false;
	X509	   *next;
	int			count = 1;

	*first = PEM_read_bio_X509(pem, NULL, refuse_password, &asked);
	if (*first == NULL)
		return WH_CERTIFICATE_BAD;
	while ((next = PEM_read_bio_X509(pem, NULL, refuse_password, &asked)) != NULL)
	{
		X509_free(next);
		count++;
	}
	if (!at_end())
		return WH_CERTIFICATE_BAD;
	ERR_clear_error();
	return count <= WH_CERTIFICATE_CHAIN_MAX ? WH_CERTIFICATE_OK : WH_CERTIFICATE_CHAIN_TOO_LONG;
}

static WhCertificateError
check_key(BIO *pem, X509 *certificate)
{
	bool		asked = false;
	EVP_PKEY   *key = PEM_read_bio_PrivateKey(pem, NULL, refuse_password, &asked);
	WhCertificateError error = WH_CERTIFICATE_OK;

	if (key == NULL)
		return asked ? WH_CERTIFICATE_KEY_ENCRYPTED : WH_CERTIFICATE_KEY_BAD;
	if (X509_check_private_key(certificate, key) != 1)
		error = WH_CERTIFICATE_KEY_OF_ANOTHER;
	EVP_PKEY_free(key);
	return error;
}

WhCertificateError
wh_client_certificate_check(const char *certificate, const char *key, const char **reason)
{
	BIO		   *certificate_bio;
	BIO		   *key_bio;
	X509	   *first = NULL;
	WhCertificateError error;

	*reason = NULL;
	if (strlen(certificate) > WH_PEM_MAX || strlen(key) > WH_PEM_MAX)
		return WH_CERTIFICATE_TOO_LARGE;
	if (strstr(certificate, "PRIVATE KEY") != NULL)
		return WH_CERTIFICATE_HAS_KEY;

	ERR_clear_error();
	certificate_bio = BIO_new_mem_buf(certificate, (int) strlen(certificate));
	key_bio = BIO_new_mem_buf(key, (int) strlen(key));
	if (certificate_bio == NULL || key_bio == NULL)
		error = WH_CERTIFICATE_BAD;
	else
		error = read_chain(certificate_bio, &first);
	if (error == WH_CERTIFICATE_OK)
		error = check_key(key_bio, first);
	if (error != WH_CERTIFICATE_OK)
		*reason = take_reason();
	X509_free(first);
	BIO_free(certificate_bio);
	BIO_free(key_bio);
	return error;
}

bool
wh_client_certificate_id(const char *certificate, char out[WH_CERTIFICATE_ID_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned int len;

	if (EVP_Digest(certificate, strlen(certificate), hash, &len, EVP_sha256(), NULL) != 1)
		return false;
	for (unsigned int i = 0; i < len; i++)
	{
		out[2 * i] = digits[hash[i] >> 4];
		out[2 * i + 1] = digits[hash[i] & 0xf];
	}
	out[2 * len] = '\0';
	return true;
}
