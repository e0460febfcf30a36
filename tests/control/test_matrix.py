"""Every kind of observation, of action, of network and of mask, together in one small environment.

Each is in one of these combinations by itself, and any two meet in one, perhaps inside a Dict. All of them
are tried by `python -m tests.matrix`, which takes hours.
"""

from functools import partial
from itertools import combinations as twos

import gymnasium as gym
import pytest
from gymnasium import spaces
from probes import small

from proximo import evaluate, training
from tests.combinations import CONTAINED, DISTRIBUTIONS, check, every_combination, pairs


@pytest.mark.parametrize("combination", pairs(), ids=" | ".join)
def test_updates_start_from_the_policy_that_acted_and_garbage_in_masked_rows_and_before_starts_is_not_seen(
    combination,
):
    check(*combination)


def test_any_two_kinds_meet_and_each_is_by_itself():
    chosen = pairs()
    meet = [[{kind, *CONTAINED.get(kind, ())} for kind in one] for one in chosen]
    for (a, one), (b, other) in (two for whole in every_combination() for two in twos(enumerate(whole), 2)):
        if not (one in DISTRIBUTIONS and b == 2):  # whatever the network, a distribution reads its numbers
            assert any(one in kinds[a] and other in kinds[b] for kinds in meet), (one, other)
        assert any(single[a] == one for single in chosen)
    assert len(chosen) < 30


class Sign(gym.Env):
    """A text names the button to press; one step an episode. With `blank` it says nothing."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = spaces.Dict(sign=spaces.Text(5, min_length=0, charset="delrg n"))
    action_space = spaces.Discrete(2)

    def __init__(self, blank=False):
        self.blank = blank

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.right = int(self.np_random.integers(2))
        return self.told(), {}

    def told(self):
        return {"sign": "" if self.blank else ("red", "green")[self.right]}

    def step(self, action):
        return self.told(), float(action == self.right), True, False, {}


@pytest.mark.parametrize("flatten", [False, True], ids=["read", "one-hot"])
def test_a_text_that_names_the_right_button_is_read_and_a_blank_one_is_a_coin(flatten):
    config = small(Sign, steps=1500, horizon=32, embedding=4, text_features=8, flatten=flatten)
    *_, last = training(config)
    assert evaluate(last.agent, Sign, episodes=50).mean > 0.95
    assert abs(evaluate(last.agent, partial(Sign, blank=True), episodes=50).mean - 0.5) < 0.25
    assert last.agent.act({"sign": "red"}) == 0 and last.agent.act({"sign": ("green", "red")}).tolist() == [
        1,
        0,
    ]
    with pytest.raises(Exception, match="the character 'x' in its observation"):
        last.agent.act({"sign": "xx"})
