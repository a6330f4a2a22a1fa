"""A loss history as a table of an SQLite database, one value a row."""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from pykguard.history_files._rows import Columns, Row, collect, foreign, plain

# SQLite keeps a number for the program that a file belongs to.
APPLICATION = int.from_bytes(b"kgua", "big")
COLUMNS = {
    "run": "INTEGER",
    "epoch": "INTEGER",
    "batch": "INTEGER",
    "name": "TEXT",
    "value": "REAL",
    "exact": "INTEGER",
}
SECONDS_TO_WAIT = 60


class SqliteFile:
    """Appends a run to the table `history` of an SQLite database, with the columns of `COLUMNS`.

    `batch` is NULL for the values of a whole epoch, and `value` where it is NaN. What `append` was
    given is one transaction that the operating system has when `append` returns, so a process that
    is killed loses none of it; the file that it leaves beside this one, with `-wal` added to the
    name, is part of it. Several processes may write at once, each a run of its own.

    Args:
        path: Name of the file.

    Raises:
        OptionValueError: The file holds something else.
        sqlite3.Error: The file cannot be opened, read or written.
    """

    def __init__(self, path: str) -> None:
        if os.path.exists(path):
            with closing(_connect_to_read(path)) as connection:
                _is_empty(connection, path)
        self._connection = _connect(path, "rwc")
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = OFF")
            self.run = self._begin_run(path)
        except BaseException:
            self._connection.close()
            raise
        self._insert = f"INSERT INTO history VALUES ({self.run}, ?, ?, ?, ?, ?)"

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows, all of them or none; they outlive the process once this returns.

        Raises:
            sqlite3.Error: They could not be written, or the file was closed.
        """
        values = [
            (int(epoch), None if batch is None else int(batch), plain(name), float(value), exact)
            for epoch, batch, name, value, exact in rows
        ]
        with self._connection:
            self._connection.executemany(self._insert, values)

    def close(self) -> None:
        """Close the file; closing it again does nothing."""
        self._connection.close()

    def _begin_run(self, path: str) -> int:
        """Make the table if it is not there, and take a run's number that no one else gets."""
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            if _is_empty(self._connection, path):
                columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
                self._connection.execute(f"CREATE TABLE history ({columns})")
                self._connection.execute(f"PRAGMA application_id = {APPLICATION}")
            [run] = self._connection.execute("PRAGMA user_version").fetchone()
            self._connection.execute(f"PRAGMA user_version = {run + 1}")
        return int(run)


def read_sqlite(path: str) -> dict[int, Columns]:
    """The columns of each run. The file may be written meanwhile, and is left as it is."""
    with closing(_connect_to_read(path)) as connection:
        return {} if _is_empty(connection, path) else collect(_rows(connection))


def _rows(connection: sqlite3.Connection) -> Iterator[tuple[int, Row]]:
    query = f"SELECT {', '.join(COLUMNS)} FROM history ORDER BY rowid"
    for run, epoch, batch, name, value, exact in connection.execute(query):
        yield run, (epoch, batch, name, math.nan if value is None else value, bool(exact))


def _connect(path: str, mode: str) -> sqlite3.Connection:
    # A recorder that is left over in one thread may be closed by a `fit` in another.
    return sqlite3.connect(
        f"{Path(path).absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=SECONDS_TO_WAIT,
        isolation_level="IMMEDIATE",
        check_same_thread=False,
    )


def _connect_to_read(path: str) -> sqlite3.Connection:
    """A connection that sees one state of the file, whatever other processes write meanwhile.

    It is read-only, unless a transaction of a killed process has to be rolled back first.
    """
    torn = os.path.exists(os.path.realpath(path) + "-journal")
    connection = _connect(path, "rw" if torn else "ro")
    connection.execute("BEGIN")
    return connection


def _is_empty(connection: sqlite3.Connection, path: str) -> bool:
    """Whether a database holds nothing yet; an error if it is not one of ours."""
    try:
        [application] = connection.execute("PRAGMA application_id").fetchone()
        [things] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        columns = connection.execute("SELECT name FROM pragma_table_info('history')").fetchall()
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        raise foreign(path) from None
    if things == 0 and application in (0, APPLICATION):
        return True
    if application != APPLICATION or [name for (name,) in columns] != list(COLUMNS):
        raise foreign(path)
    return False
