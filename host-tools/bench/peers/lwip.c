/* lwIP forwarding a TCP segment between two interfaces, for `ravelin bench packet`: no firewall, no NAT.
 *
 * Prints nanoseconds per packet. With an argument it forwards once, for valgrind to count what `forward` takes. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <lwip/etharp.h>
#include <lwip/init.h>
#include <lwip/ip4.h>
#include <lwip/netif.h>
#include <lwip/pbuf.h>
#include <lwip/tcpip.h>
#include <netif/ethernet.h>

enum { PACKETS = 1000, ROUNDS = 200, FRAME = 60 };

static const uint8_t STATION[6] = {2, 0, 0, 0, 0, 9};
static unsigned long sent;
static uint8_t last[34]; /* the headers, to be looked at */

static err_t link_output(struct netif *netif, struct pbuf *p)
{
    (void)netif;
    sent++;
    if (p->len >= sizeof last)
        memcpy(last, p->payload, sizeof last);
    return ERR_OK;
}

static err_t interface(struct netif *netif)
{
    netif->hwaddr_len = 6;
    memcpy(netif->hwaddr, (uint8_t[6]){2, 0, 0, 0, 1, netif->num}, 6);
    netif->mtu = 1500;
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
    netif->output = etharp_output;
    netif->linkoutput = link_output;
    return ERR_OK;
}

static void add(struct netif *netif, const char *address)
{
    ip4_addr_t own, mask, none = {0};
    ip4addr_aton(address, &own);
    ip4addr_aton("255.255.255.0", &mask);
    netif_add(netif, &own, &mask, &none, NULL, interface, ethernet_input);
    netif_set_up(netif);
}

static uint16_t sum(const uint8_t *bytes, int length)
{
    uint32_t total = 0;
    for (int at = 0; at < length; at += 2)
        total += bytes[at] << 8 | bytes[at + 1];
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return ~total;
}

/* Lets the stack learn where the server is. */
static void learn(struct netif *netif)
{
    struct pbuf *p = pbuf_alloc(PBUF_RAW, FRAME, PBUF_RAM);
    uint8_t *frame = p->payload;
    memset(frame, 0, FRAME);
    memcpy(frame, netif->hwaddr, 6);
    memcpy(frame + 6, STATION, 6);
    memcpy(frame + 12, (uint8_t[10]){8, 6, 0, 1, 8, 0, 6, 4, 0, 2}, 10);
    memcpy(frame + 22, STATION, 6);
    memcpy(frame + 28, (uint8_t[4]){10, 20, 0, 11}, 4);
    memcpy(frame + 32, netif->hwaddr, 6);
    memcpy(frame + 38, (uint8_t[4]){10, 20, 0, 2}, 4);
    netif->input(p, netif);
}

__attribute__((noinline)) void forward(struct netif *netif, struct pbuf *p, const uint8_t *frame)
{
    void *start = p->payload;
    for (int n = 0; n < PACKETS; n++) {
        /* As it came: the stack cut off the padding, and changed what follows. */
        p->payload = start;
        p->len = p->tot_len = FRAME;
        memcpy(start, frame, 26);
        pbuf_ref(p);
        ethernet_input(p, netif);
    }
    p->payload = start;
    __asm__ volatile("" ::: "memory");
}

int main(int count, char **arguments)
{
    (void)arguments;
    lwip_init();
    static struct netif outside, inside;
    add(&outside, "203.0.113.2");
    add(&inside, "10.20.0.2");
    learn(&inside);

    struct pbuf *p = pbuf_alloc(PBUF_RAW, FRAME, PBUF_RAM);
    uint8_t frame[FRAME] = {0};
    memcpy(frame, outside.hwaddr, 6);
    memcpy(frame + 6, STATION, 6);
    memcpy(frame + 12, (uint8_t[22]){8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 7, 10, 20, 0, 11}, 22);
    uint16_t check = sum(frame + 14, 20);
    frame[24] = check >> 8;
    frame[25] = check & 0xff;
    memcpy(p->payload, frame, FRAME);

    double best = 1e9;
    sent = 0;
    int rounds = count > 1 ? 1 : ROUNDS;
    for (int round = 0; round < rounds; round++) {
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        forward(&outside, p, frame);
        clock_gettime(CLOCK_MONOTONIC, &end);
        double ns = (end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec);
        if (ns / PACKETS < best)
            best = ns / PACKETS;
    }
    if (sent != (unsigned long)rounds * PACKETS || memcmp(last, STATION, 6) != 0 || last[22] != 63 ||
        sum(last + 14, 20) != 0) {
        fprintf(stderr, "lwip: %lu of %d packets were forwarded, the last with TTL %d\n", sent, rounds * PACKETS, last[22]);
        return 1;
    }
    printf("%.1f %d\n", best, PACKETS);
    return 0;
}
