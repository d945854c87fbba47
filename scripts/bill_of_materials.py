"""The software bill of materials of a wheel (CycloneDX): every locked package of the program and of its extras.

A component's hashes are those of all files of that version: for each platform one of them is installed. The licences
are what the packages say themselves, so they are known where a package is installed here.
"""

from __future__ import annotations

import hashlib
import tomllib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageMetadata, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from lock_files import PROGRAM, PROJECT, Package, environments, read, run_locks
from packageurl import PackageURL
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

_CLASSIFIER = "License :: OSI Approved :: "
_SERIALS = uuid.UUID("6f1d7c52-7c3e-4f0a-9f0e-0d8b0c9f6a11")
_licences = LicenseFactory()


class NotAsLocked(Exception):
    """A package is not installed here in its locked version, so its licence cannot be read."""


def bill_of(wheel: Path, epoch_seconds: int) -> str:
    """The bill as JSON. The same wheel, locks and moment make the same text. Raises NotAsLocked."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    name, version, _, _ = parse_wheel_filename(wheel.name)
    program = Component(
        type=ComponentType.APPLICATION,
        name=name,
        version=str(version),
        purl=PackageURL("pypi", name=name, version=str(version)),
        bom_ref=f"{name}=={version}",
        hashes=[_sha256(digest)],
        licenses=[_licences.make_from_string(project["license"])],
    )
    components = list(_components())
    bill = Bom(
        components=components,
        metadata=BomMetaData(component=program, timestamp=datetime.fromtimestamp(epoch_seconds, UTC)),
        serial_number=uuid.uuid5(_SERIALS, digest),
    )
    needed = _needed(project)
    bill.register_dependency(program, [component for component in components if component.name in needed])
    return make_outputter(bill, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2) + "\n"


def _components() -> Iterator[Component]:
    """The locked packages that are installed on any platform which the locks are for."""
    for lock in run_locks():
        for package in read(lock):
            if any(package.applies(environment) for environment in environments()):
                yield _component(package, lock.stem)


def _component(package: Package, lock: str) -> Component:
    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        scope=ComponentScope.REQUIRED if lock == PROGRAM else ComponentScope.OPTIONAL,
        purl=PackageURL("pypi", name=package.name, version=package.version),
        bom_ref=f"{lock}:{package.name}=={package.version}",
        hashes=[_sha256(digest) for digest in package.hashes],
        licenses=_licences_of(package),
        properties=[Property(name="job-reaper:lock", value=lock)],
    )


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _needed(project: dict[str, Any]) -> set[str]:
    """What the program itself asks for, with any extra."""
    lines = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def _licences_of(package: Package) -> list[License]:
    """Empty for a package that another platform or version of Python needs."""
    if not package.applies({key: str(value) for key, value in default_environment().items()}):
        return []
    try:
        installed = distribution(package.name)
    except PackageNotFoundError as error:
        raise NotAsLocked(
            f"{package.name} {package.version} is not installed here: run scripts/test.sh first"
        ) from error
    if installed.version != package.version:
        raise NotAsLocked(
            f"{package.name} {installed.version} is installed here, and {package.version} is locked: "
            "run scripts/test.sh first"
        )
    return list(_stated(installed.metadata))


def _stated(metadata: PackageMetadata) -> Iterator[License]:
    """An SPDX expression where there is one; else the classifiers, which say more than a free text such as "BSD"."""
    stated = next((metadata[key] for key in ("License-Expression", "License") if key in metadata), "")
    found = _licences.make_from_string(stated) if stated and "\n" not in stated else None
    classifiers = [line for line in metadata.get_all("Classifier", []) if line.startswith(_CLASSIFIER)]
    if found is not None and (not classifiers or getattr(found, "name", None) is None):
        yield found
    else:
        yield from (_licences.make_with_name(line.removeprefix(_CLASSIFIER)) for line in classifiers)
