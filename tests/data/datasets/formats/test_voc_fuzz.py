"""Any Pascal VOC file gives its boxes as they were put in, and counts others; or one line."""

import random
from xml.sax.saxutils import escape

import pytest
from damage import damaged, fuzzed
from written import PHOTOS, Photo, boxes, read_back, voc_object, voc_xml, write_image, write_voc

from soft_teacher.data.datasets.formats.voc import parse
from soft_teacher.utils.errors import ConfigError

pytestmark = pytest.mark.timeout(120)

NAMES = ["cat", "dog", "Über & <co>", "größe", "a b", "2", "None"]
NO_NUMBERS = ["", " ", "abc", "1,5", "nan", "inf", "-", "0x10", "1 2", "1e999", "9" * 400, "½"]
WIDTH, HEIGHT = PHOTOS[0].width, PHOTOS[0].height
UNTOUCHED = Photo("untouched", objects=[("cat", 1, 2, 30, 20)])


@pytest.fixture
def folder(tmp_path):
    write_voc(tmp_path, [UNTOUCHED])
    write_image(tmp_path / "JPEGImages" / "b.png", PHOTOS[0])
    return tmp_path


class Document:
    """A XML file of one image as some tool may write it.

    Attributes:
        text: of the file.
        expected: class and box of each object that is fine.
        broken: how many others there are.
    """

    def __init__(self, rng):
        self.expected, self.broken = [], 0
        objects = [self._object(rng) for _ in range(rng.randint(0, 5))]
        old = f"<old>{voc_object('cat', 1, 2, 3, 4)}</old>"
        head = [
            f"<filename>{rng.choice(['b.png', 'x.jpg', 'd/b.png', '', '&#233;'])}</filename>",
            rng.choice(["", "<segmented>0</segmented>", old]),
            self._size(rng),
        ]
        parts = [*head, *objects] if rng.random() < 0.7 else [*objects, *reversed(head)]
        entity = rng.choice(["", '<!DOCTYPE annotation [<!ENTITY c "c">]>\n'])
        body = rng.choice(["", "\n", "\r\n\t", "<!-- <object/> -->"]).join(parts)
        body = body.replace("<name>cat<", "<name>&c;at<") if entity else body
        self.text = f"{entity}<annotation verified='yes'>{body}</annotation>"

    @staticmethod
    def _size(rng):
        odd = [(0, 0), ("", ""), ("wide", "high"), (-1, 1.5)]
        width, height = rng.choice([(WIDTH, HEIGHT), (f" {WIDTH}.0", HEIGHT), *odd])
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        return rng.choice([size, size, ""])

    def _object(self, rng):
        left, top = rng.randint(0, WIDTH - 1), rng.randint(0, HEIGHT - 1)
        box = [left, top, rng.randint(2, WIDTH + 1 - left), rng.randint(2, HEIGHT + 1 - top)]
        name = rng.choice(NAMES)
        corners = [left + 1, top + 1, left + box[2], top + box[3]]
        texts = [rng.choice([f"{n}", f"{n}.0", f" {n}\n", f"+{n}", f"{n / 10}e1"]) for n in corners]
        coded = "".join(f"&#{ord(character)};" for character in name)
        names = [escape(name), f"\n {escape(name)}\t", f"<![CDATA[{name}]]>", coded]
        children = {"name": rng.choice(names)}
        if rng.random() < 0.3:
            self.broken += 1
            self._break(rng, children, texts)
        else:
            self.expected.append((name, box))
        tags = zip(("xmin", "ymin", "xmax", "ymax"), texts)
        tags = [f"<{t}>{text}</{t}>" for t, text in tags if text is not None]
        rng.shuffle(tags)
        if "bndbox" not in children:
            children["bndbox"] = "".join(tags)
        children["difficult"] = rng.choice(["0", "", " 0 ", "false", "Unspecified"])
        children["part"] = "<name>head</name><bndbox><xmin>1</xmin><xmax>2</xmax></bndbox>"
        elements = [f"<{tag}>{text}</{tag}>" for tag, text in children.items() if text is not None]
        rng.shuffle(elements)
        return f"<object id='1'>{''.join(elements)}</object>"

    @staticmethod
    def _break(rng, children, texts):
        place = rng.randrange(4)
        how = rng.randrange(6)
        if how == 0:
            children["name"] = rng.choice([None, "", "  ", "<b/>"])
        elif how == 1:
            children["bndbox"] = rng.choice([None, "", "1 2 3 4"])
        elif how == 2:
            texts[place] = None
        elif how == 3:
            texts[place] = rng.choice(NO_NUMBERS)
        elif how == 4:
            texts[0], texts[2] = texts[2], rng.choice([texts[0], texts[2]])  # reversed, a line
        else:
            texts[1], texts[3] = f"{HEIGHT + 5}", f"{HEIGHT + 20}"


def check_document(folder, rng):
    document = Document(rng)
    coding = rng.choice(["utf-8", "utf-8-sig", "utf-16"])
    coded = f'<?xml version="1.0" encoding="{coding.removesuffix("-sig")}"?>'
    declaration = rng.choice(["", coded])
    (folder / "Annotations" / "b.xml").write_bytes((declaration + document.text).encode(coding))
    kept, dropped = read_back(parse(str(folder)))
    assert kept == {"b": document.expected, "untouched": [("cat", [1, 2, 29, 18])]}, document.text
    assert dropped == document.broken, document.text


def check_damaged(folder, rng):
    data = damaged(rng, rng.choice([voc_xml(PHOTOS[0]), Document(rng).text]).encode())
    (folder / "Annotations" / "b.xml").write_bytes(data)
    raw = parse(str(folder))
    kept, _ = read_back(raw)
    assert kept["untouched"] == [("cat", [1, 2, 29, 18])]
    assert "b" in kept or any("XML files cannot be read" in note for note in raw.notes)


def check_list(folder, rng):
    """Sets and lists of classes of any bytes."""
    sets = folder / "ImageSets" / "Main"
    sets.mkdir(parents=True, exist_ok=True)
    lists = {sets / "train.txt": b"untouched\r\nb\n", folder / "classes.txt": b"cat\ndog\n"}
    for file, content in lists.items():
        file.write_bytes(damaged(rng, content) if rng.random() < 0.7 else content)
    (folder / "Annotations" / "b.xml").write_text(voc_xml(PHOTOS[0]))
    try:
        raw = parse(f"{folder}@train")
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
        return
    truth = {"b": PHOTOS[0], "untouched": UNTOUCHED}
    for stem, found in boxes(raw).items():
        for (name, box), (true_name, left, top, right, bottom) in zip(found, truth[stem].objects):
            assert box == [left, top, right - left, bottom - top]
            assert name in (true_name, None)
    read_back(raw)


@pytest.mark.parametrize("check", [check_document, check_damaged, check_list])
@fuzzed(150, 1500)
def test_any_file(folder, check, seeds):
    for seed in seeds:
        check(folder, random.Random(seed))
