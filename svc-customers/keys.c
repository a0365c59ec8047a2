/* Finds the rows that Keys of requests mean. */
#include "svc-customers/keys.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/codec.h"
#include "base/wire.h"
#include "resource/resource.h"

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

static const char *cell(const PGresult *res, int row, int col)
{
	return PQgetisnull(res, row, col) ? NULL : PQgetvalue(res, row, col);
}

enum status entity_events(struct db_conn *db, struct rpc_call *call, const char *type, const char *entity, enum status s, PGresult *res)
{
	for (int i = 0; s == STATUS_OK && i < PQntuples(res); i++) {
		int64_t seq = 0;
		uint64_t version = 0;

		if (!str_to_i64(str_of(PQgetvalue(res, i, 1)), &seq) || !str_to_u64(str_of(PQgetvalue(res, i, 2)), &version))
			s = STATUS_INTERNAL;
		else
			s = resource_event(db, call, type, entity, PQgetvalue(res, i, 0), seq, version, cell(res, i, 3), cell(res, i, 4));
	}
	PQclear(res);
	return s;
}
