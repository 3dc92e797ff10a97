"""GeneralizedRCNN whose ROI heads learn from semantic maps, too."""

from detectron2.modeling import GeneralizedRCNN

__all__ = ["HybridTaskCascade"]


class HybridTaskCascade(GeneralizedRCNN):
    """Hybrid Task Cascade (Chen et al., CVPR 2019), with :class:`.HTCROIHeads`."""

    def forward(self, batched_inputs: list[dict]):
        """See GeneralizedRCNN.

        Args:
            batched_inputs: in training, "sem_seg" as well where an image has a semantic map:
                (H, W) classes of its pixels, 255 for ignored ones.
        """
        with self.roi_heads.semantic_maps(x.get("sem_seg") for x in batched_inputs):
            return super().forward(batched_inputs)
