"""Reading one value per point out of the maps of a feature pyramid."""

import torch

__all__ = ["values_at"]


def values_at(
    maps: list[torch.Tensor],
    strides: list[int],
    offset: float,
    points: torch.Tensor,
    wanted: torch.Tensor,
) -> torch.Tensor:
    """The value at the place nearest to each point, on the level that fits best.

    Args:
        maps: per level, (N, H, W).
        strides: per level, pixels from one place to the next.
        offset: where the first place lies, in strides.
        points: (N, R, 2) x and y in pixels; those beyond a map are read at its border.
        wanted: (N, R) strides, in pixels, that points would like; the level whose stride is
            nearest in proportion is taken.

    Returns:
        (N, R), on the device all along.
    """
    device = points.device
    levels = torch.tensor(strides, dtype=torch.float32, device=device)
    heights, widths = torch.tensor([m.shape[1:] for m in maps], device=device).T
    starts = (heights * widths).cumsum(0) - heights * widths
    level = (levels.log() - wanted.log()[..., None]).abs().argmin(dim=-1)
    column, row = (points / levels[level][..., None] - offset).round().long().unbind(-1)
    column = column.clamp(min=0).minimum(widths[level] - 1)
    row = row.clamp(min=0).minimum(heights[level] - 1)
    values = torch.cat([m.flatten(1) for m in maps], dim=1)
    return values.gather(1, starts[level] + row * widths[level] + column)
