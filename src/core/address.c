/*
 * The judgement over network addresses: the administrator's two lists, then a table.
 *
 * The table holds IANA's registries of special-purpose addresses, multicast, the metadata services
 * of clouds, and all of IPv6 outside its global unicast space. It holds the few special addresses
 * that are globally reachable, too: none of them is a webhook's receiver. IPv4-mapped addresses
 * are turned into IPv4 on the way in, so that no rule has to be written twice.
 *
 * Where an IPv6 address makes some gateway connect to an IPv4 one, whoever allows the former says
 * that there is a gateway, not that it may be used to get at the network behind it.
 */
#include "core/address.h"

#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#define IPV4_BITS 32
#define IPV6_BITS 128
#define MAPPED_BITS 96

/* The first row that contains an address tells why it is refused: the narrower network first. */
static const struct
{
	WhNetwork	network;
	const char *reason;
}			special_networks[] = {
	{{AF_INET, {169, 254, 169, 254}, 32}, "cloud metadata address"},
	{{AF_INET, {169, 254, 170, 2}, 32}, "cloud metadata address"},
	{{AF_INET, {169, 254, 170, 23}, 32}, "cloud metadata address"},
	{{AF_INET, {168, 63, 129, 16}, 32}, "cloud metadata address"},
	{{AF_INET, {100, 100, 100, 200}, 32}, "cloud metadata address"},
	{{AF_INET, {192, 0, 0, 192}, 32}, "cloud metadata address"},
	{{AF_INET, {0, 0, 0, 0}, 32}, "unspecified address"},
	{{AF_INET, {255, 255, 255, 255}, 32}, "broadcast address"},

	{{AF_INET, {0}, 8}, "address of this network"},
	{{AF_INET, {10}, 8}, "private address"},
	{{AF_INET, {100, 64}, 10}, "shared address of a carrier-grade NAT"},
	{{AF_INET, {127}, 8}, "loopback address"},
	{{AF_INET, {169, 254}, 16}, "link-local address"},
	{{AF_INET, {172, 16}, 12}, "private address"},
	{{AF_INET, {192, 0, 0}, 24}, "IETF protocol assignment"},
	{{AF_INET, {192, 0, 2}, 24}, "documentation address"},
	{{AF_INET, {192, 31, 196}, 24}, "AS112 address"},
	{{AF_INET, {192, 52, 193}, 24}, "AMT relay address"},
	{{AF_INET, {192, 88, 99}, 24}, "6to4 relay address"},
	{{AF_INET, {192, 168}, 16}, "private address"},
	{{AF_INET, {192, 175, 48}, 24}, "AS112 address"},
	{{AF_INET, {198, 18}, 15}, "benchmarking address"},
	{{AF_INET, {198, 51, 100}, 24}, "documentation address"},
	{{AF_INET, {203, 0, 113}, 24}, "documentation address"},
	{{AF_INET, {224}, 4}, "multicast address"},
	{{AF_INET, {240}, 4}, "reserved address"},

	{{AF_INET6, {0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, 0x54}, 128}, "cloud metadata address"},
	{{AF_INET6, {0xfd, 0x00, 0x0e, 0xc2, [15] = 0x23}, 128}, "cloud metadata address"},
	{{AF_INET6, {0xfd, 0x20, 0x00, 0xce, [14] = 0x02, 0x54}, 128}, "cloud metadata address"},
	{{AF_INET6, {0}, 128}, "unspecified address"},
	{{AF_INET6, {[15] = 0x01}, 128}, "loopback address"},

	{{AF_INET6, {0}, 96}, "IPv4-compatible address"},
	{{AF_INET6, {[8] = 0xff, 0xff}, 96}, "IPv4-translated address"},
	{{AF_INET6, {0x00, 0x64, 0xff, 0x9b}, 96}, "NAT64 address"},
	{{AF_INET6, {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48}, "NAT64 address"},
	{{AF_INET6, {0x01, 0x00}, 64}, "discard-only address"},
	{{AF_INET6, {0x01, 0x00, [7] = 0x01}, 64}, "dummy address"},
	{{AF_INET6, {0x20, 0x01, 0x00, 0x00}, 32}, "Teredo address"},
	{{AF_INET6, {0x20, 0x01, 0x00, 0x02}, 48}, "benchmarking address"},
	{{AF_INET6, {0x20, 0x01, 0x00, 0x03}, 32}, "AMT relay address"},
	{{AF_INET6, {0x20, 0x01, 0x00, 0x04, 0x01, 0x12}, 48}, "AS112 address"},
	{{AF_INET6, {0x20, 0x01, 0x00, 0x10}, 28}, "ORCHID address"},
	{{AF_INET6, {0x20, 0x01, 0x00, 0x20}, 28}, "ORCHID address"},
	{{AF_INET6, {0x20, 0x01, 0x00, 0x30}, 28}, "drone remote ID address"},
	{{AF_INET6, {0x20, 0x01}, 23}, "IETF protocol assignment"},
	{{AF_INET6, {0x20, 0x01, 0x0d, 0xb8}, 32}, "documentation address"},
	{{AF_INET6, {0x20, 0x02}, 16}, "6to4 address"},
	{{AF_INET6, {0x26, 0x20, 0x00, 0x4f, 0x80}, 48}, "AS112 address"},
	{{AF_INET6, {0x3f, 0xff}, 20}, "documentation address"},
	{{AF_INET6, {0x5f, 0x00}, 16}, "segment routing address"},
	{{AF_INET6, {0xfc}, 7}, "unique local address"},
	{{AF_INET6, {0xfe, 0x80}, 10}, "link-local address"},
	{{AF_INET6, {0xfe, 0xc0}, 10}, "site-local address"},
	{{AF_INET6, {0xff}, 8}, "multicast address"},

	/* all that lies on either side of 2000::/3 */
	{{AF_INET6, {0x00}, 3}, "not a global unicast address"},
	{{AF_INET6, {0x40}, 2}, "not a global unicast address"},
	{{AF_INET6, {0x80}, 1}, "not a global unicast address"},
};

#define SPECIAL_COUNT (sizeof(special_networks) / sizeof(special_networks[0]))

/* The bits of an address's byte that belong to the network. */
static unsigned char
mask(const WhNetwork *network, int byte)
{
	int			bits = network->prefix_bits - byte * 8;

	if (bits <= 0)
		return 0;
	return bits >= 8 ? 0xff : (unsigned char) (0xff << (8 - bits));
}

static bool
contains(const WhNetwork *network, const WhNetwork *host)
{
	if (network->family != host->family)
		return false;
	for (int i = 0; i < 16; i++)
		if ((network->address[i] ^ host->address[i]) & mask(network, i))
			return false;
	return true;
}

static bool
list_contains(const WhNetwork *list, size_t count, const WhNetwork *host)
{
	for (size_t i = 0; i < count; i++)
		if (contains(&list[i], host))
			return true;
	return false;
}

/*
 * Turns a network of IPv4-mapped addresses into the IPv4 network it means. A wider one, such as
 * ::/0, has zeros where those have ones and stays: to allow all of IPv6 is not to allow 127.0.0.1.
 */
static void
unmap(WhNetwork *network)
{
	static const WhNetwork mapped = {AF_INET6, {[10] = 0xff, 0xff}, MAPPED_BITS};

	if (!contains(&mapped, network))
		return;
	memcpy(network->address, network->address + 12, 4);
	memset(network->address + 4, 0, 12);
	network->family = AF_INET;
	network->prefix_bits -= MAPPED_BITS;
}

/* Reads the address before the slash, if there is one, as the network that has it alone. */
static bool
parse_address(const char *text, size_t len, WhNetwork *network)
{
	char		address[INET6_ADDRSTRLEN];

	if (len >= sizeof(address))
		return false;
	memcpy(address, text, len);
	address[len] = '\0';

	memset(network, 0, sizeof(*network));
	network->family = strchr(address, ':') != NULL ? AF_INET6 : AF_INET;
	network->prefix_bits = network->family == AF_INET6 ? IPV6_BITS : IPV4_BITS;
	return inet_pton(network->family, address, network->address) == 1;
}

static bool
parse_prefix(const char *text, int max, int *prefix_bits)
{
	int			bits = 0;

	if (*text == '\0' || (text[0] == '0' && text[1] != '\0'))
		return false;
	for (; *text != '\0'; text++)
	{
		if (*text < '0' || *text > '9')
			return false;
		bits = bits * 10 + (*text - '0');
		if (bits > max)
			return false;
	}
	*prefix_bits = bits;
	return true;
}

bool
wh_network_parse(const char *text, WhNetwork *network)
{
	size_t		address_len = strcspn(text, "/");

	if (!parse_address(text, address_len, network))
		return false;
	if (text[address_len] == '/'
		&& !parse_prefix(text + address_len + 1, network->prefix_bits, &network->prefix_bits))
		return false;

	for (int i = 0; i < 16; i++)
		if (network->address[i] & ~mask(network, i))
			return false;
	unmap(network);
	return true;
}

/* Reads the peer's address as the network that has it alone. */
static bool
read_peer(const struct sockaddr *peer, WhNetwork *host)
{
	memset(host, 0, sizeof(*host));
	host->family = peer->sa_family;
	if (peer->sa_family == AF_INET)
	{
		host->prefix_bits = IPV4_BITS;
		memcpy(host->address, &((const struct sockaddr_in *) peer)->sin_addr, 4);
		return true;
	}
	if (peer->sa_family == AF_INET6)
	{
		host->prefix_bits = IPV6_BITS;
		memcpy(host->address, &((const struct sockaddr_in6 *) peer)->sin6_addr, 16);
		return true;
	}
	return false;
}

/* ---- IPv4 addresses that an IPv6 address stands for ---- */

#define EMBEDDED_MAX 4

/* Where the four bytes stand, and what they are combined with by exclusive or. */
typedef struct Layout
{
	WhNetwork	network;
	unsigned char at[4];
	unsigned char flip;
	int			zeros_from;		/* what follows is zero in this layout; 16: nothing follows */
} Layout;

/*
 * 64:ff9b:1::/48 is for any of the layouts of RFC 6052 (2.2). Those that an address cannot have,
 * since its last bytes are not zero, do not count.
 */
static const Layout layouts[] = {
	{{AF_INET6, {0}, 96}, {12, 13, 14, 15}, 0, 16},
	{{AF_INET6, {[8] = 0xff, 0xff}, 96}, {12, 13, 14, 15}, 0, 16},
	{{AF_INET6, {0x00, 0x64, 0xff, 0x9b}, 96}, {12, 13, 14, 15}, 0, 16},
	{{AF_INET6, {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48}, {12, 13, 14, 15}, 0, 16},
	{{AF_INET6, {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48}, {9, 10, 11, 12}, 0, 13},
	{{AF_INET6, {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48}, {7, 9, 10, 11}, 0, 12},
	{{AF_INET6, {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48}, {6, 7, 9, 10}, 0, 11},
	{{AF_INET6, {0x20, 0x02}, 16}, {2, 3, 4, 5}, 0, 16},
	/* Teredo's server, and its client */
	{{AF_INET6, {0x20, 0x01, 0x00, 0x00}, 32}, {4, 5, 6, 7}, 0, 16},
	{{AF_INET6, {0x20, 0x01, 0x00, 0x00}, 32}, {12, 13, 14, 15}, 0xff, 16},
};

#define LAYOUT_COUNT (sizeof(layouts) / sizeof(layouts[0]))

static bool
follows_layout(const WhNetwork *host, const Layout *layout)
{
	static const WhNetwork unspecified_and_loopback = {AF_INET6, {0}, 127};

	if (!contains(&layout->network, host) || contains(&unspecified_and_loopback, host))
		return false;
	for (int i = layout->zeros_from; i < 16; i++)
		if (host->address[i] != 0)
			return false;
	return true;
}

static bool
is_zero(const WhNetwork *host)
{
	static const WhNetwork zero = {AF_INET, {0}, IPV4_BITS};

	return contains(&zero, host);
}

/*
 * Fills in the IPv4 addresses that the IPv6 address may stand for and returns their number. Zeros
 * are not one if there is another: they are then the end of a shorter layout.
 */
static int
find_embedded(const WhNetwork *host, WhNetwork embedded[EMBEDDED_MAX])
{
	int			count = 0;

	for (size_t i = 0; i < LAYOUT_COUNT; i++)
	{
		WhNetwork	ipv4 = {.family = AF_INET, .prefix_bits = IPV4_BITS};

		if (!follows_layout(host, &layouts[i]))
			continue;
		for (int byte = 0; byte < 4; byte++)
			ipv4.address[byte] = host->address[layouts[i].at[byte]] ^ layouts[i].flip;
		if (count == 1 && is_zero(&embedded[0]))
			count = 0;
		if (count == 0 || !is_zero(&ipv4))
			embedded[count++] = ipv4;
	}
	return count;
}


/* ---- the judgement ---- */

static const char *
unlisted_refusal(const WhAddressPolicy *policy, const WhNetwork *host)
{
	if (list_contains(policy->allowed, policy->allowed_count, host))
		return NULL;
	for (size_t i = 0; i < SPECIAL_COUNT; i++)
		if (contains(&special_networks[i].network, host))
			return special_networks[i].reason;
	return NULL;
}

const char *
wh_address_refusal(const WhAddressPolicy *policy, const struct sockaddr *peer)
{
	WhNetwork	hosts[1 + EMBEDDED_MAX];	/* the address, and those it stands for */
	int			count;

	if (!read_peer(peer, &hosts[0]))
		return "neither an IPv4 nor an IPv6 address";
	unmap(&hosts[0]);
	count = 1 + find_embedded(&hosts[0], &hosts[1]);

	for (int i = 0; i < count; i++)
		if (list_contains(policy->blocked, policy->blocked_count, &hosts[i]))
			return "blocked by webhooks.blocked_networks";
	for (int i = 0; i < count; i++)
	{
		const char *refusal = unlisted_refusal(policy, &hosts[i]);

		if (refusal != NULL)
			return refusal;
	}
	return NULL;
}
