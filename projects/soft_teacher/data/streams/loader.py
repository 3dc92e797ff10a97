"""The training loader: a labeled and an unlabeled stream, joined by the labeled share."""

import gc
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import transforms as T
from detectron2.data.build import trivial_batch_collator
from detectron2.utils import comm

from ...utils.checks import check_choice
from ...utils.errors import ConfigError
from ..augmentation.instance_paste import InstancePaste
from ..augmentation.policies import build_policy
from ..datasets.dataset_dicts import class_names, labeled_dicts, train_names, unlabeled_dicts
from ..datasets.loading import loaded_once
from ..images.image import MAX_PIXELS
from ..images.sizes import image_sizes
from ..mapper import LabeledDatasetMapper, TwoViewDatasetMapper
from ..masks import MASK_FORMATS
from ..roles import KEYS, LABELED, UNLABELED
from ..semantic_maps import SemanticMaps
from ..unlabeled_annotations import LABEL_SOURCES
from .dataset import StreamDataset
from .order import StreamOrder
from .schedule import BatchSchedule, StreamBatchSampler
from .unreadable import UnreadableImages

__all__ = ["TwoStreamLoader", "build_two_stream_train_loader"]


class TwoStreamLoader:
    """Iterates over batches: a list of labeled samples followed by unlabeled ones.

    A rank takes ``chunks`` micro-batches at a step, as if each were another rank's. Set
    ``start_step`` before iterating to begin in the middle of a run.
    """

    def __init__(
        self,
        schedule: BatchSchedule,
        labeled: StreamDataset,
        unlabeled: StreamDataset | None,
        *,
        rank: int,
        num_workers: int,
        chunks: int = 1,
        max_unreadable: float = 0.0,
    ):
        """
        Args:
            schedule: images of each stream in every micro-batch of every rank at every step.
            labeled, unlabeled: the streams; without unlabeled images, None.
            rank: of this process.
            num_workers: worker processes of each stream; 0 loads in this process.
            chunks: micro-batches of a rank at a step.
            max_unreadable: see :class:`~soft_teacher.data.streams.unreadable.UnreadableImages`.
        """
        self.schedule = schedule
        self.chunks = chunks
        self.first_chunk = rank * chunks
        self.start_step = 0
        self._streams = {LABELED: labeled, UNLABELED: unlabeled}
        self._num_workers = num_workers
        self._unreadable = {
            stream: UnreadableImages(KEYS[stream], len(dataset), max_unreadable)
            for stream, dataset in self._streams.items()
            if dataset is not None
        }

    def __iter__(self):
        """Raises ConfigError when too many images are unreadable."""
        streams = [self._stream(LABELED), self._stream(UNLABELED)]
        for number, samples in enumerate(zip(*streams)):
            step = self.start_step + number // self.chunks
            for stream, part in enumerate(samples):
                self._note_unreadable(part, stream)
                for sample in part:  # its weight in the mean over the global batch, times the ranks
                    total = self.schedule.total(stream, step)
                    sample["image_weight"] = self.schedule.world_size / total
            yield samples[LABELED] + samples[UNLABELED]

    def identity(self) -> dict[str, object]:
        """What decides the batches beside the config: the images and the number of parts."""
        names = {KEYS[stream]: data.digest for stream, data in self._streams.items() if data}
        return {**names, "processes x TwoStreamLoader.chunks": self.schedule.world_size}

    def _stream(self, stream: int):
        dataset = self._streams[stream]
        if dataset is None:
            return itertools.repeat([])
        ranks = range(self.first_chunk, self.first_chunk + self.chunks)
        sampler = StreamBatchSampler(self.schedule, stream, ranks)
        sampler.start_step = self.start_step
        return torch.utils.data.DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=self._num_workers,
            collate_fn=trivial_batch_collator,
            worker_init_fn=_set_up_worker if self._num_workers else None,
            # an iterator samples a seed when it starts; not from the global generator
            generator=torch.Generator(),
        )

    def _note_unreadable(self, samples: list[dict], stream: int) -> None:
        for sample in samples:
            self._unreadable[stream].add(sample.pop("unreadable"))
            if "image" not in sample:
                self._unreadable[stream].give_up()


def _set_up_worker(worker_id: int) -> None:
    """Limits a worker to one core, and to the memory that it shares with its parent."""
    import cv2

    cv2.setNumThreads(0)
    # A collection writes to every object it visits, and so copies the pages of inherited ones.
    gc.freeze()


def _from_config(cfg):
    _C = cfg.SOFT_TEACHER
    policy = {
        "variant": _C.AUGMENTATION.VARIANT,
        "short_edge": _C.AUGMENTATION.SHORT_EDGE,
        "scale_range": tuple(_C.AUGMENTATION.SCALE_RANGE),
        "max_size": _C.AUGMENTATION.MAX_SIZE,
        "flip": _C.AUGMENTATION.FLIP,
        "max_angle": _C.AUGMENTATION.MAX_ANGLE,
        "image_format": cfg.INPUT.FORMAT,
    }
    labeled, unlabeled = train_names(cfg)
    paste = _C.AUGMENTATION.INSTANCE_PASTE
    return {
        "labeled_names": labeled,
        "unlabeled_names": unlabeled,
        "labeled_augmentations": build_policy("labeled", **policy),
        "strong_augmentations": build_policy("strong", **policy),
        "weak_augmentations": build_policy("weak", **policy),
        "image_format": cfg.INPUT.FORMAT,
        "max_pixels": cfg.INPUT.MAX_PIXELS,
        "masks": cfg.MODEL.MASK_ON,
        "mask_format": cfg.INPUT.MASK_FORMAT,
        "instance_paste": InstancePaste(prob=paste) if paste else None,
        "batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "labeled_share": _C.LABELED_SHARE,
        "decay_steps": _C.LABELED_SHARE_DECAY,
        "draw": _C.LABELED_DRAW,
        "burn_in": _C.BURN_IN,
        "max_iter": cfg.SOLVER.MAX_ITER,
        "chunks": cfg.SOLVER.GRADIENT_ACCUMULATION,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "filter_empty": cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "max_unreadable": cfg.DATALOADER.MAX_UNREADABLE,
        "hidden_labels": _C.WATCH.HIDDEN_LABELS,
        "label_source": _C.LABEL_SOURCE,
        "seed": cfg.SEED,
    }


@configurable(from_config=_from_config)
@loaded_once()
def build_two_stream_train_loader(
    *,
    labeled_names: Sequence[str],
    unlabeled_names: Sequence[str],
    labeled_augmentations: list[T.Augmentation],
    strong_augmentations: list[T.Augmentation],
    weak_augmentations: list[T.Augmentation],
    image_format: str,
    max_pixels: int = MAX_PIXELS,
    masks: bool = False,
    mask_format: str = "polygon",
    semantic_maps: SemanticMaps | None = None,
    instance_paste: InstancePaste | None = None,
    batch_size: int,
    labeled_share: float,
    decay_steps: int,
    draw: str = "global",
    burn_in: int = 0,
    max_iter: int,
    chunks: int = 1,
    num_workers: int,
    filter_empty: bool = True,
    aspect_ratio_grouping: bool = True,
    max_unreadable: float = 0.01,
    hidden_labels: bool = True,
    label_source: str = "teacher",
    seed: int,
) -> TwoStreamLoader:
    """The loader of semi-supervised training; with ``labeled_share`` 1, of the baseline.

    Args:
        labeled_names, unlabeled_names: registered datasets, or paths (:mod:`..datasets.paths`).
        labeled_augmentations, strong_augmentations, weak_augmentations: the three columns of
            Table 2.
        image_format: as the model expects it, "BGR" or "RGB".
        max_pixels: images with more of them count as unreadable.
        masks: whether the detector learns masks, so that annotations keep theirs.
        mask_format: of the masks to learn, "polygon" or "bitmask"; RLE need the latter.
        semantic_maps: of labeled images, for a detector that learns them; None for none.
        instance_paste: moves the objects of labeled images; None leaves them. It needs ``masks``
            in the format "bitmask".
        batch_size, labeled_share, decay_steps, draw, burn_in, max_iter: see
            :class:`~soft_teacher.data.streams.schedule.BatchSchedule`.
        chunks: micro-batches that each process takes at a step (gradient accumulation).
        num_workers: worker processes of each stream.
        filter_empty: drop labeled images without a box.
        aspect_ratio_grouping: give a rank either wide or tall images at a step, where possible.
        max_unreadable: share of a stream's images that may be unreadable; others replace them.
        hidden_labels: keep the ground truth of unlabeled images beside them, see
            :mod:`..unlabeled_annotations`.
        label_source: where pseudo boxes come from, "teacher" or "dataset" (precomputed).
        seed: of the run, the same on all ranks.

    Raises:
        ConfigError: for impossible settings or data that cannot be used.
    """
    if chunks < 1:
        raise ConfigError(f"TwoStreamLoader.chunks must be at least 1, got {chunks}")
    check_choice("SoftTeacher.label_source", label_source, LABEL_SOURCES)
    check_choice("TwoStreamLoader.mask_format", mask_format, MASK_FORMATS)
    if instance_paste is not None and not (masks and mask_format == "bitmask"):
        raise ConfigError(
            "InstancePaste.prob needs masks as bitmaps: set TwoStreamLoader.mask_format to "
            "'bitmask' for a detector with masks, or switch it off"
        )
    schedule = BatchSchedule(
        batch_size=batch_size,
        share=labeled_share,
        decay_steps=decay_steps,
        max_iter=max_iter,
        burn_in=burn_in,
        draw=draw,
        world_size=comm.get_world_size() * chunks,
        seed=seed,
    )

    def stream(dicts: list[dict], mapper: Callable, number: int) -> StreamDataset:
        wide = _is_wide(dicts) if aspect_ratio_grouping else None
        block = schedule.usual_count(number)
        order = StreamOrder(len(dicts), seed=seed, stream=number, wide=wide, block=block)
        return StreamDataset(dicts, mapper, order)

    wanted = mask_format if masks else None
    reading = {"image_format": image_format, "max_pixels": max_pixels, "mask_format": wanted}
    locate = list if semantic_maps is None else semantic_maps.located
    labeled = stream(
        labeled_dicts(labeled_names, filter_empty=filter_empty, mask_format=wanted, locate=locate),
        LabeledDatasetMapper(
            augmentations=labeled_augmentations,
            semantic_maps=semantic_maps,
            instance_paste=instance_paste,
            **reading,
        ),
        LABELED,
    )
    unlabeled = None
    if labeled_share < 1:
        mapper = TwoViewDatasetMapper(
            weak_augmentations=weak_augmentations,
            strong_augmentations=strong_augmentations,
            **reading,
        )
        dicts = unlabeled_dicts(
            unlabeled_names,
            hidden_labels=hidden_labels,
            label_source=label_source,
            classes=class_names(labeled_names),
            masks=masks,
        )
        unlabeled = stream(dicts, mapper, UNLABELED)
    return TwoStreamLoader(
        schedule,
        labeled,
        unlabeled,
        rank=comm.get_rank(),
        num_workers=num_workers,
        chunks=chunks,
        max_unreadable=max_unreadable,
    )


def _is_wide(dicts: list[dict]) -> np.ndarray:
    """bool (N,): which images are wider than high. Files are opened only for unknown sizes."""
    sizes = np.array([(d.get("height", 0), d.get("width", 0)) for d in dicts])
    unknown = np.flatnonzero(sizes.min(axis=1) <= 0)
    if len(unknown):
        sizes[unknown] = image_sizes([dicts[n]["file_name"] for n in unknown])
    return sizes[:, 1] > sizes[:, 0]
