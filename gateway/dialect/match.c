/* Method and path to route: a tree of segments; what is written out beats what is a parameter. */
#include "gateway/dialect/plan.h"

#define SEGMENTS_MAX 40

static struct node *static_child(const struct node *n, struct str segment)
{
	struct node *child = n->children;

	while (child && !str_eq(child->segment, segment))
		child = child->next;
	return child;
}

static struct node *child_make(struct compile *c, struct node *n, struct str segment)
{
	struct node *child;

	if (segment.n > 0 && segment.p[0] == '{') {
		if (!n->param)
			n->param = ARENA_NEW(c->a, struct node);
		return n->param;
	}
	child = static_child(n, segment);
	if (!child) {
		child = ARENA_NEW(c->a, struct node);
		child->segment = segment;
		child->next = n->children;
		n->children = child;
	}
	return child;
}

bool compile_tree_add(struct compile *c, struct route_impl *r)
{
	struct node *n = &c->d->root;
	struct node_route *here, **tail;

	for (const char *at = r->pub.template; *at == '/';) {
		size_t len = strcspn(at + 1, "/");

		n = child_make(c, n, (struct str){ at + 1, len });
		at += len + 1;
	}
	for (tail = &n->here; *tail; tail = &(*tail)->next) {
		if (str_eq((*tail)->route->pub.method, r->pub.method))
			return compile_fail(c, "collides with `%s`", (*tail)->route->src->on);
	}
	here = ARENA_NEW(c->a, struct node_route);
	here->route = r;
	*tail = here;
	return true;
}

struct search {
	struct str segments[SEGMENTS_MAX];
	size_t n;
	struct str method;
	struct str params[ROUTE_MAX_PARAMS];
	const struct node *known[8]; /* nodes of this path, whatever their methods */
	size_t n_known;
	const struct route_impl *found;
};

static bool arrive(struct search *s, const struct node *n)
{
	for (const struct node_route *h = n->here; h; h = h->next) {
		if (str_eq(h->route->pub.method, s->method)) {
			s->found = h->route;
			return true;
		}
	}
	if (n->here && s->n_known < sizeof(s->known) / sizeof(*s->known))
		s->known[s->n_known++] = n;
	return false;
}

static bool descend(struct search *s, const struct node *n, size_t depth, size_t n_params)
{
	const struct node *child;
	struct str segment;

	if (depth == s->n)
		return arrive(s, n);
	segment = s->segments[depth];
	child = static_child(n, segment);
	if (child && descend(s, child, depth + 1, n_params))
		return true;
	if (!n->param || segment.n == 0 || n_params == ROUTE_MAX_PARAMS)
		return false;
	s->params[n_params] = segment;
	return descend(s, n->param, depth + 1, n_params + 1);
}

/* Splits first and decodes each segment once, so that an encoded slash cannot make a segment. */
static bool split(struct search *s, struct str path, struct arena *a, bool *too_many)
{
	if (path.n == 0 || path.p[0] != '/')
		return false;
	while (path.n > 0) {
		const char *slash = path.n > 1 ? memchr(path.p + 1, '/', path.n - 1) : NULL;
		size_t len = slash ? (size_t)(slash - path.p - 1) : path.n - 1;
		struct str decoded;

		if (s->n == SEGMENTS_MAX) {
			*too_many = true;
			return true;
		}
		if (!percent_decode(a, (struct str){ path.p + 1, len }, false, &decoded))
			return false;
		if (decoded.n && memchr(decoded.p, '/', decoded.n))
			return false;
		s->segments[s->n++] = decoded;
		path.p += len + 1;
		path.n -= len + 1;
	}
	return true;
}

static struct str allow_text(const struct search *s, struct arena *a)
{
	const char *text = "";

	for (size_t i = 0; i < s->n_known; i++) {
		for (const struct node_route *h = s->known[i]->here; h; h = h->next) {
			struct str m = h->route->pub.method;

			if (strstr(text, arena_strdup(a, m)))
				continue;
			text = arena_printf(a, "%s%s%.*s", text, *text ? ", " : "", STR_FMT(m));
			if (str_eq(m, STR("GET")))
				text = arena_printf(a, "%s, HEAD", text);
		}
	}
	return str_of(text);
}

enum status dialect_match(const struct dialect *d, struct str method, struct str path, struct arena *a, struct route_match *m, struct str *allow)
{
	struct search s = { .method = str_eq(method, STR("HEAD")) ? STR("GET") : method };
	bool too_many = false;

	*allow = (struct str){ "", 0 };
	m->dialect = d;
	m->route = NULL;
	if (!split(&s, path, a, &too_many))
		return STATUS_BAD_REQUEST;
	if (too_many)
		return STATUS_NOT_FOUND;
	if (!descend(&s, &d->impl->root, 0, 0)) {
		*allow = allow_text(&s, a);
		return s.n_known ? STATUS_METHOD_NOT_ALLOWED : STATUS_NOT_FOUND;
	}
	m->route = &s.found->pub;
	memcpy(m->params, s.params, sizeof(m->params));
	return STATUS_OK;
}
