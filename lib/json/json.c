/* Strict JSON parser into an arena, and the printer. */
#include "json/json.h"

#include <pthread.h>

#include "base/codec.h"

#define NUMBER_MAX_LEN 400

struct parser {
	struct arena *arena;
	const char *start, *p, *end;
	size_t nodes;
	const char *error;
	const char *error_at;
};

static struct json *value(struct parser *p, unsigned depth);

static void *fail(struct parser *p, const char *text)
{
	if (!p->error) {
		p->error = text;
		p->error_at = p->p;
	}
	return NULL;
}

static void space(struct parser *p)
{
	while (p->p < p->end && (*p->p == ' ' || *p->p == '\n' || *p->p == '\r' || *p->p == '\t'))
		p->p++;
}

static bool take(struct parser *p, char c)
{
	if (p->p == p->end || *p->p != c)
		return false;
	p->p++;
	return true;
}

/* -- strings */

static bool hex4(struct parser *p, unsigned *out)
{
	unsigned v = 0;

	if (p->end - p->p < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		char c = *p->p++;
		unsigned d;

		if (c >= '0' && c <= '9')
			d = (unsigned)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			d = (unsigned)((c | 0x20) - 'a' + 10);
		else
			return false;
		v = v << 4 | d;
	}
	*out = v;
	return true;
}

static char *utf8_put(char *at, unsigned c)
{
	if (c < 0x80) {
		*at++ = (char)c;
	} else if (c < 0x800) {
		*at++ = (char)(0xC0 | c >> 6);
		*at++ = (char)(0x80 | (c & 63));
	} else if (c < 0x10000) {
		*at++ = (char)(0xE0 | c >> 12);
		*at++ = (char)(0x80 | (c >> 6 & 63));
		*at++ = (char)(0x80 | (c & 63));
	} else {
		*at++ = (char)(0xF0 | c >> 18);
		*at++ = (char)(0x80 | (c >> 12 & 63));
		*at++ = (char)(0x80 | (c >> 6 & 63));
		*at++ = (char)(0x80 | (c & 63));
	}
	return at;
}

static bool escape_unicode(struct parser *p, char **at)
{
	unsigned c, low;

	if (!hex4(p, &c))
		return fail(p, "a \\u escape needs four hex digits");
	if (c == 0)
		return fail(p, "\\u0000 is not allowed");
	if (c >= 0xDC00 && c <= 0xDFFF)
		return fail(p, "a lone surrogate");
	if (c >= 0xD800 && c <= 0xDBFF) {
		if (!take(p, '\\') || !take(p, 'u') || !hex4(p, &low) || low < 0xDC00 || low > 0xDFFF)
			return fail(p, "a lone surrogate");
		c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
	}
	*at = utf8_put(*at, c);
	return true;
}

static bool escape(struct parser *p, char **at)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found;

	if (p->p == p->end)
		return fail(p, "the string does not end");
	if (*p->p == 'u') {
		p->p++;
		return escape_unicode(p, at);
	}
	found = *p->p ? strchr(from, *p->p) : NULL;
	if (!found)
		return fail(p, "an unknown escape");
	p->p++;
	*(*at)++ = to[found - from];
	return true;
}

/* Behind the opening quote. Without escapes the slice points into the input. */
static bool string(struct parser *p, struct str *out)
{
	const char *from = p->p, *close = p->p;
	bool plain = true;
	char *text, *at;

	while (close < p->end && *close != '"') {
		plain = plain && *close != '\\';
		close += *close == '\\' && close + 1 < p->end ? 2 : 1;
	}
	if (close >= p->end)
		return fail(p, "the string does not end");
	text = plain ? NULL : arena_alloc(p->arena, (size_t)(close - from) + 1);
	at = text;
	while (p->p < close) {
		unsigned char c = (unsigned char)*p->p;

		if (c < 0x20)
			return fail(p, "a control character in a string");
		p->p++;
		if (c == '\\') {
			if (!escape(p, &at))
				return false;
		} else if (!plain) {
			*at++ = (char)c;
		}
	}
	*out = plain ? (struct str){ from, (size_t)(close - from) } : (struct str){ text, (size_t)(at - text) };
	p->p = close + 1;
	return true;
}

/* -- numbers */

static size_t digits(struct parser *p)
{
	const char *from = p->p;

	while (p->p < p->end && *p->p >= '0' && *p->p <= '9')
		p->p++;
	return (size_t)(p->p - from);
}

static struct json *number(struct parser *p, struct json *v)
{
	const char *from = p->p;

	take(p, '-');
	if (!take(p, '0') && digits(p) == 0)
		return fail(p, "not a JSON value");
	if (take(p, '.') && digits(p) == 0)
		return fail(p, "a number needs digits behind the point");
	if (p->p < p->end && (*p->p == 'e' || *p->p == 'E')) {
		p->p++;
		if (!take(p, '+'))
			take(p, '-');
		if (digits(p) == 0)
			return fail(p, "a number needs digits in its exponent");
	}
	v->type = JSON_NUMBER;
	v->text = (struct str){ from, (size_t)(p->p - from) };
	if (v->text.n > NUMBER_MAX_LEN)
		return fail(p, "the number is too long");
	return v;
}

/* -- objects and arrays */

/* Duplicate names are found with a hash table once there are many, so that a large object is not quadratic. */
struct names {
	struct json **slots;
	size_t n_slots;
};

/* Under a secret of this process: names that collide cannot be made up outside. */
static uint64_t secret[2];
static pthread_once_t secret_once = PTHREAD_ONCE_INIT;

static void secret_draw(void)
{
	random_bytes(secret, sizeof(secret));
	secret[1] |= 1;
}

static uint64_t mix(uint64_t x)
{
	__extension__ unsigned __int128 m = (unsigned __int128)x * secret[1];

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t hash(struct str s)
{
	uint64_t h = mix(secret[0] ^ s.n), word;
	const char *p = s.p;
	size_t n = s.n;

	for (; n >= 8; p += 8, n -= 8) {
		memcpy(&word, p, 8);
		h = mix(h ^ word);
	}
	word = 0;
	if (n)
		memcpy(&word, p, n);
	return mix(h ^ word);
}

static bool names_put(struct names *t, struct json *v)
{
	for (size_t i = hash(v->key);; i++) {
		struct json **slot = &t->slots[i & (t->n_slots - 1)];

		if (!*slot) {
			*slot = v;
			return true;
		}
		if (str_eq((*slot)->key, v->key))
			return false;
	}
}

static bool is_new(struct parser *p, struct json *object, struct names *t, struct json *v)
{
	if (object->n < 16) {
		for (struct json *o = object->child; o; o = o->next) {
			if (str_eq(o->key, v->key))
				return false;
		}
		return true;
	}
	if (object->n * 2 >= t->n_slots) {
		pthread_once(&secret_once, secret_draw);
		t->n_slots = t->n_slots ? t->n_slots * 4 : 64;
		t->slots = arena_zalloc(p->arena, t->n_slots * sizeof(*t->slots));
		for (struct json *o = object->child; o; o = o->next)
			names_put(t, o);
	}
	return names_put(t, v);
}

static bool member(struct parser *p, struct json *object, struct names *t, unsigned depth, struct json **out)
{
	struct str key;
	struct json *v;

	space(p);
	if (!take(p, '"'))
		return fail(p, "expected a member name in quotes");
	if (!string(p, &key))
		return false;
	space(p);
	if (!take(p, ':'))
		return fail(p, "expected ':'");
	v = value(p, depth);
	if (!v)
		return false;
	v->key = key;
	if (object->n >= JSON_MAX_MEMBERS)
		return fail(p, "too many members");
	if (!is_new(p, object, t, v))
		return fail(p, "the same member twice");
	*out = v;
	return true;
}

static bool members(struct parser *p, struct json *v, unsigned depth, bool object)
{
	struct json **tail = &v->child;
	struct names t = { 0 };
	char close = object ? '}' : ']';

	space(p);
	if (take(p, close))
		return true;
	do {
		struct json *child = NULL;

		if (object)
			member(p, v, &t, depth, &child);
		else
			child = value(p, depth);
		if (!child)
			return false;
		*tail = child;
		tail = &child->next;
		v->n++;
		space(p);
	} while (take(p, ','));
	if (!take(p, close))
		return fail(p, object ? "expected ',' or '}'" : "expected ',' or ']'");
	return true;
}

static struct json *container(struct parser *p, struct json *v, unsigned depth)
{
	if (depth >= JSON_MAX_DEPTH)
		return fail(p, "nested too deeply");
	v->type = *p->p++ == '{' ? JSON_OBJECT : JSON_ARRAY;
	return members(p, v, depth + 1, v->type == JSON_OBJECT) ? v : NULL;
}

static struct json *word(struct parser *p, struct json *v, struct str w, enum json_type type)
{
	if ((size_t)(p->end - p->p) < w.n || memcmp(p->p, w.p, w.n) != 0)
		return fail(p, "not a JSON value");
	p->p += w.n;
	v->type = type;
	return v;
}

static struct json *value_of(struct parser *p, struct json *v, unsigned depth)
{
	switch (*p->p) {
	case '{':
	case '[':
		return container(p, v, depth);
	case '"':
		p->p++;
		v->type = JSON_STRING;
		return string(p, &v->text) ? v : NULL;
	case 't':
		return word(p, v, STR("true"), JSON_TRUE);
	case 'f':
		return word(p, v, STR("false"), JSON_FALSE);
	case 'n':
		return word(p, v, STR("null"), JSON_NULL);
	default:
		return number(p, v);
	}
}

static struct json *value(struct parser *p, unsigned depth)
{
	struct json *v;
	const char *from;

	space(p);
	if (p->p == p->end)
		return fail(p, "the text ends too early");
	if (++p->nodes > JSON_MAX_NODES)
		return fail(p, "too many values");
	v = ARENA_NEW(p->arena, struct json);
	from = p->p;
	if (!value_of(p, v, depth))
		return NULL;
	v->raw = (struct str){ from, (size_t)(p->p - from) };
	return v;
}

struct json *json_parse(struct arena *a, struct str in, struct json_error *err)
{
	struct parser p = { .arena = a, .start = in.p, .p = in.p, .end = in.p + in.n };
	struct json *v;

	if (!str_is_utf8(in)) {
		*err = (struct json_error){ 0, "the text is not valid UTF-8" };
		return NULL;
	}
	v = value(&p, 0);
	space(&p);
	if (v && p.p != p.end)
		v = fail(&p, "something follows the value");
	if (!v)
		*err = (struct json_error){ (size_t)(p.error_at - p.start), p.error };
	return v;
}

struct json *json_get(const struct json *object, struct str key, bool ci)
{
	struct json *loose = NULL;

	if (!object || object->type != JSON_OBJECT)
		return NULL;
	for (struct json *v = object->child; v; v = v->next) {
		if (str_eq(v->key, key))
			return v;
		if (ci && !loose && str_ieq(v->key, key))
			loose = v;
	}
	return loose;
}

void json_print(struct buf *b, const struct json *v)
{
	switch (v->type) {
	case JSON_NULL: buf_str(b, STR("null")); break;
	case JSON_FALSE: buf_str(b, STR("false")); break;
	case JSON_TRUE: buf_str(b, STR("true")); break;
	case JSON_NUMBER: buf_str(b, v->text); break;
	case JSON_STRING: buf_json_str(b, v->text); break;
	case JSON_ARRAY:
	case JSON_OBJECT:
		buf_c(b, v->type == JSON_ARRAY ? '[' : '{');
		for (const struct json *c = v->child; c; c = c->next) {
			if (c != v->child)
				buf_c(b, ',');
			if (v->type == JSON_OBJECT) {
				buf_json_str(b, c->key);
				buf_c(b, ':');
			}
			json_print(b, c);
		}
		buf_c(b, v->type == JSON_ARRAY ? ']' : '}');
		break;
	}
}
