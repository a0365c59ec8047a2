/* One thread that serves requests: its loop, its listeners, its connections to the services. */
#include "gateway/gateway.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "gateway/feed.h"
#include "gateway/request.h"
#include "gateway/telemetry.h"

struct faces *worker_faces(struct worker *w)
{
	struct gateway *g = w->g;
	unsigned refs = atomic_load(&g->refs_generation);

	if (w->refs_generation != refs) {
		ref_cache_clear(w->refs);
		w->refs_generation = refs;
	}
	if (w->faces && w->faces_generation == atomic_load(&g->faces_generation))
		return w->faces;
	pthread_mutex_lock(&g->faces_lock);
	faces_rele(w->faces);
	w->faces = g->faces;
	w->faces_generation = atomic_load(&g->faces_generation);
	faces_hold(w->faces);
	pthread_mutex_unlock(&g->faces_lock);
	route_series_clear(w->series);
	ref_cache_clear(w->refs);
	return w->faces;
}

struct keyset *worker_keys(struct worker *w)
{
	unsigned generation = key_store_generation(w->g->keys);

	if (w->keys_generation != generation) {
		keyset_rele(w->keys);
		w->keys = key_store_hold(w->g->keys);
		w->keys_generation = generation;
	}
	return w->keys;
}

static void handle(void *arg, struct http_exchange *x)
{
	struct request *r = request_new(arg, x);

	x->app_data = r;
	request_run(r);
}

static void reject(void *arg, struct http_exchange *x, enum status why, const char *text)
{
	struct request *r = request_new(arg, x);

	x->app_data = r;
	request_reject(r, why, text);
}

/* Forms with files are streamed, whoever they are for: a route that takes none refuses without reading them. */
static bool streams(void *arg, struct http_exchange *x)
{
	return is_form_with_files(http_header_get(&x->req, "Content-Type"));
}

static size_t body_limit(void *arg, struct http_exchange *x)
{
	struct worker *w = arg;

	return (size_t)(streams(arg, x) ? w->g->settings.upload_limit : w->g->settings.body_limit);
}

static void on_idle(void *arg)
{
	struct worker *w = arg;

	event_base_loopbreak(w->base);
}

void worker_wake(struct worker *w)
{
	uint64_t one = 1;

	if (write(w->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_warn("WORKER-WAKE", "eventfd: %s", strerror(errno));
}

/* The control thread has news. Which, is read from the shared state. */
static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	uint64_t n;

	if (read(w->wake_fd, &n, sizeof(n)) < 0)
		return;
	worker_faces(w);
	worker_keys(w);
	if (w->key_waiters)
		auth_keys_arrived(w);
	if (atomic_load(&w->g->leaving) && !w->leaving) {
		w->leaving = true;
		http_server_leave(w->http);
	}
	if (atomic_load(&w->g->draining) && !w->draining) {
		w->draining = true;
		http_server_drain(w->http, on_idle, w);
		feed_drain(w->feed);
	}
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	telemetry_publish(arg);
}

static void *run(void *arg)
{
	struct worker *w = arg;

	event_base_dispatch(w->base);
	atomic_store(&w->idle, true);
	return NULL;
}

static void listen_all(struct worker *w)
{
	struct gateway *g = w->g;
	struct http_app app = { w, handle, reject, body_limit, streams };
	const char *why;

	w->http = http_server_new(w->base, &app, g->tls ? tls_context(g->tls) : NULL);
	http_server_limit(w->http, (unsigned)(g->settings.max_connections / (long)g->n_workers + 1), 0);
	for (size_t i = 0; i < g->n_listeners; i++) {
		if (!http_server_listen(w->http, g->listeners[i].address, (int)i, &why))
			log_die("LISTEN", "%s: %s", g->listeners[i].address, why);
	}
}

void worker_start(struct worker *w, struct gateway *g, unsigned index)
{
	struct timeval second = { 1, 0 };

	w->g = g;
	w->index = index;
	w->base = event_base_new();
	w->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (!w->base || w->wake_fd < 0)
		log_die("WORKER-START", "no event loop: %s", strerror(errno));
	random_bytes(&w->span, sizeof(w->span));
	pthread_mutex_init(&w->lock, NULL);
	w->principals = principals_new(PRINCIPALS_MAX);
	w->refs = ref_cache_new();
	w->series = route_series_new();
	handoff_init(&w->jobs_done, w->base, jobs_done, &w->jobs_done);
	w->rpc = rpc_client_new(w->base, g->envelope_keys);
	for (size_t i = 0; i < g->n_services; i++)
		rpc_client_add(w->rpc, g->services[i].name, g->services[i].urls);
	handoff_init(&w->counted, w->base, limit_counted, w);
	w->feed = feed_new(w);
	listen_all(w);
	w->wake = event_new(w->base, w->wake_fd, EV_READ | EV_PERSIST, on_wake, w);
	w->tick = event_new(w->base, -1, EV_PERSIST, on_tick, w);
	event_add(w->wake, NULL);
	event_add(w->tick, &second);
	if (pthread_create(&w->thread, NULL, run, w) != 0)
		log_die("WORKER-START", "no thread: %s", strerror(errno));
}
