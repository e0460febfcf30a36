"""Returns and lengths of episodes, from the raw rewards of the stream."""

from collections import deque
from typing import NamedTuple

import numpy as np

from proximo.core.types import Experience


class Episode(NamedTuple):
    """One finished episode.

    env             the environment's index
    end_row         the row of the rollout, 0 to T-1, of its last transition
    episode_return  the sum of its raw rewards, undiscounted
    length          its number of transitions
    terminated      True if it ended in a state without a future, False if it was cut (a time limit)
    """

    env: int
    end_row: int
    episode_return: float
    length: int
    terminated: bool


class EpisodeStatistics:
    """Adds up episodes over rollouts: one that is not over when a rollout ends continues in the next.

    return_so_far, length_so_far  [N]  of the episodes that are under way (float64, int64)
    recent                             the last `window` finished episodes
    successes                          of the last `window` finished episodes that told of it, 0 to 1

    The rewards must be raw: clipped or scaled ones would not give the return that the environment defines.
    """

    def __init__(self, num_envs: int, window: int = 100):
        self.return_so_far = np.zeros(num_envs, np.float64)
        self.length_so_far = np.zeros(num_envs, np.int64)
        self.recent: deque[Episode] = deque(maxlen=window)
        self.successes: deque[float] = deque(maxlen=window)

    def update(self, experience: Experience, success: np.ndarray | None = None) -> list[Episode]:
        """Take in one rollout; returns the episodes that are over, in order of time.

        experience  arrays of NumPy. A row with mask 0 (a seam) counts for nothing, whatever is in it
        success     [T, N], of the episode where the row is its last one; NaN for none
        """
        counted, over, terminated = experience.mask.astype(bool), experience.over, experience.terminated
        reward = np.where(counted, experience.reward[..., 0], 0.0).astype(np.float64)
        first_row = np.zeros(reward.shape[1], np.int64)  # of the episode under way, per environment
        ended = []
        for row, env in np.argwhere(over & counted).tolist():
            rows = slice(first_row[env], row + 1)
            episode_return = float(self.return_so_far[env] + reward[rows, env].sum())
            length = int(self.length_so_far[env] + counted[rows, env].sum())
            ended.append(Episode(env, row, episode_return, length, bool(terminated[row, env])))
            if success is not None and not np.isnan(success[row, env]):
                self.successes.append(float(success[row, env]))
            first_row[env] = row + 1
            self.return_so_far[env] = 0.0
            self.length_so_far[env] = 0
        under_way = np.arange(len(reward))[:, None] >= first_row
        self.return_so_far += np.where(under_way, reward, 0.0).sum(axis=0)
        self.length_so_far += (counted & under_way).sum(axis=0)
        self.recent.extend(ended)
        return ended

    def state(self) -> dict[str, np.ndarray]:
        """What `restore` needs to continue exactly."""
        return {
            "return_so_far": self.return_so_far.copy(),
            "length_so_far": self.length_so_far.copy(),
            "recent": np.array(self.recent, np.float64).reshape(-1, len(Episode._fields)),
            "successes": np.array(self.successes, np.float64),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on where `state` was taken."""
        self.return_so_far[:] = state["return_so_far"]
        self.length_so_far[:] = state["length_so_far"]
        self.recent.clear()
        self.successes.clear()
        self.successes.extend(state.get("successes", np.empty(0)).tolist())  # version 0.2 wrote none
        for env, end_row, episode_return, length, terminated in state["recent"].tolist():
            self.recent.append(Episode(int(env), int(end_row), episode_return, int(length), bool(terminated)))

    def restart(self) -> None:
        """Forget the episodes that are under way: every environment was reset."""
        self.return_so_far[:] = 0.0
        self.length_so_far[:] = 0

    def mean_return(self) -> float:
        """Mean return of the recent episodes; NaN before the first has ended."""
        return float(np.mean([one.episode_return for one in self.recent])) if self.recent else np.nan

    def mean_length(self) -> float:
        """Mean length of the recent episodes in steps; NaN before the first has ended."""
        return float(np.mean([one.length for one in self.recent])) if self.recent else np.nan

    def metrics(self) -> dict[str, float]:
        """What to log of the episodes beside their returns and lengths: nothing that no environment told."""
        return {"rollout/success_rate": float(np.mean(self.successes))} if self.successes else {}
