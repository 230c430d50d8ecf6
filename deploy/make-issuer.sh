#!/bin/sh
#
# An anchor, and an issuer under it, for an identity service in Kubernetes:
#
#   deploy/make-issuer.sh FOLDER
#
# leaves there what the Secret podlock-issuer wants (tls.crt, tls.key, ca.crt) and
# anchor.key, which belongs where no cluster is. Needs openssl. Overwrites nothing.

set -eu
umask 077

folder=${1:?a folder to write to}
mkdir -p "$folder"
cd "$folder"
for name in anchor.key ca.crt tls.key tls.crt; do
	if [ -e "$name" ]; then
		echo "make-issuer.sh: $folder/$name exists already" >&2
		exit 1
	fi
done

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
	-subj /CN=podlock-anchor -keyout anchor.key -out ca.crt \
	-addext keyUsage=critical,keyCertSign,cRLSign
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
	-subj /CN=podlock-issuer -keyout tls.key -out issuer.csr
printf '%s\n' basicConstraints=critical,CA:TRUE,pathlen:0 \
	keyUsage=critical,keyCertSign,cRLSign subjectKeyIdentifier=hash \
	authorityKeyIdentifier=keyid >issuer.ext
openssl x509 -req -in issuer.csr -CA ca.crt -CAkey anchor.key -CAcreateserial \
	-days 365 -extfile issuer.ext -out tls.crt
rm -f issuer.csr issuer.ext ca.srl
