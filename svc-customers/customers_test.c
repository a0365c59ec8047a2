/* The customers service's own logic against a real PostgreSQL: conversion, territories, statistics, the search index, the wall. */
#include "proto/options.pb-c.h"
#include "resource/test_calls.h"

#include "svc-customers/ops.h"

enum { LEAD_DISPLAY = 16, LEAD_EMAIL = 19, LEAD_COMPANY = 21, LEAD_STATUS = 24, LEAD_CONVERTED = 29, LEAD_ACCOUNT = 30, LEAD_CONTACT = 31, LEAD_DEAL = 32,
	ACCOUNT_NAME = 16, ACCOUNT_STATUS = 24, ACCOUNT_TERRITORY = 29 };

static int64_t sql_int(const char *sql)
{
	return atoll(pg_fixture_value(test_pg, sql));
}

static struct test_call *lead_create(const char *display, const char *company)
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, LEAD_DISPLAY, display);
	put_text(&e, LEAD_EMAIL, "lead@example.com");
	if (company)
		put_text(&e, LEAD_COMPANY, company);
	t = call_run(create_new("Leads.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_OK);
	return t;
}

static struct test_call *named(const char *rpc, const char *tenant, const char *name)
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, 16, name);
	t = call_run(create_new(rpc, tenant, USER_1, &e));
	assert_status(t, STATUS_OK);
	return t;
}

static struct str id_of(const struct test_call *t)
{
	return field_bytes(buf_view(&t->reply), 1, 0);
}

static struct test_call *convert_new(struct str lead)
{
	struct test_call *t = call_new("Leads.Convert", TENANT_A, USER_1);

	put_key(&t->request, 1, lead, 0);
	return t;
}

static void convert_makes_account_and_contact_and_tells(void **state)
{
	struct test_call *lead = lead_create("Ada Lovelace", "Engines Ltd"), *t = convert_new(id_of(lead));
	struct str r;

	put_key(&t->request, 5, (struct str){ 0 }, 42);
	call_run(t);
	assert_status(t, STATUS_OK);
	r = buf_view(&t->reply);
	assert_text(r, LEAD_STATUS, "converted");
	assert_text(field_bytes(r, LEAD_ACCOUNT, 0), 3, "Engines Ltd");
	assert_text(field_bytes(r, LEAD_CONTACT, 0), 3, "Ada Lovelace");
	assert_int_equal(field_int(r, LEAD_DEAL), 42);
	assert_true(field_int(r, LEAD_CONVERTED) > 0);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.contact c JOIN customers.account a ON a.id = c.account_id WHERE a.name = 'Engines Ltd' AND c.family = 'Lovelace'"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE type IN ('customers.account.created', 'customers.contact.created', 'customers.lead.converted')"), 3);
	call_free(t);
	call_free(lead);
}

static void a_second_conversion_conflicts_also_in_parallel(void **state)
{
	struct test_call *lead = lead_create("Twice", "Twice Ltd"), *t[4];
	int ok = 0;

	for (int i = 0; i < 4; i++) {
		t[i] = convert_new(id_of(lead));
		call_send(t[i]);
	}
	for (int i = 0; i < 4; i++) {
		call_wait(t[i]);
		ok += t[i]->status == STATUS_OK;
		if (t[i]->status != STATUS_OK)
			assert_status(t[i], STATUS_CONFLICT);
	}
	assert_int_equal(ok, 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.account WHERE name = 'Twice Ltd'"), 1);
	for (int i = 0; i < 4; i++)
		call_free(t[i]);
	call_free(lead);
}

static void convert_links_what_is_given(void **state)
{
	struct test_call *lead = lead_create("Linked", "Ignored Ltd"), *account = named("Accounts.Create", TENANT_A, "Given Ltd"), *contact = named("Contacts.Create", TENANT_A, "Given Person");
	struct test_call *t = convert_new(id_of(lead));

	put_key(&t->request, 2, id_of(account), 0);
	put_key(&t->request, 3, id_of(contact), 0);
	call_run(t);
	assert_status(t, STATUS_OK);
	assert_text(field_bytes(buf_view(&t->reply), LEAD_ACCOUNT, 0), 3, "Given Ltd");
	assert_int_equal(sql_int("SELECT count(*) FROM customers.account WHERE name = 'Ignored Ltd'"), 0);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.contact c JOIN customers.account a ON a.id = c.account_id WHERE c.display = 'Given Person' AND a.name = 'Given Ltd'"), 1);
	call_free(t);
	call_free(lead);
	call_free(account);
	call_free(contact);
}

static void convert_refuses_what_does_not_exist_and_leaves_nothing(void **state)
{
	struct test_call *lead = lead_create("Nothing", "Nothing Ltd"), *foreign = named("Accounts.Create", TENANT_B, "Foreign"), *t = convert_new(id_of(lead));

	put_key(&t->request, 2, id_of(foreign), 0);
	put_key(&t->request, 3, (struct str){ 0 }, 99999);
	call_run(t);
	assert_status(t, STATUS_VALIDATION_ERROR);
	assert_violation(t, "account", "exists");
	assert_violation(t, "contact", "exists");
	assert_int_equal(sql_int("SELECT count(*) FROM customers.lead WHERE display = 'Nothing' AND converted_at IS NULL AND version = 1"), 1);
	call_free(t);
	t = convert_new(STR("0190ffff-0000-7000-8000-000000000000"));
	assert_status(call_run(t), STATUS_NOT_FOUND);
	call_free(t);
	call_free(lead);
	call_free(foreign);
}

static void take_away(struct test_call *t, unsigned permission)
{
	t->call.who.permissions[permission / 64] &= ~(1ull << permission % 64);
}

static void who_may_not_write_accounts_or_contacts_does_not_write_them_by_way_of_others(void **state)
{
	struct test_call *lead = lead_create("Narrow Scope", "Narrow Ltd"), *account = named("Accounts.Create", TENANT_A, "Given"), *t = convert_new(id_of(lead));
	struct test_call *terr = named("Territories.Create", TENANT_A, "Not mine");

	take_away(t, CRM__V1__PERMISSION__CUSTOMERS_WRITE);
	assert_status(call_run(t), STATUS_PERMISSION_DENIED);
	call_free(t);
	t = convert_new(id_of(lead));
	put_key(&t->request, 2, id_of(account), 0);
	take_away(t, CRM__V1__PERMISSION__CONTACTS_WRITE);
	assert_status(call_run(t), STATUS_PERMISSION_DENIED);
	call_free(t);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.account WHERE name = 'Narrow Ltd'"), 0);
	t = convert_new(id_of(lead));
	put_key(&t->request, 2, id_of(account), 0);
	take_away(t, CRM__V1__PERMISSION__CUSTOMERS_WRITE);
	assert_status(call_run(t), STATUS_OK);
	call_free(t);
	t = call_new("Territories.AssignAccounts", TENANT_A, USER_1);
	put_key(&t->request, 1, id_of(terr), 0);
	put_key(&t->request, 2, id_of(account), 0);
	take_away(t, CRM__V1__PERMISSION__CUSTOMERS_WRITE);
	assert_status(call_run(t), STATUS_PERMISSION_DENIED);
	call_free(t);
	call_free(terr);
	call_free(account);
	call_free(lead);
}

static void assign_moves_all_accounts_or_none(void **state)
{
	struct test_call *terr = named("Territories.Create", TENANT_A, "South"), *one = named("Accounts.Create", TENANT_A, "Assign 1"), *two = named("Accounts.Create", TENANT_A, "Assign 2"), *t;

	t = call_new("Territories.AssignAccounts", TENANT_A, USER_1);
	put_key(&t->request, 1, id_of(terr), 0);
	put_key(&t->request, 2, id_of(one), 0);
	put_key(&t->request, 2, (struct str){ 0 }, 123456);
	call_run(t);
	assert_status(t, STATUS_VALIDATION_ERROR);
	assert_violation(t, "account", "exists");
	assert_int_equal(sql_int("SELECT count(*) FROM customers.account WHERE territory_id IS NOT NULL"), 0);
	call_free(t);
	for (int i = 0; i < 2; i++) {
		t = call_new("Territories.AssignAccounts", TENANT_A, USER_1);
		put_key(&t->request, 1, id_of(terr), 0);
		put_key(&t->request, 2, id_of(one), 0);
		put_key(&t->request, 2, (struct str){ 0 }, field_int(buf_view(&two->reply), 2));
		call_run(t);
		assert_status(t, STATUS_OK);
		assert_int_equal(field_int(buf_view(&t->reply), 2), 2);
		assert_text(field_bytes(buf_view(&t->reply), 1, 0), 16, "South");
		call_free(t);
	}
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE type = 'customers.account.updated' AND after->>'name' LIKE 'Assign %'"), 2);
	call_free(terr);
	call_free(one);
	call_free(two);
}

static void stats_count_the_tenants_accounts(void **state)
{
	struct test_call *t;

	pg_fixture_sql(test_pg, "INSERT INTO customers.account (tenant_id, id, seq, name, status, industry, created_at) SELECT '0190f000-0000-7000-8000-00000000000f', gen_random_uuid(), n, 'S',"
				" CASE WHEN n <= 3 THEN 'active' ELSE 'inactive' END, CASE WHEN n = 1 THEN 'Steel' END, CASE WHEN n = 5 THEN now() - interval '60 days' ELSE now() END FROM generate_series(1, 5) n");
	t = call_run(call_new("Accounts.Stats", "0190f000-0000-7000-8000-00000000000f", USER_1));
	assert_status(t, STATUS_OK);
	assert_int_equal(field_int(buf_view(&t->reply), 1), 5);
	assert_int_equal(field_int(buf_view(&t->reply), 2), 3);
	assert_int_equal(field_int(buf_view(&t->reply), 3), 2);
	assert_int_equal(field_int(buf_view(&t->reply), 4), 4);
	assert_text(field_bytes(buf_view(&t->reply), 6, 0), 1, "Steel");
	assert_int_equal(field_count(buf_view(&t->reply), 5), 2);
	call_free(t);
	t = call_run(call_new("Accounts.Stats", "0190f000-0000-7000-8000-0000000000ff", USER_1));
	assert_int_equal(field_int(buf_view(&t->reply), 1), 0);
	call_free(t);
}

/* Runs sql as the service's role with tenant A set; the plan as one text. */
static void explain(const char *sql, char *out, size_t size)
{
	PGconn *c = PQconnectdb(pg_fixture_url(test_pg, "customers_app"));
	PGresult *r;
	size_t n = 0;

	PQclear(PQexec(c, "BEGIN"));
	PQclear(PQexec(c, "SELECT set_config('app.tenant_id', '" TENANT_A "', true)"));
	r = PQexec(c, sql);
	if (PQresultStatus(r) != PGRES_TUPLES_OK)
		fail_msg("%s", PQerrorMessage(c));
	out[0] = 0;
	for (int i = 0; i < PQntuples(r) && n < size; i++)
		n += (size_t)snprintf(out + n, size - n, "%s\n", PQgetvalue(r, i, 0));
	PQclear(r);
	PQfinish(c);
}

static void search_uses_its_index_under_row_level_security(void **state)
{
	char plan[8000];
	int64_t before, after;

	pg_fixture_sql(test_pg, "INSERT INTO customers.account (tenant_id, id, seq, name, email) SELECT CASE WHEN n % 2 = 0 THEN '" TENANT_A "' ELSE '" TENANT_B "' END::uuid, gen_random_uuid(),"
				" 1000000 + n, 'Company ' || md5(n::text), md5(n::text) || '@example.com' FROM generate_series(1, 20000) n");
	pg_fixture_sql(test_pg, "VACUUM ANALYZE customers.account");
	before = sql_int("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'account_search'");
	explain("SELECT count(*) FROM account t WHERE t.deleted_at IS NULL AND t.id IN (SELECT account_search('c4ca4238'))", plan, sizeof(plan));
	assert_string_equal(plan, "0\n");
	explain("SELECT count(*) FROM account t WHERE t.deleted_at IS NULL AND t.id IN (SELECT account_search('c81e728d'))", plan, sizeof(plan));
	assert_string_equal(plan, "1\n");
	for (int i = 0; i < 200; i++) {
		after = sql_int("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'account_search'");
		if (after > before)
			break;
		usleep(20000);
	}
	assert_true(after > before);
	explain("EXPLAIN SELECT t.* FROM account t WHERE t.deleted_at IS NULL AND t.id IN (SELECT account_search('c81e728d')) ORDER BY t.created_at DESC, t.id DESC LIMIT 21", plan, sizeof(plan));
	assert_null(strstr(plan, "Seq Scan on account"));
	assert_non_null(strstr(plan, "account_pkey"));
}

static void a_page_walks_the_list_index(void **state)
{
	char plan[8000];

	explain("EXPLAIN SELECT t.* FROM account t WHERE t.deleted_at IS NULL AND (t.created_at, t.id) < (now(), '" TENANT_A "'::uuid) ORDER BY t.created_at DESC, t.id DESC LIMIT 21", plan, sizeof(plan));
	assert_non_null(strstr(plan, "Index Scan using account_list"));
	assert_null(strstr(plan, "Sort"));
	assert_non_null(strstr(plan, "Index Cond: ((tenant_id = (NULLIF"));
	assert_non_null(strstr(plan, "ROW(created_at, id) <"));
}

static void every_tenant_table_is_behind_the_wall(void **state)
{
	assert_int_equal(sql_int("SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'"
				 " WHERE n.nspname = 'customers' AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity"
				 " AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND pg_get_expr(p.polqual, p.polrelid) LIKE '%app.tenant_id%'"
				 " AND pg_get_expr(p.polwithcheck, p.polrelid) LIKE '%app.tenant_id%'))"), 0);
	assert_true(sql_int("SELECT count(*) FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = 'customers'::regnamespace AND p.polname = 'tenant'") >= 8);
}

static void the_app_role_owns_nothing_and_cannot_bypass(void **state)
{
	assert_int_equal(sql_int("SELECT count(*) FROM pg_roles WHERE rolname = 'customers_app' AND (rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole)"), 0);
	assert_int_equal(sql_int("SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = 'customers_app'"), 0);
	assert_int_equal(sql_int("SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = 'customers_app'"), 0);
	assert_int_equal(sql_int("SELECT count(*) FROM information_schema.role_table_grants WHERE grantee = 'customers_app' AND table_name <> 'blob_queue' AND privilege_type IN ('DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER')"), 0);
	assert_int_equal(sql_int("SELECT has_schema_privilege('customers_app', 'customers', 'CREATE')::int"), 0);
}

static int start(void **state)
{
	test_start(customers_ops, customers_n_ops, "svc-customers/schema");
	return 0;
}

static int end(void **state)
{
	test_end();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(convert_makes_account_and_contact_and_tells),
		cmocka_unit_test(a_second_conversion_conflicts_also_in_parallel),
		cmocka_unit_test(convert_links_what_is_given),
		cmocka_unit_test(convert_refuses_what_does_not_exist_and_leaves_nothing),
		cmocka_unit_test(assign_moves_all_accounts_or_none),
		cmocka_unit_test(who_may_not_write_accounts_or_contacts_does_not_write_them_by_way_of_others),
		cmocka_unit_test(stats_count_the_tenants_accounts),
		cmocka_unit_test(search_uses_its_index_under_row_level_security),
		cmocka_unit_test(a_page_walks_the_list_index),
		cmocka_unit_test(every_tenant_table_is_behind_the_wall),
		cmocka_unit_test(the_app_role_owns_nothing_and_cannot_bypass),
	};

	return cmocka_run_group_tests(tests, start, end);
}
