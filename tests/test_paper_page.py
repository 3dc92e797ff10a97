"""docs/paper.md is complete, names only what exists, and states what the shipped configs say."""

import re

import pytest
import yaml
from coco import NAMES, VARIANTS, difference, leaves, load, load_lazy
from omegaconf import OmegaConf
from paper_page import (
    LAZY_KEY,
    PAGE,
    YAML_KEY,
    broken_links,
    rows,
    unknown_names,
)

TEXT = PAGE.read_text()
ROWS = list(rows(TEXT))
VALUES = [row for row in ROWS if "`paper`" in row.cells]
SOFT_TEACHERS = [name for name in NAMES if name.startswith("soft_teacher")]

# Keys that the paper has no part in.
BESIDE_THE_PAPER = ("RESUME_CHANGED", "SMALL_RESNET.", "WATCH.")


def named(first: str):
    return [row for row in ROWS if row.cells.get(first)]


# --- the walker itself --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, said",
    [
        ("", []),
        ("[`ema.py: EMAHook.after_step`](../projects/soft_teacher/engine/ema.py)", []),
        ("[`test_ema.py: RUNS`][ema] [run](coco.md#run)\n\n[ema]: ../tests/engine/test_ema.py", []),
        ("[`test_ema.py: RUNS`][ema]", ["[ema]: is given nowhere"]),
        ("[ema]: ../tests/engine/test_ema.py", ["[ema]: is not used"]),
        ("[`no.py: EMAHook`](../projects/soft_teacher/engine/no.py)", ["no such file"]),
        ("[page](no.md)", ["no such file"]),
        ("[run](coco.md#walk)", ["no such heading"]),
        ("[`ema.py: Hook`](../projects/soft_teacher/engine/ema.py)", ["does not define Hook"]),
        ("[`ema.py: EMAHook.no`](../projects/soft_teacher/engine/ema.py)", ["EMAHook.no"]),
        ("[`ema.py: HookBase`](../projects/soft_teacher/engine/ema.py)", ["not define HookBase"]),
        ("[`build.py: EMAHook`](../projects/soft_teacher/engine/ema.py)", ["a definition in ema"]),
        ("[EMA](../projects/soft_teacher/engine/ema.py)", ["is to name a definition in ema.py"]),
    ],
)
def test_a_broken_link_is_found(text, said):
    found = broken_links(text)
    assert len(found) == len(said)
    assert all(words in problem for words, problem in zip(said, found))


@pytest.mark.parametrize(
    "text, said",
    [
        ("", []),
        ("`SOFT_TEACHER.ALPHA`, `SOLVER.MAX_ITER 100`, `docs/coco.md`, `MODEL`, `s3://a/b`", []),
        ("`SOFT_TEACHER.BETA`", ["SOFT_TEACHER.BETA: no such key"]),
        ("`SOFT_TEACHER.BETA 1`", ["SOFT_TEACHER.BETA: no such key"]),
        ("`SOFT_TEACHER.ALPHA.X`", ["SOFT_TEACHER.ALPHA.X: no such key"]),
        ("`SOFT_TEACHER.JITTER.NUM many`", ["SOFT_TEACHER.JITTER.NUM"]),
        ("`docs/none.md`", ["docs/none.md: no such path"]),
        ("| Key |\n|---|\n| `SOFT_TEACHER.ALPHA`, `model.alpha` |\n", []),
        ("| Key |\n|---|\n| `model.beta` |\n", ["model.beta: no such key in the LazyConfigs"]),
        ("| Key |\n|---|\n| `alpha` |\n", ["alpha: no config key"]),
    ],
)
def test_an_unknown_name_is_found(text, said):
    found = unknown_names(text)
    assert len(found) == len(said)
    assert all(words in problem for words, problem in zip(said, found))


def test_rows_know_their_section_their_configs_and_their_links():
    head = "# Title\n\ntext\n\n## Numbers\n\nOf `soft_teacher_R_50_FPN_full_720k`.\n\n"
    table = "| Key | Test |\n|---|---|\n| `A.B`, `a.b[0]` | [`x.py: f`][x], [y](z.md) |"
    tail = "\n\nMore text.\n\n| Key |\n|---|\n| `B.C` |\n\n[x]: ../tests/x.py\n"
    row, other = rows(head + table + tail)
    assert other.keys(YAML_KEY) == ["B.C"]
    assert (row.section, row.configs()) == ("Numbers", ["soft_teacher_R_50_FPN_full_720k"])
    assert (row.keys(YAML_KEY), row.keys(LAZY_KEY)) == (["A.B"], ["a.b[0]"])
    assert row.symbols("Test") == ["tests/x.py::f"]


# --- the page -----------------------------------------------------------------------------------


def test_every_link_leads_somewhere_and_every_symbol_is_defined_there():
    assert broken_links(TEXT) == []


def test_every_key_and_every_path_exists():
    assert unknown_names(TEXT) == []


def test_every_test_is_one_that_pytest_collects():
    tests = [symbol for row in ROWS for symbol in row.symbols("Test")]
    assert len(tests) > 100
    collected = re.compile(r"tests/(\w+/)*test_\w+\.py::(Test\w+\.)?test_\w+")
    assert [test for test in tests if not collected.fullmatch(test)] == []


@pytest.mark.parametrize(
    "column, prefix, count",
    [("Equation", "Eq.", 11), ("Table", "Table", 11), ("Figure", "Fig.", 4)],
)
def test_nothing_of_the_paper_is_left_out(column, prefix, count):
    found = [row.cells[column] for row in named(column)]
    assert found == [f"{prefix} {number}" for number in range(1, count + 1)]


def test_every_equation_has_code_a_key_and_a_test():
    for row in named("Equation"):
        assert row.symbols("Code") and row.keys(YAML_KEY) and row.symbols("Test"), row.cells


def test_every_number_and_every_decision_has_code_and_a_test():
    for row in [*VALUES, *named("Decision")]:
        assert row.symbols("Code") or row.cells["Code"] == "Detectron2", row.cells
        assert row.symbols("Test"), row.cells


# --- the values ---------------------------------------------------------------------------------


def plain(value):
    """As YAML reads it."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    return list(value) if isinstance(value, tuple) else value


def values_of(name) -> dict:
    """{YAML key: (paper, reference)} that the page states for a config."""
    found = {}
    for row in VALUES:
        for key in row.keys(YAML_KEY) if name in row.configs() else ():
            assert key not in found, f"{key} stands twice"
            found[key] = tuple(stated(row, variant) for variant in VARIANTS)
    return found


def stated(row, variant):
    return yaml.safe_load(row.cells[f"`{variant}`"].strip("`"))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("row", VALUES, ids=lambda row: f"{row.section}: {row.cells['Key']}")
def test_values_are_those_of_the_coco(row, variant):
    assert row.configs() and len(row.keys(YAML_KEY)) == 1
    for name in row.configs():
        cfg, lazy = leaves(load(variant, name)), load_lazy(variant, name)
        found = [plain(cfg[key]) for key in row.keys(YAML_KEY)]
        found += [plain(OmegaConf.select(lazy, key)) for key in row.keys(LAZY_KEY)]
        assert found == [stated(row, variant)] * len(found), name


@pytest.mark.parametrize("name", SOFT_TEACHERS)
def test_every_difference_of_the_released_code_has_its_switch_on_the_page(name):
    shipped = set(difference(*(leaves(load(variant, name)) for variant in VARIANTS)))
    on_the_page = {key for key, (one, other) in values_of(name).items() if one != other}
    assert on_the_page == shipped - {"OUTPUT_DIR"}


@pytest.mark.parametrize("name", SOFT_TEACHERS)
def test_no_key_of_the_method_is_left_out(name):
    keys = leaves(load("paper", name).SOFT_TEACHER)
    wanted = {f"SOFT_TEACHER.{key}" for key in keys if not key.startswith(BESIDE_THE_PAPER)}
    assert wanted - set(values_of(name)) == set()
