/* Security events, alerts, retention, checkpoints and the offline verifier against a real PostgreSQL. */
#include "resource/test_calls.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

#include "events/pgconn.h"
#include "proto/audit.pb-c.h"
#include "svc-audit/alert.h"
#include "svc-audit/audit.h"
#include "svc-audit/chain.h"
#include "svc-audit/checkpoint.h"
#include "svc-audit/secret.h"
#include "svc-audit/sign.h"

#define DAY_US (24LL * 3600 * 1000000)
#define MAIL_DIR "/tmp/crm-audit-mail-test"
#define FILE_NAME "/tmp/crm-audit-checkpoints-test.jsonl"

static PGconn *app;
static struct signer *signer;
static char public_key[SIGN_KEY_HEX + 1];

/* Appends n events as the consumer does, the last one at `at`, a second apart; how many rules fired is the result. */
static int append_on(PGconn *conn, const char *tenant, const char *type, int n, int64_t at)
{
	const char *params[] = { tenant };
	uint64_t fired = alerts_fired();

	assert_int_equal(pgconn_begin(conn), STATUS_OK);
	assert_int_equal(pgconn_exec(conn, NULL, "SELECT set_config('app.tenant_id', $1, true)", 1, params), STATUS_OK);
	for (int i = 0; i < n; i++) {
		char id[UUID_TEXT + 1];
		struct event e = { .id = { id, UUID_TEXT }, .tenant_id = str_of(tenant), .type = str_of(type), .time_us = at - (n - 1 - i) * 1000000LL, .user_id = STR(USER_1),
			.client_ip = STR("203.0.113.9") };
		const struct event *list[] = { &e };

		uuid7(id);
		assert_int_equal(chain_append(conn, list, 1), STATUS_OK);
	}
	assert_int_equal(alert_observe(conn, (size_t)n, str_of(tenant)), STATUS_OK);
	assert_int_equal(pgconn_commit(conn), STATUS_OK);
	return (int)(alerts_fired() - fired);
}

static int append(const char *tenant, const char *type, int n, int64_t at)
{
	return append_on(app, tenant, type, n, at);
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
				" DELETE FROM audit.retention_policy; DELETE FROM audit.outbox; DELETE FROM audit.mail_queue; DELETE FROM audit.legal_hold; DELETE FROM audit.seq_block WHERE kind = 'security_event'; SET session_replication_role = origin");
	unlink(FILE_NAME);
	return 0;
}

static void rule_create_for(int64_t threshold, int64_t window_s, const char *recipient)
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, 16, "Guessing");
	put_text(&e, 17, "auth.user.login_failed");
	wire_put_varint(&e, 22, (uint64_t)threshold);
	wire_put_varint(&e, 23, (uint64_t)window_s);
	if (recipient)
		put_text(&e, 25, "mail");
	if (recipient)
		put_text(&e, 26, recipient);
	t = call_run(create_new("AlertRules.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_OK);
	call_free(t);
}

static void rule_create(int64_t threshold, int64_t window_s)
{
	rule_create_for(threshold, window_s, NULL);
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

static void test_an_alert_is_an_event_and_a_mail(void **state)
{
	struct mail_queue_config q = { .database_url = pg_fixture_url(test_pg, "audit_app"), .mail_url = "folder:" MAIL_DIR, .from = "crm@crm.local", .templates = "svc-audit/mail",
		.names = alert_templates, .n_names = alert_n_templates, .open = alert_open };

	rule_create_for(5, 100, "guard@example.com");
	append(TENANT_A, "auth.user.login_failed", 4, 1700000000000000);
	assert_string_equal(value("SELECT count(*) FROM audit.mail_queue"), "0");
	append(TENANT_A, "auth.user.login_failed", 4, 1700000000000000);
	assert_string_equal(value("SELECT recipient || ' ' || (position('Guessing' in encode(sealed, 'escape')) = 0) FROM audit.mail_queue"), "guard@example.com true");
	assert_string_equal(value("SELECT type || ' ' || (after->>'events') || ' ' || (after->>'name') FROM audit.outbox WHERE entity = 'alert'"), "audit.alert.fired 6 Guessing");
	assert_int_equal(system("rm -rf " MAIL_DIR), 0);
	mail_queue_init(&q);
	assert_true(mail_queue_turn(app));
	assert_false(mail_queue_turn(app));
	mail_queue_stop();
	assert_string_equal(value("SELECT count(*) FROM audit.mail_queue"), "0");
	assert_int_equal(system("test $(ls " MAIL_DIR "/*.eml | wc -l) = 1 && grep -q '^To: .*guard@example.com' " MAIL_DIR "/*.eml && grep -q '^Subject: Alert (medium): Guessing' " MAIL_DIR "/*.eml"), 0);
}

/* An alert that fires is an event: a rule that fits it must not feed itself. */
static void test_an_alert_is_no_hit(void **state)
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, 16, "Everything of alerts");
	put_text(&e, 19, "alert");
	t = call_run(create_new("AlertRules.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_OK);
	call_free(t);
	assert_int_equal(append(TENANT_A, "audit.alert.fired", 5, 1700000000000000), 0);
}

static void test_a_rule_for_mail_needs_a_recipient(void **state)
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, 16, "x");
	put_text(&e, 17, "x");
	put_text(&e, 25, "mail");
	t = call_run(create_new("AlertRules.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_VALIDATION_ERROR);
	call_free(t);
}

struct rival {
	PGconn *conn;
	int fired;
};

static void *append_many(void *arg)
{
	struct rival *v = arg;

	for (int i = 0; i < 20; i++)
		append_on(v->conn, TENANT_A, "auth.user.login_failed", 1, 1700000000000000);
	return NULL;
}

/* Two instances append entries of one tenant at the same time, as they may with a partitioned topic. */
static void test_two_instances_fire_once(void **state)
{
	struct rival rivals[2];
	pthread_t threads[2];

	rule_create_for(10, 3600, "guard@example.com");
	append(TENANT_A, "a.b.c", 1, 1700000000000000);
	for (int i = 0; i < 2; i++) {
		rivals[i].conn = pgconn_open(pg_fixture_url(test_pg, "audit_app"), "rival", 30000);
		assert_int_equal(pthread_create(&threads[i], NULL, append_many, &rivals[i]), 0);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		PQfinish(rivals[i].conn);
	}
	assert_string_equal(value("SELECT (SELECT count(*) FROM audit.entry WHERE type = 'auth.user.login_failed') || ' ' || (SELECT count(*) FROM audit.security_event WHERE kind = 'alert')"
				  " || ' ' || (SELECT count(*) FROM audit.mail_queue) || ' ' || (SELECT count(*) FROM audit.outbox WHERE type = 'audit.alert.fired')"),
	    "40 1 1 1");
	assert_true(verify().valid);
}

/* What a gateway refused: counted, of a tenant that has a log, and the same report twice is one event. */
static struct test_call *observe(const char *tenant, const char *kind, const char *id)
{
	struct test_call *t = call_new("AuditLogs.Observe", "", "");
	size_t at = wire_open(&t->request, 1);

	put_text(&t->request, 1, id);
	put_text(&t->request, 2, kind);
	put_text(&t->request, 3, tenant);
	put_text(&t->request, 6, "203.0.113.9");
	put_text(&t->request, 10, "GET /api/leads");
	put_text(&t->request, 11, "signature");
	wire_put_varint(&t->request, 12, 17);
	wire_close(&t->request, at);
	return call_run(t);
}

static void test_observations_of_gateways_are_events(void **state)
{
	static const char id[] = "0190d000-0000-7000-8000-000000000001";
	struct test_call *t;

	append(TENANT_A, "a.b.c", 1, 1700000000000000);
	t = observe(TENANT_A, "token", id);
	assert_status(t, STATUS_OK);
	call_free(t);
	t = observe(TENANT_B, "token", id);
	assert_status(t, STATUS_OK);
	call_free(t);
	t = observe(TENANT_A, "nonsense", id);
	assert_status(t, STATUS_VALIDATION_ERROR);
	call_free(t);
	assert_string_equal(value("SELECT string_agg(type || ' ' || event_id || ' ' || (after->>'count') || ' ' || client_ip || ' ' || tenant_id, ',') FROM audit.outbox"),
	    "audit.access.token_refused 0190d000-0000-7000-8000-000000000001 17 203.0.113.9 " TENANT_A);
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

static void hold(const char *resource, const char *id)
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, 16, "Case 7");
	if (resource)
		put_text(&e, 17, resource);
	if (id)
		put_text(&e, 18, id);
	t = call_run(create_new("LegalHolds.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_OK);
	call_free(t);
}

static void test_a_hold_on_a_resource_keeps_it_and_what_came_after(void **state)
{
	struct test_call *t;

	append(TENANT_A, "customers.deal.created", 10, clock_us() - 3000 * DAY_US);
	append(TENANT_A, "customers.lead.created", 5, clock_us() - 3000 * DAY_US);
	append(TENANT_A, "customers.deal.created", 10, clock_us() - 3000 * DAY_US);
	append(TENANT_A, "customers.deal.created", 2, clock_us());
	hold("lead", NULL);
	t = keyed("RetentionPolicies.Apply", TENANT_A, policy("audit_log"));
	assert_status(t, STATUS_OK);
	assert_int_equal(field_int(buf_view(&t->reply), 2), 10);
	call_free(t);
	hold(NULL, NULL);
	t = keyed("RetentionPolicies.Apply", TENANT_A, policy("audit_log"));
	assert_status(t, STATUS_CONFLICT);
	call_free(t);
	pg_fixture_sql(test_pg, "UPDATE audit.legal_hold SET deleted_at = now()");
	t = keyed("RetentionPolicies.Apply", TENANT_A, policy("audit_log"));
	assert_int_equal(field_int(buf_view(&t->reply), 2), 15);
	call_free(t);
	assert_true(verify().valid);
	assert_int_equal(verify().first_seq, 26);
}

static void test_partitions_are_made_ahead_and_dropped_when_empty(void **state)
{
	struct test_call *t;

	append(TENANT_A, "a.b.c", 4, clock_us() - 3000 * DAY_US);
	append(TENANT_A, "a.b.c", 4, clock_us());
	assert_string_equal(value("SELECT count(*) >= 4 FROM audit.entry_partition"), "t");
	/* a month of its own for what is old: as if the installation had been there then */
	pg_fixture_sql(test_pg, "SET session_replication_role = replica; BEGIN; ALTER TABLE audit.entry DETACH PARTITION audit.entry_first;"
				" CREATE TABLE audit.entry_old PARTITION OF audit.entry FOR VALUES FROM (MINVALUE) TO ('2020-01-01');"
				" INSERT INTO audit.entry (tenant_id, seq, id, created_at, type, action, resource, user_id, ip, hash, previous_hash, canonical)"
				" SELECT tenant_id, seq, id, created_at, type, action, resource, user_id, ip, hash, previous_hash, canonical FROM audit.entry_first WHERE created_at < '2020-01-01';"
				" DELETE FROM audit.entry_first WHERE created_at < '2020-01-01';"
				" ALTER TABLE audit.entry_old OWNER TO audit_owner; SELECT audit.entry_protect('audit.entry_old') WHERE false; GRANT SELECT ON audit.entry_old TO audit_search; COMMIT;");
	pg_fixture_sql(test_pg, "DO $$ BEGIN EXECUTE format('ALTER TABLE audit.entry ATTACH PARTITION audit.entry_first FOR VALUES FROM (%L) TO (%L)', '2020-01-01',"
				" date_trunc('month', now(), 'UTC') + interval '1 month'); END $$; SET session_replication_role = origin");
	assert_string_equal(value("SELECT count(*) FROM audit.entry_old"), "4");
	assert_true(verify().valid);
	assert_int_equal(pgconn_exec(app, NULL, "SELECT entry_partitions_keep()", 0, NULL), STATUS_OK);
	assert_string_equal(value("SELECT to_regclass('audit.entry_old') IS NOT NULL"), "t"); /* it has rows */
	t = keyed("RetentionPolicies.Apply", TENANT_A, policy("audit_log"));
	assert_int_equal(field_int(buf_view(&t->reply), 2), 4);
	call_free(t);
	assert_int_equal(pgconn_exec(app, NULL, "SELECT entry_partitions_keep()", 0, NULL), STATUS_OK);
	assert_string_equal(value("SELECT to_regclass('audit.entry_old') IS NULL"), "t");
	assert_true(verify().valid);
	assert_int_equal(verify().entries, 4);
}

/* What the service asks, over several partitions with many rows. */
static void test_plans_use_indexes(void **state)
{
	static const char *const queries[] = {
		"SELECT id FROM entry WHERE tenant_id = current_setting('app.tenant_id')::uuid ORDER BY seq DESC, id DESC LIMIT 21",
		"SELECT id FROM entry WHERE id = '0190d000-0000-7000-8000-000000000001'",
		"SELECT id FROM entry WHERE resource = 'lead' AND resource_id = 'x' ORDER BY seq DESC LIMIT 21",
		"SELECT id FROM entry WHERE user_id = '" USER_1 "' ORDER BY seq DESC LIMIT 21",
		"SELECT seq, hash FROM entry WHERE tenant_id = current_setting('app.tenant_id')::uuid AND seq BETWEEN 100 AND 110",
		"SELECT min(seq) FROM entry WHERE tenant_id = current_setting('app.tenant_id')::uuid",
	};

	for (const char *month = "0123"; *month; month++) {
		char sql[700];

		snprintf(sql, sizeof sql, "SET session_replication_role = replica; INSERT INTO audit.entry (tenant_id, seq, id, created_at, type, action, resource, resource_id, user_id, hash, previous_hash, canonical)"
			" SELECT t.id::uuid, i + %c * 2000, gen_random_uuid(), now() + %c * interval '20 days', 'a.lead.c', 'c', 'lead', 'r' || i %% 500, gen_random_uuid(), '', '', ''"
			" FROM generate_series(1, 2000) i, (VALUES ('" TENANT_A "'), ('" TENANT_B "')) t(id); SET session_replication_role = origin", *month, *month);
		pg_fixture_sql(test_pg, sql);
	}
	pg_fixture_sql(test_pg, "ANALYZE audit.entry");
	assert_int_equal(pgconn_exec(app, NULL, "SET app.tenant_id = '" TENANT_A "'", 0, NULL), STATUS_OK);
	for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
		struct buf sql = { 0 };
		PGresult *r = NULL;

		buf_printf(&sql, "EXPLAIN %s", queries[i]);
		assert_int_equal(pgconn_exec(app, &r, buf_cstr(&sql), 0, NULL), STATUS_OK);
		for (int k = 0; k < PQntuples(r); k++) {
			if (strstr(PQgetvalue(r, k, 0), "Seq Scan on entry_2") || strstr(PQgetvalue(r, k, 0), "Seq Scan on entry_first"))
				fail_msg("%s\n%s", queries[i], PQgetvalue(r, k, 0));
		}
		PQclear(r);
		buf_fini(&sql);
	}
	assert_string_equal(value("SELECT count(DISTINCT tableoid) >= 3 FROM audit.entry"), "t");
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

static void rewrite_all(void)
{
	as_superuser("DELETE FROM audit.entry; DELETE FROM audit.chain");
	append(TENANT_A, "a.b.c", 60, clock_us());
}

/* S11: every kind of tampering, by somebody who may do anything in the database. Verify alone, and with checkpoints kept outside. */
static void test_every_tampering_is_detected(void **state)
{
	static const struct {
		const char *name, *sql; /* NULL: rewrite_all */
		bool alone;             /* found without checkpoints */
	} rows[] = {
		{ "flip a byte", "UPDATE audit.entry SET canonical = set_byte(canonical, 30, get_byte(canonical, 30) # 1) WHERE seq = 30", true },
		{ "flip a column", "UPDATE audit.entry SET user_id = gen_random_uuid() WHERE seq = 30", true },
		{ "delete", "DELETE FROM audit.entry WHERE seq = 30", true },
		{ "insert", "INSERT INTO audit.entry (tenant_id, seq, id, created_at, type, action, resource, hash, previous_hash, canonical)"
			" SELECT tenant_id, 61, gen_random_uuid(), created_at, type, action, resource, hash, hash, canonical FROM audit.entry WHERE seq = 60", true },
		{ "swap", "UPDATE audit.entry SET seq = 9999 WHERE seq = 30; UPDATE audit.entry SET seq = 30 WHERE seq = 31; UPDATE audit.entry SET seq = 31 WHERE seq = 9999", true },
		{ "truncate the tail", "DELETE FROM audit.entry WHERE seq > 40", true },
		{ "truncate tail and head", "DELETE FROM audit.entry WHERE seq > 40; UPDATE audit.chain SET seq = 40, hash = (SELECT hash FROM audit.entry WHERE seq = 40)", false },
		{ "rewrite all and rechain", NULL, false },
	};

	printf("\n| tampering | Verify alone | with signed checkpoints |\n|---|---|---|\n");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct chain_report r;
		int status;

		fresh(NULL);
		append(TENANT_A, "a.b.c", 60, clock_us());
		sign_round(true);
		assert_int_equal(offline(), 0);
		if (rows[i].sql)
			as_superuser(rows[i].sql);
		else
			rewrite_all();
		r = verify();
		status = offline();
		printf("| %s | %s%.0lld | %s |\n", rows[i].name, r.valid ? "no" : "yes, at entry ", (long long)r.first_bad_seq, status == 1 ? "yes" : "no");
		assert_int_equal(r.valid, !rows[i].alone);
		assert_int_equal(status, 1);
	}
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
	secret_init((const uint8_t[32]){ 5 });
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
		TEST(security_events_are_made_from_entries), TEST(alert_fires_once_per_window_and_again_after_it), TEST(slow_hits_do_not_fire), TEST(an_alert_is_an_event_and_a_mail),
		TEST(an_alert_is_no_hit), TEST(a_rule_for_mail_needs_a_recipient), TEST(two_instances_fire_once), TEST(observations_of_gateways_are_events),
		TEST(a_tenant_has_at_most_fifty_rules), TEST(retention_cuts_the_beginning_and_the_chain_still_verifies), TEST(the_newest_entry_always_stays),
		TEST(a_hold_on_a_resource_keeps_it_and_what_came_after), TEST(plans_use_indexes), TEST(partitions_are_made_ahead_and_dropped_when_empty),
		TEST(legal_hold_keeps_everything), TEST(a_cut_that_nobody_signed_is_found), TEST(resolved_security_events_go_and_open_ones_stay),
		TEST(service_cannot_remove_entries_without_a_cut), TEST(checkpoints_are_due_by_number_or_by_time), TEST(signature_is_of_the_place),
		TEST(verifier_finds_what_the_database_alone_cannot), TEST(verifier_finds_a_chain_that_was_written_anew), TEST(verifier_finds_a_tenant_that_is_gone), TEST(every_tampering_is_detected),
		TEST(verifier_accepts_retention_and_a_torn_last_line), TEST(verifier_refuses_a_checkpoint_of_another_key),
	};

	return cmocka_run_group_tests_name("audit management", tests, start, end);
}
