"""A machine with a queue: python -m examples.environments.job_shop

On the command line: proximo train examples/environments/job_shop.py:JobShop
"""

import gymnasium as gym
import numpy as np

KINDS = 4
PER_HOUR = np.array([3.0, 2.0, 1.0, 0.5])  # jobs that arrive, of each kind
WAITING = np.array([1.0, 1.0, 3.0, 10.0])  # euros that an hour's waiting of one job costs
WORK = 6.0  # minutes for a job
SET_UP = 15.0  # minutes more where the last job was of another kind
PAUSE = 5.0  # minutes lost where no such job waits
DAY = 1440.0  # minutes


class JobShop(gym.Env):
    """Choose the next job of a machine that needs a new setup for another kind of job.

    Observation  waiting jobs of each kind, minutes that the oldest of each kind has waited, and the kind
                 that the machine is set up for (one-hot)
    Action       the kind of the next job, 0 to 3; the machine pauses for 5 minutes if none waits
    Reward       euros, negative: the cost of waiting of all jobs until the next decision
    End          a limit of 24 hours; the queue itself continues: `truncated`
    """

    observation_space = gym.spaces.Box(0.0, np.inf, (3 * KINDS,), np.float64)
    action_space = gym.spaces.Discrete(KINDS)

    def reset(self, *, seed=None, options=None):
        """Start with an empty queue at midnight."""
        super().reset(seed=seed)
        self.now, self.set_up = 0.0, 0
        self.arrivals = []  # minutes at which the jobs of each kind come, in order
        for rate in PER_HOUR:
            count = self.np_random.poisson(rate * 2 * DAY / 60)
            self.arrivals.append(np.sort(self.np_random.uniform(0.0, 2 * DAY, count)))
        self.started = [0] * KINDS
        return self.observation(), {}

    def step(self, action):
        """Do one job, or pause."""
        kind = int(action)
        if self.waiting(kind) > 0:
            minutes = WORK + (SET_UP if kind != self.set_up else 0.0)
            self.set_up = kind
            self.started[kind] += 1
        else:
            minutes = PAUSE
        cost = sum(
            WAITING[other] * self.waited(other, self.now, self.now + minutes) / 60 for other in range(KINDS)
        )
        self.now += minutes
        return self.observation(), -float(cost), False, self.now >= DAY, {}

    def waiting(self, kind):
        """Waiting jobs of a kind: they have arrived and are not started."""
        return int(np.searchsorted(self.arrivals[kind], self.now, "right")) - self.started[kind]

    def waited(self, kind, start, end):
        """Total minutes that jobs of a kind wait between `start` and `end`."""
        arrivals = self.arrivals[kind]
        here = arrivals[self.started[kind] : np.searchsorted(arrivals, end)]
        return float((end - np.maximum(here, start)).sum())

    def observation(self):
        """The observation, [12]."""
        waiting = [self.waiting(kind) for kind in range(KINDS)]
        oldest = [
            self.now - self.arrivals[kind][self.started[kind]] if waiting[kind] else 0.0
            for kind in range(KINDS)
        ]
        set_up = [float(kind == self.set_up) for kind in range(KINDS)]
        return np.array([*waiting, *oldest, *set_up], np.float64)


def heuristic(observation):
    """Rule of thumb: the same kind while such jobs wait, then the kind whose waiting costs most."""
    waiting, set_up = observation[:KINDS], int(np.argmax(observation[2 * KINDS :]))
    return set_up if waiting[set_up] else int(np.argmax(waiting * WAITING))


if __name__ == "__main__":
    import proximo

    run = proximo.train(JobShop, steps=100_000, seed=0, progress=True)
    print(run.evaluate(episodes=100))
