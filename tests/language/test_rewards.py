"""What responses are worth: where functions come from, how sources add up, and what goes wrong in them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policies import options, rollouts
from small_models import small_model

from proximo.errors import UserError
from proximo.language.model.heads import new_reward_model
from proximo.language.train import rewards
from proximo.language.train.options import RewardOptions
from proximo.language.train.responses import Responses
from proximo.language.train.rewards import call_rewards, model_scores, reward_function, source_names
from proximo.language.train.rollout import checked_weights


def collected(*functions):
    """A batch of eight responses, scored."""
    return rollouts(options(), functions).collect(small_model(layers=1), 0)


def score(completions):
    return [5.0] * len(completions)


def std(completions):
    return [float(index) for index in range(len(completions))]


# ---- several sources


def test_sources_of_one_name_are_told_apart():
    assert source_names([score, std], ["helpful"]) == ["score", "std-2", "helpful"]  # `std` is of the sum
    assert source_names([score, score], ["score", "reward"]) == ["score", "score-2", "score-3", "reward"]
    assert source_names([score], ["score-2", "score"]) == ["score", "score-2", "score-3"]


def test_two_functions_of_one_name_add_up():
    found = collected(lambda completions: [1.0] * len(completions), lambda completions: [2.0] * 8)
    assert found.score.tolist() == [3.0] * 8
    assert (found.metrics["rewards/<lambda>"], found.metrics["rewards/<lambda>-2"]) == (1.0, 2.0)


def test_no_source_takes_the_place_of_anything_else():
    def length(completions):
        return [100.0] * len(completions)

    found = collected(score, length, std)
    # Scores 0 to 7, and 105 more for all: mean 3.5 of `std`, deviation sqrt((64 - 1) / 12) of the sum.
    assert found.metrics["rewards/std-2"] == 3.5
    assert found.metrics["rewards/std"] == pytest.approx(5.25**0.5)
    row = found.rows()[2]
    assert (row["score"], row["rewards/score"], row["rewards/length"]) == (107.0, 5.0, 100.0)
    assert row["length"] == found.responses.lengths[2] and isinstance(row["finished"], bool)


def test_weights_are_counted_before_anything_is_loaded():
    with pytest.raises(
        UserError, match=r"reward_weights: 1 given, 2 needed, one for each reward function \(1\)"
    ):
        checked_weights(RewardOptions(reward_weights=(1.0,)), functions=1, models=1)


# ---- a model's scores

MODEL = new_reward_model(small_model(layers=1), jax.random.key(1))


def sequences(rows, length):
    """Prompts of 3 tokens in 4 columns, and responses of 1 to all the tokens that fit."""
    ids = jax.random.randint(jax.random.key(2), (rows, length), 0, 16)
    lengths = 1 + jnp.arange(rows) % (length - 4)
    return Responses(ids, jnp.full(rows, 3), lengths, jnp.ones(rows, bool))


@pytest.mark.parametrize("tokens", [1, 24, 50, 10**6])
def test_scores_in_parts_are_those_of_the_whole(tokens):
    # 8 rows of 12 tokens: one row at a time, two, four, or all.
    whole = model_scores(MODEL, sequences(8, 12), 4)
    np.testing.assert_allclose(model_scores(MODEL, sequences(8, 12), 4, tokens), whole, rtol=1e-5, atol=1e-6)


def test_parts_need_less_memory():
    def memory(rows):
        program = rewards._scores.lower(MODEL, sequences(32, 64), jnp.asarray(4), rows).compile()
        found = program.memory_analysis()
        if found is None:
            pytest.skip("this backend does not tell")
        return found.temp_size_in_bytes

    assert memory(2) < memory(32) / 4


def test_the_options_limit_reaches_the_reward_model(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "proximo.language.train.rollout.model_scores",
        lambda model, responses, width, tokens: seen.append(tokens) or np.zeros(len(responses.ids)),
    )
    source = rollouts(options(), ())
    source.models, source.names, source.weights = {"rm": MODEL}, ["rm"], (1.0,)
    source.micro_batch_tokens = 24
    source.collect(small_model(layers=1), 0)
    assert seen == [24]


def test_a_models_score_that_is_no_number_is_told():
    """A model of large weights in few bits overflows; that is no answer which nothing judges."""
    source = rollouts(options(), ())
    broken = new_reward_model(small_model(layers=1), jax.random.key(1))
    weight = broken.score.weight.at[0].set(jnp.inf)
    source.models = {"rm": replace(broken, score=replace(broken.score, weight=weight))}
    source.names, source.weights = ["rm"], (1.0,)
    with pytest.raises(UserError, match=r"the reward model rm returned -?(inf|nan) for completion 0 of the"):
        source.collect(small_model(layers=1), 0)


# ---- where functions come from


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of the user's own where the user stands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *__import__("sys").path])
    return lambda name, text: (tmp_path / f"{name}.py").write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "no_colon",
            "def f(\n",
            "cannot import no_colon (SyntaxError: '(' was never closed (no_colon.py, line 1))",
        ),
        ("typo", "x = 1\ny = z\n", "cannot import typo (NameError: name 'z' is not defined, typo.py line 2)"),
        ("inner", "import math\nmath.pie\n", "has no attribute 'pie', inner.py line 2)"),
        ("absent", "import no_such_thing\n", "No module named 'no_such_thing', absent.py line 1)"),
        ("raises", "raise ValueError('two\\nlines')\n", "(ValueError: two lines, raises.py line 1)"),
        ("good", "def g():\n    pass\n", "good has no function f"),
        ("number", "f = 3\n", "f is not a function"),
    ],
)
def test_a_mistake_in_the_users_module_is_told(module, name, text, message):
    module(name, text)
    with pytest.raises(UserError) as error:
        reward_function(f"{name}:f")
    assert str(error.value).startswith(f"--reward '{name}:f': ") and message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_reward_may_be_named_by_its_file(module, tmp_path):
    module("reward_in_a_file", "def f(completions, **more):\n    return [1.0 for _ in completions]\n")
    assert reward_function(f"{tmp_path}/reward_in_a_file.py:f")(["a", "b"]) == [1.0, 1.0]
    assert reward_function("reward_in_a_file:f") is reward_function("reward_in_a_file.py:f")


@pytest.mark.parametrize("name", [":f", "module:", "module", ":", ""])
def test_a_name_has_two_parts(name):
    with pytest.raises(UserError, match="write module:function"):
        reward_function(name)


def test_a_module_that_is_not_there_has_no_line():
    with pytest.raises(UserError, match=r"No module named 'no_such_module'\): check the name"):
        reward_function("no_such_module:f")


# ---- what goes wrong in them

PROMPTS = ["first\n\n  prompt", "second", [{"role": "user", "content": "third"}]]
COMPLETIONS = ["a", "b  \n" + "b" * 200, "c"]


def scores(function, **columns):
    return call_rewards({"mine": function}, PROMPTS, COMPLETIONS, [[1], [2], [3]], columns)["mine"]


def failure(function):
    """What is said, which must be one line."""
    with pytest.raises(UserError) as error:
        scores(function)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_function_gets_what_it_asks_for():
    assert scores(lambda completion_ids: [ids[0] for ids in completion_ids]).tolist() == [1, 2, 3]
    assert scores(lambda level, **_: level, level=[4.0, 5.0, 6.0]).tolist() == [4, 5, 6]


def test_an_exception_is_told_with_the_completion_that_it_happened_at():
    calls = []

    def fragile(completions):
        calls.append(len(completions))
        return [1 / (len(text) < 100) for text in completions]

    said = failure(fragile)
    assert "the reward function mine raised ZeroDivisionError: division by zero for completion 1" in said
    assert "(prompt: 'second'; completion: 'b bbb" in said and said.endswith("b…)") and len(said) < 300
    assert calls == [3, 1, 1]  # the batch; then each alone, up to the one


def test_an_exception_of_the_batch_alone_names_the_batch():
    said = failure(lambda completions: [1.0] if len(completions) == 1 else [][0])
    assert said.endswith(
        "raised IndexError: list index out of range for a batch of 3 completions, but for none of them alone"
    )


def test_white_space_in_a_message_becomes_one_line():
    def wordy(completions):
        raise ValueError("two\n\nlines" + "!" * 1000)

    said = failure(wordy)
    assert "ValueError: two lines!!" in said and "(prompt: 'first prompt'; completion: 'a')" in said
    assert len(said) < 350


def test_a_score_that_is_no_number_is_told_with_its_completion():
    said = failure(lambda completions: [1.0, 2.0, float("nan")])
    assert (
        "returned nan for completion 2 of the batch (prompt: [{'role': 'user', 'content': 'third'}]" in said
    )


def test_a_wrong_count_is_told_with_both():
    said = failure(lambda completions: [1.0])
    assert said.startswith(
        "the reward function mine returned a list of length 1 for a batch of 3: return one number for each "
        "completion; "
    )
    assert "one is missing for completion 1 of the batch (prompt: 'second'; completion: 'b bbb" in said
    assert failure(lambda completions: [1.0] * 4).endswith(
        "of length 4 for a batch of 3: return one number for each completion"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        np.str_("1"),
        "1",
        10**400,
        1e39,
        np.complex128(1 + 2j),
        np.array(1j),
        [None],
        [1.0],
        np.datetime64("2026-11-30"),
    ],
    ids=repr,
)
def test_what_is_no_number_of_32_bits_is_told(wrong):
    assert "the reward function mine returned" in failure(lambda completions: [1.0, 1.0, wrong])
    assert "for completion 2 of the batch" in failure(lambda completions: [1.0, 1.0, wrong])


def test_a_function_cannot_change_what_is_ours():
    prompts, completions, ids = ["a", "b"], ["x", "y"], [[1], [2]]

    def spoils(prompts, completions, completion_ids):
        prompts.clear(), completions.reverse(), completion_ids[0].clear()
        return [1, np.float64(2)]

    scores = call_rewards({"mine": spoils}, prompts, completions, ids, {})["mine"]
    assert scores.tolist() == [1.0, 2.0] and scores.dtype == np.float32
    assert (prompts, completions, ids) == (["a", "b"], ["x", "y"], [[1], [2]])


def test_a_function_that_does_not_say_what_it_takes_gets_everything():
    # `max` has no signature; what it says of our arguments is told like any function's mistake.
    assert "the reward function mine raised TypeError" in failure(reward_function("builtins:max"))
