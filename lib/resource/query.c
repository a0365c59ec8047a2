/* Reads a ListRequest and builds the statements of its page and its count. */
#include <inttypes.h>
#include <stdio.h>

#include "base/codec.h"
#include "base/wire.h"
#include "db/array.h"
#include "resource/internal.h"

/* -- reading ------------------------------------------------------------------------------------------------------- */

static const char *value_param(struct arena *a, const struct col *c, struct str s)
{
	int64_t n;
	char uuid[UUID_TEXT + 1];
	char *text;

	switch (c->kind) {
	case COL_INT:
		return str_to_i64(s, &n) ? text_param(a, s) : NULL;
	case COL_TIME:
	case COL_DATE:
		return str_to_i64(s, &n) ? time_param(a, n, c->kind == COL_DATE) : NULL;
	case COL_BOOL:
		return str_eq(s, STR("true")) || str_eq(s, STR("false")) ? text_param(a, s) : NULL;
	case COL_DECIMAL:
		return decimal_is_valid(s) ? text_param(a, s) : NULL;
	case COL_ID:
		return uuid_parse(s, uuid) ? arena_strdup(a, str_of(uuid)) : NULL;
	case COL_TEXT:
	case COL_TAGS:
		text = (char *)text_param(a, s);
		if (text && c->lower)
			text_lower(text);
		return text;
	default:
		return NULL;
	}
}

/* A reference as text: its id or its number. */
static bool key_of_text(struct arena *a, struct str s, struct key *k)
{
	char uuid[UUID_TEXT + 1];
	int64_t n;

	*k = (struct key){ 0 };
	if (uuid_parse(s, uuid))
		k->id = arena_strdup(a, str_of(uuid));
	else if (str_to_i64(s, &n))
		k->seq = arena_strdup(a, s);
	return k->id || k->seq;
}

static bool is_ref(const struct col *c)
{
	return c->kind == COL_REF || c->kind == COL_REF_LOCAL;
}

static bool filter_value(struct arena *a, struct filter *f, struct str s)
{
	if (f->op == FILTER_IS_NULL) {
		f->values[f->n_values++] = str_eq(s, STR("false")) ? "false" : "true";
		return true;
	}
	if (is_ref(f->col))
		return key_of_text(a, s, &f->keys[f->n_keys]) && ++f->n_keys;
	f->values[f->n_values] = value_param(a, f->col, s);
	return f->values[f->n_values++] != NULL;
}

static bool filter_key(struct arena *a, struct filter *f, struct str wire)
{
	struct key *k = &f->keys[f->n_keys];
	bool bad;

	if (!key_parse(a, wire, k, &bad) || (!k->id && !k->seq))
		return false;
	f->n_keys++;
	return is_ref(f->col) || f->col->kind == COL_TAGS;
}

static bool is_order(enum filter_op op)
{
	return op == FILTER_GTE || op == FILTER_GT || op == FILTER_LTE || op == FILTER_LT;
}

/* First pass: field, op, how many values. */
static enum status filter_head(struct rpc_call *call, const struct plan *p, struct str wire, struct filter *f, size_t *n)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field w;
	uint32_t number = 0;

	*n = 0;
	while (wire_next(&r, &w)) {
		if (w.number == 1 && w.type == WIRE_VARINT)
			number = w.value > UINT32_MAX ? 0 : (uint32_t)w.value;
		else if (w.number == 2 && w.type == WIRE_VARINT)
			f->op = w.value < FILTER_OPS ? (enum filter_op)w.value : FILTER_OPS;
		else if ((w.number == 3 || w.number == 4) && w.type == WIRE_BYTES)
			++*n;
	}
	f->col = plan_col(p, number);
	if (r.bad || f->op == FILTER_OPS || *n > LIST_MAX_VALUES)
		return STATUS_BAD_REQUEST;
	if (!f->col || !f->col->filter) {
		rpc_violate(call, f->col ? f->col->f->name : "filter", "filter", "cannot be filtered by", NULL);
		return STATUS_VALIDATION_ERROR;
	}
	return STATUS_OK;
}

static enum status filter_parse(struct rpc_call *call, const struct plan *p, struct str wire, struct filter *f)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field w;
	size_t n;
	bool good = true;
	enum status s = filter_head(call, p, wire, f, &n);

	if (s != STATUS_OK)
		return s;
	f->values = arena_zalloc(&call->arena, (n + 1) * sizeof(*f->values));
	f->keys = arena_zalloc(&call->arena, (n + 1) * sizeof(*f->keys));
	while (wire_next(&r, &w)) {
		if (w.number == 3 && w.type == WIRE_BYTES)
			good = filter_value(&call->arena, f, w.bytes) && good;
		else if (w.number == 4 && w.type == WIRE_BYTES)
			good = filter_key(&call->arena, f, w.bytes) && good;
	}
	if (is_order(f->op) && (f->n_values != 1 || is_ref(f->col) || f->col->kind == COL_TAGS || f->col->kind == COL_BOOL))
		good = false;
	if (!good)
		rpc_violate(call, f->col->f->name, "type", "is not a valid value", NULL);
	return good ? STATUS_OK : STATUS_VALIDATION_ERROR;
}

static enum status sort_parse(struct rpc_call *call, const struct plan *p, struct str wire, struct query *q)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field w;
	struct sort_key *k = &q->keys[q->n_keys];

	if (q->n_keys == LIST_MAX_SORT)
		return STATUS_BAD_REQUEST;
	*k = (struct sort_key){ 0 };
	while (wire_next(&r, &w)) {
		if (w.number == 1 && w.type == WIRE_VARINT)
			k->col = w.value <= UINT32_MAX ? plan_col(p, (uint32_t)w.value) : NULL;
		else if (w.number == 2 && w.type == WIRE_VARINT)
			k->desc = w.value != 0;
	}
	if (r.bad)
		return STATUS_BAD_REQUEST;
	if (!k->col || !k->col->sort) {
		rpc_violate(call, k->col ? k->col->f->name : "sort", "sort", "cannot be sorted by", NULL);
		return STATUS_VALIDATION_ERROR;
	}
	q->n_keys++;
	return STATUS_OK;
}

static enum status search_parse(struct rpc_call *call, const struct plan *p, struct str s, struct query *q)
{
	while (s.n && s.p[0] == ' ') {
		s.p++;
		s.n--;
	}
	while (s.n && s.p[s.n - 1] == ' ')
		s.n--;
	if (!s.n)
		return STATUS_OK;
	q->search = s.n <= LIST_MAX_SEARCH * 4 && p->r->searchable ? text_param(&call->arena, s) : NULL;
	if (q->search)
		return STATUS_OK;
	rpc_violate(call, "search", "search", p->r->searchable ? "is not a valid search" : "cannot be searched", NULL);
	return STATUS_VALIDATION_ERROR;
}

static enum status member_parse(struct rpc_call *call, const struct plan *p, const struct wire_field *f, struct query *q, struct str *cursor)
{
	if (f->number <= 3 || f->number == 6) {
		if (f->type != WIRE_BYTES || (f->number == 1 && q->n_filters == LIST_MAX_FILTERS))
			return STATUS_BAD_REQUEST;
	} else if (f->type != WIRE_VARINT) {
		return STATUS_BAD_REQUEST;
	}
	switch (f->number) {
	case 1:
		return filter_parse(call, p, f->bytes, &q->filters[q->n_filters++]);
	case 2:
		return sort_parse(call, p, f->bytes, q);
	case 3:
		return search_parse(call, p, f->bytes, q);
	case 4:
		q->limit = f->value > LIST_MAX_LIMIT ? LIST_MAX_LIMIT : (uint32_t)f->value;
		break;
	case 5:
		q->offset = f->value;
		break;
	case 6:
		*cursor = f->bytes;
		break;
	case 7:
		q->want_total = f->value != 0;
		break;
	}
	return STATUS_OK;
}

static void sort_finish(const struct plan *p, struct query *q)
{
	if (!q->n_keys && p->sort.col)
		q->keys[q->n_keys++] = (struct sort_key){ p->sort.col, p->sort.desc };
	q->keys[q->n_keys] = (struct sort_key){ NULL, q->n_keys ? q->keys[0].desc : p->sort.desc };
	q->n_keys++;
}

enum status query_parse(struct rpc_call *call, const struct plan *p, struct str wire, struct query *q)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field f;
	struct str cursor = { 0 };
	enum status s = STATUS_OK, worst = STATUS_OK;

	while (wire_next(&r, &f)) {
		s = member_parse(call, p, &f, q, &cursor);
		if (s == STATUS_BAD_REQUEST)
			return s;
		worst = s != STATUS_OK ? s : worst;
	}
	if (r.bad || q->offset > INT64_MAX)
		return STATUS_BAD_REQUEST;
	q->rows = plan_rows(p, call->who.scope);
	if (!q->limit)
		q->limit = LIST_DEFAULT_LIMIT;
	sort_finish(p, q);
	if (cursor.n) {
		q->offset = 0;
		if (!cursor_parse(&call->arena, p, q, cursor, &q->after)) {
			rpc_violate(call, "cursor", "cursor", "is not a cursor of this list", NULL);
			worst = STATUS_VALIDATION_ERROR;
		}
	}
	return worst;
}

/* -- statements ---------------------------------------------------------------------------------------------------- */

static const char *sql_op(enum filter_op op)
{
	static const char *const ops[] = { "=", "<>", ">=", ">", "<=", "<" };

	return ops[op];
}

static void put_array(struct sql *q, const char *const *v, size_t n, const char *type)
{
	char array[32];
	struct buf b = { 0 };

	snprintf(array, sizeof(array), "%s[]", type);
	for (size_t i = 0; i < n; i++)
		db_array_put(&b, str_of(v[i]));
	sql_value(q, db_array_end(&b, q->arena), array);
}

static size_t keys_split(struct arena *a, const struct filter *f, bool ids, const char ***out)
{
	size_t n = 0;

	*out = arena_zalloc(a, (f->n_keys + 1) * sizeof(**out));
	for (size_t i = 0; i < f->n_keys; i++) {
		const char *v = ids ? f->keys[i].id : f->keys[i].seq;

		if (v)
			(*out)[n++] = v;
	}
	return n;
}

static void where_ref(struct sql *q, const struct filter *f)
{
	const char **ids, **seqs;
	size_t n_ids = keys_split(q->arena, f, true, &ids), n_seqs = keys_split(q->arena, f, false, &seqs);
	const struct plan *to = f->col->target;

	/* NULL counts as different */
	buf_printf(&q->b, f->op == FILTER_NE ? "coalesce(t.%s = ANY(" : "t.%s = ANY(", f->col->column);
	put_array(q, ids, n_ids, "uuid");
	if (n_seqs && to) {
		buf_printf(&q->b, " || ARRAY(SELECT r.id FROM %s r WHERE r.seq = ANY(", to->r->table);
		put_array(q, seqs, n_seqs, "bigint");
		buf_printf(&q->b, ")%s)", to->r->hard ? "" : " AND r.deleted_at IS NULL");
	}
	buf_z(&q->b, f->op == FILTER_NE ? "), false)" : ")");
}

/* One id is by far the most common; as a plain equality it meets the index. */
static void where_ref_one(struct sql *q, const struct filter *f)
{
	const struct plan *to = f->col->target;

	buf_printf(&q->b, "t.%s = ", f->col->column);
	if (f->keys[0].id) {
		sql_value(q, f->keys[0].id, "uuid");
	} else if (to) {
		buf_printf(&q->b, "(SELECT r.id FROM %s r WHERE r.seq = ", to->r->table);
		sql_value(q, f->keys[0].seq, "bigint");
		buf_printf(&q->b, "%s)", to->r->hard ? "" : " AND r.deleted_at IS NULL");
	} else {
		buf_z(&q->b, "NULL"); /* the owner's numbers are not known here */
	}
}

static void where_tags(struct sql *q, const struct plan *p, const struct filter *f)
{
	const char **ids, **seqs;
	size_t n_ids = keys_split(q->arena, f, true, &ids), n_seqs = keys_split(q->arena, f, false, &seqs);

	buf_printf(&q->b, "t.id IN (SELECT %s_tagged(ARRAY(SELECT g.id FROM tag g WHERE g.deleted_at IS NULL AND (g.id = ANY(", p->r->table);
	put_array(q, ids, n_ids, "uuid");
	buf_z(&q->b, ") OR g.seq = ANY(");
	put_array(q, seqs, n_seqs, "bigint");
	buf_z(&q->b, ") OR g.name_key = ANY(ARRAY(SELECT lower(x) FROM unnest(");
	put_array(q, f->values, f->n_values, "text");
	buf_z(&q->b, ") x))))))");
}

static void where_null(struct sql *q, const struct filter *f)
{
	bool is = !f->n_values || strcmp(f->values[0], "true") == 0;

	if (f->col->kind == COL_TAGS)
		buf_printf(&q->b, "t.tag_ids %s '{}'", is ? "=" : "<>");
	else
		buf_printf(&q->b, "t.%s IS %sNULL", f->col->column, is ? "" : "NOT ");
}

static void where_scalar(struct sql *q, const struct filter *f)
{
	const char *type = col_sql_type(f->col);

	if (!f->n_values) {
		buf_z(&q->b, "false");
	} else if (f->n_values == 1 && f->op != FILTER_NE) {
		buf_printf(&q->b, "t.%s %s ", f->col->column, sql_op(f->op));
		sql_value(q, f->values[0], type);
	} else {
		buf_printf(&q->b, f->op == FILTER_NE ? "coalesce(t.%s <> ALL(" : "t.%s = ANY(", f->col->column);
		put_array(q, f->values, f->n_values, type);
		buf_z(&q->b, f->op == FILTER_NE ? "), true)" : ")");
	}
}

static void where_one(struct sql *q, const struct plan *p, const struct filter *f)
{
	if (f->op == FILTER_IS_NULL) {
		where_null(q, f);
		return;
	}
	if (f->op == FILTER_NE && (is_ref(f->col) || f->col->kind == COL_TAGS))
		buf_z(&q->b, "NOT ");
	if (f->col->kind == COL_TAGS)
		where_tags(q, p, f);
	else if (is_ref(f->col) && f->n_keys == 1 && f->op == FILTER_EQ)
		where_ref_one(q, f);
	else if (is_ref(f->col))
		where_ref(q, f);
	else
		where_scalar(q, f);
}

static size_t code_points(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xC0) != 0x80;
	return n;
}

static const char *like_pattern(struct arena *a, const char *s)
{
	char *out = arena_alloc(a, strlen(s) * 2 + 3), *at = out;

	*at++ = '%';
	for (; *s; s++) {
		if (*s == '%' || *s == '_' || *s == '\\')
			*at++ = '\\';
		*at++ = *s;
	}
	*at++ = '%';
	*at = 0;
	return out;
}

static void search_like(struct sql *q, const char *search)
{
	buf_z(&q->b, "t.search LIKE lower(");
	sql_value(q, like_pattern(q->arena, search), "text");
	buf_c(&q->b, ')');
}

/* Fewer than three characters have no trigram: they match much, so walking the list in its order finds a page soon. */
static bool search_has_index(const struct query *l)
{
	return l->search && code_points(l->search) >= 3;
}

/* What the index finds, as long as it is not much. */
static void search_hits(struct sql *q, const struct plan *p, const struct query *l)
{
	buf_printf(&q->b, "WITH hits AS MATERIALIZED (SELECT f.id FROM %s_search(", p->r->table);
	sql_value(q, l->search, "text");
	buf_printf(&q->b, ") AS f(id) LIMIT %d), many AS MATERIALIZED (SELECT count(*) > %d AS yes FROM hits) ", RESOURCE_SEARCH_MANY + 1, RESOURCE_SEARCH_MANY);
}

/* One of two conditions, of which the other is false for every row and not even started. */
static void search_branch(struct sql *q, const struct query *l, struct str where, bool many)
{
	buf_str(&q->b, where);
	buf_z(&q->b, where.n ? " AND " : " WHERE ");
	if (many) {
		buf_z(&q->b, "(SELECT many.yes FROM many) AND ");
		search_like(q, l->search);
	} else {
		buf_z(&q->b, "NOT (SELECT many.yes FROM many) AND t.id IN (SELECT hits.id FROM hits)");
	}
}

/*
 * Row-level security limits the rows; the same said once more lets an index find them (<table>_rows). One owner keeps the index's
 * order, so a page of their own rows is read without a sort.
 */
static void where_rows(struct sql *q, const struct plan *p, const char *rows)
{
	buf_printf(&q->b, strcmp(rows, "own") == 0 ? "(%s) = (SELECT row_owners('%s'))[1]" : "(%s) = ANY((SELECT row_owners('%s'))::uuid[])", p->owner, p->m->rows);
}

void query_where(struct sql *q, const struct plan *p, const struct query *l)
{
	const char *sep = " WHERE ";

	if (!p->r->hard) {
		buf_z(&q->b, " WHERE t.deleted_at IS NULL");
		sep = " AND ";
	}
	if (l->rows) {
		buf_z(&q->b, sep);
		where_rows(q, p, l->rows);
		sep = " AND ";
	}
	for (size_t i = 0; i < l->n_filters; i++) {
		buf_z(&q->b, sep);
		where_one(q, p, &l->filters[i]);
		sep = " AND ";
	}
	if (l->search && !search_has_index(l)) {
		buf_z(&q->b, sep);
		search_like(q, l->search);
	}
}

static const char *key_column(const struct sort_key *k)
{
	return k->col ? k->col->column : "id";
}

static bool key_not_null(const struct sort_key *k)
{
	return !k->col || k->col->not_null;
}

static void key_value(struct sql *q, const struct sort_key *k, const char *v)
{
	sql_value(q, v, k->col ? col_sql_type(k->col) : "uuid");
}

static bool is_uniform(const struct query *l)
{
	for (size_t i = 0; i < l->n_keys; i++)
		if (!key_not_null(&l->keys[i]) || l->keys[i].desc != l->keys[0].desc)
			return false;
	return true;
}

/* (a, b, id) > (x, y, z): one range of the index. */
static void after_uniform(struct sql *q, const struct query *l)
{
	for (size_t i = 0; i < l->n_keys; i++)
		buf_printf(&q->b, "%st.%s", i ? ", " : "(", key_column(&l->keys[i]));
	buf_z(&q->b, l->keys[0].desc ? ") < (" : ") > (");
	for (size_t i = 0; i < l->n_keys; i++) {
		if (i)
			buf_z(&q->b, ", ");
		key_value(q, &l->keys[i], l->after[i]);
	}
	buf_c(&q->b, ')');
}

/* Key i is behind its value, or equal and the rest is behind. NULL is larger than everything, as PostgreSQL sorts. */
static void after_key(struct sql *q, const struct query *l, size_t i)
{
	const struct sort_key *k = &l->keys[i];
	const char *c = key_column(k), *v = l->after[i];
	bool last = i + 1 == l->n_keys;

	buf_c(&q->b, '(');
	if (v) {
		buf_printf(&q->b, "t.%s %s ", c, k->desc ? "<" : ">");
		key_value(q, k, v);
		if (!k->desc && !key_not_null(k))
			buf_printf(&q->b, " OR t.%s IS NULL", c);
	} else {
		buf_printf(&q->b, k->desc ? "t.%s IS NOT NULL" : "false", c);
	}
	if (!last) {
		buf_printf(&q->b, v ? " OR (t.%s = " : " OR (t.%s IS NULL", c);
		if (v)
			key_value(q, k, v);
		buf_z(&q->b, " AND ");
		after_key(q, l, i + 1);
		buf_c(&q->b, ')');
	}
	buf_c(&q->b, ')');
}

static void order_by(struct sql *q, const struct query *l)
{
	for (size_t i = 0; i < l->n_keys; i++)
		buf_printf(&q->b, "%st.%s%s", i ? ", " : " ORDER BY ", key_column(&l->keys[i]), l->keys[i].desc ? " DESC" : "");
}

static const char *read_table(const struct plan *p)
{
	return p->r->from ? p->r->from : p->r->table;
}

/* What stands behind the conditions of a page. The limit is part of the text: with a parameter the planner would assume a tenth of the table. */
static void page_tail(struct sql *q, const struct query *l, bool has_where)
{
	if (l->after) {
		buf_z(&q->b, has_where ? " AND " : " WHERE ");
		if (is_uniform(l))
			after_uniform(q, l);
		else
			after_key(q, l, 0);
	}
	order_by(q, l);
	buf_printf(&q->b, " LIMIT %u", l->limit + 1);
	if (l->offset) {
		buf_z(&q->b, " OFFSET ");
		sql_value(q, arena_printf(q->arena, "%" PRIu64, l->offset), "bigint");
	}
}

/* A search that finds little looks its ids up and sorts them; one that finds much walks the list and soon has a page. */
static void page_search(struct sql *q, const struct plan *p, const struct query *l, struct str where)
{
	search_hits(q, p, l);
	buf_printf(&q->b, "SELECT %s FROM (", p->select_list);
	for (int many = 0; many < 2; many++) {
		buf_printf(&q->b, "%s(SELECT t.* FROM %s t", many ? " UNION ALL " : "", read_table(p));
		search_branch(q, l, where, many);
		page_tail(q, l, true);
		buf_c(&q->b, ')');
	}
	buf_printf(&q->b, ") t%s", p->list_joins);
	order_by(q, l);
}

/*
 * Values are worked out for the page, and joined to it, not for the rows that an offset skips. Without one the join stands inside: there
 * the index's order holds through it and each target is looked up once (Memoize); around the page it costs a hash table and a sort.
 */
void query_page(struct sql *q, const struct plan *p, const struct query *l, struct str where)
{
	bool wrap = l->offset > 0;

	if (search_has_index(l)) {
		page_search(q, p, l, where);
		return;
	}
	buf_z(&q->b, "SELECT ");
	buf_z(&q->b, p->select_list);
	buf_z(&q->b, wrap ? " FROM (SELECT t.* FROM " : " FROM ");
	buf_z(&q->b, read_table(p));
	buf_z(&q->b, " t");
	if (!wrap)
		buf_z(&q->b, p->list_joins);
	buf_str(&q->b, where);
	page_tail(q, l, where.n > 0);
	if (wrap) {
		buf_printf(&q->b, ") t%s", p->list_joins);
		order_by(q, l);
	}
}

void query_count(struct sql *q, const struct plan *p, const struct query *l, struct str where)
{
	if (!search_has_index(l)) {
		buf_printf(&q->b, "SELECT count(*) FROM %s t", read_table(p));
		buf_str(&q->b, where);
		return;
	}
	search_hits(q, p, l);
	for (int many = 0; many < 2; many++) {
		buf_printf(&q->b, "%s(SELECT count(*) FROM %s t", many ? " + " : "SELECT ", read_table(p));
		search_branch(q, l, where, many);
		buf_c(&q->b, ')');
	}
}

/* Exact even when the search finds very much: what is changed must not depend on how far a search looks. */
void query_ids(struct sql *q, const struct plan *p, const struct query *l, size_t limit)
{
	buf_printf(&q->b, "SELECT t.id FROM %s t", read_table(p));
	query_where(q, p, l);
	if (search_has_index(l)) {
		buf_z(&q->b, p->r->hard && !l->n_filters ? " WHERE " : " AND ");
		search_like(q, l->search);
	}
	buf_printf(&q->b, " ORDER BY t.id LIMIT %zu", limit);
}

void export_note(struct sql *q, const struct plan *p, const struct actor *a, const char *event, const struct query *l)
{
	buf_z(&q->b, "INSERT INTO outbox (event_id, tenant_id, type, entity, after, " SQL_OUTBOX_COLUMNS ") SELECT gen_random_uuid(), ");
	sql_value(q, a->tenant, "uuid");
	buf_printf(&q->b, ", '%s', '%s', jsonb_build_object('search', ", event, p->entity);
	sql_value(q, l->search, "text");
	buf_z(&q->b, ", 'filters', ");
	sql_value(q, arena_printf(q->arena, "%zu", l->n_filters), "int");
	buf_z(&q->b, "), ");
	sql_actor(q, a);
}
