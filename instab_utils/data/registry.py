"""The public files: where each comes from, its SHA-256, its licence; found on disk or downloaded.

Three situations, found out once for a run and never once a file (`situation`):

- "files": everything asked for is in `folder()`;
- "download": something is missing and the network answers, so it is downloaded on first use;
- "phantoms": something is missing and the network does not answer; `fetch` raises `DataUnavailable`
  at once.

Environment: INSTAB_DATA the folder; INSTAB_DATA_MIRROR a base URL that serves <base>/<relative
path>; INSTAB_OFFLINE=1 never touches the network; INSTAB_BOOK silences the progress bar.
"""

import difflib
import functools
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pooch
import requests
from tqdm import tqdm

PATIENCE_S = 5.0  # longest wait, in all, for the one question "is there a network?"
N_PARALLEL = 8  # simultaneous downloads


class DataUnavailable(RuntimeError):
    """A registered file is not on disk and cannot be downloaded now."""


class ChecksumMismatch(RuntimeError):
    """A registered file is there, or was downloaded, with another SHA-256 than the registry's."""


@dataclass(frozen=True)
class File:
    """One registered file."""

    path: str  # relative to `folder()`, with forward slashes
    url: str  # upstream, pinned to a commit
    sha256: str
    n_bytes: int
    licence: str

    @property
    def target(self) -> Path:
        """Where the file is, or will be, on this machine."""
        return folder() / self.path

    @property
    def source(self) -> str:
        """The address it is downloaded from: upstream, or INSTAB_DATA_MIRROR."""
        mirror = os.environ.get("INSTAB_DATA_MIRROR")
        return f"{mirror.rstrip('/')}/{self.path}" if mirror else self.url


@functools.cache
def registry() -> dict[str, File]:
    """Return every registered file by its relative path, in the registry's order."""
    groups = json.loads(resources.files(__package__).joinpath("registry.json").read_text("utf-8"))
    files = {}
    for group in groups:
        for name, sha256, n_bytes, *upstream_name in group["files"]:
            path = f"{group['folder']}/{name}"
            url = "/".join([group["url"], *(upstream_name or [name])])
            files[path] = File(path, url, sha256, n_bytes, group["licence"])
    return files


def folder() -> Path:
    """Return where the files are: INSTAB_DATA, else the platform's cache. It need not exist."""
    return Path(os.environ.get("INSTAB_DATA") or pooch.os_cache("instab")).expanduser()


def files(group: str = "") -> list[File]:
    """Return the registered files in a folder such as "bsd/set68" or "aapm"; "" is all.

    Raises:
        ValueError: an unknown folder.
    """
    start = group and f"{group.rstrip('/')}/"
    members = [file for path, file in registry().items() if path.startswith(start)]
    if not members:
        known = sorted({path.rsplit("/", 1)[0] for path in registry()})
        raise ValueError(f"no registered files in {group!r}; expected one of {', '.join(known)}.")
    return members


def available(group: str = "") -> bool:
    """Return True when every file of the group is on disk; contents are checked on use."""
    return all(file.target.is_file() for file in files(group))


def situation(group: str = "") -> str:
    """Return "files", "download" or "phantoms": what a notebook that needs `group` runs on."""
    if available(group):
        return "files"
    return "download" if online() else "phantoms"


def fetch(path: str) -> Path:
    """Return the path on this machine of one registered file, downloaded if it is missing.

    Its SHA-256 holds. A file is hashed once a process, and again only if its size or modification
    time changed.

    Raises:
        ValueError: the path is not registered.
        ChecksumMismatch: the file has another SHA-256. It is left as it is.
        DataUnavailable: it is missing and cannot be downloaded.
    """
    file = _registered(path)
    if not file.target.exists():
        _download(file)
    _verify(file)
    return file.target


def fetch_group(group: str) -> list[Path]:
    """Fetch every file of a folder, missing ones in parallel under one progress bar.

    What has arrived stays when others fail, so that a second call goes on from there.
    """
    missing = [file for file in files(group) if not file.target.exists()]
    if missing:
        _require_online(missing[0])
        pool = ThreadPoolExecutor(N_PARALLEL)
        n_bytes = sum(file.n_bytes for file in missing)
        silent = bool(os.environ.get("INSTAB_BOOK"))
        try:
            with tqdm(total=n_bytes, unit="B", unit_scale=True, desc=group, disable=silent) as bar:
                for size in pool.map(_download, missing):
                    bar.update(size)
        finally:
            pool.shutdown(cancel_futures=True)
    return [fetch(file.path) for file in files(group)]


_network = threading.Lock()
_answers: dict[str, bool] = {}  # source asked -> did it answer, once a process
# file -> (size, modification time) whose SHA-256 was right
_verified: dict[Path, tuple[int, int]] = {}


def online() -> bool:
    """Return whether files can be downloaded; asked once a process, for at most `PATIENCE_S`.

    The question is one HEAD request for a registered file, in a thread of its own, because name
    resolution ignores every timeout.
    """
    if _switched_off():
        return False
    source = next(iter(registry().values())).source
    with _network:
        if source not in _answers:
            answers: list[bool] = []
            thread = threading.Thread(target=lambda: answers.append(_reaches(source)), daemon=True)
            thread.start()
            thread.join(PATIENCE_S)
            _answers[source] = answers == [True]
        return _answers[source]


def _switched_off() -> bool:
    return os.environ.get("INSTAB_OFFLINE", "0") not in ("", "0")


def _reaches(url: str) -> bool:
    try:
        return pooch.HTTPDownloader(timeout=PATIENCE_S)(url, None, None, check_only=True)
    except (requests.RequestException, OSError):
        return False


def _download(file: File) -> int:
    """Download to a temporary file, check, rename: a target is whole or absent. Return its size."""
    _require_online(file)
    pooch.get_logger().setLevel("WARNING")  # 500 lines otherwise
    # no streaming: files are small, and a refused streamed request leaves its socket open
    downloader = pooch.HTTPDownloader(timeout=(PATIENCE_S, 60), chunk_size=1 << 20, stream=False)
    known_hash = f"sha256:{file.sha256}"
    target = file.target
    try:
        pooch.retrieve(file.source, known_hash, target.name, target.parent, downloader=downloader)
    except requests.RequestException as error:
        if isinstance(error, requests.ConnectionError | requests.Timeout):
            with _network:  # the network went away: let the other files fail fast
                _answers[next(iter(registry().values())).source] = False
            raise _unavailable(file, f"{file.source} does not answer ({error})") from error
        raise _unavailable(file, f"{file.source} failed ({error})") from error
    except ValueError as error:  # pooch's hash mismatch; its temporary file is gone
        raise ChecksumMismatch(
            f"{file.source} does not give the registered file {file.path}: {error}. "
            "Nothing was written. Try again; if it stays, the source or a proxy on the way "
            "changes files."
        ) from error
    return file.n_bytes


def _require_online(file: File) -> None:
    if not online():
        off = "INSTAB_OFFLINE is set"
        raise _unavailable(file, off if _switched_off() else f"{file.source} does not answer")


def _unavailable(file: File, reason: str) -> DataUnavailable:
    return DataUnavailable(
        f"{file.path} is not available: expected {file.target} with sha256 {file.sha256}, "
        f"found no file, and {reason}. Connect to the network and start again (what has arrived "
        f"is kept), or point INSTAB_DATA at a folder that holds {file.path}."
    )


def _verify(file: File) -> None:
    stat = file.target.stat()
    stamp = (stat.st_size, stat.st_mtime_ns)
    if _verified.get(file.target) == stamp:
        return
    sha256 = pooch.file_hash(str(file.target))
    if sha256 != file.sha256:
        raise ChecksumMismatch(
            f"{file.target} is not the registered file: expected sha256 {file.sha256} "
            f"({file.n_bytes} bytes), found {sha256} ({stat.st_size} bytes). It was left as it "
            f"is; move it away and run again to download it from {file.source}."
        )
    _verified[file.target] = stamp


def _registered(path: str) -> File:
    path = Path(path).as_posix()
    if path not in registry():
        close = ", ".join(difflib.get_close_matches(path, registry()))
        hint = f"did you mean {close}?" if close else "see data.files()."
        raise ValueError(f"no registered file {path!r}; {hint}")
    return registry()[path]
