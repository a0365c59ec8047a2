/* Reads that wait together, against a real PostgreSQL: found, missing, another tenant's, malformed and late ones in one turn. */
#include "resource/test_calls.h"

#include "svc-customers/ops.h"

enum { LEAD_DISPLAY = 16, ACCOUNT_NAME = 16, ACCOUNT_TAGS = 26, LEADS = 24 };

static const struct resource test_tag = { .message = "crm.v1.Tag", .table = "tag", .filter = "name", .sort = "name", .default_sort = "name" };
static const struct resource test_territory = { .message = "crm.v1.Territory", .table = "territory", .default_sort = "-created_us", .defaults = "is_active=true" };
static const struct resource test_account = {
	.message = "crm.v1.Account", .table = "account", .default_sort = "-created_us", .one_of = "name contact_name", .defaults = "status=active",
};
static const struct resource test_lead = {
	.message = "crm.v1.Lead", .table = "lead", .default_sort = "-created_us", .person = true, .one_of = "display given family", .lower = "source status",
	.defaults = "status=new",
};
static const struct op ops[] = {
	OPS_RESOURCE("Accounts", &test_account), OPS_RESOURCE("Leads", &test_lead), OPS_RESOURCE("Territories", &test_territory),
	{ .rpc = "Tags.List", .kind = OP_LIST, .resource = &test_tag },
};

static struct str made[2][LEADS]; /* by tenant: the replies of create */
static struct str account;

static struct str keep(struct test_call *t)
{
	struct str reply;

	assert_status(call_run(t), STATUS_OK);
	reply = (struct str){ xstrndup(t->reply.p, t->reply.n), t->reply.n };
	call_free(t);
	return reply;
}

static struct test_call *ask(const char *rpc, const char *tenant, struct str id, int64_t seq)
{
	struct test_call *t = call_new(rpc, tenant, USER_1);

	put_key(&t->request, 1, id, seq);
	return t;
}

static struct str id_of(struct str reply)
{
	return field_bytes(reply, 1, 0);
}

/* All are handed out before the loop turns, as the calls of one message are. */
static void run_together(struct test_call **t, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		call_send(t[i]);
		assert_false(atomic_load(&t[i]->answered) && t[i]->status == STATUS_OK);
	}
	for (size_t i = 0; i < n; i++)
		call_wait(t[i]);
}

static void assert_reply(const struct test_call *t, struct str expected)
{
	assert_status(t, STATUS_OK);
	assert_true(str_eq(buf_view(&t->reply), expected));
}

static void each_of_a_mixed_batch_gets_its_own_answer(void **state)
{
	struct str none = { 0 }, unknown = STR("0190ffff-0000-7000-8000-00000000ffff"), bad = STR("not-a-uuid");
	struct test_call *t[LEADS * 2 + 7];
	uint64_t before = db_stats_get(test_db).statements;
	size_t n = 0;

	for (int i = 0; i < LEADS; i++) {
		t[n++] = ask("Leads.Get", TENANT_A, id_of(made[0][i]), 0);
		t[n++] = ask("Leads.Get", TENANT_B, id_of(made[1][i]), 0);
	}
	t[n++] = ask("Leads.Get", TENANT_A, unknown, 0);
	t[n++] = ask("Leads.Get", TENANT_A, id_of(made[1][0]), 0); /* another tenant's */
	t[n++] = ask("Leads.Get", TENANT_A, bad, 0);
	t[n++] = ask("Leads.Get", TENANT_A, none, 3);
	t[n++] = ask("Leads.Get", TENANT_A, id_of(account), 0); /* another entity's */
	t[n++] = ask("Accounts.Get", TENANT_A, id_of(account), 0);
	t[n++] = ask("Leads.Get", TENANT_A, id_of(made[0][0]), 0); /* a second time */
	run_together(t, n);
	for (int i = 0; i < LEADS; i++) {
		assert_reply(t[2 * i], made[0][i]);
		assert_reply(t[2 * i + 1], made[1][i]);
	}
	for (size_t i = 2 * LEADS; i < 2 * LEADS + 3; i++)
		assert_status(t[i], STATUS_NOT_FOUND);
	assert_reply(t[2 * LEADS + 3], made[0][2]);
	assert_status(t[2 * LEADS + 4], STATUS_NOT_FOUND);
	assert_reply(t[2 * LEADS + 5], account);
	assert_reply(t[2 * LEADS + 6], made[0][0]);
	assert_in_range(db_stats_get(test_db).statements - before, 4, LEADS); /* of 54 */
	for (size_t i = 0; i < n; i++)
		call_free(t[i]);
}

static void a_late_caller_is_late_alone(void **state)
{
	struct test_call *t[6];

	for (int i = 0; i < 6; i++) {
		t[i] = ask("Leads.Get", TENANT_A, id_of(made[0][i]), 0);
		t[i]->call.payload = buf_view(&t[i]->request);
		t[i]->call.deadline_us = clock_us() + (i == 0 || i == 3 ? -1000 : 20000000);
		resource_dispatch(t[i]->op, &t[i]->call);
	}
	for (int i = 0; i < 6; i++) {
		call_wait(t[i]);
		if (i == 0 || i == 3)
			assert_status(t[i], STATUS_DEADLINE_EXCEEDED);
		else
			assert_reply(t[i], made[0][i]);
		call_free(t[i]);
	}
}

static void a_deleted_one_is_missing_among_the_others(void **state)
{
	struct test_call *t[3], *gone = ask("Leads.Delete", TENANT_B, id_of(made[1][1]), 0);

	assert_status(call_run(gone), STATUS_OK);
	for (int i = 0; i < 3; i++)
		t[i] = ask("Leads.Get", TENANT_B, id_of(made[1][i]), 0);
	run_together(t, 3);
	assert_reply(t[0], made[1][0]);
	assert_status(t[1], STATUS_NOT_FOUND);
	assert_reply(t[2], made[1][2]);
	for (int i = 0; i < 3; i++)
		call_free(t[i]);
	call_free(gone);
}

/* What the looking up of tags refuses for one of them: the others are read all the same. */
static void a_row_that_cannot_be_read_fails_alone(void **state)
{
	struct test_call *t[LEADS + 1];

	pg_fixture_sql(test_pg, "ALTER FUNCTION customers.tag_refs(uuid[]) RENAME TO tag_refs_kept; CREATE FUNCTION customers.tag_refs(refs uuid[]) RETURNS text LANGUAGE plpgsql STABLE STRICT AS "
		"'BEGIN RAISE data_exception; END'; GRANT EXECUTE ON FUNCTION customers.tag_refs(uuid[]) TO customers_app");
	for (int i = 0; i < 2; i++)
		t[i] = ask("Accounts.Get", TENANT_A, id_of(account), 0);
	t[2] = ask("Accounts.Get", TENANT_A, (struct str){ 0 }, 2);
	t[3] = ask("Accounts.Get", TENANT_A, STR("0190ffff-0000-7000-8000-00000000ffff"), 0);
	for (int i = 4; i < 8; i++)
		t[i] = ask("Leads.Get", TENANT_A, id_of(made[0][i]), 0);
	run_together(t, 8);
	pg_fixture_sql(test_pg, "DROP FUNCTION customers.tag_refs(uuid[]); ALTER FUNCTION customers.tag_refs_kept(uuid[]) RENAME TO tag_refs");
	assert_reply(t[0], account);
	assert_reply(t[1], account);
	assert_status(t[2], STATUS_VALIDATION_ERROR); /* the only one with tags */
	assert_status(t[3], STATUS_NOT_FOUND);
	for (int i = 4; i < 8; i++)
		assert_reply(t[i], made[0][i]);
	for (int i = 0; i < 8; i++)
		call_free(t[i]);
}

static struct str make_account(const char *name, const char *tag)
{
	struct buf e = { 0 };
	size_t at;

	put_text(&e, ACCOUNT_NAME, name);
	if (tag) {
		at = wire_open(&e, ACCOUNT_TAGS);
		put_text(&e, 16, tag);
		wire_close(&e, at);
	}
	return keep(create_new("Accounts.Create", TENANT_A, USER_1, &e));
}

static int start(void **state)
{
	struct str tagged;

	test_start(ops, sizeof(ops) / sizeof(ops[0]), "svc-customers/schema");
	for (int i = 0; i < 2 * LEADS; i++) {
		struct buf e = { 0 };
		char name[40];

		snprintf(name, sizeof(name), "Lead %d", i);
		put_text(&e, LEAD_DISPLAY, name);
		made[i % 2][i / 2] = keep(create_new("Leads.Create", i % 2 ? TENANT_B : TENANT_A, USER_1, &e));
	}
	account = make_account("Untagged", NULL);
	tagged = make_account("Tagged", "vip");
	free((char *)tagged.p);
	return 0;
}

static int end(void **state)
{
	for (int i = 0; i < 2 * LEADS; i++)
		free((char *)made[i % 2][i / 2].p);
	free((char *)account.p);
	test_end();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_of_a_mixed_batch_gets_its_own_answer),
		cmocka_unit_test(a_late_caller_is_late_alone),
		cmocka_unit_test(a_deleted_one_is_missing_among_the_others),
		cmocka_unit_test(a_row_that_cannot_be_read_fails_alone),
	};

	return cmocka_run_group_tests(tests, start, end);
}
