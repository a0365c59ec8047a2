/* Leads.Convert: a lead becomes an account and a contact, given ones or new ones, in one transaction. */
#include <inttypes.h>
#include <stdio.h>

#include "base/codec.h"
#include "base/wire.h"
#include "proto/options.pb-c.h"
#include "resource/engine.h"
#include "resource/handler.h"
#include "svc-customers/keys.h"
#include "svc-customers/ops.h"

struct convert {
	struct rpc_call *call;
	struct db_conn *db;
	struct entity_key lead, account, contact;
	bool has_account, has_contact;
	bool has_deal;
	const char *deal_seq;
	char lead_id[37], account_id[37], contact_id[37], user[37];
	const char *why; /* sentence of a CONFLICT */
};

/* The gateway has asked svc-sales and filled in both keys; the number is what a lead shows. */
static void deal_read(struct convert *c, struct str key)
{
	struct wire_reader r = wire_read(key);
	struct wire_field f;

	c->has_deal = true;
	while (wire_next(&r, &f))
		if (f.number == 2 && f.type == WIRE_VARINT && f.value)
			c->deal_seq = arena_printf(&c->call->arena, "%" PRId64, (int64_t)f.value);
	if (!c->deal_seq)
		rpc_violate(c->call, "deal", "exists", "does not exist", NULL);
}

static bool request_read(struct convert *c)
{
	struct wire_reader r = wire_read(c->call->payload);
	struct wire_field f;

	while (wire_next(&r, &f)) {
		if (f.number == 1 && f.type == WIRE_BYTES) {
			c->lead = entity_key_read(c->call, f.bytes);
		} else if (f.number == 2 && f.type == WIRE_BYTES) {
			c->account = entity_key_read(c->call, f.bytes);
			c->has_account = true;
		} else if (f.number == 3 && f.type == WIRE_BYTES) {
			c->contact = entity_key_read(c->call, f.bytes);
			c->has_contact = true;
		} else if (f.number == 5 && f.type == WIRE_BYTES) {
			deal_read(c, f.bytes);
		}
	}
	return !r.bad;
}

/* Locks the lead; a second conversion waits here and then finds it converted. */
static enum status lead_lock(struct convert *c)
{
	PGresult *res = NULL;
	const char *params[] = { c->lead_id };
	enum status s = entity_find(c->db, "lead", &c->lead, c->lead_id);

	if (s != STATUS_OK)
		return s;
	s = db_exec(c->db, &res, "SELECT converted_at IS NOT NULL FROM lead WHERE id = $1 AND deleted_at IS NULL FOR UPDATE", 1, params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK && PQgetvalue(res, 0, 0)[0] == 't') {
		c->why = "The lead has already been converted";
		s = STATUS_CONFLICT;
	}
	PQclear(res);
	return s;
}

/* OK when it was found, or not given at all; a key that points to nothing becomes a violation. */
static enum status given_find(struct convert *c, const char *table, const struct entity_key *k, char id[37])
{
	enum status s = entity_find(c->db, table, k, id);

	if (s == STATUS_NOT_FOUND) {
		rpc_violate(c->call, table, "exists", "does not exist", NULL);
		s = STATUS_OK;
	}
	return s;
}

static enum status given_check(struct convert *c)
{
	enum status s = STATUS_OK;

	if (c->has_account)
		s = given_find(c, "account", &c->account, c->account_id);
	if (s == STATUS_OK && c->has_contact)
		s = given_find(c, "contact", &c->contact, c->contact_id);
	if (s == STATUS_OK && c->call->n_violations)
		s = STATUS_VALIDATION_ERROR;
	return s;
}

static enum status account_make(struct convert *c)
{
	char seq[24];
	const char *params[] = { c->lead_id, c->account_id, seq, c->user[0] ? c->user : NULL };
	PGresult *res = NULL;
	int64_t n;
	enum status s = resource_seq(c->db, c->call, "account", &n);

	if (s != STATUS_OK)
		return s;
	uuid7(c->account_id);
	snprintf(seq, sizeof(seq), "%" PRId64, n);
	s = db_exec(c->db, &res,
	    "INSERT INTO account AS a (tenant_id, id, seq, created_by, updated_by, name, contact_name, email, phone, status, owner_id, territory_id)"
	    " SELECT l.tenant_id, $2::uuid, $3::bigint, $4::uuid, $4::uuid, NULLIF(l.company, ''), l.display, l.email, l.phone, 'active', l.owner_id, l.territory_id"
	    " FROM lead l WHERE l.id = $1::uuid RETURNING a.id, a.seq, a.version, NULL, to_jsonb(a) - 'search'", 4, params);
	return entity_events(c->db, c->call, "customers.account.created", "account", s, res);
}

static enum status contact_make(struct convert *c)
{
	char seq[24];
	const char *params[] = { c->lead_id, c->contact_id, seq, c->user[0] ? c->user : NULL, c->account_id };
	PGresult *res = NULL;
	int64_t n;
	enum status s = resource_seq(c->db, c->call, "contact", &n);

	if (s != STATUS_OK)
		return s;
	uuid7(c->contact_id);
	snprintf(seq, sizeof(seq), "%" PRId64, n);
	s = db_exec(c->db, &res,
	    "INSERT INTO contact AS k (tenant_id, id, seq, created_by, updated_by, display, given, family, email, phone, company, title, account_id, status, owner_id)"
	    " SELECT l.tenant_id, $2::uuid, $3::bigint, $4::uuid, $4::uuid, l.display, l.given, l.family, l.email, l.phone, l.company, l.title, $5::uuid, 'active', l.owner_id"
	    " FROM lead l WHERE l.id = $1::uuid RETURNING k.id, k.seq, k.version, NULL, to_jsonb(k) - 'search'", 5, params);
	return entity_events(c->db, c->call, "customers.contact.created", "contact", s, res);
}

/* A given contact that belongs to no account yet belongs to this one from now on. */
static enum status contact_link(struct convert *c)
{
	const char *params[] = { c->contact_id, c->account_id, c->user[0] ? c->user : NULL };
	PGresult *res = NULL;
	enum status s = db_exec(c->db, &res,
	    "WITH b AS (SELECT * FROM contact WHERE id = $1::uuid AND account_id IS NULL FOR UPDATE)"
	    " UPDATE contact k SET account_id = $2::uuid, version = k.version + 1, updated_at = now(), updated_by = $3::uuid FROM b WHERE k.tenant_id = b.tenant_id AND k.id = b.id"
	    " RETURNING k.id, k.seq, k.version, to_jsonb(b) - 'search', to_jsonb(k) - 'search'", 3, params);

	return entity_events(c->db, c->call, "customers.contact.updated", "contact", s, res);
}

static enum status lead_mark(struct convert *c)
{
	const char *params[] = { c->lead_id, c->account_id, c->contact_id, c->deal_seq, c->user[0] ? c->user : NULL };
	PGresult *res = NULL;
	enum status s = db_exec(c->db, &res,
	    "WITH b AS (SELECT * FROM lead WHERE id = $1::uuid)"
	    " UPDATE lead l SET status = 'converted', converted_at = now(), converted_account_id = $2::uuid, converted_contact_id = $3::uuid,"
	    " converted_deal_seq = $4::bigint, version = l.version + 1, updated_at = now(), updated_by = $5::uuid FROM b WHERE l.tenant_id = b.tenant_id AND l.id = b.id"
	    " RETURNING l.id, l.seq, l.version, to_jsonb(b) - 'search', to_jsonb(l) - 'search'", 5, params);

	return entity_events(c->db, c->call, "customers.lead.converted", "lead", s, res);
}

/* The method's permission is about leads; what is written besides asks for its own. */
static bool may_write(const struct convert *c)
{
	const struct rpc_principal *who = &c->call->who;

	return rpc_may(who, CRM__V1__PERMISSION__CONTACTS_WRITE) && (c->has_deal || rpc_may(who, CRM__V1__PERMISSION__DEALS_WRITE)) && (c->has_account || rpc_may(who, CRM__V1__PERMISSION__CUSTOMERS_WRITE));
}

static enum status convert(struct convert *c)
{
	enum status s = may_write(c) ? lead_lock(c) : STATUS_PERMISSION_DENIED;

	if (s == STATUS_OK)
		s = given_check(c);
	if (s == STATUS_OK && !c->has_account)
		s = account_make(c);
	if (s == STATUS_OK)
		s = c->has_contact ? contact_link(c) : contact_make(c);
	if (s == STATUS_OK)
		s = lead_mark(c);
	return s;
}

static void convert_reply(struct convert *c)
{
	struct str entity = { 0 };
	enum status s = convert(c);

	c->call->status_text = c->why;
	if (s == STATUS_OK)
		s = resource_read(c->db, c->call, &lead_resource, c->lead_id, &entity);
	handler_end_once_packed(c->call, c->db, s, entity);
}

void lead_convert(struct rpc_call *call, struct db_conn *db)
{
	struct convert c = { .call = call, .db = db };
	enum status s;

	if (!request_read(&c)) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return;
	}
	if (call->n_violations) {
		rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
		return;
	}
	if (!uuid_parse(call->who.user_id, c.user))
		c.user[0] = 0;
	s = db_begin(db, call->who.tenant_id);
	if (s != STATUS_OK)
		rpc_reply_error(call, s, NULL);
	else if (idempotent_begin(db, call) == IDEM_REPLIED)
		db_rollback(db);
	else
		convert_reply(&c);
}
