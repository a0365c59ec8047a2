/* Trace contexts, the sampler, spans, and the ring in which ended spans wait for the exporter. */
#include "telemetry/trace.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "base/codec.h"
#include "telemetry/trace_internal.h"

bool trace_on;
__thread struct trace_context trace_here;

static __thread const struct trace_context *shared;
static __thread size_t n_shared;

/* -- contexts */

static bool any(const uint8_t *p, size_t n)
{
	uint8_t or = 0;

	for (size_t i = 0; i < n; i++)
		or |= p[i];
	return or != 0;
}

static bool is_lower(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] >= 'A' && s.p[i] <= 'F')
			return false;
	return true;
}

bool trace_parse(struct str t, struct trace_context *c)
{
	uint8_t flags;

	*c = (struct trace_context){ 0 };
	if (t.n != TRACEPARENT || memcmp(t.p, "00-", 3) != 0 || t.p[35] != '-' || t.p[52] != '-' || !is_lower(t))
		return false;
	if (!hex_decode((struct str){ t.p + 3, 32 }, c->trace, 16) || !hex_decode((struct str){ t.p + 36, 16 }, c->span, 8) ||
	    !hex_decode((struct str){ t.p + 53, 2 }, &flags, 1))
		return false;
	c->sampled = flags & 1;
	return any(c->trace, 16) && any(c->span, 8);
}

void trace_print(const struct trace_context *c, char out[TRACEPARENT + 1])
{
	memcpy(out, "00-", 3);
	hex_encode(c->trace, 16, out + 3);
	out[35] = '-';
	hex_encode(c->span, 8, out + 36);
	memcpy(out + 52, c->sampled ? "-01" : "-00", 4);
}

bool trace_continue(struct str traceparent, struct trace_context *c)
{
	if (!trace_on || !trace_parse(traceparent, c))
		return false;
	c->sampled = trace_sample(c);
	return c->sampled;
}

/* -- the sampler */

static struct trace_sampler sampler;

/*
 * The last 56 bits decide, as in OpenTelemetry's consistent sampling and W3C's random flag: they are random in ids that we make from a
 * UUIDv7, whose first half is a clock. Every process decides alike.
 */
static bool ratio_takes(const uint8_t trace[16], double ratio)
{
	uint64_t random = 0;

	for (int i = 9; i < 16; i++)
		random = random << 8 | trace[i];
	return (double)random >= (1 - ratio) * (double)(UINT64_C(1) << 56);
}

bool trace_sample(const struct trace_context *c)
{
	if (!trace_on)
		return false;
	if (sampler.parent_based && any(c->span, 8))
		return c->sampled;
	return sampler.root == SAMPLER_ALWAYS_ON || (sampler.root == SAMPLER_RATIO && ratio_takes(c->trace, sampler.ratio));
}

/* -- the ring: many put, one takes; nobody waits (D. Vyukov's bounded queue) */

struct cell {
	_Atomic uint64_t turn; /* i: free for the i-th put; i + 1: holds the i-th span */
	struct span span;
};

static struct {
	struct cell *cells;
	size_t room, batch;
	void (*wake)(void);
	_Alignas(64) _Atomic uint64_t put, overflow;
	_Alignas(64) _Atomic uint64_t taken;
} ring;

void trace_ring_init(size_t room, size_t batch, void (*wake)(void), struct trace_sampler how)
{
	ring.cells = xcalloc(room, sizeof(*ring.cells));
	for (size_t i = 0; i < room; i++)
		atomic_init(&ring.cells[i].turn, i);
	ring.room = room;
	ring.batch = batch;
	ring.wake = wake;
	sampler = how;
	atomic_store(&ring.put, 0);
	atomic_store(&ring.overflow, 0);
	atomic_store(&ring.taken, 0);
	trace_on = true;
}

void trace_ring_fini(void)
{
	trace_on = false;
	free(ring.cells);
	ring.cells = NULL;
}

size_t trace_ring_waiting(void)
{
	return (size_t)(atomic_load(&ring.put) - atomic_load(&ring.taken));
}

struct trace_counts trace_ring_counts(void)
{
	return (struct trace_counts){ .queued = atomic_load(&ring.put), .overflow = atomic_load(&ring.overflow) };
}

/* Only what is used of the text is copied. */
static void copy(struct span *to, const struct span *from)
{
	memcpy(to, from, offsetof(struct span, text) + from->n_text);
}

static void ring_put(const struct span *s)
{
	uint64_t at = atomic_load_explicit(&ring.put, memory_order_relaxed);

	for (;;) {
		struct cell *c = &ring.cells[at % ring.room];
		uint64_t turn = atomic_load_explicit(&c->turn, memory_order_acquire);

		if (turn < at) { /* still holds the span of the round before */
			atomic_fetch_add_explicit(&ring.overflow, 1, memory_order_relaxed);
			return;
		}
		if (turn > at) {
			at = atomic_load_explicit(&ring.put, memory_order_relaxed);
		} else if (atomic_compare_exchange_weak_explicit(&ring.put, &at, at + 1, memory_order_relaxed, memory_order_relaxed)) {
			copy(&c->span, s);
			atomic_store_explicit(&c->turn, at + 1, memory_order_release);
			break;
		}
	}
	if (at + 1 - atomic_load_explicit(&ring.taken, memory_order_relaxed) == ring.batch && ring.wake)
		ring.wake();
}

bool trace_ring_take(struct span *out)
{
	uint64_t at = atomic_load_explicit(&ring.taken, memory_order_relaxed);
	struct cell *c = &ring.cells[at % ring.room];

	if (atomic_load_explicit(&c->turn, memory_order_acquire) != at + 1)
		return false;
	copy(out, &c->span);
	atomic_store_explicit(&c->turn, at + ring.room, memory_order_release);
	atomic_store_explicit(&ring.taken, at + 1, memory_order_relaxed);
	return true;
}

/* -- spans */

static int64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* splitmix64: ids need to be different, not secret. */
static void new_id(uint8_t out[8])
{
	static __thread uint64_t state;
	uint64_t z;

	if (!state)
		random_bytes(&state, sizeof(state));
	do {
		state += UINT64_C(0x9e3779b97f4a7c15);
		z = (state ^ state >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
		z ^= z >> 31;
	} while (!z);
	memcpy(out, &z, 8);
}

/* Where it lies in s->text; *n: how much of it does. */
static uint16_t keep(struct span *s, struct str text, uint16_t *n)
{
	uint16_t at = s->n_text;
	size_t room = sizeof(s->text) - at;

	*n = (uint16_t)(text.n < room ? text.n : room);
	if (*n)
		memcpy(s->text + at, text.p, *n);
	s->n_text = (uint16_t)(at + *n);
	return at;
}

void span_begin(struct span *s, const struct trace_context *parent, enum span_kind kind, struct str name)
{
	memset(s, 0, offsetof(struct span, attrs));
	s->at = *parent;
	memcpy(s->parent, parent->span, 8);
	new_id(s->at.span);
	s->kind = kind;
	s->start_ns = now_ns(CLOCK_REALTIME);
	s->mono_ns = now_ns(CLOCK_MONOTONIC);
	span_name(s, name);
}

void span_name(struct span *s, struct str name)
{
	if (name.n)
		s->name_at = keep(s, name, &s->name_n);
}

static struct span_attr *attr(struct span *s, const char *key, int type)
{
	struct span_attr *a = &s->attrs[s->n_attrs];

	if (s->n_attrs == SPAN_ATTRS)
		return NULL;
	s->n_attrs++;
	*a = (struct span_attr){ .key = key, .type = type };
	return a;
}

void span_text(struct span *s, const char *key, struct str value)
{
	struct span_attr *a = value.n ? attr(s, key, SPAN_ATTR_TEXT) : NULL;

	if (a)
		a->at = keep(s, value, &a->n);
}

void span_int(struct span *s, const char *key, int64_t value)
{
	struct span_attr *a = attr(s, key, SPAN_ATTR_INT);

	if (a)
		a->number = value;
}

void span_bool(struct span *s, const char *key, bool value)
{
	struct span_attr *a = attr(s, key, SPAN_ATTR_BOOL);

	if (a)
		a->number = value;
}

void span_link(struct span *s, const struct trace_context *to)
{
	s->link = *to;
}

void span_close(struct span *s)
{
	s->end_ns = s->start_ns + now_ns(CLOCK_MONOTONIC) - s->mono_ns;
}

void span_end(struct span *s)
{
	if (!s->end_ns)
		span_close(s);
	ring_put(s);
}

void trace_share(const struct trace_context *others, size_t n)
{
	shared = others;
	n_shared = n < TRACE_SHARED_MOST ? n : TRACE_SHARED_MOST;
}

void span_end_shared(struct span *s)
{
	span_end(s);
	for (size_t i = 0; i < n_shared; i++) {
		s->at = shared[i];
		memcpy(s->parent, shared[i].span, 8);
		new_id(s->at.span);
		ring_put(s);
	}
}
