/* Lists: the request becomes one WHERE clause with parameters, a page query and, when wanted, a count. */
#include "list.h"

#include <inttypes.h>

#include "base/codec.h"
#include "base/wire.h"
#include "resource/engine.h"

#define MAX_PARAMS 48
#define MAX_SORT 3
#define MAX_FILTERS 16
#define MAX_VALUES 100
#define MAX_SEARCH 200
#define MAX_CURSOR 2048
#define PAGE_DEFAULT 20
#define PAGE_MAX 100
#define EXPORT_PAGE 500

struct sort_key {
	const struct list_column *col;
	bool desc;
};

struct query {
	struct rpc_call *call;
	const struct list *l;
	const Crm__V1__ListRequest *req;
	struct buf where;                /* appended to l->from */
	const char *params[MAX_PARAMS];
	int n_params;
	struct sort_key sort[MAX_SORT];
	size_t n_sort;
	uint32_t limit;
	const char *event, *entity;      /* of an export; NULL: it is none */
	bool bad;
};

static int add(struct query *q, const char *value)
{
	if (q->n_params == MAX_PARAMS) {
		q->bad = true;
		return 1;
	}
	q->params[q->n_params] = value;
	return ++q->n_params;
}

static const struct list_column *column(struct query *q, uint32_t field)
{
	for (size_t i = 0; i < q->l->n_known; i++) {
		if (q->l->known[i].field == field)
			return &q->l->known[i];
	}
	q->bad = true;
	return NULL;
}

static const char *operator_of(Crm__V1__Filter__Op op)
{
	switch (op) {
	case CRM__V1__FILTER__OP__GTE: return ">=";
	case CRM__V1__FILTER__OP__GT: return ">";
	case CRM__V1__FILTER__OP__LTE: return "<=";
	case CRM__V1__FILTER__OP__LT: return "<";
	default: return NULL;
	}
}

static bool values_fit(const struct list_column *c, const Crm__V1__Filter *f)
{
	int64_t v;

	if (f->n_value == 0 || f->n_value > MAX_VALUES)
		return false;
	for (size_t i = 0; i < f->n_value; i++) {
		if (c->type == LIST_NUMBER && !str_to_i64(str_of(f->value[i]), &v))
			return false;
	}
	return true;
}

static void filter_any(struct query *q, const struct list_column *c, const Crm__V1__Filter *f)
{
	int at = add(q, param_array(q->call, f->value, f->n_value));
	const char *not = f->op == CRM__V1__FILTER__OP__NE ? "NOT " : "";

	if (c->type == LIST_TEXT)
		buf_printf(&q->where, " AND %scoalesce(lower(%s) = ANY (SELECT lower(v) FROM unnest($%d::text[]) v), false)", not, c->sql, at);
	else
		buf_printf(&q->where, " AND %scoalesce(%s = ANY ($%d::bigint[]), false)", not, c->sql, at);
}

static void filter_one(struct query *q, const Crm__V1__Filter *f)
{
	const struct list_column *c = column(q, f->field);
	const char *op = operator_of(f->op);

	if (!c)
		return;
	if (f->op == CRM__V1__FILTER__OP__IS_NULL) {
		bool no = f->n_value && strcmp(f->value[0], "false") == 0;

		buf_printf(&q->where, " AND %s IS %sNULL", c->sql, no ? "NOT " : "");
	} else if (!values_fit(c, f)) {
		q->bad = true;
	} else if (!op) {
		filter_any(q, c, f);
	} else {
		int at = add(q, f->value[0]);

		buf_printf(&q->where, " AND %s %s $%d::%s", c->sql, op, at, c->type == LIST_TEXT ? "text" : "bigint");
	}
}

static void search(struct query *q, const char *text)
{
	bool first = true;
	int at;

	if (!text || !*text)
		return;
	if (strlen(text) > MAX_SEARCH) {
		q->bad = true;
		return;
	}
	at = add(q, text);
	buf_z(&q->where, " AND (");
	for (size_t i = 0; i < q->l->n_known; i++) {
		if (!q->l->known[i].searched)
			continue;
		buf_printf(&q->where, "%sstrpos(lower(coalesce(%s, '')), lower($%d::text)) > 0", first ? "" : " OR ", q->l->known[i].sql, at);
		first = false;
	}
	buf_z(&q->where, first ? "true)" : ")");
}

static void sort(struct query *q)
{
	const Crm__V1__ListRequest *r = q->req;

	if (r->n_sort > MAX_SORT)
		q->bad = true;
	for (size_t i = 0; i < r->n_sort && i < MAX_SORT; i++) {
		q->sort[i] = (struct sort_key){ column(q, r->sort[i]->field), r->sort[i]->desc };
		q->n_sort++;
	}
	if (q->n_sort == 0)
		q->sort[q->n_sort++] = (struct sort_key){ column(q, q->l->default_sort), false };
}

/* The expression sorted by: never NULL, so that rows compare. */
static const char *key_sql(struct query *q, size_t i)
{
	const struct list_column *c = q->sort[i].col;

	if (c->type == LIST_TEXT)
		return arena_printf(&q->call->arena, "lower(coalesce(%s, ''))", c->sql);
	return arena_printf(&q->call->arena, "coalesce(%s, 0)", c->sql);
}

static char *sort_signature(struct query *q)
{
	char *out = "";

	for (size_t i = 0; i < q->n_sort; i++)
		out = arena_printf(&q->call->arena, "%s%s%u.", out, q->sort[i].desc ? "-" : "", q->sort[i].col->field);
	return out;
}

/* Rows behind (k1, k2, id): k1 > v1 OR k1 = v1 AND (k2 > v2 OR k2 = v2 AND id > v). */
static void behind(struct query *q, char *const values[], const char *id)
{
	buf_z(&q->where, " AND (");
	for (size_t i = 0; i < q->n_sort; i++) {
		const char *type = q->sort[i].col->type == LIST_TEXT ? "text" : "bigint", *key = key_sql(q, i);
		int at = add(q, values[i]);

		buf_printf(&q->where, "%s %s $%d::%s OR %s = $%d::%s AND (", key, q->sort[i].desc ? "<" : ">", at, type, key, at, type);
	}
	buf_printf(&q->where, "%s > $%d::uuid", q->l->id, add(q, id));
	for (size_t i = 0; i <= q->n_sort; i++)
		buf_c(&q->where, ')');
}

static bool cursor_values(struct query *q, struct str text, char *values[MAX_SORT], size_t *n, char **signature, char **id)
{
	uint8_t raw[MAX_CURSOR];
	long len = text.n <= MAX_CURSOR ? b64url_decode(text, raw) : -1;
	struct wire_reader r = wire_read((struct str){ (char *)raw, len > 0 ? (size_t)len : 0 });
	struct wire_field f;

	*n = 0;
	while (len > 0 && wire_next(&r, &f)) {
		char *v = f.type == WIRE_BYTES ? arena_strdup(&q->call->arena, f.bytes) : NULL;

		if (!v || (f.number == 1 && *n == MAX_SORT))
			return false;
		if (f.number == 1)
			values[(*n)++] = v;
		else if (f.number == 2)
			*signature = v;
		else if (f.number == 3)
			*id = v;
	}
	return len > 0 && !r.bad && *signature && *id;
}

static void cursor(struct query *q)
{
	char *values[MAX_SORT], *signature = NULL, *id = NULL;
	size_t n;
	int64_t number;

	if (!q->req->cursor || !*q->req->cursor || q->bad)
		return;
	if (!cursor_values(q, str_of(q->req->cursor), values, &n, &signature, &id) || n != q->n_sort ||
	    strcmp(signature, sort_signature(q)) != 0 || !uuid_parse(str_of(id), NULL)) {
		q->bad = true;
		return;
	}
	for (size_t i = 0; i < n; i++)
		q->bad |= q->sort[i].col->type == LIST_NUMBER ? !str_to_i64(str_of(values[i]), &number) : !str_is_utf8(str_of(values[i]));
	behind(q, values, id);
}

static char *page_sql(struct query *q)
{
	struct buf b = { 0 };
	char *out;

	buf_printf(&b, "SELECT %s", q->l->columns);
	for (size_t i = 0; i < q->n_sort; i++)
		buf_printf(&b, ", %s", key_sql(q, i));
	buf_printf(&b, ", %s FROM %s%s ORDER BY ", q->l->id, q->l->from, buf_cstr(&q->where));
	for (size_t i = 0; i < q->n_sort; i++)
		buf_printf(&b, "%s %s, ", key_sql(q, i), q->sort[i].desc ? "DESC" : "ASC");
	buf_printf(&b, "%s LIMIT %u", q->l->id, q->limit + 1);
	if (q->req->has_offset && !(q->req->cursor && *q->req->cursor))
		buf_printf(&b, " OFFSET %" PRIu64, q->req->offset & INT64_MAX);
	out = arena_strdup(&q->call->arena, buf_view(&b));
	buf_fini(&b);
	return out;
}

static char *next_cursor(struct query *q, const PGresult *res, int row)
{
	struct buf b = { 0 };
	int key = PQnfields(res) - 1 - (int)q->n_sort;
	char *out;

	for (size_t i = 0; i < q->n_sort; i++)
		wire_put_bytes(&b, 1, str_of(PQgetvalue(res, row, key + (int)i)));
	wire_put_bytes(&b, 2, str_of(sort_signature(q)));
	wire_put_bytes(&b, 3, str_of(PQgetvalue(res, row, PQnfields(res) - 1)));
	out = arena_alloc(&q->call->arena, b.n * 4 / 3 + 4);
	b64url_encode(b.p, b.n, out);
	buf_fini(&b);
	return out;
}

static void fill(struct query *q, const PGresult *res, Crm__V1__ListReply *out)
{
	int n = PQntuples(res), shown = n > (int)q->limit ? (int)q->limit : n;

	out->item = arena_alloc(&q->call->arena, (size_t)(n ? n : 1) * sizeof(*out->item));
	for (int i = 0; i < shown; i++) {
		struct str bytes = q->l->row(q->call, res, i);

		out->item[out->n_item++] = (ProtobufCBinaryData){ bytes.n, (uint8_t *)bytes.p };
	}
	if (n > shown)
		out->next_cursor = next_cursor(q, res, shown - 1);
}

/* Runs before the cursor narrows the rows. */
static enum status count(struct query *q, struct db_conn *db, Crm__V1__ListReply *out)
{
	const char *sql = arena_printf(&q->call->arena, "SELECT count(*) FROM %s%s", q->l->from, buf_cstr(&q->where));
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, sql, q->n_params, q->params);

	if (s == STATUS_OK) {
		out->has_total = 1;
		out->total = (uint64_t)col_i64(res, 0, 0);
	}
	PQclear(res);
	return s;
}

static enum status page(struct query *q, struct db_conn *db, Crm__V1__ListReply *out)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, page_sql(q), q->n_params, q->params);

	if (s == STATUS_OK)
		fill(q, res, out);
	PQclear(res);
	return s;
}

static void prepare(struct query *q)
{
	const Crm__V1__ListRequest *r = q->req;

	q->limit = r->has_limit && r->limit ? r->limit : PAGE_DEFAULT;
	if (q->limit > PAGE_MAX)
		q->limit = PAGE_MAX;
	if (q->event)
		q->limit = EXPORT_PAGE;
	if (r->n_filter > MAX_FILTERS)
		q->bad = true;
	for (size_t i = 0; i < r->n_filter && !q->bad; i++)
		filter_one(q, r->filter[i]);
	search(q, r->search);
	sort(q);
}

static bool is_first(const struct query *q)
{
	return !q->req->cursor || !*q->req->cursor;
}

/* Nothing is shown that is not noted. */
static enum status note(struct query *q, struct db_conn *db)
{
	return resource_event(db, q->call, q->event, q->entity, NULL, 0, 0, NULL, NULL);
}

static enum status run(struct query *q, struct db_conn *db, Crm__V1__ListReply *out)
{
	enum status s;

	prepare(q);
	if (q->bad)
		return STATUS_BAD_REQUEST;
	s = db_begin(db, q->call->who.tenant_id);
	if (s == STATUS_OK && !q->event && q->req->has_want_total && q->req->want_total)
		s = count(q, db, out);
	if (s != STATUS_OK)
		return s;
	cursor(q);
	if (q->bad)
		return STATUS_BAD_REQUEST;
	s = page(q, db, out);
	if (s == STATUS_OK && q->event && is_first(q))
		s = note(q, db);
	if (s != STATUS_OK)
		return s;
	return q->event ? resource_commit(db, q->call) : db_commit(db);
}

static void answer(struct query *q, struct db_conn *db)
{
	Crm__V1__ListReply out = CRM__V1__LIST_REPLY__INIT;
	enum status s = run(q, db, &out);

	buf_fini(&q->where);
	if (s != STATUS_OK)
		handler_fail(q->call, db, s);
	else
		handler_reply(q->call, &out);
}

void list_run(struct rpc_call *call, struct db_conn *db, const struct list *l, const char *param)
{
	struct query q = { .call = call, .l = l, .req = handler_request(call, &crm__v1__list_request__descriptor) };

	if (!q.req)
		return;
	if (param)
		add(&q, param);
	answer(&q, db);
}

void list_export(struct rpc_call *call, struct db_conn *db, const struct list *l, const char *event, const char *entity)
{
	struct query q = { .call = call, .l = l, .req = handler_request(call, &crm__v1__list_request__descriptor), .event = event, .entity = entity };

	if (q.req)
		answer(&q, db);
}
