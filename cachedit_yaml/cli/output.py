"""Printing that the commands share."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from cachedit_yaml.cli.rendering import render_in
from cachedit_yaml.engines import engines
from cachedit_yaml.errors import ConfigError
from cachedit_yaml.rules.fix import write_whole
from cachedit_yaml.yaml.diagnostics import Diagnostic, plain
from cachedit_yaml.yaml.reader import leads_out
from cachedit_yaml.yaml.reading import MAX_BYTES

#: Candidates alone: what of it cannot be seen is asked of each.
_HIDDEN: Final = re.compile(r"[^\n\x20-\x7e]|##\[")


def use_color(stream: TextIO) -> bool:
    """Whether to colour: on terminals, unless NO_COLOR says no or FORCE_COLOR says yes."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def quiet_libraries() -> None:
    """Let the libraries and engines report errors only; before their first import."""
    for name in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY", "CACHE_DIT_LOG_LEVEL"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    for name in (name for item in engines() for name in item.loggers):
        logging.getLogger(name).setLevel(logging.ERROR)


def print_diagnostics(
    diagnostics: Iterable[Diagnostic],
    sources: Mapping[str, str] | None = None,
    stream: TextIO | None = None,
) -> None:
    """Print diagnostics with the lines that they are about, an empty line between them.

    Args:
        diagnostics: what to print.
        sources: texts by name; those that are missing are read from the files.
        stream: where to; default: stdout.
    """
    stream = sys.stdout if stream is None else stream
    color = use_color(stream)
    known = dict(sources or {})
    for item in diagnostics:
        spans = [span for _, span in item.related]
        for span in [*spans, *([item.span] if item.span is not None else [])]:
            if span.path not in known:
                known[span.path] = _text(span.path)
        print(render_in(item, known, color) + "\n", file=stream)


def print_json(data: Any) -> None:
    """Print plain data as JSON."""
    print(to_json(data))


def to_json(data: Any) -> str:
    """Plain data as JSON, in which every character can be seen."""
    return _HIDDEN.sub(_escaped, json.dumps(data, indent=2, ensure_ascii=False))


def _escaped(match: re.Match[str]) -> str:
    if match[0] == "##[":
        return r"#\u0023["
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1]


class Dim(str):
    """A line of less interest."""


def say(*lines: str, stream: TextIO | None = None) -> None:
    """Print lines, each of which stays one, with every character to be seen."""
    stream = sys.stdout if stream is None else stream
    color = use_color(stream)
    shown = (
        f"\x1b[2m{plain(line)}\x1b[0m" if color and isinstance(line, Dim) else plain(line)
        for line in lines
    )
    print("\n".join(shown), file=stream, flush=True)


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> list[str]:
    """Lay out rows in columns; the last column may be as long as it likes."""
    everything = [[plain(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in everything) for column in range(len(header) - 1)]
    lines = []
    for row in everything:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines


def count(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def flow(value: Any) -> str:
    """Plain data in one line, nearly as YAML would write it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {flow(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _text(path: str) -> str:
    if not os.path.isfile(path) or leads_out(path):
        return ""  # a named pipe would make this wait, and a link may lead to a secret
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read(MAX_BYTES)
    except (OSError, ValueError):
        return ""


def check_file(option: str, path: Path) -> None:
    """Find out before the work whether a file can be written.

    Raises:
        ConfigError: it cannot be.
    """
    if (too_long := _cannot_be(path)) is not None:
        why = too_long
    elif os.path.islink(path) and not os.path.exists(path):
        why = f"it is a link to {os.readlink(path)}, which does not exist"
    elif os.path.isdir(path):
        why = "it is a folder; name a file in it"
    elif not os.path.exists(path.parent):
        why = f"there is no folder {path.parent}"
    elif not os.path.isdir(path.parent):
        why = f"{path.parent} is a file, not a folder"
    elif not os.access(path if os.path.exists(path) else path.parent, os.W_OK):
        why = "permission denied"
    else:
        return
    raise ConfigError(f"{option}: cannot write {path}: {why}")


def _cannot_be(path: Path) -> str | None:
    """Why no file can have this name; None where one can."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # a name that is too long, a character that none has
        return getattr(error, "strerror", None) or str(error)
    return None


def write_file(option: str, path: Path, text: str) -> None:
    """Write a file whole or not at all, and through no link out of its folder.

    What is no regular file, such as ``/dev/stdout``, is written as it is.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        if path.is_relative_to("/dev") or (os.path.exists(path) and not os.path.isfile(path)):
            path.write_text(text, encoding="utf-8", newline="\n")
        else:
            write_whole(path, text.encode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{option}: cannot write {path}: {error.strerror or error}") from None


def make_folder(option: str, folder: Path) -> None:
    """Make a folder, and find out before the work whether anything can be written into it.

    Raises:
        ConfigError: nothing can be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except (FileExistsError, NotADirectoryError) as error:
        why = f"{error.filename} is a file, not a folder"
    except OSError as error:
        why = error.strerror or str(error)
    raise ConfigError(f"{option}: cannot write to {folder}: {why}")
