"""The runs of one tuning: traced, uncached and cached ones, what they cost, what they told."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import cachedit_yaml
from cachedit_yaml.api import compile_adapter
from cachedit_yaml.errors import CacheditYamlError, CacheRuntimeError, ConfigError
from cachedit_yaml.generating.generate import call_pipeline
from cachedit_yaml.generating.loading import one_line
from cachedit_yaml.generating.progress import Start
from cachedit_yaml.generating.timeline import Panel, shapes_of
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.tuning.gains import HOLED, amplify, holes
from cachedit_yaml.tuning.outputs import Likeness, likeness, plain_call, samples_of, worst_picture
from cachedit_yaml.tuning.record import Array, Recorder, Unit, tracing, watching
from cachedit_yaml.tuning.residuals import ON_DEVICE
from cachedit_yaml.tuning.store import Store, pack, unpack
from cachedit_yaml.tuning.surrogate import Candidate, in_one_line
from cachedit_yaml.tuning.targets import Measured

#: So many calls are traced.
TRACED: Final = 4
#: How far the seeds of checks are from those of the trace.
_ELSEWHERE: Final = 100_003
#: Rounds in which the chosen settings are timed.
_ROUNDS: Final = 3
PACKAGES: Final = ("cachedit-yaml", "cache-dit", "diffusers", "torch")


class Session:
    """The runs of one tuning.

    Attributes:
        model: its name.
        steps: denoising steps; 0 until a call has run.
        budget: uncached generations of all calls that may be spent.
        notes: what there is to say.
        timelines: of the settings that were timed, by their key.
    """

    def __init__(
        self,
        pipeline: Any,
        spec: AdapterSpec,
        calls: Sequence[Mapping[str, Any]],
        *,
        seed: int,
        model: str | None,
        start: Start | None,
        budget: float,
        folder: Path | None,
        resume: bool,
    ) -> None:
        self.pipeline = pipeline
        self.spec = spec
        self.calls = [dict(call) for call in calls]
        self.seed = seed
        self.budget = budget
        self.notes: list[str] = []
        self.timelines: dict[str, Panel] = {}
        self.model = model or _name_of(pipeline)
        self._start = start or (lambda name, total: lambda done, of: None)
        self._parameters = inspect.signature(type(pipeline).__call__).parameters
        self._done = 0
        self._told: Callable[[int, int | None], None] = lambda done, of: None
        self._check_calls()
        # What does not fit is said before anything runs.
        compile_adapter(spec, pipeline)
        identity = {
            "model": self.model,
            "calls": [plain_call(call) for call in self.calls],
            "seed": seed,
            "adapter": repr(dict(spec.transformers)),
            "versions": {name: metadata.version(name) for name in PACKAGES[1:]},
        }
        self.store = Store(folder, identity, resume)
        self._reference: list[list[Array]] = []
        self._seconds = 0.0
        self._finals: list[torch.Tensor | None] = []

    def _check_calls(self) -> None:
        if not self.calls:
            raise ConfigError("no calls to tune on: give at least two, with other prompts")
        steps = {call.get("num_inference_steps") for call in self.calls}
        if len(steps) > 1:
            raise ConfigError(
                "the calls have other numbers of steps "
                f"({', '.join(map(str, sorted(steps, key=str)))}); tune for one number at a time"
            )
        given = steps.pop()
        self.steps = given if isinstance(given, int) else 0
        if any("generator" in call for call in self.calls):
            raise ConfigError("a call holds a generator; leave it out: each run gets its own seed")
        if len(self.calls) == 1:
            self.notes.append(
                "one prompt only: prompts differ by up to 10 dB under the same settings, so give "
                "several of the kind that will be used"
            )

    @property
    def measured(self) -> list[Measured]:
        """Everything that was measured."""
        return self.store.measured

    @property
    def spent(self) -> float:
        """How many uncached generations of all calls everything so far has cost."""
        return self.store.seconds / self._seconds if self._seconds else 0.0

    @property
    def samples(self) -> int:
        """How many samples are compared."""
        return sum(map(len, self._reference))

    @property
    def device(self) -> str:
        """What it runs on."""
        device = torch.device(getattr(self.pipeline, "device", "cpu"))
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()

    def _phase(self, name: str, calls: int) -> None:
        """A line for what comes now, which runs so many calls."""
        left = (self.budget - self.spent) * self._seconds
        hint = f", {_duration(left)} left at most" if self._seconds and left > 0 else ""
        total = calls * self.steps if self.steps else None
        self._done = 0
        self._told = self._start(name + hint, total)

    def _run(self, index: int, seed: int, **more: Any) -> tuple[list[Array], float]:
        """Run one of the calls: its samples, and the seconds that it took."""
        call = {**self.calls[index], **more}
        seeds = [seed] if "generator" in self._parameters else []
        before = self._done

        def tell(done: int, total: int | None) -> None:
            self._done = before + done
            self._told(self._done, None)

        try:
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(seed)
                begun = time.process_time()
                output, seconds = call_pipeline(self.pipeline, call, seeds, tell)
                if self.device == "CPU":
                    # Of the processor: another program that takes the core does not count.
                    seconds = time.process_time() - begun
        except (CacheditYamlError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            cls = type(self.pipeline).__name__
            raise CacheRuntimeError(f"{cls} failed: {one_line(error)}") from None
        self.store.seconds += seconds
        return samples_of(output), seconds

    def require_determinism(self) -> None:
        """Run the first call twice.

        Raises:
            ConfigError: it came out otherwise.
        """
        few = {"num_inference_steps": 2} if "num_inference_steps" in self._parameters else {}
        self._phase("the same call twice", 2)
        first, second = (self._run(0, self.seed, **few)[0] for _ in range(2))
        if not all(map(np.array_equal, first, second)):
            raise ConfigError(
                "two uncached runs of the same call with the same seed differ, so nothing can be "
                "compared with them: look for random numbers without a generator, or torch's "
                "nondeterministic kernels (torch.use_deterministic_algorithms)"
            )

    def require_reference(self) -> None:
        """Run all calls without the cache, on the seeds of the checks, or take what was kept."""
        kept = self.store.arrays("uncached")
        if kept is None:
            kept = {"seconds": np.array(0.0)}
            self._phase("uncached", len(self.calls))
            for index in range(len(self.calls)):
                samples, seconds = self._run(index, self._elsewhere(index))
                kept["seconds"] = kept["seconds"] + seconds
                kept |= {f"{index}/{number}": item for number, item in enumerate(samples)}
            self.store.keep("uncached", kept)
        self._seconds = float(kept.pop("seconds"))
        self._reference = [[] for _ in self.calls]
        for name, item in kept.items():
            self._reference[int(name.split("/")[0])].append(item)

    def _elsewhere(self, index: int) -> int:
        return self.seed + _ELSEWHERE + index

    def trace(self) -> list[list[Unit]]:
        """Trace the first calls, or take what was kept.

        Raises:
            ConfigError: their generations have other numbers of steps.
        """
        kept = self.store.arrays("trace")
        if kept is not None:
            return self._steps_of(unpack(kept))
        found = []
        self._phase("trace", min(TRACED, len(self.calls)))
        for index in range(min(TRACED, len(self.calls))):
            found.append(self._trace(index))
        self._phase("what becomes of an error until the end", HOLED * len(holes(self.steps)))
        amplify(found, self._finals, self._final_of)
        self.store.keep("trace", pack(found))
        return self._steps_of(found)

    def _trace(self, index: int) -> list[Unit]:
        for room in (ON_DEVICE, 0):
            try:
                with tracing(self.pipeline, self.spec, room) as recorder:
                    self._run(index, self.seed + index)
                break
            except torch.OutOfMemoryError:
                # Once more with what is kept on the CPU.
                torch.cuda.empty_cache()
        else:
            raise CacheRuntimeError(
                "out of memory while tracing; give smaller pictures or fewer frames"
            )
        self._finals.append(recorder.final)
        self.notes += recorder.notes
        return [unit for unit in recorder.units() if unit.errors]

    def _final_of(self, index: int, item: Candidate) -> torch.Tensor | None:
        """The latents after the last step of a traced call under some settings."""
        with cachedit_yaml.enable(self.pipeline, self.spec, cache_config=dict(item.settings)) as on:
            recorder = Recorder()
            with watching(on.plan, recorder):
                self._run(index, self.seed + index)
        return recorder.final

    def _steps_of(self, calls: list[list[Unit]]) -> list[list[Unit]]:
        found = {tuple(sorted(unit.share for unit in call)) for call in calls}
        if len(found) > 1:
            raise ConfigError("the calls ran other numbers of steps; tune for one number at a time")
        self.steps = self.steps or max((unit.share for call in calls for unit in call), default=0)
        return calls

    def measure_profiles(self) -> None:
        """Run the adapter's own profiles, to stand beside what is found."""
        for name in self.spec.profiles or {}:
            try:
                self.measure({}, name=name)
            except ConfigError as error:
                self.notes.append(f"profile {name} does not run here: {one_line(error)}")

    def measure(
        self,
        settings: Mapping[str, Any],
        *,
        name: str = "",
        key: str = "",
        error: float | None = None,
    ) -> Measured:
        """Run all calls with settings, or with a profile, and compare with the uncached ones."""
        known = next((x for x in self.measured if (x.name, x.key) == (name, key or name)), None)
        if known is not None:
            return known
        made: list[Array] = []
        seconds, fractions = 0.0, []
        options: dict[str, Any] = {"profile": name} if name else {"cache_config": dict(settings)}
        count = sum(not item.name for item in self.measured)
        self._phase(f"profile {name}" if name else f"check {count + 1}", len(self.calls))
        with cachedit_yaml.enable(self.pipeline, self.spec, **options) as handle:
            for index in range(len(self.calls)):
                samples, took = self._run(index, self._elsewhere(index))
                made += samples
                seconds += took
                fractions.append(handle.stats().computed_fraction)
        true = [item for call in self._reference for item in call]
        near: Likeness = likeness(true, made)
        blocks, speed = sum(fractions) / len(fractions), self._seconds / seconds
        told = in_one_line(self.spec.profiles[name].given()) if name else ""
        found = Measured(dict(settings), key or name, blocks, speed, near, name, error, told)
        self.store.add(found, worst_picture(true, made, near))
        return found

    def time(self, chosen: Sequence[Measured]) -> dict[str, float]:
        """Speeds of settings by their key, measured in turns with the uncached call."""
        ratios: dict[str, list[float]] = {item.key: [] for item in chosen}
        self._phase("time, in turns", _ROUNDS * (1 + len(ratios)))
        for _ in range(_ROUNDS):
            _, plain = self._run(0, self.seed)
            for item in {item.key: item for item in chosen}.values():
                with cachedit_yaml.enable(
                    self.pipeline, self.spec, cache_config=dict(item.settings)
                ) as handle:
                    ratios[item.key].append(plain / self._run(0, self.seed)[1])
                    stats, shapes = handle.stats(), shapes_of(handle.plan, self.steps)
                    note = f"the first call, {stats.computed_fraction:.1%} of blocks computed"
                    panel = Panel(item.key, note, self.steps, stats.branches, shapes)
                    self.timelines[item.key] = panel
        return {key: sorted(found)[_ROUNDS // 2] for key, found in ratios.items()}


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _name_of(pipeline: Any) -> str:
    name = str(getattr(pipeline, "name_or_path", "") or "").rstrip("/")
    return Path(name).name if os.path.isdir(name) else name or type(pipeline).__name__
