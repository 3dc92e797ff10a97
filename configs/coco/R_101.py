"""The deeper backbone, on top of any config here."""


def use_resnet_101(model, train) -> None:
    """Changes the config in place."""
    model.student.backbone.bottom_up.stages.depth = 101
    train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
