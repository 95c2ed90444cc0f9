"""Write measured profiles into an adapter file: only the profiles' own lines change."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.errors import AdapterError, AdapterNotFoundError, ConfigError
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.rules.adapter import Adapter
from cachedit_yaml.rules.fix import apply_edits, write_whole
from cachedit_yaml.tuning.session import PACKAGES
from cachedit_yaml.tuning.targets import Measured
from cachedit_yaml.yaml.diagnostics import Edit, Span
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.reader import read_file, read_text
from cachedit_yaml.yaml.removal import end_of

if TYPE_CHECKING:
    from cachedit_yaml.tuning.tune import Tuning

_WIDTH: Final = 100
_BOM: Final = b"\xef\xbb\xbf"


def profile_text(name: str, item: Measured, tuning: Tuning, indent: str = "  ") -> str:
    """One profile as YAML in block style, with ``measured``."""
    lines = [f"{indent}{name}:"]
    inner = indent + "  "
    for key, value in item.settings.items():
        if isinstance(value, Mapping) and "compute_bins" in value:
            lines += [f"{inner}{key}:", f"{inner}  policy: {value['policy']}"]
            for name in ("compute_bins", "cache_bins"):
                lines += _wrapped(f"{inner}  {name}: [", list(map(str, value[name])), "]")
        else:
            lines.append(f"{inner}{key}: {_flow(value)}")
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
        "date": str(datetime.date.today()),
        "versions": {package: metadata.version(package) for package in PACKAGES[1:]},
    }
    entries = [f"{key}: {_flow(value)}" for key, value in said.items() if value not in (None, {})]
    return "\n".join([*lines, *_wrapped(f"{inner}measured: {{", entries, "}")]) + "\n"


def _wrapped(head: str, entries: list[str], tail: str) -> list[str]:
    """Entries of a flow collection, over as many lines as they need."""
    lines, line = [], head
    hang = " " * (len(head) - len(head.lstrip()) + 2)
    for index, entry in enumerate(entries):
        text = entry + (tail if index + 1 == len(entries) else ",")
        if len(line) + len(text) + 1 > _WIDTH and line.strip():
            lines.append(line.rstrip())
            line = hang
        line += text + ("" if text.endswith(tail) and index + 1 == len(entries) else " ")
    return [*lines, line.rstrip()]


def _flow(value: Any) -> str:
    """A value in flow style."""
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        plain = value.replace(" ", "").replace("-", "").replace(".", "").replace("'", "")
        safe = (
            plain.isalnum()
            and value[0].isalpha()
            and value.lower() not in ("null", "true", "false")
        )
        dated = value.count("-") == 2 and value.replace("-", "").isdigit()
        return (
            value if safe or dated else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def write(path: Path, tuning: Tuning, registry: Registry, *, force: bool = False) -> list[str]:
    """As :meth:`Tuning.write`."""
    if not tuning.profiles:
        raise ConfigError("no profile reached its target, so there is nothing to write")
    require_room(path, tuning.profiles, force=force)
    mark = b""
    if os.path.exists(path):
        document, problems = read_file(path)
        if document.data is None:
            raise AdapterError(problems)
        content = path.read_bytes()
        mark = _BOM if content.startswith(_BOM) else b""
        edits, said = _edits(document, tuning)
        text = apply_edits(content.removeprefix(_BOM).decode("utf-8"), edits)
    else:
        text = _new_file(path, tuning, registry)
        said = [f"{name}: new, {item}" for name, item in tuning.profiles.items()]
    read = read_text(text, str(path), path)
    found = Adapter.of(*read, resolve=registry.resolve)
    _ = found.spec  # raises, where the file was wrong before
    write_whole(path, mark + text.encode("utf-8"))
    return said


def _edits(document: Document, tuning: Tuning) -> tuple[list[Edit], list[str]]:
    """The edits that put the profiles in, and what they change."""
    data = document.data or {}
    held = data.get("profiles")
    own = held if isinstance(held, Mapping) else {}
    said = []
    for name, item in tuning.profiles.items():
        before = own.get(name)
        known = before.get("measured") if isinstance(before, Mapping) else None
        was = f"was {_flow(known)}" if known else "was not measured" if name in own else "new"
        said.append(f"{name}: {was}, now {item}" if name in own else f"{name}: new, {item}")
    place = document.positions.get(("profiles",))
    lines = document.lines
    if not own or place is None:
        text = "profiles:\n" + "".join(
            profile_text(*pair, tuning) for pair in tuning.profiles.items()
        )
        if place is None:
            return [_insert(document, len(lines) + 1, text)], said
        key = place[0]
        assert key is not None
        end = end_of(document, ("profiles",))
        return [Edit(Span(document.name, key.line, 1, end[0] + 1, 1), text)], said
    whole = place[1]
    if lines[whole.line - 1][whole.column - 1] == "{":
        return _unfolded(document, own, tuning), said
    indent = " " * (whole.column - 1)
    edits = []
    added = ""
    for name, item in tuning.profiles.items():
        text = profile_text(name, item, tuning, indent)
        if name in own:
            key = document.positions["profiles", name][0]
            assert key is not None
            end = end_of(document, ("profiles", name))
            edits.append(Edit(Span(document.name, key.line, 1, end[0] + 1, 1), text))
        else:
            added += text
    if added:
        edits.append(_insert(document, end_of(document, ("profiles",))[0] + 1, added))
    return edits, said


def _unfolded(document: Document, own: Mapping[str, Any], tuning: Tuning) -> list[Edit]:
    """Profiles in flow style become a block; those that stay are copied as they stand."""
    text = "profiles:\n"
    lines = document.lines
    for name in {**own, **tuning.profiles}:
        if name in tuning.profiles:
            text += profile_text(name, tuning.profiles[name], tuning)
            continue
        span = document.positions["profiles", name][1]
        rows = lines[span.line - 1 : span.end_line]
        rows[-1] = rows[-1][: span.end_column - 1]
        rows[0] = rows[0][span.column - 1 :]
        text += (
            f"  {name}: " + "\n".join([rows[0], *(f"    {row.strip()}" for row in rows[1:])]) + "\n"
        )
    key, whole = document.positions["profiles",]
    assert key is not None
    # What stands behind it in its last line, a comment, goes on.
    rest = lines[whole.end_line - 1][whole.end_column - 1 :].strip()
    text += f"  {rest}\n" if rest else ""
    return [Edit(Span(document.name, key.line, 1, whole.end_line + 1, 1), text)]


def _insert(document: Document, line: int, text: str) -> Edit:
    """Put lines before a line, or at the end of a file, whose last line may not be ended."""
    if line > len(document.lines) and document.text and not document.text.endswith(("\n", "\r")):
        text = "\n" + text
    return Edit(Span(document.name, line, 1, line, 1), text)


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
    return (
        f"# Made by cachedit-yaml tune; profiles that were measured on {tuning.model}.\n"
        f"schema: 1\nextends: {_flow(base)}\n"
        f"description: {_flow(spec.description or spec.name)}\n"
        f"pipelines: [{', '.join(spec.pipelines)}]\n" + tuning.text()
    )


def require_room(path: Path, names: Iterable[str], *, force: bool) -> None:
    """Look whether profiles can be written, before anything is measured for them.

    Raises:
        ConfigError: the file has one of them, and ``force`` is not given.
        AdapterError: it cannot be read.
    """
    if not os.path.exists(path):
        return
    document, problems = read_file(path)
    if document.data is None:
        raise AdapterError(problems)
    held = document.data.get("profiles")
    there = [name for name in names if isinstance(held, Mapping) and name in held]
    if there and not force:
        raise ConfigError(
            f"{document.name} has the profiles {', '.join(there)} already; pass --force to replace "
            "them, or name others: --target fast2:blocks=0.25"
        )
