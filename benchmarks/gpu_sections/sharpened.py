"""Random weights that are sure of what they see, so that a change of what they detect can show.

As they are initialised, all proposals and classes score nearly alike, and any rounding reorders
them; and no score reaches what an evaluation keeps.
"""

import torch
from detectron2.modeling import GeneralizedRCNN

__all__ = ["sharpen"]

# Standard deviation of objectness and class scores, as logits.
SPREAD = 2.5


@torch.no_grad()
def sharpen(network: GeneralizedRCNN, images: list[dict]) -> None:
    """Scales the last layers of both heads to the images, in place.

    Args:
        network: calibrated, on its device, in evaluation mode.
        images: dicts with ``image``.
    """
    layers = network.proposal_generator.rpn_head.objectness_logits, network.roi_heads.box_predictor
    for layer in (layers[0], layers[1].cls_score):
        _spread_out(layer, lambda: network.inference(images, do_postprocess=False))


def _spread_out(layer: torch.nn.Module, run) -> None:
    outputs = []
    handle = layer.register_forward_hook(lambda module, args, output: outputs.append(output))
    run()
    handle.remove()
    # (number of scores, classes); the RPN's maps are (N, anchors, H, W), one for each level.
    scores = torch.cat([o.float().movedim(1, -1).reshape(-1, o.shape[1]) for o in outputs])
    # What all boxes have in common says nothing about any of them.
    layer.bias -= scores.mean(dim=0)
    scale = SPREAD / scores.std(dim=0).mean()
    layer.weight *= scale
    layer.bias *= scale
