"""Every command of the README and of docs/ works: run on small data, or resolved with --dry-run where it takes long."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unet.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
README = PAGES[ROOT / "README.md"]
OF_A_GPU = ROOT / "docs" / "nvidia.md"  # its commands are tested beside the scripts that they call
TINY = [
    "--model.base-channels", "2", "--model.depth", "3", "--tile.input-px", "52", "--train.updates", "2",
    "--train.device", "cpu", "--train.threads", "1", "--augment.gray", "--wandb", "disabled", "--quiet",
]  # fmt: skip


def commands() -> list[str]:
    texts = [text for path, text in PAGES.items() if path != OF_A_GPU]
    blocks = [block for text in texts for block in re.findall(r"```sh\n(.*?)```", text, re.S)]
    lines = [line for block in blocks for line in block.splitlines() if line and not line.startswith("#")]
    return list(dict.fromkeys(lines))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with small data in the published layout and the run that the README speaks of."""
    folder = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    stack = folder / "data" / "ISBI-2012-EM"
    stack.mkdir(parents=True)
    labels = (rng.random((10, 60, 64)) > 0.3).astype(np.uint8) * 255
    others = (rng.random((4, 60, 64)) > 0.3).astype(np.uint8) * 255
    for path, images in (
        (stack / "train-volume.tif", labels // 2 + 20),
        (stack / "train-labels.tif", labels),
        (stack / "test-volume.tif", np.repeat(others // 2 + 20, 8, axis=0)[:30]),
        (stack / "test-labels.tif", np.repeat(others, 8, axis=0)[:30]),
        (folder / "my-images.tif", others // 2 + 20),
        (folder / "my-labels.tif", others),
    ):
        tifffile.imwrite(path, images.astype(np.uint8), photometric="minisblack")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("UNET_DATA", str(folder / "data"))
        assert main(["train", "--profile", "quick", *TINY]) == 0
        assert (folder / "runs" / "em-quick-seed0" / "scores.json").is_file()
        assert main(["train", "--profile", "quick", *TINY, "--data.split", "all", "--run", "runs/em-all"]) == 0
        for fold in map(str, range(5)):
            assert main(["train", "--profile", "quick", *TINY, "--data.fold", fold, "--run", f"runs/fold{fold}"]) == 0
        yield folder, patch


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("unet ")])
def test_commands_of_the_readme(command, workplace, capsys):
    folder, patch = workplace
    words = shlex.split(command)[1:]
    patch.chdir(ROOT if words[0] == "study" else folder)  # studies are pages of the repository
    if words[0] == "train":
        words.append("--dry-run")
    try:
        code = main(words)
    except SystemExit as stop:  # a command's own --help
        code = int(stop.code or 0)
    output = capsys.readouterr()
    assert code == 0, output.err
    assert output.out
    if words[0] == "predict":
        written, frames = tifffile.imread(folder / words[words.index("--out") + 1]), tifffile.imread(folder / words[2])
        assert (written.dtype, written.shape) == (np.float32, frames.shape)


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = {line.split()[1] for line in commands() if line.startswith("make ")}
    assert targets == {"train", "test"}
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


def test_there_are_no_other_commands():
    assert {line.split()[0] for line in commands()} == {"make", "unet"}


def test_paths_of_the_readme_exist():
    guide = ROOT / "CONTRIBUTING.md"
    for path, text in (*PAGES.items(), (guide, guide.read_text(encoding="utf-8"))):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (path.parent / target.replace("\\_", "_")).exists(), (path.name, target)


def test_the_readme_is_read_to_its_end():
    assert len(README.split()) <= 800


def test_keys_of_the_ledger_exist():
    from unet.config import keys

    ledger = PAGES[ROOT / "docs" / "ledger.md"]
    named = re.findall(r"`([a-z0-9-]+\.[a-z0-9-]+)`", ledger)
    assert len(named) > 15
    assert {name.replace("-", "_") for name in named} <= set(keys())


def test_the_check_of_the_keys_can_fail():
    from unet.config import keys

    assert "model.flavour" not in set(keys())
