"""Adapters from the Hugging Face Hub: ``org/repo``, ``org/repo@revision``, ``org/repo/file.yaml``.

A file is fetched through huggingface_hub, with its cache, its token and its offline mode
(``HF_HUB_OFFLINE``, ``HF_ENDPOINT``, ``HF_HOME``). Nothing is asked of the hub but for a name that
somebody gave, and once in a process: what a branch points to does not change under a run.
"""

from __future__ import annotations

import logging
import os
import re
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from cachedit_yaml.errors import AdapterNotFoundError
from cachedit_yaml.registry.names import of_engine
from cachedit_yaml.registry.search_path import SUFFIXES
from cachedit_yaml.yaml.reading import MAX_BYTES

logger = logging.getLogger(__name__)

#: The adapter of a repository, or of a saved model's folder, where no file is named.
DEFAULT_FILE: Final = "cachedit.yaml"
_WORD: Final = r"[A-Za-z0-9][\w.-]*"
#: As huggingface_hub writes it: the revision belongs to the repository, the file comes last.
_NAME: Final = re.compile(
    rf"(?P<repo>{_WORD}/{_WORD})"
    r"(?:@(?P<revision>refs/[\w-]+/\w[\w.-]*|\w[\w.+-]*))?"
    rf"(?P<file>(?:/{_WORD})+)?",
    re.ASCII,
)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_NUMBER: Final = re.compile(r"\[Errno -?\d+\] ")


class HubName(NamedTuple):
    """A file on the hub.

    Attributes:
        repo: ``org/repo``.
        revision: a commit, a tag, a branch or ``refs/pr/N``; None for the main branch.
        file: its path in the repository.
    """

    repo: str
    revision: str | None
    file: str

    def at(self, revision: str | None) -> str:
        """The name with a revision, as short as it can be written."""
        file = "" if self.file == DEFAULT_FILE else f"/{self.file}"
        return self.repo + (f"@{revision}" if revision else "") + file

    def __str__(self) -> str:
        return self.at(self.revision)


class Fetched(NamedTuple):
    """A file of the hub that lies in the cache.

    Attributes:
        name: what was asked for.
        commit: the commit that it is of, 40 hexadecimal digits.
        path: the file in huggingface_hub's cache.
    """

    name: HubName
    commit: str
    path: Path

    @property
    def shown(self) -> str:
        """The file as messages call it: repository, commit and path."""
        return f"{self.name.repo}@{self.commit}/{self.name.file}"

    @property
    def note(self) -> str:
        """Where it comes from, and how to pin it where the name does not."""
        said = f"from the hub: {self.shown}"
        if self.name.revision == self.commit:
            return said
        return f"{said}; {self.name} may change, to pin it write {self.name.at(self.commit)}"


def hub_name(text: object) -> HubName | None:
    """What a text names on the hub; None where it can be no such name.

    A file here comes first, and so does ``engine/name``: what lies in a folder that exists here is
    a path.

    Args:
        text: what somebody wrote for an adapter.
    """
    if not isinstance(text, str) or (match := _NAME.fullmatch(text)) is None:
        return None
    if of_engine(text)[0] is not None:
        return None
    repo, revision, file = match["repo"], match["revision"], (match["file"] or "").lstrip("/")
    if repo.endswith(SUFFIXES) or (file and not file.endswith(SUFFIXES)):
        return None
    if os.path.exists(repo.partition("/")[0]):
        return None
    return HubName(repo, revision, file or DEFAULT_FILE)


@lru_cache(maxsize=256)
def fetch(name: HubName) -> Fetched:
    """Bring a file into huggingface_hub's cache, where it is not there yet.

    Logs a warning where the name pins no commit.

    Args:
        name: the file.

    Raises:
        AdapterNotFoundError: there is no such repository, revision or file; the hub cannot be
            reached and the cache does not hold it; it is larger than an adapter may be; or
            huggingface_hub is not installed.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ModuleNotFoundError as error:
        raise _failed(
            name,
            f"the hub needs the package {error.name}, which is not installed: "
            "pip install huggingface_hub",
        ) from None
    try:
        path = Path(_download(huggingface_hub, errors, name))
    except errors.GatedRepoError:
        raise _failed(name, f"access to {name.repo} has to be asked for on the hub") from None
    except errors.RepositoryNotFoundError:
        why = f"there is no repository {name.repo}, or it is private: see 'hf auth login'"
        raise _failed(name, why) from None
    except errors.RevisionNotFoundError:
        raise _failed(name, f"{name.repo} has no revision {name.revision}") from None
    except errors.LocalEntryNotFoundError as error:
        raise _failed(name, _first_line(error.__cause__ or error)) from None
    except errors.EntryNotFoundError:
        at = f" at {name.revision}" if name.revision else ""
        why = f"{name.repo} has no file {name.file}{at}"
        if name.file == DEFAULT_FILE:
            why += f"; name another as {name.repo}/FILE.yaml"
        raise _failed(name, why) from None
    except (OSError, ValueError) as error:
        raise _failed(name, _first_line(error)) from None
    # CACHE/models--org--repo/snapshots/COMMIT/file
    commit = path.parts[-len(PurePosixPath(name.file).parts) - 1]
    fetched = Fetched(name, commit, path)
    if name.revision != commit:
        logger.warning("%s", fetched.note)
    return fetched


def _download(hub: Any, errors: Any, name: HubName) -> str:
    """The path of the file in the cache.

    Raises:
        LocalEntryNotFoundError: it is not there, and the hub cannot be reached; its cause says why.
        Exception: what else huggingface_hub raises.
    """
    place: dict[str, Any] = {"repo_id": name.repo, "filename": name.file, "revision": name.revision}
    pinned = name.revision is not None and _COMMIT.fullmatch(name.revision)
    found = hub.try_to_load_from_cache(**place) if pinned else None
    if isinstance(found, str):
        return found
    why: Exception
    try:
        size = hub.get_hf_file_metadata(hub.hf_hub_url(**place)).size
    except (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.EntryNotFoundError,
    ):
        raise
    except errors.OfflineModeIsEnabled:
        why = OSError("the cache does not hold it, and HF_HUB_OFFLINE is set")
    except Exception as error:  # of whichever HTTP client it uses
        why = OSError(f"the cache does not hold it, and the hub gives none: {_first_line(error)}")
    else:
        if size is None or size > MAX_BYTES:
            much = "of unknown size" if size is None else f"{size} bytes long"
            raise ValueError(f"{name.file} is {much}; an adapter has {MAX_BYTES // 1024} KiB")
        return str(hub.hf_hub_download(**place))
    try:
        return str(hub.hf_hub_download(**place, local_files_only=True))
    except errors.LocalEntryNotFoundError as error:
        raise error from why


def _failed(name: HubName, why: str) -> AdapterNotFoundError:
    lines = [f"no such file or folder: {name}", f"and none on the hub: {why}"]
    return AdapterNotFoundError("\n  ".join(lines))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # The number of an error says nothing to anybody.
    return _NUMBER.sub("", lines[0]) if lines else type(error).__name__
