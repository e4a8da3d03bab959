/* What the XDP program and the one that loads it share. Everything is in network order. */

#include <linux/types.h>

struct tuple {
    __u32 source, destination;
    __u16 source_port, destination_port;
    __u8 protocol, unused[3];
};

struct target {
    __u32 address;
    __u16 port;
    __u8 destination[6], source[6];
    __u8 unused[6];
    __u64 packets;
};
