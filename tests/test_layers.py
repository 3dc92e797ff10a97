"""Which parts of the package may know which, and that the method knows no kind of detector."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest
from coco import ROOT

NAME = "soft_teacher"
PACKAGE = ROOT / "projects" / NAME
# Each may import from those to its right.
ROOMS = (
    *("commands", "demo", "deploy", "runs", "analysis", "experiment", "model_zoo", "monitoring"),
    *("engine", "evaluation", "modeling", "data", "distributed", "utils"),
)
# Modules beside the rooms that import none of them but utils.
FOUNDATIONS = {"config", "geometry"}
FAMILIES = f"{NAME}.modeling.families"
RECIPE = (
    *("soft_teacher", "views", "pseudo_labels", "box_jitter", "background_weights"),
    *("step_record", "precomputed", "thresholds", "batch_norm", "mask_transport", "mask_weights"),
    "multi_scale",
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


def modules() -> dict[str, set[str]]:
    """Module of the package -> the others that it imports from, packages by their ``__init__``."""
    paths = {".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts): p for p in sources()}
    paths = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    return {
        name: imports(path.read_text(), name if is_package(path) else name.rpartition(".")[0])
        & set(paths) - {name}
        for name, path in paths.items()
    }


def sources():
    return PACKAGE.rglob("*.py")


def is_package(path) -> bool:
    return path.name == "__init__.py"


MODULES = modules()


def room(module: str) -> str:
    return module.split(".")[1]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A way from a node back to itself, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize(
    "source, found",
    [
        ("", set()),
        ("import torch", {"torch"}),
        ("from .views import A", {"p.q.views", "p.q.views.A"}),
        ("from . import views", {"p.q", "p.q.views"}),
        ("from ..r.s import A", {"p.r.s", "p.r.s.A"}),
        ("import p.q.views as f", {"p.q.views"}),
        ("def f():\n    from .views import A", {"p.q.views", "p.q.views.A"}),
    ],
)
def test_imports_are_found(source, found):
    assert imports(source, "p.q") == found


@pytest.mark.parametrize(
    "graph, found",
    [
        ({}, set()),
        ({"a": {"b"}, "b": {"c"}}, set()),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, {"b", "c"}),
    ],
)
def test_a_circle_is_found(graph, found):
    assert set(circle(graph)) == found


def test_every_module_is_in_a_room():
    assert {room(name) for name in MODULES if name != NAME} == {*ROOMS, *FOUNDATIONS}


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_only_from_those_below_it(name):
    below = {*ROOMS[ROOMS.index(name) :], *FOUNDATIONS}
    arrows = {
        f"{module} -> {other}"
        for module, others in MODULES.items()
        for other in others - {NAME}
        if module != NAME and room(module) == name and room(other) not in below
    }
    assert arrows == set()


@pytest.mark.parametrize("name", sorted(FOUNDATIONS))
def test_foundations_import_nothing_but_utils(name):
    assert {room(other) for other in MODULES[f"{NAME}.{name}"]} <= {"utils"}


def test_no_module_imports_the_package_itself():
    assert [name for name, others in MODULES.items() if NAME in others] == []


def test_no_circle_of_modules():
    assert circle(MODULES) == []


def test_no_circle_of_folders():
    def folder(name: str) -> str:
        return name if name in packages else name.rpartition(".")[0]

    packages = {name for name in MODULES if (PACKAGE.parent / name.replace(".", "/")).is_dir()}
    graph: dict[str, set[str]] = {name: set() for name in packages}
    for name, others in MODULES.items():
        graph[folder(name)] |= {folder(other) for other in others} - {folder(name)}
    # A folder's __init__ stands for what is in it.
    inside = {n: {o for o in others if not n.startswith(f"{o}.")} for n, others in graph.items()}
    below = {n: {o for o in others if not o.startswith(f"{n}.")} for n, others in inside.items()}
    assert circle(below) == []


@pytest.mark.parametrize("name", RECIPE)
def test_the_recipe_imports_the_base_of_families_alone(name):
    module = f"{NAME}.modeling.{name}"
    found = {other for other in MODULES[module] if other.startswith(FAMILIES)}
    assert found <= {f"{FAMILIES}.base"}
    source = (PACKAGE / "modeling" / f"{name}.py").read_text()
    attributes = {n.attr for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute)}
    assert not attributes & PARTS


def test_every_module_of_modeling_is_of_the_recipe():
    assert {path.stem for path in (PACKAGE / "modeling").glob("*.py")} == {*RECIPE, "__init__"}


def test_the_base_of_families_imports_none_of_them():
    assert not {n for n in MODULES[f"{FAMILIES}.base"] if n.startswith(FAMILIES)}
