/* A converted lead has a deal: the one that was named is linked, otherwise one is made, once, whatever dies in between. */
#include "svc-sales/consume.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/log.h"
#include "events/consumer.h"
#include "events/pgconn.h"
#include "events/relay.h"
#include "proto/customers.pb-c.h"
#include "resource/engine.h"

static const char *const topics[] = { "crm.customers.v1" };
static struct consumer *consumer;

#define ACTOR "user_id, request_id, traceparent, dialect"

static const char *ref_id(const Crm__V1__Ref *r)
{
	return r ? r->id : NULL;
}

/* $1..$4: user, request, trace, dialect of the event that caused it. */
static enum status deal_link(PGconn *conn, const Crm__V1__Lead *l, const char *const actor[4])
{
	char seq[24];
	const char *params[] = { actor[0], actor[1], actor[2], actor[3], seq, l->id, ref_id(l->converted_account), ref_id(l->converted_contact) };

	snprintf(seq, sizeof(seq), "%" PRId64, l->converted_deal_seq);
	return pgconn_exec(conn, NULL,
		"WITH b AS (SELECT * FROM deal WHERE seq = $5::bigint AND deleted_at IS NULL FOR UPDATE), w AS (UPDATE deal t SET lead_id = coalesce(t.lead_id, $6::uuid),"
		" account_id = coalesce(t.account_id, $7::uuid), contact_id = coalesce(t.contact_id, $8::uuid), version = t.version + 1, updated_at = now(), updated_by = $1::uuid"
		" FROM b WHERE t.id = b.id AND (t.lead_id IS NULL OR t.account_id IS NULL OR t.contact_id IS NULL) RETURNING t.*)"
		" INSERT INTO outbox (event_id, tenant_id, type, entity, entity_id, entity_seq, version, before, after, " ACTOR ")"
		" SELECT gen_random_uuid(), w.tenant_id, 'sales.deal.updated', 'deal', w.id, w.seq, w.version, to_jsonb(b) - 'search', to_jsonb(w) - 'search', $1::uuid, $2, $3, $4 FROM w, b",
		8, params);
}

/* Its id is made from the lead's, so that there is one however often this runs. */
static enum status deal_make(PGconn *conn, const Crm__V1__Lead *l, const char *const actor[4])
{
	char number[40]; /* and not the person's name: a title is nobody's personal data, and nobody finds it there to erase it */
	const char *title = l->company && *l->company ? l->company : number;
	const char *params[] = { actor[0], actor[1], actor[2], actor[3], l->id, title, l->value, ref_id(l->owner), l->source, ref_id(l->converted_account),
		ref_id(l->converted_contact) };
	enum status s = pgconn_exec(conn, NULL, "SELECT stage_seed()", 0, NULL);

	snprintf(number, sizeof(number), "Lead %" PRId64, l->seq);
	if (s != STATUS_OK)
		return s;
	return pgconn_exec(conn, NULL,
		"WITH w AS (INSERT INTO deal AS t (tenant_id, id, seq, created_by, updated_by, title, value, owner_id, source, account_id, contact_id, lead_id)"
		" SELECT current_setting('app.tenant_id')::uuid, md5($5 || ':deal')::uuid, seq_one(current_setting('app.tenant_id')::uuid, 'deal'), $1::uuid, $1::uuid,"
		" left($6, 200), $7::numeric, $8::uuid, $9, $10::uuid, $11::uuid, $5::uuid WHERE NOT EXISTS (SELECT FROM deal d WHERE d.id = md5($5 || ':deal')::uuid)"
		" ON CONFLICT (tenant_id, id) DO NOTHING RETURNING t.*)"
		" INSERT INTO outbox (event_id, tenant_id, type, entity, entity_id, entity_seq, version, after, " ACTOR ")"
		" SELECT gen_random_uuid(), w.tenant_id, 'sales.deal.created', 'deal', w.id, w.seq, w.version, to_jsonb(w) - 'search', $1::uuid, $2, $3, $4 FROM w",
		11, params);
}

static const char *text(struct arena *a, struct str s)
{
	return s.n ? arena_strdup(a, s) : NULL;
}

static enum status on_lead_converted(PGconn *conn, const struct event *e)
{
	Crm__V1__Lead *l = crm__v1__lead__unpack(NULL, e->data.n, (const uint8_t *)e->data.p);
	struct arena a = { 0 };
	const char *actor[4] = { text(&a, e->user_id), text(&a, e->request_id), text(&a, e->traceparent), text(&a, e->dialect) };
	enum status s = STATUS_INTERNAL;

	if (l && l->id)
		s = l->has_converted_deal_seq ? deal_link(conn, l, actor) : deal_make(conn, l, actor);
	if (l)
		crm__v1__lead__free_unpacked(l, NULL);
	arena_fini(&a);
	return s;
}

static enum status handle(void *arg, PGconn *conn, const struct event *const *events, size_t n)
{
	enum status s = STATUS_OK;

	for (size_t i = 0; i < n && s == STATUS_OK; i++)
		if (str_eq(events[i]->type, STR("customers.lead.converted")))
			s = on_lead_converted(conn, events[i]);
	return s;
}

/* The lists count one more. */
static void committed(void *arg, const struct event *const *events, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(events[i]->type, STR("customers.lead.converted")))
			resource_changed(events[i]->tenant_id, "deal", (struct str){ 0 });
	relay_wake();
}

void consume_start(const struct service_settings *s, struct event_base *base, struct db *db)
{
	if (!*s->bus_url) {
		log_warn("CONSUME-OFF", "no BUS_URL: converted leads get no deals");
		return;
	}
	consumer = consumer_start(&(struct consumer_config){ .name = "sales", .bus_url = s->bus_url, .database_url = s->database_url, .schema = "sales",
		.topics = topics, .n_topics = sizeof(topics) / sizeof(*topics), .handle = handle, .committed = committed });
}

void consume_stop(void)
{
	if (consumer)
		consumer_stop(consumer);
	consumer = NULL;
}

void consume_metrics(struct buf *out)
{
	if (consumer)
		consumers_metrics(&consumer, 1, out);
}
