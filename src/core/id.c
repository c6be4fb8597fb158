/*
 * Ids are built byte by byte, most significant first, so they are the same on every platform.
 *
 * A delivery id is mixed, not hashed: the server makes both ids of the pair from strong random
 * numbers, so nobody can choose them to make two deliveries collide, and mixing cannot fail.
 */
#include "core/id.h"

#include <string.h>

#define VERSION_7 0x70
#define VARIANT 0x80			/* RFC 9562, 4.1 */

static uint64_t
read_half(const unsigned char *bytes)
{
	uint64_t	half = 0;

	for (int i = 0; i < 8; i++)
		half = half << 8 | bytes[i];
	return half;
}

static void
write_half(unsigned char *bytes, uint64_t half)
{
	for (int i = 7; i >= 0; i--, half >>= 8)
		bytes[i] = (unsigned char) half;
}

/* Writes 62 bits of tail and the variant. */
static void
write_tail(unsigned char id[WH_ID_LEN], uint64_t tail)
{
	write_half(id + 8, tail);
	id[8] = (id[8] & 0x3F) | VARIANT;
}

/* The finalizer of SplitMix64: one to one, and each bit of half sways all bits of the result. */
static uint64_t
mix(uint64_t half)
{
	half = (half ^ half >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	half = (half ^ half >> 27) * UINT64_C(0x94D049BB133111EB);
	return half ^ half >> 31;
}

void
wh_id_v7(unsigned char id[WH_ID_LEN], uint64_t time_tick, uint64_t random)
{
	/* The version goes between the milliseconds and the 12 bits of fraction. */
	write_half(id, time_tick >> 12 << 16 | (time_tick & 0xFFF));
	id[6] |= VERSION_7;
	write_tail(id, random);
}

void
wh_id_delivery(unsigned char delivery_id[WH_ID_LEN], const unsigned char event_id[WH_ID_LEN],
			   const unsigned char endpoint_id[WH_ID_LEN])
{
	uint64_t	tail = mix(read_half(endpoint_id));

	tail = mix(tail ^ read_half(endpoint_id + 8));
	tail = mix(tail ^ read_half(event_id + 8));

	memcpy(delivery_id, event_id, 8);
	write_tail(delivery_id, tail);
}

void
wh_id_text(char text[WH_ID_TEXT_SIZE], const unsigned char id[WH_ID_LEN])
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < WH_ID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*text++ = '-';
		*text++ = digits[id[i] >> 4];
		*text++ = digits[id[i] & 0xF];
	}
	*text = '\0';
}
