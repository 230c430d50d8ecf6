// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Redirection: an enrolled pod's TCP goes through the agent, and neither end
 * can tell by the addresses it sees.
 *
 *   connect()            redirect4|6    remember the destination, turn to loopback
 *   SYN                  note_flow      tell the agent what was meant
 *   SYN from outside     inbound        the agent's listener takes every port
 *   agent -> server      note_flow      keep in the new socket who the client is
 *   getpeername, accept  peer_name4|6   the peer that was meant
 *   getsockname          own_name4|6    the pod's address, not loopback
 *
 * Where a verdict says so, two pods of one node talk past the agent:
 *
 *   connect()            redirect4|6    leave it, a service's address replaced
 *   SYN                  note_flow      note the 4-tuple; later count, and forget
 *   SYN from outside     inbound        admit exactly what was noted
 *
 * What the kubelet opens goes to the application, whatever policy says:
 *
 *   SYN              note_probe     note the 4-tuple; forget it once that is settled
 *   SYN from outside inbound        admit what was noted
 *
 * Where it is asked for, pods that nobody has looked at yet connect nowhere:
 *
 *   connect()            gate4|6        refuse an unknown network namespace
 *
 * The two families differ in how a context holds an address and in nothing
 * else: hooks copy it into the common form, the logic below knows one form.
 * Set by -D: OUTBOUND_PORT, INBOUND_PORT, TUNNEL_PORT; NO_INGRESS_IFINDEX on kernels
 * that lack the field (Linux before 5.17).
 */
#include <uapi/linux/in.h>
#include "records.h"
#include "maps.h"

#define inline_logic static inline __attribute__((always_inline))

/* <sys/socket.h> and <net/flow.h> are not UAPI. */
#define FAMILY_INET 2
#define FAMILY_INET6 10
#define LOOPBACK_IFINDEX 1

/*
 * A context field, read here and now. Left to itself LLVM merges the same read
 * in two branches into one through a computed pointer, and the verifier takes
 * none into a context ("dereference of modified ctx ptr").
 */
#define settled(field)                                                         \
	({                                                                     \
		__u32 value = (field);                                         \
		asm volatile("" : "+r"(value));                                \
		value;                                                         \
	})

/* What a connect hook decides; REFUSE and LEAVE are the kernel's own values. */
enum verdict {
	REFUSE = 0, /* connect() fails with EPERM */
	LEAVE = 1,  /* connect() goes where it wanted */
	TURN = 2,   /* connect() goes to the agent */
	DIRECT = 3, /* connect() goes to a pod of this node, past the agent */
};

/* --- the common form ----------------------------------------------------- */

inline_logic struct ip mapped(__be32 ip4)
{
	struct ip ip = {.word = {0, 0, bpf_htonl(0xffff), ip4}};

	return ip;
}

inline_logic int is_mapped(const struct ip *ip)
{
	return !ip->word[0] && !ip->word[1] && ip->word[2] == bpf_htonl(0xffff);
}

inline_logic int is_same(const struct ip *a, const struct ip *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] &&
	       a->word[2] == b->word[2] && a->word[3] == b->word[3];
}

inline_logic int is_zero(const struct ip *ip)
{
	return !ip->word[0] && !ip->word[1] && !ip->word[2] && !ip->word[3];
}

/* 127.0.0.0/8 in its mapped form, or ::1. */
inline_logic int is_loopback(const struct ip *ip)
{
	if (is_mapped(ip))
		return (ip->word[3] & bpf_htonl(0xff000000)) ==
		       bpf_htonl(0x7f000000);
	return !ip->word[0] && !ip->word[1] && !ip->word[2] &&
	       ip->word[3] == bpf_htonl(1);
}

/*
 * 0.0.0.0 and ::, which connect() takes for loopback (tcp_v6_connect says so;
 * ip_route_output_key_hash_rcu does it for IPv4).
 */
inline_logic int is_any(const struct ip *ip)
{
	return is_zero(ip) || (is_mapped(ip) && !ip->word[3]);
}

inline_logic struct address user_address4(struct bpf_sock_addr *ctx)
{
	struct address a = {.ip = mapped(ctx->user_ip4),
			    .port = ctx->user_port};

	return a;
}

inline_logic struct address user_address6(struct bpf_sock_addr *ctx)
{
	struct address a = {.ip.word = {ctx->user_ip6[0], ctx->user_ip6[1],
					ctx->user_ip6[2], ctx->user_ip6[3]},
			    .port = ctx->user_port};

	return a;
}

inline_logic void set_user_ip6(struct bpf_sock_addr *ctx, const struct ip *ip)
{
	ctx->user_ip6[0] = ip->word[0];
	ctx->user_ip6[1] = ip->word[1];
	ctx->user_ip6[2] = ip->word[2];
	ctx->user_ip6[3] = ip->word[3];
}

/* --- connect: out of an enrolled pod ------------------------------------- */

/* The address of the pod that is of the same family as another. */
inline_logic int is_own(const struct pod *pod, const struct ip *ip)
{
	return is_same(ip, is_mapped(ip) ? &pod->ip4 : &pod->ip6);
}

/* One of a service's endpoints by chance, anew each time; or `to` itself. */
inline_logic struct address behind(const struct address *to)
{
	struct address key = *to, *picked;
	struct choice choice = {};
	struct service *service;

	service = services.lookup(&key);
	if (!service || !service->count)
		return key;
	choice.service = service->id;
	choice.index = bpf_get_prandom_u32() % service->count;
	picked = choices.lookup(&choice);
	return picked ? *picked : key;
}

/* The verdict that a connection rests upon; id 0 if there is none. */
inline_logic struct grant verdict_on(__u64 netns, const struct address *to)
{
	struct pair pair = {.netns = netns, .to = *to};
	struct grant *found = verdicts.lookup(&pair), none = {};

	return found ? *found : none;
}

/* Whether the agent of the pod with this address lives: its listener goes with it. */
inline_logic int is_served(const struct ip *ip)
{
	struct ip key = *ip;
	struct bpf_sock *listener = (struct bpf_sock *)listeners.lookup(&key);

	if (!listener)
		return 0;
	bpf_sk_release(listener);
	return 1;
}

/*
 * `bound`: the source that the socket was bound to, if it was. A foreign one (a pod
 * with CAP_NET_ADMIN may) has no part in verdicts, which are about pods.
 */
inline_logic enum verdict judge(struct bpf_sock_addr *ctx,
				const struct address *to,
				const struct ip *bound, struct address *go)
{
	struct peer meant = {.role = ROLE_CLIENT, .address = *to};
	/* Read once: the verifier's null check holds for a local alone. */
	struct bpf_sock *sk = ctx->sk;
	__u64 netns, cookie;
	struct pod *pod;

	/* An MPTCP socket comes here too, by its first subflow, which is TCP. */
	if (ctx->protocol != IPPROTO_TCP)
		return LEAVE;
	/* A socket may connect again: what it meant before is void. */
	if (sk)
		peers.sk_storage_delete((void *)sk);
	netns = bpf_get_netns_cookie(ctx);
	pod = enrolled.lookup(&netns);
	if (!pod)
		return LEAVE;
	if (is_loopback(&to->ip) || is_any(&to->ip))
		return LEAVE;
	cookie = bpf_get_socket_cookie(ctx);
	if (passage.lookup(&cookie))
		return LEAVE;
	if (is_any(bound) || is_own(pod, bound)) {
		*go = behind(to);
		meant.verdict = verdict_on(netns, go).id;
		if (meant.verdict && !is_served(&go->ip))
			meant.verdict =
				0; /* to the agent, which is gone: refused */
		if (meant.verdict)
			meant.role = ROLE_DIRECT;
	}
	if (!sk || !peers.sk_storage_get((void *)sk, &meant,
					 BPF_SK_STORAGE_GET_F_CREATE))
		return REFUSE; /* nowhere to remember it: not in plaintext */
	return meant.verdict ? DIRECT : TURN;
}

/*
 * cgroup/connect4, Linux 4.17: inet_stream_connect and MSG_FASTOPEN, before the
 * route is looked up. 0 refuses.
 */
int redirect4(struct bpf_sock_addr *ctx)
{
	struct address to = user_address4(ctx), go = to;
	struct bpf_sock *sk = ctx->sk;
	struct ip bound = mapped(sk ? sk->src_ip4 : 0);
	enum verdict verdict = judge(ctx, &to, &bound, &go);

	if (verdict == DIRECT) {
		ctx->user_ip4 = go.ip.word[3];
		ctx->user_port = go.port;
		return 1;
	}
	if (verdict != TURN)
		return verdict;
	ctx->user_ip4 = bpf_htonl(0x7f000001);
	ctx->user_port = bpf_htons(OUTBOUND_PORT);
	return 1;
}

/*
 * cgroup/connect6, Linux 4.17: as above, and the only hook that runs for an
 * IPv4-mapped destination, which must stay mapped to reach an IPv4 listener.
 */
int redirect6(struct bpf_sock_addr *ctx)
{
	struct address to = user_address6(ctx), go = to;
	struct ip agent = {.word = {0, 0, 0, bpf_htonl(1)}};
	struct bpf_sock *sk = ctx->sk;
	struct ip bound = {};
	enum verdict verdict;

	if (sk) {
		bound.word[0] = sk->src_ip6[0];
		bound.word[1] = sk->src_ip6[1];
		bound.word[2] = sk->src_ip6[2];
		bound.word[3] = sk->src_ip6[3];
	}
	verdict = judge(ctx, &to, &bound, &go);
	if (verdict == DIRECT) {
		set_user_ip6(ctx, &go.ip);
		ctx->user_port = go.port;
		return 1;
	}
	if (verdict != TURN)
		return verdict;
	if (is_mapped(&to.ip))
		agent = mapped(bpf_htonl(0x7f000001));
	set_user_ip6(ctx, &agent);
	ctx->user_port = bpf_htons(OUTBOUND_PORT);
	return 1;
}

/* --- sock_ops: tell the agent, and learn from it -------------------------- */

inline_logic struct flow flow_from_local(struct bpf_sock_ops *ctx)
{
	struct flow flow = {.netns = bpf_get_netns_cookie(ctx)};

	if (ctx->family == FAMILY_INET) {
		flow.source.ip = mapped(settled(ctx->local_ip4));
	} else {
		flow.source.ip.word[0] = settled(ctx->local_ip6[0]);
		flow.source.ip.word[1] = settled(ctx->local_ip6[1]);
		flow.source.ip.word[2] = settled(ctx->local_ip6[2]);
		flow.source.ip.word[3] = settled(ctx->local_ip6[3]);
	}
	flow.source.port = bpf_htons(ctx->local_port);
	return flow;
}

inline_logic struct flow flow_from_remote(struct bpf_sock_ops *ctx)
{
	struct flow flow = {.netns = bpf_get_netns_cookie(ctx)};

	if (ctx->family == FAMILY_INET) {
		flow.source.ip = mapped(settled(ctx->remote_ip4));
	} else {
		flow.source.ip.word[0] = settled(ctx->remote_ip6[0]);
		flow.source.ip.word[1] = settled(ctx->remote_ip6[1]);
		flow.source.ip.word[2] = settled(ctx->remote_ip6[2]);
		flow.source.ip.word[3] = settled(ctx->remote_ip6[3]);
	}
	/* 32 bits in network order (uapi/linux/bpf.h), unlike local_port. */
	flow.source.port = bpf_htons(bpf_ntohl(ctx->remote_port));
	return flow;
}

/* Before the SYN, so the entry is there when the agent's accept returns. */
inline_logic void tell_agent(struct bpf_sock_ops *ctx, const struct peer *peer)
{
	struct flow flow = flow_from_local(ctx);
	struct address meant = peer->address;

	originals.update(&flow, &meant);
}

inline_logic struct tuple tuple_of(struct bpf_sock_ops *ctx)
{
	struct flow local = flow_from_local(ctx);
	struct flow remote = flow_from_remote(ctx);
	struct tuple tuple = {.source = local.source,
			      .destination = remote.source};

	return tuple;
}

inline_logic void record(struct bpf_sock_ops *ctx, const struct tuple *tuple,
			 const struct note *note, const struct peer *peer)
{
	struct trace trace = {.verdict = note->verdict,
			      .netns = note->netns,
			      .tuple = *tuple,
			      .meant = peer->address,
			      .state = BPF_TCP_SYN_SENT,
			      .opened_ns = bpf_ktime_get_ns()};
	__u64 cookie = bpf_get_socket_cookie(ctx);
	__u32 first = 0;
	__u64 *count;

	if (!traces.update(&cookie, &trace))
		return;
	count = unrecorded.lookup(&first);
	if (count)
		__sync_fetch_and_add(count, 1);
}

/*
 * Before the SYN, and after the socket can be found by inet_diag: who removes a
 * verdict and then looks for sockets finds each one that was noted under it. What
 * is not noted here comes to the destination's agent as plaintext.
 */
inline_logic void note_direct(struct bpf_sock_ops *ctx, const struct peer *peer)
{
	struct note note = {.netns = bpf_get_netns_cookie(ctx),
			    .verdict = peer->verdict};
	struct tuple tuple = tuple_of(ctx);
	struct pod *pod = enrolled.lookup(&note.netns);

	if (!pod || !is_own(pod, &tuple.source.ip))
		return;
	if (verdict_on(note.netns, &tuple.destination).id != note.verdict)
		return;
	if (noted.update(&tuple, &note))
		return;
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags |
					       BPF_SOCK_OPS_STATE_CB_FLAG);
	record(ctx, &tuple, &note, peer);
}

inline_logic void connecting(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct peer *peer;

	if (!sk)
		return;
	peer = peers.sk_storage_get((void *)sk, 0, 0);
	if (!peer)
		return;
	if (peer->role == ROLE_CLIENT)
		tell_agent(ctx, peer);
	if (peer->role == ROLE_DIRECT)
		note_direct(ctx, peer);
}

/*
 * The handshake is over, and nothing was sent: was it the captured namespace that let
 * the SYN in? Else the address has another holder by now, here or on another node.
 */
inline_logic void established(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct tuple tuple;
	struct note *note;
	struct peer *peer;
	__u64 cookie;

	if (!sk)
		return;
	peer = peers.sk_storage_get((void *)sk, 0, 0);
	if (!peer || peer->role != ROLE_DIRECT)
		return;
	tuple = tuple_of(ctx);
	note = noted.lookup(&tuple);
	if (note && note->verdict == peer->verdict && note->admitted)
		return;
	cookie = bpf_get_socket_cookie(ctx);
	barred.sock_hash_update(ctx, &cookie, BPF_ANY);
}

/* The addresses are there still: tcp_set_state calls us first. */
inline_logic void changed(struct bpf_sock_ops *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	__u32 next = ctx->args[1];
	struct bpf_sock *sk = ctx->sk;
	struct trace *trace;
	struct tuple tuple;
	struct peer *peer;

	if (!sk)
		return;
	peer = peers.sk_storage_get((void *)sk, 0, 0);
	trace = traces.lookup(&cookie);
	/* Another program may ask for this of any socket: ours alone. */
	if (!trace && (!peer || peer->role != ROLE_DIRECT))
		return;
	if (next == BPF_TCP_CLOSE) {
		tuple = tuple_of(ctx);
		noted.delete(&tuple);
	}
	/* One that is over: the socket has connected again, by the agent. */
	if (!trace || trace->closed_ns)
		return;
	if (next == BPF_TCP_FIN_WAIT2)
		trace->received_before = ctx->bytes_received;
	if (next != BPF_TCP_CLOSE) {
		trace->state = next;
		return;
	}
	trace->acked_bytes = ctx->bytes_acked;
	trace->received_bytes = ctx->bytes_received;
	trace->closed_ns = bpf_ktime_get_ns();
}

/* The new socket is locked until this returns: accept() sees the result. */
inline_logic void learn_client(struct bpf_sock_ops *ctx)
{
	struct peer peer = {.role = ROLE_SERVER};
	struct bpf_sock *sk = ctx->sk;
	struct address *client;
	struct flow flow;

	if (!sk || ctx->local_port == OUTBOUND_PORT ||
	    ctx->local_port == INBOUND_PORT || ctx->local_port == TUNNEL_PORT)
		return;
	flow = flow_from_remote(ctx);
	if (!enrolled.lookup(&flow.netns))
		return;
	client = clients.lookup(&flow);
	if (!client)
		return;
	peer.address = *client;
	peers.sk_storage_get((void *)sk, &peer, BPF_SK_STORAGE_GET_F_CREATE);
	clients.delete(&flow);
}

/*
 * sock_ops, Linux 4.13. Always 1: 0 would discard what another program on the
 * same cgroup replied (tcp_call_bpf).
 */
int note_flow(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		connecting(ctx);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		established(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		changed(ctx);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		learn_client(ctx);
		break;
	}
	return 1;
}

/* --- barred: direct connections that reached somebody else ----------------- */

/* sk_msg, Linux 4.17, attached to `barred`: send() fails with EACCES. */
int bar_send(struct sk_msg_md *msg)
{
	return SK_DROP;
}

/* sk_skb verdict, Linux 5.13, attached to `barred`: nothing is read. */
int bar_receive(struct __sk_buff *skb)
{
	return SK_DROP;
}

/* --- probes: the kubelet's own connections -------------------------------- */

/*
 * sock_ops, Linux 4.13, attached to the kubelet's own cgroup and nothing else: who
 * connects there is the kubelet, by the kernel's word and not by an address.
 * STATE_CB comes when the handshake is over, either way.
 */
int note_probe(struct bpf_sock_ops *ctx)
{
	__u32 present = 1;
	struct tuple tuple;

	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB) {
		tuple = tuple_of(ctx);
		if (probes.update(&tuple, &present))
			return 1;
		bpf_sock_ops_cb_flags_set(ctx,
					  ctx->bpf_sock_ops_cb_flags |
						  BPF_SOCK_OPS_STATE_CB_FLAG);
	} else if (ctx->op == BPF_SOCK_OPS_STATE_CB) {
		tuple = tuple_of(ctx);
		probes.delete(&tuple);
	}
	return 1;
}

/* --- the start gate: namespaces that nobody has looked at ------------------ */

inline_logic int is_settled(struct bpf_sock_addr *ctx, const struct ip *to)
{
	__u64 netns = bpf_get_netns_cookie(ctx);

	return ctx->protocol != IPPROTO_TCP || is_loopback(to) || is_any(to) ||
	       enrolled.lookup(&netns) || judged.lookup(&netns);
}

/* cgroup/connect4 as above, attached to the cgroup of all pods. 0 refuses. */
int gate4(struct bpf_sock_addr *ctx)
{
	struct address to = user_address4(ctx);

	return is_settled(ctx, &to.ip) ? LEAVE : REFUSE;
}

/* cgroup/connect6: as above. */
int gate6(struct bpf_sock_addr *ctx)
{
	struct address to = user_address6(ctx);

	return is_settled(ctx, &to.ip) ? LEAVE : REFUSE;
}

/* --- names: what getpeername, accept and getsockname tell ----------------- */

inline_logic struct peer *peer_of(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return sk ? peers.sk_storage_get((void *)sk, 0, 0) : 0;
}

/*
 * The pod's own address for a client that sits on loopback only because we sent
 * it there; one that was bound by hand is true already.
 */
inline_logic int own_ip(struct bpf_sock_addr *ctx, const struct ip *shown,
			struct ip *own)
{
	struct peer *peer = peer_of(ctx);
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct pod *pod;

	if (!peer || peer->role != ROLE_CLIENT || !is_loopback(shown))
		return 0;
	pod = enrolled.lookup(&netns);
	if (!pod)
		return 0;
	*own = is_mapped(shown) ? pod->ip4 : pod->ip6;
	return !is_zero(own);
}

/* cgroup/getpeername4, Linux 5.8; also for the address accept() returns. */
int peer_name4(struct bpf_sock_addr *ctx)
{
	struct peer *peer = peer_of(ctx);

	if (peer && is_mapped(&peer->address.ip)) {
		ctx->user_ip4 = peer->address.ip.word[3];
		ctx->user_port = peer->address.port;
	}
	return 1;
}

/* cgroup/getpeername6, Linux 5.8; an IPv4 peer shows in its mapped form. */
int peer_name6(struct bpf_sock_addr *ctx)
{
	struct peer *peer = peer_of(ctx);

	if (peer) {
		set_user_ip6(ctx, &peer->address.ip);
		ctx->user_port = peer->address.port;
	}
	return 1;
}

/* cgroup/getsockname4, Linux 5.8; the port is the socket's own. */
int own_name4(struct bpf_sock_addr *ctx)
{
	struct address shown = user_address4(ctx);
	struct ip own;

	if (own_ip(ctx, &shown.ip, &own))
		ctx->user_ip4 = own.word[3];
	return 1;
}

/* cgroup/getsockname6, Linux 5.8. */
int own_name6(struct bpf_sock_addr *ctx)
{
	struct address shown = user_address6(ctx);
	struct ip own;

	if (own_ip(ctx, &shown.ip, &own))
		set_user_ip6(ctx, &own);
	return 1;
}

/* --- sk_lookup: into an enrolled pod -------------------------------------- */

/* The network namespace that we run for, once; 0 if nobody told. */
inline_logic __u64 taken_here(void)
{
	__u32 first = 0;
	__u64 *told = here.lookup(&first);
	__u64 netns = told ? *told : 0;

	if (told)
		*told = 0;
	return netns;
}

/*
 * Whether a connection is one that was noted, and its verdict is in force still and
 * is about this pod: a verdict that goes takes all that was noted under it along,
 * and an address that another pod has got meanwhile is of no use to it.
 */
inline_logic int is_noted(const struct tuple *key, __u64 netns)
{
	struct tuple tuple = *key;
	struct note *note = noted.lookup(&tuple);
	struct grant grant;

	if (!note || !netns)
		return 0;
	grant = verdict_on(note->netns, &tuple.destination);
	if (grant.id != note->verdict || grant.netns != netns)
		return 0;
	note->admitted = netns;
	return 1;
}

/*
 * Within the pod, by a loopback address. Where the kernel does not tell the interface
 * the addresses must do, and both must be loopback: a pod may let 127.0.0.0/8 in from
 * outside (route_localnet), but an answer to 127.0.0.1 never leaves it. Left out is then
 * who connects from the pod's own address to loopback: refused.
 */
inline_logic int is_local(struct bpf_sk_lookup *ctx, const struct ip *pod,
			  const struct ip *from)
{
#ifdef NO_INGRESS_IFINDEX
	return is_loopback(pod) && is_loopback(from);
#else
	return ctx->ingress_ifindex == LOOPBACK_IFINDEX;
#endif
}

/*
 * sk_lookup, one link a pod's netns, Linux 5.9 (ingress_ifindex: 5.17): which
 * listener takes a SYN. No netns cookie is to be had here, so the pod's address
 * is the key; `here` tells the rest. SK_DROP makes the kernel answer with a reset: when the agent is
 * gone, the peer is refused.
 */
int inbound(struct bpf_sk_lookup *ctx)
{
	struct bpf_sock *listener;
	struct tuple tuple = {};
	__u64 netns = taken_here();
	struct ip pod, from;
	long failed;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	if (ctx->local_port == TUNNEL_PORT)
		return SK_PASS; /* has a listener of its own */
	if (ctx->family == FAMILY_INET) {
		pod = mapped(settled(ctx->local_ip4));
		from = mapped(settled(ctx->remote_ip4));
	} else {
		pod.word[0] = settled(ctx->local_ip6[0]);
		pod.word[1] = settled(ctx->local_ip6[1]);
		pod.word[2] = settled(ctx->local_ip6[2]);
		pod.word[3] = settled(ctx->local_ip6[3]);
		from.word[0] = settled(ctx->remote_ip6[0]);
		from.word[1] = settled(ctx->remote_ip6[1]);
		from.word[2] = settled(ctx->remote_ip6[2]);
		from.word[3] = settled(ctx->remote_ip6[3]);
	}
	if (is_local(ctx, &pod, &from))
		return SK_PASS;
	/*
	 * Within the pod, by its own address, as the agent delivers: the kernel
	 * names the interface of that address here and not lo (orig_oif in
	 * ip_route_output_key_hash_rcu). Who forges such a source from outside
	 * never sees the SYN-ACK: it stays in the pod.
	 */
	if (is_same(&pod, &from))
		return SK_PASS;
	tuple.source.ip = from;
	tuple.source.port = (__be16)settled(ctx->remote_port);
	tuple.destination.ip = pod;
	tuple.destination.port = bpf_htons(ctx->local_port);
	if (probes.lookup(&tuple))
		return SK_PASS; /* also with the agent gone: the pod is healthy */
	listener = (struct bpf_sock *)listeners.lookup(&pod);
	if (!listener)
		return SK_DROP; /* direct ones too: nobody could revoke them */
	if (is_noted(&tuple, netns)) {
		bpf_sk_release(listener);
		return SK_PASS;
	}
	/* REPLACE: an older generation of this program may have run first. */
	failed = bpf_sk_assign((void *)ctx, listener, BPF_SK_LOOKUP_F_REPLACE);
	bpf_sk_release(listener);
	return failed ? SK_DROP : SK_PASS;
}
