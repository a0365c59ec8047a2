/* Builds the statements of create, update and delete; that of get is made with the plan. */
#include "resource/sql.h"

#include <inttypes.h>

#include "base/codec.h"

static const char *uuid_or_null(struct arena *a, struct str s)
{
	char uuid[UUID_TEXT + 1];

	return uuid_parse(s, uuid) ? arena_strdup(a, str_of(uuid)) : NULL;
}

static const char *text_or_null(struct arena *a, struct str s)
{
	return s.n ? text_param(a, s) : NULL;
}

void actor_fill(struct actor *a, struct rpc_call *call)
{
	struct arena *m = &call->arena;

	a->tenant = uuid_or_null(m, call->who.tenant_id);
	a->user = uuid_or_null(m, call->who.user_id);
	a->api_key = uuid_or_null(m, call->who.api_key_id);
	a->request_id = text_or_null(m, call->request_id);
	a->traceparent = text_or_null(m, call->traceparent);
	a->dialect = text_or_null(m, call->dialect);
	a->client_ip = text_or_null(m, call->client_ip);
	a->user_agent = text_or_null(m, call->user_agent);
}

void sql_start(struct sql *q, struct arena *a)
{
	buf_clear(&q->b);
	q->arena = a;
	q->n = 0;
	q->over = false;
}

int sql_param(struct sql *q, const char *value)
{
	if (q->n == DB_MAX_PARAMS) {
		q->over = true;
		return DB_MAX_PARAMS;
	}
	q->params[q->n++] = value;
	return q->n;
}

void sql_value(struct sql *q, const char *value, const char *type)
{
	int n = sql_param(q, value);

	buf_c(&q->b, '$');
	buf_u64(&q->b, (uint64_t)n);
	buf_z(&q->b, "::");
	buf_z(&q->b, type);
}

struct db_stmt sql_stmt(struct sql *q)
{
	buf_cstr(&q->b);
	return (struct db_stmt){ .sql = buf_view(&q->b), .params = q->params, .n_params = q->n };
}

static void where_key(struct sql *q, const struct key *k)
{
	buf_z(&q->b, k->id ? "t.id = " : "t.seq = ");
	sql_value(q, k->id ? k->id : k->seq, k->id ? "uuid" : "bigint");
}

static void where_live(struct sql *q, const struct plan *p)
{
	if (!p->r->hard)
		buf_z(&q->b, " AND t.deleted_at IS NULL");
}

void sql_actor(struct sql *q, const struct actor *a)
{
	sql_value(q, a->user, "uuid");
	buf_z(&q->b, ", ");
	sql_value(q, a->api_key, "uuid");
	const char *const texts[] = { a->request_id, a->traceparent, a->dialect, a->client_ip, a->user_agent };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		buf_z(&q->b, ", ");
		sql_value(q, texts[i], "text");
	}
}

/* The outbox row of the write w; from: "w" or "w, b" when there is a row before. */
void sql_outbox(struct sql *q, const struct plan *p, const struct actor *a, const char *event, const char *before, const char *after, const char *from)
{
	if (!event)
		return;
	buf_z(&q->b, ", o AS (INSERT INTO outbox (event_id, tenant_id, type, entity, entity_id, entity_seq, version, before, after, " SQL_OUTBOX_COLUMNS
		     ") SELECT gen_random_uuid(), w.tenant_id, ");
	buf_printf(&q->b, "'%s', '%s', w.id, w.seq, w.version, %s, %s, ", event, p->entity, before, after);
	sql_actor(q, a);
	buf_printf(&q->b, " FROM %s)", from);
}

void tags_json(struct buf *b, const struct values *v, int item)
{
	char fresh[UUID_TEXT + 1];

	for (size_t i = 0; i < v->n_tags; i++) {
		const struct tag_want *t = &v->tags[i];

		buf_printf(b, "%s{\"item\":%d,\"k\":%zu", b->n > 1 ? "," : "", item, i);
		if (t->key.id)
			buf_printf(b, ",\"id\":\"%s\"", t->key.id);
		else if (t->key.seq)
			buf_printf(b, ",\"seq\":%s", t->key.seq);
		if (t->name) {
			uuid7(fresh);
			buf_printf(b, ",\"fresh\":\"%s\",\"name\":", fresh);
			buf_json_str(b, str_of(t->name));
		}
		buf_c(b, '}');
	}
}

/*
 * A tag that another transaction makes at the same moment is met by ON CONFLICT DO UPDATE, which waits for it and returns
 * its row; DO NOTHING would return none. xmax tells which rows are new.
 */
void sql_tags(struct sql *q, const struct actor *a)
{
	struct buf *b = &q->b;

	buf_z(b, ", have AS (SELECT x.item, x.k, x.name, x.fresh, coalesce(g1.id, g2.id, g3.id) AS id FROM want x"
		 " LEFT JOIN tag g1 ON g1.tenant_id = $1::uuid AND g1.id = x.id AND g1.deleted_at IS NULL"
		 " LEFT JOIN tag g2 ON g2.tenant_id = $1::uuid AND g2.seq = x.seq AND g2.deleted_at IS NULL"
		 " LEFT JOIN tag g3 ON g3.tenant_id = $1::uuid AND g3.name_key = lower(x.name) AND g3.deleted_at IS NULL)"
		 ", lost AS (SELECT DISTINCT item FROM have WHERE id IS NULL AND name IS NULL)"
		 ", missing AS (SELECT m.*, row_number() OVER () AS nth FROM (SELECT DISTINCT ON (lower(h.name)) h.name, h.fresh FROM have h, may"
		 " WHERE h.id IS NULL AND h.name IS NOT NULL AND may.yes AND may.item = h.item AND h.item NOT IN (SELECT item FROM lost)"
		 " ORDER BY lower(h.name), h.item, h.k) m)"
		 ", lease AS (INSERT INTO seq_block AS s (tenant_id, kind, next) SELECT $1::uuid, 'tag', 1 + count(*) FROM missing HAVING count(*) > 0"
		 " ON CONFLICT (tenant_id, kind) DO UPDATE SET next = s.next + (SELECT count(*) FROM missing)"
		 " RETURNING s.next - (SELECT count(*) FROM missing) AS first)"
		 ", made AS (INSERT INTO tag AS g (tenant_id, id, seq, name, created_by, updated_by)"
		 " SELECT $1::uuid, m.fresh, l.first + m.nth - 1, m.name, ");
	sql_value(q, a->user, "uuid");
	buf_z(b, ", ");
	sql_value(q, a->user, "uuid");
	buf_z(b, " FROM missing m, lease l ON CONFLICT (tenant_id, name_key) WHERE deleted_at IS NULL DO UPDATE SET name = g.name"
		 " RETURNING g.id, g.seq, g.version, g.created_at, g.updated_at, g.created_by, g.updated_by, g.name, g.color, g.tenant_id, g.name_key, g.xmax = '0'::xid AS is_new)"
		 ", made_o AS (INSERT INTO outbox (event_id, tenant_id, type, entity, entity_id, entity_seq, version, after, " SQL_OUTBOX_COLUMNS
		 ") SELECT gen_random_uuid(), made.tenant_id, current_schema() || '.tag.created', 'tag', made.id, made.seq, made.version, to_jsonb(made) - 'name_key' - 'is_new', ");
	sql_actor(q, a);
	buf_z(b, " FROM made WHERE made.is_new)"
		 ", tags_all AS (SELECT g.id, g.seq, g.name, g.color FROM tag g WHERE g.tenant_id = $1::uuid AND g.id IN (SELECT h.id FROM have h)"
		 " UNION SELECT made.id, made.seq, made.name, made.color FROM made)"
		 ", tag_set AS (SELECT s.item, array_agg(s.id ORDER BY s.k) AS ids FROM (SELECT h.item, coalesce(h.id, made.id) AS id, min(h.k) AS k FROM have h"
		 " LEFT JOIN made ON h.id IS NULL AND made.name_key = lower(h.name) GROUP BY 1, 2) s WHERE s.id IS NOT NULL GROUP BY s.item)");
}

static bool has_tags(const struct values *v)
{
	return v->n_tags > 0;
}

static bool is_given_ref(const struct set *s)
{
	return s->how == SET_REF && (s->key.id || s->key.seq);
}

static bool has_refs(const struct values *v)
{
	for (size_t i = 0; i < v->n_sets; i++)
		if (is_given_ref(&v->sets[i]))
			return true;
	return false;
}

/* ref AS (one column per given reference, NULL when it points to nothing). */
static void refs(struct sql *q, const struct values *v)
{
	const char *sep = "";

	buf_z(&q->b, "ref AS (SELECT ");
	for (size_t i = 0; i < v->n_sets; i++) {
		const struct set *s = &v->sets[i];

		if (!is_given_ref(s))
			continue;
		buf_printf(&q->b, "%s(SELECT t.id FROM %s t WHERE t.tenant_id = $1::uuid AND ", sep, s->col->target->r->table);
		where_key(q, &s->key);
		where_live(q, s->col->target);
		buf_printf(&q->b, ") AS r%u", s->col->f->number);
		sep = ", ";
	}
	if (!*sep)
		buf_z(&q->b, "1");
	buf_z(&q->b, ")");
}

/* may AS (whether the write goes ahead): references exist, and the row is there in the expected version (b). */
static void may(struct sql *q, const struct values *v, const char *version_ok)
{
	buf_z(&q->b, ", may AS (SELECT 1 AS item, true");
	for (size_t i = 0; i < v->n_sets; i++)
		if (is_given_ref(&v->sets[i]))
			buf_printf(&q->b, " AND ref.r%u IS NOT NULL", v->sets[i].col->f->number);
	buf_z(&q->b, version_ok);
	buf_z(&q->b, " AS yes FROM ref)");
}

/* Everything before w that a write with references or tags needs. version_ok: "" or " AND …" over b. */
static void needs(struct sql *q, const struct actor *a, const struct values *v, const char *version_ok)
{
	struct buf json = { 0 };

	refs(q, v);
	may(q, v, version_ok);
	if (!has_tags(v))
		return;
	buf_c(&json, '[');
	tags_json(&json, v, 1);
	buf_c(&json, ']');
	buf_z(&q->b, ", want AS (SELECT * FROM jsonb_to_recordset(");
	sql_value(q, arena_strdup(q->arena, buf_view(&json)), "jsonb");
	buf_z(&q->b, ") AS " SQL_WANT ")");
	buf_fini(&json);
	sql_tags(q, a);
}

/* The expression of a set; $G and $F in one over the old row are the new given and family name. */
static void set_sql(struct sql *q, const struct plan *p, const struct values *v, const char *expr)
{
	for (; *expr; expr++) {
		const struct col *part = expr[0] == '$' ? expr[1] == 'G' ? p->given : p->family : NULL;

		if (!part) {
			buf_c(&q->b, *expr);
			continue;
		}
		for (size_t i = 0; i < v->n_sets; i++)
			if (v->sets[i].col == part)
				sql_value(q, v->sets[i].text, "text");
		expr++;
	}
}

static void set_value(struct sql *q, const struct plan *p, const struct values *v, const struct set *s)
{
	if (s->how == SET_SQL)
		set_sql(q, p, v, s->text);
	else if (s->how == SET_TAGS)
		buf_z(&q->b, v->n_tags ? "coalesce((SELECT tag_set.ids FROM tag_set), '{}')" : "'{}'");
	else if (s->how == SET_REF && is_given_ref(s))
		buf_printf(&q->b, "ref.r%u", s->col->f->number);
	else
		sql_value(q, s->how == SET_TEXT ? s->text : NULL, col_sql_type(s->col));
}

/* The numbers of the reference fields that point to nothing, as one text. */
static void missing(struct sql *q, const struct plan *p, const struct values *v)
{
	buf_z(&q->b, "concat_ws(' '");
	for (size_t i = 0; i < v->n_sets; i++)
		if (is_given_ref(&v->sets[i])) {
			unsigned n = v->sets[i].col->f->number;

			buf_printf(&q->b, ", CASE WHEN ref.r%u IS NULL THEN '%u' END", n, n);
		}
	if (has_tags(v))
		buf_printf(&q->b, ", CASE WHEN EXISTS (SELECT FROM lost) THEN '%u' END", p->tags->f->number);
	buf_z(&q->b, ")");
}

/* The reply of a write. */
static void reply(struct sql *q, const struct plan *p, const struct values *v, bool needed, const char *version)
{
	buf_printf(&q->b, " SELECT %s, ", version);
	if (needed)
		missing(q, p, v);
	else
		buf_z(&q->b, "''::text");
	buf_printf(&q->b, ", %s FROM (SELECT 1) one%s LEFT JOIN w t ON true", has_tags(v) ? p->select_made : p->select, needed ? " CROSS JOIN ref" : "");
}

static void insert_columns(struct sql *q, const struct plan *p, const struct values *v)
{
	buf_printf(&q->b, "w AS (INSERT INTO %s (tenant_id, id, seq, created_by, updated_by", p->r->table);
	for (size_t i = 0; i < v->n_sets; i++)
		buf_printf(&q->b, ", %s", v->sets[i].col->column);
	buf_c(&q->b, ')');
}

void sql_create(struct sql *q, const struct plan *p, const struct actor *a, const char *id, const struct values *v, const char *event, int *seq_at)
{
	bool needed = has_refs(v) || has_tags(v);

	sql_param(q, a->tenant);
	buf_z(&q->b, "WITH ");
	if (needed) {
		needs(q, a, v, "");
		buf_z(&q->b, ", ");
	}
	insert_columns(q, p, v);
	buf_z(&q->b, " SELECT $1::uuid, ");
	sql_value(q, id, "uuid");
	buf_z(&q->b, ", ");
	*seq_at = q->n;
	sql_value(q, NULL, "bigint");
	buf_z(&q->b, ", ");
	sql_value(q, a->user, "uuid");
	buf_z(&q->b, ", ");
	sql_value(q, a->user, "uuid");
	for (size_t i = 0; i < v->n_sets; i++) {
		buf_z(&q->b, ", ");
		set_value(q, p, v, &v->sets[i]);
	}
	if (needed)
		buf_z(&q->b, has_tags(v) ? " FROM ref, may WHERE may.yes AND NOT EXISTS (SELECT FROM lost)" : " FROM ref, may WHERE may.yes");
	buf_printf(&q->b, " RETURNING %s)", p->row_columns);
	sql_outbox(q, p, a, event, "NULL", "to_jsonb(w)", "w");
	reply(q, p, v, needed, "0::bigint");
}

/* b AS (the row as it is, locked). */
static void before(struct sql *q, const struct plan *p, const struct key *k)
{
	buf_printf(&q->b, "WITH b AS (SELECT %s FROM %s t WHERE t.tenant_id = $1::uuid AND ", p->row_columns_t, p->r->table);
	where_key(q, k);
	where_live(q, p);
	/*
	 * Who waits for a row that is being updated has a transaction number already, and may come to its turn after one with a greater
	 * number; events are carried in the order of these numbers. So writers wait for each other here, where no number is given yet.
	 */
	buf_z(&q->b, " AND pg_advisory_xact_lock(uuid_hash_extended(t.id, 0)) IS NOT NULL FOR UPDATE)");
}

/* "b.version = $n", once; the text is needed twice. */
static char *version_check(struct sql *q, const char *version)
{
	int n = sql_param(q, version);

	return arena_printf(q->arena, "($%d::bigint IS NULL OR b.version = $%d::bigint)", n, n);
}

void sql_update(struct sql *q, const struct plan *p, const struct actor *a, const struct key *k, const char *version, const struct values *v, const char *event)
{
	bool needed = has_refs(v) || has_tags(v);
	const char *fits;

	sql_param(q, a->tenant);
	before(q, p, k);
	fits = version_check(q, version);
	if (needed) {
		buf_z(&q->b, ", ");
		needs(q, a, v, arena_printf(q->arena, " AND EXISTS (SELECT FROM b WHERE %s)", fits));
	}
	buf_printf(&q->b, ", w AS (UPDATE %s t SET version = t.version + 1, updated_at = now(), updated_by = ", p->r->table);
	sql_value(q, a->user, "uuid");
	for (size_t i = 0; i < v->n_sets; i++) {
		buf_printf(&q->b, ", %s = ", v->sets[i].col->column);
		set_value(q, p, v, &v->sets[i]);
	}
	buf_printf(&q->b, " FROM b%s WHERE t.tenant_id = $1::uuid AND t.id = b.id AND %s%s%s RETURNING %s)", needed ? ", ref, may" : "", fits,
	    needed ? " AND may.yes" : "", has_tags(v) ? " AND NOT EXISTS (SELECT FROM lost)" : "", p->row_columns_t);
	sql_outbox(q, p, a, event, "to_jsonb(b)", "to_jsonb(w)", "w, b");
	reply(q, p, v, needed, "(SELECT b.version FROM b)");
}

void sql_delete(struct sql *q, const struct plan *p, const struct actor *a, const struct key *k, const char *version, const char *event)
{
	const char *fits;

	sql_param(q, a->tenant);
	before(q, p, k);
	fits = version_check(q, version);
	if (p->r->hard) {
		buf_printf(&q->b, ", w AS (DELETE FROM %s t USING b", p->r->table);
	} else {
		buf_printf(&q->b, ", w AS (UPDATE %s t SET deleted_at = now(), version = t.version + 1, updated_at = now(), updated_by = ", p->r->table);
		sql_value(q, a->user, "uuid");
		buf_z(&q->b, " FROM b");
	}
	buf_printf(&q->b, " WHERE t.tenant_id = $1::uuid AND t.id = b.id AND %s RETURNING %s)", fits, p->row_columns_t);
	sql_outbox(q, p, a, event, "to_jsonb(b)", "NULL", "w, b");
	buf_z(&q->b, " SELECT (SELECT b.version FROM b), ''::text, (SELECT w.id FROM w)");
}

/* -- many rows, one change */

/* b AS (the rows as they are), locked in the order of id, so that two of these do not deadlock. Parameters 1 and 2: tenant, ids. */
static void before_many(struct sql *q, const struct plan *p, const struct actor *a, const char *ids)
{
	sql_param(q, a->tenant);
	sql_param(q, ids);
	buf_printf(&q->b, "WITH b AS (SELECT %s FROM %s t WHERE t.tenant_id = $1::uuid AND t.id = ANY ($2::uuid[])", p->row_columns_t, p->r->table);
	where_live(q, p);
	buf_z(&q->b, " ORDER BY t.id FOR UPDATE)");
}

/* Which rows there were, and which of them were written. */
static void reply_many(struct sql *q, const struct plan *p, const struct values *v, bool needed)
{
	buf_z(&q->b, " SELECT ");
	if (needed)
		missing(q, p, v);
	else
		buf_z(&q->b, "''::text");
	buf_printf(&q->b, ", b.id, w.id IS NOT NULL FROM (SELECT 1) one%s LEFT JOIN b ON true LEFT JOIN w ON w.id = b.id", needed ? " CROSS JOIN ref" : "");
}

#define TAGS_ADDED "ARRAY(SELECT u.id FROM unnest(t.tag_ids || coalesce((SELECT tag_set.ids FROM tag_set), '{}')) WITH ORDINALITY u(id, n) GROUP BY u.id ORDER BY min(u.n))"
#define TAGS_LEFT "ARRAY(SELECT u.id FROM unnest(t.tag_ids) WITH ORDINALITY u(id, n) WHERE u.id NOT IN (SELECT gone.id FROM gone) ORDER BY u.n)"

/* gone AS (tags by id, number or name that are there). */
static void tags_gone(struct sql *q, const struct values *v)
{
	struct buf json = { 0 };

	buf_c(&json, '[');
	tags_json(&json, v, 1);
	buf_c(&json, ']');
	buf_z(&q->b, ", gone AS (SELECT g.id FROM jsonb_to_recordset(");
	sql_value(q, arena_strdup(q->arena, buf_view(&json)), "jsonb");
	buf_z(&q->b, ") AS " SQL_WANT " JOIN tag g ON g.tenant_id = $1::uuid AND g.deleted_at IS NULL AND (g.id = x.id OR g.seq = x.seq OR g.name_key = lower(x.name)))");
	buf_fini(&json);
}

void sql_update_many(struct sql *q, const struct plan *p, const struct actor *a, const char *ids, struct values *v, enum tag_mode mode, const char *event)
{
	bool some = has_tags(v), needed;

	before_many(q, p, a, ids);
	for (size_t i = 0; i < v->n_sets; i++)
		if (v->sets[i].how == SET_TAGS && mode != TAGS_REPLACE)
			v->sets[i] = (struct set){ .col = v->sets[i].col, .how = SET_SQL, .text = !some ? "t.tag_ids" : mode == TAGS_ADD ? TAGS_ADDED : TAGS_LEFT };
	if (some && mode == TAGS_REMOVE) {
		tags_gone(q, v);
		v->n_tags = 0; /* none is made */
	}
	needed = has_refs(v) || has_tags(v);
	if (needed) {
		buf_z(&q->b, ", ");
		needs(q, a, v, " AND EXISTS (SELECT FROM b)");
	}
	buf_printf(&q->b, ", w AS (UPDATE %s t SET version = t.version + 1, updated_at = now(), updated_by = ", p->r->table);
	sql_value(q, a->user, "uuid");
	for (size_t i = 0; i < v->n_sets; i++) {
		buf_printf(&q->b, ", %s = ", v->sets[i].col->column);
		set_value(q, p, v, &v->sets[i]);
	}
	buf_printf(&q->b, " FROM b%s WHERE t.tenant_id = $1::uuid AND t.id = b.id%s", needed ? ", ref, may" : "", needed ? " AND may.yes" : "");
	if (has_tags(v))
		buf_z(&q->b, " AND NOT EXISTS (SELECT FROM lost)");
	if (has_tags(v) && mode == TAGS_ADD)
		buf_printf(&q->b, " AND cardinality(" TAGS_ADDED ") <= %d", VALUES_MAX_TAGS);
	buf_printf(&q->b, " RETURNING %s)", p->row_columns_t);
	sql_outbox(q, p, a, event, "to_jsonb(b)", "to_jsonb(w)", "w JOIN b ON b.id = w.id");
	reply_many(q, p, v, needed);
}

void sql_delete_many(struct sql *q, const struct plan *p, const struct actor *a, const char *ids, const char *event)
{
	before_many(q, p, a, ids);
	if (p->r->hard) {
		buf_printf(&q->b, ", w AS (DELETE FROM %s t USING b", p->r->table);
	} else {
		buf_printf(&q->b, ", w AS (UPDATE %s t SET deleted_at = now(), version = t.version + 1, updated_at = now(), updated_by = ", p->r->table);
		sql_value(q, a->user, "uuid");
		buf_z(&q->b, " FROM b");
	}
	buf_printf(&q->b, " WHERE t.tenant_id = $1::uuid AND t.id = b.id RETURNING %s)", p->row_columns_t);
	sql_outbox(q, p, a, event, "to_jsonb(b)", "NULL", "w JOIN b ON b.id = w.id");
	reply_many(q, p, NULL, false);
}
