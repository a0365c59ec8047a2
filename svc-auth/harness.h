/*
 * For the tests of svc-auth only: the service's handlers over a real PostgreSQL and the real database layer, with calls made
 * directly instead of through the RPC server. One process, one fixture; the loop runs on a thread of its own.
 */
#ifndef CRM_AUTH_HARNESS_H
#define CRM_AUTH_HARNESS_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <event2/thread.h>
#include <pthread.h>
#include <unistd.h>

#include "auth.h"
#include "base/clock.h"
#include "base/codec.h"
#include "common.h"
#include "proto/auth.pb-c.h"
#include "resource/handler.h"
#include "json/json.h"
#include "keeper.h"
#include "keys.h"
#include "pool.h"
#include "post.h"
#include "resource/engine.h"
#include "roles.h"
#include "service/service.h"
#include "testing/pg.h"
#include "throttle.h"

#pragma GCC diagnostic ignored "-Wunused-function" /* each test uses some of this */

struct outcome {
	struct rpc_call call;
	const struct op *op;
	enum status status;
	struct str payload;
	uint32_t retry_after_ms;
	bool done, replayed;
};

static struct pg_fixture *pg;
static struct event_base *base;
static struct db *database;
static struct schema *contracts;
static struct arena arena; /* of the running test */
static char outbox[] = "/tmp/crm-outbox-XXXXXX";
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;

const struct schema *service_schema(void)
{
	return contracts;
}

struct db *service_db(void)
{
	return database;
}

static void settle(struct rpc_call *c, enum status s, struct str payload, uint32_t retry, bool replayed)
{
	struct outcome *o = c->app_data;

	pthread_mutex_lock(&lock);
	assert_false(o->done); /* exactly one reply per call */
	o->status = s;
	o->payload = arena_str(&c->arena, payload);
	o->retry_after_ms = retry;
	o->replayed = replayed;
	o->done = true;
	pthread_cond_broadcast(&answered);
	pthread_mutex_unlock(&lock);
}

/* These stand in for the RPC server. */
void rpc_violate(struct rpc_call *c, const char *path, const char *rule, const char *message, const char *param)
{
	if (c->n_violations < sizeof(c->violations) / sizeof(*c->violations))
		c->violations[c->n_violations++] = (struct rpc_violation){ path, rule, message, param };
}

void rpc_reply_ok(struct rpc_call *c, struct str payload)
{
	settle(c, STATUS_OK, payload, 0, false);
}

void rpc_reply_replayed(struct rpc_call *c, struct str payload)
{
	settle(c, STATUS_OK, payload, 0, true);
}

void rpc_reply_error(struct rpc_call *c, enum status s, const char *text)
{
	settle(c, s, (struct str){ "", 0 }, 0, false);
}

void rpc_reply_retry(struct rpc_call *c, enum status s, const char *text, uint32_t retry_after_ms)
{
	settle(c, s, (struct str){ "", 0 }, retry_after_ms, false);
}

static void on_worker(struct db_conn *db, void *arg)
{
	struct outcome *o = arg;

	o->op->handler(&o->call, db);
}

static void on_loop(evutil_socket_t fd, short what, void *arg)
{
	struct outcome *o = arg;

	o->op->on_loop(&o->call);
}

static const struct op *op_find(const char *rpc)
{
	for (size_t i = 0; i < auth_n_ops; i++) {
		if (strcmp(auth_ops[i].rpc, rpc) == 0)
			return &auth_ops[i];
	}
	fail_msg("no op %s", rpc);
	return NULL;
}

static struct outcome *call_new(const char *rpc, const struct rpc_principal *who, const void *message)
{
	struct outcome *o = ARENA_NEW(&arena, struct outcome);
	size_t n = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = arena_alloc(&arena, n + 1);

	protobuf_c_message_pack(message, bytes);
	o->op = op_find(rpc);
	o->call.rpc = str_of(rpc);
	o->call.payload = (struct str){ (char *)bytes, n };
	o->call.dialect = STR("native");
	o->call.client_ip = STR("192.0.2.1");
	o->call.request_id = STR("test");
	o->call.deadline_us = clock_us() + 30 * 1000000;
	o->call.app_data = o;
	if (who)
		o->call.who = *who;
	return o;
}

static void call_start(struct outcome *o)
{
	struct timeval now = { 0, 0 };

	if (o->op->kind == OP_LOOP)
		event_base_once(base, -1, EV_TIMEOUT, on_loop, o, &now);
	else
		while (!db_work(database, on_worker, o))
			usleep(1000);
}

static struct outcome *call_wait(struct outcome *o)
{
	pthread_mutex_lock(&lock);
	while (!o->done)
		pthread_cond_wait(&answered, &lock);
	pthread_mutex_unlock(&lock);
	return o;
}

static struct outcome *invoke(const char *rpc, const struct rpc_principal *who, const void *message)
{
	struct outcome *o = call_new(rpc, who, message);

	call_start(o);
	return call_wait(o);
}

/* The reply, which must be OK, as its message. */
static void *reply_of(struct outcome *o, const ProtobufCMessageDescriptor *type)
{
	void *m;

	assert_int_equal(o->status, STATUS_OK);
	m = handler_unpack(&o->call, type, o->payload);
	assert_non_null(m);
	return m;
}

static void assert_violation(const struct outcome *o, enum status s, const char *path)
{
	assert_int_equal(o->status, s);
	assert_int_equal(o->call.n_violations, 1);
	assert_string_equal(o->call.violations[0].path, path);
}

/* -- what most tests need */

#define PASSWORD "correct horse battery"

static Crm__V1__Session *register_person(const char *email, const char *display)
{
	Crm__V1__RegisterRequest r = CRM__V1__REGISTER_REQUEST__INIT;

	r.email = (char *)email;
	r.password = PASSWORD;
	r.display = (char *)display;
	return reply_of(invoke("Auth.Register", NULL, &r), &crm__v1__session__descriptor);
}

static struct outcome *try_login(const char *email, const char *password, struct str ip)
{
	Crm__V1__LoginRequest r = CRM__V1__LOGIN_REQUEST__INIT;
	struct outcome *o;

	r.email = (char *)email;
	r.password = (char *)password;
	o = call_new("Auth.Login", NULL, &r);
	o->call.client_ip = ip;
	call_start(o);
	return call_wait(o);
}

static struct json *claims_of(const char *token)
{
	struct json_error err;
	const char *from = strchr(token, '.') + 1;
	struct str part = { from, strcspn(from, ".") };
	char *raw = arena_alloc(&arena, part.n + 1);
	long n = b64url_decode(part, (uint8_t *)raw);

	assert_true(n > 0);
	return json_parse(&arena, (struct str){ raw, (size_t)n }, &err);
}

static struct str claim(const char *token, const char *name)
{
	struct json *v = json_get(claims_of(token), str_of(name), false);

	assert_non_null(v);
	return v->text;
}

/* What the gateway would make of the session's access token. */
static struct rpc_principal principal_of(const Crm__V1__Session *s)
{
	struct rpc_principal p = { .tenant_id = claim(s->access_token, "tid"), .user_id = claim(s->access_token, "sub"),
		.session_id = claim(s->access_token, "sid"), .role = claim(s->access_token, "role") };
	struct str perm = claim(s->access_token, "perm");

	str_to_i64(claim(s->access_token, "tsq"), &p.tenant_seq);
	str_to_i64(claim(s->access_token, "usq"), &p.user_seq);
	p.permissions[0] = strtoull(perm.p, NULL, 16);
	p.permissions[1] = strtoull(perm.p + 17, NULL, 16);
	return p;
}

static const char *value(const char *sql)
{
	return arena_strdup(&arena, str_of(pg_fixture_value(pg, sql)));
}

static const char *valuef(const char *fmt, const char *arg)
{
	struct buf b = { 0 };
	const char *out;

	for (; *fmt; fmt++) {
		if (*fmt == '?')
			buf_z(&b, arg);
		else
			buf_c(&b, *fmt);
	}
	out = value(buf_cstr(&b));
	buf_fini(&b);
	return out;
}

static void *loop(void *unused)
{
	event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
	return NULL;
}

static int harness_start(void **state)
{
	static const uint8_t kek[32] = { 7 };
	static const char *const files[] = { "build/gen/descriptors/auth.pb" };
	static struct db_config config = { .read_conns = 1, .write_conns = 1, .workers = 4, .statement_timeout_ms = 5000 };
	const struct schema_permission *permissions;
	const char *why = NULL;
	size_t n;
	pthread_t thread;

	if (access(files[0], R_OK) != 0 && system("mkdir -p build/gen/descriptors && protoc -Iproto --include_imports --include_source_info"
						  " --descriptor_set_out=build/gen/descriptors/auth.pb proto/auth.proto") != 0)
		return -1;
	evthread_use_pthreads();
	pg = pg_fixture_start();
	pg_fixture_migrate(pg, "auth", "svc-auth/schema");
	contracts = schema_load(files, 1);
	base = event_base_new();
	config.url = pg_fixture_url(pg, "auth_app");
	database = db_new(base, &config);
	n = schema_permissions(contracts, &permissions);
	roles_init(permissions, n);
	resource_init(contracts, database, auth_ops, auth_n_ops, "auth");
	keys_init(kek);
	common_open("svc-auth/passwords/common.txt");
	if (!throttle_start("", &why))
		return -1;
	keeper_start(config.url);
	pool_start();
	if (!mkdtemp(outbox))
		return -1;
	post_init(&(struct post_settings){ .database_url = config.url, .from = "crm@crm.local", .templates = "svc-auth/mail", .web_url = "https://crm.local",
	    .mail_url = arena_printf(&arena, "folder:%s", outbox) });
	pthread_create(&thread, NULL, loop, NULL);
	pthread_detach(thread);
	while (!db_healthy(database))
		usleep(10000);
	return 0;
}

static int harness_stop(void **state)
{
	pool_stop();
	post_stop();
	keeper_stop();
	throttle_stop();
	if (system(arena_printf(&arena, "rm -rf %s", outbox)) != 0)
		return -1;
	pg_fixture_stop(pg);
	return 0;
}

static int fresh(void **state)
{
	throttle_reset();
	return 0;
}

#endif
