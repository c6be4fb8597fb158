/*
 * Heavyweight locks until the end of the transaction, with tags of our own so that no application's
 * advisory lock collides.
 *
 * A transaction that dispatches to very many keys must not fill the server's lock table: past a
 * number of them it locks the tenant's orders altogether. Whoever locks a single one therefore
 * shares that lock too.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "sql/order.h"
#include "storage/lock.h"
#include "storage/proc.h"

#define LOCKS_MAX 200			/* of single orders, in one transaction */

/* Field 4 of an advisory lock's tag; pg_advisory_lock uses 1 and 2. */
typedef enum LockSpace
{
	TENANT_SPACE = 0x5749,
	KEY_SPACE,
	ENDPOINT_SPACE,
	COALESCE_SPACE
} LockSpace;

static LockAcquireResult
lock(LockSpace space, uint64 hash, LOCKMODE mode)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash, space);
	return LockAcquire(&tag, mode, false, false);
}

static void
lock_one(uint64 tenant, LockSpace space, uint64 hash)
{
	static LocalTransactionId transaction = InvalidLocalTransactionId;
	static int	count = 0;

	if (transaction != MyProc->lxid)
		count = 0;
	transaction = MyProc->lxid;

	if (count >= LOCKS_MAX)
	{
		(void) lock(TENANT_SPACE, tenant, ExclusiveLock);
		return;
	}
	(void) lock(TENANT_SPACE, tenant, ShareLock);
	if (lock(space, hash, ExclusiveLock) == LOCKACQUIRE_OK)
		count++;
}

static uint64
hash_bytes_64(const void *bytes, Size len, uint64 seed)
{
	return hash_bytes_extended(bytes, (int) len, seed);
}

uint64
wh_hash_ordering_key(const char *ordering_key)
{
	return hash_bytes_64(ordering_key, strlen(ordering_key), 0);
}

static int
compare_ids(const void *a, const void *b)
{
	return memcmp(((const WhSubscriber *) a)->endpoint_id.data,
				  ((const WhSubscriber *) b)->endpoint_id.data, UUID_LEN);
}

/* In one order everywhere, so that two dispatches that share endpoints cannot wait for each other. */
static void
lock_endpoints(uint64 tenant, const WhSubscriber *subscribers, int count)
{
	WhSubscriber *ordered = palloc_extended(count * sizeof(WhSubscriber), MCXT_ALLOC_HUGE);
	int			n = 0;

	for (int i = 0; i < count; i++)
		if (subscribers[i].ordering == WH_ORDERING_ENDPOINT)
			ordered[n++] = subscribers[i];
	qsort(ordered, n, sizeof(WhSubscriber), compare_ids);
	for (int i = 0; i < n; i++)
		lock_one(tenant, ENDPOINT_SPACE, hash_bytes_64(&ordered[i].endpoint_id, UUID_LEN, 0));
	pfree(ordered);
}

void
wh_lock_order(const char *tenant_id, const char *ordering_key,
			  const WhSubscriber *subscribers, int count)
{
	bool		any_ordered = false;
	uint64		tenant;

	for (int i = 0; i < count; i++)
		any_ordered |= subscribers[i].ordering == WH_ORDERING_ENDPOINT;
	if (ordering_key == NULL && !any_ordered)
		return;

	tenant = hash_bytes_64(tenant_id, strlen(tenant_id), 0);
	if (ordering_key)
		lock_one(tenant, KEY_SPACE, hash_bytes_64(ordering_key, strlen(ordering_key), tenant));
	if (any_ordered)
		lock_endpoints(tenant, subscribers, count);
}

void
wh_lock_coalescing(const char *tenant_id, const char *coalesce_key)
{
	uint64		tenant = hash_bytes_64(tenant_id, strlen(tenant_id), 0);

	lock_one(tenant, COALESCE_SPACE, hash_bytes_64(coalesce_key, strlen(coalesce_key), tenant));
}
