"""`proximo inspect RUN`: one update of a run under the microscope."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from proximo.arguments import Watched, parse, parse_words
from proximo.core.surrogates import LOG_RATIO_LIMIT
from proximo.errors import UserError, say
from proximo.options import also, as_word, changes
from proximo.own import OwnCode
from proximo.paths import short
from proximo.words import understood

if TYPE_CHECKING:
    from proximo.control.inspection import Moment, Variant
    from proximo.runs.report.inspection import Version

OWN = "as the run made it"
ANSWERS_SHOWN, TOKENS_SHOWN = 4, 64


@dataclass(frozen=True)
class Inspect(Watched):
    """Make one update of a run again, epoch by epoch, and write what happened to every sample's probability
    ratio as one HTML page. Of control, and of `lm ppo` and `lm grpo`."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """A run folder."""
    update: int | None = None
    """The update's number, from 1. By default the first after a checkpoint. A later one takes longer: the run
    is trained again from the newest checkpoint before it."""
    what_if: tuple[str, ...] = ()
    """The same update with other options, such as `clip:0.1` or `epochs:30`. Several changes at once go in
    quotes: `"clip:0.1 epochs:30"`."""
    episodes: Annotated[int, also("--n-eval-episodes", "--eval-episodes")] = 100
    """Full episodes to play with the policy before the update and after each version of it. 0 plays none."""
    seed: int = 0
    """Random seed of these episodes."""
    out: Path | None = None
    """The HTML file. By default RUN/inspect-UPDATE.html."""
    env: Annotated[str | None, tyro.conf.arg(metavar="ENV")] = None
    """The environment. Name your own here, such as `file.py:Class`."""
    network: OwnCode | None = None
    """The class of your own network, if the run has one: `module:Class` or `file.py:Class`."""
    reward: tuple[str, ...] = ()
    """The reward functions of a run of `lm ppo` or `lm grpo`, as they were given to it."""


def read(words: list[str]) -> Inspect:
    """The arguments that were typed."""
    return parse_words(Inspect, "inspect", words)


def run(arguments: Inspect) -> int:
    """Inspect; returns the exit status."""
    from proximo.runs.kinds import language_command
    from proximo.runs.process import prepare_process
    from proximo.runs.report.inspection import inspection_page
    from proximo.runs.sealed import check_target, writing

    prepare_process()
    if arguments.episodes < 0:
        raise UserError(f"episodes is {arguments.episodes}: it must be at least 0")
    if arguments.out is not None:
        check_target(arguments.out)
    command = language_command(arguments.run)
    refuse_others(arguments, command)
    of = of_control if command is None else of_language
    told, number = of(arguments)
    out = short(arguments.out or arguments.run / f"inspect-{number}.html")
    with writing(out):
        out.write_text(inspection_page(told), encoding="utf-8", errors="replace")
    if arguments.json:
        print(json.dumps(as_numbers(told, number, str(out)), allow_nan=False))
        return 0
    for one in told.versions:
        kl, outside, flat = (one.means[name][-1] for name in (told.divergence, "outside", "no_slope"))
        earned = "" if one.score is None else f", {told.scored} {one.score.value:,.4g}"
        print(f"{one.label}: KL {kl:.4g}, {outside:.1%} outside the range, {flat:.1%} without slope{earned}")
    print(f"page: {out}")
    return 0


def refuse_others(arguments: Inspect, command: str | None) -> None:
    """Raise UserError for options that say nothing about this kind of run.

    command  of `proximo lm` that made it; None for `proximo train`
    """
    others = ("reward",) if command is None else ("env", "network", "seed")
    kind = "`proximo train`" if command is None else f"`proximo lm {command}`"
    default = {one.name: one.default for one in fields(Inspect)}
    for name in others:
        if getattr(arguments, name) != default[name]:
            raise UserError(f"--{name} says nothing about a run of {kind}: leave it out")


def as_numbers(told: Any, number: int, page: str) -> dict[str, Any]:
    """What `--json` prints."""
    versions = [
        {
            "label": one.label,
            "means": {name: list(values) for name, values in one.means.items()},
            "ratios": counted(one, told.bounds),
            "score": None if one.score is None else one.score.value,
            "gain": None if one.gain is None else one.gain._asdict(),
        }
        for one in told.versions
    ]
    before = None if told.before is None else told.before.value
    found = {"page": page, "update": number, "title": told.title, "lead": told.lead}
    found |= {"command": told.command, "bounds": [round(bound, 6) for bound in told.bounds]}
    return {**found, "notes": list(told.notes), "before": before, "versions": versions}


def counted(one: "Version", bounds: tuple[float, float]) -> dict[str, Any]:
    """How many ratios lie between which edges after each epoch: all, and those that still have a slope."""
    import numpy as np

    from proximo.runs.report.inspection import edges_of, inside

    edges = edges_of(bounds)
    found: dict[str, Any] = {"edges": [round(float(x), 6) for x in edges], "all": [], "moving": []}
    for shape in one.ratios:
        held = inside(shape.ratio, edges)
        found["all"].append(np.histogram(held, edges)[0].tolist())
        found["moving"].append(np.histogram(held[shape.moving], edges)[0].tolist())
    return found


def of_control(arguments: Inspect) -> tuple[Any, int]:
    """What the page says of a run of `proximo train`, and the update's number."""
    from proximo.control.inspection import changed, moment_of, plan, played_by, variant
    from proximo.learn.loss import clip_range
    from proximo.learn.update import current_objective
    from proximo.runs.report.charts import short as rounded
    from proximo.runs.report.inspection import ANSWERS, Inspected

    own = {} if arguments.network is None else {"network": arguments.network}
    planned = plan(arguments.run, arguments.update, own)
    configs = {OWN: planned.config}
    for words in arguments.what_if:  # mistakes are told before anything is computed
        configs[words] = changed(planned.config, parsed_changes(words, planned.config.update))
    if not arguments.quiet:
        say_way(0 if planned.start is None else planned.start.number, planned.number)
    moment = moment_of(planned, arguments.env, allow_import=arguments.env is not None)
    playing = {"seed": arguments.seed, "env": arguments.env, "allow_import": arguments.env is not None}
    before = played_by(moment, moment.learner, arguments.episodes, **playing)
    found = [variant(moment, name, configs[name], arguments.episodes, **playing) for name in configs]
    versions = drawn(found)
    own_version = versions[0]
    bounds = clip_range(current_objective(moment.learner, moment.config.update, moment.remaining))
    low, high = (float(bound) for bound in bounds)
    notes = []
    if moment.fresh is not None:
        why = moment.fresh.partition(":")[0]
        notes = [f"{why}: this is a new rollout of the run's policy, not the one that the run learned from"]
    config = moment.config
    kl, outside = own_version.means["kl"][-1], own_version.means["outside"][-1]
    tiles = [
        ("Update", f"{moment.number:,}", f"at {moment.steps:,} of {config.steps:,} steps"),
        ("Samples", f"{config.num_envs * config.horizon:,}", f"{config.num_envs} x {config.horizon}"),
        ("Epochs", str(config.update.epochs), f"of minibatches of {config.update.minibatch_size}"),
        ("KL", rounded(kl), "nats, after the last epoch"),
        ("Outside", f"{outside:.1%}", "of the ratios, after the last epoch"),
    ]
    if before is not None and own_version.score is not None:
        tiles.append(("Return", rounded(own_version.score.value), f"{rounded(before.mean)} before"))
    lead = f"{sentence(ANSWERS[moment.same])} Learning rate {rounded(rate_of(moment))}."
    return Inspected(
        title=config.name,
        lead=lead,
        tiles=tiles,
        command=again(arguments, moment.number),
        notes=notes,
        bounds=(low, high),
        versions=versions,
        before=None if before is None else estimate_of(before.returns),
        scored="return",
    ), moment.number


def sentence(words: str) -> str:
    """With a capital and a stop."""
    return f"{words[0].upper()}{words[1:]}."


def again(arguments: Inspect, number: int) -> str:
    """The command that makes this page."""
    words = ["proximo", "inspect", str(short(arguments.run)), "--update", str(number)]
    words += ["--what-if", *arguments.what_if] if arguments.what_if else []
    default = {one.name: one.default for one in fields(Inspect)}
    for name in ("episodes", "seed", "env"):
        if getattr(arguments, name) != default[name]:
            words += [f"--{name}", str(getattr(arguments, name))]
    words += ["--network", as_word(arguments.network)] if arguments.network is not None else []
    words += ["--reward", *arguments.reward] if arguments.reward else []
    return shlex.join(words)


def rate_of(moment: "Moment") -> float:
    """Adam's step size in this update."""
    from proximo.learn.update import current_learning_rate

    return float(current_learning_rate(moment.learner, moment.config.update, moment.remaining))


def estimate_of(values: Sequence[float]) -> Any:
    """A mean with its interval."""
    from proximo.runs.statistics import mean_of

    return mean_of(list(values))


def drawn(variants: "Sequence[Variant]") -> "list[Version]":
    """Variants of an update as the page takes them; the first is the run's own."""
    from proximo.control.inspection import differences

    found, own = [], variants[0].returns
    for one in variants:
        score = gain = None
        if one.returns is not None:
            score = estimate_of(one.returns.returns)
        if own is not None and one.returns is not None and one is not variants[0]:
            gain = estimate_of(differences(one.returns, own))
        samples = [epoch.samples for epoch in one.epochs]
        found.append(version(one.changes, one.epochs, samples, score, gain))
    return found


def version(label: str, epochs: Sequence[Any], samples: Sequence[Any], score: Any, gain: Any) -> "Version":
    """One way to make an update, as the page takes it.

    epochs   of `replay`, from 0
    samples  of each epoch, or tokens: their log ratios, whether they still push, and whether they count
    """
    import numpy as np

    from proximo.runs.report.inspection import Shape, Version

    shapes = []
    for one in samples:
        counts = np.asarray(one.counts)
        ratio = np.exp(np.clip(np.asarray(one.log_ratio), -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))
        shapes.append(Shape(ratio[counts], np.asarray(one.moving)[counts]))
    steps = {
        name: [float(x) for epoch in epochs[1:] for x in np.asarray(epoch.steps[name])]
        for name in ("grad_norm", "cosine")
    }
    means = {name: [float(epoch.means[name]) for epoch in epochs] for name in epochs[0].means}
    return Version(label, shapes, means, steps, score, gain)


def say_way(done: int, number: int) -> None:
    """What has to be computed first."""
    if number - done > 1:
        where = f"update {done}" if done else "its beginning"
        say(f"training again from {where} to update {number}")


def parsed_changes(words: str, before: Any) -> Mapping[str, Any]:
    """The changes that one `--what-if` asks for, by the options' names. Raises UserError.

    words   `clip:0.1`, or several, with spaces between them
    before  the run's options
    """
    kind, typed = type(before), list[str]()
    for word in words.split():
        name, separator, value = word.partition(":")
        option = f"--{name.replace('_', '-')}"
        if not separator or not value:
            raise UserError(f"--what-if {word} is not of the form OPTION:VALUE, such as clip:0.1")
        switch = {"true": [option], "false": [f"--no-{option[2:]}"]}
        typed += switch.get(value, [option, value])
    try:
        asked = parse(kind, "inspect", understood("inspect", typed, kind), before)
    except UserError as error:
        raise UserError(f"--what-if {words}: {error}") from None
    found = changes(asked, before)
    if not found:
        raise UserError(f"--what-if {words}: that is what the run has")
    return found


# ---- language models


def of_language(arguments: Inspect) -> tuple[Any, int]:
    """What the page says of a run of `lm ppo` or `lm grpo`, and the update's number."""
    from proximo.language.inspection import changed, moment_of, plan, scores_of, variant
    from proximo.learn.loss import clip_range
    from proximo.runs.report.charts import short as rounded
    from proximo.runs.report.inspection import ANSWERS, Inspected
    from proximo.runs.report.tokens import answers

    planned = plan(arguments.run, arguments.update, arguments.reward)
    before = planned.options
    options = {OWN: before}
    for words in arguments.what_if:
        kinds = language_changes()(before.steps, before.optimisation)
        options[words] = changed(before, parsed_changes(words, kinds))
    if not arguments.quiet:
        say_way(planned.done, planned.number)
    moment = moment_of(planned)
    count = arguments.episodes
    scores = scores_of(moment, moment.arguments[0].weights, count)
    variants = [variant(moment, name, options[name], count) for name in options]
    versions = drawn_tokens(variants)
    own, trainer = versions[0], moment.trainer
    low, high = (float(bound) for bound in clip_range(before.steps.objective))
    steps = before.steps
    tiles = [
        ("Update", f"{moment.number:,}", f"of {trainer.total:,}"),
        ("Responses", f"{trainer.rows:,}", f"{own.ratios[0].ratio.size:,} tokens that count"),
        ("Epochs", str(steps.epochs), f"of {steps.minibatches} minibatches"),
        ("KL", rounded(own.means["k3"][-1]), "nats a token (k3), after the last epoch"),
        ("Outside", f"{own.means['outside'][-1]:.1%}", "of the ratios, after the last epoch"),
    ]
    if scores is not None and own.score is not None:
        tiles.append(("Score", rounded(own.score.value), f"{rounded(float(known(scores).mean()))} before"))
    return Inspected(
        title=f"lm {planned_command(arguments.run)}",
        lead=sentence(ANSWERS[moment.same]),
        tiles=tiles,
        command=again(arguments, moment.number),
        notes=[],
        bounds=(low, high),
        versions=versions,
        before=None if scores is None else estimate_of(known(scores)),
        scored="score",
        more=[answers(*told_tokens(moment, variants[0]))],
    ), moment.number


def language_changes() -> Any:
    """The options of `lm ppo` and `lm grpo` that another version of an update may have."""
    from proximo.language.train.optimise import Optimisation
    from proximo.language.train.options import StepOptions

    @dataclass(frozen=True)
    class LanguageChanges:
        """Other options of an update of responses."""

        steps: Annotated[StepOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")]
        optimisation: Annotated[Optimisation, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")]

    return LanguageChanges


def planned_command(run: Path) -> str:
    """`ppo` or `grpo`."""
    from proximo.runs.kinds import language_command

    return str(language_command(run))


def known(scores: Any) -> Any:
    """Scores of responses that have one."""
    import numpy as np

    return scores[~np.isnan(scores)]


def drawn_tokens(variants: Sequence[Any]) -> "list[Version]":
    """Versions of an update on responses as the page takes them."""
    found, own = [], variants[0].scores
    for one in variants:
        score = gain = None
        if one.scores is not None:
            score = estimate_of(known(one.scores))
            gain = None if one is variants[0] else estimate_of(known(one.scores - own))
        found.append(version(one.changes, one.epochs, [epoch.tokens for epoch in one.epochs], score, gain))
    return found


def told_tokens(moment: Any, own: Any) -> tuple[Any, ...]:
    """The prompts, tokens and columns of numbers of the first few responses."""
    import numpy as np

    rollout, ledger, tokenizer = moment.rollout, moment.ledger, moment.trainer.rollouts.tokenizer
    after = np.asarray(own.epochs[-1].tokens.log_prob)
    width, lengths = rollout.width, np.asarray(rollout.responses.lengths)
    ids = np.asarray(rollout.responses.ids)[:, width:]
    rows = []
    for index in range(min(ANSWERS_SHOWN, len(lengths))):
        count = min(int(lengths[index]), TOKENS_SHOWN)
        words = [tokenizer.decode([int(token)]) or "end" for token in ids[index, :count]]
        columns = [np.asarray(part)[index, :count] for part in (*ledger, after)]
        score = rollout.score[index]
        rows.append((rollout.prompts[index], float(score), words, columns))
    return (rows,)
