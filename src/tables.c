/*
 * The extension's tables by name, and their partitions by key.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "tables.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#define KNOWN_MAX 32

/* Names looked up before, none of which has changed since. */
static struct
{
	NameData	name;
	Oid			oid;
}			known[KNOWN_MAX];
static int	known_count = 0;

static void
forget_names(Datum arg, int cache, uint32 hash)
{
	known_count = 0;
}

static Oid
look_up(const char *name)
{
	static bool registered = false;
	Oid			oid = get_relname_relid(name, get_namespace_oid("webhooks", false));

	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation webhooks.%s does not exist", name),
				 errhint("The extension is damaged, or older than the library: "
						 "ALTER EXTENSION webhooks UPDATE.")));
	if (!registered)
	{
		CacheRegisterSyscacheCallback(RELNAMENSP, forget_names, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACENAME, forget_names, (Datum) 0);
	}
	registered = true;
	if (known_count < KNOWN_MAX)
	{
		namestrcpy(&known[known_count].name, name);
		known[known_count++].oid = oid;
	}
	return oid;
}

Oid
wh_table(const char *name)
{
	for (int i = 0; i < known_count; i++)
		if (strcmp(NameStr(known[i].name), name) == 0)
			return known[i].oid;
	return look_up(name);
}

Oid
wh_find_partition(Relation parent, Datum key)
{
	PartitionKey partition_key = RelationGetPartitionKey(parent);
	PartitionDesc desc = RelationGetPartitionDesc(parent, true);
	PartitionBoundInfo bounds = desc->boundinfo;
	bool		equal;
	int			index = -1;

	if (desc->nparts > 0)
	{
		int			offset = partition_range_datum_bsearch(partition_key->partsupfunc,
														   partition_key->partcollation,
														   bounds, 1, &key, &equal);

		index = bounds->indexes[offset + 1] >= 0 ? bounds->indexes[offset + 1] :
			bounds->default_index;
	}
	if (index < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("webhooks.%s has no partition for a row", RelationGetRelationName(parent)),
				 errhint("Attach its default partition again.")));
	return desc->oids[index];
}

Relation
wh_open_partition(Relation parent, Datum key, LOCKMODE lockmode)
{
	for (;;)
	{
		Oid			oid = wh_find_partition(parent, key);
		Relation	partition = try_table_open(oid, lockmode);

		/*
		 * while the lock was waited for, the key's own partition may have been made, or this one
		 * dropped
		 */
		if (partition && wh_find_partition(parent, key) == oid)
			return partition;
		if (partition)
			table_close(partition, lockmode);
		CHECK_FOR_INTERRUPTS();
	}
}
