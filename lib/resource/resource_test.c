/* The generic resource against a real PostgreSQL: create, get, update, delete, their rules and their events. */
#include "resource/test_calls.h"

#include "svc-customers/ops.h"

enum { LEAD_DISPLAY = 16, LEAD_GIVEN = 17, LEAD_FAMILY = 18, LEAD_EMAIL = 19, LEAD_COMPANY = 21, LEAD_SOURCE = 23, LEAD_STATUS = 24, LEAD_VALUE = 25,
	LEAD_NOTES = 26, LEAD_OWNER = 27, LEAD_TERRITORY = 28, ACCOUNT_NAME = 16, ACCOUNT_CONTACT = 17, ACCOUNT_ADDRESS = 21, ACCOUNT_TAGS = 26, ACCOUNT_STATUS = 24 };

static const struct resource test_tag = {
	.message = "crm.v1.Tag", .table = "tag", .filter = "name", .sort = "name", .default_sort = "name",
};
static const struct resource test_territory = {
	.message = "crm.v1.Territory", .table = "territory", .filter = "name", .sort = "name", .default_sort = "-created_us", .defaults = "is_active=true",
};
static const struct resource test_account = {
	.message = "crm.v1.Account", .table = "account", .filter = "status tags", .sort = "name created_us", .default_sort = "-created_us", .searchable = true,
	.one_of = "name contact_name", .defaults = "status=active",
};
static const struct resource test_lead = {
	.message = "crm.v1.Lead", .table = "lead", .filter = "status owner territory value created_us", .sort = "display value created_us", .default_sort = "-created_us",
	.person = true, .searchable = true, .one_of = "display given family", .lower = "source status", .defaults = "status=new",
};
static const struct op ops[] = {
	OPS_RESOURCE("Accounts", &test_account), OPS_RESOURCE("Leads", &test_lead), OPS_RESOURCE("Territories", &test_territory),
	{ .rpc = "Leads.Upsert", .kind = OP_UPSERT, .resource = &test_lead }, { .rpc = "Accounts.Upsert", .kind = OP_UPSERT, .resource = &test_account },
	{ .rpc = "Leads.BulkCreate", .kind = OP_BULK_CREATE, .resource = &test_lead },
	{ .rpc = "Tags.List", .kind = OP_LIST, .resource = &test_tag }, { .rpc = "Tags.Create", .kind = OP_CREATE, .resource = &test_tag },
};

static struct test_call *lead_create(const char *tenant, const char *display)
{
	struct buf e = { 0 };

	put_text(&e, LEAD_DISPLAY, display);
	return call_run(create_new("Leads.Create", tenant, USER_1, &e));
}

static struct test_call *get(const char *rpc, const char *tenant, struct str id, int64_t seq)
{
	struct test_call *t = call_new(rpc, tenant, USER_1);

	put_key(&t->request, 1, id, seq);
	return call_run(t);
}

static struct test_call *update(const char *rpc, struct str id, struct buf *e, const uint32_t *mask, size_t n, uint64_t version)
{
	struct test_call *t = call_new(rpc, TENANT_A, USER_2);
	struct buf packed = { 0 };

	put_key(&t->request, 1, id, 0);
	wire_put_bytes(&t->request, 2, buf_view(e));
	for (size_t i = 0; i < n; i++)
		wire_varint(&packed, mask[i]);
	wire_put_bytes(&t->request, 3, buf_view(&packed));
	if (version)
		wire_put_varint(&t->request, 4, version);
	buf_fini(&packed);
	buf_fini(e);
	*e = (struct buf){ 0 };
	return call_run(t);
}

static int64_t sql_int(const char *sql)
{
	return atoll(pg_fixture_value(test_pg, sql));
}

static void create_stores_and_get_reads_by_both_keys(void **state)
{
	struct test_call *t = lead_create(TENANT_A, "John Smith Jr."), *g, *s;
	struct str r = buf_view(&t->reply);

	assert_status(t, STATUS_OK);
	assert_text(r, LEAD_DISPLAY, "John Smith Jr.");
	assert_text(r, LEAD_GIVEN, "John");
	assert_text(r, LEAD_FAMILY, "Smith Jr.");
	assert_text(r, LEAD_STATUS, "new");
	assert_int_equal(field_int(r, 2), 1);
	assert_int_equal(field_int(r, 3), 1);
	assert_text(field_bytes(r, 6, 0), 1, USER_1);
	g = get("Leads.Get", TENANT_A, field_bytes(r, 1, 0), 0);
	s = get("Leads.Get", TENANT_A, (struct str){ 0 }, 1);
	assert_true(str_eq(buf_view(&g->reply), r));
	assert_true(str_eq(buf_view(&s->reply), r));
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE type = 'customers.lead.created' AND after->>'display' = 'John Smith Jr.' AND before IS NULL"), 1);
	call_free(t);
	call_free(g);
	call_free(s);
}

static void tenants_do_not_see_each_other(void **state)
{
	struct test_call *t = lead_create(TENANT_A, "Secret Person"), *g, *d, *l;
	struct str id = field_bytes(buf_view(&t->reply), 1, 0);

	g = get("Leads.Get", TENANT_B, id, 0);
	d = get("Leads.Delete", TENANT_B, id, 0);
	l = call_run(call_new("Leads.List", TENANT_B, USER_1));
	assert_status(g, STATUS_NOT_FOUND);
	assert_status(d, STATUS_NOT_FOUND);
	assert_status(l, STATUS_OK);
	assert_int_equal(field_count(buf_view(&l->reply), 1), 0);
	call_free(t);
	call_free(g);
	call_free(d);
	call_free(l);
}

static void first_numbers_of_a_tenant_are_one_two_three(void **state)
{
	const char *tenant = "0190d000-0000-7000-8000-00000000000d";

	for (int i = 1; i <= 5; i++) {
		struct test_call *t = lead_create(tenant, "Somebody");

		assert_int_equal(field_int(buf_view(&t->reply), 2), i);
		call_free(t);
	}
}

static void create_reports_all_violations_at_once(void **state)
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, LEAD_EMAIL, "nonsense");
	put_text(&e, LEAD_VALUE, "-1");
	t = call_run(create_new("Leads.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_VALIDATION_ERROR);
	assert_violation(t, "email", "email");
	assert_violation(t, "value", "gte");
	assert_violation(t, "display", "required");
	call_free(t);
}

static void bytes_postgres_refuses_are_violations(void **state)
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, LEAD_DISPLAY, "ok");
	wire_put_bytes(&e, LEAD_NOTES, (struct str){ "a\0b", 3 });
	wire_put_bytes(&e, LEAD_COMPANY, (struct str){ "\xff\xfe", 2 });
	t = call_run(create_new("Leads.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_VALIDATION_ERROR);
	call_free(t);
	put_text(&e, LEAD_DISPLAY, "ok");
	put_text(&e, 8, "{\"a\":\"\\u0000\"}");
	t = call_run(create_new("Leads.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_VALIDATION_ERROR);
	call_free(t);
	t = call_new("Leads.Create", TENANT_A, USER_1);
	wire_put_bytes(&t->request, 2, (struct str){ "\x82\x01\xff", 3 });
	call_run(t);
	assert_status(t, STATUS_BAD_REQUEST);
	call_free(t);
}

static void person_names_stay_consistent(void **state)
{
	static const uint32_t given_mask[] = { LEAD_GIVEN }, display_mask[] = { LEAD_DISPLAY };
	struct buf e = { 0 };
	struct test_call *t, *u;
	struct str id;

	put_text(&e, LEAD_GIVEN, "Jane");
	put_text(&e, LEAD_FAMILY, "Doe");
	t = call_run(create_new("Leads.Create", TENANT_A, USER_1, &e));
	assert_text(buf_view(&t->reply), LEAD_DISPLAY, "Jane Doe");
	id = field_bytes(buf_view(&t->reply), 1, 0);
	put_text(&e, LEAD_GIVEN, "Joan");
	u = update("Leads.Update", id, &e, given_mask, 1, 0);
	assert_status(u, STATUS_OK);
	assert_text(buf_view(&u->reply), LEAD_DISPLAY, "Joan Doe");
	call_free(u);
	put_text(&e, LEAD_DISPLAY, "Cher");
	u = update("Leads.Update", id, &e, display_mask, 1, 0);
	assert_text(buf_view(&u->reply), LEAD_GIVEN, "Cher");
	assert_int_equal(field_count(buf_view(&u->reply), LEAD_FAMILY), 0);
	call_free(u);
	u = update("Leads.Update", id, &e, display_mask, 1, 0);
	assert_status(u, STATUS_VALIDATION_ERROR);
	call_free(u);
	u = update("Leads.Update", id, &e, given_mask, 1, 0);
	assert_status(u, STATUS_VALIDATION_ERROR);
	assert_violation(u, "display", "required");
	call_free(u);
	call_free(t);
}

static void open_words_are_stored_in_lower_case(void **state)
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, LEAD_DISPLAY, "X");
	put_text(&e, LEAD_SOURCE, "Trade Show");
	put_text(&e, LEAD_STATUS, "Qualified");
	t = call_run(create_new("Leads.Create", TENANT_A, USER_1, &e));
	assert_text(buf_view(&t->reply), LEAD_SOURCE, "trade_show");
	assert_text(buf_view(&t->reply), LEAD_STATUS, "qualified");
	call_free(t);
}

static void update_clears_what_the_mask_names_and_the_entity_lacks(void **state)
{
	static const uint32_t mask[] = { LEAD_NOTES, LEAD_STATUS };
	struct buf e = { 0 };
	struct test_call *t, *u;
	struct str id;

	put_text(&e, LEAD_DISPLAY, "Z");
	put_text(&e, LEAD_NOTES, "n");
	put_text(&e, LEAD_EMAIL, "z@example.com");
	put_text(&e, LEAD_STATUS, "lost");
	t = call_run(create_new("Leads.Create", TENANT_A, USER_1, &e));
	id = field_bytes(buf_view(&t->reply), 1, 0);
	u = update("Leads.Update", id, &e, mask, 2, 0);
	assert_status(u, STATUS_OK);
	assert_int_equal(field_count(buf_view(&u->reply), LEAD_NOTES), 0);
	assert_text(buf_view(&u->reply), LEAD_EMAIL, "z@example.com");
	assert_text(buf_view(&u->reply), LEAD_STATUS, "new");
	assert_int_equal(field_int(buf_view(&u->reply), 3), 2);
	assert_text(field_bytes(buf_view(&u->reply), 7, 0), 1, USER_2);
	call_free(u);
	call_free(t);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE type = 'customers.lead.updated' AND before->>'notes' = 'n' AND after->>'notes' IS NULL"), 1);
}

static void stale_version_is_refused(void **state)
{
	static const uint32_t mask[] = { LEAD_NOTES };
	struct test_call *t = lead_create(TENANT_A, "V"), *u;
	struct str id = field_bytes(buf_view(&t->reply), 1, 0);
	struct buf e = { 0 };

	put_text(&e, LEAD_NOTES, "one");
	u = update("Leads.Update", id, &e, mask, 1, 1);
	assert_status(u, STATUS_OK);
	call_free(u);
	put_text(&e, LEAD_NOTES, "two");
	u = update("Leads.Update", id, &e, mask, 1, 1);
	assert_status(u, STATUS_PRECONDITION_FAILED);
	call_free(u);
	put_text(&e, LEAD_NOTES, "two");
	u = update("Leads.Update", STR("0190ffff-0000-7000-8000-000000000000"), &e, mask, 1, 1);
	assert_status(u, STATUS_NOT_FOUND);
	call_free(u);
	call_free(t);
}

static void delete_hides_and_a_second_delete_finds_nothing(void **state)
{
	struct test_call *t = lead_create(TENANT_A, "Gone"), *d;
	struct str id = field_bytes(buf_view(&t->reply), 1, 0);

	d = get("Leads.Delete", TENANT_A, id, 0);
	assert_status(d, STATUS_OK);
	call_free(d);
	d = get("Leads.Delete", TENANT_A, id, 0);
	assert_status(d, STATUS_NOT_FOUND);
	call_free(d);
	d = get("Leads.Get", TENANT_A, id, 0);
	assert_status(d, STATUS_NOT_FOUND);
	call_free(d);
	call_free(t);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE type = 'customers.lead.deleted' AND before->>'display' = 'Gone' AND after IS NULL"), 1);
}

static void references_resolve_by_either_key_or_are_violations(void **state)
{
	struct buf e = { 0 };
	struct test_call *terr, *t;
	struct str ref;

	put_text(&e, 16, "North");
	terr = call_run(create_new("Territories.Create", TENANT_A, USER_1, &e));
	assert_status(terr, STATUS_OK);
	put_text(&e, LEAD_DISPLAY, "R");
	put_key(&e, LEAD_TERRITORY, (struct str){ 0 }, field_int(buf_view(&terr->reply), 2));
	t = call_run(create_new("Leads.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_OK);
	ref = field_bytes(buf_view(&t->reply), LEAD_TERRITORY, 0);
	assert_text(ref, 3, "North");
	assert_true(str_eq(field_bytes(ref, 1, 0), field_bytes(buf_view(&terr->reply), 1, 0)));
	call_free(t);
	put_text(&e, LEAD_DISPLAY, "Nobody came");
	put_key(&e, LEAD_TERRITORY, (struct str){ 0 }, 999);
	t = call_run(create_new("Leads.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_VALIDATION_ERROR);
	assert_violation(t, "territory", "exists");
	call_free(t);
	put_text(&e, LEAD_DISPLAY, "Nobody came");
	put_key(&e, LEAD_TERRITORY, field_bytes(buf_view(&terr->reply), 1, 0), 0);
	t = call_run(create_new("Leads.Create", TENANT_B, USER_1, &e));
	assert_status(t, STATUS_VALIDATION_ERROR);
	call_free(t);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.lead WHERE display = 'Nobody came'"), 0);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE after->>'display' = 'Nobody came'"), 0);
	call_free(terr);
}

static void put_tag(struct buf *e, int64_t seq, const char *name)
{
	size_t at = wire_open(e, ACCOUNT_TAGS);

	if (seq)
		wire_put_varint(e, 2, (uint64_t)seq);
	if (name)
		put_text(e, 16, name);
	wire_close(e, at);
}

static void tags_are_made_by_name_once_and_found_by_any_key(void **state)
{
	static const uint32_t mask[] = { ACCOUNT_TAGS };
	struct buf e = { 0 };
	struct test_call *t, *u;
	int64_t vip;

	put_text(&e, ACCOUNT_NAME, "Tagged Ltd");
	put_tag(&e, 0, "VIP: \"big\"");
	put_tag(&e, 0, "Berlin");
	put_tag(&e, 0, "berlin");
	t = call_run(create_new("Accounts.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_OK);
	assert_int_equal(field_count(buf_view(&t->reply), ACCOUNT_TAGS), 2);
	assert_text(field_bytes(buf_view(&t->reply), ACCOUNT_TAGS, 0), 16, "VIP: \"big\"");
	vip = field_int(field_bytes(buf_view(&t->reply), ACCOUNT_TAGS, 0), 2);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE type = 'customers.tag.created'"), 2);
	put_tag(&e, 0, "vip: \"BIG\"");
	u = update("Accounts.Update", field_bytes(buf_view(&t->reply), 1, 0), &e, mask, 1, 0);
	assert_int_equal(field_int(field_bytes(buf_view(&u->reply), ACCOUNT_TAGS, 0), 2), vip);
	call_free(u);
	put_tag(&e, vip, NULL);
	u = update("Accounts.Update", field_bytes(buf_view(&t->reply), 1, 0), &e, mask, 1, 0);
	assert_status(u, STATUS_OK);
	assert_int_equal(field_count(buf_view(&u->reply), ACCOUNT_TAGS), 1);
	call_free(u);
	put_text(&e, ACCOUNT_NAME, "Tagged by number");
	put_tag(&e, vip, NULL);
	u = call_run(create_new("Accounts.Create", TENANT_A, USER_1, &e));
	assert_status(u, STATUS_OK);
	assert_int_equal(field_count(buf_view(&u->reply), ACCOUNT_TAGS), 1);
	call_free(u);
	put_tag(&e, 777, NULL);
	put_tag(&e, 0, "must not be made");
	u = update("Accounts.Update", field_bytes(buf_view(&t->reply), 1, 0), &e, mask, 1, 0);
	assert_status(u, STATUS_VALIDATION_ERROR);
	assert_violation(u, "tags", "exists");
	call_free(u);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.tag WHERE name = 'must not be made'"), 0);
	u = update("Accounts.Update", field_bytes(buf_view(&t->reply), 1, 0), &e, mask, 1, 0);
	assert_int_equal(field_count(buf_view(&u->reply), ACCOUNT_TAGS), 0);
	call_free(u);
	call_free(t);
}

static void a_taken_name_is_a_duplicate_of_that_field(void **state)
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, 16, "Unique");
	call_free(call_run(create_new("Tags.Create", TENANT_A, USER_1, &e)));
	put_text(&e, 16, "UNIQUE");
	t = call_run(create_new("Tags.Create", TENANT_A, USER_1, &e));
	assert_status(t, STATUS_DUPLICATE);
	assert_violation(t, "name", "unique");
	call_free(t);
}

static void address_members_are_written_one_by_one_and_cleared_together(void **state)
{
	static const uint32_t mask[] = { ACCOUNT_ADDRESS };
	struct buf e = { 0 };
	struct test_call *t, *u;
	struct str id;
	size_t at;

	put_text(&e, ACCOUNT_NAME, "Here GmbH");
	at = wire_open(&e, ACCOUNT_ADDRESS);
	put_text(&e, 1, "Street 1");
	put_text(&e, 2, "Berlin");
	wire_close(&e, at);
	t = call_run(create_new("Accounts.Create", TENANT_A, USER_1, &e));
	id = field_bytes(buf_view(&t->reply), 1, 0);
	at = wire_open(&e, ACCOUNT_ADDRESS);
	put_text(&e, 2, "Bonn");
	wire_close(&e, at);
	u = update("Accounts.Update", id, &e, mask, 1, 0);
	assert_text(field_bytes(buf_view(&u->reply), ACCOUNT_ADDRESS, 0), 1, "Street 1");
	assert_text(field_bytes(buf_view(&u->reply), ACCOUNT_ADDRESS, 0), 2, "Bonn");
	call_free(u);
	u = update("Accounts.Update", id, &e, mask, 1, 0);
	assert_int_equal(field_count(buf_view(&u->reply), ACCOUNT_ADDRESS), 0);
	call_free(u);
	call_free(t);
}

static struct test_call *keyed(const char *key, const char *display, const uint8_t hash[32])
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, LEAD_DISPLAY, display);
	t = create_new("Leads.Create", TENANT_A, USER_1, &e);
	t->call.idempotency_key = str_of(key);
	t->call.idempotency_hash = (struct str){ (const char *)hash, 32 };
	return t;
}

static void the_same_key_32_times_in_parallel_creates_once(void **state)
{
	static const uint8_t hash[32] = { 1 }, other[32] = { 2 };
	struct test_call *t[32];
	int replayed = 0;

	for (int i = 0; i < 32; i++) {
		t[i] = keyed("key-1", "Only Once", hash);
		call_send(t[i]);
	}
	for (int i = 0; i < 32; i++)
		call_wait(t[i]);
	for (int i = 0; i < 32; i++) {
		assert_status(t[i], STATUS_OK);
		assert_true(str_eq(buf_view(&t[i]->reply), buf_view(&t[0]->reply)));
		replayed += t[i]->replayed;
	}
	assert_int_equal(replayed, 31);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.lead WHERE display = 'Only Once'"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE after->>'display' = 'Only Once'"), 1);
	for (int i = 0; i < 32; i++)
		call_free(t[i]);
	t[0] = call_run(keyed("key-1", "Another", other));
	assert_status(t[0], STATUS_IDEMPOTENCY_MISMATCH);
	call_free(t[0]);
}

static void a_failed_write_does_not_use_up_its_key(void **state)
{
	static const uint8_t hash[32] = { 3 };
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, LEAD_DISPLAY, "Retry");
	put_key(&e, LEAD_TERRITORY, (struct str){ 0 }, 4242);
	t = create_new("Leads.Create", TENANT_A, USER_1, &e);
	t->call.idempotency_key = STR("key-2");
	t->call.idempotency_hash = (struct str){ (const char *)hash, 32 };
	call_run(t);
	assert_status(t, STATUS_VALIDATION_ERROR);
	call_free(t);
	t = call_run(keyed("key-2", "Retry", hash));
	assert_status(t, STATUS_OK);
	assert_false(t->replayed);
	call_free(t);
}

static void bulk_writes_the_good_items_and_explains_the_others(void **state)
{
	struct test_call *t = call_new("Leads.BulkCreate", TENANT_A, USER_1);
	struct buf e = { 0 };
	struct str r, bad;

	for (int i = 0; i < 4; i++) {
		buf_clear(&e);
		if (i != 1)
			put_text(&e, LEAD_DISPLAY, "Bulk Person");
		if (i == 2)
			put_key(&e, LEAD_TERRITORY, (struct str){ 0 }, 31337);
		put_text(&e, LEAD_VALUE, "12.50");
		wire_put_bytes(&t->request, 1, buf_view(&e));
	}
	buf_fini(&e);
	call_run(t);
	assert_status(t, STATUS_OK);
	r = buf_view(&t->reply);
	assert_int_equal(field_int(r, 1), 2);
	assert_int_equal(field_int(r, 2), 2);
	bad = field_bytes(field_bytes(r, 3, 1), 2, 0);
	assert_int_equal(field_int(bad, 1), STATUS_VALIDATION_ERROR);
	assert_text(field_bytes(bad, 3, 0), 1, "display");
	assert_text(field_bytes(field_bytes(field_bytes(r, 3, 2), 2, 0), 3, 0), 1, "territory");
	assert_text(field_bytes(field_bytes(r, 3, 3), 3, 0), LEAD_VALUE, "12.50");
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE after->>'display' = 'Bulk Person'"), 2);
	call_free(t);
}

static int start(void **state)
{
	test_start(ops, sizeof(ops) / sizeof(ops[0]), "svc-customers/schema");
	return 0;
}

static int end(void **state)
{
	test_end();
	return 0;
}

/* -- upserts */

enum { EXTERNAL_ID = 9 };

static struct test_call *upsert_new(const char *external, const char *display, const char *notes, uint64_t version)
{
	struct test_call *t = call_new("Leads.Upsert", TENANT_A, USER_1);
	struct buf e = { 0 };

	if (external)
		put_text(&e, EXTERNAL_ID, external);
	if (display)
		put_text(&e, LEAD_DISPLAY, display);
	if (notes)
		put_text(&e, LEAD_NOTES, notes);
	wire_put_bytes(&t->request, 2, buf_view(&e));
	if (version)
		wire_put_varint(&t->request, 4, version);
	buf_fini(&e);
	return t;
}

static void an_upsert_creates_then_changes(void **state)
{
	struct test_call *t = call_run(upsert_new("crm-1", "Grace Hopper", "n", 0)), *u = call_run(upsert_new("crm-1", "Grace Murray", NULL, 0));

	assert_status(t, STATUS_OK);
	assert_status(u, STATUS_OK);
	assert_true(str_eq(field_bytes(buf_view(&t->reply), 1, 0), field_bytes(buf_view(&u->reply), 1, 0)));
	assert_int_equal(field_int(buf_view(&t->reply), 3), 1);
	assert_int_equal(field_int(buf_view(&u->reply), 3), 2);
	assert_text(buf_view(&u->reply), LEAD_FAMILY, "Murray");
	assert_text(buf_view(&u->reply), LEAD_NOTES, "n");
	assert_text(buf_view(&u->reply), LEAD_STATUS, "new");
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE after->>'external_id' = 'crm-1' AND type = 'customers.lead.created'"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE after->>'external_id' = 'crm-1' AND type = 'customers.lead.updated'"), 1);
	call_free(t);
	call_free(u);
}

static void an_upsert_says_what_is_wrong(void **state)
{
	struct test_call *t = call_run(upsert_new(NULL, "Nobody", NULL, 0)), *u = call_run(upsert_new("crm-2", NULL, "n", 0)), *v = call_run(upsert_new("crm-2", "x", NULL, 7));

	assert_status(t, STATUS_VALIDATION_ERROR);
	assert_violation(t, "external_id", "required");
	assert_status(u, STATUS_VALIDATION_ERROR);
	assert_violation(u, "display", "required");
	assert_status(v, STATUS_PRECONDITION_FAILED);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.lead WHERE external_id = 'crm-2'"), 0);
	call_free(t);
	call_free(u);
	call_free(v);
}

static void many_upserts_at_once_make_one_row(void **state)
{
	enum { N = 32 };
	struct test_call *t[N];
	int made = 0;

	for (int i = 0; i < N; i++)
		call_send(t[i] = upsert_new("crm-3", "At Once", NULL, 0));
	for (int i = 0; i < N; i++) {
		call_wait(t[i]);
		assert_status(t[i], STATUS_OK);
		made += field_int(buf_view(&t[i]->reply), 3) == 1;
		call_free(t[i]);
	}
	assert_int_equal(made, 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.lead WHERE external_id = 'crm-3'"), 1);
	assert_int_equal(sql_int("SELECT count(*) FROM customers.outbox WHERE after->>'external_id' = 'crm-3'"), N);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(create_stores_and_get_reads_by_both_keys),
		cmocka_unit_test(tenants_do_not_see_each_other),
		cmocka_unit_test(first_numbers_of_a_tenant_are_one_two_three),
		cmocka_unit_test(create_reports_all_violations_at_once),
		cmocka_unit_test(bytes_postgres_refuses_are_violations),
		cmocka_unit_test(person_names_stay_consistent),
		cmocka_unit_test(open_words_are_stored_in_lower_case),
		cmocka_unit_test(update_clears_what_the_mask_names_and_the_entity_lacks),
		cmocka_unit_test(stale_version_is_refused),
		cmocka_unit_test(delete_hides_and_a_second_delete_finds_nothing),
		cmocka_unit_test(references_resolve_by_either_key_or_are_violations),
		cmocka_unit_test(tags_are_made_by_name_once_and_found_by_any_key),
		cmocka_unit_test(a_taken_name_is_a_duplicate_of_that_field),
		cmocka_unit_test(address_members_are_written_one_by_one_and_cleared_together),
		cmocka_unit_test(the_same_key_32_times_in_parallel_creates_once),
		cmocka_unit_test(a_failed_write_does_not_use_up_its_key),
		cmocka_unit_test(bulk_writes_the_good_items_and_explains_the_others),
		cmocka_unit_test(an_upsert_creates_then_changes),
		cmocka_unit_test(an_upsert_says_what_is_wrong),
		cmocka_unit_test(many_upserts_at_once_make_one_row),
	};

	return cmocka_run_group_tests(tests, start, end);
}
