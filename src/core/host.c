/*
 * The reading of hosts. Stricter than any resolver: what two of them might read differently is
 * neither a name nor an address here.
 */
#include "core/host.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>

#define LABEL_MAX 63
#define IPV4_PARTS_MAX 4

#define DIGITS "0123456789"
#define HEX_DIGITS DIGITS "abcdefABCDEF"
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "-_."

static WhHost
neither(const char *error)
{
	return (WhHost) {.kind = WH_HOST_NEITHER, .error = error};
}

static WhHost
invalid_address(void)
{
	return neither("its host is not a valid address");
}

static WhHost
read_ipv6(const char *host, size_t len)
{
	WhHost		result = {.kind = WH_HOST_ADDRESS, .address.ipv6.sin6_family = AF_INET6};
	char		text[INET6_ADDRSTRLEN];

	if (len < 2 || host[len - 1] != ']' || len - 2 >= sizeof(text))
		return invalid_address();
	memcpy(text, host + 1, len - 2);
	text[len - 2] = '\0';
	if (inet_pton(AF_INET6, text, &result.address.ipv6.sin6_addr) != 1)
		return invalid_address();
	return result;
}

static bool
is_hex(const char *label, size_t len)
{
	return len >= 2 && label[0] == '0' && (label[1] == 'x' || label[1] == 'X') &&
		strspn(label + 2, HEX_DIGITS) >= len - 2;
}

/* "0x" alone is none to inet_aton and zero to a browser, so it must not pass for a name. */
static bool
looks_like_number(const char *label, size_t len)
{
	return len > 0 && (strspn(label, DIGITS) >= len || is_hex(label, len));
}

static int
digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return (c | 0x20) - 'a' + 10;
}

/* Reads a number in the base that it is written in. False: it is none, or over 32 bits. */
static bool
read_number(const char *label, size_t len, uint32_t *number)
{
	int			base = 10;
	uint64_t	value = 0;

	if (is_hex(label, len))
	{
		base = 16;
		label += 2;
		len -= 2;
	}
	else if (len > 1 && label[0] == '0')
		base = 8;
	if (len == 0 || (base != 16 && strspn(label, DIGITS) < len))
		return false;
	for (size_t i = 0; i < len; i++)
	{
		int			digit = digit_value(label[i]);

		if (digit >= base)
			return false;
		value = value * (uint64_t) base + (uint64_t) digit;
		if (value > UINT32_MAX)
			return false;
	}
	*number = (uint32_t) value;
	return true;
}

/* Each part is a byte, save the last, which fills what is left of the four. */
static WhHost
read_ipv4(const char *host, size_t len)
{
	WhHost		result = {.kind = WH_HOST_ADDRESS, .address.ipv4.sin_family = AF_INET};
	const char *end = host + len;
	uint32_t	address = 0;

	for (int part = 0; part < IPV4_PARTS_MAX; part++)
	{
		size_t		label_len = strcspn(host, ".");
		bool		last = host + label_len >= end;
		uint32_t	number;

		if (!read_number(host, label_len, &number) ||
			(uint64_t) number >> (last ? 8 * (IPV4_PARTS_MAX - part) : 8) != 0)
			return invalid_address();
		if (last)
		{
			result.address.ipv4.sin_addr.s_addr = htonl(address | number);
			return result;
		}
		address |= number << (8 * (IPV4_PARTS_MAX - 1 - part));
		host += label_len + 1;
	}
	return invalid_address();
}

/* Whether the labels, the last of which may be empty, can be a name's. */
static const char *
label_error(const char *host, size_t len)
{
	const char *end = host + len;

	while (host < end)
	{
		size_t		label_len = strcspn(host, ".");

		if (label_len == 0)
			return "its host has an empty label";
		if (label_len > LABEL_MAX)
			return "its host has a label of more than 63 bytes";
		host += label_len + 1;
	}
	return NULL;
}

WhHost
wh_host_read(const char *host)
{
	size_t		len = strlen(host);
	bool		dot_at_end = len > 1 && host[len - 1] == '.';
	const char *last;
	const char *error;

	if (len == 0)
		return neither("its host is empty");
	if (host[0] == '[')
		return read_ipv6(host, len);
	for (const char *c = host; *c; c++)
		if ((unsigned char) *c >= 0x80)
			return neither("its host is not ASCII: write an international name in its xn-- form");
	if (strspn(host, NAME_CHARACTERS) < len)
		return neither("its host has a character that no name has");

	last = host + len - dot_at_end;
	while (last > host && last[-1] != '.')
		last--;
	if (looks_like_number(last, (size_t) (host + len - dot_at_end - last)))
	{
		/* an address with a dot at its end is one to a browser and a name to a resolver */
		return dot_at_end ? invalid_address() : read_ipv4(host, len);
	}

	if (len - dot_at_end > WH_HOST_MAX)
		return neither("its host is longer than 253 bytes");
	error = label_error(host, len);
	return error ? neither(error) : (WhHost) {.kind = WH_HOST_NAME};
}
