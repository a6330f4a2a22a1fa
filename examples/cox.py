# Cox regression by a loss that Keras lacks: the partial likelihood, with its gradient, in NumPy.
# A linear model finds the coefficients of coxph() on survival's lung and veteran; then a small
# network is set beside Cox regression on survival's flchain. Needs the extra `examples`.
#   python examples/cox.py [picture.png [parts]]
# flchain is parted into five; as many of them as `parts` says (all) are held out in turn.
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import pykguard as kg

LUNG = ["age", "sex", "ph_ecog", "ph_karno", "pat_karno", "meal_cal", "wt_loss"]
VETERAN = ["trt", "smallcell", "adeno", "large", "karno", "diagtime", "age", "prior"]
BLUE, ORANGE = "#1b6ca8", "#d1701f"


# ---------------------------------------------------------------- the loss
# Row i was seen until the time t_i, where it had its event (d_i = 1) or was lost from sight (0).
# The model gives it the linear predictor eta_i. The log partial likelihood, with Breslow's way with
# events at the same time, is
#   l(eta) = sum of eta_i - log R(t_i) over i with d_i = 1,  R(t) = sum of exp(eta_j) over t_j >= t
# and its derivative
#   dl/deta_i = d_i - exp(eta_i) H(t_i),  H(t) = sum of 1 / R(t_k) over k with d_k = 1 and t_k <= t
# where H is Breslow's estimate of the cumulative baseline hazard. The loss is -l divided by the
# number of events, so that one learning rate does for batches of any size. It is the loss of a
# batch, not of rows: R(t) sums over the batch, which has to be all rows or a good part of them.
#   D. R. Cox (1972), Regression models and life-tables, JRSS B 34, 187-220
#   N. E. Breslow (1974), Covariance analysis of censored survival data, Biometrics 30, 89-99
def partial_likelihood(y_true, y_pred):
    """Give the loss, and its gradient by the predictions; `y_true` has columns time and event."""
    rows = np.argsort(y_true[:, 0])
    time, event = y_true[rows].T.astype("float64")
    eta = y_pred[rows, 0].astype("float64")
    eta -= eta.max()  # changes nothing but keeps exp() within its range
    risk = np.exp(eta)
    at_risk = risk[::-1].cumsum()[::-1][np.searchsorted(time, time)]
    hazard = np.cumsum(event / at_risk)[np.searchsorted(time, time, side="right") - 1]
    events = max(event.sum(), 1)
    gradient = np.empty_like(y_pred)
    gradient[rows, 0] = (risk * hazard - event) / events
    return np.sum(event * (np.log(at_risk) - eta)) / events, gradient


# ---------------------------------------------------------------- data
def load(name):
    """Load data of the R package survival: `cancer` is its lung."""
    from SurvSet.data import SurvLoader

    frame = SurvLoader().load_dataset(ds_name=name)["df"]
    return frame.rename(columns=lambda column: column.removeprefix("num_").removeprefix("fac_"))


def numbers(frame, columns):
    """Make arrays of the complete rows: those columns, and time and event."""
    import pandas as pd

    frame = frame[["time", "event", *columns]].apply(pd.to_numeric, errors="coerce").dropna()
    values = frame.to_numpy("float64")
    return values[:, 2:], values[:, :2]


def lung():
    return numbers(load("cancer"), LUNG)


def veteran():
    frame = load("veteran")
    kinds = {kind: frame["celltype"] == kind for kind in ("smallcell", "adeno", "large")}
    return numbers(frame.assign(**kinds), VETERAN)


def flchain():
    """Make age, sex, the free light chains, creatinine and MGUS of all rows columns of an array.

    Creatinine is missing in 1,350 of 7,874 rows. They get the median, and a further column that
    says so lets a model judge them by themselves.
    """
    frame = load("flchain")
    creatinine = frame["creatinine"]
    x = np.column_stack(
        [
            frame["age"],
            frame["sex"] == "M",
            np.log(frame[["kappa", "lambda"]]),
            np.log(creatinine.fillna(creatinine.median())),
            creatinine.isna(),
            frame["mgus"].astype("float64"),
        ]
    )
    return x.astype("float64"), frame[["time", "event"]].to_numpy("float64")


# ---------------------------------------------------------------- linear: coxph's coefficients
def coefficients(x, y, epochs=120):
    """Fit a linear model to all rows at once; its weights, in the units of `x`."""
    centre, scale = x.mean(axis=0), x.std(axis=0)
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Dense(1, use_bias=False)])
    optimizer = keras.optimizers.SGD(0.5, momentum=0.8)
    model.compile(optimizer, loss=kg.external_loss(partial_likelihood))
    model.fit((x - centre) / scale, y, batch_size=len(x), epochs=epochs, verbose=0)
    return model.get_weights()[0][:, 0] / scale


def log_likelihood(x, y, beta):
    return -partial_likelihood(y, x @ beta[:, np.newaxis])[0] * y[:, 1].sum()


def cox_regression(x, y):
    """Maximise the partial likelihood by Newton's method, with Breslow's ties, as coxph() does."""
    import statsmodels.api as sm

    return sm.PHReg(y[:, 0], x, status=y[:, 1], ties="breslow").fit()


def compare(name, columns, x, y):
    """Print both fits, and give them for the picture."""
    beta, cox = coefficients(x, y), cox_regression(x, y)
    print(f"\n{name}: {len(x)} complete rows, {y[:, 1].sum():.0f} deaths\n")
    print(f"{'':10}{'Keras':>12}{'Cox':>12}{'difference':>14}")
    for column, ours, theirs in zip(columns, beta, cox.params, strict=True):
        print(f"{column:10}{ours:12.6f}{theirs:12.6f}{ours - theirs:14.1e}")
    ours, theirs = log_likelihood(x, y, beta), cox.llf
    print(f"{'log lik.':10}{ours:12.5f}{theirs:12.5f}{ours - theirs:14.1e}")
    return name, beta / cox.bse, cox.params / cox.bse


# ---------------------------------------------------------------- a network
def network(x, y, watched):
    """Train on batches of 512 rows. The guard goes back to the best epoch, at half the rate."""
    keras.utils.set_random_seed(1)
    layers = [keras.Input(x.shape[1:]), keras.layers.Dense(32, "tanh")]
    model = keras.Sequential([*layers, keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.Adam(0.01), loss=kg.external_loss(partial_likelihood))
    guard = kg.RevertToBestOnIncrease("val_loss", patience=2, lr_factor=0.5, max_reverts=5)
    model.fit(
        x,
        y,
        batch_size=512,
        epochs=60,  # or until the guard has gone back five times
        verbose=0,
        validation_data=watched,
        validation_batch_size=len(watched[0]),  # as one batch
        callbacks=[guard],
    )
    return model, guard


def concordance(y, risk):
    """Harrell's C: of the pairs whose order of death is known, the share that `risk` has right."""
    time, event = y.T
    earlier = (time[:, None] < time) | ((time[:, None] == time) & (event == 0))
    known = earlier & (event[:, None] == 1)
    right = (risk[:, None] > risk) + 0.5 * (risk[:, None] == risk)
    return (right * known).sum() / known.sum()


def survival(y):
    """Kaplan and Meier's estimate: the times of death, and the share alive after each."""
    times, deaths = np.unique(y[y[:, 1] == 1, 0], return_counts=True)
    at_risk = len(y) - np.searchsorted(np.sort(y[:, 0]), times)
    return times, np.cumprod(1 - deaths / at_risk)


def predicted_survival(y, eta, eta_new, times):
    """Average over new rows of exp(-H(t) exp(eta)), H from the rows that were trained on."""
    died = np.sort(y[y[:, 1] == 1, 0])
    by_time = np.argsort(y[:, 0])
    at_risk = np.exp(eta[by_time])[::-1].cumsum()[::-1][np.searchsorted(y[by_time, 0], died)]
    hazard = np.append(0, np.cumsum(1 / at_risk))[np.searchsorted(died, times, side="right")]
    return np.exp(-np.outer(hazard, np.exp(eta_new))).mean(axis=1)


# ---------------------------------------------------------------- picture
def draw(picture, fits, held_out):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    for (name, ours, theirs), marker, colour in zip(fits, "os", (BLUE, ORANGE), strict=True):
        left.plot(theirs, ours, marker, color=colour, label=name, ms=8, alpha=0.8, mew=0)
    left.axline((0, 0), slope=1, color="0.6", lw=1, zorder=0)
    left.set(xlabel="Cox regression", ylabel="linear Keras model")
    left.set_title("Coefficients, in standard errors", loc="left")
    left.legend(frameon=False)
    left.set_aspect("equal")

    y, eta, y_new, eta_new = held_out
    fifths = np.argsort(np.argsort(eta_new)) * 5 // len(eta_new)
    for fifth in range(5):
        among = fifths == fifth
        colour = plt.cm.viridis(0.85 - 0.2 * fifth)
        times, share = survival(y_new[among])
        right.step(np.append(0, times) / 365.25, np.append(1, share), where="post", color=colour)
        days = np.linspace(0, times[-1], 100)
        expected = predicted_survival(y, eta, eta_new[among], days)
        right.plot(days / 365.25, expected, ":", color=colour, lw=2)
    right.plot([], [], color="0.4", label="observed (Kaplan and Meier)")
    right.plot([], [], ":", color="0.4", lw=2, label="predicted by the network")
    right.set(xlabel="years", ylabel="share alive", ylim=(0, 1.02), xlim=(0, None))
    right.set_title("flchain held out, in fifths of the predicted risk", loc="left")
    right.legend(frameon=False, loc="lower left")
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=110)
    print(f"\nwrote {picture}")


def hold_out(x, y, part):
    """Train on three fifths of the rows, with the guard on another, and compare on the part."""
    fifth = (np.arange(len(x)) + part) % 5
    train, watched, new = fifth > 1, fifth == 1, fifth == 0
    x = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    model, guard = network(x[train], y[train], (x[watched], y[watched]))
    eta = keras.ops.convert_to_numpy(model(x))[:, 0].astype("float64")
    cox = cox_regression(x[~new], y[~new])
    ours, theirs = concordance(y[new], eta[new]), concordance(y[new], x[new] @ cox.params)
    died = y[new, 1].sum()
    print(f"{new.sum():6}{died:8.0f}{ours:10.4f}{theirs:10.4f}{guard.n_reverts:9}", flush=True)
    return y[train], eta[train], y[new], eta[new]


def main(picture="examples/cox.png", parts=5):
    fits = [compare("lung", LUNG, *lung()), compare("veteran", VETERAN, *veteran())]
    x, y = flchain()
    print("\nflchain: concordance on rows held out\n")
    print(f"{'rows':>6}{'deaths':>8}{'network':>10}{'Cox':>10}{'reverts':>9}")
    held_out = [hold_out(x, y, part) for part in range(int(parts))]
    draw(picture, fits, held_out[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
