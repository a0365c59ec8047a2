/*
 * Counters, gauges and histograms with bounded labels, printed in the Prometheus text format 0.0.4.
 *
 * A metric is a static struct; it registers itself when first used, or earlier by metric_register so that it shows with no
 * series yet. Updates are lock-free and may come from any thread. Label values must come from small closed sets (a route
 * template, a status): the first METRIC_MAX_SERIES combinations get a series, later ones fall into one whose values are all
 * "other". Hot paths keep the series pointer, which stays valid for the life of the process.
 *
 *	static struct metric requests = { .name = "crm_rpc_requests_total", .help = "Calls served",
 *	    .type = METRIC_COUNTER, .labels = { "rpc", "status" } };
 *	metric_add(metric_series(&requests, STR("GetLead"), STR("OK")), 1);
 */
#ifndef CRM_TELEMETRY_METRICS_H
#define CRM_TELEMETRY_METRICS_H

#include "base/buf.h"
#include "base/str.h"

#define METRIC_MAX_LABELS 4
#define METRIC_MAX_SERIES 2048
#define METRIC_MAX_VALUE 120 /* longer label values are cut */

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_series;

struct metric {
	const char *name, *help;
	enum metric_type type;
	const char *labels[METRIC_MAX_LABELS]; /* NULL-terminated when fewer */
	const double *bounds;                  /* histogram: ascending upper bounds, without +Inf; NULL: seconds of a request (OTel) */
	size_t n_bounds;
	/* private */
	struct metric *next;
	struct metric_series **table;
	int registered;
	unsigned n_series;
};

/* The buckets OpenTelemetry names for http.server.request.duration, in seconds. */
#define METRIC_DURATION_BOUNDS 14
extern const double metric_duration_bounds[METRIC_DURATION_BOUNDS];

void metric_register(struct metric *m);

/* Finds or makes the series with these values, in the order of m->labels. Unused trailing values are ignored. */
struct metric_series *metric_series4(struct metric *m, struct str v0, struct str v1, struct str v2, struct str v3);

#define METRIC_NONE ((struct str){ 0 })
#define METRIC_PICK(m, a, b, c, d, ...) metric_series4(m, a, b, c, d)
#define metric_series(...) METRIC_PICK(__VA_ARGS__, METRIC_NONE, METRIC_NONE, METRIC_NONE, METRIC_NONE, METRIC_NONE)

void metric_add(struct metric_series *s, int64_t n);    /* counter, gauge */
void metric_set(struct metric_series *s, int64_t value); /* gauge */
void metric_observe(struct metric_series *s, double value); /* histogram */
int64_t metric_value(const struct metric_series *s);    /* counter, gauge; a histogram's count */

/* All registered metrics, then those of this process (process_*). */
void metrics_print(struct buf *out);

/* For hooks that print values kept elsewhere: one line, label values escaped. NULL label name: none. */
void metrics_line(struct buf *out, const char *name, const char *label, struct str value, double v);
/* The same with several labels, names and values in pairs. */
struct metric_label {
	const char *name;
	struct str value;
};
void metrics_labels(struct buf *out, const char *name, const struct metric_label *labels, size_t n, double v);
void metrics_head(struct buf *out, const char *name, const char *type, const char *help);
/* A metric without labels: head and line. */
void metrics_one(struct buf *out, const char *name, const char *type, const char *help, double value);

#endif
