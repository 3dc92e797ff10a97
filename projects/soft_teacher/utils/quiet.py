"""Hides warnings of other packages that are meant for their developers, not for users.

Importing this module does so, before torch and Detectron2 are imported. They are listed one by one,
so that new ones and our own are shown; ``python -W default`` shows all of them.
"""

import logging
import sys
import warnings

__all__ = ["hide_known_warnings"]

# (category, start of the message, module it is attributed to), as for warnings.filterwarnings
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
# torch logs this one: a function of its own that Detectron2 calls will be renamed.
TRACING = "torch.fx._symbolic_trace"


def hide_known_warnings() -> None:
    """Adds the filters to this process, unless Python was started with its own options."""
    logging.getLogger(TRACING).addFilter(
        lambda record: not record.getMessage().startswith("is_fx_tracing will return true")
    )
    if sys.warnoptions:
        return
    for category, message, module in KNOWN:
        warnings.filterwarnings("ignore", message=message, category=category, module=module)


hide_known_warnings()
