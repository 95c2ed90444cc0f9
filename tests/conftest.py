"""What holds for every test: one thread, and libraries that only report errors."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import re
import sys
from collections.abc import Generator, Iterator

import pytest

from tests.skips import unlisted

# Read when torch, diffusers and cache-dit are imported, which is after this.
os.environ["OMP_NUM_THREADS"] = "1"  # small tensors gain nothing from more
os.environ["DIFFUSERS_VERBOSITY"] = "error"
os.environ["CACHE_DIT_LOG_LEVEL"] = "error"

with contextlib.suppress(ImportError):  # the engines' environments do not have it
    from hypothesis import HealthCheck, settings

    # Nothing fails because the machine is slow.
    settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("here")

#: What holds the models; `make test-pythons` has none of it.
_LIBRARIES = re.compile("No module named '(torch|diffusers|cache_dit|transformers|numpy|PIL)[.']")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """With ``-m "not libraries"``, a module that cannot be imported without them has no tests."""
    report = yield
    wanted = collector.config.getoption("markexpr") == "not libraries"
    if wanted and report.failed and _LIBRARIES.search(str(report.longrepr)):
        report.outcome, report.longrepr, report.result = "passed", None, []
    return report


def pytest_collection_finish() -> None:
    """What was imported so far stays: nobody looks through it for garbage again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def attention_is_as_before() -> Iterator[None]:
    """cache-dit puts its own backends in diffusers' place, and the one set last is all models'."""
    module = sys.modules.get("diffusers.models.attention_dispatch")
    if module is None:
        yield
        return
    registry = module._AttentionBackendRegistry
    kinds = (dict, set, module.AttentionBackendName)
    before = {
        name: copy.copy(value) for name, value in vars(registry).items() if isinstance(value, kinds)
    }
    yield
    for name, value in before.items():
        setattr(registry, name, value)


#: Tests that were skipped for a reason that ``tests/skips.py`` does not list.
_SKIPPED: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Also of tests that ran in another process."""
    if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if unlisted(reason):
            _SKIPPED.append(f"{report.nodeid}: {reason}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that is skipped without need is one that failed."""
    if _SKIPPED and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name them."""
    if _SKIPPED:
        terminalreporter.section("skipped for reasons that tests/skips.py does not list", red=True)
        for line in _SKIPPED:
            terminalreporter.line(line)
