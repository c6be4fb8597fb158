/*
 * The table of the webhooks.* settings, and what is about a setting as such: who may set it, and
 * what may be shown of it.
 */
#include "postgres.h"

#include "compat.h"
#include "setting_values.h"
#include "settings.h"
#include "utils/guc.h"

bool		wh_enabled = true;
int			wh_workers = 1;
int			wh_max_in_flight = 512;
int			wh_max_in_flight_per_endpoint = 32;
int			wh_connect_timeout_ms = 5000;
int			wh_timeout_ms = 15000;
double		wh_retry_jitter = 0.25;
int			wh_max_payload_bytes = 256 * 1024;
int			wh_response_body_limit_bytes = 4096;
bool		wh_allow_http = false;
bool		wh_store_unmatched = true;
int			wh_failing_alert = 10;
int			wh_auto_disable_dead_letters = 0;
int			wh_event_catalog = WH_CATALOG_OPEN;
char	   *wh_ca_file = NULL;
char	   *wh_proxy = NULL;
char	   *wh_secret_key_file = NULL;
char	   *wh_secret_key_command = NULL;
char	   *wh_header_prefix = NULL;
char	   *wh_user_agent = NULL;
char	   *wh_tenant_id = NULL;

/* Here what their hooks made of these is used, and in SQL the text of the retentions. */
static char *retry_schedule_text = NULL;
static char *retry_on_text = NULL;
static char *allowed_networks_text = NULL;
static char *blocked_networks_text = NULL;
static char *allowed_ports_text = NULL;
static char *retention_text = NULL;
static char *dead_letter_retention_text = NULL;
static char *auto_disable_after_text = NULL;
static char *idempotency_window_text = NULL;
static char *inbox_retention_text = NULL;

static void
define_bool(const char *name, const char *desc, bool *variable)
{
	DefineCustomBoolVariable(name, desc, NULL, variable, *variable, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
}

typedef struct IntRange
{
	int			min;
	int			max;
	int			unit;
} IntRange;

static void
define_int(const char *name, const char *desc, int *variable, IntRange range)
{
	DefineCustomIntVariable(name, desc, NULL, variable, *variable, range.min, range.max,
							PGC_SIGHUP, range.unit, NULL, NULL, NULL);
}

/* hooks may be NULL: any text will do. */
static void
define_string(const char *name, const char *desc, char **variable, const char *boot,
			  const WhSettingHooks *hooks)
{
	DefineCustomStringVariable(name, desc, NULL, variable, boot, PGC_SIGHUP, 0,
							   hooks ? hooks->check : NULL, hooks ? hooks->assign : NULL, NULL);
}

static void
define_delivery_settings(void)
{
	define_bool("webhooks.enabled", "Whether background workers deliver.", &wh_enabled);
	define_int("webhooks.workers", "Workers that deliver for each database.", &wh_workers,
			   (IntRange) {1, WH_WORKERS_MAX, 0});
	define_int("webhooks.max_in_flight", "Requests one worker may have under way.",
			   &wh_max_in_flight, (IntRange) {1, WH_IN_FLIGHT_MAX, 0});
	define_int("webhooks.max_in_flight_per_endpoint",
			   "Requests that may be under way to one endpoint.",
			   &wh_max_in_flight_per_endpoint, (IntRange) {1, WH_IN_FLIGHT_MAX, 0});
	define_int("webhooks.connect_timeout", "Time a connection may take to be made, TLS included.",
			   &wh_connect_timeout_ms, (IntRange) {1, WH_TIMEOUT_MAX_MS, GUC_UNIT_MS});
	define_int("webhooks.timeout",
			   "Time a request may take, from connecting to the end of the answer.",
			   &wh_timeout_ms, (IntRange) {1, WH_TIMEOUT_MAX_MS, GUC_UNIT_MS});
	define_string("webhooks.retry_schedule", "Waits between a delivery's attempts.",
				  &retry_schedule_text, "5s,5min,30min,2h,5h,10h,14h,20h,24h",
				  &wh_hooks_retry_schedule);
	DefineCustomRealVariable("webhooks.retry_jitter",
							 "Adds at random up to this share to each wait.", NULL,
							 &wh_retry_jitter, wh_retry_jitter, 0, 1, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	define_string("webhooks.retry_on", "Statuses after which a delivery is tried again, or *.",
				  &retry_on_text, "408,425,429,5xx",
				  &wh_hooks_retry_on);
	define_int("webhooks.max_payload_size", "Size that an event's payload may have as text.",
			   &wh_max_payload_bytes, (IntRange) {1, 64 * 1024 * 1024, GUC_UNIT_BYTE});
	define_int("webhooks.response_body_limit", "How much of a response body is read and kept.",
			   &wh_response_body_limit_bytes, (IntRange) {0, 1024 * 1024, GUC_UNIT_BYTE});
	define_string("webhooks.header_prefix",
				  "What the names of the id, timestamp and signature headers begin with.",
				  &wh_header_prefix, "webhook-", &wh_hooks_header_prefix);
	define_string("webhooks.user_agent", "The User-Agent header of requests.", &wh_user_agent,
				  "pg-webhooks/" WH_VERSION, &wh_hooks_user_agent);
}

static void
define_safety_settings(void)
{
	define_bool("webhooks.allow_http", "Whether http URLs are allowed beside https.",
				&wh_allow_http);
	define_string("webhooks.allowed_networks",
				  "Networks that may be connected to though they are not public.",
				  &allowed_networks_text, "",
				  &wh_hooks_allowed_networks);
	define_string("webhooks.blocked_networks",
				  "Networks that may not be connected to; wins over allowed_networks.",
				  &blocked_networks_text, "",
				  &wh_hooks_blocked_networks);
	define_string("webhooks.allowed_ports", "Ports that URLs may name; empty for every port.",
				  &allowed_ports_text, "", &wh_hooks_allowed_ports);
	define_string("webhooks.ca_file", "Certificates to trust instead of the system's, in PEM.",
				  &wh_ca_file, "", NULL);
	DefineCustomStringVariable(WH_PROXY_SETTING,
							   "The proxy that requests go through; empty for none.", NULL,
							   &wh_proxy, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   wh_hooks_proxy.check, wh_hooks_proxy.assign, NULL);
	DefineCustomStringVariable("webhooks.tenant_id",
							   "The one tenant that the session sees and touches; empty for all.",
							   NULL, &wh_tenant_id, "", PGC_SUSET, 0, NULL, NULL, NULL);
}

/*
 * Whether both are set is asked when a key is wanted: a reload that replaces one by the other sets
 * them one after the other.
 */
static void
define_secret_settings(void)
{
	DefineCustomStringVariable("webhooks.secret_key_file",
							   "File with the keys that encrypt secrets, the current one first.",
							   "A line a key: <key id>:<base64 of 32 bytes>.",
							   &wh_secret_key_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("webhooks.secret_key_command",
							   "Command that prints what webhooks.secret_key_file would hold.",
							   NULL, &wh_secret_key_command, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);
}

static void
define_storage_settings(void)
{
	static const struct config_enum_entry catalogs[] = {
		{"open", WH_CATALOG_OPEN, false}, {"enforced", WH_CATALOG_ENFORCED, false}, {NULL}
	};

	define_string("webhooks.retention", "How long events and attempts are kept.", &retention_text,
				  "30 days", &wh_hooks_interval);
	define_string("webhooks.dead_letter_retention", "How long dead letters are kept.",
				  &dead_letter_retention_text, "90 days", &wh_hooks_interval);
	define_string("webhooks.inbox_retention", "How long messages that came in are kept.",
				  &inbox_retention_text, "30 days", &wh_hooks_interval);
	define_bool("webhooks.store_unmatched", "Whether events that no endpoint takes are stored.",
				&wh_store_unmatched);
	define_string("webhooks.idempotency_window",
				  "How long a repeated idempotency_key gives the first event.",
				  &idempotency_window_text, "24 hours",
				  &wh_hooks_idempotency_window);
	DefineCustomEnumVariable("webhooks.event_catalog",
							 "Whether event types have to be registered: open or enforced.", NULL,
							 &wh_event_catalog, wh_event_catalog, catalogs, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
}

static void
define_health_settings(void)
{
	define_int("webhooks.failing_alert",
			   "Dead letters within an hour that raise webhooks.endpoint_failing; 0 for never.",
			   &wh_failing_alert, (IntRange) {0, 100000, 0});
	define_string("webhooks.auto_disable_after",
				  "How long an endpoint may do nothing but fail until it is disabled; 0 for ever.",
				  &auto_disable_after_text, "5 days", &wh_hooks_auto_disable_after);
	define_int("webhooks.auto_disable_dead_letters",
			   "Dead letters within 24 hours that disable an endpoint; 0 for never.",
			   &wh_auto_disable_dead_letters, (IntRange) {0, 100000, 0});
}

static emit_log_hook_type next_emit_log_hook = NULL;

/* A reload logs what it changes, and a proxy's URL may hold a password. */
static void
hide_proxy(ErrorData *edata)
{
	if (edata->message_id && edata->message &&
		strcmp(edata->message_id, "parameter \"%s\" changed to \"%s\"") == 0 &&
		strstr(edata->message, "\"" WH_PROXY_SETTING "\"") != NULL)
		edata->message = MemoryContextStrdup(edata->assoc_context,
											 "parameter \"" WH_PROXY_SETTING "\" changed");
	if (next_emit_log_hook)
		next_emit_log_hook(edata);
}

static void
keep_proxy_from_log(void)
{
	next_emit_log_hook = emit_log_hook;
	emit_log_hook = hide_proxy;
}

static bool
tenant_is_set_by_client(void)
{
	const struct config_generic *setting = wh_find_setting("webhooks.tenant_id");

	return setting && setting->reset_source == PGC_S_CLIENT;
}

/*
 * PostgreSQL refuses a connection whose options (PGOPTIONS) set what its user may not set. Of a
 * library that is not preloaded it takes any option, which hides what ALTER ROLE … SET says, and
 * drops it here: the session would belong to no tenant at all. So it is refused here.
 */
void
wh_settings_define(void)
{
	bool		tenant_by_client = tenant_is_set_by_client();

	define_delivery_settings();
	define_safety_settings();
	define_secret_settings();
	define_storage_settings();
	define_health_settings();
	keep_proxy_from_log();
	MarkGUCPrefixReserved("webhooks");
	if (tenant_by_client && !tenant_is_set_by_client())
		ereport(FATAL,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set parameter \"webhooks.tenant_id\"")));
}
