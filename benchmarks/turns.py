"""``python -m benchmarks.turns``: seconds, in turns, of what reached a quality in the frontier.

Of each kind of cache, the settings that reached it with the fewest blocks, by the rows that are
kept in ``results/quality-MODEL-STEPS.txt``. All of them and the
uncached call run in turns, on one thread; processor time, medians of the ratios within a turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import torch

from benchmarks.contenders import contenders
from benchmarks.frontier import BATCH, SEEN
from benchmarks.pages import RESULTS, kept
from benchmarks.pages import rows as rows_of
from cachedit_yaml.generating.demo import showcase
from cachedit_yaml.generating.demo.models import MODELS
from cachedit_yaml.generating.generate import call_pipeline


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turns", description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="dit")
    parser.add_argument("--steps", type=int, default=showcase.STEPS)
    parser.add_argument("--quality", type=float, default=40.0, help="mean PSNR in dB")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = MODELS[given.model]
    pipeline = model.load()
    call = {**model.call(pipeline, SEEN[:BATCH]), "num_inference_steps": given.steps}
    rows = {
        (kind, settings): (blocks, float(mean))
        for kind, settings, blocks, _, mean, *_ in rows_of(
            kept(f"quality-{given.model}-{given.steps}")
        )
    }
    chosen: dict[str, tuple[str, str]] = {}
    for key, (_, mean) in rows.items():  # of each kind the cheap ones come first
        if mean >= given.quality:
            chosen.setdefault(key[0], key)

    def seconds() -> float:
        begun = time.process_time()
        call_pipeline(pipeline, call, range(5, 5 + BATCH))
        return time.process_time() - begun

    lines = {
        line[:2]: line[2] for line in contenders(model, pipeline, given.steps, lambda: seconds())
    }
    ratios: dict[tuple[str, str], list[float]] = {key: [] for key in chosen.values()}
    for _ in range(given.rounds):
        plain = seconds()
        for key, found in ratios.items():
            with lines[key]() as begin:
                begin()
                found.append(plain / seconds())
    out = [
        f"$ python -m benchmarks.turns --model {given.model} --steps {given.steps}",
        f"{model.title}, {given.steps} steps, mean PSNR of {given.quality:g} dB or more",
        f"{'':60}{'blocks':>8}{'PSNR':>7}{'speed-up':>10}{'from':>7}{'to':>6}",
    ]
    for key in sorted(ratios, key=lambda key: -statistics.median(ratios[key])):
        (blocks, mean), found = rows[key], ratios[key]
        out.append(
            f"{': '.join(key):60}{blocks:>8}{mean:7.1f}"
            f"{statistics.median(found):9.2f}x{min(found):7.2f}{max(found):6.2f}"
        )
    text = "\n".join(out) + "\n"
    print(text)
    (RESULTS / f"turns-{given.model}-{given.steps}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
