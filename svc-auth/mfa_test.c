/* The second factor, and what a tenant may ask for, against a real PostgreSQL. */
#include "harness.h"
#include "mfa.h"
#include "totp.h"

#include <libpq-fe.h>

#define AWAY STR("198.51.100.7")

/* -- an authenticator app */

static void secret_of(const char *text, uint8_t out[TOTP_SECRET])
{
	uint32_t bits = 0;
	unsigned have = 0, n = 0;

	for (; *text; text++) {
		bits = bits << 5 | (uint32_t)(*text >= 'A' ? *text - 'A' : *text - '2' + 26);
		have += 5;
		if (have >= 8)
			out[n++] = (uint8_t)(bits >> (have -= 8));
	}
	assert_int_equal(n, TOTP_SECRET);
}

static char *code_at(const char *secret, int steps)
{
	uint8_t raw[TOTP_SECRET];

	secret_of(secret, raw);
	return arena_printf(&arena, "%06u", totp_value(raw, TOTP_SECRET, (uint64_t)(clock_us() / 1000000 / TOTP_STEP_S + steps), TOTP_DIGITS));
}

/* A code that is none of the next few. */
static char *wrong_code(const char *secret)
{
	for (unsigned v = 0;; v++) {
		char *text = arena_printf(&arena, "%06u", v);
		bool used = false;

		for (int i = -3; i <= 3; i++)
			used = used || strcmp(text, code_at(secret, i)) == 0;
		if (!used)
			return text;
	}
}

/* -- calls */

static struct outcome *prove(const char *rpc, const struct rpc_principal *who, const char *password, const char *code)
{
	Crm__V1__MfaProofRequest r = CRM__V1__MFA_PROOF_REQUEST__INIT;

	r.password = (char *)password;
	r.code = (char *)code;
	return invoke(rpc, who, &r);
}

static struct outcome *try_enrol(const struct rpc_principal *who, const char *password)
{
	Crm__V1__EnrolMfaRequest r = CRM__V1__ENROL_MFA_REQUEST__INIT;

	r.password = (char *)password;
	return invoke("Auth.EnrolMfa", who, &r);
}

static struct outcome *try_confirm(const struct rpc_principal *who, const char *code)
{
	Crm__V1__ConfirmMfaRequest r = CRM__V1__CONFIRM_MFA_REQUEST__INIT;

	r.code = (char *)code;
	return invoke("Auth.ConfirmMfa", who, &r);
}

static Crm__V1__MfaEnrolment *enrol(const struct rpc_principal *who)
{
	return reply_of(try_enrol(who, PASSWORD), &crm__v1__mfa_enrolment__descriptor);
}

/* Begins early in a step, so that "the code of now" is the same one for a few seconds. */
static Crm__V1__Mfa *protect(const struct rpc_principal *who, const char **secret)
{
	while (clock_us() / 1000000 % TOTP_STEP_S > TOTP_STEP_S - 4)
		usleep(100000);
	*secret = enrol(who)->secret;
	return reply_of(try_confirm(who, code_at(*secret, 0)), &crm__v1__mfa__descriptor);
}

static Crm__V1__Session *session_of(struct outcome *o)
{
	return reply_of(o, &crm__v1__session__descriptor);
}

static char *challenge_for(const char *email, struct str ip)
{
	Crm__V1__Session *s = session_of(try_login(email, PASSWORD, ip));

	assert_null(s->access_token);
	assert_null(s->refresh_token);
	assert_null(s->user);
	assert_non_null(s->challenge);
	assert_true(s->challenge_expires_in > 0 && s->challenge_expires_in <= 300);
	return s->challenge;
}

static struct outcome *answer_new(const char *challenge, const char *code, struct str ip)
{
	Crm__V1__LoginMfaRequest r = CRM__V1__LOGIN_MFA_REQUEST__INIT;
	struct outcome *o;

	r.challenge = (char *)challenge;
	r.code = (char *)code;
	o = call_new("Auth.LoginMfa", NULL, &r);
	o->call.client_ip = ip;
	return o;
}

static struct outcome *answer(const char *challenge, const char *code, struct str ip)
{
	struct outcome *o = answer_new(challenge, code, ip);

	call_start(o);
	return call_wait(o);
}

/* As if time had passed: codes of now may be used again. */
static void later(const struct rpc_principal *who)
{
	pg_fixture_sql(pg, arena_printf(&arena, "UPDATE auth.mfa SET last_step = 0 WHERE person_id = '%.*s'", STR_FMT(who->user_id)));
}

static struct rpc_principal person(const char *email)
{
	return principal_of(register_person(email, "Ada Lovelace"));
}

/* -- enrolment */

static void test_what_is_not_confirmed_protects_nothing(void **state)
{
	struct rpc_principal who = person("half@mfa.example");
	const char *first = enrol(&who)->secret, *second;

	second = enrol(&who)->secret;
	assert_string_not_equal(first, second);
	assert_non_null(session_of(try_login("half@mfa.example", PASSWORD, AWAY))->access_token);
	assert_violation(try_confirm(&who, code_at(first, 0)), STATUS_VALIDATION_ERROR, "code");
	assert_int_equal(try_confirm(&who, code_at(second, 0))->status, STATUS_OK);
	assert_int_equal(try_confirm(&who, code_at(second, 1))->status, STATUS_CONFLICT);
	assert_int_equal(try_enrol(&who, PASSWORD)->status, STATUS_CONFLICT);
	assert_violation(try_enrol(&who, "not the password"), STATUS_VALIDATION_ERROR, "password");
}

static void test_confirming_ends_other_sessions_and_is_an_event_without_secrets(void **state)
{
	struct rpc_principal who = person("events@mfa.example"), other = principal_of(session_of(try_login("events@mfa.example", PASSWORD, AWAY)));
	const char *secret;
	Crm__V1__Mfa *m = protect(&who, &secret);

	assert_int_equal(m->n_recovery_code, MFA_RECOVERY_CODES);
	assert_string_equal(valuef("SELECT revoked_why FROM auth.session WHERE id = '?'", arena_strdup(&arena, other.session_id)), "second factor enabled");
	assert_string_equal(valuef("SELECT revoked_at IS NULL FROM auth.session WHERE id = '?'", arena_strdup(&arena, who.session_id)), "t");
	assert_string_equal(valuef("SELECT count(*) FROM auth.outbox WHERE type = 'auth.mfa.enabled' AND entity_id = '?'", arena_strdup(&arena, who.user_id)), "1");
	assert_string_equal(valuef("SELECT count(*) FROM auth.outbox o WHERE o::text ILIKE '%?%'", secret), "0");
	assert_string_equal(valuef("SELECT count(*) FROM auth.mfa m WHERE m::text ILIKE '%?%'", secret), "0");
	assert_string_equal(value("SELECT count(*) FROM auth.mfa WHERE length(key_id) <> 16"), "0");
}

/* -- login */

static void test_a_login_asks_for_a_code_and_a_code_works_once(void **state)
{
	struct rpc_principal who = person("once@mfa.example");
	const char *secret, *code, *challenge;
	Crm__V1__Session *s;

	protect(&who, &secret);
	challenge = challenge_for("once@mfa.example", AWAY);
	assert_int_equal(answer(challenge, code_at(secret, 0), AWAY)->status, STATUS_AUTH_FAILED); /* confirmed with it */
	code = code_at(secret, 1);
	s = session_of(answer(challenge, code, AWAY));
	assert_non_null(s->access_token);
	assert_non_null(s->refresh_token);
	assert_string_equal(s->user->email, "once@mfa.example");
	assert_int_equal(answer(challenge, code, AWAY)->status, STATUS_AUTH_FAILED); /* the challenge is used up */
	assert_int_equal(answer(challenge_for("once@mfa.example", AWAY), code, AWAY)->status, STATUS_AUTH_FAILED);
	later(&who);
	assert_int_equal(answer(challenge_for("once@mfa.example", AWAY), code, AWAY)->status, STATUS_OK);
}

static void test_two_answers_with_one_code_open_one_session(void **state)
{
	struct rpc_principal who = person("race@mfa.example");
	const char *secret, *code;
	struct outcome *o[4];
	int good = 0;

	protect(&who, &secret);
	code = code_at(secret, 1);
	for (int i = 0; i < 4; i++)
		o[i] = answer_new(challenge_for("race@mfa.example", AWAY), code, AWAY);
	for (int i = 0; i < 4; i++)
		call_start(o[i]);
	for (int i = 0; i < 4; i++)
		good += call_wait(o[i])->status == STATUS_OK;
	assert_int_equal(good, 1);
}

static void test_a_challenge_expires_and_belongs_to_one_person(void **state)
{
	struct rpc_principal a = person("a@bound.example"), b = person("b@bound.example");
	const char *of_a, *of_b, *challenge;

	protect(&a, &of_a);
	protect(&b, &of_b);
	challenge = challenge_for("a@bound.example", AWAY);
	assert_int_equal(answer(challenge, code_at(of_b, 1), AWAY)->status, STATUS_AUTH_FAILED);
	assert_int_equal(answer("no such challenge", code_at(of_a, 1), AWAY)->status, STATUS_AUTH_FAILED);
	pg_fixture_sql(pg, "UPDATE auth.mfa_challenge SET expires_at = now() - interval '1 second'");
	assert_int_equal(answer(challenge, code_at(of_a, 1), AWAY)->status, STATUS_AUTH_FAILED);
	challenge_for("a@bound.example", AWAY);
	assert_string_equal(value("SELECT count(*) FROM auth.mfa_challenge WHERE expires_at < now()"), "0");
}

static void test_the_sixth_wrong_try_locks_this_address_alone(void **state)
{
	struct rpc_principal who = person("lock@mfa.example");
	const char *secret, *bad, *challenge;
	struct outcome *o;

	protect(&who, &secret);
	bad = wrong_code(secret);
	challenge = challenge_for("lock@mfa.example", AWAY);
	for (int i = 0; i < MFA_TRIES; i++)
		assert_int_equal(answer(challenge, bad, AWAY)->status, STATUS_AUTH_FAILED);
	challenge = challenge_for("lock@mfa.example", AWAY); /* the old one died of five wrong tries */
	o = answer(challenge, bad, AWAY);
	assert_int_equal(o->status, STATUS_RATE_LIMIT_EXCEEDED);
	assert_true(o->retry_after_ms > 1000 && o->retry_after_ms <= 901000);
	assert_int_equal(answer(challenge, code_at(secret, 1), AWAY)->status, STATUS_RATE_LIMIT_EXCEEDED);
	assert_int_equal(answer(challenge, code_at(secret, 1), STR("203.0.113.5"))->status, STATUS_OK);
	assert_string_equal(valuef("SELECT count(*) FROM auth.outbox WHERE type = 'auth.user.login_failed' AND entity_id = '?'", arena_strdup(&arena, who.user_id)),
			    "5");
}

static void test_five_wrong_tries_end_a_challenge(void **state)
{
	struct rpc_principal who = person("five@mfa.example");
	const char *secret, *bad, *challenge;

	protect(&who, &secret);
	bad = wrong_code(secret);
	challenge = challenge_for("five@mfa.example", AWAY);
	for (int i = 0; i < MFA_TRIES; i++)
		assert_int_equal(answer(challenge, bad, str_of(arena_printf(&arena, "203.0.113.%d", i)))->status, STATUS_AUTH_FAILED);
	assert_int_equal(answer(challenge, code_at(secret, 1), STR("203.0.113.99"))->status, STATUS_AUTH_FAILED);
}

static void test_guessing_from_everywhere_ends(void **state)
{
	struct rpc_principal who = person("botnet@mfa.example");
	const char *secret, *bad, *challenge = NULL;

	protect(&who, &secret);
	bad = wrong_code(secret);
	for (int i = 0; i < MFA_TRIES_ANYWHERE; i++) {
		if (i % MFA_TRIES == 0)
			challenge = challenge_for("botnet@mfa.example", str_of(arena_printf(&arena, "203.0.113.%d", i)));
		assert_int_equal(answer(challenge, bad, str_of(arena_printf(&arena, "203.0.113.%d", i)))->status, STATUS_AUTH_FAILED);
	}
	challenge = challenge_for("botnet@mfa.example", AWAY);
	assert_int_equal(answer(challenge, code_at(secret, 1), AWAY)->status, STATUS_RATE_LIMIT_EXCEEDED);
}

static void test_recovery_codes_work_once_each_however_they_are_typed(void **state)
{
	struct rpc_principal who = person("recover@mfa.example");
	const char *secret;
	Crm__V1__Mfa *m = protect(&who, &secret), *now;
	Crm__V1__Empty empty = CRM__V1__EMPTY__INIT;
	char *typed = arena_printf(&arena, " %s", m->recovery_code[0]);

	for (char *c = typed; *c; c++)
		*c = *c == '-' ? ' ' : *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
	assert_int_equal(answer(challenge_for("recover@mfa.example", AWAY), typed, AWAY)->status, STATUS_OK);
	assert_int_equal(answer(challenge_for("recover@mfa.example", AWAY), m->recovery_code[0], AWAY)->status, STATUS_AUTH_FAILED);
	assert_int_equal(answer(challenge_for("recover@mfa.example", AWAY), m->recovery_code[9], AWAY)->status, STATUS_OK);
	now = reply_of(invoke("Auth.GetMfa", &who, &empty), &crm__v1__mfa__descriptor);
	assert_true(now->enabled);
	assert_int_equal(now->recovery_codes_left, 8);
	assert_string_equal(valuef("SELECT count(*) FROM auth.outbox WHERE type = 'auth.mfa.recovery_used' AND entity_id = '?'", arena_strdup(&arena, who.user_id)),
			    "2");
	later(&who);
	now = reply_of(prove("Auth.RenewRecoveryCodes", &who, NULL, code_at(secret, 0)), &crm__v1__mfa__descriptor);
	assert_int_equal(now->n_recovery_code, MFA_RECOVERY_CODES);
	assert_int_equal(answer(challenge_for("recover@mfa.example", AWAY), m->recovery_code[5], AWAY)->status, STATUS_AUTH_FAILED);
	assert_int_equal(answer(challenge_for("recover@mfa.example", AWAY), now->recovery_code[5], AWAY)->status, STATUS_OK);
}

static void test_a_secret_opens_for_its_person_only(void **state)
{
	struct rpc_principal a = person("a@swap.example"), b = person("b@swap.example");
	const char *of_a, *of_b;

	protect(&a, &of_a);
	protect(&b, &of_b);
	pg_fixture_sql(pg, arena_printf(&arena, "UPDATE auth.mfa SET secret = (SELECT secret FROM auth.mfa WHERE person_id = '%.*s') WHERE person_id = '%.*s'",
			   STR_FMT(a.user_id), STR_FMT(b.user_id)));
	assert_int_equal(answer(challenge_for("b@swap.example", AWAY), code_at(of_a, 1), AWAY)->status, STATUS_INTERNAL);
}

static void test_disabling_needs_a_proof(void **state)
{
	struct rpc_principal who = person("off@mfa.example");
	const char *secret;

	protect(&who, &secret);
	assert_violation(prove("Auth.DisableMfa", &who, NULL, NULL), STATUS_VALIDATION_ERROR, "password");
	assert_violation(prove("Auth.DisableMfa", &who, "not the password", NULL), STATUS_VALIDATION_ERROR, "password");
	assert_violation(prove("Auth.DisableMfa", &who, NULL, wrong_code(secret)), STATUS_VALIDATION_ERROR, "code");
	assert_int_equal(prove("Auth.DisableMfa", &who, NULL, code_at(secret, 1))->status, STATUS_OK);
	assert_non_null(session_of(try_login("off@mfa.example", PASSWORD, AWAY))->access_token);
	assert_string_equal(valuef("SELECT count(*) FROM auth.outbox WHERE type = 'auth.mfa.disabled' AND entity_id = '?'", arena_strdup(&arena, who.user_id)), "1");
	assert_string_equal(value("SELECT count(*) FROM auth.mfa_recovery r WHERE NOT EXISTS (SELECT FROM auth.mfa WHERE person_id = r.person_id)"), "0");
}

static void test_a_key_has_no_business_here(void **state)
{
	struct rpc_principal who = person("key@mfa.example");
	Crm__V1__Empty empty = CRM__V1__EMPTY__INIT;

	who.api_key_id = STR("0190a5d0-0000-7000-8000-000000000001");
	assert_int_equal(invoke("Auth.GetMfa", &who, &empty)->status, STATUS_PERMISSION_DENIED);
	assert_int_equal(try_enrol(&who, PASSWORD)->status, STATUS_PERMISSION_DENIED);
	assert_int_equal(try_confirm(&who, "000000")->status, STATUS_PERMISSION_DENIED);
	assert_int_equal(prove("Auth.DisableMfa", &who, PASSWORD, NULL)->status, STATUS_PERMISSION_DENIED);
	assert_int_equal(prove("Auth.RenewRecoveryCodes", &who, PASSWORD, NULL)->status, STATUS_PERMISSION_DENIED);
}

/* -- a tenant that asks for it */

static struct outcome *set_demand(const struct rpc_principal *who, const char *json)
{
	Crm__V1__Setting m = CRM__V1__SETTING__INIT;
	Crm__V1__WriteRequest w = CRM__V1__WRITE_REQUEST__INIT;
	Crm__V1__Key key = CRM__V1__KEY__INIT;
	uint8_t bytes[64];
	uint32_t mask = 18;

	m.has_value = 1;
	m.value = (ProtobufCBinaryData){ strlen(json), (uint8_t *)json };
	key.has_seq = key.seq = 1;
	w.key = &key;
	w.has_entity = 1;
	w.entity.data = bytes;
	w.entity.len = crm__v1__setting__pack(&m, bytes);
	w.mask = &mask;
	w.n_mask = 1;
	return invoke("Settings.Update", who, &w);
}

static Crm__V1__User *create(const struct rpc_principal *who, const char *email)
{
	Crm__V1__User u = CRM__V1__USER__INIT;
	Crm__V1__WriteRequest w = CRM__V1__WRITE_REQUEST__INIT;
	uint8_t bytes[512];

	u.email = (char *)email;
	u.role = "agent";
	u.password = PASSWORD;
	w.has_entity = 1;
	w.entity.data = bytes;
	w.entity.len = crm__v1__user__pack(&u, bytes);
	return reply_of(invoke("Users.Create", who, &w), &crm__v1__user__descriptor);
}

static struct outcome *by_challenge(const char *challenge, const char *code)
{
	Crm__V1__LoginEnrolMfaRequest e = CRM__V1__LOGIN_ENROL_MFA_REQUEST__INIT;
	Crm__V1__LoginConfirmMfaRequest c = CRM__V1__LOGIN_CONFIRM_MFA_REQUEST__INIT;

	e.challenge = c.challenge = (char *)challenge;
	c.code = (char *)code;
	return code ? invoke("Auth.LoginConfirmMfa", NULL, &c) : invoke("Auth.LoginEnrolMfa", NULL, &e);
}

static void test_who_lacks_what_the_tenant_asks_for_is_out_until_they_have_it(void **state)
{
	struct rpc_principal boss = person("boss@demand.example"), agent;
	const char *secret, *mine, *challenge;
	Crm__V1__Session *s;

	create(&boss, "agent@demand.example");
	agent = principal_of(session_of(try_login("agent@demand.example", PASSWORD, AWAY)));
	assert_int_equal(set_demand(&boss, "true")->status, STATUS_CONFLICT); /* the boss would be out, too */
	protect(&boss, &secret);
	assert_int_equal(set_demand(&boss, "true")->status, STATUS_OK);
	assert_string_equal(valuef("SELECT s.revoked_at IS NOT NULL AND c.revoked FROM auth.session s JOIN auth.change c ON c.kind = 'session' AND c.id = s.id::text"
				   " WHERE s.id = '?'", arena_strdup(&arena, agent.session_id)), "t");
	assert_string_equal(valuef("SELECT revoked_at IS NULL FROM auth.session WHERE id = '?'", arena_strdup(&arena, boss.session_id)), "t");
	s = session_of(try_login("agent@demand.example", PASSWORD, AWAY));
	assert_true(s->mfa_enrolment_required && !s->mfa_required && !s->access_token);
	challenge = s->challenge;
	assert_int_equal(answer(challenge, "000000", AWAY)->status, STATUS_AUTH_FAILED); /* for setting up only */
	assert_int_equal(by_challenge(challenge, "000000")->status, STATUS_CONFLICT);
	mine = ((Crm__V1__MfaEnrolment *)reply_of(by_challenge(challenge, NULL), &crm__v1__mfa_enrolment__descriptor))->secret;
	assert_int_equal(by_challenge(challenge, wrong_code(mine))->status, STATUS_AUTH_FAILED);
	assert_int_equal(((Crm__V1__Mfa *)reply_of(by_challenge(challenge, code_at(mine, 0)), &crm__v1__mfa__descriptor))->n_recovery_code, 10);
	assert_int_equal(by_challenge(challenge, code_at(mine, 1))->status, STATUS_AUTH_FAILED);
	agent = principal_of(session_of(answer(challenge_for("agent@demand.example", AWAY), code_at(mine, 1), AWAY)));
	assert_int_equal(prove("Auth.DisableMfa", &agent, PASSWORD, NULL)->status, STATUS_CONFLICT);
	assert_int_equal(set_demand(&boss, "false")->status, STATUS_OK);
	assert_int_equal(prove("Auth.DisableMfa", &agent, PASSWORD, NULL)->status, STATUS_OK);
}

static struct outcome *enter_as(const struct rpc_principal *who, struct str tenant)
{
	Crm__V1__PrincipalRequest r = CRM__V1__PRINCIPAL_REQUEST__INIT;
	Crm__V1__Key key = CRM__V1__KEY__INIT;

	key.id = arena_strdup(&arena, tenant);
	r.user_id = arena_strdup(&arena, who->user_id);
	r.tenant = &key;
	return invoke("Auth.ResolvePrincipal", NULL, &r);
}

static PGresult *run(PGconn *c, const char *sql)
{
	PGresult *res = PQexec(c, sql);

	assert_true(PQresultStatus(res) == PGRES_COMMAND_OK || PQresultStatus(res) == PGRES_TUPLES_OK);
	return res;
}

/* The switch is turned while somebody is at the door: they wait, and are asked. */
static void test_no_login_slips_through_while_the_switch_is_turned(void **state)
{
	struct rpc_principal boss = person("boss@race2.example");
	PGconn *admin = PQconnectdb(pg_fixture_url(pg, "postgres"));
	Crm__V1__LoginRequest r = CRM__V1__LOGIN_REQUEST__INIT;
	struct outcome *o;

	PQclear(run(admin, "BEGIN"));
	PQclear(run(admin, arena_printf(&arena, "SELECT FROM auth.tenant WHERE id = '%.*s' FOR NO KEY UPDATE", STR_FMT(boss.tenant_id))));
	PQclear(run(admin, arena_printf(&arena, "INSERT INTO auth.setting (tenant_id, key, id, seq, type, value) VALUES ('%.*s', 'security.mfa_required', gen_random_uuid(), 1,"
				       " 'boolean', 'true')", STR_FMT(boss.tenant_id))));
	r.email = "boss@race2.example";
	r.password = PASSWORD;
	o = call_new("Auth.Login", NULL, &r);
	call_start(o);
	usleep(700000);
	pthread_mutex_lock(&lock);
	assert_false(o->done);
	pthread_mutex_unlock(&lock);
	PQclear(run(admin, "COMMIT"));
	assert_true(session_of(call_wait(o))->mfa_enrolment_required);
	PQfinish(admin);
}

static void test_no_way_in_through_another_tenant(void **state)
{
	struct rpc_principal boss = person("boss@strict.example"), guest = person("guest@lax.example");
	const char *secret;

	protect(&boss, &secret);
	pg_fixture_sql(pg, arena_printf(&arena, "INSERT INTO auth.membership (tenant_id, user_id, seq, role) VALUES ('%.*s', '%.*s', 77, 'agent')",
			   STR_FMT(boss.tenant_id), STR_FMT(guest.user_id)));
	assert_int_equal(enter_as(&guest, boss.tenant_id)->status, STATUS_OK);
	assert_int_equal(set_demand(&boss, "true")->status, STATUS_OK);
	assert_int_equal(enter_as(&guest, boss.tenant_id)->status, STATUS_CONFLICT);
	assert_int_equal(enter_as(&guest, guest.tenant_id)->status, STATUS_OK);
	assert_string_equal(arena_printf(&arena, "%s", valuef("SELECT count(*) FROM auth.change WHERE kind = 'member' AND id LIKE '%/?'", arena_strdup(&arena, guest.user_id))), "1");
	protect(&guest, &secret);
	assert_int_equal(enter_as(&guest, boss.tenant_id)->status, STATUS_OK);
}

static void test_an_administrator_takes_a_lost_one_away_but_not_their_own(void **state)
{
	struct rpc_principal boss = person("boss@lost.example"), agent;
	Crm__V1__User *u = create(&boss, "agent@lost.example");
	Crm__V1__KeyRequest r = CRM__V1__KEY_REQUEST__INIT;
	Crm__V1__Key key = CRM__V1__KEY__INIT;
	const char *secret;

	agent = principal_of(session_of(try_login("agent@lost.example", PASSWORD, AWAY)));
	protect(&agent, &secret);
	protect(&boss, &secret);
	r.key = &key;
	key.id = arena_strdup(&arena, boss.user_id);
	assert_int_equal(invoke("Users.DisableMfa", &boss, &r)->status, STATUS_PERMISSION_DENIED);
	assert_int_equal(invoke("Users.DisableMfa", &agent, &r)->status, STATUS_PERMISSION_DENIED);
	key.id = u->id;
	assert_int_equal(invoke("Users.DisableMfa", &boss, &r)->status, STATUS_OK);
	assert_int_equal(invoke("Users.DisableMfa", &boss, &r)->status, STATUS_NOT_FOUND);
	assert_string_equal(valuef("SELECT count(*) FROM auth.session WHERE user_id = '?' AND revoked_at IS NULL", u->id), "0");
	assert_non_null(session_of(try_login("agent@lost.example", PASSWORD, AWAY))->access_token);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_what_is_not_confirmed_protects_nothing, fresh),
		cmocka_unit_test_setup(test_confirming_ends_other_sessions_and_is_an_event_without_secrets, fresh),
		cmocka_unit_test_setup(test_a_login_asks_for_a_code_and_a_code_works_once, fresh),
		cmocka_unit_test_setup(test_two_answers_with_one_code_open_one_session, fresh),
		cmocka_unit_test_setup(test_a_challenge_expires_and_belongs_to_one_person, fresh),
		cmocka_unit_test_setup(test_the_sixth_wrong_try_locks_this_address_alone, fresh),
		cmocka_unit_test_setup(test_five_wrong_tries_end_a_challenge, fresh),
		cmocka_unit_test_setup(test_guessing_from_everywhere_ends, fresh),
		cmocka_unit_test_setup(test_recovery_codes_work_once_each_however_they_are_typed, fresh),
		cmocka_unit_test_setup(test_a_secret_opens_for_its_person_only, fresh),
		cmocka_unit_test_setup(test_disabling_needs_a_proof, fresh),
		cmocka_unit_test_setup(test_a_key_has_no_business_here, fresh),
		cmocka_unit_test_setup(test_who_lacks_what_the_tenant_asks_for_is_out_until_they_have_it, fresh),
		cmocka_unit_test_setup(test_no_login_slips_through_while_the_switch_is_turned, fresh),
		cmocka_unit_test_setup(test_no_way_in_through_another_tenant, fresh),
		cmocka_unit_test_setup(test_an_administrator_takes_a_lost_one_away_but_not_their_own, fresh),
	};

	return cmocka_run_group_tests(tests, harness_start, harness_stop);
}
