"""Entry point of ``cachedit-yaml``.

Exit codes: 0 clean, 1 problems found, 2 wrong use, 3 could not run, 130 interrupted.

Each command is a module with ``DESCRIPTION``, ``EPILOG``, ``add_arguments(parser)`` and
``run(args) -> int``. Only the module of the command that is asked for is imported, so that
`validate` never waits for torch.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, Final, NamedTuple

from cachedit_yaml import __version__
from cachedit_yaml.cli.parser import Parser
from cachedit_yaml.errors import (
    AdapterError,
    AdapterNotFoundError,
    CacheditYamlError,
    CacheRuntimeError,
    ConfigError,
)
from cachedit_yaml.yaml.diagnostics import did_you_mean, one_of, plain

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

An adapter is named by its name (flux), its file (my.yaml), or the class that it serves
(FluxPipeline); - reads it from another program.

exit codes: 0 clean, 1 problems found, 2 wrong use, 3 could not run
"""


class Command(NamedTuple):
    """A command.

    Attributes:
        help: what it does.
        short: it ends soon, so what it reads is kept until then.
        extra: the extra of the package that has what it needs.
    """

    help: str
    short: bool = False
    extra: str = "run"


COMMANDS: Final[dict[str, Command]] = {
    "validate": Command("check adapter files", short=True),
    "list": Command("list the adapters that can be found", short=True),
    "show": Command("show one adapter, resolved", short=True),
    "doctor": Command(
        "say what is installed, what serves a pipeline, what to configure", short=True
    ),
    "schema": Command("print the JSON Schema of adapter files", short=True),
    "explain": Command("show what an adapter does to a pipeline, and why"),
    "init": Command("write the adapter of a model from one watched call"),
    "check": Command("prove adapters on small models without weights"),
    "coverage": Command("which pipelines are cached, and what of it is proved"),
    "run": Command("generate with a cached pipeline"),
    "tune": Command("find settings for a model by measuring", extra="demo"),
    "demo": Command("try caching on a small model on the CPU", extra="demo"),
}


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
        # Without the number, which says nothing to anybody.
        text = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
        _complain(text)
        return COULD_NOT_RUN
    return code


def _dispatch(arguments: list[str]) -> int:
    name = _command_of(arguments)
    if name is not None and name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS) or f"the commands are {one_of(list(COMMANDS))}"
        _complain(f"unknown command {name!r}; {hint}")
        return WRONG_USE
    try:
        parser, module = build_parser(name)
        args = parser.parse_args(arguments)
        if args.print_completion:
            return _print_completion(args.print_completion)
        if name is None or module is None:
            parser.print_help(sys.stderr)
            return WRONG_USE
        args.adapters = [*args.adapters, *args.adapters_after]
        if getattr(args, "modules", None):
            from cachedit_yaml.compiler.own import import_modules

            import_modules(args.modules)
        with _no_collection() if COMMANDS[name].short else contextlib.nullcontext():
            return int(module.run(args))
    except ImportError as error:
        if name is None:
            raise
        return _not_installed(name, COMMANDS[name].extra, error)


def _print_completion(shell: str) -> int:
    try:
        from cachedit_yaml.cli.completion import script

        print(script(build_parser(*COMMANDS)[0], shell))
    except ImportError as error:
        return _not_installed("--print-completion", "cli", error)
    return CLEAN


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


def build_parser(*commands: str | None) -> tuple[argparse.ArgumentParser, ModuleType | None]:
    """Build the parser with the options of some commands; the others are only named.

    Args:
        commands: those whose modules are imported.

    Returns:
        The parser, and the module of the last of the commands.

    Raises:
        ImportError: a command needs a package that is not installed.
    """
    parser = _base_parser()
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", parser_class=Parser
    )
    module: Any = None
    for name, entry in COMMANDS.items():
        if name not in commands:
            subparsers.add_parser(name, help=entry.help)
            continue
        module = importlib.import_module(f"cachedit_yaml.cli.{name}")
        own = subparsers.add_parser(
            name,
            help=entry.help,
            description=module.DESCRIPTION,
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(own)
        # Behind the command too, which is where people put it.
        _add_adapters(own, dest="adapters_after", help=argparse.SUPPRESS)
    return parser, module


def _base_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=_PROG,
        description="Caching for diffusion transformers, described in YAML.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_adapters(parser, help="one more folder or file of adapters; wins over all others")
    parser.add_argument("--version", action="version", version=f"{_PROG} {__version__}")
    parser.add_argument(
        "--print-completion",
        choices=("bash", "zsh", "tcsh"),
        help="print a completion script for a shell (needs shtab)",
    )
    return parser


def _add_adapters(parser: argparse.ArgumentParser, **more: Any) -> None:
    parser.add_argument("--adapters", metavar="FILE_OR_DIR", action="append", default=[], **more)


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


def _not_installed(name: str, extra: str, error: ImportError) -> int:
    """Say what is missing, unless it is a part of this package."""
    if (error.name or "").partition(".")[0] == "cachedit_yaml":
        raise error
    _complain(f"{name!r} cannot run: {error}")
    print(f"Install what it needs: pip install 'cachedit-yaml[{extra}]'", file=sys.stderr)
    return COULD_NOT_RUN


def _report(error: CacheditYamlError) -> int:
    if isinstance(error, AdapterError):
        from cachedit_yaml.cli.output import print_diagnostics

        print_diagnostics(error.diagnostics, stream=sys.stderr)
        return PROBLEMS
    _complain(str(error))
    if isinstance(error, (AdapterNotFoundError, ConfigError)):
        return WRONG_USE
    return COULD_NOT_RUN if isinstance(error, CacheRuntimeError) else PROBLEMS


def _complain(text: str) -> None:
    _print(f"{_PROG}: error: {text}")


def _print(text: str) -> None:
    """Print an error, which may have several lines."""
    print("\n".join(map(plain, text.split("\n"))), file=sys.stderr)


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or 0
    _print(str(stop.code))
    return COULD_NOT_RUN
