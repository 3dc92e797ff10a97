import json

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode
from PIL import Image

from soft_teacher import add_soft_teacher_config
from soft_teacher.data.datasets.dataset_checks import check_datasets, describe_datasets
from soft_teacher.data.datasets.dataset_dicts import (
    class_names,
    ground_truth_dicts,
    labeled_dicts,
    train_names,
    unlabeled_dicts,
)
from soft_teacher.utils.errors import ConfigError

pytestmark = pytest.mark.usefixtures("own_catalog")

PREFIX = "datasets_test_"
CLASSES = ["cat", "dog"]
IMAGE = {"id": 1, "file_name": "coco1.png", "height": 8, "width": 8}
BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0}
CAT = {"id": 1, "name": "cat"}


@pytest.fixture
def coco(tmp_path):
    """Writes and registers a COCO dataset with one image per entry of ``boxes``."""

    def register(name="coco", *, boxes=(1, 1), classes=CLASSES, images_exist=True, text=None):
        images, annotations = [], []
        for number, count in enumerate(boxes, 1):
            file_name = f"{name}{number}.png"
            images.append({"id": number, "file_name": file_name, "height": 8, "width": 8})
            if images_exist:
                Image.new("RGB", (8, 8)).save(tmp_path / file_name)
            for _ in range(count):
                category = len(annotations) % len(classes) + 1
                box = {"bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0, "category_id": category}
                annotations.append({"id": len(annotations) + 1, "image_id": number, **box})
        categories = [{"id": i, "name": c} for i, c in enumerate(classes, 1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content) if text is None else text)
        register_coco_instances(PREFIX + name, {}, str(path), str(tmp_path))
        return PREFIX + name

    return register


@pytest.fixture
def of(coco):
    """Registers a dataset of one image with these annotations and categories."""

    def register(*annotations, categories=(CAT,), name="changed"):
        coco(boxes=(1,))
        content = {"images": [IMAGE], "annotations": annotations, "categories": categories}
        return coco(name, boxes=(), text=json.dumps(content))

    return register


@pytest.fixture
def changed(of):
    """Registers a dataset of two cats and two dogs whose first cat has other values."""

    def register(**values):
        annotations = [{**BOX, "id": n + 1, "category_id": n % 2 + 1} for n in range(4)]
        annotations[0].update(values)
        return of(*annotations, categories=[CAT, {"id": 2, "name": "dog"}])

    return register


def register_dicts(name, dicts, classes=None):
    DatasetCatalog.register(PREFIX + name, lambda: dicts)
    if classes is not None:
        MetadataCatalog.get(PREFIX + name).thing_classes = classes
    return PREFIX + name


def check(*, labeled=(), unlabeled=(), test=(), num_classes=2, **options):
    names = {"labeled": labeled, "unlabeled": unlabeled, "test": test}
    return check_datasets(**names, num_classes=num_classes, **options)


def message(function, *args, **kwargs):
    """The one line of the ConfigError that a call raises."""
    with pytest.raises(ConfigError) as error:
        function(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


LOADERS = {"labeled_names": labeled_dicts, "unlabeled_names": unlabeled_dicts}
EVERYWHERE = [
    *LOADERS.items(),
    ("labeled_names", lambda names: check(labeled=names)),
    ("unlabeled_names", lambda names: check(unlabeled=names)),
    ("test_names", lambda names: check(test=names)),
]
each_loader = pytest.mark.parametrize("key, load", LOADERS.items())


# --- what is loaded -----------------------------------------------------------------------------


@each_loader
def test_no_dataset_at_all_is_refused_where_one_is_needed(key, load):
    assert message(load, []) == f"{key} is empty: name at least one dataset"
    assert check() == describe_datasets(labeled=[], unlabeled=[], test=[]) == []


def test_labeled_images_without_a_box_are_dropped_unless_wanted(coco):
    name = coco(boxes=(0, 2, 0, 1))
    found = labeled_dicts([name])
    assert [(d["image_id"], len(d["annotations"])) for d in found] == [(2, 2), (4, 1)]
    assert [d["image_id"] for d in labeled_dicts([name], filter_empty=False)] == [1, 2, 3, 4]


def test_of_labeled_images_boxes_are_kept_and_masks_are_not(of):
    extra = {"segmentation": [[1, 1, 5, 1, 5, 5]], "keypoints": [2, 2, 2], "num_keypoints": 1}
    name = of({**BOX, **extra})
    (source,) = DatasetCatalog.get(name)[0]["annotations"]
    assert {"segmentation", "keypoints"} <= set(source)
    (found,) = labeled_dicts([name])[0]["annotations"]
    assert found == {key: source[key] for key in ("bbox", "bbox_mode", "category_id", "iscrowd")}


def test_dicts_of_others_keep_their_masks():
    box = {"bbox": [0, 0, 2, 2], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    record = {"file_name": __file__, "height": 8, "width": 8}
    record["annotations"] = [{**box, "segmentation": [[]]}]
    assert labeled_dicts([register_dicts("shared", [record])]) == [{**record, "annotations": [box]}]
    assert record["annotations"] == [{**box, "segmentation": [[]]}]


def test_unlabeled_images_lose_their_annotations_and_none_is_dropped(coco):
    name = coco(boxes=(0, 2, 1))
    dicts = unlabeled_dicts([name])
    assert [d["image_id"] for d in dicts] == [1, 2, 3]
    assert not any("annotations" in d for d in dicts)
    # The dataset itself keeps them: the same one may be labeled elsewhere.
    assert [len(d["annotations"]) for d in labeled_dicts([name])] == [2, 1]


def test_ground_truth_is_held_out_dataset_by_dataset(coco):
    names = [coco("known", boxes=(0, 2)), coco("unknown", boxes=(0, 0))]
    found = [d.get("hidden_annotations") for d in unlabeled_dicts(names)]
    assert [None if truth is None else len(truth) for truth in found] == [0, 2, None, None]
    bare = unlabeled_dicts(names, hidden_labels=False)
    assert not any("hidden_annotations" in d for d in bare)
    assert [d["image_id"] for d in bare] == [1, 2, 1, 2]


def test_pseudo_labels_are_precomputed_dataset_by_dataset(coco):
    names = [coco("one", boxes=(0, 2)), coco("other", boxes=(1,))]
    dicts = unlabeled_dicts(names, label_source="dataset")
    assert [len(d["given_annotations"]) for d in dicts] == [0, 2, 1]
    # They are no ground truth to measure them with.
    assert not any({"annotations", "hidden_annotations"} & d.keys() for d in dicts)
    said = message(unlabeled_dicts, [*names, coco("none", boxes=(0,))], label_source="dataset")
    assert said.startswith(f"unlabeled_names '{PREFIX}none' has no annotations")


@each_loader
def test_several_datasets_are_joined_in_order(key, load, coco):
    names = [coco("second", boxes=(1,)), coco("first", boxes=(1, 1))]
    files = [d["file_name"].rsplit("/", 1)[1] for d in load(names)]
    assert files == ["second1.png", "first1.png", "first2.png"]


def test_class_names_are_those_of_the_first_dataset_that_names_any(coco):
    silent = register_dicts("silent", [{"file_name": "somewhere.jpg", "image_id": 1}])
    name = coco()
    labeled_dicts([name])
    assert class_names([]) == class_names([silent]) == []
    assert class_names([silent, name]) == class_names(name) == CLASSES


def test_annotations_may_be_missing_altogether(tmp_path):
    path = tmp_path / "image.png"
    Image.new("RGB", (8, 8)).save(path)
    record = {"file_name": str(path), "image_id": 1}
    name = register_dicts("bare", [record])
    assert unlabeled_dicts([name]) == [record]
    assert "no image has an annotation" in message(labeled_dicts, [name])


# --- ground truth to measure with ---------------------------------------------------------------


def test_ground_truth_is_found_where_it_is_held_out_too(tiny_digits):
    found = ground_truth_dicts("--dataset", "digits_fold1_unlabeled", num_classes=5)
    known = {d["image_id"]: d["annotations"] for d in DatasetCatalog.get("digits_train")}
    assert len(found) == 8 and all(d["annotations"] == known[d["image_id"]] for d in found)
    assert all("annotations" not in d for d in DatasetCatalog.get("digits_fold1_unlabeled"))


TRUE = {"bbox": [0, 0, 5, 5], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}


def truths(*annotations, file=__file__, num_classes=2):
    """The ground truth of a dataset of an image for each; None for no annotations at all."""
    dicts = [
        {"file_name": file, "image_id": n, **({} if found is None else {"annotations": found})}
        for n, found in enumerate(annotations)
    ]
    name = register_dicts("truth", dicts, CLASSES)
    return ground_truth_dicts("--dataset", name, num_classes=num_classes)


def test_images_without_known_ground_truth_are_left_out_and_empty_ones_stay():
    found = truths([TRUE], None, [])
    assert [(d["image_id"], d["annotations"]) for d in found] == [(0, [TRUE]), (2, [])]


@pytest.mark.parametrize(
    "annotations, options, words",
    [
        ([], {}, "has no images"),
        ([None, None], {}, "has no ground truth: name a dataset that has"),
        ([[], None], {}, "has no ground truth"),
        ([[{"category_id": 0}]], {}, "has no ground truth"),
        ([[TRUE]], {"num_classes": 3}, "has 2 classes but the model's number of classes is 3"),
        ([[TRUE]], {"file": "gone.png"}, "1 image files are missing, first gone.png"),
    ],
)
def test_a_dataset_that_nothing_can_be_measured_on_is_refused(annotations, options, words):
    found = message(truths, *annotations, **options)
    assert found.startswith(f"--dataset '{PREFIX}truth'") and words in found


# --- mistakes in one dataset --------------------------------------------------------------------


@pytest.mark.parametrize("key, load", EVERYWHERE)
def test_a_dataset_that_is_not_there_is_named_everywhere(key, load, coco):
    found = message(load, [coco("handwriting"), f"{PREFIX}handwritting"])
    assert found.startswith(f"{key} names '{PREFIX}handwritting', which is neither a registered")
    assert f"did you mean '{PREFIX}handwriting'?" in found
    gone = coco("gone", boxes=(1, 1, 1), images_exist=False)
    found = message(load, [gone])
    assert found.startswith(f"{key} '{gone}': 3 image files are missing, first ")
    assert "gone1.png" in found
    found = message(load, [coco("broken", text="[")])
    assert found.startswith(f"{key} '{PREFIX}broken' cannot be read")
    assert message(load, [coco("empty", text='{"images": []}')]).endswith(
        "has no images: remove it or fill it"
    )


def test_a_missing_json(tmp_path):
    path = tmp_path / "missing.json"
    register_coco_instances(f"{PREFIX}gone", {}, str(path), str(tmp_path))
    assert f"{path} cannot be read" in message(labeled_dicts, [f"{PREFIX}gone"])


def test_a_labeled_dataset_without_an_annotation(coco):
    names = [coco("one", boxes=(0, 0)), coco("two", boxes=(0,))]
    for filter_empty in (True, False):
        found = message(labeled_dicts, names, filter_empty=filter_empty)
        assert found.startswith(f"labeled_names '{names[0]}', '{names[1]}': no image has an ann")
    assert "no image has an annotation" in message(check, labeled=names)
    assert len(unlabeled_dicts(names)) == 3
    assert len(labeled_dicts([*names, coco("three", boxes=(1,))])) == 1


# --- datasets and the model ---------------------------------------------------------------------


@pytest.mark.parametrize("role", ["labeled", "test"])
@pytest.mark.parametrize("classes", [["cat"], ["cat", "dog", "cow"]])
def test_another_number_of_classes_than_the_model_s(role, classes, coco):
    name = coco(classes=classes)
    found = message(check, **{role: [name]})
    assert f"{role}_names '{name}' has {len(classes)} classes" in found
    assert "the model's number of classes is 2" in found and f"set it to {len(classes)}" in found


@pytest.mark.parametrize(
    "classes, mine, other", [(["dog", "cat"], "dog", "cat"), (["cat", "cow"], "cow", "dog")]
)
def test_categories_in_conflict_name_both_datasets_and_the_first_difference(
    classes, mine, other, coco
):
    labeled, test = coco("labeled"), coco("test", classes=classes)
    found = message(check, labeled=[labeled], test=[test])
    assert f"labeled_names '{labeled}'" in found and f"test_names '{test}'" in found
    assert f"'{mine}' is where the other has '{other}'" in found
    assert "give them the same categories in the same order" in found
    assert "differ in their categories" in message(check, test=[labeled, test])


def test_advice_about_classes_holds_for_all_datasets(coco):
    names = {"labeled": [coco("one", classes=["all", *CLASSES])], "test": [coco("two")]}
    found = message(check, **names, num_classes=3)
    assert "2 and 3 classes, one without all" in found and "set it to" not in found


def test_a_first_category_without_a_box_gets_a_hint(of):
    name = of(BOX, categories=[{"id": 0, "name": "all"}, CAT])
    (found,) = check(labeled=[name])
    assert "no box of 'all', the first category: if it is no class" in found
    assert "or remove 'all', which has no box" in message(check, labeled=[name], num_classes=1)


def test_classes_that_are_known_before_loading_or_not_at_all(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    record = {"file_name": str(tmp_path / "x.png"), "image_id": 1}
    known = register_dicts("known", [record], ["cat"])
    assert "has 1 classes" in message(check, test=[known])
    box = {"bbox": [0, 0, 4, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 2}
    nameless = register_dicts("nameless", [{**record, "annotations": [box]}])
    assert "has a box of class 2" in message(check, labeled=[nameless])
    assert check(labeled=[nameless], num_classes=3) == []


# --- images in several roles --------------------------------------------------------------------


def test_images_of_one_role_each_are_no_news(coco):
    labeled, unlabeled, test = (coco(name) for name in ("labeled", "unlabeled", "test"))
    assert check(labeled=[labeled], unlabeled=[unlabeled], test=[test]) == []


def test_images_in_two_roles_are_reported(coco, tmp_path):
    name = coco("labeled", boxes=(1, 1, 1))
    (found,) = check(labeled=[name], unlabeled=[f"{tmp_path}/./labeled[12].png"])
    assert "share 2 images" in found and "learned from twice" in found
    assert str(tmp_path / "labeled1.png") in found
    found = check(labeled=[name], unlabeled=[name], test=[name])
    assert [("not honest" in text) for text in found] == [False, True, True]


# --- names with braces --------------------------------------------------------------------------


def names_of(labeled=(), unlabeled=(), **split):
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    cfg.DATASETS.TRAIN_LABELED, cfg.DATASETS.TRAIN_UNLABELED = labeled, unlabeled
    for key, value in split.items():
        cfg.DATASETS.SPLIT[key] = value
    return train_names(cfg)


BRACES = "coco_{FAMILY}_{PERCENT}p_fold{FOLD}"


@pytest.mark.parametrize(
    "names, split, expected",
    [
        ([], {}, []),
        (["a", "b"], {"FOLD": 3}, ["a", "b"]),
        ([BRACES], {}, ["coco_stac_10p_fold1"]),
        ([BRACES], {"PERCENT": 0.5, "FOLD": 4}, ["coco_stac_0.5p_fold4"]),
        ([BRACES], {"FAMILY": "other", "PERCENT": 1.0, "FOLD": 0}, ["coco_other_1p_fold0"]),
    ],
)
def test_braces_are_filled_from_the_split(names, split, expected):
    assert names_of(names, names, **split) == (expected, expected)


@pytest.mark.parametrize("name", ["coco_{PART}", "coco_{}", "coco_{"])
def test_other_braces_are_refused(name):
    found = message(names_of, [name])
    assert name in found and "FAMILY, PERCENT, FOLD" in found


# --- annotations by the roles of their datasets -------------------------------------------------


def test_annotations_that_cannot_be_learned_from_are_left_out_with_a_warning(changed):
    name = changed(bbox=[0, 0, 0, 4])
    (found,) = check(labeled=[name])
    assert "1 of 4 annotations cannot be learned from" in found
    assert "1 without width or height (first " in found and "annotation id 1, bbox" in found
    assert [len(d["annotations"]) for d in labeled_dicts([name])] == [3]


def test_a_few_crowds_are_no_news(changed):
    name = changed(iscrowd=1)
    assert check(labeled=[name]) == check(test=[name]) == []
    assert [len(d["annotations"]) for d in labeled_dicts([name])] == [4]


def test_a_speck_is_not_learned_and_still_evaluated_with(changed):
    name = changed(bbox=[0, 0, 0.5, 4])
    assert "1 below a pixel" in check(labeled=[name])[0] and check(test=[name]) == []


@pytest.mark.parametrize(
    "role, annotations, words",
    [
        ("labeled", [{**BOX, "bbox": None}], "learned from: 1 with unusable numbers"),
        ("labeled", [{**BOX, "iscrowd": 1}], "learned from: 1 crowd"),
        ("labeled", [{**BOX, "iscrowd": 1}], "a single object has iscrowd 0"),
        ("test", [{**BOX, "iscrowd": 1}], "no ground truth, none of its 1 annotations"),
    ],
)
def test_datasets_without_a_usable_annotation(role, annotations, words, of):
    assert words in message(check, **{role: [of(*annotations)]}, num_classes=1)


def test_without_any_annotation_an_evaluation_alone_is_for_a_server(of, coco):
    name = of()
    content = {"images": [IMAGE], "annotations": [BOX], "categories": [CAT]}
    labeled = coco("labeled", boxes=(), text=json.dumps(content))
    (found,) = check(test=[name], num_classes=1)
    assert found.endswith("nothing is measured, detections are written for a server")
    found = message(check, labeled=[labeled], test=[name], num_classes=1)
    assert "no labels to evaluate with" in found


def test_a_line_about_each_dataset(changed, coco):
    names = {"labeled": [changed(iscrowd=1)], "unlabeled": [coco("plain")], "test": []}
    assert describe_datasets(**names) == [
        f"labeled_names '{PREFIX}changed': 1 images, 4 annotations, 3 to learn from, left "
        "out 1 crowd",
        f"unlabeled_names '{PREFIX}plain': 2 images",
    ]


def test_an_image_that_occurs_twice_is_learned_from_but_not_evaluated_with(coco, tmp_path):
    coco(boxes=(1,))
    record = {"file_name": str(tmp_path / "coco1.png"), "image_id": 1, "height": 8, "width": 8}
    box = {"bbox": [0, 0, 4, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    name = register_dicts("twice", [{**record, "annotations": [box]}] * 2)
    assert len(labeled_dicts([name])) == 2
    assert "image id 1 occurs twice" in message(check, test=[name])


# --- unlabeled images with annotations ----------------------------------------------------------


def test_boxes_in_another_unit_are_no_ground_truth(of):
    name = of({**BOX, "bbox": [0.1, 0.1, 0.5, 0.5]})
    assert "look relative" in message(labeled_dicts, [name])
    assert not any("hidden_annotations" in d for d in unlabeled_dicts([name]))


def test_other_classes_of_unlabeled_images_are_not_measured_and_that_is_reported_once(coco):
    labeled, web = coco("labeled"), coco("web", classes=["kite", "bike"])
    (found,) = check(labeled=[labeled], unlabeled=[web])
    assert "has other classes than labeled_names" in found
    assert not any("hidden_annotations" in d for d in unlabeled_dicts([web], classes=CLASSES))
    assert all("hidden_annotations" in d for d in unlabeled_dicts([labeled], classes=CLASSES))
    found = message(check, labeled=[labeled], unlabeled=[web], label_source="dataset")
    assert "differ in their categories" in found


@pytest.mark.parametrize(
    "odd", [{"bbox": [1, 2, "x", 4]}, {"category_id": 9}, {"image_id": 9}, {"score": "sure"}]
)
def test_precomputed_pseudo_labels_must_all_be_right(odd, changed):
    name = changed(**odd)
    assert "remove them" in message(unlabeled_dicts, [name], label_source="dataset")
    assert len(unlabeled_dicts([name])) == 1
