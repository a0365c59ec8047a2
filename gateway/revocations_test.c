/* Revocations, epochs and member changes; and the principal cache they are checked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/wire.h"
#include "gateway/changes.h"
#include "gateway/principals.h"
#include "gateway/revocations.h"
#include "gateway/siphash.h"

#define NOW (INT64_C(1700000000) * 1000000)
#define USER "01890000-0000-7000-8000-000000000001"
#define TENANT "01890000-0000-7000-8000-000000000004"
#define JTI "01890000-0000-7000-8000-000000000002"
#define SID "01890000-0000-7000-8000-000000000003"

static struct principal someone(enum principal_kind kind)
{
	struct principal p = { .kind = kind, .issued_us = NOW, .permissions = { 0xff00, 1 } };

	strcpy(p.user_id, USER);
	strcpy(p.tenant_id, TENANT);
	strcpy(p.token_id, JTI);
	strcpy(p.session_id, SID);
	strcpy(p.role, "user");
	return p;
}

static enum verdict after(struct change c)
{
	struct revocations *v = revocations_new();
	struct principal p = someone(PRINCIPAL_TOKEN);
	enum verdict verdict;

	revocations_apply(v, &c, 1, false, NOW);
	verdict = revocations_check(v, &p, 0);
	revocations_free(v);
	return verdict;
}

static void test_revoked_tokens_and_sessions_are_dead(void **state)
{
	assert_int_equal(after((struct change){ CHANGE_TOKEN, .id = STR(JTI) }), VERDICT_DEAD);
	assert_int_equal(after((struct change){ CHANGE_SESSION, .id = STR(SID) }), VERDICT_DEAD);
	assert_int_equal(after((struct change){ CHANGE_SESSION, .id = STR(JTI) }), VERDICT_LIVE);
}

static void test_epochs_kill_what_was_issued_before(void **state)
{
	assert_int_equal(after((struct change){ CHANGE_USER, .id = STR(USER), .epoch_us = NOW + 1 }), VERDICT_DEAD);
	assert_int_equal(after((struct change){ CHANGE_USER, .id = STR(USER), .epoch_us = NOW }), VERDICT_LIVE);
	assert_int_equal(after((struct change){ CHANGE_TENANT, .id = STR(TENANT), .epoch_us = NOW + 1 }), VERDICT_DEAD);
	assert_int_equal(after((struct change){ CHANGE_TENANT, .id = STR(TENANT), .revoked = true }), VERDICT_DEAD);
	assert_int_equal(after((struct change){ CHANGE_USER, .id = STR(TENANT), .epoch_us = NOW + 1 }), VERDICT_LIVE);
}

static void test_members_get_their_new_permissions(void **state)
{
	struct revocations *v = revocations_new();
	struct principal p = someone(PRINCIPAL_TOKEN);
	struct change c = { CHANGE_MEMBER, .id = STR(TENANT "/" USER), .permissions = { 0x100, 0 }, .role = STR("manager") };

	revocations_apply(v, &c, 1, false, NOW);
	assert_int_equal(revocations_check(v, &p, 0), VERDICT_CHANGED);
	assert_int_equal(p.permissions[0], 0x100);
	assert_string_equal(p.role, "manager");
	assert_int_equal(revocations_check(v, &p, 0), VERDICT_LIVE);
	c.revoked = true;
	revocations_apply(v, &c, 1, false, NOW);
	assert_int_equal(revocations_check(v, &p, 0), VERDICT_DEAD);
	assert_int_equal(revocations_count(v), 1);
	revocations_free(v);
}

static void test_resolved_principals_go_stale_with_newer_changes_only(void **state)
{
	struct revocations *v = revocations_new();
	struct principal member = someone(PRINCIPAL_MEMBER), key = someone(PRINCIPAL_API_KEY);
	struct change c = { CHANGE_MEMBER, .id = STR(TENANT "/" USER) }, k = { CHANGE_API_KEY, .id = STR("k-1") };
	uint64_t first;

	strcpy(key.api_key_id, "k-1");
	revocations_apply(v, &c, 1, false, NOW);
	first = revocations_generation(v);
	assert_int_equal(revocations_check(v, &member, first - 1), VERDICT_STALE);
	revocations_apply(v, &k, 1, false, NOW);
	assert_int_equal(revocations_check(v, &member, first), VERDICT_LIVE);
	assert_int_equal(revocations_check(v, &key, first), VERDICT_STALE);
	revocations_free(v);
}

static void test_a_limit_of_rows_reaches_tokens_both_ways(void **state)
{
	struct revocations *v = revocations_new();
	struct principal token = someone(PRINCIPAL_TOKEN);
	struct change c = { CHANGE_MEMBER, .id = STR(TENANT "/" USER), .limited = true };

	memcpy(c.permissions, token.permissions, sizeof(c.permissions));
	revocations_apply(v, &c, 1, false, NOW);
	assert_int_equal(revocations_check(v, &token, UINT64_MAX), VERDICT_CHANGED);
	assert_true(token.limited);
	assert_int_equal(revocations_check(v, &token, UINT64_MAX), VERDICT_LIVE);
	c.limited = false;
	revocations_apply(v, &c, 1, false, NOW);
	assert_int_equal(revocations_check(v, &token, UINT64_MAX), VERDICT_CHANGED);
	assert_false(token.limited);
	revocations_free(v);
}

static void test_generation_moves_with_news_only(void **state)
{
	struct revocations *v = revocations_new();
	struct change c = { CHANGE_TOKEN, .id = STR(JTI) };

	assert_int_equal(revocations_generation(v), 0);
	revocations_apply(v, NULL, 0, false, NOW);
	assert_int_equal(revocations_generation(v), 1);
	revocations_apply(v, NULL, 0, false, NOW);
	assert_int_equal(revocations_generation(v), 1);
	revocations_apply(v, &c, 1, false, NOW);
	assert_int_equal(revocations_generation(v), 2);
	revocations_apply(v, &(struct change){ CHANGE_TOKEN, .id = STR(SID) }, 1, false, NOW + INT64_C(26) * 3600 * 1000000);
	assert_int_equal(revocations_count(v), 1);
	revocations_free(v);
}

static void test_a_table_that_starts_is_complete_with_its_last_reply(void **state)
{
	struct revocations *v = revocations_new();
	struct change c = { CHANGE_SESSION, .id = STR(SID) };

	revocations_apply(v, &c, 1, true, NOW);
	assert_int_equal(revocations_generation(v), 0);
	assert_int_equal(revocations_count(v), 1);
	revocations_apply(v, NULL, 0, false, NOW);
	assert_int_equal(revocations_generation(v), 1);
	revocations_apply(v, &c, 1, true, NOW);
	assert_int_equal(revocations_generation(v), 2);
	revocations_free(v);
}

static void test_replies_of_the_feed_are_read(void **state)
{
	struct changes_reply reply;
	struct buf b = { 0 };
	size_t at;

	wire_put_varint(&b, 1, 42);
	wire_put_varint(&b, 3, 1);
	at = wire_open(&b, 2);
	wire_put_bytes(&b, 1, STR("member"));
	wire_put_bytes(&b, 2, STR("t/u"));
	wire_put_varint(&b, 3, 7);
	wire_put_fixed64(&b, 4, 8);
	wire_put_fixed64(&b, 5, 9);
	wire_put_bytes(&b, 6, STR("agent"));
	wire_put_varint(&b, 7, 1);
	wire_close(&b, at);
	for (int i = 0; i < 100; i++) {
		at = wire_open(&b, 2);
		wire_put_bytes(&b, 1, i == 50 ? STR("keys") : i == 51 ? STR("ref") : i == 52 ? STR("of tomorrow") : STR("session"));
		wire_put_bytes(&b, 2, STR("s"));
		wire_close(&b, at);
	}
	assert_true(changes_parse(buf_view(&b), &reply));
	assert_int_equal(reply.cursor, 42);
	assert_int_equal(reply.n, 98);
	assert_true(reply.keys && reply.refs && reply.more);
	assert_int_equal(reply.rows[0].kind, CHANGE_MEMBER);
	assert_int_equal(reply.rows[0].permissions[1], 9);
	assert_true(reply.rows[0].revoked && reply.rows[0].epoch_us == 7);
	assert_true(str_eq(reply.rows[0].role, STR("agent")));
	free(reply.rows);
	assert_false(changes_parse((struct str){ b.p, b.n - 1 }, &reply));
	free(reply.rows);
	buf_fini(&b);
}

static void test_principals_are_cached_within_bounds(void **state)
{
	struct principals *c = principals_new(2);
	struct principal p = someone(PRINCIPAL_TOKEN), back;
	uint8_t a[32] = { 1 }, b[32] = { 2 }, d[32] = { 3 };
	struct principal_entry *held = principals_put(c, a, &p, NOW + 10);

	principals_hold(held);
	principals_put(c, b, NULL, NOW + 10);
	assert_ptr_equal(principals_get(c, a, NOW), held); /* used: b is the oldest now */
	principals_put(c, d, &p, NOW + 10);
	assert_int_equal(principals_count(c), 2);
	assert_null(principals_get(c, b, NOW));
	assert_null(principals_get(c, a, NOW + 10)); /* expired */
	assert_int_equal(principals_stats(c).hits, 1);
	assert_int_equal(principals_stats(c).misses, 2);
	assert_true(principal_decode(held->wire, &back)); /* … but still held */
	assert_string_equal(back.user_id, USER);
	assert_int_equal(back.permissions[0], 0xff00);
	assert_string_equal(back.session_id, SID);
	principals_rele(held);
	p.scope = STR(" leads=own;" USER);
	held = principals_put(c, a, &p, NOW + 10);
	assert_ptr_not_equal(held->who.scope.p, p.scope.p); /* its own copy */
	assert_true(str_eq(held->who.scope, p.scope));
	assert_true(principal_decode(held->wire, &back) && str_eq(back.scope, p.scope));
	principals_free(c);
}

static void test_malformed_principals_are_refused(void **state)
{
	struct principal p;
	struct buf b = { 0 };

	assert_false(principal_decode((struct str){ 0 }, &p));
	wire_put_bytes(&b, 1, STR(TENANT));
	assert_false(principal_decode(buf_view(&b), &p));
	wire_put_bytes(&b, 3, STR("not a uuid"));
	assert_false(principal_decode(buf_view(&b), &p));
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_revoked_tokens_and_sessions_are_dead),
		cmocka_unit_test(test_epochs_kill_what_was_issued_before),
		cmocka_unit_test(test_members_get_their_new_permissions),
		cmocka_unit_test(test_resolved_principals_go_stale_with_newer_changes_only),
		cmocka_unit_test(test_a_limit_of_rows_reaches_tokens_both_ways),
		cmocka_unit_test(test_generation_moves_with_news_only),
		cmocka_unit_test(test_a_table_that_starts_is_complete_with_its_last_reply),
		cmocka_unit_test(test_replies_of_the_feed_are_read),
		cmocka_unit_test(test_principals_are_cached_within_bounds),
		cmocka_unit_test(test_malformed_principals_are_refused),
	};

	siphash_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
