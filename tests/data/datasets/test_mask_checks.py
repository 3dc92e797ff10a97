"""Masks from file to stream: where they are wanted, wrong ones are one line before training."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image
from shapes import FORMS, QUAD, as_polygon, box_of, rle

from soft_teacher.data.datasets.dataset_checks import check_datasets
from soft_teacher.data.datasets.dataset_dicts import labeled_dicts, unlabeled_dicts
from soft_teacher.data.masks import packed
from soft_teacher.utils.errors import ConfigError

pytestmark = pytest.mark.usefixtures("own_catalog")

SIZE = (90, 120)
PREFIX = "masks_test_"
BOX_ADVICE = "or set TwoStreamLoader.masks to False"
x0, y0, x1, y1 = box_of(QUAD)
BOX = {"bbox": [x0, y0, x1 - x0, y1 - y0], "category_id": 1, "iscrowd": 0, "area": 7}


@pytest.fixture
def of(tmp_path):
    """Registers a COCO dataset of one image with an annotation for each segmentation."""

    def register(*segmentations, name="coco", **values):
        Image.new("RGB", SIZE[::-1]).save(tmp_path / "image.png")
        annotations = [
            {**BOX, "id": n, "image_id": 1, **values, **({} if s is ... else {"segmentation": s})}
            for n, s in enumerate(segmentations, 1)
        ]
        content = {
            "images": [{"id": 1, "file_name": "image.png", "height": SIZE[0], "width": SIZE[1]}],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "cat"}],
        }
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        register_coco_instances(PREFIX + name, {}, str(path), str(tmp_path))
        return PREFIX + name

    return register


@pytest.fixture
def shared(tmp_path):
    """Registers the dicts of a user's own code: an image for each list of annotations."""

    def register(*annotations, name="dicts"):
        dicts = []
        for number, found in enumerate(annotations):
            path = tmp_path / f"{name}{number}.png"
            path.touch()
            record = {"file_name": str(path), "image_id": number, "height": 90, "width": 120}
            dicts.append({**record, "annotations": found})
        DatasetCatalog.register(PREFIX + name, lambda: dicts)
        return PREFIX + name

    return register


def annotation(segmentation=..., **values):
    found = {"bbox": box_of(QUAD), "bbox_mode": 0, "category_id": 0, "iscrowd": 0, **values}
    return found if segmentation is ... else {**found, "segmentation": segmentation}


def message(function, *args, **kwargs):
    with pytest.raises(ConfigError) as error:
        function(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def check(labeled=(), unlabeled=(), test=(), **options):
    return check_datasets(labeled=labeled, unlabeled=unlabeled, test=test, num_classes=1, **options)


def kept(dicts, key="annotations"):
    return [a.get("segmentation") for d in dicts for a in d[key]]


POLYGON, RLE = as_polygon(QUAD), rle(QUAD, SIZE)


# --- labeled images -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_is_carried_in_one(form, shared):
    name = shared([annotation(form(QUAD, SIZE), keypoints=[1, 1, 2])])
    (record,) = labeled_dicts([name], mask_format="bitmask")
    assert record["annotations"] == [annotation(packed(form(QUAD, SIZE)))]
    (bare,) = labeled_dicts([name])
    assert bare["annotations"] == [annotation()]


def test_a_json_s_are_those_that_detectron2_reads(of):
    name = of(POLYGON, [[1, 2], *POLYGON], POLYGON * 2)
    expected = kept(DatasetCatalog.get(name))
    assert kept(labeled_dicts([name], mask_format="polygon")) == expected


def test_digits_are_carried_to_both_parts_of_a_split(tiny_digits):
    masks = {"masks": True}
    names = {"labeled": ["digits_fold1_labeled"], "unlabeled": ["digits_fold1_unlabeled"]}
    labeled = kept(labeled_dicts(names["labeled"], mask_format="bitmask"))
    hidden = kept(unlabeled_dicts(names["unlabeled"], **masks), "hidden_annotations")
    every = kept(DatasetCatalog.get("digits_train"))
    assert None not in labeled + hidden
    assert sorted(map(str, labeled + hidden)) == sorted(map(str, every))
    assert "'MODEL" not in message(labeled_dicts, names["labeled"], mask_format="polygon")


def test_crowds_have_no_mask_to_learn(shared):
    name = shared([annotation(iscrowd=1), annotation(RLE, iscrowd=1), annotation(POLYGON)])
    assert kept(labeled_dicts([name], mask_format="polygon")) == [None, None, POLYGON]


def test_images_without_annotations_stay_as_they_are(shared):
    name = shared([], [annotation(POLYGON)])
    found = labeled_dicts([name], filter_empty=False, mask_format="polygon")
    assert found[0] == DatasetCatalog.get(name)[0]


FAULTS = {
    "missing": ([POLYGON, ..., None, []], "3 annotations have no segmentation", 2, "add masks"),
    "odd": (
        [POLYGON, [POLYGON[0][:-1]]],
        "1 annotations have a polygon with an odd number of",
        2,
        "correct them",
    ),
    "points": (
        [[[1, 2, 3, 4]]],
        "1 annotations have polygons of fewer than 3 points",
        1,
        "correct them",
    ),
    "size": (
        [RLE, rle(QUAD, (80, 120))],
        "1 annotations have a mask of another size than",
        2,
        "correct them",
    ),
    "damaged": (
        [{**RLE, "counts": "0"}],
        "1 annotations have an RLE that is damaged",
        1,
        "correct them",
    ),
    "form": (
        [POLYGON, POLYGON[0]],
        "1 annotations have a segmentation that is neither",
        2,
        "correct them",
    ),
}


@pytest.mark.parametrize("segmentations, words, first, fix", FAULTS.values(), ids=FAULTS)
def test_a_mask_that_cannot_be_learned_is_one_line_before_training(
    segmentations, words, first, fix, of, tmp_path
):
    name = of(*segmentations)
    found = message(check, labeled=[name], mask_format="bitmask")
    assert found.startswith(f"labeled_names '{name}': {words}")
    place = f"first {tmp_path}/image.png, annotation id {first}: "
    assert found.endswith(f"{place}{fix}, or set TwoStreamLoader.masks to False")
    assert message(labeled_dicts, [name], mask_format="bitmask") == found
    assert check(labeled=[name]) == []  # for boxes alone nothing is wrong


@pytest.mark.parametrize("form", [name for name in FORMS if name != "polygon"])
def test_an_rle_is_no_polygon(form, shared):
    name = shared([annotation(POLYGON), annotation(FORMS[form](QUAD, SIZE))])
    found = message(check, labeled=[name], mask_format="polygon")
    assert "1 annotations have an RLE, which is no polygon, first" in found
    assert found.endswith("annotation 2: set TwoStreamLoader.mask_format to 'bitmask'")
    assert check(labeled=[name], mask_format="bitmask") == []


def test_only_what_is_learned_from_needs_a_mask(of, shared):
    name = of(POLYGON)
    assert check(labeled=[name], mask_format="polygon") == []
    left_out = shared([annotation(POLYGON), annotation(bbox=[1, 1, 1, 5]), annotation(iscrowd=1)])
    assert "1 without width or height" in check(labeled=[left_out], mask_format="polygon")[0]


# --- what is evaluated with ---------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_ground_truth_without_masks_is_a_warning_and_with_faulty_ones_is_refused(fault, of):
    segmentations, words, *_ = FAULTS[fault]
    name = of(*segmentations)
    if fault in ("missing", "points"):
        (found,) = check(test=[name], mask_format="polygon")
        assert found.endswith(": boxes alone are evaluated")
    else:
        found = message(check, test=[name], mask_format="polygon")
    assert found.startswith(f"test_names '{name}': {words}")
    assert check(test=[name]) == []


@pytest.mark.parametrize("values", [{"iscrowd": 1}, {"bbox": [1, 1, 1.5, 5]}])
def test_an_evaluation_uses_the_masks_of_crowds_and_specks_as_well(values, shared):
    name = shared([annotation(RLE), annotation(**values)])
    (found,) = check(test=[name], mask_format="polygon")
    assert "1 annotations have no segmentation" in found and "annotation 2" in found
    assert check(test=[name]) == []


# --- unlabeled images ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "segmentations, expected",
    [
        ([POLYGON, RLE], [POLYGON, RLE]),
        ([POLYGON, ...], None),
        ([POLYGON, [[1, 2]]], None),
        ([rle(QUAD, (80, 120))], None),
    ],
)
def test_held_out_masks_are_kept_where_all_objects_of_a_dataset_have_one(
    segmentations, expected, shared
):
    name = shared([], [annotation(s) for s in segmentations], [annotation(iscrowd=1)])
    found = unlabeled_dicts([name], masks=True)
    boxes = unlabeled_dicts([name])
    expected = expected or [None] * len(segmentations)
    assert kept(found, "hidden_annotations") == expected
    for record in found:
        for item in record["hidden_annotations"]:
            item.pop("segmentation", None)
    assert found == boxes


def test_precomputed_masks_are_kept_and_every_dataset_has_all_or_none(shared):
    scored = {"score": 0.5}
    with_masks = shared([annotation(RLE, **scored)], [], name="with")
    without = shared([annotation(**scored)], name="without")
    names, given = [with_masks, without], {"label_source": "dataset", "masks": True}
    assert kept(unlabeled_dicts(names, **given), "given_annotations") == [RLE, None]
    assert kept(unlabeled_dicts(names, label_source="dataset"), "given_annotations") == [None] * 2
    some = shared([annotation(RLE)], [annotation()], name="some")
    found = message(unlabeled_dicts, [some], **given)
    assert found == message(check, unlabeled=[some], label_source="dataset", mask_format="bitmask")
    assert "1 annotations have no segmentation" in found and found.endswith(BOX_ADVICE)
    odd = shared([annotation(RLE), annotation(rle(QUAD, (80, 120)))], name="odd")
    assert "another size than the image" in message(unlabeled_dicts, [odd], **given)


def test_nothing_of_a_box_only_stream_has_a_mask(of):
    name = of(POLYGON, RLE)
    for dicts in (
        labeled_dicts([name]),
        unlabeled_dicts([name]),
        unlabeled_dicts([name], label_source="dataset"),
    ):
        assert "segmentation" not in repr(dicts)


def test_masks_as_arrays_are_no_longer_so_in_a_stream(shared):
    name = shared([annotation([np.array(POLYGON[0])]), annotation(np.ones(SIZE, bool))])
    polygon, whole = kept(labeled_dicts([name], mask_format="bitmask"))
    assert polygon == POLYGON and isinstance(whole["counts"], str)
