"""The work folder of a tuning: what was traced and measured, so that it can go on."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from cachedit_yaml.errors import ConfigError
from cachedit_yaml.generating.likeness import Likeness
from cachedit_yaml.generating.samples import Array
from cachedit_yaml.tuning.targets import Measured
from cachedit_yaml.tuning.units import Unit

_README: Final = """\
What `cachedit-yaml tune` keeps here, so that `--resume` goes on where it stopped:
tuning.json    what was tuned, and everything that was measured
trace.npz      the errors of the traced generations, by step and distance
uncached.npz   the uncached results that cached ones are compared with
worst.npz      the worst picture of everything that was measured, beside the uncached one
frontier.png   cost against quality of all that was measured
report.html    the same with settings, pictures and timelines, to look at in a browser
"""


class Store:
    """A folder, or nothing at all.

    Args:
        folder: where; None keeps nothing.
        identity: what is tuned; what another one left there does not count.
        resume: go on with what is there.

    Attributes:
        measured: everything that was measured.
        worst: by place in it as text, the uncached picture and the worst one, ``[2 x h x w x 3]``.
        seconds: that all runs took.

    Raises:
        ConfigError: what is there was made for something else, or is no work folder.
    """

    def __init__(self, folder: Path | None, identity: dict[str, Any], resume: bool) -> None:
        self.folder = folder
        self.identity = identity
        self.measured: list[Measured] = []
        self.worst: dict[str, Array] = {}
        self.seconds = 0.0
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "tuning.json"
        if resume and os.path.isfile(path):
            self._read(path)
            self.worst = self.arrays("worst") or {}
        elif resume:
            raise ConfigError(f"--resume: {folder} holds no tuning.json to go on with")
        else:
            for name in ("trace.npz", "uncached.npz", "worst.npz", "tuning.json"):
                (folder / name).unlink(missing_ok=True)
        (folder / "README.txt").write_text(_README, encoding="utf-8")
        self.save()

    def _read(self, path: Path) -> None:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            identity, rows = data["identity"], data["measured"]
            self.seconds = float(data["seconds"])
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{path} is not what a tuning writes; tune without --resume"
            ) from None
        other = [name for name in self.identity if identity.get(name) != self.identity[name]]
        if other:
            raise ConfigError(
                f"{path} was made with another {', '.join(other)}; tune without --resume, or with "
                "another --out"
            )
        for row in rows:
            near = row.pop("likeness")
            near["each"] = tuple(map(float, near["each"]))
            near["pooled"] = float(near["pooled"])
            self.measured.append(Measured(likeness=Likeness(**near), **row))

    def add(self, item: Measured, worst: Array | None = None) -> None:
        """Keep what was measured, with its worst picture where there are pictures."""
        if worst is not None:
            self.worst[str(len(self.measured))] = worst
            self.keep("worst", self.worst)
        self.measured.append(item)
        self.save()

    @property
    def pictures(self) -> dict[tuple[str, str], Array]:
        """Of what was measured, by name and key: the uncached picture and the worst one."""
        keys = [(item.name, item.key) for item in self.measured]
        return {keys[int(at)]: pair for at, pair in self.worst.items() if int(at) < len(keys)}

    def save(self) -> None:
        """Write ``tuning.json``, whole or not at all."""
        if self.folder is None:
            return
        rows = [dataclasses.asdict(item) for item in self.measured]
        for row in rows:
            near = row["likeness"]
            # JSON has no infinity.
            near["each"] = [str(value) if np.isinf(value) else value for value in near["each"]]
            near["pooled"] = str(near["pooled"]) if np.isinf(near["pooled"]) else near["pooled"]
        data = {"identity": self.identity, "seconds": self.seconds, "measured": rows}
        text = json.dumps(data, indent=1) + "\n"
        path = self.folder / "tuning.json"
        path.with_suffix(".new").write_text(text, encoding="utf-8")
        os.replace(path.with_suffix(".new"), path)

    def arrays(self, name: str) -> dict[str, Array] | None:
        """What was kept under a name; None where nothing was."""
        path = self.folder / f"{name}.npz" if self.folder is not None else None
        if path is None or not os.path.isfile(path):
            return None
        with np.load(path) as found:
            return dict(found)

    def keep(self, name: str, arrays: dict[str, Array]) -> None:
        """Keep arrays under a name."""
        if self.folder is not None:
            new = self.folder / f"{name}.new.npz"
            np.savez(new, **arrays)  # type: ignore[arg-type]
            os.replace(new, self.folder / f"{name}.npz")


def pack(calls: Sequence[Sequence[Unit]]) -> dict[str, Array]:
    """Traced units as arrays with names."""
    found: dict[str, Array] = {}
    rows: list[dict[str, Any]] = []
    for call, units in enumerate(calls):
        for unit in units:
            row = dataclasses.asdict(dataclasses.replace(unit, differences={}, errors={}))
            keys = {"differences": list(unit.differences), "errors": list(unit.errors)}
            for fn, table in unit.differences.items():
                found[f"{len(rows)}/d/{fn}"] = table
            for variant, table in unit.errors.items():
                found[f"{len(rows)}/e/{variant[0]}/{variant[1]}"] = table
            rows.append({**row, **keys, "call": call})
    found["units"] = np.frombuffer(json.dumps(rows).encode(), np.uint8)
    return found


def unpack(arrays: dict[str, Array]) -> list[list[Unit]]:
    """The inverse of :func:`pack`."""
    calls: list[list[Unit]] = []
    for index, row in enumerate(json.loads(arrays["units"].tobytes())):
        while len(calls) <= row["call"]:
            calls.append([])
        differences = {fn: arrays[f"{index}/d/{fn}"] for fn in row["differences"]}
        errors = {(fn, bn): arrays[f"{index}/e/{fn}/{bn}"] for fn, bn in row["errors"]}
        del row["call"]
        row |= {name: tuple(row[name]) for name in ("blocks", "lists", "leaders")}
        row |= {"differences": differences, "errors": errors}
        calls[-1].append(Unit(**row))
    return calls
