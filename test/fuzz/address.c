/*
 * URLs, hosts and addresses. The input is a URL, or a host, or a network of the settings: all three
 * are tried.
 */
#include "core/address.h"
#include "core/host.h"
#include "url_rules.h"

#include <ctype.h>

#include <arpa/inet.h>

#include "fuzz.h"

static const WhUrlRules rules = {.allow_http = true};

/* ---- addresses ---- */

static void
print_network(const WhNetwork *network, char *text, size_t size)
{
	char		address[INET6_ADDRSTRLEN];

	HOLDS(inet_ntop(network->family, network->address, address, sizeof(address)) != NULL);
	snprintf(text, size, "%s/%d", address, network->prefix_bits);
}

/* A network that was read is printed and read as the same one. */
static void
check_network(const char *text)
{
	WhNetwork	network;
	WhNetwork	again;
	char		printed[INET6_ADDRSTRLEN + 8];

	if (!wh_network_parse(text, &network))
		return;
	HOLDS(network.prefix_bits >= 0);
	HOLDS(network.prefix_bits <= (network.family == AF_INET ? 32 : 128));
	print_network(&network, printed, sizeof(printed));
	HOLDS(wh_network_parse(printed, &again));
	HOLDS(memcmp(&network, &again, sizeof(network)) == 0);
}

/* Naming an address blocks it, whatever is allowed, and no list makes what is public refused. */
static void
check_lists(const struct sockaddr *peer)
{
	static const WhNetwork everything[] = {{AF_INET, {0}, 0}, {AF_INET6, {0}, 0}};
	WhAddressPolicy none = {0};
	WhAddressPolicy all_allowed = {.allowed = everything, .allowed_count = 2};
	WhAddressPolicy all_blocked = {everything, 2, everything, 2};

	HOLDS(wh_address_refusal(&all_blocked, peer) != NULL);
	HOLDS(wh_address_refusal(&all_allowed, peer) == NULL);
	if (wh_address_refusal(&none, peer) == NULL)
		HOLDS(wh_address_refusal(&all_allowed, peer) == NULL);
}

/* An IPv4 address gains nothing by any of its IPv6 forms. */
static void
check_forms(const struct sockaddr_in *ipv4)
{
	static const struct
	{
		unsigned char prefix[12];
		int			at;
		WhNetwork	network;
	}			forms[] = {
		{{[10] = 0xff, 0xff}, 12, {AF_INET6, {0}, 0}},
		{{0}, 12, {AF_INET6, {0}, 0}},
		{{0x00, 0x64, 0xff, 0x9b}, 12, {AF_INET6, {0}, 0}},
		{{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 12, {AF_INET6, {0}, 0}},
		{{0x20, 0x02}, 2, {AF_INET6, {0}, 0}},
	};
	WhAddressPolicy none = {0};
	const char *refusal = wh_address_refusal(&none, (const struct sockaddr *) ipv4);

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
	{
		struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};
		WhAddressPolicy policy = {.allowed = &forms[i].network, .allowed_count = 1};

		memcpy(&ipv6.sin6_addr, forms[i].prefix, 12);
		memcpy((char *) &ipv6.sin6_addr + forms[i].at, &ipv4->sin_addr, 4);

		/* :: and ::1 are what they are */
		if (forms[i].at == 12 && forms[i].prefix[2] == 0 && forms[i].prefix[10] == 0 &&
			ntohl(ipv4->sin_addr.s_addr) <= 1)
			continue;
		if (refusal != NULL)
			HOLDS(wh_address_refusal(&policy, (struct sockaddr *) &ipv6) != NULL);
	}
}

/* ---- hosts ---- */

static bool
same_address(const WhHost *a, const WhHost *b)
{
	if (a->address.any.sa_family != b->address.any.sa_family)
		return false;
	return a->address.any.sa_family == AF_INET ?
		a->address.ipv4.sin_addr.s_addr == b->address.ipv4.sin_addr.s_addr :
		memcmp(&a->address.ipv6.sin6_addr, &b->address.ipv6.sin6_addr, 16) == 0;
}

/* What it is printed as means the same. */
static void
check_printed(const WhHost *host)
{
	char		text[INET6_ADDRSTRLEN + 3] = "[";
	WhHost		again;

	if (host->address.any.sa_family == AF_INET)
		inet_ntop(AF_INET, &host->address.ipv4.sin_addr, text, INET6_ADDRSTRLEN);
	else
	{
		inet_ntop(AF_INET6, &host->address.ipv6.sin6_addr, text + 1, INET6_ADDRSTRLEN);
		strcat(text, "]");
	}
	again = wh_host_read(text);
	HOLDS(again.kind == WH_HOST_ADDRESS && same_address(host, &again));
}

static void
check_host(const char *text, size_t len)
{
	WhHost		host = wh_host_read(text);
	WhHost		changed;
	struct in_addr address;
	char		copy[INPUT_MAX + 2];

	/* nothing that inet_aton takes passes for a name, and it means the same */
	if (strspn(text, "0123456789abcdefABCDEFxX.") == len && inet_aton(text, &address) == 1)
	{
		HOLDS(host.kind != WH_HOST_NAME);
		if (host.kind == WH_HOST_ADDRESS)
			HOLDS(host.address.ipv4.sin_addr.s_addr == address.s_addr);
	}
	HOLDS((host.kind == WH_HOST_NEITHER) == (host.error != NULL));

	for (size_t i = 0; i <= len; i++)
		copy[i] = (char) toupper((unsigned char) text[i]);
	changed = wh_host_read(copy);
	HOLDS(changed.kind == host.kind);
	if (host.kind == WH_HOST_ADDRESS)
	{
		HOLDS(same_address(&host, &changed));
		check_printed(&host);
		check_lists(&host.address.any);
		if (host.address.any.sa_family == AF_INET)
			check_forms(&host.address.ipv4);
	}

	/* a dot at the end makes a name of nothing that is none */
	memcpy(copy, text, len);
	strcpy(copy + len, ".");
	if (host.kind != WH_HOST_NAME && len > 0)
		HOLDS(wh_host_read(copy).kind == WH_HOST_NEITHER);
}

/* ---- URLs ---- */

static void
judge(const char *url, WhUrlVerdict *verdict)
{
	char		reason[WH_URL_REASON_SIZE] = "";

	*verdict = wh_url_judge(&rules, url, reason);
	HOLDS(*verdict != WH_URL_NOT_JUDGED);
	HOLDS(*verdict == WH_URL_ALLOWED || reason[0] != '\0');
}

/* What is allowed is http or https; what is refused stays refused when more is blocked. */
static void
check_url(const char *url, size_t len)
{
	static const WhNetwork everything[] = {{AF_INET, {0}, 0}, {AF_INET6, {0}, 0}};
	WhUrlRules	blocking = {
		.allow_http = true, .addresses = {.blocked = everything, .blocked_count = 2}
	};
	WhUrlRules	strict = {0};
	char		reason[WH_URL_REASON_SIZE];
	char		copy[INPUT_MAX + 1];
	WhUrlVerdict verdict;
	WhUrlVerdict changed;

	judge(url, &verdict);
	if (wh_url_judge(&strict, url, reason) == WH_URL_ALLOWED)
		HOLDS(verdict == WH_URL_ALLOWED);
	if (verdict != WH_URL_ALLOWED)
	{
		HOLDS(wh_url_judge(&blocking, url, reason) != WH_URL_ALLOWED);
		return;
	}
	HOLDS(len <= WH_URL_MAX);
	HOLDS(strncasecmp(url, "https://", 8) == 0 || strncasecmp(url, "http://", 7) == 0);
	for (size_t i = 0; i <= len; i++)
		copy[i] = (char) toupper((unsigned char) url[i]);
	judge(copy, &changed);
	HOLDS(changed == verdict);
}

static void
target(const char *text, size_t len)
{
	char		url[INPUT_MAX + 16];

	if (memchr(text, '\0', len) != NULL)
		return;
	check_network(text);
	check_host(text, len);
	check_url(text, len);
	if (len < 1000 && strcspn(text, "/?#@:") == len)
	{
		WhHost		host = wh_host_read(text);
		WhUrlVerdict verdict;

		/* a host that is neither is none in a URL, unless libcurl decodes it */
		snprintf(url, sizeof(url), "http://%s/", text);
		judge(url, &verdict);
		if (host.kind == WH_HOST_NEITHER && strchr(text, '%') == NULL)
			HOLDS(verdict != WH_URL_ALLOWED);
	}
}
