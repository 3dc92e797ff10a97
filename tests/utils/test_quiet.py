"""Which warnings are hidden; that train_net.py shows none is seen in test_train_net.py."""

import logging
import sys
import warnings

import pytest

from soft_teacher.utils.quiet import hide_known_warnings

HIDDEN = [
    (FutureWarning, "`torch.jit.script` is deprecated. Please switch", "torch.jit._script"),
    (DeprecationWarning, "`torch.jit.script` is deprecated. Please", "torch.jit._script"),
    (FutureWarning, "`broadcast_buffers` is deprecated. Use", "detectron2.engine.defaults"),
    (UserWarning, "torch.meshgrid: in an upcoming release, it will", "torch.functional"),
    (UserWarning, "pkg_resources is deprecated as an API. See", "detectron2.config.lazy"),
]
SHOWN = [
    (FutureWarning, "`torch.jit.script` is deprecated. Please switch", "soft_teacher.engine"),
    (FutureWarning, "something else is deprecated", "torch.jit._script"),
    (UserWarning, "something is wrong", "torch.functional"),
    (UserWarning, "something is wrong", "soft_teacher.engine"),
]


def shown(given, options=()):
    with warnings.catch_warnings(record=True) as caught, pytest.MonkeyPatch.context() as patch:
        warnings.resetwarnings()
        patch.setattr(sys, "warnoptions", list(options))
        hide_known_warnings()
        for category, message, module in given:
            warnings.warn_explicit(message, category, f"{module}.py", 1, module)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    "given, options, expected",
    [
        ([], [], []),
        (HIDDEN, [], []),
        (SHOWN, [], SHOWN),
        (HIDDEN, ["default"], HIDDEN),  # as python -W default
    ],
)
def test_known_warnings_are_hidden_unless_python_is_told_to_show_them(given, options, expected):
    assert shown(given, options) == [message for _, message, _ in expected]


def test_what_torch_logs_about_its_own_future_is_hidden(caplog):
    shown([])
    logger = logging.getLogger("torch.fx._symbolic_trace")
    caplog.set_level(logging.WARNING, logger=logger.name)
    logger.addHandler(caplog.handler)
    try:
        logger.warning("is_fx_tracing will return true for both")
        logger.warning("something else")
    finally:
        logger.removeHandler(caplog.handler)
    assert set(caplog.messages) == {"something else"}
