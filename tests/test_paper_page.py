"""docs/paper.md is complete and states what the configs say; no page names what does not exist."""

import re

import pytest
from coco import NAMES, ROOT, VARIANTS, difference, leaves, load, load_lazy
from omegaconf import OmegaConf
from paper_page import PAGE, YAML_KEY, broken_links, keys, rows, symbols, unknown_names, values

ROWS = list(rows(PAGE.read_text()))
VALUES = [row for row in ROWS if values(row)]
SOFT_TEACHERS = [name for name in NAMES if name.startswith("soft_teacher")]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(PAGE.parent.glob("*.md"))]

# Keys that the paper has no part in.
BESIDE_THE_PAPER = ("RESUME_CHANGED", "SMALL_RESNET.", "WATCH.")

# --- the walker itself --------------------------------------------------------------------------

EMA = "../projects/soft_teacher/engine/ema.py"


@pytest.mark.parametrize(
    "text, reported",
    [
        ("", []),
        (f"[`EMAHook.after_step`]({EMA})", []),
        (f"[`__all__`]({EMA}) [run](coco.md#run)", []),
        (f"[`ema.py`]({EMA}), [other](https://no/where)", []),
        ("[page](no.md)", ["no such file"]),
        ("[run](coco.md#walk)", ["no such heading"]),
        ("[here](#walk)", ["no such heading"]),
        (f"[`Hook`]({EMA})", ["does not define `Hook`"]),
        (f"[`EMAHook.no`]({EMA})", ["does not define `EMAHook.no`"]),
        (f"[`after_step`]({EMA})", ["does not define `after_step`"]),
        (f"[`HookBase`]({EMA})", ["does not define `HookBase`"]),
    ],
)
def test_a_broken_link_is_found(text, reported):
    found = list(broken_links(text))
    assert len(found) == len(reported)
    assert all(words in problem for words, problem in zip(reported, found))


@pytest.mark.parametrize(
    "text, reported",
    [
        ("", []),
        ("`SOFT_TEACHER.ALPHA`, `SOLVER.MAX_ITER 100`, `docs/coco.md`, `MODEL`, `a/b`", []),
        ("`MODEL.RETINANET.*`", []),
        ("`SOFT_TEACHER.BETA`", ["SOFT_TEACHER.BETA"]),
        ("`SOFT_TEACHER.BETA 1`", ["SOFT_TEACHER.BETA"]),
        ("`SOFT_TEACHER.ALPHA.X`", ["SOFT_TEACHER.ALPHA.X"]),
        ("`docs/none.md`", ["docs/none.md"]),
        ("| Key, code and test |\n|---|\n| `SOFT_TEACHER.ALPHA`, `model.alpha` |\n", []),
        ("| Key, code and test |\n|---|\n| `model.beta` |\n", ["model.beta"]),
        ("| Key, code and test |\n|---|\n| `alpha` |\n", ["alpha"]),
    ],
)
def test_an_unknown_name_is_found(text, reported):
    assert [problem.split(":")[0] for problem in unknown_names(text)] == reported


def test_a_row_has_symbols_and_values():
    head = "text\n\n| Key, code and test | `faster_*_full_*` | Test |\n|---|---|---|\n"
    (row,) = rows(
        head + "| `A.B`; [`g`](x.md) | `[1, 2]`, `x` | [`f`](../tests/x.py), [y](z.md) |\n"
    )
    assert (symbols(row, "tests/"), symbols(row, "tools/")) == (["tests/x.py::f"], [])
    assert keys(row) == ["A.B"]
    assert values(row) == dict.fromkeys(NAMES[4:], [[1, 2], "x"])


# --- the pages ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_key_and_path_exists(page):
    text = page.read_text()
    assert [*broken_links(text, page), *unknown_names(text)] == []


def test_every_test_is_one_that_pytest_collects():
    tests = [symbol for row in ROWS for symbol in symbols(row, "tests/")]
    assert len(tests) > 100
    collected = re.compile(r"tests/(\w+/)*test_\w+\.py::(Test\w+\.)?test_\w+")
    assert [test for test in tests if not collected.fullmatch(test)] == []


@pytest.mark.parametrize(
    "column, prefix, count",
    [("Equation", "Eq.", 11), ("Table", "Table", 11), ("Figure", "Fig.", 4)],
)
def test_nothing_of_the_paper_is_left_out(column, prefix, count):
    found = [row[column] for row in ROWS if column in row]
    assert found == [f"{prefix} {number}" for number in range(1, count + 1)]


def test_every_row_has_a_test_and_equations_and_decisions_have_code():
    for row in ROWS:
        assert symbols(row, "tests/"), row
        assert symbols(row, "projects/") or {"Equation", "Decision"}.isdisjoint(row), row
        assert "Equation" not in row or YAML_KEY.fullmatch(keys(row)[0]), row


# --- the values ---------------------------------------------------------------------------------


def plain(value):
    """As YAML reads it."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("row", VALUES, ids=lambda row: keys(row)[0])
def test_values_are_those_of_the_configs(row):
    for name, both in values(row).items():
        for variant, stated in zip(VARIANTS, both):
            cfg, lazy = leaves(load(variant, name)), load_lazy(variant, name)
            for key in keys(row):
                found = cfg[key] if YAML_KEY.fullmatch(key) else OmegaConf.select(lazy, key)
                assert plain(found) == stated, (name, variant, key)


@pytest.mark.parametrize("name", SOFT_TEACHERS)
def test_every_difference_of_the_released_code_and_every_key_is_on_the_page_once(name):
    rows_of_it = [row for row in VALUES if name in values(row)]
    stated = {keys(row)[0]: values(row)[name] for row in rows_of_it}
    assert len(stated) == len(rows_of_it)
    shipped = difference(*(leaves(load(variant, name)) for variant in VARIANTS))
    differing = {key for key, (one, other) in stated.items() if one != other}
    assert differing == shipped.keys() - {"OUTPUT_DIR"}
    method = leaves(load("paper", name).SOFT_TEACHER)
    wanted = {f"SOFT_TEACHER.{key}" for key in method if not key.startswith(BESIDE_THE_PAPER)}
    assert wanted <= set(stated)
