"""What does not fit: every message has the path, what was expected, and the nearest name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cachedit_yaml import (
    CacheRuntimeError,
    CompileError,
    ConfigError,
    RefusedError,
    compile_adapter,
    disable,
    enable,
    load_adapter,
)
from cachedit_yaml.compiler.signature import PATTERNS, bind
from cachedit_yaml.language.spec import Roles
from tests import tiny
from tests.runtime import models, odd_models
from tests.runtime.models import SmallPipeline, adapter, small
from tests.runtime.odd_models import Double

CACHE = {"Fn_compute_blocks": 1}


def problems(spec: Any, pipe: Any) -> tuple[str, ...]:
    """Every reason why an adapter does not fit."""
    with pytest.raises(CompileError) as caught:
        compile_adapter(spec, pipe)
    return caught.value.problems


def at(path: str, **transformer: Any) -> Any:
    """An adapter for one transformer anywhere."""
    return adapter(
        transformers={path: {"blocks": {"blocks": "Pattern_3"}, **transformer}}, cache=CACHE
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            at("transfomer"),
            "pipeline (SmallPipeline) has no attribute 'transfomer'; did you mean 'transformer'?",
        ),
        (
            at("transformer.inner"),
            "pipeline.transformer (Double) has no attribute 'inner'; it has the block lists "
            "blocks, single_blocks",
        ),
        (
            at("empty"),
            "pipeline.empty is None; if the pipeline may have none, write optional: true",
        ),
        (at("scheduler"), "pipeline.scheduler is a FlowMatchEulerDiscreteScheduler, not a "
                          "torch.nn.Module"),
        (
            at("transformer", **{"class": ["Dual", "Single"]}),
            "pipeline.transformer is a Double; the adapter is for Dual, Single",
        ),
        (
            adapter({"single_block": "Pattern_3"}, cache=CACHE),
            "pipeline.transformer (Double) has no attribute 'single_block'; did you mean "
            "'single_blocks'?",
        ),
        (
            adapter({"proj_out": "Pattern_3"}, cache=CACHE),
            "pipeline.transformer.proj_out is a Linear; a block list is a torch.nn.ModuleList",
        ),
        (
            adapter({"none": "Pattern_3"}, cache=CACHE),
            "pipeline.transformer.none is empty; if that may be, write optional: true",
        ),
        (
            adapter({"blocks": {"pattern": "Pattern_3", "class": ["Blok"]}}, cache=CACHE),
            "pipeline.transformer.blocks[0] is a Block; the adapter is for Blok",
        ),
        (
            adapter("Pattern_1", cache=CACHE),
            "pipeline.transformer.blocks[0]: forward has no argument 'encoder_hidden_states' "
            "(Pattern_1 needs it); its arguments are hidden_states, temb; if 'temb' is it, write "
            "roles: {encoder_hidden_states: temb}",
        ),
        (
            adapter(
                {"blocks": {"pattern": "Pattern_3", "roles": {"hidden_states": "hiden_states"}}},
                cache=CACHE,
            ),
            "pipeline.transformer.blocks[0]: forward has no argument 'hiden_states' (Pattern_3 "
            "needs it); its arguments are hidden_states, temb; if 'hidden_states' is it, write "
            "roles: {hidden_states: hidden_states}",
        ),
        (
            adapter("Pattern_3", cache={"Fn_compute_blocks": 3, "Bn_compute_blocks": 2}),
            "pipeline.transformer.blocks has 4 blocks, but Fn_compute_blocks 3 (adapter small: "
            "cache) + Bn_compute_blocks 2 (adapter small: cache) is 5; write at most 4 together",
        ),
        (
            adapter("Pattern_3", cache=CACHE, requires={"torch": "<1"}),
            f"it requires torch <1; installed is {torch.__version__}",
        ),
        (
            adapter("Pattern_3", cache=CACHE, requires={"no-such-package": ">=1"}),
            "it requires no-such-package >=1, which is not installed",
        ),
        (
            adapter(
                transformers={
                    "transformer": {"variants": [{"class": ["Other"],
                                                  "blocks": {"blocks": "Pattern_3"}}]}
                }
            ),
            "pipeline.transformer is a Double; the adapter is for Other",
        ),
        (
            at("other", optional=True),
            "none of its transformers is there: other",
        ),
    ],
)  # fmt: skip
def test_messages(spec: Any, message: str) -> None:
    pipe = SmallPipeline(Double())
    pipe.empty = None
    pipe.transformer.none = torch.nn.ModuleList()
    found = problems(spec, pipe)
    assert message in found, found


def test_pruning_that_the_caller_asks_for() -> None:
    """In a file this is an error already; the caller's settings come later."""
    with pytest.raises(CompileError, match=r"blocks: cache-dit's DBPrune fails with patterns 3, 4"):
        compile_adapter(
            adapter("Pattern_3", cache=CACHE),
            SmallPipeline(Double()),
            cache_config={"cache_type": "DBPrune"},
        )


def test_arguments_that_forward_does_not_have() -> None:
    lists = {"blocks": {"blocks": "Pattern_3"}}
    spec = adapter(
        transformers={"transformer": {**lists, "denoising": {"when": {"timestp": 1}}}}, cache=CACHE
    )
    (found,) = problems(spec, SmallPipeline(Double()))
    assert found == (
        "pipeline.transformer: denoising.when names 'timestp', and forward has no such argument; "
        "did you mean 'timestep'?"
    )
    spec = adapter(transformers={"transformer": {**lists, "timestep": "tt"}}, cache=CACHE)
    (found,) = problems(spec, SmallPipeline(Double()))
    assert "timestep names 'tt'" in found


def test_conditions_that_cannot_be_read() -> None:
    lists = {"blocks": "Pattern_3"}
    pipe = SmallPipeline(Double())
    pipe.weights = torch.ones(2)
    for condition, noted in (
        ("pipeline.is_distiled", True),
        ("not transformer.config.guidance", True),
        ("pipeline.weights", False),
    ):
        variants = [{"when": condition, "blocks": lists}]
        spec = adapter(
            transformers={"transformer": {"variants": variants, "blocks": lists}}, cache=CACHE
        )
        if noted:
            plan = compile_adapter(spec, pipe)
            assert plan.transformers[0].variant == "blocks"
            assert any(condition in note for note in plan.notes), plan.notes
        else:
            (found,) = problems(spec, pipe)
            assert "neither true nor false" in found


def test_a_variant_with_class_and_condition_needs_both() -> None:
    pipe = SmallPipeline(Double())
    pipe.single = False
    variants = [
        {"class": ["Double"], "when": "pipeline.single", "blocks": {"single_blocks": "Pattern_3"}}
    ]
    spec = adapter(
        transformers={"transformer": {"variants": variants, "blocks": {"blocks": "Pattern_3"}}},
        cache=CACHE,
    )
    assert compile_adapter(spec, pipe).transformers[0].variant == "blocks"
    pipe.single = True
    assert compile_adapter(spec, pipe).transformers[0].variant == "variant 1 (class Double)"


@pytest.mark.parametrize("ratio", ["pipeline.config", "pipeline.to"])
def test_a_ratio_that_is_no_number(ratio: str) -> None:
    pipe = tiny.build("WanPipeline", two=True)
    lists = {"blocks": {"blocks": "Pattern_2"}}
    split = {"boundary": {"ratio": ratio, "high": "transformer", "low": "transformer_2"}}
    spec = adapter(
        transformers={"transformer": lists, "transformer_2": lists}, step_split=split, cache=CACHE
    )
    (found,) = problems(spec, pipe)
    assert found.startswith(f"step_split: {ratio} is a ")


def test_variants_that_do_not_fit() -> None:
    spec = adapter(
        transformers={
            "transformer": {
                "variants": [{"when": "transformer.big", "blocks": {"blocks": "Pattern_3"}}]
            }
        }
    )
    (message,) = problems(spec, SmallPipeline(Double()))
    assert message == "pipeline.transformer (Double) fits none of the adapter's variants"


def test_boundary_that_is_not_there() -> None:
    pipe = SmallPipeline(small())
    pipe.transformer_2 = small()
    lists = {"blocks": {"blocks": "Pattern_3"}}
    for ratio, message in (
        ("pipeline.ratio", "pipeline (SmallPipeline) has no attribute 'ratio'"),
        ("pipeline.config.boundary", "pipeline (SmallPipeline) has no attribute 'config'"),
    ):
        boundary = {"ratio": ratio, "high": "transformer", "low": "transformer_2"}
        spec = adapter(
            transformers={"transformer": lists, "transformer_2": lists},
            step_split={"boundary": boundary},
            cache=CACHE,
        )
        (found,) = problems(spec, pipe)
        assert found.startswith(message)


def test_boundary_where_the_attribute_holds_none() -> None:
    pipe = SmallPipeline(small())
    pipe.transformer_2 = small()
    pipe.ratio = None
    lists = {"blocks": {"blocks": "Pattern_3"}}
    for given, wanted in (({}, None), ({"default": 0.875}, 0.875)):
        boundary = {"ratio": "pipeline.ratio", "high": "transformer", "low": "transformer_2"}
        spec = adapter(
            transformers={"transformer": lists, "transformer_2": lists},
            step_split={"boundary": {**boundary, **given}},
            cache=CACHE,
        )
        assert compile_adapter(spec, pipe).ratio == wanted
        pipe.ratio = 0.5
        assert compile_adapter(spec, pipe).ratio == 0.5
        pipe.ratio = None


def test_blocks_that_are_there_twice() -> None:
    pipe = SmallPipeline(Double())
    pipe.transformer.blocks[2] = pipe.transformer.blocks[0]
    (message,) = problems(adapter("Pattern_3", cache=CACHE), pipe)
    assert message == "pipeline.transformer.blocks holds the same block more than once"
    pipe = SmallPipeline(Double())
    pipe.transformer.single_blocks[1] = pipe.transformer.blocks[0]
    (message,) = problems(adapter(Double.SPEC, cache=CACHE), pipe)
    assert message == (
        "pipeline.transformer.single_blocks and blocks share a block; declare it once"
    )


def test_all_problems_at_once() -> None:
    spec = adapter(
        transformers={
            "transformer": {
                "blocks": {"blocks": "Pattern_1", "single": "Pattern_3"},
                "class": ["Dual"],
            },
            "transformer_2": {"blocks": {"blocks": "Pattern_3"}},
        },
        cache=CACHE,
        requires={"torch": "<1"},
    )
    found = problems(spec, SmallPipeline(Double()))
    assert len(found) == 5
    with pytest.raises(
        CompileError, match=r"(?s)adapter 'small' does not fit SmallPipeline:\n"
    ) as e:
        compile_adapter(spec, SmallPipeline(Double()))
    for problem in found:
        assert f"\n  - {problem}" in str(e.value)


def test_the_file_is_named(tmp_path: Any) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "schema: 1\npipelines: [SmallPipeline]\ntransformers:\n"
        "  transformer: {blocks: {block: Pattern_3}}\n"
    )
    with pytest.raises(CompileError, match=r"adapter 'own' \(.*own\.yaml\) does not fit"):
        compile_adapter(str(path), SmallPipeline(small()))


def test_order_of_outputs() -> None:
    """What a block's `return` says, against what its pattern says."""

    class First(models.Block):
        def forward(self, hidden_states: Any, encoder_hidden_states: Any) -> Any:
            return hidden_states, encoder_hidden_states

    class Alone(models.Block):
        def forward(self, hidden_states: Any, encoder_hidden_states: Any) -> Any:
            return hidden_states

    class Either(models.Block):
        def forward(self, hidden_states: Any, encoder_hidden_states: Any) -> Any:
            if encoder_hidden_states is None:
                return hidden_states
            return encoder_hidden_states, hidden_states

    class Unclear(models.Block):
        def forward(self, hidden_states: Any, encoder_hidden_states: Any) -> Any:
            output = (encoder_hidden_states, hidden_states)
            return output  # noqa: RET504 - what the check cannot read

    class Renamed(models.Block):
        def forward(self, x: Any, context: Any) -> Any:
            return context, x

    both = "(hidden_states, encoder_hidden_states)"
    for block, pattern, message in (
        (First, "Pattern_0", None),
        (First, "Pattern_1", f"forward returns {both}, which is not Pattern_1; that is Pattern_0"),
        (First, "Pattern_2", f"forward returns {both}, which is not Pattern_2; that is Pattern_0"),
        (Alone, "Pattern_2", None),
        (Alone, "Pattern_0", "forward returns (hidden_states), which is not Pattern_0; that is "
                             "Pattern_2"),
        (Either, "Pattern_1", None),
        (Either, "Pattern_2", None),
        (Either, "Pattern_0", "which is not Pattern_0"),
        (Unclear, "Pattern_0", None),
        (Renamed, "Pattern_1", None),
        (Renamed, "Pattern_0", "forward returns (context, x), which is not Pattern_0"),
        (Alone, "Pattern_4", "forward returns (hidden_states), which is not Pattern_4; that is "
                             "Pattern_3"),
    ):  # fmt: skip
        pipe = SmallPipeline(small())
        pipe.transformer.blocks = torch.nn.ModuleList(block() for _ in range(3))
        declared: dict[str, Any] = {"pattern": pattern}
        if block is Renamed:
            declared["roles"] = {"hidden_states": "x", "encoder_hidden_states": "context"}
        spec = adapter({"blocks": declared}, cache=CACHE)
        if message is None:
            compile_adapter(spec, pipe)
        else:
            (found,) = problems(spec, pipe)
            assert found.startswith("pipeline.transformer.blocks[0]: forward returns ")
            assert message in found


def test_refused() -> None:
    spec = load_adapter(
        {"schema": 1, "name": "no", "pipelines": ["SmallPipeline"], "refuse": "it does not denoise"}
    )
    with pytest.raises(
        RefusedError, match=r"^SmallPipeline must not be cached: it does not denoise"
    ):
        compile_adapter(spec, SmallPipeline(small()))


def test_profile_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="adapter 'flux' has no profile 'fastest'; it has: "):
        compile_adapter(None, tiny.build("FluxPipeline"), profile="fastest")


def test_notes() -> None:
    """What is absent and may be is said, without being an error."""
    pipe = SmallPipeline(odd_models.Odd())
    lists = {"blocks": "Pattern_3", "more": {"pattern": "Pattern_3", "optional": True}}
    spec = adapter(
        transformers={
            "transformer": {"blocks": lists},
            "transformer_2": {"optional": True, "blocks": {"blocks": "Pattern_3"}},
        },
        step_split={"fraction": {"transformer": 0.5, "transformer_2": 0.5}},
        cache=CACHE,
    )
    plan = compile_adapter(spec, pipe)
    assert plan.absent == ("transformer_2",)
    assert plan.split is None
    assert plan.notes == (
        "pipeline.transformer.more is absent",
        "transformer_2 is absent, so every step belongs to the others",
    )
    text = plan.describe()
    for note in plan.notes:
        assert f"note: {note}" in text


class Raising(SmallPipeline):
    """Each property raises another kind of error when it is read."""

    odd_errors = (
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        OSError,
        RecursionError,
        OverflowError,
    )

    def __getattr__(self, name: str) -> Any:
        for error in self.odd_errors:
            if name == error.__name__:
                raise error("the property says so")
        raise AttributeError(name)


@pytest.mark.parametrize("error", Raising.odd_errors)
@pytest.mark.parametrize(
    "made",
    [
        lambda path: at(path),
        lambda path: at(f"{path}.inner"),
        lambda path: at("transformer", variants=[{"when": f"pipeline.{path}",
                                                  "blocks": {"blocks": "Pattern_3"}}]),
        lambda path: adapter("Pattern_3", cache=CACHE, scheduler=path),
        lambda path: adapter("Pattern_3", cache=CACHE, scheduler=f"{path}.scheduler"),
        lambda path: adapter("Pattern_3", cache=CACHE,
                             guidance={"separate_when": f"not pipeline.{path}"}),
        lambda path: adapter(
            transformers={n: {"blocks": {"blocks": "Pattern_3"}} for n in ("transformer", "o")},
            cache=CACHE, step_split={"boundary": {"ratio": f"pipeline.{path}",
                                                  "high": "transformer", "low": "o"}}),
    ],
)  # fmt: skip
def test_a_property_that_raises(made: Any, error: type[Exception]) -> None:
    pipe = Raising(Double())
    pipe.o = Double()
    found = problems(made(error.__name__), pipe)
    expected = f"'{error.__name__}' of a Raising cannot be read: {error.__name__}: "
    assert any(expected in text and "says so" in text for text in found), found


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


class Masked:
    @property
    def __class__(self) -> Any:
        raise ValueError("nobody knows")


def test_what_cannot_even_be_named() -> None:
    class Odd(SmallPipeline):
        masked = Masked()

        @property
        def mute(self) -> Any:
            raise MuteError

    for path, error in (("mute", "MuteError"), ("masked", "ValueError: nobody knows")):
        for made in (at(path), adapter("Pattern_3", cache=CACHE, scheduler=path)):
            found = problems(made, Odd(Double()))
            assert any(f"{path!r} of a Odd cannot be read: {error}" in text for text in found)


def test_a_flag_that_cannot_be_set() -> None:
    class Odd(SmallPipeline):
        _cache_dit_fixed = property(lambda self: False)

    pipe = Odd(Double())
    made = adapter("Pattern_3", cache=CACHE, set={"_cache_dit_x": 1, "_cache_dit_fixed": True})
    before = dict(vars(pipe))
    with pytest.raises(CacheRuntimeError, match="_cache_dit_fixed cannot be set: Attr"):
        enable(pipe, made)
    assert vars(pipe) == before
    assert not disable(pipe)


@pytest.mark.parametrize("path", ["transformer.blocks.9", "transformer.blocks." + "9" * 23])
def test_an_index_that_is_not_there(path: str) -> None:
    (found,) = problems(at(path), SmallPipeline(Double()))
    assert f"pipeline.transformer.blocks (ModuleList) has no attribute '{path[19:]}'" in found


def test_what_is_no_scheduler() -> None:
    pipe = SmallPipeline(Double())
    for path, kind in (("transformer", "Double"), ("nothing", "NoneType"), ("number", "int")):
        pipe.nothing, pipe.number = None, 3
        (found,) = problems(adapter("Pattern_3", cache=CACHE, scheduler=path), pipe)
        assert found == f"pipeline.{path} is a {kind}, not a scheduler: it has no step()"


def test_all_wrong_roles_of_a_list_are_said_at_once() -> None:
    class Clip(torch.nn.Module):
        def forward(self, clip: Any, words: Any) -> Any:
            return clip, words

    roles = Roles(hidden_states="clap", encoder_hidden_states="word")
    found = bind(Clip().forward, PATTERNS["Pattern_0"], roles, "blocks[0]")
    assert isinstance(found, str)
    assert "no argument 'clap'" in found
    assert "roles: {hidden_states: clip}" in found
    assert "; and forward has no argument 'word'" in found
    assert "roles: {encoder_hidden_states: words}" in found
