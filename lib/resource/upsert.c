/*
 * Upsert: a row is created, or changed where a live one has its external_id. Those who mean the same id wait for each other
 * at a lock that is taken before anything is written, so the row is looked for by one at a time, and each finds what the one before has made.
 */
#include "resource/write.h"

static const char *external_of(const struct write *w)
{
	for (size_t i = 0; i < w->fresh->n_sets; i++)
		if (w->fresh->sets[i].col == w->b->external)
			return w->fresh->sets[i].text;
	return NULL;
}

enum status upsert_parse(struct write *w, struct str entity, const uint32_t *mask, size_t n_mask)
{
	enum status s;

	w->fresh = ARENA_NEW(&w->call->arena, struct values);
	s = values_parse(w->call, w->b->plan, entity, mask, n_mask, true, w->fresh);
	if (s == STATUS_OK)
		s = values_parse(w->call, w->b->plan, entity, mask, n_mask, false, &w->values);
	if (s == STATUS_OK && (!external_of(w) || !*external_of(w))) {
		rpc_violate(w->call, w->b->external->f->name, "required", "is required", NULL);
		s = STATUS_VALIDATION_ERROR;
	}
	return s;
}

static enum status find(struct write *w, struct db_conn *db, const char *external)
{
	const char *table = w->b->plan->r->table, *params[] = { w->actor.tenant, external };
	const char *lock = arena_printf(&w->call->arena,
	    "SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(chr(31), 'crm.external', current_schema(), '%s', $1::text, $2::text), 0))", table);
	const char *look = arena_printf(&w->call->arena, "SELECT t.id FROM %s t WHERE t.tenant_id = $1::uuid AND t.external_id = $2::text AND t.deleted_at IS NULL", table);
	PGresult *res = NULL;
	enum status s = db_exec(db, NULL, lock, 2, params);

	if (s == STATUS_OK)
		s = db_exec(db, &res, look, 2, params);
	if (s == STATUS_OK && PQntuples(res) == 1)
		w->key = (struct key){ .id = arena_strdup(&w->call->arena, str_of(PQgetvalue(res, 0, 0))) };
	PQclear(res);
	return s;
}

enum status upsert_choose(struct write *w, struct db_conn *db)
{
	enum status s = find(w, db, external_of(w));

	if (s != STATUS_OK)
		return s;
	if (!w->key.id && w->version)
		return STATUS_PRECONDITION_FAILED; /* a version of what is not there */
	w->kind = w->key.id ? OP_UPDATE : OP_CREATE;
	if (w->kind == OP_CREATE)
		w->values = *w->fresh;
	write_build(w);
	return w->sql.over ? STATUS_BAD_REQUEST : STATUS_OK;
}
