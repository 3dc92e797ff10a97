"""Tables of the run report: which rows and columns they have, in which order."""

import math
import re

import pytest

from soft_teacher.monitoring.page import MOST_ROWS, table
from soft_teacher.monitoring.report_tables import (
    ap_per_class,
    class_table,
    evaluations,
    pseudo_box_table,
    results_table,
)

NAN = math.nan


def cells(text):
    """Rows of a table, its header first."""
    rows = re.findall(r"<tr>(.*)</tr>", text)
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]


# --- cells


def test_a_table_without_rows_is_its_header():
    assert cells(table(["a", "b"], [])) == [["a", "b"]]


def test_cells_are_plain_text():
    assert cells(table(["<b>"], [["a & b"]])) == [["&lt;b&gt;"], ["a &amp; b"]]


@pytest.mark.parametrize("rows, scrolls", [(1, False), (MOST_ROWS, False), (MOST_ROWS + 1, True)])
def test_a_long_table_scrolls(rows, scrolls):
    assert ("<div class='long'>" in table(["a"], [["1"]] * rows)) == scrolls


# --- evaluations


@pytest.mark.parametrize(
    "lines, expected",
    [
        ([], {}),
        ([{"iteration": 4, "lr": 1.0, "sup/bbox/AP": 2.0, "teacher/AP": 3.0}], {}),
        (
            [
                {"iteration": 9, "teacher/bbox/AP": 2.0, "student/bbox/AP-a/b": 1.0},
                {"iteration": 4, "teacher/bbox/AP": 1.0},
                # A resumed run repeats a step.
                {"iteration": 9, "teacher/bbox/AP": 3.0, "teacher/val/bbox/AP50": 5.0},
            ],
            {
                "student": {10: {"AP-a/b": 1.0}},
                "teacher": {5: {"AP": 1.0}, 10: {"AP": 3.0}},
                "teacher/val": {10: {"AP50": 5.0}},
            },
        ),
    ],
    ids=["no line", "no evaluation", "evaluations"],
)
def test_evaluations_by_network_dataset_and_steps_done(lines, expected):
    assert evaluations(lines) == expected


def test_without_an_evaluation_there_is_no_table_of_results():
    assert results_table([]) == "<p>No evaluation.</p>"


def test_results_are_in_the_order_of_steps():
    lines = [
        {"iteration": 999, "student/bbox/AP": 30.04, "teacher/bbox/AP": 31.0},
        {"iteration": 9, "teacher/bbox/AP": 1.0, "teacher/bbox/AP75": NAN},
    ]
    assert cells(results_table(lines)) == [
        ["steps", "network", "AP", "AP50", "AP75", "APs", "APm", "APl"],
        ["10", "teacher", "1.0", "", "", "", "", ""],
        ["1,000", "student", "30.0", "", "", "", "", ""],
        ["1,000", "teacher", "31.0", "", "", "", "", ""],
    ]


def test_masks_are_evaluated_apart_from_boxes():
    lines = [{"iteration": 4, "teacher/bbox/AP": 1.0, "teacher/segm/AP": 2.0, "x/segm/AP": 3.0}]
    assert evaluations(lines) == {"teacher": {5: {"AP": 1.0}}}
    assert evaluations(lines, "segm") == {"teacher": {5: {"AP": 2.0}}}


def test_masks_have_columns_beside_the_boxes():
    lines = [
        {"iteration": 4, "teacher/bbox/AP": 1.0, "student/segm/AP": 3.0},
        {"iteration": 9, "teacher/bbox/AP": 2.0, "teacher/segm/AP": 1.5, "teacher/segm/APl": 4.0},
    ]
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    blank = [""] * 5
    assert cells(results_table(lines)) == [
        ["steps", "network", *names, *(f"mask {name}" for name in names)],
        ["5", "student", "", *blank, "3.0", *blank],
        ["5", "teacher", "1.0", *blank, "", *blank],
        ["10", "teacher", "2.0", *blank, "1.5", *blank[1:], "4.0"],
    ]


# --- classes


@pytest.mark.parametrize(
    "steps, expected",
    [
        ({}, {}),
        ({5: {"AP": 1.0, "AP50": 2.0}}, {}),
        (
            {5: {"AP": 1.0, "AP-cat": 2.0}, 9: {"AP-cat": 3.0, "AP-AP-x": 4.0}},
            {"cat": {5: 2.0, 9: 3.0}, "AP-x": {9: 4.0}},
        ),
    ],
)
def test_aps_of_classes_by_steps(steps, expected):
    assert ap_per_class(steps) == expected


@pytest.mark.parametrize(
    "networks",
    [{}, {"teacher": {5: {"AP": 1.0}}}, {"teacher": {5: {"AP": 1.0, "AP-cat": 1.0}}}],
    ids=["nothing", "no class", "one class"],
)
def test_without_several_classes_there_is_no_table_of_them(networks):
    assert class_table(networks) == ""


def test_classes_have_their_last_and_best_ap_the_weakest_of_the_teacher_first():
    student = {5: {"AP": 3.0, "AP-cat": 1.0, "AP-dog": 2.0, "AP-eel": 6.0}}
    teacher = {
        5: {"AP": 9.0, "AP-cat": 8.0, "AP-dog": 7.0, "AP-eel": 12.0, "AP-yak": NAN},
        1200: {"AP": 9.0, "AP-cat": 4.04, "AP-dog": 3.0, "AP-eel": 20.0, "AP-yak": NAN},
        1500: {"AP": 8.0, "AP-cat": 4.0, "AP-dog": 4.0, "AP-eel": 16.0, "AP-yak": NAN},
    }
    assert cells(class_table({"student": student, "teacher": teacher})) == [
        ["class", "student, last and best (5 steps)", "teacher, last (1,500 steps)",
         "teacher, best (5 steps)"],
        ["cat", "1.0", "4.0", "8.0"],
        ["dog", "2.0", "4.0", "7.0"],
        ["eel", "6.0", "16.0", "12.0"],
        ["yak", "", "", ""],
    ]  # fmt: skip


def test_classes_have_the_ap_of_their_masks_beside_that_of_their_boxes():
    boxes = {"teacher": {5: {"AP": 9.0, "AP-a": 8.0, "AP-b": 7.0}, 9: {"AP": 1.0, "AP-a": 1.0}}}
    masks = {"teacher": {5: {"AP": 1.0, "AP-a": 6.0}, 9: {"AP": 2.0, "AP-a": 5.0, "AP-b": 4.0}}}
    assert cells(class_table(boxes, masks)) == [
        ["class", "teacher, last (9 steps)", "teacher, masks, last (9 steps)",
         "teacher, best (5 steps)", "teacher, masks, best (5 steps)"],
        ["a", "1.0", "5.0", "8.0", "6.0"],
        ["b", "", "4.0", "7.0", ""],
    ]  # fmt: skip
    assert class_table(boxes, {}) == class_table(boxes)


def test_without_any_ap_the_last_evaluation_is_the_best():
    steps = {5: {"AP": NAN, "AP-a": 1.0}, 9: {"AP": NAN, "AP-b": 2.0}}
    assert cells(class_table({"teacher": steps})) == [
        ["class", "teacher, last and best (9 steps)"], ["b", "2.0"], ["a", ""],
    ]  # fmt: skip


# --- boxes


def boxes(step, labeled=None, pseudo=None, **classes):
    """A line; classes have (labeled, pseudo)."""
    line = {"iteration": step}
    counts = {"": (labeled, pseudo), **{f"/{name}": both for name, both in classes.items()}}
    for name, both in counts.items():
        for kind, value in zip(("labeled_boxes", "boxes"), both):
            if value is not None:
                line[f"pseudo/{kind}_per_image{name}"] = value
    return line


@pytest.mark.parametrize("lines", [[], [{"iteration": 4, "pseudo/num_cls_boxes": 2.0}]])
def test_without_counts_of_boxes_there_is_no_table_of_them(lines):
    assert pseudo_box_table(lines) == ""


def test_the_quality_of_pseudo_masks_is_beside_the_boxes():
    line = boxes(4, 3.0, 2.0, cat=(1.0, 1.25), dog=(2.0, 0.75))
    line |= {"pseudo/mask_iou": 0.75, "pseudo/mask_iou/cat": 0.5}
    assert cells(pseudo_box_table([line])) == [
        [*HEADER, "IoU of pseudo masks"],
        ["dog", "2.00", "0.75", ""],
        ["cat", "1.00", "1.25", "0.50"],
        ["all", "3.00", "2.00", "0.75"],
    ]


HEADER = ["class", "labeled boxes per image", "pseudo boxes per image"]


@pytest.mark.parametrize(
    "lines, rows",
    [
        # One class would repeat what all have.
        ([boxes(4, 1.0, 0.5, cat=(1.0, 0.5))], [["all", "1.00", "0.50"]]),
        ([boxes(4, 2.0)], [["all", "2.00", ""]]),
        (
            [
                boxes(9, 3.0, 2.0, cat=(1.0, 1.25), dog=(2.0, 0.745), eel=(1.0, NAN)),
                boxes(4, 9.0, 9.0, cat=(9.0, 9.0), yak=(None, 0.125)),
                boxes(14, None, 2.5, cat=(None, 1.5)),
            ],
            [
                ["dog", "2.00", "0.74"],
                ["cat", "1.00", "1.50"],
                ["eel", "1.00", ""],
                ["yak", "", "0.12"],
                ["all", "3.00", "2.50"],
            ],
        ),
    ],
    ids=["one class", "one total", "classes"],
)
def test_boxes_as_last_logged_the_most_frequent_class_first(lines, rows):
    assert cells(pseudo_box_table(lines)) == [HEADER, *rows]
