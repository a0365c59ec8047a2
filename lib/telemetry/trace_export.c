/* The thread that sends spans to the collector. */
#include "telemetry/trace_export.h"

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "base/version.h"
#include "telemetry/metrics.h"
#include "telemetry/trace_config.h"

#define TRIES 5
#define PAUSE_MS 1000         /* before the second try, then twice as long each time */
#define PAUSE_MOST_MS 300000  /* of what a collector may ask for */
#define CONNECT_MS 3000L
#define STOP_MS 1500
#define JOIN_S 3             /* libcurl looks once a second whether it is over */
#define ANSWER_MAX (16u << 10)

bool trace_sql_comment;

static struct metric dropped = { .name = "crm_trace_dropped_total", .help = "Spans that never reached the collector", .type = METRIC_COUNTER, .labels = { "reason" } };
static struct metric exports = { .name = "crm_trace_exports_total", .help = "Requests to the collector", .type = METRIC_COUNTER, .labels = { "result" } };
static struct metric spans = { .name = "crm_trace_spans_total", .help = "Spans recorded", .type = METRIC_COUNTER };

static struct {
	struct trace_settings settings;
	struct buf url, resource;
	struct curl_slist *headers;
	CURL *curl;
	pthread_t thread;
	int wake_fd;
	bool running;
	atomic_bool stop;
	_Atomic int64_t stop_at_us; /* monotonic */
	/* the thread's own */
	struct buf body, answer;
	size_t n;          /* spans in body */
	bool away;         /* told that it does not get through */
	uint64_t queued, overflow; /* as the metrics have them */
} me = { .wake_fd = -1 };

/* -- one request */

enum sent { SENT_OK, SENT_AGAIN, SENT_NEVER };

static size_t on_answer(char *p, size_t size, size_t n, void *arg)
{
	if (me.answer.n + size * n > ANSWER_MAX)
		return 0;
	buf_put(&me.answer, p, size * n);
	return size * n;
}

/* {"partialSuccess":{"rejectedSpans":"3"}}: how many it did not take. */
static uint64_t rejected(void)
{
	json_t *root = json_loadb(me.answer.p, me.answer.n, 0, NULL), *n = json_object_get(json_object_get(root, "partialSuccess"), "rejectedSpans");
	uint64_t value = 0;

	if (json_is_integer(n) && json_integer_value(n) > 0)
		value = (uint64_t)json_integer_value(n);
	else if (!json_is_string(n) || !str_to_u64(str_of(json_string_value(n)), &value))
		value = 0;
	json_decref(root);
	return value < me.n ? value : me.n;
}

static bool out_of_time(void)
{
	return atomic_load(&me.stop) && clock_mono_us() > atomic_load(&me.stop_at_us);
}

static long time_left_ms(void)
{
	int64_t left = (atomic_load(&me.stop_at_us) - clock_mono_us()) / 1000;

	if (!atomic_load(&me.stop) || left > me.settings.timeout_ms)
		return me.settings.timeout_ms;
	return left > 1 ? (long)left : 1;
}

static void count(struct metric *m, struct str label, size_t n)
{
	metric_add(metric_series(m, label), (int64_t)n);
}

static void publish_counts(void)
{
	struct trace_counts now = trace_ring_counts();

	metric_add(metric_series(&spans), (int64_t)(now.queued - me.queued));
	count(&dropped, STR("queue_full"), now.overflow - me.overflow);
	me.queued = now.queued;
	me.overflow = now.overflow;
}

/* Once a second, and whenever something moves. */
static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	publish_counts();
	return out_of_time();
}

static void say(CURLcode rc, long code)
{
	char what[300];

	if (rc == CURLE_OK)
		snprintf(what, sizeof(what), "it answers %ld", code);
	else
		snprintf(what, sizeof(what), "%s", curl_easy_strerror(rc));
	if (!me.away)
		log_warn("TRACE-EXPORT", "traces do not reach %s: %s; they are kept as far as there is room, then dropped", buf_cstr(&me.url), what);
	me.away = true;
}

/* *pause_ms: what the collector asks for, 0 when it does not. */
static enum sent post(long *pause_ms)
{
	curl_off_t after = 0;
	long code = 0;
	CURLcode rc;

	buf_clear(&me.answer);
	curl_easy_setopt(me.curl, CURLOPT_POSTFIELDS, me.body.p);
	curl_easy_setopt(me.curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)me.body.n);
	curl_easy_setopt(me.curl, CURLOPT_TIMEOUT_MS, time_left_ms());
	rc = curl_easy_perform(me.curl);
	curl_easy_getinfo(me.curl, CURLINFO_RESPONSE_CODE, &code);
	*pause_ms = 0;
	if (rc == CURLE_OK && code / 100 == 2) {
		count(&exports, STR("ok"), 1);
		count(&dropped, STR("rejected"), rejected());
		if (me.away)
			log_info("TRACE-EXPORT", "traces reach %s again", buf_cstr(&me.url));
		me.away = false;
		return SENT_OK;
	}
	say(rc, code);
	if (rc == CURLE_OK && code != 429 && code != 502 && code != 503 && code != 504) {
		count(&exports, STR("refused"), 1);
		return SENT_NEVER;
	}
	count(&exports, rc == CURLE_OK ? STR("busy") : STR("unreachable"), 1);
	if (curl_easy_getinfo(me.curl, CURLINFO_RETRY_AFTER, &after) == CURLE_OK && after > 0)
		*pause_ms = after > PAUSE_MOST_MS / 1000 ? PAUSE_MOST_MS : (long)after * 1000;
	return SENT_AGAIN;
}

/* -- batches */

/* Until ms are over, or at once when it is time to stop. Who puts a full batch wakes us, but for in a pause between tries. */
static void sleep_ms(long ms, bool wakeable)
{
	struct pollfd p = { .fd = me.wake_fd, .events = POLLIN };
	int64_t until = clock_mono_us() + ms * 1000;
	uint64_t n;

	while (!atomic_load(&me.stop)) {
		int64_t left = (until - clock_mono_us() + 999) / 1000;

		if (left <= 0)
			return;
		if (poll(&p, 1, (int)left) > 0 && read(me.wake_fd, &n, sizeof(n)) > 0 && wakeable)
			return;
	}
}

/* What is dropped meanwhile is counted each second. */
static void pause_for(long ms)
{
	int64_t until = clock_mono_us() + ms * 1000;

	while (!atomic_load(&me.stop) && clock_mono_us() < until) {
		int64_t left = (until - clock_mono_us() + 999) / 1000;

		sleep_ms(left < 1000 ? (long)left : 1000, false);
		publish_counts();
	}
}

static size_t batch_fill(void)
{
	struct span s;

	buf_clear(&me.body);
	me.n = 0;
	trace_json_begin(&me.body, buf_view(&me.resource), str_of(crm_version));
	while (me.n < (size_t)me.settings.batch && trace_ring_take(&s)) {
		if (me.n++)
			buf_c(&me.body, ',');
		trace_json_span(&me.body, &s);
	}
	trace_json_end(&me.body);
	return me.n;
}

static void batch_send(void)
{
	long pause = PAUSE_MS, asked;
	enum sent sent = SENT_AGAIN;

	for (int i = 0; i < TRIES && sent == SENT_AGAIN && !out_of_time(); i++) {
		sent = post(&asked);
		publish_counts();
		if (sent != SENT_AGAIN || i == TRIES - 1)
			break;
		if (atomic_load(&me.stop))
			break; /* who ends waits for nobody */
		pause_for(asked ? asked : pause);
		pause *= 2;
	}
	if (sent != SENT_OK)
		count(&dropped, sent == SENT_NEVER ? STR("refused") : STR("unreachable"), me.n);
}

static void *run(void *arg)
{
	pthread_setname_np(pthread_self(), "traces");
	while (!atomic_load(&me.stop)) {
		if (trace_ring_waiting() < (size_t)me.settings.batch)
			sleep_ms(me.settings.delay_ms, true);
		publish_counts();
		if (batch_fill())
			batch_send();
	}
	while (!out_of_time() && batch_fill())
		batch_send();
	return NULL;
}

/* -- start and end */

static void wake(void)
{
	static const uint64_t one = 1;

	if (write(me.wake_fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: it is awake */
}

static void put_header(void *arg, struct str name, struct str value)
{
	struct buf line = { 0 };

	buf_printf(&line, "%.*s: %.*s", STR_FMT(name), STR_FMT(value));
	for (size_t i = 0; i < line.n; i++)
		if ((unsigned char)line.p[i] < 0x20)
			log_die("SETTINGS", "OTEL_EXPORTER_OTLP_HEADERS: a header has a control character");
	me.headers = curl_slist_append(me.headers, buf_cstr(&line));
	buf_fini(&line);
}

static void curl_prepare(void)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		log_die("TRACE-START", "libcurl does not start");
	me.curl = curl_easy_init();
	me.headers = curl_slist_append(me.headers, "Content-Type: application/json");
	me.headers = curl_slist_append(me.headers, "Expect:");
	if (!trace_config_pairs(me.settings.headers, put_header, NULL))
		log_die("SETTINGS", "OTEL_EXPORTER_OTLP_HEADERS: not of the form name=value,name=value");
	if (!me.curl || !me.headers || curl_easy_setopt(me.curl, CURLOPT_URL, buf_cstr(&me.url)) != CURLE_OK)
		log_die("TRACE-START", "no memory for libcurl");
	curl_easy_setopt(me.curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(me.curl, CURLOPT_HTTPHEADER, me.headers);
	curl_easy_setopt(me.curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(me.curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(me.curl, CURLOPT_WRITEFUNCTION, on_answer);
	curl_easy_setopt(me.curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(me.curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(me.curl, CURLOPT_USERAGENT, "crm");
	if (*me.settings.certificate)
		curl_easy_setopt(me.curl, CURLOPT_CAINFO, me.settings.certificate);
}

static void start_thread(void)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&me.thread, NULL, run, NULL) != 0)
		log_die("TRACE-START", "cannot start a thread");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	me.running = true;
}

/* A second start, as tests do it, has texts of its own. */
static void settings_forget(void)
{
	for (size_t i = 0; i < trace_settings_n; i++)
		if (trace_settings_rows[i].type == SETTING_TEXT)
			free(*(char **)(void *)((char *)&me.settings + trace_settings_rows[i].offset));
}

void trace_start(const char *service)
{
	struct trace_sampler sampler;
	const char *why;

	settings_forget();
	buf_clear(&me.resource);
	settings_load(trace_settings_rows, trace_settings_n, &me.settings);
	if (!trace_config_sampler(&me.settings, &sampler, &why))
		log_die("SETTINGS", "%s", why);
	if (!trace_config_pairs(me.settings.resource, NULL, NULL))
		log_die("SETTINGS", "OTEL_RESOURCE_ATTRIBUTES: not of the form key=value,key=value");
	trace_config_url(&me.settings, &me.url);
	if (!me.url.n)
		return;
	trace_config_resource(&me.settings, service, &me.resource);
	metric_register(&dropped);
	metric_register(&exports);
	metric_register(&spans);
	curl_prepare();
	if (me.wake_fd < 0) /* kept after a stop: somebody may still end a span */
		me.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (me.wake_fd < 0)
		log_die("TRACE-START", "eventfd: %s", strerror(errno));
	if (me.settings.batch > me.settings.queue)
		me.settings.batch = me.settings.queue;
	trace_sql_comment = me.settings.sql_comment;
	atomic_store(&me.stop, false);
	me.queued = me.overflow = 0;
	trace_ring_init((size_t)me.settings.queue, (size_t)me.settings.batch, wake, sampler);
	start_thread();
}

void trace_stop(void)
{
	struct timespec until;
	size_t left;

	if (!me.running)
		return;
	atomic_store(&me.stop_at_us, clock_mono_us() + STOP_MS * 1000);
	atomic_store(&me.stop, true);
	wake();
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += JOIN_S;
	me.running = false;
	if (pthread_timedjoin_np(me.thread, NULL, &until) != 0)
		return;
	left = trace_ring_waiting();
	if (left)
		log_warn("TRACE-EXPORT", "%zu spans are lost with the end of the process", left);
	curl_easy_cleanup(me.curl);
	curl_slist_free_all(me.headers);
	me.headers = NULL;
	me.curl = NULL;
}
