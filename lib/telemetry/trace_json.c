/* Spans in OTLP's JSON form: ids in hex, enums as numbers, 64-bit numbers as text (opentelemetry-proto, docs/specification.md). */
#include "base/codec.h"
#include "telemetry/trace_internal.h"

static void hex(struct buf *b, const char *key, const uint8_t *p, size_t n)
{
	char text[33];

	hex_encode(p, n, text);
	buf_printf(b, "\"%s\":\"%s\"", key, text);
}

/* A value that was cut may end in half a character. */
static struct str whole(struct str s)
{
	for (int i = 0; i < 4 && s.n && !str_is_utf8(s); i++)
		s.n--;
	return str_is_utf8(s) ? s : STR("(not UTF-8)");
}

void trace_json_text(struct buf *b, struct str key, struct str value)
{
	buf_z(b, "{\"key\":");
	buf_json_str(b, whole(key));
	buf_z(b, ",\"value\":{\"stringValue\":");
	buf_json_str(b, whole(value));
	buf_z(b, "}}");
}

static void put_attr(struct buf *b, const struct span *s, const struct span_attr *a)
{
	switch (a->type) {
	case SPAN_ATTR_TEXT: trace_json_text(b, str_of(a->key), (struct str){ s->text + a->at, a->n }); break;
	case SPAN_ATTR_INT: buf_printf(b, "{\"key\":\"%s\",\"value\":{\"intValue\":\"%lld\"}}", a->key, (long long)a->number); break;
	case SPAN_ATTR_BOOL: buf_printf(b, "{\"key\":\"%s\",\"value\":{\"boolValue\":%s}}", a->key, a->number ? "true" : "false"); break;
	}
}

void trace_json_begin(struct buf *b, struct str resource_attributes, struct str scope_version)
{
	buf_z(b, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
	buf_str(b, resource_attributes);
	buf_z(b, "]},\"scopeSpans\":[{\"scope\":{\"name\":\"crm\",\"version\":");
	buf_json_str(b, scope_version);
	buf_z(b, "},\"spans\":[");
}

static bool is_none(const uint8_t *p, size_t n)
{
	while (n && !p[n - 1])
		n--;
	return n == 0;
}

void trace_json_span(struct buf *b, const struct span *s)
{
	buf_c(b, '{');
	hex(b, "traceId", s->at.trace, 16);
	buf_c(b, ',');
	hex(b, "spanId", s->at.span, 8);
	if (!is_none(s->parent, 8)) {
		buf_c(b, ',');
		hex(b, "parentSpanId", s->parent, 8);
	}
	buf_z(b, ",\"name\":");
	buf_json_str(b, whole((struct str){ s->text + s->name_at, s->name_n }));
	buf_printf(b, ",\"kind\":%d,\"startTimeUnixNano\":\"%lld\",\"endTimeUnixNano\":\"%lld\",\"attributes\":[", (int)s->kind, (long long)s->start_ns,
	    (long long)s->end_ns);
	for (unsigned i = 0; i < s->n_attrs; i++) {
		if (i)
			buf_c(b, ',');
		put_attr(b, s, &s->attrs[i]);
	}
	buf_c(b, ']');
	if (!is_none(s->link.trace, 16)) {
		buf_z(b, ",\"links\":[{");
		hex(b, "traceId", s->link.trace, 16);
		buf_c(b, ',');
		hex(b, "spanId", s->link.span, 8);
		buf_z(b, "}]");
	}
	buf_z(b, s->error ? ",\"status\":{\"code\":2}}" : ",\"status\":{}}");
}

void trace_json_end(struct buf *b)
{
	buf_z(b, "]}]}]}");
}
