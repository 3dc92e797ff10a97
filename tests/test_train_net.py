"""train_net.py from end to end: YAML and LazyConfig, one and two processes, train and evaluate."""

import builtins
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate
from detectron2.engine import TrainerBase
from detectron2.modeling import GeneralizedRCNN
from detectron2.utils.events import EventStorage
from steps import ALL_LOSSES, LOSSES
from training import (
    CONFIGS,
    LAZY_OPTS,
    ROOT,
    YAML_OPTS,
    metrics,
    train_lazy,
    train_on_ranks,
    train_yaml,
    weights,
)

from soft_teacher import ConfigError
from soft_teacher.deploy import Predictor
from soft_teacher.experiment import SoftTeacherTrainer, lazy_config, yaml_config
from soft_teacher.experiment.class_file import read_classes
from soft_teacher.modeling import FasterRCNNFamily

pytestmark = pytest.mark.usefixtures("tiny_digits")


@pytest.fixture(scope="module")
def trained(tiny_digits, tmp_path_factory):
    """A finished short training from YAML: (folder, results)."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, train_yaml(folder)


CLASSES = ["zero", "one", "two", "three", "four"]


class TestTraining:
    def test_yaml_training_logs_every_loss_and_evaluates_both_networks(self, trained):
        folder, _ = trained
        last = metrics(folder)
        assert ALL_LOSSES <= set(last)
        assert all(np.isfinite(last[k]) for k in ALL_LOSSES)
        assert last["unsup/loss_cls"] > 0
        for network in ("student", "teacher"):
            assert 0 <= last[f"{network}/bbox/AP"] <= 100

    def test_the_checkpoint_holds_both_networks_and_the_teacher_lags(self, trained):
        state = weights(trained[0])
        name = "roi_heads.box_predictor.cls_score.weight"
        assert not torch.equal(state[f"student.{name}"], state[f"teacher.{name}"])

    def test_lazy_training_logs_the_same_losses(self, tmp_path):
        results = train_lazy(tmp_path)
        assert ALL_LOSSES <= set(metrics(tmp_path))
        assert set(results) == {"student", "teacher"}
        assert Predictor(tmp_path).class_names == CLASSES

    def test_its_folder_is_all_that_a_predictor_needs(self, trained):
        assert read_classes(str(trained[0] / "classes.json"))[0] == {"id": 1, "name": "zero"}
        predictor = Predictor(trained[0], network="student")
        assert predictor.class_names == CLASSES
        assert predictor(np.zeros((40, 50, 3), np.uint8)).image_size == (40, 50)

    def test_the_baseline_has_no_unlabeled_loss(self, tmp_path):
        share = ["SOFT_TEACHER.LABELED_SHARE", "1.0", "DATASETS.TRAIN_UNLABELED", "()"]
        train_yaml(tmp_path, *share, "SOLVER.MAX_ITER", "2", config="supervised.yaml")
        last = metrics(tmp_path)
        assert last["sup/loss_cls"] > 0
        assert all(last[f"unsup/{name}"] == 0 for name in LOSSES)

    def test_during_the_burn_in_the_teacher_is_the_student(self, tmp_path):
        train_yaml(tmp_path, "SOFT_TEACHER.BURN_IN", "2", "SOLVER.MAX_ITER", "2")
        state = weights(tmp_path)
        for name in [n for n in state if n.startswith("teacher.")]:
            assert torch.equal(state[name], state[name.replace("teacher.", "student.")]), name

    def test_the_same_seed_gives_the_same_weights(self, trained, tmp_path):
        train_yaml(tmp_path)
        again, first = weights(tmp_path), weights(trained[0])
        assert all(torch.equal(again[name], first[name]) for name in first)

    def test_a_resumed_training_ends_with_the_same_weights(self, trained, tmp_path):
        """An interruption right after the checkpoint of step 2 of 4."""

        class Interrupted(Exception):
            pass

        with pytest.MonkeyPatch.context() as patch:
            step = SoftTeacherTrainer.run_step

            def run_step(self):
                if self.iter == 2:
                    raise Interrupted
                step(self)

            patch.setattr(SoftTeacherTrainer, "run_step", run_step)
            with pytest.raises(Interrupted):
                train_yaml(tmp_path)
        train_yaml(tmp_path, resume=True)
        resumed, first = weights(tmp_path), weights(trained[0])
        assert all(torch.equal(resumed[name], first[name]) for name in first)


class TestStart:
    @pytest.mark.parametrize("train", [train_yaml, train_lazy])
    def test_every_json_is_read_once(self, train, tmp_path, monkeypatch):
        """Labeled and unlabeled images come from one JSON; all of them are checked first."""
        read = []
        usual = builtins.open

        def counting(file, *args, **kwargs):
            if "annotations" in str(file):
                read.append(Path(file).stem)
            return usual(file, *args, **kwargs)

        monkeypatch.setattr(builtins, "open", counting)
        monkeypatch.setattr(TrainerBase, "train", lambda *args: None)
        train(tmp_path)
        assert sorted(read) == ["train", "unlabeled", "val"]


class TestBothLanguages:
    def test_the_same_model_gives_the_same_losses_on_the_same_batch(self, trained):
        lazy = lazy_config.load_config(str(CONFIGS / "soft_teacher.py"), LAZY_OPTS)
        yaml = yaml_config.load_config(str(CONFIGS / "soft_teacher.yaml"), YAML_OPTS)
        models = [instantiate(lazy.model), SoftTeacherTrainer.build_model(yaml)]
        loaders = [
            instantiate(lazy.dataloader.train),
            SoftTeacherTrainer.build_train_loader(yaml),
        ]
        state = weights(trained[0])
        found = []
        for model, loader in zip(models, loaders):
            model.load_state_dict(state)
            model.train()
            torch.manual_seed(0)
            with EventStorage(), torch.no_grad():
                found.append(model(next(iter(loader))))
        assert set(found[0]) == ALL_LOSSES
        assert {k: v.item() for k, v in found[0].items()} == {
            k: v.item() for k, v in found[1].items()
        }


class TestTwoProcesses:
    @pytest.mark.long
    def test_ranks_end_with_identical_weights(self, tmp_path):
        first, second = train_on_ranks(tmp_path, 2)
        assert first == second

    @pytest.mark.long
    def test_ranks_without_a_stream_do_not_hang(self, tmp_path):
        """One image per rank: in each step a rank lacks the labeled or the unlabeled stream."""
        first, second = train_on_ranks(
            tmp_path, 2, "SOLVER.IMS_PER_BATCH", "2", "SOFT_TEACHER.LABELED_SHARE", "0.5"
        )
        assert first == second


class TestEvalOnly:
    @pytest.mark.parametrize("networks", [("student",), ("teacher",), ("student", "teacher")])
    def test_evaluates_the_networks_it_is_told_to(self, trained, tmp_path, networks):
        final = trained[0] / "model_final.pth"
        opts = ["MODEL.WEIGHTS", final, "SOFT_TEACHER.EVAL_NETWORKS", networks]
        results = train_yaml(tmp_path, *opts, eval_only=True)
        assert tuple(results) == networks

    def test_repeats_the_numbers_of_the_training(self, trained, tmp_path):
        final = trained[0] / "model_final.pth"
        results = train_yaml(tmp_path, "MODEL.WEIGHTS", final, eval_only=True)
        last = metrics(trained[0])
        for network in ("student", "teacher"):
            expected = last[f"{network}/bbox/AP"]
            assert results[network]["bbox"]["AP"] == pytest.approx(expected, nan_ok=True)

    def test_lazy_config_evaluates_a_yaml_checkpoint(self, trained, tmp_path):
        final = trained[0] / "model_final.pth"
        results = train_lazy(tmp_path, f"train.init_checkpoint={final}", eval_only=True)
        assert set(results) == {"student", "teacher"}

    def test_a_stock_checkpoint_fills_both_networks(self, tmp_path):
        cfg = yaml_config.load_config(str(CONFIGS / "soft_teacher.yaml"))
        stock = FasterRCNNFamily.detector_config(cfg)
        stock.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
        DetectionCheckpointer(GeneralizedRCNN(stock), str(tmp_path)).save("stock")
        weights_file = tmp_path / "stock.pth"
        results = train_yaml(tmp_path, "MODEL.WEIGHTS", weights_file, eval_only=True)
        student, teacher = (results[n]["bbox"] for n in ("student", "teacher"))
        assert student == pytest.approx(teacher, nan_ok=True)
        assert len(student) > 3


class TestCommandLine:
    @pytest.mark.parametrize(
        "config, opts, output",
        [
            ("soft_teacher.yaml", YAML_OPTS, ["OUTPUT_DIR", "{}"]),
            ("soft_teacher.py", LAZY_OPTS, ["train.output_dir={}"]),
        ],
        ids=["yaml", "lazy"],
    )
    @pytest.mark.long
    def test_two_processes_without_a_gpu(self, tmp_path, config, opts, output):
        output = [text.format(tmp_path) for text in output]
        done = run("--num-gpus", 2, "--config-file", CONFIGS / config, "--dist-url", "auto",
                   *opts, *output)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr and "is_fx_tracing" not in done.stderr
        assert ALL_LOSSES <= set(metrics(tmp_path))
        assert (tmp_path / "model_final.pth").is_file()

    @pytest.mark.long
    def test_help_explains_every_flag(self):
        text = run("--help").stdout
        for flag in ("--config-file", "--num-gpus", "--num-machines", "--resume", "--eval-only"):
            assert flag in text
        assert "KEY VALUE" in text and "key=value" in text

    @pytest.mark.parametrize("processes", [1, 2])
    def test_a_mistake_is_one_line_and_status_2(self, processes):
        done = run("--num-gpus", processes, "--config-file", CONFIGS / "soft_teacher.yaml",
                   "--dist-url", "auto", "SOFT_TEACHER.ALPA", "2")  # fmt: skip
        assert done.returncode == 2
        errors = [line for line in done.stderr.splitlines() if "rror" in line]
        expected = "error: unknown config key SOFT_TEACHER.ALPA: did you mean SOFT_TEACHER.ALPHA?"
        assert errors == [expected]


def run(*args):
    """train_net.py as a person runs it."""
    command = [sys.executable, str(ROOT / "train_net.py"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


class TestMistakes:
    """Each is one line before training starts; those of the config are in experiment/."""

    @pytest.mark.parametrize(
        "train, opts, words",
        [
            (train_yaml, ["DATASETS.TRAIN_LABELED", "digits_unlabeled"], "no image has an annot"),
            (train_yaml, ["MODEL.ROI_HEADS.NUM_CLASSES", "7"], "set it to 5"),
            (train_yaml, ["MODEL.WEIGHTS", "nowhere.pth"], "MODEL.WEIGHTS 'nowhere.pth' does not"),
            (train_lazy, ["model.student.roi_heads.num_classes=7"], "set it to 5"),
            (train_lazy, ["train.init_checkpoint=nowhere.pth"], "train.init_checkpoint 'nowhere"),
        ],
    )
    def test_data_and_weights(self, tmp_path, train, opts, words):
        with pytest.raises(ConfigError) as caught:
            train(tmp_path, *opts)
        assert words in str(caught.value) and "\n" not in str(caught.value)
        assert not list(tmp_path.glob("model_*.pth"))

    @pytest.mark.parametrize("eval_only", [False, True])
    @pytest.mark.parametrize(
        "train, key", [(train_yaml, "OUTPUT_DIR"), (train_lazy, "train.output_dir")]
    )
    def test_a_folder_that_cannot_be_made(self, tmp_path, train, key, eval_only):
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match=f"^{key} '.*/file/run': Not a dir.*; name another$"):
            train(tmp_path / "file" / "run", eval_only=eval_only)

    @pytest.mark.parametrize("train", [train_yaml, train_lazy])
    def test_a_folder_that_holds_a_training(self, tmp_path, train):
        (tmp_path / "metrics.json").touch()
        with pytest.raises(ConfigError, match="metrics.json.*--resume"):
            train(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "metrics.json"}

    def test_a_checkpoint_of_another_model(self, trained, tmp_path):
        final = trained[0] / "model_final.pth"
        with pytest.raises(ConfigError, match="another model"):
            train_yaml(tmp_path, "MODEL.WEIGHTS", final, "MODEL.FPN.OUT_CHANNELS", "16")
