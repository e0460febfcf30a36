"""Which device holds what of a model, and that several devices compute what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from small_models import small_model

from proximo.errors import UserError
from proximo.language.model.adapters import TARGETS, LoRA, trainable, with_adapters
from proximo.language.model.config import model_config
from proximo.language.model.heads import new_reward_model
from proximo.language.model.sharding import COLUMNS, ENTRIES, ROWS, WHOLE, partition_specs, rules_of, shard
from proximo.language.model.transformer import new_model
from proximo.language.train.policy import new_policy, own_critic
from proximo.learn.descend import adam
from proximo.learn.mesh import MeshOptions, laid_out_batch, mesh_of
from proximo.runs.named import named_leaves
from tests.quick import quickly

MESHES = ("4 x 1", "2 x 2", "1 x 4")


def shapes(name, adapters=False):
    """A family's policy with a critic of its own, a reward model, and Adam's moments: shapes alone."""

    def build():
        config = model_config(families.CONFIGS[name])
        model = new_model(config, jax.random.key(0))
        if adapters:
            targets = TARGETS if config.gated else tuple(target for target in TARGETS if target != "gate")
            model = with_adapters(model, LoRA(4, 8.0, targets), jax.random.key(1))
        policy = new_policy(model, own_critic(model))
        learning = eqx.filter(policy, trainable(policy))
        moments = adam(learning)
        return {"policy": policy, "moments": moments, "scorer": new_reward_model(model, jax.random.key(2))}

    return eqx.filter_eval_shape(build)


# ---- rules


@pytest.mark.parametrize("adapters", [False, True], ids=["plain", "adapters"])
@pytest.mark.parametrize("name", families.CONFIGS)
def test_every_array_of_every_family_falls_under_one_rule(name, adapters):
    arrays = {name: leaf for name, leaf in named_leaves(shapes(name, adapters)).items() if leaf.shape}
    counts = {name: len(rules_of(name)) for name in arrays}
    assert {name: count for name, count in counts.items() if count != 1} == {}
    assert len(counts) > 50


def test_a_layer_by_hand():
    """4 heads of 6, 2 of them for keys and values; inner width 24; of 41 tokens no number of devices holds
    equal parts, so the width of 16 is split."""
    model = shapes("llama-biases")["policy"].model
    splits = named_leaves(partition_specs(model, 2))
    layer = {n.removeprefix("blocks.1."): split for n, split in splits.items() if n.startswith("blocks.1.")}
    assert layer == {
        "attention_norm.weight": WHOLE,
        "attention.query.weight": COLUMNS,
        "attention.query.bias": ENTRIES,
        "attention.key.weight": COLUMNS,
        "attention.key.bias": ENTRIES,
        "attention.value.weight": COLUMNS,
        "attention.value.bias": ENTRIES,
        "attention.output.weight": ROWS,
        "attention.output.bias": WHOLE,  # added once, to the sum
        "mlp_norm.weight": WHOLE,
        "mlp.gate.weight": COLUMNS,
        "mlp.gate.bias": ENTRIES,
        "mlp.up.weight": COLUMNS,
        "mlp.up.bias": ENTRIES,
        "mlp.down.weight": ROWS,
        "mlp.down.bias": WHOLE,
    }
    assert (splits["embedding"], splits["head.weight"], splits["norm.weight"]) == (COLUMNS, ROWS, WHOLE)


def test_tokens_are_split_where_they_divide():
    even = eqx.filter_eval_shape(lambda: small_model(vocabulary=16, tie_word_embeddings=False))
    splits = partition_specs(even, 4)
    assert (splits.embedding, splits.head.weight) == (ROWS, COLUMNS)  # by tokens, either way round
    odd = eqx.filter_eval_shape(lambda: small_model(vocabulary=17, size=18, head_dim=6))
    assert partition_specs(odd, 4).embedding == WHOLE  # neither 17 nor 18 divides by 4


def test_no_head_is_cut():
    """Keys are 2 x 6 = 12 columns wide: four devices could hold 3 each, half a head. They hold all."""
    attention = partition_specs(shapes("llama-biases")["policy"].model, 4).blocks[0].attention
    assert (attention.key.weight, attention.key.bias, attention.value.weight) == (WHOLE, WHOLE, WHOLE)
    assert (attention.query.weight, attention.output.weight) == (COLUMNS, ROWS)
    of_eight = partition_specs(
        shapes("llama-biases")["policy"].model, 8
    )  # 24 columns would divide, 4 heads do not
    assert of_eight.blocks[0].attention.query.weight == of_eight.blocks[0].attention.output.weight == WHOLE
    assert of_eight.blocks[0].mlp.up.weight == COLUMNS


def test_heads_for_one_number_are_everywhere():
    found = shapes("llama")
    assert partition_specs(found, 2)["policy"].critics[0].score.weight == WHOLE
    assert partition_specs(found, 2)["scorer"].score.weight == WHOLE


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3"])
def test_adapters_follow_their_maps(name):
    """x (down up) is split as x W is: `up` has W's columns, `down` its rows."""
    splits = named_leaves(partition_specs(shapes(name, adapters=True)["policy"].model, 2))
    bases = {n.removesuffix(".base.weight"): s for n, s in splits.items() if n.endswith(".base.weight")}
    assert set(bases.values()) == {COLUMNS, ROWS}
    for base, split in bases.items():
        assert splits[f"{base}.up"] == (COLUMNS if split == COLUMNS else WHOLE), base
        assert splits[f"{base}.down"] == (ROWS if split == ROWS else WHOLE), base


@pytest.mark.parametrize("adapters", [False, True], ids=["plain", "adapters"])
def test_moments_follow_their_weights(adapters):
    splits = named_leaves(partition_specs(shapes("qwen3", adapters), 2))
    moments = {n.partition(".mu.")[2]: split for n, split in splits.items() if n.startswith("moments.mu.")}
    assert COLUMNS in moments.values()
    assert moments == {name: splits[f"policy.{name}"] for name in moments}
    assert splits["moments.count"] == WHOLE


def test_an_array_without_a_rule_is_no_accident():
    with pytest.raises(ValueError, match=r"0 rules say where strange\.table lies"):
        partition_specs({"strange": {"table": jnp.zeros(4)}}, 2)


# ---- meshes


def test_one_device_is_no_mesh():
    tree = {"nobody's": np.zeros(5)}
    assert mesh_of(MeshOptions()) is None
    assert shard(tree, None) is laid_out_batch(tree) is tree


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        (2, 2, "data_parallel 2 x model_parallel 2 takes 4 devices, but there is 1: their product must be"),
        (0, 1, "data_parallel is 0 and model_parallel 1: each must be at least 1"),
        (-2, -2, "data_parallel is -2 and model_parallel -2"),
    ],
)
def test_a_mesh_that_cannot_be(data, model, message):
    with pytest.raises(UserError, match=message):
        mesh_of(MeshOptions(data_parallel=data, model_parallel=model))


def test_rows_that_cannot_be_shared_out():
    with (
        jax.sharding.use_abstract_mesh(AbstractMesh((4, 1), ("data", "model"))),
        pytest.raises(UserError, match="data_parallel is 4, but 6 rows go through the model at once"),
    ):
        laid_out_batch(np.zeros((6, 3)))


# ---- four devices against one


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    program = Path(__file__).with_name("over_devices.py")
    flags = quickly("--xla_force_host_platform_device_count=4") | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, program, tmp_path_factory.mktemp("runs")],
        env=os.environ | flags,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("mesh", MESHES)
def test_several_devices_compute_what_one_does(report, mesh):
    """Samples; two steps of adapters on texts; two epochs of PPO with Adam's
    moments and the metrics, whose four steps of 0.01 move weights by up to 0.04."""
    assert report["moved"] > 0.03
    difference = report[mesh]["difference"]
    assert {name for name, size in difference.items() if not size < 1e-4} == set()
    assert set(difference) == {"samples", "step", "update"}


def test_a_whole_run_on_four_devices_is_the_run_on_one(report):
    """Two critics, batches of like lengths, micro-batches: every metric and every weight of `lm ppo`."""
    assert report["learned"] > 1e-3
    assert report["whole_run"] < 1e-4


@pytest.mark.parametrize("mesh", MESHES)
def test_no_device_does_anothers_work(report, mesh):
    """A quarter of the operations each, and a little that all of them do, such as norms. Unless rows are
    shared out inside of the compiled functions, the shuffled ones of 4 x 1 are computed by all devices."""
    assert report[mesh]["operations"] < 0.35


@pytest.mark.parametrize("mesh", MESHES)
def test_rows_stay_where_they_are(report, mesh):
    """Only sums are made together, though logits are computed in parts. On 1 x 4 the whole keys and values,
    which are too few heads to split, are put together from what each device did of them."""
    sent = ["all-gather", "all-reduce"] if mesh == "1 x 4" else ["all-reduce"]
    assert report[mesh]["sent"] == sent


@pytest.mark.parametrize("mesh", MESHES)
def test_every_device_holds_its_part(report, mesh):
    model = int(mesh[-1])
    held = report[mesh]["policy"]
    layer = "model.blocks.0."
    assert held["model.embedding"] == [172 // model, 16]
    assert held["model.head.weight"] == [16, 172 // model]
    assert held[layer + "attention.query.weight"] == [16, 24 // model]
    assert held[layer + "attention.key.weight"] == [16, 12 if model == 4 else 12 // model]  # 2 heads
    assert held[layer + "attention.output.weight"] == [24 // model, 16]
    assert held[layer + "mlp.up.weight"] == [16, 24 // model]
    assert held[layer + "mlp.down.weight"] == [24 // model, 16]
    assert held[layer + "mlp_norm.weight"] == [16]


@pytest.mark.parametrize("mesh", MESHES)
def test_an_update_leaves_everything_where_it_lay(report, mesh):
    held, moments = report[mesh]["policy"], report[mesh]["moments"]
    assert report[mesh]["weights"] == held
    assert moments == {"count": []} | {f"{m}.{name}": held[name] for m in ("mu", "nu") for name in held}


@pytest.mark.parametrize("mesh", MESHES)
def test_a_trainer_begins_and_goes_on_in_parts(report, mesh):
    """From a checkpoint too, whose arrays lie with the host."""
    state = report[mesh]["state"]
    assert state["weights.blocks.0.attention.key.up"] == [4, 6 if mesh == "2 x 2" else 12]
    assert state["moments.mu.blocks.0.mlp.down.down"] == [24 // int(mesh[-1]), 4]
    assert report[mesh]["resumed"] == state
