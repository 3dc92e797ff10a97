"""The predictor finds what an evaluation finds, whatever the image comes as."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from deployed import write_run
from detectron2.config import LazyConfig
from PIL import Image
from predictions import photo
from training import CONFIGS, save_untrained

from soft_teacher import ConfigError
from soft_teacher.data.images.image import UnreadableImage, read_image
from soft_teacher.deploy import Predictor
from soft_teacher.experiment import SoftTeacherTrainer, yaml_config
from soft_teacher.experiment.class_file import write_classes
from soft_teacher.experiment.yaml_experiment import YamlExperiment

pytestmark = pytest.mark.usefixtures("tiny_digits")

YAML = str(CONFIGS / "soft_teacher.yaml")
LOW = [
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "0.02",
    "MODEL.DEVICE",
    "cpu",
    "INPUT.MIN_SIZE_TEST",
    "64",
]
NAMES = ["zero", "one", "two", "three", "four"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model_final.pth"
    save_untrained(str(path), *LOW)
    return path


@pytest.fixture(scope="module")
def build(weights):
    def build(config=YAML, path=weights, opts=LOW, **options):
        return Predictor(config, path, opts=opts, **options)

    return build


@pytest.fixture(scope="module")
def teacher(build, tiny_digits):
    return build()


@pytest.fixture
def images(tmp_path):
    """Three images of two sizes."""
    sizes = ((50, 70), (64, 64), (50, 70))
    return [str(photo(tmp_path / f"{n}.png", size, seed=n)) for n, size in enumerate(sizes)]


def assert_same(found, other):
    assert len(found) == len(other) > 0
    for field in ("pred_classes", "scores"):
        assert torch.equal(found.get(field), other.get(field))
    assert torch.equal(found.pred_boxes.tensor, other.pred_boxes.tensor)


def assert_alike(found, other):
    """The same but for rounding, which may change the order of boxes that are equally good."""
    assert len(found) == len(other) > 0
    scores = [f.scores.sort().values for f in (found, other)]
    torch.testing.assert_close(*scores, atol=1e-4, rtol=0)


# --- what is found


@pytest.mark.parametrize("network", ["teacher", "student"])
def test_it_is_what_the_evaluation_finds(build, weights, network):
    cfg = yaml_config.load_config(YAML, LOW)
    model = YamlExperiment(cfg).load_trained(weights=str(weights)).model
    predictor = build(network=network)
    for (sample,) in SoftTeacherTrainer.build_test_loader(cfg, "digits_val"):
        with torch.no_grad():
            wanted = getattr(model, network)([sample])[0]["instances"]
        found = predictor(sample["file_name"])
        assert_same(found, wanted)
        assert found.image_size == (sample["height"], sample["width"])


def test_a_file_and_its_pixels_are_one_image(teacher, images):
    assert teacher.image_format == "BGR"
    assert_same(teacher(images[0]), teacher(cv2.imread(images[0])))


def test_an_image_is_found_in_as_its_exif_data_turn_it(teacher, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    found = teacher(tmp_path / "turned.png")
    assert found.image_size == (70, 50)
    assert_same(found, teacher(read_image(str(tmp_path / "turned.png"))))


def test_a_batch_finds_what_each_image_alone_shows(teacher, images):
    assert teacher.batch([]) == []
    for found, image in zip(teacher.batch(images), images, strict=True):
        assert_alike(found, teacher(image))


def test_a_stream_keeps_the_order_and_names_what_cannot_be_read(teacher, images, tmp_path):
    sources = [*images, str(tmp_path / "none.png"), *images[::-1]]
    found = list(teacher.stream(iter(sources)))
    assert [p.source for p in found] == sources
    assert [bool(p.error) for p in found] == [False] * 3 + [True] + [False] * 3
    assert "none.png" in found[3].error and found[3].instances is None
    assert_alike(found[0].instances, found[6].instances)
    np.testing.assert_array_equal(found[1].image, cv2.imread(images[1]))


def test_confidence_cuts_the_same_list(build, teacher, images):
    found = teacher(images[0])
    number, middle = int(found.pred_classes[0]), float(found.scores.median())
    assert_same(build(confidence=middle)(images[0]), found[found.scores > middle])
    cut = build(confidence={NAMES[number]: middle})(images[0])
    assert_same(cut, found[(found.pred_classes != number) | (found.scores > middle)])


def test_an_image_no_larger_than_a_tile_is_seen_whole(build, teacher, images):
    assert_same(build(tile=70)(images[0]), teacher(images[0]))


def test_tiles_find_what_their_parts_of_the_image_show(build, teacher, tmp_path):
    # Two halves that share nothing, with a black border each so that no box is cut.
    image = np.zeros((64, 128, 3), np.uint8)
    half = np.random.default_rng(1).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    image[12:52, 12:52] = image[12:52, 76:116] = half
    tiled = build(tile=64, overlap=0.0)
    assert [len(p.windows) for p in [tiled._prepared(image)]] == [2]
    found, part = tiled(image), teacher(image[:, :64].copy())
    inside = found.pred_boxes.tensor[:, 2] < 62
    whole = part.pred_boxes.tensor[:, 2] < 62
    gaps = (found[inside].scores[:, None] - part.scores).abs()
    assert (gaps.min(dim=1).values < 1e-4).all()
    assert whole.any() and inside.any() and found.image_size == (64, 128)
    assert (found.pred_boxes.tensor[:, 0] >= 64).any()


def test_variances_are_measured_for_what_is_reported(build, teacher, images):
    found = build(variances=True)(images[0])
    assert_same(found, teacher(images[0]))
    assert found.variances.isfinite().all() and (found.variances >= 0).all()
    both = build(variances=True).batch([images[0], images[2]])
    torch.testing.assert_close(both[0].variances, found.variances, atol=1e-4, rtol=1e-2)


def test_retinanet_measures_the_spread_of_the_boxes_that_nms_suppressed(tmp_path):
    write_run(tmp_path / "run", "retinanet")
    photos = sorted(map(str, (tmp_path / "run" / "photos").iterdir()))
    plain, measuring = (Predictor(tmp_path / "run", variances=v) for v in (False, True))
    for photo_ in photos:
        found = measuring(photo_)
        assert_same(found, plain(photo_))
        assert (found.variances >= 0).all() and found.variances.isfinite().any()


ONE_VIEW = ["TEST.AUG.MIN_SIZES", "(64,)", "TEST.AUG.MAX_SIZE", "192"]


def test_one_view_of_tta_is_a_plain_prediction(build, teacher, images):
    predictor = build(tta=True, opts=[*LOW, *ONE_VIEW])
    for image in (images[0], cv2.imread(images[1])):
        assert_same(predictor(image), teacher(image))


def test_tta_looks_at_all_views_in_both_languages(build, teacher, images):
    """The demo's three sizes; here with mirror images."""
    floor = "model.student.roi_heads.box_predictor.test_score_thresh=0.02"
    opts = [floor, "dataloader.test_aug.flip=True", "train.device=cpu"]
    lazy = build(str(CONFIGS / "soft_teacher.py"), opts=opts, tta=True)
    yaml = build(tta=True, opts=[*LOW, "TEST.AUG.FLIP", "True"])
    found = yaml(images[0])
    assert len(yaml.multi_scale) == 6 and teacher.multi_scale is None
    assert found.image_size == (50, 70)
    assert_same(found, lazy(images[0]))
    assert not torch.equal(found.scores[:5], teacher(images[0]).scores[:5])


def test_tiles_are_looked_at_in_all_views(build, images):
    # One at a time: batches of other sizes round differently.
    options = {"tile": 64, "opts": [*LOW, *ONE_VIEW], "batch_size": 1}
    assert_same(*(build(**options, tta=tta)(images[0]) for tta in (False, True)))


def test_a_lazy_config_without_views_says_so(build, tmp_path, weights):
    cfg = LazyConfig.load(str(CONFIGS / "soft_teacher.py"))
    del cfg.dataloader.test_aug
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    old = str(tmp_path / "config.yaml")
    assert build(old, opts=["train.device=cpu"]).class_names == NAMES
    with pytest.raises(ConfigError, match="^tta needs dataloader.test_aug, which the LazyConfig"):
        build(old, opts=["train.device=cpu"], tta=True)


def test_supervision_gets_names(teacher, images, monkeypatch):
    with pytest.raises(ConfigError, match="supervision is not installed: pip install supervision"):
        monkeypatch.setitem(sys.modules, "supervision", None)
        teacher.to_supervision(teacher(images[0]))
    fake = SimpleNamespace(Detections=lambda **fields: SimpleNamespace(**fields))
    monkeypatch.setitem(sys.modules, "supervision", fake)
    found = teacher(images[0])
    detections = teacher.to_supervision(found)
    np.testing.assert_array_equal(detections.xyxy, found.pred_boxes.tensor.numpy())
    assert detections.data["class_name"].tolist() == [NAMES[c] for c in found.pred_classes]
    assert detections.mask is None
    empty = teacher.to_supervision(found[:0])
    assert empty.xyxy.shape == (0, 4) and len(empty.data["class_name"]) == 0


# --- what it is built of


def run_folder(tmp_path, weights, language, dumped):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model_final.pth").write_bytes(weights.read_bytes())
    dumped(folder / "config.yaml", language)
    return folder


def dump(path, language):
    if language == "yaml":
        path.write_text(yaml_config.load_config(YAML, LOW).dump())
        return
    cfg = LazyConfig.load(str(CONFIGS / "soft_teacher.py"))
    floor = "model.student.roi_heads.box_predictor.test_score_thresh=0.02"
    size = "dataloader.test.mapper.augmentations.0.short_edge_length=64"
    cfg = LazyConfig.apply_overrides(cfg, [floor, size, "train.device=cpu"])
    LazyConfig.save(cfg, str(path))


@pytest.mark.parametrize("language", ["yaml", "lazy"])
def test_a_run_s_folder_is_enough(teacher, tmp_path, weights, images, language):
    folder = run_folder(tmp_path, weights, language, dump)
    predictor = Predictor(folder)
    assert predictor.class_names == NAMES
    assert predictor.weights == str(folder / "model_final.pth")
    assert_same(predictor(images[0]), teacher(images[0]))


def test_of_an_unfinished_run_the_last_checkpoint_counts(tmp_path, weights):
    folder = run_folder(tmp_path, weights, "yaml", dump)
    (folder / "model_final.pth").rename(folder / "model_0000009.pth")
    (folder / "last_checkpoint").write_text("model_0000009.pth\n")
    assert Predictor(folder).weights == str(folder / "model_0000009.pth")


def test_classes_json_goes_with_the_weights(tmp_path, weights):
    folder = run_folder(tmp_path, weights, "yaml", dump)
    write_classes(folder, [{"id": 10 * n, "name": f"class {n}"} for n in range(5)])
    for predictor in (Predictor(folder), Predictor(YAML, folder / "model_final.pth", opts=LOW)):
        assert predictor.class_names == [f"class {n}" for n in range(5)]
        assert [category["id"] for category in predictor.categories] == [0, 10, 20, 30, 40]


def test_classes_of_the_datasets_are_those_that_are_known_or_read(build, tiny_digits):
    assert build(opts=[*LOW, "DATASETS.TRAIN_LABELED", "('nowhere.json',)"]).class_names == NAMES
    names = ["DATASETS.TRAIN_LABELED", "('nowhere.json',)", "DATASETS.TEST", "()"]
    fix = r"nowhere.json.*; or name the file of the classes by --classes \(in Python: classes\)"
    with pytest.raises(ConfigError, match=fix):
        build(opts=[*LOW, *names])
    with pytest.raises(ConfigError, match="no dataset names the classes: name the file"):
        build(opts=[*LOW, "DATASETS.TRAIN_LABELED", "()", "DATASETS.TEST", "()"])


def test_classes_may_be_given(build, tmp_path):
    (tmp_path / "classes.txt").write_text("a\nb\n\nc\nd\ne\n")
    assert build(classes=list("vwxyz")).class_names == list("vwxyz")
    assert build(classes=str(tmp_path / "classes.txt")).class_names == list("abcde")
    with pytest.raises(ConfigError, match="classes has 2 classes, the detector has 5"):
        build(classes=["a", "b"])


def test_tta_of_a_retinanet_is_refused(tmp_path):
    config = write_run(tmp_path, "retinanet")
    with pytest.raises(ConfigError, match="^tta merges views .* not supported for a RetinaNet"):
        Predictor(str(config), tta=True)


MISTAKES = [
    (dict(network="pupil"), "network must be one of student, teacher"),
    (dict(batch_size=0), "batch_size must be a whole number of at least 1"),
    (dict(tile=3), "tile must be a whole number of at least 16"),
    (dict(overlap=1.0), "overlap must be a number of at least 0 and of at most 0.9"),
    (dict(device="gpu?"), "device 'gpu?' is not a device"),
    (dict(confidence=0.01), "below MODEL.ROI_HEADS.SCORE_THRESH_TEST (0.02)"),
    (dict(confidence={"dog": 0.5}), "confidence of 'dog', which is no class"),
    (dict(tta=True, variances=True), "choose one of the two"),
    (dict(path="nowhere.pth"), "nowhere.pth"),
    (dict(config="nowhere.yaml"), "--config-file 'nowhere.yaml' does not exist"),
    (dict(tta=True, opts=[*LOW, "TEST.AUG.MAX_SIZES", "(99,)"]),
     "TEST.AUG.MAX_SIZES must be empty or have 3 items"),
]  # fmt: skip


@pytest.mark.parametrize("options, message", MISTAKES, ids=[m for _, m in MISTAKES])
def test_a_mistake_is_one_line(build, options, message):
    with pytest.raises(ConfigError) as error:
        build(**options)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((4, 4), np.uint8), "uint8 (4, 4)"),
        (np.zeros((4, 4, 3)), "float64 (4, 4, 3)"),
        (np.zeros((0, 4, 3), np.uint8), "uint8 (0, 4, 3)"),
        (np.zeros((4, 4, 4), np.uint8), "uint8 (4, 4, 4)"),
        (None, "None"),
    ],
)
def test_what_is_no_image_is_refused(teacher, image, message):
    with pytest.raises(ConfigError) as error:
        teacher(image)
    assert str(error.value).endswith(f"uint8 (H, W, 3) in BGR order, got {message}")


def test_a_file_that_cannot_be_read_is_named(teacher, tmp_path):
    with pytest.raises(UnreadableImage, match="none.jpg"):
        teacher(tmp_path / "none.jpg")
