"""Pages of the repository as pages of the site: where each one goes, and where its links lead.

GitHub shows the same files, so they are written for both; what differs is mended here.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from docs.site.notebooks import markdown

ROOT: Final = Path(__file__).resolve().parents[2]
FENCE: Final = re.compile(r"^ *(`{3,}|~{3,})")
#: Titles of tabs, and files of the repository in them.
PARTS: Final[Mapping[str, Mapping[str, str]]] = {
    "Start": {
        "Overview": "README.md",
        "Quickstart": "docs/quickstart.ipynb",
        "Add a model": "docs/add-a-model.md",
        "The same in Python": "docs/add-a-model-live.ipynb",
    },
    "Guides": {
        "Engines": "docs/engines.md",
        "Servers and own loops": "docs/serving.md",
        "Measure settings": "docs/tune.md",
        "Check files": "docs/validate.md",
        "Prove without weights": "docs/probe.md",
    },
    "Models": {},
    "Reference": {
        "How it runs": "docs/how-it-runs.md",
        "The language": "docs/language.md",
        "Rules": "docs/rules.md",
        "Every class": "docs/models.md",
    },
    "Project": {
        "Releases": "docs/releasing.md",
        "Every figure": "docs/reproduce.md",
        "Files from strangers": "docs/security.md",
        "Contributing": "CONTRIBUTING.md",
        "Changes": "CHANGELOG.md",
        "Report a vulnerability": "SECURITY.md",
        "Code of conduct": "CODE_OF_CONDUCT.md",
    },
}
#: What a page is called where GitHub's readers are given its file name.
_TITLES: Final = {file: title for files in PARTS.values() for title, file in files.items()}
#: Code, which stays as it is, or a link or picture.
_LINK: Final = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)|\[([^\[\]]*)\]\(<?([^)\s>]+)>?\)")
_ITEM: Final = re.compile(r"^( *)([-*]|\d+\.) ")
#: An anchor that is set by hand above a heading.
_ANCHOR: Final = re.compile(r'^<a id="([^"]+)"></a>\n(#+ .+)$', re.MULTILINE)
#: Adapters that lie beside the models that the package brings, where their settings were measured.
MEASURED: Final = [
    path.relative_to(ROOT).as_posix()
    for path in sorted((ROOT / "cachedit_yaml" / "generating").rglob("*.yaml"))
]
_PICTURES: Final = {".png", ".svg", ".jpg", ".gif"}


def place(name: str) -> str:
    """Where a file of the repository is found on the site.

    Args:
        name: its path from the root, with slashes.
    """
    path = Path(name)
    if name == "README.md":
        return "index.md"
    if path.suffix in _PICTURES:
        return f"pictures/{name}"
    if path.parent.as_posix() == "docs" and path.suffix in (".md", ".ipynb"):
        return f"{path.stem}.md"
    if name in MEASURED or (path.parent.as_posix() == "adapters" and path.name != "defaults.yaml"):
        return f"families/{path.stem}.md"
    if path.suffix == ".md":
        return f"project/{path.stem.lower()}.md"
    return f"files/{name}.md"  # a folder too


class Stage:
    """The folder that the site is built from.

    Args:
        folder: it; pages are added as they are asked for, with all that they link to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: set[str] = set()

    def add(self, name: str) -> str:
        """Add a file of the repository, and every file that it links to.

        Returns:
            Its place on the site.

        Raises:
            FileNotFoundError: there is none.
        """
        target = place(name)
        if name not in self.done and not target.startswith("families/"):
            self.done.add(name)
            source = ROOT / name
            if source.suffix in _PICTURES:
                self._file(target).write_bytes(source.read_bytes())
            elif source.is_dir():
                self.write(target, _listed(source), f"{name}/")
            else:
                text = source.read_text(encoding="utf-8")
                if source.suffix == ".ipynb":
                    text = markdown(text, self._file(target).with_suffix(""))
                elif source.suffix != ".md":
                    text = _shown(name, text)
                self.write(target, text, name)
        return target

    def write(self, target: str, text: str, source: str) -> None:
        """Write a page.

        Args:
            target: its place on the site.
            text: Markdown as GitHub reads it.
            source: the file that its links are relative to; those with a slash begin at the root.
        """

        def lead(words: str, link: str) -> str:
            name, _, anchor = unquote(link).partition("#")
            if not name or re.match(r"[a-z][a-z0-9+.-]*:", link):
                return f"[{words}]({link})"
            wanted = posixpath.normpath(posixpath.join("/", posixpath.dirname(source), name))[1:]
            if not (ROOT / wanted).exists():
                return f"[{words}]({link})"  # made here, or broken: the build says so
            found = posixpath.relpath(self.add(wanted), posixpath.dirname(target) or ".")
            if posixpath.basename(words) == posixpath.basename(wanted):
                words = _TITLES.get(wanted, words)
            return f"[{words}]({found}#{anchor})" if anchor else f"[{words}]({found})"

        self._file(target).write_text(adapted(text, lead), encoding="utf-8")

    def _file(self, target: str) -> Path:
        path = self.folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def clear(self) -> None:
        """Begin anew."""
        shutil.rmtree(self.folder, ignore_errors=True)


def adapted(text: str, lead: Callable[[str, str], str]) -> str:
    """A page for Python-Markdown, which wants blank lines before lists and its own anchors.

    Args:
        text: Markdown as GitHub reads it.
        lead: a link as it is on the site, from its words and where it leads.
    """
    text = _ANCHOR.sub(r"\2 { #\1 }", text)
    return "\n".join(_lines(text, lead)) + "\n"


def _lines(text: str, lead: Callable[[str, str], str]) -> Iterator[str]:
    fence, before, in_list = "", "", False
    for line in text.splitlines():
        found = FENCE.match(line)
        if fence:
            fence = "" if line.strip() == fence else fence
        elif found:
            fence = found[1]
        else:
            item = _ITEM.match(line)
            if item and before and not in_list:
                yield ""
            in_list = bool(item) or (in_list and (not line or line.startswith("  ")))
            if in_list:  # four spaces where GitHub takes two or three
                deep = len(line) - len(line.lstrip(" "))
                line = " " * (deep * 2 if item else deep) + line.lstrip(" ")
            line = _LINK.sub(
                lambda match: match[0] if match[1] else lead(*match.groups()[1:]), line
            )
            line = line.replace("\\<", "&lt;")
        yield line
        before = line


def _listed(folder: Path) -> str:
    """What can be read in a folder, as links."""
    known = {".md", ".txt", ".yaml", ".json", ".py", *_PICTURES}
    names = sorted(path.name for path in folder.iterdir() if path.suffix in known)
    return "\n".join([f"# {folder.name}", *(f"- [{name}]({name})" for name in names)])


def _shown(name: str, text: str) -> str:
    """A file that is no page, with the numbers of its lines."""
    kind = {".yaml": "yaml", ".cff": "yaml", ".json": "json", ".py": "python"}
    language = kind.get(Path(name).suffix, "text")
    return f'# {Path(name).name}\n`{name}`\n\n``` {{ .{language} #file linenums="1" }}\n{text}```\n'
