/* Every request vector over a real socket: whole, byte by byte and cut in two. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/testing.h"

struct vector {
	const char *name;
	int status, handled;
	const char *bytes;
	size_t n;
};

static const struct vector vectors[] = {
#define VECTOR(name, status, handled, bytes) { #name, status, handled, bytes, sizeof(bytes) - 1 },
#include "tests/vectors/requests.h"
#undef VECTOR
};

#define N_VECTORS (sizeof(vectors) / sizeof(vectors[0]))

static struct test_server server;

static int setup(void **state)
{
	test_server_start(&server, NULL);
	test_server_run(&server);
	return 0;
}

static int teardown(void **state)
{
	test_server_stop(&server);
	return 0;
}

static void send_in_pieces(int fd, const struct vector *v, size_t piece)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &one, sizeof(one));
	for (size_t at = 0; at < v->n; at += piece)
		test_send(fd, v->bytes + at, v->n - at < piece ? v->n - at : piece);
}

static int count_replies(struct buf *reply)
{
	const char *at = buf_cstr(reply);
	int n = 0;

	for (; (at = strstr(at, "HTTP/1.1 ")); at++)
		n += at[9] >= '1' && at[9] <= '5';
	return n;
}

static void run_vector(const struct vector *v, size_t piece)
{
	struct buf reply = { 0 };
	int before = __atomic_load_n(&server.handled, __ATOMIC_SEQ_CST), fd = test_connect(&server), handled;
	bool closed;

	send_in_pieces(fd, v, piece);
	closed = test_read(fd, &reply, 2000, NULL);
	close(fd);
	handled = __atomic_load_n(&server.handled, __ATOMIC_SEQ_CST) - before;
	if (test_status(&reply) != v->status || handled != v->handled || !closed || server.smuggled)
		fail_msg("%s: status %d instead of %d, %d handled instead of %d, %s%s", v->name, test_status(&reply), v->status, handled,
		    v->handled, closed ? "closed" : "not closed", server.smuggled ? ", SMUGGLED" : "");
	assert_int_equal(count_replies(&reply), v->handled + (v->status != 200 || strcmp(v->name, "good_then_bad") == 0));
	buf_fini(&reply);
}

static void test_vectors_sent_whole(void **state)
{
	for (size_t i = 0; i < N_VECTORS; i++)
		run_vector(&vectors[i], vectors[i].n);
}

static void test_vectors_sent_byte_by_byte(void **state)
{
	for (size_t i = 0; i < N_VECTORS; i++)
		run_vector(&vectors[i], 1);
}

static void test_vectors_sent_in_pieces_of_seven(void **state)
{
	for (size_t i = 0; i < N_VECTORS; i++)
		run_vector(&vectors[i], 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors_sent_whole),
		cmocka_unit_test(test_vectors_sent_byte_by_byte),
		cmocka_unit_test(test_vectors_sent_in_pieces_of_seven),
	};

	printf("%zu vectors\n", N_VECTORS);
	return cmocka_run_group_tests(tests, setup, teardown);
}
