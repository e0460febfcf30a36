"""A field is watered for a harvest months later: python -m examples.environments.irrigation

On the command line: proximo train examples/environments/irrigation.py:Irrigation
"""

import gymnasium as gym
import numpy as np

DAYS = 120
SOIL = 150.0  # millimetres of water that the soil holds; more runs off
DRY, WET = 60.0, 130.0  # millimetres between which plants grow best
RAIN_CHANCE, RAIN = 0.15, 15.0  # of a day; millimetres on average when it rains


class Irrigation(gym.Env):
    """Water a field for 120 days. Income and the bill for water both come on the day of the harvest.

    Observation  day, water in the soil in millimetres, harvest so far in kilograms, water used so far in
                 millimetres
    Action       water to give, 0 to 4 times 5 millimetres
    Reward       0 until the harvest, then euros: 0.25 for a kilogram, less 1.20 for a millimetre of water
    End          the harvest: `terminated`
    """

    observation_space = gym.spaces.Box(0.0, np.array([DAYS, SOIL, 20e3, 20.0 * DAYS]), dtype=np.float64)
    action_space = gym.spaces.Discrete(5)

    def reset(self, *, seed=None, options=None):
        """Start on the day of sowing, after some rain."""
        super().reset(seed=seed)
        self.day, self.harvest, self.used = 0, 0.0, 0.0
        self.soil = self.np_random.uniform(40.0, 120.0)
        return self.observation(), {}

    def step(self, action):
        """Water the field, then let it grow for one day."""
        water = 5.0 * int(action)
        rain = self.np_random.exponential(RAIN) if self.np_random.random() < RAIN_CHANCE else 0.0
        self.soil = min(self.soil + water + rain, SOIL)
        self.harvest += growth(self.day, self.soil)
        self.soil = max(self.soil - thirst(self.day), 0.0)
        self.used += water
        self.day += 1
        over = self.day == DAYS
        return self.observation(), 0.25 * self.harvest - 1.2 * self.used if over else 0.0, over, False, {}

    def observation(self):
        """The observation, [4]."""
        return np.array([self.day, self.soil, self.harvest, self.used], np.float64)


def growth(day, soil):
    """Growth of one day in kilograms: most in the middle of the season, less on dry or wet soil."""
    best = 150.0 * np.sin(np.pi * (day + 0.5) / DAYS)
    return best * np.where(soil > WET, 0.5, np.minimum(soil / DRY, 1.0))


def thirst(day):
    """Millimetres of water that plants and sun use in a day: 3 in spring, 6 in summer."""
    return 3.0 + 3.0 * np.sin(np.pi * (day + 0.5) / DAYS)


def heuristic(observation):
    """Rule of thumb: give 20 millimetres whenever the soil is dry."""
    return 4 if observation[1] < DRY else 0


def optimal_policy():
    """The optimal watering (largest expected return), by dynamic programming in half millimetres.

    Each day's growth and water are counted on that day. The sum is the same as at the harvest.
    """
    grid = np.linspace(0.0, SOIL, 301)
    rain = np.array([0.0, *(-RAIN * np.log(1.0 - (np.arange(40) + 0.5) / 40))])  # none, or one of 40 amounts
    chance = np.array([1.0 - RAIN_CHANCE, *np.full(40, RAIN_CHANCE / 40)])
    value, best = np.zeros(len(grid)), np.zeros((DAYS, len(grid)), int)
    for day in reversed(range(DAYS)):
        options = []
        for action in range(5):
            soil = np.minimum(grid[:, None] + 5.0 * action + rain, SOIL)
            after = np.interp(np.maximum(soil - thirst(day), 0.0), grid, value)
            options.append(((0.25 * growth(day, soil) + after) * chance).sum(axis=1) - 6.0 * action)
        value, best[day] = np.max(options, axis=0), np.argmax(options, axis=0)
    return lambda observation: int(best[int(observation[0]), round(observation[1] * 2)])


if __name__ == "__main__":
    import proximo

    run = proximo.train(Irrigation, steps=100_000, seed=0, progress=True)
    print(run.evaluate(episodes=100))
