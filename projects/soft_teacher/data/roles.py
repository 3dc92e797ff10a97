"""What a dataset is for, and the config key that names it."""

__all__ = ["KEYS", "LABELED", "ROLES", "TEST", "UNLABELED"]

# The two streams.
LABELED, UNLABELED = 0, 1
KEYS = {LABELED: "DATASETS.TRAIN_LABELED", UNLABELED: "DATASETS.TRAIN_UNLABELED"}
TEST = "DATASETS.TEST"
ROLES = {"labeled": KEYS[LABELED], "unlabeled": KEYS[UNLABELED], "test": TEST}
