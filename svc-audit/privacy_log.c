/* The log's part of exports and erasures. */
#include "svc-audit/privacy_log.h"

#include "base/codec.h"
#include "resource/subjects.h"
#include "svc-audit/scrub.h"
#include "svc-audit/subject.h"

#define ENTRIES_MAX 2000
#define DOCUMENT_MAX (3u << 20)
#define SUBJECTS_SQL " jsonb_to_recordset($1::jsonb) AS s(entity text, id text)"

const char *privacy_subjects(struct rpc_call *call, const Crm__V1__SubjectsReply *found)
{
	struct buf b = { 0 };
	char *out;

	buf_c(&b, '[');
	for (size_t i = 0; i < found->n_subject; i++) {
		buf_z(&b, i ? ",{\"entity\":" : "{\"entity\":");
		buf_json_str(&b, str_of(found->subject[i]->entity));
		buf_z(&b, ",\"id\":");
		buf_json_str(&b, str_of(found->subject[i]->id));
		buf_c(&b, '}');
	}
	buf_c(&b, ']');
	out = arena_strdup(&call->arena, buf_view(&b));
	buf_fini(&b);
	return out;
}

/* -- erasing */

static enum status hold_check(struct db_conn *db, const char *subjects)
{
	PGresult *r = NULL;
	enum status s = db_exec(db, &r, "SELECT EXISTS (SELECT FROM legal_hold h WHERE h.deleted_at IS NULL AND (h.resource IS NULL OR EXISTS (SELECT FROM" SUBJECTS_SQL
		" WHERE s.entity = h.resource AND (h.resource_id IS NULL OR h.resource_id::text = s.id))))", 1, &subjects);

	if (s == STATUS_OK && PQgetvalue(r, 0, 0)[0] == 't')
		s = STATUS_CONFLICT;
	PQclear(r);
	return s;
}

static enum status erasure_write(struct rpc_call *call, struct db_conn *db, const char *subjects)
{
	char id[UUID_TEXT + 1];
	const char *params[] = { subjects, id, param_str(call, call->who.user_id) };

	uuid7(id);
	return db_exec(db, NULL, "INSERT INTO erasure (tenant_id, id, subjects, asked_by) SELECT current_setting('app.tenant_id')::uuid, $2::uuid, $1::jsonb, $3::uuid"
		" WHERE jsonb_array_length($1::jsonb) > 0", 3, params);
}

enum status privacy_begin(struct rpc_call *call, struct db_conn *db, const char *subjects, const char **all)
{
	PGresult *r = NULL;
	enum status s = hold_check(db, subjects);

	if (s == STATUS_OK)
		s = db_exec(db, NULL, "INSERT INTO subject_key AS k (tenant_id, entity, entity_id, wrapped, erased_at)"
			" SELECT current_setting('app.tenant_id')::uuid, s.entity, s.id, NULL, now() FROM" SUBJECTS_SQL " ORDER BY s.entity, s.id"
			" ON CONFLICT (tenant_id, entity, entity_id) DO UPDATE SET wrapped = NULL, erased_at = coalesce(k.erased_at, now())", 1, &subjects);
	if (s == STATUS_OK)
		s = erasure_write(call, db, subjects);
	if (s == STATUS_OK)
		s = db_exec(db, &r, "SELECT coalesce(jsonb_agg(DISTINCT x), '[]') FROM erasure e, jsonb_array_elements(e.subjects) x WHERE e.done_at IS NULL", 0, NULL);
	if (s == STATUS_OK)
		*all = col_text(call, r, 0, 0);
	PQclear(r);
	return s;
}

static enum status ids_of(struct rpc_call *call, struct db_conn *db, const char *subjects, const char **ids)
{
	PGresult *r = NULL;
	enum status s = db_exec(db, &r, "SELECT coalesce(array_agg(DISTINCT s.id), '{}') FROM" SUBJECTS_SQL, 1, &subjects);

	if (s == STATUS_OK)
		*ids = col_text(call, r, 0, 0);
	PQclear(r);
	return s;
}

static enum status note(struct rpc_call *call, struct db_conn *db, const char *type, const char *subjects)
{
	const char *after = arena_printf(&call->arena, "{\"subjects\":%s}", subjects);
	char id[UUID_TEXT + 1];

	uuid7(id);
	return resource_event(db, call, type, "privacy", id, 0, 0, NULL, after);
}

enum status privacy_end(struct rpc_call *call, struct db_conn *db, const char *bus_url, const char *subjects, bool changed)
{
	const char *ids = NULL;
	enum status s = ids_of(call, db, subjects, &ids);

	if (s == STATUS_OK)
		s = subjects_scrub(db, ids);
	if (s == STATUS_OK)
		s = bus_scrub(bus_url, ids, changed);
	if (s == STATUS_OK)
		s = feed_scrub(call, db, ids);
	if (s == STATUS_OK)
		s = db_exec(db, NULL, "UPDATE erasure SET done_at = now() WHERE done_at IS NULL", 0, NULL);
	return s == STATUS_OK && changed ? note(call, db, "audit.privacy.erased", subjects) : s;
}

/* -- exporting */

static void put_entries(struct rpc_call *call, const PGresult *r, struct buf *b, bool *more)
{
	static const char *const names[] = { "sequence", "time", "event", "entity", "id", "userId", "ipAddress", "userAgent" };
	enum { KEY = 8, BEFORE, AFTER };
	int rows = PQntuples(r);

	for (int i = 0; i < rows; i++) {
		struct str entity = str_of(PQgetvalue(r, i, 3)), id = str_of(PQgetvalue(r, i, 4)), key = str_of(PQgetvalue(r, i, KEY));

		if (i == ENTRIES_MAX || b->n > DOCUMENT_MAX) {
			*more = true;
			break;
		}
		buf_z(b, i ? ",{" : "{");
		for (int k = 0; k < KEY; k++) {
			if (PQgetisnull(r, i, k))
				continue;
			buf_printf(b, "%s\"%s\":", k ? "," : "", names[k]);
			if (k)
				buf_json_str(b, str_of(PQgetvalue(r, i, k)));
			else
				buf_z(b, PQgetvalue(r, i, k));
		}
		for (int k = BEFORE; k <= AFTER; k++) {
			if (PQgetisnull(r, i, k))
				continue;
			buf_z(b, k == BEFORE ? ",\"before\":" : ",\"after\":");
			buf_str(b, subject_open(&call->arena, str_of(PQgetvalue(r, i, k)), entity, id, key));
		}
		buf_c(b, '}');
	}
}

static enum status entries_put(struct rpc_call *call, struct db_conn *db, const char *subjects, struct buf *b, bool *more)
{
	PGresult *r = NULL;
	/* what was done to them, and what they did; of the latter only that it was done */
	enum status s = db_exec(db, &r,
	    "SELECT e.seq, to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), e.type, e.resource, e.resource_id, e.user_id, e.ip, e.user_agent,"
	    " e.subject_key, CASE WHEN mine THEN e.before END, CASE WHEN mine THEN e.after END FROM ("
	    " SELECT e.*, true AS mine FROM" SUBJECTS_SQL ", entry_read e WHERE e.resource = s.entity AND e.resource_id = s.id UNION ALL"
	    " SELECT e.*, false FROM" SUBJECTS_SQL ", entry_read e WHERE s.entity = 'user' AND e.user_id::text = s.id AND NOT (e.resource = 'user' AND e.resource_id = s.id)) e"
	    " ORDER BY e.seq LIMIT 2001", 1, &subjects);

	if (s == STATUS_OK)
		put_entries(call, r, b, more);
	PQclear(r);
	return s;
}

enum status privacy_document(struct rpc_call *call, struct db_conn *db, const Crm__V1__SubjectsReply *found, const char *subjects, struct buf *out, bool *more)
{
	enum status s;

	buf_z(out, "{\"subjects\":[");
	for (size_t i = 0; i < found->n_subject; i++) {
		const Crm__V1__Subject *t = found->subject[i];

		buf_z(out, i ? ",{\"entity\":" : "{\"entity\":");
		buf_json_str(out, str_of(t->entity));
		buf_z(out, ",\"id\":");
		buf_json_str(out, str_of(t->id));
		buf_z(out, ",\"data\":");
		buf_put(out, t->row.data, t->row.len);
		buf_c(out, '}');
	}
	buf_z(out, "],\"entries\":[");
	s = entries_put(call, db, subjects, out, more);
	buf_z(out, "]}");
	return s == STATUS_OK ? note(call, db, "audit.privacy.exported", subjects) : s;
}
