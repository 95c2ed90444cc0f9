"""Text of a stranger's file, or of its name, is text: on a terminal, in a log, in every format."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from cachedit_yaml import enable
from cachedit_yaml.cli import main
from cachedit_yaml.errors import CacheditYamlError
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.yaml.diagnostics import plain
from tests.work import counted

ROOT = Path(__file__).parents[2]
HEAD = (
    "schema: 1\npipelines: [AbcPipeline]\ntransformers: {transformer: {blocks: {b: Pattern_3}}}\n"
)
EVIL = "x\n::error file=README.md::FORGED\r\x1b[31mRED\u202e\u2028##[add-mask]\x9b2J\u200b\x07"
QUOTED = json.dumps(EVIL)
#: Where text of a file stands.
PLACES = {
    "value": HEAD + f"steps: {QUOTED}\n",
    "key": HEAD + f"{QUOTED}: 1\n",
    "description": HEAD + f"description: {QUOTED}\n",
    "refuse": f"schema: 1\npipelines: [AbcPipeline]\nrefuse: {QUOTED}\n",
    "pipelines": HEAD.replace("[AbcPipeline]", f"[{QUOTED}]"),
    "models": HEAD + f"models: [{QUOTED}]\n",
    "extends": HEAD + f"extends: {QUOTED}\n",
    "name": HEAD + f"name: {QUOTED}\n",
    "profile": HEAD + f"profiles: {{{QUOTED}: {{description: {QUOTED}}}}}\n",
    "measured": HEAD + f"cache: {{measured: {{model: {QUOTED}}}}}\n",
    "set": HEAD + f"set: {{_cache_dit_x: {QUOTED}}}\n",
    "path": HEAD.replace("{b:", f"{{{QUOTED}:"),
    "requires": HEAD + f"requires: {{{QUOTED}: {QUOTED}}}\n",
    "probe": HEAD + f"probe: {{skip: {QUOTED}, parts: {{{QUOTED}: {QUOTED}}}}}\n",
}
COMMANDS = {
    "validate": ["validate"],
    "json": ["validate", "--format", "json"],
    "sarif": ["validate", "--format", "sarif"],
    "junit": ["validate", "--format", "junit"],
    "github": ["validate", "--format", "github"],
    "explain": ["explain"],
    "explain-json": ["explain", "--format", "json"],
    "show": ["show"],
    "show-json": ["show", "--format", "json"],
    "list": ["list"],
    "list-json": ["list", "--format", "json"],
    "list-names": ["list", "--format", "names"],
}


def assert_harmless(text: str, own: bool = False) -> None:
    """Nothing of it does anything.

    Args:
        text: what was printed.
        own: whether commands of ours for GitHub's runner are among it.
    """
    shown = [char for char in text if not char.isprintable() and char not in "\n\t"]
    assert shown == [], sorted(set(shown))
    assert "##[" not in text
    for line in text.split("\n"):
        assert not line.lstrip().startswith("::") or (own and "title=CY" in line), line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", PLACES)
def test_text_of_a_file(
    place: str,
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    path = tmp_path / "a.yaml"
    path.write_text(PLACES[place], encoding="utf-8")
    main([*COMMANDS[command], str(path)])
    out, err = capsys.readouterr()
    assert_harmless(out, own=COMMANDS[command][0] == "validate")
    assert_harmless(err)
    if command.endswith("json"):
        json.loads(out) if out else None


@pytest.mark.skipif(os.name == "nt", reason="names of files there hold no such characters")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "name", ["::error::x.yaml", "a\n::error ::x.yaml", "\x1b[31m\u202e.yaml", "##[error]x.yaml",
             os.fsdecode(b"\xff\xfe.yaml")],
)  # fmt: skip
@pytest.mark.parametrize("content", [HEAD, HEAD + "bogus: 1\n"])
def test_names_of_files(
    content: str,
    name: str,
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content, encoding="utf-8")
    main([*COMMANDS[command], *(["--"] if command == "validate" else []), name])
    main(["--adapters", str(tmp_path), *COMMANDS[command][:1], "./" + name])
    out, err = capsys.readouterr()
    assert_harmless(out, own=COMMANDS[command][0] == "validate")
    assert_harmless(err)


def test_names_that_are_in_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        [EVIL], ["show", EVIL], ["explain", EVIL], ["list", EVIL], ["validate", EVIL],
        ["validate", "--explain", EVIL], ["check", "flux", "--only", EVIL], ["explain", "flux",
        "--profile", EVIL], ["explain", "flux", "--set", f"{EVIL}={EVIL}"], ["show", "--" + EVIL],
        ["validate", "--output", f"/nowhere/{EVIL}"], ["doctor", "--pipeline", EVIL],
    ):  # fmt: skip
        assert main(arguments) != 0
        assert_harmless("".join(capsys.readouterr()))


def test_errors_that_python_raises() -> None:
    registry = Registry.load()
    for text in PLACES.values():
        with pytest.raises(CacheditYamlError) as caught:
            registry.get(text + "bogus: 1\n")
        assert "FORGED\n" not in str(caught.value)
        assert_harmless(str(caught.value))


@pytest.mark.libraries
def test_errors_and_texts_of_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `enable` raises, and what a handle says: names and texts of a file are in it."""
    import torch

    class Block(torch.nn.Module):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return hidden_states

    transformer = torch.nn.Module()
    transformer.b = torch.nn.ModuleList(Block() for _ in range(3))
    pipe = SimpleNamespace(transformer=transformer)
    monkeypatch.chdir(tmp_path)
    name = Path("\n::error ::x\x1b[31m\u202e##[a].yaml" if os.name != "nt" else "a.yaml")
    refused = f"schema: 1\npipelines: [AbcPipeline]\nrefuse: {QUOTED}\n"
    for text in (
        refused,
        HEAD.replace("transformer:", "gone:"),
        HEAD + "requires: {torch: '>=99'}\n",
    ):
        name.write_text(text, encoding="utf-8")
        with pytest.raises(CacheditYamlError) as caught:
            enable(pipe, name)
        assert_harmless(str(caught.value))
    name.write_text(HEAD + "cache: {max_warmup_steps: 2}\n", encoding="utf-8")
    with enable(pipe, name) as handle:
        assert_harmless(handle.explain())
        assert_harmless(str(handle.stats()))


def test_plain() -> None:
    assert plain("Größe 模型 \\n it's") == "Größe 模型 \\n it's"
    assert plain(plain(EVIL)) == plain(EVIL)
    assert plain("  ::group::") == r"  :\x3agroup::"


# --- names and paths of any length ---

LONG = ("x" * 300, "x" * 5000, "x/" * 3000, "~nosuchuser/" + "x" * 300, "a\0b", "a/\0.yaml")


@pytest.mark.parametrize("text", [*LONG, "~nosuchuser/a.yaml", "~nosuchuser"])
@pytest.mark.parametrize("command", ["show", "explain", "validate", "list"])
def test_arguments_of_any_length(
    command: str, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([command, text]) == 2
    assert main(["--adapters", text, command, "flux"]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    if "\0" not in text:
        monkeypatch.setenv("CACHEDIT_YAML_PATH", text)
        assert main([command, "flux"]) == 0


@pytest.mark.parametrize("suffix", ["", ".yaml"])
@pytest.mark.parametrize("text", LONG)
def test_one_odd_file_does_not_cost_the_findings_of_the_others(
    text: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extends = json.dumps(text + suffix)
    (tmp_path / "a.yaml").write_text(HEAD + f"extends: {extends}\n", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("schema: 1\nbogus: 1\n", encoding="utf-8")
    os.symlink("c.yaml", tmp_path / "c.yaml")
    (tmp_path / "d.yaml").mkdir()
    assert main(["validate", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    for expected in ("a.yaml:4:10: error[", "c.yaml:1:1: error[unreadable]", "b.yaml:2:1: error["):
        assert expected in out


def test_no_path_method_raises_for_what_a_path_is_called() -> None:
    """The functions of ``os.path`` say no where those of ``Path`` raise."""
    rooms = ("language", "rules", "registry", "cli")
    files = [file for room in rooms for file in (ROOT / "cachedit_yaml" / room).rglob("*.py")]
    assert len(files) > 50
    own = {"defaults.py", "schemas.py", "page.py"}  # places of this package
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and file.name not in own:
                assert node.attr not in {
                    "exists",
                    "is_file",
                    "is_dir",
                    "is_symlink",
                    "expanduser",
                } or (isinstance(node.value, ast.Attribute) and node.value.attr == "path"), (
                    f"{file}:{node.lineno}"
                )


def test_long_names_cost_no_search() -> None:
    calls = []
    for length in (5000, 5000, 10_000, 10_000):  # twice: the first may read what is kept
        with counted() as work:
            main(["show", "x" * length])
        calls.append(work.calls)
    assert min(calls[2:]) < 1.5 * min(calls[:2])


# --- links ---

#: What may lie elsewhere, and is nobody's business. Each holds the word.
SECRETS = (
    "TOKEN=hunter2\n", "hub:\n  token: hunter2\n", "hunter2", "a: 'hunter2\n", "- hunter2\n",
    "machine x login y password hunter2\n", "[core]\n\turl = hunter2\n", "hunter2: {a: 1}\n",
    "pipelines: hunter2\n", "extends: hunter2\n", "cache_backend: hunter2\ncache_config: {}\n",
)  # fmt: skip
READING = (
    ["validate"], ["validate", "--format", "json"], ["validate", "--format", "sarif"],
    ["validate", "--fix"], ["show"], ["explain"],
)  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_nothing_is_shown_of_what_a_link_or_extends_leads_to(
    secret: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "secret.yml").write_text(secret, encoding="utf-8")
    folder = tmp_path / "adapters"
    for place in (folder, folder / "probes"):
        place.mkdir()
        (place / "link.yaml").symlink_to(tmp_path / "home" / "secret.yml")
    (folder / "base.yaml").write_text(HEAD + "extends: ../home/secret.yml\n", encoding="utf-8")
    for command in READING:
        for name in ("link.yaml", "base.yaml", "."):
            assert main([*command, str(folder / name)]) != 0
    main(["--adapters", str(folder), "list"])
    main(["--adapters", str(folder), "doctor", "--pipeline", "AbcPipeline"])
    out, err = capsys.readouterr()
    assert "link.yaml:1:1: error[unreadable]: the file is a link out of its folder" in out
    assert "there is no adapter" in out
    assert "hunter2" not in out + err


def test_an_adapter_behind_a_link_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "a.yaml").write_text(HEAD, encoding="utf-8")
    (tmp_path / "mine" / "a.yaml").symlink_to("../a.yaml")
    (tmp_path / "mine" / "b.yaml").write_text(
        HEAD.replace("Abc", "Xyz") + "extends: ../a.yaml\n", encoding="utf-8"
    )
    assert main(["validate", str(tmp_path / "mine")]) == 0
    # As huggingface_hub keeps what it has downloaded.
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (tmp_path / "models--a--b" / "blobs").mkdir()
    (tmp_path / "models--a--b" / "blobs" / "1").write_text("schema 1\n", encoding="utf-8")
    (snapshot / "cachedit.yaml").symlink_to("../../blobs/1")
    assert main(["validate", str(snapshot)]) == 1
    assert "cachedit.yaml:1:1: error[not-yaml]: the file holds text" in capsys.readouterr().out


def test_what_is_written_follows_no_link_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "old").write_text("mine", encoding="utf-8")
    os.symlink("../old", "report.json")
    os.symlink("../new", "new.json")
    for name, why in (
        ("report.json", "it is a link out of its folder"),
        ("new.json", "it is a link to ../new, which does not exist"),
    ):
        assert main(["validate", "flux", "--format", "json", "--output", name]) == 2
        assert why in capsys.readouterr().err
    assert (tmp_path / "old").read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "new").exists()
    os.symlink("inside.json", "link.json")
    Path("inside.json").write_text("{}", encoding="utf-8")
    assert main(["validate", "flux", "--format", "json", "--output", "link.json"]) == 0
    assert json.loads(Path("inside.json").read_text(encoding="utf-8"))["version"] == 1
    if os.path.exists("/dev/stdout"):
        assert main(["validate", "flux", "--format", "json", "--output", "/dev/null"]) == 0


@pytest.mark.libraries
@pytest.mark.parametrize("text", ["[" * 200_000, '{"_class_name": ' + "[" * 200_000, "[", "[1]"])
def test_json_of_any_depth(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model_index.json").write_text(text, encoding="utf-8")
    path = str(tmp_path / "model_index.json")
    for command in (
        ["explain", "--model", str(tmp_path)],
        ["run", "--model", str(tmp_path), "--prompt", "a"],
        ["coverage", "--no-proof", "--merge", path],
    ):
        assert main(command) == 2
        assert "error: " in capsys.readouterr().err
