/* From an entity's wire bytes to the columns that a statement writes. */
#include "resource/values.h"

#include <inttypes.h>

#include "base/codec.h"
#include "base/wire.h"
#include "db/array.h"
#include "schema/rows.h"
#include "schema/validate.h"

#define YEAR_1_US (-62135596800000000LL)
#define YEAR_10000_US 253402300800000000LL

struct parse {
	struct rpc_call *call;
	const struct plan *p;
	struct values *v;
	struct wire_field *got; /* by column, the last one wins; number 0: absent */
	bool *write;            /* by column */
	bool create;
	bool malformed;
};

const char *text_param(struct arena *a, struct str s)
{
	if (memchr(s.p ? s.p : "", 0, s.n) || !str_is_utf8(s))
		return NULL;
	return arena_strdup(a, s);
}

void text_lower(char *s)
{
	for (; *s; s++) {
		if (*s >= 'A' && *s <= 'Z')
			*s = (char)(*s + 32);
		if (*s == ' ')
			*s = '_';
	}
}

const char *time_param(struct arena *a, int64_t us, bool date)
{
	struct buf b = { 0 };
	const char *out;

	if (us < YEAR_1_US || us >= YEAR_10000_US)
		return NULL;
	if (date)
		date_print(&b, us);
	else
		time_print(&b, us);
	out = arena_strdup(a, buf_view(&b));
	buf_fini(&b);
	return out;
}

bool key_parse(struct arena *a, struct str wire, struct key *k, bool *bad)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field f;
	char uuid[UUID_TEXT + 1];

	*k = (struct key){ 0 };
	*bad = false;
	while (wire_next(&r, &f)) {
		if (f.number == 1 && f.type == WIRE_BYTES && f.bytes.n) {
			*bad = !uuid_parse(f.bytes, uuid);
			k->id = *bad ? NULL : arena_strdup(a, str_of(uuid));
		} else if (f.number == 2 && f.type == WIRE_VARINT && f.value) {
			k->seq = arena_printf(a, "%" PRId64, (int64_t)f.value);
		}
	}
	if (k->id)
		k->seq = NULL;
	return !r.bad && !*bad;
}

/* A tag in a list is a reference: what a tag of its own must have is not asked of it. */
static void violate(void *arg, const char *path, const char *rule, const char *message, const char *param)
{
	if (strncmp(path, "tags.", 5) != 0 || strcmp(rule, "required") != 0)
		rpc_violate(arg, path, rule, message, param);
}

void violate_scope(struct rpc_call *call, const struct plan *p)
{
	rpc_violate(call, p->owner_col ? p->owner_col->f->name : "", "scope", "must be somebody whose records you may see", NULL);
}

static void violate_rule(struct rpc_call *call, const char *path, const char *rule)
{
	rpc_violate(call, path, rule, schema_rule_text(&call->arena, rule, NULL), NULL);
}

/* There is room: the plan has fewer writable columns (checked when it was compiled). */
static struct set *set_add(struct values *v, const struct col *c, enum set_how how)
{
	struct set *s = &v->sets[v->n_sets++];

	*s = (struct set){ .col = c, .how = how };
	return s;
}

static struct set *set_find(struct values *v, const struct col *c)
{
	for (size_t i = 0; i < v->n_sets; i++)
		if (v->sets[i].col == c)
			return &v->sets[i];
	return NULL;
}

static const char *bytes_param(struct parse *ps, const struct col *c, const struct wire_field *f, const char *path)
{
	char *s = (char *)text_param(&ps->call->arena, f->bytes);

	if (!s)
		rpc_violate(ps->call, path, "characters", "must be valid UTF-8 text without NUL characters", NULL);
	else if (c->lower)
		text_lower(s);
	return s;
}

static const char *number_param(struct parse *ps, const struct col *c, const struct wire_field *f, const char *path)
{
	struct arena *a = &ps->call->arena;
	const char *s;

	if (c->kind == COL_BOOL)
		return f->value ? "true" : "false";
	if (c->kind == COL_INT)
		return arena_printf(a, "%" PRId64, (int64_t)f->value);
	s = time_param(a, (int64_t)f->value, c->kind == COL_DATE);
	if (!s)
		rpc_violate(ps->call, path, "range", "must be a time between the years 1 and 9999", NULL);
	return s;
}

static const char *double_param(struct parse *ps, const struct wire_field *f)
{
	double d;

	memcpy(&d, &f->value, sizeof(d));
	return arena_printf(&ps->call->arena, "%.17g", d);
}

static enum wire_type wire_type_of(const struct col *c)
{
	switch (c->kind) {
	case COL_INT:
	case COL_BOOL:
	case COL_TIME:
	case COL_DATE:
		return WIRE_VARINT;
	case COL_DOUBLE:
		return WIRE_FIXED64;
	default:
		return WIRE_BYTES;
	}
}

static void scalar_set(struct parse *ps, const struct col *c, const struct wire_field *f, const char *path)
{
	struct set *s = set_add(ps->v, c, SET_TEXT);

	if (!f->number)
		return;
	switch (wire_type_of(c)) {
	case WIRE_VARINT:
		s->text = number_param(ps, c, f, path);
		break;
	case WIRE_FIXED64:
		s->text = double_param(ps, f);
		break;
	default:
		s->text = bytes_param(ps, c, f, path);
	}
	if (c->kind == COL_DECIMAL && s->text && !decimal_is_valid(f->bytes))
		violate_rule(ps->call, path, "decimal");
}

static void ref_set(struct parse *ps, const struct col *c, const struct wire_field *f)
{
	struct set *s = set_add(ps->v, c, c->kind == COL_REF_LOCAL ? SET_REF : SET_TEXT);
	bool bad;

	if (!f->number)
		return;
	if (!key_parse(&ps->call->arena, f->bytes, &s->key, &bad) && !bad) {
		ps->malformed = true;
		return;
	}
	s->text = s->key.id;
	if (bad || (!s->key.id && !s->key.seq && f->bytes.n) || (c->kind == COL_REF && !s->key.id && s->key.seq))
		violate_rule(ps->call, c->f->name, "exists");
}

static void address_set(struct parse *ps, const struct col *c, const struct wire_field *f)
{
	struct wire_reader r = wire_read(f->number ? f->bytes : (struct str){ 0 });
	struct wire_field m;
	struct wire_field *got = arena_zalloc(&ps->call->arena, (c->n_members + 1) * sizeof(*got));

	while (wire_next(&r, &m))
		for (size_t i = 0; i < c->n_members; i++)
			if (c->members[i].f->number == m.number && wire_type_of(&c->members[i]) == m.type)
				got[i] = m;
	ps->malformed |= r.bad;
	for (size_t i = 0; i < c->n_members; i++)
		if (got[i].number || !f->number)
			scalar_set(ps, &c->members[i], &got[i], arena_printf(&ps->call->arena, "%s.%s", c->f->name, c->members[i].f->name));
}

static void tag_parse(struct parse *ps, struct str wire)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field f;
	struct values *v = ps->v;
	struct tag_want *t = &v->tags[v->n_tags];
	bool bad;

	if (v->n_tags == VALUES_MAX_TAGS)
		return;
	*t = (struct tag_want){ 0 };
	ps->malformed |= !key_parse(&ps->call->arena, wire, &t->key, &bad) && !bad;
	while (wire_next(&r, &f))
		if (f.number == 16 && f.type == WIRE_BYTES && f.bytes.n)
			t->name = text_param(&ps->call->arena, f.bytes);
	if (t->key.id || t->key.seq)
		t->name = NULL;
	if (bad || (!t->key.id && !t->key.seq && !t->name))
		violate_rule(ps->call, ps->p->tags->f->name, "exists");
	else
		v->n_tags++;
}

static void tags_set(struct parse *ps, struct str entity)
{
	struct wire_reader r = wire_read(entity);
	struct wire_field f;
	size_t n = 0;

	set_add(ps->v, ps->p->tags, SET_TAGS);
	while (wire_next(&r, &f))
		if (f.number == ps->p->tags->f->number && f.type == WIRE_BYTES) {
			tag_parse(ps, f.bytes);
			n++;
		}
	if (n > VALUES_MAX_TAGS)
		rpc_violate(ps->call, ps->p->tags->f->name, "max_items", "must have at most 50 elements", "50");
}

/* text[] as PostgreSQL reads it. */
static void texts_set(struct parse *ps, const struct col *c, struct str entity)
{
	struct wire_reader r = wire_read(entity);
	struct wire_field f;
	struct buf b = { 0 };

	while (wire_next(&r, &f)) {
		if (f.number != c->f->number || f.type != WIRE_BYTES)
			continue;
		if (!text_param(&ps->call->arena, f.bytes))
			rpc_violate(ps->call, c->f->name, "characters", "must be valid UTF-8 text without NUL characters", NULL);
		db_array_put(&b, f.bytes);
	}
	set_add(ps->v, c, SET_TEXT)->text = db_array_end(&b, &ps->call->arena);
}

/* jsonb: the messages as they were sent, without what a writer may not set. */
static void rows_set(struct parse *ps, const struct col *c, struct str entity)
{
	struct wire_reader r = wire_read(entity);
	struct wire_field f;
	struct buf b = { 0 };
	size_t n = 0;

	buf_c(&b, '[');
	while (wire_next(&r, &f)) {
		if (f.number != c->f->number || f.type != WIRE_BYTES || n++ >= ROWS_MAX)
			continue;
		if (n > 1)
			buf_c(&b, ',');
		if (!message_to_json(&b, c->f->message, f.bytes, true))
			rpc_violate(ps->call, arena_printf(&ps->call->arena, "%s.%zu", c->f->name, n - 1), "characters", "must be valid UTF-8 text without NUL characters", NULL);
	}
	buf_c(&b, ']');
	if (n > ROWS_MAX)
		rpc_violate(ps->call, c->f->name, "max_items", "must have at most 200 elements", "200");
	set_add(ps->v, c, SET_TEXT)->text = arena_strdup(&ps->call->arena, buf_view(&b));
	buf_fini(&b);
}

static void fields_read(struct parse *ps, struct str entity)
{
	struct wire_reader r = wire_read(entity);
	struct wire_field f;

	while (wire_next(&r, &f)) {
		const struct col *c = plan_col(ps->p, f.number);

		if (!c)
			continue;
		if (f.type == wire_type_of(c))
			ps->got[c - ps->p->cols] = f;
		else
			ps->malformed = true;
	}
	ps->malformed |= r.bad;
}

static void sets_fill(struct parse *ps, struct str entity)
{
	for (size_t i = 0; i < ps->p->n_cols && !ps->malformed; i++) {
		const struct col *c = &ps->p->cols[i];

		if (!ps->write[i])
			continue;
		if (c->kind == COL_ADDRESS)
			address_set(ps, c, &ps->got[i]);
		else if (c->kind == COL_TAGS)
			tags_set(ps, entity);
		else if (c->kind == COL_ROWS)
			rows_set(ps, c, entity);
		else if (c->kind == COL_TEXTS)
			texts_set(ps, c, entity);
		else if (c->kind == COL_REF || c->kind == COL_REF_LOCAL)
			ref_set(ps, c, &ps->got[i]);
		else
			scalar_set(ps, c, &ps->got[i], c->f->name);
	}
}

/* Which columns are written; violations for required fields that a mask clears. */
static void write_fill(struct parse *ps, const uint32_t *mask, size_t n_mask)
{
	for (size_t i = 0; i < ps->p->n_cols; i++)
		ps->write[i] = (ps->create || !n_mask) && ps->got[i].number && ps->p->cols[i].writable;
	for (size_t k = 0; k < n_mask && !ps->create; k++) {
		const struct col *c = plan_col(ps->p, mask[k]);

		if (c && c->writable)
			ps->write[c - ps->p->cols] = true;
	}
}

static void defaults_fill(struct parse *ps)
{
	for (size_t i = 0; i < ps->p->n_cols; i++) {
		const struct col *c = &ps->p->cols[i];
		struct set *s = c->fallback ? set_find(ps->v, c) : NULL;

		if (!c->fallback || (s && s->text))
			continue;
		if (!s)
			s = set_add(ps->v, c, SET_TEXT);
		s->text = c->fallback;
	}
}

/* A column that must not be NULL takes its empty form when it is cleared. */
static void empties_fill(struct parse *ps)
{
	for (size_t i = 0; i < ps->v->n_sets; i++) {
		struct set *s = &ps->v->sets[i];

		if (s->col->kind == COL_JSON && s->how == SET_TEXT && !s->text && s->col->f->format == FORMAT_JSON_OBJECT)
			s->text = "{}";
		if (s->col->fallback && s->how == SET_TEXT && !s->text)
			s->text = s->col->fallback;
	}
}

static const char *set_text(const struct set *s)
{
	return s && s->how == SET_TEXT && s->text ? s->text : "";
}

static void parts_from_display(struct parse *ps, const char *display)
{
	struct arena *a = &ps->call->arena;
	const char *given = display + strspn(display, " ");
	const char *space = strchr(given, ' ');
	const char *rest = space ? space + strspn(space, " ") : "";
	size_t n = space ? (size_t)(space - given) : strlen(given), rest_n = strlen(rest);

	while (rest_n > 0 && rest[rest_n - 1] == ' ')
		rest_n--;
	set_add(ps->v, ps->p->given, SET_TEXT)->text = n ? arena_strdup(a, (struct str){ given, n }) : NULL;
	set_add(ps->v, ps->p->family, SET_TEXT)->text = rest_n ? arena_strdup(a, (struct str){ rest, rest_n }) : NULL;
}

/* The first word of a name may be longer than given may be: cut at a character, the name itself stays whole in display. */
static void parts_cut(struct values *v, const struct col *c)
{
	struct set *s = set_find(v, c);
	size_t chars = 0;

	if (!s || s->how != SET_TEXT || !s->text || !c->f->max_len)
		return;
	for (char *at = (char *)s->text; *at; at++)
		if (((unsigned char)*at & 0xC0) != 0x80 && ++chars > c->f->max_len) {
			*at = 0;
			return;
		}
}

static void display_from_parts(struct parse *ps, const struct set *given, const struct set *family)
{
	struct arena *a = &ps->call->arena;
	const char *g = set_text(given), *f = set_text(family);

	if (ps->create || (given && family)) {
		const char *d = arena_printf(a, "%s%s%s", g, *g && *f ? " " : "", f);

		set_add(ps->v, ps->p->display, SET_TEXT)->text = *d ? d : NULL;
		return;
	}
	/* the part that is not written stays as it is: only the statement knows it; $G and $F stand for the new one */
	set_add(ps->v, ps->p->display, SET_SQL)->text = given ? "btrim(concat_ws(' ', nullif($G, ''), t.family))" : "btrim(concat_ws(' ', t.given, nullif($F, '')))";
}

static void person_apply(struct parse *ps)
{
	const struct set *d, *g, *f;

	if (!ps->p->display)
		return;
	d = set_find(ps->v, ps->p->display);
	g = set_find(ps->v, ps->p->given);
	f = set_find(ps->v, ps->p->family);
	if (d && !*set_text(d) && (*set_text(g) || *set_text(f))) {
		struct set keep = { .col = ps->p->display, .how = SET_TEXT };

		keep.text = arena_printf(&ps->call->arena, "%s%s%s", set_text(g), *set_text(g) && *set_text(f) ? " " : "", set_text(f));
		*set_find(ps->v, ps->p->display) = keep;
	} else if (d && !g && !f) {
		parts_from_display(ps, set_text(d));
		parts_cut(ps->v, ps->p->given);
		parts_cut(ps->v, ps->p->family);
	} else if (!d && (g || f)) {
		display_from_parts(ps, g, f);
	}
}

/* True when the write leaves all one_of fields empty for certain. */
static bool one_of_empty(const struct parse *ps)
{
	for (size_t i = 0; i < ps->p->n_one_of; i++) {
		const struct set *s = set_find(ps->v, ps->p->one_of[i]);

		if (s ? s->how == SET_SQL || set_text(s)[0] : !ps->create)
			return false;
	}
	return ps->p->n_one_of > 0;
}

static void checks(struct parse *ps, struct str entity, const uint32_t *mask, size_t n_mask)
{
	struct rpc_call *call = ps->call;

	if (!ps->create && n_mask)
		ps->malformed |= !schema_validate_mask(ps->p->m, entity, mask, n_mask, violate, call);
	if (one_of_empty(ps))
		violate_rule(call, ps->p->one_of[0]->f->name, "required");
	if (ps->p->r->before_write)
		ps->p->r->before_write(call, ps->p->m, entity, ps->create);
}

/* Nobody hands a row to where they would not see it any more. */
static void owner_check(struct parse *ps)
{
	const struct set *s = ps->p->owner_col ? set_find(ps->v, ps->p->owner_col) : NULL;

	if (s && s->key.id && !plan_owner_in_scope(ps->p, ps->call->who.scope, s->key.id))
		violate_scope(ps->call, ps->p);
}

enum status values_parse(struct rpc_call *call, const struct plan *p, struct str entity, const uint32_t *mask, size_t n_mask, bool create, struct values *v)
{
	struct parse ps = { .call = call, .p = p, .v = v, .create = create };

	v->n_sets = v->n_tags = 0;
	ps.got = arena_zalloc(&call->arena, (p->n_cols + 1) * sizeof(*ps.got));
	ps.write = arena_zalloc(&call->arena, p->n_cols + 1);
	fields_read(&ps, entity);
	if (ps.malformed || !schema_validate(p->m, entity, create, &call->arena, violate, call))
		return STATUS_BAD_REQUEST;
	write_fill(&ps, mask, n_mask);
	sets_fill(&ps, entity);
	if (ps.malformed)
		return STATUS_BAD_REQUEST;
	if (create)
		defaults_fill(&ps);
	empties_fill(&ps);
	person_apply(&ps);
	owner_check(&ps);
	checks(&ps, entity, mask, n_mask);
	if (ps.malformed)
		return STATUS_BAD_REQUEST;
	return call->n_violations ? STATUS_VALIDATION_ERROR : STATUS_OK;
}
