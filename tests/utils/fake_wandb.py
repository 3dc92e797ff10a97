"""A fake of the package wandb that keeps what it receives."""

from types import SimpleNamespace


class FakeRun:
    def __init__(self, number, settings):
        self.id = settings["id"] or f"new{number}"
        self.settings = settings
        self.metrics, self.lines, self.finished = [], [], False

    def define_metric(self, name, **options):
        self.metrics.append((name, options))

    def log(self, line):
        self.lines.append(line)

    def finish(self):
        self.finished = True


class FakeWandb:
    """Keeps the runs that were started; refuses to start any if there is an ``error``."""

    def __init__(self, error=None):
        self.runs, self.error = [], error
        self.Image = lambda array: SimpleNamespace(array=array)

    def init(self, **settings):
        if self.error:
            raise self.error
        self.runs.append(FakeRun(len(self.runs), settings))
        return self.runs[-1]
