/* Metrics and the access log. */
#include "gateway/telemetry.h"

#include "base/clock.h"
#include "gateway/contract_watch.h"
#include "gateway/feed.h"
#include "gateway/trace.h"
#include "telemetry/metrics.h"

#define SERIES_CACHE 1024 /* direct-mapped, per thread */

static struct metric duration = {
	.name = "http_server_request_duration_seconds",
	.help = "Time from the first byte of the request to its answer",
	.type = METRIC_HISTOGRAM,
	.labels = { "http_request_method", "http_route", "http_response_status_code", "dialect" },
};
/* The same in a few dozen series: what objectives are measured by. With a series per route they would be sums over thousands. */
static struct metric classes = {
	.name = "crm_gateway_request_duration_seconds",
	.help = "Time to the answer by class of route (read, write, auth, slow, stream, none) and outcome: ok, refused (4xx) or error (5xx)",
	.type = METRIC_HISTOGRAM,
	.labels = { "dialect", "class", "outcome" },
};
static struct metric refusals = {
	.name = "crm_gateway_rate_limited_total",
	.help = "Requests that a rate limit refused",
	.type = METRIC_COUNTER,
	.labels = { "dialect", "policy" },
};

struct route_series {
	struct series_row {
		const struct route *route;
		int http;
		bool head;
		struct metric_series *series, *class;
	} rows[SERIES_CACHE];
};

static bool access_log; /* set before threads start */

void telemetry_init(bool with_access_log)
{
	access_log = with_access_log;
	metric_register(&duration);
	metric_register(&classes);
	metric_register(&refusals);
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

/* What a client waits for, roughly: signing in costs a hash, an export or upload as long as it is long, a stream for ever. */
static const char *class_of(const struct route *route)
{
	static const char *const lanes[RPC_LANES] = { [RPC_READ] = "read", [RPC_WRITE] = "write", [RPC_SLOW] = "slow" };

	if (!route)
		return "none";
	if (route->feed)
		return "stream";
	if (route->export_name || route->upload_part || route->download)
		return "slow";
	if (route->rpc->permission == 0 && strcmp(route->rpc->service, "auth") == 0)
		return "auth";
	return lanes[(unsigned)route->rpc->lane < RPC_LANES ? route->rpc->lane : RPC_SLOW];
}

static struct metric_series *find_class(const char *dialect, const struct route *route, int http)
{
	const char *outcome = http >= 500 ? "error" : http >= 400 ? "refused" : "ok";

	return metric_series(&classes, str_of(dialect), str_of(class_of(route)), str_of(outcome));
}

static struct metric_series *find_series(struct str method, const char *dialect, const struct route *route, int http)
{
	char code[12] = { (char)('0' + http / 100 % 10), (char)('0' + http / 10 % 10), (char)('0' + http % 10), 0 };

	return metric_series(&duration, known_method(method), route ? str_of(route->template) : STR("none"), str_of(code), str_of(dialect));
}

static struct series_row find_row(const struct request *r, int http)
{
	const char *dialect = r->sel.face ? r->sel.face->dialect->name : "none";
	struct str method = r->x->req.method;

	return (struct series_row){ .route = r->route, .http = http, .head = str_eq(method, STR("HEAD")),
		.series = find_series(method, dialect, r->route, http), .class = find_class(dialect, r->route, http) };
}

/* The series of a route and status, without looking its labels up each time. A route is of one dialect. */
static struct series_row row_of(const struct request *r, int http)
{
	struct series_row *row = &r->w->series->rows[(((uintptr_t)r->route >> 5) ^ (uintptr_t)http * 31) % SERIES_CACHE];

	if (!r->route || r->w->faces != r->faces) /* the cache belongs to the newest routes */
		return find_row(r, http);
	if (row->route != r->route || row->http != http || row->head != str_eq(r->x->req.method, STR("HEAD")))
		*row = find_row(r, http);
	return *row;
}

void telemetry_answered(struct request *r, int http, uint64_t bytes)
{
	int64_t took_us = clock_mono_us() - r->x->start_us;
	struct series_row row = row_of(r, http);

	metric_observe(row.series, (double)took_us / 1e6);
	metric_observe(row.class, (double)took_us / 1e6);
	if (access_log)
		request_access_log(r, http, took_us, bytes);
	if (r->span)
		request_span_end(r, http);
}

void telemetry_limited(const char *dialect, const char *policy)
{
	metric_add(metric_series(&refusals, str_of(dialect), str_of(policy)), 1);
}

void telemetry_publish(struct worker *w)
{
	struct worker_numbers now = { .http = http_server_stats(w->http), .principals = principals_stats(w->principals), .refs = ref_cache_count(w->refs),
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
	struct principals_stats principals;
	size_t refs, feed_clients;
	struct rpc_service_stats services[SERVICES_MAX * 4];
	size_t n_services;
};

/* Its row, or a new one: workers may know of different instances for a moment. NULL: no room. */
static struct rpc_service_stats *instance_row(struct sums *sum, const struct rpc_service_stats *s)
{
	for (size_t i = 0; i < sum->n_services; i++)
		if (strcmp(sum->services[i].name, s->name) == 0 && strcmp(sum->services[i].url, s->url) == 0)
			return &sum->services[i];
	if (sum->n_services == sizeof(sum->services) / sizeof(sum->services[0]))
		return NULL;
	sum->services[sum->n_services] = (struct rpc_service_stats){ .name = s->name, .healthy = true };
	memcpy(sum->services[sum->n_services].url, s->url, sizeof(s->url));
	return &sum->services[sum->n_services++];
}

/* An instance counts as healthy when every thread that knows it finds it so. */
static void add_instance(struct sums *sums, const struct rpc_service_stats *s)
{
	struct rpc_service_stats *sum = instance_row(sums, s);

	if (!sum)
		return;
	sum->healthy = sum->healthy && s->healthy;
	sum->calls += s->calls;
	sum->errors += s->errors;
	sum->timeouts += s->timeouts;
	sum->ejections += s->ejections;
	sum->in_flight += s->in_flight;
	sum->batches += s->batches;
}

static void add_worker(struct sums *sum, struct worker *w)
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
	sum->principals.entries += n->principals.entries;
	sum->principals.hits += n->principals.hits;
	sum->principals.misses += n->principals.misses;
	sum->refs += n->refs;
	sum->feed_clients += n->feed_clients;
	for (size_t i = 0; i < n->n_services; i++)
		add_instance(sum, &n->services[i]);
	pthread_mutex_unlock(&w->lock);
}

static void one(struct buf *out, const char *name, const char *type, const char *help, double value)
{
	metrics_one(out, name, type, help, value);
}

/* Not "service" and "instance": who scrapes gives these names to where the numbers come from. */
static void instance_line(struct buf *out, const char *name, const struct rpc_service_stats *s, double value)
{
	const struct metric_label labels[] = { { "upstream", str_of(s->name) }, { "address", str_of(s->url) } };

	metrics_labels(out, name, labels, 2, value);
}

static void per_instance(struct buf *out, const struct sums *s, const char *name, const char *type, const char *help, size_t offset)
{
	metrics_head(out, name, type, help);
	for (size_t i = 0; i < s->n_services; i++) {
		uint64_t value;

		memcpy(&value, (const char *)&s->services[i] + offset, sizeof(value));
		instance_line(out, name, &s->services[i], (double)value);
	}
}

/* A service without any address has no row above: it must be seen all the same. */
static void print_upstreams(struct buf *out, const struct gateway *g, const struct sums *s)
{
	metrics_head(out, "crm_rpc_client_instances", "gauge", "Instances of a service that every thread uses; 0: its routes answer 503");
	for (size_t i = 0; i < g->n_services; i++) {
		unsigned n = 0;

		for (size_t k = 0; k < s->n_services; k++)
			n += s->services[k].healthy && strcmp(s->services[k].name, g->services[i].name) == 0;
		metrics_line(out, "crm_rpc_client_instances", "upstream", str_of(g->services[i].name), n);
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
		instance_line(out, "crm_rpc_client_instance_up", &s->services[i], s->services[i].healthy);
}

static void print_watch(struct buf *out, struct watch_stats w)
{
	one(out, "crm_gateway_suspicions_total", "counter", "Refused requests that were counted for the audit log", (double)w.noted);
	one(out, "crm_gateway_suspicion_reports_total", "counter", "Reports of refused requests that were handed on", (double)w.reported);
	one(out, "crm_gateway_suspicions_overflow_total", "counter", "Refused requests that found no place in the table", (double)w.overflow);
}

void telemetry_print(void *arg, struct buf *out)
{
	struct gateway *g = arg;
	static struct sums s; /* the control thread's own */
	struct jobs_stats jobs = jobs_stats();

	memset(&s, 0, sizeof(s));
	for (size_t i = 0; i < g->n_workers; i++)
		add_worker(&s, &g->workers[i]);
	one(out, "crm_gateway_requests_in_flight", "gauge", "Requests without an answer yet", atomic_load(&g->in_flight));
	one(out, "crm_gateway_connections", "gauge", "Open client connections", (double)s.http.open);
	one(out, "crm_gateway_connections_total", "counter", "Client connections accepted", (double)s.http.accepted);
	one(out, "crm_gateway_connections_refused_total", "counter", "Client connections closed because there were too many", (double)s.http.too_many);
	one(out, "crm_gateway_requests_rejected_total", "counter", "Requests refused by the HTTP layer", (double)s.http.rejected);
	one(out, "crm_gateway_request_timeouts_total", "counter", "Requests that arrived too slowly", (double)s.http.timeouts);
	one(out, "crm_gateway_bytes_received_total", "counter", "Bytes from clients", (double)s.http.bytes_in);
	one(out, "crm_gateway_bytes_sent_total", "counter", "Bytes to clients", (double)s.http.bytes_out);
	one(out, "crm_gateway_principals", "gauge", "Verified principals in the caches", (double)s.principals.entries);
	metrics_head(out, "crm_gateway_token_cache_total", "counter", "Credentials looked up in the caches of verified principals");
	metrics_line(out, "crm_gateway_token_cache_total", "result", STR("hit"), (double)s.principals.hits);
	metrics_line(out, "crm_gateway_token_cache_total", "result", STR("miss"), (double)s.principals.misses);
	one(out, "crm_gateway_references", "gauge", "Names of references in the caches", (double)s.refs);
	one(out, "crm_gateway_feed_clients", "gauge", "Clients of the feed that are connected", (double)s.feed_clients);
	one(out, "crm_gateway_revocations", "gauge", "Revocations and epochs that still matter", (double)revocations_count(g->revocations));
	one(out, "crm_gateway_rate_buckets", "gauge", "Rate limit counters", (double)counters_count(g->counters));
	one(out, "crm_gateway_jobs_waiting", "gauge", "Blocking work (blob store, files) without a thread yet", jobs.waiting);
	one(out, "crm_gateway_jobs_running", "gauge", "Blocking work on a thread", jobs.running);
	if (g->tls)
		one(out, "crm_gateway_certificate_expiry_timestamp_seconds", "gauge", "When the listeners' certificate ends, seconds since 1970", (double)tls_expires(g->tls));
	print_watch(out, watch_stats(g->watch));
	rpc_keys_metrics(g->envelope_keys, out);
	rpc_names_metrics(out);
	print_upstreams(out, g, &s);
	print_services(out, &s);
	contract_watch_metrics(g, out);
}
