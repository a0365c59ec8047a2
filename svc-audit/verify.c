/* Recomputes a tenant's chain from its rows and says where it stops being true. */

#include "base/clock.h"
#include "base/codec.h"
#include "db/row.h"
#include "events/pgconn.h"
#include "svc-audit/chain.h"
#include "svc-audit/sign.h"

#define FETCH "FETCH FORWARD 2000 FROM entries"

enum { C_SEQ, C_ID, C_TIME, C_TYPE, C_ACTION, C_RESOURCE, C_RESOURCE_ID, C_RESOURCE_SEQ, C_RESOURCE_VERSION, C_USER, C_API_KEY, C_IP, C_USER_AGENT,
	C_REQUEST, C_DIALECT, C_CHANGED, C_BEFORE, C_AFTER, C_HASH, C_PREVIOUS, C_CANONICAL };

static const char cursor_sql[] =
    "DECLARE entries NO SCROLL CURSOR FOR SELECT seq, id, created_at, type, action, resource, resource_id, resource_seq, resource_version, user_id,"
    " api_key_id, ip, user_agent, request_id, dialect, changed, before, after, hash, previous_hash, canonical FROM entry"
    " WHERE tenant_id = current_setting('app.tenant_id')::uuid ORDER BY seq";

struct checker {
	struct chain_report *report;
	const char *public_key;
	uint8_t tenant[16];
	uint8_t hash[32];
	char hash_hex[65];
	struct buf canonical;
	struct str changed[EVENT_MAX_CHANGED];
};

static void found(struct checker *k, int64_t seq, const char *problem)
{
	k->report->valid = false;
	k->report->first_bad_seq = seq;
	k->report->problem = problem;
}

static size_t changed_read(struct checker *k, const PGresult *r, int row)
{
	struct row_array a = row_array(r, row, C_CHANGED);
	size_t n = 0;

	while (n < EVENT_MAX_CHANGED && row_array_next(&a))
		k->changed[n++] = a.item;
	return n;
}

/* The canonical bytes of what the columns say. */
static void canonical_of_row(struct checker *k, const PGresult *r, int row)
{
	char id[UUID_TEXT + 1], user[UUID_TEXT + 1];
	struct chain_entry e = {
		.created_us = row_us(r, row, C_TIME),
		.type = row_text(r, row, C_TYPE),
		.action = row_text(r, row, C_ACTION),
		.resource = row_text(r, row, C_RESOURCE),
		.resource_id = row_text(r, row, C_RESOURCE_ID),
		.resource_seq = row_i64(r, row, C_RESOURCE_SEQ),
		.resource_version = row_i64(r, row, C_RESOURCE_VERSION),
		.api_key_id = row_text(r, row, C_API_KEY),
		.ip = row_text(r, row, C_IP),
		.user_agent = row_text(r, row, C_USER_AGENT),
		.request_id = row_text(r, row, C_REQUEST),
		.dialect = row_text(r, row, C_DIALECT),
		.before = row_text(r, row, C_BEFORE),
		.after = row_text(r, row, C_AFTER),
		.changed = k->changed,
		.n_changed = changed_read(k, r, row),
	};

	row_uuid(r, row, C_ID, id);
	row_uuid(r, row, C_USER, user);
	e.id = str_of(id);
	e.user_id = str_of(user);
	buf_clear(&k->canonical);
	chain_canonical(&k->canonical, &e);
}

static void check_row(struct checker *k, const PGresult *r, int row)
{
	int64_t expected = k->report->first_seq + k->report->entries, seq = row_i64(r, row, C_SEQ);
	struct str canonical = row_text(r, row, C_CANONICAL);

	if (seq != expected) {
		found(k, expected, "the entry is missing");
		return;
	}
	if (!str_eq(row_text(r, row, C_PREVIOUS), str_of(k->hash_hex))) {
		found(k, seq, "the entry does not follow the one before it");
		return;
	}
	chain_hash(k->tenant, seq, k->hash, canonical, k->hash);
	hex_encode(k->hash, 32, k->hash_hex);
	if (!str_eq(row_text(r, row, C_HASH), str_of(k->hash_hex))) {
		found(k, seq, "the hash does not match the entry's bytes");
		return;
	}
	canonical_of_row(k, r, row);
	if (!str_eq(buf_view(&k->canonical), canonical)) {
		found(k, seq, "the columns do not say what was hashed");
		return;
	}
	k->report->entries++;
}

static bool fetch_send(PGconn *c)
{
	return PQsendQueryParams(c, FETCH, 0, NULL, NULL, NULL, NULL, 1) == 1;
}

/* The result of the FETCH on its way; NULL only when the connection is broken. */
static PGresult *fetch_take(PGconn *c)
{
	PGresult *r = PQgetResult(c), *more;

	for (more = r ? PQgetResult(c) : NULL; more; more = PQgetResult(c))
		PQclear(more);
	return r;
}

static void check_rows(struct checker *k, const PGresult *r)
{
	for (int i = 0, n = PQntuples(r); i < n && k->report->valid; i++)
		check_row(k, r, i);
}

/* The server makes the next rows ready while these are checked. */
static enum status check_entries(struct checker *k, PGconn *c, int64_t deadline_us)
{
	bool more = fetch_send(c);

	while (more) {
		PGresult *r = fetch_take(c);
		enum status s = pgconn_status(c, r);

		more = s == STATUS_OK && PQntuples(r) > 0;
		if (more && !fetch_send(c))
			s = STATUS_UNAVAILABLE;
		if (s == STATUS_OK)
			check_rows(k, r);
		PQclear(r);
		if (s == STATUS_OK && clock_us() > deadline_us)
			s = STATUS_DEADLINE_EXCEEDED;
		if (s != STATUS_OK || !k->report->valid) {
			PQclear(more ? fetch_take(c) : NULL);
			return s;
		}
	}
	return STATUS_OK;
}

static enum status check_head(struct checker *k, PGconn *c)
{
	PGresult *r = NULL;
	int64_t seq = 0, last = k->report->first_seq + k->report->entries - 1;
	enum status s = pgconn_exec(c, &r, "SELECT seq, hash FROM chain WHERE tenant_id = current_setting('app.tenant_id')::uuid", 0, NULL);

	if (s != STATUS_OK)
		return s;
	if (PQntuples(r) == 0 && last > 0)
		found(k, last, "the chain has no head");
	else if (PQntuples(r) == 1 && str_to_i64(str_of(PQgetvalue(r, 0, 0)), &seq) && seq != last)
		found(k, seq < last ? seq + 1 : last + 1, "the chain does not end where its head says");
	else if (PQntuples(r) == 1 && strcmp(PQgetvalue(r, 0, 1), k->hash_hex))
		found(k, last, "the head has another hash than the last entry");
	PQclear(r);
	return STATUS_OK;
}

/* Retention removed the beginning: the chain goes on from the hash of the last entry that went. */
static enum status read_cut(struct checker *k, PGconn *c)
{
	PGresult *r = NULL;
	int64_t seq = 0;
	enum status s = pgconn_exec(c, &r, "SELECT seq, hash, signed_us, signature FROM chain_cut WHERE tenant_id = current_setting('app.tenant_id')::uuid"
		" ORDER BY seq DESC LIMIT 1", 0, NULL);

	if (s != STATUS_OK)
		return s;
	if (PQntuples(r) == 1) {
		struct sign_place p = { .seq = 0 };

		if (!str_to_i64(str_of(PQgetvalue(r, 0, 0)), &seq) || !hex_decode(str_of(PQgetvalue(r, 0, 1)), k->hash, 32) ||
		    !str_to_i64(str_of(PQgetvalue(r, 0, 2)), &p.signed_us))
			s = STATUS_INTERNAL;
		hex_encode(k->hash, 32, k->hash_hex);
		memcpy(k->report->cut_hash, k->hash_hex, sizeof k->report->cut_hash);
		k->report->first_seq = seq + 1;
		p.seq = seq;
		memcpy(p.tenant, k->tenant, sizeof p.tenant);
		memcpy(p.hash, k->hash, sizeof p.hash);
		if (s == STATUS_OK && k->public_key && !sign_check(k->public_key, SIGN_CUT, &p, PQgetvalue(r, 0, 3)))
			found(k, seq + 1, "the beginning was cut off without a good signature");
	}
	PQclear(r);
	return s;
}

static enum status snapshot_begin(PGconn *c, const char *tenant)
{
	const char *params[] = { tenant };
	enum status s = pgconn_exec(c, NULL, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", 0, NULL);

	if (s == STATUS_OK)
		s = pgconn_exec(c, NULL, "SELECT set_config('app.tenant_id', $1, true)", 1, params);
	if (s == STATUS_OK)
		s = pgconn_exec(c, NULL, cursor_sql, 0, NULL);
	return s;
}

enum status chain_verify(PGconn *c, struct str tenant, const char *public_key, int64_t deadline_us, struct chain_report *out)
{
	struct checker k = { .report = out, .public_key = public_key };
	char id[UUID_TEXT + 1];
	enum status s;

	*out = (struct chain_report){ .valid = true, .problem = "", .first_seq = 1 };
	if (!uuid_parse(tenant, id) || !uuid_to_bytes(tenant, k.tenant))
		return STATUS_BAD_REQUEST;
	hex_encode(k.hash, 32, k.hash_hex);
	s = snapshot_begin(c, id);
	if (s == STATUS_OK)
		s = read_cut(&k, c);
	if (s == STATUS_OK && out->valid)
		s = check_entries(&k, c, deadline_us);
	if (s == STATUS_OK && out->valid)
		s = check_head(&k, c);
	memcpy(out->head_hash, k.hash_hex, sizeof out->head_hash);
	pgconn_rollback(c);
	buf_fini(&k.canonical);
	return s;
}
