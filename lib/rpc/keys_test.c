/* Envelope keys: what a file of them may be, that a change of it arrives, and whose MAC is taken for whose. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/codec.h"
#include "base/log.h"
#include "rpc/mac.h"

static char path[64];
static const uint8_t a[32] = { 1 }, b[32] = { 2 }, c[32] = { 3 };

static void put(const char *text)
{
	char next[80];
	FILE *f;

	snprintf(next, sizeof(next), "%s.next", path);
	f = fopen(next, "we");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(rename(next, path), 0);
}

/* n keys, each on a line; end closes the last. */
static void put_keys(size_t n, const uint8_t *const keys[], const char *end)
{
	char text[400] = "", hex[65];

	for (size_t i = 0; i < n; i++) {
		hex_encode(keys[i], 32, hex);
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", hex, i + 1 < n ? "\n" : end);
	}
	put(text);
}

static bool is_set(struct rpc_keys *k, size_t n, const uint8_t *const keys[])
{
	struct rpc_key_set set = rpc_keys_get(k);

	for (size_t i = 0; i < n; i++)
		if (set.n != n || memcmp(set.key[i], keys[i], 32) != 0)
			return false;
	return true;
}

static bool file_is(size_t n, const uint8_t *const keys[])
{
	struct rpc_keys *k = rpc_keys_open(path);
	bool same = is_set(k, n, keys);

	rpc_keys_free(k);
	return same;
}

/* Does a program end with a sentence when this is its key file? NULL: there is none. */
static bool dies_of(const char *text)
{
	int status = 0;
	pid_t pid;

	text ? put(text) : (void)unlink(path);
	pid = fork();
	if (pid == 0) {
		log_init("test", "text", "error");
		if (!freopen("/dev/null", "w", stderr))
			_exit(0);
		rpc_keys_open(path);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) != 0;
}

static void test_a_file_holds_one_to_four_keys(void **state)
{
	char hex[65], text[600] = "";

	put_keys(1, (const uint8_t *[]){ a }, "");
	assert_true(file_is(1, (const uint8_t *[]){ a }));
	put_keys(1, (const uint8_t *[]){ a }, "\n");
	assert_true(file_is(1, (const uint8_t *[]){ a }));
	put_keys(4, (const uint8_t *[]){ a, b, c, a }, "\n");
	assert_true(file_is(4, (const uint8_t *[]){ a, b, c, a }));
	put_keys(2, (const uint8_t *[]){ b, a }, "\r\n");
	assert_true(file_is(2, (const uint8_t *[]){ b, a }));
	assert_true(dies_of(""));
	assert_true(dies_of("\n"));
	assert_true(dies_of("00ff\n"));
	hex_encode(a, 32, hex);
	for (int i = 0; i < 5; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s\n", hex);
	assert_true(dies_of(text));
	text[2 * 65 - 2] = 'x';
	text[2 * 65] = 0;
	assert_true(dies_of(text));
	assert_true(dies_of(NULL));
}

struct watched {
	struct event_base *base;
	struct rpc_keys *keys;
	int changes;
};

static void on_change(void *arg)
{
	((struct watched *)arg)->changes++;
}

static void turn(struct watched *w, int ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	event_base_loopexit(w->base, &tv);
	event_base_dispatch(w->base);
}

static void test_a_changed_file_is_taken_over_and_a_broken_one_is_not(void **state)
{
	struct watched w = { .base = event_base_new() };

	put_keys(1, (const uint8_t *[]){ a }, "\n");
	w.keys = rpc_keys_open(path);
	rpc_keys_watch(w.keys, w.base, on_change, &w);
	put_keys(2, (const uint8_t *[]){ a, b }, "\n");
	turn(&w, 1700);
	assert_true(is_set(w.keys, 2, (const uint8_t *[]){ a, b }));
	assert_int_equal(w.changes, 1);
	put("half a key");
	turn(&w, 1700);
	unlink(path);
	turn(&w, 1700);
	assert_true(is_set(w.keys, 2, (const uint8_t *[]){ a, b }));
	assert_int_equal(w.changes, 1);
	put_keys(1, (const uint8_t *[]){ b }, "\n");
	turn(&w, 1700);
	assert_true(is_set(w.keys, 1, (const uint8_t *[]){ b }));
	assert_int_equal(w.changes, 2);
	turn(&w, 1700);
	assert_int_equal(w.changes, 2);
	rpc_keys_free(w.keys);
	event_base_free(w.base);
}

/* -- MACs */

static void request_mac(const uint8_t key[32], struct str batch, uint8_t out[32])
{
	struct rpc_mac *m = rpc_mac_new(key);

	rpc_mac_request(m, batch, out);
	rpc_mac_rele(m);
}

static struct rpc_key_set set_of(size_t n, const uint8_t *const keys[])
{
	struct rpc_key_set set = { .n = n };

	for (size_t i = 0; i < n; i++)
		memcpy(set.key[i], keys[i], 32);
	return set;
}

static void test_every_accepted_key_fits_and_others_are_counted(void **state)
{
	const uint8_t both[2][32] = { { 1 }, { 2 } };
	struct rpc_keys *keys = rpc_keys_of(both, 2);
	struct rpc_macs *m = rpc_macs_new(keys);
	uint8_t mac[32];

	request_mac(a, STR("call"), mac);
	assert_ptr_equal(rpc_macs_of_request(m, mac, STR("call")), rpc_macs_first(m));
	assert_int_equal(rpc_keys_stats(keys).fallbacks, 0);
	request_mac(b, STR("call"), mac);
	assert_non_null(rpc_macs_of_request(m, mac, STR("call")));
	assert_int_equal(rpc_keys_stats(keys).fallbacks, 1);
	assert_null(rpc_macs_of_request(m, mac, STR("another call")));
	request_mac(c, STR("call"), mac);
	assert_null(rpc_macs_of_request(m, mac, STR("call")));
	assert_int_equal(rpc_keys_stats(keys).accepted, 2);
	rpc_macs_free(m);
	rpc_keys_free(keys);
}

static void test_a_key_that_goes_is_refused_but_for_what_is_under_way(void **state)
{
	struct rpc_keys *keys = rpc_keys_of(&a, 1);
	struct rpc_macs *m = rpc_macs_new(keys);
	struct rpc_mac *held = rpc_mac_hold(rpc_macs_first(m));
	struct rpc_key_set next = set_of(2, (const uint8_t *[]){ b, a });
	uint8_t mac[32], reply[32];

	rpc_mac_request(held, STR("call"), mac);
	rpc_keys_set(keys, &next);
	assert_ptr_equal(rpc_macs_of_request(m, mac, STR("call")), held); /* the same, not a copy of it */
	next = set_of(1, (const uint8_t *[]){ b });
	rpc_keys_set(keys, &next);
	assert_null(rpc_macs_of_request(m, mac, STR("call")));
	rpc_mac_reply(held, mac, STR("answer"), reply);
	assert_true(rpc_macs_reply_is(m, held, mac, reply, STR("answer")));
	rpc_mac_rele(held);
	rpc_macs_free(m);
	rpc_keys_free(keys);
}

static void test_a_reply_under_another_key_is_no_reply(void **state)
{
	const uint8_t both[2][32] = { { 1 }, { 2 } };
	struct rpc_keys *keys = rpc_keys_of(both, 2);
	struct rpc_macs *m = rpc_macs_new(keys);
	struct rpc_mac *mine = rpc_macs_first(m), *other = rpc_mac_new(b);
	uint8_t mac[32], reply[32];

	rpc_mac_request(mine, STR("call"), mac);
	rpc_mac_reply(other, mac, STR("answer"), reply);
	assert_false(rpc_macs_reply_is(m, mine, mac, reply, STR("answer")));
	rpc_mac_reply(mine, mac, STR("answer"), reply);
	assert_true(rpc_macs_reply_is(m, mine, mac, reply, STR("answer")));
	rpc_mac_rele(other);
	rpc_macs_free(m);
	rpc_keys_free(keys);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_file_holds_one_to_four_keys),
		cmocka_unit_test(test_a_changed_file_is_taken_over_and_a_broken_one_is_not),
		cmocka_unit_test(test_every_accepted_key_fits_and_others_are_counted),
		cmocka_unit_test(test_a_key_that_goes_is_refused_but_for_what_is_under_way),
		cmocka_unit_test(test_a_reply_under_another_key_is_no_reply),
	};
	int failed;

	log_init("keys-test", "text", "error");
	snprintf(path, sizeof(path), "/tmp/crm-keys-%d", (int)getpid());
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return failed ? 1 : 0;
}
