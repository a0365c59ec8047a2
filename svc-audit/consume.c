/* Writes every event of the product into the tenant's chain, and answers Verify. */
#include <pthread.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/wire.h"
#include "events/consumer.h"
#include "events/pgconn.h"
#include "rpc/names.h"
#include "svc-audit/alert.h"
#include "svc-audit/audit.h"
#include "svc-audit/chain.h"
#include "svc-audit/checkpoint.h"
#include "svc-audit/feed.h"
#include "svc-audit/sign.h"
#include "svc-audit/subject.h"
#include "telemetry/metrics.h"
#include "telemetry/process.h"

#define VERIFY_STATEMENT_TIMEOUT_MS 30000

const char *const audit_topics[] = { "crm.auth.v1", "crm.customers.v1", "crm.sales.v1", "crm.audit.v1" };
const size_t audit_n_topics = sizeof audit_topics / sizeof audit_topics[0];

const struct audit_settings *audit_settings;
const struct signer *audit_signer;

static struct consumer *consumer;
static char *database_url;
static char public_key[SIGN_KEY_HEX + 1];
/* One check at a time: each reads a whole chain */
static pthread_mutex_t verifying = PTHREAD_MUTEX_INITIALIZER;

static enum status handle(void *arg, PGconn *conn, const struct event *const *events, size_t n)
{
	struct arena a = { 0 };
	const struct event **sealed = arena_alloc(&a, n * sizeof(*sealed));
	enum status s = subject_seal(conn, &a, events, n, sealed);

	if (s == STATUS_OK)
		s = chain_append(conn, sealed, n);
	arena_fini(&a);
	if (s == STATUS_OK)
		s = alert_observe(conn, n, events[0]->tenant_id);
	if (s == STATUS_OK)
		checkpoint_hint();
	return s;
}

static void mail_start(const struct service_settings *s)
{
	mail_queue_start(&(struct mail_queue_config){ .database_url = s->database_url, .mail_url = audit_settings->mail_url, .from = audit_settings->mail_from,
		.templates = audit_settings->mail_templates, .names = alert_templates, .n_names = alert_n_templates, .open = alert_open });
}

/* Of Verify: what it found. All are shown from the start, so that the first of them is a rise. */
static struct metric verified = { .name = "crm_audit_verifications_total", .help = "Checks of a tenant's chain, by what was found", .type = METRIC_COUNTER, .labels = { "result" } };

static void count_verified(const char *result, int64_t n)
{
	metric_add(metric_series(&verified, str_of(result)), n);
}

static void metrics_start(void)
{
	count_verified("valid", 0);
	count_verified("invalid", 0);
	count_verified("failed", 0);
}

void audit_start(const struct service_settings *s, struct event_base *base, struct db *db)
{
	if (!*s->bus_url)
		log_die("SERVICE-SETTINGS", "BUS_URL must be given: the audit log is made from the bus");
	database_url = xstrdup(s->database_url);
	audit_signer = signer_load(audit_settings->signing_key_file);
	signer_public(audit_signer, public_key);
	checkpoint_start(s->database_url, audit_signer, audit_settings->checkpoint_file);
	process_disk_watch("checkpoints", audit_settings->checkpoint_file);
	mail_start(s);
	consumer = consumer_start(&(struct consumer_config){
		.name = "audit",
		.bus_url = s->bus_url,
		.database_url = s->database_url,
		.schema = "audit",
		.topics = audit_topics,
		.n_topics = audit_n_topics,
		.handle = handle,
	});
	feed_start(s, base, db);
	metrics_start();
}

void audit_stop(void)
{
	consumer_stop(consumer);
	consumer = NULL;
	feed_stop();
	checkpoint_stop();
	mail_queue_stop();
}

void audit_metrics(struct buf *out)
{
	struct checkpoint_stats k = checkpoint_stats();
	struct consumer *const both[] = { consumer, feed_consumer() };

	rpc_names_metrics(out);
	if (!consumer)
		return;
	consumers_metrics(both, feed_consumer() ? 2 : 1, out);
	metrics_one(out, "crm_audit_alerts_fired_total", "counter", "Alert rules that fired", (double)alerts_fired());
	metrics_one(out, "crm_audit_checkpoints_total", "counter", "Ends of chains signed", (double)k.signed_ends);
	metrics_one(out, "crm_audit_checkpoint_failures_total", "counter", "Rounds of signing that failed", (double)k.failures);
	metrics_one(out, "crm_audit_unsigned_seconds", "gauge", "Since when there have been entries that no checkpoint covers; 0: there are none", k.unsigned_seconds);
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
	wire_put_varint(&b, 7, (uint64_t)r->first_seq);
	if (*r->cut_hash)
		wire_put_bytes(&b, 8, str_of(r->cut_hash));
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
		s = chain_verify(c, call->who.tenant_id, public_key, call->deadline_us, &report);
	PQfinish(c);
	pthread_mutex_unlock(&verifying);
	count_verified(s != STATUS_OK ? "failed" : report.valid ? "valid" : "invalid", 1);
	if (s == STATUS_OK)
		reply(call, &report);
	else
		rpc_reply_error(call, s, NULL);
}
