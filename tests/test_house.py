"""The rooms of the package: what stands at its top, and what only an engine's room may say.

That no room imports from one above it, and that nothing imports in a circle, keeps import-linter.
"""

from __future__ import annotations

import re
from pathlib import Path

import cachedit_yaml
from cachedit_yaml.engines import NAMES, engine_of, engines
from cachedit_yaml.language.schemas import load

PACKAGE = Path(cachedit_yaml.__file__).parent
ENGINES = PACKAGE / "engines"
#: Everything that ships with the code, but the adapters and schemas, which lie beside it.
SUFFIXES = (".py", ".yaml", ".typed")
#: Lines that a module may have.
LONGEST = 300


def outside() -> list[Path]:
    found = [path for path in PACKAGE.rglob("*") if path.suffix in SUFFIXES]
    shipped = (ENGINES, PACKAGE / "adapters", PACKAGE / "schemas")
    return [path for path in found if not any(path.is_relative_to(room) for room in shipped)]


def test_the_top_is_nearly_empty() -> None:
    files = {path.name for path in PACKAGE.glob("*.py")}
    assert files == {"__init__.py", "__main__.py", "api.py", "errors.py"}


def test_a_module_is_read_in_one_sitting() -> None:
    files = list(PACKAGE.rglob("*.py"))
    assert len(files) > 300
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for path in files}
    assert not {str(path.relative_to(PACKAGE)): n for path, n in lengths.items() if n > LONGEST}


def test_only_the_engines_rooms_name_engines() -> None:
    """But diffusers and cache-dit, on which everything is built."""
    files = outside()
    assert len(files) > 120
    said = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search("vllm|omni|sglang", line, re.IGNORECASE)
    ]
    assert not said, "\n".join(said)


def test_the_schemas_know_every_engine() -> None:
    for kind in ("adapter", "defaults"):
        assert set(load(kind)["properties"]["engines"]["properties"]) == set(NAMES), kind
    probes = {item.name for item in engines() if item.class_index}
    assert set(load("probe")["properties"]) == {"schema", *probes}


def test_each_engine_is_a_folder_and_a_line() -> None:
    folders = {path.parent.name for path in ENGINES.glob("*/engine.py")}
    assert folders == set(NAMES)
    assert [item.name for item in engines()] == list(NAMES)
    for item in engines():
        cls = type("A", (), {"__module__": f"{item.packages[0]}.models.a"})
        assert engine_of(cls) == item.name
        for module, says in (
            ("files", bool(item.configs)),
            ("probe", bool(item.class_index)),
            ("against", bool(item.class_index)),
        ):
            assert (ENGINES / item.name / f"{module}.py").is_file() == says
    assert engine_of(type("B", (), {"__module__": "somewhere"})) is None
