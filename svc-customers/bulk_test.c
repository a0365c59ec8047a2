/* Many accounts at once against a real PostgreSQL: in one call, row by row when a row refuses, and by a job. */
#include "base/log.h"
#include "jobs/jobs.h"
#include "proto/options.pb-c.h"
#include "resource/test_calls.h"

#include "svc-customers/ops.h"

enum { NAME = 16, CONTACT_NAME = 17, INDUSTRY = 22 };
enum { REQ_KEY = 1, REQ_ENTITY = 2, REQ_MASK = 3, REQ_WHERE = 5, REPLY_TOTAL = 1, REPLY_DONE = 2, REPLY_FAILED = 3, REPLY_RESULT = 4, REPLY_JOB = 5 };

static int64_t sql_int(const char *sql)
{
	return atoll(pg_fixture_value(test_pg, sql));
}

/* The id of a new account, NUL-terminated. */
static void account(const char *field_name, uint32_t field, char id[37])
{
	struct buf e = { 0 };
	struct test_call *t;
	struct str got;

	put_text(&e, field, field_name);
	t = call_run(create_new("Accounts.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_OK);
	got = field_bytes(buf_view(&t->reply), 1, 0);
	snprintf(id, 37, "%.*s", STR_FMT(got));
	call_free(t);
}

static void put_change(struct buf *b, uint32_t field, const char *text)
{
	struct buf e = { 0 };
	size_t at;

	if (text)
		put_text(&e, field, text);
	wire_put_bytes(b, REQ_ENTITY, buf_view(&e));
	buf_fini(&e);
	at = wire_open(b, REQ_MASK);
	wire_varint(b, field);
	wire_close(b, at);
}

static void each_has_its_result_and_event(void **state)
{
	struct test_call *t = call_new("Accounts.BulkUpdate", TENANT_A, USER_1), *other;
	char a[37], b[37];

	account("One", NAME, a);
	account("Two", NAME, b);
	put_key(&t->request, REQ_KEY, str_of(a), 0);
	put_key(&t->request, REQ_KEY, (struct str){ 0 }, 999999);
	put_key(&t->request, REQ_KEY, str_of(b), 0);
	put_change(&t->request, INDUSTRY, "Energy");
	call_run(t);
	assert_status(t, STATUS_OK);
	assert_int_equal(field_int(buf_view(&t->reply), REPLY_DONE), 2);
	assert_int_equal(field_int(buf_view(&t->reply), REPLY_FAILED), 1);
	assert_int_equal(field_count(buf_view(&t->reply), REPLY_RESULT), 3);
	assert_int_equal(field_int(field_bytes(field_bytes(buf_view(&t->reply), REPLY_RESULT, 1), 3, 0), 1), STATUS_NOT_FOUND);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE type = 'customers.account.updated' AND before->>'industry' IS NULL AND after->>'industry' = 'Energy'"), 2);
	other = call_new("Accounts.BulkUpdate", TENANT_B, USER_1);
	buf_str(&other->request, buf_view(&t->request));
	call_run(other);
	assert_status(other, STATUS_OK);
	assert_int_equal(field_int(buf_view(&other->reply), REPLY_DONE), 0);
	call_free(other);
	call_free(t);
}

/* Without its name the first one has none left, which its table refuses; the second one has another. */
static void what_a_row_refuses_is_its_own_failure(void **state)
{
	struct test_call *t = call_new("Accounts.BulkUpdate", TENANT_A, USER_1);
	char a[37], b[37], sql[160];

	account("Only a name", NAME, a);
	account("Only a person", CONTACT_NAME, b);
	put_key(&t->request, REQ_KEY, str_of(a), 0);
	put_key(&t->request, REQ_KEY, str_of(b), 0);
	put_change(&t->request, NAME, NULL);
	call_run(t);
	assert_status(t, STATUS_OK);
	assert_int_equal(field_int(buf_view(&t->reply), REPLY_DONE), 1);
	assert_int_equal(field_int(field_bytes(field_bytes(buf_view(&t->reply), REPLY_RESULT, 0), 3, 0), 1), STATUS_VALIDATION_ERROR);
	snprintf(sql, sizeof(sql), "SELECT count(*) FROM customers.account WHERE id = '%s' AND version = 1 AND name = 'Only a name'", a);
	assert_int_equal(sql_int(sql), 1);
	call_free(t);
}

static void nothing_selected_is_refused(void **state)
{
	struct test_call *none = call_new("Accounts.BulkDelete", TENANT_A, USER_1), *blank = call_new("Accounts.BulkDelete", TENANT_A, USER_1);
	struct test_call *no_change = call_new("Accounts.BulkUpdate", TENANT_A, USER_1), *many = call_new("Accounts.BulkDelete", TENANT_A, USER_1);
	size_t at = wire_open(&blank->request, REQ_WHERE);

	put_text(&blank->request, 3, "  ");
	wire_close(&blank->request, at);
	put_key(&no_change->request, REQ_KEY, (struct str){ 0 }, 1);
	for (int i = 1; i <= 10001; i++)
		put_key(&many->request, REQ_KEY, (struct str){ 0 }, i);
	assert_status(call_run(none), STATUS_VALIDATION_ERROR);
	assert_violation(none, "key", "required");
	assert_status(call_run(blank), STATUS_VALIDATION_ERROR);
	assert_violation(blank, "where", "required");
	assert_status(call_run(no_change), STATUS_VALIDATION_ERROR);
	assert_violation(no_change, "entity", "required");
	assert_status(call_run(many), STATUS_VALIDATION_ERROR);
	assert_violation(many, "key", "max_items");
	call_free(none);
	call_free(blank);
	call_free(no_change);
	call_free(many);
}

static void a_job_does_what_is_too_much_for_a_call(void **state)
{
	struct test_call *t = call_new("Accounts.BulkUpdate", TENANT_A, USER_1);
	char a[37];

	account("In a job", NAME, a);
	put_key(&t->request, REQ_KEY, str_of(a), 0);
	for (int i = 0; i < 1200; i++)
		put_key(&t->request, REQ_KEY, (struct str){ 0 }, 900000 + i);
	put_change(&t->request, INDUSTRY, "Jobs");
	call_run(t);
	assert_status(t, STATUS_OK);
	assert_int_equal(field_int(buf_view(&t->reply), REPLY_TOTAL), 1201);
	assert_true(field_bytes(buf_view(&t->reply), REPLY_JOB, 0).n > 0);
	for (int i = 0; i < 3000 && sql_int("SELECT count(*) FROM customers.job WHERE state = 'done'") == 0; i++)
		test_turn();
	assert_int_equal(sql_int("SELECT count(*) FROM customers.job WHERE state = 'done' AND done = 1 AND failed = 1200 AND percent = 100 AND payload IS NULL"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.job_item WHERE state = 'failed' AND code = 'NOT_FOUND'"), 1200);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.account WHERE industry = 'Jobs' AND version = 2"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE type = 'customers.job.finished'"), 1);
	call_free(t);
}

/* As after a crash: another worker's lease is over, half of it is done. */
static void what_another_left_is_taken_over(void **state)
{
	struct test_call *t = call_new("Accounts.BulkDelete", TENANT_A, USER_1);

	jobs_stop();
	for (int i = 0; i < 600; i++)
		put_key(&t->request, REQ_KEY, (struct str){ 0 }, 800000 + i);
	call_run(t);
	assert_status(t, STATUS_OK);
	pg_fixture_sql(test_pg, "UPDATE customers.job SET state = 'running', lease_by = gen_random_uuid(), lease_until = now() - interval '1 second', position = 500, failed = 500 WHERE state = 'queued'");
	jobs_start(test_base, test_db, "customers");
	for (int i = 0; i < 3000 && sql_int("SELECT count(*) FROM customers.job WHERE state = 'running'") > 0; i++)
		test_turn();
	assert_int_equal(sql_int("SELECT count(*) FROM customers.job WHERE kind = 'Accounts.BulkDelete' AND state = 'done' AND failed = 600"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.job_item i JOIN customers.job j ON j.id = i.job_id WHERE j.kind = 'Accounts.BulkDelete' AND i.state = 'waiting'"), 500);
	call_free(t);
}

static int start(void **state)
{
	log_init("test", "text", "error");
	test_start(customers_ops, customers_n_ops, "svc-customers/schema");
	jobs_start(test_base, test_db, "customers");
	return 0;
}

static int stop(void **state)
{
	jobs_stop();
	test_end();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_has_its_result_and_event),
		cmocka_unit_test(what_a_row_refuses_is_its_own_failure),
		cmocka_unit_test(nothing_selected_is_refused),
		cmocka_unit_test(a_job_does_what_is_too_much_for_a_call),
		cmocka_unit_test(what_another_left_is_taken_over),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
