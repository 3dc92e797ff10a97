"""soft-teacher-convert: what it prints, and what it refuses in one line."""

import json

import pytest
import torch
from coco import ROOT
from detectron2.config import instantiate
from foreign import as_mmdetection, narrow_detector, save, save_annotations, two_networks

from soft_teacher.commands import convert
from soft_teacher.experiment.entry import load_experiment


@pytest.fixture(scope="module")
def state():
    return as_mmdetection(narrow_detector())


@pytest.fixture
def annotations(tmp_path):
    return save_annotations(tmp_path / "train.json", (3, "cow"), (1, "ant"), (2, "bee"))


@pytest.fixture
def failure(tmp_path, capsys):
    """The one line of a refused call; nothing has been written."""

    def failure(*options):
        assert call(tmp_path, *options) == 2
        line = capsys.readouterr().err
        assert line.startswith("error: ") and line.count("\n") == 1
        assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]
        return line

    return failure


def call(folder, *options):
    return convert.main([str(o) for o in (*options, "--output", folder / "out")])


def test_a_folder_is_written_and_described(state, annotations, tmp_path, capsys):
    path = save(tmp_path / "a.pth", state, optimizer={})
    assert call(tmp_path, path, "--annotations", annotations) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "295 tensors converted, 53 counters of batches dropped, 0 unknown",
        "left out: meta, optimizer",
        f"written: {tmp_path / 'out'}, 3 classes",
    ]
    names = ["classes.json", "config.yaml", "keys.tsv", "model.pth"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert json.loads((tmp_path / "out" / "classes.json").read_text()) == ["ant", "bee", "cow"]
    assert call(tmp_path, path, "--annotations", annotations) == 2
    assert "is there already: name another" in capsys.readouterr().err


def test_style_and_classes_that_are_not_known(state, annotations, tmp_path, failure):
    path = save(tmp_path / "a.pth", state)
    assert "are not COCO's" in failure(path)
    assert "but the checkpoint's own config says caffe" in failure(path, "--style", "pytorch")
    path = save(tmp_path / "b.pth", state, meta={})
    assert "add --style caffe" in failure(path, "--annotations", annotations)


def test_other_layouts(state, tmp_path, failure):
    path = save(tmp_path / "a.pth", {**state, "extra.weight": state["backbone.bn1.weight"]})
    assert f"checkpoint '{path}' cannot be converted: it has tensors of an unknown" in failure(path)
    half = {k: v for k, v in two_networks(narrow_detector(), narrow_detector()).items()}
    del half["teacher.rpn_head.rpn_cls.bias"]
    assert "have different tensors" in failure(save(tmp_path / "b.pth", half))


def test_no_file(tmp_path, failure):
    assert "does not exist" in failure(tmp_path / "gone.pth")


# --- into the detector of a config


CONFIG = str(ROOT / "configs" / "demo" / "htc_swin.py")


def test_what_fits_into_a_config_is_written_and_described(tmp_path, capsys):
    network = instantiate(load_experiment(CONFIG).cfg.model.student)
    body = {
        name.removeprefix("backbone.bottom_up."): value
        for name, value in network.state_dict().items()
        if name.startswith("backbone.bottom_up.layers") or "patch_embed" in name
    }
    torch.save({"model": {**body, "head.weight": torch.ones(2)}}, tmp_path / "swin.pth")
    pixels = [
        *("dataloader.train.image_format=RGB", "dataloader.test.mapper.image_format=RGB"),
        "model.student.pixel_mean=[123.675,116.28,103.53]",
        "model.student.pixel_std=[58.395,57.12,57.375]",
    ]
    path, out = str(tmp_path / "swin.pth"), str(tmp_path / "out")
    options = ["--output", out, "--config-file", CONFIG, "--opts", *pixels]
    assert convert.main([path, *options]) == 0
    first, loaded, anew, written = capsys.readouterr().out.splitlines()
    assert first == f"tensors of the file: {len(body)} loaded, 1 not in the detector"
    everything = len(network.state_dict())
    assert loaded == f"loaded: {len(body)} of {everything}: backbone.bottom_up ({len(body)})"
    assert anew.startswith(
        f"initialized anew: {everything - len(body)} of {everything}: backbone.fpn"
    )
    assert "backbone.bottom_up (6)" in anew and "roi_heads.semantic_head" in anew
    assert written == f"written: {out}"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["keys.tsv", "model.pth"]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--config-file", CONFIG, "--style", "caffe"], "--style is the config's"),
        (["--new-classes"], "--new-classes and --opts need --config-file"),
        (["--config-file", "gone.py"], "--config-file 'gone.py' does not exist"),
        (["--config-file", CONFIG], "checkpoint 'a.pth' does not exist"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together(options, message, failure):
    assert message in failure("a.pth", *options)
