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
#include "compat.h"
#include "miscadmin.h"
#include "sql/order.h"
#include "storage/lock.h"

#define LOCKS_MAX 200			/* of single orders, in one transaction */

/* Field 4 of an advisory lock's tag; pg_advisory_lock uses 1 and 2. */
typedef enum LockSpace
{
	TENANT_SPACE = 0x5749,
	KEY_SPACE,
	ENDPOINT_SPACE,
	COALESCE_SPACE,
	TARGET_SPACE,
	ALL_TARGETS_SPACE
} LockSpace;

static LockAcquireResult
lock(LockSpace space, uint64 hash, LOCKMODE mode, bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash, space);
	return LockAcquire(&tag, mode, false, !wait);
}

/* False, without the order, when it would have to wait and must not. */
static bool
lock_one(uint64 tenant, LockSpace space, uint64 hash, bool wait)
{
	LockAcquireResult result;

	static LocalTransactionId transaction = InvalidLocalTransactionId;
	static int	count = 0;

	if (transaction != wh_my_local_transaction())
		count = 0;
	transaction = wh_my_local_transaction();

	if (count >= LOCKS_MAX)
		return lock(TENANT_SPACE, tenant, ExclusiveLock, wait) != LOCKACQUIRE_NOT_AVAIL;
	if (lock(TENANT_SPACE, tenant, ShareLock, wait) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	result = lock(space, hash, ExclusiveLock, wait);
	if (result == LOCKACQUIRE_OK)
		count++;
	return result != LOCKACQUIRE_NOT_AVAIL;
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

/*
 * In one order everywhere, so that two dispatches that share endpoints cannot wait for each other.
 */
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
		(void) lock_one(tenant, ENDPOINT_SPACE,
						hash_bytes_64(&ordered[i].endpoint_id, UUID_LEN, 0), true);
	pfree(ordered);
}

static bool
lock_key(uint64 tenant, const char *ordering_key, bool wait)
{
	return lock_one(tenant, KEY_SPACE, hash_bytes_64(ordering_key, strlen(ordering_key), tenant),
					wait);
}

bool
wh_try_lock_order(const char *tenant_id, const char *ordering_key)
{
	return ordering_key == NULL ||
		lock_key(hash_bytes_64(tenant_id, strlen(tenant_id), 0), ordering_key, false);
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
		(void) lock_key(tenant, ordering_key, true);
	if (any_ordered)
		lock_endpoints(tenant, subscribers, count);
}

void
wh_lock_coalescing(const char *tenant_id, const char *coalesce_key)
{
	uint64		tenant = hash_bytes_64(tenant_id, strlen(tenant_id), 0);

	(void) lock_one(tenant, COALESCE_SPACE,
					hash_bytes_64(coalesce_key, strlen(coalesce_key), tenant), true);
}

/* A transaction with very many of them locks all there are: whoever removes one asks for both. */
void
wh_lock_target(const pg_uuid_t *endpoint_id)
{
	static LocalTransactionId transaction = InvalidLocalTransactionId;
	static int	count = 0;

	if (transaction != wh_my_local_transaction())
		count = 0;
	transaction = wh_my_local_transaction();

	if (count >= LOCKS_MAX)
		(void) lock(ALL_TARGETS_SPACE, 0, ShareLock, true);
	else if (lock(TARGET_SPACE, hash_bytes_64(endpoint_id, UUID_LEN, 0), ShareLock, true) ==
			 LOCKACQUIRE_OK)
		count++;
}

bool
wh_lock_target_away(const pg_uuid_t *endpoint_id)
{
	return lock(ALL_TARGETS_SPACE, 0, ExclusiveLock, false) != LOCKACQUIRE_NOT_AVAIL &&
		lock(TARGET_SPACE, hash_bytes_64(endpoint_id, UUID_LEN, 0), ExclusiveLock, false) !=
		LOCKACQUIRE_NOT_AVAIL;
}
