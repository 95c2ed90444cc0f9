"""One rank of a vLLM-Omni engine on a CPU; see ``test_ranks``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

STEPS = 8
NO_HIT = {"residual_diff_threshold": 0.0, "max_warmup_steps": 0}
HITS = {"residual_diff_threshold": 0.9, "max_warmup_steps": 2}


def work(rank: int, folder: Path, label: str, parallel: dict[str, int], port: int) -> None:
    """Run every case of an adapter's first pipeline uncached and cached, and write what it did."""
    os.environ |= {"TORCH_COMPILE_DISABLE": "1", "VLLM_CONFIGURE_LOGGING": "0"}
    os.environ |= {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    import torch

    torch.set_num_threads(1)
    import cachedit_yaml
    from cachedit_yaml.engines.vllm_omni import probe as omni
    from cachedit_yaml.engines.vllm_omni import register
    from cachedit_yaml.engines.vllm_omni import worker as engine
    from cachedit_yaml.probe.recipe import recipe
    from cachedit_yaml.registry.registry import Registry

    register()
    from vllm_omni.diffusion.cache.cachedit import CacheDiTBackend
    from vllm_omni.diffusion.data import OmniDiffusionConfig
    from vllm_omni.diffusion.worker.diffusion_worker import DiffusionWorker

    (spec,) = Registry.load().find(label).to_prove("vllm_omni")
    made = recipe(spec, spec.pipelines[0])
    config = OmniDiffusionConfig.from_kwargs(
        model=str(folder / "model"), dtype="float32", enforce_eager=True,
        num_gpus=max(1, *parallel.values()) if parallel else 1, parallel_config=parallel,
    )  # fmt: skip
    config.enrich_config()
    config.master_port = port
    worker = DiffusionWorker(rank, rank, config, skip_load_model=True)
    engine.load(worker, made, seed=0)
    built = omni.Omni(spec, made, worker)
    omni.silence(built.target)
    found: dict[str, Any] = {}
    for case in made.cases:
        plain = built.run(case, STEPS)
        for name, settings in (("no hit", NO_HIT), ("hits", HITS)):
            backend = CacheDiTBackend(dict(settings))
            with engine.inside(worker):
                backend.enable(built.target)
            handle = cachedit_yaml.handle_of(built.target)
            assert handle is not None
            built.backend = backend
            output = built.run(case, STEPS)
            found[f"{case}, {name}"] = {
                "equal": bool(torch.equal(output, plain)),
                "sum": float(output.double().sum()),
                "cached": {
                    f"{row.blocks} {row.branch}": list(row.cached_steps)
                    for row in handle.stats().branches
                },
                "differences": {
                    f"{row.blocks} {row.branch}": list(row.residual_diffs.values())
                    for row in handle.stats().branches
                },
            }
            built.backend = None
            backend.disable(built.target)
    (folder / f"rank{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    worker.shutdown()


if __name__ == "__main__":
    work(
        int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]), int(sys.argv[5])
    )
