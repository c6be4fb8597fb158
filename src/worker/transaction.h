/*
 * Short transactions for a process that delivers: a background worker of its own, or a session
 * inside CALL deliver_due().
 */
#ifndef WH_WORKER_TRANSACTION_H
#define WH_WORKER_TRANSACTION_H

#include "postgres.h"

typedef enum WhTransactionResult
{
	WH_TRANSACTION_DONE,
	WH_TRANSACTION_FAILED,		/* work raised an error, which was logged; nothing of it remains; it
								 * may be a row's fault */
	WH_TRANSACTION_HINDERED,	/* the same, but by what passes: a lock, a full disk, an
								 * administrator */
	WH_TRANSACTION_NO_EXTENSION /* the database lacks the extension; work was not called */
} WhTransactionResult;

typedef struct WhTransaction
{
	bool		in_session;		/* inside a procedure: SPI_commit instead of a transaction
								 * command */
	const char *activity;		/* what pg_stat_activity shows meanwhile */
	void		(*work) (void *state);	/* may use SPI, is connected, has a snapshot, runs as the
										 * extension's owner */
	void	   *state;
	bool		flush_later;	/* a worker's commit, at XactLastCommitEnd then, does not wait for
								 * the disk; a session's does as its settings say */
} WhTransaction;

/*
 * Runs work in a transaction and commits it. An error in work is caught; one in the commit itself
 * is not. Memory that is to outlive the transaction must be allocated in a context of the caller's.
 */
extern WhTransactionResult wh_transact(const WhTransaction *transaction);

/*
 * SIGTERM handler for a worker: sets ShutdownRequestPending, so that the loop can end what it has
 * under way, and cancels the transaction that runs. The postmaster may send the signal twice at a
 * time: it means the same.
 */
extern void wh_transaction_sigterm(SIGNAL_ARGS);

/* SIGINT handler for a worker: cancels the transaction that runs; lock_timeout works by it. */
extern void wh_transaction_sigint(SIGNAL_ARGS);

/* While set, SIGTERM does not cancel the transaction: it records what was already sent. */
extern void wh_transaction_hold_sigterm(bool hold);

#endif
