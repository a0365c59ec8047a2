/* One value of a request (JSON, or text of a query or form) to what the contract stores. */
#include <math.h>
#include <stdlib.h>

#include "base/codec.h"
#include "gateway/dialect/decode.h"

#define US_DAY INT64_C(86400000000)
#define NIL_UUID "00000000-0000-0000-0000-000000000000"

static bool wrong(struct decoder *d, const struct spot *s, const char *rule)
{
	decode_violate(d, s->name, rule, NULL, NULL);
	return false;
}

static bool wrong_type(struct decoder *d, const struct spot *s, const char *text)
{
	decode_violate(d, s->name, "type", text, NULL);
	return false;
}

static bool text_value(struct decoder *d, const struct spot *s, const struct json *v, struct scalar *out)
{
	if (v->type != JSON_STRING)
		return wrong_type(d, s, "must be text");
	out->kind = SCALAR_TEXT;
	out->text = v->text;
	return true;
}

/* -- numbers */

static bool int_range(const struct schema_field *f, int64_t *low, int64_t *high)
{
	size_t n = strlen(f->name);
	bool seq = strcmp(f->name, "seq") == 0 || (n > 4 && strcmp(f->name + n - 4, "_seq") == 0);

	switch (f->type) {
	case TYPE_INT32:
	case TYPE_ENUM: *low = INT32_MIN; *high = INT32_MAX; break;
	case TYPE_UINT32: *low = 0; *high = UINT32_MAX; break;
	case TYPE_UINT64: *low = 0; *high = SEQ_MAX; break;
	default: *low = seq ? 1 : -SEQ_MAX; *high = SEQ_MAX; break;
	}
	return true;
}

static bool int_value(struct decoder *d, const struct spot *s, const struct json *v, struct scalar *out)
{
	int64_t low, high;

	if (v->type != JSON_NUMBER && !(s->loose && v->type == JSON_STRING))
		return wrong_type(d, s, "must be a whole number");
	if (!str_to_i64(v->text, &out->i))
		return wrong_type(d, s, "must be a whole number");
	int_range(s->f, &low, &high);
	if (out->i < low || out->i > high) {
		decode_violate(d, s->name, out->i < low ? "gte" : "lte", NULL, arena_printf(d->a, "%lld", (long long)(out->i < low ? low : high)));
		return false;
	}
	out->kind = SCALAR_INT;
	return true;
}

static bool double_value(struct decoder *d, const struct spot *s, const struct json *v, struct scalar *out)
{
	char *end, *text = arena_strdup(d->a, v->text);

	if (v->type != JSON_NUMBER && !(s->loose && v->type == JSON_STRING))
		return wrong_type(d, s, "must be a number");
	out->x = strtod(text, &end);
	if (v->text.n == 0 || *end || !isfinite(out->x))
		return wrong_type(d, s, "must be a number");
	out->kind = SCALAR_DOUBLE;
	return true;
}

static bool decimal_value(struct decoder *d, const struct spot *s, const struct json *v, struct scalar *out)
{
	if (v->type != JSON_NUMBER && v->type != JSON_STRING)
		return wrong_type(d, s, "must be a number");
	if (!decimal_is_valid(v->text))
		return wrong(d, s, "decimal");
	out->kind = SCALAR_TEXT;
	out->text = v->text;
	return true;
}

static bool is_word(struct str s, const char *a, const char *b, const char *c)
{
	return str_ieq(s, str_of(a)) || str_ieq(s, str_of(b)) || str_ieq(s, str_of(c));
}

static bool bool_value(struct decoder *d, const struct spot *s, const struct json *v, struct scalar *out)
{
	out->kind = SCALAR_BOOL;
	if (v->type == JSON_TRUE || v->type == JSON_FALSE) {
		out->i = v->type == JSON_TRUE;
		return true;
	}
	if (s->loose && v->type == JSON_STRING && is_word(v->text, "true", "1", "on")) {
		out->i = 1;
		return true;
	}
	if (s->loose && v->type == JSON_STRING && is_word(v->text, "false", "0", "off")) {
		out->i = 0;
		return true;
	}
	return wrong_type(d, s, "must be true or false");
}

/* -- times */

static bool time_value(struct decoder *d, const struct spot *s, const struct json *v, struct scalar *out)
{
	bool date = s->enc->kind == ENC_DATE;

	if (v->type != JSON_STRING || !time_parse(v->text, true, &out->i))
		return wrong(d, s, date ? "date" : "time");
	if (date) {
		int64_t rest = out->i % US_DAY;

		out->i -= rest < 0 ? rest + US_DAY : rest;
	}
	if (s->end_of_day && v->text.n == sizeof("2024-01-15") - 1)
		out->i += US_DAY - 1;
	out->kind = SCALAR_INT;
	return true;
}

/* -- words */

/* "Not Started" → "not_started" */
static struct str lower(struct arena *a, struct str s)
{
	char *p = arena_strdup(a, s);

	for (size_t i = 0; i < s.n; i++) {
		if (p[i] >= 'A' && p[i] <= 'Z')
			p[i] = (char)(p[i] - 'A' + 'a');
		else if (p[i] == ' ')
			p[i] = '_';
	}
	return (struct str){ p, s.n };
}

static struct str core_word(const struct word_map *m, struct str face)
{
	for (size_t i = 0; i < m->n; i++) {
		if (str_ieq(m->rows[i].face, face))
			return m->rows[i].core;
	}
	return face;
}

static bool word_value(struct decoder *d, const struct spot *s, const struct json *v, struct scalar *out)
{
	if (!text_value(d, s, v, out))
		return false;
	out->text = s->enc->kind == ENC_MAP ? core_word(s->enc->map, out->text) : lower(d->a, out->text);
	return true;
}

static bool flag_value(struct decoder *d, const struct spot *s, const struct json *v, struct scalar *out)
{
	if (!bool_value(d, s, v, out))
		return false;
	out->kind = SCALAR_TEXT;
	out->text = out->i ? s->enc->yes : s->enc->no;
	return true;
}

/* -- JSON inside */

static bool json_value(struct decoder *d, const struct spot *s, const struct json *v, struct scalar *out)
{
	struct json_error err;
	struct buf b = { 0 };

	if (s->loose && v->type == JSON_STRING)
		v = json_parse(d->a, v->text, &err);
	if (!v)
		return wrong(d, s, "json");
	if (s->f->format == FORMAT_JSON_OBJECT && v->type != JSON_OBJECT)
		return wrong(d, s, "json_object");
	json_print(&b, v);
	out->kind = SCALAR_TEXT;
	out->text = arena_str(d->a, buf_view(&b));
	buf_fini(&b);
	return true;
}

/* -- references */

static bool bad_id(struct decoder *d, const struct spot *s, const char *rule)
{
	if (s->in_path) {
		d->not_found = true;
		return false;
	}
	return wrong(d, s, rule);
}

/* What another service owns is asked for: the called one knows neither its number nor whether it exists. */
static bool resolve(struct decoder *d, const struct spot *s, struct key *key)
{
	struct ref_key ask = { str_of(s->enc->entity), key->id, key->seq };
	struct ref_value found = { 0 };

	if (!s->enc->owner || strcmp(s->enc->owner, d->r->pub.rpc->service) == 0 || !d->in->refs.get)
		return true;
	switch (d->in->refs.get(d->in->refs.arg, &ask, &found)) {
	case REF_FOUND:
		key->id = arena_str(d->a, found.id);
		key->seq = found.seq;
		return true;
	case REF_ABSENT:
		if (!s->filter || s->in_path)
			return bad_id(d, s, "exists");
		*key = (struct key){ STR(NIL_UUID), 0 };
		return true;
	case REF_UNKNOWN: break;
	}
	return true;
}

static const struct json *id_of_object(const struct json *v)
{
	return v->type == JSON_OBJECT ? json_get(v, STR("id"), true) : v;
}

static bool key_value(struct decoder *d, const struct spot *s, const struct json *v, struct scalar *out)
{
	out->kind = SCALAR_KEY;
	v = id_of_object(v);
	if (!v || (v->type != JSON_STRING && v->type != JSON_NUMBER) || !id_read(s->enc, v->text, d->a, &out->key))
		return bad_id(d, s, "id");
	return resolve(d, s, &out->key);
}

/* A tag is named by what it is called or by its id; text is an id where ids are the rule, and a UUID always. */
static bool tag_value(struct decoder *d, const struct spot *s, const struct json *v, struct scalar *out)
{
	const struct json *id = id_of_object(v), *name = v->type == JSON_OBJECT ? json_get(v, STR("name"), true) : NULL;
	bool is_id = false;

	out->kind = SCALAR_KEY;
	if (d->imports && name && name->type == JSON_STRING)
		id = NULL; /* what an export wrote: the id may be another company's */
	if (id && id->type != JSON_NULL) {
		if (id->type != JSON_STRING && id->type != JSON_NUMBER)
			return wrong_type(d, s, "must be a tag's name or id");
		if (id->type == JSON_NUMBER || s->enc->tags != TAGS_NAMES || v->type == JSON_OBJECT || id->text.n == UUID_TEXT)
			is_id = id_read(s->enc, id->text, d->a, &out->key);
		if (is_id)
			return true;
		if (id->type == JSON_NUMBER || v->type == JSON_OBJECT)
			return bad_id(d, s, "id");
		name = id;
	}
	if (!name || name->type != JSON_STRING || name->text.n == 0)
		return wrong_type(d, s, "must be a tag's name or id");
	out->text = name->text;
	return true;
}

bool decode_scalar(struct decoder *d, const struct spot *s, const struct json *v, struct scalar *out)
{
	*out = (struct scalar){ .text = STR(""), .key = { .id = STR("") } };
	switch (s->enc->kind) {
	case ENC_STR: return text_value(d, s, v, out);
	case ENC_INT: return int_value(d, s, v, out);
	case ENC_NUM: return double_value(d, s, v, out);
	case ENC_BOOL: return bool_value(d, s, v, out);
	case ENC_DEC: return decimal_value(d, s, v, out);
	case ENC_JSON: return json_value(d, s, v, out);
	case ENC_TS:
	case ENC_DATE: return time_value(d, s, v, out);
	case ENC_LOWER:
	case ENC_TITLE:
	case ENC_MAP: return word_value(d, s, v, out);
	case ENC_FLAG: return flag_value(d, s, v, out);
	case ENC_ID:
	case ENC_REF:
	case ENC_REFOBJ: return key_value(d, s, v, out);
	case ENC_TAGS: return tag_value(d, s, v, out);
	case ENC_RES:
	case ENC_CONST:
	case ENC_STATUS:
	case ENC_CHANGE:
	case ENC_MEMBER: break;
	}
	return false;
}

static void put_key(struct build *b, const struct schema_field *f, const struct scalar *s)
{
	const struct schema_message *m = f->message;
	const struct schema_field *name = schema_field_find(m, STR("name"));
	struct build *sub;

	if (!f->repeated)
		build_drop(b, f);
	sub = build_sub(b, f);
	if (s->key.id.n)
		build_text(sub, m->by_number[KEY_ID], s->key.id);
	if (s->key.seq)
		build_varint(sub, m->by_number[KEY_SEQ], (uint64_t)s->key.seq);
	if (s->text.n && name)
		build_text(sub, name, s->text);
}

void decode_put(struct build *b, const struct schema_field *f, const struct scalar *s)
{
	switch (s->kind) {
	case SCALAR_TEXT: build_text(b, f, s->text); break;
	case SCALAR_INT:
	case SCALAR_BOOL: build_varint(b, f, (uint64_t)s->i); break;
	case SCALAR_DOUBLE: build_double(b, f, s->x); break;
	case SCALAR_KEY: put_key(b, f, s); break;
	}
}
