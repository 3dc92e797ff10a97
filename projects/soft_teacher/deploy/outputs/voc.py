"""Pascal VOC: a folder with an XML file for each image, links to the images, and the classes."""

from pathlib import Path
from xml.etree import ElementTree

from ..detections import Detections
from .about import About, Rows, link_image, new_folder

__all__ = ["write"]


def write(rows: Rows, about: About) -> str:
    """``voc``; pixels are counted from 1 and both corners belong to the box."""
    path = about.folder / "voc"
    with new_folder(path) as folder:
        (folder / "JPEGImages").mkdir()
        (folder / "Annotations").mkdir()
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in about.class_names))
        for row in rows():
            if row.unreadable:
                continue
            image = folder / "JPEGImages" / (row.name + Path(row.file).suffix)
            link_image(row.file, image)
            file = folder / "Annotations" / f"{row.name}.xml"
            file.parent.mkdir(parents=True, exist_ok=True)
            tree = ElementTree.ElementTree(_annotation(row, image.name, about))
            ElementTree.indent(tree)
            tree.write(file, encoding="utf-8")
    return str(path)


def _annotation(row: Detections, image: str, about: About) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _texts(root, filename=image)
    size = ElementTree.SubElement(root, "size")
    _texts(size, width=row.width, height=row.height, depth=3)
    for number, score, (x0, y0, x1, y1) in zip(row.classes, row.scores, row.boxes):
        found = ElementTree.SubElement(root, "object")
        _texts(found, name=about.class_names[number], truncated=0, difficult=0, score=score)
        box = ElementTree.SubElement(found, "bndbox")
        _texts(box, xmin=x0 + 1, ymin=y0 + 1, xmax=x1, ymax=y1)
    return root


def _texts(parent: ElementTree.Element, **values) -> None:
    for name, value in values.items():
        ElementTree.SubElement(parent, name).text = str(value)
