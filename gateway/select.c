/* Dialect selection. */
#include "gateway/select.h"

/* "/~saas/api/leads" → "saas", and "/api/leads" left in *path. */
static bool take_prefix(struct str *path, struct str *name)
{
	const char *slash;

	if (!str_starts(*path, STR("/~")))
		return false;
	slash = memchr(path->p + 2, '/', path->n - 2);
	*name = (struct str){ path->p + 2, slash ? (size_t)(slash - path->p) - 2 : path->n - 2 };
	*path = slash ? (struct str){ slash, path->n - 2 - name->n } : STR("/");
	return true;
}

/* How many bytes the path shares with the static beginning of one of the dialect's templates. */
static size_t likeness(const struct face *face, struct str path)
{
	size_t best = 0;

	for (size_t i = 0; i < face->n_templates; i++) {
		const char *t = face->templates[i];
		size_t n = 0;

		while (n < path.n && t[n] && t[n] != '{' && t[n] == path.p[n])
			n++;
		best = n > best ? n : best;
	}
	return best;
}

/*
 * Better means, in this order: the path lies under the dialect's base; they agree on a slash at the end; the base is longer; more
 * of the path is known. Equal: the earlier in LISTEN.
 */
static bool looks_more_like(const struct face *a, const struct face *b, struct str path)
{
	bool slash = path.n && path.p[path.n - 1] == '/', under_a = str_starts(path, a->base), under_b = str_starts(path, b->base);

	if (under_a != under_b)
		return under_a;
	if (!under_a)
		return false;
	if ((a->slash == slash) != (b->slash == slash))
		return a->slash == slash;
	if (a->base.n != b->base.n)
		return a->base.n > b->base.n;
	return likeness(a, path) > likeness(b, path);
}

static const struct face *closest(const struct group *g, struct str path)
{
	const struct face *best = g->members[0];

	for (size_t i = 1; i < g->n; i++) {
		if (looks_more_like(g->members[i], best, path))
			best = g->members[i];
	}
	return best;
}

static void join_allow(struct arena *a, struct str *all, struct str more)
{
	if (!all->n)
		*all = more;
	else if (more.n)
		*all = str_of(arena_printf(a, "%.*s, %.*s", STR_FMT(*all), STR_FMT(more)));
}

/* Tries the members in turn; the first that has the route wins, else a method or an escape that is wrong, else nothing. */
static void match_group(const struct faces *f, const struct group *g, const struct select_input *in, struct selection *out)
{
	out->outcome = STATUS_NOT_FOUND;
	out->face = closest(g, out->path);
	for (size_t i = 0; i < g->n; i++) {
		struct str allow = { 0 };
		enum status s = f->match(g->members[i]->dialect, in->method, out->path, in->arena, &out->match, &allow);

		if (s == STATUS_NOT_FOUND)
			continue;
		if (s == STATUS_OK || out->outcome == STATUS_NOT_FOUND) {
			out->outcome = s;
			if (s != STATUS_BAD_REQUEST) /* a wrong escape says nothing of whose path it is */
				out->face = g->members[i];
		}
		if (s == STATUS_OK)
			return;
		if (s == STATUS_METHOD_NOT_ALLOWED && out->outcome == s)
			join_allow(in->arena, &out->allow, allow);
	}
}

static const struct group *group_of(const struct faces *f, int listener)
{
	return &f->groups[listener >= 0 && (size_t)listener < f->n_groups ? listener : 0];
}

/* The dialect that the request names. False: it names one that does not exist; *out says so. */
static bool named(const struct faces *f, const struct select_input *in, struct selection *out, const struct face **face)
{
	const struct face *by_header = NULL;
	struct str name;

	if (in->header.n) {
		by_header = faces_find(f, in->header);
		if (!by_header) {
			out->outcome = STATUS_BAD_REQUEST;
			out->text = "X-CRM-Dialect names an unknown dialect";
			return false;
		}
	}
	if (take_prefix(&out->path, &name)) {
		out->prefixed = true;
		*face = faces_find(f, name);
		out->outcome = STATUS_NOT_FOUND;
		return *face != NULL;
	}
	*face = by_header;
	return true;
}

void select_route(const struct faces *f, const struct select_input *in, struct selection *out)
{
	const struct face *face = NULL;
	struct group one = { .n = 1 };

	memset(out, 0, sizeof(*out));
	out->path = in->path;
	if (!named(f, in, out, &face)) {
		out->face = closest(group_of(f, in->listener), in->path);
		return;
	}
	if (!face) {
		face = faces_by_host(f, in->host);
		if (face && f->native && face != f->native)
			one.members[one.n++] = f->native;
	}
	if (!face) {
		match_group(f, group_of(f, in->listener), in, out);
		return;
	}
	one.members[0] = face;
	match_group(f, &one, in, out);
}
