"""Every command that a page shows is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cachedit_yaml.cli.main import COMMANDS, build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/**/*.md")])


def commands(text: str) -> list[str]:
    """The command lines of a page, in blocks and in sentences, without what stands for others."""
    blocks = re.findall(r"^ *```(?:sh|console)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    found = (re.match(r"(?:\$ )?cachedit-yaml ([\w-].*)", line.strip()) for line in lines)
    return [item[1] for item in found if item is not None]


def arguments(command: str) -> list[str]:
    """What the shell makes of a line, up to a comment or a redirection."""
    words = shlex.split(command.replace("--engine NAME", "--engine diffusers"), comments=True)
    return words[: words.index("<")] if "<" in words else words


@pytest.mark.libraries
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_command_line_takes_what_a_page_shows(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in commands(page.read_text(encoding="utf-8")):
        words = arguments(command)
        name = next((word for word in words if word in COMMANDS), None)
        parser, _ = build_parser(name)
        try:
            parser.parse_args(words)
        except SystemExit as stop:
            said = capsys.readouterr().err
            # A sentence may leave out what is required; nothing else.
            if stop.code != 0 and "arguments are required" not in said:
                pytest.fail(f"{command}: {said}")


def test_commands_are_found() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = commands(text)
    assert {"validate --strict adapters/", "demo --model flux"} <= {
        " ".join(arguments(command)) for command in found
    }
    assert len(found) > 8
