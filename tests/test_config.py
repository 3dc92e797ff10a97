"""The YAML keys: read, explained, and by default what the paper says."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest
from coco import leaves
from detectron2.config import get_cfg

import soft_teacher
from soft_teacher import add_soft_teacher_config
from soft_teacher.experiment.train_settings import TrainSettings

PACKAGE = Path(soft_teacher.__file__).parent


def with_our_keys():
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    return cfg


OURS = {k: v for k, v in leaves(with_our_keys()).items() if k not in leaves(get_cfg())}


# --- every key is read and explained ------------------------------------------------------------


def dotted(node):
    """["cfg", "SOLVER", "OPTIMIZER"] of an expression cfg.SOLVER.OPTIMIZER, else []."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return base and [*base, node.attr]
    return []


def config_keys_read_in(source):
    """Dotted keys that a module reads, names for a part of the config (_C, small) followed."""
    nodes = [node for node in ast.walk(ast.parse(source)) if hasattr(node, "lineno")]
    parts, found = {}, set()

    def resolved(node):
        path = dotted(node)
        return parts.get(path[0], path[:1]) + path[1:] if path else []

    for node in sorted(nodes, key=lambda node: node.lineno):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            found.add(".".join(name for name in resolved(node) if name.isupper()))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            path = resolved(node.value)
            if any(name.isupper() for name in path[1:]):
                parts[node.targets[0].id] = path
    return found


@pytest.fixture(scope="module")
def keys_read():
    sources = [path for path in PACKAGE.rglob("*.py") if path.name != "config.py"]
    assert len(sources) > 20
    by_settings = {field.metadata["key"] for field in fields(TrainSettings)}
    return by_settings.union(*(config_keys_read_in(path.read_text()) for path in sources))


def test_a_read_is_found_through_names_for_a_part_of_the_config():
    source = """
def build(cfg):
    _C = cfg.SOFT_TEACHER
    small = _C.SMALL
    cfg.SOLVER.WRITTEN = 1
    return {"a": _C.EMA.RAMP, "b": small.NUM, "c": cfg.SOLVER.STEPS[0]}
"""
    found = config_keys_read_in(source)
    assert {"SOFT_TEACHER.EMA.RAMP", "SOFT_TEACHER.SMALL.NUM", "SOLVER.STEPS"} <= found
    assert "SOLVER.WRITTEN" not in found and "SOLVER.NUM" not in found


@pytest.mark.parametrize("key", OURS)
def test_every_key_is_read_somewhere(key, keys_read):
    assert key in keys_read


@pytest.mark.parametrize("key", OURS)
def test_every_key_has_a_comment_above(key):
    """Its own, that of the one line between (its pair, or the node it opens), or one naming it."""
    lines = [line.strip() for line in (PACKAGE / "config.py").read_text().splitlines()]
    name = key.removeprefix("SOFT_TEACHER.")
    pattern = rf"(cfg|_C)\.{re.escape(name)} = "
    (number,) = [n for n, line in enumerate(lines) if re.match(pattern, line)]
    comment = number - 1
    while lines[comment] and not lines[comment].startswith("#"):
        comment -= 1
    assert lines[comment].startswith("#")
    if comment < number - 2:
        assert re.search(rf"\b{name.rpartition('.')[2]}\b", lines[comment])


def test_the_keys_stand_under_soft_teacher_but_for_those_beside_their_kind():
    assert {key for key in OURS if not key.startswith("SOFT_TEACHER.")} == {
        "DATALOADER.MAX_UNREADABLE",
        "DATASETS.SPLIT.FAMILY",
        "DATASETS.SPLIT.FOLD",
        "DATASETS.SPLIT.PERCENT",
        "DATASETS.TRAIN_LABELED",
        "DATASETS.TRAIN_UNLABELED",
        "INPUT.MAX_PIXELS",
        "SOLVER.AMP.PRECISION",
        "SOLVER.CHECKPOINTS_TO_KEEP",
        "SOLVER.GRADIENT_ACCUMULATION",
        "SOLVER.MAX_NONFINITE",
        "SOLVER.OPTIMIZER",
        "TEST.AUG.BOX_SIZES",
        "TEST.AUG.MAX_SIZES",
    }


PAPER = {
    "ALPHA": 4.0,
    "LABELED_SHARE": 0.2,
    "LABELED_SHARE_DECAY": 10_000,
    "SCORE_THRESH": 0.9,
    "INDICATOR": "bg_teacher",
    "CLS_FORMULA": "paper",
    "REG_NORMALIZER": "foreground",
    "AVERAGE": "image",
    "JITTER.ENABLED": True,
    "JITTER.NUM": 10,
    "JITTER.SCALE": 0.06,
    "JITTER.DISTRIBUTION": "uniform",
    "JITTER.SCORE_THRESH": 0.5,
    "JITTER.VARIANCE_THRESH": 0.02,
    "JITTER.NORMALIZER": "candidate",
    "JITTER.STABLE_SHARE": 0.0,
    "DENSITY.ENABLED": False,
    "DENSITY.IGNORE": 0.0,
    "STATISTICS": "all",
    "EMA.THROUGH_BURN_IN": False,
    "EMA.MOMENTUM": 0.999,
    "EMA.RAMP": True,
    "EMA.INTERVAL": 1,
    "AUGMENTATION.VARIANT": "paper",
    "AUGMENTATION.SHORT_EDGE": 800,
    "AUGMENTATION.SCALE_RANGE": (0.5, 1.5),
    "AUGMENTATION.MAX_SIZE": 1333,
    "AUGMENTATION.FLIP": True,
    "AUGMENTATION.MAX_ANGLE": 30.0,
    "AUGMENTATION.INSTANCE_PASTE": 0.0,
    "EVAL_NETWORKS": ("student", "teacher"),
}


@pytest.mark.parametrize("key", PAPER)
def test_the_defaults_are_the_paper_s_for_partial_data(key):
    found = OURS[f"SOFT_TEACHER.{key}"]
    assert found == PAPER[key] and type(found) is type(PAPER[key])
