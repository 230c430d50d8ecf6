"""
Print what an image is made of, as SPDX 2.3 in JSON: Debian's packages and Python's.

Runs in the image itself, at the end of its build (see Dockerfile); standard library
only. Licences stand with the packages, in Debian's and Python's own metadata.
"""

import datetime
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple


class Package(NamedTuple):
    name: str
    version: str
    purl: str


def debian() -> Iterator[Package]:
    form = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n"
    listed = subprocess.run(
        ["dpkg-query", "--show", f"--showformat={form}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for line in listed.splitlines():
        status, name, version, architecture = line.split("\t")
        if status == "installed":
            purl = f"pkg:deb/debian/{name}@{version}?arch={architecture}"
            yield Package(name, version, purl)


def python(folder: str) -> Iterator[Package]:
    for found in metadata.distributions(path=[folder]):
        name, version = found.metadata["Name"], found.version
        yield Package(name, version, f"pkg:pypi/{name.lower()}@{version}")


def document(packages: list[Package]) -> dict[str, object]:
    text = "\n".join(package.purl for package in packages)
    digest = hashlib.sha256(text.encode()).hexdigest()
    now = datetime.datetime.now(datetime.UTC)
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": "podlock",
        "documentNamespace": f"https://podlock.io/sbom/{digest}",
        "creationInfo": {
            "created": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: deploy/sbom.py"],
        },
        "packages": [
            {
                "SPDXID": f"SPDXRef-{number}",
                "name": package.name,
                "versionInfo": package.version,
                "downloadLocation": "NOASSERTION",
                "externalRefs": [
                    {
                        "referenceCategory": "PACKAGE-MANAGER",
                        "referenceType": "purl",
                        "referenceLocator": package.purl,
                    }
                ],
            }
            for number, package in enumerate(packages)
        ],
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": f"SPDXRef-{number}",
            }
            for number in range(len(packages))
        ],
    }


if __name__ == "__main__":
    found = sorted([*debian(), *python(sys.argv[1])])
    json.dump(document(found), sys.stdout, indent=1)
