/*
 * Tells the delivering process at commit what this transaction gave it to do.
 */
#ifndef WH_WAKE_H
#define WH_WAKE_H

#include "postgres.h"

#include "shmem.h"

/*
 * Notes that this transaction queued a delivery to the endpoint, due at wake's due_at; passed on at
 * commit, forgotten at rollback. What a rolled-back savepoint noted is passed on too, and does no
 * harm: the worker looks and finds nothing.
 */
extern void wh_wake_endpoint(const WhWake *wake);

/* The same for work on endpoints not known one by one: the worker looks at all of them. */
extern void wh_wake_all(void);

/*
 * Notes that this transaction may have brought the extension to a database, or to any (InvalidOid):
 * the launcher is told at commit.
 */
extern void wh_wake_launcher(Oid database);

#endif
