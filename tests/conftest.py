"""What the tests share: a tiny digits dataset under its registered names, a tiny detector."""

import logging

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from soft_teacher import add_soft_teacher_config
from soft_teacher.data.datasets.builtin import register_builtin
from soft_teacher.data.datasets.splits.families import read_coco_ids, without_replacement_split
from soft_teacher.data.datasets.splits.manifest import write_manifest
from soft_teacher.demo.digits import DigitsSpec, generate

torch.set_num_threads(1)

TINY = DigitsSpec(
    image_size=64, max_objects=3, digit_size=(16, 32), num_train=12, num_unlabeled=6, num_val=4
)


@pytest.fixture(scope="session")
def datasets_folder(tmp_path_factory):
    """$DETECTRON2_DATASETS with a tiny digits dataset and fold 1 of 4 labeled images."""
    root = tmp_path_factory.mktemp("datasets")
    files = generate(root / "digits", TINY)
    ids = read_coco_ids(files["train"])["without_replacement"]
    split = without_replacement_split(ids, count=4, fold=1, source="digits_train")
    write_manifest(split, root / "digits" / "splits" / "fold1.json")
    return root


@pytest.fixture(scope="session")
def tiny_digits(datasets_folder):
    """The tiny dataset registered as digits_train, digits_fold1_labeled and so on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(datasets_folder))
        # A demo leaves digits of its own in the checkout.
        for name in [n for n in DatasetCatalog.list() if n.startswith("digits_")]:
            DatasetCatalog.remove(name)
            MetadataCatalog.pop(name, None)
        register_builtin()
        yield datasets_folder


@pytest.fixture(autouse=True)
def same_catalogs():
    """Both catalogs as they were before a test, whatever it registers or forgets."""
    before = [(catalog, dict(catalog)) for catalog in (DatasetCatalog, MetadataCatalog)]
    yield
    for catalog, items in before:
        catalog.clear()
        catalog.update(items)


@pytest.fixture
def own_catalog(tmp_path, monkeypatch):
    """A cache of its own beside the catalogs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tiny_cfg():
    """A Faster R-CNN of some thousand parameters; three classes."""
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_small_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4"]
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[12], [24], [48]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4"]
    cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 16
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 24
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 12
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3"]
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 3
    cfg.MODEL.RETINANET.NUM_CLASSES = 3
    cfg.MODEL.RETINANET.IN_FEATURES = ["p2", "p3", "p4"]
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    cfg.SOFT_TEACHER.SMALL_RESNET.STEM_CHANNELS = 4
    cfg.SOFT_TEACHER.SMALL_RESNET.STAGE_CHANNELS = (4, 6, 8)
    cfg.SOFT_TEACHER.SMALL_RESNET.BLOCKS = (1, 1, 1)
    return cfg


@pytest.fixture(autouse=True)
def our_messages(caplog, monkeypatch):
    """``caplog`` hears our logger, which Detectron2's set-up would cut off from the root."""
    logger = logging.getLogger("soft_teacher")
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(caplog.handler)
    yield
    logger.removeHandler(caplog.handler)
