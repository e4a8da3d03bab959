/* DPDK's ACL library over a rule set and a trace from standard input, for `ravelin bench packet`.
 *
 *   rules N, then N lines:  SRC LEN DST LEN SPORT_LOW SPORT_HIGH DPORT_LOW DPORT_HIGH PROTOCOL MASK
 *   keys N, then N lines:   SRC DST SPORT DPORT PROTOCOL          (all numbers decimal)
 *
 * Prints one line: nanoseconds per look-up with the scalar method, with the best one of this processor, bytes
 * that the tables take, and a sum over the matches that shows whether another classifier found the same. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_acl.h>
#include <rte_eal.h>
#include <rte_malloc.h>

struct key {
    uint8_t protocol;
    uint8_t unused[3];
    uint32_t source, destination;
    uint16_t source_port, destination_port;
} __attribute__((packed));

enum { PROTOCOL, SOURCE, DESTINATION, SOURCE_PORT, DESTINATION_PORT, FIELDS };

static struct rte_acl_field_def fields[FIELDS] = {
    {RTE_ACL_FIELD_TYPE_BITMASK, 1, PROTOCOL, 0, offsetof(struct key, protocol)},
    {RTE_ACL_FIELD_TYPE_MASK, 4, SOURCE, 1, offsetof(struct key, source)},
    {RTE_ACL_FIELD_TYPE_MASK, 4, DESTINATION, 2, offsetof(struct key, destination)},
    {RTE_ACL_FIELD_TYPE_RANGE, 2, SOURCE_PORT, 3, offsetof(struct key, source_port)},
    {RTE_ACL_FIELD_TYPE_RANGE, 2, DESTINATION_PORT, 3, offsetof(struct key, destination_port)},
};

RTE_ACL_RULE_DEF(rule, FIELDS);

static void fail(const char *what)
{
    fprintf(stderr, "acl: %s\n", what);
    exit(1);
}

static uint32_t number(void)
{
    uint32_t value;
    if (scanf("%" SCNu32, &value) != 1)
        fail("a number is missing in the input");
    return value;
}

static uint32_t count(const char *word)
{
    char read[16];
    if (scanf("%15s", read) != 1 || strcmp(read, word) != 0)
        fail("the input is not in its form");
    return number();
}

static size_t heap(void)
{
    struct rte_malloc_socket_stats stats = {0};
    rte_malloc_get_socket_stats(0, &stats);
    return stats.heap_allocsz_bytes;
}

static double look_up(struct rte_acl_ctx *context, const uint8_t **data, uint32_t keys, uint32_t *results,
                      enum rte_acl_classify_alg algorithm)
{
    enum { ROUNDS = 20, BATCH = 64 };
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int round = 0; round < ROUNDS; round++)
        for (uint32_t at = 0; at < keys; at += BATCH) {
            uint32_t n = keys - at < BATCH ? keys - at : BATCH;
            if (rte_acl_classify_alg(context, data + at, results + at, n, 1, algorithm) != 0)
                return -1;
        }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double ns = (end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec);
    return ns / ((double)ROUNDS * keys);
}

int main(void)
{
    char *arguments[] = {"acl", "--no-huge", "-m", "1024", "--no-pci", "--no-shconf", "--log-level=1", "-l", "0", NULL};
    if (rte_eal_init(9, arguments) < 0)
        fail("rte_eal_init");

    uint32_t rules = count("rules");
    struct rte_acl_param parameters = {
        .name = "bench", .socket_id = SOCKET_ID_ANY, .rule_size = RTE_ACL_RULE_SZ(FIELDS), .max_rule_num = rules};
    struct rte_acl_ctx *context = rte_acl_create(&parameters);
    if (context == NULL)
        fail("rte_acl_create");
    for (uint32_t n = 0; n < rules; n++) {
        struct rule rule;
        memset(&rule, 0, sizeof rule);
        rule.data.category_mask = 1;
        rule.data.priority = rules - n; /* the first match decides */
        rule.data.userdata = n + 1;
        rule.field[SOURCE].value.u32 = number();
        rule.field[SOURCE].mask_range.u32 = number();
        rule.field[DESTINATION].value.u32 = number();
        rule.field[DESTINATION].mask_range.u32 = number();
        rule.field[SOURCE_PORT].value.u16 = number();
        rule.field[SOURCE_PORT].mask_range.u16 = number();
        rule.field[DESTINATION_PORT].value.u16 = number();
        rule.field[DESTINATION_PORT].mask_range.u16 = number();
        rule.field[PROTOCOL].value.u8 = number();
        rule.field[PROTOCOL].mask_range.u8 = number();
        if (rte_acl_add_rules(context, (struct rte_acl_rule *)&rule, 1) != 0)
            fail("rte_acl_add_rules");
    }
    struct rte_acl_config config = {.num_categories = 1, .num_fields = FIELDS};
    memcpy(config.defs, fields, sizeof fields);
    size_t before = heap();
    if (rte_acl_build(context, &config) != 0)
        fail("rte_acl_build");
    size_t bytes = heap() - before;

    uint32_t keys = count("keys");
    struct key *trace = calloc(keys, sizeof *trace);
    const uint8_t **data = calloc(keys, sizeof *data);
    uint32_t *results = calloc(keys, sizeof *results);
    for (uint32_t n = 0; n < keys; n++) {
        /* Keys are in network order, rules in host order. */
        trace[n].source = __builtin_bswap32(number());
        trace[n].destination = __builtin_bswap32(number());
        trace[n].source_port = __builtin_bswap16(number());
        trace[n].destination_port = __builtin_bswap16(number());
        trace[n].protocol = number();
        data[n] = (const uint8_t *)&trace[n];
    }
    double scalar = look_up(context, data, keys, results, RTE_ACL_CLASSIFY_SCALAR);
    double best = look_up(context, data, keys, results, RTE_ACL_CLASSIFY_DEFAULT);
    uint64_t sum = 0;
    for (uint32_t n = 0; n < keys; n++)
        sum += (uint64_t)(n + 1) * results[n];
    printf("%.1f %.1f %zu %" PRIu64 "\n", scalar, best, bytes, sum);
    return 0;
}
