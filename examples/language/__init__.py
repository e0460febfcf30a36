"""Language models trained from random weights, on a CPU, in minutes.

    python -m examples.language.bandit       one token, compared with the exact solution
    python -m examples.language.digits       continue a sequence: PPO without any training text
    python -m examples.language.parentheses  close brackets and stop: when an answer ends
    python -m examples.language.walks        shortest paths: texts first, then PPO
    python -m examples.language.sentiment    the whole pipeline, and over-optimisation

Each is one page to read. It ends with the figures it reached, beside those it should reach.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from proximo.language.text.tokenizer import Tokenizer


def new_folder(folder: Path, tokenizer: Tokenizer, layers: int, size: int, context: int, **more: Any) -> Path:
    """A model folder without weights: the shape of a small GPT-2, and a tokenizer. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = dict(n_layer=layers, n_embd=size, n_head=size // 32, n_positions=context)
    config = dict(
        model_type="gpt2",
        vocab_size=tokenizer.vocab_size,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )
    (folder / "config.json").write_text(json.dumps({**config, **shape, **more}))
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
    return folder


def written(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write rows as JSON lines. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def verdict(path: Path, facts: dict[str, tuple[float, str, bool]]) -> bool:
    """Print each figure with its target, and write them to a file. Returns whether all are reached."""
    rows = [
        {"name": name.strip(), "value": float(value), "wanted": wanted, "good": bool(good)}
        for name, (value, wanted, good) in facts.items()
    ]
    path.write_text(json.dumps(rows, indent=1) + "\n")
    for name, (value, wanted, good) in facts.items():
        print(f"{name:<44} {value:>9.3f}   {wanted:<18} {'yes' if good else 'NO'}")
    return all(good for _, _, good in facts.values())
