"""Tables as Markdown, CSV, pictures and parts of the documentation."""

import csv

import cv2
import pytest
from replication.pages import markdown, write_csv
from replication.publish import publish, write_docs
from replication.results import RowResult, compare
from replication.tables import TABLES

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
        values = dict(enumerate(aps.get(row.name, ())))
        scores = {
            "AP": values,
            "AP50": {s: 2 * v for s, v in values.items()},
            "AP75": {s: v / 2 for s, v in values.items()},
        }
        rows.append(RowResult(row, scores, {s: v - 1 for s, v in values.items()}))
    return compare(TABLES[key], rows, list(codes), list(missing))


def cells(text):
    """The Markdown table of a section as {first cell: {header: cell}}."""
    lines = [line for line in text.split("\n") if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    header, _, *rows = table
    return {row[0]: dict(zip(header, row)) for row in rows}


class TestMarkdown:
    def test_rows_have_mean_spread_and_the_papers_numbers(self):
        row = cells(markdown(result(), "table6.png"))["E2E+EMA"]
        assert row == {
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

    def test_gains_are_paired_by_seed(self):
        """2, 1, 4: mean 7/3, standard deviation 1.53, standard error 0.88."""
        row = cells(markdown(result(), ""))["Multi-Stage"]
        assert row["above first row"] == "+2.3 ± 0.9"

    def test_the_order_is_told_with_its_noise(self):
        text = markdown(result(), "")
        assert "6 of 6 pairs of rows are in the paper's order (Kendall's tau 1.00)" in text
        assert "As in the paper, beyond noise: Multi-Stage over Supervised by +2.3 ± 0.9" in text
        assert "As in the paper, within noise: E2E over Multi-Stage by +0.3 ± 1.9" in text

    def test_an_order_against_the_papers_is_told(self):
        aps = {"Supervised": (20.0, 21.0), "Multi-Stage": (10.0, 11.5)}
        text = markdown(result(aps=aps), "")
        assert "0 of 1 pairs" in text and "tau -1.00" in text
        assert "Against it, beyond noise: Multi-Stage over Supervised by -9.8 ± 0.2" in text

    def test_nothing_finished_shows_the_papers_numbers_alone(self):
        text = markdown(result(aps={}, missing=["end_to_end/seed0"]), "")
        assert list(cells(text)["E2E"]) == ["", "paper AP", "paper AP50", "paper AP75"]
        assert "Order" not in text
        assert "Not finished: end_to_end/seed0." in text

    def test_mixed_code_is_told(self):
        assert "Trained by different code: abc, def." in markdown(result(codes=["abc", "def"]), "")
        assert "code" not in markdown(result(), "")

    def test_table_3_compares_within_a_share(self):
        aps = {"Supervised": (10.0, 12.0), "Soft Teacher": (15.0, 18.0)}
        text = markdown(result("3", aps), "")
        assert "3 of 3 pairs" in text
        assert "| 10 %" in text and "quoted from other work" in text
        assert "26.9 ± 0.111" in text
        assert "Soft Teacher, 5 % over Supervised, 5 % by +5.5 ± 0.5 (paper +9.8)" in text


class TestCsv:
    def test_a_line_for_each_row_and_metric(self, tmp_path):
        write_csv(result(), tmp_path / "table6.csv")
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

    def test_what_is_not_there_is_empty(self, tmp_path):
        write_csv(result("3", {}), tmp_path / "t.csv")
        lines = list(csv.DictReader((tmp_path / "t.csv").open()))
        assert {line["metric"] for line in lines} == {"AP"}
        assert all(line["mean"] == line["seeds"] == "" for line in lines)
        assert lines[0]["paper_std"] == "0.26"


class TestPublish:
    def test_each_table_has_its_files_and_all_are_on_one_page(self, tmp_path):
        publish([result("7", {})], tmp_path)
        paths = publish([result("6")], tmp_path)
        assert [path.name for path in paths] == ["table6.md", "tables.md"]
        assert (tmp_path / "table6.csv").is_file()
        page = (tmp_path / "tables.md").read_text()
        assert page.index("### Table 6.") < page.index("### Table 7.")
        assert "![Table 6](table6.png)" in page

    @pytest.mark.parametrize("key, aps", [("6", APS), ("6", {}), ("3", APS), ("fig1", APS)])
    def test_pictures_show_something(self, tmp_path, key, aps):
        found = result(key, aps)
        publish([found], tmp_path)
        picture = cv2.imread(str(tmp_path / f"{found.table.stem}.png"))
        assert picture.shape[1] > 500
        assert (picture < 128).any(axis=2).mean() > 0.005


class TestDocs:
    @pytest.fixture
    def page(self, tmp_path):
        (tmp_path / "images").mkdir()
        page = tmp_path / "page.md"
        page.write_text("before\n<!-- digits tables -->\nold\n<!-- end -->\nafter\n")
        return page

    def test_what_is_between_the_markers_is_replaced(self, page):
        write_docs([result()], "digits", page)
        text = page.read_text()
        assert text.startswith("before\n<!-- digits tables -->\n### Table 6.")
        assert text.endswith("\n<!-- end -->\nafter\n")
        assert "old" not in text
        assert "![Table 6](images/digits_table6.png)" in text
        assert (page.parent / "images" / "digits_table6.png").is_file()

    def test_again_changes_nothing(self, page):
        write_docs([result()], "digits", page)
        text = page.read_text()
        write_docs([result()], "digits", page)
        assert page.read_text() == text

    def test_a_page_without_markers_is_told(self, page):
        with pytest.raises(ConfigError, match="has no lines '<!-- coco tables -->'"):
            write_docs([result()], "coco", page)
