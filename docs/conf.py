"""The site: `make site` makes pages of this folder's Markdown, which need no server and no network."""

import subprocess
import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]  # this checkout, wherever another one is installed


def commit() -> str:
    """The commit that the pages were built from; nothing outside of a clone."""
    try:
        words = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


project = "Proximo"
release = version_of("proximo")
extensions = ["myst_parser", "sphinx.ext.autodoc", "house", "sources", "mathml", "live"]
exclude_patterns = ["package-index.md", "_*", "live"]  # the first is the page of a package index

# GitHub's Markdown: mathematics between dollars and in fences, links to headings.
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = {"math"}
myst_heading_anchors = 4
section_pages = ("index", "start", "learn", "control", "reference", "evidence")

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "special-members": "__call__"}
maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"
default_role = "py:obj"  # a name in backticks is a link where it has a page, and code elsewhere

html_title = "Proximo"
html_theme = "pydata_sphinx_theme"
html_math_renderer = "mathml"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_css_files = ["house.css", "math.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # it fetches pages, and a browser refuses that to files
html_domain_indices = False
html_context = {"commit": commit(), "default_mode": "auto"}
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
    "show_toc_level": 2,
    "footer_start": ["built-from"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
