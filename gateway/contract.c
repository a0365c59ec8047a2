/* Contracts of services, read from what a service says or made of the gateway's own files. */
#include "gateway/contract.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/version.h"
#include "proto/common.pb-c.h"

static struct contract *contract_new(const char *service, const char *version, int64_t built, uint64_t hash)
{
	struct contract *c = xcalloc(1, sizeof(*c));

	c->refs = 1;
	c->service = arena_strdup(&c->arena, str_of(service));
	c->version = arena_strdup(&c->arena, str_of(version));
	c->built = built;
	c->hash = hash;
	return c;
}

struct contract *contract_hold(struct contract *c)
{
	if (c)
		c->refs++;
	return c;
}

void contract_rele(struct contract *c)
{
	if (!c || --c->refs)
		return;
	arena_fini(&c->arena);
	free(c);
}

const struct contract_face *contract_face(const struct contract *c, const char *dialect)
{
	for (size_t i = 0; c && i < c->n_faces; i++) {
		if (strcmp(c->faces[i].dialect, dialect) == 0)
			return &c->faces[i];
	}
	return NULL;
}

bool contract_is_older(const struct contract *a, const struct contract *b)
{
	return a->built != b->built ? a->built < b->built : a->hash < b->hash;
}

/* -- its content */

static int by_dialect(const void *a, const void *b)
{
	return strcmp(((const struct contract_face *)a)->dialect, ((const struct contract_face *)b)->dialect);
}

static void content_of(struct contract *c)
{
	struct buf all = { 0 };
	uint8_t digest[32];

	if (c->n_faces)
		qsort(c->faces, c->n_faces, sizeof(*c->faces), by_dialect);
	buf_printf(&all, "%zu\n", c->descriptors.n);
	buf_str(&all, c->descriptors);
	for (size_t i = 0; i < c->n_faces; i++) {
		buf_printf(&all, "\n%s %zu\n", c->faces[i].dialect, c->faces[i].fragment.n);
		buf_str(&all, c->faces[i].fragment);
	}
	sha256(all.p, all.n, digest);
	memcpy(&c->content, digest, sizeof(c->content));
	buf_fini(&all);
}

static bool add_face(struct contract *c, const char *dialect, struct str fragment)
{
	if (c->n_faces == CONTRACT_FACES || contract_face(c, dialect))
		return false;
	c->faces[c->n_faces++] = (struct contract_face){ arena_strdup(&c->arena, str_of(dialect)), arena_str(&c->arena, fragment) };
	return true;
}

/* -- what a service says */

/* A word that may be shown in logs and metrics as it is. */
static bool is_plain(const char *text)
{
	size_t n = text ? strlen(text) : 0;

	return n > 0 && n < 100 && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+") == n;
}

static const char *take_faces(struct contract *c, const Crm__V1__Contract *from)
{
	for (size_t i = 0; i < from->n_face; i++) {
		const Crm__V1__Contract__Face *f = from->face[i];

		if (!is_plain(f->dialect) || f->fragment.len > FRAGMENT_MAX_BYTES)
			return "a fragment has no name or is too large";
		if (!add_face(c, f->dialect, (struct str){ (const char *)f->fragment.data, f->fragment.len }))
			return "it has too many fragments, or two of one dialect";
	}
	return NULL;
}

static struct contract *broken(const char *service, uint64_t hash, const char *why)
{
	struct contract *c = contract_new(service, "unknown", 0, hash);

	c->broken = why;
	return c;
}

struct contract *contract_parse(const char *service, uint64_t hash, struct str bytes)
{
	Crm__V1__Contract *from = bytes.n <= CONTRACT_MOST_BYTES ? crm__v1__contract__unpack(NULL, bytes.n, (const uint8_t *)bytes.p) : NULL;
	struct contract *c;

	if (!from)
		return broken(service, hash, "it cannot be read");
	if (!from->service || strcmp(from->service, service) != 0) {
		c = broken(service, hash, "it is another service's");
	} else if (!is_plain(from->version) || !from->has_built || from->built < 0 || !from->has_descriptors) {
		c = broken(service, hash, "it lacks its version, time or descriptors");
	} else {
		c = contract_new(service, from->version, from->built, hash);
		c->descriptors = arena_str(&c->arena, (struct str){ (const char *)from->descriptors.data, from->descriptors.len });
		c->broken = take_faces(c, from);
		content_of(c);
	}
	crm__v1__contract__free_unpacked(from, NULL);
	return c;
}

/* -- the gateway's own files */

struct contract *own_of(const struct own *o, const char *service)
{
	for (size_t i = 0; i < o->n_services; i++) {
		if (strcmp(o->services[i]->service, service) == 0)
			return o->services[i];
	}
	return NULL;
}

/* As a service would tell it: so that one of the same build is recognised as the same. */
static bool add_descriptors(struct own *o, const struct schema *s, const struct file_text *file, const char **why)
{
	struct buf stripped = { 0 };
	struct contract *c;

	if (!schema_has_service(s, file->name)) {
		o->shared[o->n_shared++] = *file;
		return true;
	}
	if (o->n_services == SERVICES_MAX || !schema_strip(file->bytes, &stripped)) {
		*why = "there are too many services";
		return false;
	}
	c = contract_new(file->name, crm_version, crm_built, 0);
	c->descriptors = arena_str(&c->arena, buf_view(&stripped));
	o->services[o->n_services++] = c;
	buf_fini(&stripped);
	return true;
}

static bool add_parts(struct own *o, const char *dialect, const struct dialect_part *parts, size_t n, const char **why)
{
	o->dialects[o->n_dialects++] = (struct file_text){ dialect, parts[0].bytes };
	for (size_t i = 1; i < n; i++) {
		struct contract *c = own_of(o, parts[i].service);

		if (c && add_face(c, dialect, parts[i].bytes))
			continue;
		*why = arena_printf(&o->arena, c ? "two dialects are called %s" : "%s: there is no %s.pb for a route's service", dialect, parts[i].service);
		return false;
	}
	return true;
}

static bool add_dialect(struct own *o, const struct schema *s, const struct file_text *file, const char **why)
{
	struct dialect_part parts[FRAGMENT_SERVICES + 1];
	Crm__Dialect__Dialect *d = crm__dialect__dialect__unpack(NULL, file->bytes.n, (const uint8_t *)file->bytes.p);
	bool ok = d && d->name && *d->name;
	size_t n = ok ? fragment_split(d, s, &o->arena, parts, why) : 0;

	if (!ok)
		*why = arena_printf(&o->arena, "%s.pb: is not a dialect", file->name);
	ok = n && add_parts(o, arena_strdup(&o->arena, str_of(d->name)), parts, n, why);
	if (d)
		crm__dialect__dialect__free_unpacked(d, NULL);
	return ok;
}

static bool load(struct own *o, struct schema **schema, const char *descriptor_dir, const char *dialect_dir, const char **why)
{
	struct file_text files[FILES_MOST];
	struct schema_set sets[FILES_MOST];
	size_t n = files_read(&o->arena, descriptor_dir, files, why);
	const char *reason = NULL;

	for (size_t i = 0; i < n; i++)
		sets[i] = (struct schema_set){ .name = files[i].name, .bytes = files[i].bytes };
	if (!n)
		return false;
	*schema = schema_try_sets(sets, n, &reason);
	if (!*schema) {
		*why = arena_strdup(&o->arena, str_of(reason));
		free((void *)reason);
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		if (!add_descriptors(o, *schema, &files[i], why))
			return false;
	}
	n = files_read(&o->arena, dialect_dir, files, why);
	for (size_t i = 0; i < n; i++) {
		if (!add_dialect(o, *schema, &files[i], why))
			return false;
	}
	for (size_t i = 0; i < o->n_services; i++)
		content_of(o->services[i]);
	return n > 0;
}

struct own *own_load(const char *descriptor_dir, const char *dialect_dir, const char **why)
{
	struct own *o = xcalloc(1, sizeof(*o));
	struct schema *schema = NULL;
	const char *reason = "no reason";
	bool ok = load(o, &schema, descriptor_dir, dialect_dir, &reason);

	if (!ok)
		*why = xstrdup(reason);
	schema_free(schema);
	if (ok)
		return o;
	own_free(o);
	return NULL;
}

void own_free(struct own *o)
{
	if (!o)
		return;
	for (size_t i = 0; i < o->n_services; i++)
		contract_rele(o->services[i]);
	arena_fini(&o->arena);
	free(o);
}
