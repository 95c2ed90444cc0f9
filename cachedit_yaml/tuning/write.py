"""Write measured profiles into an adapter file: only the profiles' own lines change."""

from __future__ import annotations

import datetime
import math
import os
import textwrap
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.errors import AdapterError, AdapterNotFoundError, ConfigError
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.rules.adapter import Adapter
from cachedit_yaml.rules.fix import write_whole
from cachedit_yaml.tuning.placing import block, flow, placed
from cachedit_yaml.tuning.session import PACKAGES
from cachedit_yaml.tuning.targets import Measured
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.reader import read_file, read_text

if TYPE_CHECKING:
    from cachedit_yaml.tuning.tune import Tuning

#: Of the lines of a new file.
_WIDTH: Final = 100
_BOM: Final = b"\xef\xbb\xbf"
#: Stands in for a profile where it is tried whether one can be written.
_SOME: Final = {"residual_diff_threshold": 0.1}


def profile_of(item: Measured, tuning: Tuning) -> dict[str, Any]:
    """A profile as plain data: settings, and what was measured of them."""
    near = item.likeness
    psnr = {"pooled": near.pooled, "mean": near.mean, "worst": near.worst}
    said: dict[str, Any] = {
        "model": tuning.model,
        "steps": tuning.steps,
        "prompts": tuning.samples,
        "blocks": round(item.blocks, 3),
        "psnr": {key: round(value, 1) for key, value in psnr.items() if math.isfinite(value)},
        "ssim": None if near.ssim is None else round(near.ssim, 4),
        "device": tuning.device,
        "date": datetime.date.today(),
        "versions": {package: metadata.version(package) for package in PACKAGES[1:]},
    }
    measured = {key: value for key, value in said.items() if value not in (None, {})}
    return {**item.settings, "measured": measured}


def text_of(tuning: Tuning) -> str:
    """All profiles as YAML."""
    found = (block(name, profile_of(item, tuning)) for name, item in tuning.profiles.items())
    return "profiles:\n" + "".join(found)


def write(
    path: Path, tuning: Tuning, registry: Registry, *, force: bool = False, dry_run: bool = False
) -> list[str]:
    """As :meth:`Tuning.write`."""
    if not tuning.profiles:
        raise ConfigError("no profile reached its target, so there is nothing to write")
    mark = b""
    if os.path.exists(path):
        document = _read(path)
        _require_names(document, tuning.profiles, force=force or dry_run)
        content = path.read_bytes()
        mark = _BOM if content.startswith(_BOM) else b""
        made = {name: profile_of(item, tuning) for name, item in tuning.profiles.items()}
        text = placed(document, made)
        held = (document.data or {}).get("profiles")
        own = held if isinstance(held, Mapping) else {}
    else:
        text, own = _new_file(path, tuning, registry), {}
    said = [_change(name, item, own) for name, item in tuning.profiles.items()]
    _require_sound(text, path, registry)
    if not dry_run:
        write_whole(path, mark + text.encode("utf-8"))
    return said


def _change(name: str, item: Measured, own: Mapping[str, Any]) -> str:
    """What becomes of a profile, in one line."""
    if name not in own:
        return f"{name}: new, {item}"
    before = own[name]
    known = before.get("measured") if isinstance(before, Mapping) else None
    was = "not measured"
    if isinstance(known, Mapping):
        psnr = known.get("psnr")
        low = (
            f", PSNR {psnr['pooled']} dB" if isinstance(psnr, Mapping) and "pooled" in psnr else ""
        )
        share = known.get("blocks")
        part = f"{share:.1%} of blocks{low}, " if isinstance(share, float) else ""
        was = f"{part}{known.get('steps')} steps, {known.get('date', 'some day')}"
    return f"{name}: was {was}; now {item}"


def _new_file(path: Path, tuning: Tuning, registry: Registry) -> str:
    """An adapter of its own, which extends the one that was tuned."""
    spec = tuning.adapter
    base = spec.name
    try:
        found: Path | None = registry.resolve(base, path)
    except AdapterNotFoundError:
        found = None
    # One in a model's folder may have the name of another.
    if spec.source is not None and (found is None or not os.path.samefile(found, spec.source)):
        base = Path(os.path.relpath(spec.source, os.path.abspath(path.parent))).as_posix()
    head = {"schema": 1, "extends": base, "description": spec.description or spec.name}
    return (
        f"# Made by cachedit-yaml tune; profiles that were measured on {tuning.model}.\n"
        + "".join(f"{flow({key: value}, '')[1:-1]}\n" for key, value in head.items())
        + textwrap.fill(
            f"pipelines: [{', '.join(spec.pipelines)}]",
            _WIDTH,
            subsequent_indent="  ",
            break_long_words=False,
        )
        + "\n"
        + tuning.text()
    )


def _read(path: Path) -> Document:
    document, problems = read_file(path)
    if document.data is None:
        raise AdapterError(problems)
    return document


def _require_names(document: Document, names: Iterable[str], *, force: bool) -> None:
    held = (document.data or {}).get("profiles")
    there = [name for name in names if isinstance(held, Mapping) and name in held]
    if there and not force:
        raise ConfigError(
            f"{document.name} has the profiles {', '.join(there)} already; pass --force to replace "
            "them, or name others: --target fast2:blocks=0.25"
        )


def _require_sound(text: str, path: Path, registry: Registry) -> None:
    read = read_text(text, str(path), path)
    _ = Adapter.of(*read, resolve=registry.resolve).spec  # raises, where it is wrong


def require_room(path: Path, names: Iterable[str], registry: Registry, *, force: bool) -> None:
    """Look whether profiles can be written, before anything is measured for them.

    Args:
        path: the adapter file; one that does not exist yet will be made.
        names: the profiles.
        registry: finds what the file extends.
        force: profiles that it has may be replaced.

    Raises:
        ConfigError: the file has one of them, and ``force`` is not given; or they cannot be put in
            without a change to something else.
        AdapterError: it cannot be read, or is wrong.
    """
    if os.path.exists(path):
        document = _read(path)
        _require_names(document, names, force=force)
        _require_sound(placed(document, dict.fromkeys(names, _SOME)), path, registry)
