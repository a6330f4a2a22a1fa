"""The examples of guarded loops: their formulas, what they learn, and that they run."""

import importlib.util
import re

import helpers
import keras
import numpy as np
import pytest

pytestmark = helpers.only_on("tensorflow", "the examples take gradients with its tape")


def example(name):
    path = helpers.ROOT / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ac():
    return example("actor_critic")


@pytest.fixture
def gan(monkeypatch):
    module = example("gan")
    monkeypatch.setattr(module, "STEPS", 20)
    return module


def tensor(values, kind="float32"):
    return keras.ops.convert_to_tensor(np.asarray(values, kind))


def gradients(function, variables):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value = function()
    return tape.gradient(value, variables)


# ---------------------------------------------------------------- actor-critic: returns
@pytest.mark.parametrize("following", [0.0, 7.0])
def test_returns_are_the_sums_of_what_follows(ac, following):
    rewards = np.random.default_rng(1).normal(size=12)
    steps = range(len(rewards))
    wanted = [
        sum(0.9 ** (k - t) * rewards[k] for k in steps[t:]) + 0.9 ** (12 - t) * following
        for t in steps
    ]
    np.testing.assert_allclose(ac.discounted(rewards, following, 0.9), wanted, rtol=1e-5)


def test_returns_of_a_constant_reward_are_a_geometric_series(ac):
    left = 500 - np.arange(500)
    wanted = (1 - ac.GAMMA**left) / (1 - ac.GAMMA)
    np.testing.assert_allclose(ac.discounted(np.ones(500), 0.0), wanted, rtol=1e-5)


class TwoPoles:
    """Two environments, one of which falls after two steps and one of which is cut after three.

    The first goes on after its fall, as Gymnasium's do: what it gives then is of another episode.
    """

    def __init__(self):
        self.time = 0

    def states(self):
        return np.array([[self.time] * 4, [-self.time] * 4], "float32")

    def reset(self):
        self.time = 0
        return self.states(), {}

    def step(self, actions):
        self.time += 1
        fell = np.array([self.time == 2, False])
        cut = np.array([False, self.time == 3])
        return self.states(), np.array([1.0, 10.0]), fell, cut, {}


def test_an_episode_ends_with_its_fall_and_goes_on_in_the_critic_where_it_is_cut(ac):
    keras.utils.set_random_seed(1)
    actor, critic = ac.network(2), ac.network(1)
    played = ac.play(TwoPoles(), actor, critic, np.random.default_rng(1))
    assert played.states[:, 0].tolist() == [0, 1, 0, -1, -2]
    assert played.actions.shape == (5,) and set(played.actions) <= {0, 1}
    assert played.scores.tolist() == [2, 30]
    cut = float(critic(np.full((1, 4), -3, "float32"))[0, 0])
    assert abs(cut) > 1e-3
    g = ac.GAMMA
    last = [10 + g * cut, 10 + g * (10 + g * cut)]
    np.testing.assert_allclose(
        played.returns, [1 + g, 1, 10 + g * last[1], last[1], last[0]], rtol=1e-5
    )


def test_actions_are_drawn_from_the_policy(ac):
    actor = ac.network(2)
    sure = [np.zeros_like(w) for w in actor.get_weights()]
    sure[3][:] = [0.0, np.log(3.0)]  # right with a probability of 3/4, whatever the state
    actor.set_weights(sure)
    random = np.random.default_rng(1)
    critic = ac.network(1)
    actions = [ac.play(TwoPoles(), actor, critic, random).actions for _ in range(400)]
    assert np.mean(np.concatenate(actions)) == pytest.approx(0.75, abs=4 * 0.43 / 2000**0.5)


# ---------------------------------------------------------------- actor-critic: losses
def small_batch():
    random = np.random.default_rng(3)
    states = random.normal(size=(6, 4))
    return tensor(states), tensor([0, 1, 1, 0, 1, 0], "int32"), tensor(random.normal(size=6) * 3)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_the_losses_are_those_of_the_formulas(ac):
    keras.utils.set_random_seed(2)
    actor, critic = ac.network(2), ac.network(1)
    states, actions, returns = small_batch()
    actor_loss, critic_loss, log_policy = ac.losses_of(actor, critic, states, actions, returns)
    policy = log_softmax(actor(states).numpy())
    error = returns.numpy() - critic(states).numpy()[:, 0]
    taken = policy[np.arange(6), actions.numpy()]
    entropy = -(np.exp(policy) * policy).sum(axis=1)
    huber = np.where(np.abs(error) <= 1, error**2 / 2, np.abs(error) - 0.5)
    assert float(critic_loss) == pytest.approx(huber.mean(), rel=1e-5)
    wanted = -(taken * error).mean() - ac.BETA * entropy.mean()
    assert float(actor_loss) == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_allclose(log_policy, policy, rtol=1e-5)


def test_the_actors_loss_has_no_gradient_in_the_critic(ac):
    actor, critic = ac.network(2), ac.network(1)
    batch = small_batch()
    of_actor, of_critic = gradients(
        lambda: ac.losses_of(actor, critic, *batch)[0],
        [actor.trainable_variables, critic.trainable_variables],
    )
    assert of_critic == [None] * 4
    assert all(np.any(gradient.numpy() != 0) for gradient in of_actor)


def test_the_first_step_changes_no_weight_and_the_next_moves_the_policy_by_its_kl(ac):
    keras.utils.set_random_seed(2)
    models = [ac.network(2), ac.network(1)]
    step = ac.make_step(*models, *[ac.optimizer(0.1) for _ in models])
    batch = small_batch()
    before = [model.get_weights() for model in models]
    assert float(step(*batch)[2]) == 0
    for model, weights in zip(models, before, strict=True):
        assert all(map(np.array_equal, model.get_weights(), weights))
    old = log_softmax(models[0](batch[0]).numpy())
    kl = float(step(*batch)[2])
    new = log_softmax(models[0](batch[0]).numpy())
    assert kl == pytest.approx((np.exp(old) * (old - new)).sum(axis=1).mean(), rel=1e-3)
    assert kl > 0.01
    assert all(np.any(a != b) for a, b in zip(models[1].get_weights(), before[1], strict=True))


# ---------------------------------------------------------------- actor-critic: a run
def test_guarded_it_learns_at_a_rate_that_is_too_high_and_unguarded_not(ac):
    run = ac.train(2, ac.TOO_HIGH, guarded=True)
    assert run.solved and np.mean(run.scores[-100:]) >= 195
    taken_back = [event.epoch for event in run.guard.events if event.action == "revert"]
    assert taken_back == [i for i, kl in enumerate(run.kl) if kl > ac.MAX_KL]
    assert 4 <= len(taken_back) < 12
    unguarded = ac.train(2, ac.TOO_HIGH, guarded=False, episodes=300)
    assert unguarded.solved is None and np.mean(unguarded.scores[-100:]) < 195 / 2


def test_the_script_of_the_actor_critic_runs(ac, monkeypatch, capsys, tmp_path):
    picture = tmp_path / "picture.png"
    arguments = ["", "--seeds", "1", "--episodes", "20", "--picture", str(picture)]
    monkeypatch.setattr("sys.argv", arguments)
    ac.main()
    printed = capsys.readouterr().out
    assert len(re.findall(r"^ +1 +(?:0.01|1) +(?:yes|no) +not ", printed, re.MULTILINE)) == 4
    assert "update 2: kl" in printed and "rate now 0.5" in printed
    assert picture.stat().st_size > 10_000


# ---------------------------------------------------------------- GAN: losses
def test_the_losses_of_the_gan_are_those_of_the_formulas(gan):
    keras.utils.set_random_seed(1)
    generator, discriminator = gan.Gan(2, 3, 8, 1e-3, 0.1, 10).models
    random = np.random.default_rng(1)
    real, noise = random.normal(size=(5, 2)), gan.normal(random, 5, 3)

    def logits(points):
        return discriminator(np.asarray(points, "float32")).numpy()[:, 0].astype("float64")

    def softplus(u):
        return np.log1p(np.exp(u))

    of_fake = logits(generator(noise).numpy())
    slopes = [
        (logits(real + shift) - logits(real - shift)) / 2e-2 for shift in ([1e-2, 0], [0, 1e-2])
    ]
    penalty = 0.7 / 2 * np.mean(slopes[0] ** 2 + slopes[1] ** 2)
    g_loss, d_loss = gan.losses_of(generator, discriminator, tensor(real), tensor(noise), 0.7)
    assert float(g_loss) == pytest.approx(softplus(-of_fake).mean(), rel=1e-5)
    wanted = softplus(-logits(real)).mean() + softplus(of_fake).mean() + penalty
    assert penalty > 1e-3 and float(d_loss) == pytest.approx(wanted, rel=1e-3)


def test_the_losses_stay_finite_and_teach_where_the_discriminator_is_sure(gan):
    generator, discriminator = gan.Gan(2, 2, 8, 1e-3, 0.1, 10).models
    out = discriminator.layers[-1]
    out.bias.assign([-1000.0])  # every sample is a fake to it
    ones = tensor(np.ones((4, 2)))
    for network, which in ((generator, 0), (discriminator, 1)):
        found = gradients(
            lambda which=which: gan.losses_of(generator, discriminator, ones, ones, 0.1)[which],
            network.trainable_variables,
        )
        assert all(np.isfinite(gradient.numpy()).all() for gradient in found)
        assert any(np.any(gradient.numpy() != 0) for gradient in found)


# ---------------------------------------------------------------- GAN: the ring and the digits
def test_samples_of_the_ring_itself_have_the_score_of_the_formula(gan):
    samples = gan.ring(np.random.default_rng(1))(20_000)
    covered, good = gan.score(samples)
    assert covered == 8
    assert good == pytest.approx(1 - np.exp(-(3**2) / 2), abs=4e-3)  # Rayleigh
    assert np.linalg.norm(samples, axis=1).mean() == pytest.approx(2, abs=1e-3)


def test_centres_that_are_missed_and_samples_between_them_lower_the_score(gan):
    at_six = np.repeat(gan.CENTRES[:6], 100, axis=0)
    assert gan.score(at_six) == (6, 1.0)
    rare = np.concatenate([at_six, gan.CENTRES[6:7]])  # one of 601 covers nothing
    assert gan.score(rare) == (6, 1.0)
    between = at_six + np.float32(0.1)
    assert gan.score(np.concatenate([at_six, between])) == (6, 0.5)
    assert gan.score(np.zeros((10, 2))) == (0, 0.0)


def test_the_generator_comes_to_the_ring(gan, monkeypatch):
    monkeypatch.setattr(gan, "STEPS", 250)
    samples = gan.train_ring(1, epochs=3)
    off = {epoch: np.abs(np.linalg.norm(s, axis=1) - 2) for epoch, s in samples.items()}
    assert np.median(off[0]) > 1.5 and np.median(off[2]) < 0.25


def test_each_digit_is_nearest_to_itself(gan):
    images, labels = gan.digits()
    assert images.shape == (1797, 64) and images.min() == -1 and images.max() == 1
    assert gan.counts_of(images).tolist() == np.bincount(labels).tolist()


# ---------------------------------------------------------------- GAN: a poisoned batch
def test_a_poisoned_batch_breaks_both_networks_without_a_guard(gan):
    states, history = gan.train_poisoned([])
    assert all(map(gan.is_finite, states[1]))
    assert not any(map(gan.is_finite, states[2]))
    assert np.isnan(history.history["loss"][1:]).all()


def test_a_poisoned_batch_is_taken_back_in_both_networks_and_optimizers(gan):
    guard = gan.new_guard()
    states, history = gan.train_poisoned([guard])
    assert [(e.epoch, e.action, e.reason) for e in guard.events] == [(1, "revert", "is not finite")]
    assert all(map(gan.same_bits, states[1], states[2]))
    assert not any(map(gan.same_bits, states[0], states[1]))  # what is compared does change
    assert [len(state) for state in states[0]] == [6 + 1 + 3 * 6, 6 + 1 + 2 * 6]
    assert np.isnan(history.history["loss"][1]) and np.isfinite(history.history["loss"][2])


def test_the_script_of_the_gan_runs(gan, monkeypatch, capsys, tmp_path):
    picture = tmp_path / "picture.png"
    arguments = ["", "--seeds", "1", "--epochs", "1", "--picture", str(picture)]
    monkeypatch.setattr("sys.argv", arguments)
    gan.main()
    printed = capsys.readouterr().out
    assert re.search(r"^ +1 +\d of 8 +\d+\.\d% ", printed, re.MULTILINE)
    counts = re.search(r"^ +0 +1 .*\n(.*)", printed, re.MULTILINE).group(1)
    assert sum(map(int, counts.split())) == 1000
    unguarded, guarded = printed.split("\nguarded\n")
    assert unguarded.count("not finite") == 2 and "bit for bit" not in unguarded
    assert guarded.count("finite, bit for bit as before it") == 2
    assert "epoch 2: loss is not finite: revert" in guarded
    assert picture.stat().st_size > 10_000
