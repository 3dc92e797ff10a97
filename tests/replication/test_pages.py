"""Tables as Markdown, CSV, pictures and parts of the documentation."""

import csv

import cv2
import pytest
from replication.publish import publish, write_docs
from replication.results import RowResult, compare
from replication.tables import OUR_TABLES, TABLES

from soft_teacher import ConfigError

APS = {
    "Supervised": (10.0, 30.0, 20.0),
    "Multi-Stage": (12.0, 31.0, 24.0),
    "E2E": (11.0, 35.0, 22.0),
    "E2E+EMA": (20.0, 40.0, 30.0),
}


def result(key="6", aps=APS, codes=("abc",), missing=()):
    rows = []
    for row in TABLES[key].rows:
        ap = dict(enumerate(aps.get(row.name, ())))
        scores = {m: {s: f * v for s, v in ap.items()} for m, f in FACTORS.items()}
        rows.append(RowResult(row, scores, {s: v - 1 for s, v in ap.items()}))
    return compare(TABLES[key], rows, list(codes), list(missing))


FACTORS = {"AP": 1, "AP50": 2, "AP75": 0.5}


@pytest.fixture
def page(tmp_path):
    """Publishes a result; returns its Markdown and the table as {first cell: {header: cell}}."""

    def page(*args, **options):
        found = result(*args, **options)
        publish([found], tmp_path)
        text = (tmp_path / f"{found.table.stem}.md").read_text()
        lines = [line for line in text.split("\n") if line.startswith("|")]
        header, _, *rows = ([c.strip() for c in line.strip("|").split("|")] for line in lines)
        return text, {row[0]: dict(zip(header, row)) for row in rows}

    return page


def test_rows_have_mean_spread_and_the_papers_numbers(page):
    """The gains of the multi-stage row, 2, 1 and 4: mean 7/3, standard error 1.53 / sqrt(3)."""
    text, rows = page()
    assert rows["E2E+EMA"] == {
        "": "E2E+EMA",
        "AP": "30.0 ± 10.0",
        "AP50": "60.0 ± 20.0",
        "AP75": "15.0 ± 5.0",
        "other network's AP": "29.0",
        "seeds": "3",
        "above first row": "+10.0 ± 0.0",
        "paper AP": "31.2",
        "paper AP50": "48.8",
        "paper AP75": "34.0",
        "paper above first row": "+4.1",
    }
    assert rows["Multi-Stage"]["above first row"] == "+2.3 ± 0.9"
    assert "6 of 6 pairs of rows are in the paper's order (Kendall's tau 1.00)" in text
    assert "As in the paper, beyond noise: Multi-Stage over Supervised by +2.3 ± 0.9" in text
    assert "As in the paper, within noise: E2E over Multi-Stage by +0.3 ± 1.9" in text
    assert "![Table 6](table6.png)" in text and "code" not in text


def test_an_order_against_the_papers(page):
    text, _ = page(aps={"Supervised": (20.0, 21.0), "Multi-Stage": (10.0, 11.5)}, codes=["a", "b"])
    assert "0 of 1 pairs" in text and "tau -1.00" in text
    assert "Against it, beyond noise: Multi-Stage over Supervised by -9.8 ± 0.2" in text
    assert "Trained by different code: a, b." in text


def test_nothing_finished_shows_the_papers_numbers_alone(page):
    text, rows = page(aps={}, missing=["end_to_end/seed0"])
    assert list(rows["E2E"]) == ["", "paper AP", "paper AP50", "paper AP75"]
    assert "Order" not in text and "Not finished: end_to_end/seed0." in text


def test_a_row_that_is_not_the_papers_is_compared_with_the_first_alone(page, tmp_path):
    aps = {
        "E2E+EMA": (50.0, 52.0),
        "+ soft teacher": (51.0, 54.0),
        "beyond the paper": (53.0, 56.0),
    }
    text, rows = page("7", aps)
    ours = rows["beyond the paper"]
    assert ours["above first row"] == "+3.5 ± 0.5"
    assert ours["paper AP"] == ours["paper AP75"] == ours["paper above first row"] == ""
    assert "1 of 1 pairs" in text and "beyond the paper over" not in text
    assert cv2.imread(str(tmp_path / "table7.png")) is not None


def masked(aps):
    """The table of detectors with masks; row -> (AP, mask AP) of each seed."""
    table, rows = OUR_TABLES["masks"], []
    for row in table.rows:
        scores = {"AP": {}}
        for seed, values in enumerate(aps.get((row.group, row.name), ())):
            for prefix, ap in zip(("", "mask "), values):
                for metric, factor in FACTORS.items():
                    scores.setdefault(prefix + metric, {})[seed] = factor * ap
        rows.append(RowResult(row, scores))
    return compare(table, rows, ["abc"], [])


MASKED = {
    ("Mask R-CNN", "Supervised"): [(30.0, 20.0), (32.0, 22.0)],
    ("Mask R-CNN", "Soft Teacher"): [(40.0, 30.0), (44.0, 31.0)],
    ("Cascade R-CNN", "Supervised"): [(31.0,)],
}


def test_masks_have_columns_beside_the_boxes(tmp_path):
    publish([masked(MASKED)], tmp_path)
    text = (tmp_path / "masks.md").read_text()
    lines = [line for line in text.split("\n") if line.startswith("|")]
    header, _, *rows = ([c.strip() for c in line.strip("|").split("|")] for line in lines)
    assert header == [
        *("labeled", "", "AP", "AP50", "AP75", "mask AP", "mask AP50", "mask AP75", "seeds"),
        *("above first row", "mask AP above first row"),
    ]
    found = {tuple(row[:2]): dict(zip(header[2:], row[2:])) for row in rows}
    teacher = found["Mask R-CNN", "Soft Teacher"]
    assert (teacher["mask AP"], teacher["mask AP75"]) == ("30.5 ± 0.7", "15.2 ± 0.4")
    assert (teacher["above first row"], teacher["mask AP above first row"]) == (
        "+11.0 ± 1.0",
        "+9.5 ± 0.5",
    )
    assert found["Cascade R-CNN", "Supervised"]["mask AP"] == ""
    assert "paper" not in "".join(header) and "Order" not in text
    assert text.startswith("### Masks and cascades. Detectors that the paper does not report on")


def test_masks_are_lines_of_the_csv_and_a_panel_of_the_picture(tmp_path):
    publish([masked(MASKED)], tmp_path)
    lines = list(csv.DictReader((tmp_path / "masks.csv").open()))
    (line,) = [x for x in lines if (x["run"], x["metric"]) == ("mask_soft_teacher", "mask AP")]
    assert (line["mean"], line["paper"], line["seeds"]) == ("30.500", "", "0:30.000 1:31.000")
    width = cv2.imread(str(tmp_path / "masks.png")).shape[1]
    publish([masked({("Mask R-CNN", "Supervised"): [(30.0,)]})], tmp_path)
    assert width == 2 * cv2.imread(str(tmp_path / "masks.png")).shape[1]


def test_table_3_compares_within_a_share(page):
    text, _ = page("3", {"Supervised": (10.0, 12.0), "Soft Teacher": (15.0, 18.0)})
    assert "3 of 3 pairs" in text and "26.9 ± 0.111" in text
    assert "| 10 %" in text and "quoted from other work" in text
    assert "Soft Teacher, 5 % over Supervised, 5 % by +5.5 ± 0.5 (paper +9.8)" in text


def test_csv_has_a_line_for_each_row_and_metric(page, tmp_path):
    page()
    lines = list(csv.DictReader((tmp_path / "table6.csv").open()))
    assert len(lines) == 4 * 3
    assert lines[-3] == {
        "table": "6",
        "group": "",
        "row": "E2E+EMA",
        "run": "end_to_end_ema",
        "metric": "AP",
        "mean": "30.000",
        "std": "10.000",
        "paper": "31.2",
        "paper_std": "",
        "seeds": "0:20.000 1:40.000 2:30.000",
    }
    page("3", {})
    lines = list(csv.DictReader((tmp_path / "table3.csv").open()))
    assert {(line["metric"], line["mean"], line["seeds"]) for line in lines} == {("AP", "", "")}
    assert lines[0]["paper_std"] == "0.26"


@pytest.mark.parametrize("key, aps", [("6", {}), ("6", APS), ("3", APS), ("fig1", APS)])
def test_pictures_show_something(page, tmp_path, key, aps):
    page(key, aps)
    picture = cv2.imread(str(next(tmp_path.glob("*.png"))))
    assert picture.shape[1] > 500
    assert (picture < 128).any(axis=2).mean() > 0.005


def test_all_tables_are_on_one_page(tmp_path):
    publish([result("7", {})], tmp_path)
    assert [path.name for path in publish([result()], tmp_path)] == ["table6.md", "tables.md"]
    text = (tmp_path / "tables.md").read_text()
    assert text.index("### Table 6.") < text.index("### Table 7.")


def test_tables_are_put_between_the_markers_of_a_page(tmp_path):
    (tmp_path / "images").mkdir()
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- digits tables -->\nold\n<!-- end -->\nafter\n")
    write_docs([result()], "digits", page)
    text = page.read_text()
    assert text.startswith("before\n<!-- digits tables -->\n### Table 6.")
    assert text.endswith("\n<!-- end -->\nafter\n") and "old" not in text
    assert "![Table 6](images/digits_table6.png)" in text
    assert (tmp_path / "images" / "digits_table6.png").is_file()
    write_docs([result()], "digits", page)
    assert page.read_text() == text
    with pytest.raises(ConfigError, match="has no lines '<!-- coco tables -->'"):
        write_docs([result()], "coco", page)
