"""A camera picture and a category in one observation: python -m examples.parcels

On the command line: proximo train examples/parcels.py:Parcels --steps 20k
"""

import gymnasium as gym
import numpy as np

import proximo

SIZE, CUSTOMERS, BELTS, PARCELS = 6, 9, 3, 5


class Parcels(gym.Env):
    """Put five parcels on the right belt: the customer's, or the last one for what is fragile.

    Observation  a camera picture, in which a bright sticker means fragile, and whose parcel it is
    Action       a belt
    Reward       1 for the right belt, 0 for another one; so the best return is 5
    """

    observation_space = gym.spaces.Dict(
        camera=gym.spaces.Box(0, 255, (SIZE, SIZE), np.uint8),
        customer=gym.spaces.Discrete(CUSTOMERS),
    )
    action_space = gym.spaces.Discrete(BELTS + 1)

    def reset(self, *, seed=None, options=None):
        """Start a new episode with its first parcel."""
        super().reset(seed=seed)
        self.left = PARCELS
        return self.next_parcel(), {}

    def step(self, action):
        """Put the parcel on a belt."""
        right = action == (BELTS if self.fragile else self.customer % BELTS)
        self.left -= 1
        return self.next_parcel(), float(right), self.left == 0, False, {}

    def next_parcel(self):
        """The observation of a new parcel."""
        self.customer, self.fragile = self.np_random.integers(CUSTOMERS), self.np_random.random() < 0.5
        camera = self.np_random.integers(60, 160, (SIZE, SIZE), np.uint8)
        if self.fragile:
            row, column = self.np_random.integers(SIZE - 2, size=2)
            camera[row : row + 2, column : column + 2] = 255
        return {"camera": camera, "customer": self.customer}


if __name__ == "__main__":
    run = proximo.train(Parcels, steps=20_000, seed=0, progress=True)
    print(run.evaluate(episodes=100))  # about 4.8 of 5
