"""`proximo lm COMMAND`: language models, from fine-tuning to PPO."""

import importlib
from typing import Any, NamedTuple

from proximo.errors import UserError, nearest

USAGE = """usage: proximo lm COMMAND ...

Train language models: fine-tuning, reward models, PPO, GRPO, DPO. MODEL is a model folder in the Hugging
Face Hub's format, an id of the Hub, or a run of these commands.

  new FOLDER      make a small new model       proximo lm new FOLDER --texts texts.jsonl
  sft MODEL       fine-tune on texts           proximo lm sft MODEL --data texts.jsonl
  reward MODEL    train a reward model         proximo lm reward MODEL --data preferences.jsonl
  ppo MODEL       train with PPO               proximo lm ppo MODEL --data prompts.jsonl --reward my.py:score
  grpo MODEL      train with GRPO (no critic)  proximo lm grpo MODEL --data prompts.jsonl --reward-model RUN
  dpo MODEL       train on preferences (DPO)   proximo lm dpo MODEL --data preferences.jsonl
  generate MODEL  answer prompts               proximo lm generate MODEL --prompt "Once upon a time"
  chat MODEL      chat in the terminal         proximo lm chat MODEL
  eval MODEL      measure a model on data      proximo lm eval MODEL --data texts.jsonl

`proximo lm COMMAND --help` lists the options of a command. Most option names of TRL also work.
"""

MODULES = dict.fromkeys(("sft", "reward", "ppo", "grpo", "dpo"), "lm_train") | {
    "new": "lm_new",
    "generate": "lm_generate",
    "chat": "lm_chat",
    "eval": "lm_eval",
}


class ParsedCommand(NamedTuple):
    """A command's module and its arguments; without a module it is the overview."""

    module: Any
    arguments: Any


def read(words: list[str]) -> ParsedCommand:
    """Parse the command line. Raises UserError for a command that does not exist."""
    if not words or words[0] in ("-h", "--help"):
        return ParsedCommand(None, 0 if words else 2)
    if words[0] not in MODULES:
        raise UserError(f"there is no command {words[0]!r}: {nearest(words[0], MODULES)}")
    from proximo.language import need_libraries

    need_libraries()
    module = importlib.import_module(f"proximo.commands.{MODULES[words[0]]}")
    return ParsedCommand(module, module.read(words[0], words[1:]))


def arguments_of(command: str) -> Any:
    """The class of a command's arguments. Raises UserError if a package for language models is missing."""
    from proximo.language import need_libraries

    need_libraries()
    module = importlib.import_module(f"proximo.commands.{MODULES[command]}")
    return module.arguments_of(command)


def run(asked: ParsedCommand) -> int:
    """Run the command; returns the exit status."""
    if asked.module is None:
        print(USAGE)
        return int(asked.arguments)
    return int(asked.module.run(asked.arguments))
