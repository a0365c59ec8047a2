/* Imports against a real PostgreSQL and a folder of blobs: what each row comes to, duplicates, dry runs, taking back, and a crash in between. */
#include "base/fault.h"
#include "base/log.h"
#include "jobs/jobs.h"
#include "resource/import.h"
#include "resource/test_calls.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "svc-customers/ops.h"

enum { DISPLAY = 16, EMAIL = 19, COMPANY = 21, EXTERNAL_ID = 9 };
enum { REQ_BLOB = 2, REQ_ROWS = 6, REQ_COLUMN = 7, REQ_DRY_RUN = 8, REQ_DUPLICATES = 9, REQ_MATCH = 10, REPLY_JOB = 1 };

static struct blob_store *store;
static char folder[] = "/tmp/crm-import-test-XXXXXX";

static int64_t sql_int(const char *fmt, ...)
{
	char sql[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(sql, sizeof(sql), fmt, ap);
	va_end(ap);
	return atoll(pg_fixture_value(test_pg, sql));
}

/* A table of leads, as the gateway writes it. */
struct table {
	struct buf b;
	uint64_t rows;
};

static void row_put(struct table *t, struct str entity, struct str status)
{
	struct buf row = { 0 };
	uint32_t n;

	wire_put_varint(&row, 1, 2 + t->rows++);
	wire_put_bytes(&row, status.n ? 3 : 2, status.n ? status : entity);
	n = (uint32_t)row.n;
	buf_put(&t->b, (uint8_t[4]){ (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24) }, 4);
	buf_str(&t->b, buf_view(&row));
	buf_fini(&row);
}

static void lead(struct table *t, const char *display, const char *email, const char *company, const char *external)
{
	struct buf e = { 0 };

	if (external)
		put_text(&e, EXTERNAL_ID, external);
	if (display)
		put_text(&e, DISPLAY, display);
	if (email)
		put_text(&e, EMAIL, email);
	if (company)
		put_text(&e, COMPANY, company);
	row_put(t, buf_view(&e), (struct str){ 0 });
	buf_fini(&e);
}

static void column(struct buf *b, const char *member, const char *path)
{
	size_t at = wire_open(b, REQ_COLUMN);

	put_text(b, 1, member);
	put_text(b, 2, member);
	put_text(b, 3, path);
	wire_close(b, at);
}

static struct test_call *import_call(struct table *t, const char *tenant, const char *duplicates, const char *match, bool dry_run, bool with_external)
{
	struct test_call *ticket = call_run(call_new("Leads.PrepareImport", tenant, USER_1)), *call;
	char key[BLOB_KEY_MAX], why[BLOB_WHY];
	struct blob_put *put;

	assert_status(ticket, STATUS_OK);
	snprintf(key, sizeof(key), "%.*s", STR_FMT(field_bytes(buf_view(&ticket->reply), 1, 0)));
	call_free(ticket);
	put = blob_put_begin(store, key, why);
	assert_true(put && blob_put_write(put, buf_view(&t->b), why) && blob_put_end(put, why));
	call = call_new("Leads.Import", tenant, USER_1);
	put_text(&call->request, REQ_BLOB, key);
	wire_put_varint(&call->request, REQ_ROWS, t->rows);
	column(&call->request, "fullName", "display");
	column(&call->request, "mail", "email");
	if (with_external)
		column(&call->request, "externalId", "external_id");
	wire_put_varint(&call->request, REQ_DRY_RUN, dry_run);
	if (duplicates)
		put_text(&call->request, REQ_DUPLICATES, duplicates);
	if (match)
		put_text(&call->request, REQ_MATCH, match);
	call_run(call);
	buf_fini(&t->b);
	return call;
}

static void wait_until_over(const char *job)
{
	for (int i = 0; i < 6000 && sql_int("SELECT count(*) FROM customers.job WHERE id = '%s' AND state IN ('queued', 'running')", job) > 0; i++)
		test_turn();
}

/* Done; the id of the job. */
static void import(struct table *t, const char *duplicates, const char *match, bool dry_run, bool with_external, char job[37])
{
	struct test_call *call = import_call(t, TENANT_A, duplicates, match, dry_run, with_external);

	assert_status(call, STATUS_OK);
	snprintf(job, 37, "%.*s", STR_FMT(field_bytes(field_bytes(buf_view(&call->reply), REPLY_JOB, 0), 1, 0)));
	call_free(call);
	wait_until_over(job);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.job WHERE id = '%s' AND state = 'done' AND percent = 100 AND blob IS NULL AND payload IS NULL", job), 1);
}

static int64_t items(const char *job, const char *where)
{
	return sql_int("SELECT count(*) FROM customers.job_item WHERE job_id = '%s' AND %s", job, where);
}

static void every_row_has_its_outcome_and_event(void **state)
{
	struct table t = { 0 };
	struct buf status = { 0 };
	size_t at;
	char job[37];

	wire_put_varint(&status, 1, STATUS_VALIDATION_ERROR);
	at = wire_open(&status, 3);
	put_text(&status, 1, "value");
	put_text(&status, 2, "decimal");
	put_text(&status, 3, "must be a number");
	wire_close(&status, at);
	lead(&t, "First Person", "first@x.example", "Firm", NULL);
	lead(&t, "Bad Mail", "not an address", NULL, NULL);
	row_put(&t, (struct str){ 0 }, buf_view(&status));
	lead(&t, NULL, "nameless@x.example", NULL, NULL);
	lead(&t, "Last Person", NULL, NULL, NULL);
	buf_fini(&status);
	import(&t, NULL, NULL, false, false, job);
	assert_int_equal(items(job, "true"), 5);
	assert_int_equal(items(job, "action = 'created' AND entity_id IS NOT NULL AND made = 1 AND table_row IN (2, 6)"), 2);
	assert_int_equal(items(job, "state = 'failed' AND table_row = 3 AND field = 'mail' AND code = 'VALIDATION_ERROR' AND problems->0->>'rule' = 'email'"), 1);
	assert_int_equal(items(job, "state = 'failed' AND table_row = 4 AND field = 'value'"), 1);
	assert_int_equal(items(job, "state = 'failed' AND table_row = 5 AND field = 'fullName'"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.lead WHERE company = 'Firm' AND given = 'First' AND status = 'new'"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox o JOIN customers.job_item i ON i.entity_id = o.entity_id WHERE i.job_id = '%s' AND o.type = 'customers.lead.created' AND o.user_id = '" USER_1 "'", job), 2);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE type = 'customers.lead.imported' AND after->>'job' = '%s'", job), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.blob_queue WHERE upload_of IS NULL"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.job_item WHERE tenant_id <> '" TENANT_A "'"), 0);
}

static void what_is_there_is_passed_over_changed_or_made_again(void **state)
{
	struct table a = { 0 }, b = { 0 }, c = { 0 };
	char job[37];

	lead(&a, "Old Name", "dup@x.example", NULL, NULL);
	lead(&a, "Same Mail", "DUP@x.example", NULL, NULL); /* the one before */
	import(&a, NULL, NULL, false, false, job);
	assert_int_equal(items(job, "action = 'created'"), 1);
	assert_int_equal(items(job, "action = 'skipped' AND entity_id IS NOT NULL"), 1);
	lead(&b, "New Name", "Dup@x.example", NULL, NULL);
	lead(&b, "Newest Name", "dup@x.example", NULL, NULL);
	import(&b, "update", "email", false, false, job);
	assert_int_equal(items(job, "action = 'updated' AND before IS NOT NULL"), 2);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.lead WHERE display = 'Newest Name' AND version = 3 AND lower(email) = 'dup@x.example'"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE type = 'customers.lead.updated' AND before->>'display' = 'New Name' AND after->>'display' = 'Newest Name'"), 1);
	lead(&c, "Another", "dup@x.example", NULL, NULL);
	import(&c, "create", NULL, false, false, job);
	assert_int_equal(items(job, "action = 'created'"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.lead WHERE lower(email) = 'dup@x.example'"), 2);
}

static void external_ids_are_the_rule_where_there_are_such(void **state)
{
	struct table a = { 0 }, b = { 0 };
	char job[37];

	lead(&a, "Ext One", "e1@x.example", NULL, "X-1");
	lead(&a, "Ext Two", "e1@x.example", NULL, "x-1"); /* another id, the same mail */
	import(&a, "update", NULL, false, true, job);
	assert_int_equal(items(job, "action = 'created'"), 2);
	lead(&b, "Ext One Again", "other@x.example", NULL, "X-1");
	import(&b, "create", NULL, false, true, job);
	assert_int_equal(items(job, "state = 'failed' AND code = 'DUPLICATE'"), 1);
}

static void a_dry_run_says_the_same_and_writes_nothing(void **state)
{
	struct table t = { 0 };
	char job[37], mail[40];
	int64_t before = sql_int("SELECT count(*) FROM customers.lead"), events = sql_int("SELECT count(*) FROM customers.outbox WHERE entity = 'lead'");

	for (int i = 0; i < 700; i++) {
		snprintf(mail, sizeof(mail), "dry%d@x.example", i % 600); /* the last hundred are there already, a step later */
		lead(&t, "Dry", mail, NULL, NULL);
	}
	lead(&t, "Dry", "wrong", NULL, NULL);
	import(&t, NULL, NULL, true, false, job);
	assert_int_equal(items(job, "action = 'created' AND entity_id IS NULL"), 600);
	assert_int_equal(items(job, "action = 'skipped'"), 100);
	assert_int_equal(items(job, "state = 'failed'"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.lead"), before);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE entity = 'lead'"), events);
}

static struct test_call *revert(const char *job, const char *tenant, uint64_t permissions)
{
	struct test_call *t = call_new("Jobs.Revert", tenant, USER_2);

	if (permissions != UINT64_MAX)
		t->call.who.permissions[0] = t->call.who.permissions[1] = permissions;
	put_key(&t->request, 1, str_of(job), 0);
	return call_run(t);
}

static void an_import_is_taken_back(void **state)
{
	struct table a = { 0 }, b = { 0 };
	struct test_call *t;
	char first[37], job[37], back[37];

	lead(&a, "Before One", "r1@x.example", "Was", NULL);
	import(&a, NULL, NULL, false, false, first);
	lead(&b, "After One", "r1@x.example", NULL, NULL);
	lead(&b, "Fresh One", "r2@x.example", NULL, NULL);
	lead(&b, "Fresh Again", "r2@x.example", NULL, NULL);
	lead(&b, "Touched", "r3@x.example", NULL, NULL);
	import(&b, "update", NULL, false, false, job);
	pg_fixture_sql(test_pg, "UPDATE customers.lead SET notes = 'seen', version = version + 1 WHERE display = 'Touched'");
	t = revert(job, TENANT_B, UINT64_MAX);
	assert_status(t, STATUS_NOT_FOUND);
	call_free(t);
	t = revert(job, TENANT_A, 0);
	assert_status(t, STATUS_PERMISSION_DENIED);
	call_free(t);
	t = revert(job, TENANT_A, UINT64_MAX);
	assert_status(t, STATUS_OK);
	snprintf(back, sizeof(back), "%.*s", STR_FMT(field_bytes(buf_view(&t->reply), 1, 0)));
	call_free(t);
	wait_until_over(back);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.job WHERE id = '%s' AND state = 'done' AND done = 2 AND failed = 1 AND reverts_id = '%s'", back, job), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.lead WHERE display = 'Before One' AND company = 'Was' AND version = 3 AND deleted_at IS NULL"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.lead WHERE display = 'Fresh Again' AND deleted_at IS NOT NULL"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.lead WHERE display = 'Touched' AND deleted_at IS NULL"), 1);
	assert_int_equal(items(back, "state = 'failed' AND code = 'CONFLICT' AND table_row = 5"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE type = 'customers.lead.deleted' AND before->>'display' = 'Fresh Again' AND user_id = '" USER_2 "'"), 1);
	t = revert(job, TENANT_A, UINT64_MAX);
	assert_status(t, STATUS_CONFLICT);
	call_free(t);
	t = revert(back, TENANT_A, UINT64_MAX);
	assert_status(t, STATUS_CONFLICT);
	call_free(t);
}

/* What an import changed is personal data; erasing somebody leaves nothing of it. */
static void who_is_erased_is_not_brought_back(void **state)
{
	struct table a = { 0 }, b = { 0 };
	char job[37];

	lead(&a, "Erase Me", "gone@x.example", NULL, NULL);
	import(&a, NULL, NULL, false, false, job);
	lead(&b, "Erase Me Now", "gone@x.example", NULL, NULL);
	import(&b, "update", NULL, false, false, job);
	assert_int_equal(items(job, "before->>'display' = 'Erase Me'"), 1);
	pg_fixture_sql(test_pg, "BEGIN; SELECT set_config('app.tenant_id', '" TENANT_A "', true); SELECT customers.subject_scrub(ARRAY(SELECT id FROM customers.lead WHERE email = 'gone@x.example')); COMMIT");
	assert_int_equal(items(job, "before IS NOT NULL"), 0);
}

static void nobody_uses_anothers_upload(void **state)
{
	struct test_call *ticket = call_run(call_new("Leads.PrepareImport", TENANT_A, USER_2)), *call = call_new("Leads.Import", TENANT_A, USER_1), *odd = call_new("Leads.Import", TENANT_A, USER_1);

	assert_status(ticket, STATUS_OK);
	wire_put_bytes(&call->request, REQ_BLOB, field_bytes(buf_view(&ticket->reply), 1, 0));
	wire_put_varint(&call->request, REQ_ROWS, 1);
	assert_status(call_run(call), STATUS_NOT_FOUND);
	put_text(&odd->request, REQ_DUPLICATES, "whatever");
	assert_status(call_run(odd), STATUS_VALIDATION_ERROR);
	call_free(ticket);
	call_free(call);
	call_free(odd);
}

/* In a process of its own, killed behind its second step when this build has fault points; here the job goes on. */
static void a_crash_makes_no_doubles(void **state)
{
	struct table t = { 0 };
	struct test_call *call;
	char job[37], name[40];
	pid_t pid;
	int status = 0;

	for (int i = 0; i < 2300; i++) {
		snprintf(name, sizeof(name), "Crash %d", i);
		lead(&t, name, NULL, NULL, NULL);
	}
	jobs_stop();
	call = import_call(&t, TENANT_A, NULL, NULL, false, false);
	assert_status(call, STATUS_OK);
	snprintf(job, 37, "%.*s", STR_FMT(field_bytes(field_bytes(buf_view(&call->reply), REPLY_JOB, 0), 1, 0)));
	call_free(call);
	test_detach();
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		test_attach("customers", customers_ops, customers_n_ops);
		fault_arm(FAULTS_BUILT ? "after_commit:3" : NULL); /* the claim, two steps */
		jobs_start(test_base, test_db, "customers");
		wait_until_over(job);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (FAULTS_BUILT) {
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		assert_int_equal(sql_int("SELECT position FROM customers.job WHERE id = '%s'", job), 1000);
		pg_fixture_sql(test_pg, "UPDATE customers.job SET lease_until = now() - interval '1 second' WHERE state = 'running'");
	}
	test_attach("customers", customers_ops, customers_n_ops);
	jobs_start(test_base, test_db, "customers");
	wait_until_over(job);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.job WHERE id = '%s' AND state = 'done' AND created = 2300", job), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.lead WHERE display LIKE 'Crash %%'"), 2300);
	assert_int_equal(sql_int("SELECT count(DISTINCT display) FROM customers.lead WHERE display LIKE 'Crash %%'"), 2300);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE type = 'customers.lead.created' AND after->>'display' LIKE 'Crash %%'"), 2300);
	print_message("%lld rows a second\n", (long long)sql_int("SELECT rate FROM customers.job WHERE id = '%s'", job));
}

static int start(void **state)
{
	const char *why = "";
	char url[80];

	log_init("test", "text", "error");
	assert_non_null(mkdtemp(folder));
	snprintf(url, sizeof(url), "file:%s", folder);
	store = blob_open(&(struct blob_options){ .url = url, .access_key = "", .secret_key_file = "" }, &why);
	assert_non_null(store);
	import_store(store);
	test_start(customers_ops, customers_n_ops, "svc-customers/schema");
	jobs_start(test_base, test_db, "customers");
	return 0;
}

static int stop(void **state)
{
	char command[120];

	jobs_stop();
	test_end();
	blob_close(store);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command) != 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_has_its_outcome_and_event),
		cmocka_unit_test(what_is_there_is_passed_over_changed_or_made_again),
		cmocka_unit_test(external_ids_are_the_rule_where_there_are_such),
		cmocka_unit_test(a_dry_run_says_the_same_and_writes_nothing),
		cmocka_unit_test(an_import_is_taken_back),
		cmocka_unit_test(who_is_erased_is_not_brought_back),
		cmocka_unit_test(nobody_uses_anothers_upload),
		cmocka_unit_test(a_crash_makes_no_doubles),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
