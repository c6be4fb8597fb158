/*
 * What judges the text of a setting when it is set, and takes over what it stands for. For settings
 * alone, which says where each belongs.
 */
#ifndef WH_SETTING_VALUES_H
#define WH_SETTING_VALUES_H

#include "postgres.h"

#include "utils/guc.h"

#define WH_PROXY_SETTING "webhooks.proxy"

typedef struct WhSettingHooks
{
	GucStringCheckHook check;
	GucStringAssignHook assign; /* NULL: the text itself is what is used */
} WhSettingHooks;

extern const WhSettingHooks wh_hooks_retry_schedule;
extern const WhSettingHooks wh_hooks_retry_on;
extern const WhSettingHooks wh_hooks_allowed_networks;
extern const WhSettingHooks wh_hooks_blocked_networks;
extern const WhSettingHooks wh_hooks_allowed_ports;
extern const WhSettingHooks wh_hooks_proxy;
extern const WhSettingHooks wh_hooks_interval;
extern const WhSettingHooks wh_hooks_idempotency_window;
extern const WhSettingHooks wh_hooks_auto_disable_after;
extern const WhSettingHooks wh_hooks_header_prefix;
extern const WhSettingHooks wh_hooks_user_agent;

#endif
