/* OpenAPI 3.1 of a dialect, from the same plans that serve it. */
#include "gateway/dialect/openapi.h"

#define EXAMPLE_TIME INT64_C(1705314600000000) /* 2024-01-15T10:30:00Z */

/* -- parameters */

static void sort_words(struct oa *o, const struct resource_plan *res)
{
	oa_key(o->b, "enum");
	buf_c(o->b, '[');
	for (size_t i = 0; i < res->n; i++) {
		if (!member_sortable(&res->members[i]))
			continue;
		oa_item(o->b);
		buf_json_str(o->b, res->members[i].name);
	}
	buf_c(o->b, ']');
}

/* What a parameter is for when its row does not say. */
static const char *special_doc(const struct param_plan *p)
{
	switch (p->special) {
	case CRM__DIALECT__PARAM__SPECIAL__PAGE: return "Page number, from 1";
	case CRM__DIALECT__PARAM__SPECIAL__LIMIT: return "Items per page";
	case CRM__DIALECT__PARAM__SPECIAL__OFFSET: return "How many items are passed over";
	case CRM__DIALECT__PARAM__SPECIAL__CURSOR: return "Instead of a page number: continue where the Link header's rel=next points";
	case CRM__DIALECT__PARAM__SPECIAL__SEARCH: return "Text to search for";
	case CRM__DIALECT__PARAM__SPECIAL__SORT: return "Field to sort by; `-` in front turns the order";
	case CRM__DIALECT__PARAM__SPECIAL__ORDER: return "Sort order";
	case CRM__DIALECT__PARAM__SPECIAL__ORDERING: return "Fields to order by, separated by commas; `-` in front of one turns its order";
	default: return "";
	}
}

static void special_schema(struct oa *o, const struct param_plan *p)
{
	switch (p->special) {
	case CRM__DIALECT__PARAM__SPECIAL__PAGE: buf_z(o->b, "\"type\":\"integer\",\"minimum\":1,\"default\":1"); break;
	case CRM__DIALECT__PARAM__SPECIAL__LIMIT:
		buf_printf(o->b, "\"type\":\"integer\",\"minimum\":1,\"maximum\":%u,\"default\":%u", o->d->max_limit, o->d->limit);
		break;
	case CRM__DIALECT__PARAM__SPECIAL__OFFSET: buf_printf(o->b, "\"type\":\"integer\",\"minimum\":0,\"maximum\":%d,\"default\":0", OFFSET_MAX); break;
	case CRM__DIALECT__PARAM__SPECIAL__FORMAT: buf_z(o->b, "\"type\":\"string\",\"enum\":[\"csv\",\"json\",\"xlsx\"],\"default\":\"csv\""); break;
	case CRM__DIALECT__PARAM__SPECIAL__ORDER: buf_z(o->b, "\"type\":\"string\",\"enum\":[\"asc\",\"desc\"]"); break;
	case CRM__DIALECT__PARAM__SPECIAL__SORT:
		buf_z(o->b, "\"type\":\"string\"");
		sort_words(o, p->sort);
		break;
	case CRM__DIALECT__PARAM__SPECIAL__ORDERING: buf_z(o->b, "\"type\":\"string\",\"examples\":[\"-created_at\"]"); break;
	default: buf_z(o->b, "\"type\":\"string\",\"maxLength\":1000"); break;
	}
}

static void param_schema(struct oa *o, const struct param_plan *p)
{
	const struct schema_field *leaf = p->target == TARGET_FILTER ? p->filter : p->path.f[p->path.n ? p->path.n - 1 : 0];

	buf_c(o->b, '{');
	if (p->target == TARGET_SPECIAL) {
		special_schema(o, p);
	} else {
		if (p->enc.csv)
			buf_z(o->b, "\"type\":\"array\",\"items\":{");
		oa_encoder(o, &p->enc, leaf, OA_IN, NULL);
		if (p->enc.csv)
			buf_c(o->b, '}');
	}
	if (p->has_def && p->target != TARGET_SPECIAL)
		oa_text(o->b, "default", p->def);
	buf_c(o->b, '}');
}

static void param_print(struct oa *o, const struct param_plan *p)
{
	const char *doc = *p->doc || p->target != TARGET_SPECIAL ? p->doc : special_doc(p);

	oa_item(o->b);
	buf_c(o->b, '{');
	oa_text(o->b, "name", p->name);
	oa_text(o->b, "in", p->path_index >= 0 ? STR("path") : STR("query"));
	if (p->path_index >= 0)
		buf_z(o->b, ",\"required\":true");
	if (*doc)
		oa_text(o->b, "description", str_of(doc));
	if (p->enc.csv && p->target != TARGET_SPECIAL)
		buf_z(o->b, ",\"style\":\"form\",\"explode\":false");
	oa_key(o->b, "schema");
	param_schema(o, p);
	buf_c(o->b, '}');
}

static void header_print(struct oa *o, const char *name, const char *doc)
{
	oa_item(o->b);
	buf_c(o->b, '{');
	oa_text(o->b, "name", str_of(name));
	buf_z(o->b, ",\"in\":\"header\"");
	oa_text(o->b, "description", str_of(doc));
	buf_z(o->b, ",\"schema\":{\"type\":\"string\"}}");
}

static bool is_write(const struct route_impl *r)
{
	return !str_eq(r->pub.method, STR("GET"));
}

static void params_print(struct oa *o, const struct route_impl *r)
{
	oa_key(o->b, "parameters");
	buf_c(o->b, '[');
	for (size_t i = 0; i < r->n_params; i++)
		if (r->input != INPUT_SELECT || r->params[i].target == TARGET_PATH)
			param_print(o, &r->params[i]);
	if (r->pub.rpc->permission != 0)
		header_print(o, "X-Tenant-ID", "One of the caller's tenants, in any form of its id; without it: the tenant of the token");
	if (is_write(r) && r->pub.rpc->permission != 0 && (!r->pub.upload_part || r->pub.import))
		header_print(o, "Idempotency-Key", "The same key with the same body is done once; its first answer is given again");
	if ((r->input == INPUT_WRITE && !r->creates_entity) || (r->input == INPUT_KEY && is_write(r)))
		header_print(o, "If-Match", "ETag of the version that is to be changed");
	buf_c(o->b, ']');
}

/* -- bodies */

/* Ids or a filter; what is changed is a member of its own, or beside them. */
static void select_schema(struct oa *o, const struct route_impl *r)
{
	buf_z(o->b, "\"type\":\"object\",\"properties\":{");
	oa_key_str(o->b, r->select.ids);
	buf_printf(o->b, "{\"type\":\"array\",\"minItems\":1,\"maxItems\":%d,\"items\":{\"type\":[\"string\",\"integer\"]}}", SELECT_MAX_IDS);
	if (r->select.filter.n) {
		oa_key_str(o->b, r->select.filter);
		buf_z(o->b, "{\"type\":\"object\",\"minProperties\":1,\"additionalProperties\":false,\"description\":\"As the parameters of the list; each also as a list of values\",\"properties\":{");
		for (size_t i = 0; i < r->n_params; i++) {
			if (r->params[i].target == TARGET_PATH)
				continue;
			oa_key_str(o->b, r->params[i].name);
			param_schema(o, &r->params[i]);
		}
		buf_z(o->b, "}}");
	}
	if (r->select.mode.n) {
		oa_key_str(o->b, r->select.mode);
		buf_z(o->b, "{\"type\":\"string\",\"enum\":[\"add\",\"remove\",\"replace\"],\"default\":\"replace\"}");
	}
	if (r->select.patch.n && r->body) {
		oa_key_str(o->b, r->select.patch);
		buf_c(o->b, '{');
		oa_resource_ref(o, r->body, OA_CHANGE);
		buf_c(o->b, '}');
	}
	buf_c(o->b, '}');
	if (!r->select.patch.n && r->body) {
		buf_z(o->b, ",\"allOf\":[{");
		oa_resource_ref(o, r->body, OA_IN);
		buf_z(o->b, "}]");
	}
}

static void body_schema(struct oa *o, const struct route_impl *r)
{
	bool change = r->input == INPUT_WRITE && !r->creates_entity && !r->replace && !r->action;

	buf_c(o->b, '{');
	if (r->input == INPUT_BULK) {
		buf_z(o->b, "\"type\":\"object\",\"properties\":{");
		oa_key_str(o->b, r->bulk);
		buf_printf(o->b, "{\"type\":\"array\",\"minItems\":1,\"maxItems\":%d,\"items\":{", LIST_MAX_ITEMS);
		oa_resource_ref(o, r->body, OA_IN);
		buf_z(o->b, "}}},\"required\":[");
		buf_json_str(o->b, r->bulk);
		buf_c(o->b, ']');
	} else if (r->input == INPUT_SELECT) {
		select_schema(o, r);
	} else {
		oa_resource_ref(o, r->body, change ? OA_CHANGE : OA_IN);
	}
	buf_c(o->b, '}');
}

static void body_print(struct oa *o, const struct route_impl *r)
{
	if (r->pub.upload_part) {
		oa_key(o->b, "requestBody");
		buf_z(o->b, "{\"required\":true,\"content\":{\"multipart/form-data\":{\"schema\":{\"type\":\"object\",\"properties\":{");
		oa_key_str(o->b, str_of(r->pub.upload_part));
		buf_z(o->b, "{\"type\":\"string\",\"format\":\"binary\"}},\"required\":[");
		buf_json_str(o->b, str_of(r->pub.upload_part));
		buf_z(o->b, "]}}}}");
	}
	if (!r->body && r->input != INPUT_SELECT)
		return;
	oa_key(o->b, "requestBody");
	buf_z(o->b, "{\"required\":true,\"content\":{\"application/json\":{\"schema\":");
	body_schema(o, r);
	if (r->src->example) {
		oa_key(o->b, "example");
		buf_z(o->b, r->src->example);
	}
	buf_c(o->b, '}');
	if (r->dialect->pub.accept_form && r->input != INPUT_BULK && r->input != INPUT_SELECT) {
		buf_z(o->b, ",\"application/x-www-form-urlencoded\":{\"schema\":");
		body_schema(o, r);
		buf_c(o->b, '}');
	}
	buf_z(o->b, "}}");
}

static const char *shape_template(const struct dialect_impl *d, const char *name)
{
	for (size_t i = 0; i < d->src->n_shape; i++) {
		if (strcmp(d->src->shape[i]->name, name) == 0)
			return d->src->shape[i]->template_;
	}
	return "{}";
}

static void success_print(struct oa *o, const struct route_impl *r)
{
	oa_key(o->b, arena_printf(&o->arena, "%d", r->pub.status));
	buf_z(o->b, "{\"description\":");
	buf_json_str(o->b, r->message.n ? r->message : (r->no_body ? STR("Done, no body") : STR("Done")));
	buf_z(o->b, ",\"headers\":{\"X-RateLimit-Limit\":{\"$ref\":\"#/components/headers/RateLimit\"},"
		    "\"X-RateLimit-Remaining\":{\"$ref\":\"#/components/headers/RateLimitRemaining\"},"
		    "\"X-RateLimit-Reset\":{\"$ref\":\"#/components/headers/RateLimitReset\"}}");
	if (r->pub.download) {
		buf_z(o->b, ",\"content\":{\"application/octet-stream\":{\"schema\":{\"type\":\"string\",\"format\":\"binary\"}}}");
	} else if (!r->no_body) {
		buf_z(o->b, r->pub.export_name ? ",\"content\":{\"text/csv\":{\"schema\":{\"type\":\"string\"}},"
		    "\"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet\":{\"schema\":{\"type\":\"string\",\"format\":\"binary\"}},\"application/json\":{\"schema\":" : ",\"content\":{\"application/json\":{\"schema\":");
		if (r->pub.export_name) {
			buf_z(o->b, "{\"type\":\"array\",\"items\":{");
			oa_resource_ref(o, r->out, OA_OUT);
			buf_z(o->b, "}}");
		} else if (r->has_shape) {
			oa_template(o, shape_template(r->dialect, r->wrap), r);
		} else if (r->out) {
			buf_c(o->b, '{');
			oa_resource_ref(o, r->out, OA_OUT);
			buf_c(o->b, '}');
		} else {
			buf_z(o->b, "{\"type\":\"object\"}");
		}
		buf_z(o->b, r->pub.feed ? "},\"text/event-stream\":{\"schema\":{\"type\":\"string\"}}}" : "}}");
	}
	buf_c(o->b, '}');
}

static void failure_print(struct oa *o, enum status s, bool *seen)
{
	int http = o->d->codes[s].http;

	if (seen[http])
		return;
	seen[http] = true;
	oa_key(o->b, arena_printf(&o->arena, "%d", http));
	buf_printf(o->b, "{\"$ref\":\"#/components/responses/%s\"}", status_name(s));
}

static void responses_print(struct oa *o, const struct route_impl *r)
{
	bool seen[600] = { false };

	oa_key(o->b, "responses");
	buf_c(o->b, '{');
	success_print(o, r);
	seen[r->pub.status] = true;
	for (size_t i = 0; i < r->n_others; i++) {
		if (!seen[r->others[i].as->pub.status])
			success_print(o, r->others[i].as);
		seen[r->others[i].as->pub.status] = true;
	}
	if (r->pub.reads_body || r->n_params > r->n_path_names)
		failure_print(o, STATUS_VALIDATION_ERROR, seen);
	failure_print(o, STATUS_BAD_REQUEST, seen);
	if (r->pub.rpc->permission != 0)
		failure_print(o, STATUS_UNAUTHENTICATED, seen);
	if (r->pub.rpc->permission > 2)
		failure_print(o, STATUS_PERMISSION_DENIED, seen);
	if (r->n_path_names)
		failure_print(o, STATUS_NOT_FOUND, seen);
	if (is_write(r))
		failure_print(o, STATUS_CONFLICT, seen);
	if (r->pub.feed)
		failure_print(o, STATUS_GONE, seen);
	failure_print(o, STATUS_RATE_LIMIT_EXCEEDED, seen);
	failure_print(o, STATUS_INTERNAL, seen);
	failure_print(o, STATUS_UNAVAILABLE, seen);
	buf_c(o->b, '}');
}

/* -- operations */

/* "Leads_Update", and "Leads_Update_2" when a second route calls the same. */
static const char *operation_id(struct oa *o, const struct route_impl *r)
{
	char *id = arena_printf(&o->arena, "%s", r->pub.rpc->name);
	size_t before = 1;

	for (char *p = id; *p; p++)
		*p = *p == '.' ? '_' : *p;
	for (const struct route_impl *x = o->d->routes; x < r; x++)
		before += x->pub.rpc == r->pub.rpc;
	return before > 1 ? arena_printf(&o->arena, "%s_%zu", id, before) : id;
}

static void description_print(struct oa *o, const struct route_impl *r)
{
	const char *permission = schema_permission_name(o->d->schema, r->pub.rpc->permission);
	const char *text = r->pub.rpc->doc;

	if (permission)
		text = arena_printf(&o->arena, "%s%sPermission: `%s`.", text, *text ? "\n\n" : "", permission);
	if (r->replace)
		text = arena_printf(&o->arena, "%s%sMembers that the body lacks are cleared.", text, *text ? "\n\n" : "");
	if (*text)
		oa_text(o->b, "description", str_of(text));
}

static void operation_print(struct oa *o, const struct route_impl *r)
{
	char *method = arena_strdup(&o->arena, r->pub.method);

	for (char *p = method; *p; p++)
		*p = (char)(*p | 0x20);
	oa_key(o->b, method);
	buf_c(o->b, '{');
	oa_text(o->b, "operationId", str_of(operation_id(o, r)));
	oa_text(o->b, "summary", str_of(r->src->summary ? r->src->summary : r->pub.rpc->name));
	description_print(o, r);
	if (r->src->tag) {
		oa_key(o->b, "tags");
		buf_c(o->b, '[');
		buf_json_str(o->b, str_of(r->src->tag));
		buf_c(o->b, ']');
	}
	if (r->pub.rpc->permission == 0)
		buf_z(o->b, ",\"security\":[]");
	params_print(o, r);
	body_print(o, r);
	responses_print(o, r);
	buf_c(o->b, '}');
}

static bool template_seen(const struct dialect_impl *d, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (strcmp(d->routes[k].pub.template, d->routes[i].pub.template) == 0)
			return true;
	}
	return false;
}

static void paths_print(struct oa *o)
{
	const struct dialect_impl *d = o->d;

	oa_key(o->b, "paths");
	buf_c(o->b, '{');
	for (size_t i = 0; i < d->n_routes; i++) {
		if (template_seen(d, i))
			continue;
		oa_key(o->b, d->routes[i].pub.template);
		buf_c(o->b, '{');
		for (size_t k = i; k < d->n_routes; k++) {
			if (strcmp(d->routes[k].pub.template, d->routes[i].pub.template) == 0)
				operation_print(o, &d->routes[k]);
		}
		buf_c(o->b, '}');
	}
	buf_c(o->b, '}');
}

/* -- the rest of the document */

static void tags_print(struct oa *o)
{
	const struct dialect_impl *d = o->d;

	oa_key(o->b, "tags");
	buf_c(o->b, '[');
	for (size_t i = 0; i < d->n_routes; i++) {
		const char *tag = d->routes[i].src->tag;
		bool seen = !tag;

		for (size_t k = 0; k < i && !seen; k++)
			seen = d->routes[k].src->tag && strcmp(d->routes[k].src->tag, tag) == 0;
		if (seen)
			continue;
		oa_item(o->b);
		buf_c(o->b, '{');
		oa_text(o->b, "name", str_of(tag));
		buf_c(o->b, '}');
	}
	buf_c(o->b, ']');
}

static void error_response(struct oa *o, enum status s)
{
	struct encode_input in = { .path = STR("/path"), .trace = STR("4bf92f3577b34da6a3ce929d0e0e4736"), .request = STR("018f0000"), .now_us = EXAMPLE_TIME,
		.arena = &o->arena };
	struct field_violation v = { STR("email"), STR("email"), STR("must be a valid e-mail address"), STR("") };

	oa_key(o->b, status_name(s));
	buf_c(o->b, '{');
	oa_text(o->b, "description", str_of(status_text(s)));
	buf_z(o->b, ",\"content\":{\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/Error\"},\"example\":");
	dialect_error(&o->d->pub, NULL, &in, s, STR(""), STR(""), &v, s == STATUS_VALIDATION_ERROR ? 1 : 0, o->b);
	buf_z(o->b, "}}}");
}

static void components_print(struct oa *o)
{
	static const enum status failures[] = { STATUS_VALIDATION_ERROR, STATUS_BAD_REQUEST, STATUS_UNAUTHENTICATED, STATUS_PERMISSION_DENIED,
		STATUS_NOT_FOUND, STATUS_CONFLICT, STATUS_GONE, STATUS_RATE_LIMIT_EXCEEDED, STATUS_INTERNAL, STATUS_UNAVAILABLE };

	oa_key(o->b, "components");
	buf_z(o->b, "{\"securitySchemes\":{\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\",\"bearerFormat\":\"JWT\"}},\"schemas\":{");
	oa_key(o->b, "Error");
	oa_error_schema(o);
	oa_resources(o);
	buf_z(o->b, "},\"headers\":{\"RateLimit\":{\"description\":\"Requests per window\",\"schema\":{\"type\":\"integer\"}},"
		    "\"RateLimitRemaining\":{\"description\":\"Requests left in this window\",\"schema\":{\"type\":\"integer\"}},"
		    "\"RateLimitReset\":{\"description\":\"When the window ends, in seconds since 1970\",\"schema\":{\"type\":\"integer\"}}}");
	buf_z(o->b, ",\"responses\":{");
	for (size_t i = 0; i < sizeof(failures) / sizeof(*failures); i++)
		error_response(o, failures[i]);
	buf_z(o->b, "}}");
}

void dialect_openapi(const struct dialects *ds, const struct dialect *d, struct str server_url, struct buf *out)
{
	struct oa o = { .ds = ds, .d = d->impl, .b = out };
	size_t n = d->impl->n_resources + 1;

	for (int side = OA_OUT; side < OA_SIDES; side++)
		o.used[side] = arena_zalloc(&o.arena, n * sizeof(bool));
	buf_z(out, "{\"openapi\":\"3.1.0\",\"info\":{");
	oa_text(out, "title", str_of(d->title));
	oa_text(out, "version", str_of(d->version));
	if (d->impl->src->description)
		oa_text(out, "description", str_of(d->impl->src->description));
	buf_z(out, "},\"servers\":[{\"url\":");
	buf_json_str(out, server_url);
	buf_z(out, "}],\"security\":[{\"bearer\":[]}]");
	tags_print(&o);
	paths_print(&o);
	components_print(&o);
	buf_c(out, '}');
	arena_fini(&o.arena);
}
