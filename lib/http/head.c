/* Parser of request heads: finds the end, then checks every byte before any of it is believed. */
#include "http/head.h"

enum { CHAR_TOKEN = 1, CHAR_TARGET = 2, CHAR_VALUE = 4, CHAR_HOST = 8 };

#define T CHAR_TOKEN
#define G CHAR_TARGET
#define V CHAR_VALUE
#define H CHAR_HOST

static const unsigned char classes[256] = {
	['\t'] = V, [' '] = V,
	['!'] = T | G | V, ['"'] = V, ['#'] = T | V, ['$'] = T | G | V, ['%'] = T | G | V, ['&'] = T | G | V, ['\''] = T | G | V,
	['('] = G | V, [')'] = G | V, ['*'] = T | G | V, ['+'] = T | G | V, [','] = G | V, ['-'] = T | G | V | H,
	['.'] = T | G | V | H, ['/'] = G | V, ['0' ... '9'] = T | G | V | H, [':'] = G | V, [';'] = G | V, ['<'] = V, ['='] = G | V,
	['>'] = V, ['?'] = G | V, ['@'] = G | V, ['A' ... 'Z'] = T | G | V | H, ['['] = G | V, ['\\'] = V, [']'] = G | V,
	['^'] = T | V, ['_'] = T | G | V | H, ['`'] = T | V, ['a' ... 'z'] = T | G | V | H, ['{'] = G | V, ['|'] = T | G | V,
	['}'] = G | V, ['~'] = T | G | V,
	[0x80 ... 0xFF] = V,
};

#undef T
#undef G
#undef V
#undef H

static bool all_of(struct str s, int class)
{
	for (size_t i = 0; i < s.n; i++)
		if (!(classes[(unsigned char)s.p[i]] & class))
			return false;
	return true;
}

static struct str cut(struct str s, size_t from, size_t to)
{
	return (struct str){ s.p + from, to - from };
}

bool http_is_token(struct str s)
{
	return s.n > 0 && all_of(s, CHAR_TOKEN);
}

/* Eight bytes at a time while they hold neither a control character nor DEL; what is left, and every tab, one by one. */
bool http_is_field_value(struct str s)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), high = ones * 0x80;

	while (s.n >= 8) {
		uint64_t x, del;

		memcpy(&x, s.p, sizeof(x));
		del = x ^ ones * 0x7F;
		if ((((x - ones * 0x20) & ~x) | ((del - ones) & ~del)) & high)
			break;
		s = cut(s, 8, s.n);
	}
	return all_of(s, CHAR_VALUE);
}

static enum http_scan_result scan_bad(enum status s, const char *sentence, enum status *why, const char **text)
{
	*why = s;
	*text = sentence;
	return HTTP_SCAN_BAD;
}

static enum http_scan_result scan_limits(const struct http_scan *s, size_t end, enum status *why, const char **text)
{
	if (s->lines == 0 && end - s->line > HTTP_LINE_MAX)
		return scan_bad(STATUS_URI_TOO_LONG, "The request line is too long", why, text);
	if (s->lines > HTTP_HEADERS_MAX + 1)
		return scan_bad(STATUS_HEADERS_TOO_LARGE, "There are too many headers", why, text);
	if (end > HTTP_HEAD_MAX)
		return scan_bad(STATUS_HEADERS_TOO_LARGE, "The request head is too large", why, text);
	return HTTP_SCAN_MORE;
}

enum http_scan_result http_head_scan(struct http_scan *s, struct str in, size_t *n, enum status *why, const char **text)
{
	while (s->at < in.n) {
		const char *lf = memchr(in.p + s->at, '\n', in.n - s->at);
		size_t end = lf ? (size_t)(lf - in.p) : in.n;
		bool empty;

		if (s->lines == 0 && in.p[s->line] != '\r' && !(classes[(unsigned char)in.p[s->line]] & CHAR_TOKEN))
			return scan_bad(STATUS_BAD_REQUEST, in.p[s->line] == 0x16 ? "This port speaks plain HTTP, not TLS" : "This is not HTTP", why, text);
		if (!lf) {
			s->at = in.n;
			return scan_limits(s, in.n, why, text);
		}
		if (end == s->line || in.p[end - 1] != '\r')
			return scan_bad(STATUS_BAD_REQUEST, "Lines must end with CR LF", why, text);
		empty = end - 1 == s->line;
		if (empty && s->lines == 0 && s->line > 0)
			return scan_bad(STATUS_BAD_REQUEST, "The request line is missing", why, text);
		if (!(empty && s->lines == 0)) {
			if (scan_limits(s, end + 1 - (s->lines == 0 ? 2 : 0), why, text) == HTTP_SCAN_BAD)
				return HTTP_SCAN_BAD;
			s->lines++;
		}
		s->at = s->line = end + 1;
		if (empty && s->lines > 0) {
			*n = end + 1;
			return HTTP_SCAN_DONE;
		}
	}
	return scan_limits(s, in.n, why, text);
}

const char *http_header_split(struct str line, struct http_header *out)
{
	const char *colon = memchr(line.p, ':', line.n);
	size_t from, to = line.n;

	if (line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t'))
		return "Folded header lines are not accepted";
	if (!colon)
		return "A header line has no colon";
	out->name = cut(line, 0, (size_t)(colon - line.p));
	if (!http_is_token(out->name))
		return "A header name is malformed";
	from = out->name.n + 1;
	while (from < to && (line.p[from] == ' ' || line.p[from] == '\t'))
		from++;
	while (to > from && (line.p[to - 1] == ' ' || line.p[to - 1] == '\t'))
		to--;
	out->value = cut(line, from, to);
	if (!http_is_field_value(out->value))
		return "A header value has forbidden characters";
	return NULL;
}

struct str http_headers_get(const struct http_header *headers, size_t n_headers, const char *name, size_t *n)
{
	struct str want = str_of(name), found = { 0 };
	size_t count = 0;

	for (size_t i = 0; i < n_headers; i++)
		if (str_ieq(headers[i].name, want) && count++ == 0)
			found = headers[i].value;
	if (n)
		*n = count;
	return found;
}

static bool port_is_valid(struct str s)
{
	uint64_t port;

	return s.n == 0 || (s.n <= 5 && str_to_u64(s, &port) && port <= 65535);
}

static bool ip_literal_is_valid(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!strchr("0123456789abcdefABCDEF:.", s.p[i]) || s.p[i] == 0)
			return false;
	return s.n >= 2;
}

/* uri-host [":" port]; the host without port goes to h->host in lower case. */
static bool authority_parse(struct http_head *h, struct str a)
{
	const char *colon;
	struct str host;

	if (a.n > 0 && a.p[0] == '[') {
		const char *close = memchr(a.p, ']', a.n);

		if (!close || !ip_literal_is_valid(cut(a, 1, (size_t)(close - a.p))))
			return false;
		host = cut(a, 0, (size_t)(close - a.p) + 1);
		if (host.n < a.n && a.p[host.n] != ':')
			return false;
	} else {
		colon = memchr(a.p, ':', a.n);
		host = cut(a, 0, colon ? (size_t)(colon - a.p) : a.n);
		if (!all_of(host, CHAR_HOST))
			return false;
	}
	if (host.n == 0 || host.n > HTTP_HOST_MAX)
		return false;
	if (host.n < a.n && !port_is_valid(cut(a, host.n + 1, a.n)))
		return false;
	for (size_t i = 0; i < host.n; i++)
		h->host_lower[i] = host.p[i] >= 'A' && host.p[i] <= 'Z' ? (char)(host.p[i] | 0x20) : host.p[i];
	h->host_lower[host.n] = 0;
	h->host = (struct str){ h->host_lower, host.n };
	h->authority = a;
	return true;
}

static void split_query(struct http_head *h, struct str target)
{
	const char *mark = memchr(target.p, '?', target.n);
	size_t n = mark ? (size_t)(mark - target.p) : target.n;

	h->target = target;
	h->path = cut(target, 0, n);
	h->query = mark ? cut(target, n + 1, target.n) : (struct str){ target.p + n, 0 };
}

/* absolute-form: the authority is noted for the comparison with Host, the rest becomes origin-form. */
static const char *absolute_form(struct http_head *h, struct str target, struct str *authority)
{
	struct str http = STR("http://"), https = STR("https://");
	size_t skip, end;

	if (target.n > http.n && strncasecmp(target.p, http.p, http.n) == 0)
		skip = http.n;
	else if (target.n > https.n && strncasecmp(target.p, https.p, https.n) == 0)
		skip = https.n;
	else
		return "The request target is malformed";
	for (end = skip; end < target.n && target.p[end] != '/' && target.p[end] != '?';)
		end++;
	*authority = cut(target, skip, end);
	if (!authority_parse(h, *authority))
		return "The host of the request target is malformed";
	if (end < target.n && target.p[end] == '?')
		return "The request target has no path";
	if (end == target.n) {
		h->target = h->path = STR("/");
		return NULL;
	}
	split_query(h, cut(target, end, target.n));
	return NULL;
}

static const char *target_parse(struct http_head *h, struct str target, struct str *authority)
{
	if (target.n == 0 || !all_of(target, CHAR_TARGET))
		return "The request target has forbidden characters";
	if (target.p[0] == '/') {
		split_query(h, target);
		return NULL;
	}
	if (str_eq(target, STR("*"))) {
		if (!str_eq(h->method, STR("OPTIONS")))
			return "Only OPTIONS may ask for *";
		h->target = h->path = target;
		return NULL;
	}
	return absolute_form(h, target, authority);
}

static enum status request_line(struct str line, struct http_head *h, struct str *authority, const char **text)
{
	const char *space = memchr(line.p, ' ', line.n);
	struct str version = STR("HTTP/1.");
	size_t method_n, target_end;

	*text = "The request line is malformed";
	if (!space)
		return STATUS_BAD_REQUEST;
	method_n = (size_t)(space - line.p);
	if (method_n > HTTP_METHOD_MAX || !http_is_token(cut(line, 0, method_n)))
		return STATUS_BAD_REQUEST;
	target_end = line.n - version.n - 2;
	if (line.n < method_n + 1 + 1 + 1 + version.n + 1 || line.p[target_end] != ' ')
		return STATUS_BAD_REQUEST;
	if (memcmp(line.p + target_end + 1, version.p, version.n) != 0 || (line.p[line.n - 1] | 1) != '1') {
		*text = "Only HTTP/1.0 and HTTP/1.1 are spoken here";
		return STATUS_BAD_REQUEST;
	}
	h->minor = line.p[line.n - 1] - '0';
	h->method = cut(line, 0, method_n);
	if (str_eq(h->method, STR("CONNECT"))) {
		*text = "CONNECT is not supported";
		return STATUS_NOT_IMPLEMENTED;
	}
	*text = target_parse(h, cut(line, method_n + 1, target_end), authority);
	return *text ? STATUS_BAD_REQUEST : STATUS_OK;
}

void http_head_request_line(struct str in, struct http_head *h)
{
	struct str authority = { 0 };
	const char *lf, *text;

	if (str_starts(in, STR("\r\n")))
		in = cut(in, 2, in.n);
	lf = in.n ? memchr(in.p, '\n', in.n) : NULL;
	if (!lf || lf == in.p || lf[-1] != '\r')
		return;
	if (request_line(cut(in, 0, (size_t)(lf - in.p) - 1), h, &authority, &text) != STATUS_OK)
		h->method = h->target = h->path = h->query = (struct str){ 0 };
}

static const char *host_check(struct http_head *h, struct str authority)
{
	size_t n;
	struct str host = http_headers_get(h->headers, h->n_headers, "Host", &n);

	if (n > 1)
		return "There is more than one Host header";
	if (n == 0)
		return h->minor == 0 ? NULL : "The Host header is missing";
	if (authority.n > 0 && !str_ieq(authority, host))
		return "Host differs from the request target";
	return authority_parse(h, host) ? NULL : "The Host header is malformed";
}

static const char *length_check(struct http_head *h, size_t n_encodings)
{
	size_t n;
	struct str length = http_headers_get(h->headers, h->n_headers, "Content-Length", &n);

	if (n == 0)
		return NULL;
	if (n > 1)
		return "There is more than one Content-Length header";
	if (n_encodings > 0)
		return "Content-Length and Transfer-Encoding exclude each other";
	if (length.n > HTTP_LENGTH_DIGITS || !str_to_u64(length, &h->length))
		return "The Content-Length header is malformed";
	h->has_length = true;
	return NULL;
}

static enum status framing_check(struct http_head *h, const char **text)
{
	size_t n;
	struct str encoding = http_headers_get(h->headers, h->n_headers, "Transfer-Encoding", &n);

	*text = length_check(h, n);
	if (*text)
		return STATUS_BAD_REQUEST;
	if (n == 0)
		return STATUS_OK;
	*text = n > 1 ? "There is more than one Transfer-Encoding header" : "HTTP/1.0 has no Transfer-Encoding";
	if (n > 1 || h->minor == 0)
		return STATUS_BAD_REQUEST;
	*text = "The only transfer encoding supported is chunked";
	if (!str_ieq(encoding, STR("chunked")))
		return STATUS_NOT_IMPLEMENTED;
	h->chunked = true;
	return STATUS_OK;
}

static bool list_has(struct str list, struct str word)
{
	size_t i = 0;

	while (i < list.n) {
		size_t from, to;

		while (i < list.n && (list.p[i] == ' ' || list.p[i] == '\t' || list.p[i] == ','))
			i++;
		from = i;
		while (i < list.n && list.p[i] != ',')
			i++;
		for (to = i; to > from && (list.p[to - 1] == ' ' || list.p[to - 1] == '\t');)
			to--;
		if (str_ieq(cut(list, from, to), word))
			return true;
	}
	return false;
}

static void connection_check(struct http_head *h)
{
	bool close = false, keep = h->minor == 1;

	for (size_t i = 0; i < h->n_headers; i++) {
		const struct http_header *header = &h->headers[i];

		if (str_ieq(header->name, STR("Connection"))) {
			close |= list_has(header->value, STR("close"));
			keep |= list_has(header->value, STR("keep-alive"));
		} else if (h->minor == 1 && str_ieq(header->name, STR("Expect"))) {
			h->expect_continue = str_ieq(header->value, STR("100-continue"));
		}
	}
	h->keep_alive = keep && !close;
}

static enum status header_lines(struct str in, size_t at, struct http_head *h, const char **text)
{
	while (at < in.n) {
		const char *lf = memchr(in.p + at, '\n', in.n - at);
		size_t end = lf ? (size_t)(lf - in.p) : 0;

		if (!lf || end == at || in.p[end - 1] != '\r') {
			*text = "Lines must end with CR LF";
			return STATUS_BAD_REQUEST;
		}
		if (end - 1 == at)
			return STATUS_OK;
		if (h->n_headers == HTTP_HEADERS_MAX) {
			*text = "There are too many headers";
			return STATUS_HEADERS_TOO_LARGE;
		}
		*text = http_header_split(cut(in, at, end - 1), &h->headers[h->n_headers]);
		if (*text)
			return STATUS_BAD_REQUEST;
		h->n_headers++;
		at = end + 1;
	}
	*text = "The request head is not complete";
	return STATUS_BAD_REQUEST;
}

enum status http_head_parse(struct str in, struct http_head *h, const char **text)
{
	struct str authority = { 0 };
	enum status s;
	const char *lf;
	size_t end;

	h->method = h->target = h->path = h->query = h->host = h->authority = (struct str){ 0 };
	h->n_headers = 0;
	h->minor = 1;
	h->keep_alive = h->chunked = h->expect_continue = h->has_length = false;
	h->length = 0;
	if (in.n >= 2 && in.p[0] == '\r' && in.p[1] == '\n')
		in = cut(in, 2, in.n);
	*text = "Lines must end with CR LF";
	lf = memchr(in.p, '\n', in.n);
	end = lf ? (size_t)(lf - in.p) : 0;
	if (end == 0 || in.p[end - 1] != '\r')
		return STATUS_BAD_REQUEST;
	s = request_line(cut(in, 0, end - 1), h, &authority, text);
	if (s == STATUS_OK)
		s = header_lines(in, end + 1, h, text);
	if (s != STATUS_OK)
		return s;
	*text = host_check(h, authority);
	if (*text)
		return STATUS_BAD_REQUEST;
	s = framing_check(h, text);
	connection_check(h);
	return s;
}
