/* Which events belong to an account, and what the thing is called: a row per kind of entity. */
#include "svc-customers/timeline.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/arena.h"
#include "events/pgconn.h"
#include "proto/customers.pb-c.h"
#include "proto/sales.pb-c.h"

static const struct kind {
	const char *prefix; /* of the event's type */
	const ProtobufCMessageDescriptor *message;
	const char *account; /* the Ref field; NULL: it is the account */
	const char *title;
} kinds[] = {
	{ "customers.account.", &crm__v1__account__descriptor, NULL, "name" },
	{ "customers.contact.", &crm__v1__contact__descriptor, "account", "display" },
	{ "customers.note.", &crm__v1__note__descriptor, "account", "text" },
	{ "customers.lead.converted", &crm__v1__lead__descriptor, "converted_account", "display" },
	{ "sales.deal.", &crm__v1__deal__descriptor, "account", "title" },
	{ "sales.order.", &crm__v1__order__descriptor, "account", "number" },
};

static const struct kind *kind_of(const struct event *e)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (str_starts(e->type, str_of(kinds[i].prefix)))
			return &kinds[i];
	return NULL;
}

/* A member by name: text and messages are pointers. */
static const void *member(const ProtobufCMessage *m, const char *name)
{
	const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(m->descriptor, name);

	return f ? *(const void *const *)((const char *)m + f->offset) : NULL;
}

static const char *text(struct arena *a, struct str s)
{
	return s.n ? arena_strdup(a, s) : NULL;
}

static enum status add(PGconn *conn, const struct event *e, const char *account, const char *title)
{
	struct arena a = { 0 };
	char at[32];
	const char *params[] = { text(&a, e->id), account, text(&a, e->type), text(&a, e->entity), text(&a, e->entity_id), title, text(&a, e->user_id), at };
	enum status s;

	snprintf(at, sizeof(at), "%" PRId64, e->time_us);
	s = pgconn_exec(conn, NULL,
			"INSERT INTO timeline_entry (tenant_id, id, account_id, type, entity, entity_id, title, created_by, updated_by, created_at, updated_at)"
			" SELECT current_setting('app.tenant_id')::uuid, $1::uuid, coalesce($2::uuid, o.account_id), $3, $4, $5::uuid, coalesce(left($6, 200), o.title), $7::uuid, $7::uuid,"
			" to_timestamp($8::bigint / 1e6), to_timestamp($8::bigint / 1e6)"
			" FROM (SELECT 1) one LEFT JOIN LATERAL (SELECT t.account_id, t.title FROM timeline_entry t WHERE t.entity_id = $5::uuid ORDER BY t.created_at DESC LIMIT 1) o ON true"
			" WHERE coalesce($2::uuid, o.account_id) IS NOT NULL ON CONFLICT DO NOTHING",
			8, params);
	arena_fini(&a);
	return s;
}

/* They were erased: what happened stays, what they were called does not. */
static enum status forget(PGconn *conn, const struct event *e)
{
	struct arena a = { 0 };
	const char *id = text(&a, e->entity_id);
	enum status s = pgconn_exec(conn, NULL, "UPDATE timeline_entry SET title = NULL WHERE entity_id = $1::uuid", 1, &id);

	arena_fini(&a);
	return s == STATUS_OK ? add(conn, e, NULL, NULL) : s;
}

enum status timeline_add(PGconn *conn, const struct event *e)
{
	const struct kind *k = kind_of(e);
	ProtobufCMessage *m;
	const Crm__V1__Ref *account;
	enum status s;

	if (!k || !e->entity_id.n)
		return STATUS_OK;
	if (e->type.n > 7 && memcmp(e->type.p + e->type.n - 7, ".erased", 7) == 0)
		return forget(conn, e);
	if (!e->data.n) /* it was deleted: the account is the one it had */
		return add(conn, e, NULL, NULL);
	m = protobuf_c_message_unpack(k->message, NULL, e->data.n, (const uint8_t *)e->data.p);
	if (!m)
		return STATUS_INTERNAL;
	account = k->account ? member(m, k->account) : NULL;
	s = k->account && (!account || !account->id) ? STATUS_OK : add(conn, e, k->account ? account->id : member(m, "id"), member(m, k->title));
	protobuf_c_message_free_unpacked(m, NULL);
	return s;
}
