/* Loads the XDP program given as its argument and lets the kernel run it on one packet again and again
 * (BPF_PROG_TEST_RUN), for `ravelin bench packet`. Prints nanoseconds per packet, of the program and of an empty one.
 *
 * The kernel keeps what a run made of the packet for the next: so the flow leads from the virtual address to the server
 * and back again, and each turn translates. A packet lives for 255 turns. */

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "xdp.h"

enum { TURNS = 200, RUNS = 2000, FRAME = 60, TTL = 22, IP = 14, TX = 3 };

static const char *CLIENT = "198.51.100.7", *VIRTUAL = "203.0.113.10", *SERVER = "10.20.0.11";

static void fail(const char *what, int code)
{
    fprintf(stderr, "xdp: %s: %s\n", what, strerror(code < 0 ? -code : code));
    exit(1);
}

static void add(int map, const char *from, const char *to, __u16 from_port, __u16 to_port)
{
    struct tuple tuple = {inet_addr(CLIENT), inet_addr(from), htons(40000), htons(from_port), 6, {0}};
    struct target target = {inet_addr(to), htons(to_port), {2, 0, 0, 0, 0, 9}, {2, 0, 0, 0, 1, 1}, {0}, 0};
    int failed = bpf_map_update_elem(map, &tuple, &target, BPF_ANY);
    if (failed != 0)
        fail("a flow", failed);
}

static __u16 sum(const __u8 *bytes, int length, __u32 total)
{
    for (int at = 0; at < length; at += 2)
        total += bytes[at] << 8 | bytes[at + 1];
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return ~total;
}

/* The checksum of a TCP segment without data, with its pseudo-header; 0 of a good one. */
static __u16 segment_sum(const __u8 *frame)
{
    return sum(frame + IP + 20, 20, (__u16)~sum(frame + IP + 12, 8, 6 + 20));
}

static void build(__u8 *frame)
{
    memset(frame, 0, FRAME);
    memcpy(frame + 12, (__u8[]){8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 255, 6}, 12);
    memcpy(frame + IP + 12, &(__u32){inet_addr(CLIENT)}, 4);
    memcpy(frame + IP + 16, &(__u32){inet_addr(VIRTUAL)}, 4);
    memcpy(frame + IP + 20, (__u8[]){40000 >> 8, 40000 & 0xff, 443 >> 8, 443 & 0xff}, 4);
    memcpy(frame + IP + 32, (__u8[]){0x50, 0x10, 0xfd, 0xe8}, 4);
    memcpy(frame + IP + 10, &(__u16){htons(sum(frame + IP, 20, 0))}, 2);
    memcpy(frame + IP + 36, &(__u16){htons(segment_sum(frame))}, 2);
}

/* What `turns` turns make of the packet; nanoseconds of each. */
static unsigned run(int program, __u8 *out, int turns)
{
    __u8 in[FRAME];
    build(in);
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = in, .data_size_in = FRAME, .data_out = out,
                .data_size_out = FRAME, .repeat = turns);
    int failed = bpf_prog_test_run_opts(program, &options);
    if (failed != 0)
        fail("BPF_PROG_TEST_RUN", failed);
    if (options.retval != TX || sum(out + IP, 20, 0) != 0 || segment_sum(out) != 0) {
        fprintf(stderr, "xdp: verdict %u, or wrong checksums\n", options.retval);
        exit(1);
    }
    return options.duration;
}

/* The best of some runs: whatever else the machine does only adds. */
static unsigned best(int program)
{
    __u8 out[FRAME];
    unsigned least = ~0u;
    for (int n = 0; n < RUNS; n++) {
        unsigned ns = run(program, out, TURNS);
        if (ns < least)
            least = ns;
    }
    return least;
}

static int program(struct bpf_object *object, const char *name)
{
    return bpf_program__fd(bpf_object__find_program_by_name(object, name));
}

int main(int count, char **arguments)
{
    if (count != 2)
        fail("its argument is the XDP program", 0);
    struct bpf_object *object = bpf_object__open_file(arguments[1], NULL);
    if (object == NULL || bpf_object__load(object) != 0)
        return 1; /* the library said why */
    int map = bpf_object__find_map_fd_by_name(object, "flows");
    add(map, VIRTUAL, SERVER, 443, 8443);
    add(map, SERVER, VIRTUAL, 8443, 443);
    int dnat = program(object, "dnat");
    __u8 out[FRAME];
    run(dnat, out, 1);
    if (memcmp(out + IP + 16, &(__u32){inet_addr(SERVER)}, 4) != 0 || out[TTL] != 254) {
        fprintf(stderr, "xdp: the packet was not translated\n");
        return 1;
    }
    unsigned nothing = best(program(object, "nothing"));
    printf("%u %u\n", best(dnat), nothing);
    return 0;
}
