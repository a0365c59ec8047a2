/* Metrics: text format, bounded series, updates from many threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>

#include "telemetry/metrics.h"
#include "telemetry/process.h"

static struct buf text;

static bool printed(const char *line)
{
	buf_clear(&text);
	metrics_print(&text);
	return strstr(buf_cstr(&text), line) != NULL;
}

static void test_counter_and_gauge_are_printed_with_their_labels(void **state)
{
	static struct metric calls = { .name = "t_calls_total", .help = "Calls", .type = METRIC_COUNTER, .labels = { "rpc", "status" } };
	static struct metric depth = { .name = "t_depth", .help = "Depth", .type = METRIC_GAUGE };

	metric_add(metric_series(&calls, STR("Get\"\\\nLead"), STR("OK")), 2);
	metric_add(metric_series(&calls, STR("Get\"\\\nLead"), STR("OK")), 1);
	metric_set(metric_series(&depth), 7);
	metric_add(metric_series(&depth), -9);
	assert_true(printed("# HELP t_calls_total Calls\n# TYPE t_calls_total counter\nt_calls_total{rpc=\"Get\\\"\\\\\\nLead\",status=\"OK\"} 3\n"));
	assert_true(printed("# TYPE t_depth gauge\nt_depth -2\n"));
}

static void test_histogram_is_cumulative_and_has_the_request_buckets(void **state)
{
	static struct metric took = { .name = "t_seconds", .help = "Took", .type = METRIC_HISTOGRAM, .labels = { "route" } };
	struct metric_series *s = metric_series(&took, STR("/x"));

	metric_observe(s, 0.005);
	metric_observe(s, 0.006);
	metric_observe(s, 100);
	assert_true(printed("t_seconds_bucket{route=\"/x\",le=\"0.005\"} 1\nt_seconds_bucket{route=\"/x\",le=\"0.01\"} 2\n"));
	assert_true(printed("t_seconds_bucket{route=\"/x\",le=\"10\"} 2\nt_seconds_bucket{route=\"/x\",le=\"+Inf\"} 3\n"));
	assert_true(printed("t_seconds_sum{route=\"/x\"} 100.011\nt_seconds_count{route=\"/x\"} 3\n"));
	assert_int_equal(metric_value(s), 3);
}

static void test_registered_metric_shows_without_series(void **state)
{
	static struct metric none = { .name = "t_none_total", .help = "None", .type = METRIC_COUNTER, .labels = { "x" } };

	metric_register(&none);
	metric_register(&none);
	assert_true(printed("# TYPE t_none_total counter\n"));
}

static void test_series_beyond_the_bound_fall_into_other(void **state)
{
	static struct metric many = { .name = "t_many_total", .help = "Many", .type = METRIC_COUNTER, .labels = { "id" } };
	char id[32];
	size_t lines = 0;

	for (int i = 0; i < METRIC_MAX_SERIES * 3; i++) {
		int n = snprintf(id, sizeof(id), "%d", i);

		metric_add(metric_series(&many, ((struct str){ id, (size_t)n })), 1);
	}
	assert_ptr_equal(metric_series(&many, STR("unseen")), metric_series(&many, STR("also unseen")));
	assert_ptr_not_equal(metric_series(&many, STR("5")), metric_series(&many, STR("unseen")));
	assert_int_equal(metric_value(metric_series(&many, STR("unseen"))), METRIC_MAX_SERIES * 2 + 1);
	assert_true(printed("t_many_total{id=\"other\"}"));
	for (const char *at = text.p; (at = strstr(at, "\nt_many_total{")); at++)
		lines++;
	assert_int_equal(lines, METRIC_MAX_SERIES);
}

static struct metric busy = { .name = "t_busy_total", .help = "Busy", .type = METRIC_COUNTER, .labels = { "who" } };
static struct metric busy_seconds = { .name = "t_busy_seconds", .help = "Busy", .type = METRIC_HISTOGRAM };

static void *hammer(void *arg)
{
	char id[8];

	for (int i = 0; i < 20000; i++) {
		int n = snprintf(id, sizeof(id), "%d", i % 10);

		metric_add(metric_series(&busy, ((struct str){ id, (size_t)n })), 1);
		metric_observe(metric_series(&busy_seconds), 1);
	}
	return NULL;
}

static void test_no_update_is_lost_between_threads(void **state)
{
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, hammer, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(metric_value(metric_series(&busy, STR("3"))), 8000);
	assert_true(printed("t_busy_seconds_sum 80000\nt_busy_seconds_count 80000\n"));
}

static void test_process_metrics_are_there(void **state)
{
	assert_true(printed("\nprocess_resident_memory_bytes "));
	assert_true(printed("\nprocess_open_fds "));
	assert_true(printed("\nprocess_cpu_seconds_total "));
	assert_true(printed("\nprocess_threads 1\n"));
	assert_true(printed("\nprocess_start_time_seconds "));
}

static void test_lines_of_hooks_keep_their_digits_and_escape_their_labels(void **state)
{
	const struct metric_label labels[] = { { "a", STR("x\"\\\n") }, { "b", STR("") } };

	buf_clear(&text);
	metrics_labels(&text, "t_hook_seconds", labels, 2, 1796029400.25);
	metrics_line(&text, "t_plain", NULL, METRIC_NONE, 0.1);
	assert_string_equal(buf_cstr(&text), "t_hook_seconds{a=\"x\\\"\\\\\\n\",b=\"\"} 1796029400.25\nt_plain 0.1\n");
}

static void test_watched_disks_show_their_room(void **state)
{
	process_disk_watch("root", "/");
	process_disk_watch("none", ""); /* a setting that is empty */
	assert_true(printed("\ncrm_disk_free_bytes{disk=\"root\"} "));
	assert_true(printed("\ncrm_disk_size_bytes{disk=\"root\"} "));
	assert_false(printed("disk=\"none\""));
}

static int teardown(void **state)
{
	buf_fini(&text);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counter_and_gauge_are_printed_with_their_labels),
		cmocka_unit_test(test_histogram_is_cumulative_and_has_the_request_buckets),
		cmocka_unit_test(test_registered_metric_shows_without_series),
		cmocka_unit_test(test_series_beyond_the_bound_fall_into_other),
		cmocka_unit_test(test_no_update_is_lost_between_threads),
		cmocka_unit_test(test_process_metrics_are_there),
		cmocka_unit_test(test_lines_of_hooks_keep_their_digits_and_escape_their_labels),
		cmocka_unit_test(test_watched_disks_show_their_room),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
