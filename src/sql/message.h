/*
 * A message that came in, as SQL has it: headers as a JSON object, a body as text or bytes.
 */
#ifndef WH_SQL_MESSAGE_H
#define WH_SQL_MESSAGE_H

#include "postgres.h"

#include "core/verification.h"
#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* The bytes of a text argument, in UTF-8 as they came over the wire, or of a bytea one. */
extern WhBytes wh_body_text(FunctionCallInfo fcinfo, int number);
extern WhBytes wh_body_bytea(FunctionCallInfo fcinfo, int number);

/* A tolerance in milliseconds; raises 22023 for one that is negative or NULL. */
extern int64 wh_tolerance_argument(FunctionCallInfo fcinfo, int number);

/*
 * The message, with scratch memory for verifying it; the caller adds keys, time and tolerance. A
 * header's value may be a string, a number, or an array of these; one that is anything else is as
 * if it were missing. Raises 22023 when headers is no object.
 */
extern WhReceived wh_message_read(Jsonb *headers, WhBytes body);

/* Unix time in milliseconds. */
extern int64 wh_unix_ms(TimestampTz at);

/* Verifies, and wipes the keys. *id as wh_verify has it. */
extern bool wh_message_verify(WhScheme scheme, WhReceived *message, WhSecretKey *keys, int count,
							  const char **id);

#endif
