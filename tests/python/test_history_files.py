import csv
import itertools
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import tracemalloc

import helpers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykguard import OptionTypeError, OptionValueError
from pykguard.history_files import check_path, open_file, read_rows

SUFFIXES = ["csv", "sqlite"]
HEADER = "run,epoch,batch,name,value,exact\n"
both = pytest.mark.parametrize("suffix", SUFFIXES)


def start(code, *arguments):
    code = helpers.WITHOUT_KERAS + "from pykguard.history_files import open_file\n" + code
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def append(path, *calls):
    file = open_file(str(path))
    for rows in calls:
        file.append(rows)
    file.close()
    return file.run


def same(left, right):
    return left == right or (math.isnan(left) and math.isnan(right))


def rows_of(columns):
    """The rows as they were appended, but for the NaN, which no comparison finds."""
    names = ("epoch", "batch", "name", "value", "exact")
    for epoch, batch, name, value, exact in zip(*(columns[n].tolist() for n in names), strict=True):
        yield epoch, None if batch == -1 else batch, name, "nan" if value != value else value, exact


def appended(rows):
    return [(e, b, n, "nan" if v != v else v, x) for e, b, n, v, x in rows]


def joined(lists):
    return list(itertools.chain.from_iterable(lists))


def by_python(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- there and back
numbers = st.integers(0, 2**31 - 1)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
strange = st.sampled_from(['"', '""', "\n", "\r\n", ",", '",\n0,0,0,x,1.0,1\n"', "NaN", "\u2028"])
row = st.tuples(numbers, st.none() | numbers, names | strange, st.floats(), st.booleans())
runs = st.lists(st.lists(st.lists(row, max_size=4), max_size=3), min_size=1, max_size=3)


@both
@settings(max_examples=200, deadline=None)
@given(runs=runs)
def test_what_is_read_is_what_was_appended(suffix, tmp_path_factory, runs):
    path = tmp_path_factory.mktemp("files") / f"losses.{suffix}"
    kept = [run for run in runs if any(run) or suffix == "sqlite"]
    for run in runs:
        append(path, *run)
    found = {number: list(rows_of(columns)) for number, columns in read_rows(path).items()}
    expected = {n: appended(joined(run)) for n, run in enumerate(kept) if any(run)}
    assert found == expected


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(row, min_size=1))
def test_pythons_own_reader_agrees_about_a_csv_file(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("files") / "losses.csv"
    append(path, rows)
    for found, (epoch, batch, name, value, exact) in zip(by_python(path), rows, strict=True):
        assert found["run"] == "0" and int(found["epoch"]) == epoch and found["name"] == name
        assert found["batch"] == ("" if batch is None else str(batch))
        assert same(float(found["value"]), value) and found["exact"] == str(int(exact))


def test_a_csv_file_spells_numbers_as_r_does(tmp_path):
    path = tmp_path / "losses.csv"
    values = [0.1, math.nan, math.inf, -math.inf]
    append(path, [(0, i, "loss", value, True) for i, value in enumerate(values)])
    assert [row["value"] for row in by_python(path)] == ["0.1", "NaN", "Inf", "-Inf"]


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed")
def test_r_reads_a_csv_file(tmp_path):
    path = tmp_path / "losses.csv"
    names = ["loss", "a,b", 'say "so"', '"', "two\nlines", "Verlust für μ", "#1", " x ", "'"]
    values = [0.1, 1e-300, math.nan, math.inf, -math.inf, 1 / 3, 5e-324, -0.0, 1e22]
    cases = zip(names, values, strict=True)
    append(path, [(i, None if i % 2 else i, n, v, True) for i, (n, v) in enumerate(cases)])
    script = (
        "d <- read.csv(commandArgs(TRUE), encoding = 'UTF-8')\n"
        "cat(sprintf('%d|%s|%s|%a\\n', d$epoch, d$batch, gsub('\\n', '~', d$name), d$value),"
        " sep = '')"
    )
    done = subprocess.run(
        ["Rscript", "--vanilla", "-e", script, path],
        capture_output=True,
        check=True,
        encoding="utf-8",
        env=os.environ | {"LC_ALL": "C.UTF-8"},
    )
    lines = [line.split("|") for line in done.stdout.splitlines()]
    assert [line[2].replace("~", "\n") for line in lines] == names
    assert [line[1] for line in lines] == [str(i) if i % 2 == 0 else "NA" for i in range(9)]
    found = [math.nan if line[3] == "NaN" else float.fromhex(line[3]) for line in lines]
    assert all(map(same, found, values))


@both
def test_numpy_numbers_are_taken(suffix, tmp_path):
    path = tmp_path / f"losses.{suffix}"
    append(path, [(np.int64(1), np.int32(2), "loss", np.float32(0.1), np.bool_(True))])
    assert list(rows_of(read_rows(path)[0])) == [(1, 2, "loss", float(np.float32(0.1)), True)]


@both
def test_a_name_that_no_file_can_hold_is_spelt_out(suffix, tmp_path):
    path = tmp_path / f"losses.{suffix}"
    append(path, [(0, 0, "a\0b\ud800", 1.0, True)])
    assert read_rows(path)[0]["name"].tolist() == ["a\\x00b\\ud800"]


@both
def test_the_columns_are_arrays_of_few_bytes(suffix, tmp_path):
    path = tmp_path / f"losses.{suffix}"
    rows = [(epoch, batch, "loss", 0.5, True) for epoch in range(10) for batch in range(10_000)]
    append(path, rows)
    tracemalloc.start()
    columns = read_rows(path)[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {name: column.dtype for name, column in columns.items()} == {
        "epoch": "int32",
        "batch": "int32",
        "name": "object",
        "value": "float64",
        "exact": "bool",
    }
    assert columns["batch"].tolist() == list(range(10_000)) * 10
    assert peak < 80 * len(rows)


# ---------------------------------------------------------------- the option
@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.sqlite", "A.SQLite"])
def test_a_name_in_a_folder_that_exists_is_taken(tmp_path, name):
    assert check_path(tmp_path / name) == str(tmp_path / name)
    append(tmp_path / name, [(0, 0, "loss", 1.0, True)])
    assert list(read_rows(tmp_path / name)) == [0]


def test_no_file_is_a_choice():
    assert check_path(None) is None


@pytest.mark.parametrize("path", ["", "a.txt", "csv", "nowhere/a.csv", "a\0.csv", "."])
def test_any_other_name_is_refused(path):
    with pytest.raises(OptionValueError, match=r"`path` must be None or the name of a \.csv or"):
        check_path(path)


@pytest.mark.parametrize("path", [5, True, b"a.csv", ["a.csv"]])
def test_what_is_no_name_is_refused(path):
    with pytest.raises(OptionTypeError, match=r"`path` must be None or the name of a \.csv or"):
        check_path(path)


@both
def test_only_a_file_that_exists_can_be_read(suffix, tmp_path):
    with pytest.raises(OptionValueError, match="that LossHistory wrote"):
        read_rows(tmp_path / f"a.{suffix}")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OptionTypeError, match="that LossHistory wrote"):
        read_rows(None)


# ---------------------------------------------------------------- torn files
TORN = [
    [(0, 0, "loss", 0.25, True), (0, 0, "süß", math.nan, True), (0, 1, "loss", 1 / 3, False)],
    [(0, 1, 'a "b", c', 0.5, True), (0, None, "two\nlines\n", -math.inf, True)],
    [(0, None, '1,2\n0,0,0,x,1.0,1\n"', 7.0, True), (1, None, "loss", 0.125, True)],
]


def test_a_csv_file_torn_at_any_byte_keeps_its_whole_rows(tmp_path):
    path = tmp_path / "losses.csv"
    append(path, *TORN)
    whole = path.read_bytes()
    rows = joined(TORN)
    ends = []
    for count in range(len(rows) + 1):
        path.unlink()
        append(path, rows[:count])
        ends.append(path.stat().st_size)
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        kept = rows[: sum(end <= length for end in ends[1:])]
        before = read_rows(path)
        assert [list(rows_of(c)) for c in before.values()] == ([appended(kept)] if kept else [])
        assert path.read_bytes() == whole[:length]
        next_row = (5, 6, "loss", 1.0, True)
        assert append(path, [next_row]) == (1 if kept else 0)
        after = read_rows(path)
        assert joined(map(rows_of, after.values())) == appended([*kept, next_row])
        assert path.read_bytes().startswith(
            whole[: max(end for end in [0, *ends] if end <= length)]
        )


def test_a_csv_file_that_is_larger_than_a_chunk_is_repaired(tmp_path):
    path = tmp_path / "losses.csv"
    rows = [(0, i, 'a "b"\nc', i / 7, True) for i in range(60_000)]
    append(path, rows)
    size = path.stat().st_size
    assert size > 2_000_000
    with open(path, "ab") as file:
        file.write(b'0,0,60000,"a "')
    tracemalloc.start()
    file = open_file(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    file.close()
    assert (file.run, path.stat().st_size) == (1, size)
    assert peak < size


@pytest.mark.parametrize("name, beside", [("losses.csv", ""), ("losses.sqlite", "-wal")])
def test_an_append_that_fails_half_way_leaves_nothing(tmp_path, name, beside):
    resource = pytest.importorskip("resource")
    path, written = tmp_path / name, tmp_path / (name + beside)
    file = open_file(str(path))
    file.append([(0, 0, "loss", 1.0, True)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (written.stat().st_size + 6000, limits[1]))
    try:
        with pytest.raises((OSError, sqlite3.OperationalError), match=r"File too large|disk I/O"):
            file.append([(0, i, "loss", 1.0, True) for i in range(1, 900)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_rows(path)[0]["value"].tolist() == [1.0]
    file.append([(0, 1, "loss", 2.0, True)])
    file.close()
    assert read_rows(path)[0]["value"].tolist() == [1.0, 2.0]


# ---------------------------------------------------------------- files of someone else
FOREIGN = [
    b"a,b\n1,2\n",
    b"my notes",
    b"\x1f\x8b\xff\xfe",
    b"\n\n",
    b"\0" * 5000,
    HEADER.encode() + b"not a row of ours\n",
    HEADER.encode() + b"0,1\n",
    HEADER.encode() + b"0,1,2,loss,0.5,yes\n",
    HEADER.encode() + b"0,1,2,\xff,0.5,1\n",
    HEADER.encode() + b"my notes",
    HEADER.encode() + b"0,1,2,loss,0.5,1\n\n",
    HEADER.encode() + b'0,1,2,"' + b"x" * 2_000_000,
    HEADER.replace("\n", "\r\n").encode(),
    b"SQLite format 3\0" + b"\1" * 5000,
]


@both
@pytest.mark.parametrize("content", FOREIGN, ids=range(len(FOREIGN)))
def test_a_file_of_someone_else_is_refused_and_left_as_it_is(suffix, tmp_path, content):
    path = tmp_path / f"losses.{suffix}"
    path.write_bytes(content)
    with pytest.raises(OptionValueError, match="`path` must be a new file or one "):
        open_file(str(path))
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


DATABASES = [
    "CREATE TABLE other (x)",
    "CREATE TABLE history (session INTEGER, line INTEGER, source TEXT)",
    "CREATE TABLE history (run, epoch, batch, name, value, exact)",
    "PRAGMA application_id = 7",
    f"PRAGMA application_id = {0x6B677561}; CREATE TABLE history (run, epoch)",
]


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("content", DATABASES)
def test_a_database_of_someone_else_is_refused_and_left_as_it_is(tmp_path, content, mode):
    path = tmp_path / "losses.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(f"PRAGMA journal_mode = {mode}; {content}")
    before = path.read_bytes()
    for use in (open_file, read_rows):
        with pytest.raises(OptionValueError, match="`path` must be a new file or one"):
            use(str(path))
    assert path.read_bytes() == before
    connection.close()


@both
def test_an_empty_file_is_taken(suffix, tmp_path):
    path = tmp_path / f"losses.{suffix}"
    path.touch()
    assert read_rows(path) == {}
    assert append(path, [(0, 0, "loss", 1.0, True)]) == 0


def test_a_damaged_row_is_not_passed_over_when_reading(tmp_path):
    path = tmp_path / "losses.csv"
    path.write_text(HEADER + "0,1,2,loss\n0,1,2,loss,0.5,1\n")
    with pytest.raises(OptionValueError, match="`path` must be a new file or one"):
        read_rows(path)


# ---------------------------------------------------------------- several at once
def test_a_csv_file_is_locked_for_other_processes_until_it_is_closed(tmp_path):
    path = tmp_path / "losses.csv"
    child = start("file = open_file(sys.argv[1]); print('open', flush=True); input()", path)
    assert child.stdout.readline() == "open\n"
    with pytest.raises(OptionValueError, match="a file that no other process is writing"):
        open_file(str(path))
    assert path.read_text() == HEADER
    child.kill()
    child.communicate()
    append(path, [(0, 0, "loss", 1.0, True)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_does_not_keep_the_file_locked(tmp_path):
    path = tmp_path / "losses.csv"
    code = """
import os, signal
file = open_file(sys.argv[1])
if os.fork():
    signal.pause()
print("forked", flush=True)
signal.pause()
"""
    child = start("import os\nos.setsid()\n" + code, path)
    try:
        assert child.stdout.readline() == "forked\n"
        child.kill()
        child.wait()
        append(path, [(0, 0, "loss", 1.0, True)])
    finally:
        os.killpg(child.pid, 9)
        child.communicate()


def test_within_a_process_the_last_to_open_a_csv_file_has_it(tmp_path):
    path = tmp_path / "losses.csv"
    row = (0, 0, "loss", 1.0, True)
    first = open_file(str(path))
    first.append([row])
    second = open_file(str(path))
    with pytest.raises(ValueError, match=r"is being written by a later LossHistory"):
        first.append([row])
    second.append([row])
    first.close()
    other = start("open_file(sys.argv[1])", path)
    assert "a file that no other process is writing" in other.communicate()[1]
    second.close()
    assert [len(c["value"]) for c in read_rows(path).values()] == [1, 1]


def test_several_processes_write_one_database(tmp_path):
    path = tmp_path / "losses.sqlite"
    code = """
input()
for fit in range(20):
    file = open_file(sys.argv[1])
    for batch in range(10):
        file.append([(0, batch, "loss", float(file.run), True), (0, batch, "mae", 0.0, True)])
    file.close()
"""
    children = [start(code, path) for _ in range(6)]
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    assert [child.communicate() for child in children] == [("", "")] * 6
    runs = read_rows(path)
    assert sorted(runs) == list(range(120))
    for number, columns in runs.items():
        assert columns["batch"].tolist() == [batch for batch in range(10) for _ in range(2)]
        assert set(columns["value"][::2]) == {number}


@both
def test_a_file_is_read_while_it_is_written(suffix, tmp_path):
    path = tmp_path / f"losses.{suffix}"
    code = """
import time
file = open_file(sys.argv[1])
print("open", flush=True)
for i in range(5_000):
    file.append([(0, i, 'a "b"\\nc', i / 3, True), (0, i, "mae", i / 7, True)])
    time.sleep(1e-4)
file.close()
"""
    child = start(code, path)
    assert child.stdout.readline() == "open\n"
    lengths = []
    while child.poll() is None:
        columns = read_rows(path).get(0)
        if columns is not None:
            lengths.append(len(columns["batch"]))
            assert columns["batch"][-1] == (lengths[-1] - 1) // 2
            assert np.array_equal(columns["value"][::2], np.arange((lengths[-1] + 1) // 2) / 3)
    assert child.communicate() == ("", "")
    assert lengths == sorted(lengths) and len(set(lengths)) > 2
    assert len(read_rows(path)[0]["batch"]) == 10_000


@both
def test_a_file_may_be_closed_by_another_thread(suffix, tmp_path):
    path = tmp_path / f"losses.{suffix}"
    file = open_file(str(path))
    errors = []

    def close():
        try:
            file.append([(0, 0, "loss", 1.0, True)])
            file.close()
            file.close()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert errors == [] and len(read_rows(path)) == 1


def test_reading_what_a_killed_process_left_changes_no_byte(tmp_path):
    path = tmp_path / "losses.sqlite"
    code = """
import os, signal
file = open_file(sys.argv[1])
file.append([(0, 0, "loss", 1.0, True)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    start(code, path).communicate()
    log = tmp_path / "losses.sqlite-wal"
    before = path.read_bytes(), log.read_bytes()
    assert len(read_rows(path)[0]["value"]) == 1
    assert (path.read_bytes(), log.read_bytes()) == before
    assert append(path) == 1
    assert not log.exists()
