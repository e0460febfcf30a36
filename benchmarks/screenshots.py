"""Screenshots of the site and of a page of `proximo inspect`, for README and docs.

python -m benchmarks.screenshots RUN [--update N]

RUN is a run of `proximo train HalfCheetah-v5`. It needs the extras `site` and `dev`, and Chromium.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

ROOT = Path(__file__).resolve().parents[1]
FIGURES = {  # a picture's name -> the page, and what it shows of it
    "front": ("index.html", None),
    "advantages": ("explained.html", 'figure[data-figure="advantages"]'),
    "clip": ("explained.html", 'figure[data-figure="clip"]'),
    "race": ("explained.html", 'figure[data-figure="race"]'),
    "rlhf": ("explained.html", 'figure[data-figure="rlhf"]'),
    "cartpole": ("cartpole.html", 'figure[data-figure="cartpole"]'),
}
WIDTH, HEIGHT, TALL = 1100, 800, 1500
COLOURS = 192
LEARNED = 30_000  # milliseconds that CartPole may learn


@dataclass(frozen=True)
class Options:
    """Take the screenshots again."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run of HalfCheetah-v5, to be inspected."""
    update: int | None = None
    """The update to be inspected."""
    out: Path = ROOT / "docs" / "screens"
    """Where they go."""


def take(options: Options) -> None:
    """All pictures. Raises CalledProcessError where the site or the inspection fails."""
    from playwright.sync_api import sync_playwright

    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        build = [sys.executable, "-m", "sphinx", "--quiet", str(ROOT / "docs"), str(folder / "site")]
        subprocess.run(build, check=True)
        inspected = [
            sys.executable,
            "-m",
            "proximo",
            "inspect",
            str(options.run),
            "--out",
            str(folder / "i.html"),
        ]
        inspected += [] if options.update is None else ["--update", str(options.update)]
        what_if = [
            "--what-if",
            "clip:0.1",
            "epochs:30",
            "objective:unclipped",
            "objective:unclipped epochs:30",
        ]
        subprocess.run([*inspected, *what_if, "--episodes", "32"], check=True)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        for picture, (file, part) in FIGURES.items():
            page.goto((folder / "site" / file).as_uri())
            if picture == "cartpole":
                page.get_by_role("button", name="Fast", exact=True).click()  # it starts to learn
                page.wait_for_timeout(LEARNED)
                page.get_by_role("button", name="Pause").click()
            shown = page if part is None else page.locator(part)
            shown.screenshot(path=options.out / f"{picture}.png")
        page.set_viewport_size({"width": WIDTH, "height": TALL})
        page.goto((folder / "i.html").as_uri())
        page.screenshot(path=options.out / "inspect.png")
        browser.close()
    for path in options.out.glob("*.png"):
        smaller(path)


def smaller(path: Path) -> None:
    """The same picture in fewer colours, a third of the bytes."""
    from PIL import Image

    with Image.open(path) as picture:
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    take(tyro.cli(Options))
