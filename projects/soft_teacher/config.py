"""Every config key that this project adds to Detectron2's."""

from detectron2.config import CfgNode as CN

__all__ = ["add_soft_teacher_config"]


def add_soft_teacher_config(cfg) -> None:
    """Adds the keys of Soft Teacher to a Detectron2 config, with the paper's partial-data defaults.

    Where the paper is silent the default is the released code's value; ``configs/`` holds the
    variants.
    """
    # So that Detectron2's own tools, DefaultPredictor for one, build both networks, too.
    cfg.MODEL.META_ARCHITECTURE = "SoftTeacher"

    # Labeled and unlabeled images: registered names, or paths (see data/datasets/paths.py). Braces
    # are filled from DATASETS.SPLIT. DATASETS.TRAIN is not used.
    cfg.DATASETS.TRAIN_LABELED = ()
    cfg.DATASETS.TRAIN_UNLABELED = ()
    # {FAMILY}, {PERCENT} and {FOLD} in the two names above: the split of a dataset to use.
    cfg.DATASETS.SPLIT = CN()
    cfg.DATASETS.SPLIT.FAMILY = "stac"
    cfg.DATASETS.SPLIT.PERCENT = 10.0
    cfg.DATASETS.SPLIT.FOLD = 1
    # Images with more pixels than this, by their headers, are not decoded and count as unreadable.
    cfg.INPUT.MAX_PIXELS = 180_000_000
    # Largest share of a stream's images that may be unreadable; one more stops the run.
    cfg.DATALOADER.MAX_UNREADABLE = 0.01

    # The multi-scale test of train_net.py --eval-only (Detectron2's TEST.AUG.ENABLED) and of
    # predict.py --tta: TEST.AUG.MIN_SIZES, each with its mirror image if TEST.AUG.FLIP.
    # Long edges, one for each of MIN_SIZES, in the place of MAX_SIZE; () uses that.
    cfg.TEST.AUG.MAX_SIZES = ()
    # (low, high) for each of MIN_SIZES: it contributes boxes whose sqrt(area), in pixels of the
    # image, lies in [low, high). () lets all contribute all.
    cfg.TEST.AUG.BOX_SIZES = ()

    # "SGD" (the paper) or "AdamW".
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Micro-batches per process and step; their gradients are accumulated.
    cfg.SOLVER.GRADIENT_ACCUMULATION = 1
    # Steps with an infinite or NaN loss that are skipped; one more stops the run.
    cfg.SOLVER.MAX_NONFINITE = 10
    # Periodic checkpoints to keep, 0 for all. The last and the best are always kept.
    cfg.SOLVER.CHECKPOINTS_TO_KEEP = 5
    # Number format used if SOLVER.AMP.ENABLED: "fp16" (released code) or "bf16".
    cfg.SOLVER.AMP.PRECISION = "fp16"

    cfg.SOFT_TEACHER = _C = CN()

    # Meta-architecture of student and teacher, a name in Detectron2's registry. A config that sets
    # MODEL.META_ARCHITECTURE to it means the same.
    _C.DETECTOR = "GeneralizedRCNN"

    # Weight of the unsupervised loss, alpha of Eq. 1 (released: 4.0 partial, 2.0 full).
    _C.ALPHA = 4.0
    # First steps, on labeled images only while the teacher copies the student. The slots of
    # unlabeled images in the batch stay empty.
    _C.BURN_IN = 0

    # s_r: share of labeled images among SOLVER.IMS_PER_BATCH (0.2 partial, 0.5 full). At 1 there
    # is no unlabeled stream: the supervised baseline.
    _C.LABELED_SHARE = 0.2
    # The share falls linearly to 0 over this many last steps (10000 partial, 20000 full).
    _C.LABELED_SHARE_DECAY = 10000
    # "global": the number of labeled images is drawn once per step for all ranks (Eq. 2, 3).
    # "per_rank": from a binomial on each rank, at least one image of each stream (released code).
    _C.LABELED_DRAW = "global"

    # Where the pseudo boxes of unlabeled images come from: the "teacher" (end to end), or
    # the annotations of the "dataset", precomputed once (multi-stage, Table 6).
    _C.LABEL_SOURCE = "teacher"
    # tau_cls: a detection scored above it is a pseudo box for classification (Table 9).
    _C.SCORE_THRESH = 0.9
    # Thresholds for each class in place of SCORE_THRESH, where they start, and of
    # JITTER.SCORE_THRESH: those at which pseudo boxes per image are as dense as labeled boxes.
    _C.DENSITY = CN()
    _C.DENSITY.ENABLED = False
    # Pseudo boxes per labeled box.
    _C.DENSITY.FOREGROUND = 0.8
    # Detections per labeled box above the lower threshold; what lies between the two is neither
    # object nor background. 0: there is no lower threshold.
    _C.DENSITY.IGNORE = 0.0
    # Pseudo boxes for regression per labeled box, by score, in place of JITTER. 0: by that.
    _C.DENSITY.REGRESSION = 0.0
    # Unlabeled images over which the teacher's scores are averaged.
    _C.DENSITY.WINDOW = 200
    # No threshold is lower.
    _C.DENSITY.FLOOR = 0.05
    # Reliability of a background box (Table 8): "bg_teacher", "bg_student", "pred_diff", "iou",
    # "reverse_iou", or "none" for Detectron2's plain mean.
    _C.INDICATOR = "bg_teacher"
    # "paper": foreground mean + backgrounds with weights that sum to 1 (Eq. 4, 5). "reference":
    # sum(fg + r * bg) / max(N_fg + sum(r), 1).
    _C.CLS_FORMULA = "paper"
    # Denominator of the regression loss: "foreground" (Eq. 10) or "samples" (released code).
    _C.REG_NORMALIZER = "foreground"
    # "image": normalise per image, average over the global batch (Eq. 2, 3). "gpu": over all
    # images of a GPU at once, ranks averaged equally (released code).
    _C.AVERAGE = "image"
    # Train the RPN on the pseudo boxes for classification (released code; the paper is silent).
    _C.RPN_ON_UNLABELED = True
    # RPN proposals of the teacher while it labels: as many as at "test" or as in "train".
    _C.TEACHER_PROPOSALS = "test"

    # Whose BatchNorm statistics the networks keep: those of "all" images, in one pass of both
    # streams, or of the "labeled" ones, in a pass of their own.
    _C.STATISTICS = "all"

    # Box jittering (Eq. 7-9). Without it the boxes for classification train regression, too.
    _C.JITTER = CN()
    _C.JITTER.ENABLED = True
    # N_jitter: refined copies per box (Table 11).
    _C.JITTER.NUM = 10
    # Offsets relative to the box's side: uniform in +-SCALE (paper) or normal with this sigma.
    _C.JITTER.SCALE = 0.06
    _C.JITTER.DISTRIBUTION = "uniform"
    # Only boxes scored above this are jittered.
    _C.JITTER.SCORE_THRESH = 0.5
    # tau_var: boxes with a smaller variance are pseudo boxes for regression (Table 10).
    _C.JITTER.VARIANCE_THRESH = 0.02
    # In place of VARIANCE_THRESH: the share of an image's measured boxes that are stable, those of
    # the smallest variances. 0: the threshold.
    _C.JITTER.STABLE_SHARE = 0.0
    # "candidate": 0.5 (h + w) of the jittered box (Eq. 9). "refined": x by w and y by h of the
    # mean refined box, at least 1 pixel (released code).
    _C.JITTER.NORMALIZER = "candidate"
    # Clip refined boxes to the image (released code).
    _C.JITTER.CLIP_REFINED = False

    # Instance masks of unlabeled images, of a detector with MODEL.MASK_ON.
    _C.MASK = CN()
    # Learn them; without it only boxes are learned from unlabeled images. On the digits the masks
    # of unlabeled images made those of the detector no better (docs/detectors.md).
    _C.MASK.ENABLED = False
    # Whose foregrounds learn masks: those of G_reg ("regression") or of G_cls ("classification").
    _C.MASK.TARGETS = "regression"
    # Learn the teacher's probabilities, not whether they are at least 0.5.
    _C.MASK.SOFT = False
    # Pixels whose probability is within this of 0.5 have no loss.
    _C.MASK.IGNORE = 0.0
    # Weight the loss of a mask by the mean probability of its foreground pixels.
    _C.MASK.QUALITY = False

    # Cascades, of which the paper says nothing.
    _C.CASCADE = CN()
    # r of the backgrounds of a stage: by the teacher's same "stage", or by the "mean" over all its
    # stages, through which the boxes then pass.
    _C.CASCADE.SCORES = "stage"
    # Stages of the teacher that refine jittered boxes: "all", or the "last" alone.
    _C.CASCADE.JITTER = "all"

    # Teacher <- MOMENTUM * teacher + (1 - MOMENTUM) * student after the optimizer's step.
    # MOMENTUM 0 is "no EMA": the teacher is the student.
    _C.EMA = CN()
    _C.EMA.MOMENTUM = 0.999
    # Rise to MOMENTUM as 1 - 1 / (t + 1), t counted from the end of the burn-in.
    _C.EMA.RAMP = True
    # Average from the first step on; False copies the student until the end of the burn-in.
    _C.EMA.THROUGH_BURN_IN = False
    # Update every INTERVAL steps.
    _C.EMA.INTERVAL = 1
    # Average floating-point buffers (BN statistics), too; False leaves the teacher's alone.
    _C.EMA.BUFFERS = True

    # Augmentation of the three columns of Table 2: "paper" or "reference".
    _C.AUGMENTATION = CN()
    _C.AUGMENTATION.VARIANT = "paper"
    # Short edge = SHORT_EDGE * U(SCALE_RANGE), long edge at most MAX_SIZE, pixels.
    _C.AUGMENTATION.SHORT_EDGE = 800
    _C.AUGMENTATION.SCALE_RANGE = (0.5, 1.5)
    _C.AUGMENTATION.MAX_SIZE = 1333
    # Horizontal flip with probability 0.5.
    _C.AUGMENTATION.FLIP = True
    # Largest angle of rotation and shear, degrees.
    _C.AUGMENTATION.MAX_ANGLE = 30.0
    # Chance that the objects of a labeled image are cut out and pasted near their old places, as by
    # InstaBoost; for detectors with masks and INPUT.MASK_FORMAT bitmask.
    _C.AUGMENTATION.INSTANCE_PASTE = 0.0

    # Let --resume continue although the config or the data has changed.
    _C.RESUME_CHANGED = False
    # Monitoring; docs/monitoring.md.
    _C.WATCH = CN()
    # Steps with unlabeled images between checks of the health of the pseudo boxes.
    _C.WATCH.PATIENCE = 200
    # Measure pseudo boxes against held-out ground truth of unlabeled images, where there is any.
    _C.WATCH.HIDDEN_LABELS = True
    # Weights & Biases: a PROJECT switches it on; with an empty NAME it chooses one.
    _C.WATCH.WANDB = CN()
    _C.WATCH.WANDB.PROJECT = ""
    _C.WATCH.WANDB.NAME = ""

    # Soft-NMS, class by class, "linear" or "gaussian", in place of NMS: "none". Linear begins at an
    # IoU of MODEL.ROI_HEADS.NMS_THRESH_TEST. Both drop what falls below SCORE_THRESH_TEST there.
    _C.SOFT_NMS = "none"
    # Scores times exp(-IoU^2 / sigma), for "gaussian".
    _C.SOFT_NMS_SIGMA = 0.5

    # Networks to evaluate: "student", "teacher" or both.
    _C.EVAL_NETWORKS = ("student", "teacher")

    # The small ResNet-FPN "build_small_resnet_fpn_backbone" of the embedded dataset.
    _C.SMALL_RESNET = CN()
    # Channels of the stem and of the stages res2, res3 and on.
    _C.SMALL_RESNET.STEM_CHANNELS = 16
    _C.SMALL_RESNET.STAGE_CHANNELS = (24, 48, 96)
    # Basic blocks per stage.
    _C.SMALL_RESNET.BLOCKS = (1, 1, 1)
