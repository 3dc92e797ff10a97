"""What of a file fits into the detector of a config, and what a report says of the rest."""

import pytest
import torch
from coco import ROOT
from detectron2.config import instantiate
from foreign import save, save_annotations
from mmdet_htc import as_mmdet

from soft_teacher import ConfigError
from soft_teacher.deploy.convert.fitting import fit, parts_of, write_fitted
from soft_teacher.engine.checkpoint import SoftTeacherCheckpointer
from soft_teacher.experiment.entry import load_experiment

CONFIG = str(ROOT / "configs" / "demo" / "htc_swin.py")
PIXELS = [
    *("dataloader.train.image_format=RGB", "dataloader.test.mapper.image_format=RGB"),
    "model.student.pixel_mean=[123.675,116.28,103.53]",
    "model.student.pixel_std=[58.395,57.12,57.375]",
]
BODY, HEADS = "backbone.bottom_up.", "roi_heads."


def experiment(*opts):
    return load_experiment(CONFIG, ["train.device=cpu", *PIXELS, *opts])


def student(*opts):
    """A detector with a value of its own everywhere."""
    torch.manual_seed(0)
    found = instantiate(experiment(*opts).cfg.model.student)
    for value in found.state_dict().values():
        if value.is_floating_point():
            value.normal_()
    return found


@pytest.fixture(scope="module")
def detector():
    return student()


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """COCO annotations whose order of categories is that of the ids."""
    path = tmp_path_factory.mktemp("classes") / "train.json"
    return save_annotations(path, *((n, f"class {n}") for n in range(5)))


def refusal(path, *opts, **kwargs):
    with pytest.raises(ConfigError) as error:
        fit(str(path), experiment(*opts), **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def notes(fitted):
    return {key.source: key.note for key in fitted.keys}


def own_file(network, path, *, window=4, **extra):
    """A Swin as its authors release it, of a network that classifies."""
    body = {k.removeprefix(BODY): v for k, v in network.state_dict().items() if BODY in k}
    state = {k: v for k, v in body.items() if not k.startswith("norm")}
    for name, value in body.items():
        if name.endswith("relative_position_bias_table") and window != 4:
            state[name] = torch.randn((2 * window - 1) ** 2, value.shape[1])
        if name.endswith("relative_position_index") and window != 4:
            state[name] = torch.zeros(window**2, window**2, dtype=torch.int64)
    state |= {"layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16), "norm.weight": torch.ones(96)}
    state |= {"head.weight": torch.zeros(10, 96), **extra}
    torch.save({"model": state}, path)
    return state


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.long
def test_a_htc_of_mmdetection_is_loaded_whole(attention, classes, tmp_path):
    opts = []
    if attention:
        opts = [
            "model.student.backbone.bottom_up.global_attention={_target_: "
            "soft_teacher.modeling.backbones.global_attention.GlobalAttention, channels: 96, "
            "num_heads: 8}",
            "model.student.roi_heads.box_heads.0.conv_dims=[48,48]",
        ]
    network = student(*opts)
    state = as_mmdet(network)
    path = save(tmp_path / "htc.pth", state, meta={})
    fitted = fit(path, experiment(*opts), annotations=classes)
    assert [key.source for key in fitted.keys] == list(state)
    assert set(notes(fitted).values()) == {"loaded"} and fitted.missing == []
    targets = [key.target for key in fitted.keys]
    assert len(set(targets)) == len(targets) == len(fitted.weights)
    for name, value in network.state_dict().items():
        assert torch.equal(fitted.weights[name], value), name
    assert any("global_attention" in name for name in targets) == attention


def test_a_swin_s_own_file_fills_the_backbone(detector, tmp_path):
    state = own_file(detector, tmp_path / "swin.pth")
    fitted = fit(str(tmp_path / "swin.pth"), experiment())
    found = notes(fitted)
    assert list(found) == list(state)
    unknown = {name for name, note in found.items() if note == "not in the detector"}
    assert unknown == {"layers.0.blocks.1.attn_mask", "norm.weight", "head.weight"}
    assert {note for name, note in found.items() if name not in unknown} == {"loaded"}
    for name, value in fitted.weights.items():
        assert torch.equal(value, detector.state_dict()[name])
    # Norms of the levels and all that is no backbone.
    body = {name for name in fitted.missing if name.startswith(BODY)}
    assert {name.split(".")[2] for name in body} == {"norm0", "norm1", "norm2"}
    parts = dict(parts_of(fitted.missing))
    assert parts["backbone.bottom_up"] == 6 and parts["backbone.fpn_lateral2"] == 2
    assert {"proposal_generator.rpn_head", "roi_heads.box_head"} < parts.keys()
    assert fitted.left_out == []


def test_a_window_of_another_size_is_interpolated(detector, tmp_path):
    own_file(detector, tmp_path / "swin.pth", window=6)
    fitted = fit(str(tmp_path / "swin.pth"), experiment())
    found = notes(fitted)
    tables = [name for name in found if name.endswith("bias_table")]
    assert {found[name] for name in tables} == {"loaded, resized to the window"}
    assert {found[n] for n in found if n.endswith("position_index")} == {"computed anew"}
    assert all(fitted.weights[f"{BODY}{name}"].shape[0] == 49 for name in tables)
    assert not any(name.endswith("position_index") for name in fitted.missing)


@pytest.mark.parametrize("prefix", ["", "backbone.", "backbone.0.body."])
@pytest.mark.parametrize("layout", ["own", "mmdetection"])
@pytest.mark.long
def test_a_swin_is_known_under_any_prefix(layout, prefix, detector, tmp_path):
    state = as_mmdet(detector) if layout == "mmdetection" else detector.state_dict()
    old = "backbone." if layout == "mmdetection" else BODY
    body = {
        k.removeprefix(old): v for k, v in state.items() if k.startswith(old) and "fpn" not in k
    }
    torch.save({prefix + k: v for k, v in body.items()}, tmp_path / "swin.pth")
    fitted = fit(str(tmp_path / "swin.pth"), experiment())
    names = [n for n in detector.state_dict() if n.startswith(BODY)]
    assert list(fitted.weights) == names
    assert all(torch.equal(fitted.weights[n], detector.state_dict()[n]) for n in names)


def test_a_detector_of_objects365_gives_all_but_classes_masks_and_semantics(detector, tmp_path):
    state = {
        name: value
        for name, value in as_mmdet(detector).items()
        if "mask_head" not in name and "semantic_head" not in name
    }
    for stage in range(3):
        for kind, value in (("weight", torch.ones(366, 128)), ("bias", torch.ones(366))):
            state[f"roi_head.bbox_head.{stage}.fc_cls.{kind}"] = value
    path = save(tmp_path / "objects365.pth", state, meta={"CLASSES": ("a",) * 365})
    fitted = fit(path, experiment())
    anew = {name for name, note in notes(fitted).items() if note != "loaded"}
    assert anew == {
        f"roi_head.bbox_head.{s}.fc_cls.{k}" for s in range(3) for k in ("weight", "bias")
    }
    assert {notes(fitted)[name] for name in anew} == {"of other classes"}
    parts = {name.split(".")[1] for name in fitted.missing}
    assert parts == {"box_predictor", "mask_head", "semantic_head"}
    for part in ("box_head.0.fc1", "box_predictor.2.bbox_pred"):
        name = f"{HEADS}{part}.weight"
        assert torch.equal(fitted.weights[name], detector.state_dict()[name])


def test_rows_of_classes_follow_the_json_they_were_learned_from(detector, tmp_path):
    order = [3, 1, 4, 0, 2]
    annotations = save_annotations(tmp_path / "a.json", *((n, f"class {n}") for n in order))
    state = detector.state_dict()
    theirs = as_mmdet(detector)
    scores, masks = "roi_head.bbox_head.1.fc_cls.weight", "roi_head.mask_head.2.conv_logits.bias"
    theirs[scores] = state[f"{HEADS}box_predictor.1.cls_score.weight"][[*order, 5]]
    theirs[masks] = state[f"{HEADS}mask_head.2.predictor.bias"][order]
    path = save(tmp_path / "a.pth", theirs, meta={})
    fitted = fit(path, experiment(), annotations=annotations)
    for name in ("box_predictor.1.cls_score.weight", "mask_head.2.predictor.bias"):
        assert torch.equal(fitted.weights[HEADS + name], state[HEADS + name])


@pytest.mark.parametrize("new_classes", [False, True])
def test_unknown_and_new_classes_are_left_out(new_classes, detector, classes, tmp_path):
    path = save(tmp_path / "a.pth", as_mmdet(detector), meta={})
    named = {"annotations": classes} if new_classes else {}
    fitted = fit(path, experiment(), new_classes=new_classes, **named)
    left = {name for name, note in notes(fitted).items() if note == "of other classes"}
    assert {name.rsplit(".", 2)[1] for name in left} == {"fc_cls", "conv_logits"}
    assert not any("semantic" in name for name in left)


def test_a_run_of_our_own_names_its_network(detector, tmp_path):
    state = detector.state_dict()
    both = {f"{n}.{k}": v for n in ("student", "teacher") for k, v in state.items()}
    both["student.backbone.fpn_lateral2.bias"] = torch.zeros(48)
    torch.save({"model": both, "iteration": 3}, tmp_path / "run.pth")
    path = str(tmp_path / "run.pth")
    assert refusal(path).startswith("--network: the checkpoint holds a student and a teacher")
    for name, expected in (("student", torch.zeros(48)), ("teacher", None)):
        fitted = fit(path, experiment(), network=name)
        bias = fitted.weights["backbone.fpn_lateral2.bias"]
        expected = state["backbone.fpn_lateral2.bias"] if expected is None else expected
        assert torch.equal(bias, expected) and fitted.left_out == ["iteration"]


def test_a_run_starts_from_what_was_written(detector, tmp_path):
    own_file(detector, tmp_path / "swin.pth")
    fitted = fit(str(tmp_path / "swin.pth"), experiment())
    write_fitted(fitted, str(tmp_path / "out"))
    rows = [line.split("\t") for line in (tmp_path / "out" / "keys.tsv").read_text().splitlines()]
    assert rows[1] == ["patch_embed.proj.weight", "loaded", f"{BODY}patch_embed.proj.weight"]
    assert rows[-1] == ["", "missing", fitted.missing[-1]]
    assert len(rows) == 1 + len(fitted.keys) + len(fitted.missing)
    model = experiment().build_model()
    SoftTeacherCheckpointer(model).load(str(tmp_path / "out" / "model.pth"))
    for network in (model.student, model.teacher):
        state = network.state_dict()
        assert all(torch.equal(state[name], value) for name, value in fitted.weights.items())


class TestRefusals:
    def test_nothing_that_fits(self, tmp_path):
        path = save(tmp_path / "a.pth", {"encoder.weight": torch.ones(2)}, meta={})
        line = refusal(path)
        assert line.startswith(f"checkpoint '{path}' cannot be converted: none of its tensors fits")
        assert "it has 'encoder.weight'" in line

    def test_another_backbone(self, tmp_path):
        wide = "model.student.backbone.bottom_up.embed_dim=32"
        own_file(student(wide), tmp_path / "swin.pth")
        line = refusal(tmp_path / "swin.pth")
        assert "its backbone is not that of --config-file: 'patch_embed.proj.weight' is of" in line
        assert "another shape: 32 x 3 x 4 x 4, in the detector 24 x 3 x 4 x 4" in line

    def test_a_part_of_the_backbone_that_is_missing(self, detector, tmp_path):
        state = own_file(detector, tmp_path / "swin.pth")
        del state["layers.2.blocks.1.mlp.fc2.bias"]
        torch.save({"model": state}, tmp_path / "swin.pth")
        line = refusal(tmp_path / "swin.pth")
        assert f"there is nothing for '{BODY}layers.2.blocks.1.mlp.fc2.bias'" in line

    def test_pixels_that_differ(self, detector, tmp_path):
        own_file(detector, tmp_path / "swin.pth")
        line = refusal(
            tmp_path / "swin.pth",
            *(option.replace("RGB", "BGR") for option in PIXELS[:2]),
        )
        assert "it was trained on RGB pixels less [123.675, 116.28, 103.53] by [58.395" in line
        assert "the config has BGR" in line and "set dataloader.train.image_format and" in line
        assert "model.student.pixel_mean and model.student.pixel_std" in line.replace(", ", " and ")

    def test_a_network_that_is_not_there(self, detector, tmp_path):
        path = save(tmp_path / "a.pth", as_mmdet(detector), meta={})
        assert refusal(path, network="teacher").startswith("--network teacher: the checkpoint")

    def test_objects_that_would_run(self, detector, tmp_path):
        class Harmful:
            def __reduce__(self):
                return print, ("run",)

        torch.save({"model": detector.state_dict(), "x": Harmful()}, tmp_path / "a.pth")
        assert "would run builtins.print" in refusal(tmp_path / "a.pth")
