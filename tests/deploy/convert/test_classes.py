"""The order of classes, against a permutation made with NumPy."""

import numpy as np
import pytest
import torch
from foreign import save_annotations

from soft_teacher import ConfigError
from soft_teacher.deploy.convert.classes import Classes, classes_of

PREDICTOR = "roi_heads.box_predictor."
COW, ANT, BEE = (30, "cow"), (10, "ant"), (20, "bee")


def test_without_a_file_the_classes_are_those_of_coco():
    found = classes_of(80, [])
    assert found.rows == list(range(80)) and found.names[:2] == ["person", "bicycle"]
    assert classes_of(80, found.names[::-1]) == found  # their order is not that of the labels
    for number, said in ((3, []), (80, ["a"] * 80)):
        with pytest.raises(ConfigError, match="are not COCO's.*--annotations"):
            classes_of(number, said)


def test_classes_are_numbered_by_id(tmp_path):
    file = save_annotations(tmp_path / "a.json", COW, ANT, BEE)
    assert classes_of(3, [], file) == Classes(["ant", "bee", "cow"], [1, 2, 0])


def test_classes_that_were_not_learned_have_no_row(tmp_path):
    file = save_annotations(tmp_path / "a.json", COW, ANT, BEE)
    assert classes_of(2, ["bee", "cow"], file) == Classes(["bee", "cow"], [1, 0])
    with pytest.raises(ConfigError, match="has 1 of the checkpoint's classes, the detector has 2"):
        classes_of(2, ["bee"], file)


def test_both_predictors_are_permuted():
    random = np.random.default_rng(0)
    cls, box = random.normal(size=(4, 5)), random.normal(size=(12, 5))
    weights = {"other": torch.ones(1)}
    for layer, values in (("cls_score", cls), ("bbox_pred", box)):
        weights[f"{PREDICTOR}{layer}.weight"] = torch.from_numpy(values)
        weights[f"{PREDICTOR}{layer}.bias"] = torch.from_numpy(values[:, 0])
    found = Classes(["ant", "bee", "cow"], [1, 2, 0]).permuted(weights)
    assert found.keys() == weights.keys() and found["other"] is weights["other"]
    expected = np.stack([cls[1], cls[2], cls[0], cls[3]])
    assert np.array_equal(found[f"{PREDICTOR}cls_score.weight"], expected)
    assert np.array_equal(found[f"{PREDICTOR}cls_score.bias"], expected[:, 0])
    expected = np.concatenate([box[4:8], box[8:12], box[0:4]])
    assert np.array_equal(found[f"{PREDICTOR}bbox_pred.weight"], expected)
    assert np.array_equal(found[f"{PREDICTOR}bbox_pred.bias"], expected[:, 0])


@pytest.mark.parametrize(
    "content, line",
    [
        ("{", "is no JSON"),
        ("[]", "is no COCO JSON"),
        ('{"images": []}', "has no categories with id and name"),
        ('{"images": [], "categories": [{"id": 1}]}', "has no categories with id and name"),
        ('{"images": [], "categories": [{"id": 1, "name": "a"}]}', "has 1 classes, the detec"),
        (
            '{"images": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "gives ids twice",
        ),
    ],
)
def test_files_that_do_not_fit(content, line, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ConfigError, match=line):
        classes_of(3, [], str(tmp_path / "a.json"))
    with pytest.raises(ConfigError, match="does not exist"):
        classes_of(3, [], str(tmp_path / "missing.json"))
