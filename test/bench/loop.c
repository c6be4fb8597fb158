/*
 * What libcurl can do by itself: one thread that signs and sends requests as fast as it can, with
 * no database. The benchmarks hold a worker against it, so it must lose nothing that could be had:
 * easy handles, headers, bodies and the signing context are made once and used again, a kept
 * connection stays in the epoll set between two requests, and libcurl has a worker's memory.
 *
 * Prints requests a second, and microseconds of CPU time for each request.
 */
#include <curl/curl.h>
#include <getopt.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "worker/memory.h"

#define ID_LEN 36
#define KEY_LEN 32
#define DESCRIPTORS_MAX 4096
#define EVENTS_AT_ONCE 128
#define SECONDS_MAX 600

#define HEADERS 5
#define ID_NAME "webhook-id: "
#define TIMESTAMP_NAME "webhook-timestamp: "
#define SIGNATURE_NAME "webhook-signature: v1,"

typedef enum Drive
{
	DRIVE_SOCKET,				/* curl_multi_socket_action, on an epoll set of our own */
	DRIVE_PERFORM				/* curl_multi_perform and curl_multi_poll */
} Drive;

typedef struct Endpoint
{
	char		url[128];
	char		body[512];
	size_t		body_len;
	unsigned char key[KEY_LEN];
} Endpoint;

/* An easy handle with its headers, whose text is written anew for each request. */
typedef struct Slot
{
	CURL	   *easy;
	struct curl_slist headers[HEADERS];
	char		id[sizeof(ID_NAME) + ID_LEN];
	char		timestamp[sizeof(TIMESTAMP_NAME) + 20];
	char		signature[sizeof(SIGNATURE_NAME) + 44];
} Slot;

/* What epoll watches for on a descriptor, and whether libcurl still wants it. */
typedef struct Watch
{
	uint32_t	events;			/* 0: not in the epoll set */
	bool		wanted;
} Watch;

static struct
{
	const char *url;
	const char *ca_file;
	const char *payload;
	long		requests;
	int			endpoints;
	int			in_flight;
	Drive		drive;
} options = {.requests = 100000, .endpoints = 1000, .in_flight = 64, .payload = "{}"};

static CURLM *multi;
static int	epoll_fd;
static Watch watches[DESCRIPTORS_MAX];
static double timer_at_s = -1;	/* when libcurl wants to be called; -1 for never */
static EVP_MAC_CTX *mac;
static Endpoint *endpoints;
static long started;
static long answered;

static void
fail(const char *message)
{
	fprintf(stderr, "loop: %s\n", message);
	exit(1);
}

static double
now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}


/* ---- requests ---- */

static void
make_mac(void)
{
	char		digest[] = "SHA256";
	OSSL_PARAM	params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end()
	};
	EVP_MAC    *hmac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);

	mac = hmac ? EVP_MAC_CTX_new(hmac) : NULL;
	if (mac == NULL || !EVP_MAC_CTX_set_params(mac, params))
		fail("no HMAC");
}

static void
make_endpoints(void)
{
	endpoints = calloc(options.endpoints, sizeof(Endpoint));
	if (endpoints == NULL)
		fail("out of memory");
	for (int i = 0; i < options.endpoints; i++)
	{
		Endpoint   *e = &endpoints[i];
		int			len;

		snprintf(e->url, sizeof(e->url), "%s/e%d", options.url, i);
		len = snprintf(e->body, sizeof(e->body),
					   "{\"type\":\"bench.e%d\",\"timestamp\":\"%s\",\"data\":%s}",
					   i, "2026-11-23T06:30:00.123456Z", options.payload);
		if (len >= (int) sizeof(e->body))
			fail("the payload is too long");
		e->body_len = len;
		if (RAND_bytes(e->key, KEY_LEN) != 1)
			fail("no random numbers");
	}
}

static size_t
ignore_body(char *data, size_t size, size_t count, void *arg)
{
	return size * count;
}

static int
on_close_socket(void *arg, curl_socket_t fd)
{
	if (fd < DESCRIPTORS_MAX)
		watches[fd] = (Watch) {0};
	return close(fd);
}

static void
make_slot(Slot *slot)
{
	char	   *lines[] = {
		"Content-Type: application/json", "User-Agent: pg-webhooks/0.1.0", slot->id,
		slot->timestamp, slot->signature
	};

	memset(slot->id, '0', sizeof(slot->id));
	strcpy(slot->id, ID_NAME "01a2074d-e9d4-73ca-b172-000000000000");
	for (int i = 0; i < HEADERS; i++)
		slot->headers[i] = (struct curl_slist) {
			lines[i], i + 1 < HEADERS ? &slot->headers[i + 1] : NULL
		};

	slot->easy = curl_easy_init();
	if (slot->easy == NULL)
		fail("out of memory");
	curl_easy_setopt(slot->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(slot->easy, CURLOPT_POST, 1L);
	curl_easy_setopt(slot->easy, CURLOPT_PROXY, "");
	curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, slot->headers);
	curl_easy_setopt(slot->easy, CURLOPT_WRITEFUNCTION, ignore_body);
	curl_easy_setopt(slot->easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
	curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot);
	if (options.ca_file)
	{
		curl_easy_setopt(slot->easy, CURLOPT_CAINFO, options.ca_file);
		curl_easy_setopt(slot->easy, CURLOPT_CAPATH, NULL);
	}
}

/* The id's last twelve digits count. */
static void
write_id(char *id, long n)
{
	for (int i = ID_LEN - 1; i >= ID_LEN - 12; i--, n >>= 4)
		id[i] = "0123456789abcdef"[n & 15];
}

static const char *
timestamp_text(void)
{
	static char text[24];
	static time_t last;
	time_t		now = time(NULL);

	if (now != last)
	{
		snprintf(text, sizeof(text), "%lld", (long long) now);
		last = now;
	}
	return text;
}

static void
sign(Slot *slot, const Endpoint *e)
{
	const char *id = slot->id + sizeof(ID_NAME) - 1;
	const char *timestamp = slot->timestamp + sizeof(TIMESTAMP_NAME) - 1;
	char		dotted[24];
	size_t		dotted_len = 0;
	unsigned char hmac[32];
	size_t		hmac_len;

	dotted[dotted_len++] = '.';
	for (const char *c = timestamp; *c; c++)
		dotted[dotted_len++] = *c;
	dotted[dotted_len++] = '.';
	if (!EVP_MAC_init(mac, e->key, KEY_LEN, NULL) ||
		!EVP_MAC_update(mac, (const unsigned char *) id, ID_LEN) ||
		!EVP_MAC_update(mac, (const unsigned char *) dotted, dotted_len) ||
		!EVP_MAC_update(mac, (const unsigned char *) e->body, e->body_len) ||
		!EVP_MAC_final(mac, hmac, &hmac_len, sizeof(hmac)))
		fail("could not sign");
	memcpy(slot->signature, SIGNATURE_NAME, sizeof(SIGNATURE_NAME) - 1);
	EVP_EncodeBlock((unsigned char *) slot->signature + sizeof(SIGNATURE_NAME) - 1,
					hmac, sizeof(hmac));
}

static void
start(Slot *slot)
{
	const Endpoint *e = &endpoints[started % options.endpoints];

	write_id(slot->id + sizeof(ID_NAME) - 1, started);
	strcpy(slot->timestamp, TIMESTAMP_NAME);
	strcpy(slot->timestamp + sizeof(TIMESTAMP_NAME) - 1, timestamp_text());
	sign(slot, e);
	curl_easy_setopt(slot->easy, CURLOPT_URL, e->url);
	curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, e->body);
	curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDSIZE, (long) e->body_len);
	if (curl_multi_add_handle(multi, slot->easy) != CURLM_OK)
		fail("libcurl took no further request");
	started++;
}

static void
collect(void)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL	   *easy = message->easy_handle;
		CURLcode	code = message->data.result;
		long		status = 0;
		Slot	   *slot;

		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		if (code != CURLE_OK || status != 200)
		{
			fprintf(stderr, "loop: %s, status %ld\n", curl_easy_strerror(code), status);
			exit(1);
		}
		answered++;
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &slot);
		curl_multi_remove_handle(multi, easy);
		if (started < options.requests)
			start(slot);
	}
}


/* ---- driving libcurl ---- */

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
	struct epoll_event event = {.data.fd = fd};

	if (fd >= DESCRIPTORS_MAX)
		fail("too many connections");
	watches[fd].wanted = what != CURL_POLL_REMOVE;
	if (!watches[fd].wanted)
		return 0;
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (event.events == watches[fd].events)
		return 0;
	epoll_ctl(epoll_fd, watches[fd].events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
	watches[fd].events = event.events;
	return 0;
}

static int
on_timer(CURLM *m, long timeout_ms, void *arg)
{
	timer_at_s = timeout_ms < 0 ? -1 : timeout_ms == 0 ? 0 : now_s() + timeout_ms / 1e3;
	return 0;
}

static int
wait_ms(void)
{
	double		left_s = timer_at_s - now_s();

	if (timer_at_s < 0)
		return 10;
	return left_s <= 0 ? 0 : left_s < 0.01 ? (int) (left_s * 1e3) + 1 : 10;
}

static void
drive_socket(void)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	int			running;
	int			count;

	if (timer_at_s >= 0 && timer_at_s <= now_s())
	{
		timer_at_s = -1;
		curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	count = epoll_wait(epoll_fd, events, EVENTS_AT_ONCE, wait_ms());
	for (int i = 0; i < count; i++)
	{
		int			fd = events[i].data.fd;

		if (!watches[fd].wanted)
		{
			epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
			watches[fd].events = 0;
			continue;
		}
		curl_multi_socket_action(multi, fd,
								 (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
								 (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
								 (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0),
								 &running);
	}
}

static void
drive_perform(void)
{
	int			running;

	curl_multi_perform(multi, &running);
	if (running == options.in_flight)
		curl_multi_poll(multi, NULL, 0, 10, NULL);
}

static void
make_multi(void)
{
	if (!wh_memory_use())
		fail("could not set up libcurl");
	wh_memory_keep();
	multi = curl_multi_init();
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (multi == NULL || epoll_fd < 0)
		fail("could not set up libcurl");
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) options.in_flight);
	if (options.drive == DRIVE_SOCKET)
	{
		curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
		curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	}
}

static void
run(void)
{
	Slot	   *slots = calloc(options.in_flight, sizeof(Slot));
	double		deadline_s = now_s() + SECONDS_MAX;

	if (slots == NULL)
		fail("out of memory");
	for (int i = 0; i < options.in_flight && started < options.requests; i++)
	{
		make_slot(&slots[i]);
		start(&slots[i]);
	}
	while (answered < options.requests)
	{
		if (options.drive == DRIVE_SOCKET)
			drive_socket();
		else
			drive_perform();
		collect();
		if (now_s() > deadline_s)
			fail("out of time");
	}
}

static double
cpu_s(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
		(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void
read_options(int argc, char **argv)
{
	int			c;

	while ((c = getopt(argc, argv, "u:c:p:n:e:i:d:")) != -1)
	{
		switch (c)
		{
			case 'u':
				options.url = optarg;
				break;
			case 'c':
				options.ca_file = optarg;
				break;
			case 'p':
				options.payload = optarg;
				break;
			case 'n':
				options.requests = atol(optarg);
				break;
			case 'e':
				options.endpoints = atoi(optarg);
				break;
			case 'i':
				options.in_flight = atoi(optarg);
				break;
			case 'd':
				options.drive = strcmp(optarg, "perform") == 0 ? DRIVE_PERFORM : DRIVE_SOCKET;
				break;
			default:
				fail("bad option");
		}
	}
	if (options.url == NULL || options.requests < 1 || options.endpoints < 1 ||
		options.in_flight < 1)
		fail("usage: loop -u URL [-c CA_FILE] [-p PAYLOAD] [-n REQUESTS] [-e ENDPOINTS]"
			 " [-i IN_FLIGHT] [-d socket|perform]");
}

int
main(int argc, char **argv)
{
	double		began_s;
	double		began_cpu_s;
	double		took_s;

	read_options(argc, argv);
	make_mac();
	make_endpoints();
	make_multi();

	began_s = now_s();
	began_cpu_s = cpu_s();
	run();
	took_s = now_s() - began_s;
	printf("%.0f %.2f\n", options.requests / took_s,
		   (cpu_s() - began_cpu_s) * 1e6 / options.requests);
	return 0;
}
