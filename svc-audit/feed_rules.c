/* Who may see which events: the permission to read an entity is that of its service's method that reads it. */
#include <dirent.h>
#include <stdlib.h>

#include "base/log.h"
#include "rpc/client.h"
#include "svc-audit/feed.h"

#define FILES_MAX 64
#define RULES_MAX 128
#define FIRST_REAL_PERMISSION 8

struct feed_rules {
	struct schema *own; /* NULL: borrowed */
	size_t n;
	unsigned audit_read;
	struct rule {
		const char *word;
		unsigned permission;
	} rows[RULES_MAX];
};

static struct rule *find(struct feed_rules *r, const char *word)
{
	for (size_t i = 0; i < r->n; i++) {
		if (strcmp(r->rows[i].word, word) == 0)
			return &r->rows[i];
	}
	return NULL;
}

static bool is_get(const char *name)
{
	size_t n = strlen(name);

	return n > 4 && strcmp(name + n - 4, ".Get") == 0;
}

/* Get decides; where there is none, whatever else reads it. */
static void consider(struct feed_rules *r, const struct schema_method *m)
{
	struct rule *row;

	if (!m->entity || !m->entity->entity || m->lane != RPC_READ || m->permission < FIRST_REAL_PERMISSION)
		return;
	row = find(r, m->entity->entity);
	if (!row && r->n == RULES_MAX)
		log_die("FEED-RULES", "more than %d entities", RULES_MAX);
	if (!row)
		r->rows[r->n++] = (struct rule){ m->entity->entity, m->permission };
	else if (is_get(m->name))
		row->permission = m->permission;
}

struct feed_rules *feed_rules_of(const struct schema *s)
{
	struct feed_rules *r = xcalloc(1, sizeof(*r));
	const struct schema_permission *permissions;
	const struct schema_method *methods;
	size_t n_permissions = schema_permissions(s, &permissions), n_methods = schema_methods(s, &methods);

	for (size_t i = 0; i < n_methods; i++)
		consider(r, &methods[i]);
	for (size_t i = 0; i < n_permissions; i++) {
		if (strcmp(permissions[i].name, "audit.read") == 0)
			r->audit_read = permissions[i].bit;
	}
	return r;
}

struct feed_rules *feed_rules_load(const char *descriptor_dir)
{
	const char *paths[FILES_MAX];
	struct arena a = { 0 };
	struct feed_rules *r;
	struct schema *s;
	const struct dirent *e;
	DIR *d = opendir(descriptor_dir);
	size_t n = 0;

	if (!d)
		log_die("FEED-RULES", "%s cannot be read", descriptor_dir);
	for (e = readdir(d); e && n < FILES_MAX; e = readdir(d)) {
		size_t len = strlen(e->d_name);

		if (len > 3 && e->d_name[0] != '.' && strcmp(e->d_name + len - 3, ".pb") == 0)
			paths[n++] = arena_printf(&a, "%s/%s", descriptor_dir, e->d_name);
	}
	closedir(d);
	s = schema_load(paths, n);
	r = feed_rules_of(s);
	r->own = s;
	arena_fini(&a);
	return r;
}

void feed_rules_free(struct feed_rules *r)
{
	if (r && r->own)
		schema_free(r->own);
	free(r);
}

/* Events of what no method reads (logins, exports, …) are for who may read the audit log. */
struct feed_sight feed_sight(const struct feed_rules *r, const struct rpc_principal *who, struct arena *a)
{
	struct feed_sight sight = { .everything_else = r->audit_read && rpc_may(who, r->audit_read) };
	struct buf b = { 0 };

	buf_c(&b, '{');
	for (size_t i = 0; i < r->n; i++) {
		if (rpc_may(who, r->rows[i].permission) == sight.everything_else)
			continue;
		if (b.n > 1)
			buf_c(&b, ',');
		buf_z(&b, r->rows[i].word); /* words are of a-z and _ */
	}
	buf_c(&b, '}');
	sight.words = arena_strdup(a, buf_view(&b));
	buf_fini(&b);
	return sight;
}
