#!/usr/bin/env bash
#
# Makes a machine one that has Podlock, as a person would by hand: `./run setup`.
#
# Vagrant runs it in its boxes and vagrant/qemu/vm in a virtual machine of its own, the
# same lines in both. Again it finds its work done. As root; the project is where this
# file is. From the environment: KUBERNETES=k3s|kubeadm also makes a cluster
# (kubernetes.sh says what else that wants).

set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
project=$(dirname "$here")

"$project/run" setup
# In the project's own machine `podlock demo` is there, too.
rm -f /usr/local/bin/podlock
cat >/usr/local/bin/podlock <<END
#!/bin/sh
[ "\$1" = demo ] && exec "$project/run" "\$@"
exec "$project/.venv/bin/podlock" "\$@"
END
chmod 755 /usr/local/bin/podlock
podlock version

if [[ -n ${KUBERNETES:-} ]]; then
	"$here/kubernetes.sh"
fi
