"""Label Studio: tasks with predictions, and the configuration of their labels.

Images are served from the root of the sources as local files.
"""

import math
from collections.abc import Iterator
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from ...utils.atomic import atomic_write
from ..detections import Detections
from .about import About, Rows, write_items

__all__ = ["LOCAL_FILES", "write"]

LOCAL_FILES = "/data/local-files/?d="
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
{labels}
  </RectangleLabels>
</View>
"""


def write(rows: Rows, about: About) -> str:
    """``label_studio/tasks.json`` and ``label_studio/labels.xml``."""
    folder = about.folder / "label_studio"
    folder.mkdir(exist_ok=True)
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in about.class_names)
    with atomic_write(str(folder / "labels.xml")) as file:
        file.write(CONFIG.format(labels=labels))
    with atomic_write(str(folder / "tasks.json")) as file:
        write_items(file, (_task(row, about) for row in rows() if not row.unreadable))
        file.write("\n")
    return str(folder / "tasks.json")


def _task(row: Detections, about: About) -> dict:
    prediction: dict = {"model_version": about.info.get("weights", "")}
    if row.scores:
        prediction["score"] = min(row.scores)
    prediction["result"] = list(_regions(row, about))
    image = LOCAL_FILES + quote(about.below_root(row.file))
    return {"data": {"image": image}, "predictions": [prediction]}


def _regions(row: Detections, about: About) -> Iterator[dict]:
    for place, (x0, y0, x1, y1) in enumerate(row.boxes):
        attributes = {"score": row.scores[place]}
        if row.variances is not None and math.isfinite(row.variances[place]):
            attributes["variance"] = row.variances[place]
        yield {
            "id": f"box{place + 1}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": row.width,
            "original_height": row.height,
            "image_rotation": 0,
            "score": row.scores[place],
            "meta": {"text": [f"{key} {value:.4g}" for key, value in attributes.items()]},
            "value": {
                "x": 100 * x0 / row.width,
                "y": 100 * y0 / row.height,
                "width": 100 * (x1 - x0) / row.width,
                "height": 100 * (y1 - y0) / row.height,
                "rotation": 0,
                "rectanglelabels": [about.class_names[row.classes[place]]],
            },
        }
