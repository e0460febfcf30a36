"""The same computations on one device and on meshes of four: what `test_sharding` reads. It prints JSON."""

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import families
import jax
import jax.numpy as jnp
import numpy as np
from policies import run_epochs
from safetensors.numpy import load_file
from workplace import workplace

from proximo import language
from proximo.core import AdaptiveKL
from proximo.core.arrays import traceable
from proximo.language.files.loading import partition_trainable
from proximo.language.files.model_options import ModelOptions
from proximo.language.model import likelihood
from proximo.language.model.adapters import LoRA, trainable, with_adapters
from proximo.language.model.compiling import jit
from proximo.language.model.config import model_config
from proximo.language.model.likelihood import loss_of_tokens
from proximo.language.model.sampler import Sampling, sample
from proximo.language.model.sharding import shard
from proximo.language.model.transformer import Transformer, new_model
from proximo.language.train import labelled
from proximo.language.train.job import Outcome, training
from proximo.language.train.labelled import new_learner
from proximo.language.train.optimise import Optimisation, static_options
from proximo.language.train.options import PPOOptions, StepOptions
from proximo.language.train.policy import new_policy
from proximo.language.train.responses import Batch, Responses, response_mask
from proximo.language.train.sampling import minibatch_order, part_loss, update_options
from proximo.learn.descend import adam
from proximo.learn.mesh import MeshOptions, mesh_of, on_mesh

# Four heads, two of them for keys and values. Most of the work is done on the tokens, as in small models.
TOKENS = 172
CONFIG = model_config(families.LLAMA | {"vocab_size": TOKENS, "num_hidden_layers": 1, "head_dim": 6})
ROWS, WIDTH, LENGTH = 16, 16, 16  # of prompts and of responses
RATE = 1e-2
SENT = ("all-reduce", "all-gather", "all-to-all", "collective-permute")
MESHES = ((4, 1), (2, 2), (1, 4))
likelihood.MOST_LOGITS = 2**14  # as a real vocabulary would, these logits then take several parts


class Texts(NamedTuple):
    """Rows to imitate, [B, L]."""

    ids: jax.Array
    segments: jax.Array


def texts():
    draw = np.random.default_rng(0)
    ids, lengths = draw.integers(0, TOKENS, (ROWS, WIDTH + LENGTH)), draw.integers(9, 33, (ROWS, 1))
    there = (np.arange(WIDTH + LENGTH) < lengths).astype(np.int32)
    return Texts(ids.astype(np.int32), there)


@traceable
@dataclass(frozen=True)
class Imitation:
    """The mean over tokens, as in fine-tuning."""

    def __call__(self, model: Transformer, part: Texts):
        losses = loss_of_tokens(model, part.ids, part.segments)
        return {"loss": jnp.sum(losses * part.segments, axis=1)}

    def count(self, batch: Texts):
        return jnp.sum(batch.segments[:, 1:])


class Imitating:
    """A trainer of two steps on the same texts, as fine-tuning with adapters is one."""

    total = 2
    notes = ("one of the trainer's",)
    optimisation = Optimisation(learning_rate=RATE)

    def __init__(self, model):
        self.first, self.frozen = partition_trainable(model)
        self.given = []  # states, as the iterations get them

    def begin(self):
        return new_learner(self.first)

    def iterate(self, state, number):
        self.given.append(held(state))
        given = static_options(self.optimisation), 1.0, self.frozen, Imitation(), ROWS // 2
        learner, columns, facts = labelled.update(state, texts(), *given)
        return Outcome(learner, {"loss": float(columns["loss"].sum()), "norm": float(facts["grad_norm"])}, 0)

    def save(self, state, folder: Path):
        raise NotImplementedError


def responses():
    """A batch as sampling and estimating would leave it."""
    draw = np.random.default_rng(1)
    responses = Responses(
        draw.integers(0, TOKENS, (ROWS, WIDTH + LENGTH)).astype(np.int32),
        draw.integers(3, WIDTH + 1, ROWS).astype(np.int32),
        draw.integers(2, LENGTH + 1, ROWS).astype(np.int32),
        np.ones(ROWS, bool),
    )
    mask = np.asarray(response_mask(responses.lengths, LENGTH))
    noise, old, reference, value, target = draw.normal(size=(5, ROWS, LENGTH)).astype(np.float32) * mask
    critic = np.zeros(ROWS, np.int32)
    return Batch(responses, old - 4, reference - 4, mask, noise, None, value, target, critic)


@jit
def learning(weights, moments, frozen, batch, order, options):
    loss = partial(part_loss, frozen=frozen, price=0.1, options=options)
    return run_epochs(loss, weights, moments, batch, order, RATE, options)


def updated(policy, mesh):
    """Two epochs of PPO in two steps each; also what one device does for them, and what is sent."""
    asked = PPOOptions(
        data="",
        model=ModelOptions(model=""),
        steps=StepOptions(epochs=2, minibatches=2),
        optimisation=Optimisation(weight_decay=0.1),
    )
    weights, frozen = eqx.partition(policy, trainable(policy))
    order = minibatch_order(0, 0, asked.steps, ROWS)
    options = update_options(asked)
    arrays = (weights, adam(weights), frozen, responses(), order, options)
    with on_mesh(mesh):
        compiled = learning.lower(*arrays).compile()
        weights, moments, metrics = compiled(*arrays)
    sent = {kind for kind in SENT if f" {kind}(" in compiled.as_text()}
    results = {"weights": weights, "moments": moments, "metrics": metrics}
    return results, (compiled.cost_analysis()["flops"], sorted(sent))


def sampled(model):
    """Two responses to each of eight prompts of some length."""
    draw = np.random.default_rng(3)
    prompts, lengths = (
        draw.integers(0, TOKENS, (8, 8)).astype(np.int32),
        draw.integers(1, 9, 8).astype(np.int32),
    )
    return sample(model, prompts, lengths, jax.random.key(4), Sampling(length=8, samples=2, eos_ids=(3,)), 0)


def computed(mesh_options):
    """On a mesh, or on one device: results, the update's work, the policy, and a trainer."""
    mesh = mesh_of(mesh_options)
    model = families.random_like(new_model(CONFIG, jax.random.key(0)))
    plain = shard(model, mesh)
    with on_mesh(mesh):
        samples = sampled(plain)
    policy = shard(new_policy(model), mesh)
    after, work = updated(policy, mesh)
    adapted = with_adapters(model, LoRA(4, 8.0, ("key", "down")), jax.random.key(0))
    trainer = Imitating(shard(adapted, mesh))
    *_, last = training(trainer, mesh=mesh)
    results = {
        "samples": samples,
        "step": (last.state, last.metrics),
        "update": after,
    }
    return results, work, policy, trainer


def whole_run(folder, **mesh):
    """`proximo lm ppo` for two iterations, as a user calls it: its metrics, and the model that it leaves."""
    words = dict(critic="two", samples=4, batch_size=2, episodes=16, epochs=1, response_length=4)
    words |= dict(group_by_length=True, micro_batch_tokens=64, kl=AdaptiveKL(0.1), learning_rate=1e-2)
    run = language.ppo(
        model=folder / "base",
        data=folder / "prompts.jsonl",
        reward=length,
        out=folder / f"run{len(mesh)}",
        **words,
        **mesh,
    )
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    timed = ("eps", "time/time_elapsed")
    metrics = [{name: x for name, x in row.items() if name not in timed} for row in rows]
    return {"metrics": metrics, "model": load_file(run.folder / "model" / "model.safetensors")}


def length(completions):
    return [float(len(text)) for text in completions]


def difference(one, other):
    gaps = jax.tree.map(lambda a, b: np.max(np.abs(np.asarray(a, float) - np.asarray(b, float))), one, other)
    return float(max(jax.tree.leaves(gaps)))


def held(tree):
    """Name -> shape that one device holds."""
    named = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf.addressable_shards[0].data.shape
        for path, leaf in named
    }


def report_of(folder):
    workplace(folder)
    alone, apart = whole_run(folder), whole_run(folder, data_parallel=2, model_parallel=2)
    whole, (all_operations, _), policy, trainer = computed(MeshOptions())
    found = {
        "moved": difference(policy, whole["update"]["weights"]),
        "whole_run": difference(alone, apart),
        "learned": difference(alone["model"], load_file(folder / "base" / "model.safetensors")),
    }
    for data, model in MESHES:
        results, (operations, sent), policy, trainer = computed(
            MeshOptions(data_parallel=data, model_parallel=model)
        )
        checkpoint = jax.device_get(trainer.begin())
        next(training(trainer, checkpoint, 1, mesh_of(MeshOptions(data_parallel=data, model_parallel=model))))
        found[f"{data} x {model}"] = {
            "difference": {name: difference(results[name], whole[name]) for name in whole},
            "operations": operations / all_operations,
            "sent": sent,
            "policy": held(policy),
            "moments": held(results["update"]["moments"]),
            "weights": held(results["update"]["weights"]),
            "state": trainer.given[0],
            "resumed": trainer.given[-1],
        }
    return found


if __name__ == "__main__":
    print(json.dumps(report_of(Path(sys.argv[1]))))
