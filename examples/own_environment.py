"""An environment of your own, from its class to a trained policy: python -m examples.own_environment."""

import gymnasium as gym
import numpy as np

import proximo


class Walk(gym.Env):
    """Walk home, up to ten steps to the right. Each step costs 0.1, home pays 1; the limit is 100 steps."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (1,), np.float32)  # where one stands
    action_space = gym.spaces.Discrete(2)  # left, right

    def reset(self, *, seed=None, options=None):
        """Start a new episode, somewhere in the middle."""
        super().reset(seed=seed)
        self.place, self.steps = self.np_random.integers(-3, 4), 0
        return self.observation(), {}

    def step(self, action):
        """Take one step to the left (0) or to the right (1)."""
        self.place = max(self.place + (1 if action == 1 else -1), -10)
        self.steps += 1
        home = self.place >= 10
        return self.observation(), 1.0 if home else -0.1, bool(home), self.steps >= 100, {}

    def observation(self):
        """The observation, [1]."""
        return np.array([self.place], np.float32)


gym.register("Walk-v0", Walk)  # for the command line: proximo train examples.own_environment:Walk-v0

if __name__ == "__main__":
    run = proximo.train(Walk, steps=20_000, seed=0, progress=True)
    print(run.evaluate(episodes=100))  # 10 steps from the middle: about 1 - 9 * 0.1 = 0.1

    agent = proximo.load(run.folder)
    observation, _ = Walk().reset(seed=1)
    print("from", observation, "it goes", ("left", "right")[agent.act(observation)])
