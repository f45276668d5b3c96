"""The public files: where each comes from, its SHA-256, its licence; found on disk or downloaded on
first use.

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


class DamagedFile(RuntimeError):
    """A registered file is there, or came from the network, with other bytes than its SHA-256 says."""


@dataclass(frozen=True)
class File:
    path: str  # relative to `folder()`, with forward slashes
    url: str  # upstream, pinned to a commit
    sha256: str
    n_bytes: int
    licence: str


@functools.cache
def registry() -> dict[str, File]:
    """Every registered file by its relative path, in the registry's order."""
    text = resources.files(__package__).joinpath("registry.json").read_text("utf-8")
    return {
        file.path: file
        for group in json.loads(text)
        # upstream's name where ours differs
        for name, sha256, n_bytes, *other_name in group["files"]
        for file in [
            File(
                f"{group['folder']}/{name}",
                "/".join([group["url"], *(other_name or [name])]),
                sha256,
                n_bytes,
                group["licence"],
            )
        ]
    }


def folder() -> Path:
    """Where the files are: INSTAB_DATA, else the platform's cache directory. It need not exist yet."""
    return Path(os.environ.get("INSTAB_DATA") or pooch.os_cache("instab")).expanduser()


def files(group: str = "") -> list[File]:
    """Registered files in a folder such as "bsd/set68" or "aapm" ("" is all); ValueError for an
    unknown one.
    """
    found = [
        file
        for path, file in registry().items()
        if not group or path.startswith(group.rstrip("/") + "/")
    ]
    if not found:
        known = sorted({path.rsplit("/", 1)[0] for path in registry()})
        raise ValueError(f"no registered files in {group!r}; expected one of {', '.join(known)}.")
    return found


def licence(path: str) -> str:
    """Licence, or terms of use, of a registered file."""
    return _registered(path).licence


def available(group: str = "") -> bool:
    """True when every file of the group is on disk. Existence only: contents are checked when a
    file is used.
    """
    return all((folder() / file.path).is_file() for file in files(group))


def situation(group: str = "") -> str:
    """ "files", "download" or "phantoms": what a notebook that needs `group` runs on, to be said on
    its page.
    """
    if available(group):
        return "files"
    return "download" if online() else "phantoms"


def fetch(path: str) -> Path:
    """Path on this machine of one registered file, downloaded if it is missing; its SHA-256 holds.

    A file is hashed once a process, and again only if its size or modification time changed.

    Raises:
        ValueError: the path is not registered.
        DamagedFile: the file has another SHA-256. It is left as it is.
        DataUnavailable: it is missing and cannot be downloaded.
    """
    file = _registered(path)
    target = folder() / file.path
    if not target.exists():
        _download(file, target)
    _verify(file, target)
    return target


def fetch_group(group: str) -> list[Path]:
    """`fetch` for every file of a folder, missing ones in parallel under one progress bar.

    What has arrived stays when others fail, so that a second call goes on from there.
    """
    missing = [file for file in files(group) if not (folder() / file.path).exists()]
    if missing:
        _require_online(missing[0], folder() / missing[0].path)
        silent = bool(os.environ.get("INSTAB_BOOK"))
        with (
            ThreadPoolExecutor(N_PARALLEL) as pool,
            tqdm(
                total=sum(file.n_bytes for file in missing),
                unit="B",
                unit_scale=True,
                desc=group,
                disable=silent,
            ) as bar,
        ):
            jobs = [
                (pool.submit(_download, file, folder() / file.path), file.n_bytes)
                for file in missing
            ]
            try:
                for job, n_bytes in jobs:
                    job.result()
                    bar.update(n_bytes)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return [fetch(file.path) for file in files(group)]


_network = threading.Lock()
_answer: dict[str, bool] = {}  # source asked -> did it answer, once a process
# file -> (size, modification time) whose SHA-256 was right
_verified: dict[Path, tuple[int, int]] = {}


def online(recheck: bool = False) -> bool:
    """Can the files be downloaded? Asked once a process, at most `PATIENCE_S` seconds, then
    remembered.

    The question is one HEAD request for a registered file, in a thread of its own, because name
    resolution ignores every timeout.
    """
    if _switched_off():
        return False
    source = _url(next(iter(registry().values())))
    with _network:
        if recheck or source not in _answer:
            answers: list[bool] = []
            thread = threading.Thread(target=lambda: answers.append(_answers(source)), daemon=True)
            thread.start()
            thread.join(PATIENCE_S)
            _answer[source] = answers == [True]
        return _answer[source]


def _switched_off() -> bool:
    return os.environ.get("INSTAB_OFFLINE", "0") not in ("", "0")


def _answers(url: str) -> bool:
    try:
        return pooch.HTTPDownloader(timeout=PATIENCE_S)(url, None, None, check_only=True)
    except (requests.RequestException, OSError):
        return False


def _download(file: File, target: Path) -> None:
    """Into a temporary file beside the target, checked, then renamed: a target is whole or absent."""
    _require_online(file, target)
    pooch.get_logger().setLevel("WARNING")  # 500 lines otherwise; the progress bar says it in one
    source = _url(file)
    try:
        # no streaming: files are small, and a refused streamed request leaves its socket open
        pooch.retrieve(
            source,
            f"sha256:{file.sha256}",
            target.name,
            target.parent,
            downloader=pooch.HTTPDownloader(
                timeout=(PATIENCE_S, 60), chunk_size=1 << 20, stream=False
            ),
        )
    except (requests.ConnectionError, requests.Timeout) as error:
        with _network:  # the network went away: let the other files fail fast
            _answer[_url(next(iter(registry().values())))] = False
        raise DataUnavailable(
            _missing(file, target, f"{source} does not answer ({error})")
        ) from error
    except requests.RequestException as error:
        raise DataUnavailable(_missing(file, target, f"{source} failed ({error})")) from error
    except ValueError as error:  # pooch's hash mismatch; its temporary file is gone
        raise DamagedFile(
            f"{source} does not give the registered file {file.path}: {error}. Nothing was written. "
            "Try again; if it stays, the source or a proxy on the way changes files."
        ) from error


def _require_online(file: File, target: Path) -> None:
    if not online():
        reason = "INSTAB_OFFLINE is set" if _switched_off() else f"{_url(file)} does not answer"
        raise DataUnavailable(_missing(file, target, reason))


def _missing(file: File, target: Path, reason: str) -> str:
    return (
        f"{file.path} is not available: expected {target} with sha256 {file.sha256}, found no file, and {reason}. "
        "Connect to the network and start again (what has arrived is kept), or point INSTAB_DATA at a folder "
        f"that holds {file.path}."
    )


def _verify(file: File, target: Path) -> None:
    stat = target.stat()
    mark = (stat.st_size, stat.st_mtime_ns)
    if _verified.get(target) == mark:
        return
    found = pooch.file_hash(str(target))
    if found != file.sha256:
        raise DamagedFile(
            f"{target} is not the registered file: expected sha256 {file.sha256} ({file.n_bytes} bytes), "
            f"found {found} ({stat.st_size} bytes). It was left as it is; move it away and run again to download "
            f"it from {_url(file)}."
        )
    _verified[target] = mark


def _registered(path: str) -> File:
    path = Path(path).as_posix()
    if path not in registry():
        close = difflib.get_close_matches(path, registry(), n=3)
        raise ValueError(
            f"no registered file {path!r}; "
            + (f"did you mean {', '.join(close)}?" if close else "see data.files().")
        )
    return registry()[path]


def _url(file: File) -> str:
    mirror = os.environ.get("INSTAB_DATA_MIRROR")
    return f"{mirror.rstrip('/')}/{file.path}" if mirror else file.url
