/*
 * Addresses: each special network at its first and its last address, and the public neighbours on
 * either side; then the administrator's lists.
 */
#include "core/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "tap.h"

#define BLOCKED "blocked by webhooks.blocked_networks"

typedef union Peer
{
	struct sockaddr any;
	struct sockaddr_in ipv4;
	struct sockaddr_in6 ipv6;
} Peer;

static Peer
make_peer(const char *text)
{
	Peer		peer = {.any.sa_family = strchr(text, ':') ? AF_INET6 : AF_INET};
	void	   *address = peer.any.sa_family == AF_INET6
		? (void *) &peer.ipv6.sin6_addr : (void *) &peer.ipv4.sin_addr;

	if (inet_pton(peer.any.sa_family, text, address) != 1)
		printf("# not an address: %s\n", text);
	return peer;
}

typedef struct SpecialCase
{
	const char *reason;			/* NULL for a public network */
	const char *first;
	const char *last;
} SpecialCase;

static const SpecialCase special_cases[] = {
	{"unspecified address", "0.0.0.0", "0.0.0.0"},
	{"address of this network", "0.0.0.1", "0.255.255.255"},
	{NULL, "1.0.0.0", "9.255.255.255"},
	{"private address", "10.0.0.0", "10.255.255.255"},
	{NULL, "11.0.0.0", "100.63.255.255"},
	{"shared address of a carrier-grade NAT", "100.64.0.0", "100.127.255.255"},
	{"cloud metadata address", "100.100.100.200", "100.100.100.200"},
	{NULL, "100.128.0.0", "126.255.255.255"},
	{"loopback address", "127.0.0.0", "127.255.255.255"},
	{NULL, "128.0.0.0", "168.63.129.15"},
	{"cloud metadata address", "168.63.129.16", "168.63.129.16"},
	{NULL, "168.63.129.17", "169.253.255.255"},
	{"link-local address", "169.254.0.0", "169.254.255.255"},
	{"cloud metadata address", "169.254.169.254", "169.254.169.254"},
	{"cloud metadata address", "169.254.170.2", "169.254.170.2"},
	{"cloud metadata address", "169.254.170.23", "169.254.170.23"},
	{NULL, "169.255.0.0", "172.15.255.255"},
	{"private address", "172.16.0.0", "172.31.255.255"},
	{NULL, "172.32.0.0", "191.255.255.255"},
	{"IETF protocol assignment", "192.0.0.0", "192.0.0.255"},
	{"cloud metadata address", "192.0.0.192", "192.0.0.192"},
	{NULL, "192.0.1.0", "192.0.1.255"},
	{"documentation address", "192.0.2.0", "192.0.2.255"},
	{NULL, "192.0.3.0", "192.31.195.255"},
	{"AS112 address", "192.31.196.0", "192.31.196.255"},
	{NULL, "192.31.197.0", "192.52.192.255"},
	{"AMT relay address", "192.52.193.0", "192.52.193.255"},
	{NULL, "192.52.194.0", "192.88.98.255"},
	{"6to4 relay address", "192.88.99.0", "192.88.99.255"},
	{NULL, "192.88.100.0", "192.167.255.255"},
	{"private address", "192.168.0.0", "192.168.255.255"},
	{NULL, "192.169.0.0", "192.175.47.255"},
	{"AS112 address", "192.175.48.0", "192.175.48.255"},
	{NULL, "192.175.49.0", "198.17.255.255"},
	{"benchmarking address", "198.18.0.0", "198.19.255.255"},
	{NULL, "198.20.0.0", "198.51.99.255"},
	{"documentation address", "198.51.100.0", "198.51.100.255"},
	{NULL, "198.51.101.0", "203.0.112.255"},
	{"documentation address", "203.0.113.0", "203.0.113.255"},
	{NULL, "203.0.114.0", "223.255.255.255"},
	{"multicast address", "224.0.0.0", "239.255.255.255"},
	{"reserved address", "240.0.0.0", "255.255.255.254"},
	{"broadcast address", "255.255.255.255", "255.255.255.255"},

	{"unspecified address", "::", "::"},
	{"loopback address", "::1", "::1"},
	{"IPv4-compatible address", "::2", "::ffff:ffff"},
	{"not a global unicast address", "::1:0:0", "::fffe:ffff:ffff"},
	{"IPv4-translated address", "::ffff:0:0:0", "::ffff:0:ffff:ffff"},
	{"not a global unicast address", "::ffff:1:0:0", "64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"NAT64 address", "64:ff9b::", "64:ff9b::ffff:ffff"},
	{"not a global unicast address", "64:ff9b::1:0:0", "64:ff9b:0:ffff:ffff:ffff:ffff:ffff"},
	{"NAT64 address", "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"},
	{"not a global unicast address", "64:ff9b:2::", "ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"discard-only address", "100::", "100::ffff:ffff:ffff:ffff"},
	{"dummy address", "100:0:0:1::", "100::1:ffff:ffff:ffff:ffff"},
	{"not a global unicast address", "100:0:0:2::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"Teredo address", "2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"IETF protocol assignment", "2001:1::", "2001:1:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"benchmarking address", "2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff"},
	{"IETF protocol assignment", "2001:2:1::", "2001:2:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"AMT relay address", "2001:3::", "2001:3:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"AS112 address", "2001:4:112::", "2001:4:112:ffff:ffff:ffff:ffff:ffff"},
	{"ORCHID address", "2001:10::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"drone remote ID address", "2001:30::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"IETF protocol assignment", "2001:40::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{NULL, "2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"documentation address", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"},
	{NULL, "2001:db9::", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"6to4 address", "2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{NULL, "2003::", "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff"},
	{"AS112 address", "2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff"},
	{NULL, "2620:4f:8001::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"documentation address", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{NULL, "3fff:1000::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"not a global unicast address", "4000::", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"segment routing address", "5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"not a global unicast address", "5f01::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"unique local address", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"cloud metadata address", "fd00:ec2::254", "fd00:ec2::254"},
	{"cloud metadata address", "fd00:ec2::23", "fd00:ec2::23"},
	{"cloud metadata address", "fd20:ce::254", "fd20:ce::254"},
	{"not a global unicast address", "fe00::", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"link-local address", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"site-local address", "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"multicast address", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
};

static void
test_special(void)
{
	static const WhAddressPolicy no_lists = {0};

	for (size_t i = 0; i < COUNT(special_cases); i++)
	{
		const SpecialCase *c = &special_cases[i];
		Peer		first = make_peer(c->first);
		Peer		last = make_peer(c->last);
		char		name[160];

		snprintf(name, sizeof(name), "%s to %s: %s", c->first, c->last,
				 c->reason ? c->reason : "public");
		is_text(wh_address_refusal(&no_lists, &first.any), c->reason, name);
		is_text(wh_address_refusal(&no_lists, &last.any), c->reason, name);
	}
}

/* Every IPv4 address has an IPv6 spelling, and must not gain anything by it. */
static void
test_mapped(void)
{
	static const WhAddressPolicy no_lists = {0};

	for (size_t i = 0; i < COUNT(special_cases); i++)
	{
		Peer		peer;
		char		mapped[INET6_ADDRSTRLEN];
		char		name[160];

		if (strchr(special_cases[i].last, ':') != NULL)
			continue;
		snprintf(mapped, sizeof(mapped), "::ffff:%.15s", special_cases[i].last);
		snprintf(name, sizeof(name), "%s is judged by the IPv4 address it means", mapped);
		peer = make_peer(mapped);
		is_text(wh_address_refusal(&no_lists, &peer.any), special_cases[i].reason, name);
	}
}

static void
test_families(void)
{
	static const WhAddressPolicy no_lists = {0};
	static const struct sockaddr local = {.sa_family = AF_UNIX};

	is_text(wh_address_refusal(&no_lists, &local), "neither an IPv4 nor an IPv6 address",
			"a Unix socket is refused");
}

typedef struct ListCase
{
	const char *name;
	const char *allowed;		/* one network each, or NULL for an empty list */
	const char *blocked;
	const char *peer;
	const char *refusal;
} ListCase;

static const ListCase list_cases[] = {
	{"the allowed list allows what it names", "10.0.0.0/8", NULL, "10.1.2.3", NULL},
	{"the allowed list allows nothing else",
	"10.0.0.0/8", NULL, "127.0.0.1", "loopback address"},
	{"the allowed list ends where its network ends",
	"10.0.0.0/9", NULL, "10.128.0.0", "private address"},
	{"the allowed list does not forbid what is public", "10.0.0.0/8", NULL, "8.8.8.8", NULL},
	{"a single address can be allowed", "127.0.0.1", NULL, "127.0.0.1", NULL},
	{"a single address allows no neighbour",
	"127.0.0.1", NULL, "127.0.0.2", "loopback address"},
	{"a metadata service can be allowed", "169.254.169.254", NULL, "169.254.169.254", NULL},
	{"a prefix need not end with a byte", "172.16.0.0/12", NULL, "172.31.255.255", NULL},
	{"the blocked list blocks what is public", NULL, "8.8.8.0/24", "8.8.8.8", BLOCKED},
	{"the blocked list blocks nothing else", NULL, "8.8.8.0/24", "8.8.9.8", NULL},
	{"the blocked list wins over the allowed list",
	"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", BLOCKED},
	{"the narrower network does not win", "10.1.2.3", "10.0.0.0/8", "10.1.2.3", BLOCKED},
	{"the blocked list gives the reason", NULL, "127.0.0.0/8", "127.0.0.1", BLOCKED},

	{"an IPv6 network can be allowed", "fd00::/8", NULL, "fd12:3456::1", NULL},
	{"an IPv6 network ends where it ends",
	"fd00::/16", NULL, "fd01::1", "unique local address"},
	{"an IPv6 network can be blocked", NULL, "2600::/12", "2606:4700::1", BLOCKED},
	{"a NAT64 network can be allowed", "64:ff9b::/96", NULL, "64:ff9b::808:808", NULL},
	{"an IPv4 network does not allow its NAT64 addresses",
	"10.0.0.0/8", NULL, "64:ff9b::10.0.0.1", "NAT64 address"},
	{"an IPv4 network does not allow its compatible addresses",
	"10.0.0.0/8", NULL, "::10.0.0.1", "IPv4-compatible address"},

	/* an address that stands for another */
	{"a NAT64 network allows no loopback address behind it",
	"64:ff9b::/96", NULL, "64:ff9b::127.0.0.1", "loopback address"},
	{"a NAT64 network allows no private address behind it",
	"64:ff9b::/96", NULL, "64:ff9b::10.1.2.3", "private address"},
	{"a NAT64 network allows no metadata service behind it",
	"64:ff9b::/96", NULL, "64:ff9b::169.254.169.254", "cloud metadata address"},
	{"an IPv4 network blocks its NAT64 addresses",
	"64:ff9b::/96", "8.8.8.0/24", "64:ff9b::8.8.8.8", BLOCKED},
	{"and tells so even where NAT64 is not allowed",
	NULL, "8.8.8.0/24", "64:ff9b::8.8.8.8", BLOCKED},
	{"a local NAT64 network can be allowed",
	"64:ff9b:1::/48", NULL, "64:ff9b:1::8.8.8.8", NULL},
	{"a local NAT64 network, 96 bits",
	"64:ff9b:1::/48", NULL, "64:ff9b:1:fffe::10.0.0.1", "private address"},
	{"a local NAT64 network, 64 bits",
	"64:ff9b:1::/48", NULL, "64:ff9b:1:fffe:a:0:100:0", "private address"},
	{"a local NAT64 network, 64 bits, can be allowed",
	"64:ff9b:1::/48", NULL, "64:ff9b:1:fffe:8:808:800:0", NULL},
	{"a local NAT64 network, 56 bits",
	"64:ff9b:1::/48", NULL, "64:ff9b:1:ff0a:1:203::", "private address"},
	{"a local NAT64 network, 48 bits",
	"64:ff9b:1::/48", NULL, "64:ff9b:1:7f01:1:100::", "loopback address"},
	{"a local NAT64 network, 48 bits, can be allowed",
	"64:ff9b:1::/48", NULL, "64:ff9b:1:808:8:800::", NULL},
	{"a local NAT64 network, 48 bits, is blocked by what stands behind it",
	"64:ff9b:1::/48", "8.8.8.0/24", "64:ff9b:1:808:8:800::", BLOCKED},
	{"a local NAT64 network has no address without one behind it",
	"64:ff9b:1::/48", NULL, "64:ff9b:1::", "unspecified address"},
	{"a 6to4 network can be allowed", "2002::/16", NULL, "2002:808:808::1", NULL},
	{"a 6to4 network allows no loopback address behind it",
	"2002::/16", NULL, "2002:7f00:1::1", "loopback address"},
	{"an IPv4 network blocks its 6to4 addresses",
	"2002::/16", "8.8.8.0/24", "2002:808:808::1", BLOCKED},
	{"a Teredo network can be allowed",
	"2001::/32", NULL, "2001:0:808:808:0:0:f7f7:f7f7", NULL},
	{"a Teredo network allows no private client",
	"2001::/32", NULL, "2001:0:808:808:0:0:f5ff:fffe", "private address"},
	{"a Teredo network allows no private server",
	"2001::/32", NULL, "2001:0:a00:1:0:0:f7f7:f7f7", "private address"},
	{"an IPv4 network blocks its Teredo clients",
	"2001::/32", "8.8.8.0/24", "2001:0:909:909:0:0:f7f7:f7f7", BLOCKED},
	{"compatible addresses can be allowed", "::/96", NULL, "::8.8.8.8", NULL},
	{"compatible addresses allow no loopback address",
	"::/96", NULL, "::127.0.0.1", "loopback address"},
	{"the loopback address is not one of them", "::1", NULL, "::1", NULL},
	{"an IPv4 network blocks its compatible addresses",
	"::/96", "8.8.8.0/24", "::8.8.8.8", BLOCKED},
	{"translated addresses allow no loopback address",
	"::ffff:0:0:0/96", NULL, "::ffff:0:127.0.0.1", "loopback address"},
	{"translated addresses can be allowed",
	"::ffff:0:0:0/96", NULL, "::ffff:0:8.8.8.8", NULL},
	{"what is allowed in both forms", "10.0.0.0/8", NULL, "::ffff:10.0.0.1", NULL},
	{"all of IPv6 allows no IPv4 behind NAT64",
	"::/0", NULL, "64:ff9b::10.0.0.1", "private address"},

	{"an IPv4 network allows its mapped addresses",
	"10.0.0.0/8", NULL, "::ffff:10.1.2.3", NULL},
	{"an IPv4 network blocks its mapped addresses",
	NULL, "8.8.8.0/24", "::ffff:8.8.8.8", BLOCKED},
	{"a mapped network allows the IPv4 network it means",
	"::ffff:10.0.0.0/104", NULL, "10.1.2.3", NULL},
	{"a mapped network allows its mapped addresses",
	"::ffff:10.0.0.0/104", NULL, "::ffff:10.1.2.3", NULL},
	{"a mapped network ends where it ends",
	"::ffff:10.0.0.0/105", NULL, "10.128.0.0", "private address"},
	{"a mapped network blocks the IPv4 network it means",
	NULL, "::ffff:8.8.8.0/120", "8.8.8.8", BLOCKED},

	{"all of IPv4 allows no IPv6", "0.0.0.0/0", NULL, "fd00::1", "unique local address"},
	{"all of IPv6 allows no IPv4", "::/0", NULL, "10.0.0.1", "private address"},
	{"all of IPv6 allows no IPv4 in disguise",
	"::/0", NULL, "::ffff:127.0.0.1", "loopback address"},
	{"all of IPv4 can be allowed", "0.0.0.0/0", NULL, "127.0.0.1", NULL},
	{"all of IPv6 can be blocked", NULL, "::/0", "2606:4700::1", BLOCKED},
};

static void
test_lists(void)
{
	for (size_t i = 0; i < COUNT(list_cases); i++)
	{
		const ListCase *c = &list_cases[i];
		WhNetwork	allowed = {0};
		WhNetwork	blocked = {0};
		Peer		peer = make_peer(c->peer);
		WhAddressPolicy policy = {.allowed = &allowed, .blocked = &blocked};

		policy.allowed_count = c->allowed != NULL && wh_network_parse(c->allowed, &allowed);
		policy.blocked_count = c->blocked != NULL && wh_network_parse(c->blocked, &blocked);
		is_text(wh_address_refusal(&policy, &peer.any), c->refusal, c->name);
	}
}

static void
test_later_entries(void)
{
	WhNetwork	networks[3];
	Peer		peer = make_peer("192.168.1.1");
	WhAddressPolicy policy = {.allowed = networks, .allowed_count = COUNT(networks)};

	wh_network_parse("fd00::/8", &networks[0]);
	wh_network_parse("10.0.0.0/8", &networks[1]);
	wh_network_parse("192.168.0.0/16", &networks[2]);
	is_text(wh_address_refusal(&policy, &peer.any), NULL, "a list's last entry counts");
}

typedef struct ParseCase
{
	const char *name;
	const char *text;
	bool		parsed;
	int			family;
	int			prefix_bits;
} ParseCase;

static const ParseCase parse_cases[] = {
	{"an IPv4 address is a network of 32 bits", "127.0.0.1", true, AF_INET, 32},
	{"an IPv6 address is a network of 128 bits", "::1", true, AF_INET6, 128},
	{"an IPv4 network", "10.0.0.0/8", true, AF_INET, 8},
	{"an IPv6 network", "fd00::/8", true, AF_INET6, 8},
	{"the longest spelling of an address",
	"0000:0000:0000:0000:0000:fffe:255.255.255.255/128", true, AF_INET6, 128},
	{"a prefix of 0", "0.0.0.0/0", true, AF_INET, 0},
	{"a prefix of 32", "10.0.0.1/32", true, AF_INET, 32},
	{"a prefix of 33 is too much for IPv4", "10.0.0.1/33", false, 0, 0},
	{"a prefix of 128", "::1/128", true, AF_INET6, 128},
	{"a prefix of 129 is too much", "::1/129", false, 0, 0},
	{"a prefix that overflows is too much", "10.0.0.0/4294967304", false, 0, 0},
	{"a bit to the right of the prefix is refused", "10.0.0.1/31", false, 0, 0},
	{"a bit far to the right of the prefix is refused", "10.0.0.1/8", false, 0, 0},
	{"a bit within the prefix is not", "10.0.0.2/31", true, AF_INET, 31},
	{"a bit to the right of an IPv6 prefix is refused", "fd00::1/8", false, 0, 0},
	{"a prefix of 0 leaves no bit", "128.0.0.0/0", false, 0, 0},
	{"an empty prefix is refused", "10.0.0.0/", false, 0, 0},
	{"a negative prefix is refused", "10.0.0.0/-8", false, 0, 0},
	{"a signed prefix is refused", "10.0.0.0/+8", false, 0, 0},
	{"a zero before the prefix is refused", "10.0.0.0/08", false, 0, 0},
	{"a netmask for a prefix is refused", "10.0.0.0/255.0.0.0", false, 0, 0},
	{"two prefixes are refused", "10.0.0.0/8/8", false, 0, 0},
	{"a blank before is refused", " 10.0.0.0/8", false, 0, 0},
	{"a blank after is refused", "10.0.0.0/8 ", false, 0, 0},
	{"a blank before the slash is refused", "10.0.0.0 /8", false, 0, 0},
	{"the empty text is refused", "", false, 0, 0},
	{"a prefix alone is refused", "/8", false, 0, 0},
	{"a name is refused", "localhost", false, 0, 0},
	{"an address cut short is refused", "10.0.0/8", false, 0, 0},
	{"an address as a number is refused", "2130706433", false, 0, 0},
	{"an octal octet is refused", "010.0.0.0/8", false, 0, 0},
	{"an octet above 255 is refused", "256.0.0.0/8", false, 0, 0},
	{"a zone is refused", "fe80::1%lo", false, 0, 0},
	{"brackets are refused", "[::1]", false, 0, 0},
	{"a port is refused", "127.0.0.1:80", false, 0, 0},
	{"a text one byte longer than any address is refused",
	"0000:0000:0000:0000:0000:ffff:0255.255.255.255", false, 0, 0},
};

static void
test_parse(void)
{
	for (size_t i = 0; i < COUNT(parse_cases); i++)
	{
		const ParseCase *c = &parse_cases[i];
		WhNetwork	network;
		bool		parsed = wh_network_parse(c->text, &network);

		ok(parsed == c->parsed
		   && (!parsed || (network.family == c->family && network.prefix_bits == c->prefix_bits)),
		   c->name);
	}
}

int
main(void)
{
	test_special();
	test_mapped();
	test_families();
	test_lists();
	test_later_entries();
	test_parse();
	return done();
}
