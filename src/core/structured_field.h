/*
 * Structured fields (RFC 9651), as much of them as the headers of HTTP signatures use. Each
 * function reads from *text on and moves it past what it read; what is anything else ends the
 * reading with false.
 */
#ifndef WH_CORE_STRUCTURED_FIELD_H
#define WH_CORE_STRUCTURED_FIELD_H

#include <stdbool.h>
#include <stddef.h>

#include "core/key.h"

/* A string's content; one with escapes is not read: no name here has quotes or backslashes. */
extern bool wh_field_string(const char **text, WhBytes *content);

extern bool wh_field_key(const char **text, WhBytes *key);

/* ";name=value", from the semicolon on. *value is empty for a parameter without one. */
extern bool wh_field_parameter(const char **text, WhBytes *name, WhBytes *value);

/* From the end of one member to the next; false at the end of the field. */
extern bool wh_field_next(const char **text);

/*
 * The byte sequence of the dictionary's first member with this key, decoded. False when it has
 * none, or not len bytes. Members of other types are passed over up to the next comma.
 */
extern bool wh_field_find_bytes(const char *text, WhBytes key, unsigned char *out, size_t len);

#endif
