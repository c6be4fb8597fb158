/*
 * libcurl's memory, as libcurl gets it. The sanitizer's malloc gives the same piece out again only
 * much later, so whatever comes back at once was kept.
 */
#include "worker/memory.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define PIECE (16 * 1024)
#define PIECES 1024				/* more than may be kept */

static char text[64 * 1024 + 1];

/* A piece of len + 1 bytes of libcurl's. */
static char *
piece(size_t len)
{
	return curl_easy_unescape(NULL, text, (int) len, NULL);
}

static bool
comes_again(size_t len)
{
	char	   *before = piece(len);
	uintptr_t	address = (uintptr_t) before;
	char	   *after;
	bool		same;

	curl_free(before);
	after = piece(len);
	same = (uintptr_t) after == address;
	curl_free(after);
	return same;
}

static void *
take_and_free(void *given)
{
	char	   *taken = piece(100);

	curl_free(given);
	return taken;
}

static void
test_order(void)
{
	char	   *first = piece(100);
	char	   *second = piece(100);
	uintptr_t	addresses[] = {(uintptr_t) first, (uintptr_t) second};

	curl_free(first);
	curl_free(second);
	first = piece(120);
	second = piece(90);
	ok((uintptr_t) first == addresses[1] && (uintptr_t) second == addresses[0],
	   "what was freed last is given out first, for about the same size");
	curl_free(first);
	curl_free(second);
}

static void
test_threads(void)
{
	pthread_t	thread;
	char	   *own = piece(100);
	char	   *given = piece(100);
	uintptr_t	address = (uintptr_t) own;
	void	   *taken = NULL;

	curl_free(own);
	pthread_create(&thread, NULL, take_and_free, given);
	pthread_join(thread, &taken);
	own = piece(100);
	ok(taken && (uintptr_t) taken != address, "another thread is given nothing of it");
	ok((uintptr_t) own == address, "and keeps nothing");
	curl_free(own);
	curl_free(taken);
}

static void
test_limits(void)
{
	static char *pieces[PIECES];
	static uintptr_t addresses[PIECES];
	int			kept = 0;

	for (int i = 0; i < PIECES; i++)
	{
		pieces[i] = piece(PIECE);
		addresses[i] = (uintptr_t) pieces[i];
	}
	for (int i = 0; i < PIECES; i++)
		curl_free(pieces[i]);
	for (int i = 0; i < PIECES; i++)
	{
		pieces[i] = piece(PIECE);
		for (int j = 0; j < PIECES; j++)
			kept += (uintptr_t) pieces[i] == addresses[j];
	}
	ok(kept > 0 && kept <= 4 * 1024 * 1024 / PIECE, "no more than 4 MB is kept");
	for (int i = 0; i < PIECES; i++)
		curl_free(pieces[i]);
	ok(!comes_again(sizeof(text) - 1), "a piece of 64 kB is not kept");
}

static void
test_contents(void)
{
	CURL	   *easy = curl_easy_init();
	char	   *private = NULL;
	char	   *escaped;
	bool		same = true;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, text);
	curl_easy_cleanup(easy);
	easy = curl_easy_init();
	ok(curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private) == CURLE_OK && private == NULL,
	   "what is to be zeros is, though it was used before");
	curl_easy_cleanup(easy);

	/* its memory grows with it */
	escaped = curl_easy_escape(NULL, "/", 1);
	curl_free(escaped);
	memset(text, '/', 20000);
	escaped = curl_easy_escape(NULL, text, 20000);
	for (int i = 0; i < 20000; i++)
		same = same && memcmp(escaped + 3 * i, "%2F", 3) == 0;
	ok(same && escaped[60000] == '\0', "what grows keeps what it holds");
	curl_free(escaped);
}

int
main(void)
{
	char	   *given;

	memset(text, 'a', sizeof(text) - 1);
	ok(wh_memory_use(), "libcurl takes it");
	ok(!comes_again(100), "nothing is kept unless a thread says so");
	wh_memory_keep();
	ok(comes_again(100), "a thread that says so keeps what it frees");
	ok(comes_again(PIECE), "and a piece of 16 kB");
	test_order();
	test_threads();
	test_limits();
	test_contents();
	given = piece(100);
	wh_memory_give_back();
	ok(!comes_again(100), "nothing is kept when it has given it back");
	curl_free(given);
	ok(strspn(given = piece(100), "a/") == 100, "and there still is memory");
	curl_free(given);
	return done();
}
