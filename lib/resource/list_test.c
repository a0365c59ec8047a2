/* Lists against a real PostgreSQL: filters, sorts, pages, cursors, search, and totals that are exact without counting. */
#include "resource/test_calls.h"

#include "resource/counts.h"

enum { LEAD_DISPLAY = 16, LEAD_STATUS = 24, LEAD_VALUE = 25, LEAD_OWNER = 27, ACCOUNT_NAME = 16, ACCOUNT_TAGS = 26 };
enum { EQ, NE, GTE, GT, LTE, LT, IS_NULL };

#define TENANT_C "0190e000-0000-7000-8000-00000000000e"

static const struct resource test_tag = {
	.message = "crm.v1.Tag", .table = "tag", .filter = "name", .sort = "name", .default_sort = "name",
};
static const struct resource test_account = {
	.message = "crm.v1.Account", .table = "account", .filter = "status tags", .sort = "name created_us", .default_sort = "-created_us", .searchable = true,
	.one_of = "name contact_name", .defaults = "status=active",
};
static const struct resource test_lead = {
	.message = "crm.v1.Lead", .table = "lead", .filter = "status owner value created_us display", .sort = "display value created_us", .default_sort = "-created_us",
	.person = true, .searchable = true, .one_of = "display given family", .lower = "source status", .defaults = "status=new",
};
static const struct op ops[] = {
	OPS_RESOURCE("Accounts", &test_account), OPS_RESOURCE("Leads", &test_lead), { .rpc = "Tags.List", .kind = OP_LIST, .resource = &test_tag },
};

static struct test_call *list_new(const char *rpc, const char *user, int limit)
{
	struct test_call *t = call_new(rpc, TENANT_A, user);

	wire_put_varint(&t->request, 4, (uint64_t)limit);
	return t;
}

static void put_filter(struct test_call *t, uint32_t field, int op, const char *a, const char *b)
{
	size_t at = wire_open(&t->request, 1);

	wire_put_varint(&t->request, 1, field);
	wire_put_varint(&t->request, 2, (uint64_t)op);
	if (a)
		put_text(&t->request, 3, a);
	if (b)
		put_text(&t->request, 3, b);
	wire_close(&t->request, at);
}

static void put_sort(struct test_call *t, uint32_t field, bool desc)
{
	size_t at = wire_open(&t->request, 2);

	wire_put_varint(&t->request, 1, field);
	wire_put_varint(&t->request, 2, desc);
	wire_close(&t->request, at);
}

static int rows(const struct test_call *t)
{
	assert_status(t, STATUS_OK);
	return field_count(buf_view(&t->reply), 1);
}

static int64_t total_of(const char *user, const char *status)
{
	struct test_call *t = list_new("Leads.List", user, 1);
	int64_t n;

	if (status)
		put_filter(t, LEAD_STATUS, EQ, status, NULL);
	wire_put_varint(&t->request, 7, 1);
	call_run(t);
	assert_status(t, STATUS_OK);
	n = field_int(buf_view(&t->reply), 2);
	call_free(t);
	return n;
}

static void lead_create(const char *user, const char *display, const char *status)
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, LEAD_DISPLAY, display);
	put_text(&e, LEAD_STATUS, status);
	t = call_run(create_new("Leads.Create", TENANT_A, user, &e));
	assert_status(t, STATUS_OK);
	call_free(t);
}

/* 1,000 leads: values 0 to 9 and every tenth none; created a second apart; 5 of 1,000 called Needle. */
static void fill(void)
{
	pg_fixture_sql(test_pg,
	    "INSERT INTO customers.lead (tenant_id, id, seq, display, status, source, value, created_at, owner_id)"
	    " SELECT '" TENANT_A "', gen_random_uuid(), 100000 + n, CASE WHEN n % 200 = 0 THEN 'Needle ' ELSE 'Person ' END || n, CASE WHEN n % 4 = 0 THEN 'won' ELSE 'open' END, 'web',"
	    " CASE WHEN n % 10 = 9 THEN NULL ELSE n % 10 END, timestamptz '2024-01-01' + (n / 2) * interval '1 second', CASE WHEN n % 100 = 0 THEN '" USER_2 "'::uuid END FROM generate_series(1, 1000) n;"
	    "INSERT INTO customers.lead (tenant_id, id, seq, display, status) SELECT '" TENANT_B "', gen_random_uuid(), n, 'Needle of B', 'open' FROM generate_series(1, 50) n;"
	    "INSERT INTO customers.seq_block VALUES ('" TENANT_A "', 'lead', 500000);"
	    "ANALYZE customers.lead");
}

static void filters_select(void **state)
{
	struct test_call *t = list_new("Leads.List", USER_1, 100);

	put_filter(t, LEAD_STATUS, EQ, "Won", NULL);
	put_filter(t, LEAD_VALUE, GTE, "8", NULL);
	assert_int_equal(rows(call_run(t)), 50);
	call_free(t);
	t = list_new("Leads.List", USER_1, 100);
	put_filter(t, LEAD_OWNER, EQ, USER_2, NULL);
	assert_int_equal(rows(call_run(t)), 10);
	call_free(t);
	t = list_new("Leads.List", USER_1, 100);
	put_filter(t, LEAD_OWNER, NE, USER_2, NULL);
	wire_put_varint(&t->request, 7, 1);
	rows(call_run(t));
	assert_int_equal(field_int(buf_view(&t->reply), 2), 990);
	call_free(t);
	t = list_new("Leads.List", USER_1, 100);
	put_filter(t, LEAD_DISPLAY, EQ, "Person 1", "Person \"2\"");
	put_filter(t, LEAD_VALUE, IS_NULL, "false", NULL);
	assert_int_equal(rows(call_run(t)), 1);
	call_free(t);
	t = list_new("Leads.List", USER_1, 100);
	put_filter(t, 4, LT, "1704067201000000", NULL);
	assert_int_equal(rows(call_run(t)), 1);
	call_free(t);
}

static void unknown_filters_sorts_and_values_are_violations(void **state)
{
	struct test_call *t = list_new("Leads.List", USER_1, 10);

	put_filter(t, 26, EQ, "x", NULL);
	call_run(t);
	assert_status(t, STATUS_VALIDATION_ERROR);
	assert_violation(t, "notes", "filter");
	call_free(t);
	t = list_new("Leads.List", USER_1, 10);
	put_sort(t, 26, false);
	assert_status(call_run(t), STATUS_VALIDATION_ERROR);
	call_free(t);
	t = list_new("Leads.List", USER_1, 10);
	put_filter(t, LEAD_VALUE, EQ, "much", NULL);
	put_filter(t, 4, GTE, "99999999999999999999", NULL);
	call_run(t);
	assert_status(t, STATUS_VALIDATION_ERROR);
	assert_violation(t, "value", "type");
	assert_violation(t, "created_us", "type");
	call_free(t);
}

/* Walks all pages; every row must come once. Returns how many pages. */
static int walk(uint32_t sort, bool desc, int expected)
{
	char cursor[4000] = "";
	char *seen = xcalloc(1100, 1);
	int pages = 0, n = 0;

	for (;;) {
		struct test_call *t = list_new("Leads.List", USER_1, 97);
		struct str next;

		if (sort)
			put_sort(t, sort, desc);
		if (*cursor)
			put_text(&t->request, 6, cursor);
		n += rows(call_run(t));
		for (int i = 0; i < field_count(buf_view(&t->reply), 1); i++) {
			int64_t seq = field_int(field_bytes(buf_view(&t->reply), 1, i), 2) - 100000;

			assert_in_range(seq, 1, 1000);
			assert_int_equal(seen[seq]++, 0);
		}
		next = field_bytes(buf_view(&t->reply), 3, 0);
		snprintf(cursor, sizeof(cursor), "%.*s", STR_FMT(next));
		call_free(t);
		pages++;
		if (!*cursor)
			break;
		assert_true(pages < 50);
	}
	free(seen);
	assert_int_equal(n, expected);
	return pages;
}

static void cursors_walk_every_row_once_in_any_sort(void **state)
{
	assert_int_equal(walk(0, false, 1000), 11);
	assert_int_equal(walk(4, false, 1000), 11);
	assert_int_equal(walk(LEAD_VALUE, false, 1000), 11);
	assert_int_equal(walk(LEAD_VALUE, true, 1000), 11);
	assert_int_equal(walk(LEAD_DISPLAY, true, 1000), 11);
}

static void a_cursor_stays_where_it_is_when_rows_come_in_front(void **state)
{
	struct test_call *one = call_run(list_new("Leads.List", USER_1, 10)), *two = list_new("Leads.List", USER_1, 10), *again = list_new("Leads.List", USER_1, 10);

	wire_put_bytes(&two->request, 6, field_bytes(buf_view(&one->reply), 3, 0));
	wire_put_bytes(&again->request, 6, field_bytes(buf_view(&one->reply), 3, 0));
	call_run(two);
	pg_fixture_sql(test_pg, "INSERT INTO customers.lead (tenant_id, id, seq, display) VALUES ('" TENANT_A "', gen_random_uuid(), 99, 'Newest')");
	call_run(again);
	assert_int_equal(rows(two), 10);
	assert_true(str_eq(buf_view(&two->reply), buf_view(&again->reply)));
	pg_fixture_sql(test_pg, "DELETE FROM customers.lead WHERE display = 'Newest'");
	call_free(one);
	call_free(two);
	call_free(again);
}

static void a_cursor_of_another_sort_or_a_broken_one_is_a_violation(void **state)
{
	struct test_call *one = call_run(list_new("Leads.List", USER_1, 10)), *t = list_new("Leads.List", USER_1, 10);
	static const char *const broken[] = { "x", "!!", "AAAA", "CAEVAAAAAA" };

	put_sort(t, LEAD_VALUE, true);
	wire_put_bytes(&t->request, 6, field_bytes(buf_view(&one->reply), 3, 0));
	assert_status(call_run(t), STATUS_VALIDATION_ERROR);
	call_free(t);
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		t = list_new("Leads.List", USER_1, 10);
		put_text(&t->request, 6, broken[i]);
		assert_status(call_run(t), STATUS_VALIDATION_ERROR);
		assert_violation(t, "cursor", "cursor");
		call_free(t);
	}
	call_free(one);
}

static void offsets_page_as_well(void **state)
{
	struct test_call *t = list_new("Leads.List", USER_1, 20);

	wire_put_varint(&t->request, 5, 990);
	assert_int_equal(rows(call_run(t)), 10);
	assert_int_equal(field_count(buf_view(&t->reply), 3), 0);
	call_free(t);
}

static int search(const char *text)
{
	struct test_call *t = list_new("Leads.List", USER_1, 100);
	int n;

	put_text(&t->request, 3, text);
	n = rows(call_run(t));
	call_free(t);
	return n;
}

static void search_finds_parts_of_words_of_the_own_tenant(void **state)
{
	assert_int_equal(search("needle"), 5);
	assert_int_equal(search("EEDLE 2"), 1);
	assert_int_equal(search("%"), 0);
	assert_int_equal(search("per_on"), 0);
	assert_int_equal(search("er"), 100);
	assert_int_equal(search("no such thing"), 0);
}

static void tags_filter_by_name_and_key(void **state)
{
	struct buf e = { 0 };
	struct test_call *t;
	size_t at;

	for (int i = 0; i < 3; i++) {
		put_text(&e, ACCOUNT_NAME, "Some Company");
		at = wire_open(&e, ACCOUNT_TAGS);
		put_text(&e, 16, i ? "Gold" : "Silver");
		wire_close(&e, at);
		t = call_run(create_new("Accounts.Create", TENANT_A, USER_1, &e));
		assert_status(t, STATUS_OK);
		call_free(t);
	}
	t = list_new("Accounts.List", USER_1, 100);
	put_filter(t, ACCOUNT_TAGS, EQ, "gold", NULL);
	assert_int_equal(rows(call_run(t)), 2);
	call_free(t);
	t = list_new("Accounts.List", USER_1, 100);
	put_filter(t, ACCOUNT_TAGS, EQ, "gold", "SILVER");
	assert_int_equal(rows(call_run(t)), 3);
	call_free(t);
}

static void totals_are_counted_once_and_then_known(void **state)
{
	struct counts_stats before;

	assert_int_equal(total_of(USER_1, "won"), 250);
	before = counts_stats();
	for (int i = 0; i < 20; i++)
		assert_int_equal(total_of(USER_2, "won"), 250);
	assert_int_equal(counts_stats().run, before.run);
	assert_int_equal(counts_stats().served, before.served + 20);
}

static void a_writer_sees_its_write_in_the_total_at_once(void **state)
{
	int64_t all = total_of(USER_1, NULL), won = total_of(USER_1, "won");

	for (int i = 1; i <= 5; i++) {
		lead_create(USER_1, "Own Write", "won");
		assert_int_equal(total_of(USER_1, NULL), all + i);
		assert_int_equal(total_of(USER_1, "won"), won + i);
	}
}

static void an_unfiltered_total_follows_writes_without_counting(void **state)
{
	int64_t all = total_of(USER_1, NULL);
	struct counts_stats before = counts_stats();

	lead_create(USER_1, "Followed", "new");
	assert_int_equal(total_of(USER_1, NULL), all + 1);
	assert_int_equal(counts_stats().run, before.run);
}

static void others_see_a_write_in_the_total_within_a_second(void **state)
{
	int64_t won = total_of(USER_2, "won");
	int64_t start = clock_mono_us();

	lead_create(USER_1, "Seen Later", "won");
	while (total_of(USER_2, "won") != won + 1)
		assert_true(clock_mono_us() - start < 1000000);
}

static void another_process_is_heard_of(void **state)
{
	int64_t all = total_of(USER_1, NULL), start;
	uint64_t heard = resource_stats().notices_heard;

	pg_fixture_sql(test_pg, "INSERT INTO customers.lead (tenant_id, id, seq, display) VALUES ('" TENANT_A "', gen_random_uuid(), 98, 'From elsewhere');"
				"NOTIFY customers_changed, '" TENANT_A "/lead'");
	start = clock_mono_us();
	while (total_of(USER_1, NULL) != all + 1)
		assert_true(clock_mono_us() - start < 1500000);
	assert_true(resource_stats().notices_heard > heard);
}

static void a_cold_total_is_counted_once_for_all_who_ask(void **state)
{
	struct test_call *t[20];
	uint64_t run = counts_stats().run;

	for (int i = 0; i < 20; i++) {
		t[i] = list_new("Leads.List", USER_1, 1);
		put_filter(t[i], LEAD_STATUS, EQ, "open", NULL);
		put_filter(t[i], LEAD_VALUE, EQ, "3", NULL);
		wire_put_varint(&t[i]->request, 7, 1);
		call_send(t[i]);
	}
	for (int i = 0; i < 20; i++)
		call_wait(t[i]);
	for (int i = 0; i < 20; i++) {
		assert_status(t[i], STATUS_OK);
		assert_int_equal(field_int(buf_view(&t[i]->reply), 2), 100);
		call_free(t[i]);
	}
	assert_int_equal(counts_stats().run, run + 1);
}

static void totals_of_tenants_are_apart(void **state)
{
	struct test_call *t = call_new("Leads.List", TENANT_B, USER_1);

	wire_put_varint(&t->request, 7, 1);
	call_run(t);
	assert_int_equal(field_int(buf_view(&t->reply), 2), 50);
	call_free(t);
}

static int start(void **state)
{
	test_start(ops, sizeof(ops) / sizeof(ops[0]), "svc-customers/schema");
	fill();
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
		cmocka_unit_test(filters_select),
		cmocka_unit_test(unknown_filters_sorts_and_values_are_violations),
		cmocka_unit_test(cursors_walk_every_row_once_in_any_sort),
		cmocka_unit_test(a_cursor_stays_where_it_is_when_rows_come_in_front),
		cmocka_unit_test(a_cursor_of_another_sort_or_a_broken_one_is_a_violation),
		cmocka_unit_test(offsets_page_as_well),
		cmocka_unit_test(search_finds_parts_of_words_of_the_own_tenant),
		cmocka_unit_test(tags_filter_by_name_and_key),
		cmocka_unit_test(totals_are_counted_once_and_then_known),
		cmocka_unit_test(a_writer_sees_its_write_in_the_total_at_once),
		cmocka_unit_test(an_unfiltered_total_follows_writes_without_counting),
		cmocka_unit_test(others_see_a_write_in_the_total_within_a_second),
		cmocka_unit_test(another_process_is_heard_of),
		cmocka_unit_test(a_cold_total_is_counted_once_for_all_who_ask),
		cmocka_unit_test(totals_of_tenants_are_apart),
	};

	return cmocka_run_group_tests(tests, start, end);
}
