/*
 * Which network addresses the worker may connect to.
 *
 * A URL is typed in by a stranger and requested from the machine that holds the data, so every
 * address is refused that is not plainly public, unless the administrator's allowed list names it;
 * the blocked list wins over both.
 */
#ifndef WH_CORE_ADDRESS_H
#define WH_CORE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

typedef struct WhNetwork
{
	int			family;			/* AF_INET or AF_INET6 */
	unsigned char address[16];	/* network byte order; an IPv4 address uses the first four */
	int			prefix_bits;
} WhNetwork;

/* The lists are the caller's and are only read. */
typedef struct WhAddressPolicy
{
	const WhNetwork *allowed;
	size_t		allowed_count;
	const WhNetwork *blocked;
	size_t		blocked_count;
} WhAddressPolicy;

/*
 * Parses one network: an address, or address/prefix ("10.0.0.0/8", "fd00::/8", "127.0.0.1").
 * Refuses bits set to the right of the prefix, as the cidr type does. Returns false on anything
 * else.
 */
extern bool wh_network_parse(const char *text, WhNetwork *network);

/*
 * NULL when a connection to peer is allowed, else why not: a static string such as "loopback
 * address". Families other than IPv4 and IPv6 are refused. An IPv4-mapped address is the IPv4
 * address it means. Any other that stands for an IPv4 one (IPv4-compatible, IPv4-translated, NAT64,
 * 6to4, Teredo) is judged as both: it is blocked when either is, and allowed when the allowed list
 * names it and the IPv4 address would be allowed by itself.
 */
extern const char *wh_address_refusal(const WhAddressPolicy *policy, const struct sockaddr *peer);

#endif
