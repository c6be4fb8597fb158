/*
 * The webhooks.* settings. A list setting is parsed once, when it is set; what stands here is the
 * parsed form, valid until the next reload.
 */
#ifndef WH_SETTINGS_H
#define WH_SETTINGS_H

#include "postgres.h"

#include "core/retry.h"
#include "url_rules.h"

#define WH_WORKERS_MAX 16
#define WH_IN_FLIGHT_MAX 2048	/* requests one worker may have under way */
#define WH_RETRY_WAITS_MAX 100
#define WH_RETRY_WAIT_MAX_MS (INT64CONST(366) * 24 * 3600 * 1000)
#define WH_TIMEOUT_MAX_MS (3600 * 1000)

typedef struct WhRetrySchedule
{
	int			wait_count;
	int64		waits_ms[WH_RETRY_WAITS_MAX];
} WhRetrySchedule;

typedef enum WhEventCatalog
{
	WH_CATALOG_OPEN,
	WH_CATALOG_ENFORCED			/* only event types that are registered */
} WhEventCatalog;

extern bool wh_enabled;
extern int	wh_workers;
extern int	wh_max_in_flight;
extern int	wh_max_in_flight_per_endpoint;
extern int	wh_connect_timeout_ms;
extern int	wh_timeout_ms;
extern double wh_retry_jitter;
extern int	wh_max_payload_bytes;
extern int	wh_response_body_limit_bytes;
extern bool wh_allow_http;
extern bool wh_store_unmatched;
extern int	wh_failing_alert;	/* 0: off */
extern int	wh_auto_disable_dead_letters;	/* 0: off */
extern int	wh_event_catalog;	/* WhEventCatalog */
extern char *wh_ca_file;
extern char *wh_proxy;
extern char *wh_secret_key_file;
extern char *wh_secret_key_command;
extern char *wh_header_prefix;
extern char *wh_user_agent;
extern char *wh_tenant_id;

extern void wh_settings_define(void);

extern const WhRetrySchedule *wh_setting_retry_schedule(void);
extern const WhStatusSet *wh_setting_retry_on(void);
extern int64 wh_setting_idempotency_window_ms(void);

/* An interval as text; NULL: off. */
extern const char *wh_setting_auto_disable_after(void);

/* Its lists are valid until the next reload. */
extern WhUrlRules wh_setting_url_rules(void);

#endif
