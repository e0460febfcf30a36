"""Options: one place that finds what cannot be, one form as plain data, one way into words and back."""

import dataclasses
import json
import math
import shlex
from dataclasses import dataclass, field
from typing import Annotated, Literal

import jax.numpy as jnp
import numpy as np
import pytest

from proximo.arguments import config_from, parse, parse_recipe
from proximo.commands.lm_train import arguments_of
from proximo.commands.train import Train
from proximo.control.config import Config
from proximo.control.config import as_json as control_as_json
from proximo.control.config import from_json as control_from_json
from proximo.core import Clip, DualClip, KLController, Objective, PreferenceLoss, ValueLoss
from proximo.core.ranges import Range, above, at_least, between
from proximo.errors import OwnCodeMissing, UserError
from proximo.language.evaluation import EvaluationOptions
from proximo.language.running import COMMANDS, method
from proximo.language.train.respond import GenerationOptions
from proximo.learn.actor_steps import ActorStep
from proximo.options import (
    also,
    as_json,
    as_word,
    as_words,
    changes,
    checked,
    flat_options,
    from_json,
    kinds_of,
    options_from,
    with_options,
)
from proximo.policies import NetworkOptions
from proximo.policies.attention import Transformer
from proximo.policies.convolution import ImageOptions, Impala, Nature
from proximo.policies.distributions import (
    BoundedBeta,
    ContinuousDistribution,
    StateDependentExploration,
    TanhNormal,
)
from proximo.policies.memory import Gru, Lstm
from proximo.words import understood


@dataclass(frozen=True)
class Inner:
    """A part."""

    rate: Annotated[float, above(0), also("--lr")] = 0.5
    """How fast."""
    widths: Annotated[tuple[int, ...], at_least(1)] = (64,)
    """How wide."""


@dataclass(frozen=True)
class Outer:
    """All of them."""

    count: Annotated[int, at_least(1)] = 3
    """How many."""
    share: Annotated[float | None, Range(least=0, below=1)] = None
    """How much."""
    kind: Literal["one", "other"] = "one"
    """Which."""
    objective: Objective = field(default_factory=Clip)
    """What for."""
    inner: Inner = field(default_factory=Inner)


# ---- what they may be


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 0.0}, "rate is 0.0: it must be above 0"),
        ({"rate": math.nan}, "rate is nan: it must be finite and above 0"),
        ({"rate": math.inf}, "rate is inf: it must be finite and above 0"),
        ({"share": 1.0}, "share is 1.0: it must be at least 0 and below 1"),
        ({"count": 0}, "count is 0: it must be at least 1"),
        ({"widths": (64, 0)}, "widths is (64, 0): each must be at least 1"),
        ({"count": -(10**400)}, f"count is -1{400 * '0'}: it must be at least 1"),
        ({"objective": DualClip(0.2, 1.0)}, "DualClip's bound is 1.0: it must be above 1"),
    ],
)
def test_a_number_out_of_its_range_is_told(given, message):
    with pytest.raises(UserError) as error:
        checked(with_options(Outer(), **given))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0.5}, "count is 0.5: it must be a whole number"),
        ({"count": True}, "count is True: it must be a whole number"),
        ({"rate": "fast"}, "rate is 'fast': it must be a number"),
        ({"rate": 10**400}, "rate is 100000000000000000...0000000000000000000: it must be a number"),
        ({"share": "much"}, "share is 'much': it must be a number or None"),
        ({"widths": ("a",)}, "widths is ('a',): it must be a list, each a whole number"),
        ({"kind": "third"}, "kind is 'third': it must be one of one, other"),
        ({"objective": DualClip}, "DualClip is a class: write DualClip()"),
        (
            {"objective": "dual-clip:0.2"},
            "objective is 'dual-clip:0.2': in Python write DualClip(...), "
            "from proximo.core.surrogates import DualClip",
        ),
    ],
)
def test_a_value_of_another_kind_is_told_by_its_name_or_in_its_place(given, message):
    (name,) = given
    made = Inner(**given) if hasattr(Inner, name) else dataclasses.replace(Outer(), **given)
    for refused in (lambda: with_options(Outer(), **given), lambda: checked(made)):
        with pytest.raises(UserError) as error:
            refused()
        assert str(error.value) == message


def outside(bounds):
    """Numbers that are not in a range: just beyond each of its ends."""
    for end, step in ((bounds.least, -1), (bounds.most, 1)):
        if math.isfinite(end):
            yield end + step
    yield from (end for end in (bounds.above, bounds.below) if math.isfinite(end))
    yield math.nan


KINDS = (Config, GenerationOptions, EvaluationOptions, *(method(command)[0] for command in COMMANDS))
CHOICES = [
    kind
    for union in (
        *(Objective, ValueLoss, KLController, PreferenceLoss, ActorStep),
        *(Lstm | Gru | Transformer, ContinuousDistribution, ImageOptions),
    )
    for kind in kinds_of(union)
]
GIVEN = {"model": "M", "data": "D", "env": "E"}


@pytest.mark.parametrize("kind", [*KINDS, *CHOICES], ids=lambda kind: kind.__name__)
def test_every_range_of_every_class_is_kept(kind):
    known = flat_options(kind)
    options = options_from(kind, {name: value for name, value in GIVEN.items() if name in known})
    checked(options)  # the defaults can be
    for name, option in known.items():
        for number in () if option.range is None else outside(option.range):
            several = any("tuple" in str(one) for one in kinds_of(option.declared))
            if isinstance(number, float) and int in (option.declared, *kinds_of(option.declared)):
                continue  # no whole number at all
            with pytest.raises(UserError, match=f"^{name} is .*must"):
                checked(with_options(options, **{name: (number,) if several else number}))


@pytest.mark.parametrize("kind", CHOICES, ids=lambda kind: kind.__name__)
def test_every_number_of_a_choice_has_a_range(kind):
    assert all(
        option.range is not None
        for option in flat_options(kind).values()
        if float in kinds_of(option.declared)
    )


def test_numbers_that_a_program_computed_are_plain_ones():
    computed = Outer(
        np.int64(4),
        np.float32(0.5),
        objective=Clip(np.float64(0.25)),
        inner=Inner(jnp.float32(0.125), (np.int32(8),)),
    )
    expected = Outer(4, 0.5, objective=Clip(0.25), inner=Inner(0.125, (8,)))
    assert repr(checked(computed)) == repr(expected)
    assert json.loads(json.dumps(as_json(checked(computed)))) == as_json(expected)


# ---- as plain data


def test_plain_data_names_a_class_only_where_there_is_a_choice():
    options = with_options(Outer(), rate=0.25, clip=0.1)
    data = as_json(options)
    assert data["inner"] == {"rate": 0.25, "widths": [64]}
    assert data["objective"] == {"name": "Clip", "epsilon": 0.1}
    assert from_json(Outer, json.loads(json.dumps(data)), "here") == options
    # Version 0.2 of language models named every part.
    named = {"name": "Outer", **data, "inner": {"name": "Inner", **data["inner"]}}
    assert from_json(Outer, named, "here") == options
    assert from_json(Outer, {}, "here") == Outer()  # an option that is newer than the file has its default


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"name": "Inner"}, "its kind is 'Inner', which is not a class of Proximo's"),
        (
            {"inner": {"name": "os.system"}},
            "its inner is 'os.system', which is not a class of Proximo's, and a file never imports code",
        ),
        ({"objective": {"name": "Own"}}, "its objective is 'Own', which is not a class of Proximo's"),
        ({"objective": {"epsilon": 0.1}}, "its objective is None"),
        ({"colour": 1}, "unknown options ['colour']"),
        ({"count": "three"}, "count is 'three', not a whole number"),
        ({"objective": {"name": "Clip", "epsilon": "wide"}}, "epsilon is 'wide', not a number"),
        (3, "kind is 3"),
    ],
)
def test_a_file_that_says_anything_else_is_refused_and_imports_nothing(data, reason):
    with pytest.raises(UserError) as error:
        from_json(Outer, data, "FILE")
    assert str(error.value).startswith("FILE does not describe options of this version (")
    assert reason in str(error.value) and "\n" not in str(error.value)


# ---- in words


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (Clip(0.2), "clip:epsilon=0.2"),
        (DualClip(0.2, 3.0), "dual-clip:epsilon=0.2,bound=3"),
        ({"name": "IPOLoss", "per_token": True}, "ipo-loss:per_token=1"),
        ({"name": "Unclipped"}, "unclipped"),
        (Clip(0.123456789), "clip:epsilon=0.123456789"),  # never fewer digits than there are
        ((64, 64), "64 64"),
        (0.001, "0.001"),
        (None, "None"),
    ],
)
def test_a_value_in_one_word(value, word):
    assert as_word(value) == word


def test_options_in_words():
    changed = with_options(Outer(), rate=0.25, widths=(8, 4), clip=0.1)
    assert changes(changed, Outer()) == {"objective": Clip(0.1), "rate": 0.25, "widths": (8, 4)}
    words = shlex.join(as_words(changes(changed, Outer())))
    assert words == "--objective clip:epsilon=0.1 --rate 0.25 --widths 8 4"
    assert as_words({"packing": False, "chat": True}) == ["--no-packing", "--chat"]
    assert parse(Outer, "outer", [f"--{word}" for word in ("count=5", "inner.rate=2")]) == Outer(
        5, inner=Inner(2.0)
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_the_words_of_a_language_models_options_give_them_again(command):
    kind, _ = method(command)
    given = {"model": "M", "data": "D"}
    before = options_from(kind, given)
    new = {
        "learning_rate": 1e-6,
        "seed": 3,
        "lora_targets": ("query", "up"),
        "tensorboard": True,
        "micro_batch_tokens": 64,
    }
    options = with_options(before, **new)
    words = [*as_words(given), *as_words(changes(options, before))]
    arguments = arguments_of(command)
    assert parse(arguments, command, understood(command, words, arguments)).options == options


NETWORKS = [
    (("--network", "lstm"), {"network": Lstm()}),
    (("--network", "lstm:size=128"), {"network": Lstm(128)}),
    (("--network", "gru:32"), {"network": Gru(32)}),
    (("--network", "transformer:window=32"), {"network": Transformer(window=32)}),
    (("--distribution", "tanh-normal"), {"distribution": TanhNormal()}),
    (("--distribution", "bounded-beta"), {"distribution": BoundedBeta()}),
    (("--distribution", "state-dependent-exploration:8"), {"distribution": StateDependentExploration(8)}),
    (("--image-network", "nature"), {"image_network": Nature()}),
    (("--image-network", "impala:channels=[8,16],features=256"), {"image_network": Impala((8, 16), 256)}),
    (("--embedding", "8", "--modulate", "--flatten"), {"embedding": 8, "modulate": True, "flatten": True}),
]


@pytest.mark.parametrize(("words", "options"), NETWORKS)
def test_networks_memories_and_distributions_are_typed_written_and_read_again(words, options):
    config = config_of(*words)
    plain = config_of()
    assert changes(config.network, plain.network) == options
    assert config_of(*as_words(changes(config, plain))) == config
    assert control_from_json(json.loads(json.dumps(control_as_json(config)))) == config
    assert with_options(plain, **options) == config


def test_numbers_with_colons_between_them_are_answered_with_the_word_to_type():
    with pytest.raises(UserError, match="has two colons: write small:channels=8,features=32"):
        config_of("--image-network", "small:channels=8:features=32")


def test_a_network_of_ones_own_may_be_called_as_one_of_ours():
    data = {"name": "Lstm", "own": "mine.py:Lstm", "size": 3}
    with pytest.raises(OwnCodeMissing, match="its network is Lstm, code of your own"):
        from_json(NetworkOptions, {"network": data}, "FILE")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("lstn", "there is no 'lstn': take one of lstm, gru, transformer, or of your own module:class"),
        ("lstm:width=3", "lstm has no 'width': it has size"),
        ("lstm:0", "Lstm's size is 0: it must be at least 1"),
    ],
)
def test_a_network_that_there_is_not_is_refused_in_one_line(word, message):
    with pytest.raises(UserError) as error:
        config_of("--network", word)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_help_shows_defaults_reasons_and_ranges(capsys):
    with pytest.raises(SystemExit):
        parse(Outer, "outer", ["--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--inner.rate FLOAT How fast. Above 0. Also --lr. (default: 0.5)" in text
    assert "How much. At least 0 and below 1. (default: none)" in text


# ---- other libraries' words, in control (those of language models: language/test_trl_words.py)


def config_of(*words):
    return config_from(parse_recipe(Train, "train", ["CartPole-v1", *words]))


@pytest.mark.parametrize("name", [alias for one in flat_options(Train).values() for alias in one.aliases])
def test_every_other_name_is_understood(name):
    (option,) = [option for option in flat_options(Train).items() if name in option[1].aliases]
    value = [] if option[1].declared is bool else ["3"]
    ours = f"--{option[0].replace('_', '-')}"
    assert understood("train", ["E", name.replace("-", "_").replace("__", "--"), *value], Train) == [
        "E",
        ours,
        *value,
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--clip-coef 0.1 --clip 0.2", "--clip-coef and --clip both set --clip: give only one of them"),
        ("--n-epochs 3 --update-epochs 4", "--n-epochs and --update-epochs both set --epochs"),
        ("--capture-video", "--capture-video: use --video-every N"),
        ("--no-norm-adv", "--norm-adv: use --advantage-normalisation"),
        ("--cuda", "--cuda: JAX chooses the device"),
    ],
)
def test_what_is_refused_says_what_to_do(words, message):
    with pytest.raises(UserError) as error:
        config_of(*words.split())
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_environment_may_stand_anywhere():
    for words in (
        ["--quiet", "CartPole-v1"],
        ["--seed", "1", "CartPole-v1"],
        ["--seed=1", "--env-id", "CartPole-v1"],
        ["--hidden", "8", "4", "--env-id", "CartPole-v1"],  # not a third width
    ):
        assert parse_recipe(Train, "train", words).options.env == "CartPole-v1"
    assert config_of("--hidden", "8", "4", "--no-anneal-lr", "--until", "-200").until == -200.0


# ---- ranges


@pytest.mark.parametrize(
    ("bounds", "inside", "beyond", "words"),
    [
        (above(0), (1e-9, 5, 10**400), (0, -1, math.inf), "above 0"),
        (at_least(1), (1, 2), (0.5, 0), "at least 1"),
        (at_least(0, infinite=True), (0, math.inf), (-1e-9, -math.inf), "at least 0"),
        (between(0, 1), (0, 0.5, 1), (-0.1, 1.1), "between 0 and 1"),
        (Range(above=0, most=1), (1, 0.1), (0, 1.1), "above 0 and at most 1"),
        (Range(), (0, -5.0), (math.inf, -math.inf), "finite"),
    ],
)
def test_a_range(bounds, inside, beyond, words):
    assert all(number in bounds for number in inside)
    assert not any(number in bounds for number in (*beyond, math.nan))
    assert str(bounds) == words
