#!/usr/bin/env bash
#
# Makes this machine a node of a cluster and, on the first, puts Podlock into it as
# deploy/kubernetes says. Started by provision.sh; again it goes on where it ended.
#
# As root, from the environment:
#   KUBERNETES=k3s|kubeadm   which
#   NODE=1|2                 the first has the control plane
#   TOKEN                    by which the second joins, abcdef.0123456789abcdef
#   ADDRESS, SERVER          this node's and the first one's on the wire between them;
#                            empty where there is one node
#
# Unlike the rest of the project this downloads what is not Debian's: k3s from
# get.k3s.io; kubeadm from pkgs.k8s.io, flannel from github.com.

set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
project=$(dirname "$here")
readonly here project
readonly kubernetes_minor=v1.31 flannel=v0.26.1
readonly pod_network=10.244.0.0/16
readonly config=/etc/kubernetes/admin.conf
export DEBIAN_FRONTEND=noninteractive

say() {
	printf '==> %s\n' "$*" >&2
}

die() {
	printf 'kubernetes.sh: %s\n' "$*" >&2
	exit 1
}

# The wire between the nodes, for who would take Vagrant's own network otherwise.
wire_device() {
	ip -4 -json address show to "$ADDRESS" | grep -o '"ifname":"[^"]*"' | cut -d'"' -f4
}

# k3s: control plane, kubelet and containerd in one program.

make_k3s() {
	local arguments=(--token "$TOKEN")
	if [[ -n $ADDRESS ]]; then
		arguments+=(--node-ip "$ADDRESS" --flannel-iface "$(wire_device)")
	fi
	if ((NODE == 1)); then
		arguments=(server --disable traefik --write-kubeconfig-mode 600 "${arguments[@]}")
	else
		arguments=(agent --server "https://$SERVER:6443" "${arguments[@]}")
	fi
	say "k3s ${arguments[0]}"
	curl -sSfL https://get.k3s.io | INSTALL_K3S_EXEC="${arguments[*]}" sh -
}

# kubeadm, with containerd of the distribution and flannel.

make_kubeadm() {
	local source=/etc/apt/sources.list.d/kubernetes.list
	local key=/etc/apt/keyrings/kubernetes.asc url=https://pkgs.k8s.io/core:/stable:
	apt-get -qq update
	apt-get -qq -y install --no-install-recommends containerd containernetworking-plugins
	mkdir -p /etc/apt/keyrings
	curl -sSfL "$url/$kubernetes_minor/deb/Release.key" -o "$key"
	echo "deb [signed-by=$key] $url/$kubernetes_minor/deb/ /" >"$source"
	apt-get -qq update
	apt-get -qq -y install --no-install-recommends kubelet kubeadm kubectl cri-tools
	prepare_kubelet
	[[ -e /etc/kubernetes/kubelet.conf ]] && return
	if ((NODE == 1)); then
		kubeadm init --token "$TOKEN" --pod-network-cidr "$pod_network" \
			${ADDRESS:+--apiserver-advertise-address "$ADDRESS"}
		install_flannel
	else
		# The wire is between these two machines alone.
		kubeadm join "$SERVER:6443" --token "$TOKEN" \
			--discovery-token-unsafe-skip-ca-verification
	fi
}

prepare_kubelet() {
	swapoff -a
	sed -i '/\sswap\s/d' /etc/fstab
	printf '%s\n' overlay br_netfilter >/etc/modules-load.d/kubernetes.conf
	modprobe -a overlay br_netfilter
	echo "net.ipv4.ip_forward = 1" >/etc/sysctl.d/kubernetes.conf
	sysctl -q --system
	mkdir -p /etc/containerd
	containerd config default |
		sed -e 's/SystemdCgroup = false/SystemdCgroup = true/' \
			-e 's|bin_dir = .*|bin_dir = "/opt/cni/bin"|' >/etc/containerd/config.toml
	mkdir -p /opt/cni/bin
	cp /usr/lib/cni/* /opt/cni/bin/
	if [[ -n $ADDRESS ]]; then
		echo "KUBELET_EXTRA_ARGS=--node-ip=$ADDRESS" >/etc/default/kubelet
	fi
	systemctl restart containerd
}

install_flannel() {
	local manifest
	manifest=$(curl -sSfL \
		"https://github.com/flannel-io/flannel/releases/download/$flannel/kube-flannel.yml")
	if [[ -n $ADDRESS ]]; then
		manifest=${manifest//- --kube-subnet-mgr/- --kube-subnet-mgr
        - --iface=$(wire_device)}
	fi
	kubectl --kubeconfig "$config" apply -f - <<<"$manifest"
	# With one node, or two, pods may run beside the control plane.
	kubectl --kubeconfig "$config" taint nodes --all node-role.kubernetes.io/control-plane-
}

# Podlock. Its image is built here, on each node: no registry has it.

cluster() {
	if [[ $KUBERNETES == k3s ]]; then
		k3s kubectl "$@"
	else
		kubectl --kubeconfig "$config" "$@"
	fi
}

import_image() {
	if [[ $KUBERNETES == k3s ]]; then
		k3s ctr images import "$1"
	else
		ctr --namespace k8s.io images import "$1"
	fi
}

build_image() {
	local image archive=/var/tmp/podlock.tar
	image=$(awk '$1 == "image:" { print $2; exit }' "$project/deploy/kubernetes/agent.yaml")
	say "building $image (some minutes)"
	apt-get -qq -y install --no-install-recommends buildah
	buildah build --quiet -f "$project/deploy/Dockerfile" -t "$image" "$project"
	rm -f "$archive"
	buildah push --quiet "$image" "docker-archive:$archive:$image"
	import_image "$archive"
	rm -f "$archive"
}

apply_podlock() {
	cluster apply -f "$project/deploy/crds" -f "$project/deploy/kubernetes/namespace.yaml"
	make_issuer
	cluster apply -k "$project/deploy/kubernetes"
}

# An anchor and an issuer of this cluster's own, once; deploy/README.md tells more.
make_issuer() {
	local folder
	cluster -n podlock get secret podlock-issuer >/dev/null 2>&1 && return
	folder=$(mktemp -d)
	"$project/deploy/make-issuer.sh" "$folder"
	cluster -n podlock create secret generic podlock-issuer \
		--from-file="$folder/tls.crt" --from-file="$folder/tls.key" \
		--from-file="$folder/ca.crt"
	rm -rf "$folder"
}

[[ -d $project/deploy/kubernetes ]] || die "no $project/deploy/kubernetes to apply"
case $KUBERNETES in
k3s | kubeadm) "make_$KUBERNETES" ;;
*) die "KUBERNETES=$KUBERNETES: expected k3s or kubeadm" ;;
esac
build_image
if ((NODE == 1)); then
	apply_podlock
	say "label a namespace podlock.io/mesh=enabled, and look: cluster get pods -n podlock"
fi
