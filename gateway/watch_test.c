/* The table of refusals: aggregation, bounds, and nothing lost or doubled when sending fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "gateway/siphash.h"
#include "gateway/watch.h"

#define T0 (1700000000000000LL / WATCH_WINDOW_US * WATCH_WINDOW_US)
#define SECOND 1000000LL

static struct watch *w;
static const struct watch_report *out[WATCH_MAX];

static int start(void **state)
{
	w = watch_new();
	return 0;
}

static int end(void **state)
{
	watch_free(w);
	return 0;
}

static void note(enum watch_kind kind, const char *ip, int n, int64_t now)
{
	for (int i = 0; i < n; i++)
		watch_note(w, &(struct watch_hit){ .kind = kind, .ip = str_of(ip), .tenant_id = STR("0190a000-0000-7000-8000-00000000000a"), .method = STR("GET"),
			.path = STR("/api/leads"), .reason = STR("signature"), .now_us = now });
}

static size_t take(int64_t now)
{
	return watch_take(w, now, false, out, WATCH_MAX);
}

static void the_first_is_sent_at_once_and_the_rest_of_the_minute_together(void **state)
{
	note(WATCH_TOKEN, "203.0.113.9", 3, T0);
	assert_int_equal(take(T0 + SECOND), 1);
	assert_int_equal(out[0]->count, 3);
	assert_string_equal(out[0]->what, "GET /api/leads");
	assert_string_equal(out[0]->reason, "signature");
	watch_settle(w, true);
	for (int i = 2; i < 60; i++) {
		note(WATCH_TOKEN, "203.0.113.9", 100, T0 + i * SECOND);
		assert_int_equal(take(T0 + i * SECOND), 0);
		watch_settle(w, true);
	}
	assert_int_equal(take(T0 + 61 * SECOND), 1);
	assert_int_equal(out[0]->count, 5800);
	watch_settle(w, true);
	assert_int_equal(take(T0 + 125 * SECOND), 0);
	assert_int_equal(watch_stats(w).rows, 0);
}

static void what_could_not_be_sent_is_sent_again_as_the_same(void **state)
{
	char id[UUID_TEXT + 1];

	note(WATCH_PERMISSION, "203.0.113.9", 2, T0);
	assert_int_equal(take(T0), 1);
	memcpy(id, out[0]->id, sizeof(id));
	note(WATCH_PERMISSION, "203.0.113.9", 5, T0);
	watch_settle(w, false);
	assert_int_equal(take(T0 + SECOND), 1);
	assert_string_equal(out[0]->id, id);
	assert_int_equal(out[0]->count, 2);
	watch_settle(w, true);
	assert_int_equal(take(T0 + 70 * SECOND), 1);
	assert_int_equal(out[0]->count, 5);
	assert_string_not_equal(out[0]->id, id);
	watch_settle(w, true);
}

static void a_few_refused_requests_are_no_storm(void **state)
{
	note(WATCH_RATE, "203.0.113.9", WATCH_STORM - 1, T0);
	assert_int_equal(take(T0 + SECOND), 0);
	assert_int_equal(take(T0 + 61 * SECOND), 0);
	assert_int_equal(watch_stats(w).rows, 0);
	note(WATCH_RATE, "203.0.113.9", WATCH_STORM, T0 + 61 * SECOND);
	assert_int_equal(take(T0 + 62 * SECOND), 1);
	watch_settle(w, true);
}

static void an_attacker_with_many_addresses_finds_a_full_table(void **state)
{
	char ip[32];

	for (int i = 0; i < 5000; i++) {
		snprintf(ip, sizeof(ip), "10.0.%d.%d", i / 250, i % 250);
		note(WATCH_TOKEN, ip, 1, T0);
	}
	assert_int_equal(watch_stats(w).rows, WATCH_MAX);
	assert_int_equal(watch_stats(w).overflow, 5000 - WATCH_MAX);
	assert_int_equal(watch_take(w, T0, false, out, WATCH_BATCH), WATCH_BATCH);
	watch_settle(w, true);
}

static void the_end_sends_what_is_left(void **state)
{
	note(WATCH_TOKEN, "203.0.113.9", 1, T0);
	assert_int_equal(take(T0), 1);
	watch_settle(w, true);
	note(WATCH_TOKEN, "203.0.113.9", 4, T0 + SECOND);
	assert_int_equal(take(T0 + SECOND), 0);
	assert_int_equal(watch_take(w, T0 + SECOND, true, out, WATCH_BATCH), 1);
	assert_int_equal(out[0]->count, 4);
	watch_settle(w, true);
}

static void what_clients_send_is_made_harmless(void **state)
{
	watch_note(w, &(struct watch_hit){ .kind = WATCH_TOKEN, .ip = STR("::1"), .user_agent = STR("a\nb\"c\xff"), .reason = STR("x"), .now_us = T0 });
	assert_int_equal(take(T0), 1);
	assert_string_equal(out[0]->user_agent, "a?b\"c?");
	watch_settle(w, true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_first_is_sent_at_once_and_the_rest_of_the_minute_together), TEST(what_could_not_be_sent_is_sent_again_as_the_same),
		TEST(a_few_refused_requests_are_no_storm), TEST(an_attacker_with_many_addresses_finds_a_full_table), TEST(the_end_sends_what_is_left),
		TEST(what_clients_send_is_made_harmless),
	};

	siphash_init();
	return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
