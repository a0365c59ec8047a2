/* The snapshot: reads contracts and declarations, compiles them, counts its users. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/files.h"
#include "gateway/dialect/plan.h"

#define DIALECTS_MAX 64

struct dialects {
	atomic_uint users;
	struct arena arena;
	struct schema *schema;
	const struct dialect *all[DIALECTS_MAX];
	Crm__Dialect__Dialect *sources[DIALECTS_MAX];
	size_t n;
};

/* -- a dialect's own settings */

static bool compile_rates(struct compile *c)
{
	const Crm__Dialect__Dialect *src = c->d->src;
	struct rate_policy *rows = arena_zalloc(c->a, (src->n_rate + 1) * sizeof(*rows));

	for (size_t i = 0; i < src->n_rate; i++) {
		const Crm__Dialect__RatePolicy *p = src->rate[i];

		c->where = "rate";
		if (!p->name || !p->match || !p->quota || !p->window_s)
			return compile_fail(c, "needs name, match, quota and window_s");
		rows[i] = (struct rate_policy){ p->name, p->match, (enum rate_key)p->key, p->quota, p->window_s, p->queue };
	}
	c->d->pub.rates = rows;
	c->d->pub.n_rates = src->n_rate;
	return true;
}

static bool status_find(const char *word, enum status *out)
{
	for (int s = 1; s < STATUS_COUNT; s++) {
		if (strcmp(status_name((enum status)s), word) == 0) {
			*out = (enum status)s;
			return true;
		}
	}
	return false;
}

static bool compile_codes(struct compile *c, const Crm__Dialect__ErrorShape *e)
{
	for (int s = 0; s < STATUS_COUNT; s++)
		c->d->codes[s] = (struct code_plan){ .http = status_http((enum status)s), .code = str_of(status_name((enum status)s)) };
	for (size_t i = 0; i < e->n_code; i++) {
		const Crm__Dialect__ErrorShape__Code *row = e->code[i];
		enum status s;

		if (!row->status || !status_find(row->status, &s))
			return compile_fail(c, "code: there is no status '%s'", row->status ? row->status : "");
		if (row->has_http && (row->http < 400 || row->http > 599))
			return compile_fail(c, "code: %s: http must be 4xx or 5xx", row->status);
		if (row->has_http)
			c->d->codes[s].http = row->http;
		if (row->code)
			c->d->codes[s].code = str_of(row->code);
		if (row->message)
			c->d->codes[s].message = str_of(row->message);
	}
	return true;
}

static bool compile_error(struct compile *c)
{
	const Crm__Dialect__ErrorShape *e = c->d->src->error;
	uint64_t common = 1u << VAR_CODE | 1u << VAR_MESSAGE | 1u << VAR_HTTP;

	c->where = "error";
	if (!e || !e->template_)
		return compile_fail(c, "a template is needed");
	if (!compile_codes(c, e) || !compile_template(c, "template", e->template_, common | 1u << VAR_VIOLATIONS, &c->d->error))
		return false;
	c->d->layout = e->layout;
	c->d->has_violation = e->violation != NULL;
	if (e->violation && !compile_template(c, "violation", e->violation, 1u << VAR_FIELD | 1u << VAR_TEXT | 1u << VAR_RULE | 1u << VAR_CODE, &c->d->violation))
		return false;
	if ((c->d->error.uses >> VAR_VIOLATIONS & 1) && !e->violation)
		return compile_fail(c, "$violations needs violation");
	if (!compile_template(c, "empty", e->empty ? e->empty : (e->layout == CRM__DIALECT__ERROR_SHAPE__LAYOUT__FIRST ? "null" : "[]"), common, &c->d->empty))
		return false;
	c->d->texts = arena_zalloc(c->a, (e->n_text + 1) * sizeof(*c->d->texts));
	for (size_t i = 0; i < e->n_text; i++) {
		if (!e->text[i]->rule || !e->text[i]->text)
			return compile_fail(c, "text needs rule and text");
		c->d->texts[c->d->n_texts++] = (struct rule_text){ str_of(e->text[i]->rule), str_of(e->text[i]->text),
			e->text[i]->message ? str_of(e->text[i]->message) : STR("") };
	}
	return true;
}

static bool compile_routes(struct compile *c)
{
	const Crm__Dialect__Dialect *src = c->d->src;

	c->d->routes = arena_zalloc(c->a, (src->n_route + 1) * sizeof(*c->d->routes));
	for (size_t i = 0; i < src->n_route; i++) {
		if (!compile_route(c, src->route[i], &c->d->routes[i]))
			return false;
		c->d->n_routes++;
	}
	return true;
}

static const char *text_or(const char *s, const char *fallback)
{
	return s ? s : fallback;
}

bool compile_dialect(struct compile *c, const Crm__Dialect__Dialect *src)
{
	struct dialect_impl *d = c->d;

	if (!src->name)
		return compile_fail(c, "name is missing");
	d->pub.title = text_or(src->title, src->name);
	d->pub.version = text_or(src->version, "1");
	d->pub.hosts = (const char *const *)src->host;
	d->pub.n_hosts = src->n_host;
	d->pub.strict = src->strict;
	d->pub.accept_form = src->accept_form;
	d->pub.accept_text = src->accept_text;
	d->ci_keys = src->ci_keys;
	d->id_style = src->id_style;
	if (src->cors) {
		d->pub.origins = (const char *const *)src->cors->origin;
		d->pub.n_origins = src->cors->n_origin;
		d->pub.cors_max_age_s = src->cors->max_age_s;
	}
	d->limit = src->paging && src->paging->limit ? src->paging->limit : 20;
	d->max_limit = src->paging && src->paging->max_limit ? src->paging->max_limit : 100;
	if (d->max_limit > 100 || d->limit > d->max_limit)
		return compile_fail(c, "paging: limit is at most max_limit, which is at most 100");
	return compile_rates(c) && compile_error(c) && compile_resources(c) && compile_routes(c);
}

/* -- the snapshot */

/* Takes src. */
static bool add_dialect(struct dialects *ds, Crm__Dialect__Dialect *src, const char *label, const char **why)
{
	struct dialect_impl *d = ARENA_NEW(&ds->arena, struct dialect_impl);
	struct compile c = { .a = &ds->arena, .schema = ds->schema, .d = d };

	ds->sources[ds->n] = src;
	d->src = src;
	d->schema = ds->schema;
	d->pub.name = text_or(src->name, label);
	d->pub.impl = d;
	d->pub.index = (int)ds->n;
	ds->all[ds->n++] = &d->pub;
	if (compile_dialect(&c, src))
		return true;
	*why = c.why;
	return false;
}

static bool build_one(struct dialects *ds, const struct dialect_source *from, const char **why)
{
	Crm__Dialect__Dialect *src = crm__dialect__dialect__unpack(NULL, from->base.n, (const uint8_t *)from->base.p);

	if (!src) {
		*why = arena_printf(&ds->arena, "%s: is not a dialect", from->name);
		return false;
	}
	if (fragment_merge(src, from->parts, from->n_parts, ds->schema, &ds->arena, why))
		return add_dialect(ds, src, from->name, why);
	crm__dialect__dialect__free_unpacked(src, NULL);
	return false;
}

static bool names_differ(struct dialects *ds, const char **why)
{
	for (size_t i = 0; i < ds->n; i++) {
		for (size_t k = 0; k < i; k++) {
			const struct dialect *a = ds->all[i], *b = ds->all[k];

			if (strcmp(a->name, b->name) == 0) {
				*why = arena_printf(&ds->arena, "%s: two dialects have this name", a->name);
				return false;
			}
			for (size_t x = 0; x < a->n_hosts * b->n_hosts; x++) {
				if (strcasecmp(a->hosts[x / b->n_hosts], b->hosts[x % b->n_hosts]) != 0)
					continue;
				*why = arena_printf(&ds->arena, "%s: host %s is also %s's", a->name, a->hosts[x / b->n_hosts], b->name);
				return false;
			}
		}
	}
	return true;
}

static bool build_all(struct dialects *ds, const struct schema_set *sets, size_t n_sets, const struct dialect_source *rows, size_t n, const char **why)
{
	const char *reason = NULL;

	ds->schema = schema_try_sets(sets, n_sets, &reason);
	if (!ds->schema) {
		*why = arena_strdup(&ds->arena, str_of(reason));
		free((void *)reason);
		return false;
	}
	if (n > DIALECTS_MAX) {
		*why = arena_printf(&ds->arena, "more than %d dialects", DIALECTS_MAX);
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		if (!build_one(ds, &rows[i], why))
			return false;
	}
	return names_differ(ds, why);
}

struct dialects *dialects_build(const struct schema_set *sets, size_t n_sets, const struct dialect_source *rows, size_t n, const char **why)
{
	struct dialects *ds = xcalloc(1, sizeof(*ds));
	const char *reason = "no reason";

	atomic_store(&ds->users, 1);
	if (build_all(ds, sets, n_sets, rows, n, &reason))
		return ds;
	*why = xstrdup(reason);
	dialects_rele(ds);
	return NULL;
}

struct dialects *dialects_load(const char *descriptor_dir, const char *dialect_dir, const char **why)
{
	struct file_text files[FILES_MOST];
	struct schema_set sets[FILES_MOST];
	struct dialect_source rows[FILES_MOST];
	struct arena a = { 0 };
	struct dialects *ds = NULL;
	const char *reason = "";
	size_t n_sets = files_read(&a, descriptor_dir, files, &reason), n = 0;

	for (size_t i = 0; i < n_sets; i++)
		sets[i] = (struct schema_set){ .name = files[i].name, .bytes = files[i].bytes };
	if (n_sets)
		n = files_read(&a, dialect_dir, files, &reason);
	for (size_t i = 0; i < n; i++)
		rows[i] = (struct dialect_source){ .name = files[i].name, .base = files[i].bytes };
	if (n)
		ds = dialects_build(sets, n_sets, rows, n, why);
	else
		*why = xstrdup(reason);
	arena_fini(&a);
	return ds;
}

struct dialects *dialects_hold(struct dialects *ds)
{
	atomic_fetch_add(&ds->users, 1);
	return ds;
}

void dialects_rele(struct dialects *ds)
{
	if (!ds || atomic_fetch_sub(&ds->users, 1) != 1)
		return;
	for (size_t i = 0; i < DIALECTS_MAX; i++) {
		if (ds->sources[i])
			crm__dialect__dialect__free_unpacked(ds->sources[i], NULL);
	}
	schema_free(ds->schema);
	arena_fini(&ds->arena);
	free(ds);
}

const struct schema *dialects_schema(const struct dialects *ds)
{
	return ds->schema;
}

const struct dialect *dialects_find(const struct dialects *ds, struct str name)
{
	for (size_t i = 0; i < ds->n; i++) {
		if (str_eq(name, str_of(ds->all[i]->name)))
			return ds->all[i];
	}
	return NULL;
}

const struct dialect *dialects_by_host(const struct dialects *ds, struct str host)
{
	for (size_t i = 0; i < ds->n; i++) {
		for (size_t k = 0; k < ds->all[i]->n_hosts; k++) {
			if (str_ieq(host, str_of(ds->all[i]->hosts[k])))
				return ds->all[i];
		}
	}
	return NULL;
}

size_t dialects_all(const struct dialects *ds, const struct dialect *const **rows)
{
	*rows = ds->all;
	return ds->n;
}

/* -- sharing an origin */

/* The same path for a client: the same segments, whatever parameters are called. */
static bool same_template(const char *a, const char *b)
{
	while (*a && *b) {
		size_t na = strcspn(a + 1, "/"), nb = strcspn(b + 1, "/");
		bool pa = a[1] == '{', pb = b[1] == '{';

		if (pa != pb || (!pa && (na != nb || strncmp(a + 1, b + 1, na) != 0)))
			return false;
		a += na + 1;
		b += nb + 1;
	}
	return *a == *b;
}

static bool pair_may_share(const struct dialect *a, const struct dialect *b, const char **why)
{
	for (size_t i = 0; i < a->impl->n_routes; i++) {
		for (size_t k = 0; k < b->impl->n_routes; k++) {
			const struct route *x = &a->impl->routes[i].pub, *y = &b->impl->routes[k].pub;
			char text[400];

			if (!str_eq(x->method, y->method) || !same_template(x->template, y->template))
				continue;
			snprintf(text, sizeof(text), "%s and %s both have %.*s %s", a->name, b->name, STR_FMT(x->method), x->template);
			*why = xstrdup(text);
			return false;
		}
	}
	return true;
}

bool dialects_may_share(const struct dialect *const *group, size_t n, const char **why)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < i; k++) {
			if (group[i] != group[k] && !pair_may_share(group[k], group[i], why))
				return false;
		}
	}
	return true;
}
