/* Outcomes other than success in the dialect's shape, with its words and its names for fields. */
#include "base/wire.h"
#include "gateway/dialect/plan.h"
#include "schema/validate.h"

#define VIOLATIONS_MAX 128
#define NO_FIELD "non_field_errors" /* BY_FIELD needs a name for what concerns the body as a whole */

struct failure {
	const struct dialect_impl *d;
	const struct route_impl *r;
	const struct encode_input *in;
	struct arena *a;
	enum status status;
	struct str message;
	struct field_violation v[VIOLATIONS_MAX];
	size_t n;
};

static void add_violation(struct failure *f, struct str path, struct str rule, struct str text, struct str param)
{
	if (f->n < VIOLATIONS_MAX)
		f->v[f->n++] = (struct field_violation){ path, rule, text, param };
}

static bool is_text(struct str s)
{
	return str_is_utf8(s) && !(s.n && memchr(s.p, 0, s.n));
}

/* A list that cannot be ordered by a member: what is wrong is the parameter that named it. */
static bool sort_violation(struct failure *f, struct str path)
{
	for (size_t i = 0; f->r && i < f->r->n_params; i++) {
		const struct param_plan *p = &f->r->params[i];
		struct str name = p->sort ? name_in_resource(p->sort, path, f->a) : STR("");

		if (!name.n)
			continue;
		add_violation(f, p->name, STR("sort"), str_of(arena_printf(f->a, "cannot be %.*s", STR_FMT(name))), STR(""));
		return true;
	}
	return false;
}

static void service_violation(struct failure *f, struct str wire)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field w;
	struct str path = STR(""), rule = STR(""), text = STR(""), param = STR("");

	while (wire_next(&r, &w)) {
		if (w.type != WIRE_BYTES || !is_text(w.bytes))
			continue;
		switch (w.number) {
		case VIOLATION_PATH: path = w.bytes; break;
		case VIOLATION_RULE: rule = w.bytes; break;
		case VIOLATION_MESSAGE: text = w.bytes; break;
		case VIOLATION_PARAM: param = w.bytes; break;
		default: break;
		}
	}
	if (str_eq(rule, STR("sort")) && sort_violation(f, path))
		return;
	if (!text.n)
		text = str_of(schema_rule_text(f->a, arena_strdup(f->a, rule), param.n ? arena_strdup(f->a, param) : NULL));
	add_violation(f, path.n ? name_of_path(f->r, path, f->a) : path, rule, text, param);
}

static void service_status(struct failure *f, struct str wire)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field w;

	while (wire_next(&r, &w)) {
		if (w.number == STATUS_MESSAGE && w.type == WIRE_BYTES && !f->message.n && is_text(w.bytes))
			f->message = w.bytes;
		else if (w.number == STATUS_VIOLATION && w.type == WIRE_BYTES)
			service_violation(f, w.bytes);
	}
}

/* -- sentences */

static bool take(struct str *s, struct str word)
{
	if (!str_starts(*s, word))
		return false;
	s->p += word.n;
	s->n -= word.n;
	return true;
}

static struct str expand(struct failure *f, struct str text, const struct field_violation *v)
{
	struct buf b = { 0 };
	struct str out;

	while (text.n > 0) {
		if (take(&text, STR("$param"))) {
			buf_str(&b, v->param);
		} else if (take(&text, STR("$field"))) {
			buf_str(&b, v->field);
		} else if (take(&text, STR("$title"))) {
			title_print(&b, v->field);
		} else if (take(&text, STR("$text"))) {
			buf_str(&b, v->text);
		} else {
			buf_c(&b, *text.p++);
			text.n--;
		}
	}
	out = arena_str(f->a, buf_view(&b));
	buf_fini(&b);
	return out;
}

static const struct rule_text *row_of(const struct failure *f, struct str rule)
{
	for (size_t i = 0; i < f->d->n_texts; i++) {
		if (str_eq(f->d->texts[i].rule, rule))
			return &f->d->texts[i];
	}
	return NULL;
}

static bool lacks_subject(const struct field_violation *v)
{
	return v->field.n && v->text.n && v->text.p[0] >= 'a' && v->text.p[0] <= 'z';
}

static struct str sentence(struct failure *f, const struct field_violation *v)
{
	const struct rule_text *row = row_of(f, v->rule);

	if (!row && lacks_subject(v))
		row = row_of(f, STR("*"));
	return row ? expand(f, row->text, v) : v->text;
}

/* What the answer as a whole says: the document's sentence, unless something more exact is known. */
static struct str headline(struct failure *f)
{
	const struct code_plan *code = &f->d->codes[f->status];
	const struct rule_text *row = f->n ? row_of(f, f->v[0].rule) : NULL;
	struct str own = str_of(status_text(f->status));

	if (f->message.n && is_text(f->message) && !str_eq(f->message, own))
		return f->message;
	if (row && row->message.n)
		return expand(f, row->message, &f->v[0]);
	if (str_eq(code->message, STR("$text")))
		return f->n ? sentence(f, &f->v[0]) : own;
	return code->message.n ? code->message : own;
}

/* -- printing */

static void print_template(struct failure *f, const struct template *t, const struct field_violation *v, struct buf *b);

static bool same_field_before(const struct failure *f, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (str_eq(f->v[k].field, f->v[i].field))
			return true;
	}
	return false;
}

static void print_by_field(struct failure *f, struct buf *b)
{
	bool any = false;

	buf_c(b, '{');
	for (size_t i = 0; i < f->n; i++) {
		bool more = false;

		if (same_field_before(f, i))
			continue;
		if (any)
			buf_c(b, ',');
		any = true;
		buf_json_str(b, f->v[i].field.n ? f->v[i].field : STR(NO_FIELD));
		buf_z(b, ":[");
		for (size_t k = i; k < f->n; k++) {
			if (!str_eq(f->v[k].field, f->v[i].field))
				continue;
			if (more)
				buf_c(b, ',');
			more = true;
			print_template(f, &f->d->violation, &f->v[k], b);
		}
		buf_c(b, ']');
	}
	buf_c(b, '}');
}

static void print_violations(struct failure *f, struct buf *b)
{
	if (f->n == 0) {
		print_template(f, &f->d->empty, NULL, b);
	} else if (f->d->layout == CRM__DIALECT__ERROR_SHAPE__LAYOUT__BY_FIELD) {
		print_by_field(f, b);
	} else if (f->d->layout == CRM__DIALECT__ERROR_SHAPE__LAYOUT__FIRST) {
		print_template(f, &f->d->violation, &f->v[0], b);
	} else {
		buf_c(b, '[');
		for (size_t i = 0; i < f->n; i++) {
			if (i > 0)
				buf_c(b, ',');
			print_template(f, &f->d->violation, &f->v[i], b);
		}
		buf_c(b, ']');
	}
}

static void print_var(struct failure *f, enum var var, const struct field_violation *v, struct buf *b)
{
	const struct code_plan *code = &f->d->codes[f->status];

	switch (var) {
	case VAR_NONE: break;
	case VAR_CODE: buf_json_str(b, code->code); break;
	case VAR_HTTP: buf_i64(b, code->http); break;
	case VAR_MESSAGE: buf_json_str(b, f->message); break;
	case VAR_VIOLATIONS: print_violations(f, b); break;
	case VAR_FIELD: buf_json_str(b, v ? v->field : STR("")); break;
	case VAR_RULE: buf_json_str(b, v ? v->rule : STR("")); break;
	case VAR_TEXT: buf_json_str(b, v ? sentence(f, v) : STR("")); break;
	default: template_common(f->d, f->in, var, b);
	}
}

static void print_template(struct failure *f, const struct template *t, const struct field_violation *v, struct buf *b)
{
	for (size_t i = 0; i < t->n; i++) {
		buf_str(b, t->s[i].text);
		print_var(f, t->s[i].var, v, b);
	}
}

int dialect_error(const struct dialect *d, const struct route *route, const struct encode_input *in, enum status s, struct str text,
    struct str status_bytes, const struct field_violation *violations, size_t n, struct buf *out)
{
	struct arena own = { 0 };
	struct failure f = { .d = d->impl, .r = route ? route->impl : NULL, .in = in, .a = in && in->arena ? in->arena : &own, .message = text };

	f.status = s > STATUS_OK && s < STATUS_COUNT ? s : STATUS_INTERNAL;
	for (size_t i = 0; i < n; i++)
		add_violation(&f, violations[i].field, violations[i].rule, violations[i].text, violations[i].param);
	service_status(&f, status_bytes);
	f.message = headline(&f);
	print_template(&f, &f.d->error, NULL, out);
	arena_fini(&own);
	return f.d->codes[f.status].http;
}
