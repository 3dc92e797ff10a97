"""Where the authors' released code differs from the paper, on top of any config of paper/.

The steps of the learning rate differ by setting: they are in the leaves.
"""


def use_reference(model, dataloader, ema, train) -> None:
    """Changes the config in place."""
    detector = model.student
    detector.proposal_generator.post_nms_topk = (1000, 1000)
    detector.roi_heads.update(cls_formula="reference", reg_normalizer="samples", average="gpu")
    model.family.jitter.update(distribution="normal", normalizer="refined", clip=True)
    model.family.teacher_proposals = "train"
    loader = dataloader.train
    loader.update(draw="per_rank", decay_steps=0)
    for policy in ("labeled", "strong", "weak"):
        loader[f"{policy}_augmentations"].variant = "reference"
    ema.buffers = False
    train.amp.update(enabled=True, precision="fp16")
