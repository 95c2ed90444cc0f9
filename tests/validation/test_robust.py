"""Whatever is on the disk, `validate` ends soon, with findings and without a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cachedit_yaml
from cachedit_yaml.cli import main
from tests import processes
from tests.golden import cases
from tests.permissions import modes_hold

ROOT = Path(cachedit_yaml.__file__).parents[1]
SHIPPED = sorted((ROOT / "adapters").rglob("*.yaml"))
HEAD = "schema: 1\npipelines: [MyPipeline]\ntransformers: {t: {blocks: {b: Pattern_1}}}\n"
PIECES = [
    "", " ", "  ", "\t", "\n", "\r\n", ":", ": ", "- ", "? ", "#", "&a ", "*a", "!x ", "<<: ", "[",
    "]", "{", "}", "'", '"', "|", ">", "%", "@", "\0", "\ufeff", "\u2028", "null", "~", "true",
    "yes", ".nan", "-.inf", "1e999", "9" * 40, "0x1", "1_0", "Pattern_9", "schema: 2", "*", "模型",
    "# cachedit-yaml: ignore[CY205] x", "ignore[", "extends: flux", "stages:", "cache_config:",
    "transformers:", "variants:", "when: not x", "class: [A]", "params:", "scm:", "mask: [1, 0]",
]  # fmt: skip
#: What the process may take at most, Python itself included.
MEMORY = 200 * 1024 * 1024
LIMITED = """
import re, sys
from cachedit_yaml.cli import main
code = main(["validate", "many"])
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
sys.stderr.write(f"took {{peak}} bytes")
sys.exit(code if peak < {memory} else 99)
"""


def validate_many(folder: Path) -> subprocess.CompletedProcess[str]:
    """Validate the folder `many` in a process that says how much memory it took."""
    return processes.run(
        [sys.executable, "-c", LIMITED.format(memory=MEMORY)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")


@settings(max_examples=300)
@given(st.data())
def test_mutations_of_every_shipped_adapter(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(SHIPPED))
    text = path.read_text(encoding="utf-8")
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.sampled_from([0, 0, 1, 3, 20, 200]))
        piece = data.draw(st.sampled_from(PIECES))
        if data.draw(st.booleans()):
            other = data.draw(st.integers(0, len(text)))
            piece += text[other : other + length]
        text = text[:start] + piece + text[start + length :]
    case = cases.Case(files={"a.yaml": text.encode("utf-8", "replace")})
    form = data.draw(st.sampled_from(["human", "json", "sarif", "github", "junit"]))
    code, out = cases.run(case, "--format", form)
    assert code in (0, 1)
    assert "Traceback" not in out


def test_there_are_shipped_adapters() -> None:
    assert len(SHIPPED) >= 12


def found(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, list[str]]:
    assert main(["validate", "--format", "json", *args]) in (0, 1)
    data = json.loads(capsys.readouterr().out)
    return {file["path"]: [d["code"] for d in file["diagnostics"]] for file in data["files"]}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
)
HOSTILE = {
    "bomb": (BOMB.encode(), "anchor"),
    "keys": ("".join(f"k{i}: 1\n" for i in range(100_000)).encode(), "too-large"),
    "string": (b"description: " + b"x" * 10_000_000, "too-large"),
    "nul": (HEAD.encode() + b"name: a\0b\n", "control-character"),
    "utf-16": (HEAD.encode("utf-16"), "encoding"),
    "utf-32": (HEAD.encode("utf-32"), "encoding"),
    "tabs": (HEAD.encode() + b"cache:\n\tscm: fast\n", "syntax"),
    "nan": (HEAD.encode() + b"cache: {residual_diff_threshold: .nan}\n", "out-of-range"),
    "huge": (HEAD.encode() + b"cache: {max_warmup_steps: " + b"9" * 99 + b"}\n", "out-of-range"),
    "digits": (HEAD.encode() + b"cache: {max_warmup_steps: " + b"9" * 5000 + b"}\n", "wrong-type"),
    "exponent": (HEAD.encode() + b"cache: {residual_diff_threshold: 1e999}\n", "out-of-range"),
    "nested": (b"[" * 100_000, "too-large"),
    "anchors": (b"&a " * 50_000, "syntax"),
    "lone-surrogate": (HEAD.encode() + b"name: '\xed\xa0\x80'\n", "encoding"),
    "ignores": (HEAD.encode() + b"# cachedit-yaml: ignore[x]\n" * 9000, "unknown-ignore"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(here: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    content, code = HOSTILE[name]
    (here / "a.yaml").write_bytes(content)
    assert code in found(capsys, "a.yaml")["a.yaml"]


def test_windows_line_breaks_are_fine(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.yaml").write_bytes(b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode())
    assert found(capsys, "a.yaml") == {"a.yaml": []}


def test_links_in_a_circle(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.yaml").symlink_to("b.yaml")
    (here / "b.yaml").symlink_to("a.yaml")
    (here / "folder").mkdir()
    (here / "folder" / "up").symlink_to("..")
    (here / "folder" / "good.yaml").write_text(HEAD)
    assert found(capsys, ".")["folder/good.yaml"] == []
    assert found(capsys, "a.yaml") == {"a.yaml": ["unreadable"]}


def test_what_is_no_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "x.yaml").mkdir()
    os.mkfifo(here / "pipe.yaml")
    (here / "good.yaml").write_text(HEAD)
    assert found(capsys, "pipe.yaml") == {"pipe.yaml": ["unreadable"]}
    assert found(capsys, ".") == {"good.yaml": [], "pipe.yaml": ["unreadable"]}
    assert main(["validate", "x.yaml"]) == 2
    assert "no adapter files" in capsys.readouterr().err


def test_a_file_that_may_not_be_read(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.yaml").write_text(HEAD)
    (here / "a.yaml").chmod(0)
    with modes_hold():
        assert found(capsys, "a.yaml") == {"a.yaml": ["unreadable"]}


@needs_proc
def test_a_folder_of_thousands_of_files_stays_small(here: Path) -> None:
    (here / "many").mkdir()
    for number in range(2_500):
        text = HEAD.replace("MyPipeline", f"My{number}Pipeline")
        (here / "many" / f"m{number}.yaml").write_text(text)
    done = validate_many(here)
    assert done.stdout.endswith("2500 files, no problems\n"), done.stderr[-2000:]
    assert done.returncode == 0, done.stderr


@needs_proc
@pytest.mark.parametrize("name", ["bomb", "keys", "string", "nested", "ignores"])
def test_hostile_files_take_little_memory(here: Path, name: str) -> None:
    (here / "many").mkdir()
    (here / "many" / "a.yaml").write_bytes(HOSTILE[name][0])
    done = validate_many(here)
    assert done.returncode in (0, 1), done.stderr[-2000:]
