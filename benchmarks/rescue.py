"""How many failing runs does a guard save?

Every task is trained with SGD with momentum and with Adam, at rates from 1e-3 to 10, once with each
method, and the weights that `fit` leaves are measured: with `L` their loss on the clean data, `L0`
that of the best constant prediction, and `Lbest` the lowest that a run of the same task and
optimizer without a method reaches at any rate from 1e-5 to 10,

    score = (L0 - L) / (L0 - Lbest)

between 0 and 1, and 0 where `L` or a weight is not finite. A poisoned task is scored against the
clean one. A pair of task and optimizer that no rate trains, less than half as far as the task's
best, is left out. A run fails if it scores below 0.5 without a method and its rate is not below the
best one; a method rescues it if it scores 0.9 or more, and harms a run if it scores 0.05 less than
without. The events of guards are counted in healthy runs: of tasks without poison, that score 0.9
or more without a method. Those runs of SpikeGuard's that have any are trained once more, to see
which of its alarms are false; `rescue_alarms.py` says what these are.

Usage: python benchmarks/rescue.py [--methods none,SpikeGuard,...] [--tasks SET|a,b]
           [--out rows.json] [--rows rows.json] [--picture FILE]
Needs scikit-learn, for the further tasks statsmodels, and for the picture Matplotlib. The backend
is that of KERAS_BACKEND.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from rescue_alarms import Alarms
from rescue_held_out_tasks import HELD_OUT_TASKS
from rescue_more_tasks import MORE_TASKS
from rescue_tasks import TASKS as FIRST_TASKS

import pykguard as kg

TASKS = {**FIRST_TASKS, **MORE_TASKS, **HELD_OUT_TASKS}
RATES = [1e-3, 1e-2, 1e-1, 1.0, 10.0]
TUNING = [1e-5, 1e-4]  # besides, without a method: what a tuned run reaches
OPTIMIZERS = {
    "sgd": lambda rate, **options: keras.optimizers.SGD(rate, momentum=0.9, **options),
    "adam": lambda rate, **options: keras.optimizers.Adam(rate, **options),
}


def stopping(patience):
    return keras.callbacks.EarlyStopping("loss", patience=patience, restore_best_weights=True)


def plateau(factor):
    return keras.callbacks.ReduceLROnPlateau("loss", factor=factor, patience=1)


METHODS = {  # callbacks, and options of the optimizer
    "none": (lambda: [], {}),
    "EarlyStopping": (lambda: [stopping(3)], {}),
    "ReduceLROnPlateau, TerminateOnNaN": (
        lambda: [plateau(0.5), keras.callbacks.TerminateOnNaN()],
        {},
    ),
    "clipping": (lambda: [], {"clipnorm": 1.0}),
    "clipping, plateau, EarlyStopping": (lambda: [plateau(0.3), stopping(6)], {"clipnorm": 1.0}),
    "RevertToBestOnIncrease": (lambda: [kg.RevertToBestOnIncrease(lr_factor=0.3)], {}),
    "SpikeGuard": (lambda: [kg.SpikeGuard()], {}),
    "SpikeGuard, RevertToBestOnIncrease": (
        lambda: [kg.SpikeGuard(), kg.RevertToBestOnIncrease(lr_factor=0.3)],
        {},
    ),
}


def train(task, optimizer, rate, callbacks, **options):
    """A model of a task, trained from the benchmark's seed on."""
    keras.utils.set_random_seed(7)
    model = task.build()
    model.compile(OPTIMIZERS[optimizer](rate, **options), task.loss)
    model.fit(
        task.x,
        task.y,
        epochs=task.epochs,
        batch_size=task.batch_size,
        shuffle=task.shuffle,
        verbose=0,
        callbacks=callbacks,
    )
    return model


def run(name, optimizer, rate, method):
    """One row: what was trained and the loss of the weights that were left, None if not finite."""
    keras.backend.clear_session()
    task = TASKS[name]()
    callbacks, options = METHODS[method]
    start = time.perf_counter()
    made = callbacks()
    model = train(task, optimizer, rate, made, **options)
    seconds = time.perf_counter() - start
    x, y = task.clean_data or (task.x, task.y)
    loss = float(model.evaluate(x, y, batch_size=256, verbose=0))
    finite = math.isfinite(loss) and all(np.isfinite(w).all() for w in model.get_weights())
    return {
        "task": name,
        "optimizer": optimizer,
        "rate": rate,
        "method": method,
        "loss": loss if finite else None,
        "seconds": round(seconds, 2),
        "events": sum(len(getattr(each, "events", ())) for each in made),
    }


# ---------------------------------------------------------------- scores
def constant_loss(name):
    """The loss of the best constant prediction on clean data."""
    task = TASKS[name]()
    y = np.asarray((task.clean_data or (task.x, task.y))[1])
    if y.dtype.kind == "f":
        return float(np.mean((y - y.mean(axis=0)) ** 2))
    shares = np.unique(y, return_counts=True)[1] / len(y)
    return float(-(shares * np.log(shares)).sum())


def clean(name):
    return TASKS[name]().clean or name


class Scores:
    """The scores of rows, by what their runs without a method reached."""

    def __init__(self, rows):
        self._rows = rows
        self._constant = {name: constant_loss(name) for name in {row["task"] for row in rows}}
        self._plain = [row for row in rows if row["method"] == "none" and row["loss"] is not None]

    def _best(self, name, optimizer=None):
        found = [
            row["loss"]
            for row in self._plain
            if row["task"] == name and optimizer in (None, row["optimizer"])
        ]
        return min(found, default=math.inf)

    def of(self, row):
        """A row's score; None where no rate trains this task with this optimizer."""
        name = clean(row["task"])
        start = self._constant[row["task"]]
        top, mine = start - self._best(name), start - self._best(name, row["optimizer"])
        if not mine > 0.5 * top > 0:
            return None
        if row["loss"] is None:
            return 0.0
        return float(np.clip((start - row["loss"]) / mine, 0, 1))

    def failing(self):
        """Task, optimizer and rate of the runs that fail without a method."""
        rates = {}
        for row in sorted(self._plain, key=lambda row: self.of(row) or 0.0):
            rates[row["task"], row["optimizer"]] = row["rate"]
        return {
            key(row)
            for row in self._rows
            if row["method"] == "none"
            and row["rate"] in RATES
            and (score := self.of(row)) is not None
            and score < 0.5
            and row["rate"] >= rates.get((clean(row["task"]), row["optimizer"]), math.inf)
        }

    def healthy(self):
        """Task, optimizer and rate of the runs that do well without a method."""
        return {
            key(row)
            for row in self._plain
            if row["rate"] in RATES
            and clean(row["task"]) == row["task"]
            and (self.of(row) or 0) >= 0.9
        }

    def events(self, method):
        """How many events a method has in 10,000 batches of healthy runs."""
        healthy = self.healthy()
        rows = [row for row in self._rows if row["method"] == method and key(row) in healthy]
        batches = sum(n_batches(row["task"]) for row in rows)
        return 1e4 * sum(row["events"] for row in rows) / batches if batches else math.nan


def n_batches(name):
    """Of one run of a task."""
    task = TASKS[name]()
    return task.epochs * -(-len(task.x) // task.batch_size)


def print_alarms(rows):
    """Tell each alarm that SpikeGuard gives in a healthy run, and how many are false."""
    healthy = Scores(rows).healthy()
    runs = [row for row in rows if row["method"] == "SpikeGuard" and key(row) in healthy]
    found = []
    for row in runs:
        if not row["events"]:
            continue
        task = TASKS[row["task"]]()
        x, y = task.clean_data or (task.x, task.y)
        judge = task.build()
        judge.compile(loss=task.loss)
        guard = kg.SpikeGuard()
        alarms = Alarms(guard, judge, x, y)
        train(task, row["optimizer"], row["rate"], [guard, alarms])
        found += alarms.found
        for event, met, now, is_false in alarms.found:
            word = "false" if is_false else "right"
            print(f"{word} alarm in {key(row)}, on all data {met:.3g}, then {now:.3g}: {event}")
    if runs:
        batches = sum(n_batches(row["task"]) for row in runs)
        n_false = sum(is_false for *_, is_false in found)
        print(f"{len(found)} alarms in {len(runs)} healthy runs of {batches} batches in all")
        print(f"{n_false} of them were false, {1e4 * n_false / batches:.2f} in 10,000 batches")


def key(row):
    return row["task"], row["optimizer"], row["rate"]


def print_table(rows):
    scores = Scores(rows)
    rows = [row for row in rows if row["rate"] in RATES and scores.of(row) is not None]
    failing = scores.failing()
    plain = {key(row): scores.of(row) for row in rows if row["method"] == "none"}
    print(f"{len(plain)} runs, of which {len(failing)} fail without a method")
    print(
        "| method | rescued | mean score of the failing | not finite | harmed "
        "| events in 10,000 | s a run |"
    )
    print("|---|---|---|---|---|---|---|")
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        failed = [scores.of(row) for row in mine if key(row) in failing]
        harmed = [
            row
            for row in mine
            if key(row) not in failing and plain.get(key(row), 0.0) - scores.of(row) > 0.05
        ]
        print(
            f"| {method} | {sum(score >= 0.9 for score in failed)} of {len(failed)} "
            f"| {np.mean(failed) if failed else math.nan:.3f} "
            f"| {sum(row['loss'] is None for row in mine)} | {len(harmed)} "
            f"| {scores.events(method):.1f} "
            f"| {np.mean([row['seconds'] for row in mine]):.1f} |"
        )


def picture(path, rows):
    from rescue_picture import draw

    scores = Scores(rows)
    rows = [row for row in rows if row["rate"] in RATES and scores.of(row) is not None]
    titles = {
        "none": "Keras alone",
        "clipping, plateau, EarlyStopping": "clipping, plateau,\nEarlyStopping",
        "SpikeGuard": "SpikeGuard",
    }
    panels = {
        title: {key(row): scores.of(row) for row in rows if row["method"] == method}
        for method, title in titles.items()
    }
    pairs = {(row["task"], row["optimizer"]) for row in rows}
    in_order = [(name, optimizer) for name in TASKS for optimizer in OPTIMIZERS]
    draw(path, panels, [pair for pair in in_order if pair in pairs], RATES)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default="none,SpikeGuard", help="names, separated by ;")
    parser.add_argument(
        "--tasks", default="first", help="first, more, held-out, or names, separated by ,"
    )
    parser.add_argument("--out", type=Path, help="a file for the rows")
    parser.add_argument("--rows", type=Path, help="the rows of an earlier run, to go on from")
    parser.add_argument("--picture", help="a file for it")
    arguments = parser.parse_args()
    rows = json.loads(arguments.rows.read_text()) if arguments.rows else []
    done = {(*key(row), row["method"]) for row in rows}
    separator = ";" if ";" in arguments.methods else ","
    sets = {"first": FIRST_TASKS, "more": MORE_TASKS, "held-out": HELD_OUT_TASKS}
    for name in sets.get(arguments.tasks, arguments.tasks.split(",")):
        for optimizer in OPTIMIZERS:
            for method in arguments.methods.split(separator):
                for rate in [*RATES, *(TUNING if method == "none" else [])]:
                    if (name, optimizer, rate, method) in done:
                        continue
                    rows.append(run(name, optimizer, rate, method))
                    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
                    if arguments.out:
                        arguments.out.write_text(json.dumps(rows))
    print_table(rows)
    print_alarms(rows)
    if arguments.picture:
        picture(arguments.picture, rows)


if __name__ == "__main__":
    main()
