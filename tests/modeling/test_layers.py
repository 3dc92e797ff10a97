"""The method knows no kind of detector."""

import ast

import pytest
from coco import ROOT

MODELING = ROOT / "projects" / "soft_teacher" / "modeling"
PACKAGE = "soft_teacher.modeling"
FAMILIES = f"{PACKAGE}.families"
RECIPE = (
    *("soft_teacher", "views", "pseudo_labels", "box_jitter", "background_weights"),
    *("step_record", "given_labels"),
)
# What only some kinds of detectors have.
PARTS = {"roi_heads", "proposal_generator", "box_predictor", "box_head", "head", "rpn_head"}


def imports(source: str, package: str) -> set[str]:
    """Modules that a module of ``package`` imports from, or that may be what it imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            module = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            found |= {module} | {f"{module}.{name.name}" for name in node.names}
    return found


def of_families(source: str, package: str = PACKAGE) -> set[str]:
    """What a module takes from the families but for their base."""
    names = {name for name in imports(source, package) if name.startswith(f"{FAMILIES}.")}
    return {name for name in names if not f"{name}.".startswith(f"{FAMILIES}.base.")}


@pytest.mark.parametrize(
    "source, found",
    [
        ("", set()),
        ("import torch\nfrom .views import ViewTransport", set()),
        ("from .families.base import TeacherPass", set()),
        ("from .families import base", set()),
        ("from .families import rcnn", {"rcnn"}),
        ("from .families.rcnn import A", {"rcnn", "rcnn.A"}),
        ("from ..modeling.families.rcnn.family import A", {"rcnn.family", "rcnn.family.A"}),
        ("import soft_teacher.modeling.families.rcnn.family as f", {"rcnn.family"}),
        ("def f():\n    from .families import rcnn", {"rcnn"}),
    ],
)
def test_imports_of_families_are_found(source, found):
    assert of_families(source) == {f"{FAMILIES}.{name}" for name in found}


@pytest.mark.parametrize("name", RECIPE)
def test_the_recipe_imports_the_base_of_families_alone(name):
    source = (MODELING / f"{name}.py").read_text()
    assert of_families(source) == set()
    attributes = {n.attr for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute)}
    assert not attributes & PARTS


def test_every_module_of_modeling_is_of_the_recipe():
    modules = {path.stem for path in MODELING.glob("*.py")}
    assert modules == {*RECIPE, "__init__"}


def test_the_base_of_families_imports_none_of_them():
    source = (MODELING / "families" / "base.py").read_text()
    assert of_families(source, FAMILIES) == set()
