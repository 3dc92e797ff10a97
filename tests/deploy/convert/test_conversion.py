"""A converted detector detects what its source does."""

import pytest
import torch
from foreign import (
    as_mmdetection,
    config_text,
    narrow_detector,
    save,
    save_annotations,
    two_networks,
)
from torch.nn import functional as F

from soft_teacher import ConfigError
from soft_teacher.deploy.convert import convert, write_conversion
from soft_teacher.deploy.export.detection_tensors import detect
from soft_teacher.experiment.entry import load_experiment

STYLES = ("caffe", "pytorch")
NAMES = ["cow", "ant", "bee"]  # by mmdetection's class numbers


@pytest.fixture
def annotations(tmp_path):
    return save_annotations(tmp_path / "train.json", (30, "cow"), (10, "ant"), (20, "bee"))


@pytest.fixture
def view():
    return torch.randint(
        0, 255, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def loaded(path, folder, **settings):
    """The conversion, and a Soft Teacher that was built from what it wrote."""
    conversion = convert(path, **settings)
    write_conversion(conversion, str(folder))
    experiment = load_experiment(str(folder / "config.yaml"), ["MODEL.DEVICE", "cpu"])
    trained = experiment.load_trained(weights=str(folder / "model.pth"))
    return conversion, trained.model


def named(found, names):
    """Detections as sorted rows of class, score and box."""
    boxes, classes, scores = found
    rows = zip(classes.tolist(), scores.tolist(), boxes.tolist())
    return sorted((names[number], score, *box) for number, score, box in rows)


@pytest.mark.parametrize("style", STYLES)
def test_student_and_teacher_detect_the_same(style, annotations, view, tmp_path):
    student, teacher = (narrow_detector(seed, style=style) for seed in (1, 2))
    meta = {"config": config_text(style)}
    path = save(tmp_path / "both.pth", two_networks(student, teacher), meta=meta)
    conversion, model = loaded(path, tmp_path / "out", annotations=annotations)
    assert conversion.classes == ["ant", "bee", "cow"]
    seen = set()
    for source, network in ((student, model.student), (teacher, model.teacher)):
        expected = named(detect(source, view), NAMES)
        found = named(detect(network, view), conversion.classes)
        seen |= {row[0] for row in expected}
        assert [row[0] for row in found] == [row[0] for row in expected]
        for ours, theirs in zip(found, expected):
            assert ours[1:] == pytest.approx(theirs[1:], abs=2e-5)
    assert len(seen) > 1


def test_one_network_fills_both(annotations, tmp_path):
    path = save(tmp_path / "one.pth", as_mmdetection(narrow_detector()), legacy=True)
    conversion, model = loaded(path, tmp_path / "out", annotations=annotations)
    state = model.student.state_dict()
    assert list(conversion.weights) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in conversion.weights.items())


def test_one_of_two_networks(annotations, tmp_path):
    student, teacher = narrow_detector(0), narrow_detector(1)
    path = save(tmp_path / "both.pth", two_networks(student, teacher))
    found = convert(path, annotations=annotations, network="teacher")
    name = "backbone.fpn_lateral2.weight"
    assert torch.equal(found.weights[name], teacher.state_dict()[name])
    assert len(found.weights) == len(teacher.state_dict())
    alone = save(tmp_path / "alone.pth", as_mmdetection(student))
    with pytest.raises(ConfigError, match="--network teacher: the checkpoint holds no teacher"):
        convert(alone, annotations=annotations, network="teacher")


def test_every_tensor_is_reported(annotations, tmp_path):
    state = two_networks(narrow_detector(0), narrow_detector(1))
    path = save(tmp_path / "both.pth", state, optimizer={"lr": 0.1})
    write_conversion(convert(path, annotations=annotations), str(tmp_path / "out"))
    lines = (tmp_path / "out" / "keys.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    assert [row[0] for row in rows] == [*state, "meta", "optimizer"]
    weights = torch.load(tmp_path / "out" / "model.pth", weights_only=True)["model"]
    assert [row[2] for row in rows if row[1] == "converted"] == list(weights)
    kinds = {row[1] for row in rows if row[0].endswith("num_batches_tracked")}
    assert kinds == {"dropped"}


# --- mmdetection's arithmetic, written once more ------------------------------------------------


def norm(state, name, x):
    """BatchNorm in eval mode."""
    weight, bias, mean, var = (
        state[f"{name}.{kind}"][None, :, None, None]
        for kind in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def bottleneck(state, name, x, stride, style):
    """A caffe ResNet strides in the first convolution, a PyTorch one in the second."""
    first, second = (stride, 1) if style == "caffe" else (1, stride)
    out = F.conv2d(x, state[f"{name}.conv1.weight"], stride=first)
    out = norm(state, f"{name}.bn1", out).relu()
    out = F.conv2d(out, state[f"{name}.conv2.weight"], stride=second, padding=1)
    out = norm(state, f"{name}.bn2", out).relu()
    out = norm(state, f"{name}.bn3", F.conv2d(out, state[f"{name}.conv3.weight"]))
    if f"{name}.downsample.0.weight" in state:
        x = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
        x = norm(state, f"{name}.downsample.1", x)
    return (out + x).relu()


def levels(state, image, style):
    """C2 and C3 of an image after its normalization."""
    x = F.conv2d(image, state["backbone.conv1.weight"], stride=2, padding=3)
    x = F.max_pool2d(norm(state, "backbone.bn1", x).relu(), 3, stride=2, padding=1)
    for block in range(3):
        x = bottleneck(state, f"backbone.layer1.{block}", x, 1, style)
    c2 = x
    for block in range(4):
        stride = 2 if block == 0 else 1
        x = bottleneck(state, f"backbone.layer2.{block}", x, stride, style)
    return c2, x


@pytest.mark.parametrize("style", STYLES)
def test_the_backbone_computes_what_mmdetection_computes(style, annotations, view, tmp_path):
    state = as_mmdetection(narrow_detector(style=style))
    path = save(tmp_path / "a.pth", state, meta={"config": config_text(style)})
    _, model = loaded(path, tmp_path / "out", annotations=annotations)
    network = model.student
    # Pixels are BGR in a caffe model, RGB in a pytorch one.
    mean, std = {
        "caffe": ([103.53, 116.28, 123.675], [1.0, 1.0, 1.0]),
        "pytorch": ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
    }[style]
    mean, std = torch.tensor([mean, std]).view(2, 3, 1, 1)
    image = ((view.float() - mean) / std)[None]
    shown = network.preprocess_image([{"image": view}]).tensor[:, :, : view.shape[1]]
    assert torch.allclose(shown, image, atol=1e-5)
    found = network.backbone.bottom_up(image)
    for name, expected in zip(("res2", "res3"), levels(state, image, style)):
        assert found[name].shape == expected.shape
        assert torch.allclose(found[name], expected, rtol=1e-4, atol=1e-4)


def test_the_predictor_computes_what_mmdetection_computes(annotations, tmp_path):
    state = as_mmdetection(narrow_detector())
    path = save(tmp_path / "a.pth", state)
    _, model = loaded(path, tmp_path / "out", annotations=annotations)
    heads = model.student.roi_heads
    pooled = torch.randn(5, 4 * 7 * 7, generator=torch.Generator().manual_seed(0))
    x, head = pooled, "roi_head.bbox_head"
    for number in (0, 1):
        weight, bias = (state[f"{head}.shared_fcs.{number}.{k}"] for k in ("weight", "bias"))
        x = F.linear(x, weight, bias).relu()
    logits = F.linear(x, state[f"{head}.fc_cls.weight"], state[f"{head}.fc_cls.bias"])
    deltas = F.linear(x, state[f"{head}.fc_reg.weight"], state[f"{head}.fc_reg.bias"])
    box = torch.tensor([10.0, 20.0, 50.0, 40.0])  # 40 wide, 20 high, around (30, 30)
    dx, dy, dw, dh = (deltas.view(5, 3, 4) * torch.tensor([0.1, 0.1, 0.2, 0.2])).unbind(-1)
    x0, y0, w, h = 30 + 40 * dx, 30 + 20 * dy, 40 * dw.exp(), 20 * dh.exp()
    boxes = torch.stack([x0 - w / 2, y0 - h / 2, x0 + w / 2, y0 + h / 2], dim=-1)

    ours, our_deltas = heads.box_predictor(heads.box_head(pooled.view(5, 4, 7, 7)))
    order = [1, 2, 0]  # ant, bee and cow in mmdetection's rows
    probabilities = logits.softmax(-1)[:, [*order, 3]]
    assert torch.allclose(ours.softmax(-1), probabilities, atol=1e-6)
    transform = heads.box_predictor.box2box_transform
    found = transform.apply_deltas(our_deltas, box.expand(5, 4)).view(5, 3, 4)
    assert torch.allclose(found, boxes[:, order], atol=1e-4)
