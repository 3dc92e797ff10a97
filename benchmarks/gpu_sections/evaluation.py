"""How fast an evaluation is: the network alone, and all of it, from the files to AP."""

import json
import time
from contextlib import nullcontext
from functools import partial

import torch
from bench_injection import NUM_CLASSES
from bench_measures import timed
from bench_parts import measured
from bench_report import Row
from bench_variants import calibrate, mappers, with_boxes
from detectron2.modeling import GeneralizedRCNN
from gpu_sections.job import Job, Rows
from numpy import median
from numpy.random import default_rng

from soft_teacher.data.datasets.dataset_checks import check_datasets
from soft_teacher.experiment import SoftTeacherTrainer
from soft_teacher.modeling import SoftTeacher

__all__ = ["rows"]

BATCHES = (1, 8)
WORKERS = 4
# Standard deviation of objectness and class scores, as logits.
SPREAD = 2.5


def rows(job: Job) -> Rows:
    scenario = job.scenario(job.size.batches[0])
    dicts = job.photos(job.size.images)
    cfg = scenario.experiment().cfg
    cfg.DATASETS.TEST = (_coco_json(job, dicts),)
    cfg.DATALOADER.NUM_WORKERS = WORKERS if job.on_gpu else 0
    cfg.INPUT.MIN_SIZE_TEST = job.size.short_side
    cfg.OUTPUT_DIR = str(job.folder / "evaluation")
    torch.manual_seed(0)
    model = SoftTeacher(cfg).to(job.device).eval()
    one_view, _ = mappers(scenario)
    images = [{"image": one_view(d)["image"]} for d in dicts[: max(BATCHES)]]
    calibrate(model.student, images)
    _sharpen(model.student, images)
    model.copy_student_to_teacher()
    half = partial(torch.autocast, job.device, dtype=torch.bfloat16)
    for precision, context in {"fp32": nullcontext, "bf16": half}.items():
        for batch in BATCHES:
            label = {"precision": precision, "images at once": batch}
            alone = partial(_alone, job, model, images[:batch], context)
            yield "the network alone", measured(label, alone)
    yield "student and teacher, from the files to AP, fp32", _whole(cfg, model, len(dicts))


def _alone(job: Job, model: SoftTeacher, images: list[dict], context) -> Row:
    found = []

    def detect():
        with context(), torch.no_grad():
            found.append(model.teacher.inference(images))

    seconds = [timed(detect, job.device) for _ in range(1 + job.size.rounds)][1:]
    boxes = [len(x["instances"]) for x in found[-1]]
    return {
        "images a second": len(images) / float(median(seconds)),
        "detections of an image": sum(boxes) / len(boxes),
    }


def _whole(cfg, model: SoftTeacher, images: int) -> Row:
    check_datasets(labeled=[], unlabeled=[], test=list(cfg.DATASETS.TEST), num_classes=NUM_CLASSES)
    started = time.perf_counter()
    SoftTeacherTrainer.test(cfg, model)
    seconds = time.perf_counter() - started
    return {"images": images, "s of both": seconds, "images a second": 2 * images / seconds}


def _coco_json(job: Job, dicts: list[dict]) -> str:
    """The photographs with random ground truth, as DATASETS.TEST names them."""
    rng = default_rng(0)
    annotations = []
    for image in dicts:
        for found in with_boxes(image, rng)["annotations"]:
            x0, y0, x1, y1 = found["bbox"]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["image_id"],
                    "category_id": found["category_id"] + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )
    images = [{"id": d["image_id"], **d} for d in dicts]
    names = [{"id": i + 1, "name": str(i + 1)} for i in range(NUM_CLASSES)]
    path = job.folder / "images.json"
    found = {"info": {}, "images": images, "annotations": annotations, "categories": names}
    path.write_text(json.dumps(found))
    return f"{path}@{job.folder}"


@torch.no_grad()
def _sharpen(network: GeneralizedRCNN, images: list[dict]) -> None:
    """Scales the last layers of both heads, so that a change of what they detect can show.

    As they are initialised, all proposals and classes score nearly alike, and any rounding reorders
    them; and no score reaches what an evaluation keeps.

    Args:
        network: calibrated, on its device, in evaluation mode.
        images: dicts with ``image``.
    """
    layers = network.proposal_generator.rpn_head.objectness_logits, network.roi_heads.box_predictor
    for layer in (layers[0], layers[1].cls_score):
        outputs = []
        handle = layer.register_forward_hook(lambda module, args, output: outputs.append(output))
        network.inference(images, do_postprocess=False)
        handle.remove()
        # (number of scores, classes); the RPN's maps are (N, anchors, H, W), one for each level.
        scores = torch.cat([o.float().movedim(1, -1).reshape(-1, o.shape[1]) for o in outputs])
        # What all boxes have in common says nothing about any of them.
        layer.bias -= scores.mean(dim=0)
        scale = SPREAD / scores.std(dim=0).mean()
        layer.weight *= scale
        layer.bias *= scale
