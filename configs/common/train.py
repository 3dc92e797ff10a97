"""The loop, its checkpoints and the teacher's update."""

from detectron2.config import LazyCall as L

from soft_teacher.engine import EMAHook

train = dict(
    init_checkpoint="",
    burn_in=0,
    # A resumed run sees the same images only with the same seed.
    seed=0,
    label_source="teacher",
    amp=dict(enabled=False, precision="fp16"),
    clip_gradients=dict(enabled=False, clip_type="value", clip_value=1.0, norm_type=2.0),
    max_nonfinite=10,
    resume_changed=False,
    vis_period=0,
    watch=dict(patience=200, wandb=dict(project="", name="")),
    checkpointer=dict(period=10_000, max_to_keep=5),
    eval_period=10_000,
    eval_networks=["student", "teacher"],
    log_period=20,
    device="cuda",
)
ema = L(EMAHook)(
    momentum=0.999,
    ramp=True,
    interval=1,
    burn_in="${train.burn_in}",
    through_burn_in=False,
    buffers=True,
)
