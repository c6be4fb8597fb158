/*
 * Making HTTP message signatures: the parameters are written once, and signed as they are sent.
 */
#include "core/http_signature.h"

#include <string.h>

#include <openssl/evp.h>

#include "core/encoding.h"
#include "core/writer.h"

bool
wh_content_digest(WhBytes body, char out[WH_CONTENT_DIGEST_SIZE])
{
	unsigned char digest[WH_HMAC_BYTES];
	char	   *end;

	if (!EVP_Digest(body.data, body.len, digest, NULL, EVP_sha256(), NULL))
		return false;
	memcpy(out, "sha-256=:", 9);
	end = wh_base64_encode(out + 9, digest, sizeof(digest));
	memcpy(end, ":", 2);
	return true;
}

size_t
wh_http_scratch_size(const WhComponents *components)
{
	size_t		size = WH_HTTP_INPUT_SIZE + sizeof("\"@signature-params\": ");

	for (int i = 0; i < components->count; i++)
		size += strlen(components->items[i].name) + strlen(components->items[i].value) + 5;
	return size;
}

static bool
write_input(const WhSecretKey *key, const WhComponents *components, WhHttpSignature *out)
{
	WhWriter	input = {out->input, 0, sizeof(out->input) - 1, false};
	char		key_id[WH_KEY_ID_SIZE];

	if (!wh_key_id(key, key_id))
		return false;
	for (int i = 0; i < components->count; i++)
	{
		wh_put_text(&input, i == 0 ? "(\"" : "\" \"");
		wh_put_text(&input, components->items[i].name);
	}
	wh_put_text(&input, components->count == 0 ? "();created=" : "\");created=");
	wh_put_number(&input, components->created_s);
	wh_put_text(&input, ";keyid=\"");
	wh_put_text(&input, key_id);
	wh_put_text(&input, key->kind == WH_KEY_HMAC ? "\";alg=\"hmac-sha256\"" : "\";alg=\"ed25519\"");
	out->input[input.len] = '\0';
	return !input.failed;
}

bool
wh_http_signature_make(const WhSecretKey *key, const WhComponents *components, char *scratch,
					   WhHttpSignature *out)
{
	WhWriter	base = {scratch, 0, wh_http_scratch_size(components), false};
	unsigned char signature[WH_ED25519_BYTES];
	bool		shared = key->kind == WH_KEY_HMAC;
	WhBytes		message;

	if (key->kind == WH_KEY_PUBLIC || !write_input(key, components, out))
		return false;
	for (int i = 0; i < components->count; i++)
	{
		wh_put_text(&base, "\"");
		wh_put_text(&base, components->items[i].name);
		wh_put_text(&base, "\": ");
		wh_put_trimmed(&base, components->items[i].value);
		wh_put_text(&base, "\n");
	}
	wh_put_text(&base, "\"@signature-params\": ");
	wh_put_text(&base, out->input);

	message = (WhBytes) {scratch, base.len};
	if (base.failed || !(shared ? wh_hmac_sha256(key, &message, 1, signature) :
						 wh_ed25519_sign(key, message, signature)))
		return false;
	wh_base64_encode(out->signature, signature, shared ? WH_HMAC_BYTES : WH_ED25519_BYTES);
	return true;
}
