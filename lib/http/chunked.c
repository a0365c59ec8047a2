/* State machine of the chunked transfer coding. */
#include "http/chunked.h"

#include "http/head.h"

enum { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_LF, DONE, BAD };

static const char *bad(struct http_chunked *c, const char *why)
{
	c->state = BAD;
	return why;
}

static int hex_value(unsigned char b)
{
	if (b >= '0' && b <= '9')
		return b - '0';
	b |= 0x20;
	return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

static const char *on_size(struct http_chunked *c, unsigned char b)
{
	int digit = hex_value(b);

	if (digit >= 0) {
		if (++c->digits > HTTP_CHUNK_DIGITS)
			return bad(c, "A chunk size is too large");
		c->left = c->left << 4 | (unsigned)digit;
		return NULL;
	}
	if (c->digits == 0 || (b != ';' && b != '\r'))
		return bad(c, "A chunk size is malformed");
	c->line = 0;
	c->state = b == ';' ? EXTENSION : SIZE_LF;
	return NULL;
}

static const char *on_extension(struct http_chunked *c, unsigned char b)
{
	char byte = (char)b;

	if (b == '\r') {
		c->state = SIZE_LF;
		return NULL;
	}
	if (!http_is_field_value((struct str){ &byte, 1 }))
		return bad(c, "A chunk extension has forbidden characters");
	if (++c->line > HTTP_CHUNK_LINE_MAX || ++c->extensions > HTTP_CHUNK_EXTENSIONS_MAX)
		return bad(c, "Chunk extensions are too long");
	return NULL;
}

static const char *on_size_lf(struct http_chunked *c, unsigned char b)
{
	if (b != '\n')
		return bad(c, "A chunk size must end with CR LF");
	c->state = c->left > 0 ? DATA : TRAILER;
	c->digits = 0;
	c->line = 0;
	return NULL;
}

static const char *on_data_end(struct http_chunked *c, unsigned char b)
{
	if (b != (c->state == DATA_CR ? '\r' : '\n'))
		return bad(c, "A chunk must end with CR LF");
	c->state = c->state == DATA_CR ? DATA_LF : SIZE;
	return NULL;
}

/* A trailer that would have changed the framing is an attack, not an oversight. */
static bool is_framing(struct str name)
{
	return str_ieq(name, STR("Content-Length")) || str_ieq(name, STR("Transfer-Encoding")) || str_ieq(name, STR("Host"));
}

static const char *on_trailer_line(struct http_chunked *c)
{
	struct http_header h;
	const char *why;

	if (c->line == 0) {
		c->state = DONE;
		return NULL;
	}
	why = http_header_split((struct str){ c->trailer, c->line }, &h);
	if (why)
		return bad(c, why);
	if (is_framing(h.name))
		return bad(c, "A trailer may not be about framing");
	if (++c->trailer_fields > HTTP_TRAILER_FIELDS_MAX)
		return bad(c, "There are too many trailers");
	c->line = 0;
	c->state = TRAILER;
	return NULL;
}

static const char *on_trailer(struct http_chunked *c, unsigned char b)
{
	if (c->state == TRAILER_LF)
		return b == '\n' ? on_trailer_line(c) : bad(c, "A trailer must end with CR LF");
	if (b == '\r') {
		c->state = TRAILER_LF;
		return NULL;
	}
	if (c->line == sizeof(c->trailer) || ++c->trailer_bytes > HTTP_TRAILERS_MAX)
		return bad(c, "Trailers are too long");
	c->trailer[c->line++] = (char)b;
	return NULL;
}

static const char *step(struct http_chunked *c, unsigned char b)
{
	switch (c->state) {
	case SIZE: return on_size(c, b);
	case EXTENSION: return on_extension(c, b);
	case SIZE_LF: return on_size_lf(c, b);
	case DATA_CR:
	case DATA_LF: return on_data_end(c, b);
	default: return on_trailer(c, b);
	}
}

enum http_chunked_result http_chunked_next(struct http_chunked *c, struct str *in, struct str *data, const char **text)
{
	*text = NULL;
	while (c->state != DONE && in->n > 0) {
		if (c->state == BAD) {
			*text = "The body is malformed";
			return HTTP_CHUNKED_BAD;
		}
		if (c->state == DATA) {
			size_t n = c->left < in->n ? (size_t)c->left : in->n;

			*data = (struct str){ in->p, n };
			*in = (struct str){ in->p + n, in->n - n };
			c->left -= n;
			if (c->left == 0)
				c->state = DATA_CR;
			return HTTP_CHUNKED_DATA;
		}
		*text = step(c, (unsigned char)in->p[0]);
		if (*text)
			return HTTP_CHUNKED_BAD;
		*in = (struct str){ in->p + 1, in->n - 1 };
	}
	return c->state == DONE ? HTTP_CHUNKED_DONE : HTTP_CHUNKED_MORE;
}
