/*
 * A process that dies between a write's commit and its reply: the write is there once, and the same Idempotency-Key gets its
 * reply from whoever comes next. Fault points are in test builds only (VARIANT=asan); elsewhere nobody dies and the rest holds too.
 */
#include "resource/test_calls.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/fault.h"

enum { LEAD_DISPLAY = 16 };

static const struct resource lead = {
	.message = "crm.v1.Lead", .table = "lead", .filter = "status", .sort = "display created_us", .default_sort = "-created_us", .person = true,
	.searchable = true, .one_of = "display given family", .defaults = "status=new",
};
static const struct op ops[] = { { .rpc = "Leads.Create", .kind = OP_CREATE, .resource = &lead } };

static struct test_call *create(const char *display, const char *key, const uint8_t hash[32])
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, LEAD_DISPLAY, display);
	t = create_new("Leads.Create", TENANT_A, USER_1, &e);
	if (key) {
		t->call.idempotency_key = str_of(key);
		t->call.idempotency_hash = (struct str){ (const char *)hash, 32 };
	}
	return call_run(t);
}

/* In a process of its own, which is killed at that commit when this build has fault points. */
static void create_and_die(const char *crash_at, const char *display, const char *key, const uint8_t hash[32])
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		test_attach("customers", ops, 1);
		fault_arm(crash_at);
		call_free(create(display, key, hash));
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (FAULTS_BUILT)
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	else
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void must_be_there_once(const char *display)
{
	char sql[200];

	snprintf(sql, sizeof sql, "SELECT count(*) FROM customers.lead WHERE display = '%s'", display);
	assert_string_equal(pg_fixture_value(test_pg, sql), "1");
	snprintf(sql, sizeof sql, "SELECT count(*) FROM customers.outbox WHERE after->>'display' = '%s'", display);
	assert_string_equal(pg_fixture_value(test_pg, sql), "1");
}

static void a_key_holds_across_a_crash_between_commit_and_reply(void **state)
{
	static const uint8_t hash[32] = { 1 }, other[32] = { 2 };
	struct test_call *again, *different;

	create_and_die("after_commit", "Keyed Person", "crash-1", hash);
	must_be_there_once("Keyed Person");
	test_attach("customers", ops, 1);
	for (int i = 0; i < 3; i++) {
		again = create("Keyed Person", "crash-1", hash);
		assert_status(again, STATUS_OK);
		assert_true(again->replayed);
		assert_text(buf_view(&again->reply), LEAD_DISPLAY, "Keyed Person");
		call_free(again);
	}
	different = create("Keyed Person", "crash-1", other);
	assert_status(different, STATUS_IDEMPOTENCY_MISMATCH);
	call_free(different);
	must_be_there_once("Keyed Person");
	test_detach();
}

static void a_write_without_key_is_there_once_after_the_crash(void **state)
{
	/* the first commit is that of the block of numbers */
	create_and_die("after_commit:2", "Single Person", NULL, NULL);
	must_be_there_once("Single Person");
}

static int start(void **state)
{
	test_pg = pg_fixture_start();
	pg_fixture_migrate(test_pg, "customers", "svc-customers/schema");
	return 0;
}

static int end(void **state)
{
	pg_fixture_stop(test_pg);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_holds_across_a_crash_between_commit_and_reply),
		cmocka_unit_test(a_write_without_key_is_there_once_after_the_crash),
	};

	return cmocka_run_group_tests_name("crash between commit and reply", tests, start, end);
}
