"""What the recipe may rely on, whatever kind of detector it trains."""

import re

import pytest
import torch
from contract import CASES, dealt, gradients_after, let_find, step_on_rank
from detectron2.engine import launch
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.solver import build_optimizer
from mask_shapes import with_polygons, with_pred_masks
from steps import BOXES, CLASSES, COMPOSITIONS, NAN, SIZE, detections
from steps import labeled as labeled_with_boxes
from steps import targets, unlabeled

from soft_teacher import ConfigError
from soft_teacher.modeling import PseudoLabeler, SoftTeacher
from soft_teacher.modeling.families.base import FAMILY_REGISTRY, MeasuresStability


def test_every_detector_that_can_be_wrapped_is_held_to_the_contract():
    detectors = {name for _, family in FAMILY_REGISTRY for name in family.detectors}
    assert detectors == {case[1] for case in CASES.values()}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


@pytest.fixture
def build(build, case):
    """build("KEY", value, ...): a SoftTeacher around each kind of detector."""
    return lambda *opts: build(*case, *opts)


@pytest.fixture
def stock(tiny_cfg, case):
    """The detector as Detectron2 builds it."""
    tiny_cfg.merge_from_list(list(case))
    return META_ARCH_REGISTRY.get(tiny_cfg.SOFT_TEACHER.DETECTOR)(tiny_cfg)


# Two objects that no proposal but their own boxes matches: as many positives in every image.
LONG = targets([[6, 8, 66, 14], [80, 4, 86, 60]], [0, 2])

# Masks and semantic maps are there for whom they concern.


def labeled(key=0, **fields):
    """A labeled image, different for every key."""
    image = labeled_with_boxes(key, **{"instances": LONG, **fields})
    stuff = torch.randint(5, SIZE, generator=torch.Generator().manual_seed(key))
    return {**image, "instances": with_polygons(image["instances"]), "sem_seg": stuff.byte()}


def seen(key, **fields):
    """An unlabeled image in which the teacher finds some boxes, others for every key."""
    boxes, classes = BOXES[key % 3 :], CLASSES[key % 3 :]
    found = detections(boxes, classes, [0.95, 0.6, 0.91, 0.93][: len(boxes)])
    image = unlabeled(key, **{"found": found, **fields})
    return {**image, "found": with_pred_masks(image["found"], seed=key)}


# --- a step


def names_of(model):
    """The losses of every step."""
    family = model.family
    names = [f"sup/{name}" for name in family.loss_names(model.student)]
    return names + [f"unsup/{name}" for name in family.pseudo_loss_names(model.student)]


# Fields of labeled and of unlabeled images.
SCENES = {
    "nothing there": ({"instances": targets()}, {"found": detections()}),
    "nothing found": ({}, {"found": detections()}),
    "everything": ({}, {}),
}


@pytest.mark.parametrize("n_labeled, n_unlabeled", [(0, 0), *COMPOSITIONS.values()])
@pytest.mark.parametrize("name", SCENES)
def test_every_step_has_the_same_losses_and_reaches_every_parameter(
    build, name, n_labeled, n_unlabeled
):
    model = build()
    sup, unsup = SCENES[name]
    batch = [labeled(n, **sup) for n in range(n_labeled)]
    losses, gradients = gradients_after(
        model, batch + [seen(n, **unsup) for n in range(n_unlabeled)]
    )
    assert list(losses) == names_of(model)
    for key, loss in losses.items():
        assert loss.shape == () and loss.dtype == torch.float32 and loss.isfinite(), key
        absent = not (n_labeled if key.startswith("sup/") else n_unlabeled)
        assert loss == 0 if absent else loss > 0 if name == "everything" else loss >= 0, key
    for key, gradient in gradients.items():
        assert gradient is not None and gradient.isfinite().all(), key


def test_images_of_different_sizes_share_a_step(build):
    model = build()
    batch = [labeled(), seen(0, size=(48, 80), weak_size=(96, 40)), seen(1)]
    losses, _ = gradients_after(model, batch)
    assert list(losses) == names_of(model) and all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize(
    "place", ["labeled image", "strong view", "weak view", "student", "teacher"]
)
def test_nan_costs_no_loss_its_name_and_no_parameter_its_gradient(build, place):
    """A rank that raised, or skipped a parameter, would leave the others waiting for it."""
    model = build()
    batch = [labeled(), seen(0), seen(1)]
    views = {
        "labeled image": (0, "image"),
        "strong view": (1, "image"),
        "weak view": (2, "weak_image"),
    }
    if place in views:
        row, view = views[place]
        batch[row][view] = torch.full((3, *SIZE), NAN)
    else:
        for parameter in getattr(model, place).parameters():
            parameter.data.fill_(NAN)
    losses, gradients = gradients_after(model, batch)
    assert list(losses) == names_of(model)
    assert all(gradient is not None for gradient in gradients.values())
    if place not in ("weak view", "teacher"):
        assert not sum(losses.values()).isfinite()


# --- means over the global batch (Eq. 2, 3)

# images of each part: labeled, unlabeled
DEALT = {
    "one process": ((4,), (4,)),
    "two processes, 3 + 1": ((3, 1), (1, 3)),
    "two processes, 3 + 1 of one stream": ((4, 0), (1, 3)),
    "accumulation 2": ((2, 2), (2, 2)),
}


def parts_of(counts):
    """Batches with images of both streams, four each in all."""
    streams = [labeled(n) for n in range(4)], [seen(n) for n in range(4)]
    return [one + other for one, other in zip(*map(dealt, streams, counts))]


def whole(model):
    return gradients_after(model, [*map(labeled, range(4)), *map(seen, range(4))])


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
def test_parts_of_a_batch_average_to_the_whole(build, counts):
    model = build()
    assert_average([gradients_after(model, part) for part in parts_of(counts)], whole(model))


@pytest.mark.long
@pytest.mark.parametrize("counts", [DEALT[name] for name in DEALT if "3 + 1" in name], ids=str)
def test_two_processes_average_to_the_whole(build, counts, tmp_path):
    model = build()
    launch(step_on_rank, 2, dist_url="auto", args=(model, parts_of(counts), str(tmp_path)))
    ranks = [torch.load(tmp_path / f"{rank}.pth") for rank in range(2)]
    assert_average(ranks, whole(model))
    one, other = (gradients for _, gradients in ranks)
    assert all(torch.equal(one[name], other[name]) for name in one)


# --- thresholds for each class

BY_DENSITY = ("SOFT_TEACHER.DENSITY.ENABLED", True)
WITH_BAND = (*BY_DENSITY, "SOFT_TEACHER.DENSITY.IGNORE", 3.0)


def test_thresholds_by_density_choose_the_pseudo_boxes_and_are_no_weights(build, storage):
    model, plain = build(*BY_DENSITY), build("SOFT_TEACHER.SCORE_THRESH", 0.99)
    assert list(model.state_dict()) == list(plain.state_dict())
    model.pseudo_labeler.density.thresholds.copy_(torch.tensor([[0.94, 0.9, 0.92]]))
    batch = [labeled(), seen(0)]
    losses, gradients = gradients_after(model, batch)
    # Of the classes 0, 2, 1, 2 with scores of 0.95, 0.6, 0.91, 0.93.
    assert storage.latest()["pseudo/num_cls_boxes"][0] == 3
    assert list(losses) == names_of(model)
    assert all(loss > 0 for loss in losses.values())
    assert all(g is not None and g.isfinite().all() for g in gradients.values())


def test_boxes_are_ignored_where_the_family_can_and_else_refused_in_one_line(build):
    plain = build()
    # A plan must not suggest what is refused.
    assert bool(plain.family.ignore) == plain.family.ignores_boxes(plain.student)
    if not plain.family.ignores_boxes(plain.student):
        with pytest.raises(ConfigError, match="set SOFT_TEACHER.DENSITY.IGNORE to 0$") as error:
            build(*WITH_BAND)
        assert "\n" not in str(error.value)
        return
    model = build(*WITH_BAND)
    model.pseudo_labeler.density.thresholds.copy_(torch.tensor([[0.92], [0.5]]).expand(2, 3))
    losses, gradients = whole(model)
    model.pseudo_labeler.density.thresholds[1] = 0.92
    without, _ = whole(model)
    changed = {name for name in losses if losses[name] != without[name]}
    of_classes = {name for name in losses if re.match(r"unsup/loss_(rpn_)?cls", name)}
    assert {"unsup/loss_rpn_cls"} < changed <= of_classes
    model.pseudo_labeler.density.thresholds[1] = 0.5
    for counts in DEALT.values():
        parts = [gradients_after(model, part) for part in parts_of(counts)]
        assert_average(parts, (losses, gradients))


# --- the two networks


def snapshot(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(before, module):
    after = module.state_dict()
    return list(before) == list(after) and all(torch.equal(before[k], after[k]) for k in before)


def modes(module):
    return {m.training for m in module.modules()}


def move(network):
    """Changes parameters and buffers."""
    for tensor in network.state_dict().values():
        tensor += 0.1


def shapes(network):
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def test_both_networks_have_the_state_of_the_stock_detector(build, stock):
    model = build()
    assert list(shapes(stock).items()) == list(shapes(model.student).items())
    keys = [f"{network}.{key}" for network in ("student", "teacher") for key in shapes(stock)]
    assert list(model.state_dict()) == keys
    settings = vars(model.family).values()
    assert not any(isinstance(value, (torch.Tensor, torch.nn.Module)) for value in settings)


def test_the_teacher_starts_as_the_student_and_shares_no_memory_with_it(build):
    model = build()
    for copy in (lambda: None, model.copy_student_to_teacher):
        copy()
        assert same(snapshot(model.student), model.teacher)
        before = snapshot(model.teacher)
        move(model.student)
        assert same(before, model.teacher) and not same(before, model.student)


def test_the_teacher_stays_in_eval_mode(build):
    model = build()
    for mode in (True, False, True):
        model.train(mode)
        assert modes(model.student) == {mode} and modes(model.teacher) == {False}
    model.eval()
    assert modes(model) == {False}


def test_in_evaluation_it_is_the_teacher_and_so_is_a_stock_detector(build, stock):
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


def test_a_step_moves_the_student_alone(build, tiny_cfg):
    model = build()
    student, teacher = snapshot(model.student), snapshot(model.teacher)
    attributes = set(vars(model.student))
    optimizer = build_optimizer(tiny_cfg, model)
    reached = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert reached == {id(p) for p in model.student.parameters() if p.requires_grad}
    batch = [labeled(), seen(0), seen(1)]
    let_find(model, [x["found"] for x in batch[1:]])
    for _ in range(2):
        optimizer.zero_grad()
        sum(model(batch).values()).backward()
        optimizer.step()
    assert modes(model.student) == {True} and modes(model.teacher) == {False}
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    assert same(teacher, model.teacher)
    assert all(not torch.equal(student[name], p) for name, p in model.student.named_parameters())
    # Nothing is left behind that a checkpoint does not hold.
    assert set(vars(model.student)) == attributes


# --- a pass of the teacher


def test_a_pass_detects_in_each_weak_view(build):
    model = build()
    sizes = [(64, 96), (48, 80)]
    views = [unlabeled(n, size=size)["weak_image"] for n, size in enumerate(sizes)]
    found = model.family.teach(model.teacher, views).detections
    for image, (height, width) in zip(found, sizes, strict=True):
        assert image.image_size == (height, width)
        assert set(image.get_fields()) >= {"pred_boxes", "pred_classes", "scores"}
        assert image.has("pred_masks") == model.family.has_masks(model.student)
        assert len(image) and image.pred_boxes.nonempty().all()
        assert (image.pred_boxes.tensor >= 0).all()
        assert (image.pred_boxes.tensor <= torch.tensor([width, height] * 2)).all()
        assert (image.scores > model.family.score_floor(model.teacher)).all()
        assert (image.pred_classes < model.family.num_classes(model.teacher)).all()


def test_a_pass_measures_what_its_family_promises(build):
    model = build()
    jitter = ("SOFT_TEACHER.JITTER.ENABLED", True)
    views = [unlabeled(n)["weak_image"] for n in range(3)]
    found = model.family.teach(model.teacher, views)
    assert isinstance(found, MeasuresStability) == model.family.measures_stability
    if not model.family.measures_stability:
        with pytest.raises(ConfigError, match="set SOFT_TEACHER.JITTER.ENABLED to False$"):
            build(*jitter)
        return
    build(*jitter)
    rows = [torch.arange(0), torch.tensor([1, 0]), torch.arange(1)]
    variances, again = found.variances(rows, [1, 2, 3]), found.variances(rows, [1, 2, 3])
    assert [v.shape for v in variances] == [(0,), (2,), (1,)]
    assert all((v >= 0).all() for v in variances) and all(map(torch.equal, variances, again))


def test_precomputed_pseudo_labels_need_no_teacher(build):
    model = build(
        *("SOFT_TEACHER.LABEL_SOURCE", "dataset", "SOFT_TEACHER.JITTER.ENABLED", False),
        *("SOFT_TEACHER.INDICATOR", "none"),
    )
    model.family.teach = None
    given = with_pred_masks(detections(BOXES, CLASSES, [0.95] * 4))
    losses = model([labeled(), unlabeled(given_instances=given)])
    assert list(losses) == names_of(model) and all(loss > 0 for loss in losses.values())


def test_another_network_is_refused(build):
    family = build().family
    with pytest.raises(ConfigError, match="Linear"):
        SoftTeacher(student=torch.nn.Linear(1, 1), family=family, pseudo_labeler=PseudoLabeler())
