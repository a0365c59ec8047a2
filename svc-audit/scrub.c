/* Takes what the bus says about people out of it. */
#include "svc-audit/scrub.h"

#include <poll.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/codec.h"
#include "events/bus.h"
#include "events/event.h"
#include "events/pgconn.h"
#include "proto/audit.pb-c.h"
#include "resource/handler.h"

#define BUS_TIMEOUT_MS 20000
#define BUS_WAIT_US 3000000

/* The record again, without what it says about the entity. */
static enum status record_empty(PGconn *c, const PGresult *r, int row)
{
	struct buf b = { 0 };
	struct event e;
	uint8_t *raw;
	size_t n = strlen(PQgetvalue(r, row, 3));
	char *hex;
	const char *params[] = { PQgetvalue(r, row, 0), PQgetvalue(r, row, 1), PQgetvalue(r, row, 2), NULL };
	enum status s = STATUS_OK;

	if (n < 2)
		return STATUS_OK;
	raw = xcalloc(1, n / 2 + 1);
	if (hex_decode((struct str){ PQgetvalue(r, row, 3) + 2, n - 2 }, raw, (n - 2) / 2) && event_decode((struct str){ (char *)raw, (n - 2) / 2 }, &e) &&
	    (e.before.n || e.after.n || e.data.n)) {
		e.before = e.after = e.data = (struct str){ 0 };
		event_encode(&b, &e);
		hex = xcalloc(1, 2 * b.n + 3);
		memcpy(hex, "\\x", 2);
		hex_encode(b.p, b.n, hex + 2);
		params[3] = hex;
		s = pgconn_exec(c, NULL, "SELECT record_replace($1, $2::xid8, $3::bigint, $4::bytea)", 4, params);
		free(hex);
		buf_fini(&b);
	}
	free(raw);
	return s;
}

/* Relays keep the order: once the event of the erasure is on the bus, so is all that came before it. */
static void bus_wait(PGconn *c, const char *ids)
{
	int64_t until = clock_mono_us() + BUS_WAIT_US;
	bool there = false;

	while (!there && clock_mono_us() < until) {
		PGresult *r = NULL;

		if (pgconn_exec(c, &r, "SELECT count(*) = cardinality($1::text[]) FROM unnest($1::text[]) i WHERE EXISTS (SELECT FROM record WHERE key = i"
			" AND headers->>'ce_type' LIKE '%.erased')", 1, &ids) != STATUS_OK)
			return;
		there = PQgetvalue(r, 0, 0)[0] == 't';
		PQclear(r);
		if (!there)
			poll(NULL, 0, 50);
	}
}

enum status bus_scrub(const char *bus_url, const char *ids, bool changed)
{
	PGconn *c;
	PGresult *r = NULL;
	enum status s = STATUS_UNAVAILABLE;

	if (!bus_is_postgres(bus_url))
		return STATUS_OK;
	c = pgconn_open(bus_url, "crm-privacy", BUS_TIMEOUT_MS);
	if (c && changed)
		bus_wait(c, ids);
	if (c)
		s = pgconn_exec(c, &r, "SELECT topic, xid, position, value FROM record WHERE key = ANY($1::text[])", 1, &ids);
	for (int i = 0; s == STATUS_OK && i < PQntuples(r); i++)
		s = record_empty(c, r, i);
	PQclear(r);
	PQfinish(c);
	return s;
}

/* The event again, without the entity. */
static enum status event_empty(struct rpc_call *call, struct db_conn *db, const char *place, struct str hex)
{
	uint8_t *raw = arena_alloc(&call->arena, hex.n / 2 + 1);
	Crm__V1__FeedEvent *e;
	struct str value;
	char *text;
	const char *params[2] = { place };

	if (hex.n < 2 || !hex_decode((struct str){ hex.p + 2, hex.n - 2 }, raw, (hex.n - 2) / 2))
		return STATUS_INTERNAL;
	e = handler_unpack(call, &crm__v1__feed_event__descriptor, (struct str){ (char *)raw, (hex.n - 2) / 2 });
	if (!e || !e->data || !e->data->has_entity)
		return e ? STATUS_OK : STATUS_INTERNAL;
	e->data->has_entity = false;
	value = handler_pack(call, e);
	text = arena_zalloc(&call->arena, 2 * value.n + 3);
	memcpy(text, "\\x", 2);
	hex_encode(value.p, value.n, text + 2);
	params[1] = text;
	return db_exec(db, NULL, "UPDATE feed SET value = $2::bytea WHERE position = $1::bigint", 2, params);
}

enum status feed_scrub(struct rpc_call *call, struct db_conn *db, const char *ids)
{
	PGresult *r = NULL;
	enum status s = db_exec(db, &r, "SELECT f.position, f.value FROM feed f WHERE EXISTS (SELECT FROM unnest($1::text[]) i WHERE position(convert_to(i, 'UTF8') IN f.value) > 0)", 1, &ids);

	for (int i = 0; s == STATUS_OK && i < PQntuples(r); i++)
		s = event_empty(call, db, PQgetvalue(r, i, 0), str_of(PQgetvalue(r, i, 1)));
	PQclear(r);
	return s;
}
