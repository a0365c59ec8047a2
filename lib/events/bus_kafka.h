/* What programs for operators share with the Kafka driver of the bus: how a broker is reached. */
#ifndef CRM_EVENTS_BUS_KAFKA_H
#define CRM_EVENTS_BUS_KAFKA_H

#include <librdkafka/rdkafka.h>

/*
 * The settings of a bus URL: kafka://host:port[,host:port][?partitions=4&replication=1&NAME=VALUE…]. Names of librdkafka that begin
 * with security., sasl., ssl., socket. or client. pass through, values percent-encoded; NAME.file takes the value from a file, for
 * secrets. Exits with a sentence when the URL is wrong. The caller's, until rd_kafka_new takes it.
 */
rd_kafka_conf_t *bus_kafka_conf(const char *url);

#endif
