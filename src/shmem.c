/*
 * Reserves and creates the shared memory, and keeps the server's clock of ids in it.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "shmem_state.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#define TRANCHE "webhooks"

WhShared   *wh_shared = NULL;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static void
request(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(sizeof(WhShared));
	RequestNamedLWLockTranche(TRANCHE, 1 + WH_SLOTS);
}

static void
startup(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	wh_shared = ShmemInitStruct("webhooks", sizeof(WhShared), &found);
	if (!found)
	{
		LWLockPadded *locks = GetNamedLWLockTranche(TRANCHE);

		memset(wh_shared, 0, sizeof(WhShared));
		pg_atomic_init_u64(&wh_shared->last_tick, 0);
		pg_atomic_init_u32(&wh_shared->workers_changes, 0);
		wh_shared->lock = &locks[0].lock;
		for (int i = 0; i < WH_SLOTS; i++)
			wh_shared->slots[i].lock = &locks[i + 1].lock;
	}
	LWLockRelease(AddinShmemInitLock);
}

void
wh_shmem_install(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

bool
wh_shmem_available(void)
{
	return wh_shared != NULL;
}

uint64
wh_shmem_next_tick(uint64 tick)
{
	uint64		last;
	uint64		next;

	if (wh_shared == NULL)
		return tick;
	last = pg_atomic_read_u64(&wh_shared->last_tick);
	do
		next = Max(tick, last + 1);
	while (!pg_atomic_compare_exchange_u64(&wh_shared->last_tick, &last, next));
	return next;
}

int
wh_shard(const pg_uuid_t *endpoint_id)
{
	/* the last byte of a UUIDv7 is random */
	return endpoint_id->data[UUID_LEN - 1] % WH_SHARDS;
}

uint32
wh_tenant_hash(const char *tenant_id)
{
	uint32		hash = hash_bytes((const unsigned char *) tenant_id, strlen(tenant_id));

	return hash == WH_TENANT_UNKNOWN ? 1 : hash;
}
