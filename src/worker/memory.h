/*
 * The memory that libcurl works with, in a process of which one thread sends. No PostgreSQL in it:
 * these functions are called in that thread and in those that look up names.
 */
#ifndef WH_WORKER_MEMORY_H
#define WH_WORKER_MEMORY_H

#include <stdbool.h>

/*
 * Has libcurl use it from now on: before anything else of libcurl's is called, or while nothing
 * that it allocated is in use. False: libcurl failed to set itself up. If it was set up before,
 * nothing changes.
 */
extern bool wh_memory_use(void);

/*
 * The calling thread keeps what libcurl frees in it, for the next request; one thread at a time
 * may. It ends with wh_memory_give_back.
 */
extern void wh_memory_keep(void);
extern void wh_memory_give_back(void);

#endif
