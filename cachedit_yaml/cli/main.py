"""Entry point of ``cachedit-yaml``.

Exit codes: 0 clean, 1 problems found, 2 wrong use, 3 could not run, 130 interrupted.

Each command is a module with ``add_parser(subparsers)`` and ``run(args) -> int``. Only the module
of the command that is asked for is imported, so that `validate` never waits for torch.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from cachedit_yaml.errors import (
    AdapterError,
    AdapterNotFoundError,
    CacheditYamlError,
    CacheRuntimeError,
    ConfigError,
)
from cachedit_yaml.yaml.diagnostics import did_you_mean, one_of

CLEAN: Final = 0
PROBLEMS: Final = 1
WRONG_USE: Final = 2
COULD_NOT_RUN: Final = 3
INTERRUPTED: Final = 130
_BROKEN_PIPE: Final = 141

_PROG: Final = "cachedit-yaml"
_EPILOG: Final = """\
examples:
  cachedit-yaml validate adapters/             check every adapter of a folder
  cachedit-yaml list                           what can be cached, and by which file
  cachedit-yaml show flux                      one adapter, resolved
  cachedit-yaml --adapters my/ list            look in one more folder

exit codes: 0 clean, 1 problems found, 2 wrong use, 3 could not run
"""


class _Command(NamedTuple):
    module: str
    help: str
    #: The extra of the package that the command needs.
    extra: str | None = None


COMMANDS: Final[dict[str, _Command]] = {
    "validate": _Command("cachedit_yaml.cli.validate", "check adapter files"),
    "list": _Command("cachedit_yaml.cli.list", "list the adapters that can be found"),
    "show": _Command("cachedit_yaml.cli.show", "show one adapter, resolved"),
    "doctor": _Command(
        "cachedit_yaml.cli.doctor", "what is installed, what serves a pipeline, what to configure"
    ),
    "schema": _Command("cachedit_yaml.cli.schema", "print the JSON Schema of adapter files"),
    "explain": _Command(
        "cachedit_yaml.cli.explain", "show what an adapter does to a pipeline, and why", "run"
    ),
    "check": _Command(
        "cachedit_yaml.cli.check", "prove adapters on small models without weights", "run"
    ),
    "coverage": _Command(
        "cachedit_yaml.cli.coverage", "which pipelines are cached, and what of it is proved", "run"
    ),
    "run": _Command("cachedit_yaml.cli.run", "generate with a cached pipeline", "run"),
    "demo": _Command("cachedit_yaml.cli.demo", "try caching on a small model on the CPU", "demo"),
}


class _Parser(argparse.ArgumentParser):
    """Says wrong use in two lines instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USE, f"{self.prog}: error: {message}\nTry '{self.prog} --help'.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; default: those of the process.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows only ASCII must not turn a message into a traceback.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has gone. Python would complain once more at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        print(f"{_PROG}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as stop:
        return _exit_code(stop)
    except CacheditYamlError as error:
        return _report(error)
    except OSError as error:
        print(f"{_PROG}: error: {error}", file=sys.stderr)
        return COULD_NOT_RUN
    return code


def _dispatch(arguments: list[str]) -> int:
    name = _command_of(arguments)
    if name is not None and name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        print(
            f"{_PROG}: error: unknown command {name!r}; "
            f"{hint or f'the commands are {one_of(list(COMMANDS))}'}",
            file=sys.stderr,
        )
        return WRONG_USE
    try:
        parser, module = build_parser(name)
    except ImportError as error:
        return _not_installed(name or "", error)
    args = parser.parse_args(arguments)
    if args.print_completion:
        return _print_completion(args.print_completion)
    if module is None:
        parser.print_help(sys.stderr)
        return WRONG_USE
    args.adapters = [*args.adapters, *getattr(args, "adapters_after", [])]
    try:
        if COMMANDS[name or ""].extra is None:
            with _no_collection():
                return int(module.run(args))
        return int(module.run(args))
    except ImportError as error:
        if COMMANDS[name or ""].extra is None:
            raise
        return _not_installed(name or "", error)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage meanwhile.

    What a short command reads it keeps until it ends. Looking through it for garbage again and
    again would find none and take a tenth of its time.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def build_parser(command: str | None = None) -> tuple[argparse.ArgumentParser, Any]:
    """Build the parser with the options of one command; the others are only named.

    Args:
        command: the command whose module is imported.

    Returns:
        The parser, and the command's module.

    Raises:
        ImportError: the command needs a package that is not installed.
    """
    parser = _base_parser()
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", parser_class=_Parser
    )
    module = None
    for name, entry in COMMANDS.items():
        if name == command:
            module = importlib.import_module(entry.module)
            module.add_parser(subparsers)
            _accept_adapters(subparsers.choices[name])
        else:
            subparsers.add_parser(name, help=entry.help)
    return parser, module


def _base_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_PROG,
        description="Caching for diffusion transformers, described in YAML.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--adapters",
        metavar="DIR",
        action="append",
        default=[],
        help="one more folder or file of adapters; wins over all others",
    )
    parser.add_argument("--version", action="version", version=f"{_PROG} {_version()}")
    parser.add_argument(
        "--print-completion",
        choices=("bash", "zsh", "tcsh"),
        help="print a completion script for a shell (needs shtab)",
    )
    return parser


def _accept_adapters(parser: argparse.ArgumentParser) -> None:
    """Accept --adapters behind the command too, which is where people put it."""
    if "--adapters" not in parser._option_string_actions:
        parser.add_argument(
            "--adapters",
            metavar="DIR",
            action="append",
            default=[],
            dest="adapters_after",
            help=argparse.SUPPRESS,
        )


def _command_of(arguments: Sequence[str]) -> str | None:
    """The command among the arguments, found before the parser of that command exists."""
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in ("--adapters", "--print-completion"):
            skip = True
        elif not argument.startswith("-"):
            return argument
    return None


def _version() -> str:
    import cachedit_yaml

    return str(getattr(cachedit_yaml, "__version__", "0"))


def _print_completion(shell: str) -> int:
    try:
        import shtab
    except ImportError as error:
        return _not_installed("--print-completion", error, "cli")
    parser = _base_parser()
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command", parser_class=_Parser)
    for name, entry in COMMANDS.items():
        try:
            importlib.import_module(entry.module).add_parser(subparsers)
        except ImportError:
            subparsers.add_parser(name, help=entry.help)
    _complete_files(parser, shtab.FILE)
    print(shtab.complete(parser, shell))
    return CLEAN


def _complete_files(parser: argparse.ArgumentParser, complete: Any) -> None:
    """Let a shell complete files where an argument takes one."""
    for action in parser._actions:
        words = str(action.metavar or "").split("_")
        if {"PATH", "FILE", "DIR"} & set(words):
            action.complete = complete  # type: ignore[attr-defined]
        if isinstance(action.choices, dict):
            for inner in action.choices.values():
                _complete_files(inner, complete)


def _not_installed(name: str, error: ImportError, extra: str | None = None) -> int:
    extra = extra or (COMMANDS[name].extra if name in COMMANDS else None)
    print(f"{_PROG}: error: '{name}' cannot run: {error}", file=sys.stderr)
    if extra is not None:
        print(f"Install what it needs: pip install 'cachedit-yaml[{extra}]'", file=sys.stderr)
    return COULD_NOT_RUN


def _report(error: CacheditYamlError) -> int:
    if isinstance(error, AdapterError):
        from cachedit_yaml.cli.output import print_diagnostics

        print_diagnostics(error.diagnostics, stream=sys.stderr)
        return PROBLEMS
    print(f"{_PROG}: error: {error}", file=sys.stderr)
    if isinstance(error, (AdapterNotFoundError, ConfigError)):
        return WRONG_USE
    return COULD_NOT_RUN if isinstance(error, CacheRuntimeError) else PROBLEMS


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or 0
    print(stop.code, file=sys.stderr)
    return COULD_NOT_RUN
