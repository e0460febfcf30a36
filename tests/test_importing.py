"""`module:Name` and `file.py:Name`: what the user names is imported, and every mistake is one line."""

import sys

import pytest

from proximo.errors import UserError
from proximo.importing import user_object

SHOP = """
from dataclasses import dataclass

import shelf_of_the_shop as shelf


@dataclass(frozen=True)
class Shop:
    size: int = shelf.SIZE


def make_shop():
    return Shop(3)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with `own/shop_of_mine.py` and its neighbour in it; imports are forgotten later."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "shop_of_mine.py").write_text(SHOP)
    (tmp_path / "own" / "shelf_of_the_shop.py").write_text("SIZE = 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("shop_of_mine", "shelf_of_the_shop", "own", "own.shop_of_mine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    for name in ("shop_of_mine", "shelf_of_the_shop", "own", "own.shop_of_mine"):
        sys.modules.pop(name, None)


def test_a_class_is_named_by_its_file_or_its_module_and_is_the_same(folder, monkeypatch):
    shop = user_object("own/shop_of_mine.py:Shop")  # its neighbour is found too, as for a script
    assert shop().size == 7
    assert user_object(f"{folder}/own/shop_of_mine.py:make_shop")() == shop(3)
    monkeypatch.chdir("own")
    assert user_object("shop_of_mine:Shop") is user_object("shop_of_mine.py:Shop") is shop


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own/shop_of_mine.py:Shopp", "own/shop_of_mine.py has no class Shopp: did you mean Shop"),
        ("own/shop_of_mine.py", "does not name a class: write module:class or file.py:class"),
        ("shop_of_mine.py:Shop", "there is no file shop_of_mine.py: write its path relative to "),
        ("nowhere_at_all:Shop", "No module named 'nowhere_at_all'): check the name"),
        ("broken.py:Shop", "cannot import broken.py (ZeroDivisionError: division by zero, broken.py line 2)"),
        ("un.named.py:Shop", "rename the file, with no dot before .py"),
        ("json.py:Shop", "there is another module 'json'; rename it"),
    ],
)
def test_a_name_that_cannot_be_imported_is_one_line_that_says_why(folder, name, message):
    (folder / "broken.py").write_text("x = 1\nx / 0\n")
    (folder / "un.named.py").write_text("")
    (folder / "json.py").write_text("")
    with pytest.raises(UserError) as error:
        user_object(name, "class")
    assert message in str(error.value) and "\n" not in str(error.value)
