/* The bus driver over Apache Kafka (librdkafka): idempotent producer, manual offset store, explicit topics. */
#include "events/bus_kafka.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "events/bus_driver.h"

#define ADMIN_TIMEOUT_MS 10000
#define PUBLISH_TIMEOUT_MS 125000 /* a little more than message.timeout.ms: every record gets its report */
#define CLOSE_TIMEOUT_MS 5000
#define RETENTION_MS "604800000"
#define URL_MAX 1000

struct address {
	const char *url; /* the caller's */
	char brokers[URL_MAX];
	int partitions, replication;
};

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char why[256];

	if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK)
		log_die("BUS-KAFKA-SETTING", "%s: %s", name, why);
}

/* -- the URL */

struct pair {
	char name[100], value[URL_MAX];
};

static void copy_piece(char *out, size_t size, const char *from, size_t n, const char *what)
{
	size_t at = 0;

	for (size_t i = 0; i < n; i++, at++) {
		uint8_t byte = (uint8_t)from[i];

		if (byte == '%' && n - i > 2 && hex_decode((struct str){ from + i + 1, 2 }, &byte, 1))
			i += 2;
		if (at + 1 >= size || !byte)
			log_die("BUS-URL", "the bus URL's %s is too long or malformed", what);
		out[at] = (char)byte;
	}
	out[at] = '\0';
}

/* Cuts the next NAME=VALUE off *query; false at the end. */
static bool pair_next(const char **query, struct pair *p)
{
	size_t n, name;

	while (**query == '&')
		++*query;
	n = strcspn(*query, "&");
	name = strcspn(*query, "=&");
	if (!n)
		return false;
	if (name == n)
		log_die("BUS-URL", "the bus URL's %.*s has no value", (int)name, *query);
	copy_piece(p->name, sizeof p->name, *query, name, "query");
	copy_piece(p->value, sizeof p->value, *query + name + 1, n - name - 1, p->name);
	*query += n;
	return true;
}

static int pair_number(const struct pair *p)
{
	int64_t v;

	if (!str_to_i64(str_of(p->value), &v) || v < 1 || v > 1000)
		log_die("BUS-URL", "the bus URL's %s must be a number from 1 to 1000", p->name);
	return (int)v;
}

static const char *query_of(const char *url)
{
	const char *query = strchr(url, '?');

	return query ? query + 1 : "";
}

static void address_parse(const char *url, struct address *a)
{
	const char *hosts = url + strlen("kafka://"), *query = query_of(url);
	size_t n = strcspn(hosts, "/?");
	struct pair p;

	if (n == 0 || n >= sizeof a->brokers)
		log_die("BUS-URL", "the bus URL must look like kafka://host:port[,host:port]");
	a->url = url;
	memcpy(a->brokers, hosts, n);
	a->brokers[n] = '\0';
	a->partitions = 4;
	a->replication = 1;
	while (pair_next(&query, &p)) {
		if (!strcmp(p.name, "partitions"))
			a->partitions = pair_number(&p);
		else if (!strcmp(p.name, "replication"))
			a->replication = pair_number(&p);
	}
}

/* The first line of a file: a secret that must not stand in an environment. */
static void from_file(struct pair *p)
{
	FILE *f = fopen(p->value, "re");

	if (!f || !fgets(p->value, sizeof p->value, f))
		log_die("BUS-URL", "%s: the file cannot be read", p->name);
	fclose(f);
	p->value[strcspn(p->value, "\r\n")] = '\0';
	p->name[strlen(p->name) - strlen(".file")] = '\0';
}

/* How the broker is reached may be said from outside; what delivery rests on (acknowledgements, offsets, groups) may not. */
static void pass_through(rd_kafka_conf_t *conf, struct pair *p)
{
	static const char *const allowed[] = { "security.", "sasl.", "ssl.", "socket.", "client.", "broker.address." };
	size_t n = strlen(p->name), i = 0;

	while (i < sizeof allowed / sizeof *allowed && strncmp(p->name, allowed[i], strlen(allowed[i])))
		i++;
	if (i == sizeof allowed / sizeof *allowed)
		log_die("BUS-URL", "the bus URL's %s is not known, or not to be set there", p->name);
	if (n > 5 && !strcmp(p->name + n - 5, ".file"))
		from_file(p);
	set(conf, p->name, p->value);
}

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	if (level <= 4)
		log_warn("BUS-KAFKA", "%s: %s", facility, text);
}

static rd_kafka_conf_t *conf_new(const struct address *a)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	const char *query = query_of(a->url);
	struct pair p;

	set(conf, "bootstrap.servers", a->brokers);
	set(conf, "client.id", "crm");
	set(conf, "message.max.bytes", "8388608");
	set(conf, "reconnect.backoff.max.ms", "2000");
	set(conf, "log.connection.close", "false");
	while (pair_next(&query, &p)) {
		if (strcmp(p.name, "partitions") && strcmp(p.name, "replication"))
			pass_through(conf, &p);
	}
	rd_kafka_conf_set_log_cb(conf, on_log);
	return conf;
}

rd_kafka_conf_t *bus_kafka_conf(const char *url)
{
	struct address a;

	address_parse(url, &a);
	return conf_new(&a);
}

static rd_kafka_t *handle_new(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
	char why[256];
	rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof why);

	if (!rk)
		log_die("BUS-KAFKA-START", "%s", why);
	return rk;
}

/* -- topics */

static enum status topic_outcome(rd_kafka_event_t *ev, const char *topic)
{
	const rd_kafka_CreateTopics_result_t *result;
	const rd_kafka_topic_result_t **topics;
	rd_kafka_resp_err_t err;
	size_t n;

	if (!ev || rd_kafka_event_error(ev))
		return STATUS_UNAVAILABLE;
	result = rd_kafka_event_CreateTopics_result(ev);
	topics = rd_kafka_CreateTopics_result_topics(result, &n);
	err = n ? rd_kafka_topic_result_error(topics[0]) : RD_KAFKA_RESP_ERR_UNKNOWN;
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR || err == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
		return STATUS_OK;
	log_warn("BUS-KAFKA-TOPIC", "cannot create topic %s: %s", topic, rd_kafka_err2str(err));
	return STATUS_UNAVAILABLE;
}

static rd_kafka_NewTopic_t *new_topic(const struct address *a, const char *topic)
{
	char why[256];
	rd_kafka_NewTopic_t *t = rd_kafka_NewTopic_new(topic, a->partitions, a->replication, why, sizeof why);

	if (!t)
		log_die("BUS-KAFKA-TOPIC", "topic %s: %s", topic, why);
	rd_kafka_NewTopic_set_config(t, "retention.ms", RETENTION_MS);
	rd_kafka_NewTopic_set_config(t, "max.message.bytes", "8388608");
	rd_kafka_NewTopic_set_config(t, "min.insync.replicas", a->replication >= 3 ? "2" : "1");
	return t;
}

static enum status topic_create(const char *url, const char *topic)
{
	struct address a;
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue;
	rd_kafka_NewTopic_t *t;
	rd_kafka_AdminOptions_t *options;
	rd_kafka_event_t *ev;
	char why[256];
	enum status s;

	address_parse(url, &a);
	rk = handle_new(RD_KAFKA_PRODUCER, conf_new(&a));
	queue = rd_kafka_queue_new(rk);
	t = new_topic(&a, topic);
	options = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
	rd_kafka_AdminOptions_set_request_timeout(options, ADMIN_TIMEOUT_MS, why, sizeof why);
	rd_kafka_AdminOptions_set_operation_timeout(options, ADMIN_TIMEOUT_MS / 2, why, sizeof why);
	rd_kafka_CreateTopics(rk, &t, 1, options, queue);
	ev = rd_kafka_queue_poll(queue, ADMIN_TIMEOUT_MS + 1000);
	s = topic_outcome(ev, topic);
	if (ev)
		rd_kafka_event_destroy(ev);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_NewTopic_destroy(t);
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(rk);
	return s;
}

/* -- producer */

struct producer {
	char *url;
	struct address at;
	rd_kafka_t *rk; /* NULL: to be made again */
	size_t waiting; /* records of this batch without a report */
	rd_kafka_resp_err_t first_error;
};

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
	struct producer *p = arg;

	p->waiting--;
	if (m->err && !p->first_error)
		p->first_error = m->err;
}

static void *producer_new(const char *url)
{
	struct producer *p = xcalloc(1, sizeof *p);

	p->url = xstrdup(url);
	address_parse(p->url, &p->at);
	return p;
}

static void producer_open(struct producer *p)
{
	rd_kafka_conf_t *conf = conf_new(&p->at);

	set(conf, "enable.idempotence", "true");
	set(conf, "linger.ms", "5");
	set(conf, "message.timeout.ms", "120000");
	set(conf, "compression.codec", "none");
	rd_kafka_conf_set_dr_msg_cb(conf, on_report);
	rd_kafka_conf_set_opaque(conf, p);
	p->rk = handle_new(RD_KAFKA_PRODUCER, conf);
}

static void producer_close(struct producer *p)
{
	if (!p->rk)
		return;
	rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
	rd_kafka_flush(p->rk, 1000);
	rd_kafka_destroy(p->rk);
	p->rk = NULL;
}

static rd_kafka_headers_t *headers_of(const struct bus_record *r)
{
	rd_kafka_headers_t *h = rd_kafka_headers_new(r->n_headers + 1);

	rd_kafka_header_add(h, "ce_id", -1, r->event_id.p, (ssize_t)r->event_id.n);
	for (size_t i = 0; i < r->n_headers; i++) {
		if (strcmp(r->headers[i].name, "ce_id"))
			rd_kafka_header_add(h, r->headers[i].name, -1, r->headers[i].value.p, (ssize_t)r->headers[i].value.n);
	}
	return h;
}

static rd_kafka_resp_err_t produce(struct producer *p, const struct bus_record *r)
{
	rd_kafka_headers_t *h = headers_of(r);
	rd_kafka_resp_err_t err = rd_kafka_producev(p->rk, RD_KAFKA_V_TOPIC(r->topic), RD_KAFKA_V_KEY(r->key.p, r->key.n),
	    RD_KAFKA_V_VALUE((void *)r->value.p, r->value.n), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(h), RD_KAFKA_V_END);

	if (err)
		rd_kafka_headers_destroy(h);
	return err;
}

static void wait_reports(struct producer *p)
{
	int64_t until = clock_mono_us() + PUBLISH_TIMEOUT_MS * 1000LL;

	while (p->waiting && clock_mono_us() < until)
		rd_kafka_poll(p->rk, 100);
	if (p->waiting && !p->first_error)
		p->first_error = RD_KAFKA_RESP_ERR__TIMED_OUT;
}

static enum status publish(void *arg, const struct bus_record *records, size_t n)
{
	struct producer *p = arg;

	if (!p->rk)
		producer_open(p);
	p->waiting = 0;
	p->first_error = RD_KAFKA_RESP_ERR_NO_ERROR;
	for (size_t i = 0; i < n && !p->first_error; i++) {
		p->first_error = produce(p, &records[i]);
		p->waiting += !p->first_error;
	}
	wait_reports(p);
	if (!p->first_error)
		return STATUS_OK;
	log_warn("BUS-KAFKA-PUBLISH", "%s", rd_kafka_err2name(p->first_error));
	/* a gap must not be followed by later records, and a fatal error ends the handle: start over */
	producer_close(p);
	return p->first_error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ? STATUS_BAD_REQUEST : STATUS_UNAVAILABLE;
}

static void producer_free(void *arg)
{
	struct producer *p = arg;

	producer_close(p);
	free(p->url);
	free(p);
}

/* -- consumer */

struct consumer {
	char *url;
	struct address at;
	char *group;
	char **topics;
	size_t n_topics;
	rd_kafka_t *rk;
	struct arena arena;
	rd_kafka_message_t *raw[BUS_MAX_BATCH];
	struct bus_message messages[BUS_MAX_BATCH];
	size_t n;
};

static void *consumer_new(const char *url, const char *group, const char *const *topics, size_t n_topics)
{
	struct consumer *c = xcalloc(1, sizeof *c);

	c->url = xstrdup(url);
	address_parse(c->url, &c->at);
	c->group = xstrdup(group);
	c->n_topics = n_topics;
	c->topics = xcalloc(n_topics, sizeof *c->topics);
	for (size_t i = 0; i < n_topics; i++)
		c->topics[i] = xstrdup(topics[i]);
	return c;
}

static void consumer_open(struct consumer *c)
{
	rd_kafka_conf_t *conf = conf_new(&c->at);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)c->n_topics);

	set(conf, "group.id", c->group);
	set(conf, "enable.auto.commit", "true");
	set(conf, "auto.commit.interval.ms", "1000");
	set(conf, "enable.auto.offset.store", "false");
	set(conf, "auto.offset.reset", "earliest");
	set(conf, "partition.assignment.strategy", "range,roundrobin");
	set(conf, "session.timeout.ms", "10000");
	set(conf, "heartbeat.interval.ms", "2000");
	set(conf, "fetch.wait.max.ms", "100");
	set(conf, "queued.max.messages.kbytes", "16384");
	set(conf, "topic.metadata.refresh.interval.ms", "30000");
	c->rk = handle_new(RD_KAFKA_CONSUMER, conf);
	rd_kafka_poll_set_consumer(c->rk);
	for (size_t i = 0; i < c->n_topics; i++)
		rd_kafka_topic_partition_list_add(list, c->topics[i], RD_KAFKA_PARTITION_UA);
	rd_kafka_subscribe(c->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
}

static void batch_drop(struct consumer *c)
{
	for (size_t i = 0; i < c->n; i++)
		rd_kafka_message_destroy(c->raw[i]);
	c->n = 0;
	arena_reset(&c->arena);
}

/* Serves the close until it is done or the time is up; a close that hangs is left behind. */
static bool close_bounded(rd_kafka_t *rk)
{
	int64_t until = clock_mono_us() + CLOSE_TIMEOUT_MS * 1000LL;
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_error_t *err = rd_kafka_consumer_close_queue(rk, queue);

	if (err) {
		rd_kafka_error_destroy(err);
		rd_kafka_queue_destroy(queue);
		return false;
	}
	while (!rd_kafka_consumer_closed(rk) && clock_mono_us() < until) {
		rd_kafka_event_t *ev = rd_kafka_queue_poll(queue, 50);

		if (ev && rd_kafka_event_type(ev) == RD_KAFKA_EVENT_REBALANCE)
			rd_kafka_assign(rk, NULL);
		if (ev)
			rd_kafka_event_destroy(ev);
	}
	rd_kafka_queue_destroy(queue);
	return rd_kafka_consumer_closed(rk);
}

static void consumer_close(struct consumer *c)
{
	batch_drop(c);
	if (!c->rk)
		return;
	if (close_bounded(c->rk))
		rd_kafka_destroy_flags(c->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	else
		log_warn("BUS-KAFKA-CLOSE", "the consumer of group %s did not close in time, its handle is abandoned", c->group);
	c->rk = NULL;
}

static void headers_read(struct consumer *c, rd_kafka_message_t *raw, struct bus_record *rec)
{
	struct bus_header *out = arena_alloc(&c->arena, BUS_MAX_HEADERS * sizeof *out);
	rd_kafka_headers_t *h;
	const char *name;
	const void *value;
	size_t n;

	rec->headers = out;
	if (rd_kafka_message_headers(raw, &h))
		return;
	for (size_t i = 0; rec->n_headers < BUS_MAX_HEADERS && !rd_kafka_header_get_all(h, i, &name, &value, &n); i++) {
		struct str v = { value, value ? n : 0 };

		out[rec->n_headers++] = (struct bus_header){ name, v };
		if (!strcmp(name, "ce_id"))
			rec->event_id = v;
	}
}

static const char *topic_name(const struct consumer *c, const rd_kafka_message_t *raw)
{
	const char *name = rd_kafka_topic_name(raw->rkt);

	for (size_t i = 0; i < c->n_topics; i++) {
		if (!strcmp(c->topics[i], name))
			return c->topics[i];
	}
	return name;
}

/* Takes over raw. */
static void message_add(struct consumer *c, rd_kafka_message_t *raw)
{
	struct bus_message *m = &c->messages[c->n];

	c->raw[c->n++] = raw;
	*m = (struct bus_message){
		.record = { .topic = topic_name(c, raw), .key = { raw->key, raw->key_len }, .value = { raw->payload, raw->len } },
		.position = { raw->partition, raw->offset },
	};
	headers_read(c, raw, &m->record);
}

/* One message or nothing. Errors that librdkafka mends by itself count as nothing. */
static enum status take_one(struct consumer *c, int timeout_ms, bool *got)
{
	rd_kafka_message_t *raw = rd_kafka_consumer_poll(c->rk, timeout_ms);
	rd_kafka_resp_err_t err;

	*got = false;
	if (!raw)
		return STATUS_OK;
	err = raw->err;
	if (!err) {
		message_add(c, raw);
		*got = true;
		return STATUS_OK;
	}
	rd_kafka_message_destroy(raw);
	switch (err) {
	case RD_KAFKA_RESP_ERR__PARTITION_EOF:
	case RD_KAFKA_RESP_ERR__TRANSPORT:
	case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
		return STATUS_OK;
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		return STATUS_UNAVAILABLE;
	case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		return STATUS_UNAVAILABLE;
	default:
		log_warn("BUS-KAFKA-POLL", "group %s: %s", c->group, rd_kafka_err2name(err));
		return STATUS_UNAVAILABLE;
	}
}

static enum status consumer_poll(void *arg, int timeout_ms, size_t max, const struct bus_message **messages, size_t *n)
{
	struct consumer *c = arg;
	int64_t until = clock_mono_us() + timeout_ms * 1000LL;
	enum status s = STATUS_OK;
	bool got = true;

	batch_drop(c);
	if (!c->rk)
		consumer_open(c);
	do {
		int64_t left_ms = (until - clock_mono_us()) / 1000;

		s = take_one(c, left_ms > 0 ? (int)left_ms : 0, &got);
	} while (s == STATUS_OK && !got && clock_mono_us() < until);
	while (s == STATUS_OK && got && c->n < max)
		s = take_one(c, 0, &got);
	*messages = c->messages;
	*n = c->n;
	return c->n ? STATUS_OK : s;
}

static enum status consumer_commit(void *arg, size_t n)
{
	struct consumer *c = arg;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
	rd_kafka_resp_err_t err;

	for (size_t i = 0; i < n; i++) {
		const struct bus_message *m = &c->messages[i];
		rd_kafka_topic_partition_t *p = rd_kafka_topic_partition_list_find(list, m->record.topic, (int32_t)m->position.major);

		if (!p)
			p = rd_kafka_topic_partition_list_add(list, m->record.topic, (int32_t)m->position.major);
		p->offset = m->position.minor + 1;
	}
	err = rd_kafka_offsets_store(c->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	/* a partition that was taken away meanwhile is somebody else's now: its records come again there, the inbox knows them */
	if (err && err != RD_KAFKA_RESP_ERR__STATE)
		log_warn("BUS-KAFKA-COMMIT", "group %s: %s", c->group, rd_kafka_err2name(err));
	return STATUS_OK;
}

static void consumer_rewind(void *arg)
{
	consumer_close(arg); /* the next poll opens it at the committed offsets */
}

static void consumer_free(void *arg)
{
	struct consumer *c = arg;

	consumer_close(c);
	for (size_t i = 0; i < c->n_topics; i++)
		free(c->topics[i]);
	free(c->topics);
	arena_fini(&c->arena);
	free(c->url);
	free(c->group);
	free(c);
}

const struct bus_driver bus_kafka_driver = {
	.topic_create = topic_create,
	.producer_new = producer_new,
	.publish = publish,
	.producer_free = producer_free,
	.consumer_new = consumer_new,
	.poll = consumer_poll,
	.commit = consumer_commit,
	.rewind = consumer_rewind,
	.consumer_free = consumer_free,
};
