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

/* Which end of a proxied connection a socket is. */
enum role {
	ROLE_CLIENT = 1, /* connected to the agent, meant `address` */
	ROLE_SERVER = 2, /* accepted from the agent, serves `address` */
};

/* Kept in the application's socket: who its peer shall seem to be. */
struct peer {
	__u32 role;
	struct address address;
};
_Static_assert(sizeof(struct peer) == 24, "kernel only, but keep it tight");

#endif
