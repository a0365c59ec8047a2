/* Sealing what entries say about people, and opening it while the key is there. */
#include "svc-audit/subject.h"

#include <openssl/crypto.h>

#include "base/codec.h"
#include "base/wire.h"
#include "db/array.h"
#include "events/entity.h"
#include "events/event.h"
#include "events/pgconn.h"
#include "json/json.h"
#include "svc-audit/secret.h"

#define PURPOSE "subject-key"
#define SEALED "{\"sealed\":\""


struct subject {
	struct str entity, id;
	uint8_t key[SEAL_KEY];
	bool alive;
};

static const struct schema *contracts;

void subject_init(const struct schema *s)
{
	contracts = s;
}

static const char *bound_of(struct arena *a, struct str entity, struct str id)
{
	return arena_printf(a, "%.*s/%.*s", STR_FMT(entity), STR_FMT(id));
}

/* -- sealing */

static const struct schema_message *message_of(const struct event *e)
{
	return contracts ? entity_message(contracts, e->entity) : NULL;
}

static bool is_personal(const struct event *e)
{
	const struct schema_message *m = message_of(e);

	for (size_t i = 0; e->entity.n && e->entity_id.n && i < e->n_changed; i++) {
		if (entity_personal(m, e->changed[i]))
			return true;
	}
	return false;
}

static struct subject *subject_of(struct subject *rows, size_t n, struct str entity, struct str id)
{
	for (size_t i = 0; i < n; i++) {
		if (str_eq(rows[i].id, id) && str_eq(rows[i].entity, entity))
			return &rows[i];
	}
	return NULL;
}

static size_t subjects_of(const struct event *const *events, size_t n, struct subject *rows)
{
	size_t found = 0;

	for (size_t i = 0; i < n; i++) {
		if (is_personal(events[i]) && !subject_of(rows, found, events[i]->entity, events[i]->entity_id))
			rows[found++] = (struct subject){ .entity = events[i]->entity, .id = events[i]->entity_id };
	}
	return found;
}

/* New keys for those who have none; ordered, so that two instances do not wait for each other. */
static enum status keys_make(PGconn *c, struct arena *a, const struct subject *rows, size_t n, const char *params[3])
{
	struct buf entities = { 0 }, ids = { 0 }, wrapped = { 0 };

	for (size_t i = 0; i < n; i++) {
		uint8_t key[SEAL_KEY];

		random_bytes(key, sizeof(key));
		db_array_put(&entities, rows[i].entity);
		db_array_put(&ids, rows[i].id);
		db_array_put(&wrapped, str_of(secret_seal(a, PURPOSE, bound_of(a, rows[i].entity, rows[i].id), (struct str){ (const char *)key, sizeof(key) })));
		OPENSSL_cleanse(key, sizeof(key));
	}
	params[0] = db_array_end(&entities, a);
	params[1] = db_array_end(&ids, a);
	params[2] = db_array_end(&wrapped, a);
	return pgconn_exec(c, NULL, "INSERT INTO subject_key (tenant_id, entity, entity_id, wrapped) SELECT current_setting('app.tenant_id')::uuid, s.e, s.i, s.w"
		" FROM unnest($1::text[], $2::text[], $3::bytea[]) AS s(e, i, w) ORDER BY s.e, s.i ON CONFLICT DO NOTHING", 3, params);
}

static bool key_open(struct arena *a, struct str entity, struct str id, struct str wrapped, uint8_t key[SEAL_KEY])
{
	struct str raw;

	if (!wrapped.n || !secret_open(a, PURPOSE, bound_of(a, entity, id), wrapped, &raw) || raw.n != SEAL_KEY)
		return false;
	memcpy(key, raw.p, SEAL_KEY);
	return true;
}

static enum status keys_read(PGconn *c, struct arena *a, struct subject *rows, size_t n)
{
	const char *params[3];
	PGresult *r = NULL;
	enum status s = keys_make(c, a, rows, n, params);

	if (s == STATUS_OK)
		s = pgconn_exec(c, &r, "SELECT k.entity, k.entity_id, k.wrapped FROM unnest($1::text[], $2::text[]) AS s(e, i)"
		    " CROSS JOIN LATERAL (SELECT * FROM subject_key k WHERE k.entity = s.e AND k.entity_id = s.i OFFSET 0) k",
		    2, params);
	for (int i = 0; s == STATUS_OK && i < PQntuples(r); i++) {
		struct subject *t = subject_of(rows, n, str_of(PQgetvalue(r, i, 0)), str_of(PQgetvalue(r, i, 1)));

		/* a key that cannot be opened is another master key: better no entry now than one that nobody can read */
		if (t && !PQgetisnull(r, i, 2)) {
			t->alive = key_open(a, t->entity, t->id, str_of(PQgetvalue(r, i, 2)), t->key);
			if (!t->alive)
				s = STATUS_UNAVAILABLE;
		}
	}
	PQclear(r);
	return s;
}

/* An empty seal: the subject was erased before the entry was made. */
static void value_seal(struct buf *b, struct arena *a, const struct subject *t, const struct json *v)
{
	size_t n = v->raw.n + SEAL_EXTRA;
	uint8_t *raw = arena_alloc(a, n);
	char *text = arena_alloc(a, n * 4 / 3 + 4);

	buf_z(b, SEALED);
	if (t->alive) {
		seal(t->key, v->key, v->raw, raw);
		b64url_encode(raw, n, text);
		buf_z(b, text);
	}
	buf_z(b, "\"}");
}

static struct str object_seal(struct arena *a, const struct subject *t, const struct schema_message *m, struct str text)
{
	struct json_error err;
	const struct json *o = text.n ? json_parse(a, text, &err) : NULL;
	struct buf b = { 0 };
	struct str out;

	if (!o || o->type != JSON_OBJECT)
		return text;
	for (const struct json *v = o->child; v; v = v->next) {
		buf_c(&b, b.n ? ',' : '{');
		buf_json_str(&b, v->key);
		buf_c(&b, ':');
		if (v->type != JSON_NULL && entity_personal(m, v->key))
			value_seal(&b, a, t, v);
		else
			buf_str(&b, v->raw);
	}
	buf_z(&b, b.n ? "}" : "{}");
	out = arena_str(a, buf_view(&b));
	buf_fini(&b);
	return out;
}

enum status subject_seal(PGconn *c, struct arena *a, const struct event *const *events, size_t n, const struct event **out)
{
	struct subject *rows = arena_alloc(a, n * sizeof(*rows) + 1);
	size_t found = subjects_of(events, n, rows);
	enum status s = found ? keys_read(c, a, rows, found) : STATUS_OK;

	for (size_t i = 0; s == STATUS_OK && i < n; i++) {
		const struct subject *t = is_personal(events[i]) ? subject_of(rows, found, events[i]->entity, events[i]->entity_id) : NULL;
		struct event *e;

		out[i] = events[i];
		if (!t)
			continue;
		e = arena_dup(a, events[i], sizeof(*e));
		e->before = object_seal(a, t, message_of(e), e->before);
		e->after = object_seal(a, t, message_of(e), e->after);
		out[i] = e;
	}
	OPENSSL_cleanse(rows, found * sizeof(*rows));
	return s;
}

/* -- opening */

/* The text inside {"sealed": "…"}; false: it is another value. */
static bool is_sealed(const struct json *v, struct str *text)
{
	if (v->type != JSON_OBJECT || v->n != 1 || !str_eq(v->child->key, STR("sealed")) || v->child->type != JSON_STRING)
		return false;
	*text = v->child->text;
	return true;
}

static void value_open(struct buf *b, struct arena *a, const uint8_t *key, const struct json *v, struct str text)
{
	uint8_t *raw = arena_alloc(a, text.n + 1), *out = arena_alloc(a, text.n + 1);
	long n = key && text.n ? b64url_decode(text, raw) : -1;

	if (n > SEAL_EXTRA && unseal(key, v->key, (struct str){ (char *)raw, (size_t)n }, out))
		buf_put(b, out, (size_t)n - SEAL_EXTRA);
	else
		buf_z(b, "\"" SUBJECT_GONE "\"");
}

struct str subject_open(struct arena *a, struct str json, struct str entity, struct str id, struct str wrapped)
{
	struct json_error err;
	const struct json *o;
	uint8_t key[SEAL_KEY];
	struct buf b = { 0 };
	struct str out, text;
	bool alive;

	if (!json.n || !memmem(json.p, json.n, SEALED, sizeof(SEALED) - 1))
		return json;
	o = json_parse(a, json, &err);
	if (!o || o->type != JSON_OBJECT)
		return json;
	alive = key_open(a, entity, id, wrapped, key);
	for (const struct json *v = o->child; v; v = v->next) {
		buf_c(&b, b.n ? ',' : '{');
		buf_json_str(&b, v->key);
		buf_c(&b, ':');
		if (is_sealed(v, &text))
			value_open(&b, a, alive ? key : NULL, v, text);
		else
			buf_str(&b, v->raw);
	}
	buf_c(&b, '}');
	OPENSSL_cleanse(key, sizeof(key));
	out = arena_str(a, buf_view(&b));
	buf_fini(&b);
	return out;
}

/* Fields of crm.v1.AuditEntry. */
enum { F_ENTITY = 18, F_ID = 19, F_BEFORE = 29, F_AFTER = 30, F_SUBJECT_KEY = 33 };

void subject_reveal(struct str entry, struct buf *out)
{
	struct str entity = { 0 }, id = { 0 }, wrapped = { 0 };
	struct wire_reader r = wire_read(entry);
	struct wire_field f;
	struct arena a = { 0 };

	while (wire_next(&r, &f)) {
		if (f.type == WIRE_BYTES && f.number == F_ENTITY)
			entity = f.bytes;
		else if (f.type == WIRE_BYTES && f.number == F_ID)
			id = f.bytes;
		else if (f.type == WIRE_BYTES && f.number == F_SUBJECT_KEY)
			wrapped = f.bytes;
	}
	r = wire_read(entry);
	while (wire_next(&r, &f)) {
		if (f.number == F_SUBJECT_KEY)
			continue;
		if (f.type == WIRE_BYTES && (f.number == F_BEFORE || f.number == F_AFTER))
			wire_put_bytes(out, f.number, subject_open(&a, f.bytes, entity, id, wrapped));
		else if (f.type == WIRE_BYTES)
			wire_put_bytes(out, f.number, f.bytes);
		else
			wire_put_varint(out, f.number, f.value);
	}
	arena_fini(&a);
}
