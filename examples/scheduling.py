"""Jobs on machines, an environment in which few actions are legal: python -m examples.scheduling

On the command line: proximo train examples/scheduling.py:Scheduling
"""

import gymnasium as gym
import numpy as np

JOBS = 8
# Hours that a machine (column) takes for an hour's work of a kind of job (row); it cannot do the kind at 0.
HOURS = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.5], [2.0, 0.0, 1.0]])
KINDS, MACHINES = HOURS.shape


class Scheduling(gym.Env):
    """Plan a day: which job goes next on which machine, until all have a place.

    Observation  the kind of each job (one more for "has a place"), its hours of work, the euros that an hour
                 until it is done costs, and the hours for which each machine is busy
    Action       a job and a machine, legal where the job has no place yet and the machine can do its kind:
                 a mask of all pairs, of shape (JOBS, MACHINES)
    Reward       euros, negative: what the job costs until it is done
    End          every job has a place: `terminated`
    """

    observation_space = gym.spaces.Dict(
        kind=gym.spaces.MultiDiscrete([KINDS + 1] * JOBS),
        numbers=gym.spaces.Box(0.0, np.inf, (2 * JOBS + MACHINES,), np.float32),
    )
    action_space = gym.spaces.MultiDiscrete([JOBS, MACHINES])

    def reset(self, *, seed=None, options=None):
        """Draw the jobs of a day; all machines are free."""
        super().reset(seed=seed)
        self.kind = self.np_random.integers(0, KINDS, JOBS)
        self.work = self.np_random.uniform(1.0, 8.0, JOBS)
        self.cost = self.np_random.exponential(3.0, JOBS)
        self.busy = np.zeros(MACHINES)
        return self.observation(), {"action_mask": self.legal()}

    def legal(self):
        """Which pairs are legal, int8 [JOBS, MACHINES]."""
        able = np.vstack([HOURS, np.zeros(MACHINES)]) > 0
        return able[self.kind].astype(np.int8)

    def step(self, action):
        """Give a job its place behind those that its machine has already."""
        job, machine = action
        self.busy[machine] += self.work[job] * HOURS[self.kind[job], machine]
        euros = self.cost[job] * self.busy[machine]
        self.kind[job], self.work[job], self.cost[job] = KINDS, 0.0, 0.0
        done = bool((self.kind == KINDS).all())
        return self.observation(), -float(euros), done, False, {"action_mask": self.legal()}

    def observation(self):
        """The observation: categories and numbers."""
        numbers = np.concatenate([self.work, self.cost, self.busy]).astype(np.float32)
        return {"kind": self.kind.copy(), "numbers": numbers}


def heuristic(observation):
    """Rule of thumb, first come first served: the first job, on the machine that is done with it first."""
    job = int(np.argmax(observation["kind"] < KINDS))
    hours = HOURS[observation["kind"][job]]
    work, busy = observation["numbers"][job], observation["numbers"][2 * JOBS :]
    return np.array([job, int(np.argmin(np.where(hours > 0, busy + work * hours, np.inf)))])


if __name__ == "__main__":
    import proximo

    run = proximo.train(Scheduling, steps=50_000, seed=0, progress=True)
    print(run.evaluate(episodes=100))
