"""The tasks on which masks are compared with sb3-contrib's."""

import numpy as np
import pytest

from benchmarks.masks_task import TASKS
from proximo.envs.check import check
from proximo.envs.vector.masks import Masks


@pytest.mark.parametrize("task", TASKS)
def test_the_action_that_is_the_state_is_legal_and_as_many_others_are_not_as_are_said(task):
    env = TASKS[task]()
    observation, _ = env.reset(seed=0)
    masks, rewards = Masks(env.action_space), []
    for _ in range(100):
        legal = env.action_masks()
        assert legal.size - legal.sum() == env.illegal == TASKS[task].illegal
        assert legal[masks._starts(1) + np.ravel(observation)].all()
        observation, reward, _, over, _ = env.step(observation)
        rewards.append(reward)
    assert over and rewards == [1.0] * 100
    assert [found for found in check(TASKS[task], steps=150) if found.level == "error"] == []
