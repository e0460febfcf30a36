"""Shortest paths from random walks: first SFT on texts, then PPO with rewards.

A graph has 21 nodes, written as letters. SFT on 1,000 random walks teaches a model which steps exist. PPO
then finds short paths to the node `a`. The reward is the optimality of a walk, from 0 to 1. It is 0 for a
walk that uses a missing edge or does not arrive. Otherwise it is the smallest number of steps, divided by
the number taken.

    python -m examples.language.walks
"""

import itertools
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from examples.language import new_folder, verdict, written
from proximo import language
from proximo.core import FixedKL
from proximo.language.text.tokenizer import character_tokenizer

NODES = "abcdefghijklmnopqrstu"
LONGEST, WALKS, EDGE = 10, 1000, 0.12


@dataclass(frozen=True)
class Options:
    """Train on random walks, then for short paths."""

    out: Path = Path("runs/walks")
    """Output folder; must be new."""
    seed: int = 0
    """Random seed of the graph, the walks and the training."""


class Graph:
    """Random directed edges such that every node has a path to the first."""

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        count = len(NODES)
        while True:
            self.edges = (draw.random((count, count)) < EDGE) & ~np.eye(count, dtype=bool)
            self.steps = self._distances()
            if np.isfinite(self.steps).all() and self.edges.any(1).all():
                return

    def _distances(self) -> np.ndarray:
        """Steps from each node to the first on the shortest path."""
        distance = np.full(len(NODES), np.inf)
        distance[0], waiting = 0, deque([0])
        while waiting:
            node = waiting.popleft()
            for before in np.flatnonzero(self.edges[:, node]):
                if not np.isfinite(distance[before]):
                    distance[before] = distance[node] + 1
                    waiting.append(int(before))
        return distance

    def walk(self, draw: np.random.Generator) -> str:
        """A random walk that ends at the first node or after `LONGEST` steps."""
        node = int(draw.integers(1, len(NODES)))
        walk = NODES[node]
        while node != 0 and len(walk) <= LONGEST:
            node = int(draw.choice(np.flatnonzero(self.edges[node])))
            walk += NODES[node]
        return walk

    def optimality(self, walk: str) -> float:
        """1 for a shortest path to the first node, 0 for no path."""
        places = [NODES.index(letter) for letter in walk]
        valid = all(self.edges[a, b] for a, b in itertools.pairwise(places))
        if not valid or 0 not in places[1:]:
            return 0.0
        return float(self.steps[places[0]] / places.index(0))


def main(options: Options) -> bool:
    """SFT, then PPO. Returns whether both reached their targets."""
    graph, draw = Graph(options.seed), np.random.default_rng(options.seed)
    tokenizer = character_tokenizer(NODES)
    base = new_folder(options.out / "base", tokenizer, layers=4, size=128, context=LONGEST + 4)
    walks = [graph.walk(draw) for _ in range(WALKS)]
    texts = written(options.out / "walks.jsonl", ({"prompt": w[0], "completion": w[1:]} for w in walks))
    starts = written(options.out / "starts.jsonl", ({"prompt": node} for node in NODES[1:]))
    sft = language.sft(
        model=str(base),
        from_scratch=True,
        data=str(texts),
        epochs=30,
        batch_size=32,
        length=LONGEST + 4,
        packing=False,
        learning_rate=1e-3,
        seed=options.seed,
        out=options.out / "sft",
    )

    def optimality(prompts: list[str], completions: list[str]) -> list[float]:
        return [graph.optimality(a + b) for a, b in zip(prompts, completions, strict=True)]

    ppo = language.ppo(
        model=str(sft.folder),
        data=str(starts),
        reward=optimality,
        response_length=LONGEST,
        batch_size=20,
        samples=8,
        minibatches=4,
        episodes=160 * 100,
        learning_rate=3e-4,
        adam_epsilon=1e-8,  # few and small gradients: 1e-5 would slow most of the run
        kl=FixedKL(0.01),
        seed=options.seed,
        out=options.out / "ppo",
    )

    def mean_optimality(folder: Path) -> float:
        prompts = [node for node in NODES[1:] for _ in range(20)]
        texts = language.load(folder).generate(prompts, max_new_tokens=LONGEST)
        return float(np.mean(optimality(prompts, texts)))

    random_walks = float(np.mean([graph.optimality(walk) for walk in walks]))
    before, after = mean_optimality(sft.folder), mean_optimality(ppo.folder)
    return verdict(
        options.out / "figures.json",
        {
            "optimality of the random walks": (random_walks, "", True),
            "optimality after SFT": (before, "as the walks' +-0.1", abs(before - random_walks) < 0.1),
            "optimality after PPO": (after, "> 0.9", after > 0.9),
        },
    )


if __name__ == "__main__":
    sys.exit(0 if main(tyro.cli(Options)) else 1)
