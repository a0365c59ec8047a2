/*
 * For tests of ops against a real PostgreSQL, without the hop: a loop, a database of a service, and calls
 * whose replies are caught. Include in one file of a test program; it stands in for lib/rpc's reply functions.
 */
#ifndef CRM_RESOURCE_TEST_CALLS_H
#define CRM_RESOURCE_TEST_CALLS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include <event2/thread.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/wire.h"
#include "db/db.h"
#include "events/relay.h"
#include "resource/engine.h"
#include "rpc/rpc.h"
#include "schema/schema.h"
#include "service/service.h"
#include "testing/pg.h"

#define TENANT_A "0190a000-0000-7000-8000-00000000000a"
#define TENANT_B "0190b000-0000-7000-8000-00000000000b"
#define USER_1 "0190c000-0000-7000-8000-000000000001"
#define USER_2 "0190c000-0000-7000-8000-000000000002"

/* A call and what it was answered; payload is the reply's. */
struct test_call {
	struct rpc_call call;
	struct buf request, reply;
	enum status status;
	bool replayed;
	atomic_bool answered;
	const struct op *op;
};

static struct pg_fixture *test_pg;
static struct event_base *test_base;
static struct db *test_db;
static struct schema *test_schema;
static const struct op *test_ops;
static size_t test_n_ops;

/* Of lib/service, which a test has not. */
const struct schema *service_schema(void)
{
	return test_schema;
}

struct db *service_db(void)
{
	return test_db;
}

void rpc_violate(struct rpc_call *c, const char *path, const char *rule, const char *message, const char *param)
{
	if (c->n_violations < 16)
		c->violations[c->n_violations++] = (struct rpc_violation){ path, rule, message, param };
}

static void test_answer(struct rpc_call *c, enum status s, struct str payload, bool replayed)
{
	struct test_call *t = (struct test_call *)c;

	assert_false(atomic_load(&t->answered));
	t->status = s;
	t->replayed = replayed;
	buf_str(&t->reply, payload);
	atomic_store(&t->answered, true);
}

void rpc_reply_ok(struct rpc_call *c, struct str payload)
{
	test_answer(c, STATUS_OK, payload, false);
}

void rpc_reply_replayed(struct rpc_call *c, struct str payload)
{
	test_answer(c, STATUS_OK, payload, true);
}

void rpc_reply_error(struct rpc_call *c, enum status s, const char *text)
{
	test_answer(c, s, (struct str){ 0 }, false);
}

void rpc_reply_retry(struct rpc_call *c, enum status s, const char *text, uint32_t retry_after_ms)
{
	test_answer(c, s, (struct str){ 0 }, false);
}

static inline void test_turn(void)
{
	struct timeval tick = { 0, 2000 };

	event_base_loopexit(test_base, &tick);
	event_base_loop(test_base, EVLOOP_ONCE);
}

/* The loop and the service's engine against test_pg, which stands. */
static inline void test_attach(const char *service, const struct op *ops, size_t n)
{
	char own[100], make[200], role[50];
	const char *files[] = { "build/gen/descriptors/common.pb", own };
	struct db_config c = { .read_conns = 2, .write_conns = 4, .workers = 4, .statement_timeout_ms = 10000 };

	snprintf(own, sizeof(own), "build/gen/descriptors/%s.pb", service);
	snprintf(make, sizeof(make), "make -s %s %s", files[0], own);
	snprintf(role, sizeof(role), "%s_app", service);
	if (access(files[0], R_OK) != 0 || access(files[1], R_OK) != 0)
		assert_int_equal(system(make), 0);
	test_base = event_base_new();
	c.url = pg_fixture_url(test_pg, role);
	test_db = db_new(test_base, &c);
	test_schema = schema_load(files, 2);
	test_ops = ops;
	test_n_ops = n;
	resource_init(test_schema, test_db, ops, n, service);
	resource_listen(c.url, service);
	for (int i = 0; i < 5000 && !(resource_ready() && db_healthy(test_db)); i++)
		test_turn();
	assert_true(resource_ready());
}

/* service: schema of the database and name of its contract. */
static inline void test_start_service(const char *service, const struct op *ops, size_t n, const char *schema_dir)
{
	test_pg = pg_fixture_start();
	pg_fixture_migrate(test_pg, service, schema_dir);
	test_attach(service, ops, n);
}

static inline void test_start(const struct op *ops, size_t n, const char *schema_dir)
{
	test_start_service("customers", ops, n, schema_dir);
}

static inline void test_detach(void)
{
	resource_unlisten();
	db_free(test_db);
	resource_fini();
	schema_free(test_schema);
	event_base_free(test_base);
}

static inline void test_end(void)
{
	test_detach();
	pg_fixture_stop(test_pg);
}

static inline struct test_call *call_new(const char *rpc, const char *tenant, const char *user)
{
	struct test_call *t = xcalloc(1, sizeof(*t));

	t->call.rpc = str_of(rpc);
	t->call.who.tenant_id = str_of(tenant);
	t->call.who.user_id = str_of(user);
	t->call.who.permissions[0] = t->call.who.permissions[1] = UINT64_MAX;
	t->call.request_id = STR("req-1");
	t->call.dialect = STR("native");
	for (size_t i = 0; i < test_n_ops; i++)
		if (strcmp(test_ops[i].rpc, rpc) == 0)
			t->op = &test_ops[i];
	assert_non_null(t->op);
	return t;
}

static void test_handler(struct db_conn *db, void *arg)
{
	struct test_call *t = arg;

	db_limit(db, t->call.who.scope);
	t->op->handler(&t->call, db);
}

static inline void call_send(struct test_call *t)
{
	t->call.payload = buf_view(&t->request);
	t->call.deadline_us = clock_us() + 20000000;
	if (t->op->kind == OP_HANDLER)
		assert_true(db_work(test_db, test_handler, t));
	else
		resource_dispatch(t->op, &t->call);
}

static inline void call_wait(struct test_call *t)
{
	for (int i = 0; i < 20000 && !atomic_load(&t->answered); i++)
		test_turn();
	assert_true(atomic_load(&t->answered));
	usleep(200); /* a worker may still be leaving the function that answered */
}

static inline struct test_call *call_run(struct test_call *t)
{
	call_send(t);
	call_wait(t);
	return t;
}

static inline void call_free(struct test_call *t)
{
	arena_fini(&t->call.arena);
	buf_fini(&t->request);
	buf_fini(&t->reply);
	free(t);
}

/* -- wire shorthands */
static inline void put_text(struct buf *b, uint32_t number, const char *s)
{
	wire_put_bytes(b, number, str_of(s));
}

static inline struct str field_bytes(struct str wire, uint32_t number, int nth)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field f;

	while (wire_next(&r, &f))
		if (f.number == number && f.type == WIRE_BYTES && nth-- == 0)
			return f.bytes;
	return (struct str){ 0 };
}

static inline int64_t field_int(struct str wire, uint32_t number)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field f;
	int64_t v = -1;

	while (wire_next(&r, &f))
		if (f.number == number && f.type == WIRE_VARINT)
			v = (int64_t)f.value;
	return v;
}

static inline int field_count(struct str wire, uint32_t number)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field f;
	int n = 0;

	while (wire_next(&r, &f))
		n += f.number == number;
	return n;
}

static inline void assert_text(struct str wire, uint32_t number, const char *expected)
{
	struct str s = field_bytes(wire, number, 0);
	char got[300];

	snprintf(got, sizeof(got), "%.*s", STR_FMT(s));
	assert_string_equal(got, expected);
}

static inline void assert_status(const struct test_call *t, enum status s)
{
	if (t->status != s)
		for (size_t i = 0; i < t->call.n_violations; i++)
			print_message("violation %s %s\n", t->call.violations[i].path, t->call.violations[i].rule);
	assert_string_equal(status_name(t->status), status_name(s));
}

static inline void assert_violation(const struct test_call *t, const char *path, const char *rule)
{
	for (size_t i = 0; i < t->call.n_violations; i++)
		if (strcmp(t->call.violations[i].path, path) == 0 && strcmp(t->call.violations[i].rule, rule) == 0)
			return;
	for (size_t i = 0; i < t->call.n_violations; i++)
		print_message("violation %s %s\n", t->call.violations[i].path, t->call.violations[i].rule);
	fail_msg("no violation %s of %s", rule, path);
}

/* WriteRequest{entity} */
static inline struct test_call *create_new(const char *rpc, const char *tenant, const char *user, struct buf *entity)
{
	struct test_call *t = call_new(rpc, tenant, user);

	wire_put_bytes(&t->request, 2, buf_view(entity));
	buf_fini(entity);
	*entity = (struct buf){ 0 };
	return t;
}

/* Key{id} as field 1. */
static inline void put_key(struct buf *b, uint32_t number, struct str id, int64_t seq)
{
	size_t at = wire_open(b, number);

	if (id.n)
		wire_put_bytes(b, 1, id);
	else
		wire_put_varint(b, 2, (uint64_t)seq);
	wire_close(b, at);
}

#endif
