"""Generate with a diffusers pipeline: seeds for each picture, steps to watch, the time it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from cachedit_yaml.generating.samples import Samples

#: Told after each step: the steps that are done, and how many there are where that is known.
OnStep: TypeAlias = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Generated:
    """What one call of a pipeline made.

    Attributes:
        frames: for each picture its frames; one, or many for a video; none where the pipeline made
            no pictures.
        seconds: the time of the whole call; see :func:`call_pipeline`.
        numbers: what it made otherwise: latents, sound, arrays.
        samples: the same, or the pictures, as what is compared.
    """

    frames: list[list[Image]]
    seconds: float
    numbers: torch.Tensor | None = None
    samples: Samples | None = None

    @property
    def images(self) -> list[Image]:
        """All frames of all pictures in one list."""
        return [frame for frames in self.frames for frame in frames]


def generate(
    pipeline: Any,
    call: Mapping[str, Any],
    seeds: Sequence[int] = (),
    on_step: OnStep | None = None,
) -> Generated:
    """Call a pipeline once.

    Args:
        pipeline: a diffusers pipeline.
        call: the arguments of the call.
        seeds: one for each picture, so that a picture does not depend on those beside it.
        on_step: told after each denoising step.

    Raises:
        ProbeError: the pipeline returned neither pictures nor numbers.
    """
    from cachedit_yaml.generating.samples import of_pictures, samples_of
    from cachedit_yaml.probe.pipelines import tensor_of

    output, seconds = call_pipeline(pipeline, call, seeds, on_step)
    frames = _frames_of(output)
    if frames:
        return Generated(frames, seconds, samples=of_pictures(frames))
    numbers = tensor_of(output)
    return Generated(frames, seconds, numbers, samples_of(output))


def call_pipeline(
    pipeline: Any,
    call: Mapping[str, Any],
    seeds: Sequence[int] = (),
    on_step: OnStep | None = None,
) -> tuple[Any, float]:
    """As :func:`generate`, for a pipeline of any kind: what it returned, and the seconds.

    On a CPU they are those of the processor, in all threads: another program that takes it does not
    count.
    """
    arguments = with_generators(call, seeds)
    on_cpu = device_of(pipeline).type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    with watch_steps(pipeline, on_step or (lambda done, total: None)):
        _wait()
        start = clock()
        output = pipeline(**arguments)
        _wait()
        seconds = clock() - start
    return output, seconds


def device_of(pipeline: Any) -> torch.device:
    """The device that a pipeline says it is on; the CPU where it says none."""
    import torch

    return torch.device(getattr(pipeline, "device", "cpu"))


def with_generators(call: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """The arguments of a call with new generators, which give the same noise on every device.

    Args:
        call: the arguments.
        seeds: one for each picture; without any the arguments stay as they are.
    """
    import torch

    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    if not generators:
        return dict(call)
    return {**call, "generator": generators if len(generators) > 1 else generators[0]}


@contextmanager
def watch_steps(pipeline: Any, on_step: OnStep) -> Iterator[None]:
    """Report the steps of a pipeline, in place of its own progress bar."""

    def progress_bar(iterable: Any = None, total: int | None = None) -> _Steps:
        return _Steps(iterable, total, on_step)

    own = vars(pipeline).get("progress_bar")
    pipeline.progress_bar = progress_bar
    try:
        yield
    finally:
        if own is None:
            del pipeline.progress_bar
        else:
            pipeline.progress_bar = own


class _Steps:
    """Stands in for the bar that ``pipeline.progress_bar`` returns."""

    def __init__(self, iterable: Any, total: int | None, on_step: OnStep) -> None:
        self._iterable = iterable
        self._total = len(iterable) if total is None and hasattr(iterable, "__len__") else total
        self._on_step = on_step
        self._done = 0

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable:
            yield item
            self.update()

    def __enter__(self) -> _Steps:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def update(self, steps: int = 1) -> None:
        self._done += steps
        self._on_step(self._done, self._total)

    def __getattr__(self, name: str) -> Callable[..., None]:
        # set_description, set_postfix, write and the like of tqdm.
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: None


def _wait() -> None:
    """Wait for the accelerator, so that the clock sees all of its work."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _frames_of(output: Any) -> list[list[Image]]:
    from PIL import Image

    for name in ("images", "frames"):
        found = getattr(output, name, None)
        if not isinstance(found, (list, tuple)) or not found:
            continue
        pictures = [list(item) if isinstance(item, (list, tuple)) else [item] for item in found]
        if all(isinstance(frame, Image.Image) for frames in pictures for frame in frames):
            return pictures
    return []
