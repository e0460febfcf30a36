"""Every family gives the logits that `transformers` gives, whoever saved the model."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import families
import jax.numpy as jnp
import numpy as np
import pytest

from proximo.language.files.folder import load_model, save_model
from proximo.language.model.transformer import Transformer


class Case(NamedTuple):
    config: dict  # as transformers 4 writes it
    folder: Path  # as transformers 5 writes it
    logits: np.ndarray  # theirs
    model: Transformer  # ours, loaded from the folder


@pytest.fixture(scope="module", params=families.CONFIGS)
def case(request, tmp_path_factory):
    config, place = families.CONFIGS[request.param], tmp_path_factory.mktemp(request.param)
    logits = families.their_logits(families.their_model(config, place), families.batch())
    return Case(config, place / "theirs", logits, load_model(place / "theirs"))


def test_their_model_gives_their_logits_here(case):
    families.assert_same_logits(case.model, case.logits, families.batch())


def test_an_older_config_says_the_same(case, tmp_path):
    """As transformers 4 spelled it: rope_theta and rope_scaling, patterns of windows instead of lists."""
    shutil.copytree(case.folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text(json.dumps(case.config))
    older, newer = (dict(vars(model.config), source="") for model in (load_model(tmp_path), case.model))
    assert older == newer


def test_our_model_gives_our_logits_there(case, tmp_path):
    ours = families.random_like(case.model)
    save_model(tmp_path / "ours", ours)
    theirs = families.their_loaded(tmp_path / "ours")
    families.assert_same_logits(ours, families.their_logits(theirs, families.batch()), families.batch())


def test_packed_texts_do_not_see_each_other(case):
    """Seven tokens and five in one row give what each gives alone, padded right and left."""
    ids = jnp.asarray(families.batch().ids[:1])
    alone = jnp.concatenate([ids, ids])
    segments = jnp.array([[1] * 7 + [0] * 5, [0] * 7 + [1] * 5])
    separate = np.asarray(families.our_logits(case.model, alone, segments))
    packed = np.asarray(families.our_logits(case.model, alone, segments[:1] + 2 * segments[1:]))
    np.testing.assert_allclose(packed[0, :7], separate[0, :7], atol=1e-5)
    np.testing.assert_allclose(packed[1, 7:], separate[1, 7:], atol=1e-5)
