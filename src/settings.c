/*
 * Defines the webhooks.* settings and refuses bad values when they are set, so that nothing that
 * reads a setting has to doubt it.
 *
 * Check hooks also run in the postmaster, where an ERROR would end the server: they report through
 * GUC_check_errdetail and allocate with malloc, as guc.c wants of what it frees itself.
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "datatype/timestamp.h"
#include "settings.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/timestamp.h"

#define PORTS_MAX 64
#define PROXY_SETTING "webhooks.proxy"

typedef struct NetworkList
{
	int			count;
	WhNetwork	networks[FLEXIBLE_ARRAY_MEMBER];
} NetworkList;

typedef struct PortList
{
	int			count;			/* 0: every port */
	int			ports[PORTS_MAX];
} PortList;

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

static const WhRetrySchedule *retry_schedule = NULL;
static const WhStatusSet *retry_on = NULL;
static const NetworkList *allowed_networks = NULL;
static const NetworkList *blocked_networks = NULL;
static const PortList *allowed_ports = NULL;
static const int64 *idempotency_window_ms = NULL;

/*
 * Calls take(item, state) for each comma-separated item of text, trimmed. An empty text has no
 * items; false ends the walk. Returns false when take did, with the item in *bad.
 */
static bool
each_item(const char *text, bool (*take) (const char *item, void *state), void *state, char bad[64])
{
	const char *start = text;

	while (isspace((unsigned char) *start))
		start++;
	if (*start == '\0')
		return true;

	for (;;)
	{
		const char *end = strchr(start, ',');
		size_t		len = end ? (size_t) (end - start) : strlen(start);
		char		item[64];

		while (len > 0 && isspace((unsigned char) *start))
			start++, len--;
		while (len > 0 && isspace((unsigned char) start[len - 1]))
			len--;
		strlcpy(item, start, Min(len + 1, sizeof(item)));
		if (len == 0 || len >= sizeof(item) || !take(item, state))
		{
			strlcpy(bad, item, sizeof(item));
			return false;
		}
		if (end == NULL)
			return true;
		start = end + 1;
	}
}

/* Reads an interval as interval_in does, but never raises. A month counts thirty days. */
static bool
parse_interval_ms(const char *text, int64 *ms)
{
	char		work[MAXDATELEN + MAXDATEFIELDS];
	char	   *field[MAXDATEFIELDS];
	int			ftype[MAXDATEFIELDS];
	int			nf;
	int			dtype;
	struct pg_itm_in itm;
	double		days;

	memset(&itm, 0, sizeof(itm));
	if (ParseDateTime(text, work, sizeof(work), field, ftype, MAXDATEFIELDS, &nf) != 0 ||
		DecodeInterval(field, ftype, nf, INTERVAL_FULL_RANGE, &dtype, &itm) != 0 ||
		dtype != DTK_DELTA)
		return false;

	days = itm.tm_year * 360.0 + itm.tm_mon * 30.0 + itm.tm_mday;
	if (fabs(days) > 36500)
		return false;
	*ms = (int64) days * 86400 * 1000 + itm.tm_usec / 1000;
	return true;
}

static bool
take_wait(const char *item, void *state)
{
	WhRetrySchedule *schedule = state;
	int64		ms;

	if (schedule->wait_count >= WH_RETRY_WAITS_MAX ||
		!parse_interval_ms(item, &ms) || ms < 0 || ms > WH_RETRY_WAIT_MAX_MS)
		return false;
	schedule->waits_ms[schedule->wait_count++] = ms;
	return true;
}

static bool
check_retry_schedule(char **newval, void **extra, GucSource source)
{
	WhRetrySchedule *schedule = calloc(1, sizeof(WhRetrySchedule));
	char		bad[64];

	if (schedule == NULL)
		return false;
	if (!each_item(*newval, take_wait, schedule, bad))
	{
		GUC_check_errdetail("\"%s\" is not a wait between 0 and 366 days, or one too many: "
							"at most %d are allowed.",
							bad, WH_RETRY_WAITS_MAX);
		free(schedule);
		return false;
	}
	*extra = schedule;
	return true;
}

static void
assign_retry_schedule(const char *newval, void *extra)
{
	retry_schedule = extra;
}

static bool
check_retry_on(char **newval, void **extra, GucSource source)
{
	WhStatusSet *set = calloc(1, sizeof(WhStatusSet));

	if (set == NULL)
		return false;
	if (!wh_status_set_parse(*newval, set))
	{
		GUC_check_errdetail("A list of statuses such as \"408,425,429,5xx\", or \"*\", is wanted.");
		free(set);
		return false;
	}
	*extra = set;
	return true;
}

static void
assign_retry_on(const char *newval, void *extra)
{
	retry_on = extra;
}

static bool
take_network(const char *item, void *state)
{
	NetworkList *list = state;

	return wh_network_parse(item, &list->networks[list->count++]);
}

static bool
check_networks(char **newval, void **extra, GucSource source)
{
	NetworkList *list;
	size_t		items = 1;
	char		bad[64];

	for (const char *c = *newval; *c; c++)
		items += *c == ',';
	list = calloc(1, offsetof(NetworkList, networks) + items * sizeof(WhNetwork));
	if (list == NULL)
		return false;
	if (!each_item(*newval, take_network, list, bad))
	{
		GUC_check_errdetail("\"%s\" is not a network such as \"10.0.0.0/8\" or \"fd00::/8\".", bad);
		free(list);
		return false;
	}
	*extra = list;
	return true;
}

static void
assign_allowed_networks(const char *newval, void *extra)
{
	allowed_networks = extra;
}

static void
assign_blocked_networks(const char *newval, void *extra)
{
	blocked_networks = extra;
}

static bool
take_port(const char *item, void *state)
{
	PortList *list = state;
	char	   *end;
	long		port = strtol(item, &end, 10);

	if (list->count >= PORTS_MAX || !isdigit((unsigned char) *item) || *end != '\0' ||
		port < 1 || port > 65535)
		return false;
	list->ports[list->count++] = (int) port;
	return true;
}

static bool
check_ports(char **newval, void **extra, GucSource source)
{
	PortList *list = calloc(1, sizeof(PortList));
	char		bad[64];

	if (list == NULL)
		return false;
	if (!each_item(*newval, take_port, list, bad))
	{
		GUC_check_errdetail("\"%s\" is not a port between 1 and 65535, or one too many: "
							"at most %d are allowed.",
							bad, PORTS_MAX);
		free(list);
		return false;
	}
	*extra = list;
	return true;
}

static void
assign_ports(const char *newval, void *extra)
{
	allowed_ports = extra;
}

/*
 * The value may hold a password, so no message may repeat it: the usual one would.
 */
static bool
check_proxy(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0' || wh_proxy_is_valid(*newval))
		return true;
	GUC_check_errmsg("invalid value for parameter \"%s\"", PROXY_SETTING);
	GUC_check_errdetail("A proxy such as \"http://proxy.example:3128\" is wanted: "
						"http, https or socks5h, a host, a port, and nothing after it.");
	return false;
}

static bool
check_interval(char **newval, void **extra, GucSource source)
{
	int64		ms;

	if (parse_interval_ms(*newval, &ms) && ms >= 0)
		return true;
	GUC_check_errdetail("An interval between 0 and 36500 days such as \"30 days\" is wanted.");
	return false;
}

static bool
check_idempotency_window(char **newval, void **extra, GucSource source)
{
	int64	   *ms;

	if (!check_interval(newval, extra, source))
		return false;
	ms = malloc(sizeof(int64));
	if (ms == NULL)
		return false;
	(void) parse_interval_ms(*newval, ms);
	*extra = ms;
	return true;
}

static void
assign_idempotency_window(const char *newval, void *extra)
{
	idempotency_window_ms = extra;
}

/* The characters of a header name: RFC 9110, 5.6.2 (token), less those no webhook header uses. */
static bool
check_header_prefix(char **newval, void **extra, GucSource source)
{
	size_t		len = strlen(*newval);

	if (len >= 1 && len <= 64 &&
		strspn(*newval, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == len)
		return true;
	GUC_check_errdetail("A prefix of 1 to 64 letters, digits and hyphens is wanted.");
	return false;
}

static bool
check_user_agent(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) <= 256)
	{
		const char *c = *newval;

		while (*c >= ' ' && *c <= '~')
			c++;
		if (*c == '\0')
			return true;
	}
	GUC_check_errdetail("At most 256 printable ASCII characters are wanted.");
	return false;
}

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

typedef struct StringHooks
{
	GucStringCheckHook check;
	GucStringAssignHook assign;
} StringHooks;

static void
define_string(const char *name, const char *desc, char **variable, const char *boot,
			  StringHooks hooks)
{
	DefineCustomStringVariable(name, desc, NULL, variable, boot, PGC_SIGHUP, 0,
							   hooks.check, hooks.assign, NULL);
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
				  (StringHooks) {check_retry_schedule, assign_retry_schedule});
	DefineCustomRealVariable("webhooks.retry_jitter",
							 "Adds at random up to this share to each wait.", NULL,
							 &wh_retry_jitter, wh_retry_jitter, 0, 1, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	define_string("webhooks.retry_on", "Statuses after which a delivery is tried again, or *.",
				  &retry_on_text, "408,425,429,5xx",
				  (StringHooks) {check_retry_on, assign_retry_on});
	define_int("webhooks.max_payload_size", "Size that an event's payload may have as text.",
			   &wh_max_payload_bytes, (IntRange) {1, 64 * 1024 * 1024, GUC_UNIT_BYTE});
	define_int("webhooks.response_body_limit", "How much of a response body is read and kept.",
			   &wh_response_body_limit_bytes, (IntRange) {0, 1024 * 1024, GUC_UNIT_BYTE});
	define_string("webhooks.header_prefix",
				  "What the names of the id, timestamp and signature headers begin with.",
				  &wh_header_prefix, "webhook-", (StringHooks) {check_header_prefix, NULL});
	define_string("webhooks.user_agent", "The User-Agent header of requests.", &wh_user_agent,
				  "pg-webhooks/" WH_VERSION, (StringHooks) {check_user_agent, NULL});
}

static void
define_safety_settings(void)
{
	define_bool("webhooks.allow_http", "Whether http URLs are allowed beside https.",
				&wh_allow_http);
	define_string("webhooks.allowed_networks",
				  "Networks that may be connected to though they are not public.",
				  &allowed_networks_text, "",
				  (StringHooks) {check_networks, assign_allowed_networks});
	define_string("webhooks.blocked_networks",
				  "Networks that may not be connected to; wins over allowed_networks.",
				  &blocked_networks_text, "",
				  (StringHooks) {check_networks, assign_blocked_networks});
	define_string("webhooks.allowed_ports", "Ports that URLs may name; empty for every port.",
				  &allowed_ports_text, "", (StringHooks) {check_ports, assign_ports});
	define_string("webhooks.ca_file", "Certificates to trust instead of the system's, in PEM.",
				  &wh_ca_file, "", (StringHooks) {NULL, NULL});
	DefineCustomStringVariable(PROXY_SETTING,
							   "The proxy that requests go through; empty for none.", NULL,
							   &wh_proxy, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   check_proxy, NULL, NULL);
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
				  "30 days", (StringHooks) {check_interval, NULL});
	define_string("webhooks.dead_letter_retention", "How long dead letters are kept.",
				  &dead_letter_retention_text, "90 days", (StringHooks) {check_interval, NULL});
	define_string("webhooks.inbox_retention", "How long messages that came in are kept.",
				  &inbox_retention_text, "30 days", (StringHooks) {check_interval, NULL});
	define_bool("webhooks.store_unmatched", "Whether events that no endpoint takes are stored.",
				&wh_store_unmatched);
	define_string("webhooks.idempotency_window",
				  "How long a repeated idempotency_key gives the first event.",
				  &idempotency_window_text, "24 hours",
				  (StringHooks) {check_idempotency_window, assign_idempotency_window});
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
				  &auto_disable_after_text, "5 days", (StringHooks) {check_interval, NULL});
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
		strstr(edata->message, "\"" PROXY_SETTING "\"") != NULL)
		edata->message = MemoryContextStrdup(edata->assoc_context,
											 "parameter \"" PROXY_SETTING "\" changed");
	if (next_emit_log_hook)
		next_emit_log_hook(edata);
}

static void
keep_proxy_from_log(void)
{
	next_emit_log_hook = emit_log_hook;
	emit_log_hook = hide_proxy;
}

static const struct config_generic *
find_tenant_setting(void)
{
	struct config_generic **settings = get_guc_variables();

	for (int i = 0; i < GetNumConfigOptions(); i++)
		if (strcmp(settings[i]->name, "webhooks.tenant_id") == 0)
			return settings[i];
	return NULL;
}

/*
 * PostgreSQL refuses a connection whose options (PGOPTIONS) set what its user may not set. Of a
 * library that is not preloaded it takes any option, which hides what ALTER ROLE … SET says, and
 * drops it here: the session would belong to no tenant at all. So it is refused here.
 */
void
wh_settings_define(void)
{
	const struct config_generic *before = find_tenant_setting();
	bool		tenant_by_client = before && before->reset_source == PGC_S_CLIENT;

	define_delivery_settings();
	define_safety_settings();
	define_secret_settings();
	define_storage_settings();
	define_health_settings();
	keep_proxy_from_log();
	MarkGUCPrefixReserved("webhooks");
	if (tenant_by_client && find_tenant_setting()->reset_source != PGC_S_CLIENT)
		ereport(FATAL,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set parameter \"webhooks.tenant_id\"")));
}

const WhRetrySchedule *
wh_setting_retry_schedule(void)
{
	return retry_schedule;
}

const char *
wh_setting_auto_disable_after(void)
{
	int64		ms;

	if (!parse_interval_ms(auto_disable_after_text, &ms) || ms <= 0)
		return NULL;
	return auto_disable_after_text;
}

const WhStatusSet *
wh_setting_retry_on(void)
{
	return retry_on;
}

int64
wh_setting_idempotency_window_ms(void)
{
	return *idempotency_window_ms;
}

WhUrlRules
wh_setting_url_rules(void)
{
	return (WhUrlRules)
	{
		.allow_http = wh_allow_http,
		.proxied = wh_proxy[0] != '\0',
		.ports = allowed_ports->ports,
		.port_count = allowed_ports->count,
		.addresses = {
			.allowed = allowed_networks->networks,
			.allowed_count = allowed_networks->count,
			.blocked = blocked_networks->networks,
			.blocked_count = blocked_networks->count
		}
	};
}
