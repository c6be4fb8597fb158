/*
 * Ids. The delivery ids expected here are stored in databases: they may not change.
 */
#include "core/id.h"

#include <stdlib.h>

#include "tap.h"

static const char *
format(const unsigned char id[WH_ID_LEN])
{
	static char text[37];
	char	   *end = text;

	for (int i = 0; i < WH_ID_LEN; i++)
		end += sprintf(end, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", id[i]);
	return text;
}

typedef struct V7Case
{
	const char *name;
	uint64_t	time_tick;
	uint64_t	random;
	const char *id;
} V7Case;

static const V7Case v7_cases[] = {
	{"the example of RFC 9562, A.6", UINT64_C(0x017F22E279B0) << 12 | 0xCC3,
	UINT64_C(0x18C4DC0C0C07398F), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"},
	{"nothing but version and variant", 0, 0, "00000000-0000-7000-8000-000000000000"},
	{"version and variant stand against all ones", UINT64_MAX, UINT64_MAX,
	"ffffffff-ffff-7fff-bfff-ffffffffffff"},
	{"the fraction's last step is below the next millisecond", 0x1FFF, 0,
	"00000000-0001-7fff-8000-000000000000"},
	{"the next millisecond", 0x2000, 0, "00000000-0002-7000-8000-000000000000"},
};

static void
test_v7(void)
{
	unsigned char before[WH_ID_LEN];
	unsigned char after[WH_ID_LEN];
	bool		grows = true;

	for (size_t i = 0; i < COUNT(v7_cases); i++)
	{
		unsigned char id[WH_ID_LEN];

		wh_id_v7(id, v7_cases[i].time_tick, v7_cases[i].random);
		is_text(format(id), v7_cases[i].id, v7_cases[i].name);
	}

	wh_id_v7(before, 0, UINT64_MAX);
	for (uint64_t tick = 1; tick < 100000; tick++)
	{
		wh_id_v7(after, tick, tick % 2 ? 0 : UINT64_MAX);
		grows = grows && memcmp(before, after, WH_ID_LEN) < 0;
		memcpy(before, after, WH_ID_LEN);
	}
	ok(grows, "growing ticks give growing ids, whatever the random bits");
}

static void
test_delivery(void)
{
	unsigned char a[WH_ID_LEN];
	unsigned char b[WH_ID_LEN];
	unsigned char delivery[WH_ID_LEN];

	wh_id_v7(a, UINT64_C(0x019aaf2c5a00abc), UINT64_C(0x0123456789abcdef));
	wh_id_v7(b, UINT64_C(0x019aaf2c5a01def), UINT64_C(0x3fedcba987654321));

	wh_id_delivery(delivery, a, b);
	is_text(format(delivery), "019aaf2c-5a00-7abc-9ba5-4f5daff21618",
			"a delivery id is what it was when first stored");
	wh_id_delivery(delivery, b, a);
	is_text(format(delivery), "019aaf2c-5a01-7def-a59a-761bb337b4a4",
			"event and endpoint do not change places");
	wh_id_delivery(a, a, b);
	is_text(format(a), "019aaf2c-5a00-7abc-9ba5-4f5daff21618",
			"a delivery id may be written over its event's");
}

#define EVENTS 200
#define ENDPOINTS 200

static int
compare(const void *left, const void *right)
{
	return memcmp(left, right, WH_ID_LEN);
}

/* The worst there is: events of one tick, endpoints of one tick, ids that differ in one bit. */
static void
test_collisions(void)
{
	static unsigned char ids[EVENTS * ENDPOINTS][WH_ID_LEN];
	size_t		count = 0;
	bool		distinct = true;

	for (uint64_t event = 0; event < EVENTS; event++)
		for (uint64_t endpoint = 0; endpoint < ENDPOINTS; endpoint++)
		{
			unsigned char event_id[WH_ID_LEN];
			unsigned char endpoint_id[WH_ID_LEN];

			wh_id_v7(event_id, 1, event);
			wh_id_v7(endpoint_id, 1, endpoint);
			wh_id_delivery(ids[count++], event_id, endpoint_id);
		}
	qsort(ids, count, WH_ID_LEN, compare);
	for (size_t i = 1; i < count; i++)
		distinct = distinct && compare(ids[i - 1], ids[i]) != 0;
	ok(distinct, "different pairs have different delivery ids");
}

static void
test_endpoint_time(void)
{
	unsigned char event[WH_ID_LEN];
	unsigned char endpoint[WH_ID_LEN];
	unsigned char one[WH_ID_LEN];
	unsigned char other[WH_ID_LEN];

	wh_id_v7(event, 1, 1);
	wh_id_v7(endpoint, 1, 1);
	wh_id_delivery(one, event, endpoint);
	wh_id_v7(endpoint, 2, 1);
	wh_id_delivery(other, event, endpoint);
	ok(memcmp(one, other, WH_ID_LEN) != 0, "the endpoint's time counts as its random bits do");
}

static void
test_text(void)
{
	unsigned char id[WH_ID_LEN] = {
		0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0x80, 0, 0x0F, 0xF0, 1, 2, 3, 0xFF
	};
	char		text[WH_ID_TEXT_SIZE];

	wh_id_text(text, id);
	is_text(text, "01234567-89ab-cdef-8000-0ff0010203ff", "an id is written in lower case");
}

int
main(void)
{
	test_text();
	test_v7();
	test_delivery();
	test_collisions();
	test_endpoint_time();
	return done();
}
