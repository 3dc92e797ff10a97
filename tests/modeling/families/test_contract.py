"""What the recipe may rely on, whatever kind of detector it trains."""

import pytest
import torch
from contract import CASES, dealt, gradients_after, let_find, step_on_rank
from detectron2.engine import launch
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.solver import build_optimizer
from steps import BOXES, CLASSES, COMPOSITIONS

from soft_teacher import ConfigError
from soft_teacher.modeling import PseudoLabeler, SoftTeacher
from soft_teacher.modeling.families.base import FAMILY_REGISTRY, MeasuresStability

NAN = float("nan")


def test_every_detector_that_can_be_wrapped_is_held_to_the_contract():
    assert {name for _, family in FAMILY_REGISTRY for name in family.detectors} == set(CASES)


@pytest.fixture(params=CASES)
def detector(request):
    return request.param


@pytest.fixture
def build(build, detector):
    """build("KEY", value, ...): a SoftTeacher around each kind of detector."""
    return lambda *opts: build("SOFT_TEACHER.DETECTOR", detector, *CASES[detector], *opts)


@pytest.fixture
def stock(tiny_cfg, detector):
    """The detector as Detectron2 builds it."""
    tiny_cfg.merge_from_list(list(CASES[detector]))
    return META_ARCH_REGISTRY.get(detector)(tiny_cfg)


@pytest.fixture
def seen(unlabeled, detections):
    """seen(n): an unlabeled image in which the teacher finds some boxes, others for every n."""

    def seen(key, **fields):
        boxes, classes = BOXES[key % 3 :], CLASSES[key % 3 :]
        found = detections(boxes, classes, [0.95, 0.6, 0.91, 0.93][: len(boxes)])
        return unlabeled(key, **{"found": found, **fields})

    return seen


# --- a step -------------------------------------------------------------------------------------


def names_of(model):
    """The losses of every step."""
    family = model.family
    names = [f"sup/{name}" for name in family.loss_names]
    return names + [f"unsup/{name}" for name in family.pseudo_loss_names]


def everything(labeled, seen, detections, targets):
    return labeled, seen


def nothing_found(labeled, seen, detections, targets):
    return labeled, lambda n: seen(n, found=detections())


def nothing_there(labeled, seen, detections, targets):
    return lambda n: labeled(n, instances=targets()), lambda n: seen(n, found=detections())


@pytest.mark.parametrize("n_labeled, n_unlabeled", [(0, 0), *COMPOSITIONS.values()])
@pytest.mark.parametrize("scene", [nothing_there, nothing_found, everything])
def test_every_step_has_the_same_losses_and_reaches_every_parameter(
    build, labeled, seen, detections, targets, scene, n_labeled, n_unlabeled
):
    one, other = scene(labeled, seen, detections, targets)
    model = build()
    batch = [*map(one, range(n_labeled)), *map(other, range(n_unlabeled))]
    losses, gradients = gradients_after(model, batch)
    assert list(losses) == names_of(model)
    for name, loss in losses.items():
        assert loss.shape == () and loss.dtype == torch.float32 and loss.isfinite(), name
        absent = not (n_labeled if name.startswith("sup/") else n_unlabeled)
        assert loss == 0 if absent else loss >= 0, name
    for name, gradient in gradients.items():
        assert gradient is not None and gradient.isfinite().all(), name


def test_the_losses_of_a_stream_are_not_zero_where_there_are_objects(build, labeled, seen):
    losses, _ = gradients_after(build(), [labeled(), seen(0)])
    assert all(loss > 0 for loss in losses.values())


def test_images_of_different_sizes_share_a_step(build, labeled, seen):
    model = build()
    batch = [labeled(), seen(0, size=(48, 80), weak_size=(96, 40)), seen(1)]
    losses, _ = gradients_after(model, batch)
    assert list(losses) == names_of(model) and all(loss.isfinite() for loss in losses.values())


def nan_image(size=(3, 64, 96)):
    return torch.full(size, NAN)


@pytest.mark.parametrize(
    "place", ["labeled image", "strong view", "weak view", "student", "teacher"]
)
def test_nan_costs_no_loss_its_name_and_no_parameter_its_gradient(build, labeled, seen, place):
    """A rank that raised, or skipped a parameter, would leave the others waiting for it."""
    model = build()
    batch = [
        labeled(**({"image": nan_image()} if place == "labeled image" else {})),
        seen(0, **({"image": nan_image()} if place == "strong view" else {})),
        seen(1, **({"weak_image": nan_image()} if place == "weak view" else {})),
    ]
    for parameter in getattr(model, place).parameters() if place in ("student", "teacher") else ():
        parameter.data.fill_(NAN)
    losses, gradients = gradients_after(model, batch)
    assert list(losses) == names_of(model)
    assert all(gradient is not None for gradient in gradients.values())
    if place not in ("weak view", "teacher"):
        assert not sum(losses.values()).isfinite()


# --- means over the global batch (Eq. 2, 3) -----------------------------------------------------

# images of each part: labeled, unlabeled
DEALT = {
    "one process": ((4,), (4,)),
    "two processes, 3 + 1": ((3, 1), (1, 3)),
    "two processes, 3 + 1 of one stream": ((4, 0), (1, 3)),
    "accumulation 2": ((2, 2), (2, 2)),
}


@pytest.fixture
def streams(labeled, seen):
    """Four images each."""
    return [labeled(n) for n in range(4)], [seen(n) for n in range(4)]


def parts_of(streams, counts):
    """Batches with images of both streams."""
    return [one + other for one, other in zip(*map(dealt, streams, counts))]


def assert_average(parts, whole):
    """Parts and whole are losses and gradients."""
    losses, gradients = whole
    for name, loss in losses.items():
        found = sum(part[name].item() for part, _ in parts) / len(parts)
        assert found == pytest.approx(loss.item(), rel=1e-5) and found > 0, name
    for name, gradient in gradients.items():
        found = sum(part[name] for _, part in parts) / len(parts)
        assert (found - gradient).norm() <= 1e-5 * gradient.norm(), name


@pytest.mark.parametrize("counts", DEALT.values(), ids=DEALT.keys())
def test_parts_of_a_batch_average_to_the_whole(build, streams, counts):
    model = build()
    parts = [gradients_after(model, part) for part in parts_of(streams, counts)]
    assert_average(parts, gradients_after(model, streams[0] + streams[1]))


@pytest.mark.long
@pytest.mark.parametrize("counts", [DEALT[name] for name in DEALT if "3 + 1" in name], ids=str)
def test_two_processes_average_to_the_whole(build, streams, counts, tmp_path):
    model = build()
    parts = parts_of(streams, counts)
    launch(step_on_rank, 2, dist_url="auto", args=(model, parts, str(tmp_path)))
    ranks = [torch.load(tmp_path / f"{rank}.pth") for rank in range(2)]
    assert_average(ranks, gradients_after(model, streams[0] + streams[1]))
    one, other = (gradients for _, gradients in ranks)
    assert all(torch.equal(one[name], other[name]) for name in one)


# --- the two networks ---------------------------------------------------------------------------


def shapes(network):
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def test_both_networks_have_the_state_of_the_stock_detector(build, stock):
    model = build()
    assert list(shapes(stock).items()) == list(shapes(model.student).items())
    assert list(shapes(stock).items()) == list(shapes(model.teacher).items())
    assert len(model.state_dict()) == 2 * len(shapes(stock))


def test_a_family_holds_no_tensor(build):
    settings = vars(build().family).values()
    assert not any(isinstance(value, (torch.Tensor, torch.nn.Module)) for value in settings)


def test_in_evaluation_it_is_the_stock_detector_with_the_teachers_weights(build, stock, labeled):
    model = build().eval()
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter += 0.1
    stock.load_state_dict(model.teacher.state_dict())
    batch = [{"image": labeled(key)["image"], "height": 128, "width": 192} for key in range(2)]
    with torch.no_grad():
        results = model(batch), stock.eval()(batch)
    for mine, theirs in zip(*results, strict=True):
        mine, theirs = (found["instances"].get_fields() for found in (mine, theirs))
        assert mine.keys() == theirs.keys() and len(theirs["scores"])
        for key, value in theirs.items():
            assert torch.equal(*(getattr(x, "tensor", x) for x in (mine[key], value))), key


def test_a_step_leaves_the_teacher_alone_and_in_eval_mode(build, tiny_cfg, labeled, seen):
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = build_optimizer(tiny_cfg, model)
    batch = [labeled(), seen(0), seen(1)]
    let_find(model, [x["found"] for x in batch[1:]])
    for _ in range(2):
        optimizer.zero_grad()
        sum(model(batch).values()).backward()
        optimizer.step()
    assert all(not module.training for module in model.teacher.modules())
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    after = model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {f"student.{name}" for name, _ in model.student.named_parameters()} <= moved
    assert not [name for name in moved if name.startswith("teacher.")]


# --- a pass of the teacher ----------------------------------------------------------------------


def test_a_pass_detects_in_each_weak_view(build, unlabeled):
    model = build()
    views = [unlabeled(0)["weak_image"], unlabeled(1, size=(48, 80))["weak_image"]]
    found = model.family.teach(model.teacher, views).detections
    assert [f.image_size for f in found] == [(64, 96), (48, 80)]
    for detections, (height, width) in zip(found, ((64, 96), (48, 80))):
        assert set(detections.get_fields()) >= {"pred_boxes", "pred_classes", "scores"}
        assert len(detections) and detections.pred_boxes.nonempty().all()
        assert (detections.pred_boxes.tensor >= 0).all()
        assert (detections.pred_boxes.tensor <= torch.tensor([width, height] * 2)).all()
        assert (detections.scores > model.family.score_floor(model.teacher)).all()
        assert (detections.pred_classes < model.family.num_classes(model.teacher)).all()


def test_a_pass_measures_what_its_family_promises(build, unlabeled):
    model = build()
    views = [unlabeled(n)["weak_image"] for n in range(3)]
    seen = model.family.teach(model.teacher, views)
    assert isinstance(seen, MeasuresStability) == model.family.measures_stability
    if model.family.measures_stability:
        rows = [torch.arange(0), torch.tensor([1, 0]), torch.arange(1)]
        found, again = seen.variances(rows, [1, 2, 3]), seen.variances(rows, [1, 2, 3])
        assert [v.shape for v in found] == [(0,), (2,), (1,)]
        assert all((v >= 0).all() for v in found) and all(map(torch.equal, found, again))


def test_what_no_pass_can_measure_is_refused(build):
    jitter = ("SOFT_TEACHER.JITTER.ENABLED", True)
    if build().family.measures_stability:
        build(*jitter)
    else:
        with pytest.raises(ConfigError, match="set SOFT_TEACHER.JITTER.ENABLED to False$"):
            build(*jitter)


def test_given_labels_ask_no_teacher(build, labeled, unlabeled, detections, monkeypatch):
    model = build(
        *("SOFT_TEACHER.LABEL_SOURCE", "dataset", "SOFT_TEACHER.JITTER.ENABLED", False),
        *("SOFT_TEACHER.INDICATOR", "none"),
    )

    def fail(*args, **kwargs):
        raise AssertionError("the teacher was asked")

    for module in model.teacher.modules():
        monkeypatch.setattr(module, "forward", fail)
    given = detections(BOXES, CLASSES, [0.95] * 4)
    losses = model([labeled(), unlabeled(given_instances=given)])
    assert list(losses) == names_of(model) and all(loss > 0 for loss in losses.values())


def test_another_network_is_refused(build):
    model, other = build(), torch.nn.Linear(1, 1)
    with pytest.raises(ConfigError, match="Linear"):
        SoftTeacher(student=other, family=model.family, pseudo_labeler=PseudoLabeler())
