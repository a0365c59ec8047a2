/* From rows as JSON to changed fields and the entity's message, by the column rules of resource/resource.h. */
#include "events/entity.h"

#include "base/codec.h"
#include "base/log.h"
#include "base/wire.h"
#include "json/json.h"
#include "schema/rows.h"

#define COLUMN_MAX 100

const struct schema_message *entity_message(const struct schema *s, struct str word)
{
	const struct schema_method *methods;
	size_t n = schema_methods(s, &methods);

	for (size_t i = 0; i < n; i++) {
		const struct schema_message *m = methods[i].entity;

		if (m && m->entity && str_eq(str_of(m->entity), word))
			return m;
	}
	return NULL;
}

/* -- columns */

static bool is_message(const struct schema_field *f, const char *name)
{
	return f->type == TYPE_MESSAGE && !strcmp(f->message->name, name);
}

/* The column of a field; "" when its columns are those of its members. */
static const char *column_of(const struct schema_field *f, char out[COLUMN_MAX])
{
	const char *name = f->column ? f->column : f->name;
	size_t n = strlen(name);

	if (f->column || n + 4 > COLUMN_MAX)
		return name;
	if (f->repeated && is_message(f, "crm.v1.Tag"))
		return "tag_ids";
	if (is_message(f, "crm.v1.Ref") && strcmp(name, "created_by") && strcmp(name, "updated_by")) {
		memcpy(out, name, n);
		memcpy(out + n, "_id", 4);
		return out;
	}
	if (is_message(f, "crm.v1.Ref"))
		return name;
	if (f->type == TYPE_MESSAGE)
		return "";
	return name;
}

const struct schema_field *entity_field_of(const struct schema_message *m, struct str column)
{
	char name[COLUMN_MAX];

	for (size_t i = 0; i < m->n_fields; i++) {
		const struct schema_field *f = &m->fields[i];
		const char *c = column_of(f, name);

		if (f->secret)
			continue;
		if (*c ? str_eq(str_of(c), column) : !f->repeated && entity_field_of(f->message, column))
			return f;
	}
	return NULL;
}

static bool one_of(struct str s, const char *const *words)
{
	for (; *words; words++) {
		if (str_eq(s, str_of(*words)))
			return true;
	}
	return false;
}

/* What every table has beside its contract. */
static bool is_inner(struct str column)
{
	static const char *const inner[] = { "tenant_id", "search", "deleted_at", NULL };

	return one_of(column, inner);
}

/*
 * Of an address, each member is a column and speaks for itself. A column that the contract does not have is of a newer build of its
 * service (docs/adr/0034-contracts-from-services.md), and may be anything: personal rather than not.
 */
static bool personal_column(const struct schema_message *m, struct str column)
{
	char name[COLUMN_MAX];

	for (size_t i = 0; i < m->n_fields; i++) {
		const struct schema_field *f = &m->fields[i];
		const char *c = column_of(f, name);

		if (*c ? str_eq(str_of(c), column) : !f->repeated && entity_field_of(f->message, column))
			return f->personal || (!*c && personal_column(f->message, column));
	}
	return !is_inner(column);
}

bool entity_personal(const struct schema_message *m, struct str column)
{
	static const char *const words[] = { "email", "phone", "display", "given", "family", "street", "notes", "contact_name", "avatar", NULL };

	return m ? personal_column(m, column) : one_of(column, words);
}

static bool speaks_of_secret(struct str column)
{
	static const char *const words[] = { "password", "secret", "token", "hash", "totp", "private", "salt", NULL };

	for (const char *const *w = words; *w; w++) {
		if (memmem(column.p, column.n, *w, strlen(*w)))
			return true;
	}
	return false;
}

static bool column_leaves(const struct schema_message *m, struct str column)
{
	if (is_inner(column))
		return false;
	return m ? entity_field_of(m, column) != NULL : !speaks_of_secret(column);
}

/* -- what changed */

static bool column_counts(struct str column)
{
	static const char *const bookkeeping[] = { "version", "updated_at", "updated_by", NULL };

	return !one_of(column, bookkeeping);
}

static bool is_null(const struct json *v)
{
	return !v || v->type == JSON_NULL;
}

static bool same(const struct json *a, const struct json *b)
{
	if (is_null(a) || is_null(b))
		return is_null(a) && is_null(b);
	return str_eq(a->raw, b->raw); /* jsonb prints equal values alike */
}

static void member_print(struct buf *b, struct str key, const struct json *v)
{
	buf_c(b, b->n ? ',' : '{');
	buf_json_str(b, key);
	buf_c(b, ':');
	if (v)
		json_print(b, v);
	else
		buf_z(b, "null");
}

struct difference {
	struct buf before, after;
};

static void compare(const struct schema_message *m, const struct json *column, const struct json *was, const struct json *is, struct difference *d,
    struct event *e)
{
	if (!column_counts(column->key) || !column_leaves(m, column->key) || same(was, is) || e->n_changed == EVENT_MAX_CHANGED)
		return;
	e->changed[e->n_changed++] = column->key;
	member_print(&d->before, column->key, was);
	member_print(&d->after, column->key, is);
}

static struct str finish(struct arena *a, struct buf *b, bool wanted)
{
	struct str out = { 0 };

	if (wanted) {
		buf_z(b, b->n ? "}" : "{}");
		out = arena_str(a, buf_view(b));
	}
	buf_fini(b);
	return out;
}

static void describe_change(struct arena *a, const struct schema_message *m, const struct json *before, const struct json *after, struct event *e)
{
	struct difference d = { 0 };

	for (const struct json *v = after ? after->child : NULL; v; v = v->next)
		compare(m, v, before ? json_get(before, v->key, false) : NULL, v, &d, e);
	for (const struct json *v = before ? before->child : NULL; v; v = v->next) {
		if (!after || !json_get(after, v->key, false))
			compare(m, v, v, NULL, &d, e);
	}
	e->before = finish(a, &d.before, before != NULL);
	e->after = finish(a, &d.after, after != NULL);
}

/* -- the entity's message */

static void encode_message(struct buf *b, const struct schema_message *m, const struct json *row);

static void encode_scalar(struct buf *b, const struct schema_field *f, const struct json *v)
{
	int64_t n = 0;

	switch (f->type) {
	case TYPE_STRING:
		if (v->type == JSON_STRING || v->type == JSON_NUMBER)
			wire_put_bytes(b, f->number, v->text);
		break;
	case TYPE_BYTES:
		wire_put_bytes(b, f->number, v->raw);
		break;
	case TYPE_BOOL:
		wire_put_varint(b, f->number, v->type == JSON_TRUE);
		break;
	case TYPE_DOUBLE:
	case TYPE_FIXED32:
	case TYPE_FIXED64:
	case TYPE_MESSAGE:
		break; /* no entity has such a column */
	default:
		if (v->type == JSON_STRING ? time_parse(v->text, true, &n) : str_to_i64(v->text, &n))
			wire_put_varint(b, f->number, (uint64_t)n);
	}
}

/* A reference: the id is all that a row knows of it. */
static void encode_id(struct buf *b, uint32_t number, const struct json *v)
{
	size_t at;

	if (v->type != JSON_STRING)
		return;
	at = wire_open(b, number);
	wire_put_bytes(b, 1, v->text);
	wire_close(b, at);
}

static void encode_members(struct buf *b, const struct schema_field *f, const struct json *row)
{
	size_t before = b->n, at = wire_open(b, f->number), start = b->n;

	encode_message(b, f->message, row);
	if (b->n == start)
		b->n = before; /* none of its columns is set: absent */
	else
		wire_close(b, at);
}

/* One of a list of messages that the row keeps as JSON. */
static void encode_row(struct buf *b, const struct schema_field *f, const struct json *v)
{
	size_t at = wire_open(b, f->number);

	if (!message_of_json(b, f->message, v))
		log_warn("EVENT-ROW", "an element of %s is no %s", f->name, f->message->name);
	wire_close(b, at);
}

static void encode_field(struct buf *b, const struct schema_field *f, const struct json *v)
{
	if (f->repeated) {
		for (const struct json *i = v->type == JSON_ARRAY ? v->child : NULL; i; i = i->next)
			i->type == JSON_OBJECT && f->type == TYPE_MESSAGE ? encode_row(b, f, i) : f->type == TYPE_MESSAGE ? encode_id(b, f->number, i) : encode_scalar(b, f, i);
	} else if (f->type == TYPE_MESSAGE) {
		encode_id(b, f->number, v);
	} else {
		encode_scalar(b, f, v);
	}
}

static void encode_message(struct buf *b, const struct schema_message *m, const struct json *row)
{
	char name[COLUMN_MAX];

	for (size_t i = 0; i < m->n_fields; i++) {
		const struct schema_field *f = &m->fields[i];
		const char *column = column_of(f, name);
		const struct json *v = *column ? json_get(row, str_of(column), false) : NULL;

		if (f->secret)
			continue;
		if (!*column && !f->repeated)
			encode_members(b, f, row);
		else if (!is_null(v))
			encode_field(b, f, v);
	}
}

static struct str describe_entity(struct arena *a, const struct schema_message *m, const struct json *after)
{
	struct buf b = { 0 };
	struct str out;

	encode_message(&b, m, after);
	out = arena_str(a, buf_view(&b));
	buf_fini(&b);
	return out;
}

static bool parse_row(struct arena *a, struct str text, const struct json **row)
{
	struct json_error err;

	*row = NULL;
	if (!text.n)
		return true;
	*row = json_parse(a, text, &err);
	return *row && (*row)->type == JSON_OBJECT;
}

bool entity_describe(struct arena *a, const struct schema_message *m, struct str before, struct str after, struct event *e)
{
	const struct json *was, *is;

	if (!parse_row(a, before, &was) || !parse_row(a, after, &is))
		return false;
	describe_change(a, m, was, is, e);
	if (m && is)
		e->data = describe_entity(a, m, is);
	return true;
}
