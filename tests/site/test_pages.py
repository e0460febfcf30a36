"""The built pages: whole, light, readable by everybody, and nothing is asked of any network."""

import gzip
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT, Site
from playwright.sync_api import Browser, Page

import proximo
from proximo.experiments.figures import FIGURES

pytestmark = pytest.mark.slow  # each stands on a site that takes seconds to build

PACKED = {".woff2", ".png", ".gif"}  # what compression makes no smaller
FIRST_PAGE = 600_000  # bytes as a server sends them
ANY_PAGE = 2_000_000  # bytes of HTML
SCRIPTS = 80_000  # bytes, all of ours together
LONG, REFERENCE = "paper", "api/objectives"
MOVING = sorted(page.stem for page in (ROOT / "docs").glob("*.md") if "](figures/" in page.read_text())
SHOWN = ["index", LONG, REFERENCE, *(page for page in MOVING if page not in ("index", LONG))]


class Links(HTMLParser):
    """What a page leads to, loads and offers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.leads: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.images: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.places |= {place for place in (found.get("id"), found.get("name")) if place}
        if tag == "a" and found.get("href"):
            self.leads.append(found["href"] or "")
        self.loads += [value for key in ("src", "data", "poster") if (value := found.get(key))]
        if tag == "link" and found.get("rel") != "canonical":
            self.loads.append(found.get("href") or "")
        if tag == "img":
            self.images.append(found.get("alt"))


@pytest.fixture(scope="module")
def pages(site: Site) -> dict[Path, Links]:
    return {file: Links(file.read_text()) for file in sorted(site.folder.rglob("*.html")) if reads(file)}


def reads(file: Path) -> bool:
    """Whether a file is a page: the theme has a template among its own files."""
    return "_static" not in file.parts


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A page that may ask for files of the site alone: anything else is a failure."""
    with browser.new_context() as context:
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        yield context.new_page()
        assert [url for url in asked if not url.startswith((site.folder.as_uri(), "data:", "blob:"))] == []


def test_the_build_has_nothing_to_complain_about(site: Site) -> None:
    assert site.said == ""


def test_no_link_ends_nowhere(pages: dict[Path, Links]) -> None:
    dead = []
    for file, page in pages.items():
        for link in {*page.leads, *page.loads}:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            place = unquote(parts.fragment)
            if not target.is_file() or (place and target in pages and place not in pages[target].places):
                dead.append(f"{file.name}: {link}")
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(site: Site, pages: dict[Path, Links]) -> None:
    loads = {link for page in pages.values() for link in page.loads}
    styles = "".join(file.read_text() for file in site.folder.rglob("*.css"))
    loads |= set(re.findall(r"""url\(["']?([^"')]+)""", styles))
    assert {link for link in loads if urlsplit(link).scheme not in ("", "data")} == set()


def test_every_image_says_what_it_shows(pages: dict[Path, Links]) -> None:
    assert [file.name for file, page in pages.items() if not all(page.images)] == []
    assert sum(len(page.images) for page in pages.values()) > 10


def test_every_column_says_what_it_holds(pages: dict[Path, Links]) -> None:
    assert [file.name for file in pages if re.search(r"<th[^>]*>(<p></p>)?</th>", file.read_text())] == []


def test_pages_and_scripts_are_small(pages: dict[Path, Links]) -> None:
    assert [file.name for file in pages if file.stat().st_size > ANY_PAGE] == []
    assert sum(file.stat().st_size for file in (ROOT / "docs" / "live").glob("*.js")) <= SCRIPTS


def test_the_first_page_is_light(page: Page, site: Site) -> None:
    loaded = set()
    page.on("request", lambda request: loaded.add(unquote(urlsplit(request.url).path)))
    page.goto(site.address("index"), wait_until="networkidle")
    contents = {file: Path(file).read_bytes() for file in loaded if Path(file).is_file()}
    sizes = {
        file: len(content if Path(file).suffix in PACKED else gzip.compress(content))
        for file, content in contents.items()
    }
    assert len(sizes) > 5 and sum(sizes.values()) <= FIRST_PAGE, sizes


@pytest.mark.parametrize("name", SHOWN)
def test_everybody_can_use_it(page: Page, site: Site, name: str) -> None:
    for colours in ("light", "dark"):
        page.emulate_media(color_scheme=colours, reduced_motion="reduce")
        page.goto(site.address(name))
        found = Axe().run(page).response["violations"]
        told = [(rule["id"], node["html"][:200]) for rule in found for node in rule["nodes"]]
        assert page.locator("html").get_attribute("data-theme") == colours
        assert told == []


@pytest.mark.parametrize("name", SHOWN)
def test_it_is_read_without_scripts(browser: Browser, site: Site, name: str) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(site.address(name))
        article = page.locator("article")
        parts = article.locator("> section > :is(h1, p, figure, ul)").all()
        assert len(parts) > 1 and all(part.is_visible() for part in parts)
        assert article.locator("img, svg").first.is_visible() or name == REFERENCE
        assert article.inner_text().startswith(page.title().partition(" — ")[0])


def test_a_phone_scrolls_in_one_direction(browser: Browser, site: Site, pages: dict[Path, Links]) -> None:
    names = [file for file in pages if "source" not in file.relative_to(site.folder).parts]
    with browser.new_context(viewport={"width": 390, "height": 844}) as context:
        page = context.new_page()
        wide = {}
        for file in names:
            page.goto(file.as_uri())
            # The theme's container of the text would scroll in the page's stead.
            boxes = "[...document.querySelectorAll('html, .bd-article-container')]"
            wide[file.name] = page.evaluate(f"Math.max(...{boxes}.map((box) => box.scrollWidth))")
    assert {name: width for name, width in wide.items() if width > 390} == {}


def test_every_number_of_a_figure_is_what_the_library_computes(site: Site) -> None:
    """To the last digit: none can be typed in, and none can be of an earlier version."""
    block = re.compile(
        r'<script type="application/json" id="figure-([\w-]+)">(.*?)</script>', flags=re.DOTALL
    )
    shown: dict[str, list[str]] = {}
    for file in site.folder.glob("*.html"):
        for name, numbers in block.findall(file.read_text()):
            shown.setdefault(name, []).append(numbers)
    assert shown.keys() == FIGURES.keys()
    stale = [
        name
        for name, found in shown.items()
        if json.loads(found[0]) != json.loads(json.dumps(FIGURES[name]()))
    ]
    assert stale == []


def test_the_explaining_figures_answer(page: Page, site: Site) -> None:
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    page.goto(site.address("explained"))
    figures = page.locator("figure.live")
    assert figures.count() >= 4 and page.locator("figure.live.live-ready").count() == figures.count()
    clip = page.locator('figure[data-figure="clip"]')
    before = clip.inner_text()
    clip.get_by_label("Ratio r").focus()
    page.keyboard.press("Home")  # a ratio of 0.05: a bad action has long gone where it should
    assert "Objective -0.80, slope 0.00. This sample pushes no more." in clip.inner_text() != before
    clip.get_by_label("Objective", exact=True).select_option("unclipped")
    assert "Objective -0.05, slope -1.00. It asks for a smaller ratio." in clip.inner_text()
    assert page.url.endswith("#clip.ratio=0.05&clip.objective=unclipped")
    page.goto(page.url)
    page.reload()  # what the address says is there again
    assert "Objective -0.05, slope -1.00" in clip.inner_text()
    assert wrong == []


def test_the_figures_of_runs_answer(page: Page, site: Site) -> None:
    page.goto(site.address("explained"))
    race = page.locator('figure[data-figure="race"]')
    assert "After 1,000,000 environment steps on Walker2d: PPO (clip) 3,722, TRPO 3,526" in race.inner_text()
    race.get_by_label("Run so far").focus()
    page.keyboard.press("Home")
    race.get_by_label("Counted in").select_option("gradient")
    assert "log10 of the actor's gradient steps" in race.inner_text()
    assert "TRPO 14.9" in race.inner_text()
    race.get_by_role("button", name="CEM").click()  # it has no gradient steps
    race.get_by_role("button", name="TRPO", exact=True).click()
    assert "TRPO 14.9" not in race.inner_text()
    language = page.locator('figure[data-figure="rlhf"]')
    assert "the reward model gives 2.62, the gold score is 1.93, at 11.9 nats" in language.inner_text()
    language.get_by_label("KL coefficient").select_option("PPO, beta 0.5")
    assert "the reward model gives 1.57, the gold score is 1.49, at 1.3 nats" in language.inner_text()


def test_the_page_of_batches_counts_as_the_library_does(page: Page, site: Site) -> None:
    page.goto(site.address("batches"))
    figure = page.locator('figure[data-figure="batches"]')
    for recipe in FIGURES["batches"]()["presets"]:
        for name, value in recipe["options"].items():
            figure.locator(f"#batches-{name}").fill(str(value))
        counted = [f"{value:,}" for value in recipe["counts"].values()]
        samples, minibatches, steps, rollouts, of_run = counted
        said = figure.get_by_role("status").inner_text()
        assert f"= {samples} samples, cut into {minibatches} minibatches" in said
        assert f"{steps} gradient steps for each rollout" in said
        assert said.endswith(f"{rollouts} rollouts, {of_run} gradient steps.")
    figure.locator("#batches-minibatch_size").fill("60")
    assert figure.get_by_role("status").inner_text() == "A minibatch of 60 does not divide 1 x 2,048 = 2,048."


def test_search_finds_what_is_asked_for(page: Page, site: Site) -> None:
    page.goto(site.address("search") + "?q=advantage")
    page.get_by_text("Search finished").wait_for()
    found = page.locator("#search-results li a").all_inner_texts()
    assert len(found) > 5 and "Returns and advantages" in found


def test_the_footer_says_which_version_it_is(page: Page, site: Site) -> None:
    page.goto(site.address("index"))
    said = page.locator("footer").last.inner_text()
    assert said.startswith(f"Proximo {proximo.__version__}")


def test_shapes_stand_in_signatures_as_in_the_source(page: Page, site: Site) -> None:
    page.goto(site.address("api/returns"))
    signature = page.locator("dt[id='proximo.core.returns.gae']").inner_text()
    assert 'reward: Float[Array, "T N"]' in signature and 'lam: Scalar | Float[Array, "N"]' in signature


def test_a_function_leads_to_its_line_and_to_its_tests(page: Page, site: Site) -> None:
    page.goto(site.address("api/returns"))
    described = page.locator("dl:has(> dt[id='proximo.core.returns.gae'])")
    tests = described.locator("details.tested-by a")
    assert tests.count() > 10
    sentence = tests.first.text_content()
    described.locator("summary").click()
    tests.first.click()
    assert page.locator("span:target").inner_text().startswith(f"def test_{sentence.replace(' ', '_')}(")
    page.go_back()
    described.get_by_text("[source]").click()
    assert page.locator("span:target").inner_text().startswith("def gae(")


def test_mathematics_is_markup(page: Page, site: Site) -> None:
    page.goto(site.address(LONG))
    assert page.locator("math").count() > 40
    assert page.evaluate("document.fonts.load('1em \"STIX Two Math\"').then(found => found.length)") == 1
