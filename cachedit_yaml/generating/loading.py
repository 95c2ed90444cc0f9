"""Load a diffusers pipeline from a local folder, and say clearly where that does not go."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cachedit_yaml.compiler.own import find_own
from cachedit_yaml.errors import CacheRuntimeError, ConfigError
from cachedit_yaml.yaml.encoding import from_json


class UsageError(ConfigError):
    """What was asked for does not go."""


class CouldNotRunError(CacheRuntimeError):
    """What was asked for failed."""


def load_pipeline(
    folder: Path,
    device: str | None = None,
    dtype: str | None = None,
    *,
    weights: bool = True,
    option: str = "--model",
) -> Any:
    """Load a pipeline.

    Args:
        folder: with a ``model_index.json``.
        device: default: cuda where there is one, else cpu.
        dtype: name of a torch dtype; default: float32 on the CPU, else bfloat16.
        weights: False builds the parts from their configs alone, where they can be; enough to
            look at the pipeline, and quick for a model of any size.
        option: where the folder was named, for messages.

    Raises:
        UsageError: there is no such folder, it holds no pipeline, or there is no such device.
        CouldNotRunError: loading fails.
    """
    index = check_folder(folder, option)
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UsageError(f"no such device: {device}: {one_line(error)}") from None
    dtype = dtype or ("float32" if kind == "cpu" else "bfloat16")
    try:
        with _quiet() as diffusers:
            options: dict[str, Any] = {"torch_dtype": getattr(torch, dtype)}
            # What the pipeline was saved without has to be named.
            parts = {name: None for name, entry in index.items() if entry == [None, None]}
            if not weights:
                parts |= light_parts(folder)
            pipeline = _pipeline_class(diffusers, index).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, **options, **parts
            )
            return pipeline.to(device) if weights else pipeline
    except ImportError:
        raise
    except UsageError as error:
        raise UsageError(f"{folder}: {error}") from None
    except Exception as error:
        raise CouldNotRunError(f"cannot load {folder}: {one_line(error)}") from None


def _pipeline_class(diffusers: Any, index: dict[str, Any]) -> Any:
    """The class that a folder was saved from.

    Raises:
        UsageError: nobody knows it.
    """
    name = index["_class_name"]
    own = find_own(name)
    if own is not None or hasattr(diffusers, name):
        return own or diffusers.DiffusionPipeline
    # diffusers imports the modules of the parts; a pipeline mostly lies beside its transformer.
    entries = [item for item in index.values() if isinstance(item, list) and len(item) == 2]
    modules = {item[0] for item in entries if isinstance(item[0], str) and item[0].isidentifier()}
    for module in sorted(modules - {"diffusers", "transformers"}):
        with suppress(ImportError):
            cls = getattr(importlib.import_module(module), name, None)
            if isinstance(cls, type) and issubclass(cls, diffusers.DiffusionPipeline):
                return cls
    raise UsageError(
        f"it was saved from {name}, which is no class of diffusers; name its module with "
        "--import MODULE"
    )


def check_folder(folder: Path, option: str = "--model") -> dict[str, Any]:
    """Read the ``model_index.json`` of a folder.

    Args:
        folder: the folder.
        option: where it was named, for messages.

    Raises:
        UsageError: there is no such folder, or it holds no pipeline.
    """
    index = folder / "model_index.json"
    if not os.path.isdir(folder):
        what = "is a file, not a folder" if os.path.exists(folder) else "does not exist"
        raise UsageError(f"{option} {folder} {what}; give the folder of a diffusers pipeline")
    if not os.path.isfile(index):
        hint = ""
        if os.path.isfile(folder.parent / "model_index.json"):
            hint = f"; did you mean {folder.parent}?"
        elif os.path.isfile(folder / "config.json"):
            hint = "; it looks like a single model, and this needs the whole pipeline"
        raise UsageError(f"{option} {folder} is no diffusers pipeline: no model_index.json{hint}")
    try:
        content = from_json(index.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{index} is not valid JSON: {one_line(error)}") from None
    if not isinstance(content, dict) or not isinstance(content.get("_class_name"), str):
        raise UsageError(f"{index} does not say which pipeline it is for: no _class_name")
    return content


def light_parts(folder: Path) -> dict[str, Any]:
    """The models of a pipeline without their weights, those that can be built so."""
    import torch

    parts: dict[str, Any] = {}
    for name, entry in check_folder(folder).items():
        if (
            not isinstance(entry, list)
            or len(entry) != 2
            or entry[0] not in ("diffusers", "transformers")
        ):
            continue
        cls: Any = getattr(importlib.import_module(entry[0]), entry[1], None)
        if torch.nn.Module not in getattr(cls, "__mro__", ()):
            continue
        try:
            with torch.device("meta"):
                if entry[0] == "diffusers":
                    parts[name] = cls.from_config(cls.load_config(folder / name))
                else:
                    config = cls.config_class.from_pretrained(folder / name)
                    parts[name] = cls(config)
        except Exception:
            # Loaded with its weights instead.
            continue
    return parts


def one_line(error: BaseException) -> str:
    """The first line of an error, with its kind where the line alone says little."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    if len(text) > 300:
        text = text[:300] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def _quiet() -> Iterator[Any]:
    """Import diffusers and keep it and transformers from printing bars and notices."""
    import diffusers

    found = []
    libraries = [diffusers.utils.logging]
    with suppress(ImportError):
        import transformers

        libraries.append(transformers.utils.logging)
    for library in libraries:
        found.append((library, library.get_verbosity()))
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield diffusers
    finally:
        for library, verbosity in found:
            library.set_verbosity(verbosity)
            library.enable_progress_bar()
