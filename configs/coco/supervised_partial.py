"""The supervised baseline, on top of a partial config: its labeled images alone, 8 GPUs x 1."""


def use_labels_only(dataloader) -> None:
    """Changes the config in place."""
    dataloader.train.update(batch_size=8, labeled_share=1.0, decay_steps=0)
