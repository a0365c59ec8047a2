/*
 * Hands things from NNG's or worker threads to an event loop: a lock-free list and an eventfd.
 * push and kick may be called from any thread; take belongs to the loop's thread.
 */
#ifndef CRM_RPC_HANDOFF_H
#define CRM_RPC_HANDOFF_H

#include <event2/event.h>
#include <stdatomic.h>

struct handoff_node {
	struct handoff_node *next;
};

struct handoff {
	_Atomic(struct handoff_node *) head;
	int fd;
	struct event *ev;
	void (*wake)(void *arg);
	void *arg;
};

/* wake(arg) runs on base's thread after a push or kick. Exits the process when there is no descriptor left. */
void handoff_init(struct handoff *h, struct event_base *base, void (*wake)(void *arg), void *arg);
void handoff_push(struct handoff *h, struct handoff_node *node);
void handoff_kick(struct handoff *h);
/* Everything pushed so far, oldest first; NULL when there is nothing. */
struct handoff_node *handoff_take(struct handoff *h);

#endif
