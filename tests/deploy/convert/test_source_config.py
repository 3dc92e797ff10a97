"""The config inside a checkpoint: what is read of it, and that it is not run."""

import pytest
from foreign import config_text

from soft_teacher import ConfigError
from soft_teacher.deploy.convert.source_config import USUAL, Pixels, SourceConfig


def test_without_a_config_the_user_says_the_style():
    config = SourceConfig("")
    config.check()
    assert config.thresholds() == {}
    assert config.style("caffe") == "caffe" and config.pixels("pytorch") == USUAL["pytorch"]
    with pytest.raises(ConfigError, match="add --style caffe"):
        config.style()


@pytest.mark.parametrize("style", ["caffe", "pytorch"])
def test_the_style_is_that_of_the_backbone(style):
    config = SourceConfig(config_text(style))
    config.check()
    assert config.style() == config.style(style) == style
    other = {"caffe": "pytorch", "pytorch": "caffe"}[style]
    with pytest.raises(ConfigError, match=f"--style {other}, but .* config says {style}"):
        config.style(other)


def test_pixels_of_both_versions():
    two = "img_norm_cfg = dict(mean=[1, 2, 3], std=[4, 5, 6], to_rgb=True)"
    assert SourceConfig(two).pixels("caffe") == Pixels("RGB", [1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    three = """
model = dict(type='SoftTeacher', detector=dict(
    data_preprocessor=dict(mean=[1, 2, 3], std=[1, 1, 1], bgr_to_rgb=False)))
"""
    assert SourceConfig(three).pixels("pytorch") == Pixels("BGR", [1.0, 2.0, 3.0], [1.0] * 3)


def test_thresholds_of_detections():
    text = "test_cfg = dict(rcnn=dict(score_thr=0.1, nms=dict(iou_threshold=0.6), max_per_img=7))"
    assert SourceConfig(text).thresholds() == {
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.1,
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.6,
        "TEST.DETECTIONS_PER_IMAGE": 7,
    }


@pytest.mark.parametrize(
    "text, line",
    [
        ("model = dict(rpn=dict(anchor_generator=dict(scales=[4])))", "anchor_generator.scales"),
        ("a = {'bbox_coder': {'target_stds': [0.2, 0.2, 0.2, 0.2]}}", "bbox_coder.target_stds"),
        ("a = dict(roi_layer=dict(type='RoIPool', output_size=7))", "roi_layer.type = 'RoIPool'"),
    ],
)
def test_what_the_conversion_takes_for_granted(text, line):
    with pytest.raises(ConfigError, match=line):
        SourceConfig(text).check()


def test_a_contradiction():
    text = "a = dict(backbone=dict(style='caffe'))\nb = [dict(backbone=dict(style='pytorch'))]"
    with pytest.raises(ConfigError, match="backbone.style = 'caffe' and 'pytorch'"):
        SourceConfig(text).style()


def test_the_config_is_not_run(tmp_path):
    marker = tmp_path / "marker"
    text = f"a = open({str(marker)!r}, 'w')\nbackbone = dict(style='caffe', depth=len('abc'))"
    assert SourceConfig(text).style() == "caffe"
    assert not marker.exists()
    with pytest.raises(ConfigError, match="own config cannot be read"):
        SourceConfig("model = dict(")
