/* Totals without a database: what is served, what is counted again, who waits for whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "resource/counts.h"

/* A list that wants a total; the count it was told to run stays open until the test ends it. */
struct asker {
	struct count_wait wait;
	struct count_entry *running;
	int runs, answers;
	int64_t n;
};

static void run(struct count_wait *w, struct count_entry *e)
{
	struct asker *a = (struct asker *)w;

	a->running = e;
	a->runs++;
}

static void done(struct count_wait *w, enum status s, int64_t n)
{
	struct asker *a = (struct asker *)w;

	assert_int_equal(s, STATUS_OK);
	a->answers++;
	a->n = n;
}

static struct counts_key key(const char *tenant, const char *user, const char *filter)
{
	return (struct counts_key){ .tenant = str_of(tenant), .user = str_of(user), .entity = "lead", .filter = str_of(filter) };
}

static bool ask(struct asker *a, const char *tenant, const char *user, const char *filter, int64_t *n)
{
	struct counts_key k = key(tenant, user, filter);

	*a = (struct asker){ .wait = { .run = run, .done = done } };
	return counts_get(&k, &a->wait, n);
}

static void prime(const char *tenant, const char *filter, int64_t count)
{
	struct asker a;
	int64_t n;

	assert_false(ask(&a, tenant, "somebody", filter, &n));
	counts_put(a.running, STATUS_OK, count);
	assert_int_equal(a.answers, 1);
}

static void one_count_answers_all_who_wait(void **state)
{
	struct asker a, b;
	int64_t n;

	assert_false(ask(&a, "one", "x", "f", &n));
	assert_false(ask(&b, "one", "y", "f", &n));
	assert_int_equal(a.runs + b.runs, 1);
	counts_put(a.running, STATUS_OK, 7);
	assert_int_equal(a.n, 7);
	assert_int_equal(b.n, 7);
}

static void a_writer_does_not_take_a_count_that_began_before_its_write(void **state)
{
	struct asker early, writer;
	int64_t n;

	assert_false(ask(&early, "two", "x", "f", &n));
	counts_begin(STR("two"), "lead");
	counts_end(STR("two"), "lead", STR("w"), 1, COUNTS_COMMITTED);
	assert_false(ask(&writer, "two", "w", "f", &n));
	assert_int_equal(writer.runs, 0);
	counts_put(early.running, STATUS_OK, 1);
	assert_int_equal(early.answers, 1);
	assert_int_equal(writer.answers, 0);
	assert_int_equal(writer.runs, 1);
	counts_put(writer.running, STATUS_OK, 2);
	assert_int_equal(writer.n, 2);
}

static void others_may_see_a_total_that_is_younger_than_a_second(void **state)
{
	struct asker a;
	int64_t n = 0;

	prime("three", "f", 5);
	counts_changed(STR("three"), "lead", STR("w"));
	assert_true(ask(&a, "three", "x", "f", &n));
	assert_int_equal(n, 5);
	assert_false(ask(&a, "three", "w", "f", &n));
	counts_put(a.running, STATUS_OK, 6);
}

static void the_unfiltered_total_follows_creates_and_deletes(void **state)
{
	struct asker a;
	int64_t n = 0;

	prime("four", "", 10);
	counts_begin(STR("four"), "lead");
	counts_end(STR("four"), "lead", STR("w"), 1, COUNTS_COMMITTED);
	assert_true(ask(&a, "four", "w", "", &n));
	assert_int_equal(n, 11);
	counts_begin(STR("four"), "lead");
	counts_end(STR("four"), "lead", STR("w"), -1, COUNTS_COMMITTED);
	assert_true(ask(&a, "four", "w", "", &n));
	assert_int_equal(n, 10);
	counts_begin(STR("four"), "lead");
	counts_end(STR("four"), "lead", STR("w"), 1, COUNTS_ABORTED);
	assert_true(ask(&a, "four", "w", "", &n));
	assert_int_equal(n, 10);
}

static void a_total_counted_during_a_write_is_not_adjusted_by_it(void **state)
{
	struct asker a;
	int64_t n = 0;

	counts_begin(STR("five"), "lead");
	prime("five", "", 20); /* nobody knows whether the write is among them */
	counts_end(STR("five"), "lead", STR("w"), 1, COUNTS_COMMITTED);
	assert_false(ask(&a, "five", "w", "", &n));
	counts_put(a.running, STATUS_OK, 20);
	assert_int_equal(a.n, 20);
}

static void an_unknown_outcome_is_counted_again(void **state)
{
	struct asker a;
	int64_t n = 0;

	prime("six", "", 1);
	counts_begin(STR("six"), "lead");
	counts_end(STR("six"), "lead", STR("w"), 1, COUNTS_UNSURE);
	assert_false(ask(&a, "six", "w", "", &n));
	counts_put(a.running, STATUS_OK, 2);
	assert_int_equal(a.n, 2);
}

static void more_filters_than_fit_forget_the_oldest(void **state)
{
	struct asker a;
	char filter[32];
	int64_t n;

	for (int i = 0; i < COUNTS_MAX_ENTRIES + 500; i++) {
		snprintf(filter, sizeof(filter), "filter %d", i);
		assert_false(ask(&a, "seven", "x", filter, &n));
		counts_put(a.running, STATUS_OK, i);
	}
	assert_true(counts_stats().entries <= COUNTS_MAX_ENTRIES);
	assert_true(ask(&a, "seven", "x", filter, &n));
}

static int end(void **state)
{
	counts_fini();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_count_answers_all_who_wait),
		cmocka_unit_test(a_writer_does_not_take_a_count_that_began_before_its_write),
		cmocka_unit_test(others_may_see_a_total_that_is_younger_than_a_second),
		cmocka_unit_test(the_unfiltered_total_follows_creates_and_deletes),
		cmocka_unit_test(a_total_counted_during_a_write_is_not_adjusted_by_it),
		cmocka_unit_test(an_unknown_outcome_is_counted_again),
		cmocka_unit_test(more_filters_than_fit_forget_the_oldest),
	};

	counts_listening(true);
	return cmocka_run_group_tests(tests, NULL, end);
}
