/*
 * Module load: defines the settings, and when preloaded reserves shared memory and registers the
 * launcher.
 *
 * Without preloading a session can still configure, dispatch and CALL deliver_due(); there are just
 * no workers.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "settings.h"
#include "shmem.h"
#include "sql/tenant_rule.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	wh_settings_define();
	wh_tenant_rule_install();
	if (!process_shared_preload_libraries_in_progress)
		return;
	wh_shmem_install();
	wh_launcher_register();
	wh_vacate_install();
}
