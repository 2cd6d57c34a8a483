/* One record at a time through librdkafka, acks=all: how long each takes from rd_kafka_producev until its delivery report.
 *
 *   librdkafka BOOTSTRAP TOPIC VALUE_BYTES LINGER_MS SECONDS
 *
 * Prints librdkafka's version on one line, then the nanoseconds of each record on a line of its own. */
#include <librdkafka/rdkafka.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int delivered;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void on_delivery(rd_kafka_t *producer, const rd_kafka_message_t *message, void *opaque) {
    (void)producer;
    (void)opaque;
    if (message->err) {
        fprintf(stderr, "not delivered: %s\n", rd_kafka_err2str(message->err));
        exit(1);
    }
    delivered = 1;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char error[512];
    if (rd_kafka_conf_set(conf, name, value, error, sizeof error) != RD_KAFKA_CONF_OK) {
        fprintf(stderr, "%s=%s: %s\n", name, value, error);
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: %s BOOTSTRAP TOPIC VALUE_BYTES LINGER_MS SECONDS\n", argv[0]);
        return 64;
    }
    const char *topic = argv[2];
    size_t size = strtoul(argv[3], NULL, 10);
    double seconds = strtod(argv[5], NULL);

    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", argv[1]);
    set(conf, "acks", "all");
    set(conf, "enable.idempotence", "true");
    set(conf, "linger.ms", argv[4]);
    set(conf, "message.timeout.ms", "20000");
    set(conf, "socket.nagle.disable", "true");
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    char error[512];
    rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    if (!producer) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    char *value = malloc(size);
    if (!value)
        return 1;
    memset(value, 'x', size);

    printf("%s\n", rd_kafka_version_str());
    uint64_t end = 0;
    for (uint64_t count = 0;; count++) {
        uint64_t begun = now_ns();
        /* The first waits for metadata and a producer id. */
        if (count == 1)
            end = begun + (uint64_t)(seconds * 1e9);
        if (count > 0 && begun >= end)
            break;
        delivered = 0;
        rd_kafka_resp_err_t failed =
            rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0), RD_KAFKA_V_VALUE(value, size),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        if (failed) {
            fprintf(stderr, "%s\n", rd_kafka_err2str(failed));
            return 1;
        }
        while (!delivered)
            rd_kafka_poll(producer, 1000);
        if (count > 0)
            printf("%llu\n", (unsigned long long)(now_ns() - begun));
    }
    rd_kafka_flush(producer, 10000);
    rd_kafka_destroy(producer);
    free(value);
    return 0;
}
