/*
 * How large a payload may be.
 */
#ifndef WH_SQL_PAYLOAD_H
#define WH_SQL_PAYLOAD_H

#include "postgres.h"

#include "utils/jsonb.h"

/*
 * Raises 54000 when its text has more than webhooks.max_payload_size; what names it in the message.
 */
extern void wh_payload_check_size(Jsonb *payload, const char *what);

/* The same for bytes. */
extern void wh_payload_check_len(Size len, const char *what);

#endif
