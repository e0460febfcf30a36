"""The CartPole figure in a page read from a file: it trains, steps, obeys its controls, and asks nobody."""

import json
import re
import shlex
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT

from proximo.arguments import config_from
from proximo.commands import train
from proximo.control.config import preset, validate
from proximo.core import Clip, KLPenalty, QuadraticPenalty, Unclipped
from proximo.experiments.figures.cartpole import cartpole

LIVE = ROOT / "docs" / "live"
SCRIPTS = ("chart.js", "live.js", "ppo.js", "measures.js", "cartpole.js")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>CartPole</title><link rel="icon" href="data:,"><link rel="stylesheet" href="{live}/live.css">
<style>html[data-theme="dark"] body {{ background: #0f1216; color: #e9ecf1; }}</style>
</head><body><main><h1>CartPole</h1>
<figure class="live" data-figure="cartpole">{picture}<figcaption>Two runs.</figcaption></figure>
<script type="application/json" id="figure-cartpole">{data}</script></main>{scripts}</body></html>"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The smallest page with the figure."""
    file = tmp_path_factory.mktemp("page") / "page.html"
    live = LIVE.as_uri()
    scripts = "".join(f'<script src="{live}/{script}"></script>' for script in SCRIPTS)
    picture = (ROOT / "docs" / "figures" / "cartpole.svg").read_text()
    picture = picture.replace("<svg", '<svg role="img" aria-label="two runs"', 1)
    file.write_text(PAGE.format(live=live, picture=picture, data=json.dumps(cartpole()), scripts=scripts))
    return file.as_uri()


@pytest.fixture
def opened(browser, address):
    """Opens the page; whatever it asks for must be a file of ours, and it may fail nowhere."""
    contexts, asked, errors = [], [], []

    def open_page(state="", **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address + state)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert {Path(url.partition("#")[0]).name for url in asked if url.startswith("file:")} <= {
        "page.html",
        "live.css",
        *SCRIPTS,
    }


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def steps_of(page, run=0):
    """Environment steps that a run has learned from, as its table says."""
    return int(page.locator("table tr").nth(run + 1).locator("td").nth(1).inner_text().replace(",", ""))


def set_slider(page, label, value):
    page.get_by_label(label, exact=True).evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", value
    )


def test_fast_solves_it(opened):
    page = opened()
    assert page.locator("figure svg[aria-label='two runs']").is_hidden()  # the live one is in its place
    press(page, "Fast")
    page.wait_for_function(
        "document.querySelector('tr:last-child td:last-child').innerText.length > 1", timeout=120_000
    )
    assert 40_000 < int(page.locator("table td").last.inner_text().replace(",", "")) <= 60_000
    assert (
        page.get_by_role("button", name="Watch").get_attribute("aria-pressed") == "true"
    )  # and then, calmly


def test_one_epoch_and_one_update(opened):
    page = opened()
    press(page, "One epoch")
    assert page.get_by_text("after epoch 1 of 10").is_visible() and steps_of(page) == 0
    press(page, "One update")  # the rest of it
    assert page.get_by_text("after epoch 10 of 10").is_visible() and steps_of(page) == 1024
    press(page, "One update")
    assert steps_of(page) == 2048


def test_play_goes_on_until_pause(opened):
    page = opened()
    press(page, "Play")
    page.wait_for_function(
        "document.querySelector('.runs td:nth-child(3)').innerText !== '0'", timeout=30_000
    )
    press(page, "Pause")
    before = steps_of(page)
    page.wait_for_timeout(300)
    assert steps_of(page) == before


def test_sliders_act_on_the_very_next_update(opened):
    """A tenth of the learning rate moves the policy less: the KL of the first update tells."""

    def largest_kl(rate):
        page = opened()
        set_slider(page, "Learning rate", rate)
        press(page, "One update")
        return float(page.locator("table td").nth(3).inner_text())

    assert largest_kl(-9.2103) < 0.3 * largest_kl(-6.9078)  # log 1e-4 and log 1e-3


def test_runs_beside_each_other_and_break_it(opened):
    page = opened()
    press(page, "One update")
    press(page, "Break it")
    press(page, "One update")
    rows = page.locator("table tr")
    assert rows.count() == 3
    assert "--objective unclipped --learning-rate 0.005" in rows.nth(2).inner_text()
    kl = [float(rows.nth(row).locator("td").nth(3).inner_text()) for row in (1, 2)]
    assert kl[1] > 5 * kl[0]
    press(page, "Run 1")  # and its settings are back
    assert page.get_by_label("Objective").input_value() == "clip"
    press(page, "New run beside")
    assert rows.count() == 4 and page.get_by_role("button", name="New run beside").is_disabled()
    press(page, "Start again")
    assert rows.count() == 2 and steps_of(page) == 0


def test_all_of_it_by_keyboard(opened):
    page = opened()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText || document.activeElement.id"))
        focused = page.evaluate("document.activeElement.className")
        if focused == "carts":
            before = page.evaluate("document.querySelector('canvas').toDataURL()")
            page.keyboard.press("ArrowRight")
            page.keyboard.press("ArrowRight")
            assert page.get_by_role("group", name="Eight carts").is_visible()
            press(page, "One epoch")  # time goes on: the push is seen
            assert page.evaluate("document.querySelector('canvas').toDataURL()") != before
            page.get_by_role("group", name="Eight carts").focus()
    for name in (
        "Play",
        "One update",
        "Fast",
        "Break it",
        "← Push",
        "Recipe's settings",
        "Run 1",
        "Take this run to Python",
    ):
        assert name in reached
    page.get_by_label("Clip range ε").focus()
    page.keyboard.press("ArrowRight")
    assert "0.22" in page.locator("output").all_inner_texts()
    page.get_by_role("button", name="One update").focus()
    page.keyboard.press("Enter")
    assert steps_of(page) == 1024


def test_nothing_moves_unasked(opened):
    page = opened(reduced_motion="reduce")
    canvas = "document.querySelector('canvas').toDataURL()"
    before = page.evaluate(canvas)
    page.wait_for_timeout(400)
    assert page.evaluate(canvas) == before and steps_of(page) == 0
    press(page, "One update")
    after = page.evaluate(canvas)
    assert after != before and steps_of(page) == 1024
    page.wait_for_timeout(300)
    assert page.evaluate(canvas) == after


def test_the_address_keeps_the_settings(opened):
    page = opened()
    set_slider(page, "Clip range ε", 0.1)
    page.get_by_label("Objective").select_option("quadratic-penalty")
    state = page.evaluate("location.hash")
    assert "cartpole.epsilon=0.1" in state and "cartpole.objective=quadratic-penalty" in state
    later = opened(state)
    assert later.get_by_label("Objective").input_value() == "quadratic-penalty"
    assert "0.1" in later.locator("output").all_inner_texts()
    assert (
        opened("#cartpole.objective=nonsense&cartpole.epsilon=x").get_by_label("Objective").input_value()
        == "clip"
    )


@pytest.mark.parametrize(
    "state, objective",
    [
        ("", Clip(0.2)),
        ("#cartpole.epsilon=0.1&cartpole.gamma=0.95&cartpole.epochs=3", Clip(0.1)),
        ("#cartpole.objective=unclipped&cartpole.learning_rate=0.005", Unclipped()),
        ("#cartpole.objective=kl-penalty&cartpole.beta=3", KLPenalty(3.0)),
        ("#cartpole.objective=quadratic-penalty&cartpole.gae_lambda=0.5", QuadraticPenalty(0.2)),
    ],
)
def test_the_command_asks_for_the_same_run(opened, state, objective):
    page = opened(state)
    page.get_by_text("Take this run to Python").click()
    program, command, *words = shlex.split(page.locator("pre.wrapped").inner_text())
    assert (program, command) == ("proximo", "train")
    config = validate(config_from(train.read(words)))
    assert config.update.objective == objective and config.network.hidden == (16, 16)
    recipe = preset("default", "CartPole-v1")
    told = dict(re.findall(r"cartpole\.(\w+)=([\d.]+)", state))
    for name in ("learning_rate", "epochs", "gamma", "gae_lambda"):
        assert getattr(config.update, name) == float(told.get(name, getattr(recipe.update, name)))


def test_the_code_stands_side_by_side(opened):
    page = opened()
    page.get_by_text("Show me the code").click()
    python, script = page.locator("details pre:not(.wrapped)").all_inner_texts()
    assert "jnp.minimum(ratio * advantage, near * advantage)" in python
    assert script in (LIVE / "ppo.js").read_text().replace("\n    ", "\n")
    assert cartpole()["test"] in page.locator("details").last.inner_text()


def test_news_are_told_at_most_every_five_seconds(opened):
    page = opened()
    page.clock.install()
    page.evaluate("() => { window.say = Live.speaker(document.body); }")
    told = page.locator("body > [role=status]")
    for words, after, heard in (("a", 10, "a"), ("b", 4000, "a"), ("c", 1100, "c"), ("d", 4000, "c")):
        page.evaluate("(words) => say(words)", words)
        page.clock.run_for(after)
        assert told.inner_text() == heard


@pytest.mark.parametrize("theme, width", [("light", 390), ("dark", 1280)])
def test_it_can_be_read_by_everybody(opened, theme, width):
    page = opened(viewport={"width": width, "height": 800})
    page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
    press(page, "One update")
    press(page, "Break it")
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


def test_the_caption_has_the_numbers_of_the_picture():
    """Both come from one run of `benchmarks/cartpole_picture.py`."""
    picture = (ROOT / "docs" / "figures" / "cartpole.svg").read_text()
    (described,) = re.findall(r"<desc>(.*?)</desc>", picture)
    (caption,) = re.findall(
        r"!\[(.*?)\]\(figures/cartpole\.svg\)", (ROOT / "docs" / "cartpole.md").read_text()
    )
    numbers = set(re.findall(r"[\d.,]*\d", described)) - {"1.2", "0.8"}
    assert numbers <= set(re.findall(r"[\d.,]*\d", caption)) and len(numbers) == 7
    assert "http" not in picture.replace('xmlns="http://www.w3.org/2000/svg"', "") and len(picture) < 30_000
