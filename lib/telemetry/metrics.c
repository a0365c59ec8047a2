/* Registry of metrics, lock-free updates, text format 0.0.4. */
#include "telemetry/metrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "telemetry/process.h"

#define SLOTS (METRIC_MAX_SERIES * 2) /* power of two; never more than half full */

const double metric_duration_bounds[METRIC_DURATION_BOUNDS] = {
	0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
};

struct metric_series {
	uint64_t hash;
	const struct metric *metric;
	struct str values[METRIC_MAX_LABELS];
	int64_t value;          /* counter, gauge */
	double sum;             /* histogram */
	uint64_t buckets[];     /* n_bounds + 1, not cumulative */
};

static struct metric *registered;

static size_t n_labels(const struct metric *m)
{
	size_t n = 0;

	while (n < METRIC_MAX_LABELS && m->labels[n])
		n++;
	return n;
}

void metric_register(struct metric *m)
{
	int no = 0;
	struct metric_series **table;

	if (__atomic_load_n(&m->registered, __ATOMIC_ACQUIRE) == 2)
		return;
	if (!__atomic_compare_exchange_n(&m->registered, &no, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		while (__atomic_load_n(&m->registered, __ATOMIC_ACQUIRE) != 2)
			;
		return;
	}
	if (m->type == METRIC_HISTOGRAM && !m->bounds) {
		m->bounds = metric_duration_bounds;
		m->n_bounds = METRIC_DURATION_BOUNDS;
	}
	table = xcalloc(n_labels(m) ? SLOTS : 1, sizeof(*table));
	m->table = table;
	__atomic_store_n(&m->registered, 2, __ATOMIC_RELEASE);
	m->next = __atomic_load_n(&registered, __ATOMIC_ACQUIRE);
	while (!__atomic_compare_exchange_n(&registered, &m->next, m, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		;
}

/* ---- series ---- */

static uint64_t hash_values(const struct str *values, size_t n)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < values[i].n; k++)
			h = (h ^ (unsigned char)values[i].p[k]) * 0x100000001b3u;
		h = (h ^ 0xFF) * 0x100000001b3u;
	}
	return h ^ h >> 32;
}

static bool same_values(const struct metric_series *s, const struct str *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!str_eq(s->values[i], values[i]))
			return false;
	return true;
}

static struct metric_series *series_new(const struct metric *m, uint64_t hash, const struct str *values, size_t n)
{
	size_t buckets = m->type == METRIC_HISTOGRAM ? m->n_bounds + 1 : 0;
	struct metric_series *s = xcalloc(1, sizeof(*s) + buckets * sizeof(uint64_t));

	s->hash = hash;
	s->metric = m;
	for (size_t i = 0; i < n; i++)
		s->values[i] = (struct str){ xstrndup(values[i].n ? values[i].p : "", values[i].n), values[i].n };
	return s;
}

static void series_free(struct metric_series *s)
{
	for (size_t i = 0; i < METRIC_MAX_LABELS; i++)
		free((char *)s->values[i].p);
	free(s);
}

/* Slots are only ever filled, so a reader that finds its series needs no more than one acquire load per probe. */
static struct metric_series *find_or_add(struct metric *m, uint64_t hash, const struct str *values, size_t n, bool bounded)
{
	struct metric_series *made = NULL, *there;
	size_t mask = n ? SLOTS - 1 : 0;

	for (size_t i = hash & mask;; i = (i + 1) & mask) {
		there = __atomic_load_n(&m->table[i], __ATOMIC_ACQUIRE);
		if (!there) {
			if (!made && bounded && __atomic_fetch_add(&m->n_series, 1, __ATOMIC_RELAXED) >= METRIC_MAX_SERIES - 1) {
				__atomic_store_n(&m->n_series, METRIC_MAX_SERIES, __ATOMIC_RELAXED);
				return NULL;
			}
			if (!made)
				made = series_new(m, hash, values, n);
			if (__atomic_compare_exchange_n(&m->table[i], &there, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
				return made;
		}
		if (there->hash == hash && same_values(there, values, n)) {
			if (made)
				series_free(made);
			return there;
		}
	}
}

struct metric_series *metric_series4(struct metric *m, struct str v0, struct str v1, struct str v2, struct str v3)
{
	struct str values[METRIC_MAX_LABELS] = { v0, v1, v2, v3 };
	struct metric_series *s;
	size_t n;

	metric_register(m);
	n = n_labels(m);
	for (size_t i = 0; i < n; i++)
		if (values[i].n > METRIC_MAX_VALUE)
			values[i].n = METRIC_MAX_VALUE;
	s = find_or_add(m, hash_values(values, n), values, n, n > 0);
	if (s)
		return s;
	for (size_t i = 0; i < n; i++)
		values[i] = STR("other");
	return find_or_add(m, hash_values(values, n), values, n, false);
}

void metric_add(struct metric_series *s, int64_t n)
{
	__atomic_fetch_add(&s->value, n, __ATOMIC_RELAXED);
}

void metric_set(struct metric_series *s, int64_t value)
{
	__atomic_store_n(&s->value, value, __ATOMIC_RELAXED);
}

void metric_observe(struct metric_series *s, double value)
{
	const struct metric *m = s->metric;
	double old, next;
	size_t i = 0;

	while (i < m->n_bounds && value > m->bounds[i])
		i++;
	__atomic_fetch_add(&s->buckets[i], 1, __ATOMIC_RELAXED);
	__atomic_load(&s->sum, &old, __ATOMIC_RELAXED);
	do {
		next = old + value;
	} while (!__atomic_compare_exchange(&s->sum, &old, &next, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

int64_t metric_value(const struct metric_series *s)
{
	uint64_t total = 0;

	if (s->metric->type != METRIC_HISTOGRAM)
		return __atomic_load_n(&s->value, __ATOMIC_RELAXED);
	for (size_t i = 0; i <= s->metric->n_bounds; i++)
		total += __atomic_load_n(&s->buckets[i], __ATOMIC_RELAXED);
	return (int64_t)total;
}

/* ---- text ---- */

static void put_label_value(struct buf *out, struct str v)
{
	buf_c(out, '"');
	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] == '\n') {
			buf_z(out, "\\n");
			continue;
		}
		if (v.p[i] == '"' || v.p[i] == '\\')
			buf_c(out, '\\');
		buf_c(out, v.p[i]);
	}
	buf_c(out, '"');
}

static void put_number(struct buf *out, double v)
{
	if (v == floor(v) && fabs(v) < 1e15)
		buf_i64(out, (int64_t)v);
	else
		buf_printf(out, "%.15g", v); /* a time since 1970 needs its last digits */
}

/* {a="…",b="…",le="…"}; le may be NULL. */
static void put_labels(struct buf *out, const struct metric_series *s, const char *le)
{
	size_t n = n_labels(s->metric);

	if (n == 0 && !le)
		return;
	for (size_t i = 0; i < n; i++) {
		buf_c(out, i ? ',' : '{');
		buf_z(out, s->metric->labels[i]);
		buf_c(out, '=');
		put_label_value(out, s->values[i]);
	}
	if (le)
		buf_printf(out, "%cle=\"%s\"", n ? ',' : '{', le);
	buf_c(out, '}');
}

static void put_histogram(struct buf *out, const struct metric_series *s)
{
	const struct metric *m = s->metric;
	uint64_t total = 0;
	double sum;

	for (size_t i = 0; i <= m->n_bounds; i++) {
		char le[32] = "+Inf";

		if (i < m->n_bounds)
			snprintf(le, sizeof(le), "%.9g", m->bounds[i]);
		total += __atomic_load_n(&s->buckets[i], __ATOMIC_RELAXED);
		buf_printf(out, "%s_bucket", m->name);
		put_labels(out, s, le);
		buf_printf(out, " %llu\n", (unsigned long long)total);
	}
	__atomic_load(&s->sum, &sum, __ATOMIC_RELAXED);
	buf_printf(out, "%s_sum", m->name);
	put_labels(out, s, NULL);
	buf_printf(out, " %.15g\n%s_count", sum, m->name);
	put_labels(out, s, NULL);
	buf_printf(out, " %llu\n", (unsigned long long)total);
}

static void put_metric(struct buf *out, const struct metric *m)
{
	static const char *const types[] = { "counter", "gauge", "histogram" };
	size_t slots = n_labels(m) ? SLOTS : 1;

	metrics_head(out, m->name, types[m->type], m->help);
	for (size_t i = 0; i < slots; i++) {
		const struct metric_series *s = __atomic_load_n(&m->table[i], __ATOMIC_ACQUIRE);

		if (!s)
			continue;
		if (m->type == METRIC_HISTOGRAM) {
			put_histogram(out, s);
			continue;
		}
		buf_z(out, m->name);
		put_labels(out, s, NULL);
		buf_c(out, ' ');
		buf_i64(out, metric_value(s));
		buf_c(out, '\n');
	}
}

void metrics_head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_labels(struct buf *out, const char *name, const struct metric_label *labels, size_t n, double v)
{
	buf_z(out, name);
	for (size_t i = 0; i < n; i++) {
		buf_c(out, i ? ',' : '{');
		buf_z(out, labels[i].name);
		buf_c(out, '=');
		put_label_value(out, labels[i].value);
	}
	buf_z(out, n ? "} " : " ");
	put_number(out, v);
	buf_c(out, '\n');
}

void metrics_line(struct buf *out, const char *name, const char *label, struct str value, double v)
{
	struct metric_label l = { label, value };

	metrics_labels(out, name, &l, label ? 1 : 0, v);
}

void metrics_print(struct buf *out)
{
	const struct metric *m = __atomic_load_n(&registered, __ATOMIC_ACQUIRE);

	for (; m; m = m->next)
		put_metric(out, m);
	process_metrics_print(out);
}

void metrics_one(struct buf *out, const char *name, const char *type, const char *help, double value)
{
	metrics_head(out, name, type, help);
	metrics_line(out, name, NULL, STR(""), value);
}
