"""A folder as a user has one: a model of a few hundred weights, data of every kind, a module of rewards."""

import json

from small_models import small_model

from proximo.language.files.folder import save_model
from proximo.language.text.tokenizer import character_tokenizer

SYMBOLS = "0123456789 abcdefg"

REWARDS = '''
"""Rewards of the user's own. A file called as a signal asks for an end, as Ctrl-C or a scheduler would."""
import itertools
import os
import pathlib
import signal

CALLS = itertools.count(1)


def ones(completions, **columns):
    if os.environ.get("KILLED_IN_CALL") == str(next(CALLS)):
        os.kill(os.getpid(), signal.SIGKILL)
    for name in ("SIGINT", "SIGTERM"):
        asked = pathlib.Path(name)
        if asked.exists():
            asked.unlink()
            os.kill(os.getpid(), getattr(signal, name))
    return [float(text.count("1")) for text in completions]


def broken(completions, **columns):
    raise ZeroDivisionError("no denominator")
'''

TEMPLATE = (
    "{% for message in messages %}{{ message.content }}{% endfor %}{% if add_generation_prompt %} {% endif %}"
)


def workplace(folder):
    """Fill a folder; returns it."""
    tokenizer = character_tokenizer(SYMBOLS)
    model = small_model(vocabulary=tokenizer.vocab_size, layers=1)
    save_model(folder / "base", model, tokenizer)
    lines(folder / "texts.jsonl", [{"text": f"{i} {i + 1}"} for i in range(12)])
    lines(folder / "prompts.jsonl", [{"prompt": f"{i} ", "level": i} for i in range(8)])
    pairs = [{"prompt": f"{i} ", "chosen": "1", "rejected": "2"} for i in range(20)]
    lines(folder / "pairs.jsonl", pairs)
    (folder / "rewards_of_mine.py").write_text(REWARDS)
    return folder


def lines(path, records):
    """Write JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
