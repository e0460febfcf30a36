"""PPO and GRPO of language models: where they begin, what stays invariant, and how they go on."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policies import FREE, PROMPTS, TOKENIZER, count_of_a, distance, grpo, options, ppo, rollouts
from small_models import small_model

from proximo.core import AdaptiveKL, Centred, Clip, DualClip, LeaveOneOut, QuadraticPenalty
from proximo.errors import UserError
from proximo.language.train.job import training
from proximo.language.train.optimise import Optimisation
from proximo.language.train.options import GRPOOptions, PPOOptions, RewardOptions, checked_ppo
from proximo.runs.named import named_leaves


def test_before_the_first_step_the_policy_is_the_reference_and_the_sampler():
    # Trap 2 and 1: KL 0, ratio 1, the sampler's log-probabilities, at a temperature that is not 1.
    first = next(training(ppo(options(sampling=dict(temperature=0.7)))))
    assert abs(first.metrics["objective/kl"]) < 1e-4
    assert first.metrics["val/first_ratio"] == pytest.approx(1.0, abs=1e-5)
    assert first.metrics["val/sampler_gap"] < 1e-4


def test_a_reference_that_is_another_model_is_noticed():
    trainer = ppo(options())
    trainer.reference = small_model(seed=5, layers=1)
    with pytest.raises(UserError, match=r"objective/kl_per_token is .* before the first step"):
        next(training(trainer))


def test_a_sampler_of_another_temperature_is_noticed():
    trainer = ppo(options())
    trainer.rollouts.sampling = replace(trainer.rollouts.sampling, temperature=2.0)
    with pytest.raises(UserError, match="val/sampler_gap"):
        next(training(trainer))


@pytest.mark.parametrize("make", [ppo, grpo])
def test_in_fewer_bits_the_sampler_computes_as_the_learner(make):
    class Seen(Exception):
        """What the sampler was given."""

    def seen(model, number):
        raise Seen(model.embedding.dtype)

    kind = GRPOOptions if make is grpo else PPOOptions
    for precision in ("bfloat16", "float32"):
        trainer = make(options(kind, optimisation=dict(precision=precision)))
        trainer.rollouts.collect = seen
        with pytest.raises(Seen, match=precision):
            next(training(trainer))


def test_in_fewer_bits_the_sampler_agrees_with_the_learner():
    asked = options(
        optimisation=dict(precision="bfloat16"), sampling=dict(response_length=16, batch_size=16), episodes=16
    )
    first = next(training(ppo(asked, model=small_model(layers=4, size=128))))
    assert first.metrics["val/sampler_gap"] < 0.015  # a sampler in float32 is 0.06 away
    assert abs(first.metrics["objective/kl"]) < 1e-4


@pytest.mark.parametrize(
    ("backend", "precision", "rounding", "fault"),
    [("cpu", "float32", 5e-4, 5e-3), ("gpu", "float32", 5e-3, 5e-2), ("gpu", "bfloat16", 5e-2, 0.2)],
)
def test_how_far_rounding_may_lead_depends_on_the_numbers(monkeypatch, backend, precision, rounding, fault):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    sound = {"objective/kl_per_token": 0.0, "val/first_ratio": 1.0}
    check = rollouts(options()).check_first
    check(sound | {"val/sampler_gap": rounding}, precision)
    with pytest.raises(UserError, match=r"val/sampler_gap is .* before the first step"):
        check(sound | {"val/sampler_gap": fault}, precision)


def test_groups_that_are_all_equal_from_the_start_are_no_fault():
    asked = options(GRPOOptions, skip_equal_groups=True, sampling=dict(batch_size=2, samples=6))
    run = list(training(grpo(asked, functions=[lambda completions: [1000.1] * len(completions)])))
    assert len(run) == 3
    for name, value in {"val/ratio": 1.0, "val/first_ratio": 1.0, "objective/equal_groups": 1.0}.items():
        assert [it.metrics[name] for it in run] == [value] * 3


@pytest.mark.parametrize("make", [ppo, grpo])
def test_responses_that_all_hit_the_limit_are_no_fault(make):
    kind = GRPOOptions if make is grpo else PPOOptions
    trainer = make(options(kind, rewards=RewardOptions(truncated="mask")))
    trainer.rollouts.sampling = replace(trainer.rollouts.sampling, eos_ids=())
    run = list(training(trainer))
    assert [it.metrics["val/finished"] for it in run] == [0.0] * 3
    assert [it.metrics["val/ratio"] for it in run] == [1.0] * 3


def test_minibatches_without_tokens_do_not_pull_the_ratio():
    # Only the answers to "a" differ: two of the eight minibatches, of one response each, have tokens.
    asked = options(
        GRPOOptions,
        skip_equal_groups=True,
        steps=dict(minibatches=8),
        optimisation=dict(learning_rate=1e-6),
    )

    def reward(prompts, completions):
        return [float(place % 2) if prompt == "a" else 0.0 for place, prompt in enumerate(prompts)]

    for iteration in training(grpo(asked, functions=[reward])):
        assert iteration.metrics["val/ratio"] == pytest.approx(1.0, abs=1e-3)
        assert iteration.metrics["objective/equal_groups"] == 0.75


def test_groups_are_equal_by_their_scores_whatever_was_paid_for_their_kl():
    # The first scores differ, and move the policy; from then on each response has a KL of its own.
    calls = iter(range(3))

    def reward(completions):
        first = next(calls) == 0
        return [float(place % 2) if first else 1.0 for place in range(len(completions))]

    asked = options(GRPOOptions, beta=0.5, kl_in="reward", optimisation=dict(learning_rate=1e-2))
    run = list(training(grpo(asked, functions=[reward])))
    assert [it.metrics["objective/equal_groups"] for it in run] == [0.0, 1.0, 1.0]
    assert abs(run[-1].metrics["objective/kl"]) > 1e-3


@pytest.mark.parametrize(
    "make",
    [
        lambda: ppo(options()),
        lambda: ppo(options(critic=dict(critic_warmup=1), kl=AdaptiveKL(target=100.0, beta=1.0))),
        lambda: ppo(options(critic=dict(critic="two")), critics=[small_model(layers=1)] * 2),
        lambda: grpo(options(GRPOOptions)),
    ],
)
def test_going_on_from_a_state_is_the_uninterrupted_run(make):
    whole = list(training(make()))
    again = list(training(make(), whole[0].state, 1))
    assert distance(whole[-1].state, again[-1].state) == 0.0
    timeless = [{k: v for k, v in it.metrics.items() if k != "eps"} for it in (whole[-1], again[-1])]
    assert timeless[0] == timeless[1]


def test_checkpoints_hold_what_they_always_did():
    """A run of an earlier version goes on: by these names its checkpoints have all that is asked for."""
    carried = {"kl.0", "scores.count", "scores.mean", "scores.m2"}
    for trainer, more in ((ppo(options()), carried), (grpo(options(GRPOOptions)), set())):
        weights = set(named_leaves(trainer.first))
        moments = {f"{one}.{name}" for one in ("mu", "nu") for name in weights} | {"count"}
        expected = {f"weights.{name}" for name in weights} | {f"moments.{name}" for name in moments} | more
        assert set(named_leaves(trainer.begin())) == expected


def test_it_learns_what_is_rewarded():
    # `a` is 1 of 16 tokens; after 40 iterations it should be most of the answer.
    trainer = ppo(options(episodes=64 * 40, sampling=dict(batch_size=64), kl=FREE))
    scores = [it.metrics["objective/scores"] for it in training(trainer)]
    assert np.mean(scores[:3]) < 1.0 and np.mean(scores[-3:]) > 3.0


def test_a_group_teaches_as_well():
    trainer = grpo(options(GRPOOptions, episodes=64 * 40, beta=0.0, sampling=dict(batch_size=8, samples=8)))
    scores = [it.metrics["objective/scores"] for it in training(trainer)]
    assert np.mean(scores[:3]) < 1.0 and np.mean(scores[-3:]) > 3.0


def test_a_tether_holds():
    def last_kl(kl):
        run = ppo(options(episodes=64 * 15, sampling=dict(batch_size=64), kl=kl))
        return list(training(run))[-1].metrics["objective/kl"]

    assert last_kl(replace(FREE, beta=2.0)) < 0.5 * last_kl(FREE)


def test_an_adaptive_price_follows_the_kl():
    run = list(training(ppo(options(kl=AdaptiveKL(target=100.0, beta=1.0)))))
    # Far below the target: halved after each iteration but the first, whose KL is 0 by definition.
    assert [it.metrics["objective/kl_coefficient"] for it in run] == [1.0, 1.0, 0.5]


def one_step(**given):
    """The state after one iteration."""
    return next(training(ppo(options(**given)))).state


def test_micro_batches_do_not_change_the_step():
    # Traps 6 and 8: normalised by the minibatch's tokens, whatever goes through the model at once.
    whole = one_step(steps=dict(minibatches=2))
    parts = one_step(steps=dict(minibatches=2, micro_batch_tokens=32))
    assert distance(whole.weights, parts.weights) < 1e-5


def test_responses_of_like_length_take_the_same_step_together():
    steps, sampling = dict(minibatches=2, micro_batch_tokens=40), dict(response_length=12, batch_size=8)
    apart = one_step(sampling=sampling, steps=steps)
    grouped = one_step(sampling=sampling, steps=dict(group_by_length=True, **steps))
    assert distance(apart.weights, grouped.weights) < 1e-5


def test_gradient_checkpointing_does_not_change_the_step():
    plain = one_step()
    less = one_step(optimisation=dict(gradient_checkpointing=True))
    assert distance(plain.weights, less.weights) < 1e-5


def test_bfloat16_computes_about_the_same_and_keeps_float32_weights():
    low = one_step(optimisation=dict(precision="bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(low.weights)} == {jnp.dtype("float32")}
    assert distance(low.weights, one_step().weights) < 0.1


def test_adapters_alone_learn_and_off_they_are_the_reference():
    trainer = ppo(options(), lora=2)
    learned = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(trainer.first)}
    assert all(".up" in name or ".down" in name or ".score" in name for name in learned)
    states = [it.state for it in training(trainer)]
    assert distance(states[-1].weights, trainer.first) > 1e-4
    policy = eqx.combine(states[-1].weights, trainer.frozen)
    base = policy.model.blocks[0].attention.query.base.weight
    np.testing.assert_array_equal(base, small_model(layers=1).blocks[0].attention.query.weight)


def test_a_critic_of_its_own():
    trainer = ppo(options(critic=dict(critic="separate")), critics=[small_model(layers=1)])
    states = [it.state for it in training(trainer)]
    assert distance(states[-1].weights.critics, trainer.first.critics) > 1e-4


def test_while_the_critic_warms_up_the_actor_stays():
    trainer = ppo(options(critic=dict(critic_warmup=2), optimisation=dict(weight_decay=0.1)))
    states = [it.state for it in training(trainer)]
    for state in states[:2]:
        assert distance(state.weights.model, trainer.first.model) == 0.0
        assert distance(state.weights.critics, trainer.first.critics) > 0.0
    assert distance(states[2].weights.model, trainer.first.model) > 0.0


def test_while_the_critic_warms_up_the_price_stays():
    # The actor is held in the first two iterations, so the third one's responses are still its first words:
    # their KL of 0 says nothing.
    asked = options(critic=dict(critic_warmup=2), kl=AdaptiveKL(target=100.0, beta=1.0))
    asked = replace(asked, episodes=asked.episodes // 3 * 4)
    assert [float(it.state.kl.beta) for it in training(ppo(asked))] == [1.0, 1.0, 1.0, 0.5]


def test_after_the_warm_up_the_actors_first_step_is_a_first_step():
    # After two steps of zeros Adam's third would be 0.1 / (1 - 0.9^3) / sqrt(0.001 / (1 - 0.999^3)) = 0.64 of
    # it, and the next ones larger and larger.
    given = dict(steps=dict(epochs=1), optimisation=dict(learning_rate=1e-2, schedule="constant"))
    states = [it.state for it in training(ppo(options(critic=dict(critic_warmup=2), **given)))]
    fresh = ppo(options(**given))
    begun = states[1]._replace(moments=fresh.begin().moments)
    by_hand = fresh.iterate(begun, 2).state
    assert distance(by_hand.weights.model, states[2].weights.model) < 1e-6
    assert distance(states[1].weights.model, states[2].weights.model) == pytest.approx(1e-2, rel=0.1)


def test_the_value_head_says_zero_at_first():
    # Trap 6: the first advantages are the rewards' alone.
    trainer = ppo(options())
    (critic,) = trainer.first.critics
    assert not np.any(critic.score.weight) and not np.any(critic.score.bias)


def test_past_the_target_kl_no_step_is_taken():
    far = dict(optimisation=dict(learning_rate=1.0))
    stopped = one_step(steps=dict(target_kl=1e-6, epochs=4), **far)
    once = one_step(steps=dict(epochs=1), **far)
    # The first step begins at KL 0 and is taken; the second one sees where it led, and is not.
    assert distance(stopped.weights, once.weights) < 1e-5


@pytest.mark.parametrize("objective", [Clip(0.1), DualClip(0.2, 3.0), QuadraticPenalty(0.2)])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_every_objective_takes_steps(objective, ratio):
    state = one_step(steps=dict(objective=objective, ratio=ratio))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.weights))


@pytest.mark.parametrize(
    "given",
    [
        dict(advantage=Centred(), steps=dict(aggregation="length")),
        dict(advantage=LeaveOneOut(), kl_in="reward"),
        dict(skip_equal_groups=True, soft_overlong=2, rewards=RewardOptions(truncated="mask")),
    ],
)
def test_the_family_of_grpo(given):
    for iteration in training(grpo(options(GRPOOptions, **given))):
        assert all(np.isfinite(value) for value in iteration.metrics.values())


def test_prompts_wait_their_turn_and_answers_to_one_stand_side_by_side():
    asked = options(GRPOOptions, sampling=dict(batch_size=2, samples=3))
    rollout = rollouts(asked).collect(small_model(layers=1), 0)
    assert rollout.prompts[:3] == [rollout.prompts[0]] * 3
    assert {rollout.prompts[0], rollout.prompts[3]} < {prompt.text for prompt in PROMPTS}


def test_scores_are_those_of_the_completions():
    rollout = rollouts(options()).collect(small_model(layers=1), 0)
    assert rollout.score.tolist() == count_of_a(rollout.completions)
    answers = rollout.responses.ids[:, rollout.width :]
    ids = [row[:n].tolist() for row, n in zip(answers, rollout.responses.lengths, strict=True)]
    assert [TOKENIZER.decode(row) for row in ids] == rollout.completions


def test_a_missing_end_costs_what_was_asked():
    asked = options(rewards=RewardOptions(missing_eos_penalty=5.0), sampling=dict(response_length=2))
    first = next(training(ppo(asked, functions=[lambda completions: [0.0] * len(completions)])))
    # Whoever hit the limit pays: scores are 0, the rewards -5 for the share that did not finish.
    unfinished = 1 - first.metrics["val/finished"]
    assert unfinished > 0 and first.metrics["objective/rlhf_reward"] == pytest.approx(
        -5 * unfinished, abs=1e-4
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (dict(sampling=dict(top_k=50)), "top_k is 50: tokens would be sampled from another distribution"),
        (dict(sampling=dict(top_p=0.9)), "top_p is 0.9"),
        (dict(sampling=dict(temperature=0.0)), "temperature is 0.0"),
        (dict(steps=dict(minibatches=3)), "minibatches is 3: it must divide the 8 responses"),
        (dict(critic=dict(critic_from="x")), "critic_from needs a separate critic"),
        (dict(critic=dict(gae_lambda=1.5)), "gae_lambda is 1.5"),
        (dict(episodes=0), "episodes is 0"),
        (dict(optimisation=dict(learning_rate=-1.0)), "learning_rate is -1.0"),
    ],
)
def test_what_cannot_be_is_refused(given, says):
    with pytest.raises(UserError, match=says.replace("(", "\\(")):
        checked_ppo(options(**given))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda completions: 1 / 0, "raised ZeroDivisionError"),
        (lambda completions: [float("nan")] * len(completions), "returned nan for completion 0"),
        (lambda completions: [1.0], "returned a list of length 1 for a batch of 8"),
        (lambda completions: ["good"] * len(completions), "returned 'good' for completion 0"),
    ],
)
def test_a_reward_function_that_fails_is_told_with_its_prompt(function, says):
    with pytest.raises(UserError, match=says) as error:
        next(training(ppo(options(), functions=[function])))
    assert "\n" not in str(error.value)


def test_adams_epsilon_is_the_one_of_the_reference_code():
    assert Optimisation().adam_epsilon == 1e-5  # trap 12


def test_the_price_is_paid_once():
    # In the reward: the loss has no KL. In the loss: the reward has none, and so no non-score part.
    paid = {where: list(training(ppo(options(kl_in=where)))) for where in ("reward", "loss")}
    assert any(it.metrics["objective/non_score_reward"] != 0 for it in paid["reward"])
    assert all(it.metrics["objective/non_score_reward"] == 0 for it in paid["loss"])
    assert distance(paid["reward"][1].state.weights, paid["loss"][1].state.weights) > 0


def test_a_pad_token_that_is_the_end_token_changes_nothing():
    # Trap 3: a tokenizer without PAD pads with EOS; what is an end is known from lengths alone.
    trainer, other = ppo(options()), ppo(options())
    other.rollouts.tokenizer = replace(TOKENIZER, pad_id=TOKENIZER.eos_id)
    a, b = (next(training(each)) for each in (trainer, other))
    assert distance(a.state.weights, b.state.weights) == 0.0
