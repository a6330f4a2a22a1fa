"""What is left of a history when its process is killed without a word."""

import contextlib
import mmap
import multiprocessing
import os
import random
import signal
import struct
import subprocess
import sys
import time

import helpers
import keras
import numpy as np
import pytest

from pykguard import LossHistory, read_history
from pykguard.history_files import open_file, read_rows

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9 here")

NAMES = ["loss", 'a "b"\nc', "süß", "d,e", "f", "g", "h"]

# Logs batch after batch, with irregular pauses, and notes how many were logged, and when.
CHILD = f"""
{helpers.WITHOUT_KERAS}
import mmap, random, struct, time
from pykguard.history_files import open_file

shared = open(sys.argv[2], "r+b")
progress = mmap.mmap(shared.fileno(), 16)
names, pause = {NAMES!r}, random.Random(int(sys.argv[3]))
file = open_file(sys.argv[1])
batch = 0
while True:
    file.append([(batch // 100, batch % 100, name, batch / 7, True) for name in names])
    batch += 1
    struct.pack_into("qd", progress, 0, batch, time.monotonic())
    if pause.random() < 0.02:
        time.sleep(pause.random() * 0.01)
"""


@pytest.mark.parametrize("suffix", ["csv", "sqlite"])
def test_no_batch_that_was_logged_is_lost_and_no_row_torn_in_25_kills(tmp_path, suffix):
    moments = random.Random(suffix)
    counts = []
    for kill in range(25):
        path, progress = tmp_path / f"{kill}.{suffix}", tmp_path / f"{kill}.progress"
        progress.write_bytes(bytes(16))
        command = [sys.executable, "-c", CHILD, path, progress, str(kill)]
        child = subprocess.Popen(command, stderr=subprocess.PIPE)
        with open(progress, "r+b") as file, mmap.mmap(file.fileno(), 16) as shared:
            while struct.unpack("qd", shared[:])[0] == 0:
                assert child.poll() is None, child.stderr.read().decode()
                time.sleep(0.001)
            time.sleep(moments.random() * 0.3)
            child.kill()
            killed = time.monotonic()
            child.communicate()
            logged, when = struct.unpack("qd", shared[:])
        assert child.returncode == -signal.SIGKILL
        assert killed - when < 1
        counts.append(logged)
        check_what_is_left(path, logged)
    assert len(set(counts)) > 20


def check_what_is_left(path, logged):
    def assert_whole(columns, batches):
        expected = np.repeat(np.arange(batches), len(NAMES))
        assert np.array_equal(columns["epoch"], expected // 100)
        assert np.array_equal(columns["batch"], expected % 100)
        assert np.array_equal(columns["value"], expected / 7)
        assert columns["name"].tolist() == NAMES * batches
        assert columns["exact"].all()

    left = read_rows(path)[0]
    rows = len(left["value"])
    assert logged * len(NAMES) <= rows <= (logged + 1) * len(NAMES)
    whole = rows - rows % len(NAMES)
    assert_whole({name: column[:whole] for name, column in left.items()}, whole // len(NAMES))
    file = open_file(str(path))
    assert file.run == 1
    file.append([(0, 0, "loss", 1.0, True)])
    file.close()
    runs = read_rows(path)
    assert {name: column.tolist() for name, column in runs[0].items()} == {
        name: column.tolist() for name, column in left.items()
    }
    assert runs[1]["value"].tolist() == [1.0]


# ---------------------------------------------------------------- killed while opening
OPENING = f"""
{helpers.WITHOUT_KERAS}
import itertools
from pykguard.history_files import open_file

print("begun", flush=True)
for number in itertools.count():
    for run in range(2):
        file = open_file(f"{{sys.argv[1]}}/{{number:05}}.{{sys.argv[2]}}")
        file.append([(0, 0, name, 0.5, True) for name in {NAMES!r}])
        file.close()
"""


@pytest.mark.parametrize("suffix", ["csv", "sqlite"])
def test_a_file_that_was_being_opened_or_closed_can_be_opened_again(tmp_path, suffix):
    moments = random.Random(suffix)
    for kill in range(20):
        folder = tmp_path / str(kill)
        folder.mkdir()
        command = [sys.executable, "-c", OPENING, folder, suffix]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(moments.random() * 0.05)
        child.kill()
        child.communicate()
        assert child.returncode == -signal.SIGKILL
        *finished, last = sorted(folder.glob(f"*.{suffix}")) or [folder / f"0.{suffix}"]
        for path in finished:
            assert [len(columns["name"]) for columns in read_rows(path).values()] == [7, 7]
        if last.exists():
            assert {len(columns["name"]) for columns in read_rows(last).values()} <= set(range(8))
        file = open_file(str(last))
        assert file.run <= 2
        file.append([(0, 0, "loss", 1.0, True)])
        file.close()
        assert read_rows(last)[file.run]["value"].tolist() == [1.0]


# ---------------------------------------------------------------- killed in fit
AT_ONCE = 5
GROUPS = 5 if helpers.BACKEND == "tensorflow" else 1


class Reports(keras.callbacks.Callback):
    """Tells when each batch was over, after the history has had it."""

    def __init__(self, times):
        super().__init__()
        self.times = times
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.times[self.batches] = time.monotonic()
        self.batches += 1


def fit_twice(path, times, moments):
    """A short fit, and one that does not end."""
    x, y = helpers.line(400)
    model = helpers.dense_model()
    model.fit(x, y, batch_size=100, epochs=2, verbose=0, callbacks=[LossHistory(path)])
    pause = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: time.sleep(moments.random() ** 8 / 10)
    )
    callbacks = [LossHistory(path), Reports(times), pause]
    model.fit(x, y, batch_size=1, epochs=1000, verbose=0, callbacks=callbacks)


@pytest.fixture(scope="module")
def processes():
    """Processes that have Keras when they begin: forks of one that has run nothing yet."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras"])
    return context


@pytest.mark.parametrize("group", range(GROUPS))
@pytest.mark.parametrize("suffix", ["csv", "sqlite"])
def test_a_fit_that_is_killed_leaves_all_but_the_last_second(tmp_path, processes, suffix, group):
    moments = random.Random(f"{suffix} {group}")
    with contextlib.ExitStack() as at_the_end:
        children = []
        for i in range(AT_ONCE):
            path, times = tmp_path / f"{i}.{suffix}", processes.RawArray("d", 100_000)
            child = processes.Process(target=fit_twice, args=(str(path), times, moments))
            child.start()
            at_the_end.callback(child.kill)
            children.append((child, path, times))
        for child, path, times in children:
            while not times[0]:  # until its second fit
                assert child.is_alive()
                time.sleep(0.01)
            time.sleep(1.2 * moments.random())
            child.kill()
            killed = time.monotonic()
            child.join()
            assert child.exitcode == -signal.SIGKILL
            assert_all_but_the_last_second(path, np.trim_zeros(np.array(times)), killed)


def assert_all_but_the_last_second(path, over, killed):
    """What the file holds of the two fits, of whose second the batches were over at these times."""
    first, *second = [record.losses for record in read_history(path)]
    assert len(first) == 8
    kept = len(second[0]) if second else 0
    assert (over < killed - 1).sum() <= kept <= len(over) + 1
    assert all(np.isfinite(losses).all() for losses in (first, *second))
    file = open_file(str(path))
    assert file.run in (1, 2)
    file.close()
