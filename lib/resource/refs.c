/* OP_REFS: what the entities of these keys are called, for whoever shows references to them. */
#include "base/codec.h"
#include "base/wire.h"
#include "db/row.h"
#include "resource/internal.h"

#define REFS_MAX 1000

struct refs {
	const struct bound *b;
	struct rpc_call *call;
};

/* "<seq>:<name>" */
static void name_put(struct buf *b, struct str s)
{
	const char *colon = memchr(s.p ? s.p : "", ':', s.n);
	int64_t seq;

	if (!colon || !str_to_i64((struct str){ s.p, (size_t)(colon - s.p) }, &seq))
		return;
	wire_put_varint(b, 2, (uint64_t)seq);
	wire_put_bytes(b, 3, (struct str){ colon + 1, s.n - (size_t)(colon + 1 - s.p) });
}

static void refs_done(void *arg, const struct db_result *r)
{
	struct refs *f = arg;
	char id[37];

	if (r->status != STATUS_OK) {
		rpc_reply_error(f->call, r->status, NULL);
		return;
	}
	buf_clear(&engine.reply);
	for (int i = 0; i < PQntuples(r->res[0]); i++) {
		size_t at = wire_open(&engine.reply, 1);

		if (!PQgetisnull(r->res[0], i, 0)) {
			cell_uuid(r->res[0], i, 0, id);
			wire_put_bytes(&engine.reply, 1, str_of(id));
			name_put(&engine.reply, row_text(r->res[0], i, 1));
		}
		wire_close(&engine.reply, at);
	}
	rpc_reply_ok(f->call, buf_view(&engine.reply));
}

static bool keys_read(struct rpc_call *call, struct buf *ids, struct buf *seqs)
{
	struct wire_reader r = wire_read(call->payload);
	struct wire_field f;
	struct key k;
	size_t n = 0;
	bool bad;

	while (wire_next(&r, &f)) {
		if (f.number != 1 || f.type != WIRE_BYTES)
			continue;
		if (n++ == REFS_MAX || (!key_parse(&call->arena, f.bytes, &k, &bad) && !bad))
			return false;
		buf_printf(ids, "%c%s", n == 1 ? '{' : ',', k.id ? k.id : "NULL");
		buf_printf(seqs, "%c%s", n == 1 ? '{' : ',', k.seq ? k.seq : "NULL");
	}
	buf_z(ids, n ? "}" : "{}");
	buf_z(seqs, n ? "}" : "{}");
	return !r.bad;
}

void refs_run(const struct bound *b, struct rpc_call *call)
{
	struct refs *f = ARENA_NEW(&call->arena, struct refs);
	struct buf ids = { 0 }, seqs = { 0 }, sql = { 0 };
	const char *table = b->plan->r->table;

	*f = (struct refs){ b, call };
	if (keys_read(call, &ids, &seqs)) {
		const char *params[] = { buf_cstr(&ids), buf_cstr(&seqs) };
		struct db_stmt stmt = { .params = params, .n_params = 2 };

		buf_printf(&sql, "SELECT coalesce(a.id, c.id), %s_ref(coalesce(a.id, c.id)) FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY k(id, seq, n)"
		    " LEFT JOIN %s a ON a.id = k.id AND a.deleted_at IS NULL LEFT JOIN %s c ON c.seq = k.seq AND c.deleted_at IS NULL ORDER BY k.n", table, table, table);
		stmt.sql = buf_view(&sql);
		db_submit_as(engine.db, DB_READ, call->who.tenant_id, call->who.scope, &stmt, 1, call->deadline_us, refs_done, f);
	} else {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
	}
	buf_fini(&ids);
	buf_fini(&seqs);
	buf_fini(&sql);
}
