/*
 * Settings whose text has a meaning: lists, intervals, names. They are judged and parsed when they
 * are set, so that nothing that reads a setting has to doubt it.
 *
 * Check hooks also run in the postmaster, where an ERROR would end the server: they report through
 * GUC_check_errdetail and allocate what guc.c frees itself as it does.
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "compat.h"
#include "datatype/timestamp.h"
#include "setting_values.h"
#include "settings.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#define PORTS_MAX 64

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

static const WhRetrySchedule *retry_schedule = NULL;
static const WhStatusSet *retry_on = NULL;
static const NetworkList *allowed_networks = NULL;
static const NetworkList *blocked_networks = NULL;
static const PortList *allowed_ports = NULL;
static const int64 *idempotency_window_ms = NULL;
static const char *auto_disable_after = NULL;

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
	WhRetrySchedule *schedule = wh_setting_alloc(sizeof(WhRetrySchedule));
	char		bad[64];

	if (schedule == NULL)
		return false;
	if (!each_item(*newval, take_wait, schedule, bad))
	{
		GUC_check_errdetail("\"%s\" is not a wait between 0 and 366 days, or one too many: "
							"at most %d are allowed.",
							bad, WH_RETRY_WAITS_MAX);
		wh_setting_free(schedule);
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
	WhStatusSet *set = wh_setting_alloc(sizeof(WhStatusSet));

	if (set == NULL)
		return false;
	if (!wh_status_set_parse(*newval, set))
	{
		GUC_check_errdetail("A list of statuses such as \"408,425,429,5xx\", or \"*\", is wanted.");
		wh_setting_free(set);
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
	list = wh_setting_alloc(offsetof(NetworkList, networks) + items * sizeof(WhNetwork));
	if (list == NULL)
		return false;
	if (!each_item(*newval, take_network, list, bad))
	{
		GUC_check_errdetail("\"%s\" is not a network such as \"10.0.0.0/8\" or \"fd00::/8\".", bad);
		wh_setting_free(list);
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
	PortList *list = wh_setting_alloc(sizeof(PortList));
	char		bad[64];

	if (list == NULL)
		return false;
	if (!each_item(*newval, take_port, list, bad))
	{
		GUC_check_errdetail("\"%s\" is not a port between 1 and 65535, or one too many: "
							"at most %d are allowed.",
							bad, PORTS_MAX);
		wh_setting_free(list);
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
	GUC_check_errmsg("invalid value for parameter \"%s\"", WH_PROXY_SETTING);
	GUC_check_errdetail("A proxy such as \"http://proxy.example:3128\" is wanted: "
						"http, https or socks5h, a host, a port, and nothing after it.");
	return false;
}

/* Its milliseconds are the extra. */
static bool
check_interval(char **newval, void **extra, GucSource source)
{
	int64	   *ms = wh_setting_alloc(sizeof(int64));

	if (ms == NULL)
		return false;
	if (!parse_interval_ms(*newval, ms) || *ms < 0)
	{
		GUC_check_errdetail("An interval between 0 and 36500 days such as \"30 days\" is wanted.");
		wh_setting_free(ms);
		return false;
	}
	*extra = ms;
	return true;
}

static void
assign_idempotency_window(const char *newval, void *extra)
{
	idempotency_window_ms = extra;
}

static void
assign_auto_disable_after(const char *newval, void *extra)
{
	auto_disable_after = *(int64 *) extra > 0 ? newval : NULL;
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

const WhSettingHooks wh_hooks_retry_schedule = {check_retry_schedule, assign_retry_schedule};
const WhSettingHooks wh_hooks_retry_on = {check_retry_on, assign_retry_on};
const WhSettingHooks wh_hooks_allowed_networks = {check_networks, assign_allowed_networks};
const WhSettingHooks wh_hooks_blocked_networks = {check_networks, assign_blocked_networks};
const WhSettingHooks wh_hooks_allowed_ports = {check_ports, assign_ports};
const WhSettingHooks wh_hooks_proxy = {check_proxy, NULL};
const WhSettingHooks wh_hooks_interval = {check_interval, NULL};
const WhSettingHooks wh_hooks_idempotency_window = {check_interval, assign_idempotency_window};
const WhSettingHooks wh_hooks_auto_disable_after = {check_interval, assign_auto_disable_after};
const WhSettingHooks wh_hooks_header_prefix = {check_header_prefix, NULL};
const WhSettingHooks wh_hooks_user_agent = {check_user_agent, NULL};

const WhRetrySchedule *
wh_setting_retry_schedule(void)
{
	return retry_schedule;
}

const char *
wh_setting_auto_disable_after(void)
{
	return auto_disable_after;
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
