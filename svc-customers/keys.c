/* Finds the rows that Keys of requests mean. */
#include "svc-customers/keys.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/codec.h"
#include "base/wire.h"

struct entity_key entity_key_read(struct rpc_call *call, struct str wire)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field f;
	struct entity_key k = { 0 };
	char uuid[UUID_TEXT + 1];

	while (wire_next(&r, &f)) {
		if (f.number == 1 && f.type == WIRE_BYTES && f.bytes.n) {
			k.bad = !uuid_parse(f.bytes, uuid);
			k.id = k.bad ? NULL : arena_strdup(&call->arena, str_of(uuid));
		} else if (f.number == 2 && f.type == WIRE_VARINT && f.value) {
			k.seq = arena_printf(&call->arena, "%" PRId64, (int64_t)f.value);
		}
	}
	if (k.id)
		k.seq = NULL;
	k.bad |= r.bad;
	return k;
}

enum status entity_find(struct db_conn *db, const char *table, const struct entity_key *k, char id[37])
{
	char sql[128];
	const char *params[] = { k->id ? k->id : k->seq };
	PGresult *res = NULL;
	enum status s;

	if (k->bad || !params[0])
		return STATUS_NOT_FOUND;
	snprintf(sql, sizeof(sql), "SELECT id FROM %s WHERE deleted_at IS NULL AND %s", table, k->id ? "id = $1::uuid" : "seq = $1::bigint");
	s = db_exec(db, &res, sql, 1, params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK && !uuid_parse(str_of(PQgetvalue(res, 0, 0)), id))
		s = STATUS_INTERNAL;
	PQclear(res);
	return s;
}
