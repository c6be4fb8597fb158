/*
 * Row-level security of the extension's tables.
 */
#ifndef WH_SQL_TENANT_RULE_H
#define WH_SQL_TENANT_RULE_H

/* To be called when the settings are defined: the rule reads webhooks.tenant_id. */
extern void wh_tenant_rule_install(void);

#endif
