"""The shipped adapters stay short: one file for each model, and nothing said twice."""

from __future__ import annotations

import json
import re
import statistics
from collections import defaultdict
from dataclasses import fields
from pathlib import Path

import cachedit_yaml
from cachedit_yaml.language.cache_spec import CacheSettings, Profile, StepDefaults

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "adapters"
TEXTS = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.stem != "defaults"
}
#: Keys whose values are numbers of the cache, or lead to some.
SETTINGS = {item.name for cls in (CacheSettings, Profile, StepDefaults) for item in fields(cls)}
SETTINGS |= {"cache", "steps", "profiles", "params"}
SETTINGS -= {"description"}


def test_one_file_for_each_model() -> None:
    assert len(TEXTS) <= 110
    # In one folder, beside their probes.
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == {"probes"}
    assert {entry.name for entry in cachedit_yaml.list_adapters()} >= set(TEXTS)


def test_adapters_are_short() -> None:
    sizes = sorted(text.count("\n") for text in TEXTS.values())
    assert statistics.median(sizes) <= 10
    assert statistics.quantiles(sizes, n=10)[-1] <= 18


def test_nothing_is_squeezed() -> None:
    long = [
        f"{name}:{number}"
        for name, text in TEXTS.items()
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > 120
    ]
    assert long == []


def test_numbers_stand_once() -> None:
    """No line of settings stands in more than five adapters: what many say is a default."""
    adapters: dict[str, set[str]] = defaultdict(set)
    for name, text in TEXTS.items():
        for line in text.splitlines():
            bare = re.sub(r"(^|\s)#.*", "", line).strip().removeprefix("- ")
            keys = set(re.findall(r"[A-Za-z_]+(?=:)", bare))
            # `profiles:` alone says nothing yet.
            if keys & SETTINGS and not bare.endswith(":"):
                adapters[bare].add(name)
    assert adapters
    assert {line: names for line, names in adapters.items() if len(names) > 5} == {}


def test_the_editor_finds_the_schemas_by_itself() -> None:
    """No shipped file needs a first line for it: `.vscode/settings.json` says where they lie."""
    settings = json.loads((ROOT / ".vscode" / "settings.json").read_text(encoding="utf-8"))
    files = [*FOLDER.rglob("*.yaml"), *(ROOT / "cachedit_yaml" / "generating").rglob("*.yaml")]
    for path in files:
        assert "yaml-language-server" not in path.read_text(encoding="utf-8"), path
        # As in the editor, the last pattern that fits decides.
        found = []
        for schema, patterns in settings["yaml.schemas"].items():
            fitting = [item for item in patterns if fits(path, item.lstrip("!"))]
            found += [schema] if fitting and not fitting[-1].startswith("!") else []
        kind = {"probes": "probe", "defaults": "defaults"}
        wanted = kind.get(path.parent.name) or kind.get(path.stem, "adapter")
        assert found == [f"./schemas/{wanted}.v1.schema.json"], path
        assert (ROOT / found[0]).is_file()


def fits(path: Path, pattern: str) -> bool:
    """Whether a file lies where a pattern says; `*` matches no slash."""
    return path.parent == (ROOT / pattern).parent and path.match(Path(pattern).name)


def test_probes_and_adapters_belong_together() -> None:
    """Every probe has its adapter and its engines; every view that is cached has a probe."""
    entries = {
        entry.name: entry for entry in cachedit_yaml.list_adapters() if entry.kind == "shipped"
    }
    probes = {path.stem for path in (FOLDER / "probes").iterdir()}
    assert probes <= set(entries)
    for name, entry in entries.items():
        for engine in entry.engines:
            refused = entry.spec_for(engine).refuse is not None
            assert (entry.probe(engine) is None) == refused, f"{name} for {engine}"
