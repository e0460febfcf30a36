"""Environments that step on the host: one interface for every Gymnasium vector environment."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from proximo.envs import handlers
from proximo.envs import state as states
from proximo.envs.actions import codecs, with_dependent
from proximo.envs.atari import is_atari
from proximo.envs.description import EnvDescription
from proximo.envs.faults import fault, restart_message
from proximo.envs.passed_infos import PassedInfos
from proximo.envs.pool import Pool
from proximo.envs.spaces import ObservationCodec
from proximo.envs.vector import returned, snapshot
from proximo.envs.vector.info import lives_in
from proximo.envs.vector.masks import Masks
from proximo.envs.vector.parallel import ParallelVectorEnv
from proximo.envs.vector.timeout import Timeout
from proximo.envs.vector.trees import with_texts
from proximo.errors import (
    EnvironmentFault,
    EnvironmentNotClosed,
    Misfit,
    StateNotSaved,
    StateRefused,
    UserError,
    WorkerError,
    as_error,
    tell,
)

SEED_EACH = (gym.vector.SyncVectorEnv, gym.vector.AsyncVectorEnv, ParallelVectorEnv, Pool)


class Step(NamedTuple):
    """What one step of N environments gives.

    obs         batch    what to act on next
    reward      [N]      raw
    terminated  [N]      bool: what follows is worth nothing: the episode ended in a state without a future,
                         or a life was lost (`HostEnvs.life_loss`)
    truncated   [N]      bool: the episode was cut for another reason
    over        [N]      bool: the episode ended, for either reason; a lost life alone does not end it
    final_obs   batch    where the vector resets within the step: the true last observation in rows that
                         ended, anything elsewhere. None if no episode ended, or if the stream holds it.
    success     [N]      `is_success` in the info of the step, mostly of an episode's last one; NaN where none
    cost        [N]      `cost` in it; NaN where none
    legal       [N, M]   bool: which of the M values of all parts of an action may be next (`HostEnvs.legal`)
    """

    obs: Any
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    over: np.ndarray
    final_obs: Any
    success: np.ndarray
    cost: np.ndarray
    legal: np.ndarray | None


class HostEnvs:
    """N copies of one environment, stepped together.

    num_envs     N
    observation  the codec that turns a batch of observations into float32 [N, size]
    action       the codec that turns the policy's actions into the environment's
    spaces       of one environment: its observation space and its action space
    action_space of the whole batch, to sample from
    vector       the Gymnasium vector environment underneath
    name         what to call it
    description  what one environment is, as far as a file can hold it
    spec         Gymnasium's registry entry, or None
    steps        how many times `step` was called since the last reset
    restarts     how many times an environment that failed was restarted (only by our own vector)
    legal        bool [N, M], which actions may be next: one flag for each value of Discrete, of each part of
                 MultiDiscrete, and two (off, on) for each switch of MultiBinary; of a MultiDiscrete whose
                 mask has the shape of its `nvec`, one for each combination. It is what environments tell by
                 an `action_mask` in their info, a method `action_masks()`, or a part `action_mask` of the
                 observation, and all True where one does not; None where none did at the reset
    masks        reads masks of its actions; `mask_code` says how they are told (`Masks.code_of`; 0: not at
                 all), and `mask_source` where
    found        what an id was taken to mean, in one line; "" where there is no doubt
    life_loss    whether a lost life ends the value, not the episode (Mnih 2015), where infos tell `lives`
    lives        [N], how many are left; None where they are not counted
    seam_rows    True if the row after an end is a seam: the environment ignores its action and returns the
                 first observation of the next episode, with reward 0

    An episode's last observation reaches the reader in one of two ways. With Gymnasium's NEXT_STEP it is the
    next one in the stream, and a seam row follows. With SAME_STEP and DISABLED the stream goes straight on
    with the next episode (one environment cannot be held still for a seam while the others step), so the last
    observation travels beside it, in `final_obs`. A batch that is returned is valid until the next call.
    """

    def __init__(self, vector: gym.vector.VectorEnv, name: str, *, owned: bool = True):
        """Wrap a vector environment; one that is not `owned` stays open at the end.

        Raises UserError if a space or the autoreset mode is not supported.
        """
        self.vector = vector
        self.name = name
        self.description = EnvDescription(name)
        self.release: Callable[[], Any] = lambda: None  # others may step these environments again
        self.owned = owned
        self.num_envs: int = vector.num_envs
        self.spaces = (with_texts(vector.single_observation_space), vector.single_action_space)
        self.observation, self.action = codecs(*self.spaces)
        self.action_space = batch_space(vector.single_action_space, vector.num_envs)
        spec = getattr(vector, "spec", None)
        self.spec: EnvSpec | None = spec if isinstance(spec, EnvSpec) else None
        self.steps = 0
        self._actions: Any = None  # of the last step; None after a reset
        self.step_timeout: float | None = None  # seconds of a step of all; our own vector has limits itself
        self._slow = True  # the next step begins episodes, or is the first one and may compile: no limit
        mode = _autoreset_mode(vector, name)
        self.seam_rows = mode in ("nextstep", "undeclared")
        # What is left to do after a step; nothing where the stream already holds every observation.
        self._complete: Callable[[Step, dict[str, Any]], Step] | None = {
            "nextstep": None,
            "undeclared": self._refuse_final,
            "samestep": self._with_final,
            "disabled": self._reset_ended,
        }[mode]
        self._ended = np.zeros(self.num_envs, bool)  # in the step before, where that may contradict the mode
        # What the arrays of a batch must be; our own vector has looked at each environment instead.
        self._form: Any = None
        self._infos: PassedInfos | None = None
        self.life_loss = False
        self.lives: np.ndarray | None = None
        self.found = ""
        self._told: set[type] = set()  # errors for which the state could not be had
        self.legal: np.ndarray | None = None
        self.masks, self.mask_code, self.mask_source = Masks(vector.single_action_space), 0, ""
        if isinstance(vector, ParallelVectorEnv):
            vector.report = self._warn
            self._success, self._cost = vector.told()
        else:
            self._form = returned.form_for(self.spaces[0], vector.num_envs)
            self._infos = PassedInfos(vector, mode == "samestep")
            self._success = self._cost = self._infos.nothing
        handlers.restore_handlers()

    @property
    def restarts(self) -> int:
        """See above; each comes with a warning, `EnvironmentRestarted`."""
        return self.vector.restarts.count if isinstance(self.vector, ParallelVectorEnv) else 0

    def reset(self, seeds: Sequence[int]) -> Any:
        """Start new episodes; returns the batch of first observations.

        seeds  one per environment. Gymnasium's sync and async vectors and ale-py's use all of them; any other
               vector takes a single seed, as its base class does, and gets the first.
        Raises EnvironmentFault if an environment fails or an observation does not fit its space.
        """
        if len(seeds) != self.num_envs:
            raise UserError(f"{len(seeds)} seeds for {self.num_envs} environments: give one for each")
        self.steps, self._slow, self._ended = 0, True, np.zeros(self.num_envs, bool)
        self._actions = None
        seed = self._seed(seeds)
        try:
            result = self.vector.reset(seed=seed)
            if self._infos is not None:
                obs = returned.as_declared(returned.from_reset(result), self._form)
                self.legal = self._infos.begin(obs, result[1])
                self.mask_code, self.mask_source = self._infos.code, self._infos.source
            else:
                obs = result[0]
                if isinstance(self.vector, ParallelVectorEnv):
                    self.legal, self.mask_code = self.vector.legal(), self.vector.mask_code()
                    self.mask_source = self.vector.mask_source()
            self.lives = lives_in(result[1], self.num_envs) if self.life_loss else None
            if dependent := self.masks.dependent(self.mask_code):
                self.action = replace(self.action, kind=with_dependent(self.action.kind, dependent))
            self.observation.encode(obs, np.empty((self.num_envs, *self.observation.shape), np.float32))
        except UserError:
            raise
        except BaseException as raised:
            error = as_error(raised)
            raise self._fault(None, error) from error
        handlers.restore_handlers()
        return obs

    def _seed(self, seeds: Sequence[int]) -> Any:
        """Seeds as the vector takes them."""
        vector = self.vector.unwrapped
        if isinstance(vector, SEED_EACH):
            return [int(seed) for seed in seeds]
        return np.array(seeds) if is_atari(vector) else int(seeds[0])

    def settle(self) -> None:
        """Reset, where only that shows what a policy has to produce: choices may depend on each other."""
        if self.masks.open and not self.mask_code:
            self.reset(range(self.num_envs))

    def step(self, actions: Any) -> Step:
        """Apply a batch of actions (as `action.to_environment` gives it). Raises EnvironmentFault."""
        self.steps += 1
        self._actions = actions
        try:
            with Timeout(None if self._slow else self.step_timeout):
                result = self.vector.step(actions)
            if self._form is not None:
                result = returned.batch_from_step(result, self._form, self.num_envs)
            obs, reward, terminated, truncated, info = result
            over = terminated | truncated
            self._slow = self.step_timeout is not None and bool(over.any())
            if self._infos is not None:
                self._success, self._cost = self._infos.told(info, over)
                self.legal = self._infos.legal(obs, info, over)
            if self.lives is not None:
                left = lives_in(info, self.num_envs)
                terminated, self.lives = terminated | (left < self.lives), left
            step = Step(obs, reward, terminated, truncated, over, None, self._success, self._cost, self.legal)
            return step if self._complete is None else self._complete(step, info)
        except BaseException as raised:
            error = as_error(raised)
            raise self._fault(actions, error) from error

    def write(self, codec: ObservationCodec, batch: Any, out: Any, legal: np.ndarray | None = None) -> None:
        """`codec.write` of what was last returned. Raises EnvironmentFault, which says where it is from."""
        try:
            codec.write(batch, out, legal)
        except Misfit as error:
            raise self._fault(self._actions, error) from error

    def sample(self) -> Any:
        """A batch of random actions, legal ones where environments tell which these are."""
        if self.legal is None:
            return self.action_space.sample()
        space = self.spaces[1]
        rows = [self.masks.sample(space, flags, self.mask_code) for flags in self.legal]
        empty: Any = create_empty_array(space, self.num_envs)
        return concatenate(space, rows, empty)

    def state(self, part: slice = states.EVERY) -> dict[str, Any] | None:
        """Everything needed to continue exactly, also in another process; None if it cannot be known.

        With `part`, of those environments alone, for a vector of so many.

        Nested dicts of str, whose leaves are numbers, strings, bools, None and NumPy arrays. Known are
        Gymnasium's classic control, toy text and MuJoCo environments, and every environment that has a pair
        of methods `get_state() -> plain data` and `set_state(state)`, in Gymnasium's sync vector or ours.
        If an environment fails to save its state, a warning (`StateNotSaved`) says so, once.
        """
        try:
            with Timeout(self.step_timeout):
                vector = states.save(self.vector, part)
        except BaseException as raised:
            error = as_error(raised)
            if type(error) not in self._told:
                warning = StateNotSaved(
                    f"{self.name} failed to save its state ({_reason(error)}): checkpoints are written "
                    "without it, and a run resumed from one starts new episodes"
                )
                warning.__cause__ = error
                self._told.add(type(error))
                tell(warning)
            return None
        if vector is None:
            return None
        num_envs = len(range(self.num_envs)[part])
        counts = {"num_envs": num_envs, "steps": self.steps, "restarts": self.restarts}
        legal = {} if self.legal is None else {"legal": self.legal[part].copy()}
        return {"name": self.name, **counts, "vector": vector, **legal}

    def restore(self, state: dict[str, Any]) -> Any:
        """Put back what `state` gave, after a reset with any seeds; returns the current observations.

        Nothing in it is executed, and nothing is set that the environment does not have. Raises UserError if
        it does not fit, StateRefused if an environment's `set_state` fails; the environments are then to be
        reset before they can be stepped.
        """
        try:
            if state["num_envs"] != self.num_envs:
                raise ValueError(f"its num_envs is {state['num_envs']!r}, here it is {self.num_envs!r}")
            steps, restarts = int(state["steps"]), int(state["restarts"])
            legal = {"legal": self.legal} if self.legal is not None else {}
            states.copy_into(legal, {name: state[name] for name in ("legal",) if name in state})
            obs = states.restore(self.vector, state["vector"])
        except BaseException as raised:
            error = as_error(raised)
            if snapshot.REFUSED in str(error):  # in these words from a worker process too
                raise StateRefused(_reason(error)) from error
            raise UserError(f"the saved state does not fit the environments: {_reason(error)}") from error
        self.steps = steps
        if isinstance(self.vector, ParallelVectorEnv):
            self.vector.restarts.count = restarts
        return obs

    def close(self) -> None:
        """Close owned environments.

        What fails in that is a warning: all that was to be learned has been learned.
        """
        self.release()
        if not self.owned:
            return
        try:
            self.vector.close()
        except BaseException as raised:
            tell(EnvironmentNotClosed(f"{self.name} failed to close: {_reason(as_error(raised))}"))

    def __enter__(self) -> "HostEnvs":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fault(self, actions: Any, error: Exception) -> EnvironmentFault:
        return fault(self.vector, self.name, self.steps, actions, error)

    def _warn(self, error: Exception, lost: range) -> None:
        """The environments `lost` were restarted because of `error`."""
        assert isinstance(self.vector, ParallelVectorEnv)
        tell(restart_message(self.vector, self.name, self.steps, error, lost))

    def _refuse_final(self, step: Step, info: dict[str, Any]) -> Step:
        """No declared mode is read as NEXT_STEP, but not against the evidence."""
        ended = step.over
        late = np.flatnonzero(self._ended & (ended | (step.reward != 0.0)))
        self._ended = ended.copy()
        evidence = ""
        if late.size:
            what = "another end" if ended[late[0]] else f"a reward of {step.reward[late[0]]:g}"
            evidence = f" (environment {late[0]} gave {what} in the step after an end)"
        elif "final_obs" not in info and "final_observation" not in info:
            return step
        raise EnvironmentFault(
            f"the vector environment resets within the step but does not declare it{evidence}: set its "
            "metadata['autoreset_mode'] to gymnasium.vector.AutoresetMode.SAME_STEP"
        )

    def _with_final(self, step: Step, info: dict[str, Any]) -> Step:
        """SAME_STEP: the last observations come in the info, as a batch or as an array of single ones."""
        ended = step.over
        if not ended.any():
            return step
        final = info.get("final_obs", info.get("final_observation"))
        if final is None:
            promised = "autoreset mode SAME_STEP promises info['final_obs'] when an episode ends"
            raise EnvironmentFault(f"{promised}; it is missing")
        if isinstance(final, np.ndarray) and final.dtype == object:
            last = final[np.flatnonzero(ended)[0]]  # fills the rows that nobody reads
            space = self.spaces[0]
            rows = [one if over else last for one, over in zip(final, ended, strict=True)]
            empty: Any = create_empty_array(space, self.num_envs)
            final = concatenate(space, rows, empty)
        return step._replace(final_obs=returned.as_declared(final, self._form))

    def _reset_ended(self, step: Step, info: dict[str, Any]) -> Step:
        """DISABLED: the caller resets the environments that ended."""
        ended = step.over.copy()
        if not ended.any():
            return step
        final = deepcopy(step.obs)  # the reset may write into the same arrays
        terminated, truncated = step.terminated.copy(), step.truncated.copy()
        result = self.vector.reset(options={"reset_mask": ended})
        obs = returned.as_declared(returned.from_reset(result), self._form)
        following = None if self._infos is None else self._infos.legal(obs, result[1], ~ended)
        if self.legal is not None and following is not None:
            self.legal = np.where(ended[:, None], following, self.legal)
        return step._replace(
            obs=obs, terminated=terminated, truncated=truncated, over=ended, final_obs=final, legal=self.legal
        )


def _reason(error: Exception) -> str:
    """What went wrong, on one line."""
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]!r}"
    kind = "" if isinstance(error, ValueError | WorkerError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())


def _autoreset_mode(vector: gym.vector.VectorEnv, name: str) -> str:
    """One of "nextstep", "samestep", "disabled", "undeclared".

    A vector that declares nothing is read as NEXT_STEP, the default of Gymnasium, of ale-py and of EnvPool.
    """
    declared = (getattr(vector, "metadata", None) or {}).get("autoreset_mode")
    if declared is None:
        return "undeclared"
    mode = str(getattr(declared, "value", declared)).replace("_", "").lower()
    if mode not in ("nextstep", "samestep", "disabled"):
        raise UserError(
            f"{name} declares the autoreset mode {declared!r}: set metadata['autoreset_mode'] to a member of "
            "gymnasium.vector.AutoresetMode"
        )
    return mode
