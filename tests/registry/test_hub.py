"""Adapters by ``org/repo``, from a server on the loopback interface and from a cache, offline.

Each command is a process of its own: huggingface_hub reads its environment when it is imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cachedit_yaml.registry.hub import DEFAULT_FILE, HubName, hub_name
from cachedit_yaml.registry.registry import Registry
from tests import processes
from tests.hub import Hub

ROOT = Path(__file__).parents[2]
FIRST, SECOND = "1" * 40, "2" * 40
MINE = """\
schema: 1
pipelines: [{0}Pipeline]
transformers: {{transformer: {{class: [{0}Transformer], blocks: {{blocks: Pattern_3}}}}}}
"""
FILES = {
    DEFAULT_FILE: MINE.format("New").encode(),
    "more/wan.yaml": MINE.format("Wan").encode(),
    "shipped.yaml": b"schema: 1\nextends: flux\npipelines: [MyFluxPipeline]\n",
    "outside.yaml": b"schema: 1\nextends: ../../secret.yaml\npipelines: [MyFluxPipeline]\n",
    "mine.yaml": b"schema: 1\nextends: found\npipelines: [MyFluxPipeline]\n",
    "wrong.yaml": b"schema: 1\npipelins: [A]\n",
    "long.yaml": b"#" * (256 * 1024 + 1),
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    old = {DEFAULT_FILE: MINE.format("Old").encode()}
    repos = {"org/repo": {FIRST: old, SECOND: FILES}, "org/empty": {FIRST: {"a.yaml": b""}}}
    branches = {"org/repo": {"main": SECOND, "v1": FIRST}, "org/empty": {"main": FIRST}}
    with Hub(repos, branches, gated={"org/gated"}) as hub:
        yield hub


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "found.yaml").write_text(MINE.format("My"))
    (tmp_path / "secret.yaml").write_text("schema: 1\npipelines: [SecretPipeline]\n")
    return tmp_path


def call(hub: Hub, here: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**hub.environ(here / "cache", **environ), "PYTHONPATH": str(ROOT)}
    return processes.run([sys.executable, *args], cwd=here, env=env)


def command(hub: Hub, here: Path, *args: str, **environ: str) -> tuple[int, str, str]:
    done = call(hub, here, "-m", "cachedit_yaml", *args, **environ)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("text", "repo", "revision", "file"),
    [
        ("org/repo", "org/repo", None, DEFAULT_FILE),
        ("org/repo@v1.0", "org/repo", "v1.0", DEFAULT_FILE),
        ("org/repo@refs/pr/3", "org/repo", "refs/pr/3", DEFAULT_FILE),
        ("org/repo/a.yaml", "org/repo", None, "a.yaml"),
        ("org/repo/a/b.yml", "org/repo", None, "a/b.yml"),
        (f"org/repo@{FIRST}/a.yaml", "org/repo", FIRST, "a.yaml"),
    ],
)
def test_names(text: str, repo: str, revision: str | None, file: str) -> None:
    name = hub_name(text)
    assert name == HubName(repo, revision, file)
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "flux",
            "auto",
            "flux.yaml",
            "folder/flux.yaml",
            "./org/repo",
            "../org/repo",
            "/org/repo",
        ),
        *("~/org/repo", "vllm_omni/flux", "vllm-omni/flux", "sglang/wan", "org/repo/sub", "org/"),
        *(
            "org/repo/../a.yaml",
            "org/repo@",
            "org/repo@a b",
            "org\\repo",
            "org/repo\nschema: 1",
            "-",
        ),
    ],
)
def test_what_names_nothing_on_the_hub(text: str) -> None:
    assert hub_name(text) is None
    assert hub_name(Path("org/repo")) is None


def test_what_is_here_comes_first(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    (here / "org").mkdir()
    (here / "org" / "repo").write_text(MINE.format("Here"))
    assert Registry.load().get("org/repo").pipelines == ("HerePipeline",)
    assert hub_name("org/repo") is None
    assert hub_name("org/other/a.yaml") is None


@pytest.mark.libraries
def test_a_config_that_is_checked_asks_nothing_of_the_hub(hub: Hub, here: Path) -> None:
    config = "cache_backend: cache_dit\ncache_config: {adapter: org/repo, profile: fast}\n"
    (here / "config.yaml").write_text(config)
    code, out, err = command(hub, here, "validate", "config.yaml")
    assert (code, err) == (0, "")
    assert "1 file, no problems" in out
    assert hub.asked == []


@pytest.mark.libraries
def test_a_commit_is_taken_named_and_kept(hub: Hub, here: Path) -> None:
    code, out, err = command(hub, here, "explain", "org/repo")
    assert code == 0
    assert "NewPipeline" in out
    assert f"org/repo@{SECOND}/cachedit.yaml" in out
    assert f"org/repo may change, to pin it write org/repo@{SECOND}\n" in err
    place = f"/org/repo/resolve/main/{DEFAULT_FILE}"
    assert f"HEAD {place}" in hub.asked
    assert f"GET {place.replace('main', SECOND)}" in hub.asked or f"GET {place}" in hub.asked

    hub.asked.clear()
    code, out, err = command(hub, here, "explain", f"org/repo@{SECOND}", "--format", "json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["hub"] == f"org/repo@{SECOND}/cachedit.yaml"
    assert found["note"] == f"from the hub: {found['hub']}"
    assert found["pipelines"] == ["NewPipeline"]
    assert hub.asked == []  # what is pinned does not change

    assert "OldPipeline" in command(hub, here, "show", "org/repo@v1")[1]
    assert "WanPipeline" in command(hub, here, "show", "org/repo/more/wan.yaml")[1]
    offline = {"HF_HUB_OFFLINE": "1"}
    hub.asked.clear()
    assert "OldPipeline" in command(hub, here, "show", "org/repo@v1", **offline)[1]
    assert "NewPipeline" in command(hub, here, "list", "org/repo", **offline)[1]
    assert hub.asked == []
    hub.stop()
    code, out, err = command(hub, here, "show", "org/repo")
    assert code == 0
    assert "NewPipeline" in out
    assert SECOND in err


@pytest.mark.libraries
def test_what_is_wrong(hub: Hub, here: Path) -> None:
    says = {
        "org/none": "there is no repository org/none, or it is private: see 'hf auth login'",
        "org/repo@v2": "org/repo has no revision v2",
        "org/repo/a.yaml": "org/repo has no file a.yaml",
        "org/gated": "access to org/gated has to be asked for on the hub",
        "org/empty": "org/empty has no file cachedit.yaml; name another as org/empty/FILE.yaml",
        "org/repo/long.yaml": "long.yaml is 262145 bytes long; an adapter has 256 KiB",
    }
    for target, text in says.items():
        code, out, err = command(hub, here, "show", target)
        assert (code, out) == (2, ""), target
        assert f"no such file or folder: {target}\n  and none on the hub: {text}" in err
    assert not any(item.startswith("GET") for item in hub.asked)
    code, _, err = command(hub, here, "show", "org/repo", HF_HUB_OFFLINE="1")
    assert code == 2
    assert "the cache does not hold it, and HF_HUB_OFFLINE is set" in err
    hub.stop()
    code, _, err = command(hub, here, "show", "org/repo")
    assert code == 2
    assert "the cache does not hold it, and the hub gives none: " in err


@pytest.mark.libraries
def test_it_is_checked_as_a_strangers_file(hub: Hub, here: Path) -> None:
    found = {"CACHEDIT_YAML_PATH": str(here / "empty")}
    code, out, _ = command(hub, here, "validate", "org/repo/wrong.yaml", "--fix", **found)
    assert code == 1
    assert f"org/repo@{SECOND}/wrong.yaml:2:1" in out
    assert "'pipelines'" in out
    assert command(hub, here, "validate", "org/repo/wrong.yaml", **found)[0] == 1  # not mended
    code, out, _ = command(hub, here, "validate", "org/repo", **found)
    assert code == 0
    assert "1 file, no problems" in out
    code, out, _ = command(hub, here, "show", "org/repo/shipped.yaml", **found)
    assert code == 0
    assert "transformer_blocks: Pattern_1" in out
    for name, says in {
        "outside": "cannot extend '../../secret.yaml': what comes with a model or from the hub",
        "mine": "cannot extend 'found': no adapter is called 'found'",
    }.items():
        code, out, err = command(hub, here, "show", f"org/repo/{name}.yaml", **found)
        assert code == 1, err
        assert says in out + err
        assert "Secret" not in out + err


@pytest.mark.libraries
def test_in_python(hub: Hub, here: Path) -> None:
    program = """
import sys
import cachedit_yaml, cachedit_yaml.registry.registry as registry
assert "huggingface_hub" not in sys.modules
spec = cachedit_yaml.load_adapter("org/repo@v1")
note = registry.Registry.load().note_on("org/repo@v1")
print(spec.pipelines, spec.source, note)
try:
    cachedit_yaml.load_adapter("org/repo/wrong.yaml")
except cachedit_yaml.AdapterError as error:
    print(error)
sys.modules["huggingface_hub"] = None  # as where it is not installed
try:
    cachedit_yaml.load_adapter("org/repo")
except cachedit_yaml.AdapterNotFoundError as error:
    print(error)
"""
    done = call(hub, here, "-c", program)
    assert done.returncode == 0, done.stderr
    assert "('OldPipeline',)" in done.stdout
    assert f"snapshots/{FIRST}/cachedit.yaml" in done.stdout
    assert f"to pin it write org/repo@{FIRST}\n" in done.stdout
    assert f"org/repo@{SECOND}/wrong.yaml:2:1" in done.stdout
    assert "the hub needs the package huggingface_hub, which is not installed: pip" in done.stdout
    # Once in a process, whatever asks for it again.
    place = f"HEAD /org/repo/resolve/v1/{DEFAULT_FILE}"
    assert 1 <= hub.asked.count(place) <= 2


@pytest.mark.libraries
def test_tune_writes_nothing_into_the_cache(hub: Hub, here: Path) -> None:
    (here / "model").mkdir()
    (here / "model" / "model_index.json").write_text('{"_class_name": "DiTPipeline"}')
    more = ("--model", "model", "--label", "1", "--out", "out")
    code, out, err = command(hub, here, "tune", "--adapter", "org/repo", *more)
    assert (code, out) == (2, "")
    assert f"save org/repo@{SECOND}/cachedit.yaml and give its path, or add --dry-run" in err
