/* From names of the contract to names of the dialect. */
#include <ctype.h>

#include "gateway/dialect/plan.h"

static bool path_is(const struct path *p, struct str text, size_t *used)
{
	size_t at = 0;

	for (unsigned i = 0; i < p->n; i++) {
		struct str name = str_of(p->f[i]->name);

		if (i > 0) {
			if (at >= text.n || text.p[at] != '.')
				return false;
			at++;
		}
		if (text.n - at < name.n || memcmp(text.p + at, name.p, name.n) != 0)
			return false;
		at += name.n;
	}
	*used = at;
	return at == text.n || text.p[at] == '.';
}

/* How well a member stands for a path: exact and written is best. */
static unsigned rank(const struct member_plan *m, struct str path, size_t *used)
{
	for (unsigned i = 0; i < m->n_paths; i++) {
		if (!path_is(&m->paths[i], path, used))
			continue;
		return (*used == path.n ? 8 : 4) + (i == 0 ? 2 : 0) + (m->ro ? 0 : 1);
	}
	return 0;
}

/* A path that is the front of a member's: "address" for "address.city". */
static bool is_front(const struct member_plan *m, struct str path)
{
	return m->n_paths > 0 && m->paths[0].n > 1 && !m->ro && str_eq(path, str_of(m->paths[0].f[0]->name));
}

/* "0" off "0.product": which element of a list is meant. */
static struct str index_take(struct str *path)
{
	struct str index = { path->p, 0 };

	while (index.n < path->n && path->p[index.n] >= '0' && path->p[index.n] <= '9')
		index.n++;
	if (index.n && index.n < path->n && path->p[index.n] != '.')
		index.n = 0;
	if (index.n) {
		size_t used = index.n + (index.n < path->n);

		path->p += used;
		path->n -= used;
	}
	return index;
}

struct str name_in_resource(const struct resource_plan *res, struct str path, struct arena *a)
{
	const struct member_plan *best = NULL;
	unsigned best_rank = 0;
	size_t best_used = 0;
	struct str rest, inner, index;

	for (size_t i = 0; res && i < res->n; i++) {
		size_t used = 0;
		unsigned k = rank(&res->members[i], path, &used);

		if (k > best_rank || (k == 0 && !best && is_front(&res->members[i], path))) {
			best = &res->members[i];
			best_rank = k;
			best_used = used;
		}
	}
	if (!best)
		return (struct str){ "", 0 };
	if (best_rank == 0 || best_used >= path.n || best->enc.kind != ENC_RES)
		return best->name;
	rest = (struct str){ path.p + best_used + 1, path.n - best_used - 1 };
	index = index_take(&rest);
	inner = name_in_resource(best->enc.res, rest, a);
	return str_of(arena_printf(a, "%.*s%s%.*s%s%.*s", STR_FMT(best->name), index.n ? "." : "", STR_FMT(index), inner.n ? "." : "", STR_FMT(inner)));
}

struct str name_of_path(const struct route_impl *r, struct str path, struct arena *a)
{
	struct str name = { "", 0 };

	if (!r)
		return path;
	if (r->body)
		name = name_in_resource(r->body, path, a);
	if (name.n)
		return name;
	for (size_t i = 0; i < r->n_params; i++) {
		const struct param_plan *p = &r->params[i];
		size_t used;

		if (p->target == TARGET_PATH && path_is(&p->path, path, &used))
			return p->name;
		if (p->target == TARGET_FILTER && str_eq(path, str_of(p->filter->name)))
			return p->name;
	}
	return path;
}

static bool is_digits(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
	}
	return n > 0;
}

void title_print(struct buf *b, struct str name)
{
	const char *dot = name.n ? memrchr(name.p, '.', name.n) : NULL;
	bool lower_before = false;

	/* the element of a list is called as the list: "tags.0" */
	while (dot && is_digits(dot + 1, (size_t)(name.p + name.n - dot - 1))) {
		name.n = (size_t)(dot - name.p);
		dot = name.n ? memrchr(name.p, '.', name.n) : NULL;
	}
	if (dot) {
		name.n = (size_t)(name.p + name.n - dot - 1);
		name.p = dot + 1;
	}
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		bool upper = c >= 'A' && c <= 'Z';

		if (c == '_' || c == '-') {
			buf_c(b, ' ');
		} else {
			if (upper && lower_before)
				buf_c(b, ' ');
			buf_c(b, (char)(i == 0 ? toupper((unsigned char)c) : tolower((unsigned char)c)));
		}
		lower_before = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
	}
}

void words_title(struct buf *b, struct str s)
{
	bool start = true;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i] == '_' ? ' ' : s.p[i];

		if (start && c >= 'a' && c <= 'z')
			c = (char)(c - 'a' + 'A');
		buf_c(b, c);
		start = c == ' ';
	}
}
