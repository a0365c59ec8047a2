/* Reads descriptor sets into the tables of schema.h: merge what several files repeat, link types, read our options. */
#include "schema/schema.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/wire.h"
#include "google/protobuf/descriptor.pb-c.h"
#include "schema/schema_internal.h"

#define FILE_MAX_BYTES (8u << 20)
#define NUMBER_MAX 4096

/* A descriptor set being read. */
struct set {
	Google__Protobuf__FileDescriptorSet *d;
	const char *name, *owner;
};

struct reader {
	struct schema *s;
	struct set *sets;
	size_t n_sets;
	const struct set *set; /* that is being read */
	struct raw_message *messages;
	size_t n_messages, cap_messages;
	const char *why;
};

/* One message type before linking. */
struct raw_message {
	const char *name, *file;
	const Google__Protobuf__DescriptorProto *d;
	const Google__Protobuf__SourceCodeInfo *docs;
	int32_t path[32];
	size_t n_path;
};

static bool fail(struct reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool fail(struct reader *r, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	r->why = xstrdup(text);
	return false;
}

/* -- comments */

static const char *comment_clean(struct arena *a, const char *text)
{
	struct buf b = { 0 };
	const char *out;

	for (const char *p = text; *p; p++) {
		bool space = isspace((unsigned char)*p);

		if (space && (b.n == 0 || b.p[b.n - 1] == ' '))
			continue;
		buf_c(&b, space ? ' ' : *p);
	}
	while (b.n > 0 && b.p[b.n - 1] == ' ')
		b.n--;
	out = arena_strdup(a, buf_view(&b));
	buf_fini(&b);
	return out;
}

static const char *doc_of(struct schema *s, const Google__Protobuf__SourceCodeInfo *docs, const int32_t *path, size_t n)
{
	for (size_t i = 0; docs && i < docs->n_location; i++) {
		const Google__Protobuf__SourceCodeInfo__Location *l = docs->location[i];
		const char *text = l->leading_comments ? l->leading_comments : l->trailing_comments;

		if (text && l->n_path == n && memcmp(l->path, path, n * sizeof(*path)) == 0)
			return comment_clean(&s->arena, text);
	}
	return "";
}

/* -- options: unknown fields of the generated option messages */

static struct str option_bytes(const ProtobufCMessage *options, uint32_t number)
{
	for (unsigned i = 0; options && i < options->n_unknown_fields; i++) {
		const ProtobufCMessageUnknownField *u = &options->unknown_fields[i];
		const uint8_t *p = u->data, *end = u->data + u->len;

		if (u->tag != number || u->wire_type != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
			continue;
		while (p < end && (*p & 0x80))
			p++;
		if (p < end)
			p++;
		return (struct str){ (const char *)p, (size_t)(end - p) };
	}
	return (struct str){ 0 };
}

static void field_rule_one(struct schema *s, struct schema_field *f, const struct wire_field *w)
{
	switch (w->number) {
	case 1: f->required = w->value; break;
	case 2: f->min_len = (uint32_t)w->value; break;
	case 3: f->max_len = (uint32_t)w->value; break;
	case 4: f->format = (enum schema_format)w->value; break;
	case 5: f->has_gte = true; f->gte = (int64_t)w->value; break;
	case 6: f->has_lte = true; f->lte = (int64_t)w->value; break;
	case 7: f->in[f->n_in++] = arena_strdup(&s->arena, w->bytes); break;
	case 8: f->ref = arena_strdup(&s->arena, w->bytes); break;
	case 9: f->read_only = w->value; break;
	case 10: f->column = arena_strdup(&s->arena, w->bytes); break;
	case 11: f->personal = w->value; break;
	case 12: f->secret = w->value; break;
	default: break;
	}
}

static bool field_rule(struct reader *r, struct schema_field *f, struct str rule)
{
	struct wire_reader w = wire_read(rule);
	struct wire_field x;
	size_t n_in = 0;

	while (wire_next(&w, &x))
		n_in += x.number == 7;
	if (w.bad)
		return fail(r, "field %s: its option does not parse", f->name);
	f->in = arena_zalloc(&r->s->arena, (n_in + 1) * sizeof(*f->in));
	w = wire_read(rule);
	while (wire_next(&w, &x))
		field_rule_one(r->s, f, &x);
	if (f->format > FORMAT_JSON_VALUE)
		return fail(r, "field %s: unknown format %d", f->name, f->format);
	return true;
}

/* -- collecting message types of all files */

/* "customers" of "customers.proto". */
static const char *file_base(struct schema *s, const char *file)
{
	const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
	const char *dot = strrchr(base, '.');

	return arena_strdup(&s->arena, (struct str){ base, dot ? (size_t)(dot - base) : strlen(base) });
}

static struct raw_message *raw_find(struct reader *r, const char *name)
{
	for (size_t i = 0; i < r->n_messages; i++) {
		if (strcmp(r->messages[i].name, name) == 0)
			return &r->messages[i];
	}
	return NULL;
}

static const Google__Protobuf__FieldDescriptorProto *proto_field(const Google__Protobuf__DescriptorProto *d, int32_t number)
{
	for (size_t i = 0; i < d->n_field; i++) {
		if (d->field[i]->number == number)
			return d->field[i];
	}
	return NULL;
}

/* Files built at different times may differ by added fields, not by changed ones. */
static bool agree(struct reader *r, const char *name, const Google__Protobuf__DescriptorProto *a, const Google__Protobuf__DescriptorProto *b)
{
	for (size_t i = 0; i < a->n_field; i++) {
		const Google__Protobuf__FieldDescriptorProto *x = a->field[i], *y = proto_field(b, x->number);

		if (!y)
			continue;
		if (strcmp(x->name, y->name) != 0 || x->type != y->type || x->label != y->label)
			return fail(r, "%s: field %d is '%s' in one file and '%s' in another, or of another type", name, x->number, x->name, y->name);
	}
	return true;
}

static bool collect_message(struct reader *r, const Google__Protobuf__FileDescriptorProto *f, const char *scope, const Google__Protobuf__DescriptorProto *d,
    const int32_t *path, size_t n_path)
{
	const char *name = arena_printf(&r->s->arena, "%s.%s", scope, d->name), *file = file_base(r->s, f->name);
	struct raw_message *m = raw_find(r, name);

	if (n_path + 2 > sizeof(m->path) / sizeof(*m->path))
		return fail(r, "%s: nested too deeply", name);
	if (m && strcmp(m->file, file) != 0)
		return fail(r, "%s: in %s.proto and in %s.proto", name, m->file, file);
	if (m && !agree(r, name, m->d, d))
		return false;
	if (!m) {
		if (r->n_messages == r->cap_messages) {
			r->cap_messages = r->cap_messages ? r->cap_messages * 2 : 64;
			r->messages = xrealloc(r->messages, r->cap_messages * sizeof(*m));
		}
		m = &r->messages[r->n_messages++];
		*m = (struct raw_message){ .name = name, .file = file };
	}
	if (!m->d || d->n_field > m->d->n_field) {
		m->d = d;
		m->docs = f->source_code_info;
		m->n_path = n_path;
		memcpy(m->path, path, n_path * sizeof(*path));
	}
	for (size_t i = 0; i < d->n_nested_type; i++) {
		int32_t deeper[32];

		memcpy(deeper, path, n_path * sizeof(*path));
		deeper[n_path] = 3;
		deeper[n_path + 1] = (int32_t)i;
		if (!collect_message(r, f, name, d->nested_type[i], deeper, n_path + 2))
			return false;
	}
	return true;
}

static bool owns(const struct set *set, const char *base)
{
	return set->owner && strcmp(set->owner, base) == 0;
}

/* Google's are not, nor another owner's copy of a file that an owner is there for. */
static bool wanted(struct reader *r, const Google__Protobuf__FileDescriptorProto *f)
{
	const char *base;

	if (!f->package || strncmp(f->package, "google.", 7) == 0)
		return false;
	base = file_base(r->s, f->name);
	for (size_t i = 0; i < r->n_sets; i++) {
		if (owns(&r->sets[i], base))
			return r->set == &r->sets[i];
	}
	return true;
}

static bool collect_file(struct reader *r, const Google__Protobuf__FileDescriptorProto *f)
{
	for (size_t i = 0; i < f->n_message_type; i++) {
		int32_t path[2] = { 4, (int32_t)i };

		if (!collect_message(r, f, f->package, f->message_type[i], path, 2))
			return false;
	}
	return true;
}

/* -- linking */

static bool type_of(struct reader *r, const char *where, const Google__Protobuf__FieldDescriptorProto *d, struct schema_field *f)
{
	static const struct {
		int from;
		enum schema_type to;
	} types[] = {
		{ GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_STRING, TYPE_STRING },
		{ GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_BYTES, TYPE_BYTES },
		{ GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_INT32, TYPE_INT32 },
		{ GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_INT64, TYPE_INT64 },
		{ GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_UINT32, TYPE_UINT32 },
		{ GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_UINT64, TYPE_UINT64 },
		{ GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_BOOL, TYPE_BOOL },
		{ GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_DOUBLE, TYPE_DOUBLE },
		{ GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_FIXED32, TYPE_FIXED32 },
		{ GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_FIXED64, TYPE_FIXED64 },
		{ GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_ENUM, TYPE_ENUM },
		{ GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_MESSAGE, TYPE_MESSAGE },
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		if (types[i].from == (int)d->type) {
			f->type = types[i].to;
			return true;
		}
	}
	return fail(r, "%s.%s: this type of field is not supported", where, d->name);
}

static bool link_field(struct reader *r, const struct raw_message *raw, size_t i, struct schema_field *f)
{
	const Google__Protobuf__FieldDescriptorProto *d = raw->d->field[i];
	struct schema *s = r->s;
	int32_t path[34];

	if (d->number < 1 || d->number > NUMBER_MAX)
		return fail(r, "%s.%s: number %d is over %d", raw->name, d->name, d->number, NUMBER_MAX);
	f->name = arena_strdup(&s->arena, str_of(d->name));
	f->number = (uint32_t)d->number;
	f->repeated = d->label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REPEATED;
	if (!type_of(r, raw->name, d, f))
		return false;
	if (f->type == TYPE_MESSAGE) {
		f->message = schema_message_find(s, str_of(d->type_name + (d->type_name[0] == '.')));
		if (!f->message)
			return fail(r, "%s.%s: no message %s", raw->name, d->name, d->type_name);
	}
	memcpy(path, raw->path, raw->n_path * sizeof(*path));
	path[raw->n_path] = 2;
	path[raw->n_path + 1] = (int32_t)i;
	f->doc = doc_of(s, raw->docs, path, raw->n_path + 2);
	return field_rule(r, f, option_bytes(d->options ? &d->options->base : NULL, 50001));
}

static bool link_message(struct reader *r, const struct raw_message *raw, struct schema_message *m)
{
	struct schema *s = r->s;
	struct schema_field *fields = arena_zalloc(&s->arena, (raw->d->n_field + 1) * sizeof(*fields));
	const struct schema_field **by_number;
	struct wire_reader w = wire_read(option_bytes(raw->d->options ? &raw->d->options->base : NULL, 50003));
	struct wire_field x;
	struct str owner = { 0 }, about = { 0 };

	m->doc = doc_of(s, raw->docs, raw->path, raw->n_path);
	m->fields = fields;
	m->n_fields = raw->d->n_field;
	while (wire_next(&w, &x)) {
		if (x.number == 1 && x.type == WIRE_BYTES)
			m->entity = arena_strdup(&s->arena, x.bytes);
		else if (x.number == 2 && x.type == WIRE_VARINT)
			m->rows = schema_row_kind(s, (unsigned)x.value);
		else if (x.number == 3 && x.type == WIRE_BYTES)
			owner = x.bytes;
		else if (x.number == 4 && x.type == WIRE_BYTES)
			about = x.bytes;
	}
	for (size_t i = 0; i < m->n_fields; i++) {
		if (!link_field(r, raw, i, &fields[i]))
			return false;
		if (fields[i].number > m->max_number)
			m->max_number = fields[i].number;
	}
	by_number = arena_zalloc(&s->arena, (m->max_number + 1) * sizeof(*by_number));
	for (size_t i = 0; i < m->n_fields; i++)
		by_number[fields[i].number] = &fields[i];
	m->by_number = by_number;
	m->about = about.n ? schema_field_find(m, about) : NULL;
	if (about.n && (!m->about || !m->about->ref))
		return fail(r, "%s: about: no reference %.*s", m->name, STR_FMT(about));
	m->owner = owner.n ? schema_field_find(m, owner) : NULL;
	if (owner.n && (!m->owner || !m->owner->ref))
		return fail(r, "%s: owner: no reference %.*s", m->name, STR_FMT(owner));
	return true;
}

static int raw_order(const void *a, const void *b)
{
	return strcmp(((const struct raw_message *)a)->name, ((const struct raw_message *)b)->name);
}

static bool link_messages(struct reader *r)
{
	struct schema *s = r->s;

	qsort(r->messages, r->n_messages, sizeof(*r->messages), raw_order);
	s->messages = arena_zalloc(&s->arena, (r->n_messages + 1) * sizeof(*s->messages));
	s->n_messages = r->n_messages;
	for (size_t i = 0; i < r->n_messages; i++)
		s->messages[i] = (struct schema_message){ .name = r->messages[i].name, .file = r->messages[i].file };
	for (size_t i = 0; i < r->n_messages; i++) {
		if (!link_message(r, &r->messages[i], &s->messages[i]))
			return false;
	}
	return true;
}

/* -- methods */

static bool method_rule(struct reader *r, struct schema_method *m, struct str rule)
{
	struct wire_reader w = wire_read(rule);
	struct wire_field x;
	struct schema *s = r->s;

	while (wire_next(&w, &x)) {
		switch (x.number) {
		case 1: m->permission = (unsigned)x.value; break;
		case 2: m->event = arena_strdup(&s->arena, x.bytes); break;
		case 3:
			m->entity = schema_message_find(s, x.bytes);
			if (!m->entity)
				return fail(r, "%s: entity: no message %.*s", m->name, STR_FMT(x.bytes));
			break;
		case 4: m->lane = (int)x.value; break;
		case 5: m->refs_of = arena_strdup(&s->arena, x.bytes); break;
		default: break;
		}
	}
	if (w.bad)
		return fail(r, "%s: its option does not parse", m->name);
	return true;
}

static struct schema_method *method_slot(struct schema *s, const char *name)
{
	for (size_t i = 0; i < s->n_methods; i++) {
		if (strcmp(s->methods[i].name, name) == 0)
			return &s->methods[i];
	}
	s->methods = xrealloc(s->methods, (s->n_methods + 1) * sizeof(*s->methods));
	s->methods[s->n_methods] = (struct schema_method){ 0 };
	return &s->methods[s->n_methods++];
}

static const struct schema_message *link_type(struct reader *r, const char *name)
{
	const struct schema_message *m = schema_message_find(r->s, str_of(name + (name[0] == '.')));

	if (!m)
		fail(r, "no message %s", name);
	return m;
}

static bool link_method(struct reader *r, const Google__Protobuf__FileDescriptorProto *f, size_t si, size_t mi)
{
	const Google__Protobuf__ServiceDescriptorProto *sd = f->service[si];
	const Google__Protobuf__MethodDescriptorProto *d = sd->method[mi];
	struct schema *s = r->s;
	int32_t path[4] = { 6, (int32_t)si, 2, (int32_t)mi };
	struct schema_method m = { .name = arena_printf(&s->arena, "%s.%s", sd->name, d->name) };
	struct schema_method *slot = method_slot(s, m.name);
	struct str rule = option_bytes(d->options ? &d->options->base : NULL, 50002);

	m.service = file_base(s, f->name);
	if (r->set->owner && !owns(r->set, m.service))
		return fail(r, "%s: %s may not have services in %s", m.name, r->set->owner, f->name);
	if (slot->name && strcmp(slot->service, m.service) != 0)
		return fail(r, "%s: in %s.proto and in %s.proto", m.name, slot->service, m.service);
	m.doc = doc_of(s, f->source_code_info, path, 4);
	m.input = link_type(r, d->input_type);
	m.output = link_type(r, d->output_type);
	if (!m.input || !m.output)
		return false;
	if (rule.n == 0)
		return fail(r, "%s: has no permission: option (m) is missing", m.name);
	if (!method_rule(r, &m, rule))
		return false;
	*slot = m;
	return true;
}

static bool link_services(struct reader *r, const Google__Protobuf__FileDescriptorProto *f)
{
	for (size_t i = 0; i < f->n_service; i++) {
		for (size_t k = 0; k < f->service[i]->n_method; k++) {
			if (!link_method(r, f, i, k))
				return false;
		}
	}
	return true;
}

/* -- permissions */

static const char *permission_word(struct schema *s, const char *name)
{
	char *word = arena_strdup(&s->arena, str_of(name)), *last = strrchr(word, '_');

	for (char *p = word; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	if (last)
		*last = '.';
	return word;
}

static bool permission_add(struct reader *r, const char *name, int32_t number)
{
	struct schema *s = r->s;
	const char *word = permission_word(s, name);

	if (number >= 0 && number <= 2)
		return true;
	if (number < 0 || number > 127)
		return fail(r, "permission %s: %d is not a bit of 0..127", name, number);
	for (size_t i = 0; i < s->n_permissions; i++) {
		if (s->permissions[i].bit == (unsigned)number)
			return strcmp(s->permissions[i].name, word) == 0 || fail(r, "permission %s: bit %d is %s in another file", name, number, s->permissions[i].name);
	}
	s->permissions[s->n_permissions++] = (struct schema_permission){ word, (unsigned)number };
	return true;
}

static bool link_row_kinds(struct reader *r, const Google__Protobuf__FileDescriptorProto *f)
{
	for (size_t i = 0; i < f->n_enum_type; i++) {
		const Google__Protobuf__EnumDescriptorProto *e = f->enum_type[i];

		if (strcmp(f->package, "crm.v1") != 0 || strcmp(e->name, "RowKind") != 0)
			continue;
		for (size_t k = 0; k < e->n_value; k++) {
			char *word = arena_strdup(&r->s->arena, str_of(e->value[k]->name));

			if (e->value[k]->number < 0 || e->value[k]->number >= SCHEMA_ROW_KINDS)
				return fail(r, "row kind %s: %d is not in 0..%d", word, e->value[k]->number, SCHEMA_ROW_KINDS - 1);
			for (char *p = word; *p; p++)
				*p = (char)tolower((unsigned char)*p);
			if (e->value[k]->number)
				r->s->row_kinds[e->value[k]->number] = word;
		}
	}
	return true;
}

static bool link_permissions(struct reader *r, const Google__Protobuf__FileDescriptorProto *f)
{
	for (size_t i = 0; i < f->n_enum_type; i++) {
		const Google__Protobuf__EnumDescriptorProto *e = f->enum_type[i];

		if (strcmp(f->package, "crm.v1") != 0 || strcmp(e->name, "Permission") != 0)
			continue;
		for (size_t k = 0; k < e->n_value; k++) {
			if (!permission_add(r, e->value[k]->name, e->value[k]->number))
				return false;
		}
	}
	return true;
}

static int method_order(const void *a, const void *b)
{
	return strcmp(((const struct schema_method *)a)->name, ((const struct schema_method *)b)->name);
}

static bool check_methods(struct reader *r)
{
	struct schema *s = r->s;

	if (s->n_methods)
		qsort(s->methods, s->n_methods, sizeof(*s->methods), method_order);
	for (size_t i = 0; i < s->n_methods; i++) {
		const struct schema_method *m = &s->methods[i];

		if (m->permission > 2 && !schema_permission_name(s, m->permission))
			return fail(r, "%s: unknown permission %u", m->name, m->permission);
	}
	return true;
}

/* -- files */

static bool read_file(struct reader *r, const char *path, struct buf *b)
{
	FILE *f = fopen(path, "rb");
	size_t k;

	if (!f)
		return fail(r, "%s: cannot be read", path);
	do {
		buf_need(b, 65536);
		k = fread(b->p + b->n, 1, 65536, f);
		b->n += k;
	} while (k > 0 && b->n <= FILE_MAX_BYTES);
	fclose(f);
	return true;
}

static bool read_set(struct reader *r, const struct schema_set *from)
{
	struct set *set = &r->sets[r->n_sets];

	*set = (struct set){ .name = from->name, .owner = from->owner };
	if (from->bytes.n <= FILE_MAX_BYTES)
		set->d = google__protobuf__file_descriptor_set__unpack(NULL, from->bytes.n, (const uint8_t *)from->bytes.p);
	if (!set->d)
		return fail(r, "%s: is not a descriptor set", from->name);
	r->n_sets++;
	return true;
}

static bool each_file(struct reader *r, bool (*step)(struct reader *r, const Google__Protobuf__FileDescriptorProto *f))
{
	for (size_t i = 0; i < r->n_sets; i++) {
		r->set = &r->sets[i];
		for (size_t k = 0; k < r->sets[i].d->n_file; k++) {
			if (wanted(r, r->sets[i].d->file[k]) && !step(r, r->sets[i].d->file[k]))
				return false;
		}
	}
	return true;
}

static bool link_all(struct reader *r)
{
	return each_file(r, collect_file) && each_file(r, link_row_kinds) && link_messages(r) && each_file(r, link_permissions) && each_file(r, link_services) && check_methods(r);
}

static struct schema *finish(struct reader *r, bool ok, const char **why)
{
	if (!ok) {
		schema_free(r->s);
		r->s = NULL;
		*why = r->why;
	}
	for (size_t i = 0; i < r->n_sets; i++)
		google__protobuf__file_descriptor_set__free_unpacked(r->sets[i].d, NULL);
	free(r->sets);
	free(r->messages);
	return r->s;
}

struct schema *schema_try_sets(const struct schema_set *sets, size_t n, const char **why)
{
	struct reader r = { .s = xcalloc(1, sizeof(struct schema)), .sets = xcalloc(n + 1, sizeof(*r.sets)) };
	bool ok = true;

	for (size_t i = 0; ok && i < n; i++)
		ok = read_set(&r, &sets[i]);
	return finish(&r, ok && link_all(&r), why);
}

struct schema *schema_try(const char *const *paths, size_t n, const char **why)
{
	struct reader r = { .s = xcalloc(1, sizeof(struct schema)), .sets = xcalloc(n + 1, sizeof(*r.sets)) };
	bool ok = true;

	for (size_t i = 0; ok && i < n; i++) {
		struct buf b = { 0 };

		ok = read_file(&r, paths[i], &b) && read_set(&r, &(struct schema_set){ .name = paths[i], .bytes = buf_view(&b) });
		buf_fini(&b);
	}
	return finish(&r, ok && link_all(&r), why);
}

struct schema *schema_load(const char *const *paths, size_t n)
{
	const char *why = NULL;
	struct schema *s = schema_try(paths, n, &why);

	if (!s)
		log_die("SCHEMA-LOAD", "%s", why);
	return s;
}
