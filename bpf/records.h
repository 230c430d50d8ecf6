/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The records that programs and user space share, one mirror of each in
 * agent/redirect/records.py. Fixed widths and explicit padding: a map key is
 * compared byte by byte, so no byte of it may be left to the compiler.
 */
#ifndef PODLOCK_RECORDS_H
#define PODLOCK_RECORDS_H

#include <linux/types.h>

/* 16 bytes in network order; IPv4 as ::ffff:a.b.c.d (RFC 4291 2.5.5.2). */
struct ip {
	__be32 word[4];
};
_Static_assert(sizeof(struct ip) == 16, "records.py packs 16 bytes");

/* An address and a TCP port, both in network order. */
struct address {
	struct ip ip;
	__be16 port;
	__u16 pad;
};
_Static_assert(sizeof(struct address) == 20, "records.py packs 20 bytes");

/* Which connection: the network namespace and the connecting end in it. */
struct flow {
	__u64 netns;
	struct address source;
	__u32 pad;
};
_Static_assert(sizeof(struct flow) == 32, "records.py packs 32 bytes");

/* A meshed pod's own addresses; all zero where it has none of a family. */
struct pod {
	struct ip ip4;
	struct ip ip6;
};
_Static_assert(sizeof(struct pod) == 32, "records.py packs 32 bytes");

/* What made these programs: SHA-256 of the sources and settings. */
struct digest {
	__u8 sha256[32];
};
_Static_assert(sizeof(struct digest) == 32, "SHA-256 has 32 bytes");

/* What an application's socket is to us. */
enum role {
	ROLE_CLIENT = 1, /* connected to the agent, meant `address` */
	ROLE_SERVER = 2, /* accepted from the agent, serves `address` */
	ROLE_DIRECT = 3, /* connected past the agent under `verdict` */
};

/* Kept in the application's socket: who its peer shall seem to be. */
struct peer {
	__u64 verdict; /* of ROLE_DIRECT, else 0 */
	__u32 role;
	struct address address;
};
_Static_assert(sizeof(struct peer) == 32, "kernel only, but keep it tight");

/* --- same node, direct ---------------------------------------------------- */

/* From which network namespace to which address. */
struct pair {
	__u64 netns;
	struct address to;
	__u32 pad;
};
_Static_assert(sizeof(struct pair) == 32, "records.py packs 32 bytes");

/* A verdict: its id, and the network namespace of the pod that it is about. */
struct grant {
	__u64 id;
	__u64 netns;
};
_Static_assert(sizeof(struct grant) == 16, "records.py packs 16 bytes");

/* One connection, as both of its ends see it. */
struct tuple {
	struct address source;
	struct address destination;
};
_Static_assert(sizeof(struct tuple) == 40, "records.py packs 40 bytes");

/* What a noted tuple rests upon, and which namespace let its SYN in, 0 before. */
struct note {
	__u64 netns;
	__u64 verdict;
	__u64 admitted;
};
_Static_assert(sizeof(struct note) == 24, "records.py packs 24 bytes");

/* A service's endpoints are `choices` of its id, 0 to count - 1. */
struct service {
	__u32 id;
	__u32 count;
};
_Static_assert(sizeof(struct service) == 8, "records.py packs 8 bytes");

struct choice {
	__u32 service;
	__u32 index;
};
_Static_assert(sizeof(struct choice) == 8, "records.py packs 8 bytes");

/*
 * A direct connection, as its client's socket tells it. `state` is the TCP state
 * (BPF_TCP_*), and once it is closed the one before that. Times are those of
 * CLOCK_MONOTONIC. The counts are TCP's own: they include SYN and FIN.
 */
struct trace {
	__u64 verdict;
	__u64 netns;
	struct tuple tuple;
	struct address meant; /* a service's address, or the destination */
	__u32 state;
	__u64 opened_ns;
	__u64 closed_ns; /* 0: it lives */
	__u64 acked_bytes;
	__u64 received_bytes;
	__u64 received_before; /* FIN_WAIT2 was reached */
};
_Static_assert(sizeof(struct trace) == 120, "records.py packs 120 bytes");

#endif
