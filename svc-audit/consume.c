/* Writes every event of the product into the tenant's chain, and answers Verify. */
#include <pthread.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/wire.h"
#include "events/consumer.h"
#include "events/pgconn.h"
#include "svc-audit/audit.h"
#include "svc-audit/chain.h"

#define VERIFY_STATEMENT_TIMEOUT_MS 30000

static const char *const topics[] = { "crm.auth.v1", "crm.customers.v1" };

static struct consumer *consumer;
static char *database_url;
/* One check at a time: each reads a whole chain */
static pthread_mutex_t verifying = PTHREAD_MUTEX_INITIALIZER;

static enum status handle(void *arg, PGconn *conn, const struct event *const *events, size_t n)
{
	return chain_append(conn, events, n);
}

void audit_start(const struct service_settings *s, struct event_base *base, struct db *db)
{
	if (!*s->bus_url)
		log_die("SERVICE-SETTINGS", "BUS_URL must be given: the audit log is made from the bus");
	database_url = xstrdup(s->database_url);
	consumer = consumer_start(&(struct consumer_config){
		.name = "audit",
		.bus_url = s->bus_url,
		.database_url = s->database_url,
		.schema = "audit",
		.topics = topics,
		.n_topics = sizeof topics / sizeof topics[0],
		.handle = handle,
	});
}

void audit_stop(void)
{
	consumer_stop(consumer);
	consumer = NULL;
}

static void reply(struct rpc_call *call, const struct chain_report *r)
{
	struct buf b = { 0 };

	wire_put_varint(&b, 1, r->valid);
	wire_put_varint(&b, 2, (uint64_t)r->entries);
	if (!r->valid) {
		wire_put_varint(&b, 3, (uint64_t)r->first_bad_seq);
		wire_put_bytes(&b, 4, str_of(r->problem));
	}
	wire_put_bytes(&b, 5, str_of(r->head_hash));
	wire_put_varint(&b, 6, (uint64_t)clock_us());
	rpc_reply_ok(call, buf_view(&b));
	buf_fini(&b);
}

/* On a connection of its own: the chain is streamed in binary form, which the worker's connection does not offer. */
void audit_verify(struct rpc_call *call, struct db_conn *db)
{
	struct chain_report report;
	PGconn *c;
	enum status s = STATUS_UNAVAILABLE;

	if (pthread_mutex_trylock(&verifying)) {
		rpc_reply_retry(call, STATUS_UNAVAILABLE, "Another verification is running, try again", 2000);
		return;
	}
	c = pgconn_open(database_url, "crm-audit-verify", VERIFY_STATEMENT_TIMEOUT_MS);
	if (c)
		s = chain_verify(c, call->who.tenant_id, call->deadline_us, &report);
	PQfinish(c);
	pthread_mutex_unlock(&verifying);
	if (s == STATUS_OK)
		reply(call, &report);
	else
		rpc_reply_error(call, s, NULL);
}
