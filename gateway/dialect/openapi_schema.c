/* JSON Schema (OpenAPI 3.1) of resources, values, shapes and errors. */
#include "gateway/dialect/openapi.h"
#include "json/json.h"

static void type_of(struct oa *o, const char *type)
{
	oa_text(o->b, "type", str_of(type));
}

/* -- values */

static void id_schema(struct oa *o, const struct encoder *e, enum oa_side side)
{
	if (side != OA_OUT && o->d->id_style == CRM__DIALECT__DIALECT__ID_STYLE__SEQ) {
		buf_z(o->b, "\"type\":[\"integer\",\"string\"]");
		return;
	}
	switch (o->d->id_style) {
	case CRM__DIALECT__DIALECT__ID_STYLE__SEQ: type_of(o, "integer"); break;
	case CRM__DIALECT__DIALECT__ID_STYLE__PID:
		type_of(o, "string");
		oa_key(o->b, "examples");
		buf_printf(o->b, "[\"%.*s123\"]", STR_FMT(e->prefix));
		break;
	default:
		type_of(o, "string");
		if (side == OA_OUT)
			oa_text(o->b, "format", STR("uuid"));
		break;
	}
}

static void ref_object(struct oa *o, const struct encoder *e)
{
	type_of(o, "object");
	oa_key(o->b, "properties");
	buf_c(o->b, '{');
	for (unsigned i = 0; i < e->n_members; i++) {
		struct str k = e->members[i].key; /* `,"name":` */

		oa_key_str(o->b, (struct str){ k.p + 2, k.n - 4 });
		buf_c(o->b, '{');
		if (e->members[i].part == PART_ID)
			id_schema(o, e, OA_OUT);
		else if (e->members[i].part == PART_SEQ)
			type_of(o, "integer");
		else
			buf_z(o->b, "\"type\":[\"string\",\"null\"]");
		buf_c(o->b, '}');
	}
	buf_c(o->b, '}');
}

static void string_rules(struct oa *o, const struct schema_field *f, enum oa_side side)
{
	static const char *const formats[] = { [FORMAT_EMAIL] = "email", [FORMAT_UUID] = "uuid", [FORMAT_URL] = "uri", [FORMAT_JSON_VALUE] = NULL };

	if (!f)
		return;
	if (f->format < sizeof(formats) / sizeof(*formats) && formats[f->format])
		oa_text(o->b, "format", str_of(formats[f->format]));
	if (f->n_in) {
		oa_key(o->b, "enum");
		buf_c(o->b, '[');
		for (size_t i = 0; i < f->n_in; i++) {
			oa_item(o->b);
			buf_json_str(o->b, str_of(f->in[i]));
		}
		buf_c(o->b, ']');
	}
	if (side == OA_OUT)
		return;
	if (f->min_len)
		buf_printf(o->b, ",\"minLength\":%u", f->min_len);
	buf_printf(o->b, ",\"maxLength\":%u", f->max_len ? f->max_len : 1000);
}

static void number_rules(struct oa *o, const struct schema_field *f)
{
	if (f && f->has_gte)
		buf_printf(o->b, ",\"minimum\":%lld", (long long)f->gte);
	if (f && f->has_lte)
		buf_printf(o->b, ",\"maximum\":%lld", (long long)f->lte);
}

static void map_schema(struct oa *o, const struct word_map *m)
{
	type_of(o, "string");
	oa_key(o->b, "examples");
	buf_c(o->b, '[');
	for (size_t i = 0; i < m->n; i++) {
		oa_item(o->b);
		buf_json_str(o->b, m->rows[i].face);
	}
	buf_c(o->b, ']');
}

static void tag_schema(struct oa *o, const struct encoder *e, enum oa_side side)
{
	if (side != OA_OUT || e->tags == TAGS_NAMES) {
		type_of(o, "string");
		return;
	}
	if (e->tags == TAGS_IDS)
		id_schema(o, e, side);
	else
		ref_object(o, e);
}

void oa_encoder(struct oa *o, const struct encoder *e, const struct schema_field *f, enum oa_side side, const struct schema_field *rules)
{
	switch (e->kind) {
	case ENC_STR:
		type_of(o, "string");
		string_rules(o, rules, side);
		break;
	case ENC_LOWER:
	case ENC_TITLE:
	case ENC_STATUS:
	case ENC_MEMBER: type_of(o, "string"); break;
	case ENC_MAP: map_schema(o, e->map); break;
	case ENC_INT:
		type_of(o, "integer");
		number_rules(o, rules);
		break;
	case ENC_NUM:
	case ENC_DEC:
		type_of(o, "number");
		number_rules(o, rules);
		break;
	case ENC_BOOL:
	case ENC_FLAG: type_of(o, "boolean"); break;
	case ENC_JSON:
		if (f && f->format == FORMAT_JSON_OBJECT)
			type_of(o, "object");
		break;
	case ENC_TS:
	case ENC_DATE:
		type_of(o, "string");
		oa_text(o->b, "format", e->kind == ENC_TS ? STR("date-time") : STR("date"));
		break;
	case ENC_REFOBJ:
		if (side == OA_OUT) {
			ref_object(o, e);
			break;
		}
		/* fall through */
	case ENC_ID:
	case ENC_REF: id_schema(o, e, side); break;
	case ENC_TAGS: tag_schema(o, e, side); break;
	case ENC_RES: oa_resource_ref(o, e->res, side); break;
	case ENC_CHANGE:
		buf_z(o->b, "\"type\":\"object\",\"properties\":{\"entity\":{\"type\":[\"object\",\"null\"],\"description\":\"The entity after the change, as the dialect shows it; null"
			    " after a delete\"},\"changed\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"description\":\"Its members that the change concerned\"}}");
		break;
	case ENC_CONST:
		oa_key(o->b, "const");
		buf_str(o->b, e->json);
		break;
	}
}

/* -- resources */

static const char *side_suffix(enum oa_side side)
{
	static const char *const suffixes[] = { [OA_OUT] = "", [OA_IN] = "Write", [OA_CHANGE] = "Change" };

	return suffixes[side];
}

static size_t resource_index(const struct oa *o, const struct resource_plan *res)
{
	return (size_t)(res - o->d->resources);
}

void oa_resource_ref(struct oa *o, const struct resource_plan *res, enum oa_side side)
{
	o->used[side][resource_index(o, res)] = true;
	oa_key(o->b, "$ref");
	buf_printf(o->b, "\"#/components/schemas/%s%s\"", res->name, side_suffix(side));
}

static bool visible(const struct member_plan *m, enum oa_side side)
{
	return side == OA_OUT ? !m->wo : !m->ro && m->n_paths > 0;
}

/* {"type":"string"} → {"type":["string","null"]} */
static void allow_null(struct oa *o, size_t from)
{
	static const char type[] = "{\"type\":\"";
	struct str made = { o->b->p + from, o->b->n - from };
	const char *close;
	struct str copy;

	if (made.n > sizeof(type) && memcmp(made.p, type, sizeof(type) - 1) == 0) {
		close = memchr(made.p + sizeof(type) - 1, '"', made.n - sizeof(type) + 1);
		copy = arena_str(&o->arena, (struct str){ close + 1, (size_t)(made.p + made.n - close - 1) });
		copy.p = copy.p ? copy.p : "";
		made = arena_str(&o->arena, (struct str){ made.p + sizeof(type) - 2, (size_t)(close - made.p) - sizeof(type) + 3 });
		o->b->n = from;
		buf_printf(o->b, "{\"type\":[%.*s,\"null\"]", STR_FMT(made));
		buf_str(o->b, copy);
		return;
	}
	if (made.n > 8 && memcmp(made.p, "{\"$ref\"", 7) == 0) {
		copy = arena_str(&o->arena, made);
		o->b->n = from;
		buf_printf(o->b, "{\"oneOf\":[%.*s,{\"type\":\"null\"}]}", STR_FMT(copy));
	}
}

static void member_schema(struct oa *o, const struct member_plan *m, enum oa_side side)
{
	const struct schema_field *f = m->n_paths ? m->paths[0].f[m->paths[0].n - 1] : NULL;
	const char *doc = *m->doc ? m->doc : (f && strncmp(f->doc, "column", 6) != 0 ? f->doc : "");
	bool null = side != OA_OUT ? !m->req : m->unset.n >= 4 && memcmp(m->unset.p + m->unset.n - 4, "null", 4) == 0 && m->n_paths > 0;
	size_t from = o->b->n;

	buf_c(o->b, '{');
	if (m->repeated) {
		type_of(o, "array");
		oa_key(o->b, "items");
		buf_c(o->b, '{');
		oa_encoder(o, &m->enc, f, side, f);
		buf_c(o->b, '}');
	} else {
		oa_encoder(o, &m->enc, f, side, f);
	}
	buf_c(o->b, '}');
	if (null)
		allow_null(o, from);
	if (!*doc)
		return;
	o->b->n--;
	oa_text(o->b, "description", str_of(doc));
	buf_c(o->b, '}');
}

static void required_members(struct oa *o, const struct resource_plan *res, enum oa_side side)
{
	bool any = false;

	for (size_t i = 0; i < res->n; i++) {
		const struct member_plan *m = &res->members[i];
		const struct schema_field *f = m->n_paths ? m->paths[0].f[m->paths[0].n - 1] : NULL;

		if (!visible(m, side) || (side == OA_OUT ? m->unset.n == 0 || m->detail : !m->req && !(f && f->required)))
			continue;
		if (!any) {
			oa_key(o->b, "required");
			buf_c(o->b, '[');
		}
		any = true;
		oa_item(o->b);
		buf_json_str(o->b, m->name);
	}
	if (any)
		buf_c(o->b, ']');
}

static void resource_schema(struct oa *o, const struct resource_plan *res, enum oa_side side)
{
	oa_key(o->b, arena_printf(&o->arena, "%s%s", res->name, side_suffix(side)));
	buf_c(o->b, '{');
	type_of(o, "object");
	if (*res->message->doc)
		oa_text(o->b, "description", str_of(res->message->doc));
	oa_key(o->b, "properties");
	buf_c(o->b, '{');
	for (size_t i = 0; i < res->n; i++) {
		if (!visible(&res->members[i], side))
			continue;
		oa_key_str(o->b, res->members[i].name);
		member_schema(o, &res->members[i], side);
	}
	buf_c(o->b, '}');
	if (side != OA_CHANGE) /* which names only what is to change */
		required_members(o, res, side);
	if (side != OA_OUT && o->d->pub.strict)
		buf_z(o->b, ",\"additionalProperties\":false");
	buf_c(o->b, '}');
}

/* Printing one may use others: until nothing is new. */
void oa_resources(struct oa *o)
{
	bool *done[OA_SIDES];
	bool more = true;

	for (int side = OA_OUT; side < OA_SIDES; side++)
		done[side] = arena_zalloc(&o->arena, o->d->n_resources + 1);
	while (more) {
		more = false;
		for (int side = OA_OUT; side < OA_SIDES; side++) {
			for (size_t i = 0; i < o->d->n_resources; i++) {
				if (!o->used[side][i] || done[side][i])
					continue;
				done[side][i] = more = true;
				resource_schema(o, &o->d->resources[i], (enum oa_side)side);
			}
		}
	}
}

/* -- templates */

static void json_walk(struct oa *o, const struct json *v, const struct route_impl *r);

static void item_member(struct oa *o, struct str name, const struct route_impl *r)
{
	for (size_t i = 0; r && r->out && i < r->out->n; i++) {
		if (!str_eq(r->out->members[i].name, name))
			continue;
		o->b->n--; /* the brace is already there */
		member_schema(o, &r->out->members[i], OA_OUT);
		o->b->n--;
	}
}

static void violations_schema(struct oa *o)
{
	struct json_error err;
	const Crm__Dialect__ErrorShape *e = o->d->src->error;
	const struct json *one = e->violation ? json_parse(&o->arena, str_of(e->violation), &err) : NULL;

	if (!one)
		return;
	switch (e->layout) {
	case CRM__DIALECT__ERROR_SHAPE__LAYOUT__FIRST:
		buf_z(o->b, "\"oneOf\":[");
		json_walk(o, one, NULL);
		buf_z(o->b, ",{\"type\":\"null\"}]");
		break;
	case CRM__DIALECT__ERROR_SHAPE__LAYOUT__BY_FIELD:
		buf_z(o->b, "\"type\":\"object\",\"additionalProperties\":{\"type\":\"array\",\"items\":");
		json_walk(o, one, NULL);
		buf_c(o->b, '}');
		break;
	default:
		buf_z(o->b, "\"type\":\"array\",\"items\":");
		json_walk(o, one, NULL);
		/* without violations the list may hold the error itself, so members can be missing */
		break;
	}
}

static void variable(struct oa *o, struct str name, const struct route_impl *r)
{
	static const char *const ints[] = { "$total", "$page", "$size", "$pages", "$offset", "$http" };
	static const char *const nullable[] = { "$next", "$previous", "$cursor" };

	for (size_t i = 0; i < sizeof(ints) / sizeof(*ints); i++) {
		if (str_eq(name, str_of(ints[i]))) {
			type_of(o, "integer");
			return;
		}
	}
	for (size_t i = 0; i < sizeof(nullable) / sizeof(*nullable); i++) {
		if (str_eq(name, str_of(nullable[i]))) {
			buf_z(o->b, "\"type\":[\"string\",\"null\"]");
			return;
		}
	}
	if (str_eq(name, STR("$has_next")) || str_eq(name, STR("$has_prev"))) {
		type_of(o, "boolean");
	} else if (str_eq(name, STR("$item")) && r && r->out) {
		oa_resource_ref(o, r->out, OA_OUT);
	} else if (str_eq(name, STR("$items")) && r && r->out) {
		buf_z(o->b, "\"type\":\"array\",\"items\":{");
		oa_resource_ref(o, r->out, OA_OUT);
		buf_c(o->b, '}');
	} else if (str_starts(name, STR("$item."))) {
		item_member(o, (struct str){ name.p + 6, name.n - 6 }, r);
	} else if (str_eq(name, STR("$violations"))) {
		violations_schema(o);
	} else {
		type_of(o, "string");
		if (str_eq(name, STR("$now")))
			oa_text(o->b, "format", STR("date-time"));
	}
}

static void object_walk(struct oa *o, const struct json *v, const struct route_impl *r)
{
	type_of(o, "object");
	oa_key(o->b, "properties");
	buf_c(o->b, '{');
	for (const struct json *c = v->child; c; c = c->next) {
		oa_key_str(o->b, c->key);
		json_walk(o, c, r);
	}
	buf_c(o->b, '}');
}

static void json_walk(struct oa *o, const struct json *v, const struct route_impl *r)
{
	buf_c(o->b, '{');
	switch (v->type) {
	case JSON_OBJECT: object_walk(o, v, r); break;
	case JSON_ARRAY:
		type_of(o, "array");
		break;
	case JSON_STRING:
		if (v->text.n > 1 && v->text.p[0] == '$') {
			variable(o, v->text, r);
			break;
		}
		/* fall through */
	default:
		oa_key(o->b, "const");
		json_print(o->b, v);
		break;
	}
	buf_c(o->b, '}');
}

void oa_template(struct oa *o, const char *template, const struct route_impl *r)
{
	struct json_error err;
	const struct json *v = json_parse(&o->arena, str_of(template), &err);

	if (v)
		json_walk(o, v, r);
	else
		buf_z(o->b, "{}");
}

void oa_error_schema(struct oa *o)
{
	oa_template(o, o->d->src->error->template_, NULL);
}
