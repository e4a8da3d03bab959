/* DNAT of TCP segments in the kernel's earliest hook, by a hash map of flows: a peer for `ravelin bench packet`.
 * It does what an XDP balancer does at least: no windows, no state, no timeouts, no header checksum verified. */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "xdp.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, struct tuple);
    __type(value, struct target);
} flows SEC(".maps");

static __always_inline void update(__sum16 *sum, __u32 old, __u32 new)
{
    __u64 total = (__u16)~*sum + (__u64)(__u32)~old + new; /* RFC 1624, eqn. 3 */
    total = (total & 0xffffffff) + (total >> 32);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    *sum = ~total;
}

SEC("xdp")
int dnat(struct xdp_md *context)
{
    void *end = (void *)(long)context->data_end;
    struct ethhdr *ethernet = (void *)(long)context->data;
    struct iphdr *ip = (void *)(ethernet + 1);
    struct tcphdr *tcp = (void *)(ip + 1);
    if ((void *)(tcp + 1) > end || ethernet->h_proto != bpf_htons(ETH_P_IP) || ip->version != 4 || ip->ihl != 5 ||
        ip->protocol != IPPROTO_TCP || ip->frag_off & bpf_htons(0x3fff) || ip->ttl <= 1)
        return XDP_PASS;
    struct tuple tuple = {ip->saddr, ip->daddr, tcp->source, tcp->dest, ip->protocol, {0}};
    struct target *target = bpf_map_lookup_elem(&flows, &tuple);
    if (!target)
        return XDP_DROP;
    update(&tcp->check, ip->daddr, target->address);
    update(&ip->check, ip->daddr, target->address);
    update(&tcp->check, tcp->dest, target->port);
    ip->daddr = target->address;
    tcp->dest = target->port;
    /* The TTL is the high byte of its word: one less. */
    __u32 check = ip->check + bpf_htons(0x0100);
    ip->check = check + (check >= 0xffff);
    ip->ttl--;
    __builtin_memcpy(ethernet->h_dest, target->destination, ETH_ALEN);
    __builtin_memcpy(ethernet->h_source, target->source, ETH_ALEN);
    target->packets++;
    return XDP_TX;
}

/* What the test run itself costs. */
SEC("xdp")
int nothing(struct xdp_md *context)
{
    return XDP_TX;
}

char licence[] SEC("license") = "GPL";
