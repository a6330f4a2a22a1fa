"""A loss history as a CSV file, one value a row."""

from __future__ import annotations

import csv
import os
import re
import weakref
from collections.abc import Iterator, Sequence
from functools import lru_cache
from io import FileIO
from typing import IO

from pykguard._errors import OptionValueError
from pykguard.history_files._lock import lock, unlock
from pykguard.history_files._rows import Columns, Row, collect, foreign, plain

HEADER = b"run,epoch,batch,name,value,exact\n"
LONGEST_ROW = 1 << 20
CHUNK = 1 << 16

# What a killed process can have left of a row: run, epoch, batch, and anything after them.
_TORN = re.compile(rb"\d+(,(-?\d*(,(\d*(,.*)?)?)?)?)?", re.DOTALL)
# As both Python and R read them.
_SPELLING = {"nan": "NaN", "inf": "Inf", "-inf": "-Inf"}


class CsvFile:
    """Appends a run to a CSV file with the columns of `HEADER`.

    `batch` is empty for the values of a whole epoch. What `append` was given is one write, past all
    buffers of this process, so a process that is killed loses none of it. A row can only be torn by
    a kill within that write; it is cut off when the file is opened again.

    The file is locked for other processes while it is open. In the process itself the last one to
    open it has it, so that a `fit` that was broken off, whose recorder may live on in a traceback,
    does not shut out the next: what is then appended through the earlier one is an error. A child
    process that is forked off has no part in the file.

    Args:
        path: Name of the file.

    Raises:
        OptionValueError: The file holds something else, or another process is writing it.
        OSError: The file cannot be opened, read or written.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = FileIO(path, "a+b")
        try:
            status = os.fstat(self._file.fileno())
            key = (status.st_dev, status.st_ino)
            if key in _open:
                _open[key].close()
            if not lock(self._file.fileno()):
                raise OptionValueError("path", "a file that no other process is writing", path)
            self.run = self._continue()
        except BaseException:
            self._file.close()
            raise
        _open[key] = self

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows, all of them or none; they outlive the process once this returns.

        Raises:
            OSError: They could not be written.
            ValueError: The file was closed, or opened again in this process.
        """
        lines: list[str] = []
        begun: tuple[int, int | None] | None = None
        for epoch, batch, name, value, exact in rows:
            if (epoch, batch) != begun:
                begun = (epoch, batch)
                start = f"{self.run},{epoch},{'' if batch is None else batch},"
            number = repr(float(value))
            if number in _SPELLING:
                number = _SPELLING[number]
            lines.append(f"{start}{_quoted(name)},{number},{'1' if exact else '0'}\n")
        self._write("".join(lines).encode())

    def close(self) -> None:
        """Close the file; closing it again does nothing."""
        if not self._file.closed:
            unlock(self._file.fileno())
            self._file.close()

    def _continue(self) -> int:
        """Cut off a torn last row, write the header of a new file, give the number of this run."""
        self._file.seek(0)
        head = self._file.read(len(HEADER))
        if not HEADER.startswith(head):
            raise foreign(self._path)
        if head != HEADER:
            self._file.truncate(0)
            self._write(HEADER)
            return 0
        start, end = _last_row(self._file)
        size = self._file.seek(0, os.SEEK_END)
        if max(end - start, size - end) > LONGEST_ROW:
            raise foreign(self._path)
        self._file.seek(start)
        last, torn = self._file.read(end - start), self._file.read(size - end)
        if torn and not _TORN.fullmatch(torn):
            raise foreign(self._path)
        run = 0
        if last != HEADER:
            try:
                [(before, _)] = _parse(iter([last.decode()]))
            except (ValueError, csv.Error):
                raise foreign(self._path) from None
            run = before + 1
        if torn:
            self._file.truncate(end)
        return run

    def _write(self, data: bytes) -> None:
        """Write all of `data`, or raise and leave the file as it was."""
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        except ValueError:
            raise ValueError(
                f"`path`: {self._path} was closed, or is being written by a later LossHistory"
            ) from None
        except BaseException:
            if written:
                self._file.truncate(os.fstat(self._file.fileno()).st_size - written)
            raise


def read_csv(path: str) -> dict[int, Columns]:
    """The columns of each run; a torn last row is left out, and the file is left as it is."""
    with open(path, "rb") as file:
        head = file.read(len(HEADER))
        if not HEADER.startswith(head):
            raise foreign(path)
        if head != HEADER:
            return {}
        _, end = _last_row(file)
        try:
            return collect(_parse(_lines(file, end)))
        except (ValueError, OverflowError, csv.Error):
            raise foreign(path) from None


@lru_cache(maxsize=4096)
def _quoted(name: str) -> str:
    text = plain(name)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def _last_row(file: IO[bytes] | FileIO) -> tuple[int, int]:
    """Where the last whole row begins and ends; a line break in a quoted name ends no row."""
    file.seek(0)
    start = end = position = 0
    quoted = False
    while chunk := file.read(CHUNK):
        for number, part in enumerate(chunk.split(b'"')):
            if number:
                quoted = not quoted
                position += 1
            last = -1 if quoted else part.rfind(b"\n")
            if last >= 0:
                before = part.rfind(b"\n", 0, last)
                start = end if before < 0 else position + before + 1
                end = position + last + 1
            position += len(part)
    return start, end


def _lines(file: IO[bytes], end: int) -> Iterator[str]:
    """The lines between the header and `end`, which is where a line ends."""
    left = end - file.seek(len(HEADER))
    while left > 0:
        line = file.readline()
        left -= len(line)
        yield line.decode()


def _parse(lines: Iterator[str]) -> Iterator[tuple[int, Row]]:
    for run, epoch, batch, name, value, exact in csv.reader(lines, strict=True):
        if exact not in ("0", "1"):
            raise ValueError(exact)
        where = int(batch) if batch else None
        yield int(run), (int(epoch), where, name, float(value), exact == "1")


# The files that this process has open for writing, by device and inode.
_open: weakref.WeakValueDictionary[tuple[int, int], CsvFile] = weakref.WeakValueDictionary()


def _forget() -> None:
    """Close the parent's files in a forked child, which would keep them locked after its death."""
    for file in list(_open.values()):
        file._file.close()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
