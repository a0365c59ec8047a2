/* What logins cost and whom that tells something: unknown people take as long as known ones, and a full pool says when to come again. */
#include "harness.h"

#define TRIES 220      /* of each kind */
#define APART_PERCENT 10
#define ROUNDS 3       /* a machine that does something else at times is no reason to fail; a difference of ours is there in all of them */

/* -- equal time */

static double try_us(const char *email)
{
	static int n;
	struct str ip = str_of(arena_printf(&arena, "10.%d.%d.%d", n >> 16, n >> 8 & 255, n & 255));
	int64_t start = clock_mono_us();

	n++;
	assert_int_equal(try_login(email, "not the password", ip)->status, STATUS_AUTH_FAILED);
	return (double)(clock_mono_us() - start);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double mean(const double *v, int n)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
		sum += v[i];
	return sum / n;
}

/* Without the slowest and the fastest tenth, which are the machine's. In turns, so that what the machine does meets both alike. */
static double apart(void)
{
	double known[TRIES], unknown[TRIES], a, b, percent;
	int cut = TRIES / 10;

	for (int i = 0; i < TRIES; i++) {
		if (i % 2)
			known[i] = try_us("known@time.example");
		unknown[i] = try_us(arena_printf(&arena, "nobody-%d@time.example", i));
		if (i % 2 == 0)
			known[i] = try_us("known@time.example");
	}
	qsort(known, TRIES, sizeof(*known), by_size);
	qsort(unknown, TRIES, sizeof(*unknown), by_size);
	a = mean(known + cut, TRIES - 2 * cut);
	b = mean(unknown + cut, TRIES - 2 * cut);
	percent = 100 * (a > b ? a / b - 1 : b / a - 1);
	print_message("known: mean %.1f ms, median %.1f ms, p99 %.1f ms; unknown: mean %.1f ms, median %.1f ms, p99 %.1f ms; %.1f %% apart\n", a / 1000,
		      known[TRIES / 2] / 1000, known[TRIES * 99 / 100] / 1000, b / 1000, unknown[TRIES / 2] / 1000, unknown[TRIES * 99 / 100] / 1000, percent);
	return percent;
}

static void test_nobody_learns_from_time_who_exists(void **state)
{
	double percent = 100;

	register_person("known@time.example", "Known");
	for (int i = 0; i < ROUNDS && percent > APART_PERCENT; i++)
		percent = apart();
	assert_true(percent <= APART_PERCENT);
}

/* -- a full pool */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static int passed; /* under gate */

static void wait_at_gate(void *unused)
{
	pthread_mutex_lock(&gate);
	passed++;
	pthread_mutex_unlock(&gate);
}

static int fill(void)
{
	int n = 0;

	for (int quiet = 0; quiet < 50;) { /* the threads take some before the queue is full for good */
		if (pool_submit(wait_at_gate, NULL)) {
			n++;
			quiet = 0;
		} else {
			quiet++;
			usleep(1000);
		}
	}
	return n;
}

static struct outcome *try_register(const char *email)
{
	Crm__V1__RegisterRequest r = CRM__V1__REGISTER_REQUEST__INIT;

	r.email = (char *)email;
	r.password = PASSWORD;
	return invoke("Auth.Register", NULL, &r);
}

static void test_a_full_pool_says_when_to_come_again_and_costs_no_try(void **state)
{
	struct outcome *o;
	int n;

	register_person("full@pool.example", "Full");
	pthread_mutex_lock(&gate);
	n = fill();
	assert_int_equal(n, POOL_THREADS + POOL_QUEUE);
	for (int i = 0; i < 2 * THROTTLE_PER_ACCOUNT; i++) {
		o = try_login("full@pool.example", PASSWORD, STR("192.0.2.44"));
		assert_int_equal(o->status, STATUS_UNAVAILABLE);
		assert_true(o->retry_after_ms > 0);
	}
	o = try_register("late@pool.example");
	assert_int_equal(o->status, STATUS_UNAVAILABLE);
	assert_true(o->retry_after_ms > 0);
	pthread_mutex_unlock(&gate);
	for (int done = 0; done < n;) {
		usleep(1000);
		pthread_mutex_lock(&gate);
		done = passed;
		pthread_mutex_unlock(&gate);
	}
	assert_int_equal(try_login("full@pool.example", PASSWORD, STR("192.0.2.44"))->status, STATUS_OK);
	assert_int_equal(try_register("late@pool.example")->status, STATUS_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_nobody_learns_from_time_who_exists, fresh),
		cmocka_unit_test_setup(test_a_full_pool_says_when_to_come_again_and_costs_no_try, fresh),
	};

	return cmocka_run_group_tests(tests, harness_start, harness_stop);
}
