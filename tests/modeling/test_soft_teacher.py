"""The two networks of the meta-architecture (Fig. 2)."""

import pytest
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.solver import build_optimizer
from steps import EVERYTHING, NOTHING, teach


def tensors(module):
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def snapshot(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(before, after):
    return list(before) == list(after) and all(torch.equal(before[k], after[k]) for k in before)


def test_the_teacher_starts_as_the_student_and_shares_no_memory_with_it(build):
    model = build()
    student, teacher = tensors(model.student), tensors(model.teacher)
    assert student.keys() == teacher.keys()
    assert all(torch.equal(student[k], teacher[k]) for k in student)
    memory = [{t.untyped_storage().data_ptr() for t in n.values()} for n in (student, teacher)]
    assert not memory[0] & memory[1]


def test_the_state_dict_holds_two_stock_detectors(build, tiny_cfg):
    stock = GeneralizedRCNN(tiny_cfg).state_dict()
    assert tiny_cfg.MODEL.ROI_HEADS.NAME == "StandardROIHeads"
    model = build()
    assert list(model.student.state_dict()) == list(stock)
    assert list(model.teacher.state_dict()) == list(stock)
    prefixed = [f"{network}.{key}" for network in ("student", "teacher") for key in stock]
    assert list(model.state_dict()) == prefixed


def test_the_optimizer_is_out_of_the_teachers_reach(build, tiny_cfg):
    model = build()
    assert not any(p.requires_grad for p in model.teacher.parameters())
    optimizer = build_optimizer(tiny_cfg, model)
    reached = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert reached == {id(p) for p in model.student.parameters()}


def modes(module):
    return {m.training for m in module.modules()}


def test_the_teacher_stays_in_eval_mode(build, labeled, unlabeled):
    model = build()
    assert modes(model.student) == {True} and modes(model.teacher) == {False}
    for mode in (False, True, True):
        model.train(mode)
        assert modes(model.student) == {mode} and modes(model.teacher) == {False}
    model([labeled(), unlabeled()])
    assert modes(model.student) == {True} and modes(model.teacher) == {False}
    model.eval()
    assert modes(model) == {False}


@pytest.mark.parametrize("bias", [NOTHING, EVERYTHING], ids=["nothing", "everything"])
def test_a_step_moves_the_student_alone(build, tiny_cfg, labeled, unlabeled, bias):
    model = build("SOFT_TEACHER.JITTER.VARIANCE_THRESH", 0.9)
    teach(model, bias)
    student, teacher = snapshot(model.student), snapshot(model.teacher)
    optimizer = build_optimizer(tiny_cfg, model)
    for step in range(2):
        optimizer.zero_grad()
        sum(model([labeled(step), unlabeled(step)]).values()).backward()
        optimizer.step()
        assert all(p.grad is None for p in model.teacher.parameters())
        assert same(teacher, model.teacher.state_dict())
        assert modes(model.teacher) == {False}
    moved = model.student.state_dict()
    assert all(not torch.equal(student[k], moved[k]) for k, _ in model.student.named_parameters())


def test_copying_the_student_takes_parameters_and_buffers_but_no_memory(build, labeled):
    model = build()
    model([labeled()])  # moves the running statistics
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter += 1
    assert not same(model.student.state_dict(), model.teacher.state_dict())
    model.copy_student_to_teacher()
    assert same(model.student.state_dict(), model.teacher.state_dict())
    copied = snapshot(model.teacher)
    model([labeled()])
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter += 1
    assert same(copied, model.teacher.state_dict())
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_in_evaluation_it_is_the_teacher_and_so_is_a_stock_detector(build, tiny_cfg, labeled):
    model = build()
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter += 0.1
    stock = GeneralizedRCNN(tiny_cfg).eval()
    stock.load_state_dict(model.teacher.state_dict())
    model.eval()
    batch = [{"image": labeled(key)["image"], "height": 128, "width": 192} for key in range(2)]
    with torch.no_grad():
        results = [network(batch) for network in (model, model.teacher, stock)]
    assert any(len(r["instances"]) for r in results[0])
    for image in range(2):
        of_model, of_teacher, of_stock = (r[image]["instances"].get_fields() for r in results)
        assert of_model.keys() == of_teacher.keys() == of_stock.keys()
        for key, value in of_stock.items():
            for other in (of_model[key], of_teacher[key]):
                value, other = (getattr(x, "tensor", x) for x in (value, other))
                assert torch.equal(value, other)
