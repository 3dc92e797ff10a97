import json

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode
from PIL import Image

from soft_teacher import add_soft_teacher_config
from soft_teacher.data.datasets.dataset_dicts import (
    check_datasets,
    class_names,
    describe_datasets,
    labeled_dicts,
    train_names,
    unlabeled_dicts,
)
from soft_teacher.utils.errors import ConfigError

PREFIX = "datasets_test_"
CLASSES = ["cat", "dog"]


@pytest.fixture(autouse=True)
def clean_catalog():
    yield
    for name in [n for n in DatasetCatalog.list() if n.startswith(PREFIX)]:
        DatasetCatalog.remove(name)
    for name in [n for n in MetadataCatalog.list() if n.startswith(PREFIX)]:
        MetadataCatalog.remove(name)


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
CHECKS = {
    "labeled_names": lambda names: check(labeled=names),
    "unlabeled_names": lambda names: check(unlabeled=names),
    "test_names": lambda names: check(test=names),
}
EVERYWHERE = [*LOADERS.items(), *CHECKS.items()]
each_loader = pytest.mark.parametrize("key, load", LOADERS.items())
everywhere = pytest.mark.parametrize("key, load", EVERYWHERE)


# --- what is loaded -----------------------------------------------------------------------------


@each_loader
def test_no_dataset_at_all_is_refused(key, load):
    assert message(load, []) == f"{key} is empty: name at least one dataset"


def test_nothing_to_check_is_fine():
    assert check() == []


def test_labeled_images_come_with_their_annotations(coco):
    dicts = labeled_dicts([coco(boxes=(2, 1))])
    assert [len(d["annotations"]) for d in dicts] == [2, 1]
    assert [d["annotations"][0]["category_id"] for d in dicts] == [0, 0]


def test_labeled_images_without_a_box_are_dropped_unless_wanted(coco):
    name = coco(boxes=(0, 2, 0, 1))
    assert [d["image_id"] for d in labeled_dicts([name])] == [2, 4]
    assert [d["image_id"] for d in labeled_dicts([name], filter_empty=False)] == [1, 2, 3, 4]


def test_of_labeled_images_boxes_are_kept_and_masks_are_not(coco):
    extra = {"segmentation": [[1, 1, 5, 1, 5, 5]], "keypoints": [2, 2, 2], "num_keypoints": 1}
    name = coco(text=json.dumps({**WHOLE, "annotations": [{**BOX, **extra}]}))
    dataset = DatasetCatalog.get(name)
    assert {"segmentation", "keypoints"} <= set(dataset[0]["annotations"][0])
    (found,) = labeled_dicts([name])[0]["annotations"]
    box = ("bbox", "bbox_mode", "category_id", "iscrowd")
    assert found == {key: dataset[0]["annotations"][0][key] for key in box}


def test_the_dataset_itself_keeps_its_masks():
    box = {"bbox": [0, 0, 2, 2], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    size = {"height": 8, "width": 8}
    record = {"file_name": __file__, **size, "annotations": [{**box, "segmentation": [[]]}]}
    name = register_dicts("shared", [record])
    assert labeled_dicts([name]) == [{**record, "annotations": [box]}]
    assert record["annotations"] == [{**box, "segmentation": [[]]}]


def test_unlabeled_images_lose_their_annotations_and_none_is_dropped(coco):
    name = coco(boxes=(0, 2, 1))
    dicts = unlabeled_dicts([name])
    assert [d["image_id"] for d in dicts] == [1, 2, 3]
    assert not any("annotations" in d for d in dicts)
    # The dataset itself keeps them: the same one may be labeled elsewhere.
    assert [len(d["annotations"]) for d in labeled_dicts([name])] == [2, 1]


def test_annotations_of_unlabeled_images_are_hidden_dataset_by_dataset(coco):
    names = [coco("known", boxes=(0, 2)), coco("unknown", boxes=(0, 0))]
    found = [d.get("hidden_annotations") for d in unlabeled_dicts(names)]
    assert [None if truth is None else len(truth) for truth in found] == [0, 2, None, None]
    bare = unlabeled_dicts(names, hidden_labels=False)
    assert not any("hidden_annotations" in d for d in bare)
    assert [d["image_id"] for d in bare] == [1, 2, 1, 2]


def test_annotations_are_given_dataset_by_dataset_if_they_are_asked_for(coco):
    names = [coco("one", boxes=(0, 2)), coco("other", boxes=(1,))]
    dicts = unlabeled_dicts(names, label_source="dataset")
    assert [len(d["given_annotations"]) for d in dicts] == [0, 2, 1]
    # They are no truth to measure them with.
    assert not any({"annotations", "hidden_annotations"} & d.keys() for d in dicts)


def test_a_dataset_that_gives_nothing_is_named(coco):
    names = [coco("one", boxes=(1,)), coco("other", boxes=(0, 0))]
    said = message(unlabeled_dicts, names, label_source="dataset")
    assert said.startswith(f"unlabeled_names '{PREFIX}other' has no annotations")


@each_loader
def test_several_datasets_are_joined_in_order(key, load, coco):
    names = [coco("second", boxes=(1,)), coco("first", boxes=(1, 1))]
    files = [d["file_name"].rsplit("/", 1)[1] for d in load(names)]
    assert files == ["second1.png", "first1.png", "first2.png"]


def test_class_names_are_those_of_the_first_dataset_that_tells_any(coco):
    silent = register_dicts("silent", [{"file_name": "somewhere.jpg", "image_id": 1}])
    name = coco()
    labeled_dicts([name])
    assert class_names([]) == class_names([silent]) == []
    assert class_names([silent, name]) == class_names(name) == CLASSES


# --- mistakes in one dataset --------------------------------------------------------------------


@everywhere
def test_an_unregistered_dataset(key, load, coco):
    found = message(load, [coco(), f"{PREFIX}missing"])
    assert key in found and f"'{PREFIX}missing'" in found and "neither a registered" in found


@everywhere
def test_a_misspelt_dataset_is_told_the_name_that_was_meant(key, load, coco):
    coco("handwriting")
    found = message(load, [f"{PREFIX}handwritting"])
    assert key in found and f"did you mean '{PREFIX}handwriting'?" in found


@everywhere
def test_a_missing_json(key, load, tmp_path):
    path = tmp_path / "missing.json"
    register_coco_instances(f"{PREFIX}gone", {}, str(path), str(tmp_path))
    found = message(load, [f"{PREFIX}gone"])
    assert key in found and f"'{PREFIX}gone'" in found and str(path) in found


@everywhere
@pytest.mark.parametrize("text", ["", '{"images": [', "[]", '{"info": {}}', '{"images": 3}'])
def test_a_json_that_is_no_dataset(key, load, text, coco):
    name = coco(text=text)
    found = message(load, [name])
    assert key in found and f"'{name}'" in found and "cannot be read" in found


@everywhere
def test_a_dataset_without_images(key, load, coco):
    name = coco(boxes=())
    found = message(load, [name])
    assert key in found and f"'{name}' has no images" in found


@everywhere
def test_a_json_of_empty_lists(key, load, coco):
    name = coco(text='{"images": []}')
    assert f"{key} '{name}' has no images" in message(load, [name])


@each_loader
def test_missing_image_files_are_counted(key, load, coco, tmp_path):
    there, gone = coco("there"), coco("gone", boxes=(1, 1, 1), images_exist=False)
    found = message(load, [there, gone])
    assert key in found and f"'{gone}'" in found
    assert "3 image files are missing" in found and str(tmp_path / "gone1.png") in found


def test_a_labeled_dataset_without_an_annotation(coco):
    names = [coco("one", boxes=(0, 0)), coco("two", boxes=(0,))]
    for filter_empty in (True, False):
        found = message(labeled_dicts, names, filter_empty=filter_empty)
        assert "labeled_names" in found and "no image has an annotation" in found
        assert all(f"'{name}'" in found for name in names)
    assert len(unlabeled_dicts(names)) == 3
    assert len(labeled_dicts([*names, coco("three", boxes=(1,))])) == 1


def test_annotations_may_be_missing_altogether(tmp_path):
    path = tmp_path / "image.png"
    Image.new("RGB", (8, 8)).save(path)
    name = register_dicts("bare", [{"file_name": str(path), "image_id": 1}])
    assert unlabeled_dicts([name]) == [{"file_name": str(path), "image_id": 1}]
    assert "no image has an annotation" in message(labeled_dicts, [name])


# --- datasets and the model ---------------------------------------------------------------------


def test_datasets_that_fit_the_model_pass(coco):
    labeled, unlabeled, test = (coco(name) for name in ("labeled", "unlabeled", "test"))
    check(labeled=[labeled], unlabeled=[unlabeled], test=[test])


@pytest.mark.parametrize("key", ["labeled_names", "test_names"])
@pytest.mark.parametrize("classes", [["cat"], ["cat", "dog", "cow"]])
def test_another_number_of_classes_than_the_model_s(key, classes, coco):
    name = coco(classes=classes)
    found = message(CHECKS[key], [name])
    assert key in found and f"'{name}' has {len(classes)} classes" in found
    assert "the model's number of classes is 2" in found and f"set it to {len(classes)}" in found


@pytest.mark.parametrize(
    "classes, mine, other", [(["dog", "cat"], "dog", "cat"), (["cat", "cow"], "cow", "dog")]
)
def test_categories_in_conflict_name_both_datasets_and_the_first_difference(
    classes, mine, other, coco
):
    names = {"labeled": [coco("labeled")], "test": [coco("test", classes=classes)]}
    found = message(check, **names)
    assert f"labeled_names '{names['labeled'][0]}'" in found
    assert f"test_names '{names['test'][0]}'" in found
    assert f"'{mine}' stands where the other has '{other}'" in found
    assert "give them the same categories in the same order" in found


def test_categories_may_conflict_within_one_key_too(coco):
    names = [coco("one"), coco("two", classes=["dog", "cat"])]
    assert "differ in their categories" in message(check, test=names)


def test_unlabeled_images_may_come_without_classes(coco, tmp_path):
    labeled = coco()
    name = register_dicts("web", [{"file_name": str(tmp_path / "coco1.png"), "image_id": 1}])
    check(labeled=[labeled], unlabeled=[name])


def test_classes_that_are_known_before_loading_count_as_well():
    name = register_dicts("voc", [{"file_name": "somewhere.jpg", "image_id": 1}], ["cat"])
    assert "has 1 classes" in message(check, test=[name])


IMAGE = {"id": 1, "file_name": "coco1.png", "height": 8, "width": 8}
BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0}
WHOLE = {"images": [IMAGE], "annotations": [BOX], "categories": [{"id": 1, "name": "cat"}]}
BROKEN = {
    "a list": [],
    "a number of annotations": {"annotations": 3},
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_json_of_another_shape_is_one_line(content, coco):
    name = coco(boxes=(1,), text=json.dumps(content))
    text = message(check, labeled=[name], num_classes=1)
    assert f"labeled_names '{name}'" in text


def test_an_annotation_without_a_box_is_found_before_training(coco):
    boxless = {k: v for k, v in BOX.items() if k != "bbox"}
    name = coco(boxes=(1,), text=json.dumps({**WHOLE, "annotations": [boxless]}))
    assert "1 with unusable numbers" in message(labeled_dicts, [name])


def test_crowds_are_no_boxes(coco):
    crowd = {**BOX, "iscrowd": 1}
    name = coco(boxes=(1,), text=json.dumps({**WHOLE, "annotations": [crowd]}))
    assert "none of its 1 annotations can be learned from: 1 crowd" in message(
        labeled_dicts, [name]
    )


def test_missing_test_images_are_found_before_training(coco):
    name = coco(boxes=(1,), images_exist=False)
    assert "image files are missing" in message(check, test=[name])


def test_a_test_dataset_needs_labels(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    found = message(check, test=[str(tmp_path)])
    assert str(tmp_path) in found and "no labels to evaluate with" in found


# --- images in several roles --------------------------------------------------------------------


def test_images_of_one_role_each_are_no_news(coco):
    names = [coco(name) for name in ("labeled", "unlabeled", "test")]
    assert check(labeled=names[:1], unlabeled=names[1:2], test=names[2:]) == []


def test_an_image_in_two_roles_is_reported(coco, tmp_path):
    labeled = coco("labeled", boxes=(1, 1, 1))
    found = check(labeled=[labeled], unlabeled=[f"{tmp_path}/./labeled[12].png"])
    assert len(found) == 1 and "share 2 images" in found[0]
    assert str(tmp_path / "labeled1.png") in found[0] and "learned from twice" in found[0]


def test_images_of_the_test_that_are_trained_on_are_reported_for_either_stream(coco):
    name = coco()
    found = check(labeled=[name], unlabeled=[name], test=[name])
    assert len(found) == 3
    assert [("not honest" in text) for text in found] == [False, True, True]


# --- names with braces --------------------------------------------------------------------------


def names_of(labeled=(), unlabeled=(), **split):
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    cfg.DATASETS.TRAIN_LABELED, cfg.DATASETS.TRAIN_UNLABELED = labeled, unlabeled
    for key, value in split.items():
        cfg.DATASETS.SPLIT[key] = value
    return train_names(cfg)


def test_no_names_to_fill():
    assert names_of() == ([], [])


def test_names_without_braces_stay():
    assert names_of(["a"], ["b", "c"], FOLD=3) == (["a"], ["b", "c"])


@pytest.mark.parametrize(
    "split, expected",
    [
        ({}, "coco_stac_10p_fold1"),
        ({"PERCENT": 0.5, "FOLD": 4}, "coco_stac_0.5p_fold4"),
        (
            {"FAMILY": "unbiased_teacher", "PERCENT": 1.0, "FOLD": 0},
            "coco_unbiased_teacher_1p_fold0",
        ),
    ],
)
def test_braces_are_filled_from_the_split(split, expected):
    name = "coco_{FAMILY}_{PERCENT}p_fold{FOLD}"
    assert names_of([name], [name], **split) == ([expected], [expected])


@pytest.mark.parametrize("name", ["coco_{PART}", "coco_{}", "coco_{"])
def test_other_braces_are_refused(name):
    found = message(names_of, [name])
    assert name in found and "FAMILY, PERCENT, FOLD" in found


# --- annotations by the roles of their datasets -------------------------------------------------


def changed(coco, name="changed", **values):
    """A dataset of two cats and two dogs whose first cat has other values."""
    annotations = [{**BOX, "id": n + 1, "category_id": n % 2 + 1} for n in range(4)]
    annotations[0].update(values)
    categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES, 1)]
    content = {"images": [IMAGE], "annotations": annotations, "categories": categories}
    coco(boxes=(1,))
    return coco(name, boxes=(), text=json.dumps(content))


def test_annotations_that_cannot_be_learned_from_are_left_out_with_a_warning(coco):
    name = changed(coco, bbox=[0, 0, 0, 4])
    (found,) = check(labeled=[name])
    assert "1 of 4 annotations cannot be learned from" in found
    assert "1 without width or height (first " in found and "annotation id 1, bbox" in found
    assert [len(d["annotations"]) for d in labeled_dicts([name])] == [3]


def test_a_few_crowds_are_no_news(coco):
    name = changed(coco, iscrowd=1)
    assert check(labeled=[name]) == check(test=[name]) == []
    assert [len(d["annotations"]) for d in labeled_dicts([name])] == [4]


def test_a_speck_is_not_learned_and_still_evaluated_with(coco):
    name = changed(coco, bbox=[0, 0, 0.5, 4])
    assert "1 below a pixel" in check(labeled=[name])[0] and check(test=[name]) == []


def test_a_test_set_without_ground_truth(coco):
    assert "no labels to evaluate with" in message(check, test=[coco(boxes=(0, 0))])
    crowds = {**WHOLE, "annotations": [{**BOX, "iscrowd": 1}]}
    name = coco("crowds", boxes=(), text=json.dumps(crowds))
    assert "no ground truth" in message(check, test=[name], num_classes=1)


def test_what_is_missing_or_unlabeled_is_found_before_the_config_is_written(coco):
    gone = coco("gone", images_exist=False)
    for role in ("labeled", "unlabeled", "test"):
        assert "2 image files are missing" in message(check, **{role: [gone]})
    assert "no image has an annotation" in message(check, labeled=[coco(boxes=(0, 0))])


def test_a_line_about_each_dataset(coco):
    names = {"labeled": [changed(coco, iscrowd=1)], "unlabeled": [coco("plain")], "test": []}
    assert describe_datasets(labeled=[], unlabeled=[], test=[]) == []
    assert describe_datasets(**names) == [
        f"labeled_names '{PREFIX}changed': 1 images, 4 annotations, 3 to learn from, left "
        "out 1 crowd",
        f"unlabeled_names '{PREFIX}plain': 2 images",
    ]


def test_advice_about_classes_holds_for_all_datasets(coco):
    names = {"labeled": [coco("one", classes=["all", *CLASSES])], "test": [coco("two")]}
    found = message(check, **names, num_classes=3)
    assert "2 and 3 classes, one without all" in found and "set it to" not in found


def test_a_first_category_without_a_box_gets_a_hint(coco):
    categories = [{"id": n, "name": name} for n, name in enumerate(["all", "cat"])]
    coco(boxes=(1,))
    name = coco("exported", boxes=(), text=json.dumps({**WHOLE, "categories": categories}))
    (found,) = check(labeled=[name])
    assert "no box of 'all', the first category: if it is no class" in found
    assert "or remove 'all', which has no box" in message(check, labeled=[name], num_classes=1)


def test_a_class_beyond_the_model_s(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    box = {"bbox": [0, 0, 4, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 2}
    record = {"file_name": str(tmp_path / "x.png"), "image_id": 1, "annotations": [box]}
    name = register_dicts("nameless", [record])
    assert "has a box of class 2" in message(check, labeled=[name])
    assert check(labeled=[name], num_classes=3) == []


# --- unlabeled images with annotations ----------------------------------------------------------


def test_other_classes_of_unlabeled_images_are_not_measured_and_that_is_told_once(coco):
    labeled, web = coco("labeled"), coco("web", classes=["kite", "bike"])
    (found,) = check(labeled=[labeled], unlabeled=[web])
    assert "has other classes than labeled_names" in found
    assert not any("hidden_annotations" in d for d in unlabeled_dicts([web], classes=CLASSES))
    assert all("hidden_annotations" in d for d in unlabeled_dicts([labeled], classes=CLASSES))


def test_labels_that_are_learned_from_are_held_to_the_classes(coco):
    labeled, web = coco("labeled"), coco("web", classes=["kite", "bike"])
    found = message(check, labeled=[labeled], unlabeled=[web], label_source="dataset")
    assert "differ in their categories" in found


@pytest.mark.parametrize("odd", [{"bbox": [1, 2, "x", 4]}, {"category_id": 9}, {"image_id": 9}])
def test_labels_that_are_learned_from_must_all_be_right(odd, coco):
    name = changed(coco, **odd)
    assert "remove them" in message(unlabeled_dicts, [name], label_source="dataset")
    assert len(unlabeled_dicts([name])) == 1


def test_a_score_must_be_a_number_where_it_is_learned_from(coco):
    name = changed(coco, score="sure")
    assert "remove them" in message(unlabeled_dicts, [name], label_source="dataset")
