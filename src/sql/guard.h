/*
 * Work whose error must not fail the transaction.
 */
#ifndef WH_SQL_GUARD_H
#define WH_SQL_GUARD_H

#include "postgres.h"

/*
 * Does the work in a subtransaction of its own, in the current memory context. NULL, or the error
 * it raised, with what it wrote undone; the caller throws on what it does not know how to take.
 */
extern ErrorData *wh_guard(void (*work) (void *state), void *state);

#endif
