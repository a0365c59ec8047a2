/* The envelope keys: read from a file, read again when it changes, shared by the threads of a process. */
#include "rpc/keys.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/codec.h"
#include "base/log.h"
#include "telemetry/metrics.h"

enum { LOOK_EVERY_MS = 500, LINE_BYTES = 2 * RPC_KEY_BYTES, FILE_BYTES = RPC_KEYS_MAX * (LINE_BYTES + 2) };

struct key_text {
	char p[FILE_BYTES + 1]; /* one more: a longer file is seen to be longer */
	size_t n;
	bool unreadable;
};

struct rpc_keys {
	const char *path;
	pthread_mutex_t lock; /* set */
	struct rpc_key_set set;
	atomic_uint generation;
	atomic_ullong fallbacks;
	struct event *look;
	struct key_text taken, seen; /* what the set is made of, or was refused; what the last look saw */
	void (*changed)(void *arg);
	void *arg;
};

/* -- the file */

static struct key_text text_read(const char *path)
{
	struct key_text t = { .n = 0 };
	FILE *f = path && path[0] ? fopen(path, "re") : NULL;

	t.unreadable = !f;
	if (!f)
		return t;
	setvbuf(f, NULL, _IONBF, 0); /* no copy of the keys is left behind in a buffer */
	t.n = fread(t.p, 1, sizeof(t.p), f);
	t.unreadable = ferror(f) != 0;
	fclose(f);
	return t;
}

static bool text_same(const struct key_text *a, const struct key_text *b)
{
	return a->n == b->n && a->unreadable == b->unreadable && memcmp(a->p, b->p, a->n) == 0;
}

static struct str next_line(struct str *rest)
{
	const char *end = memchr(rest->p, '\n', rest->n);
	struct str line = { rest->p, end ? (size_t)(end - rest->p) : rest->n };

	rest->p += line.n + (end != NULL);
	rest->n -= line.n + (end != NULL);
	if (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	return line;
}

/* NULL, or what is wrong. */
static const char *text_parse(const struct key_text *t, struct rpc_key_set *set)
{
	struct str rest = { t->p, t->n };

	*set = (struct rpc_key_set){ 0 };
	if (t->unreadable)
		return "it cannot be read";
	if (t->n > FILE_BYTES)
		return "it is longer than four lines of 64 hex digits";
	while (rest.n) {
		if (set->n == RPC_KEYS_MAX || !hex_decode(next_line(&rest), set->key[set->n], RPC_KEY_BYTES))
			return "it must hold one to four lines of 64 hex digits";
		set->n++;
	}
	return set->n ? NULL : "it is empty";
}

/* -- the set */

static void keys_apply(struct rpc_keys *k, const struct rpc_key_set *set)
{
	pthread_mutex_lock(&k->lock);
	k->set = *set;
	pthread_mutex_unlock(&k->lock);
	atomic_fetch_add(&k->generation, 1);
}

/* Says which key it is and nothing of it. */
static void keys_say(const struct rpc_key_set *set)
{
	uint8_t digest[32];
	char hex[9];

	sha256(set->key[0], RPC_KEY_BYTES, digest);
	hex_encode(digest, 4, hex);
	hex[8] = 0;
	log_info("RPC-KEYS", "envelope keys accepted: %zu; SHA-256 of the one that signs begins with %s", set->n, hex);
}

static struct rpc_keys *keys_new(void)
{
	struct rpc_keys *k = xcalloc(1, sizeof(*k));

	pthread_mutex_init(&k->lock, NULL);
	atomic_init(&k->generation, 0);
	return k;
}

struct rpc_keys *rpc_keys_open(const char *path)
{
	struct rpc_keys *k = keys_new();
	struct rpc_key_set set;
	const char *why;

	k->path = path;
	k->taken = k->seen = text_read(path);
	why = text_parse(&k->taken, &set);
	if (why)
		log_die("RPC-KEY", "the envelope key file %s: %s", path && path[0] ? path : "(not set)", why);
	keys_apply(k, &set);
	keys_say(&set);
	explicit_bzero(&set, sizeof(set));
	return k;
}

struct rpc_keys *rpc_keys_of(const uint8_t (*keys)[RPC_KEY_BYTES], size_t n)
{
	struct rpc_keys *k = keys_new();
	struct rpc_key_set set = { .n = n };

	memcpy(set.key, keys, n * RPC_KEY_BYTES);
	keys_apply(k, &set);
	return k;
}

void rpc_keys_free(struct rpc_keys *k)
{
	if (k->look)
		event_free(k->look);
	pthread_mutex_destroy(&k->lock);
	explicit_bzero(k, sizeof(*k));
	free(k);
}

void rpc_keys_set(struct rpc_keys *k, const struct rpc_key_set *set)
{
	keys_apply(k, set);
}

struct rpc_key_set rpc_keys_get(struct rpc_keys *k)
{
	struct rpc_key_set set;

	pthread_mutex_lock(&k->lock);
	set = k->set;
	pthread_mutex_unlock(&k->lock);
	return set;
}

unsigned rpc_keys_generation(const struct rpc_keys *k)
{
	return atomic_load_explicit(&k->generation, memory_order_acquire);
}

void rpc_keys_fell_back(struct rpc_keys *k)
{
	atomic_fetch_add_explicit(&k->fallbacks, 1, memory_order_relaxed);
}

/* -- changes */

static void keys_take(struct rpc_keys *k)
{
	struct rpc_key_set set;
	const char *why = text_parse(&k->seen, &set);

	k->taken = k->seen;
	if (why) {
		log_error("RPC-KEYS", "the envelope key file %s: %s; the keys known before stay in use", k->path, why);
		return;
	}
	keys_apply(k, &set);
	keys_say(&set);
	explicit_bzero(&set, sizeof(set));
	if (k->changed)
		k->changed(k->arg);
}

static void look_cb(evutil_socket_t fd, short what, void *arg)
{
	struct rpc_keys *k = arg;
	struct key_text now = text_read(k->path);

	if (!text_same(&now, &k->seen))
		k->seen = now;
	else if (!text_same(&k->seen, &k->taken))
		keys_take(k);
	explicit_bzero(&now, sizeof(now));
}

void rpc_keys_watch(struct rpc_keys *k, struct event_base *base, void (*changed)(void *arg), void *arg)
{
	struct timeval tv = { 0, LOOK_EVERY_MS * 1000 };

	k->changed = changed;
	k->arg = arg;
	k->look = event_new(base, -1, EV_PERSIST, look_cb, k);
	if (!k->look || event_add(k->look, &tv) != 0)
		log_die("RPC-KEYS", "no memory for an event");
}

/* -- what operators see */

struct rpc_keys_stats rpc_keys_stats(struct rpc_keys *k)
{
	struct rpc_key_set set = rpc_keys_get(k);
	struct rpc_keys_stats s = { .accepted = (unsigned)set.n, .fallbacks = atomic_load_explicit(&k->fallbacks, memory_order_relaxed) };

	explicit_bzero(&set, sizeof(set));
	return s;
}

void rpc_keys_metrics(struct rpc_keys *k, struct buf *out)
{
	struct rpc_keys_stats s = rpc_keys_stats(k);

	metrics_one(out, "crm_envelope_keys", "gauge", "Envelope keys that are accepted", s.accepted);
	metrics_one(out, "crm_rpc_key_fallback_total", "counter", "Messages whose envelope key was accepted but is not the first", (double)s.fallbacks);
}

void rpc_key_load(const char *path, uint8_t key[RPC_KEY_BYTES])
{
	struct key_text t = text_read(path);
	struct str line = { t.p, t.n };

	if (t.unreadable)
		log_die("RPC-KEY", "cannot read the key file %s", path && path[0] ? path : "(not set)");
	if (line.n == LINE_BYTES + 1 && line.p[LINE_BYTES] == '\n')
		line.n--;
	if (!hex_decode(line, key, RPC_KEY_BYTES))
		log_die("RPC-KEY", "%s must hold 64 hex digits", path);
	explicit_bzero(&t, sizeof(t));
}
