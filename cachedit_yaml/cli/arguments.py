"""Arguments that commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from cachedit_yaml.engines import NAMES


def add_adapter(parser: argparse.ArgumentParser, **more: Any) -> None:
    """Declare one adapter."""
    parser.add_argument(
        "adapter",
        metavar="ADAPTER_OR_PATH",
        help="an adapter's name, its file, the class that it serves, org/repo on the hub, or - for "
        "stdin",
        **more,
    )


def add_adapters(parser: argparse.ArgumentParser) -> None:
    """Declare any number of adapters."""
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="ADAPTER_OR_PATH",
        help="adapters by name, file or class that they serve, folders, patterns such as "
        "'adapters/*.yaml', or - for stdin; default: all that can be found",
    )


def add_import(parser: argparse.ArgumentParser) -> None:
    """Declare the modules that hold classes of one's own."""
    parser.add_argument(
        "--import",
        dest="modules",
        metavar="MODULE",
        action="append",
        default=[],
        help="a module, or its .py file, with pipelines and models of your own; several times",
    )


def add_engine(parser: argparse.ArgumentParser, **more: Any) -> None:
    """Declare the engine; its name may be written with dashes, as packages are."""
    parser.add_argument("--engine", choices=NAMES, type=lambda text: text.replace("-", "_"), **more)


def add_format(parser: argparse.ArgumentParser, what: str, *more: str) -> None:
    """Declare how something is printed."""
    parser.add_argument(
        "--format",
        choices=("human", "json", *more),
        default="human",
        help=f"how to print {what}; default: human",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Declare a profile, and settings that win over it."""
    parser.add_argument("--profile", metavar="NAME", help="one of the adapter's profiles")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a cache setting that wins over adapter and profile; several times",
    )


def add_call(parser: Any) -> None:
    """Declare what a pipeline is to make, and where."""
    add = parser.add_argument
    add(
        "--prompt",
        metavar="TEXT",
        action="append",
        default=[],
        help="what to show; several times for several pictures",
    )
    add(
        "--label",
        metavar="NAME_OR_ID",
        nargs="+",
        action="extend",
        default=[],
        help="classes to show, for class-conditional models",
    )
    add("--steps", metavar="N", type=positive, help="denoising steps; default: the pipeline's")
    add(
        "--arg",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="any other argument of the pipeline's call; several times",
    )
    add("--device", metavar="NAME", help="default: cuda where there is one, else cpu")


def add_generation(parser: Any) -> None:
    """Declare a pipeline in a folder, its adapter, and how it is called."""
    add = parser.add_argument
    add_import(parser)
    add_model(parser, required=True, help="folder of a diffusers pipeline (with model_index.json)")
    add(
        "--adapter",
        metavar="ADAPTER_OR_PATH",
        help="its name, file or class, org/repo on the hub, or - for stdin; default: "
        "cachedit.yaml in the model's folder, else the one for the pipeline's class",
    )
    add_call(parser)
    add("--guidance", metavar="G", type=float, help="guidance scale; default: the pipeline's")
    add(
        "--seed",
        metavar="S",
        type=int,
        default=0,
        help="seed of the first picture; each later one has the next number; default: 0",
    )
    add(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="default: float32 on the CPU, else bfloat16",
    )


def add_model(parser: Any, option: str = "--model", **more: Any) -> None:
    """Declare the folder of a pipeline."""
    parser.add_argument(option, metavar="DIR", type=Path, **more)


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Declare how many processes prove."""
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=positive,
        default=os.cpu_count() or 1,
        help="work side by side; default: one for each core",
    )


class Typed(argparse.Action):
    """Keeps the flag as it was typed too, under the argument's name and ``_typed``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Take the value."""
        setattr(namespace, self.dest, values)
        setattr(namespace, f"{self.dest}_typed", option_string)


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return number
