/* Contexts, the sampler, spans, the ring under many threads, and OTLP's JSON byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/codec.h"
#include "telemetry/trace_config.h"
#include "telemetry/trace_internal.h"

#define PARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

static void ring(size_t room, struct trace_sampler how)
{
	trace_ring_init(room, room, NULL, how);
}

static int end(void **state)
{
	trace_ring_fini();
	trace_share(NULL, 0);
	return 0;
}

static struct trace_context context(const char *traceparent)
{
	struct trace_context c;

	assert_true(trace_parse(str_of(traceparent), &c));
	return c;
}

static void test_traceparent(void **state)
{
	static const char *const malformed[] = { "", "00", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
		"00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01" };
	struct trace_context c = context(PARENT);
	char out[TRACEPARENT + 1];

	assert_true(c.sampled);
	trace_print(&c, out);
	assert_string_equal(out, PARENT);
	c = context("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02");
	assert_false(c.sampled);
	for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++)
		if (trace_parse(str_of(malformed[i]), &c))
			fail_msg("taken: %s", malformed[i]);
}

static size_t taken_of(double ratio, size_t n)
{
	struct trace_context c = { 0 };
	char id[UUID_TEXT + 1];
	size_t taken = 0;

	ring(16, (struct trace_sampler){ true, SAMPLER_RATIO, ratio });
	for (size_t i = 0; i < n; i++) {
		uuid7(id);
		assert_true(uuid_to_bytes(str_of(id), c.trace));
		taken += trace_sample(&c);
	}
	trace_ring_fini();
	return taken;
}

/* Ids are made from a clock and random bits: the share has to come out all the same. */
static void test_sampler_share(void **state)
{
	size_t quarter = taken_of(0.25, 20000);

	assert_int_equal(taken_of(0, 20000), 0);
	assert_int_equal(taken_of(1, 20000), 20000);
	assert_in_range(quarter, 4600, 5400);
}

static void test_sampler_parent(void **state)
{
	struct trace_context yes = context(PARENT), no = yes, root = yes;

	no.sampled = false;
	memset(root.span, 0, sizeof(root.span));
	assert_false(trace_sample(&yes)); /* off */
	ring(16, (struct trace_sampler){ true, SAMPLER_ALWAYS_OFF, 1 });
	assert_true(trace_sample(&yes));
	assert_false(trace_sample(&no));
	assert_false(trace_sample(&root));
	trace_ring_fini();
	ring(16, (struct trace_sampler){ false, SAMPLER_ALWAYS_ON, 1 });
	assert_true(trace_sample(&no));
	assert_true(trace_sample(&root));
	assert_true(trace_continue(STR("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"), &no));
	assert_true(no.sampled);
	assert_false(trace_continue(STR("nonsense"), &no));
}

/* The form of opentelemetry-proto's examples/trace.json. */
static void test_json(void **state)
{
	struct trace_context parent = context(PARENT);
	struct buf b = { 0 };
	struct span s;

	ring(16, (struct trace_sampler){ true, SAMPLER_ALWAYS_ON, 1 });
	span_begin(&s, &parent, SPAN_SERVER, STR("GET /api/leads/{id}"));
	span_text(&s, "http.route", STR("/api/\"leads\""));
	span_text(&s, "left.out", (struct str){ 0 });
	span_int(&s, "http.response.status_code", 200);
	span_bool(&s, "crm.retried", true);
	span_link(&s, &parent);
	s.error = true;
	memcpy(s.at.span, "\x00\xe1\x9e\x7b\xc3\xc1\xb1\x74", 8);
	s.start_ns = 1544712660000000000;
	s.end_ns = 1544712661000000000;
	trace_json_text(&b, STR("service.name"), STR("gateway"));
	struct buf out = { 0 };
	trace_json_begin(&out, buf_view(&b), STR("1"));
	trace_json_span(&out, &s);
	buf_c(&out, ',');
	memset(s.parent, 0, 8);
	s.link = (struct trace_context){ 0 };
	s.error = false;
	s.n_attrs = 0;
	trace_json_span(&out, &s);
	trace_json_end(&out);
	assert_string_equal(buf_cstr(&out),
	    "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"gateway\"}}]},"
	    "\"scopeSpans\":[{\"scope\":{\"name\":\"crm\",\"version\":\"1\"},\"spans\":["
	    "{\"traceId\":\"0af7651916cd43dd8448eb211c80319c\",\"spanId\":\"00e19e7bc3c1b174\",\"parentSpanId\":\"b7ad6b7169203331\",\"name\":\"GET /api/leads/{id}\",\"kind\":2,"
	    "\"startTimeUnixNano\":\"1544712660000000000\",\"endTimeUnixNano\":\"1544712661000000000\",\"attributes\":["
	    "{\"key\":\"http.route\",\"value\":{\"stringValue\":\"/api/\\\"leads\\\"\"}},{\"key\":\"http.response.status_code\",\"value\":{\"intValue\":\"200\"}},"
	    "{\"key\":\"crm.retried\",\"value\":{\"boolValue\":true}}],\"links\":[{\"traceId\":\"0af7651916cd43dd8448eb211c80319c\",\"spanId\":\"b7ad6b7169203331\"}],\"status\":{\"code\":2}},"
	    "{\"traceId\":\"0af7651916cd43dd8448eb211c80319c\",\"spanId\":\"00e19e7bc3c1b174\",\"name\":\"GET /api/leads/{id}\",\"kind\":2,"
	    "\"startTimeUnixNano\":\"1544712660000000000\",\"endTimeUnixNano\":\"1544712661000000000\",\"attributes\":[],\"status\":{}}]}]}]}");
	buf_fini(&out);
	buf_fini(&b);
}

/* Too much is cut or left out, never written beyond the end, and stays text. */
static void test_bounds(void **state)
{
	struct trace_context parent = context(PARENT);
	char long_text[SPAN_TEXT * 2];
	struct buf b = { 0 };
	struct span s;

	for (size_t i = 0; i + 2 <= sizeof(long_text); i += 2)
		memcpy(long_text + i, "\xc3\xa4", 2);
	ring(16, (struct trace_sampler){ true, SAMPLER_ALWAYS_ON, 1 });
	span_begin(&s, &parent, SPAN_CLIENT, STR("odd"));
	for (int i = 0; i < SPAN_ATTRS * 2; i++)
		span_text(&s, "k", (struct str){ long_text, sizeof(long_text) });
	assert_int_equal(s.n_text, SPAN_TEXT);
	assert_int_equal(s.n_attrs, SPAN_ATTRS);
	span_end(&s);
	trace_json_span(&b, &s);
	assert_true(str_is_utf8(buf_view(&b)));
	assert_null(strstr(buf_cstr(&b), "not UTF-8"));
	buf_fini(&b);
}

static void test_overflow_is_counted(void **state)
{
	struct trace_context parent = context(PARENT);
	struct span s;
	int64_t began = clock_mono_us();

	ring(16, (struct trace_sampler){ true, SAMPLER_ALWAYS_ON, 1 });
	for (int i = 0; i < 1000; i++) {
		span_begin(&s, &parent, SPAN_INTERNAL, STR("x"));
		span_int(&s, "i", i);
		span_end(&s);
	}
	assert_true(clock_mono_us() - began < 100000); /* nobody waited */
	assert_int_equal(trace_ring_counts().queued, 16);
	assert_int_equal(trace_ring_counts().overflow, 984);
	for (int i = 0; i < 16; i++) { /* the oldest are kept, in order */
		assert_true(trace_ring_take(&s));
		assert_int_equal(s.attrs[0].number, i);
	}
	assert_false(trace_ring_take(&s));
	span_end(&s);
	assert_true(trace_ring_take(&s)); /* there is room again */
}

enum { THREADS = 4, EACH = 20000 };
static atomic_int running;

static void *put_many(void *arg)
{
	struct trace_context parent = context(PARENT);
	struct span s;
	char text[40];

	for (int i = 0; i < EACH; i++) {
		span_begin(&s, &parent, SPAN_INTERNAL, STR("x"));
		span_int(&s, "i", i);
		snprintf(text, sizeof(text), "thread %d number %d", (int)(intptr_t)arg, i);
		span_text(&s, "text", str_of(text));
		span_int(&s, "thread", (intptr_t)arg);
		span_end(&s);
	}
	atomic_fetch_sub(&running, 1);
	return NULL;
}

static void check_whole(const struct span *s)
{
	char text[40];

	snprintf(text, sizeof(text), "thread %d number %d", (int)s->attrs[2].number, (int)s->attrs[0].number);
	assert_true(str_eq((struct str){ s->text + s->attrs[1].at, s->attrs[1].n }, str_of(text)));
}

static void test_many_threads(void **state)
{
	pthread_t threads[THREADS];
	int64_t last[THREADS] = { -1, -1, -1, -1 };
	struct span s;
	size_t taken = 0;

	ring(64, (struct trace_sampler){ true, SAMPLER_ALWAYS_ON, 1 });
	atomic_store(&running, THREADS);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, put_many, (void *)(intptr_t)i), 0);
	for (;;) {
		bool over = atomic_load(&running) == 0;

		while (trace_ring_take(&s)) {
			check_whole(&s);
			assert_true(s.attrs[0].number > last[s.attrs[2].number]);
			last[s.attrs[2].number] = s.attrs[0].number;
			taken++;
		}
		if (over)
			break;
		sched_yield();
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(taken, trace_ring_counts().queued);
	assert_int_equal(taken + trace_ring_counts().overflow, THREADS * EACH);
	assert_true(taken > 64);
}

static void test_shared(void **state)
{
	struct trace_context mine = context(PARENT), others[2] = { context("00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
		context("00-2af7651916cd43dd8448eb211c80319c-b7ad6b7169203332-01") };
	struct span s, got[3];

	ring(16, (struct trace_sampler){ true, SAMPLER_ALWAYS_ON, 1 });
	trace_share(others, 2);
	span_begin(&s, &mine, SPAN_CLIENT, STR("INSERT entry"));
	span_end_shared(&s);
	for (int i = 0; i < 3; i++)
		assert_true(trace_ring_take(&got[i]));
	assert_memory_equal(got[0].at.trace, mine.trace, 16);
	for (int i = 0; i < 2; i++) {
		assert_memory_equal(got[i + 1].at.trace, others[i].trace, 16);
		assert_memory_equal(got[i + 1].parent, others[i].span, 8);
		assert_memory_not_equal(got[i + 1].at.span, got[0].at.span, 8);
	}
	assert_false(trace_ring_take(&s));
}

static const struct trace_settings nothing = { .endpoint = "", .traces_endpoint = "", .headers = "", .certificate = "", .service_name = "", .resource = "",
	.sampler = "", .sampler_arg = "" };

static void test_url(void **state)
{
	struct trace_settings s = nothing;
	struct buf url = { 0 };

	trace_config_url(&s, &url);
	assert_int_equal(url.n, 0);
	s.endpoint = "http://collector:4318/";
	trace_config_url(&s, &url);
	assert_string_equal(buf_cstr(&url), "http://collector:4318/v1/traces");
	s.traces_endpoint = "http://other/take";
	trace_config_url(&s, &url);
	assert_string_equal(buf_cstr(&url), "http://other/take");
	s.disabled = true;
	trace_config_url(&s, &url);
	assert_int_equal(url.n, 0);
	buf_fini(&url);
}

static void test_resource(void **state)
{
	struct trace_settings s = nothing;
	struct buf b = { 0 };

	s.resource = "deployment.environment.name=a%20b, service.name=named ,k8s.pod.name=p-1";
	trace_config_resource(&s, "gateway", &b);
	assert_non_null(strstr(buf_cstr(&b), "\"deployment.environment.name\",\"value\":{\"stringValue\":\"a b\"}"));
	assert_non_null(strstr(buf_cstr(&b), "\"service.name\",\"value\":{\"stringValue\":\"named\"}"));
	assert_null(strstr(buf_cstr(&b), "gateway"));
	s.service_name = "given";
	buf_clear(&b);
	trace_config_resource(&s, "gateway", &b);
	assert_non_null(strstr(buf_cstr(&b), "\"service.name\",\"value\":{\"stringValue\":\"given\"}"));
	assert_null(strstr(buf_cstr(&b), "named"));
	buf_fini(&b);
	assert_false(trace_config_pairs("a=1,b", NULL, NULL));
	assert_false(trace_config_pairs("=1", NULL, NULL));
	assert_false(trace_config_pairs("a=%2", NULL, NULL));
	assert_true(trace_config_pairs("a=1,,b=", NULL, NULL));
}

static void test_sampler_settings(void **state)
{
	static const struct {
		const char *name, *arg;
		bool ok, parent_based;
		enum sampler root;
		double ratio;
	} rows[] = {
		{ "", "", true, true, SAMPLER_ALWAYS_ON, 1 },
		{ "", "0.1", true, true, SAMPLER_RATIO, 0.1 },
		{ "always_off", "", true, false, SAMPLER_ALWAYS_OFF, 1 },
		{ "traceidratio", "0.5", true, false, SAMPLER_RATIO, 0.5 },
		{ "traceidratio", "", true, false, SAMPLER_RATIO, 1 },
		{ "parentbased_traceidratio", "1.5", false, false, 0, 0 },
		{ "parentbased_traceidratio", "-1", false, false, 0, 0 },
		{ "parentbased_traceidratio", "1e-1", false, false, 0, 0 },
		{ "parentbased_traceidratio", "0.1.2", false, false, 0, 0 },
		{ "jaeger_remote", "", false, false, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct trace_settings s = nothing;
		struct trace_sampler out;
		const char *why = NULL;

		s.sampler = rows[i].name;
		s.sampler_arg = rows[i].arg;
		assert_int_equal(trace_config_sampler(&s, &out, &why), rows[i].ok);
		if (!rows[i].ok)
			continue;
		assert_int_equal(out.parent_based, rows[i].parent_based);
		assert_int_equal(out.root, rows[i].root);
		assert_true(out.ratio == rows[i].ratio);
	}
}

#define TEST(name) cmocka_unit_test_teardown(test_##name, end)

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(traceparent), TEST(sampler_share), TEST(sampler_parent), TEST(json), TEST(bounds), TEST(overflow_is_counted),
		TEST(many_threads), TEST(shared), TEST(url), TEST(resource), TEST(sampler_settings) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
