"""The language-model task that TRL and Proximo are given.

This file needs only the standard library, because workers of both virtual environments import it.
"""

import random
import sys
from dataclasses import dataclass
from typing import Any

BATCH = 64  # prompts of an iteration, one response to each
PROMPT = 16  # tokens
RESPONSE = 48  # tokens; nothing that a model can sample ends a response early
EPOCHS = 4  # of one minibatch each
PROMPTS = 8 * BATCH
LEARNING_RATE = 1e-5
KL = 0.05  # price of a nat
VALUE_COEFFICIENT = 0.1


@dataclass(frozen=True)
class Shape:
    """A GPT-2 of some size; every model of a run has it."""

    layers: int
    size: int
    heads: int
    vocabulary: int

    @property
    def pad_id(self) -> int:
        """An id that the models have not, and so never sample: no response ends at it."""
        return self.vocabulary

    @property
    def eos_id(self) -> int:
        """Another one."""
        return self.vocabulary + 1

    def config(self) -> dict[str, Any]:
        """The content of `config.json`, without its `model_type`."""
        return {
            "n_layer": self.layers,
            "n_embd": self.size,
            "n_head": self.heads,
            "vocab_size": self.vocabulary,
            "n_positions": PROMPT + RESPONSE,
            "bos_token_id": None,
            "eos_token_id": None,
        }

    def prompts(self) -> list[list[int]]:
        """Prompts of random tokens, the same for everybody."""
        draw = random.Random(0)
        return [[draw.randrange(self.vocabulary) for _ in range(PROMPT)] for _ in range(PROMPTS)]


SHAPES = {"tiny": Shape(4, 128, 4, 256), "small": Shape(6, 384, 6, 1024)}


def asked() -> tuple[Shape, str, list[str]]:
    """The shape, what is measured, and further words, from a worker's command line."""
    return SHAPES[sys.argv[1]], sys.argv[2], sys.argv[3:]
