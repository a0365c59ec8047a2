/* Metrics and the access log. */
#include "gateway/telemetry.h"

#include "base/clock.h"
#include "base/log.h"
#include "gateway/feed.h"
#include "telemetry/metrics.h"

#define SERIES_CACHE 1024 /* direct-mapped, per thread */

static struct metric duration = {
	.name = "http_server_request_duration_seconds",
	.help = "Time from the first byte of the request to its answer",
	.type = METRIC_HISTOGRAM,
	.labels = { "http_request_method", "http_route", "http_response_status_code" },
};

struct route_series {
	struct {
		const struct route *route;
		int http;
		bool head;
		struct metric_series *series;
	} rows[SERIES_CACHE];
};

static bool access_log; /* set before threads start */

void telemetry_init(bool with_access_log)
{
	access_log = with_access_log;
	metric_register(&duration);
}

struct route_series *route_series_new(void)
{
	return xcalloc(1, sizeof(struct route_series));
}

void route_series_clear(struct route_series *s)
{
	memset(s, 0, sizeof(*s));
}

static struct str known_method(struct str method)
{
	static const char *const known[] = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (str_eq(method, str_of(known[i])))
			return str_of(known[i]);
	}
	return STR("OTHER");
}

static struct metric_series *find_series(struct str method, const struct route *route, int http)
{
	char code[12] = { (char)('0' + http / 100 % 10), (char)('0' + http / 10 % 10), (char)('0' + http % 10), 0 };

	return metric_series(&duration, known_method(method), route ? str_of(route->template) : STR("none"), str_of(code));
}

/* The series of a route and status, without looking its labels up each time. */
static struct metric_series *series_of(struct route_series *cache, struct str method, const struct route *route, int http)
{
	size_t at = (((uintptr_t)route >> 5) ^ (uintptr_t)http * 31) % SERIES_CACHE;
	bool head = str_eq(method, STR("HEAD"));

	if (!route)
		return find_series(method, NULL, http);
	if (cache->rows[at].route != route || cache->rows[at].http != http || cache->rows[at].head != head) {
		cache->rows[at].route = route;
		cache->rows[at].http = http;
		cache->rows[at].head = head;
		cache->rows[at].series = find_series(method, route, http);
	}
	return cache->rows[at].series;
}

void telemetry_answered(struct request *r, int http)
{
	int64_t took_us = clock_mono_us() - r->x->start_us;
	struct str method = r->x->req.method;
	bool fresh = r->faces == r->w->faces; /* the cache belongs to the newest routes */

	metric_observe(fresh ? series_of(r->w->series, method, r->route, http) : find_series(method, r->route, http), (double)took_us / 1e6);
	if (!access_log)
		return;
	log_context(r->trace_id, r->request_id, r->caller.tenant_id);
	log_debug("HTTP-REQUEST", "%.*s %s %d %lld us %s", STR_FMT(known_method(method)), r->route ? r->route->template : "none", http,
	    (long long)took_us, r->sel.face ? r->sel.face->dialect->name : "none");
	log_context((struct str){ 0 }, (struct str){ 0 }, (struct str){ 0 });
}

void telemetry_publish(struct worker *w)
{
	struct worker_numbers now = { .http = http_server_stats(w->http), .principals = principals_count(w->principals), .refs = ref_cache_count(w->refs),
		.feed_clients = feed_clients(w->feed) };
	size_t max = sizeof(now.services) / sizeof(now.services[0]);

	now.n_services = rpc_client_stats(w->rpc, now.services, max);
	if (now.n_services > max)
		now.n_services = max;
	pthread_mutex_lock(&w->lock);
	w->numbers = now;
	pthread_mutex_unlock(&w->lock);
}

struct sums {
	struct http_stats http;
	size_t principals, refs, feed_clients;
	struct rpc_service_stats services[SERVICES_MAX * 4];
	size_t n_services;
};

/* Instances are in the same order in every worker. An instance counts as healthy when every thread finds it so. */
static void add_service(struct rpc_service_stats *sum, const struct rpc_service_stats *s, bool first)
{
	if (first) {
		*sum = *s;
		return;
	}
	sum->healthy = sum->healthy && s->healthy;
	sum->calls += s->calls;
	sum->errors += s->errors;
	sum->timeouts += s->timeouts;
	sum->ejections += s->ejections;
	sum->in_flight += s->in_flight;
	sum->batches += s->batches;
}

static void add_worker(struct sums *sum, struct worker *w, bool first)
{
	const struct worker_numbers *n = &w->numbers;

	pthread_mutex_lock(&w->lock);
	sum->http.accepted += n->http.accepted;
	sum->http.requests += n->http.requests;
	sum->http.rejected += n->http.rejected;
	sum->http.timeouts += n->http.timeouts;
	sum->http.bytes_in += n->http.bytes_in;
	sum->http.bytes_out += n->http.bytes_out;
	sum->http.open += n->http.open;
	sum->http.too_many += n->http.too_many;
	sum->principals += n->principals;
	sum->refs += n->refs;
	sum->feed_clients += n->feed_clients;
	for (size_t i = 0; i < n->n_services; i++)
		add_service(&sum->services[i], &n->services[i], first || i >= sum->n_services);
	if (n->n_services > sum->n_services)
		sum->n_services = n->n_services;
	pthread_mutex_unlock(&w->lock);
}

static void one(struct buf *out, const char *name, const char *type, const char *help, double value)
{
	metrics_head(out, name, type, help);
	metrics_line(out, name, NULL, (struct str){ 0 }, value);
}

static void per_instance(struct buf *out, const struct sums *s, const char *name, const char *type, const char *help, size_t offset)
{
	metrics_head(out, name, type, help);
	for (size_t i = 0; i < s->n_services; i++) {
		char label[256];
		int n = snprintf(label, sizeof(label), "%s %s", s->services[i].name, s->services[i].url);
		uint64_t value;

		memcpy(&value, (const char *)&s->services[i] + offset, sizeof(value));
		metrics_line(out, name, "instance", (struct str){ label, n < (int)sizeof(label) ? (size_t)n : sizeof(label) - 1 }, (double)value);
	}
}

static void print_services(struct buf *out, const struct sums *s)
{
#define AT(member) offsetof(struct rpc_service_stats, member)
	per_instance(out, s, "crm_rpc_client_calls_total", "counter", "Calls sent to a service instance", AT(calls));
	per_instance(out, s, "crm_rpc_client_errors_total", "counter", "Calls that failed", AT(errors));
	per_instance(out, s, "crm_rpc_client_timeouts_total", "counter", "Calls without an answer in time", AT(timeouts));
	per_instance(out, s, "crm_rpc_client_ejections_total", "counter", "Times an instance was taken out of use", AT(ejections));
	per_instance(out, s, "crm_rpc_client_batches_total", "counter", "Messages sent to an instance", AT(batches));
	per_instance(out, s, "crm_rpc_client_in_flight", "gauge", "Calls that wait for an answer", AT(in_flight));
#undef AT
	metrics_head(out, "crm_rpc_client_instance_up", "gauge", "Is the instance in use by every thread?");
	for (size_t i = 0; i < s->n_services; i++)
		metrics_line(out, "crm_rpc_client_instance_up", "instance", str_of(s->services[i].url), s->services[i].healthy);
}

static void print_watch(struct buf *out, struct watch_stats w)
{
	one(out, "crm_gateway_suspicions_total", "counter", "Refused requests that were counted for the audit log", (double)w.noted);
	one(out, "crm_gateway_suspicion_reports_total", "counter", "Reports of them that were handed on", (double)w.reported);
	one(out, "crm_gateway_suspicions_overflow_total", "counter", "Refused requests that found no place in the table", (double)w.overflow);
}

void telemetry_print(void *arg, struct buf *out)
{
	struct gateway *g = arg;
	static struct sums s; /* the control thread's own */

	memset(&s, 0, sizeof(s));
	for (size_t i = 0; i < g->n_workers; i++)
		add_worker(&s, &g->workers[i], i == 0);
	one(out, "crm_gateway_requests_in_flight", "gauge", "Requests without an answer yet", atomic_load(&g->in_flight));
	one(out, "crm_gateway_connections", "gauge", "Open client connections", (double)s.http.open);
	one(out, "crm_gateway_connections_total", "counter", "Client connections accepted", (double)s.http.accepted);
	one(out, "crm_gateway_connections_refused_total", "counter", "Client connections closed because there were too many", (double)s.http.too_many);
	one(out, "crm_gateway_requests_rejected_total", "counter", "Requests refused by the HTTP layer", (double)s.http.rejected);
	one(out, "crm_gateway_request_timeouts_total", "counter", "Requests that arrived too slowly", (double)s.http.timeouts);
	one(out, "crm_gateway_bytes_received_total", "counter", "Bytes from clients", (double)s.http.bytes_in);
	one(out, "crm_gateway_bytes_sent_total", "counter", "Bytes to clients", (double)s.http.bytes_out);
	one(out, "crm_gateway_principals", "gauge", "Verified principals in the caches", (double)s.principals);
	one(out, "crm_gateway_references", "gauge", "Names of references in the caches", (double)s.refs);
	one(out, "crm_gateway_feed_clients", "gauge", "Clients of the feed that are connected", (double)s.feed_clients);
	one(out, "crm_gateway_revocations", "gauge", "Revocations and epochs that still matter", (double)revocations_count(g->revocations));
	one(out, "crm_gateway_rate_buckets", "gauge", "Rate limit counters", (double)counters_count(g->counters));
	print_watch(out, watch_stats(g->watch));
	rpc_keys_metrics(g->envelope_keys, out);
	print_services(out, &s);
}
