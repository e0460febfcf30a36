"""What the site makes of docstrings and of tests, in small."""

import sys

import pytest
from conftest import ROOT

import proximo
from proximo.core.returns import gae

sys.path.append(str(ROOT / "docs" / "_ext"))
import house
import mathml
import tested


def lines(text: str) -> list[str]:
    """Without blank lines, which only separate."""
    return [line for line in text.splitlines() if line]


def test_lines_with_two_spaces_define_names() -> None:
    docstring = [
        "reward, value  [T, N], units of reward",
        "lam            lambda in [0, 1]: 0 trusts",
        "               values",
    ]
    made = "\n".join(house.restructured(docstring))
    assert lines(made) == [
        "``reward, value``",
        "    [T, N], units of reward",
        "``lam``",
        "    lambda in [0, 1]: 0 trusts",
        "    values",
    ]


def test_a_name_as_wide_as_its_column_is_a_definition_too() -> None:
    made = house.restructured(["env          its id", "allow_import let an id import", "prose follows"])
    assert lines("\n".join(made)) == [
        "``env``",
        "    its id",
        "``allow_import``",
        "    let an id import",
        "prose follows",
    ]


def test_equations_are_kept_as_they_are() -> None:
    behind = house.restructured(["Schulman 2017, eq. 6:  r A * |A|"])
    assert lines("\n".join(behind)) == ["Schulman 2017, eq. 6:", "::", "    r A * |A|"]
    below = house.restructured(["It is:", "", "    a_t = b_", "        + c", "Then."])
    assert lines("\n".join(below)) == ["It is:", "::", "    a_t = b_", "        + c", "Then."]


def test_prose_has_no_signs_but_backticks() -> None:
    assert house.escaped("|A| (r - 1) * x_ is `a * b`") == r"\|A\| (r - 1) \* x\_ is `a * b`"


def test_types_are_told_as_the_source_has_them() -> None:
    told = "(a: ~typing.Annotated[dict[str, int], Range(most=[1, 2]), 'x'] = <factory>, b: float)"
    assert house.plain_type(told) == "(a: dict[str, int] = ..., b: float)"
    assert house.plain_type("~jaxtyping.Float[jaxlib._jax.Array, 'T N']") == "~jaxtyping.Float[Array, 'T N']"
    scalar = "int | float | ~jaxtyping.Float[jaxlib._jax.Array, ''] | ~jaxtyping.Int[jaxlib._jax.Array, '']"
    assert house.plain_type(f"tuple[{scalar}, {scalar}]") == "tuple[Scalar, Scalar]"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("proximo train CartPole-v1  # so", "bash"),
        ("run.agent.act(observation)", "python"),
        ("A_t = r + gamma V(s_t)", "text"),
    ],
)
def test_the_language_of_a_block(text: str, language: str) -> None:
    assert house.language(text) == language


def test_bullets_of_a_page_of_sections_are_its_chapters() -> None:
    page = "# A\n\n- [B](b.md): of [c](c.md)\n- [D](api/d.rst)\n- no link\n\n[E](e.md)\n"
    assert house.CHAPTER.findall(page) == ["b", "api/d"]


def test_the_tests_of_a_function_are_those_that_use_it() -> None:
    told = tested.tests_of(gae)
    assert told[0].file == "tests/core/test_returns.py"  # those of its own file come first
    assert all("gae" in (ROOT / test.file).read_text() for test in told)


def test_equal_names_are_told_apart_by_what_they_are() -> None:
    of_control, of_language = (tested.tests_of(found) for found in (proximo.load, proximo.language.load))
    assert of_control and of_language and of_control != of_language


def test_a_helper_and_a_list_of_cases_count_for_the_tests_that_use_them(tmp_path, monkeypatch) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_it.py").write_text(
        "from proximo.core import gae, k1 as plain\n"
        "import proximo\n"
        "CASES = [plain]\n"
        "def helped():\n    return gae()\n"
        "def test_one():\n    helped()\n"
        "def test_two():\n    CASES\n"
        "def test_three():\n    proximo.core.k2()\n"
    )
    monkeypatch.setattr(tested, "ROOT", tmp_path)
    uses = tested.uses.__wrapped__()
    found = {name: [(module, test.sentence) for module, test in uses[name]] for name in ("gae", "k1", "k2")}
    assert found == {
        "gae": [("proximo.core", "one")],
        "k1": [("proximo.core", "two")],
        "k2": [("proximo.core", "three")],
    }


def test_mathematics_is_markup_or_is_told() -> None:
    rows = mathml.markup(r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "block")
    assert rows.count("<mtr>") == 2 and "aligned" not in rows
    assert "<mfrac>" in mathml.markup(r"\frac{1}{2}", "inline")
    for tex in (r"\nonsense x", r"a & b"):
        with pytest.raises(ValueError, match="no MathML is known"):
            mathml.markup(tex, "inline")
