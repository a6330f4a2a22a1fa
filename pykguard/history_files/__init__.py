"""The files of a loss history: CSV or SQLite, one value a row."""

from __future__ import annotations

import os
from typing import Any

from pykguard._errors import OptionTypeError, OptionValueError
from pykguard.history_files._csv import CsvFile, read_csv
from pykguard.history_files._rows import Columns, HistoryFile, Row
from pykguard.history_files._tensorboard import TensorBoardWriter, check_log_dir

__all__ = [
    "Columns",
    "HistoryFile",
    "Row",
    "TensorBoardWriter",
    "check_log_dir",
    "check_path",
    "open_file",
    "read_rows",
]

SUFFIXES = (".csv", ".sqlite")


def check_path(path: Any) -> str | None:
    """Check the option `path`: None, or the name of a .csv or .sqlite file."""
    if path is None:
        return None
    requirement = "None or the name of a .csv or .sqlite file in a folder that exists"
    if not isinstance(path, (str, os.PathLike)):
        raise OptionTypeError("path", requirement, path)
    name = os.path.expanduser(os.fsdecode(path))
    folder = os.path.dirname(name) or "."
    of_a_kind = name.lower().endswith(SUFFIXES) and "\0" not in name
    if not of_a_kind or not os.path.isdir(folder) or os.path.isdir(name):
        raise OptionValueError("path", requirement, name)
    return name


def open_file(path: str) -> HistoryFile:
    """Open a file that `check_path` accepted, for a new run.

    Raises:
        OptionValueError: The file holds something else, or is a CSV file that another process is
            writing.
        OSError, sqlite3.Error: The file cannot be opened, read or written.
    """
    if path.lower().endswith(".csv"):
        return CsvFile(path)
    from pykguard.history_files._sqlite import SqliteFile

    return SqliteFile(path)


def read_rows(path: Any) -> dict[int, Columns]:
    """Read a file that a LossHistory wrote, also while it is written; it is left as it is.

    Returns:
        For each run the columns epoch and batch (int32, from 0; batch is -1 for a whole epoch),
        name (str objects), value (float64) and exact (bool), in the order they were written.

    Raises:
        OptionTypeError, OptionValueError: There is no such file, or it holds something else.
        OSError, sqlite3.Error: The file cannot be read.
    """
    requirement = "the name of a .csv or .sqlite file that LossHistory wrote"
    if not isinstance(path, (str, os.PathLike)):
        raise OptionTypeError("path", requirement, path)
    name = os.path.expanduser(os.fsdecode(path))
    if not name.lower().endswith(SUFFIXES) or "\0" in name or not os.path.isfile(name):
        raise OptionValueError("path", requirement, name)
    if name.lower().endswith(".csv"):
        return read_csv(name)
    from pykguard.history_files._sqlite import read_sqlite

    return read_sqlite(name)
