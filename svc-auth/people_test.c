/* Users, roles, invitations, passwords and their mail, against a real PostgreSQL. */
#include "harness.h"
#include "seal.h"

#include <dirent.h>
#include <libpq-fe.h>
#include <stdio.h>

static struct outcome *write_user(const char *rpc, const struct rpc_principal *who, const char *id, const Crm__V1__User *u, uint32_t *mask, size_t n)
{
	Crm__V1__WriteRequest w = CRM__V1__WRITE_REQUEST__INIT;
	Crm__V1__Key key = CRM__V1__KEY__INIT;
	uint8_t bytes[1024];

	key.id = (char *)id;
	w.key = id ? &key : NULL;
	w.has_entity = 1;
	w.entity.data = bytes;
	w.entity.len = crm__v1__user__pack(u, bytes);
	w.mask = mask;
	w.n_mask = n;
	return invoke(rpc, who, &w);
}

static struct outcome *try_create(const struct rpc_principal *who, const char *email, const char *role, const char *password)
{
	Crm__V1__User u = CRM__V1__USER__INIT;

	u.email = (char *)email;
	u.role = (char *)role;
	u.password = (char *)password;
	return write_user("Users.Create", who, NULL, &u, NULL, 0);
}

static Crm__V1__User *create(const struct rpc_principal *who, const char *email, const char *role)
{
	return reply_of(try_create(who, email, role, PASSWORD), &crm__v1__user__descriptor);
}

static struct outcome *set_role(const struct rpc_principal *who, const char *id, const char *role)
{
	Crm__V1__User u = CRM__V1__USER__INIT;
	uint32_t mask = 20;

	u.role = (char *)role;
	return write_user("Users.Update", who, id, &u, &mask, 1);
}

static struct outcome *by_key(const char *rpc, const struct rpc_principal *who, const char *id)
{
	Crm__V1__KeyRequest r = CRM__V1__KEY_REQUEST__INIT;
	Crm__V1__Key key = CRM__V1__KEY__INIT;

	key.id = (char *)id;
	r.key = &key;
	return invoke(rpc, who, &r);
}

static struct rpc_principal login_as(const char *email)
{
	return principal_of(reply_of(try_login(email, PASSWORD, STR("192.0.2.9")), &crm__v1__session__descriptor));
}

static struct rpc_principal boss(const char *email)
{
	return principal_of(register_person(email, "The Boss"));
}

static void test_created_people_log_in_and_are_an_event_without_secrets(void **state)
{
	struct rpc_principal who = boss("boss@create.example"), them;
	Crm__V1__User *u = create(&who, "New@create.example", "agent");

	assert_string_equal(u->email, "new@create.example");
	assert_int_equal(u->seq, 2);
	them = login_as("new@create.example");
	assert_true(str_eq(them.role, STR("agent")) && str_eq(them.tenant_id, who.tenant_id));
	assert_string_equal(valuef("SELECT type || ' ' || (o::text ~ 'argon2')::text FROM auth.outbox o WHERE entity_id = '?' ORDER BY id LIMIT 1", u->id),
			    "auth.user.created false");
}

static void test_people_of_other_companies_are_not_ours_to_make(void **state)
{
	struct rpc_principal who = boss("boss@ours.example");

	register_person("else@theirs.example", "Else");
	assert_violation(try_create(&who, "ELSE@theirs.example", "agent", PASSWORD), STATUS_DUPLICATE, "email");
	assert_violation(try_create(&who, "boss@ours.example", "agent", PASSWORD), STATUS_DUPLICATE, "email");
	assert_violation(try_create(&who, "x@ours.example", "emperor", PASSWORD), STATUS_VALIDATION_ERROR, "role");
	assert_violation(try_create(&who, "x@ours.example", "agent", "short"), STATUS_VALIDATION_ERROR, "password");
}

static void test_who_left_comes_back_without_the_old_password(void **state)
{
	struct rpc_principal who = boss("boss@back.example");
	Crm__V1__User *u = create(&who, "left@back.example", "agent"), *again;

	assert_int_equal(by_key("Users.Delete", &who, u->id)->status, STATUS_OK);
	assert_int_equal(by_key("Users.Get", &who, u->id)->status, STATUS_NOT_FOUND);
	assert_int_equal(try_login("left@back.example", PASSWORD, STR("192.0.2.7"))->status, STATUS_AUTH_FAILED);
	assert_string_equal(valuef("SELECT revoked FROM auth.change WHERE kind = 'member' AND id LIKE '%/?'", u->id), "t");
	again = reply_of(try_create(&who, "left@back.example", "user", NULL), &crm__v1__user__descriptor);
	assert_string_equal(again->id, u->id);
	assert_int_equal(again->seq, u->seq);
	assert_int_equal(try_login("left@back.example", PASSWORD, STR("192.0.2.7"))->status, STATUS_AUTH_FAILED);
	assert_string_equal(valuef("SELECT revoked FROM auth.change WHERE kind = 'member' AND id LIKE '%/?'", u->id), "f");
}

static void test_two_administrators_cannot_demote_each_other_at_once(void **state)
{
	struct rpc_principal a = boss("a@race.example"), b;
	Crm__V1__User *second = create(&a, "b@race.example", "admin"), down = CRM__V1__USER__INIT;
	Crm__V1__WriteRequest w[2] = { CRM__V1__WRITE_REQUEST__INIT, CRM__V1__WRITE_REQUEST__INIT };
	Crm__V1__Key key[2] = { CRM__V1__KEY__INIT, CRM__V1__KEY__INIT };
	struct outcome *o[2];
	uint8_t bytes[64];
	uint32_t mask = 20;
	size_t n;

	b = login_as("b@race.example");
	down.role = "agent";
	n = crm__v1__user__pack(&down, bytes);
	key[0].id = second->id;
	key[1].id = arena_strdup(&arena, a.user_id);
	for (int i = 0; i < 2; i++) {
		w[i].key = &key[i];
		w[i].has_entity = 1;
		w[i].entity = (ProtobufCBinaryData){ n, bytes };
		w[i].mask = &mask;
		w[i].n_mask = 1;
		o[i] = call_new("Users.Update", i ? &b : &a, &w[i]);
	}
	call_start(o[0]);
	call_start(o[1]);
	call_wait(o[0]);
	call_wait(o[1]);
	assert_true((o[0]->status == STATUS_OK) != (o[1]->status == STATUS_OK));
	assert_true(o[0]->status == STATUS_CONFLICT || o[1]->status == STATUS_CONFLICT);
}

static void test_nobody_touches_who_may_more(void **state)
{
	struct rpc_principal who = boss("boss@above.example"), manager;
	char *boss_id = arena_strdup(&arena, who.user_id);

	create(&who, "m@above.example", "manager");
	manager = login_as("m@above.example");
	assert_int_equal(set_role(&manager, boss_id, "agent")->status, STATUS_PERMISSION_DENIED);
	assert_int_equal(by_key("Users.ResetPassword", &manager, boss_id)->status, STATUS_PERMISSION_DENIED);
	assert_int_equal(try_create(&manager, "x@above.example", "admin", PASSWORD)->status, STATUS_PERMISSION_DENIED);
	assert_int_equal(set_role(&manager, arena_strdup(&arena, manager.user_id), "admin")->status, STATUS_PERMISSION_DENIED);
}

static void test_a_change_of_role_reaches_the_feed_with_what_it_means(void **state)
{
	struct rpc_principal who = boss("boss@feed.example");
	Crm__V1__User *u = create(&who, "u@feed.example", "agent");
	struct perms manager;

	roles_builtin("manager", &manager);
	assert_int_equal(set_role(&who, u->id, "manager")->status, STATUS_OK);
	assert_string_equal(valuef("SELECT role || ' ' || permissions_low || ' ' || revoked FROM auth.change WHERE kind = 'member' AND id LIKE '%/?'", u->id),
			    arena_printf(&arena, "manager %lld false", (long long)manager.bits[0]));
}

static struct outcome *role_call(const char *rpc, const struct rpc_principal *who, const char *name, const char *title, char **words, size_t n)
{
	Crm__V1__RoleRequest r = CRM__V1__ROLE_REQUEST__INIT;
	Crm__V1__Role role = CRM__V1__ROLE__INIT;

	role.title = (char *)title;
	role.permission = words;
	role.n_permission = n;
	r.name = (char *)name;
	r.role = &role;
	return invoke(rpc, who, &r);
}

static void test_a_role_of_the_company_changes_all_who_have_it(void **state)
{
	struct rpc_principal who = boss("boss@role.example");
	char *words[] = { "leads.read", "manage_tags" };
	Crm__V1__Role *r = reply_of(role_call("Roles.Create", &who, NULL, "Lead  Reader!", words, 2), &crm__v1__role__descriptor);
	Crm__V1__User *u;

	assert_string_equal(r->name, "lead_reader");
	assert_int_equal(r->n_permission, 3);
	assert_int_equal(role_call("Roles.Create", &who, NULL, "lead reader", words, 1)->status, STATUS_DUPLICATE);
	u = create(&who, "u@role.example", "lead_reader");
	assert_int_equal(role_call("Roles.Delete", &who, "lead_reader", "x", NULL, 0)->status, STATUS_CONFLICT);
	reply_of(role_call("Roles.Update", &who, "lead_reader", "Readers", words, 1), &crm__v1__role__descriptor);
	assert_string_equal(valuef("SELECT permissions_low FROM auth.change WHERE kind = 'member' AND id LIKE '%/?'", u->id),
			    arena_printf(&arena, "%d", 1 << CRM__V1__PERMISSION__LEADS_READ));
	assert_int_equal(role_call("Roles.Update", &who, "admin", "x", words, 1)->status, STATUS_CONFLICT);
}

/* -- mail */

static PGconn *queue(void)
{
	PGconn *db = PQconnectdb(pg_fixture_url(pg, "auth_app"));

	assert_int_equal(PQstatus(db), CONNECTION_OK);
	return db;
}

static size_t files(void)
{
	DIR *d = opendir(outbox);
	size_t n = 0;

	for (struct dirent *e = readdir(d); e; e = readdir(d))
		n += strstr(e->d_name, ".eml") != NULL;
	closedir(d);
	return n;
}

static struct outcome *invite(const struct rpc_principal *who, const char *email, const char *role)
{
	Crm__V1__WriteRequest w = CRM__V1__WRITE_REQUEST__INIT;
	Crm__V1__Invitation in = CRM__V1__INVITATION__INIT;
	uint8_t bytes[512];

	in.email = (char *)email;
	in.role = (char *)role;
	w.has_entity = 1;
	w.entity.data = bytes;
	w.entity.len = crm__v1__invitation__pack(&in, bytes);
	return invoke("Invitations.Create", who, &w);
}

static void test_mail_goes_with_its_cause_and_survives_a_broken_folder(void **state)
{
	struct rpc_principal who = boss("boss@mail.example");
	PGconn *db = queue();
	size_t before;

	while (post_turn(db))
		;
	before = files();
	assert_int_equal(invite(&who, "in@mail.example", "agent")->status, STATUS_OK);
	assert_violation(invite(&who, "in@mail.example", "agent"), STATUS_DUPLICATE, "email");
	assert_string_equal(value("SELECT count(*) FROM auth.mail_queue"), "1");
	assert_string_equal(value("SELECT count(*) FROM auth.mail_queue q WHERE encode(sealed, 'escape') ~ 'token='"), "0");
	assert_int_equal(rename(outbox, arena_printf(&arena, "%s-away", outbox)), 0);
	assert_true(post_turn(db));
	assert_string_equal(value("SELECT tries FROM auth.mail_queue WHERE due_at > now() + interval '5 seconds'"), "1");
	assert_false(post_turn(db));
	assert_int_equal(rename(arena_printf(&arena, "%s-away", outbox), outbox), 0);
	pg_fixture_sql(pg, "UPDATE auth.mail_queue SET due_at = now()");
	assert_true(post_turn(db));
	assert_string_equal(value("SELECT count(*) FROM auth.mail_queue"), "0");
	assert_int_equal(files(), before + 1);
	PQfinish(db);
}

static void test_what_is_tampered_with_is_never_sent(void **state)
{
	struct rpc_principal who = boss("boss@tamper.example");
	PGconn *db = queue();
	size_t before = files();

	assert_int_equal(invite(&who, "in@tamper.example", "agent")->status, STATUS_OK);
	pg_fixture_sql(pg, "UPDATE auth.mail_queue SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)");
	assert_true(post_turn(db));
	assert_string_equal(value("SELECT count(*) FROM auth.mail_queue WHERE refused_at IS NOT NULL"), "1");
	assert_int_equal(files(), before);
	pg_fixture_sql(pg, "DELETE FROM auth.mail_queue");
	PQfinish(db);
}

static void test_sealed_text_opens_only_where_it_belongs(void **state)
{
	char *sealed = seal_text(&arena, "test", "row-1", STR("secret"));
	struct str text;

	assert_true(seal_open(&arena, "test", "row-1", str_of(sealed), &text));
	assert_true(str_eq(text, STR("secret")));
	assert_false(seal_open(&arena, "test", "row-2", str_of(sealed), &text));
	assert_false(seal_open(&arena, "other", "row-1", str_of(sealed), &text));
	sealed[10] ^= 1;
	assert_false(seal_open(&arena, "test", "row-1", str_of(sealed), &text));
	assert_false(seal_open(&arena, "test", "row-1", STR("\\x00"), &text));
}

static void test_a_reset_token_works_once(void **state)
{
	Crm__V1__Session *s = register_person("once@reset.example", "Once");
	Crm__V1__ResetPasswordRequest r = CRM__V1__RESET_PASSWORD_REQUEST__INIT;

	pg_fixture_sql(pg, arena_printf(&arena,
					"INSERT INTO auth.password_reset (token_hash, person_id, expires_at) VALUES (sha256('first'), '%s', now() + interval '1 hour'),"
					" (sha256('late'), '%s', now() - interval '1 second')",
					s->user->id, s->user->id));
	r.password = "a new password";
	r.token = "late";
	assert_violation(invoke("Auth.ResetPassword", NULL, &r), STATUS_VALIDATION_ERROR, "token");
	r.token = "first";
	assert_int_equal(invoke("Auth.ResetPassword", NULL, &r)->status, STATUS_OK);
	assert_violation(invoke("Auth.ResetPassword", NULL, &r), STATUS_VALIDATION_ERROR, "token");
	assert_int_equal(try_login("once@reset.example", PASSWORD, STR("192.0.2.3"))->status, STATUS_AUTH_FAILED);
	assert_int_equal(try_login("once@reset.example", "a new password", STR("192.0.2.3"))->status, STATUS_OK);
	assert_string_equal(valuef("SELECT epoch_us > 0 FROM auth.change WHERE kind = 'user' AND id = '?'", s->user->id), "t");
	assert_string_equal(valuef("SELECT count(*) FROM auth.change c JOIN auth.session s ON s.id::text = c.id WHERE c.kind = 'session' AND s.user_id = '?'", s->user->id),
			    "1");
}

static void test_forgetting_tells_nobody_who_exists(void **state)
{
	Crm__V1__ForgotPasswordRequest r = CRM__V1__FORGOT_PASSWORD_REQUEST__INIT;

	register_person("known@forgot.example", "Known");
	pg_fixture_sql(pg, "DELETE FROM auth.mail_queue");
	r.email = "unknown@forgot.example";
	assert_int_equal(invoke("Auth.ForgotPassword", NULL, &r)->status, STATUS_OK);
	assert_string_equal(value("SELECT count(*) FROM auth.mail_queue"), "0");
	r.email = "Known@forgot.example";
	assert_int_equal(invoke("Auth.ForgotPassword", NULL, &r)->status, STATUS_OK);
	assert_string_equal(value("SELECT recipient FROM auth.mail_queue"), "known@forgot.example");
	for (int i = 0; i < 9; i++)
		invoke("Auth.ForgotPassword", NULL, &r);
	assert_int_equal(invoke("Auth.ForgotPassword", NULL, &r)->status, STATUS_RATE_LIMIT_EXCEEDED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_created_people_log_in_and_are_an_event_without_secrets, fresh),
		cmocka_unit_test_setup(test_people_of_other_companies_are_not_ours_to_make, fresh),
		cmocka_unit_test_setup(test_who_left_comes_back_without_the_old_password, fresh),
		cmocka_unit_test_setup(test_two_administrators_cannot_demote_each_other_at_once, fresh),
		cmocka_unit_test_setup(test_nobody_touches_who_may_more, fresh),
		cmocka_unit_test_setup(test_a_change_of_role_reaches_the_feed_with_what_it_means, fresh),
		cmocka_unit_test_setup(test_a_role_of_the_company_changes_all_who_have_it, fresh),
		cmocka_unit_test_setup(test_mail_goes_with_its_cause_and_survives_a_broken_folder, fresh),
		cmocka_unit_test_setup(test_what_is_tampered_with_is_never_sent, fresh),
		cmocka_unit_test_setup(test_sealed_text_opens_only_where_it_belongs, fresh),
		cmocka_unit_test_setup(test_a_reset_token_works_once, fresh),
		cmocka_unit_test_setup(test_forgetting_tells_nobody_who_exists, fresh),
	};

	return cmocka_run_group_tests(tests, harness_start, harness_stop);
}
