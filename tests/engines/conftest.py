"""These tests need vLLM-Omni: ``make test-engines`` runs them in an environment that has it."""

from __future__ import annotations

import importlib.util
import os

# Read when the engine is imported, which is after this.
os.environ["TORCH_COMPILE_DISABLE"] = "1"
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

collect_ignore_glob = []
if importlib.util.find_spec("vllm_omni") is None:
    collect_ignore_glob.append("test_*.py")
