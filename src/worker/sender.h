/*
 * The network side of a delivering process: a thread that runs the transport, so that a commit that
 * waits for the disk holds up no answer, and answers hold up no commit.
 *
 * A request belongs to the sender from wh_sender_start until wh_sender_finished returns it; in
 * between nobody else may touch it. All functions are for the process's main thread.
 */
#ifndef WH_WORKER_SENDER_H
#define WH_WORKER_SENDER_H

#include "postgres.h"

#include "worker/transport.h"

typedef struct WhSender WhSender;

/* Starts the thread; one in a process. NULL when out of memory, descriptors or threads. */
extern WhSender *wh_sender_create(void);

/*
 * Ends the thread; all requests are the caller's again, those without a result as they were. Also
 * done when the process exits. NULL is allowed.
 */
extern void wh_sender_destroy(WhSender *sender);

/* See wh_transport_reload. */
extern bool wh_sender_reload(WhSender *sender);

/* See wh_transport_capacity. */
extern int	wh_sender_capacity(const WhSender *sender);

/* Requests are handed over by the next wh_sender_flush. */
extern void wh_sender_start(WhSender *sender, WhRequest *request);
extern void wh_sender_flush(WhSender *sender);

/* How many of them it has yet to begin. */
extern int	wh_sender_unbegun(const WhSender *sender);

/* The next finished request, or NULL. */
extern WhRequest *wh_sender_finished(WhSender *sender);

/*
 * To be called before the process waits: true when a finished request is there already. Otherwise
 * the descriptor becomes readable when there is one.
 */
extern bool wh_sender_has_finished(WhSender *sender);
extern int	wh_sender_descriptor(const WhSender *sender);

#endif
