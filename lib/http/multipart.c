/* Streaming parser of multipart/form-data. */
#include "http/multipart.h"

#include "http/head.h"

enum { FIRST, HEAD, BODY, AFTER, AFTER_CR, AFTER_DASH, DONE, FAILED };

static bool fail(struct multipart *m, const char **text, const char *why)
{
	m->state = FAILED;
	*text = why;
	return false;
}

static struct str cut(struct str s, size_t from, size_t to)
{
	return (struct str){ s.p + from, to - from };
}

/* ---- parameters of a header value: ; name=token or name="quoted" ---- */

struct params {
	struct str rest;
	bool bad;
};

static void skip_space(struct str *s)
{
	while (s->n > 0 && (s->p[0] == ' ' || s->p[0] == '\t'))
		*s = cut(*s, 1, s->n);
}

static struct str take_token(struct str *s)
{
	size_t n = 0;
	struct str token;

	while (n < s->n && http_is_token(cut(*s, n, n + 1)))
		n++;
	token = cut(*s, 0, n);
	*s = cut(*s, n, s->n);
	return token;
}

/* *s behind the opening quote. The value still has its backslashes. */
static bool take_quoted(struct str *s, struct str *value)
{
	size_t n = 0;

	while (n < s->n && s->p[n] != '"')
		n += s->p[n] == '\\' && n + 1 < s->n && (s->p[n + 1] == '"' || s->p[n + 1] == '\\') ? 2 : 1;
	if (n >= s->n)
		return false;
	*value = cut(*s, 0, n);
	*s = cut(*s, n + 1, s->n);
	return true;
}

static bool next_param(struct params *p, struct str *name, struct str *value)
{
	struct str *s = &p->rest;

	skip_space(s);
	if (s->n == 0)
		return false;
	p->bad = true;
	if (s->p[0] != ';')
		return false;
	*s = cut(*s, 1, s->n);
	skip_space(s);
	*name = take_token(s);
	if (name->n == 0 || s->n == 0 || s->p[0] != '=')
		return false;
	*s = cut(*s, 1, s->n);
	if (s->n > 0 && s->p[0] == '"') {
		*s = cut(*s, 1, s->n);
		if (!take_quoted(s, value))
			return false;
	} else {
		*value = take_token(s);
		if (value->n == 0)
			return false;
	}
	p->bad = false;
	return true;
}

static bool boundary_is_legal(struct str b)
{
	if (b.n == 0 || b.n > MULTIPART_BOUNDARY_MAX || b.p[b.n - 1] == ' ')
		return false;
	for (size_t i = 0; i < b.n; i++) {
		unsigned char c = (unsigned char)b.p[i];
		bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');

		if (!alnum && !memchr("'()+_,-./:=? ", c, 13))
			return false;
	}
	return true;
}

bool multipart_boundary(struct str content_type, struct str *boundary)
{
	struct str type = STR("multipart/form-data"), name, value;
	struct params p;
	int found = 0;

	if (content_type.n < type.n || !str_ieq(cut(content_type, 0, type.n), type))
		return false;
	p = (struct params){ cut(content_type, type.n, content_type.n), false };
	while (next_param(&p, &name, &value)) {
		if (str_ieq(name, STR("boundary"))) {
			*boundary = value;
			found++;
		}
	}
	return !p.bad && found == 1 && boundary_is_legal(*boundary);
}

/* ---- head of a part ---- */

/* Drops the backslashes in front of quotes and backslashes, in the head buffer itself. */
static struct str unescape(struct multipart *m, struct str s)
{
	char *to = m->head + (s.p - m->head);
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\\' && i + 1 < s.n && (s.p[i + 1] == '"' || s.p[i + 1] == '\\'))
			i++;
		to[n++] = s.p[i];
	}
	return (struct str){ to, n };
}

static const char *disposition(struct multipart *m, struct str value, struct multipart_part *part)
{
	struct str type = take_token(&value), name, v;
	struct params p = { value, false };
	int names = 0, filenames = 0;

	if (!str_ieq(type, STR("form-data")))
		return "A part is not form-data";
	while (next_param(&p, &name, &v)) {
		if (str_ieq(name, STR("name"))) {
			part->name = unescape(m, v);
			names++;
		} else if (str_ieq(name, STR("filename"))) {
			part->filename = unescape(m, v);
			part->is_file = true;
			filenames++;
		}
	}
	if (p.bad || names != 1 || filenames > 1)
		return "The Content-Disposition of a part is malformed";
	if (!str_is_utf8(part->name) || !str_is_utf8(part->filename))
		return "The name of a part is not UTF-8";
	return NULL;
}

static bool encoding_is_plain(struct str v)
{
	return str_ieq(v, STR("binary")) || str_ieq(v, STR("8bit")) || str_ieq(v, STR("7bit"));
}

static const char *part_header(struct multipart *m, const struct http_header *h, struct multipart_part *part, int *dispositions)
{
	if (str_ieq(h->name, STR("Content-Disposition"))) {
		if (++*dispositions > 1)
			return "A part has two Content-Disposition headers";
		return disposition(m, h->value, part);
	}
	if (str_ieq(h->name, STR("Content-Type")))
		part->content_type = h->value;
	else if (str_ieq(h->name, STR("Content-Transfer-Encoding")) && !encoding_is_plain(h->value))
		return "Content-Transfer-Encoding is not supported";
	return NULL;
}

/* m->head holds complete lines, the empty one included. */
static const char *part_head(struct multipart *m, struct multipart_part *part)
{
	struct str rest = { m->head, m->head_n - 2 };
	int dispositions = 0, headers = 0;

	while (rest.n > 0) {
		const char *lf = memchr(rest.p, '\n', rest.n), *why;
		size_t end = (size_t)(lf - rest.p);
		struct http_header h;

		why = ++headers > MULTIPART_HEADERS_MAX ? "A part has too many headers" : http_header_split(cut(rest, 0, end - 1), &h);
		if (!why)
			why = part_header(m, &h, part, &dispositions);
		if (why)
			return why;
		rest = cut(rest, end + 1, rest.n);
	}
	return dispositions == 1 ? NULL : "A part has no Content-Disposition header";
}

static bool on_head(struct multipart *m, char b, const char **text)
{
	struct multipart_part part = { .name = STR(""), .filename = STR(""), .content_type = STR("") };
	const char *why;

	if (m->head_n == sizeof(m->head))
		return fail(m, text, "The headers of a part are too large");
	m->head[m->head_n++] = b;
	if (b != '\n')
		return true;
	if (m->head_n < 2 || m->head[m->head_n - 2] != '\r')
		return fail(m, text, "Lines of a part's head must end with CR LF");
	if (m->head_n > 2 && (m->head_n < 4 || m->head[m->head_n - 3] != '\n'))
		return true;
	why = part_head(m, &part);
	if (why)
		return fail(m, text, why);
	if (++m->parts > MULTIPART_PARTS_MAX)
		return fail(m, text, "There are too many parts");
	m->state = BODY;
	m->matched = 0;
	return m->sink.part(m->sink.arg, &part) || fail(m, text, "Refused");
}

/* ---- body of a part ---- */

static bool emit(struct multipart *m, struct str data, const char **text)
{
	if (data.n == 0)
		return true;
	return m->sink.data(m->sink.arg, data) || fail(m, text, "Refused");
}

/* CR stands only at the front of a delimiter, so a failed match can begin again nowhere but at the current byte. */
static bool on_body(struct multipart *m, struct str *in, const char **text)
{
	if (m->matched == 0) {
		const char *cr = memchr(in->p, '\r', in->n);
		size_t n = cr ? (size_t)(cr - in->p) : in->n;
		struct str data = cut(*in, 0, n);

		*in = cut(*in, n, in->n);
		if (!emit(m, data, text))
			return false;
	}
	while (in->n > 0) {
		if (in->p[0] != m->delimiter[m->matched]) {
			struct str prefix = { m->delimiter, m->matched };

			m->matched = 0;
			return emit(m, prefix, text);
		}
		*in = cut(*in, 1, in->n);
		if (++m->matched == m->delimiter_n) {
			m->state = AFTER;
			return m->sink.end(m->sink.arg) || fail(m, text, "Refused");
		}
	}
	return true;
}

/* ---- between parts ---- */

static bool on_first(struct multipart *m, char b, const char **text)
{
	if (b != m->delimiter[m->matched])
		return fail(m, text, "The body does not begin with its boundary");
	if (++m->matched == m->delimiter_n)
		m->state = AFTER;
	return true;
}

static bool on_after(struct multipart *m, char b, const char **text)
{
	if (m->state == AFTER && b == '\r') {
		m->state = AFTER_CR;
	} else if (m->state == AFTER && b == '-') {
		m->state = AFTER_DASH;
	} else if (m->state == AFTER_CR && b == '\n') {
		m->state = HEAD;
		m->head_n = 0;
	} else if (m->state == AFTER_DASH && b == '-') {
		m->state = DONE;
	} else {
		return fail(m, text, "A boundary is malformed");
	}
	return true;
}

void multipart_init(struct multipart *m, struct str boundary, const struct multipart_sink *sink)
{
	m->sink = *sink;
	m->state = FIRST;
	m->matched = 2; /* the CR LF in front of the first boundary is not there */
	m->head_n = m->parts = 0;
	if (boundary.n > MULTIPART_BOUNDARY_MAX)
		boundary.n = MULTIPART_BOUNDARY_MAX;
	memcpy(m->delimiter, "\r\n--", 4);
	memcpy(m->delimiter + 4, boundary.p, boundary.n);
	m->delimiter_n = boundary.n + 4;
}

bool multipart_feed(struct multipart *m, struct str in, const char **text)
{
	*text = NULL;
	while (in.n > 0) {
		bool ok = true;

		if (m->state == DONE)
			return true;
		if (m->state == FAILED)
			return fail(m, text, "The body is malformed");
		if (m->state == BODY) {
			if (!on_body(m, &in, text))
				return false;
			continue;
		}
		if (m->state == FIRST)
			ok = on_first(m, in.p[0], text);
		else if (m->state == HEAD)
			ok = on_head(m, in.p[0], text);
		else
			ok = on_after(m, in.p[0], text);
		if (!ok)
			return false;
		in = cut(in, 1, in.n);
	}
	return true;
}

bool multipart_is_done(const struct multipart *m)
{
	return m->state == DONE;
}
