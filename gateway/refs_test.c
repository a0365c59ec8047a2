/* References: wishes, one batch per owner, the cache. The RPC client is replaced by one that notes what it was sent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/wire.h"
#include "gateway/refs.h"
#include "gateway/siphash.h"

#define TENANT "01890000-0000-7000-8000-000000000004"
#define OTHER "01890000-0000-7000-8000-000000000005"
#define ANN "01890000-0000-7000-8000-0000000000a1"
#define NOBODY "01890000-0000-7000-8000-0000000000a2"

static const struct schema_method users = { .name = "Users.Refs", .service = "auth" }, teams = { .name = "Teams.Refs", .service = "sales" };
static struct faces faces = { .owners = { { { "user", 4 }, &users }, { { "team", 4 }, &teams } }, .n_owners = 2 };
static struct rpc_request sent[4];
static size_t n_sent, n_keys[4];
static int n_done;
static struct arena arena;
static struct ref_cache *cache;

int rpc_client_find(const struct rpc_client *c, struct str name)
{
	return str_eq(name, STR("auth")) ? 0 : str_eq(name, STR("sales")) ? 1 : -1;
}

void rpc_client_call(struct rpc_client *c, const struct rpc_request *r)
{
	struct wire_reader in = wire_read(r->payload);
	struct wire_field f;

	assert_true(n_sent < 4);
	n_keys[n_sent] = 0;
	while (wire_next(&in, &f))
		n_keys[n_sent]++;
	sent[n_sent++] = *r;
}

static void done(void *arg)
{
	n_done++;
}

static struct refs request_of(const char *tenant)
{
	n_sent = 0;
	n_done = 0;
	return (struct refs){ .cache = cache, .faces = &faces, .arena = &arena, .tenant_id = str_of(tenant), .now_us = clock_mono_us() };
}

static enum ref_state get(struct refs *r, const char *entity, const char *id, int64_t seq, struct ref_value *out)
{
	struct ref_key key = { str_of(entity), str_of(id), seq };
	struct ref_lookup lookup = refs_lookup(r);

	return lookup.get(lookup.arg, &key, out);
}

/* One Ref per text, in order; an empty text is a key that the owner does not know. */
static void answer(size_t i, enum status status, const char *const *names, size_t n)
{
	struct rpc_result result = { .status = status };
	struct buf b = { 0 };

	for (size_t k = 0; k < n; k++) {
		size_t at = wire_open(&b, 1);

		if (*names[k]) {
			wire_put_bytes(&b, 1, STR(ANN));
			wire_put_varint(&b, 2, 7);
			wire_put_bytes(&b, 3, str_of(names[k]));
		}
		wire_close(&b, at);
	}
	result.payload = buf_view(&b);
	sent[i].done(sent[i].arg, &result);
	buf_fini(&b);
}

static bool ask(struct refs *r)
{
	struct ref_call call = { 0 };

	return refs_ask(r, &call, done, NULL);
}

static int setup(void **state)
{
	cache = ref_cache_new();
	return 0;
}

static int teardown(void **state)
{
	ref_cache_free(cache);
	arena_fini(&arena);
	return 0;
}

static void test_wishes_are_asked_once_per_owner_and_remembered(void **state)
{
	static const char *const unknown_then_ann[] = { "", "Ann" }, *const team[] = { "Red" };
	struct refs r = request_of(TENANT), later;
	struct ref_value v;

	assert_int_equal(get(&r, "user", ANN, 0, &v), REF_UNKNOWN);
	assert_int_equal(get(&r, "user", ANN, 0, &v), REF_UNKNOWN);
	assert_int_equal(get(&r, "user", NOBODY, 0, &v), REF_UNKNOWN);
	assert_int_equal(get(&r, "team", "", 3, &v), REF_UNKNOWN);
	assert_int_equal(get(&r, "planet", ANN, 0, &v), REF_ABSENT);
	assert_true(ask(&r));
	assert_int_equal(n_sent, 2);
	size_t u = str_eq(sent[0].rpc, STR("Users.Refs")) ? 0 : 1;

	assert_int_equal(n_keys[u], 2);
	assert_int_equal(n_keys[1 - u], 1);
	answer(u, STATUS_OK, unknown_then_ann, 2);
	assert_int_equal(n_done, 0);
	answer(1 - u, STATUS_OK, team, 1);
	assert_int_equal(n_done, 1);
	assert_false(r.failed);
	assert_int_equal(get(&r, "user", ANN, 0, &v), REF_FOUND);
	assert_true(str_eq(v.name, STR("Ann")) && v.seq == 7);
	assert_int_equal(get(&r, "user", NOBODY, 0, &v), REF_ABSENT);
	assert_int_equal(get(&r, "team", "", 3, &v), REF_FOUND);

	later = request_of(TENANT);
	assert_int_equal(get(&later, "user", ANN, 0, &v), REF_FOUND);
	assert_int_equal(get(&later, "user", NOBODY, 0, &v), REF_ABSENT);
	later.now_us += REFS_TTL_US + 1000000;
	assert_int_equal(get(&later, "user", ANN, 0, &v), REF_UNKNOWN);
}

static void test_names_of_one_tenant_are_unknown_to_another(void **state)
{
	static const char *const ann[] = { "Ann" };
	struct refs r = request_of(TENANT), other;
	struct ref_value v;

	ref_cache_clear(cache);
	assert_int_equal(get(&r, "user", ANN, 0, &v), REF_UNKNOWN);
	assert_true(ask(&r));
	answer(0, STATUS_OK, ann, 1);
	other = request_of(OTHER);
	assert_int_equal(get(&other, "user", ANN, 0, &v), REF_UNKNOWN);
}

static void test_a_silent_owner_fails_the_asking_and_is_not_cached(void **state)
{
	struct refs r = request_of(TENANT);
	struct ref_value v;

	ref_cache_clear(cache);
	assert_int_equal(get(&r, "user", ANN, 0, &v), REF_UNKNOWN);
	assert_true(ask(&r));
	answer(0, STATUS_DEADLINE_EXCEEDED, NULL, 0);
	assert_true(r.failed && n_done == 1);
	r.settle = true;
	assert_int_equal(get(&r, "user", ANN, 0, &v), REF_ABSENT);
	assert_int_equal(get(&r, "user", NOBODY, 0, &v), REF_ABSENT);
	assert_int_equal(ref_cache_count(cache), 0);
}

static void test_wishes_are_bounded(void **state)
{
	struct refs r = request_of(TENANT);
	struct ref_value v;

	for (int64_t i = 1; i <= REFS_WISHES_MAX; i++)
		assert_int_equal(get(&r, "user", "", i, &v), REF_UNKNOWN);
	assert_int_equal(get(&r, "user", "", REFS_WISHES_MAX + 1, &v), REF_ABSENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wishes_are_asked_once_per_owner_and_remembered),
		cmocka_unit_test(test_names_of_one_tenant_are_unknown_to_another),
		cmocka_unit_test(test_a_silent_owner_fails_the_asking_and_is_not_cached),
		cmocka_unit_test(test_wishes_are_bounded),
	};

	siphash_init();
	return cmocka_run_group_tests(tests, setup, teardown);
}
