"""The numbers of the figures: what can be worked out by hand, and what each figure claims."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proximo.arguments import RecipeArguments
from proximo.experiments.figures import FIGURES
from proximo.experiments.figures.metrics import MEANINGS, table
from proximo.experiments.figures.rounded import rounded
from proximo.language.train.options import PPOOptions
from proximo.runs.report.hints import HINTS, VITAL
from proximo.words import Dialect

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def of():
    """The numbers of a figure by its name, computed once."""
    found = {}

    def numbers(name):
        if name not in found:
            found[name] = FIGURES[name]()
        return found[name]

    return numbers


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_plain_data_without_nan(of, name):
    text = json.dumps(of(name), allow_nan=False)
    assert len(text) < 120_000  # it lies in the page
    assert json.loads(text) == json.loads(json.dumps(FIGURES[name]()))  # a fresh call gives the same


def test_numbers_keep_five_digits_and_what_is_not_finite_is_left_out():
    assert rounded(np.array([1 / 3, 123456.7, np.nan, np.inf])) == [0.33333, 123460.0, None, None]
    assert rounded(np.array([3, 4], np.int32)) == [3, 4] and rounded(True) is True


# ---- clip


def test_the_six_cases_of_the_clip(of):
    """min(r A, clip(r, 0.8, 1.2) A): flat where the ratio has gone the way the advantage wants, and far."""
    found = {(row["action"], row["place"]): (row["value"], row["slope"]) for row in of("clip")["cases"]}
    assert found == {
        ("good", "below"): (0.6, 1.0),
        ("good", "inside"): (1.0, 1.0),
        ("good", "above"): (1.2, 0.0),
        ("bad", "below"): (-0.8, 0.0),
        ("bad", "inside"): (-1.0, -1.0),
        ("bad", "above"): (-1.4, -1.0),
    }


def test_every_objective_has_the_same_slope_where_nothing_has_moved(of):
    for name, curves in of("clip")["objectives"].items():
        for action, sign in (("good", 1.0), ("bad", -1.0)):
            curve = curves[action]
            slope = np.interp(1.0, curve["ratio"], curve["slope"])
            assert slope == pytest.approx(sign, abs=0.03), name


def test_the_update_under_the_curves_is_the_committed_one(of):
    update = of("clip")["update"]
    counts, moving = np.array(update["all"]), np.array(update["moving"])
    assert counts.sum(axis=1).tolist() == [2048] * 11  # 8 x 256 samples, before and after each of 10 epochs
    assert (moving <= counts).all()
    np.testing.assert_allclose(1 - moving.sum(axis=1) / 2048, update["no_slope"], atol=1e-4)
    assert update["no_slope"][-1] < update["outside"][-1]


def test_the_page_tells_the_numbers_of_the_committed_update():
    found = json.loads((ROOT / "results" / "microscope" / "HalfCheetah-v5.json").read_text())
    own, _, longer, unclipped, both = found["versions"]
    kl = [one["means"]["kl"][-1] for one in (own, longer, unclipped, both)]
    outside, flat = own["means"]["outside"][-1], own["means"]["no_slope"][-1]
    less, least, most = (-both["gain"][name] for name in ("value", "high", "low"))
    page = " ".join((ROOT / "docs" / "explained.md").read_text().split())
    for told in (
        f"{outside:.0%} of the ratios are outside the range and {flat:.0%} of the samples have no slope left",
        f"ends at a KL of {kl[2]:.1f} nats instead of {kl[0]:.2f}",
        f"With 30 epochs it is {kl[3]:.1f} nats, and the policy earns {less:.0f} less",
        f"(95% interval {least:.0f} to {most:.0f}, over 32 episodes)",
        f"With the clip, 30 epochs do no harm: {kl[1]:.3f} nats",
    ):
        assert told in page


# ---- advantages


def test_the_weight_of_a_later_error_is_a_power_of_gamma_lambda(of):
    found = of("advantages")
    for lam, rows in zip(found["lambdas"], found["weights"], strict=True):
        for gamma, row in zip(found["gammas"], rows, strict=True):
            np.testing.assert_allclose(row, (gamma * lam) ** np.arange(41), rtol=1e-4, atol=1e-6)


def test_lambda_trades_bias_for_variance(of):
    for row in of("advantages")["walk"]:
        assert row["variance"] == sorted(row["variance"])
        if row["critic_error"] > 0:
            assert row["bias2"][0] == pytest.approx((0.99 * row["critic_error"]) ** 2, rel=1e-3)
            assert np.argmin(row["error"]) not in (0, 8)  # the best lambda lies between
        assert row["bias2"][-1] < 9 * row["variance"][-1] / 1024  # at 1 none, to 3 standard errors


def test_an_end_leaves_the_terms_that_it_should(of):
    """Rewards 1, values 5, gamma 0.99. The last row's TD error is 1 - 5 where nothing follows, and
    1 + 0.99 x 5 - 5 = 0.95 where a value follows."""
    found = {row["end"]: row["advantage"] for row in of("advantages")["ends"]}
    assert found["termination"][3] == -4.0
    assert found["time limit"][3] == 0.95 == found["end of the rollout"][3]
    assert found["termination"][2] == pytest.approx(0.95 + 0.99 * 0.95 * -4.0, rel=1e-4)
    assert found["end of the rollout"][4:] == [None] * 4
    later = [row[4:] for row in found.values()][:3]
    assert later[0] == later[1] == later[2]  # what comes after the end knows nothing of it


# ---- policy gradient, trust region


def test_a_sample_pushes_its_own_logit_up_and_the_others_down(of):
    found = of("policy-gradient")
    p = np.array(found["probabilities"])
    for action, rows in enumerate(found["push"]):
        for weight, row in zip(found["weights"], rows, strict=True):
            np.testing.assert_allclose(row, weight * (np.eye(3)[action] - p), rtol=1e-3)


def test_a_baseline_makes_the_same_direction_visible_with_far_fewer_samples(of):
    found = of("policy-gradient")
    raw, centred = (np.array(found["cosine"][name]) for name in ("raw reward", "advantage"))
    assert centred[0] > raw[-2]  # one sample with it tells more than 300 without
    spread = np.array(found["spread"]["raw reward"]) * np.sqrt(found["counts"])
    np.testing.assert_allclose(spread, spread.mean(), rtol=0.15)  # the error falls as 1 / sqrt(n)


def test_the_edge_of_the_trust_region_has_the_kl_that_it_claims(of):
    found = of("trust-region")
    old = jnp.array(found["old"])

    def kl(new):
        """Of two Gaussians: log(s/s0) + (s0^2 + (m - m0)^2) / (2 s^2) - 1/2."""
        (m0, log0), (m, log1) = old, new
        return log1 - log0 + (jnp.exp(2 * log0) + (m - m0) ** 2) / (2 * jnp.exp(2 * log1)) - 0.5

    for step in found["steps"]:
        np.testing.assert_allclose(jax.vmap(kl)(jnp.array(step["exact"])), step["max_kl"], rtol=0.02)
        assert step["kl"]["accepted"] <= step["max_kl"] < step["kl"]["natural"]
        assert step["surrogate"]["natural"] > step["surrogate"]["plain"]  # as far, in a better direction
        assert step["backtracks"] == 1


# ---- cartpole


def test_the_code_beside_the_script_is_the_librarys(of):
    lines = of("cartpole")["objectives"]["clip"].splitlines()
    assert lines[0] == "ratio = _ratio(log_ratio)"
    assert lines[-1] == "return jnp.minimum(ratio * advantage, near * advantage)"
    assert of("cartpole")["objectives"]["unclipped"] == "return _ratio(log_ratio) * advantage"
    file, _, name = of("cartpole")["test"].partition("::")
    assert f"def {name}(" in (ROOT / file).read_text()
    assert all(line in (ROOT / of("cartpole")["file"]).read_text() for line in lines)


# ---- races, language models


def test_a_races_mean_and_interval_are_those_of_its_seeds(of):
    """Student's t with 2 degrees of freedom: 4.3027 standard errors to either side."""
    for task in of("race")["methods"]["trpo"]["curves"]:
        seeds = np.array(task["seeds"])
        assert seeds.shape == (3, 50)
        np.testing.assert_allclose(task["mean"], seeds.mean(axis=0), rtol=1e-3)
        wanted = 4.3027 * seeds.std(axis=0, ddof=1) / 3**0.5
        np.testing.assert_allclose(task["half"], wanted, rtol=0.06, atol=1e-3)


def test_every_setting_of_both_grids_races(of):
    methods = of("race")["methods"]
    raced = {grid: group["methods"] for grid, group in of("race")["groups"].items()}
    assert len(raced["figure3"]) == 6 and len(raced["table1"]) == 11
    assert {*raced["figure3"], *raced["table1"]} == methods.keys()
    assert methods["clip-0.2"]["gradient_steps"] == 10 * 1_000_000 / 64
    assert methods["trpo"]["gradient_steps"] == 1_000_000 // 2048
    assert methods["cem"]["gradient_steps"] == 0


def test_the_weaker_the_price_the_further_the_two_scores_part(of):
    runs = of("rlhf")["runs"]
    strong, weakest = runs["PPO, beta 0.5"], runs["PPO, beta 0.002"]
    apart = [np.mean(np.subtract(run["model"], run["gold"])[-10:]) for run in (strong, weakest)]
    assert apart[1] > 4 * apart[0] > 0
    assert np.mean(weakest["kl"][-10:]) > 5 * np.mean(strong["kl"][-10:])
    before = of("rlhf")["methods"][0]
    assert before["name"] == "SFT" and before["kl"] == 0


# ---- metrics


def test_every_metric_of_rollouts_and_updates_has_a_row_that_leads_to_its_code():
    """But for those of the cross-entropy method and TRPO's search, and counts that need no formula."""
    left_out = {"train/fitness_mean", "train/fitness_best", "train/parameter_std", "rollout/success_rate"}
    left_out |= {"train/line_search_accepted", "train/line_search_backtracks", "rollout/restarts"}
    named = {name for name in (*HINTS, *VITAL) if name.startswith(("train/", "rollout/"))}
    assert named - left_out == MEANINGS.keys()
    for _, place in MEANINGS.values():
        file, _, name = place.partition("::")
        assert f"def {name}" in (ROOT / file).read_text(), place


def test_the_page_of_metrics_has_the_numbers_of_the_committed_runs():
    assert table() in (ROOT / "docs" / "metrics.md").read_text()


def test_the_divergence_tells_of_a_broken_run_before_the_return_does(of):
    found = of("metrics")["metrics"]
    kl, returns = found["train/approx_kl"], found["rollout/ep_rew_mean"]
    times = [b / h for b, h in zip(kl["broken"][:12], kl["healthy"], strict=False)]
    assert 200 < np.median(times) < 300 and min(times) > 50
    assert max(abs(b - h) for b, h in zip(returns["broken"][:12], returns["healthy"], strict=False)) < 15
    assert (returns["healthy"][-1], round(returns["broken"][-1])) == (500, 206)


# ---- batches


def test_the_steps_of_a_rollout_are_counted_by_hand(of):
    """CartPole's recipe: 8 x 128 in minibatches of 128, 10 epochs, 200,000 steps."""
    wanted = {
        "samples": 1024,
        "minibatches": 8,
        "gradient_steps": 80,
        "rollouts": 196,
        "gradient_steps_of_run": 15_680,
    }
    assert of("batches")["presets"][0]["counts"] == wanted


def test_a_run_takes_the_rollouts_that_its_resets_ask_for():
    """A committed run of TRPO: its steps and a reset after each episode fill whole rollouts of 2,048 rows."""
    run = json.loads((ROOT / "results/figure3/Hopper-v5/trpo-0.json").read_text())
    assert (run["steps"] + run["episodes"]) % 2048 == 0


def test_the_names_of_others_work_here(of):
    """A name is an option of ours, or a word of another library that is understood."""
    train, lm = Dialect("train", RecipeArguments), Dialect("ppo", PPOOptions)
    for ours, *others in of("batches")["names"]:
        assert ours in train.options
        for dialect, name in zip((train, train, lm), others, strict=True):
            assert name in dialect.options or f"--{name.replace('_', '-')}" in dialect.others, name
