# shellcheck shell=bash disable=SC2034 # what is set here is used by those who source it
#
# Sourced by the scripts of the cluster: paths, addresses, and who runs where.

set -euo pipefail

KUBE_CACHE=${KUBE_CACHE:-/var/cache/kube-debian}   # built once: bin/ cni/ images/
KUBE_RUN=${KUBE_RUN:-/run/kube-debian}             # pid files, sockets, certificates, log/
KUBE_DATA=${KUBE_DATA:-/var/lib/kube-debian}       # etcd, containerd and kubelet data; emptied by down

NODE_NET=10.199.0    # node N is $NODE_NET.N on the bridge
POD_NET=10.200       # pods of node N are in $POD_NET.N.0/24
SERVICE_NET=10.201.0 # ClusterIPs; .1 is the API server
BRIDGE=kube-br0
CGROUP=kube-debian   # every process that up starts is below this cgroup

# Each node sees its own directory $KUBE_DATA/nodeN/PATH at these paths.
NODE_PATHS="/etc/cni/net.d /opt/cni/bin /run/containerd /run/netns /var/lib/cni
	/var/lib/containerd /var/lib/kubelet /var/log/containers /var/log/pods"

BASE_IMAGE=docker.io/library/debian:bookworm-slim
PAUSE_IMAGE=k8s.gcr.io/pause:3.2

export PATH=$KUBE_CACHE/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export KUBECONFIG=$KUBE_RUN/admin.kubeconfig

say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }
die() { say "error: $*"; exit 1; }

[ "$(id -u)" = 0 ] || die "run as root"

alive() { grep -qs '^State:.[^ZX]' "/proc/$1/status"; } # not gone, nor a zombie

# wait_for SECONDS WHAT CMD...: run CMD until it succeeds.
# Gives up at once when a daemon that up started is dead.
wait_for() {
	local end=$((SECONDS + $1)) what=$2 file
	shift 2
	until "$@" >/dev/null 2>&1; do
		for file in "$KUBE_RUN"/*.pid "$KUBE_RUN"/node*/*.pid; do
			[ ! -s "$file" ] || alive "$(cat "$file")" || die "${file#"$KUBE_RUN/"}: the process ended (see $KUBE_RUN/log)"
		done
		[ $SECONDS -lt $end ] || die "$what: not ready in time (see $KUBE_RUN/log)"
		sleep 0.3
	done
}

# The nodes that are up, by number.
nodes() {
	local dir
	for dir in "$KUBE_RUN"/node[0-9]*/; do
		[ -d "$dir" ] && basename "$dir" | sed 's/^node//'
	done
	return 0
}

# on_node N CMD...: run CMD in node N's mount, UTS and network namespaces.
on_node() {
	local anchor
	anchor=$(cat "$KUBE_RUN/node$1/anchor.pid") || die "node $1 is not up"
	shift
	nsenter --target "$anchor" --mount --uts --net -- "$@"
}

# The mount points of all cgroup hierarchies: the v1 ones, the v2 one, or both.
cgroup_mounts() {
	awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts
}

# in_cgroup PATH CMD...: become CMD inside PATH, made in every hierarchy.
in_cgroup() {
	local path=$CGROUP/$1 mount part dir
	shift
	for mount in $(cgroup_mounts); do
		dir=$mount
		for part in ${path//\// }; do
			# Where v2 has the controllers, hand them down.
			if grep -qsw cpu "$dir/cgroup.controllers"; then
				sed 's/[^ ]\+/+&/g' "$dir/cgroup.controllers" >"$dir/cgroup.subtree_control" || true
			fi
			dir=$dir/$part
			mkdir -p "$dir"
			# A v1 cpuset cgroup takes no process before it has CPUs.
			if [ -e "$dir/cpuset.sched_load_balance" ]; then
				cat "$dir/../cpuset.cpus" >"$dir/cpuset.cpus"
				cat "$dir/../cpuset.mems" >"$dir/cpuset.mems"
			fi
		done
		echo $BASHPID >"$dir/cgroup.procs"
	done
	exec "$@"
}

# start NAME CGROUP CMD...: a daemon with a log, a pid file, and how to start it again.
start() {
	local name=$1 cgroup=$2
	printf '%q ' "${@:2}" >"$KUBE_RUN/$name.command"
	shift 2
	(in_cgroup "$cgroup" setsid "$@") </dev/null >>"$KUBE_RUN/log/${name//\//-}.log" 2>&1 &
	echo $! >"$KUBE_RUN/$name.pid"
}

# cgroup_pids: every process below our cgroups, in any hierarchy.
cgroup_pids() {
	local mount
	for mount in $(cgroup_mounts); do
		find "$mount/$CGROUP" -name cgroup.procs -exec cat {} + 2>/dev/null || true
	done | sort -un
}
