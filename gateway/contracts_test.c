/* Which contract is in force, and which are refused: with services' contracts made by protoc from changed copies of proto/. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/version.h"
#include "gateway/contracts.h"
#include "proto/common.pb-c.h"
#include "rpc/rpc.h"

#define DESCRIPTORS "build/gen/descriptors"
#define DIALECTS "build/gen/dialects"

static const struct service_spec services[] = { { "auth", "" }, { "customers", "" }, { "audit", "" }, { "sales", "" } };
static const struct listen_spec listeners[] = { { "a", { "backend", "saas", "system" }, 3 }, { "b", { "elevate", "mvp" }, 2 } };

/* -- contracts of other builds */

struct edit {
	const char *file, *find, *replace; /* in this file, the first that is found */
};

/* A folder with proto/ and gateway/dialects/ after the edits, compiled. Heap. */
static char *tree(const struct edit *edits, size_t n)
{
	char *dir = xstrdup("/tmp/contracts-test-XXXXXX"), command[2000];

	assert_non_null(mkdtemp(dir));
	snprintf(command, sizeof(command), "mkdir %s/d %s/f && cp -r proto gateway/dialects %s", dir, dir, dir);
	assert_int_equal(system(command), 0);
	for (size_t i = 0; i < n; i++) {
		char path[200];
		struct str text;
		struct arena a = { 0 };
		const char *at;
		FILE *f;

		snprintf(path, sizeof(path), "%s/%s", dir, edits[i].file);
		assert_true(file_read(&a, path, &text));
		at = memmem(text.p, text.n, edits[i].find, strlen(edits[i].find));
		if (!at)
			fail_msg("%s has no '%s'", edits[i].file, edits[i].find);
		f = fopen(path, "w");
		fprintf(f, "%.*s%s%s", (int)(at - text.p), text.p, edits[i].replace, arena_strdup(&a, (struct str){ at + strlen(edits[i].find), (size_t)(text.p + text.n - at) - strlen(edits[i].find) }));
		fclose(f);
		arena_fini(&a);
	}
	snprintf(command, sizeof(command), "cd %s && for s in common auth customers sales audit events; do protoc -Iproto --include_imports --include_source_info --descriptor_set_out=d/$s.pb "
	    "proto/$s.proto || exit 1; done && for t in dialects/*.textproto; do protoc -Iproto --encode=crm.dialect.Dialect proto/dialect.proto < $t > f/$(basename $t .textproto).pb || exit 1; done", dir);
	assert_int_equal(system(command), 0);
	return dir;
}

/* What the service of that tree tells. Heap. */
static struct buf told_from(const char *dir, const char *service, const char *version, int64_t built)
{
	Crm__V1__Contract c = CRM__V1__CONTRACT__INIT;
	Crm__V1__Contract__Face faces[CONTRACT_FACES], *rows[CONTRACT_FACES];
	char d[200], f[200];
	const char *why = "";
	const struct contract *from;
	struct own *own;
	struct buf out = { 0 };

	snprintf(d, sizeof(d), "%s/d", dir);
	snprintf(f, sizeof(f), "%s/f", dir);
	own = own_load(d, f, &why);
	if (!own)
		fail_msg("%s", why);
	from = own_of(own, service);
	c.service = (char *)service;
	c.version = (char *)version;
	c.has_built = c.has_descriptors = true;
	c.built = built;
	c.descriptors = (ProtobufCBinaryData){ from->descriptors.n, (uint8_t *)from->descriptors.p };
	for (size_t i = 0; i < from->n_faces; i++) {
		crm__v1__contract__face__init(&faces[i]);
		faces[i].dialect = (char *)from->faces[i].dialect;
		faces[i].has_fragment = true;
		faces[i].fragment = (ProtobufCBinaryData){ from->faces[i].fragment.n, (uint8_t *)from->faces[i].fragment.p };
		rows[i] = &faces[i];
	}
	c.face = rows;
	c.n_face = from->n_faces;
	buf_need(&out, crm__v1__contract__get_packed_size(&c));
	out.n = crm__v1__contract__pack(&c, (uint8_t *)out.p);
	own_free(own);
	return out;
}

static struct buf told(const char *service, const char *version, int64_t built, const struct edit *edits, size_t n)
{
	char *dir = tree(edits, n), command[200];
	struct buf out = told_from(dir, service, version, built);

	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
	free(dir);
	return out;
}

#define LEAD_FIELD "  optional string nickname = 900 [(f) = { max_len: 50 }];\n"
#define LEAD_BEGIN "message Lead {\n"
#define NICKNAME \
	{ "proto/customers.proto", LEAD_BEGIN, LEAD_BEGIN LEAD_FIELD }, \
	{ "dialects/saas.textproto", "  f { j: \"jobTitle\" p: \"title\" }\n", "  f { j: \"jobTitle\" p: \"title\" }\n  f { j: \"nickName\" p: \"nickname\" }\n" }

static struct buf newer, older, same;

/* -- the store as the gateway uses it */

static struct contracts *c;
static struct faces *faces;

static void decide(void)
{
	struct faces *f = contracts_decide(c);

	if (!f)
		return;
	faces_rele(faces);
	faces = f;
}

/* An instance comes, or comes back as another. */
static void comes(const char *service, uint64_t instance, const struct buf *contract)
{
	uint64_t hash = contract ? rpc_contract_hash(buf_view(contract)) : 0;

	if (contracts_seen(c, service, instance, hash) == CONTRACTS_WANTED)
		contracts_take(c, service, hash, buf_view(contract));
	decide();
}

static void goes(const char *service, uint64_t instance)
{
	if (contracts_gone(c, service, instance))
		decide();
}

static struct contracts_row row_of(const char *service)
{
	struct contracts_row rows[SERVICES_MAX];
	size_t n = contracts_rows(c, rows);

	for (size_t i = 0; i < n; i++) {
		if (strcmp(rows[i].service, service) == 0)
			return rows[i];
	}
	fail_msg("no %s", service);
	return rows[0];
}

static const char *in_force(const char *service)
{
	struct contracts_row row = row_of(service);

	return row.own ? "own" : row.now->version;
}

static bool document_has(const char *dialect, const char *text)
{
	struct buf b = { 0 };
	bool has;

	faces_openapi(faces, faces_find(faces, str_of(dialect)), STR("http://h"), &b);
	has = strstr(buf_cstr(&b), text) != NULL;
	buf_fini(&b);
	return has;
}

static int begin(void **state)
{
	const char *why = "";

	c = contracts_new(services, 4, listeners, 2);
	faces = contracts_load(c, DESCRIPTORS, DIALECTS, &why);
	if (!faces)
		fail_msg("%s", why);
	return 0;
}

static int end(void **state)
{
	faces_rele(faces);
	contracts_free(c);
	return 0;
}

/* -- */

static void the_same_contract_needs_no_new_faces(void **state)
{
	const struct faces *before = faces;

	assert_string_equal(in_force("customers"), "own");
	assert_false(contracts_settled(c, "customers"));
	comes("customers", 1, &same);
	assert_true(contracts_settled(c, "customers"));
	assert_string_equal(in_force("customers"), "v1");
	assert_ptr_equal(faces, before);
	assert_int_equal(contracts_seen(c, "customers", 1, rpc_contract_hash(buf_view(&same))), CONTRACTS_SAME);
}

static void a_field_is_served_when_every_instance_knows_it(void **state)
{
	comes("customers", 1, &same);
	comes("customers", 2, &same);
	comes("customers", 3, &newer);
	assert_string_equal(in_force("customers"), "v1");
	goes("customers", 1);
	assert_string_equal(in_force("customers"), "v1");
	assert_false(document_has("saas", "nickName"));
	goes("customers", 2);
	assert_string_equal(in_force("customers"), "v2");
	assert_true(document_has("saas", "nickName"));
	assert_false(document_has("mvp", "nickName"));
	assert_string_equal(in_force("sales"), "own");
}

static void whoever_goes_back_is_followed_at_once(void **state)
{
	comes("customers", 1, &newer);
	assert_true(document_has("saas", "nickName"));
	comes("customers", 2, &same);
	assert_string_equal(in_force("customers"), "v1");
	assert_false(document_has("saas", "nickName"));
	goes("customers", 1);
	assert_string_equal(in_force("customers"), "v1");
	comes("customers", 2, &newer); /* the same address, another program */
	assert_string_equal(in_force("customers"), "v2");
}

static void the_last_known_stays_when_none_lives_or_one_is_not_known(void **state)
{
	comes("customers", 1, &newer);
	goes("customers", 1);
	assert_string_equal(in_force("customers"), "v2");
	assert_true(document_has("saas", "nickName"));
	assert_int_equal(contracts_seen(c, "customers", 1, 77), CONTRACTS_WANTED);
	comes("customers", 2, &same);
	assert_string_equal(in_force("customers"), "v2");
	assert_false(contracts_settled(c, "customers"));
	assert_int_equal(contracts_seen(c, "customers", 1, 77), CONTRACTS_WANTED);
	goes("customers", 1);
	assert_string_equal(in_force("customers"), "v1");
}

static void an_instance_from_before_contracts_is_older_than_all(void **state)
{
	comes("customers", 1, &newer);
	comes("customers", 2, NULL);
	assert_string_equal(in_force("customers"), "own");
	assert_false(document_has("saas", "nickName"));
}

static void refused(const char *service, const struct buf *contract)
{
	const struct faces *before = faces;
	uint64_t n = row_of(service).refused;
	const char *was = in_force(service);

	comes(service, 1, contract);
	assert_string_equal(in_force(service), was);
	assert_int_equal(row_of(service).refused, n + 1);
	assert_ptr_equal(faces, before);
	decide();
	assert_int_equal(row_of(service).refused, n + 1); /* not tried again and again */
	contracts_gone(c, service, 1);
}

static void refused_edit(const char *service, const struct edit *edits, size_t n)
{
	struct buf b = told(service, "v3", crm_built + 300, edits, n);

	refused(service, &b);
	buf_fini(&b);
}

static void what_breaks_clients_is_refused_unless_it_is_older(void **state)
{
	static const struct edit renumbered[] = { NICKNAME, { "proto/customers.proto", LEAD_FIELD, "  optional string nickname = 901;\n" } };
	struct buf b;

	comes("customers", 1, &newer);
	comes("customers", 1, &older);
	assert_string_equal(in_force("customers"), "v0"); /* has no nickname */
	comes("customers", 1, &newer);
	b = told("customers", "v3", crm_built + 300, NULL, 0);
	refused("customers", &b); /* newer, and the nickname is gone */
	buf_fini(&b);
	refused_edit("customers", renumbered, 3);
}

static void what_is_not_its_own_is_refused(void **state)
{
	static const struct edit entity[] = { { "proto/customers.proto", LEAD_BEGIN, "message Fake { option (e) = { entity: \"deal\" }; optional string id = 1; }\n"
	    "service Fakes { rpc Get(KeyRequest) returns (Fake) { option (m) = { permission: LEADS_READ entity: \"crm.v1.Fake\" }; } }\n" LEAD_BEGIN } };
	static const struct edit refs[] = { { "proto/customers.proto", LEAD_BEGIN,
	    "service Fakes { rpc Refs(RefsRequest) returns (RefsReply) { option (m) = { permission: INTERNAL refs_of: \"user\" }; } }\n" LEAD_BEGIN } };
	static const struct edit shared[] = { { "proto/common.proto", "optional int64 seq = 2;     // number", "optional string seq = 2;     // number" } };
	static const struct edit word[] = { { "proto/options.proto", "CUSTOMERS_READ = 8;", "CUSTOMERS_READ = 8; EVERYTHING_READ = 9;" },
		{ "proto/options.proto", "CUSTOMERS_WRITE = 9;", "CUSTOMERS_WRITE = 99;" } };
	struct buf garbage = { 0 };

	buf_z(&garbage, "\xff\xff not a contract");
	refused("customers", &garbage);
	refused("sales", &newer); /* another service's */
	refused_edit("customers", entity, 1);
	refused_edit("customers", refs, 1);
	refused_edit("customers", shared, 1);
	refused_edit("customers", word, 2);
	buf_fini(&garbage);
}

/* What a service's set says of another service's file does not count: its owner says. */
static void the_file_of_another_service_is_the_others(void **state)
{
	static const struct edit theirs[] = { NICKNAME };
	struct buf b = told("sales", "v2", crm_built + 100, theirs, 1);

	comes("sales", 1, &b);
	assert_string_equal(in_force("sales"), "v2");
	assert_null(schema_field_find(schema_message_find(dialects_schema(faces->dialects), STR("crm.v1.Lead")), STR("nickname")));
	buf_fini(&b);
}

static void shared_files_may_grow(void **state)
{
	static const struct edit grown[] = { NICKNAME, { "proto/options.proto", "AUDIT_MANAGE = 61;", "AUDIT_MANAGE = 61; MOODS_READ = 120;" },
		{ "proto/common.proto", "message Ref {\n", "message Mood { optional string word = 1; }\nmessage Ref {\n  optional string mood = 90;\n" },
		{ "proto/customers.proto", "  optional string nickname = 900", "  optional Mood mood = 901;\n  optional string nickname = 900" } };
	struct buf b = told("customers", "v3", crm_built + 300, grown, 5);
	const struct schema *s;

	comes("customers", 1, &b);
	assert_string_equal(in_force("customers"), "v3");
	s = dialects_schema(faces->dialects);
	assert_string_equal(schema_permission_name(s, 120), "moods.read");
	assert_non_null(schema_field_find(schema_message_find(s, STR("crm.v1.Ref")), STR("mood")));
	assert_string_equal(schema_field_find(schema_message_find(s, STR("crm.v1.Lead")), STR("mood"))->message->name, "crm.v1.Mood");
	buf_fini(&b);
}

/* sales shows a field of customers' that customers does not have yet: refused until it has. */
static void who_depends_on_another_is_tried_again(void **state)
{
	static const struct edit both[] = { { "proto/customers.proto", LEAD_BEGIN, "message Mood { optional string word = 1; }\n" LEAD_BEGIN },
		{ "proto/sales.proto", "message Deal {\n", "message Deal {\n  optional Mood mood = 900;\n" } };
	char *dir = tree(both, 2), command[200];
	struct buf sales = told_from(dir, "sales", "s2", crm_built + 100), customers = told_from(dir, "customers", "c2", crm_built + 100);

	comes("sales", 1, &sales);
	assert_string_equal(in_force("sales"), "own");
	assert_int_equal(row_of("sales").refused, 1);
	comes("customers", 1, &customers);
	assert_string_equal(in_force("customers"), "c2");
	assert_string_equal(in_force("sales"), "s2");
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
	free(dir);
	buf_fini(&sales);
	buf_fini(&customers);
}

static void own_files_are_loaded_again_under_what_services_say(void **state)
{
	const char *why = NULL;
	struct faces *f;

	comes("customers", 1, &newer);
	f = contracts_load(c, DESCRIPTORS, DIALECTS, &why);
	assert_non_null(f);
	faces_rele(faces);
	faces = f;
	assert_string_equal(in_force("customers"), "v2");
	assert_true(document_has("saas", "nickName"));
	assert_null(contracts_load(c, DESCRIPTORS, "proto", &why));
	free((void *)why);
	assert_true(document_has("saas", "nickName"));
}

static long rss_kb(void)
{
	long pages = 0, total;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_int_equal(fscanf(f, "%ld %ld", &total, &pages), 2);
	fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void a_hundred_changes_leave_nothing_behind(void **state)
{
	long before = 0;

	for (int i = 0; i < 110; i++) {
		comes("customers", 1, i % 2 ? &same : &newer);
		assert_string_equal(in_force("customers"), i % 2 ? "v1" : "v2");
		if (i == 9)
			before = rss_kb();
	}
#ifdef CRM_TEST_BUILD
	(void)before; /* the sanitizer keeps what is freed, and sees what is not */
#else
	assert_true(rss_kb() - before < 1024);
#endif
}

static int load(void **state)
{
	static const struct edit nickname[] = { NICKNAME };

	same = told("customers", "v1", crm_built, NULL, 0);
	newer = told("customers", "v2", crm_built + 100, nickname, 2);
	older = told("customers", "v0", crm_built - 100, NULL, 0);
	return 0;
}

static int unload(void **state)
{
	buf_fini(&same);
	buf_fini(&newer);
	buf_fini(&older);
	return 0;
}

int main(void)
{
	log_init("contracts-test", "text", "error");
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(the_same_contract_needs_no_new_faces),
		TEST(a_field_is_served_when_every_instance_knows_it),
		TEST(whoever_goes_back_is_followed_at_once),
		TEST(the_last_known_stays_when_none_lives_or_one_is_not_known),
		TEST(an_instance_from_before_contracts_is_older_than_all),
		TEST(what_breaks_clients_is_refused_unless_it_is_older),
		TEST(what_is_not_its_own_is_refused),
		TEST(the_file_of_another_service_is_the_others),
		TEST(shared_files_may_grow),
		TEST(who_depends_on_another_is_tried_again),
		TEST(own_files_are_loaded_again_under_what_services_say),
		TEST(a_hundred_changes_leave_nothing_behind),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
