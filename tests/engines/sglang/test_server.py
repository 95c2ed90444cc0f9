"""SGLang whole: its HTTP server with a small checkpoint on a CPU, and requests that choose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import cachedit_yaml
from tests import tiny
from tests.engines import checkpoints, server, tuned

pytestmark = pytest.mark.engines

#: What the checkpoint is, as diffusers says it.
INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.42.1",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
STATISTICS = re.compile(r"cache of the last request: flux \(loop\): 8 steps, (\d+%) of forwards")
NO_HIT = {"residual_diff_threshold": 0.0}
HITS = {"residual_diff_threshold": 0.9, "max_warmup_steps": 2}
MASK = {"scm": {"preset": "fast", "policy": "static"}, "max_warmup_steps": 0}


class Server(NamedTuple):
    """A server whose requests say whether and how they are cached."""

    http: server.Server

    def answer(self, params: dict[str, Any] | None, **changes: Any) -> tuple[int, Any]:
        return self.http.answer(**asked(params), **changes)

    def picture(self, params: dict[str, Any] | None, **changes: Any) -> np.ndarray:
        return self.http.picture(**asked(params), **changes)

    def said(self) -> str:
        return self.http.said()


def asked(params: dict[str, Any] | None) -> dict[str, Any]:
    return {"n": 1, "enable_cache_dit": params is not None, "cache_dit_params": params}


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Server]:
    """A server with a small FLUX.1, stopped in the end."""
    model, log = checkpoints.build("flux", folder), folder / "log"
    (model / "model_index.json").write_text(json.dumps(INDEX), encoding="utf-8")
    command = [
        "sglang", "serve", "--model-path", str(model), "--model-id", "FLUX.1-dev",
        "--backend", "sglang", "--output-path", str(folder / "out"), *arguments,
    ]  # fmt: skip
    with server.running(command, log) as found:
        yield Server(found)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sglang")) as found:
        yield found


def test_requests_over_http(one: Server) -> None:
    plain = one.picture(None)
    assert (one.picture(NO_HIT) == plain).all()
    hits = one.picture(HITS)
    mask = one.picture(MASK)
    assert len({item.tobytes() for item in (plain, hits, mask)}) == 3
    assert (one.picture(HITS, seed=1) != hits).any()
    assert (one.picture(HITS) == hits).all()  # whatever came in between
    for batch in ("per_sample", "worst", "mean"):  # the same for one sample
        assert (one.picture({**HITS, "batch": batch}) == hits).all()
    assert (one.picture(None) == plain).all()
    text = one.said()
    assert "FluxTransformer2DModel is cached by cachedit-yaml" in text
    assert re.search(r"cache of the last request: flux \(loop\): 8 steps, [1-9]\d*%", text)


def test_a_profile_that_tune_wrote(one: Server, tmp_path: Path) -> None:
    """By its name, in a file of one's own that extends a shipped one; a mask with F = 0 too."""
    path = tuned.write(tmp_path)
    plain = one.picture(None)
    mask = {"adapter": str(path), "profile": "half"}
    half = one.picture(mask)
    steady = one.picture({"adapter": str(path), "profile": "steady"})
    assert (one.picture(mask) == half).all()
    one.picture(None)
    assert (half != plain).any()
    assert (half != steady).any()
    model = cachedit_yaml.compile_adapter(path, tiny.build("FluxPipeline"), profile="half")
    skipped = len(tuned.skipped(model.transformers[0].lists[0].layers.resolve(8)))
    found = re.findall(r"last request: my-flux \(loop\): 8 steps, (\d+)% of forwards", one.said())
    assert [int(share) for share in found][:1] == [round(100 * skipped / 8)]


def test_what_is_wrong_fails_its_request_alone(one: Server) -> None:
    hits = one.picture(HITS)
    for params, message in (
        ({"residual_diff_treshold": 0.1}, "did you mean 'residual_diff_threshold'"),
        ({"Fn_compute_blocks": 99}, "write at most 4 together"),
        ({"profile": "fasst"}, "has no profile 'fasst'"),
        ({"batch": "worse"}, "did you mean 'worst'"),
    ):
        status, answer = one.answer(params)
        assert status >= 400
        assert message in str(answer) + one.said()
        assert (one.picture(HITS) == hits).all()


def test_many_at_once(one: Server) -> None:
    kinds: list[tuple[Any, dict[str, Any]]] = [
        (None, {}), (HITS, {}), (MASK, {}), (HITS, {"num_inference_steps": 5}),
        (HITS, {"seed": 3, "prompt": "a blue dog"}), (HITS, {"size": "96x64"}),
    ]  # fmt: skip
    alone = [one.picture(params, **more) for params, more in kinds]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda kind: one.picture(kind[0], **kind[1]), kinds * 4))
    for index, picture in enumerate(found):
        assert (picture == alone[index % len(kinds)]).all(), kinds[index % len(kinds)]


def test_two_ranks_that_divide_the_sequence_decide_as_one(one: Server, tmp_path: Path) -> None:
    one.picture(HITS)
    one.picture(None)
    (wanted,) = STATISTICS.findall(one.said())[-1:]
    parallel = ("--num-gpus", "2", "--sp-degree", "2", "--ulysses-degree", "2")
    with serving(tmp_path, *parallel) as two:
        plain = two.picture(None)
        assert (two.picture(NO_HIT) == plain).all()
        assert (two.picture(HITS) != plain).any()
        two.picture(None)
        # Each rank says what it did with both requests.
        assert STATISTICS.findall(two.said()) == ["0%", "0%", wanted, wanted]
