"""Models of one's own that are built in unusual ways."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import cachedit_yaml
from cachedit_yaml.cli import main
from cachedit_yaml.errors import DraftError
from tests.drafting import kinds, odd

X = {"hidden_states": "x"}
PAIR = {"hidden_states": "img", "encoder_hidden_states": "txt"}


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (kinds.Keywords, {"blocks": {"pattern": "Pattern_0", "roles": PAIR, "returns": PAIR}}),
        (kinds.Inner, {"body.layers": {"pattern": "Pattern_3", "roles": X}}),
    ],
)
def test_a_sampler_of_ones_own(cls: type[nn.Module], expected: dict[str, Any]) -> None:
    """Keywords only and a mapping; a submodule's loop, packed tokens and the timestep first."""
    pipe = kinds.sampler(cls)
    draft = cachedit_yaml.infer(pipe, pipe.sample)
    assert draft.data["transformers"]["net"]["blocks"] == expected
    assert draft.spec.transformers["net"].timestep in ("t", None)
    assert not draft.doubts
    draft.check().require()


@pytest.mark.parametrize("joined", [False, True])
def test_skip_connections_between_lists_are_one_decision(joined: bool) -> None:
    """Else the blocks that go up would read what skipped blocks have left."""
    pipe = kinds.sampler(kinds.UNet, joined=joined)
    draft = cachedit_yaml.infer(pipe, pipe.sample)
    blocks = draft.data["transformers"]["net"]["blocks"]
    assert [*blocks] == ["blocks", "middle", "up"]
    assert [item.get("follows") for item in blocks.values()] == [None, "blocks", "blocks"]
    assert "is read from here on, so both are cached together" in draft.yaml
    draft.check().require()
    always = {"residual_diff_threshold": 0.99, "max_warmup_steps": 2, "Fn_compute_blocks": 2}
    with cachedit_yaml.enable(pipe, draft.spec, cache_config=always) as handle:
        pipe.sample(8)
        rows = handle.stats().branches
    assert rows[0].cached_steps
    assert {row.cached_steps for row in rows} == {rows[0].cached_steps}


def test_lists_that_share_nothing_decide_alone() -> None:
    pipe = odd.make(odd.Refined)
    for item in (
        cachedit_yaml.infer(pipe, pipe).data["transformers"]["transformer"]["blocks"].values()
    ):
        assert "follows" not in item


def test_blocks_without_a_tensor() -> None:
    pipe = kinds.sampler(kinds.Objects)
    refused = cachedit_yaml.infer(pipe, pipe.sample).refused
    assert refused is not None
    assert "take their hidden states inside of 'state', which is no tensor" in refused


@pytest.mark.parametrize("container", [nn.ModuleDict, nn.Sequential])
def test_blocks_that_are_in_no_list(container: type[nn.Module]) -> None:
    pipe = kinds.sampler(kinds.Named, container)
    with pytest.raises(DraftError, match=rf"net.blocks is a {container.__name__} of 4, and only"):
        cachedit_yaml.infer(pipe, pipe.sample)


def test_a_longer_stack_that_is_in_no_list_is_said() -> None:
    class Both(kinds.Named):
        def __init__(self) -> None:
            super().__init__(nn.Sequential)
            self.few = nn.ModuleList(odd.Block() for _ in range(3))

        def loop(self, x: Any, text: Any) -> Any:
            for block in self.few:
                x = block(x)
            return super().loop(x, text)

    pipe = kinds.sampler(Both)
    draft = cachedit_yaml.infer(pipe, pipe.sample)
    assert [*draft.data["transformers"]["net"]["blocks"]] == ["few"]
    assert "# blocks: a Sequential of 4, and only the blocks of a torch.nn.ModuleList" in draft.yaml


def test_steps_that_nothing_tells() -> None:
    pipe = kinds.sampler(kinds.Untimed, odd.Block)
    with pytest.raises(DraftError, match=r"net runs net.blocks in 4 calls, .*infer\(pipeline.net"):
        cachedit_yaml.infer(pipe, pipe.sample)
    draft = cachedit_yaml.infer(pipe.net, pipe.sample)
    assert draft.data["guidance"] == "fused"
    assert "each call is taken for one" in draft.doubts[0]
    draft.check().require()


def test_numbers_of_tokens_are_no_timestep() -> None:
    class Counted(odd.Plain):
        def forward(self, latents: Any, ids: Any, text: Any) -> Any:
            return super().forward(latents, ids.float(), text)

    pipe = kinds.sampler(Counted, odd.Block)
    with pytest.raises(DraftError, match="no argument moves like a timestep"):
        cachedit_yaml.infer(pipe, pipe.sample)


MINE = """\
from tests.drafting import kinds


def pipe():
    return kinds.sampler(kinds.UNet)


def run(pipe):
    return pipe.sample()
"""


def test_in_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.joinpath("unusual_model.py").write_text(MINE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        target = ["unusual_model:pipe", "--call", "unusual_model:run"]
        assert main(["init", *target, "-o", str(tmp_path / "unusual.yaml")]) == 0
        assert main(["validate", "--strict", str(tmp_path / "unusual.yaml")]) == 0
    finally:
        sys.modules.pop("unusual_model", None)
    assert "NOT PROVED" not in capsys.readouterr().out
    assert "follows: blocks" in tmp_path.joinpath("unusual.yaml").read_text()
