"""``python -m benchmarks.stepwise``: requests per second of step execution, cached and not.

In the engines' environment, in this process, without HTTP: the engine's own scheduler and runner
serve Qwen-Image's pipeline with random weights, those of the timestep made a tenth so that steps
are alike. Requests of other lengths, sizes and guidance arrive one after another; both ways serve
all of them in turns, on one set of weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.measure import Seconds, time_call

HEAD_SIZE: Final = 32
#: What the timestep does is made so much smaller: steps of random weights have nothing in common,
#: and then differ by about 0.2, as those of a trained model do.
ALIKE: Final = 0.1
PROMPTS: Final = (
    "a red cat", "a lighthouse in a storm", "two dogs in the rain", "a green bird on a lake",
    "an old man reads", "a tram", "the sea at night, seen from a hill",
)  # fmt: skip
STEPS: Final = (12, 16, 20, 24, 28)
#: Those of one kind come one after another: the engine takes none of another kind in between.
KINDS: Final[Sequence[Mapping[str, Any]]] = (
    {}, {}, {"true_cfg_scale": 4.0}, {"height": 160},
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stepwise", description=__doc__)
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--together", type=int, default=8, help="as many as share a forward")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=6, help=f"each {HEAD_SIZE} wide")
    parser.add_argument("--cache-config", type=json.loads, default={}, help="JSON, as the engine's")
    given = parser.parse_args(arguments)
    os.environ["TORCH_COMPILE_DISABLE"] = "1"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), given) as served:
        measure(served, given)


class Served:
    """The engine on a small model.

    Args:
        engine: it, with the cache on.
        given: the arguments.
    """

    def __init__(self, engine: Any, given: argparse.Namespace) -> None:
        self.engine = engine
        self.together = given.together
        self.asks = asks(given.requests)
        #: Rows of each forward of the transformer, and seconds of the blocks where they are timed.
        self.rows: Counter[int] = Counter()
        self.inside = 0.0

    def run(self, asks: Mapping[str, Any]) -> dict[str, Any]:
        """Serve requests."""
        from tests.engines import steps

        return steps.run(self.engine.runner, asks, together=self.together)

    def alone(self) -> dict[str, Any]:
        """Every request by itself."""
        return {name: self.run({name: ask})[name] for name, ask in self.asks.items()}

    def turn(self, cached: bool) -> tuple[Seconds, dict[str, Any]]:
        """All of them, as they come."""
        found: dict[str, Any] = {}
        with self.cached() if cached else self.uncached():
            self.rows.clear()
            seconds = time_call(lambda _: found.update(self.run(self.asks)), 0, "cpu")
        return seconds, found

    @contextmanager
    def cached(self) -> Iterator[None]:
        """That a block can run on a part of the rows is proved once: before it is timed."""
        never = {"extra_args": {"cachedit": {"residual_diff_threshold": 0.0}}}
        for kind in KINDS[1:]:
            one, other = asks(2, kind).values()
            self.run({"one": one, "other": other._replace(sampling={**other.sampling, **never})})
        yield

    @contextmanager
    def uncached(self) -> Iterator[None]:
        """The same engine without a cache: nothing of it is left on the model."""
        config, backend = self.engine.runner.od_config, self.engine.backend
        backend.disable(self.engine.pipeline)
        config.cache_backend = None
        try:
            yield
        finally:
            config.cache_backend = "cache_dit"
            backend.enable(self.engine.pipeline)

    def share_of_blocks(self) -> float:
        """Of an uncached turn, how much of the time is spent in the blocks."""
        begun: list[float] = []
        hooks = []
        for block in self.engine.pipeline.transformer.transformer_blocks:
            before = block.register_forward_pre_hook(lambda *_: begun.append(time.process_time()))
            hooks += [before, block.register_forward_hook(lambda *_: self._add(begun.pop()))]
        self.inside = 0.0
        seconds, _ = self.turn(cached=False)
        for hook in hooks:
            hook.remove()
        return self.inside / seconds.cpu

    def _add(self, begun: float) -> None:
        self.inside += time.process_time() - begun


def asks(count: int, kind: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Requests, two of which arrive with each step, by their names."""
    from tests.engines.steps import Ask

    found = {}
    for index in range(count):
        prompt: Any = PROMPTS[index % len(PROMPTS)]
        more = KINDS[index * len(KINDS) // count] if kind is None else kind
        if "true_cfg_scale" in more:
            prompt = {"prompt": prompt, "negative_prompt": "a blue dog"}
        sampling = {
            "height": 128, "width": 128, "seed": index,
            "num_inference_steps": STEPS[index % len(STEPS)], **more,
        }  # fmt: skip
        found[f"request {index}"] = Ask(prompt, index // 2, sampling=sampling)
    return found


@contextmanager
def serving(folder: Path, given: argparse.Namespace) -> Iterator[Served]:
    """The engine on a small model of the size that is asked for."""
    from tests.engines.engine import running

    with running(
        "qwen_image", checkpoint(folder, given.layers, given.heads), step_execution=True,
        max_num_seqs=given.together, cache_backend="cache_dit", cache_config=given.cache_config,
    ) as engine:  # fmt: skip
        served = Served(engine, given)
        inner = engine.pipeline.transformer.register_forward_pre_hook(
            lambda _, args, kwargs: served.rows.update([len((args or [*kwargs.values()])[0])]),
            with_kwargs=True,
        )
        try:
            yield served
        finally:
            inner.remove()


def checkpoint(folder: Path, layers: int, heads: int) -> Path:
    """The checkpoint of the tests, with another transformer."""
    from cachedit_yaml.engines.vllm_omni.checkpoint import write_checkpoint
    from cachedit_yaml.language.probe_spec import Part
    from cachedit_yaml.probe.parts import build_part
    from tests.engines import checkpoints

    spec, recipe = checkpoints.described("qwen_image")
    small = recipe.parts["transformer"]
    assert small is not None
    config = {
        **(small.config or {}), "num_layers": layers, "num_attention_heads": heads,
        "attention_head_dim": HEAD_SIZE, "axes_dims_rope": [8, 12, 12],
    }  # fmt: skip
    parts = {**recipe.parts, "transformer": dataclasses.replace(small, config=config)}
    write_checkpoint(folder, spec, dataclasses.replace(recipe, parts=parts), "QwenImagePipeline")
    transformer: Any = build_part(Part(part=small.part, config=config), "transformer")
    with torch.no_grad():
        transformer.time_text_embed.timestep_embedder.linear_2.weight.mul_(ALIKE)
    transformer.save_pretrained(folder / "transformer")
    return folder


def measure(served: Served, given: argparse.Namespace) -> None:
    """Take turns, and print what came out."""
    transformer = served.engine.pipeline.transformer
    weights = sum(item.numel() for item in transformer.parameters())
    print(
        f"QwenImagePipeline, {given.layers} blocks x {given.heads * HEAD_SIZE} wide, "
        f"{weights / 1e6:.0f} million weights (random), 128 x 128 and 128 x 160 pixels\n"
        f"{given.requests} requests of {min(STEPS)} to {max(STEPS)} steps, a quarter with guidance,"
        f" {given.together} at a time; {_settings(served)}\n"
        f"of a turn without the cache {served.share_of_blocks():.0%} is spent in blocks"
    )
    alone = {True: served.alone()}
    with served.uncached():
        alone[False] = served.alone()
    plain: list[Seconds] = []
    cached: list[Seconds] = []
    told: list[str] = []
    for number in range(given.rounds):
        order = [False, True]
        random.Random(number).shuffle(order)
        for way in order:
            seconds, found = served.turn(way)
            (cached if way else plain).append(seconds)
            if number == 0:
                told.append(_told(served, found, way))
                told[-1] += f"\n  beside those served alone: {_beside(found, alone[way])}"
    print("\n".join(sorted(told)))
    one, two = ([item.cpu for item in way] for way in (plain, cached))
    ratios = [before / after for before, after in zip(one, two, strict=True)]
    print(
        f"requests per second of processor time: {given.requests / statistics.median(one):.2f} "
        f"without, {given.requests / statistics.median(two):.2f} with the cache: "
        f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f}, "
        f"{len(ratios)} rounds)"
    )


def _settings(served: Served) -> str:
    """What the cache of a request of the middle length is made with."""
    handle = served.engine.handle
    (item,) = [item for own in handle.plan.transformers for item in own.lists]
    values = item.layers.resolve(STEPS[len(STEPS) // 2]).values
    names = ("residual_diff_threshold", "max_warmup_steps", "max_continuous_cached_steps")
    return ", ".join(f"{name} {values[name]}" for name in names)


def _told(served: Served, found: Mapping[str, Any], cached: bool) -> str:
    """What a turn did."""
    forwards = sum(served.rows.values())
    rows = sum(count * times for count, times in served.rows.items())
    line = (
        f"{forwards} forwards of {rows / forwards:.1f} rows ({dict(sorted(served.rows.items()))})"
    )
    if not cached:
        return f"without the cache: {line}"
    branches = [row for item in found.values() for row in item.stats[-1].branches]
    share = sum(row.computed_blocks for row in branches) / sum(row.total_blocks for row in branches)
    return f"with the cache: {line}, {share:.1%} of the blocks computed"


def _beside(found: Mapping[str, Any], alone: Mapping[str, Any]) -> str:
    """How far pictures, whose values go from -1 to 1, are from those that were served alone."""
    furthest, others = 0.0, 0
    for name, item in found.items():
        assert item.error is None, item.error
        if item.stats:
            (one,), (lonely,) = item.stats[-1:], alone[name].stats[-1:]
            steps = [[row.cached_steps for row in stats.branches] for stats in (one, lonely)]
            others += steps[0] != steps[1]
        pairs = zip(item.output, alone[name].output, strict=True)
        furthest = max(furthest, *((a.double() - b.double()).abs().max().item() for a, b in pairs))
    return f"{others} of {len(found)} cached in other steps, at most {furthest:.1e} apart"


if __name__ == "__main__":
    main()
