"""The two streams and the test data of an experiment, which names its datasets and their sizes."""

from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.evaluation import COCOEvaluator
from omegaconf import DictConfig, OmegaConf

from soft_teacher.data.augmentation.policies import build_policy
from soft_teacher.data.mapper import InferenceMapper
from soft_teacher.data.streams.loader import build_two_stream_train_loader

MAX_PIXELS = 180_000_000


def dataloader_of(test: str, view: dict, *, num_workers: int) -> DictConfig:
    """``dataloader`` without what a leaf config adds: names, batch size and share.

    Args:
        test: dataset to evaluate on.
        view: keywords of ``build_policy`` for the three views; images are tested at the size of
            its short edge.
        num_workers: of each loader.
    """
    parts = dict(
        train=L(build_two_stream_train_loader)(
            labeled_augmentations=L(build_policy)(name="labeled", variant="paper", **view),
            strong_augmentations=L(build_policy)(name="strong", variant="paper", **view),
            weak_augmentations=L(build_policy)(name="weak", variant="paper", **view),
            image_format="BGR",
            max_pixels=MAX_PIXELS,
            masks=False,
            mask_format="polygon",
            draw="global",
            burn_in="${train.burn_in}",
            max_iter="${train.max_iter}",
            seed="${train.seed}",
            num_workers=num_workers,
            aspect_ratio_grouping=True,
            max_unreadable=0.01,
            chunks=1,
            hidden_labels=True,
            label_source="${train.label_source}",
        ),
        test=L(build_detection_test_loader)(
            dataset=L(get_detection_dataset_dicts)(names=test, filter_empty=False),
            mapper=L(InferenceMapper)(
                augmentations=[
                    L(ResizeShortestEdge)(
                        short_edge_length=view["short_edge"],
                        max_size=view["max_size"],
                        sample_style="choice",
                    )
                ],
                image_format="BGR",
                max_pixels=MAX_PIXELS,
            ),
            num_workers=num_workers,
        ),
        # The views of train_net.py --eval-only if enabled, and of predict.py --tta.
        test_aug=dict(
            enabled=False,
            min_sizes=[400, 500, 600, 700, 800, 900, 1000, 1100, 1200],
            max_size=4000,
            max_sizes=[],
            flip=True,
            box_sizes=[],
        ),
        evaluator=L(COCOEvaluator)(dataset_name=test, tasks=("bbox",)),
    )
    return OmegaConf.create(parts, flags={"allow_objects": True})
