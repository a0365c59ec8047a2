/* Keys of subjects against a real PostgreSQL: what is sealed, who can open it, and what is left when a key is destroyed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/wire.h"
#include "events/event.h"
#include "events/pgconn.h"
#include "svc-audit/chain.h"
#include "svc-audit/secret.h"
#include "svc-audit/subject.h"
#include "testing/pg.h"

#define TENANT "11111111-1111-4111-8111-111111111111"
#define LEAD "01920000-0000-7000-8000-0000000000aa"
#define AFTER "{\"email\":\"ada@example.com\",\"status\":\"new\",\"notes\":null,\"source\":\"Am Weg 7\",\"custom_fields\":{\"nick\":\"Adi\"}}"
#define COUNT_SQL "SELECT count(*) FROM audit.entry"

static struct pg_fixture *pg;
static PGconn *app;
static struct schema *contracts;
static struct arena arena;

static enum status append(const char *entity, const char *after)
{
	char id[UUID_TEXT + 1];
	struct event e = { .id = { id, UUID_TEXT }, .tenant_id = STR(TENANT), .type = STR("customers.lead.created"), .entity = str_of(entity), .entity_id = STR(LEAD),
		.time_us = 1700000000123456, .after = str_of(after), .changed = { STR("email"), STR("status"), STR("notes"), STR("source"), STR("custom_fields") }, .n_changed = 5 };
	const struct event *list[] = { &e }, *sealed[1];
	enum status s;

	uuid7(id);
	assert_int_equal(pgconn_begin(app), STATUS_OK);
	assert_int_equal(pgconn_exec(app, NULL, "SELECT set_config('app.tenant_id', '" TENANT "', true)", 0, NULL), STATUS_OK);
	s = subject_seal(app, &arena, list, 1, sealed);
	if (s == STATUS_OK)
		s = chain_append(app, sealed, 1);
	if (s == STATUS_OK)
		return pgconn_commit(app);
	pgconn_rollback(app);
	return s;
}

static const char *value(const char *sql)
{
	return pg_fixture_value(pg, sql);
}

static bool verifies(void)
{
	struct chain_report r;

	assert_int_equal(chain_verify(app, STR(TENANT), NULL, clock_us() + 60 * 1000000, &r), STATUS_OK);
	return r.valid && r.entries > 0;
}

/* The newest entry's after as somebody reads it. */
static const char *shown(void)
{
	struct str after = str_of(arena_strdup(&arena, str_of(value("SELECT after FROM audit.entry ORDER BY seq DESC LIMIT 1"))));
	struct str key = str_of(arena_strdup(&arena, str_of(value("SELECT coalesce(wrapped::text, '') FROM audit.subject_key"))));

	return arena_strdup(&arena, subject_open(&arena, after, STR("lead"), STR(LEAD), key));
}

static int setup(void **state)
{
	pg_fixture_sql(pg, "SET session_replication_role = replica; DELETE FROM audit.entry; DELETE FROM audit.chain; DELETE FROM audit.subject_key; SET session_replication_role = origin");
	secret_init((const uint8_t[32]){ 5 });
	return 0;
}

static void test_personal_values_are_sealed_and_the_others_are_not(void **state)
{
	assert_int_equal(append("lead", AFTER), STATUS_OK);
	assert_string_equal(value("SELECT (after->>'status') || ' ' || (after->'email' ? 'sealed') || ' ' || (after->'custom_fields' ? 'sealed') || ' ' || (after->>'notes' IS NULL)"
				  " FROM (SELECT after::jsonb AS after FROM audit.entry) e"), "new true true true");
	assert_string_equal(value("SELECT position('ada@' in after::text) + position('ada@'::bytea in canonical) + position('Adi'::bytea in canonical) FROM audit.entry"), "0");
	assert_true(verifies());
	assert_string_equal(shown(), AFTER);
}

/* svc-customers may be of a newer build than this program. */
static void test_a_column_that_the_contract_does_not_have_is_sealed(void **state)
{
	assert_int_equal(append("lead", "{\"status\":\"new\",\"nickname\":\"Adi\",\"deleted_at\":\"x\"}"), STATUS_OK);
	assert_string_equal(value("SELECT (after->>'status') || ' ' || (after->'nickname' ? 'sealed') || ' ' || (after->>'deleted_at') FROM (SELECT after::jsonb AS after FROM audit.entry) e"),
	    "new true x");
}

static void test_two_entries_have_one_key_and_different_seals(void **state)
{
	assert_int_equal(append("lead", AFTER), STATUS_OK);
	assert_int_equal(append("lead", AFTER), STATUS_OK);
	assert_string_equal(value("SELECT count(*) FROM audit.subject_key"), "1");
	assert_string_equal(value("SELECT count(DISTINCT after::text) FROM audit.entry"), "2");
	assert_string_equal(shown(), AFTER);
}

static void test_without_the_key_nobody_reads_it_and_the_chain_verifies(void **state)
{
	assert_int_equal(append("lead", AFTER), STATUS_OK);
	pg_fixture_sql(pg, "UPDATE audit.subject_key SET wrapped = NULL, erased_at = now()");
	assert_true(verifies());
	assert_string_equal(shown(), "{\"email\":\"[erased]\",\"status\":\"new\",\"notes\":null,\"source\":\"Am Weg 7\",\"custom_fields\":\"[erased]\"}");
	/* an event that arrives late, or a new one, is not kept either */
	assert_int_equal(append("lead", AFTER), STATUS_OK);
	assert_string_equal(value("SELECT after->'email'->>'sealed' FROM audit.entry ORDER BY seq DESC LIMIT 1"), "");
	assert_true(verifies());
}

static void test_a_destroyed_key_does_not_come_back(void **state)
{
	assert_int_equal(append("lead", AFTER), STATUS_OK);
	pg_fixture_sql(pg, "UPDATE audit.subject_key SET wrapped = NULL, erased_at = now()");
	assert_int_equal(pgconn_exec(app, NULL, "SET app.tenant_id = '" TENANT "'", 0, NULL), STATUS_OK);
	assert_int_not_equal(pgconn_exec(app, NULL, "UPDATE subject_key SET wrapped = 'x', erased_at = NULL", 0, NULL), STATUS_OK);
	assert_int_not_equal(pgconn_exec(app, NULL, "DELETE FROM subject_key", 0, NULL), STATUS_OK);
}

static void test_another_master_key_waits_instead_of_writing(void **state)
{
	assert_int_equal(append("lead", AFTER), STATUS_OK);
	secret_init((const uint8_t[32]){ 6 });
	assert_int_equal(append("lead", AFTER), STATUS_UNAVAILABLE);
	assert_string_equal(value(COUNT_SQL), "1");
	assert_string_equal(shown(), "{\"email\":\"[erased]\",\"status\":\"new\",\"notes\":null,\"source\":\"Am Weg 7\",\"custom_fields\":\"[erased]\"}");
}

static void test_an_entity_nobody_knows_is_judged_by_its_words(void **state)
{
	assert_int_equal(append("visitor", AFTER), STATUS_OK);
	assert_string_equal(value("SELECT (after->'email' ? 'sealed') || ' ' || (after->'custom_fields' ? 'sealed') FROM (SELECT after::jsonb AS after FROM audit.entry) e"), "true false");
}

static void test_an_entry_is_shown_without_its_key(void **state)
{
	struct buf wire = { 0 }, out = { 0 };
	struct wire_reader r;
	struct wire_field f;
	int after = 0;

	assert_int_equal(append("lead", AFTER), STATUS_OK);
	wire_put_varint(&wire, 2, 7);
	wire_put_bytes(&wire, 18, STR("lead"));
	wire_put_bytes(&wire, 19, STR(LEAD));
	wire_put_bytes(&wire, 30, str_of(value("SELECT after FROM audit.entry")));
	wire_put_bytes(&wire, 33, str_of(value("SELECT wrapped FROM audit.subject_key")));
	subject_reveal(buf_view(&wire), &out);
	r = wire_read(buf_view(&out));
	while (wire_next(&r, &f)) {
		assert_int_not_equal(f.number, 33);
		if (f.number == 30)
			after += str_eq(f.bytes, STR(AFTER));
	}
	assert_int_equal(after, 1);
	buf_fini(&wire);
	buf_fini(&out);
}

#define TEST(name) cmocka_unit_test_setup(test_##name, setup)

int main(void)
{
	static const char *const files[] = { "build/gen/descriptors/common.pb", "build/gen/descriptors/auth.pb", "build/gen/descriptors/customers.pb", "build/gen/descriptors/audit.pb" };
	const struct CMUnitTest tests[] = {
		TEST(personal_values_are_sealed_and_the_others_are_not), TEST(a_column_that_the_contract_does_not_have_is_sealed),
		TEST(two_entries_have_one_key_and_different_seals),
		TEST(without_the_key_nobody_reads_it_and_the_chain_verifies), TEST(a_destroyed_key_does_not_come_back),
		TEST(another_master_key_waits_instead_of_writing), TEST(an_entity_nobody_knows_is_judged_by_its_words), TEST(an_entry_is_shown_without_its_key),
	};
	int failed;

	pg = pg_fixture_start();
	pg_fixture_migrate(pg, "audit", "svc-audit/schema");
	app = pgconn_open(pg_fixture_url(pg, "audit_app"), "test", 30000);
	contracts = schema_load(files, 4);
	subject_init(contracts);
	failed = cmocka_run_group_tests_name("subjects", tests, NULL, NULL);
	PQfinish(app);
	schema_free(contracts);
	arena_fini(&arena);
	pg_fixture_stop(pg);
	return failed;
}
