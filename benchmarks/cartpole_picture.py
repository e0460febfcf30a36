"""The picture of docs/cartpole.md: two runs of `docs/live/ppo.js`, one with broken settings.

python -m benchmarks.cartpole_picture [--out docs/figures/cartpole.svg]

It trains in Chromium, as the page does: seconds. The SVG is light or dark as its surroundings are, on GitHub,
which shows it as a file, and on the site, which makes it a part of the page.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import tyro
from playwright.sync_api import sync_playwright

from proximo.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
LIVE = ROOT / "docs" / "live"
STEPS = 60_416  # 59 rollouts of 8 x 128
SHOWN = 16  # the update whose ratios are drawn
CELLS = 24  # of the map, in either direction
RUNS = {  # name -> what differs from the recipe, which is PPO.CARTPOLE
    "recipe": {},
    "learning rate 0.005, no clip": {"learning_rate": 5e-3, "objective": "unclipped"},
}

TRAIN = """([changed, steps, shown, cells]) => {
    const options = { ...PPO.CARTPOLE, ...changed };
    const learner = PPO.new_learner(options, 0);
    const found = { steps: [], mean: [], kl: [], solved: null };
    while (learner.steps < steps) {
        let seen = null;
        const remaining = 1 - learner.steps / options.steps;
        const experience = PPO.collect(learner, options);
        for (const { epoch, batch } of PPO.update(learner, experience, options, remaining)) {
            if (epoch === options.epochs) seen = Measures.of(learner.policy, batch, options.epsilon);
        }
        found.steps.push(learner.steps);
        found.mean.push(PPO.mean(learner.returns.slice(-100)));
        found.kl.push(seen.kl);
        if (found.steps.length === shown) found.shown = seen;
        const solved = learner.returns.length >= 100 && found.mean.at(-1) >= 475;
        if (solved) found.solved ??= learner.steps;
    }
    const at = (i) => ((i + 0.5) / cells) * 2 - 1;
    found.right = Array.from({ length: cells }, (_, row) => Array.from({ length: cells }, (_, column) => {
        const state = [0, 0, at(column) * PPO.FALLEN, -3 * at(row)];
        return Math.exp(PPO.log_probabilities(learner.policy, PPO.normalise(state, learner.observations))[1]);
    }));
    return found;
}"""

WIDTH, HEIGHT = 680, 480
LIGHT = "--fg: #15181d; --soft: #56606d; --grid: #e3e7ec; --c0: #0072b2; --c1: #d55e00;"
DARK = "--fg: #e9ecf1; --soft: #a4aebb; --grid: #2b323c; --c0: #4aa8e8; --c1: #ff8b47;"
STYLE = f"""
.of-cartpole {{ {LIGHT} font: 13px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }}
@media (prefers-color-scheme: dark) {{ .of-cartpole {{ {DARK} }} }}
[data-theme="light"] .of-cartpole {{ {LIGHT} }}
[data-theme="dark"] .of-cartpole {{ {DARK} }}
.of-cartpole text {{ fill: var(--soft); }} .of-cartpole .title {{ fill: var(--fg); font-weight: 600; }}
.of-cartpole path {{ fill: none; stroke-width: 2; stroke-linejoin: round; }}
.of-cartpole .grid {{ stroke: var(--grid); stroke-width: 1; }}
.of-cartpole .edge {{ stroke: var(--fg); stroke-width: 1; stroke-dasharray: 4 4; }}
.of-cartpole .line0 {{ stroke: var(--c0); }} .of-cartpole .line1 {{ stroke: var(--c1); }}
.of-cartpole .fill0 {{ fill: var(--c0); }} .of-cartpole .fill1 {{ fill: var(--c1); }}
.of-cartpole rect {{ shape-rendering: crispEdges; }}
.of-cartpole .bars {{ fill-opacity: .6; stroke: none; }}
"""


@dataclass(frozen=True)
class Options:
    """Draw the picture of docs/cartpole.md."""

    out: Path = ROOT / "docs" / "figures" / "cartpole.svg"
    """Where it goes."""


@dataclass(frozen=True)
class Panel:
    """A part of the picture with axes of its own: from numbers to places."""

    title: str
    left: float
    top: float
    width: float
    height: float
    xs: tuple[float, float]
    ys: tuple[float, float]

    def x(self, value: float) -> float:
        return self.left + (value - self.xs[0]) / (self.xs[1] - self.xs[0]) * self.width

    def y(self, value: float) -> float:
        share = (value - self.ys[0]) / (self.ys[1] - self.ys[0])
        return self.top + (1 - min(max(share, 0.0), 1.0)) * self.height

    def frame(self, rows: dict[float, str], columns: dict[float, str], below: str) -> list[str]:
        """Title, lines across, and the words at both axes."""
        return [
            text(self.left - 40, self.top - 14, self.title, "title"),
            *(path("grid", f"M{self.left} {self.y(y):.1f}h{self.width}") for y in rows),
            *(text(self.left - 6, self.y(y) + 4, word, anchor="end") for y, word in rows.items()),
            *(
                text(self.x(x), self.top + self.height + 18, word, anchor="middle")
                for x, word in columns.items()
            ),
            text(self.left + self.width, self.top + self.height + 36, below, anchor="end"),
        ]

    def line(self, xs: Sequence[float], ys: Sequence[float], number: int) -> str:
        points = "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in zip(xs, ys, strict=True))
        return path(f"line{number}", f"M{points}")


def path(kind: str, d: str) -> str:
    return f'<path class="{kind}" d="{d}"/>'


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    of_kind = f' class="{kind}"' if kind else ""
    return f'<text{of_kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def chromium() -> str:
    """The browser's program. Raises UserError where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise UserError("the script runs in Chromium: apt install chromium")
    return found


def trained() -> list[dict[str, Any]]:
    """What each run did. Raises UserError without Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        for script in ("ppo.js", "measures.js"):
            page.add_script_tag(path=LIVE / script)
        found = [page.evaluate(TRAIN, [changed, STEPS, SHOWN, CELLS]) for changed in RUNS.values()]
        browser.close()
    return found


def histogram(panel: Panel, ratio: Sequence[float], number: int) -> str:
    """Shares of 40 bins from 0 to 2; what lies beyond is in the last one."""
    bins = 40
    shares = [0.0] * bins
    for r in ratio:
        shares[min(bins - 1, int(r / 2 * bins))] += 1 / len(ratio)
    bars = (
        f"M{panel.x(i * 2 / bins):.1f} {panel.y(0):.1f}V{panel.y(share):.1f}"
        f"H{panel.x((i + 1) * 2 / bins):.1f}V{panel.y(0):.1f}Z"
        for i, share in enumerate(shares)
        if share
    )
    return path(f"bars fill{number}", "".join(bars))


def heat(panel: Panel, rows: Sequence[Sequence[float]]) -> list[str]:
    """P(right) as the strength of two colours: one for right, one for left."""
    wide, high = panel.width / CELLS, panel.height / CELLS
    drawn = []
    for i, row in enumerate(rows):
        first = 0
        for j in range(1, CELLS + 1):  # neighbours of one colour are one rectangle
            if j == CELLS or round(row[j], 1) != round(row[first], 1):
                p = round(row[first], 1)
                place = f'x="{panel.left + first * wide:.1f}" y="{panel.top + i * high:.1f}"'
                size = f'width="{(j - first) * wide:.1f}" height="{high:.1f}"'
                strength = f'fill-opacity="{abs(2 * p - 1):.1f}"'
                drawn.append(f'<rect class="fill{int(p < 0.5)}" {place} {size} {strength}/>')
                first = j
    return drawn


def svg(found: Sequence[dict[str, Any]]) -> str:
    """The picture, whose description has the numbers that the page tells."""
    thousands = {0: "0", 20_000: "20k", 40_000: "40k", 60_000: "60k"}
    steps = (0.0, 60_500.0)
    returns = Panel("Return, mean of the last 100 episodes", 48, 60, 264, 150, steps, (0, 500))
    kl = Panel("KL(old ‖ new) of each update, nats", 400, 60, 264, 150, steps, (-4, 1))
    ratios = Panel(f"Ratios after the last epoch of update {SHOWN}", 48, 286, 264, 144, (0, 2), (0, 0.5))
    right = Panel("Recipe's policy: blue right, orange left", 400, 286, 264, 144, (-12, 12), (-3, 3))
    powers = {-4: "0.0001", -3: "0.001", -2: "0.01", -1: "0.1", 0: "1", 1: "10"}
    drawn = [
        *(legend(number, name) for number, name in enumerate(RUNS)),
        *returns.frame({0: "0", 250: "250", 500: "500"}, thousands, "environment steps"),
        path("edge", f"M{returns.left} {returns.y(475):.1f}h{returns.width}"),
        *kl.frame({at: word for at, word in powers.items() if at % 2 == 0}, thousands, "environment steps"),
        *ratios.frame({0: "0", 0.25: "0.25", 0.5: "0.5"}, {0: "0", 1: "1", 2: "2"}, "π new / π old"),
        *right.frame(
            {-2: "-2", 0: "0", 2: "2"}, {-10: "-10", 0: "0", 10: "10"}, "angular velocity over angle, degrees"
        ),
        *heat(right, found[0]["right"]),
    ]
    for number, run in enumerate(found):
        drawn.append(returns.line(run["steps"], run["mean"], number))
        drawn.append(kl.line(run["steps"], [math.log10(value) for value in run["kl"]], number))
        drawn.append(histogram(ratios, run["shown"]["ratio"], number))
    for edge, word in ((0.8, "0.8"), (1.2, "1.2")):
        drawn.append(path("edge", f"M{ratios.x(edge):.1f} {ratios.top}v{ratios.height}"))
        drawn.append(text(ratios.x(edge), ratios.top + ratios.height + 18, word, anchor="middle"))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="of-cartpole" viewBox="0 0 {WIDTH} {HEIGHT}">',
            f"<desc>{escape(told(found))}</desc>",
            f"<style>{STYLE}</style>",
            *drawn,
            "</svg>\n",
        ]
    )


def legend(number: int, name: str) -> str:
    left = 8 + 90 * number
    return path(f"line{number}", f"M{left} 14h22") + text(left + 28, 18, name)


def told(found: Sequence[dict[str, Any]]) -> str:
    """The numbers of both runs, as the page's caption has them."""
    recipe, broken = found
    outside = [f"{run['shown']['clip_fraction']:.0%}" for run in found]
    return (
        f"the recipe solves CartPole after {recipe['solved']:,} steps, its largest KL is "
        f"{max(recipe['kl']):.3f}; with learning rate 0.005 and no clip the largest KL is "
        f"{max(broken['kl']):.1f}; in update {SHOWN}, {outside[0]} and {outside[1]} of the ratios lie "
        "outside 0.8 to 1.2"
    )


if __name__ == "__main__":
    out = tyro.cli(Options).out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(svg(trained()))
    print(out)
