/* Routes of a dialect: what they call, where each parameter goes, what the reply looks like. */
#include "base/codec.h"
#include "gateway/dialect/plan.h"
#include "json/json.h"

#define VARS_LIST                                                                                                          \
	(1u << VAR_ITEMS | 1u << VAR_TOTAL | 1u << VAR_PAGE | 1u << VAR_SIZE | 1u << VAR_PAGES | 1u << VAR_OFFSET | 1u << VAR_HAS_NEXT | \
	    1u << VAR_HAS_PREV | 1u << VAR_NEXT | 1u << VAR_PREVIOUS | 1u << VAR_CURSOR)
#define VARS_TOTAL (1u << VAR_TOTAL | 1u << VAR_PAGES | 1u << VAR_HAS_NEXT | 1u << VAR_NEXT)

/* -- "PUT /api/leads/{id}" */

static bool method_ok(struct str m)
{
	static const char *const methods[] = { "GET", "POST", "PUT", "PATCH", "DELETE" };

	for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++) {
		if (str_eq(m, str_of(methods[i])))
			return true;
	}
	return false;
}

static bool segment_check(struct compile *c, struct route_impl *r, struct str s, bool last)
{
	if (s.n == 0)
		return last || compile_fail(c, "has an empty segment");
	if (s.p[0] != '{') {
		if (memchr(s.p, '{', s.n) || memchr(s.p, '%', s.n) || memchr(s.p, ' ', s.n) || memchr(s.p, '?', s.n))
			return compile_fail(c, "'%.*s' is no path segment", STR_FMT(s));
		return true;
	}
	if (s.n < 3 || s.p[s.n - 1] != '}')
		return compile_fail(c, "'%.*s' is no parameter", STR_FMT(s));
	if (r->n_path_names == ROUTE_MAX_PARAMS)
		return compile_fail(c, "more than %d parameters", ROUTE_MAX_PARAMS);
	for (size_t i = 0; i < r->n_path_names; i++) {
		if (str_eq(r->path_names[i], (struct str){ s.p + 1, s.n - 2 }))
			return compile_fail(c, "%.*s is there twice", STR_FMT(s));
	}
	r->path_names[r->n_path_names++] = (struct str){ s.p + 1, s.n - 2 };
	return true;
}

static bool route_on(struct compile *c, struct route_impl *r)
{
	const char *on = r->src->on, *space = on ? strchr(on, ' ') : NULL, *at;
	size_t segments = 0;

	if (!space || space[1] != '/')
		return compile_fail(c, "on: must be like \"GET /api/leads\"");
	r->pub.method = (struct str){ on, (size_t)(space - on) };
	r->pub.template = space + 1;
	if (!method_ok(r->pub.method))
		return compile_fail(c, "unknown method");
	for (at = r->pub.template; *at == '/'; segments++) {
		size_t n = strcspn(at + 1, "/");

		if (segments == 32)
			return compile_fail(c, "too many segments");
		if (!segment_check(c, r, (struct str){ at + 1, n }, at[n + 1] == 0))
			return false;
		at += n + 1;
	}
	return true;
}

/* -- what the call takes and gives */

static enum input_kind input_of(const struct schema_message *m)
{
	static const struct {
		const char *name;
		enum input_kind kind;
	} kinds[] = { { "crm.v1.ListRequest", INPUT_LIST }, { "crm.v1.WriteRequest", INPUT_WRITE }, { "crm.v1.BulkRequest", INPUT_BULK }, { "crm.v1.KeyRequest", INPUT_KEY },
		{ "crm.v1.BulkWriteRequest", INPUT_SELECT } };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		if (strcmp(m->name, kinds[i].name) == 0)
			return kinds[i].kind;
	}
	return INPUT_PLAIN;
}

static enum output_kind output_of(const struct schema_message *m)
{
	if (strcmp(m->name, "crm.v1.ListReply") == 0 || strcmp(m->name, "crm.v1.FeedReply") == 0)
		return OUTPUT_LIST;
	if (strcmp(m->name, "crm.v1.Empty") == 0)
		return OUTPUT_EMPTY;
	return strcmp(m->name, "crm.v1.Text") == 0 ? OUTPUT_TEXT : OUTPUT_PLAIN;
}

static bool ends_with(const char *s, const char *tail)
{
	size_t n = s ? strlen(s) : 0, k = strlen(tail);

	return n >= k && strcmp(s + n - k, tail) == 0;
}

static bool route_rpc(struct compile *c, struct route_impl *r)
{
	const struct schema_method *m = r->src->rpc ? schema_method_find(c->schema, str_of(r->src->rpc)) : NULL;

	if (!m)
		return compile_fail(c, "there is no rpc '%s'", r->src->rpc ? r->src->rpc : "");
	if (m->permission == 2)
		return compile_fail(c, "%s is internal", m->name);
	r->pub.rpc = m;
	r->input = input_of(m->input);
	r->output = output_of(m->output);
	if ((r->input == INPUT_LIST || r->input == INPUT_WRITE || r->input == INPUT_BULK || r->input == INPUT_SELECT) && !m->entity)
		return compile_fail(c, "%s says no entity", m->name);
	r->creates_entity = r->input == INPUT_WRITE && (ends_with(m->event, ".created") || ends_with(m->name, ".Create"));
	r->replace = r->src->put == CRM__DIALECT__ROUTE__PUT__REPLACE;
	r->action = r->src->put == CRM__DIALECT__ROUTE__PUT__ACTION;
	return true;
}

static bool route_resource(struct compile *c, const char *what, const char *name, const struct schema_message *m, const struct resource_plan **out)
{
	if (!name)
		return true;
	*out = plan_resource_find(c->d, name);
	if (!*out)
		return compile_fail(c, "%s: there is no resource '%s'", what, name);
	if ((*out)->message != m)
		return compile_fail(c, "%s: resource '%s' is of %s, %s needs %s", what, name, (*out)->message->name, c->where, m->name);
	return true;
}

static bool route_select(struct compile *c, struct route_impl *r)
{
	const Crm__Dialect__Route__Select *s = r->src->select;
	const char *entity = r->pub.rpc->entity ? r->pub.rpc->entity->entity : NULL;

	if ((r->input == INPUT_SELECT) != (s != NULL))
		return compile_fail(c, s ? "select: %s takes no BulkWriteRequest" : "%s needs select", r->pub.rpc->name);
	if (!s)
		return true;
	if (!s->ids || !entity)
		return compile_fail(c, "select: needs ids, and an entity");
	r->select.ids = str_of(s->ids);
	r->select.filter = str_of(s->filter ? s->filter : "");
	r->select.patch = str_of(s->patch ? s->patch : "");
	r->select.mode = str_of(s->mode ? s->mode : "");
	return compile_encoder(c, arena_printf(c->a, "id:%s", entity), NULL, NULL, &r->select.id);
}

static bool route_body(struct compile *c, struct route_impl *r)
{
	const struct schema_method *m = r->pub.rpc;
	bool entity = r->input == INPUT_WRITE || r->input == INPUT_BULK || r->input == INPUT_SELECT;

	if (!route_resource(c, "body", r->src->body, entity ? m->entity : m->input, &r->body))
		return false;
	if (r->body && (r->input == INPUT_LIST || r->input == INPUT_KEY))
		return compile_fail(c, "%s takes no body", m->name);
	if ((r->input == INPUT_BULK) != (r->src->bulk != NULL))
		return compile_fail(c, r->src->bulk ? "bulk: %s takes no BulkRequest" : "%s needs bulk", m->name);
	if (r->input == INPUT_BULK && !r->body)
		return compile_fail(c, "needs a body");
	r->bulk = str_of(r->src->bulk);
	r->pub.reads_body = r->body != NULL || r->input == INPUT_SELECT;
	return route_select(c, r);
}

static bool route_output(struct compile *c, struct route_impl *r)
{
	const struct schema_message *out = r->pub.rpc->output;

	if (!route_resource(c, "out", r->src->out, r->output == OUTPUT_LIST ? r->pub.rpc->entity : out, &r->out))
		return false;
	r->no_body = r->src->no_body;
	if (!r->out && !r->src->wrap && !r->no_body && !r->src->download && r->output != OUTPUT_EMPTY)
		return compile_fail(c, "needs out, wrap or no_body");
	if (r->output == OUTPUT_PLAIN && out->entity) {
		const struct schema_field *id = schema_field_find(out, STR("id")), *seq = schema_field_find(out, STR("seq")), *version = schema_field_find(out, STR("version"));

		r->entity = out->entity;
		r->id_number = id && id->type == TYPE_STRING ? id->number : 0;
		r->seq_number = seq && seq->type == TYPE_INT64 ? seq->number : 0;
		r->version_number = version && version->type == TYPE_UINT64 ? version->number : 0;
		r->id_prefix = id_prefix(c->a, c->d->src, out->entity);
	}
	r->pub.is_list = r->output == OUTPUT_LIST;
	r->pub.creates = r->creates_entity && r->id_number != 0;
	return true;
}

static const Crm__Dialect__Shape *shape_find(const Crm__Dialect__Dialect *src, const char *name)
{
	for (size_t i = 0; i < src->n_shape; i++) {
		if (src->shape[i]->name && strcmp(src->shape[i]->name, name) == 0)
			return src->shape[i];
	}
	return NULL;
}

static bool shape_members(struct compile *c, struct route_impl *r)
{
	for (size_t i = 0; i < r->shape.n; i++) {
		const struct segment *s = &r->shape.s[i];
		bool found = false;

		if (s->var != VAR_ITEM_MEMBER)
			continue;
		for (size_t k = 0; r->out && k < r->out->n; k++)
			found = found || str_eq(r->out->members[k].name, s->member);
		if (!found)
			return compile_fail(c, "wrap: the item has no member '%.*s'", STR_FMT(s->member));
	}
	return true;
}

static bool route_example(struct compile *c, const struct route_impl *r)
{
	struct json_error err;
	const struct json *v = r->src->example ? json_parse(c->a, str_of(r->src->example), &err) : NULL;

	if (r->src->example && !v)
		return compile_fail(c, "example: %s", err.text);
	if (v && (!r->pub.reads_body || v->type != JSON_OBJECT))
		return compile_fail(c, "example: only for a body, and an object");
	return true;
}

static bool route_shape(struct compile *c, struct route_impl *r)
{
	uint64_t allowed = 1u << VAR_MESSAGE;
	const Crm__Dialect__Shape *shape;

	if (r->src->export)
		return true;
	if (!r->wrap)
		return r->output != OUTPUT_LIST || r->no_body || compile_fail(c, "a list needs wrap");
	shape = shape_find(c->d->src, r->wrap);
	if (!shape || !shape->template_)
		return compile_fail(c, "wrap: there is no shape '%s'", r->wrap);
	if (r->output == OUTPUT_LIST)
		allowed |= VARS_LIST;
	if (r->output == OUTPUT_TEXT)
		allowed |= 1u << VAR_TEXT;
	if (r->out && r->output != OUTPUT_LIST)
		allowed |= 1u << VAR_ITEM | 1u << VAR_ITEM_MEMBER;
	if (!compile_template(c, arena_printf(c->a, "shape `%s`", shape->name), shape->template_, allowed, &r->shape))
		return false;
	if ((r->shape.uses >> VAR_ITEMS & 1) && !r->out)
		return compile_fail(c, "$items needs out");
	r->has_shape = true;
	r->want_total = (r->shape.uses & VARS_TOTAL) != 0;
	return shape_members(c, r);
}

/* -- parameters */

static bool param_op(struct compile *c, const char *word, unsigned *op)
{
	static const char *const words[] = { "EQ", "NE", "GTE", "GT", "LTE", "LT" };

	for (unsigned i = 0; i < sizeof(words) / sizeof(*words); i++) {
		if (!word || strcmp(words[i], word) == 0) {
			*op = i;
			return true;
		}
	}
	return compile_fail(c, "there is no op '%s'", word);
}

static bool param_filter(struct compile *c, struct route_impl *r, const Crm__Dialect__Param *q, struct param_plan *p)
{
	p->target = TARGET_FILTER;
	if (r->input != INPUT_LIST && r->input != INPUT_SELECT)
		return compile_fail(c, "filter: %s is no list", r->pub.rpc->name);
	p->filter = schema_field_find(r->pub.rpc->entity, str_of(q->filter));
	if (!p->filter)
		return compile_fail(c, "no field '%s' in %s", q->filter, r->pub.rpc->entity->name);
	if (!param_op(c, q->op, &p->op) || !compile_encoder(c, q->as, p->filter, NULL, &p->enc))
		return false;
	switch (p->enc.kind) {
	case ENC_JSON:
	case ENC_RES:
	case ENC_CONST:
	case ENC_STATUS:
	case ENC_CHANGE:
	case ENC_MEMBER: return compile_fail(c, "'%s' is for bodies", q->as ? q->as : "the default");
	default: return true;
	}
}

static bool param_special(struct compile *c, struct route_impl *r, const Crm__Dialect__Param *q, struct param_plan *p)
{
	p->target = TARGET_SPECIAL;
	p->special = q->special;
	if (r->input != INPUT_LIST && r->input != INPUT_SELECT)
		return compile_fail(c, "special: %s is no list", r->pub.rpc->name);
	if (p->special == CRM__DIALECT__PARAM__SPECIAL__PAGE)
		r->page = p;
	if (p->special == CRM__DIALECT__PARAM__SPECIAL__OFFSET)
		r->offset = p;
	if (p->special == CRM__DIALECT__PARAM__SPECIAL__LIMIT)
		r->limit = p;
	if (p->special == CRM__DIALECT__PARAM__SPECIAL__CURSOR)
		r->cursor = p;
	if (p->special != CRM__DIALECT__PARAM__SPECIAL__SORT && p->special != CRM__DIALECT__PARAM__SPECIAL__ORDERING)
		return true;
	p->sort = q->resource ? plan_resource_find(c->d, q->resource) : r->out;
	if (!p->sort)
		return compile_fail(c, "resource: there is no resource '%s'", q->resource ? q->resource : "");
	return p->sort->message == r->pub.rpc->entity || compile_fail(c, "resource '%s' is not of %s", p->sort->name, r->pub.rpc->entity->name);
}

static bool param_place(struct compile *c, struct route_impl *r, const Crm__Dialect__Param *q, struct param_plan *p)
{
	p->path_index = -1;
	if ((q->q != NULL) == (q->path != NULL))
		return compile_fail(c, "a parameter needs q or path");
	p->name = str_of(q->q ? q->q : q->path);
	if (q->q)
		return true;
	for (size_t i = 0; i < r->n_path_names; i++) {
		if (str_eq(r->path_names[i], p->name))
			p->path_index = (int)i;
	}
	return p->path_index >= 0 || compile_fail(c, "the path has no {%s}", q->path);
}

static bool compile_param(struct compile *c, struct route_impl *r, const Crm__Dialect__Param *q, struct param_plan *p)
{
	const struct schema_field *leaf;
	const char *outer = c->where;
	bool ok;

	if (!param_place(c, r, q, p))
		return false;
	c->where = arena_printf(c->a, "%s: parameter %.*s", outer, STR_FMT(p->name));
	if ((q->p != NULL) + (q->filter != NULL) + (q->special != CRM__DIALECT__PARAM__SPECIAL__NO) != 1) {
		ok = compile_fail(c, "needs one of p, filter, special");
	} else if (q->filter) {
		ok = param_filter(c, r, q, p);
	} else if (q->special != CRM__DIALECT__PARAM__SPECIAL__NO) {
		ok = param_special(c, r, q, p);
	} else {
		p->target = TARGET_PATH;
		ok = compile_path(c, r->pub.rpc->input, r->pub.rpc->entity, q->p, &p->path);
		leaf = ok ? p->path.f[p->path.n - 1] : NULL;
		ok = ok && compile_encoder(c, q->as, leaf, NULL, &p->enc);
	}
	p->has_def = q->def != NULL;
	p->def = str_of(q->def ? q->def : "");
	p->has_min = q->has_min;
	p->min = q->min;
	p->has_max = q->has_max;
	p->max = q->max;
	p->end_of_day = q->end_of_day;
	p->doc = q->doc ? q->doc : "";
	for (struct param_plan *o = r->params; ok && o < p; o++) {
		if (str_eq(o->name, p->name) && (o->path_index < 0) == (p->path_index < 0))
			ok = compile_fail(c, "is there twice");
	}
	c->where = outer;
	return ok;
}

static const Crm__Dialect__ParamSet *param_set(const Crm__Dialect__Dialect *src, const char *name)
{
	for (size_t i = 0; src->paging && i < src->paging->n_set; i++) {
		if (src->paging->set[i]->name && strcmp(src->paging->set[i]->name, name) == 0)
			return src->paging->set[i];
	}
	return NULL;
}

/* A selection has no pages and no order: what a list's set has besides filters is left out. */
static bool add_param(struct compile *c, struct route_impl *r, const Crm__Dialect__Param *q)
{
	if (r->input == INPUT_SELECT && !q->filter && q->special != CRM__DIALECT__PARAM__SPECIAL__NO && q->special != CRM__DIALECT__PARAM__SPECIAL__SEARCH)
		return true;
	return compile_param(c, r, q, &r->params[r->n_params]) && ++r->n_params;
}

/* A {parameter} that no Param mentions is the key, when there is just one such. */
static bool key_by_default(struct compile *c, struct route_impl *r)
{
	const struct schema_message *entity = r->pub.rpc->entity;

	for (size_t i = 0; i < r->n_path_names; i++) {
		Crm__Dialect__Param q = CRM__DIALECT__PARAM__INIT;
		bool used = false;

		for (size_t k = 0; k < r->n_params; k++)
			used = used || r->params[k].path_index == (int)i;
		if (used)
			continue;
		if ((r->input != INPUT_KEY && r->input != INPUT_WRITE) || !entity || !entity->entity)
			return compile_fail(c, "{%.*s} is not used", STR_FMT(r->path_names[i]));
		q.path = arena_strdup(c->a, r->path_names[i]);
		q.p = (char *)"key";
		q.as = arena_printf(c->a, "id:%s", entity->entity);
		if (!add_param(c, r, &q))
			return false;
	}
	return true;
}

static bool route_params(struct compile *c, struct route_impl *r)
{
	const Crm__Dialect__ParamSet *set = NULL;
	bool named_cursor = false;

	if (r->src->use) {
		set = param_set(c->d->src, r->src->use);
		if (!set)
			return compile_fail(c, "use: there is no parameter set '%s'", r->src->use);
	}
	r->params = arena_zalloc(c->a, ((set ? set->n_q : 0) + r->src->n_q + ROUTE_MAX_PARAMS + 2) * sizeof(*r->params));
	for (size_t i = 0; set && i < set->n_q; i++) {
		if (!add_param(c, r, set->q[i]))
			return false;
	}
	for (size_t i = 0; i < r->src->n_q; i++) {
		if (!add_param(c, r, r->src->q[i]))
			return false;
	}
	if (!key_by_default(c, r))
		return false;
	for (size_t i = 0; i < r->n_params; i++)
		named_cursor = named_cursor || str_eq(r->params[i].name, STR("cursor"));
	if (r->input == INPUT_LIST && !r->cursor && !named_cursor) {
		Crm__Dialect__Param q = CRM__DIALECT__PARAM__INIT;

		q.q = (char *)"cursor";
		q.special = CRM__DIALECT__PARAM__SPECIAL__CURSOR;
		q.doc = (char *)"Continue where the Link header's rel=next points";
		return add_param(c, r, &q);
	}
	return true;
}

static bool route_sets(struct compile *c, struct route_impl *r)
{
	r->sets = arena_zalloc(c->a, (r->src->n_set + 1) * sizeof(*r->sets));
	for (size_t i = 0; i < r->src->n_set; i++) {
		const Crm__Dialect__Set *s = r->src->set[i];
		struct set_plan *p = &r->sets[i];

		if (!s->p || !s->v)
			return compile_fail(c, "set needs p and v");
		if (!compile_path(c, r->pub.rpc->input, r->pub.rpc->entity, s->p, &p->path))
			return false;
		if (!compile_encoder(c, NULL, p->path.f[p->path.n - 1], NULL, &p->enc))
			return false;
		p->value = str_of(s->v);
	}
	r->n_sets = r->src->n_set;
	return true;
}

/* The file's name goes into a header as it is. */
static bool route_export(struct compile *c, struct route_impl *r)
{
	const Crm__Dialect__Route__Export *e = r->src->export;
	const struct schema_method *note;

	if (!e)
		return true;
	if (r->output != OUTPUT_LIST || !r->out || r->src->wrap)
		return compile_fail(c, "export: needs a list with out and without wrap");
	if (!e->name || !*e->name || e->name[strspn(e->name, "abcdefghijklmnopqrstuvwxyz0123456789-")])
		return compile_fail(c, "export: name must be of a-z, 0-9 and -");
	r->pub.export_name = e->name;
	if (!e->note)
		return true;
	note = schema_method_find(c->schema, str_of(e->note));
	if (!note || strcmp(note->input->name, "crm.v1.Empty") != 0)
		return compile_fail(c, "export: note: there is no rpc '%s' that takes Empty", e->note);
	r->pub.export_note = note;
	return true;
}

static bool takes(const struct schema_method *m, const char *input, const char *output)
{
	return strcmp(m->input->name, input) == 0 && (!output || strcmp(m->output->name, output) == 0);
}

static bool route_blob(struct compile *c, struct route_impl *r)
{
	const Crm__Dialect__Route__Upload *u = r->src->upload;
	const char *takes_what = r->src->import ? "crm.v1.ImportRequest" : "crm.v1.UploadRequest";

	r->pub.download = r->src->download;
	if (r->pub.download && (strcmp(r->pub.rpc->output->name, "crm.v1.Blob") != 0 || !str_eq(r->pub.method, STR("GET"))))
		return compile_fail(c, "download: needs a GET whose rpc returns a Blob");
	if (!u)
		return !r->src->import || compile_fail(c, "import: needs upload");
	if (!u->part || !*u->part || !takes(r->pub.rpc, takes_what, NULL) || str_eq(r->pub.method, STR("GET")))
		return compile_fail(c, "upload: needs part, and a method and rpc that take an %s", takes_what + 7);
	r->pub.upload_prepare = u->prepare ? schema_method_find(c->schema, str_of(u->prepare)) : NULL;
	if (!r->pub.upload_prepare || !takes(r->pub.upload_prepare, takes_what, "crm.v1.UploadTicket"))
		return compile_fail(c, "upload: prepare: there is no rpc '%s' from %s to UploadTicket", u->prepare ? u->prepare : "", takes_what + 7);
	r->pub.upload_part = u->part;
	r->pub.import = r->src->import != NULL;
	if (r->pub.import && !r->pub.rpc->entity)
		return compile_fail(c, "import: %s says no entity", r->pub.rpc->name);
	return route_resource(c, "import", r->src->import, r->pub.rpc->entity, &r->import);
}

static bool route_rate(struct compile *c, struct route_impl *r)
{
	const struct dialect *d = &c->d->pub;

	for (size_t i = 0; r->src->rate && i < d->n_rates; i++) {
		if (strcmp(d->rates[i].name, r->src->rate) == 0 || strcmp(d->rates[i].match, r->src->rate) == 0) {
			r->pub.rate = d->rates[i].name;
			return true;
		}
	}
	return !r->src->rate || compile_fail(c, "rate: there is no policy '%s'", r->src->rate);
}

static bool route_other(struct compile *c, struct route_impl *r, const Crm__Dialect__Route__Other *src, struct other_plan *p)
{
	p->when = src->when ? schema_field_find(r->pub.rpc->output, str_of(src->when)) : NULL;
	if (!p->when)
		return compile_fail(c, "other: %s has no field '%s'", r->pub.rpc->output->name, src->when ? src->when : "");
	p->has_is = src->has_is;
	p->is = src->is;
	if (p->has_is && p->when->type != TYPE_UINT64 && p->when->type != TYPE_UINT32 && p->when->type != TYPE_INT64)
		return compile_fail(c, "other: %s is no number", src->when);
	if (r->output != OUTPUT_PLAIN || r->no_body)
		return compile_fail(c, "other: only where one message is printed");
	if (!src->out && !src->wrap)
		return compile_fail(c, "other: needs out or wrap");
	if (src->status < 200 || src->status > 499 || src->status == 204)
		return compile_fail(c, "other: status must be 200 to 499 and have a body");
	p->as = ARENA_NEW(c->a, struct route_impl);
	*p->as = *r;
	p->as->out = NULL;
	p->as->pub.status = src->status;
	p->as->wrap = src->wrap;
	p->as->has_shape = false;
	p->as->message = str_of(src->message ? src->message : "");
	return route_resource(c, "other: out", src->out, r->pub.rpc->output, &p->as->out) && route_shape(c, p->as);
}

static bool route_others(struct compile *c, struct route_impl *r)
{
	r->others = arena_zalloc(c->a, (r->src->n_other + 1) * sizeof(*r->others));
	for (size_t i = 0; i < r->src->n_other; i++) {
		if (!route_other(c, r, r->src->other[i], &r->others[i]))
			return false;
	}
	r->n_others = r->src->n_other;
	return true;
}

bool compile_route(struct compile *c, const Crm__Dialect__Route *src, struct route_impl *r)
{
	*r = (struct route_impl){ .src = src, .dialect = c->d, .wrap = src->wrap, .message = str_of(src->message ? src->message : "") };
	r->pub.impl = r;
	r->pub.status = src->has_status ? src->status : 200;
	r->pub.timeout_ms = src->timeout_ms;
	c->where = arena_printf(c->a, "route `%s`", src->on ? src->on : "");
	if (r->pub.status < 200 || r->pub.status > 299)
		return compile_fail(c, "status must be 2xx");
	if (!route_on(c, r) || !route_rpc(c, r) || !route_body(c, r) || !route_output(c, r) || !route_example(c, r) || !route_shape(c, r))
		return false;
	r->pub.feed = src->feed;
	if (src->feed && strcmp(r->pub.rpc->name, "Feed.Read") != 0)
		return compile_fail(c, "feed: only of Feed.Read");
	if (!route_params(c, r) || !route_sets(c, r) || !route_rate(c, r) || !route_export(c, r) || !route_others(c, r) || !route_blob(c, r))
		return false;
	if ((r->pub.status == 204) != r->no_body)
		return compile_fail(c, "no_body and status 204 go together");
	return compile_tree_add(c, r);
}
