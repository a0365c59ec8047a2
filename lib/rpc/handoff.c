/* A queue of many writers and one reader, which an event loop can wait for. */
#include "rpc/handoff.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

static void readable_cb(evutil_socket_t fd, short what, void *arg)
{
	struct handoff *h = arg;
	eventfd_t n;

	eventfd_read(fd, &n);
	h->wake(h->arg);
}

void handoff_init(struct handoff *h, struct event_base *base, void (*wake)(void *arg), void *arg)
{
	atomic_init(&h->head, NULL);
	h->wake = wake;
	h->arg = arg;
	h->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (h->fd < 0)
		log_die("RPC-EVENTFD", "eventfd: %s", strerror(errno));
	h->ev = event_new(base, h->fd, EV_READ | EV_PERSIST, readable_cb, h);
	if (!h->ev || event_add(h->ev, NULL) != 0)
		log_die("RPC-EVENTFD", "cannot watch the hand-off descriptor");
}

void handoff_kick(struct handoff *h)
{
	/* EAGAIN means that the counter is full: the reader will wake anyway */
	eventfd_write(h->fd, 1);
}

void handoff_push(struct handoff *h, struct handoff_node *node)
{
	struct handoff_node *head = atomic_load_explicit(&h->head, memory_order_relaxed);

	do
		node->next = head;
	while (!atomic_compare_exchange_weak_explicit(&h->head, &head, node, memory_order_release, memory_order_relaxed));
	/* a list that was not empty has been announced and not been taken yet */
	if (!head)
		handoff_kick(h);
}

struct handoff_node *handoff_take(struct handoff *h)
{
	struct handoff_node *at = atomic_exchange_explicit(&h->head, NULL, memory_order_acquire), *oldest = NULL;

	while (at) {
		struct handoff_node *next = at->next;

		at->next = oldest;
		oldest = at;
		at = next;
	}
	return oldest;
}
