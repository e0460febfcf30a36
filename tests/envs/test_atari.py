"""Atari: what an id means, and ale-py's own vector as the engine steps it."""

import numpy as np
import pytest

pytest.importorskip("ale_py")

import proximo
from proximo import preset
from proximo.cli import main
from proximo.control.screen import make_drawn, render_frame
from proximo.core import Clip
from proximo.envs import atari, make_envs
from proximo.envs.check import check
from proximo.envs.make import find_spec
from proximo.errors import UserError
from proximo.policies.convolution import A3c, Nature


@pytest.mark.parametrize(
    "name", ["Pong", "ALE/Pong-v5", "Pong-v4", "Pong-v0", "PongNoFrameskip-v4", "PongDeterministic-v4"]
)
def test_every_id_means_the_frames_of_the_papers(name):
    assert atari.game_of(find_spec(name), {}) == ("pong", 4, 0.0)


def test_what_is_given_by_name_holds_and_is_said():
    game = atari.game_of(find_spec("ALE/MsPacman-v5"), {"repeat_action_probability": 0.25, "frameskip": 3})
    assert atari.in_words(game) == (
        "Atari: the game ms_pacman, actions held for 3 frames and sticky with probability 0.25"
    )


def played(steps, seeds=(7, 8), **options):
    rng, rows = np.random.default_rng(0), []
    with make_envs("Breakout", len(seeds), vectorization_mode="vector_entry_point", **options) as envs:
        envs.life_loss = True
        first = envs.reset(seeds)
        for _ in range(steps):
            step = envs.step(rng.integers(0, 4, len(seeds)))
            rows.append((step.reward.copy(), step.terminated, step.over, envs.lives))
    return first, rows


def test_a_life_is_lost_where_ale_py_says_so_and_games_end_with_the_last_one():
    first, rows = played(260)
    assert first.shape == (2, 4, 84, 84) and first.dtype == np.uint8
    terminated, over, lives = (np.stack([row[index] for row in rows]) for index in (1, 2, 3))
    fell = np.diff(np.concatenate([[[5, 5]], lives]), axis=0) < 0
    np.testing.assert_array_equal(terminated, fell)
    np.testing.assert_array_equal(over, fell & (lives == 0))
    assert over.any() and terminated.sum() > over.sum()

    from ale_py.vector_env import AtariVectorEnv

    told = AtariVectorEnv(
        "breakout", 2, noop_max=30, reward_clipping=False, repeat_action_probability=0.0, life_loss_info=True
    )
    told.reset(seed=np.array([7, 8]))
    rng = np.random.default_rng(0)
    for row in range(100):
        _, reward, lost, _, _ = told.step(rng.integers(0, 4, 2))
        np.testing.assert_array_equal(lost, terminated[row])
        np.testing.assert_array_equal(reward, rows[row][0])


def test_each_environment_has_its_own_seed():
    first, _ = played(1, seeds=(3, 4))
    again, _ = played(1, seeds=(9, 4))
    assert np.array_equal(first[1], again[1])


@pytest.mark.parametrize(("name", "value"), [("episodic_life", True), ("reward_clipping", True)])
def test_options_that_do_not_do_what_they_seem_to_are_refused(name, value):
    with pytest.raises(UserError, match=f"{name} is not an option of Atari games here: .*--"):
        make_envs("Pong", 1, vectorization_mode="vector_entry_point", env_kwargs={name: value})


def test_the_papers_preset_is_table_5():
    config = preset("paper", "ALE/Pong-v5")
    update = config.update
    assert (config.num_envs, config.horizon, update.epochs, update.minibatch_size) == (8, 128, 3, 32 * 8)
    assert (update.gamma, update.gae_lambda, update.learning_rate) == (0.99, 0.95, 2.5e-4)
    assert (update.objective, update.anneal, update.anneal_clip) == (Clip(0.1), True, True)
    assert update.value_coefficient * 0.5 == 1.0 and update.entropy_coefficient == 0.01
    assert config.network.image_network == A3c() and config.life_loss and update.clip_rewards
    other = preset("ppo2", "PongNoFrameskip-v4")
    assert other.update.epochs == 4 and other.network.image_network == Nature()
    assert preset("default", "Pong") == preset("ppo2", "Pong")


def test_presets_of_other_tasks_are_refused():
    with pytest.raises(
        UserError, match="the preset trpo is not for Atari games: take one of a2c, default, paper, ppo2"
    ):
        preset("trpo", "Pong")
    with pytest.raises(UserError, match="the preset ppo2 is for Atari games"):
        preset("ppo2", "CartPole-v1")


def test_a_sticky_game_is_evaluated_as_it_was_trained():
    # 0.25 is what Gymnasium's registry has for the id, and is not what the id means here: it has to be kept.
    sticky = {"repeat_action_probability": 0.25}
    with make_envs("ALE/Pong-v5", 1, vectorization_mode="vector_entry_point", env_kwargs=sticky) as envs:
        assert envs.description.kwargs == sticky and envs.description.obstacle is None
        assert envs.found.endswith("sticky with probability 0.25")
    with make_envs("Pong", 1, vectorization_mode="vector_entry_point") as envs:
        assert (envs.description.name, envs.description.kwargs) == ("ALE/Pong-v5", {})


def test_the_newest_frame_of_the_first_game_is_drawn():
    with make_drawn("Pong", "rgb_array") as envs:
        obs = envs.reset([0])
        picture = render_frame(envs)
        assert picture.shape == (252, 252, 3) and picture.dtype == np.uint8
        np.testing.assert_array_equal(picture[1::3, 1::3, 0], obs[0, -1])
    with pytest.raises(UserError, match="no window here: make a video of it"):
        make_drawn("Pong", "human")


def test_a_run_is_made_evaluated_and_resumed_with_new_games(tmp_path, capsys):
    run, sizes = str(tmp_path / "run"), ["--num-envs", "2", "--horizon", "8", "--minibatch-size", "16"]
    assert main(["train", "Pong", "--preset", "paper", *sizes, "--steps", "32", "--out", run]) == 0
    said = capsys.readouterr()
    assert "Atari: the game pong, actions held for 4 frames and never sticky" in said.err + said.out
    assert main(["train", "--resume", run, "--steps", "48"]) == 0
    assert "ALE/Pong-v5 cannot save its state" in capsys.readouterr().err
    agent = proximo.load(run)
    evaluation = proximo.evaluate(agent, episodes=1)
    assert -21.0 <= evaluation.mean <= 21.0 and evaluation.lengths[0] > 700  # 21 points, four frames a step


def test_a_game_passes_a_check_although_its_vector_sees_other_frames_than_one_environment():
    findings = check("ALE/Breakout-v5", steps=400)  # random play loses five lives in about 180 steps
    assert not [one.message for one in findings if one.level == "error"]
    assert any("returns the reset observation" in one.message for one in findings)
