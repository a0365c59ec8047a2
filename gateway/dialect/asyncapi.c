/* AsyncAPI 3.0: what the feed and the bus tell, from the same contracts and resources that tell it. */
#include "events/entity.h"
#include "gateway/dialect/openapi.h"

#define FEED_RPC "Feed.Read"

struct doc {
	struct oa oa; /* of the dialect that has the feed */
	const struct schema *schema;
	const struct route_impl *feed;
	const struct schema_method *methods;
	size_t n;
};

/* "customers.lead.created" → "lead" */
static struct str word_of(const char *event)
{
	const char *first = strchr(event, '.'), *second = first ? strchr(first + 1, '.') : NULL;

	return second ? (struct str){ first + 1, (size_t)(second - first - 1) } : (struct str){ "", 0 };
}

/* Several methods may make the same event; the first describes it. */
static bool is_first(const struct doc *d, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (d->methods[k].event && strcmp(d->methods[k].event, d->methods[i].event) == 0)
			return false;
	}
	return true;
}

static bool is_first_service(const struct doc *d, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (d->methods[k].event && strcmp(d->methods[k].service, d->methods[i].service) == 0)
			return false;
	}
	return true;
}

static void reference(struct buf *b, const char *to, const char *name)
{
	buf_printf(b, "{\"$ref\":\"#/%s/%s\"}", to, name);
}

static void servers_print(struct buf *b, struct str scheme, struct str authority)
{
	oa_key(b, "servers");
	buf_c(b, '{');
	oa_key(b, "api");
	buf_c(b, '{');
	oa_text(b, "host", authority);
	oa_text(b, "protocol", scheme);
	oa_text(b, "description", STR("Each tenant's own events, for integrators"));
	buf_z(b, "}");
	oa_key(b, "bus");
	buf_z(b, "{\"host\":\"{brokers}\",\"protocol\":\"kafka\",\"variables\":{\"brokers\":{\"default\":\"localhost:9092\"}}");
	oa_text(b, "description", STR("All tenants' events, for consumers of the operator's; only where the bus is Kafka"));
	buf_z(b, "}}");
}

static void feed_channel(struct doc *d)
{
	struct buf *b = d->oa.b;

	oa_key(b, "feed");
	buf_c(b, '{');
	oa_text(b, "address", str_of(d->feed->pub.template));
	oa_text(b, "title", str_of(d->feed->src->summary));
	buf_z(b, ",\"servers\":[{\"$ref\":\"#/servers/api\"}],\"messages\":{");
	for (size_t i = 0; i < d->n; i++) {
		if (!d->methods[i].event || !is_first(d, i))
			continue;
		oa_key(b, d->methods[i].event);
		reference(b, "components/messages", d->methods[i].event);
	}
	buf_z(b, "}}");
}

static void bus_channels(struct doc *d)
{
	struct buf *b = d->oa.b;

	for (size_t i = 0; i < d->n; i++) {
		const char *topic;

		if (!d->methods[i].event || !is_first_service(d, i))
			continue;
		topic = arena_printf(&d->oa.arena, "crm.%s.v1", d->methods[i].service);
		oa_key(b, topic);
		buf_c(b, '{');
		oa_text(b, "address", str_of(topic));
		buf_z(b, ",\"servers\":[{\"$ref\":\"#/servers/bus\"}],\"messages\":{\"record\":{\"$ref\":\"#/components/messages/record\"}}");
		oa_text(b, "description", str_of(arena_printf(&d->oa.arena, "Keyed by the entity's id, which keeps its order. What a consumer cannot do is in %s.dlq", topic)));
		buf_c(b, '}');
	}
}

static void operations_print(struct doc *d)
{
	struct buf *b = d->oa.b;

	oa_key(b, "operations");
	buf_z(b, "{\"feed\":{\"action\":\"send\",\"channel\":{\"$ref\":\"#/channels/feed\"},\"bindings\":{\"http\":{\"method\":\"GET\",\"bindingVersion\":\"0.3.0\"}},"
		 "\"security\":[{\"$ref\":\"#/components/securitySchemes/bearer\"}]");
	oa_text(b, "summary", str_of(d->feed->src->summary));
	buf_c(b, '}');
	for (size_t i = 0; i < d->n; i++) {
		if (!d->methods[i].event || !is_first_service(d, i))
			continue;
		oa_key(b, arena_printf(&d->oa.arena, "publish.%s", d->methods[i].service));
		buf_printf(b, "{\"action\":\"send\",\"channel\":{\"$ref\":\"#/channels/crm.%s.v1\"}}", d->methods[i].service);
	}
	buf_c(b, '}');
}

static const struct schema_message *entity_of(const struct doc *d, const struct schema_method *m)
{
	return entity_message(d->schema, word_of(m->event));
}

static void message_print(struct doc *d, const struct schema_method *m)
{
	struct buf *b = d->oa.b;
	const struct schema_message *entity = entity_of(d, m);

	oa_key(b, m->event);
	buf_c(b, '{');
	oa_text(b, "name", str_of(m->event));
	if (*m->doc)
		oa_text(b, "summary", str_of(m->doc));
	oa_text(b, "contentType", STR("application/cloudevents+json"));
	oa_key(b, "payload");
	buf_z(b, "{\"allOf\":[{");
	oa_resource_ref(&d->oa, d->feed->out, OA_OUT);
	buf_z(b, "},{\"type\":\"object\",\"properties\":{\"type\":{\"const\":");
	buf_json_str(b, str_of(m->event));
	buf_c(b, '}');
	if (entity)
		buf_printf(b, ",\"data\":{\"type\":\"object\",\"properties\":{\"entity\":{\"oneOf\":[{\"$ref\":\"#/components/schemas/entity.%s\"},{\"type\":\"null\"}]}}}",
		    entity->entity);
	buf_z(b, "}}]}}");
}

static const char *proto_type(const struct schema_field *f)
{
	static const char *const words[] = { [TYPE_STRING] = "string", [TYPE_BYTES] = "bytes", [TYPE_INT32] = "int32", [TYPE_INT64] = "int64", [TYPE_UINT32] = "uint32",
		[TYPE_UINT64] = "uint64", [TYPE_BOOL] = "bool", [TYPE_DOUBLE] = "double", [TYPE_FIXED32] = "fixed32", [TYPE_FIXED64] = "fixed64", [TYPE_ENUM] = "int32" };

	return f->type == TYPE_MESSAGE ? f->message->name : words[f->type];
}

/* The value of a record is protobuf: its definition is the description. */
static void record_print(struct doc *d)
{
	static const char *const headers[] = { "ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_subject", "tenant", "actor", "traceparent" };
	const struct schema_message *m = schema_message_find(d->schema, STR("crm.v1.Event"));
	struct buf *b = d->oa.b, text = { 0 };

	if (!m)
		return;
	buf_printf(&text, "CloudEvents 1.0 in binary mode; the value is protobuf:\n\n```proto\nmessage %s {\n", m->name);
	for (size_t i = 0; i < m->n_fields; i++) {
		const struct schema_field *f = &m->fields[i];

		buf_printf(&text, "  %s %s %s = %u;%s%s\n", f->repeated ? "repeated" : "optional", proto_type(f), f->name, f->number, *f->doc ? "  // " : "", f->doc);
	}
	buf_z(&text, "}\n```");
	oa_key(b, "record");
	buf_z(b, "{\"name\":\"record\",\"contentType\":\"application/protobuf\"");
	oa_text(b, "description", buf_view(&text));
	buf_z(b, ",\"headers\":{\"type\":\"object\",\"properties\":{");
	for (size_t i = 0; i < sizeof(headers) / sizeof(*headers); i++) {
		oa_key(b, headers[i]);
		buf_z(b, "{\"type\":\"string\"}");
	}
	buf_z(b, "}},\"payload\":{\"type\":\"string\",\"contentMediaType\":\"application/protobuf\"}}");
	buf_fini(&text);
}

static bool entity_is_first(const struct doc *d, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (d->methods[k].event && entity_of(d, &d->methods[k]) == entity_of(d, &d->methods[i]))
			return false;
	}
	return true;
}

static void components_print(struct doc *d)
{
	struct buf *b = d->oa.b;

	oa_key(b, "components");
	buf_z(b, "{\"securitySchemes\":{\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\"}},\"messages\":{");
	for (size_t i = 0; i < d->n; i++) {
		if (d->methods[i].event && is_first(d, i))
			message_print(d, &d->methods[i]);
	}
	record_print(d);
	buf_z(b, "},\"schemas\":{");
	for (size_t i = 0; i < d->n; i++) {
		const struct schema_message *m = d->methods[i].event ? entity_of(d, &d->methods[i]) : NULL;

		if (!m || !entity_is_first(d, i))
			continue;
		oa_key(b, arena_printf(&d->oa.arena, "entity.%s", m->entity));
		contract_schema(m, b);
	}
	oa_resources(&d->oa);
	buf_z(b, "}}");
}

static const struct route_impl *feed_find(const struct dialects *ds)
{
	const struct dialect *const *rows;
	size_t n = dialects_all(ds, &rows);

	for (size_t i = 0; i < n; i++) {
		const struct dialect_impl *d = rows[i]->impl;

		for (size_t k = 0; k < d->n_routes; k++) {
			if (d->routes[k].pub.feed)
				return &d->routes[k];
		}
	}
	return NULL;
}

bool dialects_asyncapi(const struct dialects *ds, const char *version, struct str scheme, struct str authority, struct buf *out)
{
	struct doc d = { .schema = dialects_schema(ds), .feed = feed_find(ds) };

	if (!d.feed)
		return false;
	d.n = schema_methods(d.schema, &d.methods);
	d.oa = (struct oa){ .ds = ds, .d = d.feed->dialect, .b = out };
	for (int side = OA_OUT; side < OA_SIDES; side++)
		d.oa.used[side] = arena_zalloc(&d.oa.arena, (d.oa.d->n_resources + 1) * sizeof(bool));
	buf_z(out, "{\"asyncapi\":\"3.0.0\",\"info\":{\"title\":\"CRM events\"");
	oa_text(out, "version", str_of(version));
	oa_text(out, "description", STR("What happened, as CloudEvents 1.0: at least once, in the order of each entity, 7 days back."));
	buf_z(out, "},\"defaultContentType\":\"application/json\"");
	servers_print(out, scheme, authority);
	oa_key(out, "channels");
	buf_c(out, '{');
	feed_channel(&d);
	bus_channels(&d);
	buf_c(out, '}');
	operations_print(&d);
	components_print(&d);
	buf_c(out, '}');
	arena_fini(&d.oa.arena);
	return true;
}
