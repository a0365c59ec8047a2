/* Applies the rules of a contract to a message in wire form. */
#include "schema/validate.h"

#include <stdio.h>

#include "base/codec.h"
#include "base/wire.h"
#include "json/json.h"

#define DEPTH_MAX 8
#define JSON_DEFAULT_MAX 65536

struct check {
	struct arena *arena;
	schema_violation_cb cb;
	void *arg;
	bool create;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static bool domain_ok(struct str d, bool needs_dot)
{
	size_t label = 0, dots = 0;

	if (d.n == 0 || d.n > 253)
		return false;
	for (size_t i = 0; i < d.n; i++) {
		char c = d.p[i];

		if (c == '.') {
			if (label == 0 || d.p[i - 1] == '-')
				return false;
			label = 0;
			dots++;
			continue;
		}
		if (!is_alnum(c) && !(c & 0x80) && (c != '-' || label == 0))
			return false;
		if (++label > 63)
			return false;
	}
	return label > 0 && d.p[d.n - 1] != '-' && (dots > 0 || !needs_dot);
}

static bool email_ok(struct str s)
{
	static const char specials[] = "!#$%&'*+-/=?^_`{|}~.";
	const char *at = s.n ? memrchr(s.p, '@', s.n) : NULL;
	size_t local = at ? (size_t)(at - s.p) : 0;

	if (local == 0 || local > 64 || s.n > 254 || s.p[0] == '.' || at[-1] == '.')
		return false;
	for (size_t i = 0; i < local; i++) {
		char c = s.p[i];

		if (!is_alnum(c) && !(c & 0x80) && (c == 0 || !strchr(specials, c)))
			return false;
		if (c == '.' && s.p[i + 1] == '.')
			return false;
	}
	return domain_ok((struct str){ at + 1, s.n - local - 1 }, true);
}

static bool url_ok(struct str s)
{
	struct str rest;
	size_t host = 0;

	if (str_ieq((struct str){ s.p, s.n < 8 ? s.n : 8 }, STR("https://")))
		rest = (struct str){ s.p + 8, s.n - 8 };
	else if (str_ieq((struct str){ s.p, s.n < 7 ? s.n : 7 }, STR("http://")))
		rest = (struct str){ s.p + 7, s.n - 7 };
	else
		return false;
	for (size_t i = 0; i < rest.n; i++) {
		if ((unsigned char)rest.p[i] <= ' ' || strchr("\"<>\\^`{|}", rest.p[i]))
			return false;
	}
	while (host < rest.n && !strchr("/?#:", rest.p[host]))
		host++;
	return domain_ok((struct str){ rest.p, host }, false);
}

static bool phone_ok(struct str s)
{
	size_t digits = 0;

	for (size_t i = 0; i < s.n; i++) {
		if (is_digit(s.p[i]))
			digits++;
		else if (!strchr("+-() ./x", s.p[i]) || !s.p[i])
			return false;
	}
	return digits >= 3 && digits <= 20;
}

static bool color_ok(struct str s)
{
	uint8_t rgb[3];

	return s.n == 7 && s.p[0] == '#' && hex_decode((struct str){ s.p + 1, 6 }, rgb, 3);
}

static bool slug_ok(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!(c >= 'a' && c <= 'z') && !is_digit(c) && c != '_' && c != '-')
			return false;
	}
	return s.n > 0;
}

static bool json_ok(struct str s, bool object)
{
	struct arena a = { 0 };
	struct json_error err;
	struct json *v = json_parse(&a, s, &err);
	bool ok = v && (!object || v->type == JSON_OBJECT);

	arena_fini(&a);
	return ok;
}

bool schema_format_ok(enum schema_format format, struct str v)
{
	switch (format) {
	case FORMAT_EMAIL: return email_ok(v);
	case FORMAT_UUID: return uuid_parse(v, NULL);
	case FORMAT_URL: return url_ok(v);
	case FORMAT_PHONE: return phone_ok(v);
	case FORMAT_COLOR: return color_ok(v);
	case FORMAT_DECIMAL: return decimal_is_valid(v);
	case FORMAT_SLUG: return slug_ok(v);
	case FORMAT_JSON_OBJECT: return json_ok(v, true);
	case FORMAT_JSON_VALUE: return json_ok(v, false);
	case FORMAT_NONE:
	case FORMAT_TIME:
	case FORMAT_DATE: break;
	}
	return true;
}

static const char *format_rule(enum schema_format f)
{
	static const char *const words[] = { [FORMAT_EMAIL] = "email", [FORMAT_UUID] = "uuid", [FORMAT_URL] = "url", [FORMAT_PHONE] = "phone",
		[FORMAT_COLOR] = "color", [FORMAT_DECIMAL] = "decimal", [FORMAT_JSON_OBJECT] = "json_object", [FORMAT_SLUG] = "slug", [FORMAT_JSON_VALUE] = "json" };

	return words[f];
}

const char *schema_rule_text(struct arena *a, const char *rule, const char *param)
{
	static const struct {
		const char *rule, *text;
	} rows[] = {
		{ "required", "is required" },
		{ "type", "is not of the right type" },
		{ "email", "must be a valid e-mail address" },
		{ "uuid", "must be a UUID" },
		{ "url", "must be a URL that starts with http:// or https://" },
		{ "phone", "must be a valid phone number" },
		{ "color", "must be a colour like #1a2b3c" },
		{ "decimal", "must be a number with at most 18 digits before and 6 behind the point" },
		{ "json_object", "must be a JSON object" },
		{ "json", "must be a JSON value" },
		{ "slug", "may have lower-case letters, digits, '-' and '_' only" },
		{ "utf8", "must be text in UTF-8" },
		{ "exists", "does not exist" },
		{ "unknown", "is not a known field" },
		{ "time", "must be a time like 2024-01-15T10:30:00Z" },
		{ "date", "must be a date like 2024-01-15" },
		{ "id", "is not a valid id" },
	};
	static const struct {
		const char *rule, *format;
	} with_param[] = {
		{ "min_len", "must have at least %s characters" },
		{ "max_len", "must have at most %s characters" },
		{ "max_bytes", "must have at most %s bytes" },
		{ "max_items", "must have at most %s elements" },
		{ "gte", "must be at least %s" },
		{ "lte", "must be at most %s" },
		{ "in", "must be one of: %s" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		if (strcmp(rows[i].rule, rule) == 0)
			return rows[i].text;
	}
	for (size_t i = 0; param && i < sizeof(with_param) / sizeof(*with_param); i++) {
		size_t head;

		if (strcmp(with_param[i].rule, rule) != 0)
			continue;
		head = (size_t)(strstr(with_param[i].format, "%s") - with_param[i].format);
		return arena_printf(a, "%.*s%s%s", (int)head, with_param[i].format, param, with_param[i].format + head + 2);
	}
	return "is not valid";
}

static void violate(const struct check *c, const char *path, const char *rule, const char *param)
{
	c->cb(c->arg, path, rule, schema_rule_text(c->arena, rule, param), param);
}

static const char *number_text(const struct check *c, int64_t v)
{
	return arena_printf(c->arena, "%lld", (long long)v);
}

static size_t code_points(struct str s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
	return n;
}

static bool in_set(const struct schema_field *f, struct str v)
{
	for (size_t i = 0; i < f->n_in; i++) {
		if (str_eq(v, str_of(f->in[i])))
			return true;
	}
	return false;
}

static const char *set_text(const struct check *c, const struct schema_field *f)
{
	const char *text = f->in[0];

	for (size_t i = 1; i < f->n_in; i++)
		text = arena_printf(c->arena, "%s, %s", text, f->in[i]);
	return text;
}

/* Compares the decimal v with a whole number, without rounding. */
static int decimal_compare(struct str v, int64_t limit)
{
	bool neg = v.n > 0 && v.p[0] == '-', fraction = false;
	const char *point = memchr(v.p, '.', v.n);
	size_t whole_n = point ? (size_t)(point - v.p) : v.n;
	int64_t whole = 0;

	if (!str_to_i64((struct str){ v.p, whole_n }, &whole))
		return neg ? -1 : 1;
	for (size_t i = whole_n; i < v.n; i++)
		fraction = fraction || (v.p[i] >= '1' && v.p[i] <= '9');
	if (whole != limit)
		return whole < limit ? -1 : 1;
	return fraction ? (neg ? -1 : 1) : 0;
}

static void check_string(const struct check *c, const struct schema_field *f, const char *path, struct str v)
{
	uint32_t max = f->max_len ? f->max_len : VALIDATE_DEFAULT_MAX_LEN;
	size_t n = code_points(v);

	if (!str_is_utf8(v) || (v.n && memchr(v.p, 0, v.n))) {
		violate(c, path, "utf8", NULL);
		return;
	}
	if (n > max) {
		violate(c, path, "max_len", number_text(c, max));
		return;
	}
	if (v.n == 0) {
		if (f->min_len && !(c->create && f->required))
			violate(c, path, "min_len", number_text(c, f->min_len));
		return;
	}
	if (n < f->min_len)
		violate(c, path, "min_len", number_text(c, f->min_len));
	else if (!schema_format_ok(f->format, v))
		violate(c, path, format_rule(f->format), NULL);
	else if (f->n_in && !in_set(f, v))
		violate(c, path, "in", set_text(c, f));
	else if (f->format == FORMAT_DECIMAL && f->has_gte && decimal_compare(v, f->gte) < 0)
		violate(c, path, "gte", number_text(c, f->gte));
	else if (f->format == FORMAT_DECIMAL && f->has_lte && decimal_compare(v, f->lte) > 0)
		violate(c, path, "lte", number_text(c, f->lte));
}

static void check_bytes(const struct check *c, const struct schema_field *f, const char *path, struct str v)
{
	bool json = f->format == FORMAT_JSON_OBJECT || f->format == FORMAT_JSON_VALUE;
	uint32_t max = f->max_len ? f->max_len : (json ? JSON_DEFAULT_MAX : 0);

	if (max && v.n > max)
		violate(c, path, "max_bytes", number_text(c, max));
	else if (json && !schema_format_ok(f->format, v))
		violate(c, path, format_rule(f->format), NULL);
}

static void check_int(const struct check *c, const struct schema_field *f, const char *path, uint64_t raw)
{
	bool is_unsigned = f->type == TYPE_UINT32 || f->type == TYPE_UINT64;
	int64_t v = is_unsigned && raw > INT64_MAX ? INT64_MAX : (int64_t)raw;

	if (f->has_gte && v < f->gte)
		violate(c, path, "gte", number_text(c, f->gte));
	else if (f->has_lte && v > f->lte)
		violate(c, path, "lte", number_text(c, f->lte));
}

static bool wire_type_ok(const struct schema_field *f, enum wire_type t)
{
	switch (f->type) {
	case TYPE_STRING:
	case TYPE_BYTES:
	case TYPE_MESSAGE: return t == WIRE_BYTES;
	case TYPE_DOUBLE:
	case TYPE_FIXED64: return t == WIRE_FIXED64 || (f->repeated && t == WIRE_BYTES);
	case TYPE_FIXED32: return t == WIRE_FIXED32 || (f->repeated && t == WIRE_BYTES);
	default: return t == WIRE_VARINT || (f->repeated && t == WIRE_BYTES);
	}
}

static bool check_message(const struct check *c, const struct schema_message *m, struct str wire, const char *prefix, unsigned depth);

static bool check_field(const struct check *c, const struct schema_field *f, const struct wire_field *w, const char *path, unsigned depth)
{
	switch (f->type) {
	case TYPE_STRING: check_string(c, f, path, w->bytes); break;
	case TYPE_BYTES: check_bytes(c, f, path, w->bytes); break;
	case TYPE_MESSAGE:
		if (f->repeated) { /* an element of a list is written whole, whatever happens to the entity */
			struct check whole = *c;

			whole.create = true;
			return check_message(&whole, f->message, w->bytes, arena_printf(c->arena, "%s.", path), depth + 1);
		}
		return check_message(c, f->message, w->bytes, arena_printf(c->arena, "%s.", path), depth + 1);
	case TYPE_INT32:
	case TYPE_INT64:
	case TYPE_UINT32:
	case TYPE_UINT64:
		if (w->type == WIRE_VARINT)
			check_int(c, f, path, w->value);
		break;
	default: break;
	}
	return true;
}

static void check_required(const struct check *c, const struct schema_message *m, const uint8_t *seen, const char *prefix)
{
	for (size_t i = 0; i < m->n_fields; i++) {
		const struct schema_field *f = &m->fields[i];

		if (f->required && !f->read_only && !seen[f->number])
			violate(c, arena_printf(c->arena, "%s%s", prefix, f->name), "required", NULL);
	}
}

static bool check_message(const struct check *c, const struct schema_message *m, struct str wire, const char *prefix, unsigned depth)
{
	uint8_t *seen = arena_zalloc(c->arena, m->max_number + 1);
	uint32_t *count = arena_zalloc(c->arena, (m->max_number + 1) * sizeof(*count));
	struct wire_reader r = wire_read(wire);
	struct wire_field w;

	if (depth > DEPTH_MAX)
		return false;
	while (wire_next(&r, &w)) {
		const struct schema_field *f = w.number <= m->max_number ? m->by_number[w.number] : NULL;
		const char *path;

		if (!f)
			continue;
		if (!wire_type_ok(f, w.type))
			return false;
		if (w.type != WIRE_BYTES || w.bytes.n > 0 || f->type == TYPE_MESSAGE)
			seen[f->number] = 1;
		if (f->read_only)
			continue;
		path = arena_printf(c->arena, "%s%s", prefix, f->name);
		if (f->repeated)
			path = arena_printf(c->arena, "%s.%u", path, count[f->number]++);
		if (!check_field(c, f, &w, path, depth))
			return false;
	}
	if (r.bad)
		return false;
	if (c->create && !(depth > 0 && m->entity)) /* an entity inside another is a reference: its key is enough */
		check_required(c, m, seen, prefix);
	return true;
}

struct stored {
	struct { const char *path, *rule, *message, *param; } rows[256];
	size_t n;
};

static void store(void *arg, const char *path, const char *rule, const char *message, const char *param)
{
	struct stored *s = arg;

	if (s->n == sizeof(s->rows) / sizeof(*s->rows))
		return;
	s->rows[s->n].path = path;
	s->rows[s->n].rule = rule;
	s->rows[s->n].message = message;
	s->rows[s->n++].param = param;
}

bool schema_validate(const struct schema_message *m, struct str wire, bool create, struct arena *a, schema_violation_cb cb, void *arg)
{
	struct stored found;
	struct check c = { a, store, &found, create };

	found.n = 0;
	if (!check_message(&c, m, wire, "", 0))
		return false;
	for (size_t i = 0; i < found.n; i++)
		cb(arg, found.rows[i].path, found.rows[i].rule, found.rows[i].message, found.rows[i].param);
	return true;
}

bool schema_validate_mask(const struct schema_message *m, struct str wire, const uint32_t *mask, size_t n, schema_violation_cb cb, void *arg)
{
	for (size_t i = 0; i < n; i++) {
		const struct schema_field *f = mask[i] <= m->max_number ? m->by_number[mask[i]] : NULL;
		struct wire_reader r = wire_read(wire);
		struct wire_field w;
		bool seen = false;

		if (!f || !f->required || f->read_only)
			continue;
		while (wire_next(&r, &w))
			seen = seen || (w.number == f->number && (w.type != WIRE_BYTES || w.bytes.n > 0 || f->type == TYPE_MESSAGE));
		if (r.bad)
			return false;
		if (!seen)
			cb(arg, f->name, "required", schema_rule_text(NULL, "required", NULL), NULL);
	}
	return true;
}
