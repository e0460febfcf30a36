"""Run every command of README, CONTRIBUTING.md and docs, in a short variant.

    python -m tests.documented [PAGE ...]        e.g. README.md paper.md; all pages where none is named

The commands of a page run in its order, in a folder with the files that a reader has (FILES). What a page
takes for granted, such as `runs/Hopper-v5-0-...`, is made before (MADE). SHORT says how a command becomes
short, and NOT_RUN which commands are left out, and why. A command that no rule knows is an error: none is
forgotten. Prints a line for each; the exit status is 1 if one failed.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
PROCESSES = 2  # pages at a time
LONGEST = 600  # seconds of one command, on a busy machine too

STEPS = "4096"  # two rollouts of most recipes
SHORT: dict[str, dict[str, str]] = {
    "train": {"--steps": STEPS},
    "train --resume": {"--steps": "8192"},
    "inspect": {"--episodes": "2"},
    "evaluate": {"--episodes": "2"},
    "watch": {"--video": "play.mp4", "--env-kwargs": "max_episode_steps=50"},
    "report": {},
    "export": {},
    "runs": {},
    "sweep": {"--steps": STEPS, "--trials": "2"},
    "bench": {"--repeats": "1"},
    "check": {"--steps": "50"},
    "reproduce": {},
    "reproduce table1-quick": {
        "--only": "InvertedPendulum-v5",
        "--setting": "clip-0.2",
        "--seeds": "0",
        "--processes": "1",
    },
    "lm new": {"--layers": "1", "--width": "32", "--vocabulary": "300", "--context": "64"},
    "lm sft": {},
    "lm reward": {},
    "lm ppo": {"--episodes": "16", "--batch-size": "8", "--response-length": "8"},
    "lm grpo": {"--episodes": "32", "--batch-size": "2", "--response-length": "8"},
    "lm dpo": {},
    "lm generate": {"--max-new-tokens": "8"},
    "lm chat": {"--max-new-tokens": "8"},
}
"""What each command gets. A number that the page gives for such an option is replaced; a name is kept."""
LONG = {"--eval-every": "2048", "--update": "1"}
"""What replaces the number of an option that is not added."""
ALSO = {"--steps": ("--total-timesteps",)}
"""Other names of an option."""
PYTHON = (
    (r"\b\d+_000\b", STEPS),
    (r"> 475\b", "> 0"),
    (r'("CartPole-v1", (?:network|objective)=\w+)\)', rf"\1, steps={STEPS})"),
    (r"reward=short\)", "reward=short, episodes=16, batch_size=8, response_length=8)"),
)
"""What becomes short in a block of Python."""
BEFORE = {
    "extending.md": "import jax.numpy as jnp\nimport proximo\n",
    "README.md": "observation = [0.0] * 4\n",
    "migrating.md": "observation = [0.0] * 4\n",
    "package-index.md": "from my_file import MyEnv\nobservation = [0.0]\n",
    "language.md": "from my_rewards import short\n",
    "notebooks.md": "import proximo\n",
    "networks.md": "import math\nimport equinox as eqx\nimport jax\nimport jax.numpy as jnp\nimport proximo\n"
    "from examples.parcels import Parcels\n",
}
"""What the reader has before a page's blocks of Python."""

MEASURES = "it measures for long, and what it found is in results/"
CHECKS = "it is the checks themselves"
NOT_RUN = {
    "git clone": "it needs the address of the repository",
    "pip install": "it installs packages",
    "make train": "it installs packages, then runs `proximo train`",
    "make test": CHECKS,
    "make check": CHECKS,
    "make slow": CHECKS,
    "make documented": CHECKS,
    "make matrix": CHECKS,
    "make site": "it makes pages; tests/site builds them",
    "make format": "it changes the checkout",
    "make lm-example": "it takes minutes; tests/language/test_examples.py runs its stages for a moment",
    "make bench": MEASURES,
    "python -m benchmarks.pictures": "it draws the pictures of docs again",
    "python -m benchmarks.screenshots": "it takes the screenshots of docs again",
    "python -m benchmarks.site_pictures": "it draws the pictures of docs again",
    "python -m benchmarks": MEASURES,
    ".venv/bin/python -m benchmarks": MEASURES,
    "python -m examples.own_objective": "it takes minutes; tests/test_docs.py trains with it",
    "python -m examples.language": "it takes minutes; tests/language/test_examples.py runs its parts",
}
"""How the commands begin that are left out, and why."""

OWN_ENVIRONMENT = """from examples.own_environment import Walk


class {name}(Walk):
    def __init__(self, size=10):
        self.size = size
"""
PROMPTS = [{"prompt": f"the {noun} was"} for noun in ("film", "cast", "plot", "end")] * 4
TEXTS = [{"text": f"{prompt['prompt']} {word} ."} for prompt in PROMPTS for word in ("good", "bad", "long")]
PAIRS = [{**prompt, "chosen": " good .", "rejected": " bad ."} for prompt in PROMPTS]
TYPED = "the film was\n/exit\n"


def json_lines(records):
    """The text of a data file."""
    return "".join(json.dumps(record) + "\n" for record in records)


def example(name):
    """The text of a file of `examples`."""
    return (ROOT / "examples" / name).read_text()


def quotes(text):
    """(file, lines) of every Python block that begins with a comment naming its file."""
    return re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def commands(text):
    """The words after `proximo` of every command in a block of its own."""
    lines = re.findall(r"^proximo (.*)$", text, flags=re.MULTILINE)
    return [words for line in lines if (words := shlex.split(line, comments=True))]


REWARDS = dict(quotes((ROOT / "docs" / "language.md").read_text()))["my_rewards.py"]
FILES = {
    "my_shop.py": OWN_ENVIRONMENT.format(name="Shop"),
    "my_file.py": OWN_ENVIRONMENT.format(name="MyEnv"),
    "my_objective.py": example("own_objective.py"),
    "my_network.py": example("own_network.py"),
    "my_rewards.py": f"{REWARDS}\n\nscore = short\n",
    "texts.jsonl": json_lines(TEXTS),
    "prompts.jsonl": json_lines(PROMPTS),
    "pairs.jsonl": json_lines(PAIRS),
}
"""What a reader has, beside `examples` and `results`."""

SCORED = "--data prompts.jsonl --reward my_rewards:score"
MADE = (
    (r"MODEL", "model", "lm new model --texts texts.jsonl"),
    (r"my_run", "runs/my_run", "train my_shop.py:Shop --out runs/my_run"),
    (r"runs/\*", "runs/*", "train CartPole-v1"),
    (r"runs/lm-sft-\.\.\.", "runs/lm-sft-*", "lm sft --model MODEL --data texts.jsonl"),
    (r"runs/lm-reward-\.\.\.", "runs/lm-reward-*", "lm reward --model MODEL --data pairs.jsonl"),
    (r"runs/lm-ppo-\.\.\.", "runs/lm-ppo-*", f"lm ppo --model runs/lm-sft-... {SCORED}"),
    (r"runs/([\w]+-v\d+)-0-\.\.\.", r"runs/\1-0-*", r"train \1"),
)
"""What a page takes for granted: the word for it, where it is, and the command that makes it otherwise."""


class UnknownCommand(Exception):
    """No rule says how to make a command short."""


class Entry(NamedTuple):
    """Something on a page that can be run.

    kind  `proximo`, `python` (a block) or `other`
    text  the line, without its comment, or the block
    """

    kind: str
    text: str


class Outcome(NamedTuple):
    """What became of an entry: `ok`, `failed` or `not run`; what was run, and why it ended so."""

    status: str
    shown: str
    reason: str = ""


def entries(text):
    """What can be run on a page, in order. Blocks that quote a file are no such thing: see test_docs.py."""
    for language, block, inline in re.findall(
        r"^```(\w*)\n(.*?)^```$|(?<!`)`((?:make \S|python -[mc]|\.venv/bin/python -m|pip install)[^`]+)`",
        text,
        flags=re.DOTALL | re.MULTILINE,
    ):
        if inline:
            yield Entry("other", " ".join(inline.split()))
        elif language == "python":
            if not quotes(f"```python\n{block}```"):
                yield Entry("python", block)
        else:
            for line in block.splitlines():
                if words := commands(line):
                    yield Entry("proximo", shlex.join(words[0]))
                elif re.match(r"(git|pip|make|python3?|\.venv/bin/\w+|uv|cd) ", line):
                    yield Entry("other", line.partition("  ")[0])


def rule(words):
    """The name in SHORT of a command. Raises UnknownCommand where there is none."""
    name = " ".join(words[: 2 if words[0] == "lm" else 1])
    if name == "train" and "--resume" in words:
        name = "train --resume"
    if name == "reproduce":
        grid = "".join(words[1:2])
        committed = (ROOT / "results" / grid / "summary.json").is_file()
        if (
            f"{name} {grid}" in SHORT or not committed
        ):  # where nothing of it is there, it would train for hours
            name = f"{name} {grid}"
    if name not in SHORT:
        raise UnknownCommand(f"no rule makes `proximo {name}` short: add one to SHORT")
    return name


def short(words):
    """A command's words made short. Raises UnknownCommand where no rule knows it, or a file that it names."""
    found = list(words)
    for option, value in SHORT[rule(words)].items():
        found = with_option(found, option, value)
    for option, value in LONG.items():
        found = with_option(found, option, value) if option in found else found
    for word in found:
        own = re.match(r"my_\w+(?=:|\.py:)", word)
        if own and f"{own.group()}.py" not in FILES:
            raise UnknownCommand(f"the reader's own {own.group()}.py is not there: add it to FILES")
        if "..." in word and not any(re.fullmatch(pattern, word) for pattern, *_ in MADE):
            raise UnknownCommand(f"nothing makes {word}: add it to MADE")
    return found


def with_option(words, option, value):
    """The words with an option: a number that is there is replaced, a name stays."""
    for name in (option, *ALSO.get(option, ())):
        if name in words:
            place = words.index(name) + 1
            return [*words[:place], value, *words[place + 1 :]] if words[place][0].isdigit() else words
    return [*words, option, value]


def short_python(text):
    """A block of Python made short."""
    for pattern, replacement in PYTHON:
        text = re.sub(pattern, replacement, text)
    return text


def why_not(line):
    """Why a command that is not Proximo's is left out. Raises UnknownCommand where no rule says so."""
    for start, reason in NOT_RUN.items():
        if line.startswith(start):
            return reason
    raise UnknownCommand("no rule knows this command: add it to NOT_RUN, or have it run")


class Reader:
    """Somebody who works through a page, in a folder of their own."""

    def __init__(self, page, folder):
        self.page, self.folder = page, folder
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "results", folder / "results")
        for name, text in FILES.items():
            (folder / name).write_text(text)

    def run(self, entry):
        """The outcome of an entry."""
        try:
            if entry.kind == "proximo":
                return self.proximo(shlex.split(entry.text))
            if entry.kind == "python":
                return self.python(entry.text)
            if entry.text.startswith("python -c"):
                return self.execute(entry.text, shlex.split(entry.text)[1:])
            return Outcome("not run", entry.text, why_not(entry.text))
        except UnknownCommand as error:
            return Outcome("failed", entry.text, str(error))

    def proximo(self, words):
        """A command of Proximo, in its short variant."""
        words = [name for word in short(words) for name in self.named(word)]
        shown = shlex.join(["proximo", *words])
        return self.execute(shown, ["-m", "proximo", *words], TYPED if words[:2] == ["lm", "chat"] else "")

    def python(self, text):
        """A block of Python, in its short variant."""
        if '"MODEL"' in text:
            (model,) = self.named("MODEL")
            text = text.replace("MODEL", model)
        text = short_python(text)
        (self.folder / "block.py").write_text(BEFORE.get(self.page, "") + text)
        code = [line for line in text.splitlines() if line and not line.startswith(("import ", "def "))]
        return self.execute(f"a block of Python: {code[0]}", ["block.py"])

    def named(self, word):
        """The files that a word stands for; what is missing is made. Raises UnknownCommand if that fails."""
        for pattern, place, command in MADE:
            if match := re.fullmatch(pattern, word):
                place, command = match.expand(place), match.expand(command)
                if not any(self.folder.glob(place)):
                    made = self.proximo(shlex.split(command))
                    if made.status != "ok":
                        raise UnknownCommand(f"{made.shown}: {made.reason}")
                found = sorted(str(path.relative_to(self.folder)) for path in self.folder.glob(place))
                return found if word.endswith("*") else found[-1:]
        return [word]

    def execute(self, shown, words, typed=""):
        """The outcome of a Python process; the package is that of this checkout."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        try:
            done = subprocess.run(
                [sys.executable, *words],
                cwd=self.folder,
                env=environment,
                input=typed,
                capture_output=True,
                text=True,
                timeout=LONGEST,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome("failed", shown, f"it took longer than {LONGEST} s")
        if done.returncode == 0:
            return Outcome("ok", shown)
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        return Outcome("failed", shown, f"exit status {done.returncode}: {said}")


def work_through(page):
    """Run a page's commands, and print a line for each; returns the outcomes."""
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(page.name, Path(folder))
        for entry in dict.fromkeys(entries(page.read_text())):
            start = time.monotonic()
            outcome = reader.run(entry)
            why = f"  [{outcome.reason}]" if outcome.reason else f"  ({time.monotonic() - start:.1f} s)"
            print(f"{outcome.status:8}{page.name}: {outcome.shown}{why}", flush=True)
            outcomes.append(outcome)
    return outcomes


def report(pages):
    """Run the commands of pages; returns the exit status."""
    start = time.monotonic()
    with ThreadPoolExecutor(PROCESSES) as pool:
        outcomes = [outcome for found in pool.map(work_through, pages) for outcome in found]
    counts = {status: sum(one.status == status for one in outcomes) for status in ("ok", "failed", "not run")}
    print(", ".join(f"{count} {status}" for status, count in counts.items()), end="")
    print(f", in {time.monotonic() - start:.0f} s")
    return 1 if counts["failed"] else 0


def main(names):
    """Run the pages of these names, or all; returns the exit status."""
    unknown = sorted({*names} - {page.name for page in PAGES})
    if unknown:
        print(f"there is no page {', '.join(unknown)}: take of {', '.join(page.name for page in PAGES)}")
        return 2
    return report([page for page in PAGES if not names or page.name in names])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
