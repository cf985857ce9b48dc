"""`unet train --resume` where a cluster queues one command again and again: it begins the run, then goes on with it."""

import pytest

from unet.commands.train import resolve
from unet.config import to_yaml
from unet.errors import RunError


def test_resume_begins_a_run_that_is_not_there_and_goes_on_with_one_that_is(tmp_path):
    words = ["--profile", "smoke", "--train.seed", "3", "--run", str(tmp_path / "run"), "--resume"]
    arguments, path = resolve(words)
    assert (arguments.resume, arguments.config.train.seed, path) == (False, 3, tmp_path / "run")
    path.mkdir()
    (path / "config.yaml").write_text(to_yaml(arguments.config))
    again, _ = resolve(words)
    assert again.resume
    assert again.config == arguments.config


@pytest.mark.parametrize("words", [["--run", "runs/typo"], ["--profile", "smoke"], ["--quiet", "--run", "runs/typo"]])
def test_without_a_folder_or_settings_it_is_a_mistake(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="--resume needs --run with the folder of a run"):
        resolve([*words, "--resume"])


def test_a_folder_that_is_no_run_is_not_begun_in(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RunError, match="--resume needs --run"):
        resolve(["--profile", "smoke", "--run", str(tmp_path), "--resume"])
