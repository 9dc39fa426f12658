"""Downloading one file whose content is known: from several mirrors, resumed, checked, and put in place whole."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import DataError
from .files import DATA_VARIABLE, locked
from .idx import decompressed

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = 10.0  # seconds without a connection or without a byte
CHUNK = 1 << 16
ATTEMPTS = 5  # for one mirror, as long as each brings something


class Remote(NamedTuple):
    """A file to be had as `<mirror><name>.gz`: its length and SHA-256 once decompressed."""

    name: str
    size: int
    sha256: str


class Failed(Exception):
    """Why one mirror did not do. With `part_is_bad`, what came from it so far is of no use either."""

    def __init__(self, reason: str, part_is_bad: bool = False) -> None:
        super().__init__(reason)
        self.part_is_bad = part_is_bad


def download(file: Remote, mirrors: Sequence[str], folder: Path) -> Path:
    """The path of `file` in `folder`, downloaded from the first mirror that has it unless it is there already.

    What comes in is kept in a `.part` file, one per mirror (they may compress differently), so a download that was cut
    off goes on where it ended. The file gets its name only once its bytes are proven right. Processes that want the
    same folder wait for each other.
    """
    final = folder / f"{file.name}.gz"
    if final.is_file():
        return final
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock"):
            if final.is_file():  # another process was faster
                return final
            reasons = []
            for mirror in mirrors:
                part = folder / f"{final.name}.{_tag(mirror)}.part"
                try:
                    _from_mirror(file, f"{mirror}{final.name}", part)
                except Failed as failed:
                    reasons.append(f"  {mirror}{final.name}: {failed}")
                    continue
                os.replace(part, final)
                for leftover in folder.glob(f"{final.name}.*.part"):  # of other mirrors
                    leftover.unlink()
                return final
    except OSError as error:
        raise DataError(f"{file.name} cannot be kept in {folder}: {error}. {_advice(file)}") from error
    raise DataError(
        f"{file.name} is not in {folder} and could not be downloaded:\n" + "\n".join([*reasons, _advice(file)])
    )


def _advice(file: Remote) -> str:
    now = os.environ.get(DATA_VARIABLE)
    return (
        f"Get {file.name}.gz by other means into a folder `mnist`, and set {DATA_VARIABLE} to the folder that holds "
        f"`mnist`{f' (it is {now} now, where there is none)' if now else ''}."
    )


def _tag(mirror: str) -> str:
    import zlib

    return f"{zlib.crc32(mirror.encode()):08x}"


def _from_mirror(file: Remote, url: str, part: Path) -> None:
    """Bring the whole file into `part`, or raise `Failed`."""
    for attempt in range(ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            _fetch(url, part, file)
            _verify(part, file)
            return
        except Failed as failed:
            if failed.part_is_bad:
                part.unlink(missing_ok=True)
            resumed = before > 0 and failed.part_is_bad  # then the fault may lie in what was there before
            progressed = not failed.part_is_bad and part.exists() and part.stat().st_size > before
            if attempt + 1 == ATTEMPTS or not (resumed or progressed):
                raise


def _fetch(url: str, part: Path, file: Remote) -> None:
    """Download `url` into `part`, going on after what is there."""
    have = part.stat().st_size if part.exists() else 0
    limit = file.size + (1 << 20)  # compression never adds more
    response = _network(_open, url, have)
    if response is None:  # nothing comes after what is there: the check will tell whether that is all
        return
    with response:
        resumes = response.status == 206
        if resumes and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise Failed("answered with another range than was asked for", part_is_bad=True)
        have = have if resumes else 0
        length = response.headers.get("Content-Length") or ""
        total = have + int(length) if length.isdecimal() else None
        with open(part, "ab" if resumes else "wb") as out, _progress(file.name, total, have) as progress:
            while chunk := _network(response.read, CHUNK):
                have += len(chunk)
                if have > limit:
                    raise Failed("sends far more bytes than the file has", part_is_bad=True)
                out.write(chunk)
                progress.update(len(chunk))
    if total is not None and have < total:
        raise Failed(f"the connection ended after {have} of {total} bytes")


def _open(url: str, start: int) -> Any:
    """The response to a request for `url` from byte `start` on; None if the server has nothing from there on."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        return urlopen(Request(url, headers={"Range": f"bytes={start}-"} if start else {}), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:
            return None
        raise


def _network(fn: Callable[..., Any], *args: Any) -> Any:
    """`fn(*args)`, with trouble on the network as `Failed` (trouble with the disk stays an OSError)."""
    from http.client import HTTPException

    try:
        return fn(*args)
    except (OSError, HTTPException, ValueError) as error:  # ValueError: what makes no sense in a URL or a header
        raise Failed(f"{type(error).__name__}: {error}") from None


def _verify(part: Path, file: Remote) -> None:
    """Raise `Failed` unless `part` decompresses to exactly what is known of `file`."""
    import hashlib

    digest, size = hashlib.sha256(), 0
    try:
        with decompressed(part) as (stream, _):
            while size <= file.size and (chunk := stream.read(CHUNK)):
                digest.update(chunk)
                size += len(chunk)
    except DataError as error:
        raise Failed(f"what came is no good: {error}", part_is_bad=True) from None
    if digest.hexdigest() != file.sha256:
        got = f"{'more than ' if size > file.size else ''}{size} bytes with SHA-256 {digest.hexdigest()[:12]}..."
        raise Failed(f"{got} came, instead of {file.size} with {file.sha256[:12]}...", part_is_bad=True)


def _progress(name: str, total: int | None, start: int) -> Any:
    """A bar on stderr where tqdm is installed, else a plain line."""
    try:
        from tqdm import tqdm
    except ImportError:
        return _Line(name, total, start)
    return tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, unit_divisor=1024)


class _Line:
    """How far a download is, in one line on stderr that is written over."""

    def __init__(self, name: str, total: int | None, start: int) -> None:
        self.name, self.total, self.done, self.shown = name, total, start, 0.0

    def __enter__(self) -> _Line:
        self._show()
        return self

    def __exit__(self, *exc: object) -> None:
        self._show()
        print(file=sys.stderr)

    def update(self, n: int) -> None:
        self.done += n
        if time.monotonic() - self.shown > 0.2:
            self._show()

    def _show(self) -> None:
        self.shown = time.monotonic()
        of = f" of {self.total / 1e6:.1f}" if self.total else ""
        print(f"\rdownloading {self.name}: {self.done / 1e6:.1f}{of} MB", end="", file=sys.stderr, flush=True)
