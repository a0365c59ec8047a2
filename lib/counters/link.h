/* Inside the link to Redis: its state, shared by redis.c (jobs, the thread), connect.c and place.c. */
#ifndef CRM_COUNTERS_LINK_H
#define CRM_COUNTERS_LINK_H

#include "internal.h"

#include <event2/event.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <pthread.h>
#include <stdatomic.h>

#define COUNTERS_NAME_MAX 64
#define PAUSE_MIN_MS 100 /* before the first new connection; doubles */

struct job {
	struct link *link;
	struct counter rows[COUNTERS_TOGETHER];
	size_t n;
	uint32_t epoch;
	int64_t sent_us;    /* monotonic */
	counters_done done; /* NULL: only settles a debt, or has been answered here already */
	void *arg;
	struct job *prev, *next;
};

struct link {
	struct link_config config;
	char name[COUNTERS_NAME_MAX];
	char *host, *user, *password, *db;
	int port;
	struct event_base *base;
	struct event *kicked, *flush, *expire, *again;
	int kick_fd;
	pthread_t thread;
	pthread_mutex_t lock; /* incoming, ring, stopping */
	struct job *incoming;
	bool ring, stopping;
	atomic_uint epoch;    /* 0: not ready */
	atomic_bool owing;    /* a flush is due or under way */
	/* the rest belongs to the thread */
	uint32_t last_epoch;
	redisAsyncContext *commands, *bell;
	char sha[41];
	struct job *sent;
	int pause_ms;
	int64_t warned_us;
	bool slow;        /* epoch is 0 because a reply is overdue */
	bool told;        /* the last that the log said is that limits are shared */
	char why[128];
};

/* redis.c */
void link_after(struct event *e, int ms);
void link_kick(struct link *l);

/* connect.c: on the link's thread */
void link_register_metrics(void);
void link_connect(struct link *l);
void link_listen(struct link *l); /* to rings, if that is wanted */
void link_on_again(evutil_socket_t fd, short what, void *link);
void link_become_slow(struct link *l);
void link_become_ready(struct link *l);
void link_drop(struct link *l, const char *why); /* answers all jobs from memory and tries again after a pause */

/* place.c: fills host, port, user, password and db. NULL: good; otherwise what is wrong with the URL. */
const char *link_read_url(struct link *l, const char *url);

#endif
