"""The two streams on what folders of real images hold: odd files, mixed shapes, other formats."""

import json
import logging

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import register_pascal_voc
from PIL import Image
from training import CONFIGS
from written import Photo, voc_object, voc_xml

from soft_teacher import ConfigError, add_soft_teacher_config
from soft_teacher.data.datasets.dataset_checks import check_datasets
from soft_teacher.data.roles import LABELED, UNLABELED
from soft_teacher.data.streams.loader import build_two_stream_train_loader
from soft_teacher.experiment.lazy_experiment import LazyExperiment
from soft_teacher.experiment.yaml_experiment import YamlExperiment

NUM_GOOD, NUM_BAD = 8, 2


pytestmark = pytest.mark.usefixtures("own_catalog")


def write_image(path, width=40, height=30, mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (height, width, 4), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)


@pytest.fixture
def labeled(tmp_path):
    """COCO annotations of one image per size, as a path."""

    def write(sizes=((40, 30),) * 3):
        images, annotations = [], []
        for n, (width, height) in enumerate(sizes, 1):
            write_image(tmp_path / "labeled" / f"{n}.png", width, height)
            images.append({"id": n, "file_name": f"{n}.png", "height": height, "width": width})
            box = {"bbox": [2, 3, 10, 12], "area": 120, "iscrowd": 0, "category_id": 1}
            annotations.append({"id": n, "image_id": n, **box})
        content = {"images": images, "annotations": annotations}
        path = tmp_path / "labeled.json"
        path.write_text(json.dumps({**content, "categories": [{"id": 1, "name": "cat"}]}))
        return f"{path}@{tmp_path / 'labeled'}"

    return write


@pytest.fixture
def photos(tmp_path):
    """A folder of good images and of ones that cannot be read."""
    folder = tmp_path / "photos"
    for n in range(NUM_GOOD):
        write_image(folder / f"good{n}.jpg", mode="RGB")
    for n in range(NUM_BAD):
        (folder / f"bad{n}.jpg").write_bytes((folder / "good0.jpg").read_bytes()[:-300])
    return folder


def config(labeled, unlabeled, **changes):
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    options = {
        "DATASETS.TRAIN_LABELED": (str(labeled),),
        "DATASETS.TRAIN_UNLABELED": (str(unlabeled),),
        "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.MAX_UNREADABLE": 0.2,
        "SEED": 4,
        "SOLVER.IMS_PER_BATCH": 5,
        "SOLVER.MAX_ITER": 12,
        "SOFT_TEACHER.LABELED_SHARE": 0.2,
        "SOFT_TEACHER.LABELED_SHARE_DECAY": 0,
        "SOFT_TEACHER.AUGMENTATION.SHORT_EDGE": 32,
        "SOFT_TEACHER.AUGMENTATION.MAX_SIZE": 64,
        **changes,
    }
    cfg.merge_from_list([item for pair in options.items() for item in pair])
    return cfg


def load(*args, start=0, **changes):
    """All batches from a step on, as values that == compares."""
    loader = build_two_stream_train_loader(config(*args, **changes))
    loader.start_step = start
    return [[(s["file_name"], s["seed"], s["image"].numpy().tobytes()) for s in b] for b in loader]


def files(batches):
    return [name for batch in batches for name, *_ in batch]


# --- files that cannot be read ------------------------------------------------------------------


def test_unreadable_images_are_named_once_and_others_replace_them(labeled, photos, caplog):
    with caplog.at_level(logging.WARNING):
        batches = load(labeled(), photos)
    assert all(len(batch) == 5 for batch in batches)
    good = {str(path) for path in photos.glob("good*")}
    assert {name for name in files(batches) if "photos" in name} == good
    warnings = [r.getMessage() for r in caplog.records if "unreadable" in r.getMessage()]
    assert len(warnings) == NUM_BAD
    for n in range(NUM_BAD):
        assert sum(f"{photos}/bad{n}.jpg: the JPEG is cut off" in text for text in warnings) == 1


@pytest.mark.parametrize("start, workers", [(0, 3), (5, 0)])
def test_substitutes_depend_neither_on_workers_nor_on_an_interruption(
    start, workers, labeled, photos
):
    name = labeled()
    whole = load(name, photos)
    found = load(name, photos, start=start, **{"DATALOADER.NUM_WORKERS": workers})
    assert found == whole[start:]


def test_more_than_the_allowed_share_stops_with_one_line(labeled, photos):
    with pytest.raises(ConfigError) as error:
        load(labeled(), photos, **{"DATALOADER.MAX_UNREADABLE": 0.1})
    text = str(error.value)
    assert "unlabeled_names: 2 of 10 images are unreadable" in text
    assert "\n" not in text and "cut off" in text


def test_a_stream_without_a_readable_image_stops(labeled, photos):
    with pytest.raises(ConfigError, match="unlabeled_names: 2 of 2 images"):
        load(labeled(), photos / "bad*", **{"DATALOADER.MAX_UNREADABLE": 1.0})


def test_a_labeled_image_of_another_size_than_its_boxes_are_for_is_skipped(
    labeled, photos, tmp_path, caplog
):
    name = labeled()
    write_image(tmp_path / "labeled" / "2.png", 41, 30)
    found = files(load(name, photos / "good*", **{"DATALOADER.MAX_UNREADABLE": 0.4}))
    assert f"{tmp_path}/labeled/2.png" not in found and f"{tmp_path}/labeled/1.png" in found
    assert "2.png" in caplog.text


# --- orientation --------------------------------------------------------------------------------


def mixed_folder(tmp_path, wide, tall):
    for n in range(wide):
        write_image(tmp_path / "mixed" / f"wide{n}.png", 40, 30)
    for n in range(tall):
        write_image(tmp_path / "mixed" / f"tall{n}.png", 30, 40)
    return tmp_path / "mixed"


def pure_share(batches):
    """Share of the steps whose unlabeled images have one orientation."""
    kinds = [{"wide" in n for n in files([batch]) if "mixed" in n} for batch in batches]
    return np.mean([len(kind) == 1 for kind in kinds])


def test_a_rank_s_images_of_a_step_have_one_orientation_where_that_is_wanted(labeled, tmp_path):
    folder = mixed_folder(tmp_path, 16, 16)
    grouped = load(labeled(), folder, **{"SOLVER.MAX_ITER": 32})
    mixed = load(labeled(), folder, **{"DATALOADER.ASPECT_RATIO_GROUPING": False})
    assert pure_share(grouped) > 0.9 and pure_share(mixed) < 0.5
    assert len(set(files(grouped))) == 3 + 32


def test_sizes_are_not_looked_up_where_they_are_known_or_not_needed(
    labeled, photos, tmp_path, monkeypatch
):
    from soft_teacher.data.streams import loader as build_module

    asked = []
    usual = build_module.image_sizes
    monkeypatch.setattr(build_module, "image_sizes", lambda f: (asked.append(f), usual(f))[1])
    build_two_stream_train_loader(
        config(labeled(), photos, **{"DATALOADER.ASPECT_RATIO_GROUPING": False})
    )
    assert asked == []
    build_two_stream_train_loader(config(labeled(), photos))
    assert [len(found) for found in asked] == [NUM_GOOD + NUM_BAD]


# --- Pascal VOC ---------------------------------------------------------------------------------


VOC_FLAGS = "<pose>Left</pose><truncated>0</truncated><difficult>0</difficult>"


def write_voc(root, year, ids):
    """The layout of VOCdevkit with one dog on each image."""
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("\n".join(ids))
    for name in ids:
        write_image(root / "JPEGImages" / f"{name}.jpg")
        dog = voc_object("dog", 2, 3, 20, 25, more=VOC_FLAGS)
        (root / "Annotations" / f"{name}.xml").write_text(voc_xml(Photo(name), objects=dog))
    register_pascal_voc(f"odd_test_voc_{year}", str(root), "trainval", year)
    return f"odd_test_voc_{year}"


def test_voc_2007_labeled_and_voc_2012_unlabeled(tmp_path):
    names = [
        write_voc(tmp_path / "VOC2007", 2007, ["000001", "000002"]),
        write_voc(tmp_path / "VOC2012", 2012, ["2008_000001", "2008_000002", "2008_000003"]),
    ]
    found = check_datasets(labeled=names[:1], unlabeled=names[1:], test=names[:1], num_classes=20)
    assert len(found) == 2 and "no box of 'aeroplane'" in found[0]
    assert "test_names share 2 images" in found[1]
    loader = build_two_stream_train_loader(config(*names))
    for step, batch in enumerate(loader):
        labeled = [s for s in batch if "weak_image" not in s]
        assert len(labeled) == loader.schedule.total(LABELED, step)
        assert len(batch) - len(labeled) == loader.schedule.total(UNLABELED, step)
        assert all("VOC2007" in s["file_name"] for s in labeled)
        dog = MetadataCatalog.get(names[0]).thing_classes.index("dog")
        assert {int(c) for s in labeled for c in s["instances"].gt_classes} <= {dog}


@pytest.mark.parametrize("kind", ["pascal_voc", None])
def test_both_languages_evaluate_on_voc_by_the_same_rules(kind, tmp_path):
    """Its own, or COCO's if nothing says that it is Pascal VOC. Only COCO's know small objects."""
    name = write_voc(tmp_path / "VOC2012", 2012, ["2012_000001", "2012_000002"])
    if kind:
        MetadataCatalog.get(name).evaluator_type = kind
    names = {"dataloader.test.dataset.names": name, "model.student.roi_heads.num_classes": 20}
    opts = [f"{k}={v}" for k, v in {**names, "train.output_dir": tmp_path}.items()]
    lazy = LazyExperiment.load(str(CONFIGS / "soft_teacher.py"), opts)
    opts = ["DATASETS.TEST", name, "MODEL.ROI_HEADS.NUM_CLASSES", "20", "OUTPUT_DIR", str(tmp_path)]
    yaml = YamlExperiment.load(str(CONFIGS / "soft_teacher.yaml"), opts)
    for experiment in (lazy, yaml):
        assert experiment.check(eval_only=True) == []
    model = lazy.build_model().eval()
    found = [experiment.evaluate(model) for experiment in (lazy, yaml)]
    for results in found:
        assert set(results) == {"student", "teacher"}
        assert ("APs" in results["teacher"]["bbox"]) == (kind is None)
    assert str(found[0]) == str(found[1])  # NaN is not itself
