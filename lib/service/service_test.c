/* A whole service in a process of its own: readiness, migrate, permissions, handlers, metrics, drain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "base/wire.h"
#include "rpc/client.h"
#include "service/dispatch.h"
#include "service/service.h"
#include "testing/pg.h"

#define TENANT "0190a000-0000-7000-8000-00000000000a"
#define USER "0190a000-0000-7000-8000-0000000000aa"
#define AUDIT_READ 31
#define AUDIT_VERIFY 32
#define DESCRIPTORS "build/gen/descriptors"
enum { RPC_PORT = 15510, ADMIN_PORT = 15511 };

static const uint8_t key[32] = { 4, 2 };
static struct pg_fixture *pg;
static struct event_base *base;
static struct rpc_client *client;
static int audit;
static pid_t server;
static char key_file[64];

/* -- the service */

static void on_list(struct rpc_call *call)
{
	rpc_reply_ok(call, call->who.tenant_id);
}

static void on_get(struct rpc_call *call, struct db_conn *db)
{
	enum status s = db_begin(db, call->who.tenant_id);
	PGresult *r = NULL;

	if (s == STATUS_OK)
		s = db_exec(db, &r, "SELECT current_setting('app.tenant_id') || ' ' || current_user", 0, NULL);
	if (s == STATUS_OK)
		s = db_commit(db);
	if (s == STATUS_OK)
		rpc_reply_ok(call, str_of(PQgetvalue(r, 0, 0)));
	else
		rpc_reply_error(call, s, NULL);
	PQclear(r);
}

static void on_verify(struct rpc_call *call, struct db_conn *db)
{
	usleep(1200000);
	rpc_reply_ok(call, STR("slow"));
}

static const struct op ops[] = {
	{ .rpc = "AuditLogs.NoteExport", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "AuditLogs.Observe", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "Privacy.Export", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "Privacy.Erase", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "LegalHolds.List", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "LegalHolds.Create", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "LegalHolds.Delete", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "AuditLogs.Stats", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "AuditLogs.Compliance", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "SecurityEvents.List", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "SecurityEvents.Get", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "SecurityEvents.Resolve", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "RetentionPolicies.List", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "RetentionPolicies.Update", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "RetentionPolicies.Apply", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "AlertRules.List", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "AlertRules.Create", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "AlertRules.Update", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "AlertRules.Delete", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "Feed.Read", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "Feed.Moved", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "AuditLogs.List", .kind = OP_LOOP, .on_loop = on_list },
	{ .rpc = "AuditLogs.Get", .kind = OP_HANDLER, .handler = on_get },
	{ .rpc = "AuditLogs.Verify", .kind = OP_HANDLER, .handler = on_verify },
	{ .rpc = "AuditLogs.Get", .kind = OP_HANDLER, .handler = on_get },
	{ .rpc = "AuditLogs.Nothing", .kind = OP_LOOP, .on_loop = on_list },
};
enum { N_OPS = sizeof(ops) / sizeof(ops[0]) - 2 };

static int run_service(int argc, char **argv)
{
	const struct service s = { .name = "audit", .ops = ops, .n_ops = N_OPS, .no_relay = true };

	return service_main(&s, argc, argv);
}

static pid_t spawn_with(const char *argument, const char *option)
{
	pid_t pid = fork();

	if (pid == 0) {
		char *argv[] = { "svc-audit", (char *)argument, (char *)option, NULL };

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(run_service(option ? 3 : argument ? 2 : 1, argv)); /* not exit: NNG of the parent */
	}
	return pid;
}

static pid_t spawn(const char *argument)
{
	return spawn_with(argument, NULL);
}

static int ended(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* -- the caller */

struct answer {
	bool done;
	enum status status;
	char payload[200];
};

static void on_reply(void *arg, const struct rpc_result *r)
{
	struct answer *a = arg;

	a->done = true;
	a->status = r->status;
	snprintf(a->payload, sizeof(a->payload), "%.*s", STR_FMT(r->payload));
}

static void begin_call(struct answer *a, const char *rpc, const char *tenant, uint64_t permissions)
{
	struct buf who = { 0 };
	struct rpc_request r = { .service = audit, .rpc = str_of(rpc), .timeout_ms = 8000, .done = on_reply, .arg = a };

	if (tenant) {
		wire_put_bytes(&who, 1, str_of(tenant));
		wire_put_bytes(&who, 3, STR(USER));
		wire_put_fixed64(&who, 6, permissions);
	}
	*a = (struct answer){ 0 };
	r.principal = buf_view(&who);
	rpc_client_call(client, &r);
	buf_fini(&who);
}

static void finish_call(struct answer *a)
{
	int64_t end = clock_mono_us() + 9000000;

	while (!a->done && clock_mono_us() < end)
		event_base_loop(base, EVLOOP_NONBLOCK), usleep(1000);
	assert_true(a->done);
}

static struct answer call(const char *rpc, const char *tenant, uint64_t permissions)
{
	struct answer a;

	begin_call(&a, rpc, tenant, permissions);
	finish_call(&a);
	return a;
}

/* Status of GET path at the admin port; 0: no connection. */
static int admin_get(const char *path, char *body, size_t size)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(ADMIN_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), status = 0;
	size_t n = 0;
	ssize_t got = 1;

	body[0] = 0;
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0) {
		dprintf(fd, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
		while (got > 0 && n < size - 1) {
			got = read(fd, body + n, size - 1 - n);
			n += got > 0 ? (size_t)got : 0;
		}
		body[n] = 0;
		sscanf(body, "HTTP/1.1 %d", &status);
	}
	close(fd);
	return status;
}

static bool wait_ready(int status)
{
	static char body[65536];

	for (int i = 0; i < 100; i++) {
		if (admin_get("/readyz", body, sizeof(body)) == status)
			return true;
		usleep(50000);
	}
	print_message("%s\n", body);
	return false;
}

/* -- tests, in this order: one service lives through them */

static void test_ops_and_contract_must_agree(void **state)
{
	const char *path = DESCRIPTORS "/audit.pb";
	struct schema *s = schema_load(&path, 1);
	struct arena a = { 0 };

	assert_null(dispatch_mismatch(&a, s, "audit", ops, N_OPS));
	assert_non_null(strstr(dispatch_mismatch(&a, s, "audit", ops, N_OPS - 1), "AuditLogs.Verify of proto/audit.proto has no op"));
	assert_non_null(strstr(dispatch_mismatch(&a, s, "audit", ops, N_OPS + 1), "more than one op"));
	assert_non_null(strstr(dispatch_mismatch(&a, s, "audit", ops + 1, N_OPS + 1), "AuditLogs.Nothing has no method"));
	arena_fini(&a);
	schema_free(s);
}

static void test_permissions_are_checked_again(void **state)
{
	struct rpc_principal nobody = { 0 }, user = { .tenant_id = STR(TENANT), .user_id = STR(USER), .permissions = { 1ull << 40, 1 } };

	assert_int_equal(dispatch_may(&nobody, 0), STATUS_OK);
	assert_int_equal(dispatch_may(&nobody, 1), STATUS_UNAUTHENTICATED);
	assert_int_equal(dispatch_may(&nobody, 2), STATUS_OK);
	assert_int_equal(dispatch_may(&nobody, 40), STATUS_UNAUTHENTICATED);
	assert_int_equal(dispatch_may(&user, 1), STATUS_OK);
	assert_int_equal(dispatch_may(&user, 40), STATUS_OK);
	assert_int_equal(dispatch_may(&user, 64), STATUS_OK);
	assert_int_equal(dispatch_may(&user, 41), STATUS_PERMISSION_DENIED);
	assert_int_equal(dispatch_may(&user, 4000), STATUS_PERMISSION_DENIED);
}

static void test_not_ready_before_the_migrations(void **state)
{
	static char body[65536];
	int status = 0;

	for (int i = 0; i < 100 && status == 0; i++) {
		usleep(50000);
		status = admin_get("/livez", body, sizeof(body));
	}
	assert_int_equal(status, 200);
	usleep(1500000);
	assert_int_equal(admin_get("/readyz", body, sizeof(body)), 503);
	assert_non_null(strstr(body, "migration missing"));
	assert_int_equal(call("AuditLogs.List", TENANT, 1ull << AUDIT_READ).status, STATUS_UNAVAILABLE);
}

static void test_migrate_makes_it_ready(void **state)
{
	assert_int_equal(kill(server, 0), 0);
	assert_int_equal(ended(spawn_with("migrate", "--check")), 3);
	assert_int_equal(ended(spawn("migrate")), 0);
	assert_int_equal(ended(spawn_with("migrate", "--check")), 0);
	assert_int_equal(ended(spawn_with("migrate", "--nonsense")), 2);
	assert_true(wait_ready(200));
}

static bool schema_says(const char *path, const char *what)
{
	static char body[65536];

	for (int i = 0; i < 160; i++) { /* it looks every 5 s */
		admin_get(path, body, sizeof(body));
		if (strstr(body, what))
			return true;
		usleep(50000);
	}
	print_message("%s\n", body);
	return false;
}

static void test_the_schema_has_two_ends(void **state)
{
	assert_true(schema_says("/readyz", "\"schema\":{\"state\":\"current\",\"have\":\"150_feed_scrub\",\"need\":\"150_feed_scrub\"}"));
	/* a newer program has expanded it: this one goes on */
	pg_fixture_sql(pg, "INSERT INTO audit.migration (name, checksum) VALUES ('700_expanded.sql', 'x')");
	assert_true(schema_says("/readyz", "\"state\":\"ahead\",\"have\":\"700_expanded\",\"need\":\"150_feed_scrub\""));
	assert_true(wait_ready(200));
	/* … and has contracted it to what this one knows */
	pg_fixture_sql(pg, "INSERT INTO audit.migration (name, checksum, oldest_program) VALUES ('701_contracted.sql', 'x', 150)");
	assert_true(schema_says("/readyz", "\"have\":\"701_contracted\",\"need\":\"150_feed_scrub\",\"oldestProgram\":150"));
	assert_true(wait_ready(200));
	/* … and further */
	pg_fixture_sql(pg, "UPDATE audit.migration SET oldest_program = 700 WHERE name = '701_contracted.sql'");
	assert_true(schema_says("/readyz", "the schema is too new: it takes a program that knows migration 700 or later, this one knows 150"));
	assert_true(wait_ready(503));
	assert_true(schema_says("/version", "\"schema\":{\"state\":\"too new\""));
	pg_fixture_sql(pg, "DELETE FROM audit.migration WHERE name >= '700'");
	assert_true(schema_says("/readyz", "\"state\":\"current\""));
	assert_true(wait_ready(200));
	/* of the common tables as well */
	pg_fixture_sql(pg, "INSERT INTO audit.migration (name, checksum, oldest_program) VALUES ('099_common.sql', 'x', 99)");
	assert_true(schema_says("/readyz", "it takes a program that knows migration 099 or later"));
	pg_fixture_sql(pg, "DELETE FROM audit.migration WHERE name = '099_common.sql'");
	assert_true(schema_says("/readyz", "\"state\":\"current\""));
	assert_true(wait_ready(200));
}

static void test_calls_reach_their_ops(void **state)
{
	struct answer a = { .status = STATUS_UNAVAILABLE };

	for (int i = 0; i < 40 && a.status == STATUS_UNAVAILABLE; i++) /* until the client's next probe */
		a = call("AuditLogs.List", TENANT, 1ull << AUDIT_READ);
	assert_int_equal(a.status, STATUS_OK);
	assert_string_equal(a.payload, TENANT);
	a = call("AuditLogs.Get", TENANT, 1ull << AUDIT_READ);
	assert_int_equal(a.status, STATUS_OK);
	assert_string_equal(a.payload, TENANT " audit_app");
}

static void test_calls_without_permission_do_not(void **state)
{
	assert_int_equal(call("AuditLogs.Get", NULL, 0).status, STATUS_UNAUTHENTICATED);
	assert_int_equal(call("AuditLogs.Get", TENANT, 1ull << AUDIT_VERIFY).status, STATUS_PERMISSION_DENIED);
	assert_int_equal(call("AuditLogs.Verify", TENANT, 1ull << AUDIT_READ).status, STATUS_PERMISSION_DENIED);
	assert_int_equal(call("AuditLogs.Unknown", TENANT, ~0ull).status, STATUS_NOT_IMPLEMENTED);
}

static void test_metrics_tell_calls_by_outcome(void **state)
{
	static char body[262144];

	assert_int_equal(admin_get("/metrics", body, sizeof(body)), 200);
	assert_non_null(strstr(body, "crm_rpc_server_calls_total{rpc=\"AuditLogs.Verify\",status=\"PERMISSION_DENIED\"} 1"));
	assert_non_null(strstr(body, "crm_rpc_server_duration_seconds_count{rpc=\"AuditLogs.Get\"} 3"));
	assert_non_null(strstr(body, "crm_db_connections 18"));
}

static void test_sigterm_finishes_what_is_in_flight(void **state)
{
	struct answer slow, late;
	int64_t start;

	begin_call(&slow, "AuditLogs.Verify", TENANT, 1ull << AUDIT_VERIFY);
	for (int i = 0; i < 100; i++)
		event_base_loop(base, EVLOOP_NONBLOCK), usleep(2000);
	start = clock_mono_us();
	assert_int_equal(kill(server, SIGTERM), 0);
	usleep(100000);
	late = call("AuditLogs.List", TENANT, 1ull << AUDIT_READ);
	assert_int_equal(late.status, STATUS_UNAVAILABLE);
	finish_call(&slow);
	assert_int_equal(slow.status, STATUS_OK);
	assert_string_equal(slow.payload, "slow");
	assert_int_equal(ended(server), 0);
	assert_true(clock_mono_us() - start < 10000000);
}

static void set_environment(void)
{
	char hex[65], port[64];
	FILE *f;

	hex_encode(key, sizeof(key), hex);
	snprintf(key_file, sizeof(key_file), "/tmp/crm-key-%d", (int)getpid());
	f = fopen(key_file, "we");
	if (!f || fprintf(f, "%s\n", hex) < 0 || fclose(f) != 0)
		abort();
	setenv("DATABASE_URL", pg_fixture_url(pg, "audit_app"), 1);
	setenv("OWNER_DATABASE_URL", pg_fixture_url(pg, "audit_owner"), 1);
	setenv("RELAY_DATABASE_URL", pg_fixture_url(pg, "audit_relay"), 1);
	snprintf(port, sizeof(port), "tcp://127.0.0.1:%d", RPC_PORT);
	setenv("LISTEN_URL", port, 1);
	snprintf(port, sizeof(port), "127.0.0.1:%d", ADMIN_PORT);
	setenv("ADMIN_LISTEN", port, 1);
	setenv("ENVELOPE_KEY_FILE", key_file, 1);
	setenv("LOG_LEVEL", "error", 1);
}

/* The service's process first: NNG does not survive a fork. */
static int start(void **state)
{
	char url[64];

	log_init("test", "text", "error");
	if (access(DESCRIPTORS "/audit.pb", R_OK) != 0 && system("make -s " DESCRIPTORS "/audit.pb") != 0)
		return 1;
	pg = pg_fixture_start();
	set_environment();
	server = spawn(NULL);
	base = event_base_new();
	client = rpc_client_new(base, rpc_keys_of(&key, 1));
	snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", RPC_PORT);
	audit = rpc_client_add(client, "audit", url);
	return 0;
}

static int stop(void **state)
{
	kill(server, SIGKILL);
	unlink(key_file);
	pg_fixture_stop(pg);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ops_and_contract_must_agree),
		cmocka_unit_test(test_permissions_are_checked_again),
		cmocka_unit_test(test_not_ready_before_the_migrations),
		cmocka_unit_test(test_migrate_makes_it_ready),
		cmocka_unit_test(test_the_schema_has_two_ends),
		cmocka_unit_test(test_calls_reach_their_ops),
		cmocka_unit_test(test_calls_without_permission_do_not),
		cmocka_unit_test(test_metrics_tell_calls_by_outcome),
		cmocka_unit_test(test_sigterm_finishes_what_is_in_flight),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
