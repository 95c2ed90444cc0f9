"""Name what a file holds that is no YAML: there the mistake is the file, and no line of it."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final

_MAGIC: Final = (
    (rb"\x89PNG", "a PNG picture"),
    (rb"\xff\xd8\xff", "a JPEG picture"),
    (rb"GIF8", "a GIF picture"),
    (rb"RIFF....WEBP", "a WebP picture"),
    (rb"....ftyp", "a video"),
    (rb"%PDF-", "a PDF document"),
    (rb"PK\x03\x04", "a ZIP archive, as torch.save writes it"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"\x80[\x02-\x05]", "a pickle"),
    (rb".......\0\{", "weights (safetensors)"),
    (rb"GGUF", "weights (GGUF)"),
    (rb"\x7fELF", "a program"),
)
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_SUFFIXES: Final = {
    ".py": "Python",
    ".md": "Markdown",
    ".rst": "reStructuredText",
    ".toml": "TOML",
    ".ini": "an INI file",
    ".cfg": "an INI file",
    ".csv": "CSV",
    ".sh": "a shell script",
    ".html": "HTML",
    ".xml": "XML",
}
_BEGINNINGS: Final = (
    (r"\s*<(?:!doctype html|html)", "HTML"),
    (r"\s*<(?:\?xml|svg)", "XML"),
    (r"version https://git-lfs", "a pointer of Git LFS"),
    (r"[45]\d\d: [A-Z]", "a server's answer"),
    (r"#!", "a script"),
)
_HINTS: Final = {
    "HTML": "it may be a server's page about an error",
    "a server's answer": "it was saved in place of the file",
    "a pointer of Git LFS": "'git lfs pull' gets the file",
    "JSON with comments": "in YAML a comment begins with '#'",
}
#: Comments where JSON has none. Each pattern ends at its line: a stranger's file may be long.
_COMMENT: Final = re.compile(r"(?m)^[ \t]*//.*$|(?<=[,{}\[\]])[ \t]*//.*$|/\*[^*]*\*/")
_PYTHON: Final = re.compile(
    r"(?:from [\w.]+ import |import [\w.]+(?: as \w+)?$|(?:async )?def \w+\(|class \w+[(:]|print\()"
)
_TOML: Final = re.compile(r"\[\[?[\w.\"'-]+\]\]?$|[\w.\"'-]+ *= *\S")
_TEMPLATE: Final = re.compile(r"\{\{|\{%")
_KEY: Final = re.compile(r"""(?:- +)?(?:[\w.-]+|"[^"]*"|'[^']*') *:(?: |$)|- """)
_MOST: Final = 64 * 1024


def name_foreign(content: str | bytes, name: str) -> tuple[str, str] | None:
    """What a file is that could not be read, and what to do about it.

    Args:
        content: the file, or its beginning.
        name: its name, whose suffix counts.

    Returns:
        None where it may well be YAML with a mistake.
    """
    what = _name(content, name)
    hint = "an adapter is a YAML file that begins with 'schema: 1'"
    return None if what is None else (what, _HINTS.get(what, hint))


def _name(content: str | bytes, name: str) -> str | None:
    start = content[:_MOST]
    if isinstance(start, bytes):
        for magic, what in _MAGIC:
            if re.match(magic, start, re.DOTALL):
                return what
        text = start.decode("utf-8", "replace")
        control = len(re.findall("[\0-\x08\x0e-\x1a\x1c-\x1f]", text))
        if control and "\ufffd" in text and not start.startswith(_UTF_16):
            return "binary data"
    else:
        text = start
    suffix = PurePath(name).suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if "\ufffd" in text or "\0" in text:
        return None  # another encoding
    for beginning, what in _BEGINNINGS:
        if re.match(beginning, text, re.IGNORECASE):
            return what
    bare = _COMMENT.sub("", text)
    if bare != text and bare.lstrip()[:1] in ("{", "["):
        return "JSON with comments"
    return _by_lines(text)


def _by_lines(text: str) -> str | None:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) > 1 and all(line[0] == "{" and line[-1] == "}" for line in lines):
        return "JSON Lines"
    if lines and _TEMPLATE.match(lines[0]):
        return "a template that was not filled in"
    keys = sum(_KEY.match(line) is not None for line in lines)
    if not lines or keys * 2 >= len(lines) or lines[0][0] in "{%'\"&*!":
        return None
    if sum(_TOML.match(line) is not None for line in lines) * 2 >= len(lines):
        return "TOML"
    if any(_PYTHON.match(line) for line in lines):
        return "Python"
    return "text" if keys * 4 <= len(lines) and lines[0][0] != "[" else None
