"""Language models from Python: `proximo.language`."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from workplace import lines, workplace

import proximo
from proximo.core import FixedKL
from proximo.errors import UserError
from proximo.language.face import functions_of, materialised_data
from proximo.language.language_model import as_prompts
from proximo.language.model.config import model_config
from proximo.language.model.transformer import new_model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return workplace(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def model(place):
    return proximo.language.load(place / "base")


@pytest.fixture(autouse=True)
def _there(place, monkeypatch):
    monkeypatch.chdir(place)


def ones(completions, **columns):
    """How many ones are in each."""
    return [float(text.count("1")) for text in completions]


def test_a_model_says_in_one_short_line_what_it_is(model):
    numbers = sum(leaf.size for leaf in jax.tree.leaves(model.transformer))
    layers, width, tokens = len(model.config.layers), model.config.size, model.config.vocabulary
    told = f"{layers} layers, width {width}, vocabulary {tokens}, {numbers:,} parameters"
    assert repr(model) == f"LanguageModel({model.config.family}: {told})"


# The same shapes everywhere: each one is compiled once.
QUICK = dict(response_length=4, batch_size=2, samples=2)
SHORT = dict(max_new_tokens=4, batch_size=1)

# ---- names


def test_the_public_names():
    # Frozen: a name that goes breaks someone's program.
    assert proximo.language.__all__ == [
        "LanguageModel",
        "LanguageRunResult",
        "dpo",
        "evaluate",
        "generate",
        "grpo",
        "load",
        "new",
        "ppo",
        "resume",
        "reward",
        "sft",
    ]
    assert all(callable(getattr(proximo.language, name)) for name in proximo.language.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        proximo.language.lode  # noqa: B018


def test_nothing_is_imported_before_it_is_used():
    # Most users of this package train no language model: they do not wait for what that needs.
    code = """
import sys
import proximo
heavy = ("proximo.language", "tokenizers", "jinja2", "transformers", "torch")
assert not [name for name in sys.modules if name.startswith(heavy)]
proximo.language
assert not [name for name in sys.modules if name.startswith(heavy[1:])]
import proximo.language.train.estimators as module  # before the package's own names were used
assert callable(proximo.language.grpo) and module.GroupEstimator and callable(proximo.language.sft)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_missing_library_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)  # as Python has it where an import fails
    with pytest.raises(UserError, match=r'this needs tokenizers.*pip install "proximo\[language\]"'):
        proximo.language.load  # noqa: B018


# ---- a model


def test_logits_are_those_of_the_transformer(model):
    ids = np.array([[3, 4, 5], [6, 7, 8]])
    logits = model.logits(ids)
    assert isinstance(logits, np.ndarray) and logits.shape == (2, 3, model.config.vocabulary)
    expected = model.transformer.logits(model.transformer.hidden(ids))
    np.testing.assert_allclose(logits, expected, atol=1e-6)


def test_padding_on_either_side_changes_nothing(model):
    alone = model.logits([[3, 4, 5]])[0]
    for mask in ([0, 0, 1, 1, 1], [1, 1, 1, 0, 0]):
        mask = np.array([mask])
        ids = np.full((1, 5), 10**9)  # whatever stands there
        ids[mask == 1] = [3, 4, 5]
        np.testing.assert_allclose(model.logits(ids, mask)[mask == 1], alone, atol=1e-5)


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        ([3, 4], None, r"give whole numbers, \[texts, tokens\]"),
        ([[0.5]], None, "float64"),
        ([[3, 99]], None, "the model has no token id 99: give 0 to 20"),
        ([[-1]], None, "the model has no token id -1"),
        ([[3, 4]], [[1]], r"mask is \[1, 1\]: it must have the shape of ids, \[1, 2\]"),
    ],
)
def test_ids_that_cannot_be_are_told(model, ids, mask, message):
    with pytest.raises(UserError, match=message):
        model.logits(ids, mask)


def test_answers_follow_prompts_and_samples(model):
    one = model.generate("1 2", greedy=True, **SHORT)
    assert len(one) == 1 and isinstance(one[0], str)
    assert model.generate(["3", "1 2"], greedy=True, **SHORT)[1] == one[0]
    assert model.generate("1 2", temperature=0.0, **SHORT) == one  # another way to say it
    several = model.generate(["1 2", "3"], samples=2, **SHORT)
    assert [len(answers) for answers in several] == [2, 2]


def test_a_seed_decides_the_answers(model):
    def drawn(seed):
        return model.generate(["1", "2 3", "4"], samples=2, seed=seed, **SHORT)

    assert drawn(1) == drawn(1) != drawn(2)


def test_without_a_length_an_answer_has_half_the_context(model):
    # The context is 64 tokens. An unsaid length leaves room for the prompt.
    assert model.generate("1", greedy=True, batch_size=1) == model.generate(
        "1", greedy=True, batch_size=1, max_new_tokens=32
    )


def test_a_lone_stop_is_one_text(model):
    drawn = dict(samples=8, seed=3, max_new_tokens=8, batch_size=1)
    assert model.generate("1", stop="1 2", **drawn) == model.generate("1", stop=["1 2"], **drawn)


def test_logits_that_cannot_be_are_refused(model):
    with pytest.raises(UserError, match="padding between tokens"):
        model.logits([[5, 0, 6, 7]], mask=[[1, 0, 1, 1]])
    with pytest.raises(UserError, match="rows of different lengths"):
        model.logits([[1, 2], [3]])
    both_sides = model.logits([[0, 5, 6, 0]], mask=[[0, 1, 1, 0]])[0, 2]
    np.testing.assert_allclose(both_sides, model.logits([[5, 6]])[0, 1], atol=1e-5)
    gpt2 = dict(model_type="gpt2", vocab_size=21, n_embd=8, n_layer=1, n_head=2, n_positions=16)
    learned = replace(model, transformer=new_model(model_config(gpt2), jax.random.key(0)))
    with pytest.raises(UserError, match="a text has 17 tokens, but the model supports 16"):
        learned.logits(np.full((1, 17), 4))


def test_greedy_takes_the_token_of_the_highest_logit(model):
    prompt = model.tokenizer.encode("1 2")
    likeliest = model.tokenizer.decode([int(np.argmax(model.logits([prompt])[0, -1]))])
    assert likeliest and model.generate("1 2", greedy=True, **SHORT)[0].startswith(likeliest)


def test_a_lone_conversation_is_one_prompt():
    said = [{"role": "user", "content": "hello"}]
    assert as_prompts("a") == ["a"] and as_prompts(["a", "b"]) == ["a", "b"]
    assert as_prompts(said) == [said] and as_prompts([said, said]) == [said, said]


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ("", {}, '"prompt" is empty'),
        ("1 " * 60, {}, "tokens"),
        ("1", {"max_new_tokens": 64}, "the model's context is 64"),
        ("1", {"max_new_tokens": 0}, "max_new_tokens is 0"),
        ("1", {"top_k": 2.5}, "top_k is 2.5: it must be a whole number"),
        ("1", {"temperature": "0"}, "temperature is '0': it must be a number"),
        (None, {}, "prompts is None: give a text"),
        ("1", {"temperature": -1.0}, "temperature is -1.0"),
        ("1", {"top_p": 0.0}, "top_p is 0.0"),
        ("1", {"top_k": -1}, "top_k is -1"),
        ([{"role": "user", "content": "1"}], {}, "no chat template"),
    ],
)
def test_what_cannot_be_answered_is_told(model, prompts, options, message):
    with pytest.raises(UserError, match=message):
        model.generate(prompts, **{**SHORT, **options})


def test_a_saved_model_is_the_same(model, tmp_path):
    again = proximo.language.load(model.save(tmp_path / "copy"))
    np.testing.assert_array_equal(again.logits([[3, 4, 5]]), model.logits([[3, 4, 5]]))
    assert again.tokenizer.encode("1 2") == model.tokenizer.encode("1 2")


def test_there_is_no_such_model(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        proximo.language.load(tmp_path / "nowhere")


# ---- runs


@pytest.fixture(scope="module")
def tuned(place):
    """A run on records instead of a file."""
    data = [{"text": f"{i} {i + 1}"} for i in range(12)]
    return proximo.language.sft(
        model=place / "base", data=data, out=place / "sft", packing=False, batch_size=6, epochs=2
    )


def test_a_run_is_a_folder_a_result_and_a_model(tuned, place, model):
    assert (tuned.folder, tuned.command) == (place / "sft", "sft")
    assert (tuned.iterations, tuned.total) == (4, 4)  # 12 texts in batches of 6, twice
    assert tuned.tokens > 0 and tuned.metrics["epoch"] == 2.0
    learned = tuned.load()
    assert not np.array_equal(learned.logits([[3, 4]]), model.logits([[3, 4]]))
    assert proximo.language.load(tuned.folder / "model").config == learned.config
    assert proximo.language.load(tuned).config == learned.config
    assert proximo.language.generate(tuned, "1", greedy=True, **SHORT) == learned.generate(
        "1", greedy=True, **SHORT
    )


def test_what_was_cut_is_told(place):
    data = [{"text": " ".join(["1"] * count)} for count in (4, 5, 60)]  # 60 words and their blanks do not fit
    options = dict(packing=False, batch_size=3, length=16)
    run = proximo.language.sft(model=place / "base", data=data, out=place / "cut", **options)
    assert len(run.notes) == 1 and "1 record truncated" in run.notes[0]
    assert json.loads((run.folder / "config.json").read_text())["notes"] == list(run.notes)


def test_records_are_kept_beside_the_run(tuned, place):
    said = json.loads((tuned.folder / "config.json").read_text())["options"]["data"]
    assert Path(said).parent == place and json.loads(Path(said).read_text().splitlines()[0]) == {
        "text": "0 1"
    }
    assert materialised_data("a.jsonl", place) == "a.jsonl"
    assert (
        materialised_data([{"text": "a"}], place)
        == materialised_data(iter([{"text": "a"}]), place)
        != materialised_data([{"text": "b"}], place)
    )
    with pytest.raises(UserError, match="a list of plain dicts"):
        materialised_data([{"text": object()}], place)


def test_a_reward_model_is_measured_and_pays_for_answers(place):
    pairs = place / "pairs.jsonl"
    run = proximo.language.reward(model=place / "base", data=pairs, out=place / "rm", batch_size=10)
    found = proximo.language.evaluate(model=run, data=pairs)
    assert found["kind"] == "preferences" and found["records"] == 20
    assert 0 <= found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"] <= 1
    with pytest.raises(UserError, match="is a reward model and cannot generate text"):
        run.load()
    with pytest.raises(UserError, match="is a reward model: give preferences"):
        proximo.language.evaluate(model=run, data=place / "texts.jsonl")
    prompts = [{"prompt": f"{i} "} for i in range(4)]
    paid = proximo.language.evaluate(
        model=place / "base", data=prompts, reward_model=run, reward=ones, **QUICK
    )
    assert (paid["kind"], paid["prompts"], paid["answers"]) == ("rewards", 4, 8)
    # Each source counts once: the reward is the sum of the two.
    assert paid["reward"] == pytest.approx(paid["rewards/rm"] + paid["rewards/ones"], abs=1e-5)
    assert paid["low"] <= paid["reward"] <= paid["high"]
    likeliest = dict(model=place / "base", data=prompts, reward=ones, temperature=0.0, **QUICK)
    assert proximo.language.evaluate(**likeliest, seed=1) == proximo.language.evaluate(**likeliest, seed=2)


def test_perplexity_is_that_of_the_next_token(model, place):
    found = proximo.language.evaluate(model=place / "base", data=[{"text": "1 2"}, {"text": "4"}])
    # By hand: "1", " ", "2", EOS: three tokens are predicted; "4", EOS: one.
    costs = []
    for text in ("1 2", "4"):
        ids = [*model.tokenizer.encode(text), model.tokenizer.eos_id]
        logits = model.logits([ids])[0]
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        costs += [-log_probs[at, ids[at + 1]] for at in range(len(ids) - 1)]
    assert found["kind"] == "texts" and found["tokens"] == len(costs) == 4
    assert found["perplexity"] == pytest.approx(np.exp(np.mean(costs)), rel=1e-4)


def test_ppo_with_a_function_and_on_from_where_it_was(place):
    options = QUICK | dict(model=place / "base", data=place / "prompts.jsonl", kl=FixedKL(0.1), seed=3)
    options |= dict(episodes=8, epochs=1)
    run = proximo.language.ppo(reward=ones, out=place / "ppo", max_time=0.0, **options)
    assert (run.iterations, run.total) == (1, 2)  # no time for the second
    named = json.loads((run.folder / "config.json").read_text())["options"]["rewards"]["reward"]
    assert named == ["test_face:ones"]
    with pytest.raises(UserError, match=r"used --reward test_face:ones \(given now: 0 functions\)"):
        proximo.language.resume(run)
    on = proximo.language.resume(run, reward=ones)
    assert (on.command, on.iterations, on.total) == ("ppo", 2, 2)
    assert on.metrics["objective/scores"] == on.metrics["rewards/ones"]
    assert proximo.language.load(on.folder).config.vocabulary == 21


def test_reward_functions_have_names():
    functions, names = functions_of([ones, "json:dumps"])
    assert functions == [ones, json.dumps] and names == ("test_face:ones", "json:dumps")
    assert functions_of(ones)[0] == [ones] and functions_of(()) == ([], ())
    with pytest.raises(UserError, match="reward is 3"):
        functions_of([3])


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("sft", {"learn_rate": 1}, "the nearest: learning_rate"),
        ("dpo", {"beta": 0.0}, "beta is 0.0"),
        ("ppo", {"response_length": 4}, "no reward given: pass --reward or --reward-model"),
        ("grpo", {"reward": ones, "samples": 1}, "samples is 1"),
        ("grpo", {"reward": "no_module_of_mine:f"}, "cannot import no_module_of_mine"),
    ],
)
def test_a_mistake_leaves_nothing_behind(place, tmp_path, command, options, message):
    data = place / ("pairs.jsonl" if command == "dpo" else "prompts.jsonl")
    with pytest.raises(UserError, match=message):
        getattr(proximo.language, command)(model=place / "base", data=data, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_language_model_is_not_measured_on_preferences(place, tmp_path):
    with pytest.raises(UserError, match="preferences measure reward models"):
        proximo.language.evaluate(model=place / "base", data=place / "pairs.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        proximo.language.evaluate(model=place / "base", data=tmp_path / "nowhere.jsonl")
    with pytest.raises(UserError, match="line 1"):
        proximo.language.evaluate(model=place / "base", data=lines(tmp_path / "odd.jsonl", [{"odd": 1}]))


def test_adapters_are_kept_alone_too_and_stand_for_the_model(place):
    data = [{"text": f"{i} {i + 1}"} for i in range(12)]
    options = dict(packing=False, batch_size=6, learning_rate=1e-2)
    run = proximo.language.sft(
        model=place / "base", data=data, out=place / "adapted", lora_rank=2, lora_alpha=8.0, **options
    )
    alone = run.folder / "adapter"
    assert sorted(path.name for path in alone.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    base, whole = proximo.language.load(place / "base"), run.load()
    again = proximo.language.load(alone)  # they name their base
    np.testing.assert_allclose(again.logits([[3, 4, 5]]), whole.logits([[3, 4, 5]]), atol=1e-5)
    assert not np.allclose(base.logits([[3, 4, 5]]), whole.logits([[3, 4, 5]]), atol=1e-3)
    longer = proximo.language.sft(model=alone, data=data, out=place / "longer", **options)
    assert longer.load().config == base.config and not (longer.folder / "adapter").exists()
    # On a model that was given as adapters, new ones have no folder that they could name as their base.
    more = proximo.language.sft(model=alone, data=data, out=place / "more", lora_rank=2, **options)
    assert not (more.folder / "adapter").exists()
    (alone / "manifest.json").unlink()
    described = json.loads((alone / "adapter_config.json").read_text())
    for base_name, message in ((None, "names no base"), (str(place), "the adapters' base, is not a model")):
        described["base_model_name_or_path"] = base_name
        (alone / "adapter_config.json").write_text(json.dumps(described))
        with pytest.raises(UserError, match=message):
            proximo.language.load(alone)
