/*
 * What the host of a URL is: an address, in whatever spelling, or a name for a resolver.
 */
#ifndef WH_CORE_HOST_H
#define WH_CORE_HOST_H

#include <netinet/in.h>
#include <sys/socket.h>

#define WH_HOST_MAX 253			/* bytes, without the dot at the end; a label has 63 */

typedef enum WhHostKind
{
	WH_HOST_NAME,
	WH_HOST_ADDRESS,
	WH_HOST_NEITHER
} WhHostKind;

typedef struct WhHost
{
	WhHostKind	kind;
	union
	{
		struct sockaddr any;
		struct sockaddr_in ipv4;
		struct sockaddr_in6 ipv6;
	}			address;		/* with WH_HOST_ADDRESS */
	const char *error;			/* with WH_HOST_NEITHER: a static string that begins "its host" */
} WhHost;

/*
 * Reads a host with its percent-encoding undone: an IPv6 address in brackets and without a zone, or
 * an IPv4 address as inet_aton takes it (decimal, octal, hexadecimal, one to four parts), or a
 * name. What ends like an IPv4 address (its last label is a number) is one or neither, so that no
 * resolver decides what it means. A name is ASCII: which address another script's digits spell
 * depends on who reads them, and on the locale.
 */
extern WhHost wh_host_read(const char *host);

#endif
