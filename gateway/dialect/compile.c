/* Resources of a dialect: members, paths and encoders checked against the contracts and made into plans. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/dialect/plan.h"
#include "json/json.h"

bool compile_fail(struct compile *c, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!c->why)
		c->why = arena_printf(c->a, "%s: %s%s%s", c->d->pub.name, c->where ? c->where : "", c->where ? ": " : "", text);
	return false;
}

const struct resource_plan *plan_resource_find(const struct dialect_impl *d, const char *name)
{
	for (size_t i = 0; name && i < d->n_resources; i++) {
		if (strcmp(d->resources[i].name, name) == 0)
			return &d->resources[i];
	}
	return NULL;
}

/* -- paths */

bool compile_path(struct compile *c, const struct schema_message *m, const struct schema_message *entity, const char *text, struct path *out)
{
	struct str rest = str_of(text);

	*out = (struct path){ 0 };
	while (m) {
		const char *dot = memchr(rest.p, '.', rest.n);
		struct str name = { rest.p, dot ? (size_t)(dot - rest.p) : rest.n };
		const struct schema_field *f = schema_field_find(m, name);

		if (!f)
			return compile_fail(c, "no field '%.*s' in %s", STR_FMT(name), m->name);
		rest.p += name.n + (dot ? 1 : 0);
		rest.n -= name.n + (dot ? 1 : 0);
		if (entity && out->n == 0 && !out->in_entity && strcmp(m->name, "crm.v1.WriteRequest") == 0 && f->number == WRITE_ENTITY && dot) {
			out->in_entity = true;
			m = entity;
			continue;
		}
		if (out->n == PATH_MAX_DEPTH)
			return compile_fail(c, "'%s' is too deep", text);
		out->f[out->n++] = f;
		if (!dot)
			return true;
		if (f->type != TYPE_MESSAGE || f->repeated)
			return compile_fail(c, "'%s' in %s is not a single message, so it has no members", f->name, m->name);
		m = f->message;
	}
	return compile_fail(c, "'%s' is no path", text);
}

/* -- encoders */

static bool is_int(const struct schema_field *f)
{
	return f->type == TYPE_INT32 || f->type == TYPE_INT64 || f->type == TYPE_UINT32 || f->type == TYPE_UINT64 || f->type == TYPE_ENUM;
}

static bool is_time(const struct schema_field *f)
{
	size_t n = strlen(f->name);

	return f->type == TYPE_INT64 && (f->format == FORMAT_TIME || f->format == FORMAT_DATE || (n > 3 && strcmp(f->name + n - 3, "_us") == 0));
}

static bool has_key(const struct schema_message *m)
{
	const struct schema_field *id = m ? schema_field_find(m, STR("id")) : NULL, *seq = m ? schema_field_find(m, STR("seq")) : NULL;

	return id && seq && id->number == KEY_ID && seq->number == KEY_SEQ && id->type == TYPE_STRING && seq->type == TYPE_INT64;
}

static const char *owner_of(struct compile *c, const char *entity)
{
	const struct schema_method *rows;
	size_t n = schema_methods(c->schema, &rows);

	for (size_t i = 0; i < n; i++) {
		if (rows[i].refs_of && strcmp(rows[i].refs_of, entity) == 0)
			return rows[i].service;
	}
	return NULL;
}

static bool entity_exists(struct compile *c, const char *entity)
{
	const struct schema_method *rows;
	size_t n = schema_methods(c->schema, &rows);

	for (size_t i = 0; i < n; i++) {
		const struct schema_message *known[] = { rows[i].entity, rows[i].output };

		for (size_t k = 0; k < 2; k++) {
			if (known[k] && known[k]->entity && strcmp(known[k]->entity, entity) == 0)
				return true;
		}
		if (rows[i].refs_of && strcmp(rows[i].refs_of, entity) == 0)
			return true;
	}
	return false;
}

static bool encoder_entity(struct compile *c, const char *entity, struct encoder *e)
{
	if (!entity || !*entity)
		return compile_fail(c, "the encoder needs an entity behind ':'");
	if (!entity_exists(c, entity))
		return compile_fail(c, "there is no entity '%s'", entity);
	e->entity = arena_strdup(c->a, str_of(entity));
	e->prefix = id_prefix(c->a, c->d->src, entity);
	e->owner = owner_of(c, entity);
	return true;
}

static bool ref_member_add(struct compile *c, struct encoder *e, struct str word)
{
	static const struct {
		const char *word;
		enum ref_part part;
	} parts[] = { { "id", PART_ID }, { "seq", PART_SEQ }, { "name", PART_NAME }, { "email", PART_EMAIL }, { "color", PART_COLOR } };

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		if (!str_eq(word, str_of(parts[i].word)))
			continue;
		if (e->n_members == sizeof(e->members) / sizeof(*e->members))
			return compile_fail(c, "too many members");
		e->members[e->n_members].part = parts[i].part;
		e->members[e->n_members].key = str_of(arena_printf(c->a, "%c\"%s\":", e->n_members ? ',' : '{', parts[i].word));
		e->n_members++;
		e->wants_name = e->wants_name || parts[i].part == PART_NAME;
		e->wants_email = e->wants_email || parts[i].part == PART_EMAIL;
		return true;
	}
	return compile_fail(c, "members: a reference has no '%.*s'", STR_FMT(word));
}

static bool ref_members(struct compile *c, struct encoder *e, const char *text)
{
	while (*text) {
		size_t n = strcspn(text, " ");

		if (n > 0 && !ref_member_add(c, e, (struct str){ text, n }))
			return false;
		text += n + strspn(text + n, " ");
	}
	return e->n_members > 0 || compile_fail(c, "members: none given");
}

static bool encoder_map(struct compile *c, const char *name, struct encoder *e)
{
	for (size_t i = 0; i < c->d->n_maps; i++) {
		if (strcmp(c->d->maps[i].name, name) == 0) {
			e->map = &c->d->maps[i];
			return true;
		}
	}
	return compile_fail(c, "there is no enum_map '%s'", name);
}

static bool encoder_resource(struct compile *c, const char *name, struct encoder *e)
{
	e->res = plan_resource_find(c->d, name);
	return e->res || compile_fail(c, "there is no resource '%s'", name);
}

static bool encoder_const(struct compile *c, const char *json, struct encoder *e)
{
	struct json_error err;
	struct json *v = json_parse(c->a, str_of(json), &err);
	struct buf b = { 0 };

	if (!v)
		return compile_fail(c, "const: %s", err.text);
	json_print(&b, v);
	e->json = arena_str(c->a, buf_view(&b));
	buf_fini(&b);
	return true;
}

static bool encoder_flag(struct compile *c, const char *words, struct encoder *e)
{
	const char *colon = strchr(words, ':');

	if (!colon || colon == words || !colon[1])
		return compile_fail(c, "flag needs two words: flag:YES:NO");
	e->yes = arena_str(c->a, (struct str){ words, (size_t)(colon - words) });
	e->no = arena_str(c->a, str_of(colon + 1));
	return true;
}

static bool encoder_tags(struct compile *c, const char *mode, struct encoder *e)
{
	if (strcmp(mode, "names") == 0)
		e->tags = TAGS_NAMES;
	else if (strcmp(mode, "objects") == 0)
		e->tags = TAGS_OBJECTS;
	else if (strcmp(mode, "ids") == 0)
		e->tags = TAGS_IDS;
	else
		return compile_fail(c, "tags:%s is not known (names, objects, ids)", mode);
	return encoder_entity(c, "tag", e) && ref_members(c, e, "id name color");
}

static bool encoder_dec(struct compile *c, const char *arg, struct encoder *e)
{
	if (!*arg)
		return true;
	if (*arg < '1' || *arg > '6' || arg[1])
		return compile_fail(c, "dec: digits are 1 to 6, not '%s'", arg);
	e->scale = (unsigned)(*arg - '0');
	return true;
}

static bool encoder_argument(struct compile *c, struct encoder *e, const char *arg, const char *members)
{
	switch (e->kind) {
	case ENC_ID:
	case ENC_REF: return encoder_entity(c, arg, e);
	case ENC_REFOBJ: return encoder_entity(c, arg, e) && ref_members(c, e, members ? members : "id name");
	case ENC_MAP: return encoder_map(c, arg, e);
	case ENC_RES: return encoder_resource(c, arg, e);
	case ENC_MEMBER: return !*arg || encoder_resource(c, arg, e); /* without: of the route's body */
	case ENC_TAGS: return encoder_tags(c, arg, e);
	case ENC_CONST: return encoder_const(c, arg, e);
	case ENC_FLAG: return encoder_flag(c, arg, e);
	case ENC_DEC: return encoder_dec(c, arg, e);
	default: return !*arg || compile_fail(c, "this encoder has no argument ('%s')", arg);
	}
}

static bool encoder_named(struct compile *c, const char *as, const char *members, struct encoder *e)
{
	static const struct {
		const char *word;
		enum encoding kind;
	} names[] = {
		{ "str", ENC_STR }, { "int", ENC_INT }, { "num", ENC_NUM }, { "bool", ENC_BOOL }, { "dec", ENC_DEC }, { "json", ENC_JSON }, { "ts", ENC_TS },
		{ "date", ENC_DATE }, { "lower", ENC_LOWER }, { "title", ENC_TITLE }, { "slug_title", ENC_TITLE }, { "map", ENC_MAP }, { "flag", ENC_FLAG },
		{ "id", ENC_ID }, { "ref", ENC_REF }, { "refobj", ENC_REFOBJ }, { "res", ENC_RES }, { "tags", ENC_TAGS }, { "const", ENC_CONST },
		{ "status", ENC_STATUS }, { "member", ENC_MEMBER }, { "change", ENC_CHANGE },
	};
	size_t n = strcspn(as, ":");

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strlen(names[i].word) != n || strncmp(as, names[i].word, n) != 0)
			continue;
		e->kind = names[i].kind;
		return encoder_argument(c, e, as[n] ? as + n + 1 : "", members);
	}
	return compile_fail(c, "there is no encoder '%s'", as);
}

static bool encoder_by_type(struct compile *c, const struct schema_field *f, struct encoder *e)
{
	if (is_time(f)) {
		e->kind = f->format == FORMAT_DATE ? ENC_DATE : ENC_TS;
	} else if (is_int(f)) {
		e->kind = ENC_INT;
	} else if (f->type == TYPE_STRING) {
		e->kind = f->format == FORMAT_DECIMAL ? ENC_DEC : ENC_STR;
	} else if (f->type == TYPE_BOOL) {
		e->kind = ENC_BOOL;
	} else if (f->type == TYPE_DOUBLE) {
		e->kind = ENC_NUM;
	} else if (f->type == TYPE_BYTES && (f->format == FORMAT_JSON_OBJECT || f->format == FORMAT_JSON_VALUE)) {
		e->kind = ENC_JSON;
	} else if (f->type == TYPE_MESSAGE && f->ref && has_key(f->message)) {
		e->kind = ENC_REF;
		return encoder_entity(c, f->ref, e);
	} else {
		return compile_fail(c, "%s needs an encoder (as)", f->name);
	}
	return true;
}

static bool can_encode(const struct encoder *e, const struct schema_field *f)
{
	switch (e->kind) {
	case ENC_STR:
	case ENC_LOWER:
	case ENC_TITLE:
	case ENC_MAP:
	case ENC_FLAG:
	case ENC_MEMBER: return f->type == TYPE_STRING;
	case ENC_DEC: return f->type == TYPE_STRING && f->format == FORMAT_DECIMAL;
	case ENC_INT: return is_int(f) && !is_time(f);
	case ENC_STATUS: return is_int(f) && !is_time(f);
	case ENC_NUM: return f->type == TYPE_DOUBLE;
	case ENC_BOOL: return f->type == TYPE_BOOL;
	case ENC_JSON: return f->type == TYPE_BYTES;
	case ENC_TS:
	case ENC_DATE: return is_time(f);
	case ENC_ID:
	case ENC_REF:
	case ENC_REFOBJ: return f->type == TYPE_MESSAGE && has_key(f->message);
	case ENC_RES: return f->type == TYPE_BYTES || (f->type == TYPE_MESSAGE && f->message == e->res->message);
	case ENC_TAGS: return f->type == TYPE_MESSAGE && f->repeated && has_key(f->message) && schema_field_find(f->message, STR("name"));
	case ENC_CHANGE: return f->type == TYPE_MESSAGE && strcmp(f->message->name, "crm.v1.FeedChange") == 0;
	case ENC_CONST: return true;
	}
	return false;
}

static uint32_t text_number(const struct schema_message *m, const char *a, const char *b)
{
	const struct schema_field *f = schema_field_find(m, str_of(a));

	if (!f && b)
		f = schema_field_find(m, str_of(b));
	return f && f->type == TYPE_STRING && !f->repeated ? f->number : 0;
}

static void ref_numbers(const struct schema_message *m, struct encoder *e)
{
	e->name_number = text_number(m, "name", "display");
	e->email_number = text_number(m, "email", NULL);
	e->color_number = text_number(m, "color", NULL);
}

bool compile_encoder(struct compile *c, const char *as, const struct schema_field *leaf, const char *members, struct encoder *e)
{
	*e = (struct encoder){ 0 };
	if (as && strncmp(as, "csv", 3) == 0 && (as[3] == 0 || as[3] == ':')) {
		e->csv = true;
		as = as[3] && as[4] ? as + 4 : NULL;
	}
	if (as ? !encoder_named(c, as, members, e) : !encoder_by_type(c, leaf, e))
		return false;
	if (leaf && !can_encode(e, leaf)) {
		if (e->kind == ENC_RES && leaf->type == TYPE_MESSAGE)
			return compile_fail(c, "resource '%s' is of %s, %s is a %s", e->res->name, e->res->message->name, leaf->name, leaf->message->name);
		return compile_fail(c, "'%s' cannot encode %s", as ? as : "the default", leaf->name);
	}
	if (leaf && leaf->message)
		ref_numbers(leaf->message, e);
	return true;
}

/* -- members */

static bool member_paths(struct compile *c, const struct resource_plan *res, const char *p, struct member_plan *m)
{
	while (p) {
		const char *bar = strchr(p, '|');
		const char *one = arena_strdup(c->a, (struct str){ p, bar ? (size_t)(bar - p) : strlen(p) });

		if (m->n_paths == MEMBER_MAX_PATHS)
			return compile_fail(c, "at most %d alternatives", MEMBER_MAX_PATHS);
		if (!compile_path(c, res->message, NULL, one, &m->paths[m->n_paths++]))
			return false;
		p = bar ? bar + 1 : NULL;
	}
	return true;
}

static bool member_source(struct compile *c, const struct resource_plan *res, const Crm__Dialect__Field *f, struct member_plan *m)
{
	const struct schema_field *leaf = NULL;

	if (f->p && (strcmp(f->p, "$tenant") == 0 || strcmp(f->p, "$user") == 0)) {
		m->caller = f->p[1] == 't' ? CALLER_TENANT : CALLER_USER;
		m->ro = true;
		if (!compile_encoder(c, f->as, NULL, f->members, &m->enc))
			return false;
		return m->enc.kind == ENC_REF || m->enc.kind == ENC_ID || compile_fail(c, "%s needs ref:", f->p);
	}
	if (f->p) {
		if (!member_paths(c, res, f->p, m))
			return false;
		leaf = m->paths[0].f[m->paths[0].n - 1];
	}
	if (!f->p && !f->as)
		return compile_fail(c, "has neither p nor as");
	if (!compile_encoder(c, f->as, leaf, f->members, &m->enc))
		return false;
	for (unsigned i = 1; i < m->n_paths; i++) {
		const struct schema_field *other = m->paths[i].f[m->paths[i].n - 1];

		if (!can_encode(&m->enc, other) || other->repeated != leaf->repeated)
			return compile_fail(c, "the alternatives are of different types");
	}
	if (m->enc.kind == ENC_ID && !leaf && !has_key(res->message))
		return compile_fail(c, "%s has no id and seq", res->message->name);
	if (!leaf && m->enc.kind != ENC_ID && m->enc.kind != ENC_CONST)
		return compile_fail(c, "needs p");
	m->repeated = leaf && leaf->repeated;
	return true;
}

static bool read_only_kind(const struct encoder *e)
{
	return e->kind == ENC_ID || e->kind == ENC_CONST || e->kind == ENC_STATUS || e->kind == ENC_MEMBER || e->kind == ENC_CHANGE;
}

static bool member_texts(struct compile *c, const Crm__Dialect__Field *f, struct member_plan *m)
{
	struct buf b = { 0 };
	struct json_error err;
	struct json *def = NULL;

	buf_c(&b, ',');
	buf_json_str(&b, m->name);
	buf_c(&b, ':');
	m->key = arena_str(c->a, buf_view(&b));
	if (f->def) {
		def = json_parse(c->a, str_of(f->def), &err);
		if (!def) {
			buf_fini(&b);
			return compile_fail(c, "def: %s", err.text);
		}
		json_print(&b, def);
	} else {
		buf_z(&b, m->repeated ? "[]" : "null");
	}
	if (!f->omit_null)
		m->unset = arena_str(c->a, buf_view(&b));
	buf_fini(&b);
	return true;
}

static bool compile_member(struct compile *c, struct resource_plan *res, const Crm__Dialect__Field *f, struct member_plan *m)
{
	const struct schema_field *leaf;

	c->where = arena_printf(c->a, "%s.%s", res->name, f->j ? f->j : "?");
	if (!f->j)
		return compile_fail(c, "a member needs j");
	m->name = str_of(f->j);
	m->alias = f->alias ? str_of(f->alias) : STR("");
	if (!str_is_utf8(m->name))
		return compile_fail(c, "the name is not UTF-8");
	if (!member_source(c, res, f, m) || !member_texts(c, f, m))
		return false;
	leaf = m->n_paths ? m->paths[0].f[m->paths[0].n - 1] : NULL;
	m->ro = m->ro || f->ro || read_only_kind(&m->enc) || (leaf && leaf->read_only);
	m->wo = f->wo || (leaf && leaf->secret && leaf->read_only);
	m->req = f->req;
	m->detail = f->detail;
	m->imported = f->imported;
	m->doc = f->doc ? f->doc : "";
	if (m->req && m->ro)
		return compile_fail(c, "is required and read-only");
	for (struct member_plan *o = res->members; o < m; o++) {
		if (str_eq(o->name, m->name) || (m->alias.n && (str_eq(o->name, m->alias) || str_eq(o->alias, m->alias))))
			return compile_fail(c, "there are two members of this name");
	}
	return true;
}

static bool resource_slots(struct compile *c, struct resource_plan *res)
{
	res->slot_of = arena_zalloc(c->a, res->message->max_number + 1);
	for (size_t i = 0; i < res->n; i++) {
		struct member_plan *m = &res->members[i];

		for (unsigned k = 0; k < m->n_paths; k++) {
			uint8_t *slot = &res->slot_of[m->paths[k].f[0]->number];

			if (!*slot) {
				if (res->n_slots == RESOURCE_MAX_SLOTS)
					return compile_fail(c, "too many fields");
				*slot = (uint8_t)++res->n_slots;
			}
			m->slots[k] = (uint8_t)(*slot - 1);
		}
		if (m->enc.kind == ENC_ID && m->n_paths == 0) {
			for (unsigned number = KEY_ID; number <= KEY_SEQ; number++) {
				if (!res->slot_of[number])
					res->slot_of[number] = (uint8_t)++res->n_slots;
			}
		}
	}
	return true;
}

static bool resource_depth(struct compile *c, struct resource_plan *res, unsigned depth)
{
	if (depth > RESOURCE_MAX_DEPTH)
		return compile_fail(c, "resources contain each other, or too deeply");
	for (size_t i = 0; i < res->n; i++) {
		if (res->members[i].enc.kind == ENC_RES && !resource_depth(c, (struct resource_plan *)res->members[i].enc.res, depth + 1))
			return false;
	}
	return true;
}

static bool compile_maps(struct compile *c)
{
	const Crm__Dialect__Dialect *src = c->d->src;

	c->d->maps = arena_zalloc(c->a, (src->n_enum_map + 1) * sizeof(*c->d->maps));
	for (size_t i = 0; i < src->n_enum_map; i++) {
		const Crm__Dialect__EnumMap *e = src->enum_map[i];
		struct word_map *m = &c->d->maps[i];

		c->where = "enum_map";
		if (!e->name)
			return compile_fail(c, "needs a name");
		m->name = e->name;
		m->rows = arena_zalloc(c->a, (e->n_row + 1) * sizeof(*m->rows));
		m->n = e->n_row;
		for (size_t k = 0; k < e->n_row; k++) {
			if (!e->row[k]->core || !e->row[k]->face)
				return compile_fail(c, "%s: a row needs core and face", e->name);
			m->rows[k] = (struct word_row){ str_of(e->row[k]->core), str_of(e->row[k]->face) };
		}
	}
	c->d->n_maps = src->n_enum_map;
	return true;
}

static bool resource_declare(struct compile *c, const Crm__Dialect__Resource *r, struct resource_plan *res)
{
	c->where = r->name ? arena_printf(c->a, "resource `%s`", r->name) : "resource";
	if (!r->name || !r->message)
		return compile_fail(c, "needs a name and a message");
	if (plan_resource_find(c->d, r->name) || strcmp(r->name, "Error") == 0)
		return compile_fail(c, "this name is taken");
	res->name = r->name;
	res->message = schema_message_find(c->schema, str_of(r->message));
	res->members = arena_zalloc(c->a, (r->n_f + 1) * sizeof(*res->members));
	res->n = r->n_f;
	return res->message || compile_fail(c, "there is no message %s", r->message);
}

bool compile_resources(struct compile *c)
{
	const Crm__Dialect__Dialect *src = c->d->src;

	if (!compile_maps(c))
		return false;
	c->d->resources = arena_zalloc(c->a, (src->n_resource + 1) * sizeof(*c->d->resources));
	for (size_t i = 0; i < src->n_resource; i++) {
		if (!resource_declare(c, src->resource[i], &c->d->resources[i]))
			return false;
		c->d->n_resources++;
	}
	for (size_t i = 0; i < src->n_resource; i++) {
		struct resource_plan *res = &c->d->resources[i];

		for (size_t k = 0; k < res->n; k++) {
			if (!compile_member(c, res, src->resource[i]->f[k], &res->members[k]))
				return false;
		}
		c->where = arena_printf(c->a, "resource `%s`", res->name);
		if (!resource_slots(c, res))
			return false;
	}
	for (size_t i = 0; i < src->n_resource; i++) {
		c->where = arena_printf(c->a, "resource `%s`", c->d->resources[i].name);
		if (!resource_depth(c, &c->d->resources[i], 0))
			return false;
	}
	return true;
}
