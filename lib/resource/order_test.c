/*
 * R4: 64 writers on a few entities, with and without Idempotency-Key, and slow transactions among them. On the bus the versions of
 * an entity come one after the other, and the numbers of the stream have no hole.
 */
#include "resource/test_calls.h"

#include "events/bus.h"
#include "events/event.h"

enum { LEAD_DISPLAY = 16, LEAD_NOTES = 26 };
#define ENTITIES 12
#define WRITERS 64
#define WRITES 1500

static const struct resource lead = {
	.message = "crm.v1.Lead", .table = "lead", .filter = "status", .sort = "display created_us", .default_sort = "-created_us", .person = true,
	.searchable = true, .one_of = "display given family", .defaults = "status=new",
};
static const struct op ops[] = {
	{ .rpc = "Leads.Create", .kind = OP_CREATE, .resource = &lead },
	{ .rpc = "Leads.Update", .kind = OP_UPDATE, .resource = &lead },
};

static char ids[ENTITIES][UUID_TEXT + 1];

static void make_entities(void)
{
	for (int i = 0; i < ENTITIES; i++) {
		struct buf e = { 0 };
		struct test_call *t;

		put_text(&e, LEAD_DISPLAY, "Contended Person");
		t = call_run(create_new("Leads.Create", TENANT_A, USER_1, &e));
		assert_status(t, STATUS_OK);
		assert_true(uuid_parse(field_bytes(buf_view(&t->reply), 1, 0), ids[i]));
		call_free(t);
	}
}

static struct test_call *update_send(int number)
{
	static uint8_t hashes[WRITES][32];
	static char keys[WRITES][20];
	struct test_call *t = call_new("Leads.Update", TENANT_A, USER_2);
	struct buf e = { 0 }, mask = { 0 };
	char notes[20];

	snprintf(notes, sizeof notes, "write %d", number);
	put_text(&e, LEAD_NOTES, notes);
	put_key(&t->request, 1, str_of(ids[number % ENTITIES]), 0);
	wire_put_bytes(&t->request, 2, buf_view(&e));
	wire_varint(&mask, LEAD_NOTES);
	wire_put_bytes(&t->request, 3, buf_view(&mask));
	buf_fini(&e);
	buf_fini(&mask);
	if (number % 3) {
		snprintf(keys[number], sizeof keys[number], "order-%d", number);
		memcpy(hashes[number], &number, sizeof number);
		t->call.idempotency_key = str_of(keys[number]);
		t->call.idempotency_hash = (struct str){ (const char *)hashes[number], 32 };
	}
	call_send(t);
	return t;
}

/* Keeps WRITERS calls under way; how many of them were written. */
static int write_all(void)
{
	struct test_call *flying[WRITERS] = { 0 };
	int sent = 0, left = 0, written = 0;

	do {
		left = 0;
		for (int i = 0; i < WRITERS; i++) {
			if (flying[i] && atomic_load(&flying[i]->answered)) {
				usleep(50); /* a worker may still be leaving the function that answered */
				written += flying[i]->status == STATUS_OK;
				call_free(flying[i]);
				flying[i] = NULL;
			}
			if (!flying[i] && sent < WRITES)
				flying[i] = update_send(sent++);
			left += flying[i] != NULL;
		}
		test_turn();
	} while (left);
	return written;
}

static void check_stream(struct bus_consumer *reader, int expected)
{
	uint64_t version[ENTITIES] = { 0 };
	int64_t stream_seq = 0, until = clock_mono_us() + 60 * 1000000;
	const struct bus_message *m;
	struct event e;
	size_t n;
	int seen = 0;

	while (seen < expected && clock_mono_us() < until) {
		if (bus_consumer_poll(reader, 300, 250, &m, &n) != STATUS_OK)
			continue;
		for (size_t i = 0; i < n; i++, seen++) {
			assert_true(event_decode(m[i].record.value, &e));
			assert_int_equal(e.stream_seq, ++stream_seq);
			for (int k = 0; k < ENTITIES; k++) {
				if (str_eq(e.entity_id, str_of(ids[k])))
					assert_int_equal(e.version, ++version[k]);
			}
		}
		assert_int_equal(bus_consumer_commit(reader, n), STATUS_OK);
	}
	assert_int_equal(seen, expected);
}

static void versions_of_an_entity_keep_their_order(void **state)
{
	static const char *const topics[] = { "crm.customers.v1" };
	struct bus_consumer *reader = bus_consumer_new(pg_fixture_url(test_pg, "bus_app"), "order-test", topics, 1);
	int written;

	make_entities();
	/* one write in a hundred is slow */
	pg_fixture_sql(test_pg, "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF random() < 0.01 THEN PERFORM pg_sleep(0.3); END IF; RETURN NEW; END';"
				"GRANT USAGE ON SCHEMA public TO PUBLIC; CREATE TRIGGER slow AFTER UPDATE ON customers.lead FOR EACH ROW EXECUTE FUNCTION public.slow()");
	relay_start(&(struct relay_config){ "customers", pg_fixture_url(test_pg, "customers_relay"), pg_fixture_url(test_pg, "bus_app"), "build/gen/descriptors" });
	written = write_all();
	assert_true(written > WRITES / 2); /* lock_timeout may end some that wait for a slow one */
	check_stream(reader, ENTITIES + written);
	relay_stop();
	bus_consumer_free(reader);
}

static int start(void **state)
{
	test_start(ops, 2, "svc-customers/schema");
	bus_migrate(pg_fixture_url(test_pg, "bus_owner"), "lib/events/schema/bus");
	return 0;
}

static int end(void **state)
{
	test_end();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(versions_of_an_entity_keep_their_order) };

	return cmocka_run_group_tests_name("order", tests, start, end);
}
