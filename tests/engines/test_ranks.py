"""Engines with two ranks: those that divide a forward decide alike, others for themselves.

Several GPUs are not needed: the engine's own parallelism runs with gloo on a CPU.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cachedit_yaml.engines.vllm_omni.checkpoint import write_checkpoint
from cachedit_yaml.probe.recipe import recipe
from cachedit_yaml.registry.registry import Registry
from tests import processes

pytestmark = pytest.mark.engines

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, label: str, parallel: dict[str, int]) -> list[dict[str, Any]]:
    """What each rank did."""
    folder.mkdir()
    (spec,) = Registry.load().find(label).to_prove("vllm_omni")
    (folder / "model").mkdir()
    made = recipe(spec, spec.pipelines[0])
    write_checkpoint(folder / "model", spec, made, spec.pipelines[0])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    ranks = range(max(1, *parallel.values()) if parallel else 1)
    workers = [
        processes.start(
            [sys.executable, "-W", "ignore", "-m", "tests.engines.ranks", str(rank), str(folder),
             label, json.dumps(parallel), str(port)],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in ranks
    ]  # fmt: skip
    try:
        for worker in workers:
            output, _ = processes.finish(worker)
            assert worker.returncode == 0, output[-4000:]
    finally:
        for worker in workers:
            processes.kill(worker)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in ranks]


@pytest.mark.parametrize(
    ("label", "parallel"),
    [("vllm_omni/flux", "tensor_parallel_size"), ("vllm_omni/qwen-image", "ulysses_degree")],
)
def test_ranks_that_divide_a_forward_decide_alike(
    tmp_path: Path, label: str, parallel: str
) -> None:
    one, two = run(tmp_path / "two", label, {parallel: 2})
    assert one == two
    for name, found in one.items():
        assert found["equal"] == name.endswith("no hit")
        assert any(found["cached"].values()) == name.endswith("hits")


def test_ranks_that_divide_the_guidance_branches_decide_for_themselves(tmp_path: Path) -> None:
    """As one process does for each branch."""
    (alone,) = run(tmp_path / "one", "vllm_omni/flux", {})
    ranks = run(tmp_path / "two", "vllm_omni/flux", {"cfg_parallel_size": 2})
    for rank in ranks:
        assert rank["guided, no hit"]["equal"]
    assert ranks[0]["guided, hits"]["sum"] == ranks[1]["guided, hits"]["sum"]
    assert ranks[0]["guided, hits"]["sum"] == alone["guided, hits"]["sum"]
    for number, rank in enumerate(ranks, start=1):
        for key in ("cached", "differences"):
            mine = rank["guided, hits"][key]
            assert mine == {
                name.replace(f"forward {number}", "forward 1"): value
                for name, value in alone["guided, hits"][key].items()
                if name.endswith(f"forward {number}")
            }
