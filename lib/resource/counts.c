/* Cached totals per tenant, entity and filter, dropped by changes. */
#include "resource/counts.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/codec.h"
#include "resource/notices.h"

#define STALE_US 900000      /* of the promised second, what is left for the count itself */
#define MAX_AGE_US 60000000  /* a change that went by unseen is forgotten after this */
#define SLOT_US 100000
#define SLOTS 12
#define WRITERS 64
#define USER_LEN 40
#define STREAM_KEY 96

struct slot {
	int64_t at;
	uint64_t last; /* generation of the last write in it */
};

struct writer {
	char user[USER_LEN];
	uint64_t gen;
	int64_t at;
};

/* The writes of one entity of one tenant. Generations come from one counter, so that a stream that was forgotten never repeats one. */
struct stream {
	UT_hash_handle hh;
	char key[STREAM_KEY]; /* tenant '/' entity */
	uint64_t gen;
	uint64_t forgotten; /* writes up to this generation are no longer in the slots */
	uint64_t everyone;  /* writes whose user is no longer known */
	struct slot slots[SLOTS];
	unsigned n_slots;
	struct writer writers[WRITERS];
	unsigned next_writer;
	unsigned writing;
	uint64_t starts;
};

struct count_entry {
	UT_hash_handle hh;
	char *key;
	size_t key_n;
	int64_t count, taken_at;
	uint64_t gen;
	bool known, pure;
	bool counting;
	uint64_t counting_gen, counting_starts;
	int64_t counting_at;
	struct count_wait *waiting;
	char stream[STREAM_KEY];
};

static struct {
	pthread_mutex_t lock;
	struct stream *streams;
	struct count_entry *entries;
	uint64_t gen, epoch;
	bool listening;
	struct counts_stats stats;
} all = { .lock = PTHREAD_MUTEX_INITIALIZER, .gen = 1 };

static void stream_name(char out[STREAM_KEY], struct str tenant, struct str entity)
{
	snprintf(out, STREAM_KEY, "%.*s/%.*s", (int)(tenant.n > 40 ? 40 : tenant.n), tenant.p ? tenant.p : "", (int)(entity.n > 50 ? 50 : entity.n), entity.p);
}

static void streams_trim(void)
{
	struct stream *s, *next;
	unsigned looked = 0;

	if (HASH_COUNT(all.streams) < COUNTS_MAX_STREAMS)
		return;
	HASH_ITER(hh, all.streams, s, next) {
		if (!s->writing) {
			HASH_DEL(all.streams, s);
			free(s);
			return;
		}
		if (++looked == 100)
			return;
	}
}

static struct stream *stream_get(const char *name)
{
	struct stream *s;

	HASH_FIND_STR(all.streams, name, s);
	if (s)
		return s;
	streams_trim();
	s = xcalloc(1, sizeof(*s));
	memcpy(s->key, name, strnlen(name, STREAM_KEY - 1));
	s->gen = ++all.gen;
	s->forgotten = s->gen;
	HASH_ADD_STR(all.streams, key, s);
	return s;
}

static void slot_note(struct stream *s, int64_t now)
{
	int64_t at = now - now % SLOT_US;
	struct slot *last = s->n_slots ? &s->slots[s->n_slots - 1] : NULL;

	if (last && last->at == at) {
		last->last = s->gen;
		return;
	}
	if (s->n_slots == SLOTS) {
		s->forgotten = s->slots[0].last;
		memmove(s->slots, s->slots + 1, sizeof(s->slots) - sizeof(s->slots[0]));
		s->n_slots--;
	}
	s->slots[s->n_slots++] = (struct slot){ at, s->gen };
}

static void writer_note(struct stream *s, struct str user, int64_t now)
{
	struct writer *w = &s->writers[s->next_writer++ % WRITERS];

	if (w->gen && now - w->at < 2 * STALE_US && w->gen > s->everyone)
		s->everyone = w->gen;
	w->gen = s->gen;
	w->at = now;
	snprintf(w->user, sizeof(w->user), "%.*s", (int)(user.n < USER_LEN ? user.n : USER_LEN - 1), user.p ? user.p : "");
}

/* The generation that user must see. */
static uint64_t writer_need(const struct stream *s, struct str user)
{
	uint64_t need = s->everyone;

	for (unsigned i = 0; i < WRITERS; i++)
		if (s->writers[i].gen > need && str_eq(str_of(s->writers[i].user), user))
			need = s->writers[i].gen;
	return need;
}

/* When the first change after gen happened; 0: long ago. */
static int64_t changed_at(const struct stream *s, uint64_t gen)
{
	if (s->forgotten > gen)
		return 0;
	for (unsigned i = 0; i < s->n_slots; i++)
		if (s->slots[i].last > gen)
			return s->slots[i].at;
	return 0;
}

static struct count_entry *entry_find(const char *key, size_t n)
{
	struct count_entry *e;

	HASH_FIND(hh, all.entries, key, n, e);
	return e;
}

static void entry_free(struct count_entry *e)
{
	HASH_DEL(all.entries, e);
	free(e->key);
	free(e);
}

/* The longest unused goes; uthash keeps the order in which entries were added, and a use adds again. */
static void entries_trim(void)
{
	struct count_entry *e, *next;
	unsigned looked = 0;

	if (HASH_COUNT(all.entries) < COUNTS_MAX_ENTRIES)
		return;
	HASH_ITER(hh, all.entries, e, next) {
		if (!e->counting) {
			entry_free(e);
			return;
		}
		if (++looked == 1000)
			return;
	}
}

static struct count_entry *entry_get(const struct counts_key *k, const char *stream)
{
	char key[STREAM_KEY + 32];
	size_t n = strlen(stream) + 1;
	struct count_entry *e;

	memcpy(key, stream, n);
	if (k->filter.n) {
		sha256(k->filter.p, k->filter.n, (uint8_t *)key + n);
		n += 32;
	}
	e = entry_find(key, n);
	if (e) {
		HASH_DEL(all.entries, e);
	} else {
		entries_trim();
		e = xcalloc(1, sizeof(*e));
		e->key = xmalloc(n);
		memcpy(e->key, key, n);
		e->key_n = n;
		memcpy(e->stream, stream, STREAM_KEY);
	}
	HASH_ADD_KEYPTR(hh, all.entries, e->key, e->key_n, e);
	return e;
}

static bool is_good(const struct count_entry *e, const struct stream *s, const struct counts_key *k, int64_t now)
{
	bool heard = all.listening && !k->ttl;
	int64_t since;

	if (!e->known || e->gen < all.epoch || e->gen < writer_need(s, k->user))
		return false;
	if (heard && e->gen == s->gen)
		return now - e->taken_at < MAX_AGE_US;
	since = heard ? changed_at(s, e->gen) : e->taken_at;
	return now - since < STALE_US;
}

static void counting_start(struct count_entry *e, const struct stream *s)
{
	e->counting = true;
	e->counting_gen = s->gen;
	e->counting_starts = s->starts;
	e->pure = s->writing == 0;
	e->counting_at = clock_mono_us();
	all.stats.run++;
}

bool counts_get(const struct counts_key *k, struct count_wait *w, int64_t *n)
{
	char name[STREAM_KEY] = "";
	struct stream *s;
	struct count_entry *e;
	bool good, start = false;

	stream_name(name, k->tenant, str_of(k->entity));
	pthread_mutex_lock(&all.lock);
	s = stream_get(name);
	e = entry_get(k, name);
	good = is_good(e, s, k, clock_mono_us());
	if (good) {
		*n = e->count;
		all.stats.served++;
	} else {
		w->need = writer_need(s, k->user);
		w->next = e->waiting;
		e->waiting = w;
		start = !e->counting;
		if (start)
			counting_start(e, s);
	}
	pthread_mutex_unlock(&all.lock);
	if (start)
		w->run(w, e);
	return good;
}

/* Takes the waiters that a count of generation gen satisfies; on a failure all of them. */
static struct count_wait *waiters_take(struct count_entry *e, uint64_t gen, bool failed)
{
	struct count_wait *out = NULL, **at = &e->waiting;

	while (*at) {
		struct count_wait *w = *at;

		if (failed || w->need <= gen) {
			*at = w->next;
			w->next = out;
			out = w;
		} else {
			at = &w->next;
		}
	}
	return out;
}

void counts_put(struct count_entry *e, enum status status, int64_t n)
{
	struct count_wait *done, *again = NULL;
	struct stream *s;

	pthread_mutex_lock(&all.lock);
	s = stream_get(e->stream);
	e->counting = false;
	if (status == STATUS_OK) {
		e->known = true;
		e->count = n;
		e->gen = e->counting_gen;
		e->taken_at = e->counting_at;
		e->pure = e->pure && s->starts == e->counting_starts && s->writing == 0;
	}
	done = waiters_take(e, e->counting_gen, status != STATUS_OK);
	if (e->waiting) {
		again = e->waiting;
		counting_start(e, s);
	}
	pthread_mutex_unlock(&all.lock);
	if (again)
		again->run(again, e);
	while (done) {
		struct count_wait *w = done;

		done = w->next;
		w->done(w, status, n);
	}
}

static void bump(struct stream *s, struct str user, int64_t now)
{
	s->gen = ++all.gen;
	slot_note(s, now);
	if (user.n)
		writer_note(s, user, now);
}

/* The count of everything goes along with a change whose size is known; one that is being taken does not. */
static void adjust(struct stream *s, uint64_t before, int delta)
{
	struct count_entry *e = entry_find(s->key, strlen(s->key) + 1);

	if (!e || !e->known || e->gen != before || (delta && (!e->pure || e->counting)))
		return;
	e->count += delta;
	e->gen = s->gen;
	all.stats.adjusted++;
}

void counts_begin(struct str tenant, const char *entity)
{
	char name[STREAM_KEY] = "";
	struct stream *s;

	stream_name(name, tenant, str_of(entity));
	pthread_mutex_lock(&all.lock);
	s = stream_get(name);
	s->writing++;
	s->starts++;
	pthread_mutex_unlock(&all.lock);
}

void counts_end(struct str tenant, const char *entity, struct str user, int delta, enum counts_outcome outcome)
{
	char name[STREAM_KEY] = "";
	struct stream *s;
	uint64_t before;

	stream_name(name, tenant, str_of(entity));
	pthread_mutex_lock(&all.lock);
	s = stream_get(name);
	if (s->writing)
		s->writing--;
	before = s->gen;
	if (outcome != COUNTS_ABORTED)
		bump(s, user, clock_mono_us());
	if (outcome == COUNTS_COMMITTED)
		adjust(s, before, delta);
	pthread_mutex_unlock(&all.lock);
	if (outcome != COUNTS_ABORTED)
		notices_add(tenant, str_of(entity));
}

void counts_changed(struct str tenant, const char *entity, struct str user)
{
	char name[STREAM_KEY] = "";

	stream_name(name, tenant, str_of(entity));
	pthread_mutex_lock(&all.lock);
	bump(stream_get(name), user, clock_mono_us());
	pthread_mutex_unlock(&all.lock);
	notices_add(tenant, str_of(entity));
}

void counts_heard(struct str tenant, struct str entity)
{
	char name[STREAM_KEY] = "";
	struct stream *s;

	stream_name(name, tenant, entity);
	pthread_mutex_lock(&all.lock);
	if (!tenant.n) {
		all.epoch = ++all.gen;
	} else {
		HASH_FIND_STR(all.streams, name, s);
		if (s)
			bump(s, (struct str){ 0 }, clock_mono_us());
	}
	pthread_mutex_unlock(&all.lock);
}

void counts_listening(bool on)
{
	pthread_mutex_lock(&all.lock);
	if (on && !all.listening)
		all.epoch = ++all.gen;
	all.listening = on;
	pthread_mutex_unlock(&all.lock);
}

struct counts_stats counts_stats(void)
{
	struct counts_stats s;

	pthread_mutex_lock(&all.lock);
	s = all.stats;
	s.entries = HASH_COUNT(all.entries);
	pthread_mutex_unlock(&all.lock);
	return s;
}

void counts_fini(void)
{
	struct count_entry *e, *next_e;
	struct stream *s, *next_s;

	pthread_mutex_lock(&all.lock);
	HASH_ITER(hh, all.entries, e, next_e)
		entry_free(e);
	HASH_ITER(hh, all.streams, s, next_s) {
		HASH_DEL(all.streams, s);
		free(s);
	}
	all.stats = (struct counts_stats){ 0 };
	pthread_mutex_unlock(&all.lock);
}
