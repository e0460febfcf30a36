"""A checkpoint of a training holds everything, and says loudly when it was damaged or changed."""

import dataclasses
import json
import random
import re
import warnings

import numpy as np
import pytest
from probes import Aim, equal, small

import proximo
from proximo.control.files import FILES, checkpoint_files, flatten_state, load_checkpoint, unflatten_state
from proximo.control.iteration import Snapshot
from proximo.control.train import training
from proximo.core import AdaptiveKLPenalty
from proximo.errors import EpisodesRestarted, UserError
from proximo.learn.actor_steps import (
    AdaptiveGradient,
    AverageTrustRegion,
    CrossEntropy,
    NaturalGradient,
    SingleGradient,
    TrustRegion,
)
from proximo.runs.checkpoints import Checkpoints, finished
from proximo.runs.sealed import manifest

TINY = dict(num_envs=2, horizon=8, minibatch_size=8, epochs=2, steps=128, hidden=(4,))
CARTPOLE = dict(TINY, normalise_observations=True, normalise_rewards=True)


def interrupted(config, after, **options):
    """The iteration numbered `after`, with its snapshot, as a crash would leave it."""
    iterations = training(config, **options)
    for iteration in iterations:
        if iteration.number == after:
            return iteration, iterations
    raise AssertionError("the run is too short")


def saved(tmp_path, config, after=2):
    iteration, iterations = interrupted(config, after)
    path = keep(Checkpoints(tmp_path / "checkpoints"), iteration, config)
    iterations.close()
    return path


def keep(checkpoints, iteration, config):
    return checkpoints.save(iteration.steps, checkpoint_files(iteration, config))


@pytest.mark.parametrize(
    ("env", "options"),
    [
        ("CartPole-v1", dict(objective=AdaptiveKLPenalty(0.01))),
        ("CartPole-v1", dict(actor_step=AverageTrustRegion())),
        ("Pendulum-v1", dict(actor_step=AdaptiveGradient())),
        ("Pendulum-v1", dict(actor_step=SingleGradient())),
        ("CartPole-v1", dict(actor_step=TrustRegion())),
        ("CartPole-v1", dict(actor_step=NaturalGradient())),
        ("Pendulum-v1", dict(learning_rate_kl=0.01, anneal=False)),
    ],
    ids=["adaptive-kl", "average", "adaptive-gradient", "gradient", "trpo", "natural", "rate-by-kl"],
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, env, options):
    config = small(env, **{**CARTPOLE, **options})
    whole = list(training(config))
    path = saved(tmp_path, config, after=3)
    read, snapshot, agent = load_checkpoint(path)
    assert read == config
    assert equal(agent.policy, whole[2].agent.policy)
    rest = list(training(read, snapshot))
    assert [i.number for i in rest] == [i.number for i in whole[3:]]
    for mine, other in zip(rest, whole[3:], strict=True):
        assert equal(mine.learner, other.learner)
        assert mine.metrics == other.metrics
        assert mine.episodes == other.episodes and mine.steps == other.steps
        np.testing.assert_equal(mine.mean_return, other.mean_return)


def test_a_population_resumes_on_any_environment():
    # Every generation starts new episodes: nothing of an environment needs to be kept.
    config = small(Aim, **{**TINY, "num_envs": 6, "actor_step": CrossEntropy(elite=2), "steps": 400})
    whole = list(training(config))
    iteration, iterations = interrupted(config, 2)
    snapshot = iteration.snapshot()
    iterations.close()
    rest = list(training(config, snapshot))
    assert len(rest) == len(whole) - 2 and equal(rest[-1].learner, whole[-1].learner)


def test_an_environment_that_cannot_tell_its_state_starts_new_episodes_and_says_so():
    config = small("LunarLander-v3", **{**TINY, "normalise_rewards": True})
    iteration, iterations = interrupted(config, 3)
    snapshot = iteration.snapshot()
    iterations.close()
    assert snapshot.stream["envs"] is None
    with pytest.warns(EpisodesRestarted, match=r"LunarLander-v3 cannot save its state.*not bit for bit"):
        rest = list(training(config, snapshot))
    # The weaker promise: learner, counters, statistics and schedules go on; only the episodes are new.
    assert rest[0].number == 4 and rest[0].steps > snapshot.steps
    assert rest[-1].steps >= config.steps
    with pytest.warns(EpisodesRestarted):
        again = list(training(config, snapshot))
    assert equal(rest[-1].learner, again[-1].learner)


def test_every_flipped_byte_is_noticed(tmp_path):
    path = saved(tmp_path, small("CartPole-v1", **TINY))
    sizes = {name: (path / name).stat().st_size for name in (*FILES, "manifest.json")}
    draw = random.Random(0)
    for _ in range(500):
        name = draw.choices(list(sizes), weights=list(sizes.values()))[0]
        original = (path / name).read_bytes()
        damaged = bytearray(original)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        (path / name).write_bytes(damaged)
        with pytest.raises(UserError, match="has changed since it was saved"):
            load_checkpoint(path)
        (path / name).write_bytes(original)
    load_checkpoint(path)


def resealed(path):
    """Give changed files a manifest that fits, as whoever changed them on purpose would."""
    (path / "manifest.json").write_bytes(manifest({name: (path / name).read_bytes() for name in FILES}))


def refused(path):
    with warnings.catch_warnings(), pytest.raises(UserError) as caught:
        warnings.simplefilter("ignore")
        config, snapshot, _ = load_checkpoint(path)
        list(training(config, snapshot))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(*way, to):
    def change(description):
        for name in way[:-1]:
            description = description[name]
        description[way[-1]] = to

    return change


CHANGES = {
    "another format": (changed("format", to=9), "is not in checkpoint format 1"),
    "no configuration": (changed("config", to=None), "configuration"),
    "an unknown option": (changed("config", "update", "depth", to=3), "unknown options .*depth"),
    "an impossible option": (changed("config", "num_envs", to=0), "num_envs is 0"),
    "an unknown objective": (
        changed("config", "update", "objective", to={"name": "os.system", "command": "true"}),
        "os.system",
    ),
    "an environment that imports": (changed("config", "env", to="antigravity:Env-v0"), "names a module"),
    "an unknown environment": (changed("config", "env", to="Nowhere-v0"), "no environment is called"),
    "an environment that is none": (changed("config", "env", to={"name": "CartPole-v1"}), "env is"),
    "an array that is missing": (
        changed("snapshot", "learner", "key", to={"__array__": "elsewhere"}),
        "does not describe a checkpoint",
    ),
    "a learner without weights": (changed("snapshot", "learner", to={}), "is missing"),
    "no snapshot": (changed("snapshot", to=[]), "does not describe a checkpoint"),
    "another network": (changed("config", "network", "hidden", to=[5]), "asks for"),
    **{
        f"{' '.join(way)} {to!r}": (
            changed("snapshot", *way, to=to),
            rf"state\.json does not describe a checkpoint .*{way[-1]}.*: the file was changed",
        )
        for way, to in (
            (("steps",), "x"),
            (("steps",), -1),
            (("steps",), True),
            (("number",), None),
            (("number",), 2.0),
            (("number",), 2**32),
            (("learner",), {"policy": 3}),
            (("statistics", "return_so_far"), 0.0),
            (("statistics", "return_so_far"), {"__array__": "/statistics/length_so_far"}),
            (("statistics", "length_so_far"), {"__array__": "/statistics/return_so_far"}),
            (("statistics", "recent"), {"__array__": "/statistics/return_so_far"}),
            (("stream",), None),
            (("stream", "obs"), {"__array__": "/stream/seam"}),
            (("stream", "seam"), []),
            (("stream", "start"), []),
            (("stream", "costly"), 1),
            (("stream", "carry"), [{"__array__": "/stream/seam"}]),
            (("stream", "rows"), "x"),
            (("stream", "envs"), 3),
        )
    },
    "no statistics": (changed("snapshot", "statistics", to={}), "does not describe a checkpoint .*recent"),
    "a stream that is none": (changed("snapshot", "stream", to=[]), "does not describe a checkpoint"),
    "a stream without a part": (changed("snapshot", "stream", to={"rows": 1}), "a checkpoint .*obs"),
    "environments in words": (
        changed("snapshot", "stream", "envs", "vector", to="x"),
        "the saved state does not fit the environments",
    ),
    "another number of environments": (changed("config", "num_envs", to=4), "not as its configuration asks"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_description_is_refused(tmp_path, name):
    path = saved(tmp_path, small("CartPole-v1", **TINY))
    change, message = CHANGES[name]
    description = json.loads((path / "state.json").read_text())
    change(description)
    (path / "state.json").write_text(json.dumps(description))
    resealed(path)
    assert re.search(message, refused(path))


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[" * 100_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000, b"\x80\x04\x95", b"\xff\xfe{}"],
    ids=["empty", "null", "deep list", "deep object", "a pickle", "no text"],
)
@pytest.mark.parametrize("name", ["state.json", "state.safetensors", "model.json", "model.safetensors"])
def test_crafted_files_are_refused_in_one_line(tmp_path, name, content):
    path = saved(tmp_path, small("CartPole-v1", **TINY))
    (path / name).write_bytes(content)
    resealed(path)
    refused(path)


def test_a_header_that_claims_more_than_there_is(tmp_path):
    path = saved(tmp_path, small("CartPole-v1", **TINY))
    for claimed in (2**63, 2**40, 10**9):
        (path / "state.safetensors").write_bytes(claimed.to_bytes(8, "little") + b"{}")
        resealed(path)
        assert "is not a readable safetensors file" in refused(path)


def test_plain_data_comes_back():
    arrays = {}
    value = {"a": [1, 2.5, None, "x", True], "b": {"c": np.arange(3), "d": np.float64(0.1)}, "e": np.array(7)}
    back = unflatten_state(json.loads(json.dumps(flatten_state(value, "", arrays))), arrays)
    assert back["a"] == value["a"] and back["b"]["d"] == 0.1
    np.testing.assert_array_equal(back["b"]["c"], np.arange(3))
    assert back["e"] == 7 and sorted(arrays) == ["/b/c", "/e"]


def test_a_snapshot_has_no_more_than_is_needed():
    assert Snapshot._fields == ("number", "steps", "learner", "statistics", "stream")


def test_a_learner_that_is_not_finite_is_never_written(tmp_path):
    config = small(Aim, **TINY)
    iteration, iterations = interrupted(config, 2)
    before = keep(Checkpoints(tmp_path / "checkpoints"), iteration, config)
    snapshot = iteration.snapshot()
    name = next(name for name in snapshot.learner if name.startswith("optimiser"))
    snapshot.learner[name] = np.full(snapshot.learner[name].shape, np.nan)
    bad = dataclasses.replace(iteration, snapshot=lambda: snapshot, steps=10**6)
    with pytest.raises(UserError, match=r"optimiser.* is not finite after .* no checkpoint was written"):
        keep(Checkpoints(tmp_path / "checkpoints"), bad, config)
    iterations.close()
    assert finished(tmp_path / "checkpoints") == [before]


def test_the_agent_of_a_checkpoint_loads_like_any_other(tmp_path):
    config = small("CartPole-v1", **TINY)
    path = saved(tmp_path, config)
    # A folder without a finished model: the newest checkpoint's is taken.
    assert equal(proximo.load(tmp_path).policy, load_checkpoint(path)[2].policy)


def mangled(content, draw):
    """Truncated, flipped, cut and joined in another order, or with a part twice."""
    at, to = sorted(draw.sample(range(len(content) + 1), 2))
    kind = draw.randrange(5)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[to:] + content[at:to] + content[:at]
    if kind == 2:
        return content[:to] + content[at:]
    damaged = bytearray(content)
    for _ in range(kind):
        damaged[draw.randrange(len(damaged))] = draw.randrange(256)
    return bytes(damaged)


@pytest.mark.parametrize("name", FILES)
def test_whatever_a_file_holds_it_is_read_or_refused_in_one_line(tmp_path, name):
    # With a manifest that fits, as whoever changed it on purpose would write it: a UserError or nothing.
    path = saved(tmp_path, small("CartPole-v1", **TINY))
    original, draw, refusals = (path / name).read_bytes(), random.Random(0), 0
    for _ in range(60):
        (path / name).write_bytes(mangled(original, draw))
        resealed(path)
        try:
            load_checkpoint(path)
        except UserError as error:
            refusals += 1
            assert "\n" not in str(error)
    assert refusals > 20


def test_a_manifest_reaches_no_other_file(tmp_path):
    path = saved(tmp_path, small("CartPole-v1", **TINY))
    (tmp_path / "secret").write_bytes(b"secret")
    files = {name: (path / name).read_bytes() for name in FILES}
    (path / "manifest.json").write_bytes(manifest({**files, "../../secret": b"secret"}))
    with pytest.raises(UserError, match="has changed since it was saved"):
        load_checkpoint(path)


def test_a_link_in_the_place_of_a_file_is_only_read(tmp_path):
    # What it points at is checked as the file itself would be: it is not what was saved.
    path = saved(tmp_path, small("CartPole-v1", **TINY))
    (tmp_path / "elsewhere").write_bytes(b"{}")
    (path / "state.json").unlink()
    (path / "state.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="has changed since it was saved"):
        load_checkpoint(path)
    assert (tmp_path / "elsewhere").read_bytes() == b"{}"
