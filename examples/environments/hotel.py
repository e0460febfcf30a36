"""A hotel sets its prices: python -m examples.environments.hotel

On the command line: proximo train examples/environments/hotel.py:Hotel
"""

import gymnasium as gym
import numpy as np

ROOMS = 80
DAYS = 60
GUESTS = (4.0, 6.0, 9.0)  # a day who would come for nothing, in the low, middle and high season
PAY = (60.0, 80.0, 110.0)  # euros: a price this much higher brings a guest to a third
LOWEST, HIGHEST = 30.0, 400.0  # euros


class Hotel(gym.Env):
    """Sell the rooms of one night during the 60 days before it. The price is set every day.

    Observation  a dictionary: season (0 low, 1 middle, 2 high), rooms left, days left
    Action       the day's price of a room in euros, 30 to 400
    Reward       the day's sales in euros
    End          the night itself; afterwards nothing can be sold: `terminated`
    """

    observation_space = gym.spaces.Dict(
        {
            "season": gym.spaces.Discrete(3),
            "rooms_left": gym.spaces.Box(0, ROOMS, (1,), np.float64),
            "days_left": gym.spaces.Box(0, DAYS, (1,), np.float64),
        }
    )
    action_space = gym.spaces.Box(LOWEST, HIGHEST, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        """Start with all rooms free, in a random season."""
        super().reset(seed=seed)
        self.season, self.rooms, self.days = int(self.np_random.integers(3)), ROOMS, DAYS
        return self.observation(), {}

    def step(self, action):
        """Sell rooms for one day at this price."""
        price = float(np.clip(action[0], LOWEST, HIGHEST))
        guests = int(self.np_random.poisson(demand(self.season, self.days, price)))
        sold = min(guests, self.rooms)
        self.rooms -= sold
        self.days -= 1
        return self.observation(), sold * price, self.days == 0, False, {}

    def observation(self):
        """The observation."""
        return {
            "season": self.season,
            "rooms_left": np.array([self.rooms], np.float64),
            "days_left": np.array([self.days], np.float64),
        }


def demand(season, days_left, price):
    """The mean number of guests at this price; late guests pay more."""
    pay = PAY[season] * (1.5 if days_left <= 10 else 1.0)
    return GUESTS[season] * np.exp(-price / pay)


def heuristic(observation):
    """Rule of thumb: one price per season, at which the mean number of guests just fills the hotel."""
    season = observation["season"]
    return np.array([PAY[season] * np.log(GUESTS[season] * DAYS / ROOMS)], np.float32)


def optimal_policy():
    """The optimal prices (largest expected return), by dynamic programming backwards from the night."""
    prices = np.arange(LOWEST, HIGHEST + 1, 5.0)
    guests, rooms = np.arange(ROOMS + 1), np.arange(ROOMS + 1)
    left = np.maximum(rooms[:, None] - guests, 0)
    sold = rooms[:, None] - left
    logs = np.cumsum(np.log(np.maximum(guests, 1)))
    best = np.zeros((3, DAYS + 1, ROOMS + 1))
    for season in range(3):
        value = np.zeros(ROOMS + 1)
        for days_left in range(1, DAYS + 1):
            mean = demand(season, days_left, prices)[:, None]
            chance = np.exp(guests * np.log(mean) - mean - logs)  # [prices, guests]
            worth = np.dot(chance, sold.T) * prices[:, None] + np.dot(
                chance, value[left].T
            )  # [prices, rooms]
            value, best[season, days_left] = worth.max(axis=0), prices[worth.argmax(axis=0)]

    def policy(observation):
        days_left, rooms_left = int(observation["days_left"][0]), int(observation["rooms_left"][0])
        return np.array([best[observation["season"], days_left, rooms_left]], np.float32)

    return policy


if __name__ == "__main__":
    import proximo

    run = proximo.train(Hotel, steps=100_000, seed=0, progress=True)
    print(run.evaluate(episodes=100))
