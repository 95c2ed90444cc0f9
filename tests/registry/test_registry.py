"""Finding adapters: places, precedence, matching, conflicts, broken files."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cachedit_yaml.errors import AdapterConflictError, AdapterError, AdapterNotFoundError
from cachedit_yaml.language import defaults
from cachedit_yaml.language.defaults import shipped_folder
from cachedit_yaml.registry import registry as registry_module
from cachedit_yaml.registry import search_path
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.registry.search_path import Source, find_sources, yaml_files
from cachedit_yaml.yaml.diagnostics import Diagnostic
from tests import processes

#: Where PyYAML lies.
_PACKAGES = str(Path(yaml.__file__).parents[1])


def text(*pipelines: str, name: str = "", transformer: str = "", extra: str = "") -> str:
    head = f"schema: 1\n{f'name: {name}' if name else ''}\n"
    served = f"pipelines: [{', '.join(repr(p) for p in pipelines)}]\n" if pipelines else ""
    cls = f"class: [{transformer}], " if transformer else ""
    return f"{head}{served}transformers: {{t: {{{cls}blocks: {{b: Pattern_1}}}}}}\n{extra}"


def folder(path: Path, **files: str) -> Path:
    for name, content in files.items():
        target = path / f"{name.replace('__', '/')}.yaml"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    return path


def registry(*roots: Path) -> Registry:
    """A registry of these folders only, the weakest first."""
    return Registry([Source("argument", rank, root, "argument") for rank, root in enumerate(roots)])


def load(*extra: Path, environment: str = "") -> Registry:
    return Registry.load(extra=extra, environ={"CACHEDIT_YAML_PATH": environment})


def problems(found: Registry) -> list[Diagnostic]:
    """Sources that cannot be used, and every error of every file."""
    everything = [item for entry in found.entries for item in entry.diagnostics]
    return [*found.source_problems, *(item for item in everything if item.severity == "error")]


# --- places ---


def test_shipped_adapters_are_found_and_right() -> None:
    shipped = shipped_folder()
    assert shipped is not None
    found = load()
    entries = [entry for entry in found.entries if entry.kind == "shipped"]
    assert len(entries) == len(yaml_files(shipped)) >= 1
    assert problems(found) == []
    assert found.conflicts() == []


def test_files_of_a_folder(tmp_path: Path) -> None:
    folder(tmp_path, b="", a="", sub__deep__c="", _d="")
    folder(tmp_path / "__pycache__", e="")
    (tmp_path / "f.yml").touch()
    (tmp_path / "g.txt").touch()
    (tmp_path / ".hidden.yaml").touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "h.yaml").touch()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    names = [str(path.relative_to(tmp_path)) for path in yaml_files(tmp_path)]
    deep = os.path.join("sub", "deep", "c.yaml")
    assert names == ["_d.yaml", "a.yaml", "b.yaml", "f.yml", deep]
    assert yaml_files(tmp_path / "g.txt") == [tmp_path / "g.txt"]


def test_environment(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", a=text("A"))
    two = folder(tmp_path / "two", b=text("B")) / "b.yaml"
    found = load(environment=os.pathsep.join([str(one), "", str(two), str(tmp_path / "none")]))
    assert {e.name for e in found.entries if e.kind == "environment"} == {"a", "b"}
    assert len(found.source_problems) == 1
    assert "none' does not exist" in found.source_problems[0].message
    assert found.source_problems[0].severity == "warning"


def test_environment_is_that_of_the_process_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEDIT_YAML_PATH", str(folder(tmp_path, mine=text("Mine"))))
    assert Registry.load().match_pipeline("Mine").entry.kind == "environment"


def test_an_argument_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(AdapterNotFoundError, match="no such file or folder"):
        load(tmp_path / "none")


def test_one_file_in_two_places_counts_once(tmp_path: Path) -> None:
    root = folder(tmp_path, a=text("A"))
    found = registry(root, root / "a.yaml")
    assert [entry.source.rank for entry in found.entries] == [1]
    assert found.match_pipeline("A").overridden == []


# --- entry points ---


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on sys.path with a distribution that brings adapters."""
    site = tmp_path / "site"
    info = site / "brings_adapters-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brings-adapters\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[cachedit_yaml.adapters]\ngood = brings_adapters.yamls\nbad = not_there_at_all\n"
        "module = brings_module\n"
    )
    package = site / "brings_adapters"
    folder(package / "yamls", theirs=text("TheirPipeline"))
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    (site / "brings_module.py").write_text("raise RuntimeError('must not be imported')\n")
    monkeypatch.syspath_prepend(str(site))
    yield site
    assert "brings_adapters" not in sys.modules


def test_entry_points_without_import(installed: Path) -> None:
    found = load()
    match = found.match_pipeline("TheirPipeline")
    assert match.entry.kind == "entry-point"
    assert match.entry.source.label == "entry point good"
    messages = sorted((item.message for item in found.source_problems), reverse=True)
    assert len(messages) == 2
    assert "there is no package 'not_there_at_all'" in messages[0]
    assert "not a package with a folder" in messages[1]
    assert {item.severity for item in found.source_problems} == {"warning"}


def test_the_user_wins_over_packages(installed: Path, tmp_path: Path) -> None:
    mine = folder(tmp_path / "mine", mine=text("TheirPipeline"))
    match = load(environment=str(mine)).match_pipeline("TheirPipeline")
    assert match.entry.kind == "environment"
    assert [entry.kind for entry in match.overridden] == ["entry-point"]
    assert match.note is not None
    assert "overrides" in match.note


def test_broken_metadata_of_others_is_a_warning(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    def broken(**_: object) -> None:
        raise ValueError("no metadata today")

    monkeypatch.setattr(importlib.metadata, "entry_points", broken)
    _, problems = find_sources(environ={})
    (problem,) = [item for item in problems if "no metadata today" in item.message]
    assert problem.key_path == ("entry points",)


@pytest.mark.parametrize(
    ("kind", "group", "imported"),
    [
        ("a-1.0.dist-info", "cachedit_yaml.adapters", True),
        ("a-1.0.DIST-INFO", "cachedit_yaml.adapters", True),
        ("a.egg-info", "cachedit_yaml.adapters", True),
        ("a-1.0.dist-info", "console_scripts", False),
        ("a-1.0.egg/EGG-INFO", "cachedit_yaml.adapters", True),
        ("a-1.0.zip", "cachedit_yaml.adapters", True),
        ("a.py", "cachedit_yaml.adapters", False),
    ],
)
def test_metadata_is_read_only_where_it_may_name_us(
    kind: str, group: str, imported: bool, tmp_path: Path
) -> None:
    """Reading the metadata takes long, and nearly no environment has such a package."""
    names = f"[{group}]\nx = nothing_here\n"
    site = tmp_path / kind
    if site.suffix == ".zip":
        with zipfile.ZipFile(site, "w") as archive:
            archive.writestr("a-1.0.dist-info/METADATA", "Name: a\nVersion: 1.0\n")
            archive.writestr("a-1.0.dist-info/entry_points.txt", names)
    elif site.suffix == ".py":
        site.write_text(names)
    else:
        site.mkdir(parents=True)
        (site / "entry_points.txt").write_text(names)
        (site / "METADATA").write_text("Metadata-Version: 2.1\nName: a\nVersion: 1.0\n")
    root = site if site.suffix == ".zip" else tmp_path
    code = (
        "import sys, cachedit_yaml.registry.search_path as s\n"
        "_, found = s.find_sources(environ={});"
        "print('importlib.metadata' in sys.modules, any('nothing_here' in str(f) for f in found))"
    )
    home = str(Path(__file__).parents[2])
    done = subprocess.run(
        # Without what an environment runs at the start, which may read metadata itself.
        [sys.executable, "-S", "-c", f"import sys; sys.path.append({_PACKAGES!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([home, str(root)])},
    )
    named = imported and ".egg/" not in kind  # an egg counts only when it is on the path itself
    assert done.stdout.split() == [str(imported), str(named)]


# --- precedence and matching ---


class Base:
    pass


class Middle(Base):
    pass


class Leaf(Middle):
    pass


def test_own_name_then_bases_then_patterns(tmp_path: Path) -> None:
    root = folder(
        tmp_path, leaf=text("Leaf"), middle=text("Middle"), base=text("Base"), any=text("L*f", "*")
    )
    found = registry(root)
    assert (found.match_pipeline(Leaf).spec.name, found.match_pipeline(Leaf).how) == (
        "leaf",
        "exact",
    )
    (root / "leaf.yaml").unlink()
    found = registry(root)
    match = found.match_pipeline(Leaf)
    assert (match.spec.name, match.how, match.matched_name) == ("middle", "base", "Middle")
    assert match.note == "matched by its base class 'Middle'"
    (root / "middle.yaml").unlink()
    assert registry(root).match_pipeline(Leaf).matched_name == "Base"
    (root / "base.yaml").unlink()
    match = registry(root).match_pipeline(Leaf)
    assert (match.how, match.matched_name) == ("pattern", "L*f")
    assert registry(root).match_pipeline("Other").matched_name == "*"


def test_names_may_be_given_instead_of_a_class(tmp_path: Path) -> None:
    found = registry(folder(tmp_path, a=text("Base")))
    assert found.match_pipeline("Base").how == "exact"
    assert found.match_pipeline(["Leaf", "Base"]).how == "base"
    assert found.match_pipeline(("Leaf", "Middle", "Base")).matched_name == "Base"


def test_flux_does_not_catch_flux2(tmp_path: Path) -> None:
    found = registry(folder(tmp_path, flux=text("FluxPipeline"), any=text("Flux*Fill")))
    with pytest.raises(AdapterNotFoundError, match="nearest: FluxPipeline"):
        found.match_pipeline("Flux2Pipeline")


def test_the_stronger_source_wins_and_says_so(tmp_path: Path) -> None:
    weak = folder(tmp_path / "weak", a=text("A", name="same"))
    strong = folder(tmp_path / "strong", b=text("A", name="same"))
    match = registry(weak, strong).match_pipeline("A")
    assert match.entry.path == strong / "b.yaml"
    assert [entry.path for entry in match.overridden] == [weak / "a.yaml"]
    assert match.note is not None
    assert match.note.count("overrides") == 1
    assert registry(weak, strong).get("same").source == strong / "b.yaml"
    assert registry(strong, weak).get("same").source == weak / "a.yaml"


def test_an_exact_name_wins_over_the_pattern_of_a_stronger_source(tmp_path: Path) -> None:
    weak = folder(tmp_path / "weak", a=text("APipeline"))
    strong = folder(tmp_path / "strong", b=text("*Pipeline"))
    assert registry(weak, strong).match_pipeline("APipeline").spec.name == "a"


def test_conflicts_name_both_files_and_lines(tmp_path: Path) -> None:
    root = folder(tmp_path, one=text("X", "A"), two=text("A", name="second"), three=text("B"))
    found = registry(root)
    with pytest.raises(AdapterConflictError) as caught:
        found.match_pipeline("A")
    assert "one.yaml:3:18" in str(caught.value)
    assert "two.yaml:3:13" in str(caught.value)
    assert found.match_pipeline("B").spec.name == "three"
    (item,) = found.conflicts()
    assert item.code == "conflict"
    assert item.span is not None
    assert (Path(item.span.path).name, item.span.line) == ("two.yaml", 3)
    assert Path(item.related[0][1].path).name == "one.yaml"


def test_conflicts_of_names_and_patterns(tmp_path: Path) -> None:
    found = registry(folder(tmp_path, one=text("AB*", name="n"), two=text("A*B", name="n")))
    with pytest.raises(AdapterConflictError, match="have the name 'n'"):
        found.get("n")
    with pytest.raises(AdapterConflictError, match=r"one\.yaml:3:13\n.*two\.yaml:3:13"):
        found.match_pipeline("ABxB")
    assert found.match_pipeline("AxB").spec.pipelines == ("A*B",)


def test_transformers(tmp_path: Path) -> None:
    variants = """\
schema: 1
transformers:
  t:
    variants:
      - {class: [FluxT], blocks: {a: Pattern_1}}
      - {class: [Flux2T], blocks: {b: Pattern_1}}
"""
    found = registry(folder(tmp_path, a=text("P", transformer="Base"), b=variants))
    assert found.match_transformer(Leaf).how == "base"
    assert found.match_transformer("Flux2T").spec.name == "b"
    with pytest.raises(AdapterNotFoundError, match="no adapter for the transformer class 'P'"):
        found.match_transformer("P")


def test_what_is_inherited_is_not_claimed(tmp_path: Path) -> None:
    child = "schema: 1\nextends: base\npipelines: [ChildPipeline]\n"
    root = folder(tmp_path, base=text("BasePipeline", transformer="T"), child=child)
    found = registry(root)
    assert found.match_transformer("T").spec.name == "base"
    assert found.match_pipeline("BasePipeline").spec.name == "base"
    assert found.match_pipeline("ChildPipeline").spec.transformers["t"].transformer_class == ("T",)


def test_not_found_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    found = registry(folder(tmp_path, a=text("WanPipeline")))
    with pytest.raises(AdapterNotFoundError) as caught:
        found.match_pipeline(["WnPipeline", "DiffusionPipeline"])
    message = str(caught.value)
    assert "'WnPipeline' (derived from DiffusionPipeline)" in message
    assert "nearest: WanPipeline" in message
    assert str(tmp_path) in message
    assert "pipelines: [WnPipeline]" in message
    with pytest.raises(AdapterNotFoundError, match="no place at all"):
        Registry([]).match_pipeline("A")


# --- names and paths ---


def test_get(tmp_path: Path) -> None:
    root = folder(tmp_path, a=text("A"), b=text("B", name="other-name"))
    found = registry(root)
    assert found.get("a").name == "a"
    assert found.get("other-name").source == root / "b.yaml"
    assert found.get(str(root / "b.yaml")).name == "other-name"
    assert found.get(root / "a.yaml").name == "a"
    assert found.get(text("A")).source is None
    assert found.get({"schema": 1, "extends": "a", "pipelines": ["C"]}).transformers
    with pytest.raises(AdapterNotFoundError, match="nearest: other-name"):
        found.get("other-nam")
    with pytest.raises(AdapterNotFoundError, match="no such file or folder"):
        found.get("some/where.yaml")
    with pytest.raises(AdapterError, match="a folder"):
        found.get(tmp_path)


def test_adapters_are_listed_by_name(tmp_path: Path) -> None:
    found = registry(folder(tmp_path, b=text("B"), a=text("A"), c=text("C", name="Aa")))
    assert [entry.name for entry in found.adapters()] == ["a", "Aa", "b"]
    assert repr(found.adapters()[0]).startswith("Entry('a', argument")


# --- extends by name ---


def test_a_user_may_extend_the_shipped_adapter_of_the_same_name(tmp_path: Path) -> None:
    shipped = folder(tmp_path / "shipped", flux=text("F", extra="cache: {max_warmup_steps: 8}\n"))
    child = "schema: 1\nextends: flux\npipelines: [F]\ncache: {Fn_compute_blocks: 2}\n"
    user = folder(tmp_path / "user", flux=child)
    spec = registry(shipped, user).match_pipeline("F").spec
    assert (spec.cache.max_warmup_steps, spec.cache.Fn_compute_blocks) == (8, 2)


def test_a_user_does_not_change_what_shipped_adapters_extend(tmp_path: Path) -> None:
    shipped = folder(
        tmp_path / "shipped", base=text("B"), child="schema: 1\nextends: base\npipelines: [C]\n"
    )
    user = folder(tmp_path / "user", base=text("B").replace("Pattern_1", "Pattern_2"))
    spec = registry(shipped, user).get("child")
    assert spec.transformers["t"].blocks is not None
    assert spec.transformers["t"].blocks["b"].pattern == "Pattern_1"


def test_the_neighbours_of_a_file_can_be_extended_by_name(tmp_path: Path) -> None:
    root = folder(tmp_path, base=text("B"), child="schema: 1\nextends: base\npipelines: [C]\n")
    assert Registry([]).get(root / "child.yaml").transformers
    with pytest.raises(AdapterError, match="no adapter is called 'basement'"):
        registry(folder(tmp_path, bad="schema: 1\nextends: basement\n")).get("bad")


# --- broken files ---


def test_a_broken_file_stops_only_those_who_want_it(tmp_path: Path) -> None:
    root = folder(
        tmp_path,
        good=text("Good"),
        wrong=text("Wrong", extra="cache: {scm: x}\n"),
        syntax="schema: 1\npipelines: [Syntax]\n\tname: x\n",
        newer="schema: 9\npipelines: [Newer]\n",
    )
    found = registry(root)
    assert found.match_pipeline("Good").spec.name == "good"
    with pytest.raises(AdapterError, match="wrong-value"):
        found.match_pipeline("Wrong")
    with pytest.raises(AdapterError, match="a tab"):
        found.match_pipeline("Syntax")
    with pytest.raises(AdapterError, match="reads version 1"):
        found.match_pipeline("Newer")
    with pytest.raises(AdapterError, match="a tab"):
        found.get("syntax")
    with pytest.raises(AdapterNotFoundError, match=r"not readable: .*syntax\.yaml"):
        found.match_pipeline("Unknown")
    assert sorted(item.code for item in problems(found)) == [
        "schema-version",
        "syntax",
        "wrong-value",
    ]


def test_a_broken_file_of_a_stronger_source_is_not_passed_over(tmp_path: Path) -> None:
    weak = folder(tmp_path / "weak", a=text("A"))
    strong = folder(tmp_path / "strong", a=text("A", extra="oops: 1\n"))
    with pytest.raises(AdapterError, match="oops"):
        registry(weak, strong).match_pipeline("A")


@pytest.mark.parametrize(
    "content",
    [
        "pipelines: 3\ntransformers: []\n",
        "transformers: {t: {variants: 3, class: {}}}\n",
        "name: [x]\npipelines: [[A], 3]\n",
        "transformers: {t: 1}\n",
    ],
)
def test_strange_files_do_not_stop_the_index(tmp_path: Path, content: str) -> None:
    found = registry(folder(tmp_path, strange=content, good=text("Good")))
    assert found.match_pipeline("Good").spec.name == "good"
    assert problems(found)


# --- speed and weight ---


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import cachedit_yaml.registry.registry as r; "
        "[entry.diagnostics for entry in r.Registry.load(environ={}).entries]"
    )
    assert processes.heavy(code) == ("", [])


def test_a_registry_is_kept_until_a_file_or_the_defaults_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = folder(tmp_path / "shipped", defaults="schema: 1\ncache: {max_warmup_steps: 3}\n")
    for module in (defaults, search_path, registry_module):
        monkeypatch.setattr(module, "shipped_folder", lambda: shipped)
    mine = folder(tmp_path / "mine", a=text("A"))
    found = load(mine)
    assert found.get("a").cache.max_warmup_steps == 3
    assert load(mine) is found
    folder(shipped, defaults="schema: 1\ncache: {max_warmup_steps: 12}\n")
    assert load(mine).get("a").cache.max_warmup_steps == 12
    folder(mine, a=text("A", extra="cache: {max_warmup_steps: 1}\n"))
    assert load(mine).get("a").cache.max_warmup_steps == 1
