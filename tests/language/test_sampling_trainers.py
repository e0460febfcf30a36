"""PPO and GRPO from folders and files: what is read, and which models do not go together."""

from dataclasses import replace

import jax
import pytest
from policies import options
from small_models import small_model
from workplace import SYMBOLS, TEMPLATE, lines

from proximo.errors import UserError
from proximo.language.files.folder import load_reward_model, save_model, save_reward_model
from proximo.language.files.model_options import ModelOptions
from proximo.language.model.heads import new_reward_model
from proximo.language.text.tokenizer import character_tokenizer
from proximo.language.train.building import sampling_trainer
from proximo.language.train.options import GRPOOptions, RewardOptions
from proximo.runs.named import named_leaves

TOKENIZER = replace(character_tokenizer(SYMBOLS), template=TEMPLATE)
POLICY = small_model(vocabulary=TOKENIZER.vocab_size, layers=1)  # its context is 64
CONVERSATION = [{"role": "user", "content": "12"}]


def reward_model(folder, seed=1, tokenizer=TOKENIZER, **fields):
    """A reward model in a folder."""
    trunk = small_model(vocabulary=TOKENIZER.vocab_size, layers=1, **fields)
    save_reward_model(folder, new_reward_model(trunk, jax.random.key(seed)), tokenizer)
    return str(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A policy, reward models, and prompts of 1 and of 13 tokens."""
    folder = tmp_path_factory.mktemp("place")
    save_model(folder / "base", POLICY, TOKENIZER)
    reward_model(folder / "first" / "reward", seed=1)
    reward_model(folder / "second" / "reward", seed=2)
    reward_model(folder / "short", context=16)
    small = small_model(vocabulary=TOKENIZER.vocab_size, layers=1, size=8, head_dim=2)
    save_model(folder / "small", small, TOKENIZER)
    lines(folder / "prompts.jsonl", [{"prompt": "1"}, {"prompt": "1234567890123"}])
    lines(folder / "talk.jsonl", [{"prompt": CONVERSATION, "level": 3}])
    return folder


def asked(place, kind=None, data="prompts.jsonl", **given):
    """Options of a run on the policy."""
    own = {} if kind is None else {"kind": kind}
    own |= {"data": str(place / data), "model": ModelOptions(model=str(place / "base"))}
    sampling = dict(response_length=4, batch_size=2, samples=2) | given.pop("sampling", {})
    return options(**own, sampling=sampling, **given)


def rewarded(place, *names, weights=()):
    return RewardOptions(reward_model=tuple(str(place / name) for name in names), reward_weights=weights)


def ones(completions):
    return [1.0] * len(completions)


# ---- several sources


def test_reward_models_of_one_last_name_add_up(place):
    both = rewarded(place, "first/reward", "second/reward", weights=(1.0, 2.0, 3.0))
    found = sampling_trainer(asked(place, rewards=both), [ones]).rollouts.collect(POLICY, 0)
    first, second = found.parts["reward"], found.parts["reward-2"]
    assert abs(first - second).max() > 0.01
    assert found.score == pytest.approx(1.0 + 2.0 * first + 3.0 * second, abs=1e-5)
    one = sampling_trainer(asked(place, rewards=rewarded(place, "second/reward"))).rollouts.collect(POLICY, 0)
    assert second == pytest.approx(one.score, abs=1e-5)


def test_a_weight_for_each_folder(place):
    both = rewarded(place, "first/reward", "second/reward", weights=(1.0,))
    with pytest.raises(UserError, match="reward_weights: 1 given, 2 needed, one for each"):
        sampling_trainer(asked(place, rewards=both))


def test_reward_models_read_no_more_tokens_at_once_than_asked(place):
    parts = asked(place, rewards=rewarded(place, "first/reward"), steps=dict(micro_batch_tokens=100))
    whole = replace(parts, steps=replace(parts.steps, micro_batch_tokens=None))
    scores = [sampling_trainer(each).rollouts.collect(POLICY, 0).score for each in (parts, whole)]
    assert sampling_trainer(parts).rollouts.micro_batch_tokens == 100
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


# ---- prompts


@pytest.mark.parametrize("kind", [None, GRPOOptions])
def test_functions_get_prompts_as_they_stand_in_the_data(place, kind):
    seen = {}

    def record(prompts, completions, level):
        seen.update(prompts=prompts, level=level, completions=completions)
        return ones(completions)

    found = sampling_trainer(asked(place, kind, data="talk.jsonl"), [record]).rollouts.collect(POLICY, 0)
    spoken = [[{"role": "assistant", "content": text}] for text in found.completions]
    expected = {"prompts": [CONVERSATION] * 4, "level": [3] * 4, "completions": spoken}
    assert seen == expected  # 2 prompts, 2 responses to each
    assert found.prompts == ["12 "] * 4  # what the model read, as the template wrote it


@pytest.mark.parametrize("kind", [None, GRPOOptions])
def test_an_answer_that_the_prompt_begins_is_judged_whole(place, kind, tmp_path):
    # As in TRL: the model goes on with "34", and functions get that as the answer's beginning.
    begun = [*CONVERSATION, {"role": "assistant", "content": "34"}]
    path, seen = lines(tmp_path / "begun.jsonl", [{"prompt": begun}]), {}

    def record(prompts, completions):
        seen.update(prompts=prompts, completions=completions)
        return ones(completions)

    found = sampling_trainer(asked(place, kind, data=path), [record]).rollouts.collect(POLICY, 0)
    assert found.prompts == ["1234"] * 4  # the template writes no end behind an answer
    assert seen["prompts"] == [CONVERSATION] * 4
    answers = [[{"role": "assistant", "content": f"34{text}"}] for text in found.completions]
    assert seen["completions"] == answers


@pytest.mark.parametrize("kind", [None, GRPOOptions])
def test_prompts_that_cannot_be_used_are_left_out_on_demand(place, kind, tmp_path):
    records = [{"prompt": text} for text in ("1", "1234567890123", "2", "", "zz")]
    path = lines(tmp_path / "mixed.jsonl", records)
    asking = asked(place, kind, data=path, sampling=dict(prompt_length=5))
    with pytest.raises(UserError, match=r'line 2: has 13 tokens; the maximum is 5.*overlong "drop"'):
        sampling_trainer(asking, [ones])
    with pytest.raises(UserError, match='line 4: "prompt" is empty'):
        sampling_trainer(replace(asking, overlong="drop"), [ones])
    trainer = sampling_trainer(replace(asking, overlong="drop", invalid="drop"), [ones])
    assert [prompt.text for prompt in trainer.rollouts.prompts] == ["1", "2"]
    assert trainer.notes[-2:] == (
        f"{path}: 0 records truncated, 1 dropped as too long",
        f'{path}: 2 records dropped as invalid: "prompt" is empty (1); this text cannot be encoded (1)',
    )


@pytest.mark.parametrize("critics", ["separate", "two"])
@pytest.mark.parametrize("critic_from", [None, "first/reward", "small"])
def test_with_adapters_a_critic_of_its_own_has_some_too(place, critic_from, critics):
    critic = dict(critic=critics, critic_from=critic_from and str(place / critic_from))
    asking = asked(place, critic=critic)
    asking = replace(asking, model=replace(asking.model, lora_rank=2))
    trainer = sampling_trainer(asking, [ones])
    learned = set(named_leaves(trainer.first))
    assert {name.partition(".")[0] for name in learned} == {"model", "critics"}
    assert all(".up" in name or ".down" in name or ".score" in name for name in learned)
    outcome = trainer.iterate(trainer.begin(), 0)
    before, after = named_leaves(trainer.first), named_leaves(outcome.state.weights)
    assert any((before[name] != after[name]).any() for name in learned if name.startswith("critics"))


def test_a_critic_may_be_smaller_than_the_actor(place):
    trainer = sampling_trainer(
        asked(place, critic=dict(critic="two", critic_from=str(place / "small"))), [ones]
    )
    first, second = trainer.first.critics
    assert trainer.first.model.embedding.shape[1] == 16
    assert first.trunk.embedding.shape[1] == second.trunk.embedding.shape[1] == 8
    assert not first.score.weight.any() and first.trunk.head is None  # says 0, and has no use for tokens
    trainer.iterate(trainer.begin(), 0)


def test_a_critic_from_a_reward_model_begins_as_that(place):
    trainer = sampling_trainer(
        asked(place, critic=dict(critic="two", critic_from=str(place / "first/reward"))), [ones]
    )
    scorer = load_reward_model(place / "first/reward")
    for critic in trainer.first.critics:
        assert (critic.score.weight == scorer.score.weight).all()
        assert (critic.trunk.embedding == scorer.trunk.embedding).all()


# ---- models that do not go together


def test_a_prompt_must_fit_every_model_that_reads_it(place):
    # The policy would take 60 tokens beside a response of 4, the reward model of 16 only 12.
    with pytest.raises(UserError, match="line 2: has 13 tokens; the maximum is 12"):
        sampling_trainer(asked(place, rewards=rewarded(place, "first/reward", "short")))
    critic = dict(critic="separate", critic_from=str(place / "short"))
    with pytest.raises(UserError, match="line 2: has 13 tokens; the maximum is 12"):
        sampling_trainer(asked(place, critic=critic), [ones])
    assert len(sampling_trainer(asked(place), [ones]).rollouts.prompts) == 2


def test_a_response_must_fit_every_model_that_reads_it(place):
    with pytest.raises(UserError, match=r"response_length is 16: .* has a context of 16 tokens"):
        sampling_trainer(asked(place, sampling=dict(response_length=16), rewards=rewarded(place, "short")))


def test_a_reward_model_of_other_tokens_is_refused(place, tmp_path):
    other = reward_model(tmp_path / "other", tokenizer=character_tokenizer(SYMBOLS[::-1]))
    words = str(tmp_path / "words" / "other")
    save_model(tmp_path / "words" / "other", POLICY, character_tokenizer(SYMBOLS[::-1]))
    said = r"other has another vocabulary \('0' is id 3 for the policy, id 20 there\): take a model"
    for given in (
        {"rewards": RewardOptions(reward_model=(other,))},
        {"critic": dict(critic="separate", critic_from=other), "rewards": rewarded(place, "first/reward")},
        {"critic": dict(critic="two", critic_from=words), "rewards": rewarded(place, "first/reward")},
    ):
        with pytest.raises(UserError, match=said):
            sampling_trainer(asked(place, **given))


def test_a_reward_model_may_have_rows_for_more_tokens_than_there_are(place, tmp_path):
    # As Qwen2.5's sizes do: 151,936 and 152,064 rows for the same tokenizer.
    trunk = small_model(vocabulary=TOKENIZER.vocab_size + 1, layers=1)
    save_reward_model(tmp_path / "more", new_reward_model(trunk, jax.random.key(0)), TOKENIZER)
    rollout = sampling_trainer(asked(place, rewards=rewarded(tmp_path, "more"))).rollouts.collect(POLICY, 0)
    assert all(rollout.score != 0)


def test_a_reward_model_of_fewer_tokens_is_refused(place, tmp_path):
    trunk = small_model(vocabulary=TOKENIZER.vocab_size - 1, layers=1)
    words = character_tokenizer(SYMBOLS[:-1])
    save_reward_model(tmp_path / "fewer", new_reward_model(trunk, jax.random.key(0)), words)
    with pytest.raises(UserError, match=r"has 20 token ids, the policy's tokenizer 21"):
        sampling_trainer(asked(place, rewards=rewarded(tmp_path, "fewer")))


# ---- what GRPO shares


def test_grpo_refuses_numbers_that_cannot_be(place):
    nan = RewardOptions(missing_eos_penalty=float("nan"))
    with pytest.raises(UserError, match="missing_eos_penalty is nan: it must be finite"):
        sampling_trainer(asked(place, GRPOOptions, rewards=nan), [ones])
    with pytest.raises(UserError, match="seed is -1: it must lie between 0"):
        sampling_trainer(asked(place, GRPOOptions, run=dict(seed=-1)), [ones])


# ---- measuring


def test_a_greedy_policy_can_be_measured(place):
    likeliest = asked(place, sampling=dict(temperature=0.0))
    with pytest.raises(UserError, match="a greedy policy cannot explore"):
        sampling_trainer(likeliest, [ones])
    source = sampling_trainer(likeliest, [ones], greedy=True).rollouts
    found = source.collect(POLICY, 0)
    for first, second in (found.completions[:2], found.completions[2:]):
        assert first == second  # both answers to a prompt are the likeliest
