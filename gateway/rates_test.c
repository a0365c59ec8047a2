/* Rate policies against a clock that the test moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "gateway/rates.h"
#include "gateway/siphash.h"

#define SECOND INT64_C(1000000)
#define START (INT64_C(1700000000) * SECOND)

static struct counters *counters;

static struct rates *make(uint32_t scale)
{
	static const uint8_t key[32] = "of the test";
	const char *why = NULL;
	struct counters_config config = { .url = "", .name = "test", .most = RATES_MAX };

	counters = counters_open(&config, &why);
	return rates_new(scale, counters, key);
}

static void unmake(struct rates *r)
{
	rates_free(r);
	counters_close(counters);
}

static struct rate_verdict take(struct rates *r, const struct rate_policy *p, const char *subject, int64_t now_us)
{
	return rates_take(r, "saas", p, str_of(subject), now_us);
}

static void test_quota_then_refusal_then_refill(void **state)
{
	const struct rate_policy p = { .name = "default", .match = "default", .quota = 5, .window_s = 300 };
	struct rates *r = make(1);
	struct rate_verdict v;

	for (uint32_t i = 0; i < 5; i++) {
		v = take(r, &p, "a", START);
		assert_false(v.refused);
		assert_int_equal(v.limit, 5);
		assert_int_equal(v.remaining, 4 - i);
		assert_int_equal(v.delay_us, 0);
	}
	v = take(r, &p, "a", START);
	assert_true(v.refused);
	assert_int_equal(v.remaining, 0);
	assert_int_equal(v.retry_us, 60 * SECOND);
	assert_int_equal(v.reset_us, START + 60 * SECOND);
	assert_true(take(r, &p, "a", START + 60 * SECOND - 1).refused);
	assert_false(take(r, &p, "a", START + 60 * SECOND).refused);
	assert_true(take(r, &p, "a", START + 60 * SECOND).refused);
	v = take(r, &p, "a", START + 1000 * SECOND);
	assert_int_equal(v.remaining, 4);
	unmake(r);
}

static void test_subjects_policies_and_dialects_are_apart(void **state)
{
	const struct rate_policy p = { .name = "one", .quota = 1, .window_s = 60 }, q = { .name = "two", .quota = 1, .window_s = 60 };
	struct rates *r = make(1);

	assert_false(take(r, &p, "a", START).refused);
	assert_true(take(r, &p, "a", START).refused);
	assert_false(take(r, &p, "b", START).refused);
	assert_false(take(r, &q, "a", START).refused);
	assert_false(rates_take(r, "mvp", &p, STR("a"), START).refused);
	assert_int_equal(counters_count(counters), 4);
	unmake(r);
}

static void test_queue_delays_instead_of_refusing(void **state)
{
	const struct rate_policy p = { .name = "default", .quota = 100, .window_s = 60, .queue = 10 };
	struct rates *r = make(1);
	struct rate_verdict v;

	for (int i = 0; i < 100; i++)
		assert_int_equal(take(r, &p, "t", START).delay_us, 0);
	for (int i = 1; i <= 10; i++) {
		v = take(r, &p, "t", START);
		assert_false(v.refused);
		assert_int_equal(v.delay_us, i * 600000);
	}
	v = take(r, &p, "t", START);
	assert_true(v.refused);
	assert_true(v.retry_us > 0);
	v = take(r, &p, "t", START + 600000);
	assert_false(v.refused);
	assert_int_equal(v.delay_us, 10 * 600000);
	unmake(r);
}

static void test_another_key_is_other_buckets_and_the_same_key_is_none(void **state)
{
	const struct rate_policy p = { .name = "default", .match = "default", .quota = 1, .window_s = 300 };
	static const uint8_t same[32] = "of the test", other[32] = "of a later year";
	struct rates *r = make(1);

	assert_false(take(r, &p, "203.0.113.1", 1000000).refused);
	rates_rekey(r, same);
	assert_true(take(r, &p, "203.0.113.1", 1000000).refused);
	rates_rekey(r, other);
	assert_false(take(r, &p, "203.0.113.1", 1000000).refused);
	assert_true(take(r, &p, "203.0.113.1", 1000000).refused);
	unmake(r);
}

static void test_nobody_waits_for_ever(void **state)
{
	const struct rate_policy p = { .name = "slow", .quota = 1, .window_s = 3600, .queue = 10 };
	struct rates *r = make(1);

	assert_false(take(r, &p, "t", START).refused);
	assert_true(take(r, &p, "t", START).refused);
	unmake(r);
}

static void test_scale_multiplies_the_quota(void **state)
{
	const struct rate_policy p = { .name = "default", .quota = 2, .window_s = 60 };
	struct rates *r = make(1000);

	assert_int_equal(take(r, &p, "t", START).limit, 2000);
	for (int i = 1; i < 2000; i++)
		assert_false(take(r, &p, "t", START).refused);
	assert_true(take(r, &p, "t", START).refused);
	unmake(r);
}

static void test_most_constrained_is_shown(void **state)
{
	struct rate_verdict shown = { 0 };
	const struct rate_verdict wide = { .limited = true, .remaining = 50 }, tight = { .limited = true, .remaining = 3 }, none = { 0 },
				  refused = { .limited = true, .refused = true, .remaining = 7 };

	rates_merge(&shown, &none);
	assert_false(shown.limited);
	rates_merge(&shown, &wide);
	rates_merge(&shown, &tight);
	rates_merge(&shown, &wide);
	assert_int_equal(shown.remaining, 3);
	rates_merge(&shown, &refused);
	assert_true(shown.refused);
}

static void test_the_table_is_bounded(void **state)
{
	const struct rate_policy p = { .name = "default", .quota = 10, .window_s = 60 };
	struct rates *r = make(1);
	char subject[32];

	for (int i = 0; i < RATES_MAX + 5000; i++) {
		snprintf(subject, sizeof(subject), "2001:db8::%x", (unsigned)i);
		take(r, &p, subject, START);
	}
	assert_true(counters_count(counters) <= RATES_MAX);
	unmake(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quota_then_refusal_then_refill),
		cmocka_unit_test(test_subjects_policies_and_dialects_are_apart),
		cmocka_unit_test(test_queue_delays_instead_of_refusing),
		cmocka_unit_test(test_another_key_is_other_buckets_and_the_same_key_is_none),
		cmocka_unit_test(test_nobody_waits_for_ever),
		cmocka_unit_test(test_scale_multiplies_the_quota),
		cmocka_unit_test(test_most_constrained_is_shown),
		cmocka_unit_test(test_the_table_is_bounded),
	};

	siphash_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
