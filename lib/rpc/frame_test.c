/* Messages of the hop by themselves: batches, MACs, health, and what was seen before. No server, no NNG. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/wire.h"
#include "rpc/frame.h"
#include "rpc/mac.h"
#include "rpc/replay.h"
#include "rpc/rpc.h"

static const uint8_t key[32] = { 1, 2, 3 };

static void test_replayed_messages_are_recognised(void **state)
{
	struct replay *r = xcalloc(1, sizeof(*r));
	struct frame_origin o = { 77, 1 };

	assert_true(replay_accept(r, o, 1));
	assert_false(replay_accept(r, o, 1));
	o.sequence = 5;
	assert_true(replay_accept(r, o, 1));
	o.sequence = 3;
	assert_true(replay_accept(r, o, 1));
	assert_false(replay_accept(r, o, 1));
	o.sequence = 5000;
	assert_true(replay_accept(r, o, 1));
	o.sequence = 5000 - REPLAY_WINDOW;
	assert_false(replay_accept(r, o, 1));
	o.sequence = 5001 - REPLAY_WINDOW;
	assert_true(replay_accept(r, o, 1));
	assert_false(replay_accept(r, (struct frame_origin){ 0, 9 }, 1));
	for (uint64_t i = 0; i < REPLAY_CLIENTS - 1; i++)
		assert_true(replay_accept(r, (struct frame_origin){ 1000 + i, 1 }, 1));
	assert_false(replay_accept(r, (struct frame_origin){ 5, 1 }, 1));
	assert_true(replay_accept(r, (struct frame_origin){ 5, 1 }, 1000LL * 1000 * 1000));
	for (size_t i = 0; i < r->n; i++)
		free(r->clients[i]);
	free(r);
}

static void test_a_reply_mac_is_bound_to_its_request(void **state)
{
	struct rpc_mac *m = rpc_mac_new(key);
	uint8_t q1[32], q2[32], a[32], b[32], forged[32];

	rpc_mac_request(m, STR("one"), q1);
	rpc_mac_request(m, STR("two"), q2);
	rpc_mac_reply(m, q1, STR("answer"), a);
	rpc_mac_reply(m, q2, STR("answer"), b);
	assert_memory_not_equal(a, b, 32);
	/* the answer to a message whose "MAC" is chosen by a forger is no MAC of a request */
	rpc_mac_reply(m, q1, (struct str){ 0 }, a);
	rpc_mac_request(m, (struct str){ (const char *)q1, 32 }, forged);
	assert_memory_not_equal(a, forged, 32);
	rpc_mac_rele(m);
}

static void test_malformed_batches_are_refused(void **state)
{
	struct str calls[RPC_MAX_CALLS];
	struct frame_origin o;
	struct rpc_call *c = xcalloc(1, sizeof(*c));
	struct buf b = { 0 };
	uint32_t id;
	size_t n;

	for (int i = 0; i < RPC_MAX_CALLS; i++)
		frame_put_call(&b, (uint32_t)i, STR("\x12\x01x"));
	assert_true(frame_read_calls(buf_view(&b), &o, calls, &n));
	assert_int_equal(n, RPC_MAX_CALLS);
	assert_true(frame_read_call(calls[63], &id, c));
	assert_int_equal(id, 63);
	*c = (struct rpc_call){ 0 };
	frame_put_call(&b, 64, STR("\x12\x01x"));
	assert_false(frame_read_calls(buf_view(&b), &o, calls, &n));
	assert_false(frame_read_calls(STR("\x0a\x7fzz"), &o, calls, &n));
	assert_false(frame_read_call(STR("\x08\x01"), &id, c)); /* no rpc */
	assert_false(frame_read_call(STR("\x12\x01x\x22\x02\x0a\x7f"), &id, c)); /* broken principal */
	buf_fini(&b);
	free(c);
}

static void test_health_is_a_message_that_may_grow(void **state)
{
	struct buf b = { 0 };
	struct frame_health h;

	assert_false(frame_read_health((struct str){ 0 }).leaving);
	frame_put_health(&b, (struct frame_health){ .leaving = true, .contract = 77 });
	wire_put_bytes(&b, 99, STR("of a later version"));
	h = frame_read_health(buf_view(&b));
	assert_true(h.leaving);
	assert_int_equal(h.contract, 77);
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replayed_messages_are_recognised),
		cmocka_unit_test(test_a_reply_mac_is_bound_to_its_request),
		cmocka_unit_test(test_malformed_batches_are_refused),
		cmocka_unit_test(test_health_is_a_message_that_may_grow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
