/*
 * Base64 and hexadecimal digits, as they stand in signatures and secrets.
 *
 * Base64 is taken in its one canonical spelling (RFC 4648, 3.5). OpenSSL's decoder forgives white
 * space and stray bits; a receiver's may not, and the two would then work with different keys.
 */
#ifndef WH_CORE_ENCODING_H
#define WH_CORE_ENCODING_H

#include <stdbool.h>
#include <stddef.h>

#define WH_BASE64_LEN(bytes) (((bytes) + 2) / 3 * 4)

/*
 * How many bytes the len characters stand for, with their padding or without it. False when they
 * are no base64; stray bits in the last character are found only by decoding.
 */
extern bool wh_base64_measure(const char *text, size_t len, size_t *bytes);

/* Writes the bytes that wh_base64_measure told. False when the spelling is not canonical. */
extern bool wh_base64_decode(const char *text, size_t len, unsigned char *out);

/* Writes WH_BASE64_LEN(len) characters and a NUL; returns where the NUL stands. */
extern char *wh_base64_encode(char *out, const unsigned char *bytes, size_t len);

/* Writes 2 * len digits in lower case and a NUL; returns where the NUL stands. */
extern char *wh_hex_encode(char *out, const unsigned char *bytes, size_t len);

/* Writes len bytes of 2 * len digits, of either case. False when one is no digit. */
extern bool wh_hex_decode(const char *text, unsigned char *out, size_t len);

#endif
