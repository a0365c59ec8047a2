/*
 * The process and its threads. What a struct gateway holds is shared: constant after start, or locked inside its module.
 * What a struct worker holds belongs to its thread.
 */
#ifndef CRM_GATEWAY_GATEWAY_H
#define CRM_GATEWAY_GATEWAY_H

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>

#include "gateway/contracts.h"
#include "gateway/docs.h"
#include "gateway/faces.h"
#include "gateway/jobs.h"
#include "gateway/keys.h"
#include "gateway/principals.h"
#include "gateway/proxies.h"
#include "gateway/rates.h"
#include "gateway/refs.h"
#include "gateway/revocations.h"
#include "gateway/settings.h"
#include "gateway/tls.h"
#include "gateway/watch.h"
#include "http/http.h"
#include "rpc/client.h"
#include "rpc/handoff.h"

#define WORKERS_MAX 64
#define PRINCIPALS_MAX 20000 /* per thread */
#define CALL_TIMEOUT_MS 1800 /* when the route says nothing */
#define EXPORTS_MAX 8        /* at once, per thread; more are answered 503 */
#define UPLOADS_MAX 16       /* likewise */
#define KEY_WAIT_US 1500000  /* a request waits this long for an unknown signing key */

struct gateway;
struct request;
struct route_series;
struct feed;

/* Numbers of one thread, published for /metrics once a second. */
struct worker_numbers {
	struct http_stats http;
	struct principals_stats principals;
	size_t refs, feed_clients;
	struct rpc_service_stats services[SERVICES_MAX * 4];
	size_t n_services;
};

struct worker {
	struct gateway *g;
	unsigned index;
	pthread_t thread;
	struct event_base *base;
	struct http_server *http;
	struct rpc_client *rpc;
	struct principals *principals;
	struct ref_cache *refs;
	unsigned refs_generation;
	struct keyset *keys;
	unsigned keys_generation;
	struct faces *faces;
	unsigned faces_generation;
	struct request *key_waiters; /* wait for the control thread to ask for signing keys */
	struct buf head, body;       /* reply under construction, reused */
	struct arena scratch;        /* reset before each use */
	struct decoded decoded;      /* of the request that is between decode and call; large, so not per request */
	uint64_t span;               /* source of span ids */
	struct route_series *series; /* metric series by route and status */
	unsigned exports, uploads;   /* under way */
	struct handoff jobs_done;    /* what the job threads give back */
	struct feed *feed;
	int wake_fd;                 /* eventfd: the control thread has news */
	struct event *wake, *tick;
	struct handoff counted;      /* requests whose limit has been asked for */
	bool leaving, draining;
	atomic_bool idle;            /* drained: its loop has ended */
	pthread_mutex_t lock;        /* numbers */
	struct worker_numbers numbers;
};

struct gateway {
	struct gateway_settings settings;
	struct arena arena; /* start-up texts */
	struct listen_spec listeners[LISTENERS_MAX];
	size_t n_listeners;
	struct service_spec services[SERVICES_MAX];
	size_t n_services;
	struct rpc_keys *envelope_keys;
	struct proxies proxies;
	struct docs *docs;
	struct tls *tls;       /* NULL: plain */
	struct counters *counters;
	struct rates *rates;   /* NULL: no limits */
	struct watch *watch;   /* what was refused, for the audit log */
	struct revocations *revocations;
	struct key_store *keys;
	atomic_uint refs_generation; /* grows when every cached reference is to be forgotten */
	struct contracts *contracts; /* the control thread's own */
	pthread_mutex_t faces_lock;
	struct faces *faces;
	atomic_uint faces_generation;
	atomic_bool leaving;         /* told to end: not ready, and clients are sent elsewhere */
	atomic_bool draining;        /* nobody is accepted any more */
	atomic_int in_flight;
	struct blob_store *blobs; /* NULL: none is configured */
	int control_fd;              /* eventfd: a thread wants signing keys */
	atomic_llong keys_asked_us;  /* monotonic: when svc-auth was last asked for them */
	atomic_bool keys_wanted, poll_wanted;
	struct worker workers[WORKERS_MAX];
	size_t n_workers;
};

/* worker.c */
void worker_start(struct worker *w, struct gateway *g, unsigned index); /* exits with a sentence when it cannot */
void worker_wake(struct worker *w);                                      /* any thread */
struct faces *worker_faces(struct worker *w); /* the newest; borrowed until the next call */
struct keyset *worker_keys(struct worker *w); /* likewise; NULL: none yet */

/* control.c: the main thread */
void control_run(struct gateway *g); /* until SIGTERM and the drain are done */
/* True: svc-auth is being asked for its signing keys and all workers will be woken. Any thread. */
bool control_want_keys(struct gateway *g);
/* Something may have changed at svc-auth: ask now. Any thread. */
void control_poll(void *gateway);

/* reload.c */
struct faces *reload_faces(struct gateway *g, const char **why); /* NULL: refused */
void reload_publish(struct gateway *g, struct faces *f);         /* takes the reference */

#endif
