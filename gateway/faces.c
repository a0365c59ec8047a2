/* Snapshots of dialects, grouped by listener. */
#include "gateway/faces.h"

#include <stdlib.h>

#include "base/version.h"

static size_t common(const char *a, size_t n, const char *b)
{
	size_t i = 0;

	while (i < n && a[i] && a[i] == b[i] && a[i] != '{')
		i++;
	return i;
}

void face_measure(struct face *face)
{
	size_t n = face->n_templates ? strlen(face->templates[0]) : 0;

	face->slash = face->n_templates > 0;
	for (size_t i = 0; i < face->n_templates; i++) {
		size_t length = strlen(face->templates[i]);

		n = common(face->templates[0], n, face->templates[i]);
		face->slash = face->slash && length && face->templates[i][length - 1] == '/';
	}
	while (n && face->templates[0][n - 1] != '/')
		n--;
	face->base = n ? (struct str){ face->templates[0], n } : STR("/");
}

static void add_face(struct faces *f, const struct dialect *d)
{
	struct face *face = &f->rows[f->n++];
	const char **templates;
	size_t n = 0;

	while (dialect_route(d, n))
		n++;
	templates = arena_alloc(&f->arena, (n + 1) * sizeof(*templates));
	for (size_t i = 0; i < n; i++)
		templates[i] = dialect_route(d, i)->template;
	*face = (struct face){ .dialect = d, .templates = templates, .n_templates = n };
	face_measure(face);
	if (strcmp(d->name, "native") == 0)
		f->native = face;
}

static bool add_group(struct faces *f, const struct listen_spec *l, struct arena *a, const char **why)
{
	const struct dialect *members[GROUP_MAX];
	struct group *g = &f->groups[f->n_groups++];
	const char *clash = "";

	for (size_t i = 0; i < l->n_dialects; i++) {
		const struct face *face = faces_find(f, str_of(l->dialects[i]));

		if (!face) {
			*why = arena_printf(a, "LISTEN: %s names `%s`, and there is no such dialect", l->address, l->dialects[i]);
			return false;
		}
		if (face != f->native)
			g->members[g->n++] = face;
	}
	if (f->native)
		g->members[g->n++] = f->native;
	for (size_t i = 0; i < g->n; i++)
		members[i] = g->members[i]->dialect;
	if (g->n && dialects_may_share(members, g->n, &clash))
		return true;
	*why = arena_printf(a, "LISTEN: the dialects of %s cannot share an origin: %s", l->address, g->n ? clash : "there is none");
	return false;
}

static void find_owners(struct faces *f)
{
	const struct schema_method *methods;
	size_t n = schema_methods(dialects_schema(f->dialects), &methods);

	for (size_t i = 0; i < n && f->n_owners < FACES_MAX; i++) {
		if (methods[i].refs_of)
			f->owners[f->n_owners++] = (struct ref_owner){ str_of(methods[i].refs_of), &methods[i] };
	}
}

struct faces *faces_new(struct dialects *ds, const struct listen_spec *listeners, size_t n, struct arena *a, const char **why)
{
	struct faces *f = xcalloc(1, sizeof(*f));
	const struct dialect *const *rows;
	size_t n_rows = dialects_all(ds, &rows);

	atomic_init(&f->refs, 1);
	pthread_mutex_init(&f->openapi_lock, NULL);
	f->dialects = ds;
	f->match = dialect_match;
	if (n_rows > FACES_MAX) {
		*why = arena_printf(a, "more than %d dialects", FACES_MAX);
		goto refuse;
	}
	for (size_t i = 0; i < n_rows; i++)
		add_face(f, rows[i]);
	for (size_t i = 0; i < n; i++) {
		if (!add_group(f, &listeners[i], a, why))
			goto refuse;
	}
	find_owners(f);
	return f;
refuse:
	faces_rele(f);
	return NULL;
}

void faces_hold(struct faces *f)
{
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
}

void faces_rele(struct faces *f)
{
	if (!f || atomic_fetch_sub(&f->refs, 1) != 1)
		return;
	for (size_t i = 0; i < sizeof(f->openapi) / sizeof(f->openapi[0]); i++) {
		free(f->openapi[i].server);
		buf_fini(&f->openapi[i].text);
	}
	pthread_mutex_destroy(&f->openapi_lock);
	dialects_rele(f->dialects);
	arena_fini(&f->arena);
	free(f);
}

const struct face *faces_find(const struct faces *f, struct str name)
{
	for (size_t i = 0; i < f->n; i++) {
		if (str_eq(str_of(f->rows[i].dialect->name), name))
			return &f->rows[i];
	}
	return NULL;
}

const struct face *faces_by_host(const struct faces *f, struct str host)
{
	for (size_t i = 0; host.n && i < f->n; i++) {
		const struct dialect *d = f->rows[i].dialect;

		for (size_t k = 0; k < d->n_hosts; k++) {
			if (str_ieq(str_of(d->hosts[k]), host))
				return &f->rows[i];
		}
	}
	return NULL;
}

const struct schema_method *faces_owner(const struct faces *f, struct str entity)
{
	for (size_t i = 0; i < f->n_owners; i++) {
		if (str_eq(f->owners[i].entity, entity))
			return f->owners[i].method;
	}
	return NULL;
}

/* True: the document that is kept is of another server, and is to be made again. Under the lock. */
static bool document_is_other(struct faces *f, size_t i, struct str server)
{
	if (f->openapi[i].server && str_eq(str_of(f->openapi[i].server), server))
		return false;
	free(f->openapi[i].server);
	f->openapi[i].server = xstrndup(server.p, server.n);
	buf_clear(&f->openapi[i].text);
	return true;
}

void faces_openapi(struct faces *f, const struct face *face, struct str server, struct buf *out)
{
	size_t i = (size_t)(face - f->rows);

	pthread_mutex_lock(&f->openapi_lock);
	if (document_is_other(f, i, server))
		dialect_openapi(f->dialects, face->dialect, server, &f->openapi[i].text);
	buf_str(out, buf_view(&f->openapi[i].text));
	pthread_mutex_unlock(&f->openapi_lock);
}

bool faces_asyncapi(struct faces *f, struct str scheme, struct str authority, struct buf *out)
{
	struct buf server = { 0 };
	size_t before = out->n;

	buf_printf(&server, "%.*s://%.*s", STR_FMT(scheme), STR_FMT(authority));
	pthread_mutex_lock(&f->openapi_lock);
	if (document_is_other(f, FACES_MAX, buf_view(&server)))
		(void)dialects_asyncapi(f->dialects, crm_version, scheme, authority, &f->openapi[FACES_MAX].text);
	buf_str(out, buf_view(&f->openapi[FACES_MAX].text));
	pthread_mutex_unlock(&f->openapi_lock);
	buf_fini(&server);
	return out->n > before;
}
