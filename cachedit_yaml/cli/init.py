"""``cachedit-yaml init``: write the adapter of a model from one watched call of it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cachedit_yaml.cli.arguments import Typed, add_call, add_format, add_import
from cachedit_yaml.cli.output import check_file, print_json, quiet_libraries, say, write_file
from cachedit_yaml.errors import ConfigError
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.yaml.reader import leads_out

if TYPE_CHECKING:
    from cachedit_yaml.drafting.draft import Draft
    from cachedit_yaml.probe.live import Proof
    from cachedit_yaml.probe.prove import Claim

DESCRIPTION: Final = (
    "Watch one short call of a pipeline, write the adapter that it shows, and prove it."
)
EPILOG: Final = """\
examples:
  cachedit-yaml init ./my-model --prompt "a cat" -o my-model.yaml
  cachedit-yaml init ./my-model --import my_model --arg 'text={randn: [1, 5, 24]}'
  cachedit-yaml init my_model:make --call my_model:generate -o my-model.yaml
  cachedit-yaml init FluxPipeline             the small model of a shipped adapter's probe

TARGET is the folder of a saved pipeline, module:callable that returns a live pipeline or
transformer, or the class of a pipeline that an adapter's probe makes. --call module:callable is
given the pipeline and runs it once; two to four denoising steps are enough.

The YAML goes to stdout and what was proved of it to stderr; with -o the file gets the one, and
stdout the other. What the call has not shown is said as "To decide" in the file and here.
exit codes: 0 written and proved, 1 it does not hold or must not be cached, 2 wrong use, 3 could
not run
"""
#: Denoising steps, where nobody says another number.
_STEPS: Final = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_import(parser)
    parser.add_argument("target", metavar="TARGET", help="what to write the adapter for; see below")
    parser.add_argument(
        "--call", metavar="MODULE:CALLABLE", help="runs it once, given the pipeline"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        action=Typed,
        help="where to write; default: stdout, with the proof on stderr",
    )
    parser.add_argument("--force", action="store_true", help="write over a file that exists")
    add_call(parser)
    add_format(parser, "the draft and its proof")


def run(args: argparse.Namespace) -> int:
    """Draft, prove and write.

    Returns:
        0 if the draft is proved, 1 if it is not or says that the model must not be cached.
    """
    if args.output is not None:
        check_file(args.output_typed, args.output)
        if os.path.lexists(args.output) and not args.force:
            raise ConfigError(f"{args.output_typed}: {args.output} exists; --force writes over it")
        if leads_out(args.output):
            raise ConfigError(
                f"{args.output_typed}: {args.output} is a link out of its folder; name the file "
                "itself"
            )
    quiet_libraries()
    from cachedit_yaml.drafting.draft import infer
    from cachedit_yaml.generating.calling import Wishes, values_of
    from cachedit_yaml.generating.targets import live

    wishes = Wishes(
        prompts=args.prompt,
        labels=args.label,
        steps=args.steps or _STEPS,
        more=values_of(args.arg, "--arg"),
    )
    registry = Registry.load(args.adapters)
    target, call = live(args.target, registry, wishes, call=args.call, device=args.device)
    draft = infer(target, call)
    proof = draft.check() if draft.refused is None else None
    holds = proof is not None and not proof.broken
    text = draft.yaml
    if proof is not None:
        text = "".join(f"# NOT PROVED: {_line(claim)}\n" for claim in proof.broken) + text
    if args.output is not None:
        write_file(args.output_typed, args.output, text)
    if args.format == "json":
        print_json(_as_dict(draft, proof, holds))
    else:
        if args.output is None:
            say(*text.rstrip("\n").split("\n"))
        _report(args, draft, proof)
    return 0 if holds else 1


def _line(claim: Claim) -> str:
    """A claim that does not hold, in one line."""
    return " ".join(f"{claim.name}: {claim.detail}".split())


def _as_dict(draft: Draft, proof: Proof | None, holds: bool) -> dict[str, object]:
    claims = proof.claims if proof is not None else ()
    return {
        "version": 1,
        "adapter": draft.data,
        "yaml": draft.yaml,
        "evidence": {path: list(texts) for path, texts in draft.evidence.items()},
        "doubts": list(draft.doubts),
        "refused": draft.refused,
        "proved": holds,
        "claims": [
            {"name": item.name, "verdict": item.verdict, "detail": item.detail} for item in claims
        ],
    }


def _report(args: argparse.Namespace, draft: Draft, proof: Proof | None) -> None:
    """Say what came of it, on stderr where the file itself goes to stdout."""
    stream = sys.stdout if args.output is not None else sys.stderr
    lines = [f"wrote {args.output}"] if args.output is not None else []
    if draft.refused is not None:
        lines.append(f"must not be cached: {draft.refused}")
    if proof is not None:
        lines += str(proof).split("\n")
        broken = [item.name for item in proof.broken]
        if broken:
            lines.append(f"NOT PROVED: {', '.join(broken)}; do not use it as it stands")
        elif proof.failed:
            lines.append("proved; only cache-dit's own execution (native) differs, which is off")
    lines += [f"to decide: {text}" for text in draft.doubts]
    say(*lines, stream=stream)
