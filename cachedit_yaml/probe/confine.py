"""What a process may do that tries a probe: compute, and write into a folder of its own.

This is the second wall. The first is that a probe names only models, schedulers and the like, with
plain settings (:mod:`cachedit_yaml.probe.classes`): no code of a stranger runs here. But what
these classes do by themselves is not ours, so the process has no network, starts no programs,
loads no pickles, and has limits of memory and time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch

from cachedit_yaml.probe.limits import Limits, spending
from cachedit_yaml.probe.prove import Claim

#: Beside the processor's time, in case that nothing runs at all.
_PATIENCE: Final = 10
#: What audit events say is attempted, by how their names begin.
_REFUSED: Final = {
    "socket.": "network",
    "urllib.": "network",
    "ftplib.": "network",
    "http.": "network",
    "subprocess.": "programs",
    "os.exec": "programs",
    "os.forkpty": "programs",
    "os.posix_spawn": "programs",
    "os.spawn": "programs",
    "os.startfile": "programs",
    "os.system": "programs",
    "pty.": "programs",
    "pickle.find_class": "pickles",
}
_OWN: Final = "cachedit_yaml."
#: Who asks for the own name of the machine reaches nobody.
_HARMLESS: Final = {"socket.gethostname"}
#: Events that change files, with the number of their arguments that are paths.
_CHANGES: Final = {
    "os.chmod": 1,
    "os.chown": 1,
    "os.link": 2,
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rename": 2,
    "os.rmdir": 1,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.utime": 1,
    "shutil.rmtree": 1,
    "sqlite3.connect": 1,
}
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NAMED: Final = re.compile(r"(?:^|LimitError: )(limit \w+): (.*)")
_FULL: Final = ("MemoryError", "can't allocate memory", "Cannot allocate memory", "bad_alloc")


class RefusedError(PermissionError):
    """The process may not do this."""


@dataclasses.dataclass
class Confinement:
    """What is refused while a probe is tried.

    Attributes:
        folder: where files may be written.
        attempts: what was tried and refused; also what the code around it has caught.
    """

    folder: str
    attempts: list[Claim] = dataclasses.field(default_factory=list)

    def refuse(self, what: str, event: str) -> None:
        """Note what is tried, and end it."""
        self.attempts.append(Claim(f"limit {what}", "failed", event))
        raise RefusedError(f"a probe has no {what} ({event})")

    def check(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Refuse an event that Python announces."""
        if event == "open":
            path, mode, flags = arguments
            writes = flags & _WRITING if isinstance(flags, int) else set(mode or "") & set("wax+")
            if writes and path != os.devnull:
                self._inside(path, event)
        elif event in _CHANGES:
            for path in arguments[: _CHANGES[event]]:
                self._inside(path, event)
        elif event == "pickle.find_class" and arguments[0].startswith(_OWN):
            return  # what a process of our own has answered
        elif event not in _HARMLESS:
            for start, what in _REFUSED.items():
                if event.startswith(start):
                    self.refuse(what, event)

    def _inside(self, path: Any, event: str) -> None:
        if isinstance(path, (str, bytes, os.PathLike)):  # a number is a file that is open already
            real = os.path.realpath(os.fsdecode(path))
            if not real.startswith(self.folder + os.sep) and real != self.folder:
                self.refuse("files", f"{event} {real}, outside of its own folder")


_active: Confinement | None = None
_installed = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _active is not None:
        _active.check(event, arguments)


@contextlib.contextmanager
def confined(limits: Limits) -> Iterator[Confinement]:
    """Try a probe inside of this, in a process that does nothing else.

    Args:
        limits: of memory, time, and of all that the probe asks for.
    """
    global _active, _installed
    if not _installed:
        sys.addaudithook(_audit)  # for good: there is no way to take it away
        _installed = True
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cachedit-yaml-"))
        found = Confinement(os.path.realpath(folder))
        stack.enter_context(_set(tempfile, "tempdir", found.folder))
        stack.enter_context(_caches_in(found.folder))
        stack.enter_context(_set(sys, "dont_write_bytecode", True))
        stack.enter_context(_offline())
        stack.enter_context(_set(torch, "compile", uncompiled))  # it would run a C++ compiler
        stack.enter_context(_system_limits(limits))
        stack.enter_context(spending(limits))
        _active = found
        try:
            yield found
        finally:
            _active = None


@contextlib.contextmanager
def _set(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def uncompiled(model: Any = None, **options: Any) -> Any:
    """Stands for ``torch.compile``: the function or module as it is."""
    return functools.partial(uncompiled, **options) if model is None else model


@contextlib.contextmanager
def _caches_in(folder: str) -> Iterator[None]:
    """What is compiled goes into a folder; the environment may name another one by now."""
    name = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(name)
    os.environ[name] = os.path.join(folder, "inductor")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """No model hub: what a library would ask it for is not there."""
    from huggingface_hub import constants

    with _set(constants, "HF_HUB_OFFLINE", True):
        yield


@contextlib.contextmanager
def _system_limits(limits: Limits) -> Iterator[None]:
    """Limits of memory and time, where the system has them."""
    memory = Path("/proc/self/statm")
    with contextlib.ExitStack() as stack:
        if memory.exists():
            import resource

            pages = int(memory.read_text().split()[0])
            most = pages * resource.getpagesize() + limits.memory * 2**20
            soft, hard = resource.getrlimit(resource.RLIMIT_AS)
            if hard != resource.RLIM_INFINITY:
                most = min(most, hard)
            resource.setrlimit(resource.RLIMIT_AS, (most, hard))
            stack.callback(resource.setrlimit, resource.RLIMIT_AS, (soft, hard))
        if hasattr(signal, "setitimer"):
            for timer, seconds in (
                (signal.ITIMER_PROF, limits.seconds),
                (signal.ITIMER_REAL, limits.seconds * _PATIENCE),
            ):
                signal.setitimer(timer, seconds)  # the signal ends the process, whatever it does
                stack.callback(signal.setitimer, timer, 0)
        yield


def why_it_ended(why: str, limits: Limits) -> Claim | None:
    """The limit that ended a process or a proof, as a proof that failed; None for another reason.

    Args:
        why: what is known: the signal, or the error.
        limits: that held.
    """
    named = _NAMED.search(why)
    if named is not None:
        return Claim(named[1], "failed", named[2])
    if "SIGPROF" in why or "SIGALRM" in why:
        return Claim("limit seconds", "failed", f"it needed more than {limits.seconds} s")
    if "SIGABRT" in why or any(word in why for word in _FULL):
        return Claim("limit memory", "failed", f"it needed more than {limits.memory} MiB: {why}")
    return None
