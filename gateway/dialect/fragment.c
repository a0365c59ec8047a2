/* Cuts a dialect into the parts of its services and puts parts together again. */
#include "gateway/dialect/fragment.h"

#include <stdlib.h>

#define ROUTES_MAX 1000
#define DEFINITIONS_MAX 500

/* What routes refer to by name; all four messages begin with it. */
enum definition { RESOURCE, SHAPE, MAP, SET, DEFINITIONS };

struct named {
	ProtobufCMessage base;
	char *name;
};

struct list {
	size_t *n;
	struct named ***rows;
};

static size_t no_rows;
static struct named **no_list;

static struct list list_of(Crm__Dialect__Dialect *d, enum definition kind)
{
	switch (kind) {
	case RESOURCE: return (struct list){ &d->n_resource, (struct named ***)&d->resource };
	case SHAPE: return (struct list){ &d->n_shape, (struct named ***)&d->shape };
	case MAP: return (struct list){ &d->n_enum_map, (struct named ***)&d->enum_map };
	default: break;
	}
	if (!d->paging)
		return (struct list){ &no_rows, &no_list };
	return (struct list){ &d->paging->n_set, (struct named ***)&d->paging->set };
}

static size_t find(struct list l, const char *name)
{
	size_t i = 0;

	while (i < *l.n && !((*l.rows)[i]->name && strcmp((*l.rows)[i]->name, name) == 0))
		i++;
	return i;
}

/* -- who uses what */

typedef void (*use_fn)(void *arg, enum definition kind, const char *name);

static void use(use_fn fn, void *arg, enum definition kind, const char *name)
{
	if (name)
		fn(arg, kind, name);
}

static void uses_of_encoder(const char *as, use_fn fn, void *arg)
{
	static const struct {
		const char *prefix;
		enum definition kind;
	} rows[] = { { "map:", MAP }, { "res:", RESOURCE }, { "member:", RESOURCE } };

	if (as && strncmp(as, "csv:", 4) == 0)
		as += 4;
	for (size_t i = 0; as && i < sizeof(rows) / sizeof(*rows); i++) {
		if (strncmp(as, rows[i].prefix, strlen(rows[i].prefix)) == 0)
			fn(arg, rows[i].kind, as + strlen(rows[i].prefix));
	}
}

static void uses_of_params(Crm__Dialect__Param *const *q, size_t n, use_fn fn, void *arg)
{
	for (size_t i = 0; i < n; i++) {
		use(fn, arg, RESOURCE, q[i]->resource);
		uses_of_encoder(q[i]->as, fn, arg);
	}
}

static void uses_of_route(const Crm__Dialect__Route *r, use_fn fn, void *arg)
{
	use(fn, arg, RESOURCE, r->body);
	use(fn, arg, RESOURCE, r->import);
	use(fn, arg, RESOURCE, r->out);
	use(fn, arg, SHAPE, r->wrap);
	use(fn, arg, SET, r->use);
	uses_of_params(r->q, r->n_q, fn, arg);
	for (size_t i = 0; i < r->n_other; i++) {
		use(fn, arg, RESOURCE, r->other[i]->out);
		use(fn, arg, SHAPE, r->other[i]->wrap);
	}
}

static void uses_of_definition(const struct named *d, enum definition kind, use_fn fn, void *arg)
{
	const Crm__Dialect__Resource *r = (const Crm__Dialect__Resource *)d;

	if (kind == SET)
		uses_of_params(((const Crm__Dialect__ParamSet *)d)->q, ((const Crm__Dialect__ParamSet *)d)->n_q, fn, arg);
	for (size_t i = 0; kind == RESOURCE && i < r->n_f; i++)
		uses_of_encoder(r->f[i]->as, fn, arg);
}

/* -- cutting */

struct cut {
	Crm__Dialect__Dialect *whole;
	const struct schema *schema;
	struct arena *a;
	const char *services[FRAGMENT_SERVICES];
	size_t n;
	uint32_t bit;                   /* of the service whose uses are being marked */
	uint32_t *masks[DEFINITIONS];   /* by row: who uses it */
	uint32_t *homes;                /* by resource: the one service that has it; 0: by use */
	uint32_t *routes;
};

/* The service's bit; 0: no service of this name. */
static uint32_t bit_of(const struct cut *c, const char *service)
{
	for (size_t i = 0; i < c->n; i++) {
		if (strcmp(c->services[i], service) == 0)
			return 1u << i;
	}
	return 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void list_services(struct cut *c)
{
	const struct schema_method *rows;
	size_t n = schema_methods(c->schema, &rows);

	for (size_t i = 0; i < n; i++) {
		if (!bit_of(c, rows[i].service) && c->n < FRAGMENT_SERVICES)
			c->services[c->n++] = rows[i].service;
	}
	if (c->n)
		qsort(c->services, c->n, sizeof(*c->services), by_text);
}

/* Ends although resources may refer to each other: who has the bit already is not looked into again. */
static void mark(void *arg, enum definition kind, const char *name)
{
	struct cut *c = arg;
	struct list l = list_of(c->whole, kind);
	size_t i = find(l, name);

	if (i == *l.n || (c->masks[kind][i] & c->bit))
		return;
	c->masks[kind][i] |= c->bit;
	uses_of_definition((*l.rows)[i], kind, mark, c);
}

/* The service whose own file declares the message; 0: it is shared, or unknown. */
static uint32_t home_of(const struct cut *c, const Crm__Dialect__Resource *r)
{
	const struct schema_message *m = r->message ? schema_message_find(c->schema, str_of(r->message)) : NULL;

	return m ? bit_of(c, m->file) : 0;
}

static bool mark_all(struct cut *c, const char **why)
{
	for (size_t i = 0; i < c->whole->n_route; i++) {
		Crm__Dialect__Route *r = c->whole->route[i];
		const struct schema_method *m = r->rpc ? schema_method_find(c->schema, str_of(r->rpc)) : NULL;

		if (!m) {
			*why = arena_printf(c->a, "%s: route `%s`: there is no rpc '%s'", c->whole->name, r->on ? r->on : "", r->rpc ? r->rpc : "");
			return false;
		}
		r->has_place = true;
		r->place = (uint32_t)i + 1;
		c->routes[i] = c->bit = bit_of(c, m->service);
		uses_of_route(r, mark, c);
	}
	for (size_t i = 0; i < c->whole->n_resource; i++) {
		Crm__Dialect__Resource *r = c->whole->resource[i];

		r->has_place = true;
		r->place = (uint32_t)i + 1;
		c->homes[i] = c->bit = home_of(c, r);
		if (c->bit)
			uses_of_definition((struct named *)r, RESOURCE, mark, c);
	}
	return true;
}

static bool belongs(const struct cut *c, enum definition kind, size_t i, uint32_t bit)
{
	uint32_t mask = c->masks[kind][i];

	if (kind == RESOURCE && c->homes[i])
		return c->homes[i] == bit;
	if (!bit) /* the base */
		return mask == 0 || (mask & (mask - 1));
	return mask & bit;
}

static void pick(const struct cut *c, enum definition kind, uint32_t bit, Crm__Dialect__Dialect *to)
{
	struct list from = list_of(c->whole, kind), l = list_of(to, kind);
	struct named **rows = arena_alloc(c->a, (*from.n + 1) * sizeof(*rows));
	size_t n = 0;

	for (size_t i = 0; i < *from.n; i++) {
		if (belongs(c, kind, i, bit))
			rows[n++] = (*from.rows)[i];
	}
	*l.rows = rows;
	*l.n = n;
}

static struct str packed(struct arena *a, const ProtobufCMessage *m)
{
	size_t n = protobuf_c_message_get_packed_size(m);
	char *p = arena_alloc(a, n + 1);

	protobuf_c_message_pack(m, (uint8_t *)p);
	return (struct str){ p, n };
}

/* bit 0: the base, which has all that is not cut. */
static struct str part_pack(const struct cut *c, uint32_t bit)
{
	Crm__Dialect__Dialect d = CRM__DIALECT__DIALECT__INIT;
	Crm__Dialect__Paging paging = CRM__DIALECT__PAGING__INIT;

	if (!bit) {
		d = *c->whole;
		if (c->whole->paging)
			paging = *c->whole->paging;
	}
	d.name = c->whole->name;
	d.paging = &paging;
	for (enum definition k = 0; k < DEFINITIONS; k++)
		pick(c, k, bit, &d);
	if (bit ? paging.n_set == 0 : !c->whole->paging)
		d.paging = NULL;
	d.route = arena_alloc(c->a, (c->whole->n_route + 1) * sizeof(*d.route));
	d.n_route = 0;
	for (size_t i = 0; i < c->whole->n_route; i++) {
		if (c->routes[i] == bit)
			d.route[d.n_route++] = c->whole->route[i];
	}
	return packed(c->a, &d.base);
}

size_t fragment_split(Crm__Dialect__Dialect *whole, const struct schema *s, struct arena *a, struct dialect_part parts[FRAGMENT_SERVICES + 1], const char **why)
{
	struct cut c = { .whole = whole, .schema = s, .a = a };

	list_services(&c);
	for (enum definition k = 0; k < DEFINITIONS; k++)
		c.masks[k] = arena_zalloc(a, (*list_of(whole, k).n + 1) * sizeof(uint32_t));
	c.homes = arena_zalloc(a, (whole->n_resource + 1) * sizeof(uint32_t));
	c.routes = arena_zalloc(a, (whole->n_route + 1) * sizeof(uint32_t));
	if (!mark_all(&c, why))
		return 0;
	parts[0] = (struct dialect_part){ NULL, part_pack(&c, 0) };
	for (size_t i = 0; i < c.n; i++)
		parts[i + 1] = (struct dialect_part){ arena_strdup(a, str_of(c.services[i])), part_pack(&c, 1u << i) };
	return c.n + 1;
}

/* -- putting together */

struct joint {
	Crm__Dialect__Dialect *base, *part;
	const char *service;
	const struct schema *schema;
	struct arena *a;
	const char *why;
};

static bool no(struct joint *j, const char *what, const char *name)
{
	j->why = arena_printf(j->a, "%s: part of %s: %s `%s`", j->base->name ? j->base->name : "", j->service, what, name ? name : "");
	return false;
}

/* The parts of a dialect that a service may declare. */
static bool only_cut(struct joint *j)
{
	const Crm__Dialect__Dialect *d = j->part;
	const Crm__Dialect__Paging *p = d->paging;

	if (!d->name || !j->base->name || strcmp(d->name, j->base->name) != 0)
		return no(j, "is of another dialect,", d->name);
	if (d->title || d->version || d->description || d->n_host || d->has_ci_keys || d->has_strict || d->has_accept_form || d->has_accept_text || d->has_id_style ||
	    d->error || d->n_rate || d->cors || d->n_entity_word || d->base.n_unknown_fields || (p && (p->has_limit || p->has_max_limit)))
		return no(j, "declares what only the gateway may, in", d->name);
	if (d->n_route > ROUTES_MAX || d->n_resource > DEFINITIONS_MAX || d->n_shape > DEFINITIONS_MAX || d->n_enum_map > DEFINITIONS_MAX || (p && p->n_set > DEFINITIONS_MAX))
		return no(j, "has too many rows, in", d->name);
	return true;
}

static bool only_own(struct joint *j)
{
	for (size_t i = 0; i < j->part->n_route; i++) {
		const Crm__Dialect__Route *r = j->part->route[i];
		const struct schema_method *m = r->rpc ? schema_method_find(j->schema, str_of(r->rpc)) : NULL;

		if (!m || strcmp(m->service, j->service) != 0)
			return no(j, "an rpc that is not its own:", r->rpc);
	}
	for (size_t i = 0; i < j->part->n_resource; i++) {
		const Crm__Dialect__Resource *r = j->part->resource[i];
		const struct schema_message *m = r->message ? schema_message_find(j->schema, str_of(r->message)) : NULL;

		if (!m || (strcmp(m->file, j->service) != 0 && schema_has_service(j->schema, m->file)))
			return no(j, "a resource of a message that is not its own:", r->name);
	}
	return true;
}

static bool names_given(struct joint *j)
{
	for (enum definition k = 0; k < DEFINITIONS; k++) {
		struct list l = list_of(j->part, k);

		for (size_t i = 0; i < *l.n; i++) {
			if (!(*l.rows)[i]->name)
				return no(j, "a definition without a name, in", j->part->name);
		}
	}
	return true;
}

/* Of two with one name: the same but for their places? */
static bool same(struct joint *j, struct named *a, struct named *b, enum definition kind)
{
	Crm__Dialect__Resource *x = (Crm__Dialect__Resource *)a, *y = (Crm__Dialect__Resource *)b;
	uint32_t place = 0;
	bool equal;

	if (kind == RESOURCE) {
		place = y->place;
		y->place = x->place;
		y->has_place = x->has_place;
	}
	equal = str_eq(packed(j->a, &a->base), packed(j->a, &b->base));
	if (kind == RESOURCE)
		y->place = place;
	return equal;
}

static bool is_owned(const struct joint *j, const struct named *d, enum definition kind)
{
	const char *message = ((const Crm__Dialect__Resource *)d)->message;

	return kind == RESOURCE && strcmp(schema_message_find(j->schema, str_of(message))->file, j->service) == 0;
}

/* Moves the definitions of one kind. of_base: so many stood in the base itself, and they win. */
static bool take(struct joint *j, enum definition kind, size_t of_base)
{
	struct list from = list_of(j->part, kind), to = list_of(j->base, kind);
	size_t n = *from.n;

	*to.rows = xrealloc(*to.rows, (*to.n + n + 1) * sizeof(**to.rows));
	for (size_t i = 0; i < n; i++) {
		struct named *d = (*from.rows)[i];
		size_t at = find(to, d->name);

		if (at == *to.n) {
			(*to.rows)[(*to.n)++] = d;
			(*from.rows)[i] = NULL;
		} else if (is_owned(j, d, kind) || (at >= of_base && !same(j, (*to.rows)[at], d, kind))) {
			return no(j, "somebody else has another", d->name);
		}
	}
	return true;
}

/* What was moved is not the part's to free. */
static void close_gaps(struct list l)
{
	size_t kept = 0;

	for (size_t i = 0; i < *l.n; i++) {
		if ((*l.rows)[i])
			(*l.rows)[kept++] = (*l.rows)[i];
	}
	*l.n = kept;
}

static void take_routes(struct joint *j)
{
	Crm__Dialect__Dialect *to = j->base, *from = j->part;

	to->route = xrealloc(to->route, (to->n_route + from->n_route + 1) * sizeof(*to->route));
	if (from->n_route)
		memcpy(to->route + to->n_route, from->route, from->n_route * sizeof(*to->route));
	to->n_route += from->n_route;
	from->n_route = 0;
}

static bool join(struct joint *j, struct str bytes, const size_t of_base[DEFINITIONS])
{
	bool ok;

	j->part = bytes.n <= FRAGMENT_MAX_BYTES ? crm__dialect__dialect__unpack(NULL, bytes.n, (const uint8_t *)bytes.p) : NULL;
	if (!j->part)
		return no(j, "cannot be read, for", j->base->name);
	ok = only_cut(j) && names_given(j) && only_own(j);
	if (ok && j->part->paging && !j->base->paging) {
		j->base->paging = xmalloc(sizeof(*j->base->paging));
		crm__dialect__paging__init(j->base->paging);
	}
	for (enum definition k = 0; k < DEFINITIONS; k++) {
		ok = ok && (*list_of(j->part, k).n == 0 || take(j, k, of_base[k]));
		close_gaps(list_of(j->part, k));
	}
	if (ok)
		take_routes(j);
	crm__dialect__dialect__free_unpacked(j->part, NULL);
	return ok;
}

/* Places of parts of different ages may be the same: the names decide then. */
static int by_place(const void *a, const void *b)
{
	const Crm__Dialect__Resource *x = *(Crm__Dialect__Resource *const *)a, *y = *(Crm__Dialect__Resource *const *)b;

	return x->place != y->place ? (x->place > y->place) - (x->place < y->place) : strcmp(x->name, y->name);
}

static int by_route_place(const void *a, const void *b)
{
	const Crm__Dialect__Route *x = *(Crm__Dialect__Route *const *)a, *y = *(Crm__Dialect__Route *const *)b;

	return x->place != y->place ? (x->place > y->place) - (x->place < y->place) : strcmp(x->on ? x->on : "", y->on ? y->on : "");
}

bool fragment_merge(Crm__Dialect__Dialect *base, const struct dialect_part *parts, size_t n, const struct schema *s, struct arena *a, const char **why)
{
	struct joint j = { .base = base, .schema = s, .a = a };
	size_t of_base[DEFINITIONS];
	bool ok = true;

	for (enum definition k = 0; k < DEFINITIONS; k++)
		of_base[k] = *list_of(base, k).n;
	for (size_t i = 0; ok && i < n; i++) {
		j.service = parts[i].service;
		ok = join(&j, parts[i].bytes, of_base);
	}
	if (!ok)
		*why = j.why;
	if (ok && n && base->n_resource)
		qsort(base->resource, base->n_resource, sizeof(*base->resource), by_place);
	if (ok && n && base->n_route)
		qsort(base->route, base->n_route, sizeof(*base->route), by_route_place);
	return ok;
}
