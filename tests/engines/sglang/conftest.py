"""These tests need SGLang: ``make test-engines`` runs them in an environment that has it."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

collect_ignore_glob = []
if importlib.util.find_spec("sglang") is None:
    collect_ignore_glob.append("test_*.py")


def _port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="session", autouse=True)
def _worker() -> None:
    """What SGLang's worker does before it builds a pipeline, with one rank."""
    for name in ("RANK", "LOCAL_RANK"):
        os.environ.setdefault(name, "0")
    os.environ.update(WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_port()))

    from sglang.multimodal_gen.runtime.platforms import initialize_current_platform
    from sglang.multimodal_gen.runtime.platforms.plugins import apply_plugin_hooks, load_plugins

    initialize_current_platform()
    load_plugins()
    apply_plugin_hooks()

    from sglang.multimodal_gen.runtime.distributed.parallel_state import (
        maybe_init_distributed_environment_and_model_parallel,
    )
    from sglang.multimodal_gen.runtime.server_args import set_global_server_args

    set_global_server_args(
        SimpleNamespace(
            attention_backend="torch_sdpa",
            attention_backend_config=None,
            component_attention_backends={},
            component_attention_backend_roles={},
            comfyui_mode=False,
            disable_autocast=True,
            enable_breakable_cuda_graph=False,
            enable_torch_compile=False,
            kv_gather_degree=1,
            pipeline_config=None,
            sp_split_auto=False,
        )
    )
    maybe_init_distributed_environment_and_model_parallel(tp_size=1, sp_size=1)


@pytest.fixture(autouse=True)
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user's adapters."""
    folder = tmp_path / "adapters"
    folder.mkdir()
    monkeypatch.setenv("CACHEDIT_YAML_PATH", str(folder))
    return folder
