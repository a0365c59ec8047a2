/* Security events, alerts, retention, checkpoints and the offline verifier against a real PostgreSQL. */
#include "resource/test_calls.h"

#include <fcntl.h>
#include <sys/wait.h>

#include "events/pgconn.h"
#include "svc-audit/audit.h"
#include "svc-audit/chain.h"
#include "svc-audit/checkpoint.h"
#include "svc-audit/sign.h"

#define DAY_US (24LL * 3600 * 1000000)
#define FILE_NAME "/tmp/crm-audit-checkpoints-test.jsonl"

static PGconn *app;
static struct signer *signer;
static char public_key[SIGN_KEY_HEX + 1];

const struct schema *service_schema(void)
{
	return test_schema;
}

struct db *service_db(void)
{
	return test_db;
}

/* Appends n events as the consumer does, the last one at `at`, a second apart; what observe() says fired is the result. */
static int append(const char *tenant, const char *type, int n, int64_t at)
{
	const char *params[] = { tenant };
	PGresult *r = NULL;
	int fired;

	assert_int_equal(pgconn_begin(app), STATUS_OK);
	assert_int_equal(pgconn_exec(app, NULL, "SELECT set_config('app.tenant_id', $1, true)", 1, params), STATUS_OK);
	for (int i = 0; i < n; i++) {
		char id[UUID_TEXT + 1];
		struct event e = { .id = { id, UUID_TEXT }, .tenant_id = str_of(tenant), .type = str_of(type), .time_us = at - (n - 1 - i) * 1000000LL, .user_id = STR(USER_1),
			.client_ip = STR("203.0.113.9") };
		const struct event *list[] = { &e };

		uuid7(id);
		assert_int_equal(chain_append(app, list, 1), STATUS_OK);
	}
	char sql[200];
	snprintf(sql, sizeof sql, "SELECT * FROM chain c, LATERAL observe(c.seq - %d + 1, c.seq) WHERE c.tenant_id = '%s'", n, tenant);
	assert_int_equal(pgconn_exec(app, &r, sql, 0, NULL), STATUS_OK);
	fired = PQntuples(r);
	PQclear(r);
	assert_int_equal(pgconn_commit(app), STATUS_OK);
	return fired;
}

static struct chain_report verify(void)
{
	struct chain_report r;

	assert_int_equal(chain_verify(app, STR(TENANT_A), public_key, clock_us() + 60 * 1000000, &r), STATUS_OK);
	return r;
}

static struct test_call *keyed(const char *rpc, const char *tenant, const char *id)
{
	struct test_call *t = call_new(rpc, tenant, USER_1);

	put_key(&t->request, 1, str_of(id), 0);
	return call_run(t);
}

static const char *value(const char *sql)
{
	return pg_fixture_value(test_pg, sql);
}

static int fresh(void **state)
{
	pg_fixture_sql(test_pg, "SET session_replication_role = replica; DELETE FROM audit.entry; DELETE FROM audit.chain; DELETE FROM audit.chain_cut;"
				" DELETE FROM audit.checkpoint; DELETE FROM audit.security_event; DELETE FROM audit.alert_rule; DELETE FROM audit.alert_hit; DELETE FROM audit.alert_fired;"
				" DELETE FROM audit.retention_policy; DELETE FROM audit.outbox; DELETE FROM audit.seq_block WHERE kind = 'security_event'; SET session_replication_role = origin");
	unlink(FILE_NAME);
	return 0;
}

static void rule_create(int64_t threshold, int64_t window_s)
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, 16, "Guessing");
	put_text(&e, 17, "auth.user.login_failed");
	wire_put_varint(&e, 22, (uint64_t)threshold);
	wire_put_varint(&e, 23, (uint64_t)window_s);
	t = call_run(create_new("AlertRules.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_OK);
	call_free(t);
}

static void test_security_events_are_made_from_entries(void **state)
{
	append(TENANT_A, "auth.session.reuse_detected", 1, 1700000000000000);
	append(TENANT_A, "customers.lead.created", 3, 1700000000000000);
	append(TENANT_A, "auth.user.login_failed", 2, 1700000000000000);
	assert_string_equal(value("SELECT string_agg(kind || ':' || severity || ':' || seq, ',' ORDER BY seq) FROM audit.security_event"),
	    "token_reuse:high:1,login_failed:low:2,login_failed:low:3");
	assert_string_equal(value("SELECT ip || ' ' || entry_seq || ' ' || status FROM audit.security_event WHERE seq = 2"), "203.0.113.9 5 open");
}

static void test_alert_fires_once_per_window_and_again_after_it(void **state)
{
	const int64_t t0 = 1700000000000000;

	rule_create(5, 100);
	assert_int_equal(append(TENANT_A, "auth.user.login_failed", 4, t0), 0);
	assert_int_equal(append(TENANT_B, "auth.user.login_failed", 9, t0), 0);
	assert_int_equal(append(TENANT_A, "auth.user.logged_in", 9, t0), 0);
	assert_int_equal(append(TENANT_A, "auth.user.login_failed", 1, t0 + 20000000), 1);
	assert_int_equal(append(TENANT_A, "auth.user.login_failed", 5, t0 + 60000000), 0);
	assert_int_equal(append(TENANT_A, "auth.user.login_failed", 5, t0 + 300000000), 1);
	assert_string_equal(value("SELECT count(*) FROM audit.security_event WHERE kind = 'alert'"), "2");
	assert_string_equal(value("SELECT description FROM audit.security_event WHERE kind = 'alert' ORDER BY seq LIMIT 1"), "Guessing: 5 events within 100 s");
}

static void test_slow_hits_do_not_fire(void **state)
{
	rule_create(3, 100);
	for (int i = 0; i < 10; i++)
		assert_int_equal(append(TENANT_A, "auth.user.login_failed", 1, 1700000000000000 + i * 60000000LL), 0);
}

static void test_a_tenant_has_at_most_fifty_rules(void **state)
{
	struct buf e = { 0 };
	struct test_call *t;

	for (int i = 0; i < 50; i++)
		rule_create(1, 100);
	put_text(&e, 16, "One more");
	put_text(&e, 17, "x");
	t = call_run(create_new("AlertRules.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_CONFLICT);
	call_free(t);
}

static const char *policy(const char *kind)
{
	char sql[200];

	snprintf(sql, sizeof sql, "SELECT id FROM audit.retention_policy WHERE tenant_id = '" TENANT_A "' AND kind = '%s'", kind);
	return value(sql);
}

static void test_retention_cuts_the_beginning_and_the_chain_still_verifies(void **state)
{
	struct chain_report before, after;
	struct test_call *t;

	append(TENANT_A, "a.b.c", 40, clock_us() - 3000 * DAY_US);
	append(TENANT_B, "a.b.c", 5, clock_us() - 3000 * DAY_US);
	append(TENANT_A, "a.b.c", 10, clock_us());
	before = verify();
	t = keyed("RetentionPolicies.Apply", TENANT_A, policy("audit_log"));
	assert_status(t, STATUS_OK);
	assert_int_equal(field_int(buf_view(&t->reply), 2), 40);
	assert_int_equal(field_int(buf_view(&t->reply), 3), 0);
	assert_int_equal(field_int(buf_view(&t->reply), 5), 40);
	call_free(t);
	after = verify();
	assert_true(after.valid);
	assert_int_equal(after.entries, 10);
	assert_int_equal(after.first_seq, 41);
	assert_string_equal(after.head_hash, before.head_hash);
	assert_string_equal(value("SELECT count(*) FROM audit.entry WHERE tenant_id = '" TENANT_B "'"), "5");
	assert_string_equal(value("SELECT type || ' ' || (after->>'last_cut_seq') FROM audit.outbox"), "audit.retention_policy.applied 40");
	t = keyed("RetentionPolicies.Apply", TENANT_A, policy("audit_log"));
	assert_int_equal(field_int(buf_view(&t->reply), 2), 0);
	call_free(t);
	append(TENANT_A, "a.b.c", 3, clock_us());
	assert_int_equal(verify().entries, 13);
}

static void test_the_newest_entry_always_stays(void **state)
{
	struct test_call *t;

	append(TENANT_A, "a.b.c", 4, clock_us() - 3000 * DAY_US);
	t = keyed("RetentionPolicies.Apply", TENANT_A, policy("audit_log"));
	assert_status(t, STATUS_OK);
	assert_int_equal(field_int(buf_view(&t->reply), 2), 3);
	call_free(t);
	assert_true(verify().valid);
	assert_int_equal(verify().entries, 1);
}

static void test_legal_hold_keeps_everything(void **state)
{
	struct test_call *t;

	append(TENANT_A, "a.b.c", 4, clock_us() - 3000 * DAY_US);
	pg_fixture_sql(test_pg, "UPDATE audit.retention_policy SET legal_hold = true");
	t = keyed("RetentionPolicies.Apply", TENANT_A, policy("audit_log"));
	assert_status(t, STATUS_CONFLICT);
	call_free(t);
	t = keyed("RetentionPolicies.Apply", TENANT_B, policy("audit_log"));
	assert_status(t, STATUS_NOT_FOUND);
	call_free(t);
	assert_int_equal(verify().entries, 4);
}

static void test_a_cut_that_nobody_signed_is_found(void **state)
{
	struct chain_report r;

	append(TENANT_A, "a.b.c", 20, clock_us());
	pg_fixture_sql(test_pg, "SET session_replication_role = replica; INSERT INTO audit.chain_cut (tenant_id, seq, hash, removed, signed_us, signature)"
				" SELECT tenant_id, seq, hash, 5, 1, repeat('0', 128) FROM audit.entry WHERE seq = 5; DELETE FROM audit.entry WHERE seq <= 5;"
				" SET session_replication_role = origin");
	r = verify();
	assert_false(r.valid);
	assert_string_equal(r.problem, "the beginning was cut off without a good signature");
}

static void test_resolved_security_events_go_and_open_ones_stay(void **state)
{
	struct test_call *t;

	append(TENANT_A, "auth.user.login_failed", 4, clock_us() - 3000 * DAY_US);
	pg_fixture_sql(test_pg, "UPDATE audit.security_event SET status = 'resolved' WHERE seq <= 3");
	t = keyed("RetentionPolicies.Apply", TENANT_A, policy("security_events"));
	assert_status(t, STATUS_OK);
	assert_int_equal(field_int(buf_view(&t->reply), 2), 3);
	call_free(t);
	assert_string_equal(value("SELECT count(*) FROM audit.security_event"), "1");
}

static void test_service_cannot_remove_entries_without_a_cut(void **state)
{
	append(TENANT_A, "a.b.c", 4, clock_us() - 3000 * DAY_US);
	assert_int_equal(pgconn_exec(app, NULL, "SET app.tenant_id = '" TENANT_A "'", 0, NULL), STATUS_OK);
	assert_int_equal(pgconn_exec(app, NULL, "SELECT retention_cut()", 0, NULL), STATUS_OK);
	assert_int_not_equal(pgconn_exec(app, NULL, "DELETE FROM entry", 0, NULL), STATUS_OK);
	assert_int_not_equal(pgconn_exec(app, NULL, "DELETE FROM chain_cut", 0, NULL), STATUS_OK);
	assert_int_not_equal(pgconn_exec(app, NULL, "UPDATE checkpoint SET seq = 1", 0, NULL), STATUS_OK);
	assert_int_equal(verify().entries, 4);
}

/* -- checkpoints and the verifier */

static size_t sign_round(bool everything)
{
	int fd = open(FILE_NAME, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	size_t n = 0;

	assert_true(fd >= 0);
	assert_int_equal(checkpoint_round(app, signer, fd, everything, &n), STATUS_OK);
	close(fd);
	return n;
}

static void test_checkpoints_are_due_by_number_or_by_time(void **state)
{
	append(TENANT_A, "a.b.c", 1000, clock_us());
	append(TENANT_B, "a.b.c", 3, clock_us());
	assert_int_equal(sign_round(false), 1);
	assert_int_equal(sign_round(false), 0);
	append(TENANT_A, "a.b.c", 10, clock_us());
	assert_int_equal(sign_round(true), 2);
	assert_int_equal(sign_round(true), 0);
	assert_string_equal(value("SELECT count(*) FROM audit.checkpoint"), "3");
}

static void test_signature_is_of_the_place(void **state)
{
	struct sign_place p = { .tenant = { 1 }, .hash = { 2 }, .seq = 7, .signed_us = 9 };
	char hex[SIGN_HEX + 1];

	sign_place(signer, SIGN_CHECKPOINT, &p, hex);
	assert_true(sign_check(public_key, SIGN_CHECKPOINT, &p, hex));
	assert_false(sign_check(public_key, SIGN_CUT, &p, hex));
	p.seq++;
	assert_false(sign_check(public_key, SIGN_CHECKPOINT, &p, hex));
	assert_false(sign_check(public_key, SIGN_CHECKPOINT, &p, "zz"));
}

/* Exit status of the verifier over the database as it is. In a process of its own: it keeps what it has seen. */
static int offline(void)
{
	char *argv[] = { "verify", "--public-key", public_key, "--checkpoints", FILE_NAME, "--database", (char *)pg_fixture_url(test_pg, "postgres"), NULL };
	int status = 0;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		if (!freopen("/dev/null", "w", stdout))
			_exit(99);
		_exit(audit_verify_main(7, argv));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void as_superuser(const char *sql)
{
	char all[1500];

	snprintf(all, sizeof all, "SET session_replication_role = replica; %s; SET session_replication_role = origin", sql);
	pg_fixture_sql(test_pg, all);
}

static void test_verifier_finds_what_the_database_alone_cannot(void **state)
{
	append(TENANT_A, "a.b.c", 30, clock_us());
	append(TENANT_B, "a.b.c", 3, clock_us());
	sign_round(true);
	append(TENANT_A, "a.b.c", 5, clock_us());
	assert_int_equal(offline(), 0);
	/* the end is cut off together with its head: the chain alone looks good */
	as_superuser("DELETE FROM audit.entry WHERE tenant_id = '" TENANT_A "' AND seq > 20; UPDATE audit.chain SET seq = 20, hash ="
		     " (SELECT hash FROM audit.entry WHERE tenant_id = '" TENANT_A "' AND seq = 20) WHERE tenant_id = '" TENANT_A "'");
	assert_true(verify().valid);
	assert_int_equal(offline(), 1);
}

static void test_verifier_finds_a_chain_that_was_written_anew(void **state)
{
	append(TENANT_A, "a.b.c", 30, clock_us());
	sign_round(true);
	as_superuser("DELETE FROM audit.entry; DELETE FROM audit.chain");
	append(TENANT_A, "a.b.c", 30, clock_us());
	assert_true(verify().valid);
	assert_int_equal(offline(), 1);
}

static void test_verifier_finds_a_tenant_that_is_gone(void **state)
{
	append(TENANT_A, "a.b.c", 30, clock_us());
	sign_round(true);
	as_superuser("DELETE FROM audit.entry; DELETE FROM audit.chain");
	assert_int_equal(offline(), 1);
}

static void test_verifier_accepts_retention_and_a_torn_last_line(void **state)
{
	struct test_call *t;
	FILE *f;

	append(TENANT_A, "a.b.c", 40, clock_us() - 3000 * DAY_US);
	sign_round(true);
	append(TENANT_A, "a.b.c", 10, clock_us());
	sign_round(true);
	t = keyed("RetentionPolicies.Apply", TENANT_A, policy("audit_log"));
	assert_status(t, STATUS_OK);
	call_free(t);
	f = fopen(FILE_NAME, "a");
	fputs("{\"tenant\":\"01", f);
	fclose(f);
	assert_int_equal(offline(), 0);
}

static void test_verifier_refuses_a_checkpoint_of_another_key(void **state)
{
	struct signer *other = signer_new((const uint8_t[32]){ 9 }), *own = signer;

	append(TENANT_A, "a.b.c", 3, clock_us());
	signer = other;
	sign_round(true);
	signer = own;
	signer_free(other);
	assert_int_equal(offline(), 1);
}

static int start(void **state)
{
	test_start_service("audit", audit_ops, audit_n_ops, "svc-audit/schema");
	app = pgconn_open(pg_fixture_url(test_pg, "audit_app"), "test", 30000);
	signer = signer_new((const uint8_t[32]){ 7 });
	signer_public(signer, public_key);
	audit_signer = signer;
	return 0;
}

static int end(void **state)
{
	PQfinish(app);
	signer_free(signer);
	unlink(FILE_NAME);
	test_end();
	return 0;
}

#define TEST(name) cmocka_unit_test_setup(test_##name, fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(security_events_are_made_from_entries), TEST(alert_fires_once_per_window_and_again_after_it), TEST(slow_hits_do_not_fire),
		TEST(a_tenant_has_at_most_fifty_rules), TEST(retention_cuts_the_beginning_and_the_chain_still_verifies), TEST(the_newest_entry_always_stays),
		TEST(legal_hold_keeps_everything), TEST(a_cut_that_nobody_signed_is_found), TEST(resolved_security_events_go_and_open_ones_stay),
		TEST(service_cannot_remove_entries_without_a_cut), TEST(checkpoints_are_due_by_number_or_by_time), TEST(signature_is_of_the_place),
		TEST(verifier_finds_what_the_database_alone_cannot), TEST(verifier_finds_a_chain_that_was_written_anew), TEST(verifier_finds_a_tenant_that_is_gone),
		TEST(verifier_accepts_retention_and_a_torn_last_line), TEST(verifier_refuses_a_checkpoint_of_another_key),
	};

	return cmocka_run_group_tests_name("audit management", tests, start, end);
}
