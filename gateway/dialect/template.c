/* JSON templates: parsed once, kept as literal text with variables between. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/codec.h"
#include "gateway/dialect/plan.h"
#include "json/json.h"

static const char *const var_names[VAR_COUNT] = {
	[VAR_NOW] = "now", [VAR_PATH] = "path", [VAR_TRACE] = "trace", [VAR_REQUEST] = "request", [VAR_DIALECT] = "dialect", [VAR_CODE] = "code",
	[VAR_MESSAGE] = "message", [VAR_HTTP] = "http", [VAR_VIOLATIONS] = "violations", [VAR_FIELD] = "field", [VAR_TEXT] = "text", [VAR_RULE] = "rule",
	[VAR_ITEM] = "item", [VAR_ITEMS] = "items", [VAR_TOTAL] = "total", [VAR_PAGE] = "page", [VAR_SIZE] = "size", [VAR_PAGES] = "pages",
	[VAR_OFFSET] = "offset", [VAR_HAS_NEXT] = "has_next", [VAR_HAS_PREV] = "has_prev", [VAR_NEXT] = "next", [VAR_PREVIOUS] = "previous",
	[VAR_CURSOR] = "cursor",
};

struct building {
	struct compile *c;
	const char *what;
	uint64_t allowed;
	struct buf text;
	struct template *t;
	size_t cap;
};

static void push(struct building *g, enum var v, struct str member)
{
	struct template *t = g->t;

	if (t->n == g->cap) {
		size_t cap = g->cap ? g->cap * 2 : 8;
		struct segment *s = arena_alloc(g->c->a, cap * sizeof(*s));

		if (t->n)
			memcpy(s, t->s, t->n * sizeof(*s));
		t->s = s;
		g->cap = cap;
	}
	t->s[t->n++] = (struct segment){ arena_str(g->c->a, buf_view(&g->text)), v, arena_str(g->c->a, member) };
	t->uses |= UINT64_C(1) << v;
	buf_clear(&g->text);
}

static bool variable(struct building *g, struct str word)
{
	struct str name = { word.p + 1, word.n - 1 };
	struct str item = STR("item.");

	if (name.n > item.n && str_starts(name, item) && (g->allowed >> VAR_ITEM_MEMBER & 1)) {
		push(g, VAR_ITEM_MEMBER, (struct str){ name.p + item.n, name.n - item.n });
		return true;
	}
	for (int v = 1; v < VAR_COUNT; v++) {
		if (!var_names[v] || !str_eq(name, str_of(var_names[v])))
			continue;
		if (!(g->allowed >> v & 1))
			break;
		push(g, (enum var)v, (struct str){ "", 0 });
		return true;
	}
	return compile_fail(g->c, "%s: there is no variable '%.*s' here", g->what, STR_FMT(word));
}

static bool walk(struct building *g, const struct json *v)
{
	bool object = v->type == JSON_OBJECT;

	if (v->type == JSON_STRING && v->text.n > 1 && v->text.p[0] == '$')
		return variable(g, v->text);
	if (!object && v->type != JSON_ARRAY) {
		json_print(&g->text, v);
		return true;
	}
	buf_c(&g->text, object ? '{' : '[');
	for (const struct json *c = v->child; c; c = c->next) {
		if (c != v->child)
			buf_c(&g->text, ',');
		if (object) {
			buf_json_str(&g->text, c->key);
			buf_c(&g->text, ':');
		}
		if (!walk(g, c))
			return false;
	}
	buf_c(&g->text, object ? '}' : ']');
	return true;
}

bool compile_template(struct compile *c, const char *what, const char *json, uint64_t allowed, struct template *t)
{
	struct arena scratch = { 0 };
	struct json_error err = { 0 };
	struct json *v = json_parse(&scratch, str_of(json), &err);
	struct building g = { .c = c, .what = what, .allowed = allowed | VARS_EVERYWHERE, .t = t };
	bool ok;

	*t = (struct template){ 0 };
	if (v) {
		ok = walk(&g, v);
		push(&g, VAR_NONE, (struct str){ "", 0 });
	} else {
		ok = compile_fail(c, "%s: at byte %zu: %s", what, err.offset, err.text);
	}
	buf_fini(&g.text);
	arena_fini(&scratch);
	return ok;
}

bool template_common(const struct dialect_impl *d, const struct encode_input *in, enum var v, struct buf *b)
{
	struct str s = { "", 0 };

	switch (v) {
	case VAR_NOW:
		buf_c(b, '"');
		time_print(b, in && in->now_us ? in->now_us : clock_us());
		buf_c(b, '"');
		return true;
	case VAR_PATH: s = in ? in->path : s; break;
	case VAR_TRACE: s = in ? in->trace : s; break;
	case VAR_REQUEST: s = in ? in->request : s; break;
	case VAR_DIALECT: s = str_of(d->pub.name); break;
	default: return false;
	}
	if (str_is_utf8(s))
		buf_json_str(b, s);
	else
		buf_str(b, STR("null"));
	return true;
}
