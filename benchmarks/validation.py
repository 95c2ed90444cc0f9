"""``validate`` beside check-jsonschema on the same files, in turn.

``python -m benchmarks.validation [--rounds 5] [--check-jsonschema PATH]``. Each contender is a
fresh process; what counts is its processor time, so that other programs matter little.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "schemas" / "adapter.v1.schema.json"
COUNTS = (100, 1000)


def copies(folder: Path, count: int) -> Path:
    """That many adapters, each for pipelines of its own."""
    sources = sorted((ROOT / "adapters").rglob("*.yaml"))
    folder.mkdir()
    for number in range(count):
        source = sources[number % len(sources)]
        text = source.read_text(encoding="utf-8")
        text = re.sub(r"^extends: .*\n", "", text, flags=re.MULTILINE)
        text = re.sub(r"\b(\w+)Pipeline\b", rf"\1N{number}Pipeline", text)
        (folder / f"{source.stem}-{number}.yaml").write_text(text, encoding="utf-8")
    return folder


def seconds(command: Sequence[str]) -> float:
    """Processor time of a process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check-jsonschema", default=shutil.which("check-jsonschema"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folders = {"shipped": ROOT / "adapters"}
        folders |= {str(count): copies(Path(place, str(count)), count) for count in COUNTS}
        print("| files | cachedit-yaml validate | check-jsonschema |\n|---|---|---|")
        for name, folder in folders.items():
            files = sorted(map(str, folder.rglob("*.yaml")))
            ours = [sys.executable, "-m", "cachedit_yaml", "validate", str(folder)]
            other = [str(args.check_jsonschema), "--schemafile", str(SCHEMA), *files]
            rows: tuple[list[float], list[float]] = ([], [])
            for _ in range(args.rounds):
                rows[0].append(seconds(ours))
                if args.check_jsonschema:
                    rows[1].append(seconds(other))
            shown = [f"{statistics.median(row):.2f} s" if row else "-" for row in rows]
            print(f"| {len(files)} ({name}) | {shown[0]} | {shown[1]} |")


if __name__ == "__main__":
    main()
