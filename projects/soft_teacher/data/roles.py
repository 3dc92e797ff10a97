"""What a dataset is for, and the parameter that names it."""

__all__ = ["KEYS", "LABELED", "ROLES", "TEST", "UNLABELED"]

# The two streams.
LABELED, UNLABELED = 0, 1
KEYS = {LABELED: "labeled_names", UNLABELED: "unlabeled_names"}
TEST = "test_names"
ROLES = {"labeled": KEYS[LABELED], "unlabeled": KEYS[UNLABELED], "test": TEST}
