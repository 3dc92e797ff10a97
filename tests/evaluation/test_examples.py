"""A few test images, and what a network detects on them."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image

from soft_teacher.data.mapper import InferenceMapper
from soft_teacher.evaluation.examples import detect_examples, evenly_spaced, some_dicts


@pytest.mark.parametrize(
    "total, count, expected",
    [
        *((0, 4, []), (3, 0, []), (1, 4, [0]), (4, 4, [0, 1, 2, 3])),
        *((5, 4, [0, 1, 2, 3]), (8, 4, [0, 2, 4, 6]), (10, 4, [0, 2, 5, 7])),
    ],
)
def test_numbers_are_evenly_spaced(total, count, expected):
    assert evenly_spaced(total, count) == expected


def write_dicts(folder, *, count=8):
    """Images of 8 x 6 with one object each, of a class of their own."""
    for number in range(count):
        Image.new("RGB", (8, 6)).save(folder / f"{number}.png")
    box = dict(bbox=[1, 2, 3, 3], bbox_mode=BoxMode.XYWH_ABS)
    return [
        {
            **dict(file_name=str(folder / f"{n}.png"), image_id=n, height=6, width=8),
            "annotations": [{**box, "category_id": n}],
        }
        for n in range(count)
    ]


def test_dicts_are_those_of_the_dataset_as_it_is_evaluated(tmp_path):
    dicts = write_dicts(tmp_path)
    DatasetCatalog.register("photographs", lambda: dicts)
    MetadataCatalog.get("photographs").set(thing_classes=[f"class {n}" for n in range(8)])
    assert [d["image_id"] for d in some_dicts("photographs", 4)] == [0, 2, 4, 6]


class Network(torch.nn.Module):
    """Finds a box in the corner of every image, with the score 0.75; keeps what it was asked."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)
        self.asked = []

    def forward(self, inputs):
        self.asked.append((len(inputs), self.training, torch.is_grad_enabled()))
        self.norm(torch.stack([x["image"] for x in inputs]).float() + 1)
        return [
            {
                "instances": Instances(
                    (x["height"], x["width"]),
                    pred_boxes=Boxes(torch.tensor([[0.0, 0, 2, 2]])),
                    pred_classes=torch.tensor([1]),
                    scores=torch.tensor([0.75]),
                )
            }
            for x in inputs
        ]


MAPPER = InferenceMapper(augmentations=[], image_format="RGB")


def test_without_images_nothing_is_detected():
    network = Network()
    assert detect_examples(network, [], MAPPER) == [] and network.asked == []


def test_an_example_has_detections_and_ground_truth(tmp_path):
    (found,) = detect_examples(Network(), write_dicts(tmp_path)[5:6], MAPPER)
    assert found.file_name == str(tmp_path / "5.png") and found.image.shape == (3, 6, 8)
    assert found.detections.image_size == (6, 8) and found.detections.scores.tolist() == [0.75]
    np.testing.assert_array_equal(found.boxes, [[1, 2, 4, 5]])
    assert found.classes == [5]


def test_masks_of_detections_and_ground_truth_are_polygons(tmp_path):
    class MaskNetwork(Network):
        def forward(self, inputs):
            outputs = super().forward(inputs)
            for x, output in zip(inputs, outputs):
                mask = torch.zeros(1, x["height"], x["width"], dtype=torch.bool)
                mask[:, :3, :4] = True
                output["instances"].pred_masks = mask
            return outputs

    square = [1, 2, 4, 2, 4, 5, 1, 5]
    dicts = write_dicts(tmp_path)[:2]
    dicts[0]["annotations"][0]["segmentation"] = [square]
    crowd = {**dicts[0]["annotations"][0], "iscrowd": 1}
    dicts[0]["annotations"].insert(0, crowd)
    first, second = detect_examples(MaskNetwork(), dicts, MAPPER)
    assert [p.tolist() for p in first.masks.polygons[0]] == [square] and len(first.masks) == 1
    assert second.masks.polygons == [[]]
    (mask,) = first.detections[first.detections.scores > 0.5].pred_masks.polygons
    assert mask[0].reshape(-1, 2).max(0).tolist() == [3.5, 2.5]
    (boxes_only,) = detect_examples(Network(), dicts[:1], MAPPER)
    assert not boxes_only.detections.has("pred_masks")


def test_unreadable_images_are_left_out(tmp_path):
    dicts = write_dicts(tmp_path, count=4)
    (tmp_path / "1.png").unlink()
    (tmp_path / "2.png").write_bytes(b"no image")
    found = detect_examples(Network(), dicts, MAPPER)
    assert [example.classes for example in found] == [[0], [3]]


@pytest.mark.parametrize("training", [True, False])
def test_the_network_detects_each_image_alone_in_eval_mode_and_is_left_as_it_was(
    training, tmp_path
):
    network = Network().train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    dicts = write_dicts(tmp_path, count=2)
    detect_examples(network, dicts, MAPPER)
    assert network.asked == [(1, False, False)] * 2
    assert network.training == network.norm.training == training
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert all("annotations" in d and "image" not in d for d in dicts)
