/*
 * Makes text of what a stranger sent: a response body or header may hold NULs and broken UTF-8, a
 * text column may not.
 */
#ifndef WH_CORE_TEXT_H
#define WH_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Upper bound of what wh_text_clean writes for len bytes, the terminating NUL included. */
#define WH_TEXT_CLEAN_BOUND(len) ((len) * 3 + 1)

/*
 * Copies len bytes of in to out as valid UTF-8, NUL-terminated, and returns the length. Each NUL
 * and each byte that belongs to no valid sequence (overlong forms, surrogates and code points above
 * U+10FFFF are not valid; RFC 3629, 3) becomes U+FFFD. With truncated set, an incomplete sequence
 * at the very end is dropped instead: it was cut, not broken.
 */
extern size_t wh_text_clean(char *out, const char *in, size_t len, bool truncated);

/*
 * The same, to ASCII, for databases in another encoding than UTF-8: every other byte becomes '?'.
 */
extern size_t wh_text_clean_ascii(char *out, const char *in, size_t len);

/*
 * Writes asterisks over each place where len bytes of text show the secret, or at their end show
 * the beginning of it: a receiver may give back what it was sent. A secret of fewer than
 * WH_MASKED_MIN bytes is left: it would be found where it is not meant.
 */
#define WH_MASKED_MIN 8

extern void wh_text_mask(char *text, size_t len, const char *secret);

#endif
