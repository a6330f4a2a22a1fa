"""The examples run, and what they print is true."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def output_of(name):
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, ROOT / "examples" / name],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    ).stdout


def test_the_loss_history_example_explains_what_its_console_shows():
    parts = output_of("loss_history.py").split("----------------")[1:]
    assert len(parts) == 3
    for part in parts:
        console, *explained = re.split(r"^Epoch \d+\n", part, flags=re.MULTILINE)
        epochs = re.split(r"^Epoch \d+/\d+\n", console, flags=re.MULTILINE)[1:]
        shown = [re.findall(r" loss: ([\d.e-]+)", epoch)[-1] for epoch in epochs]
        said = [re.search(r"the console showed last +(\S+)", each).group(1) for each in explained]
        assert said == shown and len(said) >= 2


def test_the_learning_rate_example_prints_the_rates_of_the_formulas():
    parts = re.split(r"^(?! )", output_of("learning_rates.py"), flags=re.MULTILINE)[1:]
    printed = [[float(x) for x in re.findall(r"learning rate (\S+)", part)] for part in parts if part]
    falls = [0.001 * 0.96 ** (8 * epoch // 10) for epoch in range(5)]
    replaced = [0.005 * 0.8 ** (8 * epoch // 5) for epoch in range(3)]
    follows_the_old = falls  # as Keras alone, on a backend that compiles the step
    if os.environ.get("KERAS_BACKEND") == "torch":
        follows_the_old = falls[:2] + [0.005 * 0.8 ** (8 * epoch // 5) for epoch in range(2, 5)]
    assert printed == [
        pytest.approx(wanted, abs=1e-6)
        for wanted in (
            [0.001] * 3 + [0.01] * 3,
            falls,
            follows_the_old,
            falls[:2] + replaced,
            [0.001] * 2 + replaced[:2] * 2,
        )
    ]
