/* Guessing limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "throttle.h"

#define ME STR("10.0.0.1")
#define OTHER STR("10.0.0.2")
#define ADA STR("ada@example.com")
#define T0 (1000 * THROTTLE_WINDOW_US)

static int start(void **state)
{
	const char *why;

	return throttle_start("", &why) ? 0 : -1;
}

static int stop(void **state)
{
	throttle_stop();
	return 0;
}

static int reset(void **state)
{
	throttle_reset();
	return 0;
}

static void fail_times(struct str ip, struct str account, int n, int64_t now)
{
	for (int i = 0; i < n; i++)
		assert_int_equal(throttle_take(ip, account, now), 0);
}

static void test_eleventh_guess_is_refused_with_a_wait(void **state)
{
	uint32_t wait;

	fail_times(ME, ADA, THROTTLE_PER_ACCOUNT, T0);
	wait = throttle_take(ME, ADA, T0);
	assert_true(wait > 0 && wait <= THROTTLE_WINDOW_US / 1000 + 1000);
}

static void test_guessing_does_not_lock_others_out(void **state)
{
	fail_times(ME, ADA, THROTTLE_PER_ACCOUNT, T0);
	assert_int_not_equal(throttle_take(ME, ADA, T0), 0);
	assert_int_equal(throttle_take(OTHER, ADA, T0), 0);
	assert_int_equal(throttle_take(ME, STR("bob@example.com"), T0), 0);
}

static void test_an_address_has_a_limit_over_all_accounts(void **state)
{
	char account[32];

	for (int i = 0; i < THROTTLE_PER_ADDRESS; i++) {
		snprintf(account, sizeof(account), "u%d@example.com", i);
		assert_int_equal(throttle_take(ME, str_of(account), T0), 0);
	}
	assert_int_not_equal(throttle_take(ME, STR("fresh@example.com"), T0), 0);
	assert_int_equal(throttle_take(OTHER, STR("fresh@example.com"), T0), 0);
}

static void test_successes_do_not_count(void **state)
{
	for (int i = 0; i < 5 * THROTTLE_PER_ADDRESS; i++) {
		assert_int_equal(throttle_take(ME, ADA, T0), 0);
		throttle_give_back(ME, ADA, T0);
	}
}

static void test_attempts_come_back_one_by_one(void **state)
{
	const int64_t each = THROTTLE_WINDOW_US / THROTTLE_PER_ACCOUNT;

	fail_times(ME, ADA, THROTTLE_PER_ACCOUNT, T0);
	assert_int_not_equal(throttle_take(ME, ADA, T0 + each - 1), 0);
	assert_int_equal(throttle_take(ME, ADA, T0 + each), 0);
	assert_int_not_equal(throttle_take(ME, ADA, T0 + each), 0);
	fail_times(ME, ADA, THROTTLE_PER_ACCOUNT, T0 + 2 * THROTTLE_WINDOW_US);
	assert_int_not_equal(throttle_take(ME, ADA, T0 + 2 * THROTTLE_WINDOW_US), 0);
}

/* Whatever others do from their addresses, the owner gets in; and a success of the owner gives the attackers nothing back. */
static void test_a_crowd_of_attackers_does_not_stop_the_owner(void **state)
{
	char address[32];

	for (int i = 0; i < 500; i++) {
		snprintf(address, sizeof(address), "198.51.%d.%d", i / 250, i % 250);
		fail_times(str_of(address), ADA, THROTTLE_PER_ACCOUNT, T0);
		assert_int_not_equal(throttle_take(str_of(address), ADA, T0), 0);
	}
	for (int i = 0; i < 20; i++) {
		assert_int_equal(throttle_take(ME, ADA, T0), 0);
		throttle_give_back(ME, ADA, T0);
	}
	assert_int_not_equal(throttle_take(STR("198.51.1.7"), ADA, T0), 0);
}

static void test_the_wait_is_long_enough(void **state)
{
	uint32_t wait;
	int64_t now = T0 + THROTTLE_WINDOW_US / 3;

	fail_times(ME, ADA, THROTTLE_PER_ACCOUNT, now);
	for (int i = 0; i < 3; i++) {
		wait = throttle_take(ME, ADA, now);
		if (!wait)
			return;
		now += (int64_t)wait * 1000;
	}
	fail_msg("%s", "still refused after waiting as told");
}

static void test_ipv6_counts_by_network(void **state)
{
	fail_times(STR("2001:db8:1:2::1"), ADA, THROTTLE_PER_ACCOUNT, T0);
	assert_int_not_equal(throttle_take(STR("2001:db8:1:2:ffff::9"), ADA, T0), 0);
	assert_int_equal(throttle_take(STR("2001:db8:1:3::1"), ADA, T0), 0);
}

static void test_what_is_counted_apart_leaves_logins_alone(void **state)
{
	throttle_reset();
	for (int i = 0; i < 150; i++)
		assert_int_equal(throttle_take_apart(STR("192.0.2.77"), STR("forgot"), 150, 1000) > 0, false);
	assert_true(throttle_take_apart(STR("192.0.2.77"), STR("forgot"), 150, 1000) > 0);
	assert_int_equal(throttle_take(STR("192.0.2.77"), STR("a@b.example"), 1000), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_counted_apart_leaves_logins_alone), cmocka_unit_test_setup(test_eleventh_guess_is_refused_with_a_wait, reset),
		cmocka_unit_test_setup(test_guessing_does_not_lock_others_out, reset),
		cmocka_unit_test_setup(test_an_address_has_a_limit_over_all_accounts, reset),
		cmocka_unit_test_setup(test_successes_do_not_count, reset),
		cmocka_unit_test_setup(test_attempts_come_back_one_by_one, reset), cmocka_unit_test_setup(test_a_crowd_of_attackers_does_not_stop_the_owner, reset),
		cmocka_unit_test_setup(test_the_wait_is_long_enough, reset),
		cmocka_unit_test_setup(test_ipv6_counts_by_network, reset),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
