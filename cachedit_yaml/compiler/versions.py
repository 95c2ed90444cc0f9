"""Versions of what is installed, against what an adapter requires and what was tested."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version


def installed_version(distribution: str) -> Version | None:
    """The installed version of a distribution, or None."""
    try:
        return Version(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return None


def unmet_requirements(requires: Mapping[str, str]) -> list[str]:
    """One sentence for each requirement that the environment does not meet."""
    problems = []
    for distribution, specifier in requires.items():
        version = installed_version(distribution)
        try:
            wanted = SpecifierSet(specifier)
        except InvalidSpecifier:
            problems.append(f"requires.{distribution}: {specifier!r} is not a version specifier")
            continue
        if version is None:
            problems.append(f"it requires {distribution} {specifier}, which is not installed")
        elif not wanted.contains(version, prereleases=True):
            problems.append(f"it requires {distribution} {specifier}; installed is {version}")
    return problems
