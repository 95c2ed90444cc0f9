"""What is done around each request: its wishes before, and after it the end and the statistics."""

from __future__ import annotations

import logging
from typing import Any

from cachedit_yaml.engines.vllm_omni.wishes import Wishes
from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.runtime.patching import Patch

logger = logging.getLogger("vllm_omni.cachedit_yaml")

#: The request with which the engine warms up has too few steps to hit.
WARM_UP = "dummy_req_id"


class Report(Patch):
    """Stands in for the pipeline's forward, and logs the statistics of every request.

    Each warning is given once.
    """

    def __init__(self, handle: Handle, wishes: Wishes) -> None:
        super().__init__(handle.plan.pipeline, "forward")
        self._handle = handle
        self._wishes = wishes
        self._said: set[str] = set()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from vllm_omni.diffusion.data import DiffusionOutput
        from vllm_omni.errors import OmniClientError

        try:
            self._handle.choice = self._wishes.choice(sampling_of(args))
        except OmniClientError as error:
            # The client's fault: the engine goes on, and says so to this client alone.
            return [DiffusionOutput.from_exception(error) for _ in requests_of(args)]
        if getattr(self.owner, "boundary_ratio", None) is None:
            # The engine's own config wins over the request.
            self._handle.boundary_ratio = asked_ratio(args)
        try:
            output = self.inner(*args, **kwargs)
        except BaseException:
            # Aborted, or failed between two forwards: nobody goes on with it.
            self._handle.finish("its call raised")
            raise
        self._handle.finish()
        if not self._handle.enabled:
            self.remove()
        elif self.active and not is_warm_up(args):
            stats = self._handle.stats()
            logger.info("cache of the last request: %s", stats)
            for text in set(stats.warnings) - self._said:
                self._said.add(text)
                logger.warning("%s", text)
        return output


def requests_of(args: tuple[Any, ...]) -> list[Any]:
    """The requests that a pipeline's forward is called with."""
    return list(getattr(args[0], "requests", None) or ()) if args else []


def sampling_of(args: tuple[Any, ...]) -> Any:
    """The sampling parameters of the first of them, whose wishes all others have; None without."""
    return next((getattr(item, "sampling_params", None) for item in requests_of(args)), None)


def asked_ratio(args: tuple[Any, ...]) -> float | None:
    """The boundary ratio that a request asks for; None where it asks for none."""
    ratio = getattr(sampling_of(args), "boundary_ratio", None)
    return float(ratio) if isinstance(ratio, (int, float)) else None


def is_warm_up(args: tuple[Any, ...]) -> bool:
    """Whether a request is the one with which the engine warms up."""
    return any(
        str(getattr(item, "request_id", "")).startswith(WARM_UP) for item in requests_of(args)
    )
