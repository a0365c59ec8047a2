/* Register, Login, Refresh, Logout, Profile and the feed, against a real PostgreSQL. */
#include "harness.h"

#include <argon2.h>

static const Crm__V1__Empty nothing = { PROTOBUF_C_MESSAGE_INIT(&crm__v1__empty__descriptor) };

static struct outcome *refresh_start(const char *token, bool rotate)
{
	Crm__V1__RefreshRequest r = CRM__V1__REFRESH_REQUEST__INIT;
	Crm__V1__TokenPolicy policy = CRM__V1__TOKEN_POLICY__INIT;
	struct outcome *o;

	policy.has_rotate = 1;
	policy.rotate = rotate;
	r.refresh_token = (char *)token;
	r.policy = &policy;
	o = call_new("Auth.Refresh", NULL, &r);
	call_start(o);
	return o;
}

static struct outcome *refresh(const char *token, bool rotate)
{
	return call_wait(refresh_start(token, rotate));
}

static Crm__V1__Session *refreshed(const char *token, bool rotate)
{
	return reply_of(refresh(token, rotate), &crm__v1__session__descriptor);
}

static void test_register_opens_a_session_of_the_new_tenants_admin(void **state)
{
	Crm__V1__Session *s = register_person("Ada@Example.com", "Ada King Lovelace");
	struct rpc_principal who = principal_of(s);

	assert_string_equal(s->token_type, "bearer");
	assert_string_equal(s->user->email, "ada@example.com");
	assert_string_equal(s->user->display, "Ada King Lovelace");
	assert_string_equal(s->user->given, "Ada");
	assert_string_equal(s->user->family, "King Lovelace");
	assert_string_equal(s->user->role, "admin");
	assert_int_equal(s->user->seq, 1);
	assert_string_equal(s->user->tenant->id, s->tenant->id);
	assert_string_equal(s->user->tenant->name, "example.com");
	assert_string_equal(s->tenant->name, "example.com");
	assert_int_equal(s->tenant->seq, 1);
	assert_true(rpc_may(&who, CRM__V1__PERMISSION__TENANTS_DELETE));
	assert_string_equal(value("SELECT string_agg(type, ',') FROM auth.outbox"), "auth.user.registered");
}

static void test_register_twice_is_a_duplicate_whatever_the_case(void **state)
{
	Crm__V1__RegisterRequest r = CRM__V1__REGISTER_REQUEST__INIT;

	r.email = "twice@example.com";
	r.password = PASSWORD;
	r.company_name = "Twice Ltd";
	assert_int_equal(invoke("Auth.Register", NULL, &r)->status, STATUS_OK);
	r.email = "TWICE@example.com";
	assert_violation(invoke("Auth.Register", NULL, &r), STATUS_DUPLICATE, "email");
	assert_string_equal(value("SELECT count(*) FROM auth.tenant WHERE name = 'Twice Ltd'"), "1");
}

static void test_register_refuses_two_different_passwords(void **state)
{
	Crm__V1__RegisterRequest r = CRM__V1__REGISTER_REQUEST__INIT;

	r.email = "two@example.com";
	r.password = PASSWORD;
	r.password2 = "something else";
	assert_violation(invoke("Auth.Register", NULL, &r), STATUS_VALIDATION_ERROR, "password2");
	r.password2 = NULL;
	r.password = "short";
	assert_violation(invoke("Auth.Register", NULL, &r), STATUS_VALIDATION_ERROR, "password");
}

static void test_login_knows_only_the_right_password(void **state)
{
	struct str ip = STR("192.0.2.7");
	Crm__V1__Session *s;

	register_person("bob@example.com", "Bob");
	s = reply_of(try_login(" BOB@example.com", PASSWORD, ip), &crm__v1__session__descriptor);
	assert_true(s->user->has_last_login_us);
	assert_int_equal(try_login("bob@example.com", "wrong", ip)->status, STATUS_AUTH_FAILED);
	assert_int_equal(try_login("nobody@example.com", PASSWORD, ip)->status, STATUS_AUTH_FAILED);
	assert_string_equal(valuef("SELECT string_agg(type, ',' ORDER BY xid, id) FROM auth.outbox WHERE entity_id = '?'", s->user->id),
			    "auth.user.registered,auth.user.logged_in,auth.user.login_failed");
}

static void test_login_refuses_inactive_members(void **state)
{
	struct str ip = STR("192.0.2.8");

	register_person("idle@example.com", "Idle");
	pg_fixture_sql(pg, "UPDATE auth.membership SET status = 'inactive' WHERE user_id = (SELECT id FROM auth.person WHERE email = 'idle@example.com')");
	assert_int_equal(try_login("idle@example.com", PASSWORD, ip)->status, STATUS_AUTH_FAILED);
}

static void test_guessing_is_stopped_without_locking_the_owner_out(void **state)
{
	struct outcome *o;

	register_person("target@example.com", "Target");
	for (int i = 0; i < THROTTLE_PER_ACCOUNT; i++)
		assert_int_equal(try_login("target@example.com", "guess", STR("203.0.113.5"))->status, STATUS_AUTH_FAILED);
	o = try_login("target@example.com", PASSWORD, STR("203.0.113.5"));
	assert_int_equal(o->status, STATUS_RATE_LIMIT_EXCEEDED);
	assert_true(o->retry_after_ms > 0);
	assert_int_equal(try_login("target@example.com", PASSWORD, STR("198.51.100.9"))->status, STATUS_OK);
}

static void test_login_renews_a_hash_with_old_parameters(void **state)
{
	char hash[128], *sql;

	register_person("old@example.com", "Old");
	assert_int_equal(argon2id_hash_encoded(1, 64, 1, PASSWORD, strlen(PASSWORD), "0123456789abcdef", 16, 32, hash, sizeof(hash)), ARGON2_OK);
	sql = arena_printf(&arena, "UPDATE auth.credential SET password_hash = '%s' WHERE person_id = (SELECT id FROM auth.person WHERE email = 'old@example.com')",
			   hash);
	pg_fixture_sql(pg, sql);
	assert_int_equal(try_login("old@example.com", PASSWORD, STR("192.0.2.9"))->status, STATUS_OK);
	assert_string_equal(value("SELECT count(*) FROM auth.credential WHERE password_hash NOT LIKE '$argon2id$v=19$m=19456,t=2,p=1$%'"), "0");
	assert_int_equal(try_login("old@example.com", PASSWORD, STR("192.0.2.9"))->status, STATUS_OK);
}

static void test_parallel_refreshes_get_the_same_successor(void **state)
{
	Crm__V1__Session *s = register_person("tabs@example.com", "Tabs"), *r, *next;
	struct outcome *o[20];
	const char *successor = NULL;

	for (int i = 0; i < 20; i++)
		o[i] = refresh_start(s->refresh_token, true);
	for (int i = 0; i < 20; i++) {
		r = reply_of(call_wait(o[i]), &crm__v1__session__descriptor);
		if (!successor)
			successor = r->refresh_token;
		assert_string_equal(r->refresh_token, successor);
	}
	assert_string_not_equal(successor, s->refresh_token);
	next = refreshed(successor, true);
	assert_string_not_equal(next->refresh_token, successor);
	assert_true(str_eq(claim(next->access_token, "sid"), claim(s->access_token, "sid")));
}

static void test_reuse_after_the_grace_kills_the_family(void **state)
{
	Crm__V1__Session *s = register_person("thief@example.com", "Thief"), *r = refreshed(s->refresh_token, true);
	const char *sid = arena_strdup(&arena, claim(s->access_token, "sid"));

	assert_string_equal(refreshed(s->refresh_token, true)->refresh_token, r->refresh_token);
	pg_fixture_sql(pg, "UPDATE auth.refresh_token SET rotated_at = rotated_at - interval '21 seconds' WHERE rotated_at IS NOT NULL");
	assert_int_equal(refresh(s->refresh_token, true)->status, STATUS_INVALID_TOKEN);
	assert_int_equal(refresh(r->refresh_token, true)->status, STATUS_INVALID_TOKEN);
	assert_string_equal(valuef("SELECT revoked_why FROM auth.session WHERE id = '?'", sid), "reuse");
	assert_string_equal(valuef("SELECT revoked FROM auth.change WHERE kind = 'session' AND id = '?'", sid), "t");
	assert_string_equal(valuef("SELECT type FROM auth.outbox WHERE entity_id = '?'", sid), "auth.session.reuse_detected");
}

static void test_sliding_refresh_keeps_the_token_within_the_absolute_limit(void **state)
{
	Crm__V1__Session *s = register_person("slide@example.com", "Slide");
	const char *sid = arena_strdup(&arena, claim(s->access_token, "sid"));

	pg_fixture_sql(pg, "UPDATE auth.session SET expires_at = now() + interval '1 hour'");
	assert_string_equal(refreshed(s->refresh_token, false)->refresh_token, s->refresh_token);
	assert_string_equal(refreshed(s->refresh_token, false)->refresh_token, s->refresh_token);
	assert_string_equal(valuef("SELECT t.expires_at = s.expires_at FROM auth.session s JOIN auth.refresh_token t ON t.session_id = s.id WHERE s.id = '?'", sid),
			    "t");
	pg_fixture_sql(pg, "UPDATE auth.session SET expires_at = now() - interval '1 second'");
	assert_int_equal(refresh(s->refresh_token, false)->status, STATUS_INVALID_TOKEN);
}

static void test_unknown_refresh_tokens_are_refused(void **state)
{
	assert_int_equal(refresh("rt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", true)->status, STATUS_INVALID_TOKEN);
	assert_int_equal(refresh("", true)->status, STATUS_VALIDATION_ERROR);
}

static Crm__V1__ChangesReply *changes(int64_t cursor)
{
	Crm__V1__ChangesRequest r = CRM__V1__CHANGES_REQUEST__INIT;

	r.has_cursor = 1;
	r.cursor = cursor;
	return reply_of(invoke("Auth.Changes", NULL, &r), &crm__v1__changes_reply__descriptor);
}

static const Crm__V1__Change *change_find(const Crm__V1__ChangesReply *r, const char *kind, const char *id)
{
	for (size_t i = 0; i < r->n_change; i++) {
		if (strcmp(r->change[i]->kind, kind) == 0 && strcmp(r->change[i]->id, id) == 0)
			return r->change[i];
	}
	return NULL;
}

static void test_changes_that_do_not_fit_one_reply_follow_in_the_next(void **state)
{
	const char *many = "INSERT INTO auth.change (kind, id, revoked) SELECT 'session', '%s' || n, true FROM generate_series(1, 3000) n";
	Crm__V1__ChangesReply *r;

	pg_fixture_sql(pg, arena_printf(&arena, many, "a"));
	pg_fixture_sql(pg, arena_printf(&arena, many, "b"));
	r = changes(0);
	assert_int_equal(r->n_change, 5000);
	assert_true(r->more);
	r = changes(r->cursor);
	assert_false(r->more);
	assert_non_null(change_find(r, "session", "b3000"));
}

static void test_logout_kills_the_session_and_gateways_hear_of_it(void **state)
{
	Crm__V1__Session *s = register_person("bye@example.com", "Bye");
	struct rpc_principal who = principal_of(s);
	Crm__V1__LogoutRequest r = CRM__V1__LOGOUT_REQUEST__INIT;
	int64_t before = changes(0)->cursor;
	const char *sid = arena_strdup(&arena, who.session_id);
	const Crm__V1__Change *c;

	assert_null(change_find(changes(0), "session", sid));
	assert_int_equal(invoke("Auth.Logout", &who, &r)->status, STATUS_OK);
	c = change_find(changes(before), "session", sid);
	assert_non_null(c);
	assert_true(c->revoked);
	assert_int_equal(refresh(s->refresh_token, true)->status, STATUS_INVALID_TOKEN);
}

static void test_logout_by_refresh_token_ends_that_session_if_it_is_ones_own(void **state)
{
	Crm__V1__Session *mine = register_person("mine@example.com", "Mine"), *theirs = register_person("theirs@example.com", "Theirs"), *second;
	struct rpc_principal who = principal_of(mine);
	Crm__V1__LogoutRequest r = CRM__V1__LOGOUT_REQUEST__INIT;

	second = reply_of(try_login("mine@example.com", PASSWORD, STR("192.0.2.1")), &crm__v1__session__descriptor);
	r.refresh_token = second->refresh_token;
	assert_int_equal(invoke("Auth.Logout", &who, &r)->status, STATUS_OK);
	assert_int_equal(refresh(second->refresh_token, false)->status, STATUS_INVALID_TOKEN);
	assert_int_equal(refresh(mine->refresh_token, false)->status, STATUS_OK);
	r.refresh_token = theirs->refresh_token;
	assert_int_equal(invoke("Auth.Logout", &who, &r)->status, STATUS_OK);
	assert_int_equal(refresh(theirs->refresh_token, false)->status, STATUS_OK);
}

static void test_changes_of_slow_transactions_are_not_lost(void **state)
{
	PGconn *slow = PQconnectdb(pg_fixture_url(pg, "auth_app"));
	int64_t cursor;

	PQclear(PQexec(slow, "BEGIN"));
	PQclear(PQexec(slow, "INSERT INTO change (kind, id, revoked) VALUES ('token', 'slow', true)"));
	pg_fixture_sql(pg, "INSERT INTO auth.change (kind, id, revoked) VALUES ('token', 'quick', true)");
	assert_null(change_find(changes(0), "token", "slow"));
	cursor = changes(0)->cursor;
	assert_non_null(change_find(changes(0), "token", "quick"));
	PQclear(PQexec(slow, "COMMIT"));
	assert_non_null(change_find(changes(cursor), "token", "slow"));
	cursor = changes(cursor)->cursor;
	assert_null(change_find(changes(cursor), "token", "slow"));
	PQfinish(slow);
}

static Crm__V1__User *profile(const struct rpc_principal *who)
{
	return reply_of(invoke("Auth.Profile", who, &nothing), &crm__v1__user__descriptor);
}

static struct outcome *update(const struct rpc_principal *who, const Crm__V1__User *u, uint32_t *mask, size_t n, uint64_t version)
{
	Crm__V1__WriteRequest w = CRM__V1__WRITE_REQUEST__INIT;
	uint8_t bytes[512];

	w.has_entity = 1;
	w.entity.data = bytes;
	w.entity.len = crm__v1__user__pack(u, bytes);
	w.mask = mask;
	w.n_mask = n;
	w.has_expected_version = version != 0;
	w.expected_version = version;
	return invoke("Auth.UpdateProfile", who, &w);
}

static void test_profile_has_permissions_and_tenants_and_names_stay_together(void **state)
{
	Crm__V1__Session *s = register_person("grace@example.com", "Grace Hopper");
	struct rpc_principal who = principal_of(s);
	Crm__V1__User *p = profile(&who), *changed, in = CRM__V1__USER__INIT;
	uint32_t given[] = { 18 }, email[] = { 16, 17 };

	assert_int_equal(p->n_tenants, 1);
	assert_string_equal(p->tenants[0]->role, "admin");
	assert_string_equal(p->permissions[0], "read");
	in.given = "Amazing";
	changed = reply_of(update(&who, &in, given, 1, p->version), &crm__v1__user__descriptor);
	assert_string_equal(changed->display, "Amazing Hopper");
	assert_true(changed->version > p->version);
	assert_int_equal(update(&who, &in, given, 1, p->version)->status, STATUS_PRECONDITION_FAILED);
	in.email = "grace@example.com";
	in.display = "G. Hopper";
	assert_int_equal(update(&who, &in, email, 2, 0)->status, STATUS_OK);
	in.email = "other@example.com";
	assert_violation(update(&who, &in, email, 2, 0), STATUS_VALIDATION_ERROR, "email");
	assert_string_equal(profile(&who)->given, "G.");
	assert_non_null(change_find(changes(0), "ref", arena_printf(&arena, "user/%s", s->user->id)));
}

static void test_permissions_are_those_of_the_envelope(void **state)
{
	struct rpc_principal who = { .permissions = { 1ull << CRM__V1__PERMISSION__TAGS_READ | 1ull << CRM__V1__PERMISSION__TAGS_WRITE, 0 } };
	Crm__V1__PermissionList *l = reply_of(invoke("Auth.Permissions", &who, &nothing), &crm__v1__permission_list__descriptor);

	assert_int_equal(l->n_permission, 3);
	assert_string_equal(l->permission[2], "manage_tags");
}

static void test_every_method_has_one_op(void **state)
{
	const struct schema_method *rows;
	size_t n = schema_methods(contracts, &rows), mine = 0;

	for (size_t i = 0; i < n; i++) {
		if (strcmp(rows[i].service, "auth") != 0)
			continue;
		assert_non_null(op_find(rows[i].name));
		mine++;
	}
	assert_int_equal(mine, auth_n_ops);
}

static void test_health_answers(void **state)
{
	Crm__V1__HealthReply *r = reply_of(invoke("Auth.Health", NULL, &nothing), &crm__v1__health_reply__descriptor);

	assert_string_equal(r->status, "healthy");
	assert_true(r->time_us > 0);
}

static void test_jwks_has_the_signing_key(void **state)
{
	Crm__V1__JwksReply *r = reply_of(invoke("Auth.Jwks", NULL, &nothing), &crm__v1__jwks_reply__descriptor);
	char kid[KEYS_KID_MAX];

	EVP_PKEY_free(keys_current(kid));
	assert_non_null(strstr(r->jwks, kid));
}

static void test_no_secret_reaches_the_outbox(void **state)
{
	register_person("secret@example.com", "Secret");
	assert_string_equal(value("SELECT count(*) FROM auth.outbox o WHERE o::text ~ 'argon2|rt_|crm_live|battery'"), "0");
	assert_string_equal(value("SELECT count(*) FROM auth.outbox WHERE tenant_id IS NULL OR request_id IS NULL"), "0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_register_opens_a_session_of_the_new_tenants_admin, fresh),
		cmocka_unit_test_setup(test_register_twice_is_a_duplicate_whatever_the_case, fresh),
		cmocka_unit_test_setup(test_register_refuses_two_different_passwords, fresh),
		cmocka_unit_test_setup(test_login_knows_only_the_right_password, fresh),
		cmocka_unit_test_setup(test_login_refuses_inactive_members, fresh),
		cmocka_unit_test_setup(test_guessing_is_stopped_without_locking_the_owner_out, fresh),
		cmocka_unit_test_setup(test_login_renews_a_hash_with_old_parameters, fresh),
		cmocka_unit_test_setup(test_parallel_refreshes_get_the_same_successor, fresh),
		cmocka_unit_test_setup(test_reuse_after_the_grace_kills_the_family, fresh),
		cmocka_unit_test_setup(test_sliding_refresh_keeps_the_token_within_the_absolute_limit, fresh),
		cmocka_unit_test_setup(test_unknown_refresh_tokens_are_refused, fresh),
		cmocka_unit_test_setup(test_logout_kills_the_session_and_gateways_hear_of_it, fresh),
		cmocka_unit_test_setup(test_logout_by_refresh_token_ends_that_session_if_it_is_ones_own, fresh),
		cmocka_unit_test_setup(test_changes_of_slow_transactions_are_not_lost, fresh),
		cmocka_unit_test_setup(test_profile_has_permissions_and_tenants_and_names_stay_together, fresh),
		cmocka_unit_test_setup(test_changes_that_do_not_fit_one_reply_follow_in_the_next, fresh),
		cmocka_unit_test_setup(test_permissions_are_those_of_the_envelope, fresh), cmocka_unit_test_setup(test_jwks_has_the_signing_key, fresh),
		cmocka_unit_test_setup(test_every_method_has_one_op, fresh),
		cmocka_unit_test_setup(test_health_answers, fresh),
		cmocka_unit_test_setup(test_no_secret_reaches_the_outbox, fresh),
	};

	return cmocka_run_group_tests(tests, harness_start, harness_stop);
}
