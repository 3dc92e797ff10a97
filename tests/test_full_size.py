"""The first step of a full-size COCO config on images of COCO's size, as a person starts it."""

import json
import os
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from steps import ALL_LOSSES
from training import ROOT, metrics

from soft_teacher.data.datasets.splits.families import read_coco_ids, stac_split
from soft_teacher.data.datasets.splits.manifest import write_manifest

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

THINGS = [c for c in COCO_CATEGORIES if c["isthing"]]
SIZES = [(480, 640), (480, 640), (640, 480), (427, 640)]  # (height, width), COCO's most frequent
NAME = "soft_teacher_R_50_FPN_partial_180k"
# One labeled and four unlabeled images, as a GPU has them; random weights; one step.
YAML_OPTS = [
    "MODEL.WEIGHTS", "",
    "SOLVER.IMS_PER_BATCH", "5",
    "SOLVER.MAX_ITER", "1",
    "SOFT_TEACHER.LABELED_SHARE_DECAY", "0",
    "DATALOADER.NUM_WORKERS", "0",
    "OUTPUT_DIR", "{}",
]  # fmt: skip
# The released code's fp16 needs a GPU.
LAZY_OPTS = [
    "train.init_checkpoint=''",
    "dataloader.train.batch_size=5",
    "train.max_iter=1",
    "train.amp.enabled=False",
    "dataloader.train.num_workers=0",
    "train.output_dir={}",
]


def write_photographs(root, part: str, count: int, seed: int):
    """``count`` random JPEGs with boxes of all 80 categories, and COCO's annotations of them."""
    rng = np.random.default_rng(seed)
    folder = root / f"{part}2017"
    folder.mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        height, width = SIZES[number % len(SIZES)]
        coarse = rng.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
        pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        name = f"{number:012}.jpg"
        assert cv2.imwrite(str(folder / name), pixels)
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for _ in range(7):  # COCO's mean
            w, h = rng.uniform(20, 200, 2)
            x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
            thing = THINGS[len(annotations) % 80]["id"]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": thing,
                 "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            )  # fmt: skip
    categories = [{"id": c["id"], "name": c["name"]} for c in THINGS]
    path = root / "annotations" / f"instances_{part}2017.json"
    path.parent.mkdir(exist_ok=True)
    coco = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(coco))
    return path


@pytest.fixture(scope="module")
def datasets_folder(tmp_path_factory):
    """$DETECTRON2_DATASETS with a small COCO under its usual names, and the split of 10 %."""
    root = tmp_path_factory.mktemp("datasets")
    train = write_photographs(root / "coco", "train", 30, seed=0)
    write_photographs(root / "coco", "val", 1, seed=1)
    split = stac_split(read_coco_ids(train)["stac"], 10, fold=1, source="coco_2017_train")
    write_manifest(split, root / "coco" / "splits" / "stac_10p_fold1.json")
    return root


def run(config, opts, datasets, log):
    """train_net.py in a process of its own: (exit code, {"seconds", "cpu_seconds", "peak_gib"})."""
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets)}
    command = [sys.executable, "-W", "ignore", str(ROOT / "train_net.py"), "--config-file", config]
    start = time.perf_counter()
    with open(log, "wb") as output:
        child = subprocess.Popen(command + opts, stdout=output, stderr=output, env=environment)
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:  # a test that ran out of time
            child.kill()
            raise
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_gib": usage.ru_maxrss / 2**20,
    }


@pytest.mark.parametrize(
    "variant, suffix, opts", [("paper", "yaml", YAML_OPTS), ("reference", "py", LAZY_OPTS)]
)
def test_the_first_step(variant, suffix, opts, datasets_folder, tmp_path, record_property, capsys):
    config = str(ROOT / "configs" / "coco" / variant / f"{NAME}.{suffix}")
    opts = [text.format(tmp_path) for text in opts]
    code, used = run(config, opts, datasets_folder, tmp_path / "stdout")
    assert code == 0, (tmp_path / "stdout").read_text()[-3000:]
    with capsys.disabled():
        print(f"\n{variant} {NAME}: {', '.join(f'{k} {v:.1f}' for k, v in used.items())}")
    for figure in used.items():
        record_property(*figure)

    last = metrics(tmp_path)
    losses = {key: last[key] for key in ALL_LOSSES}
    assert all(np.isfinite(value) for value in losses.values()), losses
    assert losses["sup/loss_cls"] > 0 and losses["sup/loss_rpn_cls"] > 0
    assert last["lr"] == pytest.approx(0.01 * 0.001)
    # Both networks were evaluated, in vain: no detection of random weights passes the threshold.
    assert {"student/bbox/AP", "teacher/bbox/AP"} <= set(last)
    assert (tmp_path / "model_final.pth").is_file()
