/* The main thread: signals, the admin port, reload, drain, and the poller of svc-auth. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/version.h"
#include "gateway/changes.h"
#include "gateway/contract_watch.h"
#include "gateway/telemetry.h"
#include "gateway/watch_send.h"
#include "telemetry/admin.h"

#define DRAIN_CHECK_US 20000
#define CERTIFICATE_LOOK_S 2

struct control {
	struct gateway *g;
	struct event_base *base;
	struct changes *changes;
	struct watch_sender *sender;
	struct event *delay, *drain;
	int64_t told_us, drain_until_us; /* monotonic */
};

bool control_want_keys(struct gateway *g)
{
	uint64_t one = 1;

	if (atomic_load(&g->keys_wanted))
		return true;
	if (clock_mono_us() - atomic_load(&g->keys_asked_us) < KEYS_PAUSE_US)
		return false;
	atomic_store(&g->keys_wanted, true);
	return write(g->control_fd, &one, sizeof(one)) == sizeof(one);
}

void control_poll(void *gateway)
{
	struct gateway *g = gateway;
	uint64_t one = 1;

	if (!atomic_exchange(&g->poll_wanted, true) && write(g->control_fd, &one, sizeof(one)) < 0)
		atomic_store(&g->poll_wanted, false);
}

static void on_wanted(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) != sizeof(n))
		return;
	if (atomic_load(&c->g->keys_wanted))
		changes_fetch_keys(c->changes);
	if (atomic_exchange(&c->g->poll_wanted, false))
		changes_poll(c->changes);
}

static bool ready(void *arg, struct buf *detail)
{
	struct gateway *g = arg;
	bool draining = atomic_load(&g->leaving), keys = key_store_generation(g->keys) > 0, revocations = revocations_generation(g->revocations) > 0;

	const char *why = draining ? "draining" : !keys ? "no signing keys from svc-auth yet" : !revocations ? "no list of revocations from svc-auth yet" :
	    contract_watch_waits(g) ? "services have not told their contracts yet" : NULL;

	buf_printf(detail, "\"draining\":%s,\"signingKeys\":%s,\"revocations\":%s", draining ? "true" : "false", keys ? "true" : "false",
	    revocations ? "true" : "false");
	buf_c(detail, ',');
	contract_watch_detail(g, detail);
	if (why)
		buf_printf(detail, ",\"reason\":\"%s\"", why);
	return why == NULL;
}

static void reload_dialects(struct gateway *g)
{
	const char *why = "";
	struct faces *f = reload_faces(g, &why);

	if (f) {
		reload_publish(g, f);
		log_info("RELOAD", "dialects loaded again");
	} else {
		log_error("RELOAD-REFUSED", "%s: the old dialects stay", why);
	}
}

static void reload_certificate(struct gateway *g)
{
	const char *why = "";

	if (tls_reload(g->tls, &why))
		log_info("RELOAD", "certificate loaded again");
	else
		log_error("RELOAD-REFUSED", "%s: the old certificate stays", why);
}

static void on_reload(evutil_socket_t sig, short what, void *arg)
{
	struct control *c = arg;

	reload_dialects(c->g);
	if (c->g->tls)
		reload_certificate(c->g);
}

/* Nobody sends a signal to a pod whose Secret was renewed. */
static void on_certificate_look(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;

	if (tls_has_news(c->g->tls))
		reload_certificate(c->g);
}

static void watch_certificate(struct control *c)
{
	struct timeval tv = { CERTIFICATE_LOOK_S, 0 };

	if (c->g->tls)
		event_add(event_new(c->base, -1, EV_PERSIST, on_certificate_look, c), &tv);
}

static void on_watch_finished(void *arg)
{
	struct control *c = arg;

	event_base_loopbreak(c->base);
}

static void on_drain_check(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;
	size_t busy = 0;

	for (size_t i = 0; i < c->g->n_workers; i++)
		busy += !atomic_load(&c->g->workers[i].idle);
	if (busy && clock_mono_us() < c->drain_until_us)
		return;
	if (busy)
		log_warn("DRAIN-CUT", "%d requests had no answer in time", atomic_load(&c->g->in_flight));
	event_del(c->drain);
	watch_sender_finish(c->sender, on_watch_finished, c);
}

static void wake_all(struct gateway *g)
{
	for (size_t i = 0; i < g->n_workers; i++)
		worker_wake(&g->workers[i]);
}

static void on_delay_over(evutil_socket_t sig, short what, void *arg)
{
	struct control *c = arg;
	struct timeval tv = { 0, DRAIN_CHECK_US };
	int64_t now = clock_mono_us();

	if (atomic_exchange(&c->g->draining, true))
		return;
	event_del(c->delay);
	log_info("DRAIN", "after %.1f s: no longer accepting; what is in flight has %ld s", (double)(now - c->told_us) / 1e6, c->g->settings.drain);
	c->drain_until_us = now + c->g->settings.drain * 1000000;
	wake_all(c->g);
	event_add(c->drain, &tv);
}

/* Whoever sends clients here learns of the end by /readyz, and not at once (kubernetes#43576): until then they are served. */
static void on_stop(evutil_socket_t sig, short what, void *arg)
{
	struct control *c = arg;
	struct timeval delay = { c->g->settings.drain_delay, 0 };
	bool again = atomic_exchange(&c->g->leaving, true);

	if (!again)
		c->told_us = clock_mono_us();
	if (again || !c->g->settings.drain_delay) {
		on_delay_over(sig, what, arg);
		return;
	}
	log_info("DRAIN", "not ready any more; serving on for %ld s, with Connection: close", c->g->settings.drain_delay);
	wake_all(c->g);
	event_add(c->delay, &delay);
}

static void on_signal(struct control *c, int signal_number, event_callback_fn fn)
{
	struct event *e = evsignal_new(c->base, signal_number, fn, c);

	if (!e || event_add(e, NULL) != 0)
		log_die("CONTROL-START", "signal %d cannot be handled", signal_number);
}

/* The ids of shared limits come from the first envelope key, as the gateways have no other secret in common: they follow it. */
static void on_keys_changed(void *arg)
{
	struct gateway *g = arg;
	struct rpc_key_set keys = rpc_keys_get(g->envelope_keys);

	if (g->rates)
		rates_rekey(g->rates, keys.key[0]); /* no change when that is the one it has */
	explicit_bzero(&keys, sizeof(keys));
}

void control_run(struct gateway *g)
{
	static struct control c;
	struct admin_config admin = { .name = "gateway", .version = crm_version, .ready = ready, .metrics = telemetry_print, .arg = g };
	struct event *wanted;
	struct rpc_client *rpc;

	c.g = g;
	c.base = event_base_new();
	if (!c.base)
		log_die("CONTROL-START", "no event loop: %s", strerror(errno));
	c.delay = event_new(c.base, -1, 0, on_delay_over, &c);
	c.drain = event_new(c.base, -1, EV_PERSIST, on_drain_check, &c);
	wanted = event_new(c.base, g->control_fd, EV_READ | EV_PERSIST, on_wanted, &c);
	event_add(wanted, NULL);
	on_signal(&c, SIGTERM, on_stop);
	on_signal(&c, SIGINT, on_stop);
	on_signal(&c, SIGHUP, on_reload);
	if (!admin_start(c.base, g->settings.admin_listen, &admin))
		log_die("ADMIN-LISTEN", "%s cannot be listened on", g->settings.admin_listen);
	rpc_keys_watch(g->envelope_keys, c.base, on_keys_changed, g);
	watch_certificate(&c);
	rpc = rpc_client_new(c.base, g->envelope_keys);
	for (size_t i = 0; i < g->n_services; i++)
		rpc_client_add(rpc, g->services[i].name, g->services[i].urls);
	contract_watch_start(g, rpc);
	c.changes = changes_start(g, c.base, rpc);
	c.sender = watch_sender_start(g, c.base, rpc);
	event_base_dispatch(c.base);
	log_info("STOPPED", "drained, %.1f s after SIGTERM", (double)(clock_mono_us() - c.told_us) / 1e6);
}
