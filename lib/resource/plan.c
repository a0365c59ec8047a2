/* Compiles a resource row and its message into columns and select list. */
#include "resource/plan.h"

#include <stdlib.h>

#include "base/log.h"

/* Words of a row, "a b c"; calls fn for each. */
static void words(const char *list, void (*fn)(struct plan *p, struct str word), struct plan *p)
{
	const char *at = list ? list : "";

	while (*at) {
		size_t n = strcspn(at, " ");

		if (n)
			fn(p, (struct str){ at, n });
		at += n + (at[n] == ' ');
	}
}

static struct col *col_or_die(struct plan *p, struct str name, const char *what)
{
	const struct schema_field *f = schema_field_find(p->m, name);

	if (!f || !p->by_number[f->number])
		log_die("RESOURCE-WORD", "resource %s: %s word \"%.*s\" is no stored field of %s", p->r->table, what, STR_FMT(name), p->r->message);
	return p->by_number[f->number];
}

static void mark_filter(struct plan *p, struct str w)
{
	struct col *c = col_or_die(p, w, "filter");

	if (c->kind == COL_ADDRESS || c->kind == COL_ROWS || c->kind == COL_JSON || c->kind == COL_TEXTS)
		log_die("RESOURCE-WORD", "resource %s: %.*s cannot be a filter", p->r->table, STR_FMT(w));
	c->filter = true;
}

static void mark_sort(struct plan *p, struct str w)
{
	struct col *c = col_or_die(p, w, "sort");

	if (c->kind == COL_ADDRESS || c->kind == COL_ROWS || c->kind == COL_JSON || c->kind == COL_TEXTS || c->kind == COL_TAGS || c->kind == COL_REF_LOCAL)
		log_die("RESOURCE-WORD", "resource %s: %.*s cannot be sorted by", p->r->table, STR_FMT(w));
	c->sort = true;
}

static void mark_lower(struct plan *p, struct str w)
{
	struct col *c = col_or_die(p, w, "lower");

	if (c->kind != COL_TEXT)
		log_die("RESOURCE-WORD", "resource %s: %.*s is no text", p->r->table, STR_FMT(w));
	c->lower = true;
}

static void mark_one_of(struct plan *p, struct str w)
{
	struct col *c = col_or_die(p, w, "one_of");

	if (p->n_one_of == sizeof(p->one_of) / sizeof(p->one_of[0]))
		log_die("RESOURCE-WORD", "resource %s: too many one_of words", p->r->table);
	p->one_of[p->n_one_of++] = c;
}

size_t plan_fixed(const struct plan *p, const char *list, struct fixed *rows, size_t max)
{
	const char *at = list ? list : "";
	size_t n = 0;

	while (*at && n < max) {
		size_t len = strcspn(at, " "), name = strcspn(at, "=");

		if (name >= len)
			log_die("RESOURCE-WORD", "resource %s: \"%.*s\" sets nothing", p->r->table, (int)len, at);
		rows[n++] = (struct fixed){ col_or_die((struct plan *)p, (struct str){ at, name }, "set"), xstrndup(at + name + 1, len - name - 1) };
		at += len + (at[len] == ' ');
	}
	return n;
}

static void mark_default(struct plan *p, struct str w)
{
	const char *eq = memchr(w.p, '=', w.n);

	if (!eq)
		log_die("RESOURCE-WORD", "resource %s: default \"%.*s\" has no value", p->r->table, STR_FMT(w));
	col_or_die(p, (struct str){ w.p, (size_t)(eq - w.p) }, "default")->fallback = xstrndup(eq + 1, w.n - (size_t)(eq + 1 - w.p));
}

static bool kind_of_message(const struct schema_field *f, enum col_kind *kind)
{
	const char *name = f->message ? f->message->name : "";

	if (strcmp(name, "crm.v1.Ref") == 0 && !f->repeated) {
		*kind = COL_REF;
		return true;
	}
	if (strcmp(name, "crm.v1.Tag") == 0 && f->repeated) {
		*kind = COL_TAGS;
		return true;
	}
	*kind = f->repeated ? COL_ROWS : COL_ADDRESS;
	if (f->repeated)
		return f->column && f->message;
	return !f->repeated && f->message && !f->message->entity;
}

static bool kind_of_number(const struct schema_field *f, enum col_kind *kind)
{
	*kind = f->format == FORMAT_TIME ? COL_TIME : f->format == FORMAT_DATE ? COL_DATE : COL_INT;
	return !f->repeated;
}

/* False: the field is no column (lists of messages are put together by handlers). */
static bool kind_of(const struct schema_field *f, enum col_kind *kind)
{
	switch (f->type) {
	case TYPE_MESSAGE:
		return kind_of_message(f, kind);
	case TYPE_STRING:
		*kind = f->repeated ? COL_TEXTS : f->format == FORMAT_DECIMAL ? COL_DECIMAL : f->format == FORMAT_UUID || strcmp(f->name, "id") == 0 ? COL_ID : COL_TEXT;
		return true;
	case TYPE_BYTES:
		*kind = COL_JSON;
		return !f->repeated;
	case TYPE_BOOL:
		*kind = COL_BOOL;
		return !f->repeated;
	case TYPE_DOUBLE:
		*kind = COL_DOUBLE;
		return !f->repeated;
	default:
		return kind_of_number(f, kind);
	}
}

static const char *column_of(const struct schema_field *f, enum col_kind kind)
{
	struct buf b = { 0 };

	if (f->column)
		return xstrdup(f->column);
	if (kind == COL_TAGS)
		return xstrdup("tag_ids");
	if (kind != COL_REF || strcmp(f->name, "created_by") == 0 || strcmp(f->name, "updated_by") == 0)
		return xstrdup(f->name);
	buf_printf(&b, "%s_id", f->name);
	return buf_cstr(&b);
}

static void col_fill(struct col *c, const struct schema_field *f, enum col_kind kind)
{
	static const char *const always[] = { "id", "seq", "version", "created_us", "updated_us" };

	c->f = f;
	c->kind = kind;
	c->column = kind == COL_ADDRESS ? NULL : column_of(f, kind);
	c->writable = !f->read_only;
	c->not_null = f->required;
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		if (strcmp(f->name, always[i]) == 0) {
			c->not_null = true;
			c->writable = false;
		}
}

static void members_fill(struct plan *p, struct col *c)
{
	const struct schema_message *m = c->f->message;
	enum col_kind kind;

	c->members = xcalloc(m->n_fields, sizeof(*c->members));
	for (size_t i = 0; i < m->n_fields; i++) {
		if (!kind_of(&m->fields[i], &kind) || kind == COL_ADDRESS || kind == COL_TAGS || kind == COL_REF)
			log_die("RESOURCE-FIELD", "resource %s: %s.%s has no form as a column", p->r->table, c->f->name, m->fields[i].name);
		col_fill(&c->members[c->n_members++], &m->fields[i], kind);
	}
}

/*
 * In the order of their numbers, wherever the contract has them: `id`, which is never NULL, is the first, and whether there is an
 * entity in a result is read off it.
 */
static void cols_fill(struct plan *p)
{
	enum col_kind kind;

	p->cols = xcalloc(p->m->n_fields, sizeof(*p->cols));
	p->by_number = xcalloc(p->m->max_number + 1, sizeof(*p->by_number));
	for (uint32_t number = 1; number <= p->m->max_number; number++) {
		const struct schema_field *f = p->m->by_number[number];
		struct col *c = &p->cols[p->n_cols];

		if (!f || !kind_of(f, &kind))
			continue;
		col_fill(c, f, kind);
		p->by_number[number] = c;
		p->n_cols++;
		if (kind == COL_ADDRESS)
			members_fill(p, c);
	}
	if (!p->n_cols || strcmp(p->cols[0].f->name, "id") != 0)
		log_die("RESOURCE-FIELD", "resource %s: id is not the first field of its message", p->r->table);
}

/* One text per tag: id ':' seq ':' colour ':' bytes of the name ':' name, one after the other. The same in text and binary results, and what tag_refs makes. */
#define TAG_AGG "string_agg(g.id::text || ':' || g.seq || ':' || coalesce(g.color, '') || ':' || octet_length(g.name) || ':' || g.name, '' ORDER BY u.n)"

/*
 * References are looked up by functions of the schema, which cost next to nothing where there is no reference: a join or a
 * sub-select would be set up for every execution (35 us of 85 for an account).
 */
static void select_one(struct plan *p, struct buf *b, struct buf *made, const struct col *c)
{
	struct buf one = { 0 };

	switch (c->kind) {
	case COL_DECIMAL:
		buf_printf(&one, "t.%s::text", c->column);
		break;
	case COL_REF_LOCAL:
		buf_printf(&one, "t.%s, %s_ref(t.%s)", c->column, c->target->r->table, c->column);
		break;
	case COL_TEXTS:
		buf_printf(&one, "(SELECT string_agg(octet_length(u.x) || ':' || u.x, '' ORDER BY u.n) FROM unnest(t.%s) WITH ORDINALITY u(x, n))", c->column);
		break;
	case COL_TAGS:
		buf_z(b, "CASE WHEN cardinality(t.tag_ids) > 0 THEN tag_refs(t.tag_ids) END");
		buf_z(made, "CASE WHEN t.tag_ids <> '{}' THEN (SELECT " TAG_AGG " FROM unnest(t.tag_ids) WITH ORDINALITY u(id, n) JOIN tags_all g ON g.id = u.id) END");
		buf_fini(&one);
		return;
	default:
		buf_printf(&one, "t.%s", c->column);
	}
	buf_str(b, buf_view(&one));
	buf_str(made, buf_view(&one));
	buf_fini(&one);
}

/* A reference that lists join: the label is as <table>_ref makes it. */
static void list_one(struct buf *list, struct buf *joins, const struct col *c)
{
	unsigned n = c->f->number;

	buf_printf(list, "t.%s, j%u.seq || ':' || coalesce(j%u.%s, '')", c->column, n, n, c->label);
	buf_printf(joins, " LEFT JOIN %s j%u ON j%u.tenant_id = t.tenant_id AND j%u.id = t.%s", c->target->r->table, n, n, n, c->column);
	if (!c->target->r->hard)
		buf_printf(joins, " AND j%u.deleted_at IS NULL", n);
}

static void comma(struct buf *b)
{
	if (b->n)
		buf_z(b, ", ");
}

/* What a plan's statements select, while it is put together. */
struct selects {
	struct buf all, made, list, joins;
};

static void select_col(struct plan *p, struct selects *s, struct col *c)
{
	size_t at;

	comma(&s->all);
	comma(&s->made);
	comma(&s->list);
	c->at = p->result_cols;
	at = s->all.n;
	select_one(p, &s->all, &s->made, c);
	if (c->label)
		list_one(&s->list, &s->joins, c);
	else
		buf_put(&s->list, s->all.p + at, s->all.n - at);
	p->result_cols += c->kind == COL_REF_LOCAL ? 2 : 1;
}

static void row_column(struct buf *row, struct buf *row_t, const char *column)
{
	comma(row);
	comma(row_t);
	buf_z(row, column);
	buf_printf(row_t, "t.%s", column);
}

static void select_fill(struct plan *p)
{
	struct selects s = { 0 };
	struct buf row = { 0 }, row_t = { 0 };

	for (size_t i = 0; i < p->n_cols; i++) {
		struct col *c = &p->cols[i];

		if (c->kind != COL_ADDRESS) {
			select_col(p, &s, c);
			row_column(&row, &row_t, c->column);
			continue;
		}
		c->at = p->result_cols;
		for (size_t k = 0; k < c->n_members; k++) {
			select_col(p, &s, &c->members[k]);
			row_column(&row, &row_t, c->members[k].column);
		}
	}
	row_column(&row, &row_t, "tenant_id");
	p->select = buf_cstr(&s.all);
	p->select_made = buf_cstr(&s.made);
	p->select_list = buf_cstr(&s.list);
	p->list_joins = buf_cstr(&s.joins);
	p->row_columns = buf_cstr(&row);
	p->row_columns_t = buf_cstr(&row_t);
	if (p->result_cols > PLAN_MAX_COLUMNS)
		log_die("RESOURCE-FIELD", "resource %s: more than %d columns", p->r->table, PLAN_MAX_COLUMNS);
}

static int result_col(const struct plan *p, const char *name, enum col_kind kind)
{
	const struct col *c = plan_col_named(p, str_of(name));

	return c && c->kind == kind ? c->at : -1;
}

static void lookups_fill(struct plan *p)
{
	const char *live = p->r->hard ? "" : " AND t.deleted_at IS NULL";
	struct buf head = { 0 };

	buf_printf(&head, "SELECT %s FROM %s t WHERE ", p->select, p->r->from ? p->r->from : p->r->table);
	db_lookup_init(&p->by_id, buf_cstr(&head), "t.id", DB_KEY_UUID, live, result_col(p, "id", COL_ID));
	db_lookup_init(&p->by_seq, buf_cstr(&head), "t.seq", DB_KEY_BIGINT, live, result_col(p, "seq", COL_INT));
	buf_fini(&head);
}

static void person_fill(struct plan *p)
{
	if (!p->r->person)
		return;
	p->display = col_or_die(p, STR("display"), "person");
	p->given = col_or_die(p, STR("given"), "person");
	p->family = col_or_die(p, STR("family"), "person");
	p->display->not_null = true;
}

static void default_sort_fill(struct plan *p)
{
	const char *s = p->r->default_sort;

	if (!s)
		return;
	p->sort.desc = *s == '-';
	p->sort.col = col_or_die(p, str_of(s + p->sort.desc), "default_sort");
}

static void owner_fill(struct plan *p)
{
	struct buf b = { 0 };

	if (!p->m->rows)
		return;
	if (p->m->owner)
		p->owner_col = col_or_die(p, str_of(p->m->owner->name), "owner");
	if (p->owner_col)
		buf_printf(&b, "CASE WHEN t.%s IS NULL THEN t.created_by ELSE t.%s END", p->owner_col->column, p->owner_col->column);
	else
		buf_z(&b, "t.created_by");
	p->owner = buf_cstr(&b);
}

const char *plan_rows(const struct plan *p, struct str scope)
{
	size_t n = p->m->rows ? strlen(p->m->rows) : 0;

	for (size_t i = 0; n && i + n + 2 < scope.n && scope.p[i] != ';'; i++) {
		const char *word = scope.p + i;

		if (word[0] == ' ' && memcmp(word + 1, p->m->rows, n) == 0 && word[n + 1] == '=')
			return word[n + 2] == 'o' ? "own" : "team";
	}
	return NULL;
}

bool plan_owner_in_scope(const struct plan *p, struct str scope, const char *id)
{
	const char *rows = plan_rows(p, scope), *ids = rows ? memchr(scope.p, ';', scope.n) : NULL;
	size_t n = ids ? scope.n - (size_t)(ids + 1 - scope.p) : 0, len = strlen(id);

	if (!rows)
		return true;
	for (size_t at = 0; at + len <= n; at += len + 1) {
		if (memcmp(ids + 1 + at, id, len) == 0)
			return true;
		if (strcmp(rows, "own") == 0)
			break; /* the caller is the first */
	}
	return false;
}

static const struct plan *plan_of_entity(const struct plan *plans, size_t n, const char *entity)
{
	for (size_t i = 0; i < n; i++)
		if (plans[i].entity && strcmp(plans[i].entity, entity) == 0)
			return &plans[i];
	return NULL;
}

static void plan_start(struct plan *p, const struct schema *s, const struct resource *r)
{
	p->r = r;
	p->m = schema_message_find(s, str_of(r->message));
	if (!p->m)
		log_die("RESOURCE-MESSAGE", "resource %s: there is no message %s", r->table, r->message);
	p->entity = p->m->entity ? p->m->entity : r->table;
	cols_fill(p);
}

static void refs_fill(struct plan *p, const struct plan *plans, size_t n)
{
	for (size_t i = 0; i < p->n_cols; i++) {
		struct col *c = &p->cols[i];

		if (c->kind != COL_REF || !c->f->ref)
			continue;
		c->target = plan_of_entity(plans, n, c->f->ref);
		if (c->target)
			c->kind = COL_REF_LOCAL;
	}
}

static void writable_check(const struct plan *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_cols; i++)
		if (p->cols[i].writable)
			n += p->cols[i].kind == COL_ADDRESS ? p->cols[i].n_members : 1;
	if (n > PLAN_MAX_WRITABLE)
		log_die("RESOURCE-FIELD", "resource %s: more than %d writable columns", p->r->table, PLAN_MAX_WRITABLE);
}

static void mark_joined(struct plan *p, struct str w)
{
	const char *eq = memchr(w.p, '=', w.n);
	struct col *c = eq ? col_or_die(p, (struct str){ w.p, (size_t)(eq - w.p) }, "joined") : NULL;

	if (!c || c->kind != COL_REF_LOCAL)
		log_die("RESOURCE-WORD", "resource %s: joined \"%.*s\" is no reference=column", p->r->table, STR_FMT(w));
	c->label = xstrndup(eq + 1, w.n - (size_t)(eq + 1 - w.p));
}

static void plan_finish(struct plan *p)
{
	const struct resource *r = p->r;

	for (size_t i = 0; i < p->n_cols; i++)
		if (p->cols[i].kind == COL_TAGS)
			p->tags = &p->cols[i];
	person_fill(p);
	owner_fill(p);
	words(r->filter, mark_filter, p);
	words(r->sort, mark_sort, p);
	words(r->lower, mark_lower, p);
	words(r->one_of, mark_one_of, p);
	words(r->defaults, mark_default, p);
	words(r->joined, mark_joined, p);
	default_sort_fill(p);
	select_fill(p);
	lookups_fill(p);
	writable_check(p);
}

struct plan *plan_compile(const struct schema *s, const struct resource *const *rows, size_t n)
{
	struct plan *plans = xcalloc(n ? n : 1, sizeof(*plans));

	for (size_t i = 0; i < n; i++)
		plan_start(&plans[i], s, rows[i]);
	for (size_t i = 0; i < n; i++)
		refs_fill(&plans[i], plans, n);
	for (size_t i = 0; i < n; i++)
		plan_finish(&plans[i]);
	return plans;
}

static void col_free(struct col *c)
{
	for (size_t i = 0; i < c->n_members; i++)
		col_free(&c->members[i]);
	free(c->members);
	free((char *)c->column);
	free((char *)c->fallback);
	free((char *)c->label);
}

void plan_free(struct plan *plans, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct plan *p = &plans[i];

		for (size_t k = 0; k < p->n_cols; k++)
			col_free(&p->cols[k]);
		free(p->cols);
		free(p->by_number);
		db_lookup_fini(&p->by_id);
		db_lookup_fini(&p->by_seq);
		free((char *)p->select);
		free((char *)p->select_list);
		free((char *)p->list_joins);
		free((char *)p->select_made);
		free((char *)p->row_columns);
		free((char *)p->row_columns_t);
		free((char *)p->owner);
	}
	free(plans);
}

const struct col *plan_col(const struct plan *p, uint32_t number)
{
	return number <= p->m->max_number ? p->by_number[number] : NULL;
}

const struct col *plan_col_named(const struct plan *p, struct str name)
{
	const struct schema_field *f = schema_field_find(p->m, name);

	return f ? plan_col(p, f->number) : NULL;
}

const char *col_sql_type(const struct col *c)
{
	static const char *const types[] = {
		[COL_ID] = "uuid", [COL_TEXT] = "text", [COL_INT] = "bigint", [COL_BOOL] = "boolean", [COL_TIME] = "timestamptz",
		[COL_DATE] = "date", [COL_DECIMAL] = "numeric", [COL_DOUBLE] = "double precision", [COL_JSON] = "jsonb",
		[COL_TEXTS] = "text[]", [COL_REF] = "uuid", [COL_REF_LOCAL] = "uuid", [COL_TAGS] = "uuid[]", [COL_ROWS] = "jsonb",
	};

	return types[c->kind] ? types[c->kind] : "text";
}
