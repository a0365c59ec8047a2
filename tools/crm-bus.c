/*
 * The Kafka bus as an operator sees it; ./crm events and ./crm dlq call it. One line of JSON per record.
 *   crm-bus URL read [--from MICROSECONDS | --new] [--end] TOPIC…   records of these topics; --end: those that are there, then ends
 *   crm-bus URL redrive DLQ-TOPIC PARTITION OFFSET                  puts a dead letter back at the end of its topic, and notes that
 *   crm-bus URL publish TOPIC KEY ID                                a record with the value of stdin (for tests)
 * "crm.*" stands for all topics that begin so, "*.dlq" for all that end so.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "events/bus.h"
#include "events/bus_kafka.h"

#define WAIT_MS 10000
#define NOTE "dlq_redriven" /* header of the record that says that a dead letter was put back */

static rd_kafka_t *reader_new(const char *url)
{
	rd_kafka_conf_t *conf = bus_kafka_conf(url);
	static const char *const settings[][2] = { { "group.id", "crm-operator" }, { "enable.auto.commit", "false" }, { "enable.partition.eof", "true" },
		{ "auto.offset.reset", "earliest" }, { "fetch.wait.max.ms", "100" } };
	char why[256];
	rd_kafka_t *rk;

	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
		if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], why, sizeof why) != RD_KAFKA_CONF_OK)
			log_die("BUS-KAFKA", "%s", why);
	}
	rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
	if (!rk)
		log_die("BUS-KAFKA", "%s", why);
	rd_kafka_poll_set_consumer(rk);
	return rk;
}

static bool fits(const char *topic, char *const *wanted, int n)
{
	size_t topic_n = strlen(topic);

	for (int i = 0; i < n; i++) {
		size_t len = strlen(wanted[i]);
		bool ends = wanted[i][0] == '*', begins = len && wanted[i][len - 1] == '*';

		if (ends ? topic_n >= len - 1 && !strcmp(topic + topic_n - (len - 1), wanted[i] + 1) :
		    begins ? !strncmp(topic, wanted[i], len - 1) : !strcmp(topic, wanted[i]))
			return true;
	}
	return false;
}

static rd_kafka_topic_partition_list_t *partitions_of(rd_kafka_t *rk, char *const *wanted, int n, int64_t offset)
{
	const struct rd_kafka_metadata *meta;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
	rd_kafka_resp_err_t err = rd_kafka_metadata(rk, 1, NULL, &meta, WAIT_MS);

	if (err)
		log_die("BUS-KAFKA", "the broker does not answer: %s", rd_kafka_err2str(err));
	for (int i = 0; i < meta->topic_cnt; i++) {
		for (int k = 0; fits(meta->topics[i].topic, wanted, n) && k < meta->topics[i].partition_cnt; k++)
			rd_kafka_topic_partition_list_add(list, meta->topics[i].topic, meta->topics[i].partitions[k].id)->offset = offset;
	}
	rd_kafka_metadata_destroy(meta);
	return list;
}

static struct str header(const rd_kafka_message_t *m, const char *name)
{
	rd_kafka_headers_t *h;
	const void *value = NULL;
	size_t n = 0;

	if (rd_kafka_message_headers(m, &h) || rd_kafka_header_get_last(h, name, &value, &n))
		return (struct str){ "", 0 };
	return (struct str){ value, n };
}

static void put_text(struct buf *b, struct str s)
{
	buf_json_str(b, str_is_utf8(s) ? s : STR("(not UTF-8)"));
}

static void put_headers(struct buf *b, const rd_kafka_message_t *m)
{
	rd_kafka_headers_t *h;
	const char *name;
	const void *value;
	size_t n;

	buf_c(b, '{');
	for (size_t i = 0; !rd_kafka_message_headers(m, &h) && !rd_kafka_header_get_all(h, i, &name, &value, &n); i++) {
		buf_z(b, i ? "," : "");
		put_text(b, str_of(name));
		buf_c(b, ':');
		put_text(b, (struct str){ value, value ? n : 0 });
	}
	buf_c(b, '}');
}

static void record_print(const rd_kafka_message_t *m)
{
	rd_kafka_timestamp_type_t kind;
	int64_t at = rd_kafka_message_timestamp(m, &kind) * 1000;
	struct buf b = { 0 };

	buf_printf(&b, "{\"xid\":\"%" PRId32 "\",\"position\":%" PRId64 ",\"topic\":", m->partition, m->offset);
	put_text(&b, str_of(rd_kafka_topic_name(m->rkt)));
	buf_z(&b, ",\"id\":");
	put_text(&b, header(m, "ce_id"));
	buf_z(&b, ",\"key\":");
	put_text(&b, (struct str){ m->key, m->key_len });
	buf_z(&b, ",\"at\":\"");
	time_print(&b, at);
	buf_printf(&b, "\",\"bytes\":%zu,\"headers\":", m->len);
	put_headers(&b, m);
	buf_c(&b, '}');
	puts(buf_cstr(&b));
	fflush(stdout);
	buf_fini(&b);
}

static int read_records(const char *url, int argc, char **argv)
{
	int64_t from = -1, offset = RD_KAFKA_OFFSET_BEGINNING;
	bool end = false;
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_t *rk;
	int open;

	for (; argc && !strncmp(*argv, "--", 2); argc--, argv++) {
		if (!strcmp(*argv, "--end"))
			end = true;
		else if (!strcmp(*argv, "--new"))
			offset = RD_KAFKA_OFFSET_END;
		else if (!strcmp(*argv, "--from") && argc > 1 && str_to_i64(str_of(argv[1]), &from))
			argc--, argv++;
		else
			return 2;
	}
	rk = reader_new(url);
	list = partitions_of(rk, argv, argc, from < 0 ? offset : from / 1000);
	open = list->cnt;
	if (from >= 0 && list->cnt && rd_kafka_offsets_for_times(rk, list, WAIT_MS))
		log_die("BUS-KAFKA", "the broker does not say where that time is");
	rd_kafka_assign(rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	while (open || !end) {
		rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 200);

		if (m && !m->err)
			record_print(m);
		else if (m && m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
			open -= end;
		else if (m && end)
			log_die("BUS-KAFKA", "%s", rd_kafka_message_errstr(m));
		if (m)
			rd_kafka_message_destroy(m);
	}
	rd_kafka_consumer_close(rk);
	rd_kafka_destroy(rk);
	return 0;
}

static rd_kafka_message_t *record_at(rd_kafka_t *rk, const char *topic, int64_t partition, int64_t offset)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	int64_t until = clock_mono_us() + WAIT_MS * 1000LL;
	rd_kafka_message_t *m = NULL;

	rd_kafka_topic_partition_list_add(list, topic, (int32_t)partition)->offset = offset;
	rd_kafka_assign(rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	while (clock_mono_us() < until) {
		m = rd_kafka_consumer_poll(rk, 200);
		if (m && (m->err || m->offset == offset))
			break;
		if (m)
			rd_kafka_message_destroy(m);
		m = NULL;
	}
	if (!m || m->err)
		log_die("BUS-KAFKA", "there is no record at %s/%lld/%lld", topic, (long long)partition, (long long)offset);
	return m;
}

static void publish(const char *url, const struct bus_record *r, size_t n)
{
	struct bus_producer *p = bus_producer_new(url);

	if (bus_producer_publish(p, r, n) != STATUS_OK)
		log_die("BUS-KAFKA", "the broker did not take the record");
	bus_producer_free(p);
}

/* The letter without what was added to it, and a note that hides it from the list; both, or neither for long: run it again. */
static int redrive(const char *url, const char *topic, int64_t partition, int64_t offset)
{
	rd_kafka_t *rk = reader_new(url);
	rd_kafka_message_t *m = record_at(rk, topic, partition, offset);
	struct bus_header headers[BUS_MAX_HEADERS], note[2];
	char back[300], where[64];
	struct str to = header(m, "dlq_topic"), id = header(m, "ce_id");
	struct bus_record records[2] = { { back, { m->key, m->key_len }, id, { m->payload, m->len }, headers, 0 } };
	rd_kafka_headers_t *h;
	const char *name;
	const void *value;
	size_t n;

	if (!to.n || to.n >= sizeof back || !id.n)
		log_die("BUS-KAFKA", "the record does not say whose it is");
	snprintf(back, sizeof back, "%.*s", STR_FMT(to));
	for (size_t i = 0; !rd_kafka_message_headers(m, &h) && !rd_kafka_header_get_all(h, i, &name, &value, &n); i++) {
		if (strncmp(name, "dlq_", 4) && records[0].n_headers < BUS_MAX_HEADERS)
			headers[records[0].n_headers++] = (struct bus_header){ name, { value, n } };
	}
	snprintf(where, sizeof where, "%lld/%lld", (long long)partition, (long long)offset);
	note[0] = (struct bus_header){ NOTE, str_of(where) };
	records[1] = (struct bus_record){ topic, records[0].key, id, STR(""), note, 1 };
	publish(url, records, 2);
	rd_kafka_message_destroy(m);
	rd_kafka_consumer_close(rk);
	rd_kafka_destroy(rk);
	return 0;
}

static int publish_stdin(const char *url, const char *topic, const char *key, const char *id)
{
	static char value[BUS_MAX_VALUE];
	size_t n = fread(value, 1, sizeof value, stdin);
	struct bus_record r = { topic, str_of(key), str_of(id), { value, n }, NULL, 0 };

	if (bus_topic_create(url, topic) != STATUS_OK)
		log_die("BUS-KAFKA", "the topic cannot be made");
	publish(url, &r, 1);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "";
	int64_t partition, offset;
	int code = 2;

	log_init("crm-bus", "text", "warn");
	if (argc > 1 && bus_is_postgres(argv[1]))
		log_die("BUS-URL", "this is for Kafka: kafka://host:port");
	if (!strcmp(what, "read") && argc > 3)
		code = read_records(argv[1], argc - 3, argv + 3);
	else if (!strcmp(what, "redrive") && argc == 6 && str_to_i64(str_of(argv[4]), &partition) && str_to_i64(str_of(argv[5]), &offset))
		code = redrive(argv[1], argv[3], partition, offset);
	else if (!strcmp(what, "publish") && argc == 6)
		code = publish_stdin(argv[1], argv[3], argv[4], argv[5]);
	if (code == 2)
		fputs("usage: crm-bus URL read [--from US | --new] [--end] TOPIC... | redrive TOPIC PARTITION OFFSET | publish TOPIC KEY ID\n", stderr);
	return code;
}
