"""Every format detects what the detector detects, and says which classes those are."""

import json
from types import SimpleNamespace

import pytest
import torch
from deployed import CLASSES, deployed, deployed_fcos, lively, needs, write_run
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from soft_teacher import ConfigError, ExportError, add_soft_teacher_config
from soft_teacher.deploy.export import exporting, source_of
from soft_teacher.deploy.export.detection_tensors import DetectionTensors, detect
from soft_teacher.deploy.export.exporting import export
from soft_teacher.experiment.entry import load_experiment

VIEW = {"image_format": "BGR", "short_edge": 64, "max_size": 100}
PACKAGES = {".onnx": ("onnx", "onnxruntime"), ".safetensors": ("safetensors",)}


@pytest.fixture(scope="module", params=["rcnn", "retinanet", "fcos"])
def run(request, tmp_path_factory):
    """A detector and views of two photos in two sizes."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "fcos":
        return deployed_fcos(folder)
    return deployed(write_run(folder, request.param))


@pytest.mark.parametrize("suffix", [".ts", ".onnx", ".safetensors"])
def test_a_format_detects_the_same_in_every_size_and_knows_its_classes(run, suffix, tmp_path):
    needs(*PACKAGES.get(suffix, ()))
    source, views = run
    path = str(tmp_path / f"model{suffix}")
    assert len({tuple(view.shape) for view in views}) == 4
    found = export(source, views, path)
    assert found.matched > 20
    assert found.score < 1e-5 and found.box < 1e-3
    assert [file.name for file in tmp_path.iterdir()] == [f"model{suffix}"]
    facts = {name: json.loads(text) for name, text in metadata(path).items()}
    assert facts == {"classes": CLASSES, "view": VIEW, "network": "teacher"}


def test_the_networks_differ(run):
    source, views = run
    other = source_of(source.experiment, "student")
    assert not torch.equal(detect(source.network, views[0])[2], detect(other.network, views[0])[2])


def metadata(path):
    if path.endswith(".ts"):
        texts = {"classes": "", "view": "", "network": ""}
        torch.jit.load(path, _extra_files=texts)
        return {
            name: text.decode() if isinstance(text, bytes) else text for name, text in texts.items()
        }
    if path.endswith(".onnx"):
        import onnxruntime

        return onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.metadata()


def test_an_image_without_objects_has_no_detections(tmp_path):
    config = write_run(tmp_path / "run")
    source, views = deployed(config, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.5")
    path = str(tmp_path / "model.ts")
    export(source, views, path)
    mean = torch.tensor(source.experiment["MODEL.PIXEL_MEAN"])
    view = mean.round().byte()[:, None, None].expand(3, 64, 64).contiguous()
    boxes, classes, scores = torch.jit.load(path)(view)
    ours = detect(source.network, view)
    assert boxes.shape == (0, 4) == ours[0].shape and classes.shape == scores.shape == (0,)


# --- what is not written ------------------------------------------------------------------------


@pytest.fixture
def shifted(monkeypatch):
    """A format whose detector is half a stride off, as that of an old RoIAlign."""

    def write(source, view, path):
        with open(path, "w") as file:
            file.write("model")
        return lambda view: shift(DetectionTensors(*detect(source.network, view)))

    def shift(found):
        return found._replace(boxes=found.boxes + 2)

    monkeypatch.setitem(exporting.FORMATS, ".ts", write)


def test_a_difference_is_an_error_and_nothing_is_left(run, shifted, tmp_path):
    source, views = run
    with pytest.raises(ExportError, match=r"differs on an image of 64 x \d+ pixels: of \d+ detect"):
        export(source, views, str(tmp_path / "model.ts"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "fails, line",
    [("writing", "cannot be exported: KeyError"), ("running", "differs .*: it fails: KeyError")],
)
def test_what_an_exporter_or_its_runtime_raises_is_one_line(
    fails, line, run, monkeypatch, tmp_path
):
    def fail(*_):
        raise KeyError("an operator")

    def write(source, view, path):
        open(path, "w").close()
        return fail

    monkeypatch.setitem(exporting.FORMATS, ".ts", fail if fails == "writing" else write)
    with pytest.raises(ExportError, match=line):
        export(*run, str(tmp_path / "model.ts"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_survives_a_failure(run, shifted, tmp_path):
    source, views = run
    path = tmp_path / "model.ts"
    path.write_text("old")
    with pytest.raises(ExportError):
        export(source, views, str(path))
    assert path.read_text() == "old"


def test_without_detections_nothing_is_proved_or_written(tmp_path):
    config = write_run(tmp_path / "run")
    source, views = deployed(config, "TEST.DETECTIONS_PER_IMAGE", "0")
    with pytest.raises(ConfigError, match="no sample image has a detection.*--images"):
        export(source, views, str(tmp_path / "model.ts"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_lazy_config_is_exported_too(tiny_digits, tmp_path):
    opts = ["train.device=cpu", f"train.init_checkpoint={tmp_path / 'w.pth'}"]
    opts += ["dataloader.test.mapper.augmentations.0.short_edge_length=64"]
    experiment = load_experiment("configs/demo/soft_teacher.py", opts)
    torch.save({"model": experiment.build_model().state_dict()}, tmp_path / "w.pth")
    source = source_of(experiment, "student")
    assert source.classes == ["zero", "one", "two", "three", "four"]
    views = [torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8) for _ in range(2)]
    assert export(source, views, str(tmp_path / "model.ts")).matched


# --- masks --------------------------------------------------------------------------------------


@pytest.fixture
def mask_rcnn(tmp_path):
    """Detectron2's own Mask R-CNN, of few channels."""
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    cfg.merge_from_file(str(write_run(tmp_path / "run")))
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.PIXEL_STD = [500.0] * 3  # for scores of all sizes
    cfg.MODEL.ROI_MASK_HEAD.update(NAME="MaskRCNNConvUpsampleHead", CONV_DIM=4, NUM_CONV=1)
    torch.manual_seed(0)
    network = build_model(cfg).eval()
    network.load_state_dict(lively(network))
    return SimpleNamespace(
        network=network, floor=0.05, limit=100, metadata=lambda: {"classes": "[]"}
    )


@pytest.mark.parametrize("suffix", [".ts", ".onnx"])
def test_masks_travel_with_their_boxes(suffix, mask_rcnn, tmp_path):
    needs(*PACKAGES.get(suffix, ()))
    views = [torch.randint(0, 255, (3, *size), dtype=torch.uint8) for size in ((64, 96), (80, 64))]
    found = export(mask_rcnn, views, str(tmp_path / f"model{suffix}"))
    assert found.matched > 20 and found.mask < 1e-4
    assert detect(mask_rcnn.network, views[0])[3].shape[1:] == (1, 28, 28)
