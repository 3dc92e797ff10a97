"""Evaluation on a dataset some of whose images cannot be read."""

import itertools
import logging

from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.logger import log_first_n

__all__ = ["ReadableImagesEvaluator"]


class ReadableImagesEvaluator(DatasetEvaluator):
    """Wraps an evaluator so that unreadable images count as images without detections.

    So their objects are missed. The images are named once per run, and counted in every evaluation.
    """

    def __init__(self, evaluator: DatasetEvaluator, dataset: str):
        """
        Args:
            dataset: its name, for the log.
        """
        self.evaluator = evaluator
        self.dataset = dataset

    def reset(self):
        self._seen, self._unreadable = 0, []
        self.evaluator.reset()

    def process(self, inputs, outputs):
        """
        Args:
            inputs: samples of :class:`~soft_teacher.data.mapper.InferenceMapper`, or others.
            outputs: of a detector, each a dict of Instances.
        """
        self._seen += len(inputs)
        self._unreadable += [i["unreadable"] for i in inputs if "unreadable" in i]
        found = [_nothing(o) if "unreadable" in i else o for i, o in zip(inputs, outputs)]
        self.evaluator.process(inputs, found)

    def evaluate(self):
        ranks = comm.gather((self._seen, self._unreadable), dst=0)
        if comm.is_main_process():
            self._report(sum(n for n, _ in ranks), list(itertools.chain(*(u for _, u in ranks))))
        return self.evaluator.evaluate()

    def _report(self, seen: int, unreadable: list[str]) -> None:
        for error in unreadable:
            log_first_n(logging.WARNING, f"unreadable: {error}", name=__name__, key="message")
        if unreadable:
            logging.getLogger(__name__).warning(
                "%s: %d of %d images are unreadable and evaluated as images without detections",
                self.dataset,
                len(unreadable),
                seen,
            )


def _nothing(output: dict) -> dict:
    """An output without any of its detections."""
    return {key: value[:0] for key, value in output.items()}
