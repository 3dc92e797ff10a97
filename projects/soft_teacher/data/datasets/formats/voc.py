"""Pascal VOC folders: FOLDER, or FOLDER@SET for the images of a set.

========================== ====================================================
``Annotations``            XML files, also below it; ``annotations`` will do
``JPEGImages``             images of the same names; ``images`` will do
``ImageSets/Main/SET.txt`` optional: names of images without their suffixes
``classes.txt``            optional: a class a line; ``labels.txt`` will do
========================== ====================================================

Corners are read as Detectron2's own VOC loader reads them: pixels are counted from 1 and both
corners belong to the box, so 1 is taken off ``xmin`` and ``ymin``.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ....utils.checks import shown
from ....utils.errors import ConfigError, did_you_mean
from ..listing import CLASS_LISTS, left_out_notes, listed, listed_classes, read_lines
from ..reading.raw_dataset import NOT_MEASURED, RawDataset, example
from .voc_xml import Annotated, UnreadableXml, read_xml

__all__ = ["matches", "parse"]

ANNOTATIONS = ("Annotations", "annotations")
IMAGES = ("JPEGImages", "images", "Images")
SETS = os.path.join("ImageSets", "Main")


def matches(path: str) -> bool:
    """Whether a path is of this form."""
    folder, image_set = _parts(path)
    if image_set:
        return os.path.isdir(folder) and os.sep not in image_set
    return bool(_below(folder, IMAGES) and _xml_files(_below(folder, ANNOTATIONS)))


def parse(path: str) -> RawDataset:
    """The images of a folder or of a set that have an XML file; their ids are the names of these.

    Classes are the lines of ``classes.txt``, else all names in the folder's XML files, whatever
    the set, in alphabetical order.

    Raises:
        ConfigError: the folder or the set is missing, or no annotation can be read.
    """
    folder, image_set = _parts(path)
    image_folder, xml = _below(folder, IMAGES), _xml_files(_below(folder, ANNOTATIONS))
    if not image_folder or not xml:
        raise ConfigError(
            f"'{path}': {folder} is no Pascal VOC folder, which holds {ANNOTATIONS[0]} with XML "
            f"files and {IMAGES[0]}"
        )
    members = _members(folder, image_set, xml) if image_set else list(xml)
    names = listed_classes(folder)
    parsed, notes = _parsed({stem: xml[stem] for stem in members if stem in xml} if names else xml)
    names = names or sorted({name for a in parsed.values() for name, _ in a.objects} - {""})
    parsed = {stem: parsed[stem] for stem in members if stem in parsed}
    files, photos, about_files = _image_files(image_folder, parsed)
    without = [m for m in members if m not in xml] if image_set else _spare(photos, xml, files)
    notes += about_files + example(
        without, f"images have no XML file and are left out (unlabeled data: name {image_folder})"
    )
    if not parsed:
        raise ConfigError(f"'{path}' has no annotated image{''.join(f'; {n}' for n in notes)}")
    annotations, about_objects = _annotations(parsed, names)
    return RawDataset(
        where=path,
        folder=image_folder,
        images=[
            {"id": stem, "file_name": file, **found.size}
            for file, (stem, found) in zip(files, parsed.items(), strict=True)
        ],
        annotations=annotations,
        categories=[{"id": number, "name": name} for number, name in enumerate(names, 1)],
        notes=notes + about_objects,
    )


def _parts(path: str) -> tuple[str, str]:
    """The folder and the set, which is empty if the path names none."""
    path = os.path.expanduser(path)
    folder, _, image_set = path.rpartition("@")
    return (path, "") if os.path.exists(path) or not folder else (folder, image_set)


def _below(folder: str, names: Iterable[str]) -> str:
    paths = (os.path.join(folder, name) for name in names)
    return next(filter(os.path.isdir, paths), "")


def _xml_files(folder: str) -> dict[str, str]:
    """Path below the folder without its suffix -> file; hidden files are left out."""
    files = sorted(Path(folder).rglob("*.[xX][mM][lL]")) if folder else []
    below = [(file.relative_to(folder), file) for file in files]
    return {
        str(path.with_suffix("")): str(file)
        for path, file in below
        if not any(part.startswith(".") for part in path.parts)
    }


def _members(folder: str, image_set: str, xml: Mapping[str, str]) -> list[str]:
    """Names without suffixes, as sets have them; some tools write them with suffixes."""
    sets = {file.stem: file for file in sorted(Path(folder, SETS).glob("*.txt"))}
    if image_set not in sets:
        hint = did_you_mean(image_set, sets) or f": its sets are {shown(list(sets))}"
        raise ConfigError(f"{os.path.join(folder, SETS)} has no {image_set}.txt{hint}")
    names = filter(None, read_lines(sets[image_set]))
    return list(dict.fromkeys(n if n in xml else os.path.splitext(n)[0] for n in names))


def _parsed(xml: Mapping[str, str]) -> tuple[dict[str, Annotated], list[str]]:
    """What the files contain, and a line about those that are no annotations."""
    parsed, unreadable = {}, []
    for stem, file in xml.items():
        try:
            parsed[stem] = read_xml(file)
        except UnreadableXml as error:
            unreadable.append(str(error))
    what = "XML files cannot be read and are left out with their images"
    return parsed, example(unreadable, what)


def _image_files(folder: str, parsed: Mapping[str, Annotated]):
    """The images of the XML files, all images by their stems, and notes."""
    found, left_out = listed(folder)
    photos: dict[str, list[str]] = {}
    for file in found:
        path = os.path.relpath(file, folder)
        photos.setdefault(os.path.splitext(path)[0], []).append(path)
    files = [_image_file(stem, a.file_name, photos) for stem, a in parsed.items()]
    return files, photos, left_out_notes(len(found), left_out)


def _image_file(stem: str, name: str, photos: Mapping[str, list[str]]) -> str:
    """An image of the XML file's own name, else the one that it names."""
    found = photos.get(stem) or photos.get(os.path.splitext(name)[0]) or [name or f"{stem}.jpg"]
    return name if name in found else found[0]


def _spare(photos: Mapping[str, list[str]], xml: Iterable[str], files: Iterable[str]) -> list[str]:
    """Images of no XML file, neither by its own name nor by the one in it."""
    known = {*xml, *(os.path.splitext(file)[0] for file in files)}
    return [file for stem, found in photos.items() if stem not in known for file in found]


def _annotations(parsed: Mapping[str, Annotated], names: list[str]) -> tuple[list[dict], list[str]]:
    """COCO's annotations, without a category where the name is no class, and notes."""
    ids = {name: number for number, name in enumerate(names, 1)}
    found = [(stem, *o) for stem, a in parsed.items() for o in a.objects]
    strange = [repr(name) for _, name, _ in found if name not in ids]
    difficult = [stem for stem, _, box in found if NOT_MEASURED in box]
    return [{"image_id": stem, "category_id": ids.get(name), **box} for stem, name, box in found], [
        *example(strange, f"objects have a name that is empty or not in {CLASS_LISTS[0]}"),
        *example(difficult, "objects are marked difficult, which an evaluation does not count"),
    ]
