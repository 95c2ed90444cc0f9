"""The runs of one tuning: traced, uncached and cached ones, what they cost, what they told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import cachedit_yaml
from cachedit_yaml.api import compile_adapter
from cachedit_yaml.errors import AdapterError, ConfigError
from cachedit_yaml.generating.likeness import likeness, measured_as
from cachedit_yaml.generating.loading import one_line
from cachedit_yaml.generating.progress import Start
from cachedit_yaml.generating.samples import KINDS, Array, Samples
from cachedit_yaml.generating.timeline import Panel, shapes_of
from cachedit_yaml.language.spec import AdapterSpec, Profile
from cachedit_yaml.language.structure import structure
from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.tuning.calls import Calls, OutOfMemoryError, name_of
from cachedit_yaml.tuning.candidates import Candidate, in_one_line
from cachedit_yaml.tuning.gains import HOLED, amplify, holes
from cachedit_yaml.tuning.outputs import plain_call, worst_picture
from cachedit_yaml.tuning.record import Recorder, tracing, watching
from cachedit_yaml.tuning.residuals import RINGS
from cachedit_yaml.tuning.store import Store, pack, unpack
from cachedit_yaml.tuning.targets import Measured
from cachedit_yaml.tuning.units import Unit

#: So many calls are traced.
TRACED: Final = 4
#: How far the seeds of checks are from those of the trace.
_ELSEWHERE: Final = 100_003
#: Rounds in which the chosen settings are timed.
_ROUNDS: Final = 3
PACKAGES: Final = ("cachedit-yaml", "cache-dit", "diffusers", "torch")


class Session(Calls):
    """The runs of one tuning.

    Attributes:
        model: its name.
        budget: uncached generations of all calls that may be spent.
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
        super().__init__(pipeline, calls, seed, start)
        self.spec = spec
        self.budget = budget
        self.timelines: dict[str, Panel] = {}
        self.model = model or name_of(pipeline)
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
        self.seconds = self.store.seconds
        self._reference: list[Samples] = []
        self._seconds = 0.0
        self._finals: list[torch.Tensor | None] = []

    @property
    def measured(self) -> list[Measured]:
        """Everything that was measured."""
        return self.store.measured

    @property
    def spent(self) -> float:
        """How many uncached generations of all calls everything so far has cost."""
        return self.seconds / self._seconds if self._seconds else 0.0

    @property
    def reference(self) -> Samples:
        """The uncached samples of all calls."""
        return Samples(self._reference[0].kind, [x for call in self._reference for x in call])

    @property
    def what(self) -> str:
        """What is compared, and how."""
        return measured_as(self.reference)

    def _phase(self, name: str, runs: int) -> None:
        left = (self.budget - self.spent) * self._seconds
        hint = f", {_duration(left)} left at most" if self._seconds and left > 0 else ""
        self.begin(name + hint, runs)

    def require_reference(self) -> None:
        """Run all calls without the cache, on the seeds of the checks, or take what was kept."""
        kept = self.store.arrays("uncached")
        if kept is None:
            kept = {"seconds": np.array(0.0)}
            self._phase("uncached", len(self.calls))
            for index in range(len(self.calls)):
                samples, seconds = self.run(index, self._elsewhere(index))
                kept["seconds"] = kept["seconds"] + seconds
                kind = KINDS.index(samples.kind)
                kept |= {f"{index}/{at}/{kind}": item for at, item in enumerate(samples)}
            self.store.keep("uncached", kept)
        self._seconds = float(kept.pop("seconds"))
        self._reference = [Samples("numbers") for _ in self.calls]
        for name, item in kept.items():
            index, _, kind = map(int, name.split("/"))
            self._reference[index].append(item)
            self._reference[index].kind = KINDS[kind]
        if len({call.kind for call in self._reference}) > 1:
            raise ConfigError("the calls make different kinds of output; tune for one at a time")

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
        for ring, smaller in zip(RINGS, (*RINGS[1:], None), strict=True):
            try:
                with tracing(self.pipeline, self.spec, ring) as recorder:
                    self.run(index, self.seed + index)
                break
            except OutOfMemoryError:
                if smaller is None:
                    raise
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.notes.append(f"memory did not suffice for the trace: it lies {smaller.text}")
        self._finals.append(recorder.final)
        self.notes += recorder.notes
        return [unit for unit in recorder.units() if unit.errors]

    def _final_of(self, index: int, item: Candidate) -> torch.Tensor | None:
        """The latents after the last step of a traced call under some settings."""
        with cachedit_yaml.enable(self.pipeline, self.spec, cache_config=dict(item.settings)) as on:
            recorder = Recorder()
            with watching(on.plan, recorder):
                self.run(index, self.seed + index)
        return recorder.final

    def _steps_of(self, calls: list[list[Unit]]) -> list[list[Unit]]:
        found = {tuple(sorted(unit.share for unit in call)) for call in calls}
        if len(found) > 1:
            raise ConfigError("the calls ran other numbers of steps; tune for one number at a time")
        self.steps = self.steps or max((unit.share for call in calls for unit in call), default=0)
        return calls

    def _enabled(self, settings: Mapping[str, Any], name: str = "") -> Handle:
        """Cached by a profile of the adapter, or by settings as a profile of it would have them."""
        spec = self.spec
        if not name:
            name = "tuned"
            profile, problems = structure(Profile, settings)
            if profile is None:
                raise AdapterError(problems)
            spec = replace(spec, profiles={**(spec.profiles or {}), name: profile})
        return cachedit_yaml.enable(self.pipeline, spec, profile=name)

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
        count = sum(not item.name for item in self.measured)
        self._phase(f"profile {name}" if name else f"check {count + 1}", len(self.calls))
        with self._enabled(settings, name) as handle:
            for index in range(len(self.calls)):
                samples, took = self.run(index, self._elsewhere(index))
                made += samples
                seconds += took
                fractions.append(handle.stats().computed_fraction)
        true = self.reference
        near = likeness(true, made)
        blocks, speed = sum(fractions) / len(fractions), self._seconds / seconds
        told = in_one_line(self.spec.profiles[name].given()) if name else ""
        found = Measured(dict(settings), key or name, blocks, speed, near, name, error, told)
        self.store.seconds = self.seconds
        self.store.add(found, worst_picture(true, made, near))
        return found

    def time(self, chosen: Sequence[Measured]) -> None:
        """Measure the speeds of settings in turns with the uncached call."""
        todo = {item.key: item for item in chosen}
        ratios: dict[str, list[float]] = {key: [] for key in todo}
        self._phase("time, in turns", _ROUNDS * (1 + len(ratios)))
        for _ in range(_ROUNDS):
            _, plain = self.run(0, self.seed)
            for item in todo.values():
                with self._enabled(item.settings) as handle:
                    ratios[item.key].append(plain / self.run(0, self.seed)[1])
                    stats, shapes = handle.stats(), shapes_of(handle.plan, self.steps)
                    note = f"the first call, {stats.computed_fraction:.1%} of blocks computed"
                    panel = Panel(item.key, note, self.steps, stats.branches, shapes)
                    self.timelines[item.key] = panel
        for place, item in enumerate(self.measured):
            if not item.name and item.key in ratios:
                speed = sorted(ratios[item.key])[_ROUNDS // 2]
                self.measured[place] = replace(item, speed=speed, timed=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
