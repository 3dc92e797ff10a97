"""Messages name the keys of the config that a run was started from.

The parts of a run know no config language: they call a setting ``Class.parameter``.
"""

import logging
import re
from collections.abc import Mapping
from contextlib import contextmanager

from ..utils.command_line import STATUSES
from ..utils.errors import ConfigError
from .setting import HEADS, RPN, STUDENT, TRAIN, of_predictors
from .settings import FAMILY, SETTINGS

__all__ = ["LAZY_WORDS", "YAML_WORDS", "Words", "policy_of"]

OURS = f"{__package__.partition('.')[0]}."


class Words:
    """Translates messages into one config language."""

    def __init__(self, names: Mapping[str, str]):
        """
        Args:
            names: what parts of a run call a setting -> what the config calls it.
        """
        self.names = dict(names)
        # The longest first, and no part of a longer word, of a path, or of a name in quotes.
        longest = sorted(map(re.escape, self.names), key=len, reverse=True)
        self._pattern = re.compile(rf"(?<![\w./'])({'|'.join(longest)})(?![\w/'])")

    def __call__(self, message: str) -> str:
        return self._pattern.sub(lambda found: self.names[found[0]], message)

    @contextmanager
    def spoken(self):
        """Translates the errors and the log messages of what runs inside."""
        usual = logging.getLogRecordFactory()
        logging.setLogRecordFactory(lambda *a, **k: self._translated(usual(*a, **k)))
        try:
            yield
        except tuple(STATUSES) as error:
            error.args = (self(str(error)),)
            raise
        finally:
            logging.setLogRecordFactory(usual)

    def _translated(self, record: logging.LogRecord) -> logging.LogRecord:
        if record.name.startswith(OURS):
            record.msg, record.args = self(record.getMessage()), ()
        return record


MAPS = f"{TRAIN}.semantic_maps"
PARAMETERS = {name: key for key, s in SETTINGS.items() for name in s.parameter.split()}


def _told(paths: str) -> str:
    """The paths of a setting, for a sentence."""
    return paths.replace(" ", " and ").replace("|", " or ")


PATHS = {key: _told(s.lazy) for key, s in SETTINGS.items() if s.lazy}
YAML_WORDS = Words(
    {
        **PARAMETERS,
        "FastRCNNOutputLayers.cls_agnostic_bbox_reg": "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG",
        "FastRCNNOutputLayers.use_sigmoid_ce": "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE",
        "GeneralizedRCNN.proposal_generator": "MODEL.PROPOSAL_GENERATOR.NAME",
        "StandardROIHeads.keypoint_head": "MODEL.KEYPOINT_ON",
        "StandardROIHeads.mask_head": "MODEL.ROI_MASK_HEAD.NAME",
        "StandardROIHeads.train_on_pred_boxes": "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES",
        "the norm of the backbone": "MODEL.RESNETS.NORM",
    }
)
LAZY_WORDS = Words(
    {
        **{name: PATHS.get(key, key) for name, key in PARAMETERS.items()},
        **PATHS,
        "DATASETS.SPLIT": "split",
        "FastRCNNOutputLayers.cls_agnostic_bbox_reg": (
            f"cls_agnostic_bbox_reg of all {HEADS}.box_predictors"
        ),
        "FastRCNNOutputLayers.use_sigmoid_ce": _told(of_predictors("use_sigmoid_ce")),
        "GeneralizedRCNN.proposal_generator to 'RPN'": f"{RPN} to an RPN",
        "FCOSFamily.stability": f"{FAMILY}.stability",
        "HTCROIHeads.semantic_head": f"{HEADS}.semantic_head",
        "MapFiles.folders": f"{MAPS}.folders",
        "SemanticMaps.num_classes": f"{MAPS}.num_classes",
        "StandardROIHeads.keypoint_head": f"{HEADS}.keypoint_head",
        "StandardROIHeads.mask_head": f"{HEADS}.mask_head",
        "StandardROIHeads.train_on_pred_boxes": f"{HEADS}.train_on_pred_boxes",
        "TwoStreamLoader.semantic_maps": MAPS,
        "the norm of the backbone": f"the norm of {STUDENT}.backbone",
    }
)


@contextmanager
def policy_of(view: str):
    """Names the keys of one of the three policies of a LazyConfig in errors.

    Args:
        view: dotted path of the policy.
    """
    try:
        yield
    except ConfigError as error:
        raise ConfigError(str(error).replace("build_policy.", f"{view}.")) from error
