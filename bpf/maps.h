/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every map: key, value, who writes it, who reads it, why this size.
 * Only definitions: BCC rewrites map calls in the main file and nowhere else.
 */
#ifndef PODLOCK_MAPS_H
#define PODLOCK_MAPS_H

#include "records.h"

/*
 * BCC appends its own bpf.h to every program, but not this flag: entries are
 * allocated when they come, so that a bound costs no memory until it is used.
 */
#ifndef BPF_F_NO_PREALLOC
#define BPF_F_NO_PREALLOC 1
#endif

/*
 * network namespace cookie -> the meshed pod in it.
 * Written by the agent; read by every hook. A node has some hundred pods.
 */
BPF_F_TABLE("hash", __u64, struct pod, enrolled, 4096, BPF_F_NO_PREALLOC);

/*
 * socket cookie -> 1: the agent's own socket, whose connect is not redirected.
 * Written by the agent before its connect and deleted after it; read by the
 * connect hooks. Not LRU: an evicted entry would send the agent to itself. When
 * full the agent gets an error and refuses.
 */
BPF_F_TABLE("hash", __u64, __u32, passage, 65536, BPF_F_NO_PREALLOC);

/*
 * Per socket of an application: who its peer shall seem to be.
 * Written by redirect4|6 and note_flow; read by the name hooks. Freed with the
 * socket, so the names stay true for as long as a connection lives.
 */
BPF_SK_STORAGE(peers, struct peer);

/*
 * (namespace, client's source) -> where the application meant to go.
 * Written by note_flow; taken by the agent at accept. An entry lives from
 * connect to accept; LRU, since a connect that nobody accepts leaves one.
 * A missing entry makes the agent refuse.
 */
BPF_TABLE("lru_hash", struct flow, struct address, originals, 65536);

/*
 * (namespace, agent's source) -> the client that the server shall see.
 * Written by the agent before it connects; taken by note_flow when the server's
 * socket is made. Apart from `originals`, so that what a pod leaves behind there
 * cannot name a client here. LRU: a server with TCP_DEFER_ACCEPT makes no socket
 * for a connection without data, and such entries must not fill the map.
 */
BPF_TABLE("lru_hash", struct flow, struct address, clients, 65536);

/*
 * pod address -> the agent's inbound listener in that pod.
 * Written by the agent; read by inbound. The kernel drops an entry with its
 * socket, hence when the agent dies. Two addresses a pod.
 */
BPF_TABLE("sockhash", struct ip, __u64, listeners, 8192);

/*
 * (namespace, destination) -> the verdict: such a connection goes straight to the
 * pod of this node that has the address. Ids are never 0 and never used twice.
 * Written by the agent; read by the connect hooks, note_flow and inbound. Not LRU:
 * when it is full the agent gets an error, and the proxy carries on.
 */
BPF_F_TABLE("hash", struct pair, struct grant, verdicts, 65536,
	    BPF_F_NO_PREALLOC);

/*
 * 0 -> cookie of the network namespace that inbound runs for, told by a program of
 * that pod's own (agent/redirect/whereabouts.py) that runs right before it on the
 * same CPU; inbound takes it away. 0 where nobody told: then nothing is direct.
 */
BPF_PERCPU_ARRAY(here, __u64, 1);

/*
 * 4-tuple of a direct connection -> what it rests upon. Written by note_flow
 * before the SYN and deleted when the socket closes; read by inbound, which
 * admits these and nothing else. LRU: a tuple that was evicted is not admitted.
 */
BPF_TABLE("lru_hash", struct tuple, struct note, noted, 65536);

/*
 * socket cookie -> the client's socket of a direct connection whose SYN no captured
 * namespace let in: bar_send and bar_receive drop all that it sends and receives.
 * Written by note_flow; the kernel drops an entry with its socket.
 */
BPF_SOCKHASH(barred, __u64, 65536);

/*
 * socket cookie -> a direct connection, live or closed. Written by note_flow; read
 * by the agent, which deletes the closed ones. When it is full, `unrecorded`
 * counts: a record is lost then, and nothing else depends on it.
 */
BPF_F_TABLE("hash", __u64, struct trace, traces, 65536, BPF_F_NO_PREALLOC);
BPF_ARRAY(unrecorded, __u64, 1);

/*
 * 4-tuple of a connection that the kubelet is opening -> 1. Written by note_probe
 * before the SYN and deleted when the connection is established or fails; read by
 * inbound, which leaves such a SYN to the application. LRU: an evicted probe is
 * judged like any other connection from outside.
 */
BPF_TABLE("lru_hash", struct tuple, __u32, probes, 4096);

/*
 * network namespace cookie -> 1: the agent has looked at this namespace, and it is
 * not in the mesh: the node's own, and those of pods that stay outside.
 * Written by the agent; read by the gate, where that is attached.
 */
BPF_F_TABLE("hash", __u64, __u32, judged, 4096, BPF_F_NO_PREALLOC);

/*
 * A service's address -> its endpoints, for services with an endpoint that a
 * verdict is about. Written by the agent, endpoints of a new id first; read by the
 * connect hooks. What is missing goes to the proxy, which knows all services.
 */
BPF_F_TABLE("hash", struct address, struct service, services, 16384,
	    BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct choice, struct address, choices, 65536,
	    BPF_F_NO_PREALLOC);

/*
 * 0 -> what made these programs. Written by the loader; read by the agent,
 * which so knows without a compiler whether the pinned programs are current.
 */
BPF_ARRAY(about, struct digest, 1);

#endif
