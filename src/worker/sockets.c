/*
 * libcurl tells which sockets to watch and when to be called.
 *
 * A callback that fails would make the multi handle refuse everything from then on, so none does: a
 * socket that cannot be watched costs its own request the time allowed, and no other.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "lib/ilist.h"
#include "storage/fd.h"
#include "worker/sockets.h"

#define EVENTS_AT_ONCE 128
#define POOL_LIFE_MS (50 * 1000)
#define RESERVE 16
#define SPARE_DESCRIPTORS 64	/* for what PostgreSQL opens without counting it */

/*
 * What epoll watches for on a descriptor, and whether libcurl still wants it. Between two requests
 * on a kept connection libcurl wants nothing; the watch is left in place until something happens,
 * which spares two system calls a request.
 */
typedef struct Watch
{
	WhPool	   *pool;
	uint32		events;			/* 0: not in the epoll set */
	bool		wanted;
	bool		ours;			/* opened here, so that its closing is seen here; libcurl's resolver
								 * has some of its own */
} Watch;

struct WhPool
{
	WhSockets  *sockets;
	CURLM	   *multi;
	int			number;
	int			requests;		/* that libcurl has */
	int			running;		/* those it has not ended */
	int64		retire_ms;		/* when new requests go to another pool, on the monotonic clock */
	int64		timer_ms;		/* when libcurl wants to be called; 0: at once, -1: never */
	dlist_node	node;
};

struct WhSockets
{
	dlist_head	pools;			/* the present one first */
	int			pool_count;		/* ever */
	int			capacity;
	int			epoll;
	int			wake;			/* an eventfd */
	int			count;			/* open ones, without the resolver's */
	int			reserve[RESERVE];
	int			reserve_count;
	Watch	   *watches;		/* by descriptor */
	int			watch_count;
};

int64
wh_monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* NULL when out of memory. */
static Watch *
find_watch(WhSockets *s, int fd)
{
	if (fd >= s->watch_count)
	{
		int			count = Max(fd + 1, 2 * s->watch_count);
		Watch	   *larger = realloc(s->watches, count * sizeof(Watch));

		if (larger == NULL)
			return NULL;
		memset(larger + s->watch_count, 0, (count - s->watch_count) * sizeof(Watch));
		s->watches = larger;
		s->watch_count = count;
	}
	return &s->watches[fd];
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
	WhPool	   *pool = arg;
	WhSockets  *s = pool->sockets;
	Watch	   *watch = find_watch(s, fd);
	struct epoll_event event = {.data.fd = fd};

	if (watch == NULL)
		return 0;
	watch->pool = pool;
	watch->wanted = what != CURL_POLL_REMOVE;
	if (!watch->wanted)
	{
		if (!watch->ours)
		{
			epoll_ctl(s->epoll, EPOLL_CTL_DEL, fd, NULL);
			watch->events = 0;
		}
		return 0;
	}
	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;
	if (event.events != watch->events &&
		epoll_ctl(s->epoll, watch->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) == 0)
		watch->events = event.events;
	return 0;
}

static int
on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	WhPool	   *pool = arg;

	pool->timer_ms = timeout_ms > 0 ? wh_monotonic_ms() + timeout_ms : timeout_ms;
	return 0;
}


/* ---- pools ---- */

static void
apply_capacity(WhPool *pool)
{
	long		capacity = pool->sockets->capacity;

	/* a new connection takes an idle one's place; at no time are more in use than requests run */
	curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, capacity);
	curl_multi_setopt(pool->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, capacity);
}

static void
close_pool(WhPool *pool)
{
	dlist_delete(&pool->node);
	curl_multi_cleanup(pool->multi);
	free(pool);
}

/* False: out of memory. */
static bool
open_pool(WhSockets *s)
{
	WhPool	   *pool = calloc(1, sizeof(WhPool));

	if (pool == NULL)
		return false;
	pool->multi = curl_multi_init();
	if (pool->multi == NULL)
	{
		free(pool);
		return false;
	}
	pool->sockets = s;
	pool->number = s->pool_count++;
	pool->retire_ms = wh_monotonic_ms() + POOL_LIFE_MS;
	pool->timer_ms = -1;
	curl_multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
	curl_multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
#if LIBCURL_VERSION_NUM >= 0x081400
	/* threads that look up names are the multi handle's, and a dead resolver must not use them up */
	curl_multi_setopt(pool->multi, CURLMOPT_RESOLVE_THREADS_MAX, (long) WH_RESOLVER_THREADS_MAX);
	curl_multi_setopt(pool->multi, CURLMOPT_QUICK_EXIT, 1L);
#endif
	apply_capacity(pool);
	dlist_push_head(&s->pools, &pool->node);
	return true;
}

static WhPool *
present_pool(WhSockets *s)
{
	return dlist_container(WhPool, node, dlist_head_node(&s->pools));
}

WhPool *
wh_sockets_pool(WhSockets *s)
{
	WhPool	   *pool = present_pool(s);

	if (wh_monotonic_ms() >= pool->retire_ms && open_pool(s) && pool->requests == 0)
		close_pool(pool);
	return present_pool(s);
}

int
wh_pool_number(const WhPool *pool)
{
	return pool->number;
}

CURLcode
wh_pool_run(WhPool *pool, CURL *easy)
{
	if (curl_multi_add_handle(pool->multi, easy) != CURLM_OK)
		return CURLE_OUT_OF_MEMORY;
	pool->requests++;
	pool->running++;
	return CURLE_OK;
}

void
wh_pool_remove(WhPool *pool, CURL *easy)
{
	curl_multi_remove_handle(pool->multi, easy);
	pool->requests--;
}

void
wh_sockets_set_capacity(WhSockets *s, int connections)
{
	dlist_iter	iter;

	s->capacity = connections;
	dlist_foreach(iter, &s->pools)
		apply_capacity(dlist_container(WhPool, node, iter.cur));
}

/* What is left of old pools goes with their last requests. */
static void
close_retired(WhSockets *s)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &s->pools)
	{
		WhPool	   *pool = dlist_container(WhPool, node, iter.cur);

		if (pool->requests == 0 && pool != present_pool(s))
			close_pool(pool);
	}
}

CURL *
wh_sockets_ended(WhSockets *s, CURLcode *result)
{
	dlist_iter	iter;

	dlist_foreach(iter, &s->pools)
	{
		WhPool	   *pool = dlist_container(WhPool, node, iter.cur);
		CURLMsg    *message;
		int			left;

		while ((message = curl_multi_info_read(pool->multi, &left)) != NULL)
			if (message->msg == CURLMSG_DONE)
			{
				*result = message->data.result;
				return message->easy_handle;
			}
	}
	return NULL;
}


/* ---- waiting ---- */

WhSockets *
wh_sockets_create(void)
{
	WhSockets  *s = calloc(1, sizeof(WhSockets));
	struct epoll_event wake = {.events = EPOLLIN};

	if (s == NULL)
		return NULL;
	dlist_init(&s->pools);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	wake.data.fd = s->wake;
	if (s->epoll < 0 || s->wake < 0 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->wake, &wake) != 0 ||
		!open_pool(s))
	{
		wh_sockets_destroy(s);
		return NULL;
	}
	return s;
}

void
wh_sockets_destroy(WhSockets *s)
{
	dlist_mutable_iter iter;

	if (s == NULL)
		return;
	dlist_foreach_modify(iter, &s->pools)
		close_pool(dlist_container(WhPool, node, iter.cur));
	wh_sockets_leave_reserve(s);
	if (s->epoll >= 0)
		close(s->epoll);
	if (s->wake >= 0)
		close(s->wake);
	free(s->watches);
	free(s);
}

void
wh_sockets_wake(WhSockets *s)
{
	uint64		one = 1;

	/* it cannot fail but when there are 2^64 - 2 wakes already */
	(void) !write(s->wake, &one, sizeof(one));
}

static int
wait_time_ms(WhSockets *s, int max_wait_ms)
{
	int64		now_ms = wh_monotonic_ms();
	int64		ms = max_wait_ms < 0 ? PG_INT64_MAX : max_wait_ms;
	dlist_iter	iter;

	dlist_foreach(iter, &s->pools)
	{
		const WhPool *pool = dlist_container(WhPool, node, iter.cur);

		if (pool->timer_ms >= 0)
			ms = Min(ms, Max(0, pool->timer_ms - now_ms));
	}
	return ms == PG_INT64_MAX ? -1 : (int) Min(ms, PG_INT32_MAX);
}

static void
pass_on(WhSockets *s, const struct epoll_event *event)
{
	int			fd = event->data.fd;
	int			what = 0;
	int			before;
	WhPool	   *pool;

	if (fd == s->wake)
	{
		uint64		count;

		(void) !read(fd, &count, sizeof(count));
		return;
	}
	if (!s->watches[fd].wanted)
	{
		/* libcurl finds out when it wants to use the connection again */
		epoll_ctl(s->epoll, EPOLL_CTL_DEL, fd, NULL);
		s->watches[fd].events = 0;
		return;
	}
	if (event->events & EPOLLIN)
		what |= CURL_CSELECT_IN;
	if (event->events & EPOLLOUT)
		what |= CURL_CSELECT_OUT;
	if (event->events & (EPOLLERR | EPOLLHUP))
		what |= CURL_CSELECT_ERR;

	/*
	 * The end of a connection is told to one of its requests only. So ask again as long as that
	 * ends one, or the others would wait for an answer until their time is over.
	 */
	pool = s->watches[fd].pool;
	do
	{
		before = pool->running;
		curl_multi_socket_action(pool->multi, fd, what, &pool->running);
	} while (pool->running < before && s->watches[fd].wanted);
}

static bool
serve_timer(WhPool *pool)
{
	if (pool->timer_ms < 0 || (pool->timer_ms > 0 && pool->timer_ms > wh_monotonic_ms()))
		return false;
	pool->timer_ms = -1;
	curl_multi_socket_action(pool->multi, CURL_SOCKET_TIMEOUT, 0, &pool->running);
	return true;
}

bool
wh_sockets_drive(WhSockets *s, int max_wait_ms)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	int			count = epoll_wait(s->epoll, events, EVENTS_AT_ONCE, wait_time_ms(s, max_wait_ms));
	bool		busy = count > 0;
	dlist_iter	iter;

	for (int i = 0; i < count; i++)
		pass_on(s, &events[i]);
	dlist_foreach(iter, &s->pools)
		busy |= serve_timer(dlist_container(WhPool, node, iter.cur));
	close_retired(s);
	return busy;
}

int
wh_sockets_open(WhSockets *s, const struct curl_sockaddr *peer)
{
	int			fd = socket(peer->family, peer->socktype | SOCK_CLOEXEC, peer->protocol);
	Watch	   *watch;

	if (fd < 0)
		return -1;
	watch = find_watch(s, fd);
	if (watch == NULL)
	{
		close(fd);
		errno = ENOMEM;
		return -1;
	}
	*watch = (Watch) {.ours = true};
	s->count++;
	return fd;
}

/* Closing takes a descriptor out of the epoll set, and its number may come again. */
int
wh_sockets_close(void *arg, curl_socket_t fd)
{
	WhSockets  *s = arg;

	s->watches[fd] = (Watch) {0};
	s->count--;
	return close(fd);
}

int
wh_sockets_count(const WhSockets *s)
{
	return s->count;
}

/*
 * PostgreSQL opens up to max_safe_fds files and closes some when it runs into the limit, so that
 * it gets along with fewer: where the limit is low, half of it is enough for either. A quarter of
 * what is left is for names being looked up and for addresses tried side by side.
 */
int
wh_sockets_limit(void)
{
	struct rlimit limit;
	rlim_t		most;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		limit.rlim_cur = 1024;
	most = Min(limit.rlim_cur, (rlim_t) PG_INT16_MAX);
	most = Max((int64) most - max_safe_fds - SPARE_DESCRIPTORS, (int64) most / 2);
	return Max(1, (int) most * 3 / 4);
}

static int
take_descriptor(const WhSockets *s)
{
	return fcntl(s->epoll, F_DUPFD_CLOEXEC, 0);
}

bool
wh_sockets_descriptor_left(const WhSockets *s)
{
	int			fd = take_descriptor(s);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

void
wh_sockets_leave_reserve(WhSockets *s)
{
	while (s->reserve_count > 0)
		close(s->reserve[--s->reserve_count]);
}

bool
wh_sockets_take_reserve(WhSockets *s)
{
	while (s->reserve_count < RESERVE)
	{
		int			fd = take_descriptor(s);

		if (fd < 0)
		{
			wh_sockets_leave_reserve(s);
			return false;
		}
		s->reserve[s->reserve_count++] = fd;
	}
	return true;
}
