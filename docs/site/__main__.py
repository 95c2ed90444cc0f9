"""``make site``: the pages of this repository and one for each adapter, as a site in out/site.

``SITE_URL`` is its address and ``SITE_REPOSITORY`` the repository's, where they are known.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from cachedit_yaml.registry.entry import Entry
from cachedit_yaml.registry.registry import Registry
from docs.site.families import family, overview, path_of, read_proofs
from docs.site.pages import MEASURED, PARTS, ROOT, Stage

HERE: Final = Path(__file__).parent
OUT: Final = ROOT / "out"


def adapters() -> list[Entry]:
    """The adapters that ship, and that of the demo, whose settings were measured."""
    found = Registry.load([ROOT / name for name in MEASURED], environ={}).adapters()
    return sorted(
        (entry for entry in found if entry.kind in ("shipped", "argument")),
        key=lambda entry: entry.name,
    )


def stage(folder: Path) -> list[dict[str, object]]:
    """Write all pages.

    Returns:
        The navigation.
    """
    pages = Stage(folder)
    pages.clear()
    proofs = read_proofs((ROOT / "docs" / "models.md").read_text(encoding="utf-8"))
    entries = adapters()
    models: dict[str, str] = {"Families": "families/index.md"}
    for entry in entries:
        models[entry.name] = f"families/{entry.path.stem}.md"
        pages.write(models[entry.name], family(entry, proofs), path_of(entry))
    pages.write("families/index.md", overview(entries, proofs), "adapters/index.md")
    found = {
        title: {name: pages.add(file) for name, file in files.items()}
        for title, files in PARTS.items()
    }
    found["Models"] = models
    (folder / "extra.css").write_bytes((HERE / "extra.css").read_bytes())
    return [
        {title: [{name: place} for name, place in places.items()]}
        for title, places in found.items()
    ]


def configure(config: Path, navigation: object) -> None:
    """Write Zensical's config."""
    known = {"site_url": "SITE_URL", "repo_url": "SITE_REPOSITORY"}
    more = {key: os.environ[name] for key, name in known.items() if os.environ.get(name)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in more.items()]
    # A list of one-key tables: JSON but for the colons.
    lines.append(f"nav = {_toml(navigation)}")
    text = (HERE / "zensical.toml").read_text(encoding="utf-8")
    config.write_text("\n".join(["[project]", *lines, text.partition("\n")[2]]), encoding="utf-8")


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}"
    return json.dumps(value)


def build(config: Path) -> list[str]:
    """Run Zensical.

    Returns:
        What it warned of; empty where the site stands.
    """
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "-f", str(config)]
    done = subprocess.run(command, capture_output=True, text=True)
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    places = re.findall(r"^Warning: (.+)\n.*?\[ (.+?) \]", said, re.MULTILINE)
    found = [f"{place}: {what}" for what, place in places]
    return found or ([said] if done.returncode or "Warning" in said else [])


def main() -> int:
    """Build the site.

    Returns:
        0, or 1 where a warning was said.
    """
    config = OUT / "zensical.toml"
    configure(config, stage(OUT / "site-pages"))
    found = build(config)
    print(*found or [f"wrote {OUT / 'site'}"], sep="\n", file=sys.stderr if found else sys.stdout)
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
