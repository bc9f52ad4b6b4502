# SPDX-License-Identifier: MIT
"""fastnorm.files - .npy files read block by block and written all or nothing.

Input is memory-mapped. Output is written as a stream and not through a second map,
because a full disk is an error of write() but kills the process through a map.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["NewArray", "Volume", "blocks", "load", "open_array", "replacing"]

Region = tuple[slice, ...]


def open_array(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array of a .npy file, memory-mapped for reading.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a .npy file of real numbers; one sentence that names the file.
    """
    path = os.fspath(path)
    with Path(path).open("rb") as file:
        magic = file.read(6)
    if magic[:4] == b"PK\x03\x04":
        raise ValueError(f"{path} is an .npz archive, a .npy file is needed")
    if magic != b"\x93NUMPY":
        raise ValueError(f"{path} is not a .npy file")
    try:
        array = np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except ValueError as error:
        if "object" in str(error):
            raise ValueError(f"{path} holds Python objects, not numbers") from error
        raise ValueError(f"{path} is damaged: {error}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path} has dtype {array.dtype}, real numbers are needed")
    return array


def load(path: str | os.PathLike[str], dtype: DTypeLike) -> NDArray[Any]:
    """A small .npy file (weights, statistics) as a contiguous array of `dtype`."""
    return np.array(open_array(path), dtype=dtype, order="C")


def blocks(shape: tuple[int, ...], limit: int) -> Iterator[Region]:
    """Cuts an array in C order into contiguous regions of about `limit` items.

    No region has more than `limit` items (but at least one). The slices that any two
    regions take along one axis are equal or disjoint.
    """
    inner, axis = 1, len(shape) - 1
    while axis > 0 and inner * shape[axis] <= limit:
        inner *= shape[axis]
        axis -= 1
    step = max(1, limit // max(inner, 1))
    for prefix in itertools.product(*map(range, shape[:axis])):
        for start in range(0, shape[axis], step):
            yield (
                *(slice(i, i + 1) for i in prefix),
                slice(start, min(start + step, shape[axis])),
                *(slice(0, n) for n in shape[axis + 1 :]),
            )


@dataclass(frozen=True)
class Volume:
    """A part of a file as a three-axis array in C order.

    Attributes
    ----------
    data : ndarray
        The part, [A, B, C], contiguous, in the dtype of the file.
    start : int
        Items before it in the file.
    """

    data: NDArray[Any]
    start: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        a, b, c = self.data.shape
        return a, b, c

    def read(self, region: Region, dtype: DTypeLike) -> NDArray[Any]:
        """A fresh contiguous array of this region, converted."""
        return np.array(self.data[region], dtype=dtype, order="C")


class NewArray:
    """A .npy file that appears under its name complete, or not at all.

    Parameters
    ----------
    path : path-like
        The file, whose directory must exist.
    shape, dtype, fortran_order
        The header.
    force : bool
        Replace an existing file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: tuple[int, ...],
        dtype: DTypeLike,
        *,
        fortran_order: bool = False,
        force: bool = False,
    ) -> None:
        self._dtype = np.dtype(dtype)
        self._header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": fortran_order,
            "shape": shape,
        }
        self._replacing = replacing(path, force=force)
        self._data_start = 0

    def __enter__(self) -> Self:
        self._file = self._replacing.__enter__()
        try:
            np.lib.format.write_array_header_1_0(self._file, self._header)
            self._data_start = self._file.tell()
        except BaseException as error:
            self._replacing.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._replacing.__exit__(kind, error, traceback)

    def write(self, volume: Volume, region: Region, block: NDArray[Any]) -> None:
        """Writes `block` where `region` of `volume` lies in the input."""
        block = np.ascontiguousarray(block, dtype=self._dtype)
        # The axes from `axis` on are one run of the file: all but the first are whole.
        axis = len(region) - 1
        while axis > 0 and block.shape[axis] == volume.shape[axis]:
            axis -= 1
        strides = [s // volume.data.itemsize for s in volume.data.strides]
        lowest = volume.start + sum(
            s.start * stride for s, stride in zip(region, strides, strict=True)
        )
        for index in np.ndindex(block.shape[:axis]):
            offset = lowest + sum(i * s for i, s in zip(index, strides, strict=False))
            self._file.seek(self._data_start + offset * self._dtype.itemsize)
            self._file.write(block[index].data)


@contextmanager
def replacing(
    path: str | os.PathLike[str], *, force: bool = True
) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` when the block ends well.

    It is written beside `path`, flushed to the disk and renamed. If the block raises,
    it is removed, and what `path` held before stays.

    Raises
    ------
    ValueError
        If `path` exists and `force` is false, or if it is no regular file.
    OSError
        If it cannot be written; with the name `path`.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise ValueError(f"{path} is not a regular file")
    if target.exists() and not force:
        raise ValueError(f"{path} exists, --force replaces it")
    temporary = target.with_name(f".fastnorm-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except OSError as error:
        _remove(temporary)
        if error.filename in (None, os.fspath(temporary)):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
    except BaseException:
        _remove(temporary)
        raise
    _sync_directory(target.parent)


def _remove(temporary: Path) -> None:
    # Whatever goes wrong here, the first error is the one to report.
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    # Makes the rename durable where the system can do that; the data already is.
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    with suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)
