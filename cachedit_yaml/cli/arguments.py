"""Arguments that commands share."""

from __future__ import annotations

import argparse
import os
from typing import Any

from cachedit_yaml.engines import NAMES


def add_engine(parser: argparse.ArgumentParser, **more: Any) -> None:
    """Declare the engine; its name may be written with dashes, as packages are."""
    parser.add_argument("--engine", choices=NAMES, type=lambda text: text.replace("-", "_"), **more)


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Declare how many processes prove."""
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        default=os.cpu_count() or 1,
        help="work side by side; default: one for each core",
    )
