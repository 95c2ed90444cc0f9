"""Many requests at once over HTTP, step by step: every picture as if it were alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.doors.test_engines_page import SNIPPETS
from tests.engines import checkpoints
from tests.engines.server import Server, serving

pytestmark = pytest.mark.engines

TOGETHER = 8
REQUESTS = 200
#: As many as the server allows.
MOST_STEPS = 200
HITS = {"residual_diff_threshold": 0.9, "max_warmup_steps": 2}
WRONG = {"cachedit": {"residual_diff_treshold": 0.1}}
KINDS: list[dict[str, Any]] = [
    {},
    {"seed": 1, "prompt": "a blue dog"},
    {"num_inference_steps": 12, "prompt": "a lighthouse in a storm"},
    {"num_inference_steps": 5, "seed": 2},
    {"true_cfg_scale": 4.0, "negative_prompt": "a blue dog"},
    {"size": "96x64"},
    {"extra_params": {"cachedit": {"scm": {"preset": "fast", "policy": "static"}}}},
    {"extra_params": {"cachedit": {"residual_diff_threshold": 0.0}}},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.build("qwen_image", tmp_path_factory.mktemp("checkpoints"))


def test_two_hundred_requests_eight_at_a_time(model: Path, tmp_path: Path) -> None:
    steps = ("--step-execution", "--max-num-seqs", str(TOGETHER))
    with serving(model, tmp_path / "log", *steps, config=HITS) as server:
        alone = [server.picture(**kind) for kind in KINDS]
        assert len({picture.tobytes() for picture in alone}) == len(KINDS)
        asked = [KINDS[index % len(KINDS)] for index in range(REQUESTS)]
        first = disturbed(server, asked[: REQUESTS // 2])
        before = server.memory()
        second = disturbed(server, asked[REQUESTS // 2 :])
        for index, picture in enumerate([*first, *second]):
            # A batch rounds otherwise than one alone.
            near = np.abs(picture.astype(int) - alone[index % len(KINDS)]).max()
            assert near <= 1, KINDS[index % len(KINDS)]
        # One request's buffers in this model are less than 0.1 MB; Python's own heap moves more.
        assert server.memory() - before < 64 * 2**20
        said = server.said()
        assert "with step execution, each request has a cache of its own" in said
        # All were served, four more beside those that are aborted, and one starts the engine.
        assert said.count("cache of request") == 1 + len(KINDS) + REQUESTS + 4
        assert f"{MOST_STEPS} steps" not in said
        # The engine aborts those that fail, too.
        assert said.count("[AsyncOmni] Aborted request(s)") == 4 + 8
        refused(server)


def disturbed(server: Server, asked: Sequence[dict[str, Any]]) -> list[np.ndarray]:
    """Pictures, while other requests fail and one is aborted in mid-run, twice."""

    def abort() -> None:
        long = server.asked(num_inference_steps=MOST_STEPS)
        server.picture()  # as it shares the forwards of the long one, that has begun
        long.close()

    found: list[np.ndarray] = []
    for start in range(0, len(asked), len(asked) // 2):
        with ThreadPoolExecutor(TOGETHER + 3) as pool:
            aborted = pool.submit(abort)
            wrong = [pool.submit(server.answer, extra_params=WRONG) for _ in range(2)]
            found += pool.map(
                lambda kind: server.picture(**kind), asked[start : start + len(asked) // 2]
            )
            assert [item.result()[0] for item in wrong] == [400, 400]
            aborted.result()
    return found


def refused(server: Server) -> None:
    """A wrong key fails its request alone, with the nearest right name."""
    with ThreadPoolExecutor(4) as pool:
        good = [pool.submit(server.picture) for _ in range(3)]
        status, answer = pool.submit(server.answer, extra_params=WRONG).result()
        assert status == 400
        assert "did you mean 'residual_diff_threshold'" in json.dumps(answer)
        pictures = [item.result().astype(int) for item in good]
        assert all(np.abs(item - pictures[0]).max() <= 1 for item in pictures)


def test_whole_requests_over_http(model: Path, tmp_path: Path) -> None:
    """Without step execution; what the page says of a request."""
    wish = json.loads(SNIPPETS["vLLM-Omni", "json"])["extra_args"]
    with serving(model, tmp_path / "log", "--max-num-seqs", "4", config=HITS) as server:
        kinds = [{}, {"extra_params": wish}]
        alone = [server.picture(**kind) for kind in kinds]
        assert (alone[0] != alone[1]).any()
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda kind: server.picture(**kind), kinds * 4))
        for index, picture in enumerate(found):
            near = np.abs(picture.astype(int) - alone[index % len(kinds)]).max()
            assert near <= 1, kinds[index % len(kinds)]  # a batch rounds otherwise than one alone
        refused(server)
