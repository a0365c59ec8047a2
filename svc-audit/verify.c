/* Recomputes a tenant's chain from its rows and says where it stops being true. */
#include <endian.h>

#include "base/clock.h"
#include "base/codec.h"
#include "db/row.h"
#include "events/pgconn.h"
#include "svc-audit/chain.h"
#include "svc-audit/sign.h"

/* A column of a row as COPY … BINARY sends it. */
enum { C_SEQ, C_ID, C_TIME, C_TYPE, C_ACTION, C_RESOURCE, C_RESOURCE_ID, C_RESOURCE_SEQ, C_RESOURCE_VERSION, C_USER, C_API_KEY, C_IP, C_USER_AGENT,
	C_REQUEST, C_DIALECT, C_CHANGED, C_BEFORE, C_AFTER, C_HASH, C_PREVIOUS, C_CANONICAL, N_COLUMNS };

static const char copy_sql[] =
    "COPY (SELECT seq, id, created_at, type, action, resource, resource_id, resource_seq, resource_version, user_id,"
    " api_key_id, ip, user_agent, request_id, dialect, changed, before, after, hash, previous_hash, canonical FROM entry"
    " WHERE tenant_id = current_setting('app.tenant_id')::uuid ORDER BY seq) TO STDOUT BINARY";

#define COPY_HEAD 19             /* signature, flags, length of the extension */
#define EPOCH_US 946684800000000 /* PostgreSQL counts from 2000 */
#define LOOK_EVERY 1024          /* entries between two looks at the deadline */

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

static int64_t number_of(struct str cell)
{
	uint64_t be;

	if (cell.n != sizeof be)
		return 0;
	memcpy(&be, cell.p, sizeof be);
	return (int64_t)be64toh(be);
}

static size_t changed_read(struct checker *k, struct str cell)
{
	struct row_array a = row_array_of(cell);
	size_t n = 0;

	while (n < EVENT_MAX_CHANGED && row_array_next(&a))
		k->changed[n++] = a.item;
	return n;
}

/* The canonical bytes of what the columns say. */
static void canonical_of_row(struct checker *k, const struct str *row)
{
	struct chain_entry e = {
		.id = row[C_ID],
		.user_id = row[C_USER],
		.created_us = number_of(row[C_TIME]) + EPOCH_US,
		.type = row[C_TYPE],
		.action = row[C_ACTION],
		.resource = row[C_RESOURCE],
		.resource_id = row[C_RESOURCE_ID],
		.resource_seq = number_of(row[C_RESOURCE_SEQ]),
		.resource_version = number_of(row[C_RESOURCE_VERSION]),
		.api_key_id = row[C_API_KEY],
		.ip = row[C_IP],
		.user_agent = row[C_USER_AGENT],
		.request_id = row[C_REQUEST],
		.dialect = row[C_DIALECT],
		.before = row[C_BEFORE],
		.after = row[C_AFTER],
		.changed = k->changed,
		.n_changed = changed_read(k, row[C_CHANGED]),
	};

	buf_clear(&k->canonical);
	chain_canonical(&k->canonical, &e);
}

static void check_row(struct checker *k, const struct str *row)
{
	int64_t expected = k->report->first_seq + k->report->entries, seq = number_of(row[C_SEQ]);

	if (seq != expected) {
		found(k, expected, "the entry is missing");
		return;
	}
	if (!str_eq(row[C_PREVIOUS], str_of(k->hash_hex))) {
		found(k, seq, "the entry does not follow the one before it");
		return;
	}
	chain_hash(k->tenant, seq, k->hash, row[C_CANONICAL], k->hash);
	hex_encode(k->hash, 32, k->hash_hex);
	if (!str_eq(row[C_HASH], str_of(k->hash_hex))) {
		found(k, seq, "the hash does not match the entry's bytes");
		return;
	}
	canonical_of_row(k, row);
	if (!str_eq(buf_view(&k->canonical), row[C_CANONICAL])) {
		found(k, seq, "the columns do not say what was hashed");
		return;
	}
	k->report->entries++;
}

/* Cuts a row of COPY into its cells; NULL is empty. False: it is none. */
static bool row_cut(struct str s, struct str *row)
{
	uint16_t n;
	uint32_t size;

	if (s.n < sizeof n)
		return false;
	memcpy(&n, s.p, sizeof n);
	s = (struct str){ s.p + sizeof n, s.n - sizeof n };
	if (be16toh(n) != N_COLUMNS)
		return false;
	for (int i = 0; i < N_COLUMNS; i++) {
		if (s.n < sizeof size)
			return false;
		memcpy(&size, s.p, sizeof size);
		size = be32toh(size);
		s = (struct str){ s.p + sizeof size, s.n - sizeof size };
		row[i] = (struct str){ s.p, size == UINT32_MAX ? 0 : size };
		if (row[i].n > s.n)
			return false;
		s = (struct str){ s.p + row[i].n, s.n - row[i].n };
	}
	return s.n == 0;
}

/* One message of the COPY: the first begins with the head, the last says -1. */
static enum status check_message(struct checker *k, struct str s, bool first)
{
	struct str row[N_COLUMNS];

	if (first && s.n >= COPY_HEAD)
		s = (struct str){ s.p + COPY_HEAD, s.n - COPY_HEAD };
	else if (first)
		return STATUS_INTERNAL;
	if (s.n == 0 || (s.n == 2 && !memcmp(s.p, "\377\377", 2)))
		return STATUS_OK;
	if (!row_cut(s, row))
		return STATUS_INTERNAL;
	check_row(k, row);
	return STATUS_OK;
}

/* Leaves the connection out of the COPY, whether it came to its end or not. */
static enum status copy_end(PGconn *c, enum status s, bool ended)
{
	char why[256], *part = NULL;
	PGcancel *cancel = ended ? NULL : PQgetCancel(c);
	PGresult *r;

	if (cancel)
		(void)PQcancel(cancel, why, sizeof why);
	PQfreeCancel(cancel);
	while (!ended && PQgetCopyData(c, &part, 0) > 0) {
		PQfreemem(part);
		part = NULL;
	}
	for (r = PQgetResult(c); r; r = PQgetResult(c)) {
		if (ended && s == STATUS_OK)
			s = pgconn_status(c, r);
		PQclear(r);
	}
	return s;
}

/* The server sends entry after entry while those before are checked; the socket's buffer is all that lies between. */
static enum status check_entries(struct checker *k, PGconn *c, int64_t deadline_us)
{
	enum status s = pgconn_exec(c, NULL, copy_sql, 0, NULL);
	char *part = NULL;
	int n = 0;

	if (s != STATUS_OK)
		return s;
	for (int64_t i = 0; s == STATUS_OK && k->report->valid; i++) {
		n = PQgetCopyData(c, &part, 0);
		if (n <= 0)
			break;
		s = check_message(k, (struct str){ part, (size_t)n }, i == 0);
		PQfreemem(part);
		part = NULL;
		if (s == STATUS_OK && i % LOOK_EVERY == 0 && clock_us() > deadline_us)
			s = STATUS_DEADLINE_EXCEEDED;
	}
	return copy_end(c, s, n <= 0);
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
		s = pgconn_exec(c, NULL,
		    /* in the order of the index: a sort would put the whole log on the disk first */
		    "SELECT set_config('app.tenant_id', $1, true), set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)", 1, params);
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
