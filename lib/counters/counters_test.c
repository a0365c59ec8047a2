/* The same tests over memory and a real Redis; then what happens when Redis is slow, gone, or has forgotten everything. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "counters/counters.h"
#include "testing/redis.h"

#define SECOND INT64_C(1000000)

static struct test_redis redis;
static char redis_url[64];
static uint64_t last_id;

static struct counters *open_at(const char *url)
{
	const char *why = NULL;
	struct counters_config config = { .url = url, .name = "test", .most = 1000 };
	struct counters *c = counters_open(&config, &why);

	assert_non_null(c);
	for (int i = 0; i < 300 && *url == 'r' && !counters_shared(c); i++)
		usleep(10000);
	assert_int_equal(counters_shared(c), *url == 'r');
	return c;
}

/* A bucket that nobody has used yet. */
static struct counter bucket(uint32_t quota, int64_t window_us, int64_t lend_us)
{
	return (struct counter){ ++last_id * 0x9E3779B97F4A7C15u, { quota, window_us, lend_us } };
}

/* As the gateway does it: from memory where that is sure. */
static bool take(struct counters *c, const struct counter *rows, size_t n)
{
	struct counter_answer a;

	if (!counters_take(c, rows, n, clock_us(), &a))
		counters_wait(c, rows, n, &a);
	return !a.refused;
}

static unsigned take_many(struct counters *c, struct counter row, unsigned tries)
{
	unsigned n = 0;

	for (unsigned i = 0; i < tries; i++)
		n += take(c, &row, 1);
	return n;
}

/* -- over both drivers: *state is the URL */

static void test_quota_then_refusal(void **state)
{
	struct counters *c = open_at(*state);

	assert_int_equal(take_many(c, bucket(5, 3600 * SECOND, 0), 9), 5);
	assert_int_equal(take_many(c, bucket(1, 3600 * SECOND, 0), 9), 1);
	assert_int_equal(take_many(c, bucket(300, 36000 * SECOND, 0), 400), 300);
	counters_close(c);
}

static void test_the_answer_says_when_it_is_full(void **state)
{
	struct counters *c = open_at(*state);
	struct counter row = bucket(10, 100 * SECOND, 0);
	struct counter_answer a;

	for (int64_t i = 1; i <= 10; i++) {
		counters_wait(c, &row, 1, &a);
		assert_false(a.refused);
		assert_in_range(a.full_us[0] - clock_us() + SECOND, i * 10 * SECOND, (i * 10 + 1) * SECOND);
	}
	counters_wait(c, &row, 1, &a);
	assert_true(a.refused);
	assert_in_range(a.full_us[0] - clock_us(), 99 * SECOND, 100 * SECOND);
	counters_close(c);
}

static void test_it_refills(void **state)
{
	struct counters *c = open_at(*state);
	struct counter row = bucket(5, SECOND, 0);

	assert_true(take_many(c, row, 20) >= 5);
	usleep(450000);
	assert_in_range(take_many(c, row, 20), 2, 4);
	counters_close(c);
}

static void test_the_future_is_lent(void **state)
{
	struct counters *c = open_at(*state);

	assert_int_equal(take_many(c, bucket(10, 1000 * SECOND, 300 * SECOND), 20), 13);
	counters_close(c);
}

static void test_two_buckets_are_charged_both_or_none(void **state)
{
	struct counters *c = open_at(*state);
	struct counter rows[2] = { bucket(2, 3600 * SECOND, 0), bucket(5, 3600 * SECOND, 0) };
	unsigned n = 0;

	for (int i = 0; i < 9; i++)
		n += take(c, rows, 2);
	assert_int_equal(n, 2);
	assert_int_equal(take_many(c, rows[1], 9), 3);
	counters_close(c);
}

/* Making room for the second must not throw out the first, which may be the only one of its shard. */
static void test_two_new_buckets_may_share_a_shard(void **state)
{
	struct counters *c = open_at(*state);

	for (int i = 0; i < 3000; i++) {
		struct counter rows[2] = { bucket(2, 3600 * SECOND, 0), bucket(5, 3600 * SECOND, 0) };
		struct counter_answer a;

		counters_take_here(c, rows, 2, clock_us(), &a);
		assert_false(a.refused);
		counters_forget(c);
	}
	counters_close(c);
}

static void test_what_is_given_back_can_be_taken(void **state)
{
	struct counters *c = open_at(*state);
	struct counter rows[2] = { bucket(3, 3600 * SECOND, 0), bucket(3, 3600 * SECOND, 0) };

	for (int i = 0; i < 30; i++) {
		assert_true(take(c, rows, 2));
		counters_give_back(c, rows, 2, clock_us());
	}
	assert_int_equal(take_many(c, rows[0], 9), 3);
	assert_int_equal(take_many(c, rows[1], 9), 3);
	counters_close(c);
}

struct crowd {
	struct counters *c;
	struct counter row;
	atomic_uint taken;
};

static void *crowd_run(void *arg)
{
	struct crowd *w = arg;

	atomic_fetch_add(&w->taken, take_many(w->c, w->row, 200));
	return NULL;
}

static void test_a_crowd_gets_the_quota(void **state)
{
	struct crowd w = { .c = open_at(*state), .row = bucket(500, 36000 * SECOND, 0) };
	pthread_t threads[8];

	for (int i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, crowd_run, &w);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(w.taken, 500);
	counters_close(w.c);
}

static void test_memory_is_bounded(void **state)
{
	struct counters *c = open_at(*state);
	struct counter_answer a;

	for (int i = 0; i < 5000; i++) {
		struct counter row = bucket(5, 3600 * SECOND, 0);

		counters_take_here(c, &row, 1, clock_us(), &a);
	}
	assert_in_range(counters_count(c), 100, 1000);
	counters_close(c);
}

/* -- Redis only */

static void test_two_processes_share_a_quota(void **state)
{
	struct crowd one = { .c = open_at(redis_url), .row = bucket(400, 36000 * SECOND, 0) }, two = { .c = open_at(redis_url), .row = one.row };
	struct counter small = bucket(5, 3600 * SECOND, 0);
	pthread_t threads[4];
	unsigned n = 0;

	for (int i = 0; i < 10; i++)
		n += take(i % 2 ? one.c : two.c, &small, 1);
	assert_int_equal(n, 5);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, crowd_run, i % 2 ? &one : &two);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(one.taken + two.taken, 400);
	counters_close(one.c);
	counters_close(two.c);
}

static void test_what_one_gives_back_another_takes(void **state)
{
	struct counters *one = open_at(redis_url), *two = open_at(redis_url);
	struct counter row = bucket(3, 3600 * SECOND, 0);

	assert_int_equal(take_many(one, row, 5), 3);
	counters_give_back(one, &row, 1, clock_us());
	usleep(200000);
	assert_int_equal(take_many(two, row, 5), 1);
	counters_close(one);
	counters_close(two);
}

static void wait_shared(struct counters *c, bool wanted)
{
	for (int i = 0; i < 400 && counters_shared(c) != wanted; i++)
		usleep(10000);
	assert_int_equal(counters_shared(c), wanted);
}

/* A server that crashes forgets; those who counted with it have not. */
static void test_a_crash_gives_nobody_a_new_quota(void **state)
{
	struct counters *one = open_at(redis_url), *two = open_at(redis_url);
	struct counter row = bucket(10, 3600 * SECOND, 0), other = bucket(4, 3600 * SECOND, 0);

	assert_int_equal(take_many(one, row, 7), 7);
	test_redis_kill(&redis);
	wait_shared(one, false);
	assert_int_equal(take_many(one, other, 9), 4); /* alone, but it works */
	assert_true(test_redis_start(&redis));
	wait_shared(one, true);
	wait_shared(two, true);
	assert_int_equal(take_many(one, row, 9), 3);
	assert_int_equal(take_many(two, row, 9), 0);
	assert_int_equal(take_many(two, other, 9), 4); /* it had not heard of it … */
	assert_int_equal(take_many(one, other, 9), 0);
	counters_close(one);
	counters_close(two);
}

static void test_a_server_that_hangs_costs_fifty_milliseconds_once(void **state)
{
	struct counters *c = open_at(redis_url);
	struct counter row = bucket(5, 3600 * SECOND, 0);
	int64_t start;

	kill(redis.pid, SIGSTOP);
	start = clock_mono_us();
	assert_true(take(c, &row, 1));
	assert_true(clock_mono_us() - start < 2 * COUNTERS_TIMEOUT_MS * 1000); /* the machine may be busy */
	assert_false(counters_shared(c));
	start = clock_mono_us();
	assert_int_equal(take_many(c, row, 9), 4);
	assert_true(clock_mono_us() - start < COUNTERS_TIMEOUT_MS * 1000);
	kill(redis.pid, SIGCONT);
	wait_shared(c, true);
	assert_int_equal(take_many(c, row, 9), 0);
	counters_close(c);
}

static void test_a_flushed_script_is_loaded_again(void **state)
{
	struct counters *c = open_at(redis_url);
	struct counter row = bucket(5, 3600 * SECOND, 0);
	char command[128];

	snprintf(command, sizeof(command), "redis-cli -p %d SCRIPT FLUSH >/dev/null", redis.port);
	assert_int_equal(system(command), 0);
	assert_true(take(c, &row, 1));
	wait_shared(c, true);
	assert_int_equal(take_many(c, row, 9), 4);
	counters_close(c);
}

static void on_ring(void *arg)
{
	atomic_fetch_add((atomic_uint *)arg, 1);
}

static void test_a_ring_is_heard_by_all_who_listen(void **state)
{
	atomic_uint heard = 0;
	const char *why = NULL;
	struct counters_config config = { .url = redis_url, .name = "test", .most = 100, .on_ring = on_ring, .arg = &heard };
	struct counters *listener = counters_open(&config, &why), *other = open_at(redis_url);
	unsigned before;

	assert_non_null(listener);
	for (int i = 0; i < 300 && heard == 0; i++) /* the subscription itself counts as a ring */
		usleep(10000);
	before = heard;
	assert_true(before > 0);
	counters_ring(other);
	for (int i = 0; i < 100 && heard == before; i++)
		usleep(10000);
	assert_int_equal(heard, before + 1);
	counters_close(listener);
	counters_close(other);
}

static void test_a_password_is_needed_where_there_is_one(void **state)
{
	struct test_redis locked = { .password = "se cret" };
	const char *why = NULL;
	struct counters_config config = { .name = "test", .most = 100 };
	struct counters *c;
	char url[96];

	assert_true(test_redis_start(&locked));
	snprintf(url, sizeof(url), "redis://:se%%20cret@127.0.0.1:%d/2", locked.port);
	c = open_at(url);
	assert_int_equal(take_many(c, bucket(3, 3600 * SECOND, 0), 5), 3);
	counters_close(c);
	snprintf(url, sizeof(url), "redis://127.0.0.1:%d", locked.port);
	config.url = url;
	c = counters_open(&config, &why);
	assert_non_null(c);
	usleep(300000);
	assert_false(counters_shared(c));
	assert_int_equal(take_many(c, bucket(3, 3600 * SECOND, 0), 5), 3);
	counters_close(c);
	test_redis_kill(&locked);
}

static void test_wrong_urls_are_refused(void **state)
{
	static const char *const urls[] = { "http://localhost", "redis://", "redis://localhost/x", "rediss://localhost", "localhost:6379", "redis://localhost?x=1" };

	for (size_t i = 0; i < sizeof(urls) / sizeof(*urls); i++) {
		const char *why = NULL;
		struct counters_config config = { .url = urls[i], .name = "test", .most = 100 };

		assert_null(counters_open(&config, &why));
		assert_non_null(why);
	}
}

static int setup(void **state)
{
	if (!test_redis_start(&redis))
		return -1;
	snprintf(redis_url, sizeof(redis_url), "redis://127.0.0.1:%d", redis.port);
	return 0;
}

static int teardown(void **state)
{
	test_redis_kill(&redis);
	return 0;
}

static char memory_url[] = "memory:";
#define OVER_BOTH(f) \
	{ #f " (memory)", f, NULL, NULL, memory_url }, { #f " (redis)", f, NULL, NULL, redis_url }

int main(void)
{
	const struct CMUnitTest tests[] = {
		OVER_BOTH(test_quota_then_refusal),
		OVER_BOTH(test_the_answer_says_when_it_is_full),
		OVER_BOTH(test_it_refills),
		OVER_BOTH(test_the_future_is_lent),
		OVER_BOTH(test_two_buckets_are_charged_both_or_none),
		OVER_BOTH(test_two_new_buckets_may_share_a_shard),
		OVER_BOTH(test_what_is_given_back_can_be_taken),
		OVER_BOTH(test_a_crowd_gets_the_quota),
		OVER_BOTH(test_memory_is_bounded),
		cmocka_unit_test(test_two_processes_share_a_quota),
		cmocka_unit_test(test_what_one_gives_back_another_takes),
		cmocka_unit_test(test_a_crash_gives_nobody_a_new_quota),
		cmocka_unit_test(test_a_server_that_hangs_costs_fifty_milliseconds_once),
		cmocka_unit_test(test_a_flushed_script_is_loaded_again),
		cmocka_unit_test(test_a_ring_is_heard_by_all_who_listen),
		cmocka_unit_test(test_a_password_is_needed_where_there_is_one),
		cmocka_unit_test(test_wrong_urls_are_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
