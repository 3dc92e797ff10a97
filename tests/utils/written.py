"""Small datasets, the same ones in every format."""

import json
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

import yaml
from PIL import Image

from soft_teacher.data.datasets.reading.reader import read

CLASSES = ["cat", "dog"]


@dataclass
class Photo:
    """An image and its objects: class, left, top, right and bottom in whole pixels."""

    stem: str
    width: int = 40
    height: int = 30
    objects: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    suffix: str = ".png"

    @property
    def file(self) -> str:
        return self.stem + self.suffix


PHOTOS = [
    Photo("b", objects=[("dog", 0, 0, 40, 30), ("cat", 3, 4, 10, 12)]),
    Photo("a", 20, 50, [("cat", 5, 6, 20, 50)], suffix=".jpg"),
    Photo("c"),
]


def write_image(path, photo):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (photo.width, photo.height)).save(path)


def voc_object(name, left, top, right, bottom, *, more=""):
    corners = {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom}
    box = "".join(f"<{key}>{value}</{key}>" for key, value in corners.items())
    return f"<object><name>{escape(name)}</name>{more}<bndbox>{box}</bndbox></object>"


def voc_xml(photo, *, objects=None, size=True):
    if objects is None:
        objects = "".join(voc_object(*o) for o in photo.objects)
    sides = f"<width>{photo.width}</width><height>{photo.height}</height>"
    size = f"<size>{sides}<depth>3</depth></size>" if size else ""
    name = f"<filename>{escape(photo.file)}</filename>"
    return f"<annotation>{name}{size}{objects}</annotation>"


def write_voc(folder, photos=PHOTOS, *, sets=None):
    """A Pascal VOC folder; ``sets`` maps names of sets to stems."""
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    for photo in photos:
        write_image(folder / "JPEGImages" / photo.file, photo)
        (folder / "Annotations" / f"{photo.stem}.xml").write_text(voc_xml(photo))
    for name, stems in (sets or {}).items():
        file = folder / "ImageSets" / "Main" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{stem}\n" for stem in stems))
    return folder


def yolo_line(photo, name, left, top, right, bottom):
    x, y = (left + right) / 2 / photo.width, (top + bottom) / 2 / photo.height
    sides = (right - left) / photo.width, (bottom - top) / photo.height
    return " ".join(map(repr, (CLASSES.index(name), x, y, *sides)))


def write_yolo(folder, photos=PHOTOS, *, split="train", **keys):
    """A YOLO dataset of one split, in images/SPLIT and labels/SPLIT; the path of its data.yaml."""
    labels = folder / "labels" / split
    labels.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        write_image(folder / "images" / split / photo.file, photo)
        lines = [yolo_line(photo, *o) for o in photo.objects]
        (labels / f"{photo.stem}.txt").write_text("\n".join(lines))
    data = {split: f"images/{split}", "names": CLASSES, **keys}
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not None}))
    return file


def write_csv(folder, photos=PHOTOS):
    """A CSV and its images beside it; the path of the CSV."""
    rows = [["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]]
    for photo in photos:
        write_image(folder / photo.file, photo)
        image = [photo.file, photo.width, photo.height]
        rows += [[*image, *o] for o in photo.objects] or [[*image, *[""] * 5]]
    file = folder / "boxes.csv"
    file.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return file


def write_coco(folder, photos=PHOTOS):
    """A COCO JSON and its images beside it; the path of the JSON."""
    annotations = []
    for photo in photos:
        write_image(folder / photo.file, photo)
        for name, left, top, right, bottom in photo.objects:
            box = [left, top, right - left, bottom - top]
            known = {"id": len(annotations) + 1, "image_id": photo.stem, "iscrowd": 0}
            category = CLASSES.index(name) + 1
            annotations.append(
                {**known, "bbox": box, "area": box[2] * box[3], "category_id": category}
            )
    sizes = [{"height": photo.height, "width": photo.width} for photo in photos]
    images = [{"id": p.stem, "file_name": p.file, **size} for p, size in zip(photos, sizes)]
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
    file = folder / "coco.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    file.write_text(json.dumps(content))
    return file


def boxes(raw):
    """Image id -> class names and boxes, of a RawDataset."""
    names = {category["id"]: category["name"] for category in raw.categories}
    found = {image["id"]: [] for image in raw.images}
    for a in raw.annotations:
        found[a["image_id"]].append((names.get(a["category_id"]), a["bbox"]))
    return found


def read_back(raw):
    """Image id -> class names and boxes that are left by the reader, and how many are not."""
    reading = read(raw)
    assert reading.balance.read == len(raw.annotations)
    kept = {
        d["image_id"]: [(reading.classes[a["category_id"]], a["bbox"]) for a in d["annotations"]]
        for d in reading.dicts
    }
    return kept, reading.balance.dropped.total()
