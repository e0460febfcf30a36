"""A room is heated: python -m examples.environments.thermostat

On the command line: proximo train examples/environments/thermostat.py:Thermostat
"""

import gymnasium as gym
import numpy as np

STEP = 600.0  # seconds
CAPACITY = 3e6  # joules that warm the room by one degree
LOSS = 70.0  # watts through the walls for each degree between inside and outside
STEPS = 144  # a day


class Thermostat(gym.Env):
    """Keep a room at 21 degrees from 6 to 22 o'clock, and above 16 at night, at low cost.

    Observation  inside and outside temperature in degrees Celsius, hour of the day
    Action       power of the heater in watts, 0 to 2000
    Reward       cents of ten minutes, negative: 30 for a kilowatt-hour, 20 for a degree that is missing
    End          a limit of 24 hours; the next day would follow: `truncated`
    """

    observation_space = gym.spaces.Box(np.array([-40, -40, 0]), np.array([60, 60, 24]), dtype=np.float64)
    action_space = gym.spaces.Box(0.0, 2000.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        """Start at a random hour of a winter day."""
        super().reset(seed=seed)
        self.steps, self.start = 0, int(self.np_random.integers(0, STEPS))
        self.inside = self.np_random.uniform(14.0, 22.0)
        self.mean_outside = self.np_random.uniform(-5.0, 10.0)
        self.cloud = 0.0
        return self.observation(), {}

    def step(self, action):
        """Heat at this power for ten minutes."""
        power = float(np.clip(action[0], 0.0, 2000.0))
        self.inside += STEP / CAPACITY * (power - LOSS * (self.inside - self.outside()))
        self.cloud = 0.95 * self.cloud + self.np_random.normal(0.0, 0.3)
        self.steps += 1
        energy = 30.0 * power * STEP / 3.6e6
        too_cold = max(wanted(self.hour()) - self.inside, 0.0)
        return self.observation(), -energy - 20.0 * too_cold, False, self.steps >= STEPS, {}

    def hour(self):
        """Hour of the day, 0 to 24."""
        return (self.start + self.steps) % STEPS / 6

    def outside(self):
        """Outside temperature in degrees, highest at 15 o'clock."""
        return self.mean_outside + 4.0 * np.cos((self.hour() - 15.0) / 24 * 2 * np.pi) + self.cloud

    def observation(self):
        """The observation, [3]."""
        return np.array([self.inside, self.outside(), self.hour()], np.float64)


def wanted(hour):
    """The lowest temperature that is warm enough."""
    return 21.0 if 6 <= hour < 22 else 16.0


def heuristic(observation):
    """Rule of thumb: hold 21.1 degrees day and night. Replace the walls' loss, and half of the deficit."""
    inside, outside, _ = observation
    power = LOSS * (21.1 - outside) + 0.5 * CAPACITY / STEP * (21.1 - inside)
    return np.array([np.clip(power, 0.0, 2000.0)], np.float32)


if __name__ == "__main__":
    import proximo

    run = proximo.train(Thermostat, steps=100_000, seed=0, progress=True)
    print(run.evaluate(episodes=100))
