/*
 * Where the keys that encrypt secrets come from: what webhooks.secret_key_file holds, or
 * webhooks.secret_key_command prints.
 */
#ifndef WH_KEY_SOURCE_H
#define WH_KEY_SOURCE_H

#include "postgres.h"

/* Whether the settings name a source. */
extern bool wh_key_source_is_set(void);

/*
 * The text, in the current memory context: the caller wipes it. NULL when it cannot be had, with
 * the reason in *error. That is for the server's administrator: it may name a file.
 */
extern char *wh_key_source_read(size_t *len, char **error);

#endif
