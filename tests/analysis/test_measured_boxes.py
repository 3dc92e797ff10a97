"""A network's detections on images with ground truth."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy  # noqa: F401  registers a family without MeasuresStability
from detectron2.data import DatasetCatalog
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.events import EventStorage
from PIL import Image
from training import CONFIGS, save_untrained

from soft_teacher.analysis.findings import findings_of
from soft_teacher.analysis.measured_boxes import choose_images, join, measure
from soft_teacher.analysis.pseudo_label_report import write_findings
from soft_teacher.data.mapper import InferenceMapper
from soft_teacher.data.streams.seeds import sample_seed
from soft_teacher.experiment import yaml_config
from soft_teacher.experiment.trained import Trained
from soft_teacher.experiment.yaml_experiment import YamlExperiment
from soft_teacher.modeling.families.base import MeasuresStability, TeacherPass
from soft_teacher.modeling.views import ViewTransport

OBJECT = dict(bbox=[10, 10, 20, 20], bbox_mode=BoxMode.XYXY_ABS, category_id=1)
CROWD = dict(bbox=[0, 30, 40, 40], bbox_mode=BoxMode.XYXY_ABS, category_id=0, iscrowd=1)
NAN = float("nan")
VIEW = (80, 80)  # of an image of 40 x 40
# Boxes in the view: on the object, twice; on it with another class; in the crowd; on nothing.
FOUND = [
    ([20, 20, 40, 40], 1, 0.9),
    ([20, 20, 40, 36], 1, 0.7),
    ([20, 20, 40, 40], 0, 0.8),
    ([0, 60, 20, 80], 0, 0.6),
    ([60, 0, 80, 20], 1, 0.4),
]


def test_a_sample_of_images_is_in_order_seeded_and_without_repetition():
    assert choose_images([], None, 0) == [] and choose_images("abc", None, 0) == "abc"
    images = list(range(100))
    few, many = choose_images(images, 5, 3), choose_images(images, 50, 3)
    assert few == sorted(set(few)) and len(few) == 5 and len(many) == 50
    assert set(few) < set(many)
    assert choose_images(images, 5, 4) != few == choose_images(images, 5, 3)
    assert choose_images(images, 1000, 3) == images


class TenthOfTheScore(TeacherPass, MeasuresStability):
    """Finds the same in every image; a box varies by a tenth of its score."""

    def __init__(self, detections, seeds):
        super().__init__(detections)
        self.seeds = seeds

    def variances(self, rows, seeds):
        self.seeds += seeds
        return [d.scores[r] / 10 for d, r in zip(self.detections, rows)]


class FindsTheSame:
    """A family whose networks find FOUND everywhere."""

    def __init__(self):
        self.seeds = []

    def num_classes(self, network):
        return 3

    def teach(self, network, views, *, as_evaluated=False):
        boxes, classes, scores = zip(*FOUND)
        assert [tuple(v.shape[1:]) for v in views] == [VIEW]
        found = Instances(VIEW, pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32)))
        found.pred_classes, found.scores = torch.tensor(classes), torch.tensor(scores)
        return TenthOfTheScore([found], self.seeds)


@pytest.fixture
def trained():
    """A model that sees images at twice their size and finds FOUND everywhere."""
    model = SimpleNamespace(
        teacher="teacher",
        student="student",
        family=FindsTheSame(),
        pseudo_labeler=SimpleNamespace(candidate_thresh=0.5),
    )
    twice = InferenceMapper(augmentations=[ResizeShortestEdge(80)], image_format="BGR")
    return Trained(model, "weights.pth", twice, 0)


@pytest.fixture
def image(tmp_path):
    """image(annotations): a dataset dict."""

    def image(*annotations):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.png"
        Image.new("RGB", (40, 40)).save(path)
        return {"file_name": str(path), "image_id": 0, "annotations": list(annotations)}

    return image


def test_boxes_are_judged_in_the_image_s_own_pixels(trained, image):
    found = measure(trained, "teacher", [image(OBJECT, CROWD)])[0]
    np.testing.assert_allclose(found.boxes[:2], [[10, 10, 20, 20], [10, 10, 20, 18]])
    assert found.classes.tolist() == [1, 1, 0, 0, 1]
    assert found.hits.tolist() == [True, False, False, False, False]
    assert found.neutral.tolist() == [False, False, False, True, False]
    np.testing.assert_allclose(found.overlaps, [1, 0.8, 1, 0, 0])  # whatever the class
    assert found.objects.tolist() == [0, 1, 0]


class FindsMasks(FindsTheSame):
    """Its masks fill the left half of each box."""

    def teach(self, network, views, *, as_evaluated=False):
        seen = super().teach(network, views)
        (found,) = seen.detections
        found.pred_masks = torch.zeros(len(found), 1, 28, 28)
        found.pred_masks[..., :14] = 1
        return seen


def test_masks_of_boxes_that_found_an_object_are_compared_with_its_mask(trained, image):
    trained.model.family = FindsMasks()
    square = {**OBJECT, "segmentation": [[10, 10, 20, 10, 20, 20, 10, 20]]}
    left = {**OBJECT, "segmentation": [[10, 10, 15, 10, 15, 20, 10, 20]]}
    found = measure(trained, "teacher", [image(square), image(left), image(OBJECT), image()])
    first, *others = zip(*(boxes.mask_overlaps.tolist() for boxes in found.values()))
    assert first == pytest.approx((0.5, 1, NAN, NAN), abs=0.1, nan_ok=True)
    assert np.isnan(others).all()


def test_without_masks_nothing_is_compared(trained, image):
    found = measure(trained, "teacher", [image({**OBJECT, "segmentation": [[1, 1, 9, 1, 9, 9]]})])
    assert np.isnan(found[0].mask_overlaps).all()


def test_boxes_above_the_threshold_of_the_jitter_have_a_variance(trained, image):
    found = measure(trained, "teacher", [image(OBJECT), image()], seed=5)
    for boxes in found.values():
        np.testing.assert_allclose(boxes.variances, [0.09, 0.07, 0.08, 0.06, np.nan], rtol=1e-6)
    assert trained.model.family.seeds == [sample_seed(5, 0), sample_seed(5, 1)]
    assert not (found[1].hits.any() or found[1].overlaps.any() or found[1].objects.any())
    without = measure(trained, "teacher", [image(OBJECT)], variances=False)[0]
    assert np.isnan(without.variances).all() and len(trained.model.family.seeds) == 2


def test_an_unreadable_image_is_reported_and_its_objects_do_not_count(trained, image, capsys):
    broken = image(OBJECT)
    with open(broken["file_name"], "wb") as file:
        file.write(b"no image")
    found = measure(trained, "teacher", [broken, image(OBJECT)])
    assert list(found) == [1] and join(list(found.values())).objects.sum() == 1
    assert f"left out: {broken['file_name']}: " in capsys.readouterr().err


def test_images_are_joined_in_order(trained, image):
    found = measure(trained, "teacher", [image(OBJECT), image(OBJECT, CROWD)])
    both = join(list(found.values()))
    assert both.scores.tolist() == 2 * found[0].scores.tolist()
    assert both.neutral.tolist() == [*found[0].neutral, *found[1].neutral]
    assert both.objects.tolist() == [0, 2, 0]
    some = both.where(both.neutral)
    assert some.classes.tolist() == [0] and some.boxes.shape == (1, 4)


@pytest.mark.parametrize("network", ["teacher", "student"])
def test_variances_are_those_that_training_would_measure(network, tiny_digits, tmp_path):
    save_untrained(tmp_path / "model.pth")
    cfg = yaml_config.load_config(str(CONFIGS / "soft_teacher.yaml"))
    trained = YamlExperiment(cfg).load_trained(weights=str(tmp_path / "model.pth"))
    model, labeler = trained.model, trained.model.pseudo_labeler
    image, other = DatasetCatalog.get("digits_val")[:2]
    with torch.no_grad():
        seen = model.family.teach(getattr(model, network), [trained.mapper(image)["image"]])
    (detections,) = seen.detections
    labeler.candidate_thresh = float(detections.scores.median())
    found = measure(trained, network, [image, other], seed=7)[0]
    sizes = [detections.image_size]
    transport = ViewTransport(torch.eye(3)[None], sizes, sizes, model.device)
    with EventStorage():
        (chosen,) = labeler(seen, transport, [sample_seed(7, 0)]).chosen_from
    assert 0 < len(chosen.candidates) < len(detections)
    variances = np.full(len(detections), np.nan)
    variances[chosen.candidates] = chosen.variances
    np.testing.assert_array_equal(found.scores, detections.scores.double())
    np.testing.assert_array_equal(found.variances, variances)


def test_a_detector_that_cannot_measure_stability_is_analysed_without_variances(
    tiny_digits, tmp_path
):
    opts = ["SOFT_TEACHER.DETECTOR", "ToyDetector", "SOFT_TEACHER.JITTER.ENABLED", "False"]
    save_untrained(tmp_path / "model.pth", *opts)
    cfg = yaml_config.load_config(str(CONFIGS / "soft_teacher.yaml"), opts)
    trained = YamlExperiment(cfg).load_trained(weights=str(tmp_path / "model.pth"))
    trained.model.pseudo_labeler.candidate_thresh = 0.05
    found = measure(trained, "teacher", DatasetCatalog.get("digits_val"))
    findings = findings_of(found, trained, network="teacher", dataset="digits_val")
    assert len(findings.candidates.scores) and np.isnan(findings.boxes.variances).all()
    assert findings.correlations["score"].count > findings.correlations["variance"].count == 0
    assert len(write_findings(findings, tmp_path)) == 4
