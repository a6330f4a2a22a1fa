"""The examples run, and what they print is true."""

import importlib.util
import itertools
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]


def output_of(name, *arguments):
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, ROOT / "examples" / name, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    ).stdout


def example(name):
    path = ROOT / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def slope(f, at, step=1e-6):
    """The gradient of a function of an array by central differences."""
    gradient = np.empty(at.shape)
    for place in np.ndindex(at.shape):
        shift = np.zeros(at.shape)
        shift[place] = step
        gradient[place] = (f(at + shift) - f(at - shift)) / (2 * step)
    return gradient


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
    parts = re.split(r"^(?! )", output_of("learning_rates.py").strip(), flags=re.MULTILINE)[1:]
    printed = [[float(x) for x in re.findall(r"learning rate (\S+)", part)] for part in parts]
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


# ---------------------------------------------------------------- the same code in all places
def functions_in_r(path):
    """The text of each function that is assigned at the left margin."""
    text = (ROOT / path).read_text()
    in_a_line = re.findall(r"^(\w+) <- (function.*[^{\n])$", text, re.MULTILINE)
    in_braces = re.findall(r"^(\w+) <- (function.*\{\n(?:.*\n)*?\})$", text, re.MULTILINE)
    return dict(in_a_line + in_braces)


@pytest.mark.parametrize(
    ("path", "script", "names"),
    [
        ("vignettes/external-losses.Rmd", "cox", ["partial_likelihood", "coefficients_by_keras"]),
        (
            "vignettes/external-losses.Rmd",
            "range_regression",
            ["tips", "no_range", "clipped", "penalty", "beyond", "clip"],
        ),
    ],
)
def test_the_functions_of_r_are_those_of_the_examples(path, script, names):
    there, here = functions_in_r(f"examples/{script}.R"), functions_in_r(path)
    for name in names:
        assert len(here[name]) > 30
        assert here[name] == there[name]


def test_the_python_of_the_article_is_that_of_the_examples():
    scripts = [
        line.strip()
        for name in ("range_regression", "cox")
        for line in (ROOT / "examples" / f"{name}.py").read_text().splitlines()
    ]
    article = (ROOT / "vignettes" / "external-losses.Rmd").read_text()
    article = article.split("## Where no gradient is known")[0]
    blocks = re.findall(r"^```python\n(.*?)^```$", article, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    for line in "".join(blocks).splitlines():
        assert line.strip() in scripts


# ---------------------------------------------------------------- Cox regression
@pytest.fixture(scope="module")
def cox():
    return example("cox")


def censored(seed, rows=30, times=8):
    """Times with many ties, and events."""
    random = np.random.default_rng(seed)
    y = np.column_stack([random.integers(1, times, rows), random.integers(0, 2, rows)])
    return y.astype("float64"), random.normal(0, 2, (rows, 1))


@pytest.mark.parametrize("seed", range(5))
def test_the_partial_likelihood_is_that_of_its_definition(cox, seed):
    y, eta = censored(seed)

    def loss(eta):
        terms = [
            eta[i, 0] - np.log(sum(np.exp(eta[j, 0]) for j in range(len(y)) if y[j, 0] >= time))
            for i, (time, event) in enumerate(y)
            if event
        ]
        return -sum(terms) / len(terms)

    value, gradient = cox.partial_likelihood(y, eta)
    assert value == pytest.approx(loss(eta), rel=1e-12)
    assert gradient == pytest.approx(slope(loss, eta), abs=1e-8)


def test_the_partial_likelihood_takes_large_predictions_and_batches_without_events(cox):
    y, eta = censored(1)
    value, gradient = cox.partial_likelihood(y, eta)
    shifted = cox.partial_likelihood(y, eta + 1000)
    assert shifted[0] == pytest.approx(value)
    assert shifted[1] == pytest.approx(gradient)
    value, gradient = cox.partial_likelihood(y * [1, 0], eta)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("seed", range(3))
def test_the_concordance_is_that_of_its_definition(cox, seed):
    y, risk = censored(seed)
    risk = risk[:, 0].round()
    known = right = 0
    for i, j in itertools.permutations(range(len(y)), 2):
        if y[i, 1] and (y[i, 0] < y[j, 0] or (y[i, 0] == y[j, 0] and not y[j, 1])):
            known += 1
            right += 1 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0
    assert cox.concordance(y, risk) == pytest.approx(right / known)


def test_the_survival_curves_are_kaplan_and_meier_s_and_breslow_s(cox):
    from statsmodels.duration.survfunc import SurvfuncRight

    y, eta = censored(2)
    truth = SurvfuncRight(y[:, 0], y[:, 1])
    times, share = cox.survival(y)
    died = np.isin(truth.surv_times, times)
    assert list(times) == list(truth.surv_times[died])
    assert share == pytest.approx(truth.surv_prob[died])

    eta, new = eta[:, 0], np.array([-1.0, 0.5])
    days = np.arange(0, 9)
    hazard = [
        sum(
            1 / np.exp(eta[y[:, 0] >= y[k, 0]]).sum() for k in range(30) if y[k, 1] and y[k, 0] <= t
        )
        for t in days
    ]
    expected = np.exp(-np.outer(hazard, np.exp(new))).mean(axis=1)
    assert cox.predicted_survival(y, eta, new, days) == pytest.approx(expected)


def test_the_cox_example_finds_the_coefficients_of_cox_regression(tmp_path):
    output = output_of("cox.py", str(tmp_path / "cox.png"), "1")
    linear, held_out = output.split("flchain")
    lung, veteran = linear.split("veteran:")
    assert "lung: 168 complete rows, 121 deaths" in lung
    assert "137 complete rows, 128 deaths" in veteran
    for part, n in ((lung, 7), (veteran, 8)):
        rows = re.findall(r"^(.{10}) +(-?[\d.]+) +(-?[\d.]+) +(\S+)$", part, flags=re.MULTILINE)
        *coefficients, likelihood = [[float(x) for x in row[1:]] for row in rows]
        assert len(coefficients) == n
        for ours, theirs, difference in coefficients:
            assert ours == pytest.approx(theirs, abs=1e-5)
            assert abs(difference) < 1e-3
        assert abs(likelihood[2]) < 1e-4
    # What coxph(ties = "breslow") of R's survival 3.5-3 gives for lung's sex and as log likelihood.
    assert "-0.549882" in lung
    assert "-498.89541" in lung
    rows, deaths, network, cox, _ = held_out.splitlines()[3].split()
    assert (rows, deaths) == ("1575", "437")
    # What concordance() of survival gives for coxph() on these rows.
    assert float(cox) == pytest.approx(0.8095, abs=2e-4)
    assert float(network) > 0.81
    assert (tmp_path / "cox.png").stat().st_size > 10_000


# ---------------------------------------------------------------- regression with a range
@pytest.fixture(scope="module")
def arm():
    return example("range_regression")


@pytest.mark.parametrize("name", ["no_range", "clipped", "penalty"])
def test_the_gradients_of_the_arm_are_those_of_its_losses(arm, name):
    loss = getattr(arm, name)
    random = np.random.default_rng(1)
    angles = random.uniform(arm.LOW - 1, arm.HIGH + 1, (40, 2))
    target = arm.new_targets(random, 40)
    _, gradient = loss(target, angles)
    assert gradient == pytest.approx(slope(lambda at: loss(target, at)[0].sum(), angles), abs=1e-6)


def test_the_arm_s_losses_agree_within_the_range_only(arm):
    random = np.random.default_rng(1)
    target = arm.new_targets(random, 40)
    within = random.uniform(arm.LOW, arm.HIGH, (40, 2))
    plain, gradient = arm.no_range(target, within)
    for loss in (arm.clipped, arm.penalty):
        values, gradients = loss(target, within)
        assert np.array_equal(values, plain)
        assert np.array_equal(gradients, gradient)
    beyond = np.array([[arm.HIGH[0] + 0.5, arm.LOW[1] - 0.2]])
    assert not arm.clipped(target[:1], beyond)[1].any()
    added = arm.penalty(target[:1], beyond)[0] - arm.no_range(target[:1], beyond)[0]
    assert added == pytest.approx(arm.WEIGHT * (0.5**2 + 0.2**2))


def test_the_clipped_arm_learns_nothing_at_all(arm):
    targets = arm.new_targets(np.random.default_rng(1), 200)
    before, _, _ = arm.train(arm.clipped, targets, targets, epochs=0)
    after, _, _ = arm.train(arm.clipped, targets, targets, epochs=2)
    for was, now in zip(before.get_weights(), after.get_weights(), strict=True):
        assert np.array_equal(was, now)


def test_the_range_example_trains_by_the_penalty_only(tmp_path):
    output = output_of("range_regression.py", str(tmp_path / "range.png"), "12")
    rows = re.findall(r"^(.{10}) +([\d.]+) +([\d.]+) +([\d.]+) +\d+$", output, flags=re.MULTILINE)
    outside, worst, miss = ({row[0].strip(): float(row[k]) for row in rows} for k in (1, 2, 3))
    assert list(outside) == ["no range", "clipped", "penalty"]
    assert outside["no range"] == outside["clipped"] == 100
    assert outside["penalty"] < 10
    assert worst["penalty"] < 10 < 100 < worst["clipped"]
    assert miss["penalty"] < 15 < 100 < min(miss["no range"], miss["clipped"])
    assert (tmp_path / "range.png").stat().st_size > 10_000
