/* The feed against a real PostgreSQL: numbers, cursors, what is gone, who sees what, who moved. */
#include "resource/test_calls.h"

#include "events/event.h"
#include "events/pgconn.h"
#include "svc-audit/audit.h"
#include "svc-audit/feed.h"

static PGconn *app;
static struct feed_rules *rules;

/* n events of one transaction, as the consumer's. */
static void append(const char *tenant, const char *type, const char *entity, size_t n)
{
	const char *params[] = { tenant };
	char ids[300][UUID_TEXT + 1];
	struct event *events = xcalloc(n, sizeof(*events));
	const struct event *list[300];

	for (size_t i = 0; i < n; i++) {
		uuid7(ids[i]);
		events[i] = (struct event){ .id = str_of(ids[i]), .tenant_id = str_of(tenant), .type = str_of(type), .entity = str_of(entity), .source = STR("/svc-test"),
			.time_us = clock_us(), .version = i + 1, .client_ip = STR("203.0.113.9"), .before = STR("{\"a\":1}") };
		events[i].changed[events[i].n_changed++] = STR("na\"me");
		list[i] = &events[i];
	}
	assert_int_equal(pgconn_begin(app), STATUS_OK);
	assert_int_equal(pgconn_exec(app, NULL, "SELECT set_config('app.tenant_id', $1, true)", 1, params), STATUS_OK);
	assert_int_equal(feed_append(NULL, app, list, n), STATUS_OK);
	assert_int_equal(pgconn_commit(app), STATUS_OK);
	free(events);
}

static struct test_call *loop_run(struct test_call *t)
{
	t->call.payload = buf_view(&t->request);
	t->call.deadline_us = clock_us() + 20000000;
	t->op->on_loop(&t->call);
	call_wait(t);
	return t;
}

struct want {
	const char *tenant, *after, *types;
	unsigned limit;
	uint64_t lacks; /* permissions, of the first 64 */
};

static struct test_call *read_feed(struct want w)
{
	struct test_call *t = call_new("Feed.Read", w.tenant ? w.tenant : TENANT_A, USER_1);

	t->call.who.permissions[0] &= ~w.lacks;
	if (w.after)
		put_text(&t->request, 1, w.after);
	if (w.types)
		put_text(&t->request, 2, w.types);
	if (w.limit)
		wire_put_varint(&t->request, 3, w.limit);
	return loop_run(t);
}

/* How many events, and where they end; the cursor into out. */
static void expect_page(struct want w, int n, int behind, char *out)
{
	struct test_call *t = read_feed(w);
	struct str reply = buf_view(&t->reply), cursor = field_bytes(reply, 3, 0);

	assert_status(t, STATUS_OK);
	assert_int_equal(field_count(reply, 1), n);
	assert_int_equal(field_int(reply, 2), behind);
	assert_int_equal(cursor.n, 18);
	if (n) /* its last event's, when the page was full */
		assert_int_equal(field_bytes(field_bytes(reply, 1, n - 1), 12, 0).n, 18);
	if (out)
		snprintf(out, FEED_CURSOR_MAX, "%.*s", STR_FMT(cursor));
	call_free(t);
}

static void expect_status(struct want w, enum status s)
{
	struct test_call *t = read_feed(w);

	assert_status(t, s);
	call_free(t);
}

static int fresh(void **state)
{
	pg_fixture_sql(test_pg, "DELETE FROM audit.feed; DELETE FROM audit.feed_head");
	return 0;
}

static void test_pages_follow_each_other(void **state)
{
	char cursor[FEED_CURSOR_MAX], end[FEED_CURSOR_MAX];

	expect_page((struct want){ 0 }, 0, 0, cursor); /* an empty feed has a cursor too */
	append(TENANT_A, "customers.lead.created", "lead", 5);
	append(TENANT_B, "customers.lead.created", "lead", 2);
	append(TENANT_A, "customers.lead.updated", "lead", 3);
	expect_page((struct want){ .after = cursor, .limit = 6 }, 6, 2, cursor);
	expect_page((struct want){ .after = cursor, .limit = 6 }, 2, 0, end);
	expect_page((struct want){ .after = end }, 0, 0, cursor);
	assert_string_equal(cursor, end);
	expect_page((struct want){ .after = "now" }, 0, 0, cursor);
	assert_string_equal(cursor, end);
	expect_page((struct want){ .tenant = TENANT_B }, 2, 0, NULL);
	assert_string_equal(pg_fixture_value(test_pg, "SELECT string_agg(position::text, ',' ORDER BY position) FROM audit.feed WHERE tenant_id = '" TENANT_A "'"),
	    "1,2,3,4,5,6,7,8");
}

static void test_what_a_feed_holds_is_not_all_of_an_event(void **state)
{
	struct test_call *t;
	struct str event;

	append(TENANT_A, "customers.lead.created", "lead", 1);
	t = read_feed((struct want){ 0 });
	event = field_bytes(buf_view(&t->reply), 1, 0);
	assert_text(event, 2, "customers.lead.created");
	assert_text(field_bytes(event, 11, 0), 1, "lead");
	assert_text(field_bytes(event, 11, 0), 2, "na\"me");
	assert_null(memmem(event.p, event.n, "203.0.113.9", 11));
	assert_null(memmem(event.p, event.n, "{\"a\":1}", 7));
	call_free(t);
}

static void test_types_choose_and_the_cursor_passes_over_the_rest(void **state)
{
	char cursor[FEED_CURSOR_MAX];

	append(TENANT_A, "customers.lead.created", "lead", 3);
	append(TENANT_A, "customers.account.created", "account", 2);
	append(TENANT_A, "customersXleadX", "lead", 1);
	expect_page((struct want){ .types = "customers.account.*" }, 2, 0, cursor);
	expect_page((struct want){ .after = cursor }, 0, 0, NULL);
	expect_page((struct want){ .types = "customers.lead.created" }, 3, 0, NULL);
	expect_page((struct want){ .types = "customers_lead_*" }, 0, 0, NULL); /* '_' is no wildcard */
	expect_status((struct want){ .types = "%" }, STATUS_VALIDATION_ERROR);
	expect_status((struct want){ .types = "*.created" }, STATUS_VALIDATION_ERROR);
	expect_status((struct want){ .limit = 501 }, STATUS_VALIDATION_ERROR);
}

/* What fits little must not cost a walk through everything: 5,000 positions a call, and the cursor is where it stopped. */
static void test_a_call_looks_at_so_many_positions(void **state)
{
	char cursor[FEED_CURSOR_MAX];

	for (int i = 0; i < 17; i++)
		append(TENANT_A, "customers.lead.created", "lead", 300);
	append(TENANT_A, "customers.account.created", "account", 1);
	expect_page((struct want){ .types = "customers.account.*" }, 0, 101, cursor);
	expect_page((struct want){ .after = cursor, .types = "customers.account.*" }, 1, 0, NULL);
}

static void test_a_cursor_that_missed_something_is_gone(void **state)
{
	char cursor[FEED_CURSOR_MAX], end[FEED_CURSOR_MAX];

	append(TENANT_A, "customers.lead.created", "lead", 6);
	expect_page((struct want){ .limit = 2 }, 2, 4, cursor);
	expect_page((struct want){ .after = "now" }, 0, 0, end);
	pg_fixture_sql(test_pg, "UPDATE audit.feed SET at = now() - interval '8 days' WHERE position <= 2");
	assert_string_equal(pg_fixture_value(test_pg, "SELECT audit.feed_expire()"), "2");
	expect_page((struct want){ .after = cursor }, 4, 0, NULL); /* its own event is gone, but none behind it */
	expect_page((struct want){ 0 }, 4, 0, NULL);
	pg_fixture_sql(test_pg, "UPDATE audit.feed SET at = now() - interval '8 days' WHERE position = 3");
	assert_string_equal(pg_fixture_value(test_pg, "SELECT audit.feed_expire()"), "1");
	expect_status((struct want){ .after = cursor }, STATUS_GONE);
	/* who is at the end misses nothing even when all is gone */
	pg_fixture_sql(test_pg, "DELETE FROM audit.feed");
	expect_page((struct want){ .after = end }, 0, 0, NULL);
	expect_page((struct want){ 0 }, 0, 0, NULL);
}

/* After a restore the same numbers mean other events: the mark tells. */
static void test_a_cursor_of_another_history_is_gone(void **state)
{
	char cursor[FEED_CURSOR_MAX], end[FEED_CURSOR_MAX];

	append(TENANT_A, "customers.lead.created", "lead", 4);
	expect_page((struct want){ .limit = 2 }, 2, 2, cursor);
	expect_page((struct want){ .after = "now" }, 0, 0, end);
	fresh(NULL);
	append(TENANT_A, "customers.lead.created", "lead", 3);
	expect_status((struct want){ .after = cursor }, STATUS_GONE);
	expect_status((struct want){ .after = end }, STATUS_GONE); /* behind the end */
	expect_status((struct want){ .after = "AAAA" }, STATUS_VALIDATION_ERROR);
	expect_status((struct want){ .after = "AgAAAAAAAAACRvRJlw" }, STATUS_VALIDATION_ERROR); /* of another version */
}

static void test_cursors_are_read_as_they_are_printed(void **state)
{
	static const int64_t positions[] = { 0, 1, 255, 1LL << 40, INT64_MAX };
	const uint8_t id[16] = { [12] = 1, 2, 3, 4 };
	char text[FEED_CURSOR_MAX];
	uint8_t mark[4];
	int64_t position;

	for (size_t i = 0; i < sizeof(positions) / sizeof(*positions); i++) {
		feed_cursor_print(positions[i], i ? id : NULL, text);
		assert_true(feed_cursor_read(str_of(text), &position, mark));
		assert_int_equal(position, positions[i]);
		assert_memory_equal(mark, i ? id + 12 : (const uint8_t[4]){ 0 }, 4);
	}
	assert_false(feed_cursor_read(STR(""), &position, mark));
	assert_false(feed_cursor_read(STR("AQAAAAAAAAAAwEd9H="), &position, mark));
	assert_false(feed_cursor_read(STR("Af__________wEd9HA"), &position, mark)); /* below 0 */
}

static void test_who_may_read_an_entity_sees_its_events(void **state)
{
	const uint64_t leads_read = 1ull << 15, customers_read = 1ull << 8, audit_read = 1ull << 31;

	append(TENANT_A, "customers.lead.created", "lead", 1);
	append(TENANT_A, "customers.account.created", "account", 2);
	append(TENANT_A, "auth.session.revoked", "no_such_entity", 4);
	append(TENANT_A, "audit.log.exported", "", 8);
	expect_page((struct want){ 0 }, 15, 0, NULL);
	expect_page((struct want){ .lacks = leads_read }, 14, 0, NULL);
	expect_page((struct want){ .lacks = audit_read }, 3, 0, NULL);
	expect_page((struct want){ .lacks = audit_read | customers_read }, 1, 0, NULL);
	expect_page((struct want){ .lacks = ~0ull }, 0, 0, NULL);
}

static int64_t moved(int64_t cursor, int n)
{
	struct test_call *t = call_new("Feed.Moved", TENANT_A, USER_1);
	int64_t next;

	wire_put_varint(&t->request, 1, (uint64_t)cursor);
	loop_run(t);
	assert_status(t, STATUS_OK);
	assert_int_equal(field_count(buf_view(&t->reply), 2), n);
	next = field_int(buf_view(&t->reply), 1);
	assert_true(next > 0);
	call_free(t);
	return next;
}

static void test_gateways_hear_who_moved(void **state)
{
	struct test_call *t;
	int64_t cursor = moved(0, 0);

	append(TENANT_A, "customers.lead.created", "lead", 2);
	append(TENANT_B, "customers.lead.created", "lead", 1);
	append(TENANT_A, "customers.lead.created", "lead", 3);
	t = call_new("Feed.Moved", "", "");
	wire_put_varint(&t->request, 1, (uint64_t)cursor);
	loop_run(t);
	assert_int_equal(field_count(buf_view(&t->reply), 2), 2);
	assert_text(field_bytes(buf_view(&t->reply), 2, 1), 1, TENANT_A); /* the last to move is the last that is told */
	assert_int_equal(field_int(field_bytes(buf_view(&t->reply), 2, 1), 2), 5);
	cursor = field_int(buf_view(&t->reply), 1);
	call_free(t);
	moved(moved(cursor, 0), 0);
}

static int start(void **state)
{
	test_start_service("audit", audit_ops, audit_n_ops, "svc-audit/schema");
	app = pgconn_open(pg_fixture_url(test_pg, "audit_app"), "feed-test", 30000);
	assert_non_null(app);
	rules = feed_rules_load("build/gen/descriptors");
	feed_open(rules);
	return 0;
}

static int end(void **state)
{
	PQfinish(app);
	feed_rules_free(rules);
	test_end();
	return 0;
}

#define TEST(name) cmocka_unit_test_setup(test_##name, fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(pages_follow_each_other), TEST(what_a_feed_holds_is_not_all_of_an_event), TEST(types_choose_and_the_cursor_passes_over_the_rest),
		TEST(a_call_looks_at_so_many_positions), TEST(a_cursor_that_missed_something_is_gone), TEST(a_cursor_of_another_history_is_gone),
		TEST(cursors_are_read_as_they_are_printed), TEST(who_may_read_an_entity_sees_its_events), TEST(gateways_hear_who_moved),
	};

	return cmocka_run_group_tests_name("feed", tests, start, end);
}
