"""Hides the warnings with which other packages speak to their developers, not to who runs them.

Importing it does so, before torch and Detectron2 are. They are named one by one, so that a new one
is seen, and so are our own; ``python -W default`` shows all of them.
"""

import logging
import sys
import warnings

__all__ = ["hide_known_warnings"]

# (category, start of the message, module it is attributed to), as warnings.filterwarnings has them
KNOWN = (
    (FutureWarning, r"`torch\.jit\.\w+` is deprecated", r"torch\.jit\."),
    (DeprecationWarning, r"`torch\.jit\.\w+` is deprecated", r"torch\.jit\."),
    (FutureWarning, r"`broadcast_buffers` is deprecated", r"detectron2\.|torch\."),
    (FutureWarning, r"`torch\.cuda\.amp\.", r"detectron2\.|fvcore\."),
    (UserWarning, r"torch\.meshgrid: in an upcoming release", r"torch\.functional"),
    (UserWarning, r"pkg_resources is deprecated as an API", ""),
    (DeprecationWarning, r"pkg_resources is deprecated as an API", ""),
    (DeprecationWarning, r"Deprecated call to `pkg_resources\.", ""),
    (UserWarning, r"(possibly )?corrupt EXIF|truncated file|tag (data|offset)", r"PIL\."),
    (UserWarning, r"metadata warning|image appears to be a malformed MPO|invalid APNG", r"PIL\."),
    (UserWarning, r"palette images with transparency|couldn't allocate palette", r"PIL\."),
)
# torch logs this one: that a function of its own, which Detectron2 asks, will have another name.
TRACING = "torch.fx._symbolic_trace"


def hide_known_warnings() -> None:
    """Does so for this process; Python's own options for warnings go first."""
    logging.getLogger(TRACING).addFilter(
        lambda record: not record.getMessage().startswith("is_fx_tracing will return true")
    )
    if sys.warnoptions:
        return
    for category, message, module in KNOWN:
        warnings.filterwarnings("ignore", message=message, category=category, module=module)


hide_known_warnings()
