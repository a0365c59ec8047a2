/* The second factor in the database: secrets sealed, recovery codes as MACs, each code once. */
#include "mfa.h"

#include <openssl/crypto.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "keys.h"
#include "people.h"
#include "seal.h"
#include "throttle.h"
#include "token.h"
#include "totp.h"

#define PURPOSE "mfa-secret"
#define RECOVERY_PURPOSE "mfa-recovery"
#define RECOVERY_CHARS 10 /* of base32: 50 bits */
#define RECOVERY_TEXT (RECOVERY_CHARS + 2)

static const char *issuer = "CRM";

void mfa_init(const char *name)
{
	issuer = name;
}

/* A statement of its own: the next one sees what was committed while this one waited. */
enum status mfa_order(struct db_conn *db, const char *tenant)
{
	return db_exec(db, NULL, "SELECT FROM tenant WHERE id = $1::uuid FOR SHARE", 1, &tenant);
}

enum status mfa_standing(struct db_conn *db, const char *person, const char *tenant, struct mfa_standing *out)
{
	const char *params[] = { person, tenant };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"SELECT EXISTS (SELECT FROM mfa WHERE person_id = $1::uuid AND confirmed_at IS NOT NULL),"
				" EXISTS (SELECT FROM setting WHERE tenant_id = $2::uuid AND key = 'security.mfa_required' AND value = 'true'::jsonb)",
				2, params);

	*out = (struct mfa_standing){ 0 };
	if (s == STATUS_OK) {
		out->enabled = *PQgetvalue(res, 0, 0) == 't';
		out->required = *PQgetvalue(res, 0, 1) == 't';
	}
	PQclear(res);
	return s;
}

/* -- tries */

#define EVERYWHERE STR("anywhere")

static struct str counted(const char *person, char text[UUID_TEXT + 8])
{
	snprintf(text, UUID_TEXT + 8, "mfa:%s", person);
	return str_of(text);
}

uint32_t mfa_try(const struct rpc_call *call, const char *person)
{
	char text[UUID_TEXT + 8];
	struct str what = counted(person, text);
	uint32_t wait = throttle_take_apart(call->client_ip, what, MFA_TRIES, clock_us());

	if (wait)
		return wait;
	wait = throttle_take_apart(EVERYWHERE, what, MFA_TRIES_ANYWHERE, clock_us());
	if (wait)
		throttle_give_back_apart(call->client_ip, what, MFA_TRIES, clock_us());
	return wait;
}

void mfa_try_back(const struct rpc_call *call, const char *person)
{
	char text[UUID_TEXT + 8];
	struct str what = counted(person, text);

	throttle_give_back_apart(call->client_ip, what, MFA_TRIES, clock_us());
	throttle_give_back_apart(EVERYWHERE, what, MFA_TRIES_ANYWHERE, clock_us());
}

/* -- codes */

struct stored {
	bool there, confirmed;
	uint64_t last_step;
	uint8_t secret[TOTP_SECRET];
};

static enum status unseal(struct rpc_call *call, const char *person, const char *key_id, const char *sealed, struct stored *out)
{
	char mine[KEYS_ID_TEXT];
	struct str text;

	keys_id(mine);
	if (!seal_open(&call->arena, PURPOSE, person, str_of(sealed), &text) || text.n != TOTP_SECRET) {
		log_error("AUTH-MFA-UNSEAL", "a second factor sealed with key %s does not open with key %s: is KEY_ENCRYPTION_KEY_FILE the right one?", key_id,
			  mine);
		return STATUS_INTERNAL;
	}
	memcpy(out->secret, text.p, TOTP_SECRET);
	OPENSSL_cleanse((char *)text.p, text.n);
	return STATUS_OK;
}

/* Locked: of two answers with the same code one finds it used. */
static enum status take(struct rpc_call *call, struct db_conn *db, const char *person, struct stored *out)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT key_id, secret, last_step, confirmed_at IS NOT NULL FROM mfa WHERE person_id = $1::uuid FOR UPDATE", 1, &person);

	*out = (struct stored){ 0 };
	if (s == STATUS_OK && PQntuples(res)) {
		out->there = true;
		out->last_step = (uint64_t)col_i64(res, 0, 2);
		out->confirmed = *PQgetvalue(res, 0, 3) == 't';
		s = unseal(call, person, PQgetvalue(res, 0, 0), PQgetvalue(res, 0, 1), out);
	}
	PQclear(res);
	return s;
}

static enum status by_time(struct rpc_call *call, struct db_conn *db, const char *person, const struct stored *m, struct str code)
{
	uint64_t step = totp_check(m->secret, code, clock_us() / 1000000, m->last_step);
	const char *params[] = { person, param_i64(call, (int64_t)step) };

	if (!step)
		return STATUS_AUTH_FAILED;
	return db_exec(db, NULL, "UPDATE mfa SET last_step = $2::bigint WHERE person_id = $1::uuid", 2, params);
}

static void recovery_mac(const char *person, struct str code, char out[BYTEA_TEXT])
{
	char text[UUID_TEXT + RECOVERY_CHARS + 2];
	uint8_t mac[32];

	snprintf(text, sizeof(text), "%s:%.*s", person, STR_FMT(code));
	keys_mac(RECOVERY_PURPOSE, str_of(text), mac);
	out[0] = '\\';
	out[1] = 'x';
	hex_encode(mac, sizeof(mac), out + 2);
	OPENSSL_cleanse(text, sizeof(text));
}

static enum status by_recovery(struct rpc_call *call, struct db_conn *db, const char *person, struct str code)
{
	char mac[BYTEA_TEXT];
	const char *params[] = { person, mac };
	PGresult *res = NULL;
	enum status s;

	recovery_mac(person, code, mac);
	s = db_exec(db, &res,
		    "UPDATE mfa_recovery SET used_at = now() WHERE person_id = $1::uuid AND code_hash = $2::bytea AND used_at IS NULL RETURNING person_id", 2,
		    params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_AUTH_FAILED;
	PQclear(res);
	return s == STATUS_OK ? mfa_tell(call, db, "auth.mfa.recovery_used", person) : s;
}

/* As people type it: spaces and hyphens do not count, case neither. */
static struct str plain(const char *code, char out[RECOVERY_CHARS + 1])
{
	size_t n = 0;

	for (const char *c = code; *c; c++) {
		if (*c == ' ' || *c == '-')
			continue;
		if (n == RECOVERY_CHARS)
			return (struct str){ "", 0 };
		out[n++] = *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c;
	}
	out[n] = '\0';
	return (struct str){ out, n };
}

enum status mfa_verify(struct rpc_call *call, struct db_conn *db, const char *person, const char *code)
{
	char text[RECOVERY_CHARS + 1];
	struct str s = plain(code, text);
	struct stored m;
	enum status got = take(call, db, person, &m);

	if (got == STATUS_OK && !m.confirmed)
		got = STATUS_AUTH_FAILED;
	if (got == STATUS_OK)
		got = s.n == RECOVERY_CHARS ? by_recovery(call, db, person, s) : by_time(call, db, person, &m, s);
	OPENSSL_cleanse(&m, sizeof(m));
	OPENSSL_cleanse(text, sizeof(text));
	return got;
}

/* -- enrolment */

static enum status email_of(struct rpc_call *call, struct db_conn *db, const char *person, const char **email)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT email FROM person WHERE id = $1::uuid", 1, &person);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		*email = col_text(call, res, 0, 0);
	PQclear(res);
	return s;
}

enum status mfa_enrol(struct rpc_call *call, struct db_conn *db, const char *person, Crm__V1__MfaEnrolment *out)
{
	uint8_t secret[TOTP_SECRET];
	char key_id[KEYS_ID_TEXT];
	const char *params[3] = { person, key_id, NULL }, *email = NULL;
	PGresult *res = NULL;
	enum status s = email_of(call, db, person, &email);

	if (s != STATUS_OK)
		return s;
	random_bytes(secret, sizeof(secret));
	keys_id(key_id);
	params[2] = seal_text(&call->arena, PURPOSE, person, (struct str){ (char *)secret, sizeof(secret) });
	s = db_exec(db, &res,
		    "INSERT INTO mfa (person_id, key_id, secret) VALUES ($1::uuid, $2, $3::bytea) ON CONFLICT (person_id) DO UPDATE"
		    " SET key_id = excluded.key_id, secret = excluded.secret, last_step = 0, created_at = now() WHERE mfa.confirmed_at IS NULL RETURNING person_id",
		    3, params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_CONFLICT;
	PQclear(res);
	crm__v1__mfa_enrolment__init(out);
	out->secret = base32(&call->arena, secret, sizeof(secret));
	out->uri = totp_uri(&call->arena, issuer, email, out->secret);
	OPENSSL_cleanse(secret, sizeof(secret));
	return s;
}

enum status mfa_recovery_new(struct rpc_call *call, struct db_conn *db, const char *person, Crm__V1__Mfa *out)
{
	char *macs[MFA_RECOVERY_CODES];
	const char *params[] = { person, NULL };
	enum status s = db_exec(db, NULL, "DELETE FROM mfa_recovery WHERE person_id = $1::uuid", 1, params);

	out->recovery_code = arena_alloc(&call->arena, sizeof(macs));
	for (size_t i = 0; i < MFA_RECOVERY_CODES; i++) {
		uint8_t raw[7];
		char *text;

		random_bytes(raw, sizeof(raw));
		text = base32(&call->arena, raw, sizeof(raw));
		text[RECOVERY_CHARS] = '\0';
		macs[i] = arena_alloc(&call->arena, BYTEA_TEXT);
		recovery_mac(person, str_of(text), macs[i]);
		out->recovery_code[out->n_recovery_code++] = arena_printf(&call->arena, "%.5s-%s", text, text + 5);
	}
	params[1] = param_array(call, macs, MFA_RECOVERY_CODES);
	if (s == STATUS_OK)
		s = db_exec(db, NULL, "INSERT INTO mfa_recovery (person_id, code_hash) SELECT $1::uuid, c::bytea FROM unnest($2::text[]) c", 2, params);
	out->has_recovery_codes_left = 1;
	out->recovery_codes_left = MFA_RECOVERY_CODES;
	return s;
}

enum status mfa_confirm(struct rpc_call *call, struct db_conn *db, const char *person, const char *code, const char *but, Crm__V1__Mfa *out)
{
	char text[RECOVERY_CHARS + 1];
	struct stored m;
	enum status s = take(call, db, person, &m);

	crm__v1__mfa__init(out);
	if (s == STATUS_OK && (!m.there || m.confirmed))
		s = STATUS_CONFLICT;
	if (s == STATUS_OK)
		s = by_time(call, db, person, &m, plain(code, text));
	OPENSSL_cleanse(&m, sizeof(m));
	if (s == STATUS_OK)
		s = db_exec(db, NULL, "UPDATE mfa SET confirmed_at = now() WHERE person_id = $1::uuid", 1, &person);
	if (s == STATUS_OK)
		s = mfa_recovery_new(call, db, person, out);
	if (s == STATUS_OK)
		s = sessions_end(db, person, NULL, but, "second factor enabled");
	if (s == STATUS_OK)
		s = mfa_tell(call, db, "auth.mfa.enabled", person);
	out->has_enabled = out->has_enabled_us = 1;
	out->enabled = 1;
	out->enabled_us = clock_us();
	return s;
}

enum status mfa_remove(struct rpc_call *call, struct db_conn *db, const char *person)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "DELETE FROM mfa WHERE person_id = $1::uuid RETURNING confirmed_at IS NOT NULL", 1, &person);
	bool was = s == STATUS_OK && PQntuples(res) && *PQgetvalue(res, 0, 0) == 't';

	PQclear(res);
	if (s == STATUS_OK)
		s = db_exec(db, NULL, "DELETE FROM mfa_challenge WHERE person_id = $1::uuid", 1, &person);
	return s == STATUS_OK && was ? mfa_tell(call, db, "auth.mfa.disabled", person) : s;
}

enum status mfa_show(struct rpc_call *call, struct db_conn *db, const char *person, Crm__V1__Mfa *out)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"SELECT " SQL_US("m.confirmed_at") ", (SELECT count(*) FROM mfa_recovery WHERE person_id = $1::uuid AND used_at IS NULL)"
				" FROM (SELECT) one LEFT JOIN mfa m ON m.person_id = $1::uuid",
				1, &person);

	crm__v1__mfa__init(out);
	if (s != STATUS_OK)
		return s;
	out->has_enabled = out->has_recovery_codes_left = 1;
	out->enabled = out->has_enabled_us = !col_is_null(res, 0, 0);
	out->enabled_us = col_i64(res, 0, 0);
	out->recovery_codes_left = out->enabled ? (uint32_t)col_i64(res, 0, 1) : 0;
	PQclear(res);
	s = db_exec(db, &res, "SELECT name FROM mfa_required_by($1::uuid) name ORDER BY name", 1, &person);
	if (s == STATUS_OK) {
		out->required_by = arena_alloc(&call->arena, ((size_t)PQntuples(res) + 1) * sizeof(char *));
		for (int i = 0; i < PQntuples(res); i++)
			out->required_by[out->n_required_by++] = col_text(call, res, i, 0);
	}
	PQclear(res);
	return s;
}

/* -- at the door */

enum status mfa_challenge(struct rpc_call *call, struct db_conn *db, struct session_reply *r, const struct mfa_standing *st)
{
	char *token = arena_alloc(&call->arena, REFRESH_TEXT), hash[BYTEA_TEXT];
	const char *params[] = { hash, r->member.user_id, r->member.tenant_id, st->enabled ? "login" : "enrol", r->policy.remember_me ? "true" : "false",
		param_i64(call, MFA_CHALLENGE_S) };
	enum status s = db_exec(db, NULL, "DELETE FROM mfa_challenge WHERE expires_at < now()", 0, NULL);

	token_refresh_new(token);
	token_hash(str_of(token), hash);
	r->challenge = token;
	r->must_enrol = !st->enabled;
	if (s == STATUS_OK)
		s = db_exec(db, NULL,
			    "INSERT INTO mfa_challenge (token_hash, person_id, tenant_id, purpose, remember_me, expires_at)"
			    " VALUES ($1::bytea, $2::uuid, $3::uuid, $4, $5::boolean, now() + $6::integer * interval '1 second')",
			    6, params);
	return s;
}

enum status mfa_demand(struct rpc_call *call, struct db_conn *db)
{
	const char *tenant = param_str(call, call->who.tenant_id);
	enum status s = db_exec(db, NULL,
				"WITH dead AS (UPDATE session s SET revoked_at = now(), revoked_why = 'second factor required'"
				" WHERE s.tenant_id = $1::uuid AND s.revoked_at IS NULL"
				" AND NOT EXISTS (SELECT FROM mfa WHERE person_id = s.user_id AND confirmed_at IS NOT NULL) RETURNING id)"
				" INSERT INTO change (kind, id, revoked) SELECT 'session', id::text, true FROM dead"
				" ON CONFLICT (kind, id) DO UPDATE SET xid = pg_current_xact_id(), at = now(), revoked = true",
				1, &tenant);

	/* who came in through another tenant's session is asked about again */
	return s == STATUS_OK ? people_announce(call, db, NULL, NULL) : s;
}

enum status mfa_tell(struct rpc_call *call, struct db_conn *db, const char *type, const char *person)
{
	struct member *rows;
	size_t n;
	enum status s = member_all(call, db, person, &rows, &n);

	for (size_t i = 0; s == STATUS_OK && i < n; i++) {
		struct entity_event e = { .type = type, .entity = "user", .entity_id = person, .tenant_id = rows[i].tenant_id, .user_id = person,
			.entity_seq = rows[i].user_seq };

		if (rows[i].deleted)
			continue;
		if (call->who.user_id.n)
			e.user_id = param_str(call, call->who.user_id);
		s = handler_tenant(db, rows[i].tenant_id);
		if (s == STATUS_OK)
			s = handler_event(call, db, &e);
	}
	return s;
}
