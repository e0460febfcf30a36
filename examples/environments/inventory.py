"""A shop orders stock: python -m examples.environments.inventory

On the command line: proximo train examples/environments/inventory.py:Inventory
"""

import gymnasium as gym
import numpy as np

DEMAND = (60, 50, 50, 60, 90, 140, 0)  # pieces that customers want on average, Monday to Sunday
BOX = 25  # pieces
ROOM = 300  # pieces that the shop can store
DAYS = 91


class Inventory(gym.Env):
    """Order a product every evening, with enough stock to sell and little left over.

    Observation  pieces in stock, weekday (0 is Monday)
    Action       boxes of 25 pieces to order, 0 to 8; they arrive before the shop opens
    Reward       the day's profit in euros: a piece costs 10 and sells for 16, a delivery costs 80, and a
                 piece that stays overnight costs 0.40
    End          a limit of 13 weeks; the shop itself continues: `truncated`
    """

    observation_space = gym.spaces.Box(np.array([0, 0]), np.array([ROOM, 6]), dtype=np.float64)
    action_space = gym.spaces.Discrete(9)

    def reset(self, *, seed=None, options=None):
        """Start on a Monday morning, with a random stock of up to 200 pieces."""
        super().reset(seed=seed)
        self.stock, self.day = int(self.np_random.integers(0, 201)), 0
        return self.observation(), {}

    def step(self, action):
        """Receive a delivery, then sell for one day."""
        ordered = min(int(action) * BOX, ROOM - self.stock)  # what finds no room is not bought
        demand = int(self.np_random.poisson(DEMAND[self.day % 7]))
        sold = min(self.stock + ordered, demand)
        self.stock += ordered - sold
        self.day += 1
        profit = 16.0 * sold - 10.0 * ordered - 80.0 * (ordered > 0) - 0.4 * self.stock
        return self.observation(), profit, False, self.day >= DAYS, {}

    def observation(self):
        """The observation, [2]."""
        return np.array([self.stock, self.day % 7], np.float64)


def heuristic(observation):
    """Rule of thumb: order up to the mean demand of today and tomorrow."""
    stock, weekday = observation
    wanted = DEMAND[int(weekday)] + DEMAND[(int(weekday) + 1) % 7]
    return int(np.clip(np.ceil((wanted - stock) / BOX), 0, 8))


def optimal_policy():
    """The optimal orders (largest expected return) of a shop without end, by dynamic programming.

    It goes back day by day until the end is so far away that it changes no order.
    """
    counts, stock = np.arange(ROOM + 1), np.arange(ROOM + 1)
    left = np.maximum(stock[:, None] - counts, 0)
    sold = stock[:, None] - left
    value, best = np.zeros(ROOM + 1), np.zeros((7, ROOM + 1), int)
    for day in reversed(range(DAYS)):
        chance = poisson(DEMAND[day % 7], counts)
        worth = ((16.0 * sold - 0.4 * left + value[left]) * chance).sum(axis=1)  # after the delivery
        options = []
        for action in range(9):
            ordered = np.minimum(action * BOX, ROOM - stock)
            options.append(worth[stock + ordered] - 10.0 * ordered - 80.0 * (ordered > 0))
        value, best[day % 7] = np.max(options, axis=0), np.argmax(options, axis=0)
    return lambda observation: int(best[int(observation[1]), int(observation[0])])


def poisson(mean, counts):
    """The probability of each count; the last one includes all larger counts."""
    logs = np.cumsum(np.log(np.maximum(counts, 1)))
    chance = np.exp(counts * np.log(mean) - mean - logs) if mean else 1.0 * (counts == 0)
    chance[-1] += 1.0 - chance.sum()
    return chance


if __name__ == "__main__":
    import proximo

    run = proximo.train(Inventory, steps=100_000, seed=0, progress=True)
    print(run.evaluate(episodes=100))
