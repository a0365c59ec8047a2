/* One thread that turns host names into sets of addresses and tells who wants to know. */
#include "rpc/names.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "telemetry/metrics.h"

enum {
	EVERY_MS = 2000,
	FIRST_MS = 300,  /* while it has never been found */
	PAUSE_MS = 200,  /* at least this long between two lookups of a name, whoever is in a hurry */
	HOST_BYTES = 256,
	PORT_BYTES = 8,
	LINE_BYTES = 1024,
	STACK_BYTES = 512 * 1024,
};

struct watcher {
	void (*changed)(void *arg);
	void *arg;
	struct watcher *next;
};

struct rpc_name {
	struct rpc_name *next;
	const char *url;
	char host[HOST_BYTES], port[PORT_BYTES];
	atomic_uint generation;
	/* under the lock: */
	struct rpc_addresses set;
	struct watcher *watchers;
	bool hurry, failing, cut; /* cut: it has more addresses than fit */
	int64_t looked_us;        /* monotonic; 0: never */
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct rpc_name *names;
	const char *file;
	bool started;
	uint64_t lookups, failures;
} all = { .lock = PTHREAD_MUTEX_INITIALIZER, .file = "" };

/* -- URLs */

/* "tcp://host:port" or "tcp://[host]:port"; false: neither. */
static bool url_split(const char *url, char host[HOST_BYTES], char port[PORT_BYTES])
{
	const char *at = strncmp(url, "tcp://", 6) == 0 ? url + 6 : NULL, *end, *colon;

	if (!at)
		return false;
	end = *at == '[' ? strchr(at, ']') : strrchr(at, ':');
	colon = end && *at == '[' ? end + 1 : end;
	at += *at == '[';
	if (!end || *colon != ':' || end == at || (size_t)(end - at) >= HOST_BYTES || strlen(colon + 1) >= PORT_BYTES || !colon[1])
		return false;
	memcpy(host, at, (size_t)(end - at));
	host[end - at] = 0;
	memcpy(port, colon + 1, strlen(colon + 1) + 1);
	return true;
}

static bool is_address(const char *host)
{
	struct in6_addr any;

	return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

bool rpc_url_has_name(const char *url)
{
	char host[HOST_BYTES], port[PORT_BYTES];

	return url_split(url, host, port) && !is_address(host);
}

/* -- sets of addresses */

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

static bool set_has(const struct rpc_addresses *set, const char *url)
{
	for (size_t i = 0; i < set->n; i++)
		if (strcmp(set->url[i], url) == 0)
			return true;
	return false;
}

/* Keeps the first ones in the order of their texts, so that it leaves out the same ones whatever order they come in. */
static void set_add(struct rpc_addresses *set, const char *address, const char *port, bool *cut)
{
	char url[RPC_URL_BYTES] = "";

	snprintf(url, sizeof(url), strchr(address, ':') ? "tcp://[%s]:%s" : "tcp://%s:%s", address, port);
	if (set_has(set, url))
		return;
	if (set->n < RPC_NAME_ADDRESSES) {
		memcpy(set->url[set->n++], url, sizeof(url));
	} else {
		*cut = true;
		if (strcmp(url, set->url[set->n - 1]) < 0)
			memcpy(set->url[set->n - 1], url, sizeof(url));
	}
	qsort(set->url, set->n, sizeof(set->url[0]), by_text);
}

static bool set_same(const struct rpc_addresses *a, const struct rpc_addresses *b)
{
	for (size_t i = 0; i < a->n && a->n == b->n; i++)
		if (strcmp(a->url[i], b->url[i]) != 0)
			return false;
	return a->n == b->n;
}

/* -- lookups; each gives NULL, or why it failed */

static const char *look_in_system(const struct rpc_name *n, struct rpc_addresses *set, bool *cut)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL;
	int rc = getaddrinfo(n->host, NULL, &hints, &found);

	if (rc != 0)
		return rc == EAI_SYSTEM ? "the resolver failed" : gai_strerror(rc);
	for (const struct addrinfo *at = found; at; at = at->ai_next) {
		char text[INET6_ADDRSTRLEN];

		if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0 && !strchr(text, '%'))
			set_add(set, text, n->port, cut);
	}
	freeaddrinfo(found);
	return set->n ? NULL : "it has no address";
}

static void read_line(const struct rpc_name *n, char *line, struct rpc_addresses *set, bool *cut)
{
	char *rest = NULL, *address;

	line[strcspn(line, "#\r\n")] = 0;
	address = strtok_r(line, " \t", &rest);
	if (!address || !is_address(address))
		return;
	for (const char *name = strtok_r(NULL, " \t", &rest); name; name = strtok_r(NULL, " \t", &rest))
		if (strcmp(name, n->host) == 0)
			set_add(set, address, n->port, cut);
}

static const char *look_in_file(const struct rpc_name *n, struct rpc_addresses *set, bool *cut)
{
	char line[LINE_BYTES];
	FILE *f = fopen(all.file, "re");

	if (!f)
		return strerror(errno);
	while (fgets(line, sizeof(line), f))
		read_line(n, line, set, cut);
	fclose(f);
	return set->n ? NULL : "the file has no address for it";
}

/* -- the thread */

static void say_failure(struct rpc_name *n, const char *why)
{
	if (why && !n->failing)
		log_warn("RPC-NAME", "%s cannot be looked up: %s; %zu addresses known before stay in use", n->host, why, n->set.n);
	else if (!why && n->failing)
		log_info("RPC-NAME", "%s is found again", n->host);
	n->failing = why != NULL;
}

/* Under the lock. */
static void name_take(struct rpc_name *n, struct rpc_addresses *found, bool cut)
{
	if (cut && !n->cut)
		log_warn("RPC-NAME", "%s has more than %d addresses: the others are not used", n->host, RPC_NAME_ADDRESSES);
	n->cut = cut;
	if (n->set.generation && set_same(&n->set, found))
		return;
	found->generation = n->set.generation + 1;
	n->set = *found;
	atomic_store(&n->generation, found->generation);
	for (const struct watcher *w = n->watchers; w; w = w->next)
		w->changed(w->arg);
}

/* Under the lock, which is let go meanwhile. */
static void name_look(struct rpc_name *n)
{
	struct rpc_addresses found = { .n = 0 };
	bool cut = false;
	const char *why;

	n->hurry = false;
	pthread_mutex_unlock(&all.lock);
	why = *all.file ? look_in_file(n, &found, &cut) : look_in_system(n, &found, &cut);
	pthread_mutex_lock(&all.lock);
	n->looked_us = clock_mono_us();
	all.lookups++;
	all.failures += why != NULL;
	say_failure(n, why);
	if (!why)
		name_take(n, &found, cut);
}

static int64_t name_due_us(const struct rpc_name *n)
{
	int ms = n->hurry ? PAUSE_MS : n->set.generation ? EVERY_MS : FIRST_MS;

	return n->looked_us ? n->looked_us + (int64_t)ms * 1000 : 0;
}

static void *names_main(void *arg)
{
	pthread_mutex_lock(&all.lock);
	for (;;) {
		struct rpc_name *first = all.names;
		int64_t due;

		for (struct rpc_name *n = all.names; n; n = n->next)
			if (name_due_us(n) < name_due_us(first))
				first = n;
		due = name_due_us(first);
		if (due <= clock_mono_us()) {
			name_look(first);
		} else {
			struct timespec until = { due / 1000000, due % 1000000 * 1000 };

			pthread_cond_timedwait(&all.wake, &all.lock, &until);
		}
	}
	return NULL;
}

/* Under the lock. Signals are the business of the program's own threads. */
static void thread_start(void)
{
	pthread_condattr_t clock;
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t everything, before;

	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&all.wake, &clock);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&everything);
	pthread_sigmask(SIG_SETMASK, &everything, &before);
	if (pthread_create(&thread, &attr, names_main, NULL) != 0)
		log_die("RPC-NAME", "no thread for looking names up");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	all.started = true;
}

/* -- for callers */

void rpc_names_file(const char *path)
{
	all.file = path;
}

static struct rpc_name *name_find(const char *url)
{
	struct rpc_name *n = all.names;

	while (n && strcmp(n->url, url) != 0)
		n = n->next;
	if (n)
		return n;
	n = xcalloc(1, sizeof(*n));
	n->url = xstrdup(url);
	if (!url_split(url, n->host, n->port))
		log_die("RPC-NAME", "%s is not of the form tcp://host:port", url);
	n->next = all.names;
	all.names = n;
	return n;
}

struct rpc_name *rpc_name_watch(const char *url, void (*changed)(void *arg), void *arg)
{
	struct watcher *w = xcalloc(1, sizeof(*w));
	struct rpc_name *n;

	pthread_mutex_lock(&all.lock);
	n = name_find(url);
	*w = (struct watcher){ changed, arg, n->watchers };
	n->watchers = w;
	if (all.started)
		pthread_cond_signal(&all.wake);
	else
		thread_start();
	pthread_mutex_unlock(&all.lock);
	return n;
}

unsigned rpc_name_generation(const struct rpc_name *n)
{
	return atomic_load(&n->generation);
}

void rpc_name_addresses(struct rpc_name *n, struct rpc_addresses *out)
{
	pthread_mutex_lock(&all.lock);
	*out = n->set;
	pthread_mutex_unlock(&all.lock);
}

void rpc_name_hurry(struct rpc_name *n)
{
	pthread_mutex_lock(&all.lock);
	n->hurry = true;
	pthread_cond_signal(&all.wake);
	pthread_mutex_unlock(&all.lock);
}

void rpc_names_metrics(struct buf *out)
{
	unsigned failing = 0;
	uint64_t lookups, failures;

	pthread_mutex_lock(&all.lock);
	for (const struct rpc_name *n = all.names; n; n = n->next)
		failing += n->failing;
	lookups = all.lookups;
	failures = all.failures;
	pthread_mutex_unlock(&all.lock);
	metrics_one(out, "crm_rpc_name_lookups_total", "counter", "Lookups of host names of services", (double)lookups);
	metrics_one(out, "crm_rpc_name_failures_total", "counter", "Lookups of host names that failed or found nothing: what was known before stays in use", (double)failures);
	metrics_one(out, "crm_rpc_names_failing", "gauge", "Host names whose last lookup failed", failing);
}
