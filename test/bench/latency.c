/*
 * How long after its commit an event reaches the receiver, when nothing else is to do: one event at
 * a time. The sender and the receiver are one process, so that both read the same clock.
 *
 * Prints four figures, in milliseconds: p50 and p99 from the commit's return, p50 and p99 from
 * before the statement. A request may arrive before the sender hears of its own commit; that counts
 * as 0.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 64
#define WARM_UP 20				/* events that are not counted */
#define PAUSE_MS 5				/* between an event's end and the next */
#define WAIT_S 10				/* for one request, or for its record */

/* A request that is being read. */
typedef struct Connection
{
	size_t		len;
	char		data[8192];
} Connection;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrival = PTHREAD_COND_INITIALIZER;
static double arrived_ms;		/* of the last request's first byte; 0: none since it was reset */
static int	listener;

static void
fail(const char *message)
{
	fprintf(stderr, "latency: %s\n", message);
	exit(1);
}

static double
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}


/* ---- the receiver ---- */

static int
open_listener(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	socklen_t	len = sizeof(address);

	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *) &address, len) != 0 ||
		listen(listener, CONNECTIONS_MAX) != 0 ||
		getsockname(listener, (struct sockaddr *) &address, &len) != 0)
		fail("could not listen");
	return ntohs(address.sin_port);
}

static bool
is_complete(const Connection *c)
{
	const char *end = strstr(c->data, "\r\n\r\n");
	const char *length = strcasestr(c->data, "\r\ncontent-length:");

	return end && length && c->len >= (end + 4 - c->data) + strtoul(length + 17, NULL, 10);
}

/* False when the connection has ended. */
static bool
read_request(int fd, Connection *c)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	ssize_t		n = read(fd, c->data + c->len, sizeof(c->data) - 1 - c->len);
	double		at_ms = now_ms();

	if (n <= 0)
		return false;
	if (c->len == 0)
	{
		pthread_mutex_lock(&mutex);
		arrived_ms = at_ms;
		pthread_cond_signal(&arrival);
		pthread_mutex_unlock(&mutex);
	}
	c->len += n;
	c->data[c->len] = '\0';
	if (!is_complete(c))
		return true;
	c->len = 0;
	return write(fd, answer, sizeof(answer) - 1) == sizeof(answer) - 1;
}

static void *
receive(void *unused)
{
	static struct pollfd polled[1 + CONNECTIONS_MAX];
	static Connection connections[1 + CONNECTIONS_MAX];
	int			count = 1;

	polled[0] = (struct pollfd) {.fd = listener, .events = POLLIN};
	for (;;)
	{
		poll(polled, count, -1);
		for (int i = count - 1; i > 0; i--)
		{
			if (polled[i].revents == 0 || read_request(polled[i].fd, &connections[i]))
				continue;
			close(polled[i].fd);
			count--;
			polled[i] = polled[count];
			connections[i] = connections[count];
		}
		if (polled[0].revents && count <= CONNECTIONS_MAX)
		{
			polled[count] = (struct pollfd) {.fd = accept(listener, NULL, NULL), .events = POLLIN};
			connections[count].len = 0;
			count++;
		}
	}
	return NULL;
}


/* ---- the sender ---- */

static bool
query(PGconn *conn, const char *sql)
{
	PGresult   *result = PQexec(conn, sql);
	bool		is_true;

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail(PQerrorMessage(conn));
	is_true = PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), "t") == 0;
	PQclear(result);
	return is_true;
}

static void
dispatch(PGconn *conn, const char *payload)
{
	const char *values[] = {payload};
	PGresult   *result = PQexecPrepared(conn, "dispatch", 1, values, NULL, NULL, 0);

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail(PQerrorMessage(conn));
	PQclear(result);
}

static double
wait_for_request(void)
{
	struct timespec deadline;
	double		at_ms;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += WAIT_S;
	pthread_mutex_lock(&mutex);
	while (arrived_ms == 0)
		if (pthread_cond_timedwait(&arrival, &mutex, &deadline) != 0)
			fail("a request did not come");
	at_ms = arrived_ms;
	arrived_ms = 0;
	pthread_mutex_unlock(&mutex);
	return at_ms;
}

static void
wait_until_recorded(PGconn *conn)
{
	double		deadline_ms = now_ms() + WAIT_S * 1e3;

	do
	{
		if (now_ms() > deadline_ms)
			fail("a delivery was not recorded");
		usleep(PAUSE_MS * 1000);
	} while (!query(conn, "SELECT NOT EXISTS (SELECT FROM webhooks.queue)"));
	usleep(PAUSE_MS * 1000);
}

static PGconn *
prepare(const char *conninfo)
{
	PGconn	   *conn = PQconnectdb(conninfo);
	PGresult   *result;
	char		sql[256];

	if (PQstatus(conn) != CONNECTION_OK)
		fail(PQerrorMessage(conn));
	snprintf(sql, sizeof(sql),
			 "SELECT webhooks.register_endpoint('http://127.0.0.1:%d/', '{bench.latency}')",
			 open_listener());
	query(conn, sql);
	result = PQprepare(conn, "dispatch", "SELECT webhooks.dispatch('bench.latency', $1::jsonb)",
					   1, NULL);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		fail(PQerrorMessage(conn));
	PQclear(result);
	return conn;
}

static int
compare(const void *a, const void *b)
{
	double		difference = *(const double *) a - *(const double *) b;

	return difference < 0 ? -1 : difference > 0;
}

static void
print_percentiles(double *values, int count)
{
	qsort(values, count, sizeof(double), compare);
	printf("%.3f %.3f ", values[count / 2], values[(int) (count * 0.99)]);
}

int
main(int argc, char **argv)
{
	int			count = argc == 4 ? atoi(argv[2]) : 0;
	double	   *from_return;
	double	   *from_before;
	PGconn	   *conn;
	pthread_t	receiver;

	if (count < 1)
		fail("usage: latency CONNINFO EVENTS PAYLOAD");
	from_return = calloc(count, sizeof(double));
	from_before = calloc(count, sizeof(double));
	conn = prepare(argv[1]);
	if (from_return == NULL || from_before == NULL ||
		pthread_create(&receiver, NULL, receive, NULL) != 0)
		fail("out of memory");

	for (int i = -WARM_UP; i < count; i++)
	{
		double		before_ms = now_ms();
		double		returned_ms;
		double		at_ms;

		dispatch(conn, argv[3]);
		returned_ms = now_ms();
		at_ms = wait_for_request();
		if (i >= 0)
		{
			from_return[i] = at_ms > returned_ms ? at_ms - returned_ms : 0;
			from_before[i] = at_ms - before_ms;
		}
		wait_until_recorded(conn);
	}
	print_percentiles(from_return, count);
	print_percentiles(from_before, count);
	printf("\n");
	return 0;
}
