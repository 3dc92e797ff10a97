import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest
from coco import leaves
from detectron2.config import get_cfg

import soft_teacher
from soft_teacher import ConfigError, add_soft_teacher_config
from soft_teacher.experiment import lazy_config, yaml_config
from soft_teacher.experiment.train_settings import TrainSettings
from soft_teacher.experiment.yaml_experiment import YamlExperiment

PACKAGE = Path(soft_teacher.__file__).parent
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def with_our_keys():
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    return cfg


OURS = {k: v for k, v in leaves(with_our_keys()).items() if k not in leaves(get_cfg())}


# --- every key is read and explained ------------------------------------------------------------


def dotted(node):
    """["cfg", "SOLVER", "OPTIMIZER"] of an expression cfg.SOLVER.OPTIMIZER, else []."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return base and [*base, node.attr]
    return []


def config_keys_read_in(source):
    """Dotted keys that a module reads, names for a part of the config (_C, small) followed."""
    nodes = [node for node in ast.walk(ast.parse(source)) if hasattr(node, "lineno")]
    parts, found = {}, set()

    def resolved(node):
        path = dotted(node)
        return parts.get(path[0], path[:1]) + path[1:] if path else []

    for node in sorted(nodes, key=lambda node: node.lineno):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            found.add(".".join(name for name in resolved(node) if name.isupper()))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            path = resolved(node.value)
            if any(name.isupper() for name in path[1:]):
                parts[node.targets[0].id] = path
    return found


@pytest.fixture(scope="module")
def keys_read():
    sources = [path for path in PACKAGE.rglob("*.py") if path.name != "config.py"]
    assert len(sources) > 20
    by_settings = {field.metadata["key"] for field in fields(TrainSettings)}
    return by_settings.union(*(config_keys_read_in(path.read_text()) for path in sources))


def test_a_read_is_found_through_names_for_a_part_of_the_config():
    source = """
def build(cfg):
    _C = cfg.SOFT_TEACHER
    small = _C.SMALL
    cfg.SOLVER.WRITTEN = 1
    return {"a": _C.EMA.RAMP, "b": small.NUM, "c": cfg.SOLVER.STEPS[0]}
"""
    found = config_keys_read_in(source)
    assert {"SOFT_TEACHER.EMA.RAMP", "SOFT_TEACHER.SMALL.NUM", "SOLVER.STEPS"} <= found
    assert "SOLVER.WRITTEN" not in found and "SOLVER.NUM" not in found


@pytest.mark.parametrize("key", OURS)
def test_every_key_is_read_somewhere(key, keys_read):
    assert key in keys_read


@pytest.mark.parametrize("key", OURS)
def test_every_key_has_a_comment_above(key):
    """Its own, that of the one line between (its pair, or the node it opens), or one naming it."""
    lines = [line.strip() for line in (PACKAGE / "config.py").read_text().splitlines()]
    name = key.removeprefix("SOFT_TEACHER.")
    pattern = rf"(cfg|_C)\.{re.escape(name)} = "
    (number,) = [n for n, line in enumerate(lines) if re.match(pattern, line)]
    comment = number - 1
    while lines[comment] and not lines[comment].startswith("#"):
        comment -= 1
    assert lines[comment].startswith("#")
    if comment < number - 2:
        assert re.search(rf"\b{name.rpartition('.')[2]}\b", lines[comment])


def test_the_keys_stand_under_soft_teacher_but_for_those_beside_their_kind():
    assert {key for key in OURS if not key.startswith("SOFT_TEACHER.")} == {
        "DATALOADER.MAX_UNREADABLE",
        "DATASETS.SPLIT.FAMILY",
        "DATASETS.SPLIT.FOLD",
        "DATASETS.SPLIT.PERCENT",
        "DATASETS.TRAIN_LABELED",
        "DATASETS.TRAIN_UNLABELED",
        "INPUT.MAX_PIXELS",
        "SOLVER.AMP.PRECISION",
        "SOLVER.CHECKPOINTS_TO_KEEP",
        "SOLVER.GRADIENT_ACCUMULATION",
        "SOLVER.MAX_NONFINITE",
        "SOLVER.OPTIMIZER",
    }


PAPER = {
    "ALPHA": 4.0,
    "LABELED_SHARE": 0.2,
    "LABELED_SHARE_DECAY": 10_000,
    "SCORE_THRESH": 0.9,
    "INDICATOR": "bg_teacher",
    "CLS_FORMULA": "paper",
    "REG_NORMALIZER": "foreground",
    "AVERAGE": "image",
    "JITTER.ENABLED": True,
    "JITTER.NUM": 10,
    "JITTER.SCALE": 0.06,
    "JITTER.DISTRIBUTION": "uniform",
    "JITTER.SCORE_THRESH": 0.5,
    "JITTER.VARIANCE_THRESH": 0.02,
    "JITTER.NORMALIZER": "candidate",
    "EMA.MOMENTUM": 0.999,
    "EMA.RAMP": True,
    "EMA.INTERVAL": 1,
    "AUGMENTATION.VARIANT": "paper",
    "AUGMENTATION.SHORT_EDGE": 800,
    "AUGMENTATION.SCALE_RANGE": (0.5, 1.5),
    "AUGMENTATION.MAX_SIZE": 1333,
    "AUGMENTATION.FLIP": True,
    "AUGMENTATION.MAX_ANGLE": 30.0,
    "EVAL_NETWORKS": ("student", "teacher"),
}


@pytest.mark.parametrize("key", PAPER)
def test_the_defaults_are_the_paper_s_for_partial_data(key):
    found = OURS[f"SOFT_TEACHER.{key}"]
    assert found == PAPER[key] and type(found) is type(PAPER[key])


# --- YAML ---------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    def write(text, name="config.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def refusal(function, *args, **kwargs):
    with pytest.raises(ConfigError) as error:
        function(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def yaml_refusal(*args):
    return refusal(yaml_config.load_config, *args)


def test_a_config_of_no_keys_is_the_defaults(write):
    cfg = yaml_config.load_config(write("{}"))
    assert cfg.MODEL.META_ARCHITECTURE == "SoftTeacher"
    found = leaves(cfg)
    assert {key: found[key] for key in OURS} == OURS


def test_the_command_line_goes_before_the_file(write):
    path = write("SOFT_TEACHER:\n  ALPHA: 3.0\n  BURN_IN: 5\n")
    cfg = yaml_config.load_config(path, ["SOFT_TEACHER.ALPHA", "2.0"])
    assert (cfg.SOFT_TEACHER.ALPHA, cfg.SOFT_TEACHER.BURN_IN) == (2.0, 5)


@pytest.mark.parametrize(
    "key, text, value",
    [
        ("SOFT_TEACHER.ALPHA", "2", 2.0),
        ("DATASETS.SPLIT.PERCENT", "5", 5.0),
        ("SOFT_TEACHER.BURN_IN", "2", 2),
        ("DATASETS.TRAIN_UNLABELED", "photos/*.jpg", ("photos/*.jpg",)),
        ("DATASETS.TRAIN_UNLABELED", "'photos'", ("photos",)),
        ("DATASETS.TRAIN_UNLABELED", "('a', 'b')", ("a", "b")),
        ("MODEL.WEIGHTS", "'2'", "2"),
    ],
)
def test_the_command_line_takes_values_as_people_write_them(key, text, value, write):
    found = leaves(yaml_config.load_config(write("{}"), [key, text]))[key]
    assert found == value and type(found) is type(value)


def test_a_meta_architecture_of_detectron2_is_the_detector_that_is_wrapped(write):
    key = "MODEL.META_ARCHITECTURE"
    in_the_file = yaml_config.load_config(write("MODEL:\n  META_ARCHITECTURE: RetinaNet\n"))
    on_the_command_line = yaml_config.load_config(write("{}"), [key, "RetinaNet"])
    dumped = yaml_config.load_config(write(in_the_file.dump()))
    for cfg in (in_the_file, on_the_command_line, dumped):
        assert cfg.MODEL.META_ARCHITECTURE == "SoftTeacher"
        assert cfg.SOFT_TEACHER.DETECTOR == "RetinaNet"


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: p.stem)
def test_the_configs_that_come_along_load(path):
    assert yaml_config.load_config(str(path)).MODEL.META_ARCHITECTURE == "SoftTeacher"


MISSPELT = [
    ("SOFT_TEACHER.ALHPA", "SOFT_TEACHER.ALPHA"),
    ("SOFT_TEACHER.EMA.MOMENTM", "SOFT_TEACHER.EMA.MOMENTUM"),
    ("SOFT_TEACHER.JITER.NUM", "SOFT_TEACHER.JITTER.NUM"),
    ("SOLVER.OPTIMISER", "SOLVER.OPTIMIZER"),
    ("SOLVER.MAX_ITERS", "SOLVER.MAX_ITER"),
    ("DATASETS.TRAIN_UNLABELLED", "DATASETS.TRAIN_UNLABELED"),
    ("SOFTTEACHER.ALPHA", "SOFT_TEACHER.ALPHA"),
]


@pytest.mark.parametrize("key, meant", MISSPELT)
def test_an_unknown_key_on_the_command_line_is_told_what_was_meant(key, meant, write):
    found = yaml_refusal(write("{}"), [key, "1"])
    assert found == f"unknown config key {key}: did you mean {meant}?"


@pytest.mark.parametrize("key, meant", MISSPELT)
def test_an_unknown_key_in_a_file_is_told_what_was_meant(key, meant, write):
    *nodes, leaf = key.split(".")
    lines = [f"{'  ' * depth}{node}:" for depth, node in enumerate(nodes)]
    text = "\n".join([*lines, f"{'  ' * len(nodes)}{leaf}: 1"])
    found = yaml_refusal(write(text))
    # The file is refused at the first part that is unknown.
    unknown = re.fullmatch(r"unknown config key (\S+): did you mean (\S+)\?", found)
    assert unknown and key.startswith(unknown[1]) and meant.startswith(unknown[2])


def test_a_key_like_no_other_is_named_without_a_guess(write):
    assert yaml_refusal(write("{}"), ["XYZ", "1"]) == "unknown config key XYZ"
    assert yaml_refusal(write("XYZ: 1")) == "unknown config key XYZ"


@pytest.mark.parametrize(
    "key, value",
    [
        ("SOFT_TEACHER.ALPHA", "much"),
        ("SOFT_TEACHER.BURN_IN", "0.5"),
        ("SOFT_TEACHER.EMA.RAMP", "3"),
        ("DATASETS.TRAIN_LABELED", "3"),
        ("SOFT_TEACHER.EMA", "3"),
    ],
)
def test_a_value_of_the_wrong_type_names_the_key(key, value, write):
    assert key in yaml_refusal(write("{}"), [key, value])
    *nodes, leaf = key.split(".")
    text = "".join(f"{'  ' * depth}{node}:\n" for depth, node in enumerate(nodes))
    assert key in yaml_refusal(write(f"{text}{'  ' * len(nodes)}{leaf}: {value}"))


def test_a_key_without_a_value(write):
    assert "SOFT_TEACHER.ALPHA" in yaml_refusal(write("{}"), ["SOFT_TEACHER.ALPHA"])


@pytest.mark.parametrize("load", [yaml_config.load_config, lazy_config.load_config])
def test_a_missing_config_file(load, tmp_path):
    missing = tmp_path / "missing.yaml"
    assert refusal(load, str(missing)) == f"--config-file '{missing}' does not exist"
    assert refusal(load, str(tmp_path)) == f"--config-file '{tmp_path}' is not a file"


# --- what is checked before a model is built ----------------------------------------------------


def checked(eval_only=False, **options):
    cfg = yaml_config.load_config(str(CONFIGS / "demo" / "base.yaml"))
    cfg.merge_from_list(["DATASETS.TRAIN_LABELED", ()])
    cfg.merge_from_list([item for pair in options.items() for item in pair])
    return YamlExperiment(cfg).check(eval_only=eval_only)


TRAINED_ON = {"DATASETS.TRAIN_LABELED": ("labeled",), "SOFT_TEACHER.LABELED_SHARE": 1.0}


@pytest.mark.parametrize(
    "options, said",
    [
        (
            {"SOFT_TEACHER.DETECTOR": "PanopticFPN", **TRAINED_ON},
            "SOFT_TEACHER.DETECTOR 'PanopticFPN' cannot be wrapped: use ",
        ),
        ({"SOFT_TEACHER.EVAL_NETWORKS": ()}, "SOFT_TEACHER.EVAL_NETWORKS is empty"),
        ({"SOFT_TEACHER.EVAL_NETWORKS": ("pupil",)}, "SOFT_TEACHER.EVAL_NETWORKS must be one of"),
    ],
)
@pytest.mark.parametrize("eval_only", [True, False])
def test_mistakes_that_matter_for_training_and_evaluation(eval_only, options, said, tiny_digits):
    assert said in refusal(checked, eval_only=eval_only, **options)


def test_the_datasets_of_an_evaluation_are_checked_and_those_of_a_training_are_not(tiny_digits):
    checked(eval_only=True, **{"DATASETS.TRAIN_LABELED": ("config_test_missing",)})
    found = refusal(checked, eval_only=True, **{"DATASETS.TEST": ("config_test_missing",)})
    assert "DATASETS.TEST names 'config_test_missing'" in found


@pytest.mark.parametrize(
    "options, said",
    [
        ({}, "DATASETS.TRAIN_LABELED is empty"),
        ({"DATASETS.TRAIN_LABELED": ("x",)}, "DATASETS.TRAIN_UNLABELED is empty"),
        ({"DATASETS.TRAIN_LABELED": ("x",)}, "set SOFT_TEACHER.LABELED_SHARE to 1"),
        (
            {"DATASETS.TRAIN_LABELED": ("x",), "SOFT_TEACHER.LABELED_SHARE": 1.0},
            "DATASETS.TRAIN_LABELED names 'x'",
        ),
        ({"SOLVER.AMP.ENABLED": True}, "SOLVER.AMP.ENABLED needs a CUDA GPU"),
        ({"SOLVER.AMP.PRECISION": "fp8"}, "SOLVER.AMP.PRECISION must be one of"),
    ],
)
def test_mistakes_that_matter_for_training_alone(options, said, tiny_digits):
    assert said in refusal(checked, **options)
    checked(eval_only=True, **options)


# --- LazyConfig ---------------------------------------------------------------------------------

LAZY = """
from detectron2.config import LazyCall as L
from soft_teacher.engine import EMAHook

ema = L(EMAHook)(momentum=0.9, ramp=True)
train = dict(device="cpu", amp=dict(enabled=False), init_checkpoint=None)
"""


def load_lazy(write, *overrides):
    return lazy_config.load_config(write(LAZY, "config.py"), overrides)


def test_a_lazy_config_without_overrides(write):
    cfg = load_lazy(write)
    assert cfg.ema.momentum == 0.9 and cfg.train.device == "cpu"


@pytest.mark.parametrize(
    "override, read, value",
    [
        ("ema.momentum=0.5", lambda cfg: cfg.ema.momentum, 0.5),
        ("train.amp.enabled=True", lambda cfg: cfg.train.amp.enabled, True),
        ("train.init_checkpoint=a.pth", lambda cfg: cfg.train.init_checkpoint, "a.pth"),
        # An argument that the file leaves at its default.
        ("ema.interval=3", lambda cfg: cfg.ema.interval, 3),
    ],
)
def test_an_override_of_a_known_key(override, read, value, write):
    assert read(load_lazy(write, override)) == value


@pytest.mark.parametrize(
    "key",
    [
        "emma.momentum",
        "ema.momentm",
        "ema.momentum.x",
        "train.amp.on",
        "train.devise",
        "x",
        "+ema.x",
    ],
)
def test_an_unknown_lazy_key_is_refused(key, write):
    found = refusal(load_lazy, write, "ema.momentum=0.5", f"{key}=1")
    assert found.startswith(f"unknown config key {key}")


@pytest.mark.parametrize("override", ["", "ema.momentum", "~ema.momentum"])
def test_an_override_that_is_no_pair(override, write):
    assert f"override '{override}' is not of the form key=value" in refusal(
        load_lazy, write, override
    )


def test_an_override_that_cannot_be_parsed_is_one_line(write):
    assert "[1," in refusal(load_lazy, write, "ema.momentum=[1,")


@pytest.mark.parametrize("text", ["- a\n- b\n", "A: [1,\nB: }", "_BASE_: nope.yaml"])
def test_a_yaml_file_that_is_no_config_is_one_line(text, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        yaml_config.load_config(str(path))
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_a_yaml_tag_runs_no_code(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(f"MODEL: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']")
    with pytest.raises(ConfigError):
        yaml_config.load_config(str(path))
    assert not (tmp_path / "made").exists()


def test_a_key_in_lower_case_is_told_the_right_one(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("{}")
    with pytest.raises(ConfigError, match="did you mean SOFT_TEACHER.ALPHA"):
        yaml_config.load_config(str(path), ["soft_teacher.alpha", "1.0"])


def test_a_misspelt_lazy_key_is_told_the_right_one():
    with pytest.raises(ConfigError, match="did you mean train.max_iter"):
        lazy_config.load_config(str(CONFIGS / "demo" / "supervised.py"), ["train.max_itr=1"])
