/*
 * What strangers sent, as text that the database takes.
 */
#ifndef WH_WORKER_CLEAN_H
#define WH_WORKER_CLEAN_H

#include "postgres.h"

#include "worker/queue.h"

/* In the database's encoding, palloc'd; truncated: its end may be half a character. */
extern char *wh_clean(const char *text, size_t len, bool truncated);

/* What went wrong with the request, palloc'd; NULL when nothing did. */
extern char *wh_error_text(const WhDelivery *d);

#endif
