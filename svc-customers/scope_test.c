/* Limits of rows against a real PostgreSQL: the policy by itself, neighbours on one connection, and what the engine adds to it. */
#include "resource/test_calls.h"

#include "db/row.h"
#include "svc-customers/ops.h"

enum { LEAD_DISPLAY = 16, LEAD_OWNER = 27 };

#define OWN_1 " leads=own;" USER_1
#define OWN_2 " contacts=team leads=own;" USER_2
#define TEAM " leads=team;" USER_1 "," USER_2

static struct test_call *lead_new(const char *scope, const char *user, const char *display, const char *owner)
{
	struct buf e = { 0 };
	struct test_call *t;

	put_text(&e, LEAD_DISPLAY, display);
	if (owner)
		put_key(&e, LEAD_OWNER, str_of(owner), 0);
	t = create_new("Leads.Create", TENANT_A, user, &e);
	t->call.who.scope = str_of(scope);
	return call_run(t);
}

static int64_t total(const char *scope, const char *user)
{
	struct test_call *t = call_new("Leads.List", TENANT_A, user);
	int64_t n;

	t->call.who.scope = str_of(scope);
	wire_put_varint(&t->request, 7, 1);
	call_run(t);
	assert_status(t, STATUS_OK);
	n = field_int(buf_view(&t->reply), 2);
	assert_int_equal(field_count(buf_view(&t->reply), 1), n);
	call_free(t);
	return n;
}

struct count {
	int64_t expected;
	int *left;
	enum status status;
	char sqlstate[6];
};

static void counted(void *arg, const struct db_result *r)
{
	struct count *c = arg;

	c->status = r->status;
	snprintf(c->sqlstate, sizeof(c->sqlstate), "%s", r->sqlstate);
	if (r->status == STATUS_OK && c->expected >= 0)
		assert_int_equal(row_i64(r->res[0], 0, 0), c->expected);
	--*c->left;
}

static void submit(enum db_kind kind, const char *scope, const char *sql, struct count *c)
{
	struct db_stmt stmt = { .sql = str_of(sql) };

	db_submit_as(test_db, kind, STR(TENANT_A), str_of(scope), &stmt, 1, clock_us() + 20000000, counted, c);
}

static void wait_for(const int *left)
{
	for (int i = 0; i < 10000 && *left; i++)
		test_turn();
	assert_int_equal(*left, 0);
}

/* Two rows of user 1, one of user 2 that user 1 made, one of nobody's making. */
static void rows_make(void)
{
	call_free(lead_new("", USER_1, "One", NULL));
	call_free(lead_new("", USER_2, "Two", USER_1));
	call_free(lead_new("", USER_1, "Three", USER_2));
	call_free(lead_new("", "0190c000-0000-7000-8000-000000000009", "Four", NULL));
}

static void lists_and_totals_are_of_the_scope(void **state)
{
	rows_make();
	for (int i = 0; i < 2; i++) { /* the second time from what is kept */
		assert_int_equal(total("", USER_1), 4);
		assert_int_equal(total(OWN_1, USER_1), 2);
		assert_int_equal(total(OWN_2, USER_2), 1);
		assert_int_equal(total(TEAM, USER_1), 3);
		assert_int_equal(total(" contacts=own;" USER_1, USER_1), 4); /* another kind is limited, not this one */
	}
	call_free(lead_new(OWN_2, USER_2, "Five", NULL));
	assert_int_equal(total(OWN_2, USER_2), 2);
	assert_int_equal(total(OWN_1, USER_1), 2);
}

/* Whatever a service's statement says: the policy holds. Reads of one loop turn share a transaction, limited or not. */
static void neighbours_on_a_connection_keep_their_scopes(void **state)
{
	static const struct {
		const char *scope;
		int64_t n;
	} who[] = { { "", 5 }, { OWN_1, 2 }, { OWN_1, 2 }, { "", 5 }, { "", 5 }, { OWN_2, 2 }, { TEAM, 4 } };
	static const char sql[] = "SELECT count(*) FROM lead";
	struct count counts[350];
	uint64_t grouped = db_stats_get(test_db).grouped;
	int left = 350;

	for (int i = 0; i < 350; i++) {
		counts[i] = (struct count){ .expected = who[i * 5 % 7].n, .left = &left };
		submit(DB_READ, who[i * 5 % 7].scope, sql, &counts[i]);
	}
	wait_for(&left);
	for (int i = 0; i < 350; i++)
		assert_int_equal(counts[i].status, STATUS_OK);
	assert_true(db_stats_get(test_db).grouped > grouped + 100);
}

static void a_scope_that_makes_no_sense_shows_nothing(void **state)
{
	static const char *const bad[] = { " leads=everything;" USER_1, " leads=;" USER_1, " leads=own;", " leads=own", " leads=team;", " leads=own;," USER_1 };
	struct count counts[6];
	int left = 6;

	for (int i = 0; i < 6; i++) {
		counts[i] = (struct count){ .expected = 0, .left = &left };
		submit(DB_READ, bad[i], "SELECT count(*) FROM lead", &counts[i]);
	}
	wait_for(&left);
	for (int i = 0; i < 6; i++)
		assert_int_equal(counts[i].status, STATUS_OK);
}

static void a_write_beyond_the_scope_is_refused_by_the_database(void **state)
{
	int left = 2;
	struct count steal = { .expected = -1, .left = &left }, give = { .expected = 2, .left = &left };

	submit(DB_WRITE, OWN_1, "UPDATE lead SET owner_id = '" USER_2 "' WHERE display = 'One'", &steal);
	submit(DB_WRITE, OWN_1, "WITH w AS (UPDATE lead SET notes = 'mine' RETURNING 1) SELECT count(*) FROM w", &give);
	wait_for(&left);
	assert_int_equal(steal.status, STATUS_PERMISSION_DENIED);
	assert_string_equal(steal.sqlstate, "42501");
	assert_int_equal(give.status, STATUS_OK);
}

struct worker_run {
	struct str scope;
	int64_t n;
	atomic_bool done;
};

static void on_worker(struct db_conn *db, void *arg)
{
	struct worker_run *w = arg;
	PGresult *res = NULL;

	if (w->scope.n)
		db_limit(db, w->scope);
	if (db_begin(db, STR(TENANT_A)) == STATUS_OK && db_exec(db, &res, "SELECT count(*) FROM lead", 0, NULL) == STATUS_OK)
		w->n = atoll(PQgetvalue(res, 0, 0));
	PQclear(res);
	db_rollback(db);
	atomic_store(&w->done, true);
}

static int64_t count_on_worker(const char *scope)
{
	struct worker_run w = { .scope = str_of(scope), .n = -1 };

	assert_true(db_work(test_db, on_worker, &w));
	while (!atomic_load(&w.done))
		usleep(200);
	return w.n;
}

static void a_handler_is_limited_and_the_next_one_is_not(void **state)
{
	for (int i = 0; i < 8; i++) {
		assert_int_equal(count_on_worker(OWN_1), 2);
		assert_int_equal(count_on_worker(""), 5);
	}
	assert_int_equal(count_on_worker(" leads=own;'); SELECT 1; --"), -1); /* quoted, and no uuid */
	assert_int_equal(count_on_worker(TEAM), 4);
}

static void nobody_hands_a_row_out_of_their_sight(void **state)
{
	struct test_call *t = lead_new(OWN_1, USER_1, "Gift", USER_2), *team = lead_new(TEAM, USER_1, "Shared", USER_2), *clear;
	uint32_t mask = LEAD_OWNER;
	struct buf packed = { 0 };

	assert_status(t, STATUS_VALIDATION_ERROR);
	assert_violation(t, "owner", "scope");
	assert_status(team, STATUS_OK);
	/* made by user 1, owned by user 2: with the owner cleared it would be user 1's again */
	clear = call_new("Leads.Update", TENANT_A, USER_2);
	clear->call.who.scope = STR(OWN_2);
	put_key(&clear->request, 1, field_bytes(buf_view(&team->reply), 1, 0), 0);
	wire_varint(&packed, mask);
	wire_put_bytes(&clear->request, 2, (struct str){ "", 0 });
	wire_put_bytes(&clear->request, 3, buf_view(&packed));
	call_run(clear);
	assert_status(clear, STATUS_VALIDATION_ERROR);
	assert_violation(clear, "owner", "scope");
	buf_fini(&packed);
	call_free(t);
	call_free(team);
	call_free(clear);
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
		cmocka_unit_test(lists_and_totals_are_of_the_scope),
		cmocka_unit_test(neighbours_on_a_connection_keep_their_scopes),
		cmocka_unit_test(a_scope_that_makes_no_sense_shows_nothing),
		cmocka_unit_test(a_write_beyond_the_scope_is_refused_by_the_database),
		cmocka_unit_test(a_handler_is_limited_and_the_next_one_is_not),
		cmocka_unit_test(nobody_hands_a_row_out_of_their_sight),
	};

	return cmocka_run_group_tests(tests, start, end);
}
