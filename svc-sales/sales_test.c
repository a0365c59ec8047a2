/* The engine's parts that svc-sales uses, against a real PostgreSQL: lists of messages in a row, seeds, refusals by the schema, constants, reports, names for others. */
#include "resource/test_calls.h"

#include "svc-sales/ops.h"

enum { DEAL_TITLE = 16, DEAL_VALUE = 21, DEAL_SLUG = 23, DEAL_STATUS = 24, DEAL_LINES = 31, LINE_NAME = 2, LINE_QUANTITY = 3, LINE_PRICE = 4, LINE_TOTAL = 6 };

static struct test_call *deal_new(const char *tenant, const char *title, const char *slug)
{
	struct buf e = { 0 };

	put_text(&e, DEAL_TITLE, title);
	if (slug)
		put_text(&e, DEAL_SLUG, slug);
	return create_new("Deals.Create", tenant, USER_1, &e);
}

static struct str text_of(const struct test_call *t, uint32_t number)
{
	return field_bytes(buf_view(&t->reply), number, 0);
}

static void assert_is(struct str got, const char *wanted)
{
	if (!str_eq(got, str_of(wanted)))
		fail_msg("\"%.*s\" instead of \"%s\"", STR_FMT(got), wanted);
}

static void line_put(struct buf *entity, const char *name, const char *quantity, const char *price)
{
	size_t at = wire_open(entity, DEAL_LINES);

	put_text(entity, LINE_NAME, name);
	put_text(entity, LINE_QUANTITY, quantity);
	put_text(entity, LINE_PRICE, price);
	put_text(entity, LINE_TOTAL, "999"); /* read only: nobody may set it */
	wire_close(entity, at);
}

static void a_tenant_has_its_stages_from_the_first_call_on_and_once(void **state)
{
	struct test_call *t = call_run(deal_new(TENANT_A, "one", NULL)), *u = call_run(deal_new(TENANT_A, "two", NULL));

	assert_status(t, STATUS_OK);
	assert_status(u, STATUS_OK);
	assert_is(text_of(t, DEAL_SLUG), "lead");
	assert_is(text_of(t, DEAL_STATUS), "open");
	assert_string_equal(pg_fixture_value(test_pg, "SELECT count(*) FROM sales.stage WHERE tenant_id = '" TENANT_A "'"), "6");
	call_free(t);
	call_free(u);
}

static void messages_in_a_row_come_back_with_their_digits(void **state)
{
	struct buf e = { 0 };
	struct test_call *t;
	struct str line;

	put_text(&e, DEAL_TITLE, "lines");
	line_put(&e, "a \"quoted\" name", "2.50", "0010.10");
	line_put(&e, "b", "1", "0.05");
	t = call_run(create_new("Deals.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_OK);
	assert_is(text_of(t, DEAL_VALUE), "25.30");
	line = text_of(t, DEAL_LINES);
	assert_is(field_bytes(line, LINE_NAME, 0), "a \"quoted\" name");
	assert_is(field_bytes(line, LINE_QUANTITY, 0), "2.50");
	assert_is(field_bytes(line, LINE_PRICE, 0), "10.10");
	assert_is(field_bytes(line, LINE_TOTAL, 0), "25.25");
	call_free(t);
}

static void the_schema_refuses_in_sentences(void **state)
{
	struct test_call *t = call_run(deal_new(TENANT_A, "x", "no_such_stage"));

	assert_status(t, STATUS_VALIDATION_ERROR);
	assert_int_equal(t->call.n_violations, 1);
	assert_string_equal(t->call.violations[0].path, "stage_slug");
	assert_string_equal(t->call.violations[0].rule, "exists");
	call_free(t);
}

static void an_op_sets_its_columns_and_keeps_what_it_refuses(void **state)
{
	struct test_call *made = call_run(deal_new(TENANT_A, "to win", "proposal")), *won = call_new("Deals.MarkWon", TENANT_A, USER_1), *moved;
	struct buf e = { 0 };

	put_key(&won->request, 1, text_of(made, 1), 0);
	wire_put_bytes(&won->request, 2, STR(""));
	call_run(won);
	assert_status(won, STATUS_OK);
	assert_is(text_of(won, DEAL_STATUS), "won");
	assert_is(text_of(won, DEAL_SLUG), "closed_won");
	moved = call_new("Deals.ChangeStage", TENANT_A, USER_1);
	put_text(&e, DEAL_SLUG, "lead");
	put_key(&moved->request, 1, text_of(made, 1), 0);
	wire_put_bytes(&moved->request, 2, buf_view(&e));
	wire_put_varint(&moved->request, 3, DEAL_SLUG);
	call_run(moved);
	assert_status(moved, STATUS_CONFLICT);
	assert_non_null(strstr(moved->call.status_text, "deals.reopen"));
	buf_fini(&e);
	call_free(made);
	call_free(won);
	call_free(moved);
}

static void a_report_is_one_statement_and_sees_one_tenant(void **state)
{
	struct test_call *mine = call_run(call_new("Deals.Pipeline", TENANT_A, USER_1)), *theirs = call_run(call_new("Deals.Pipeline", TENANT_B, USER_1)), *bad;

	assert_status(mine, STATUS_OK);
	assert_status(theirs, STATUS_OK);
	assert_true(field_int(buf_view(&mine->reply), 2) > 0);
	assert_int_equal(field_int(buf_view(&theirs->reply), 2), 0);
	bad = call_new("Deals.Leaderboard", TENANT_A, USER_1);
	wire_put_varint(&bad->request, 4, 1000);
	call_run(bad);
	assert_status(bad, STATUS_VALIDATION_ERROR);
	call_free(mine);
	call_free(theirs);
	call_free(bad);
}

static void others_learn_the_names_of_live_rows_only(void **state)
{
	struct test_call *made = call_run(deal_new(TENANT_A, "named", NULL)), *refs = call_new("Deals.Refs", TENANT_A, USER_1), *foreign = call_new("Deals.Refs", TENANT_B, USER_1);
	struct str id = text_of(made, 1);

	put_key(&refs->request, 1, id, 0);
	put_key(&refs->request, 1, STR("01900000-0000-7000-8000-00000000dead"), 0);
	put_key(&foreign->request, 1, id, 0);
	call_run(refs);
	call_run(foreign);
	assert_status(refs, STATUS_OK);
	assert_is(field_bytes(field_bytes(buf_view(&refs->reply), 1, 0), 3, 0), "named");
	assert_int_equal(field_bytes(buf_view(&refs->reply), 1, 1).n, 0);
	assert_int_equal(field_bytes(buf_view(&foreign->reply), 1, 0).n, 0);
	call_free(made);
	call_free(refs);
	call_free(foreign);
}

/* A deal always has a stage: lists join it to the page. The function that looks a reference up for each row is not called. */
static void lists_join_what_every_row_has(void **state)
{
	struct test_call *made = call_run(deal_new(TENANT_A, "joined", "proposal")), *list = call_new("Deals.List", TENANT_A, USER_1), *page = call_new("Deals.List", TENANT_A, USER_1), *foreign = call_new("Deals.List", TENANT_B, USER_1);
	struct str item, stage;

	assert_status(made, STATUS_OK);
	pg_fixture_sql(test_pg, "ALTER FUNCTION sales.stage_ref(uuid) RENAME TO stage_ref_kept; CREATE FUNCTION sales.stage_ref(ref uuid) RETURNS text LANGUAGE plpgsql STABLE STRICT AS "
		"'BEGIN RAISE data_exception; END'; GRANT EXECUTE ON FUNCTION sales.stage_ref(uuid) TO sales_app");
	put_text(&list->request, 3, "joined");
	wire_put_varint(&page->request, 5, 1); /* behind an offset */
	call_run(list);
	call_run(page);
	call_run(foreign);
	pg_fixture_sql(test_pg, "DROP FUNCTION sales.stage_ref(uuid); ALTER FUNCTION sales.stage_ref_kept(uuid) RENAME TO stage_ref");
	assert_status(list, STATUS_OK);
	assert_status(page, STATUS_OK);
	item = field_bytes(buf_view(&list->reply), 1, 0);
	stage = field_bytes(item, 22, 0);
	assert_is(field_bytes(stage, 3, 0), "Proposal");
	assert_true(field_int(stage, 2) > 0);
	assert_int_equal(field_count(buf_view(&foreign->reply), 1), 0);
	call_free(made);
	call_free(list);
	call_free(page);
	call_free(foreign);
}

static int start(void **state)
{
	test_start_service("sales", sales_ops, sales_n_ops, "svc-sales/schema");
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
		cmocka_unit_test(a_tenant_has_its_stages_from_the_first_call_on_and_once),
		cmocka_unit_test(messages_in_a_row_come_back_with_their_digits),
		cmocka_unit_test(the_schema_refuses_in_sentences),
		cmocka_unit_test(an_op_sets_its_columns_and_keeps_what_it_refuses),
		cmocka_unit_test(a_report_is_one_statement_and_sees_one_tenant),
		cmocka_unit_test(others_learn_the_names_of_live_rows_only),
		cmocka_unit_test(lists_join_what_every_row_has),
	};

	return cmocka_run_group_tests(tests, start, end);
}
