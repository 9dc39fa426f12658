"""Where data files lie, and how to write one so that nobody ever sees half of it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from ..errors import DataError

if TYPE_CHECKING:
    from pathlib import Path  # imported only where a path is made: it takes 5 ms of the package's import time

DATA_VARIABLE = "TINYGRAD_NN_DATA"


def cache_folder() -> Path:
    """The folder of this user for downloaded data: `tinygrad_nn` in $XDG_CACHE_HOME, or in ~/.cache."""
    from pathlib import Path

    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tinygrad_nn"


def data_folders() -> list[Path]:
    """The folders to look into for data, first things first: $TINYGRAD_NN_DATA if set, then the cache."""
    from pathlib import Path

    chosen = os.environ.get(DATA_VARIABLE)
    return [*([Path(chosen)] if chosen else []), cache_folder()]


def look_for(*names: str) -> Path | None:
    """The first file of one of these names in the first data folder that has any; None where there is none."""
    found = (folder / name for folder in data_folders() for name in names)
    return next((path for path in found if path.is_file()), None)


def find_file(name: str) -> Path:
    """The path of a data file such as `"book/sample_weight.pkl"`, in $TINYGRAD_NN_DATA or else the user's cache.

    >>> import tinygrad_nn as tg
    >>> tg.data.find_file("book/no_such_file.csv")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    tinygrad_nn.errors.DataError: find_file: there is no book/no_such_file.csv ...
    """
    path = look_for(name)
    if path is None:
        raise DataError(
            f"find_file: there is no {name} in {' or '.join(map(str, data_folders()))}. Set {DATA_VARIABLE} to the "
            "folder that holds it"
        )
    return path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` at the end of the block, whole; after an error nothing changes."""
    from pathlib import Path

    target = Path(os.path.realpath(path))  # through a link, to the file it names
    part = target.with_name(f".{os.getpid()}-{os.urandom(6).hex()}.part")
    if not target.parent.is_dir():  # else the error would name the passing file
        raise FileNotFoundError(errno.ENOENT, "the folder to write into does not exist", str(target.parent))
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process holds this lock file, and hold it. A process that dies lets go of it."""
    with open(path, "ab") as file:
        if sys.platform == "win32":
            import msvcrt

            while True:
                try:
                    file.seek(0)
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # gives up after ten seconds
                    break
                except OSError:
                    continue
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file lets go
