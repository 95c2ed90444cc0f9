"""What is done around each request: its wishes before, and after it the end and the statistics."""

from __future__ import annotations

import logging
from typing import Any

from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.runtime.patching import Patch

logger = logging.getLogger("vllm_omni.cachedit_yaml")

#: The request with which the engine warms up has too few steps to hit.
WARM_UP = "dummy_req_id"


class Report(Patch):
    """Stands in for the pipeline's forward, and logs the statistics of every request.

    Each warning is given once.
    """

    def __init__(self, handle: Handle) -> None:
        super().__init__(handle.plan.pipeline, "forward")
        self._handle = handle
        self._said: set[str] = set()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
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


def asked_ratio(args: tuple[Any, ...]) -> float | None:
    """The boundary ratio that a request asks for; None where it asks for none."""
    requests = getattr(args[0], "requests", None) if args else None
    sampling = getattr(requests[0], "sampling_params", None) if requests else None
    ratio = getattr(sampling, "boundary_ratio", None)
    return float(ratio) if isinstance(ratio, (int, float)) else None


def is_warm_up(args: tuple[Any, ...]) -> bool:
    """Whether a request is the one with which the engine warms up."""
    requests = getattr(args[0], "requests", ()) if args else ()
    return any(str(getattr(item, "request_id", "")).startswith(WARM_UP) for item in requests or ())
