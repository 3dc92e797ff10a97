"""The supervised baseline, on top of a full config: 8 GPUs x 2."""

from .supervised_partial import use_labels_only as use_partial_labels_only


def use_labels_only(dataloader, optimizer) -> None:
    """Changes the config in place."""
    use_partial_labels_only(dataloader)
    dataloader.train.batch_size = 16
    optimizer.lr = 0.02
