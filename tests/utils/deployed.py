"""Trained runs in small: a folder with a config, weights that detect something, and photos."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from soft_teacher.deploy.export import sample_views, source_of
from soft_teacher.experiment.entry import load_experiment

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo"
CLASSES = ["cat", "dog", "bird"]
HEADS = {
    "RPN": {"PRE_NMS_TOPK_TEST": 100, "POST_NMS_TOPK_TEST": 40},
    "ROI_HEADS": {"NAME": "StandardROIHeads", "NUM_CLASSES": len(CLASSES)},
    "ROI_BOX_HEAD": {
        "NAME": "FastRCNNConvFCHead",
        "NUM_FC": 2,
        "FC_DIM": 8,
        "POOLER_RESOLUTION": 7,
    },
    "RETINANET": {"NUM_CLASSES": len(CLASSES), "NUM_CONVS": 1},
}
# The demo's backbone, which is traced fast.
SMALL = {
    "BACKBONE": {"NAME": "build_small_resnet_fpn_backbone"},
    "RESNETS": {"NORM": "BN"},
    "FPN": {"IN_FEATURES": ["res2", "res3", "res4"], "OUT_CHANNELS": 4},
    "ANCHOR_GENERATOR": {"SIZES": [[12], [24], [48]]},
    "RPN": {"IN_FEATURES": ["p2", "p3", "p4"]},
    "ROI_HEADS": {"IN_FEATURES": ["p2", "p3"]},
    "RETINANET": {"IN_FEATURES": ["p2", "p3", "p4"]},
    "PIXEL_STD": [60.0] * 3,
}
# R50-FPN of very few channels, in Detectron2's own parts. Untrained layers enlarge their input.
R50 = {
    "BACKBONE": {"NAME": "build_resnet_fpn_backbone"},
    "RESNETS": {
        "STEM_OUT_CHANNELS": 4,
        "RES2_OUT_CHANNELS": 8,
        "WIDTH_PER_GROUP": 2,
        "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    },
    "FPN": {"IN_FEATURES": ["res2", "res3", "res4", "res5"], "OUT_CHANNELS": 4},
    "ANCHOR_GENERATOR": {"SIZES": [[8], [16], [32], [64], [128]]},
    "RPN": {"IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"]},
    "ROI_HEADS": {"IN_FEATURES": ["p2", "p3", "p4", "p5"]},
    "RETINANET": {"IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"]},
    "PIXEL_STD": [500.0] * 3,
}
ARCHITECTURES = {"rcnn": "GeneralizedRCNN", "retinanet": "RetinaNet"}
# Layers whose outputs should differ from place to place.
LIVELY = ("cls_score", "bbox_pred", "objectness_logits", "anchor_deltas")


def write_run(folder: Path, kind="rcnn", *, backbone=SMALL, **keys) -> Path:
    """A config and weights in a folder, and photos beside it; the path of the config.

    ``keys`` are sections of ``MODEL``, whose keys replace those of the backbone and the heads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    model = {
        "META_ARCHITECTURE": ARCHITECTURES[kind],
        "WEIGHTS": str(folder / "model_final.pth"),
        "DEVICE": "cpu",
        "PIXEL_STD": backbone["PIXEL_STD"],
    }
    parts = [HEADS, {k: v for k, v in backbone.items() if k != "PIXEL_STD"}, keys]
    for part in parts:
        for name, values in part.items():
            model[name] = {**model.get(name, {}), **values}
    method = {"JITTER": {"ENABLED": kind == "rcnn"}}
    method["SMALL_RESNET"] = {"STEM_CHANNELS": 4, "STAGE_CHANNELS": [4, 6, 8]}
    sizes = {"MIN_SIZE_TEST": 64, "MAX_SIZE_TEST": 100}
    content = {"VERSION": 2, "MODEL": model, "INPUT": sizes, "SOFT_TEACHER": method}
    config.write_text(yaml.safe_dump(content))
    fill(folder, config)
    return config


def fill(folder: Path, config: Path, *opts) -> None:
    """What a run has in its folder beside the config, and photos."""
    torch.manual_seed(0)
    network = load_experiment(str(config), opts).build_model()
    state = {}
    for name in ("student", "teacher"):
        state |= {f"{name}.{k}": v for k, v in lively(getattr(network, name)).items()}
    torch.save({"model": state}, folder / "model_final.pth")
    (folder / "classes.json").write_text(json.dumps(CLASSES))
    write_photos(folder / "photos")


def lively(network) -> dict:
    """A state dict with which an untrained network detects objects of all classes."""
    state = {k: v.clone() for k, v in network.state_dict().items()}
    for name, value in state.items():
        if any(layer in name for layer in LIVELY):
            is_bias = name.endswith("bias")
            value.normal_(0, 0.1 if is_bias else 1 / math.sqrt(value[0].numel()))
            if is_bias and "head.cls_score" in name:
                value -= 1.5
    return state


def write_photos(folder: Path, sizes=((90, 120), (100, 70))) -> Path:
    """Photos of coloured rectangles, (height, width) each."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for number, (height, width) in enumerate(sizes):
        photo = random.integers(0, 255, (height // 10, width // 10, 3), dtype=np.uint8)
        Image.fromarray(photo).resize((width, height), Image.NEAREST).save(folder / f"{number}.png")
    return folder


def deployed(config: Path, *opts, network="teacher"):
    """The source of an export, and views to compare on."""
    source = source_of(load_experiment(str(config), opts), network)
    return source, sample_views(source, str(config.parent / "photos"))


def deployed_fcos(folder: Path):
    """The same of the demo's FCOS, from its LazyConfig."""
    resize = "dataloader.test.mapper.augmentations.0"
    opts = [
        *(f"train.init_checkpoint={folder / 'model_final.pth'}", "train.device=cpu"),
        *(f"model.student.num_classes={len(CLASSES)}", "model.student.pixel_std=[60.0,60.0,60.0]"),
        *(f"{resize}.short_edge_length=64", f"{resize}.max_size=100"),
    ]
    config = DEMO / "fcos_supervised.py"
    fill(folder, config, *opts)
    source = source_of(load_experiment(str(config), opts), "teacher")
    return source, sample_views(source, str(folder / "photos"))


def needs(*packages):
    """Skips a test without the packages of the extra "export"."""
    for package in packages:
        pytest.importorskip(package, reason=f"{package} is missing: pip install -e '.[export]'")


def run_without(packages, script: str, cwd: Path) -> str:
    """What a script prints in a Python of its own, where some packages cannot be imported."""
    blocked = "".join(f"sys.modules[{p!r}] = None\n" for p in packages)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys\n{blocked}{script}"],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
