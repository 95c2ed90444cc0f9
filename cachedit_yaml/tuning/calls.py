"""The calls of one tuning: whether they can be tuned on, and running them."""

from __future__ import annotations

import errno
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cachedit_yaml.errors import CacheditYamlError, CacheRuntimeError, ConfigError
from cachedit_yaml.generating.generate import call_pipeline, device_of
from cachedit_yaml.generating.loading import one_line
from cachedit_yaml.generating.progress import Start
from cachedit_yaml.generating.samples import Samples, samples_of


class OutOfMemoryError(CacheRuntimeError):
    """A call needs more memory than there is."""


class Calls:
    """Runs the calls of one tuning.

    Args:
        pipeline: a live pipeline.
        calls: the arguments of each call, without a generator.
        seed: of the first call.
        start: shows the progress of a task.

    Attributes:
        steps: denoising steps; 0 until a call has run.
        seconds: that all runs took.
        notes: what there is to say.

    Raises:
        ConfigError: the calls cannot be tuned on.
    """

    def __init__(
        self, pipeline: Any, calls: Sequence[Mapping[str, Any]], seed: int, start: Start | None
    ) -> None:
        self.pipeline = pipeline
        self.calls = [dict(call) for call in calls]
        self.seed = seed
        self.seconds = 0.0
        self.notes: list[str] = []
        self._start = start or (lambda name, total: lambda done, of: None)
        self._parameters = inspect.signature(type(pipeline).__call__).parameters
        self._done = 0
        self._told: Callable[[int, int | None], None] = lambda done, of: None
        self._check()

    def _check(self) -> None:
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
    def device(self) -> str:
        """What it runs on."""
        device = device_of(self.pipeline)
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()

    def begin(self, name: str, runs: int) -> None:
        """A line for what comes now, which runs so many calls."""
        self._done = 0
        self._told = self._start(name, runs * self.steps if self.steps else None)

    def run(self, index: int, seed: int, **more: Any) -> tuple[Samples, float]:
        """Run one of the calls: its samples, and the seconds that it took."""
        call = {**self.calls[index], **more}
        seeds = [seed] if "generator" in self._parameters else []
        before = self._done

        def tell(done: int, total: int | None) -> None:
            self._done = before + done
            self._told(self._done, None)

        try:
            # By their number: an engine's platform may have torch take other devices for its own.
            devices = range(torch.cuda.device_count())
            with torch.random.fork_rng(devices, device_type="cuda"), torch.no_grad():
                torch.manual_seed(seed)
                output, seconds = call_pipeline(self.pipeline, call, seeds, tell)
        except CacheditYamlError:
            raise
        except Exception as error:
            cls = type(self.pipeline).__name__
            if _is_out_of_memory(error):
                raise OutOfMemoryError(
                    f"{cls} is out of memory: {one_line(error)}; give smaller pictures, fewer "
                    "frames, or one prompt a call"
                ) from None
            raise CacheRuntimeError(f"{cls} failed: {one_line(error)}") from None
        self.seconds += seconds
        return samples_of(output), seconds

    def require_determinism(self) -> None:
        """Run the first call twice.

        Raises:
            ConfigError: it came out otherwise.
        """
        few = {"num_inference_steps": 2} if "num_inference_steps" in self._parameters else {}
        self.begin("the same call twice", 2)
        first, second = (self.run(0, self.seed, **few)[0] for _ in range(2))
        if not all(np.isfinite(item).all() for item in first):
            raise ConfigError("the uncached result holds NaN or infinity; nothing can be compared")
        if len(first) != len(second) or not all(map(np.array_equal, first, second)):
            raise ConfigError(
                "two uncached runs of the same call with the same seed differ, so nothing can be "
                "compared with them: look for random numbers without a generator, or torch's "
                "nondeterministic kernels (torch.use_deterministic_algorithms)"
            )


def name_of(pipeline: Any) -> str:
    """What a pipeline was loaded from: an id, or the name of its folder."""
    name = str(getattr(pipeline, "name_or_path", "") or "").rstrip("/")
    if not os.path.isdir(name):
        return name or type(pipeline).__name__
    parts = Path(os.path.abspath(name)).parts
    # A snapshot of the hub's cache: models--org--repo/snapshots/COMMIT.
    for part in parts[-3:]:
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/")
    return parts[-1]


def _is_out_of_memory(error: Exception) -> bool:
    """Of the device, or of the machine, where torch raises a plain error."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOSPC
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)
