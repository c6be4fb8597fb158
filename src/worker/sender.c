/*
 * Two lists under one lock: requests to be sent, and requests finished. Each side takes or gives a
 * whole list at a time, and wakes the other only if that one waits: under load nobody waits, and a
 * request costs neither side a system call for the hand-over.
 *
 * The thread calls nothing of PostgreSQL and takes none of its signals. It is gone before the
 * process exits: what exit() tears down, OpenSSL first, the thread would still be using.
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "storage/ipc.h"
#include "worker/memory.h"
#include "worker/sender.h"
#include "worker/sockets.h"

#define WINDOW 32				/* requests begun before one of them is answered */
#define WIDEN 4					/* and so many more each millisecond; twice as many after each
								 * without an answer, up to: */
#define WIDEN_MAX 512
#define PUBLISH_COUNT 128		/* finished requests handed back at once, if there is more to do */
#define STACK_BYTES (1024 * 1024)

struct WhSender
{
	pthread_t	thread;
	bool		running;
	pthread_mutex_t lock;		/* of what follows, up to the blank line */
	dlist_head	outbox;			/* to be sent */
	dlist_head	inbox;			/* finished */
	bool		thread_waits;
	bool		caller_waits;
	bool		notified;		/* the event was written */
	bool		stop;

	/* the caller's */
	int			finished_event; /* an eventfd */
	dlist_head	started;		/* not yet flushed */
	dlist_head	received;		/* taken from the inbox */
	uint64		handed_over;	/* requests, ever */

	/* the thread's */
	WhTransport *transport;
	dlist_head	pending;		/* taken from the outbox, not yet started */
	dlist_head	finished;		/* not yet published */
	int			finished_count;
	int			window;			/* requests that may be begun now */
	int			widen;			/* by how many it was widened last: */
	int64		widened_ms;
	bool		answered;		/* something was since then */
	uint64		begun;			/* requests, ever; read by the caller */
};

static WhSender *current = NULL;

/* Moves all of one list to the end of another. */
static void
move_all(dlist_head *to, dlist_head *from)
{
	if (dlist_is_empty(from))
		return;
	from->head.next->prev = to->head.prev;
	to->head.prev->next = from->head.next;
	from->head.prev->next = &to->head;
	to->head.prev = from->head.prev;
	dlist_init(from);
}


/* ---- the thread ---- */

/* False: it is told to stop. */
static bool
take_outbox(WhSender *s)
{
	bool		go_on;

	pthread_mutex_lock(&s->lock);
	move_all(&s->pending, &s->outbox);
	s->thread_waits = false;
	go_on = !s->stop;
	pthread_mutex_unlock(&s->lock);
	return go_on;
}

/* Once in a millisecond. */
static void
widen(WhSender *s)
{
	int64		now_ms = wh_monotonic_ms();

	if (now_ms == s->widened_ms)
		return;
	s->widen = s->answered ? WIDEN : Min(2 * s->widen, WIDEN_MAX);
	s->window = Min(s->window + s->widen, Max(WINDOW, s->widen));
	s->answered = false;
	s->widened_ms = now_ms;
}

/*
 * A few at a time, and then one for each that is answered: fast receivers are so served over few
 * connections, which is much cheaper in libcurl, and slow ones still get as many as they may have.
 */
static void
start_some(WhSender *s)
{
	uint64		begun = s->begun;

	widen(s);
	for (; s->window > 0 && !dlist_is_empty(&s->pending); s->window--, begun++)
		wh_transport_start(s->transport,
						   dlist_container(WhRequest, node, dlist_pop_head_node(&s->pending)));
	__atomic_store_n(&s->begun, begun, __ATOMIC_RELAXED);
}

static void
collect_finished(WhSender *s)
{
	WhRequest  *request;

	while ((request = wh_transport_finished(s->transport)) != NULL)
	{
		dlist_push_tail(&s->finished, &request->node);
		s->finished_count++;
		s->answered = true;
		if (s->window < WINDOW)
			s->window++;
	}
}

/* Hands back what is finished. Returns whether the thread, if it would, may wait now. */
static bool
publish(WhSender *s, bool would_wait)
{
	uint64		one = 1;
	bool		may_wait;

	pthread_mutex_lock(&s->lock);
	move_all(&s->inbox, &s->finished);
	if (s->caller_waits && !dlist_is_empty(&s->inbox))
	{
		s->caller_waits = false;
		s->notified = true;
		(void) !write(s->finished_event, &one, sizeof(one));
	}
	may_wait = s->thread_waits = would_wait && dlist_is_empty(&s->outbox) && !s->stop;
	pthread_mutex_unlock(&s->lock);
	s->finished_count = 0;
	return may_wait;
}

static void *
run(void *arg)
{
	WhSender   *s = arg;

	wh_memory_keep();
	while (take_outbox(s))
	{
		bool		busy;

		start_some(s);
		busy = wh_transport_drive(s->transport, dlist_is_empty(&s->pending) ? 0 : 1);
		collect_finished(s);
		if (busy && s->finished_count < PUBLISH_COUNT)
			continue;
		if (publish(s, !busy && dlist_is_empty(&s->pending)))
		{
			(void) wh_transport_drive(s->transport, -1);
			collect_finished(s);
		}
	}
	wh_memory_give_back();
	return NULL;
}


/* ---- the caller ---- */

static bool
start_thread(WhSender *s)
{
	pthread_attr_t attributes;
	sigset_t	all;
	sigset_t	before;

	if (pthread_attr_init(&attributes) != 0)
		return false;
	pthread_attr_setstacksize(&attributes, STACK_BYTES);

	/*
	 * The handlers are for the main thread; this one, and those that libcurl starts from it to
	 * resolve names, are born with all signals blocked.
	 */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	s->running = pthread_create(&s->thread, &attributes, run, s) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return s->running;
}

static void
stop_thread(WhSender *s)
{
	if (!s->running)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_mutex_unlock(&s->lock);
	wh_transport_wake(s->transport);
	pthread_join(s->thread, NULL);
	s->running = false;
}

static void
stop_at_exit(int code, Datum arg)
{
	if (current)
		stop_thread(current);
}

WhSender *
wh_sender_create(void)
{
	static bool registered = false;
	WhSender   *s = calloc(1, sizeof(WhSender));

	if (s == NULL)
		return NULL;
	if (!registered)
		before_shmem_exit(stop_at_exit, 0);
	registered = true;

	pthread_mutex_init(&s->lock, NULL);
	dlist_init(&s->outbox);
	dlist_init(&s->inbox);
	dlist_init(&s->started);
	dlist_init(&s->received);
	dlist_init(&s->pending);
	dlist_init(&s->finished);
	s->window = WINDOW;
	s->widen = WIDEN;
	s->transport = wh_transport_create();
	s->finished_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->transport == NULL || s->finished_event < 0 || !start_thread(s))
	{
		wh_sender_destroy(s);
		return NULL;
	}
	current = s;
	return s;
}

void
wh_sender_destroy(WhSender *s)
{
	if (s == NULL)
		return;
	stop_thread(s);
	current = NULL;
	wh_transport_destroy(s->transport);
	if (s->finished_event >= 0)
		close(s->finished_event);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

bool
wh_sender_reload(WhSender *s)
{
	return wh_transport_reload(s->transport);
}

int
wh_sender_capacity(const WhSender *s)
{
	return wh_transport_capacity(s->transport);
}

void
wh_sender_start(WhSender *s, WhRequest *request)
{
	dlist_push_tail(&s->started, &request->node);
	s->handed_over++;
}

int
wh_sender_unbegun(const WhSender *s)
{
	return (int) (s->handed_over - __atomic_load_n(&s->begun, __ATOMIC_RELAXED));
}

void
wh_sender_flush(WhSender *s)
{
	bool		wake;

	if (dlist_is_empty(&s->started))
		return;
	pthread_mutex_lock(&s->lock);
	move_all(&s->outbox, &s->started);
	wake = s->thread_waits;
	s->thread_waits = false;
	pthread_mutex_unlock(&s->lock);
	if (wake)
		wh_transport_wake(s->transport);
}

static void
receive_all(WhSender *s)
{
	uint64		count;
	bool		notified;

	pthread_mutex_lock(&s->lock);
	move_all(&s->received, &s->inbox);
	notified = s->notified;
	s->notified = false;
	pthread_mutex_unlock(&s->lock);
	if (notified)
		(void) !read(s->finished_event, &count, sizeof(count));
}

WhRequest *
wh_sender_finished(WhSender *s)
{
	if (dlist_is_empty(&s->received))
		receive_all(s);
	if (dlist_is_empty(&s->received))
		return NULL;
	return dlist_container(WhRequest, node, dlist_pop_head_node(&s->received));
}

bool
wh_sender_has_finished(WhSender *s)
{
	bool		has;

	pthread_mutex_lock(&s->lock);
	has = !dlist_is_empty(&s->received) || !dlist_is_empty(&s->inbox);
	s->caller_waits = !has;
	pthread_mutex_unlock(&s->lock);
	return has;
}

int
wh_sender_descriptor(const WhSender *s)
{
	return s->finished_event;
}
