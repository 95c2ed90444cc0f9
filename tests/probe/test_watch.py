"""What the probe counts is what the statistics count."""

from __future__ import annotations

from typing import Any

import cachedit_yaml
from cachedit_yaml.probe.watch import Watch
from tests.runtime.models import SmallPipeline, noise, small


def test_calls_that_are_no_denoising_do_not_count() -> None:
    class Capturing(type(small())):  # type: ignore[misc]
        def forward(self, hidden_states: Any, timestep: Any = None, mode: str = "denoise") -> Any:
            return super().forward(hidden_states, timestep)

    pipe = SmallPipeline(Capturing())
    spec = cachedit_yaml.load_adapter(
        {
            "schema": 1,
            "name": "capturing",
            "cache": {"Fn_compute_blocks": 1},
            "transformers": {
                "transformer": {
                    "blocks": {"blocks": "Pattern_3"},
                    "denoising": {"when": {"mode": "denoise"}},
                }
            },
        }
    )
    with Watch(cachedit_yaml.compile_adapter(spec, pipe)) as watch:
        pipe(3)
        pipe.transformer(noise(), 0, mode="capture")
    assert watch.forwards == {"transformer": 3}
    assert watch.calls["transformer", "blocks", 0] == 3
