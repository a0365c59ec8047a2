/* Events as far as customers show them: totals of an account, the deal of a converted lead, the timeline of an account. */
#include "svc-customers/consume.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/log.h"
#include "events/consumer.h"
#include "events/pgconn.h"
#include "proto/sales.pb-c.h"
#include "resource/engine.h"
#include "svc-customers/timeline.h"

static const char *const topics[] = { "crm.customers.v1", "crm.sales.v1" };
static struct consumer *consumer;

/* An older version of an order than the one that is known changes nothing. */
static enum status order_keep(PGconn *conn, const Crm__V1__Order *o)
{
	char version[24], at[32];
	bool counts = o->status && strcmp(o->status, "cancelled") != 0 && strcmp(o->status, "returned") != 0;
	const char *params[] = { o->id, version, o->account ? o->account->id : NULL, counts ? "true" : "false", o->total ? o->total : "0", at };

	snprintf(version, sizeof(version), "%" PRIu64, o->version);
	snprintf(at, sizeof(at), "%" PRId64, o->created_us);
	return pgconn_exec(conn, NULL,
			   "INSERT INTO order_copy AS c (tenant_id, id, version, account_id, counts, total, ordered_at)"
			   " VALUES (current_setting('app.tenant_id')::uuid, $1::uuid, $2::bigint, $3::uuid, $4::boolean, $5::numeric, to_timestamp($6::bigint / 1e6))"
			   " ON CONFLICT (tenant_id, id) DO UPDATE SET version = excluded.version, counts = excluded.counts, total = excluded.total WHERE c.version < excluded.version",
			   6, params);
}

static enum status account_total(PGconn *conn, const char *account)
{
	return pgconn_exec(conn, NULL,
			   "UPDATE account a SET total_orders = s.n, total_value = s.value, last_contact_at = greatest(a.last_contact_at, s.last), version = a.version + 1, updated_at = now()"
			   " FROM (SELECT count(*) FILTER (WHERE counts) AS n, coalesce(sum(total) FILTER (WHERE counts), 0) AS value, max(ordered_at) AS last FROM order_copy WHERE account_id = $1::uuid) s"
			   " WHERE a.id = $1::uuid AND (a.total_orders, a.total_value, a.last_contact_at) IS DISTINCT FROM (s.n, s.value, greatest(a.last_contact_at, s.last))",
			   1, &account);
}

static enum status on_order(PGconn *conn, const struct event *e)
{
	Crm__V1__Order *o = crm__v1__order__unpack(NULL, e->data.n, (const uint8_t *)e->data.p);
	enum status s = o && o->id ? order_keep(conn, o) : STATUS_INTERNAL;

	if (s == STATUS_OK && o->account && o->account->id)
		s = account_total(conn, o->account->id);
	if (o)
		crm__v1__order__free_unpacked(o, NULL);
	return s;
}

static enum status on_deal(PGconn *conn, const struct event *e)
{
	Crm__V1__Deal *d = crm__v1__deal__unpack(NULL, e->data.n, (const uint8_t *)e->data.p);
	char seq[24];
	enum status s = d ? STATUS_OK : STATUS_INTERNAL;

	if (s == STATUS_OK && d->lead && d->lead->id) {
		const char *params[] = { d->lead->id, seq };

		snprintf(seq, sizeof(seq), "%" PRId64, d->seq);
		s = pgconn_exec(conn, NULL, "UPDATE lead SET converted_deal_seq = $2::bigint, version = version + 1, updated_at = now()"
			" WHERE id = $1::uuid AND converted_at IS NOT NULL AND converted_deal_seq IS NULL", 2, params);
	}
	if (d)
		crm__v1__deal__free_unpacked(d, NULL);
	return s;
}

/* A new thing to do about an event is a row and a function. */
static const struct {
	const char *type, *changes; /* entity */
	enum status (*handle)(PGconn *conn, const struct event *e);
} rows[] = {
	{ "sales.order.created", "account", on_order },
	{ "sales.order.status_changed", "account", on_order },
	{ "sales.deal.created", "lead", on_deal },
};

static enum status handle(void *arg, PGconn *conn, const struct event *const *events, size_t n)
{
	enum status s = STATUS_OK;

	for (size_t i = 0; i < n && s == STATUS_OK; i++)
		for (size_t k = 0; k < sizeof(rows) / sizeof(*rows) && s == STATUS_OK; k++)
			if (str_eq(events[i]->type, str_of(rows[k].type)))
				s = rows[k].handle(conn, events[i]);
	for (size_t i = 0; i < n && s == STATUS_OK; i++)
		s = timeline_add(conn, events[i]);
	return s;
}

/* What lists are filtered by has changed. */
static void committed(void *arg, const struct event *const *events, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < sizeof(rows) / sizeof(*rows); k++)
			if (str_eq(events[i]->type, str_of(rows[k].type)))
				resource_changed(events[i]->tenant_id, rows[k].changes, (struct str){ 0 });
}

void consume_start(const struct service_settings *s, struct event_base *base, struct db *db)
{
	if (!*s->bus_url) {
		log_warn("CONSUME-OFF", "no BUS_URL: totals of accounts do not follow orders");
		return;
	}
	consumer = consumer_start(&(struct consumer_config){ .name = "customers", .bus_url = s->bus_url, .database_url = s->database_url, .schema = "customers",
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
