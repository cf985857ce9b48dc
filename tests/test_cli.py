"""The command line: quick help, one clear line and exit code 2 for every mistake."""

import errno
import os
import shlex
import shutil
import subprocess
import sys
import time

import pytest
import yaml

from unet.cli import COMMANDS, main
from unet.commands import completion
from unet.commands.train import full_size_command, resolve


def run(capsys, *words):
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_help_names_every_command(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)


def test_help_is_quick():
    best = 9.0
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "unet", "--help"], check=True, capture_output=True)
        best = min(best, time.perf_counter() - started)
    assert best < 0.4


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    try:
        code = main([command, "--help"])
    except SystemExit as stop:
        code = stop.code
    assert code == 0
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "did you mean 'train'"),
        (["train", "--optim.lrr", "1"], "unknown option --optim.lrr; did you mean '--optim.lr'"),
        (["train", "--lr", "1"], "did you mean '--optim.lr'"),
        (["train", "--epochs", "5"], "did you mean '--train.updates'"),
        (["train", "--batch_size=4"], "did you mean '--train.batch'"),
        (["train", "--seed", "1"], "did you mean '--train.seed'"),
        (["train", "--output", "x"], "did you mean '--run'"),
        (["predict", "run", "image.tif", "--output", "x"], "did you mean '--out'"),
        (["train", "nowhere"], "'nowhere' is no folder and no data set"),
        (["train", "helo"], "did you mean 'hela'"),
        (["train", "--optim.lr", "-1"], "optim.lr: -1.0 is not allowed"),
        (["train", "--weight.sigma-px", "inf"], "weight.sigma_px: inf is not allowed"),
        (["train", "--weight.w0", "inf"], "weight.w0: inf is not allowed"),
        (["train", "--optim.lr", "fast"], "could not convert string to float: 'fast'"),
        (["train", "--optim.name", "sdg"], "did you mean 'sgd'"),
        (["train", "--tile.input-px", "512"], "508 or 524"),
        (["train", "--profile", "quik"], "did you mean 'quick'"),
        (["train", "--config-file", "absent.yaml"], "absent.yaml: cannot be read"),
        (["train", "--resume"], "--resume needs --run"),
        (["train", "--resume", "--run", "absent"], "--resume needs --run"),
        (["train", "--device", "cuda:99", "--dry-run"], "did you mean '--train.device'"),
        (["sizes", "512"], "508 or 524"),
        (["sizes", "--depth", "99"], "model.depth: 99 is not allowed"),
        (["evaluate", "absent"], "not a run folder"),
        (["predict", "absent", "absent.tif"], "absent"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(words, message, capsys):
    code, _, err = run(capsys, *words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_every_key_can_be_overridden(capsys):
    code, out, _ = run(
        capsys, "train", "--dry-run", "--profile", "quick", "--optim.betas", "0.8", "0.9", "--augment.gray",
        "RandomGamma(p=1.0)", "--train.no-channels-last", "--wandb", "offline", "--data.held-out", "a", "b",
        "--data.split", "list", "--run", "runs/x",
    )  # fmt: skip
    assert code == 0
    resolved = yaml.safe_load(out)
    assert resolved["optim"]["betas"] == [0.8, 0.9]
    assert resolved["augment"]["gray"] == ["RandomGamma(p=1.0)"]
    assert resolved["train"]["channels_last"] is False
    assert resolved["wandb"]["mode"] == "offline"
    assert resolved["data"]["held_out"] == ["a", "b"]
    assert resolved["model"]["base_channels"] == 16  # from the profile


def test_flags_go_over_file_over_profile(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("optim: {lr: 0.5, kind: adam}\n")
    words = [
        "train",
        "--dry-run",
        "--profile",
        "quick",
        "--config-file",
        str(tmp_path / "c.yaml"),
        "--optim.lr",
        "0.25",
    ]
    _, out, _ = run(capsys, *words)
    resolved = yaml.safe_load(out)
    assert (resolved["optim"]["lr"], resolved["optim"]["name"]) == (0.25, "adam")
    assert resolved["train"]["batch"] == 1


@pytest.mark.parametrize("words", [["--profile", "auto"], ["--profile=auto"]])
def test_the_automatic_profile_leaves_other_automatic_settings_alone(words, tmp_path, capsys):
    automatic = ["--train.precision", "auto", "--train.device=auto", "--dry-run"]
    code, out, err = run(capsys, "train", *words, *automatic)
    assert code == 0, err
    assert "precision: auto" in out


def test_sizes_prints_figure_1(capsys):
    _, out, _ = run(capsys, "sizes", "572")
    assert "output         388" in out
    _, out, _ = run(capsys, "sizes")
    assert "572 -> 388" in out
    _, out, _ = run(capsys, "sizes", "512", "--allow-odd-pooling")
    assert "out of line" in out


def test_version(capsys):
    _, out, _ = run(capsys, "--version")
    assert out.startswith("unet-2015 ")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_how_threads_wait_is_settled_before_they_are_there_unless_the_user_has_said(given, kept, monkeypatch, capsys):
    monkeypatch.setattr(os, "environ", dict(given))
    assert run(capsys, "--version")[0] == 0
    assert os.environ.get("GOMP_SPINCOUNT") == kept


def test_nothing_loads_torch_before_it_is_settled_how_threads_wait():
    script = "import sys, unet.cli; sys.exit(any(name in sys.modules for name in ('torch', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("name", ["/locked/a\n.tif", None])
def test_what_the_system_refuses_is_one_line_and_exit_2(name, monkeypatch, capsys):
    def refused(_words):
        raise PermissionError(errno.EACCES, "Permission denied", name)

    monkeypatch.setattr("unet.commands.sizes.main", refused)
    code, _, err = run(capsys, "sizes")
    assert code == 2
    where = "" if name is None else "/locked/a\\n.tif: "
    assert err == f"unet: {where}Permission denied; check the path and its rights\n"


def test_flags_and_values_of_before_are_read(capsys):
    words = ["train", "--dry-run", "--optim.kind=adam", "--data.separate-px", "3", "--weight.balance", "normalised"]
    assert main([*words, "--predict.rotations", "8"]) == 0
    out, err = capsys.readouterr()
    resolved = yaml.safe_load(out)
    assert (resolved["optim"]["name"], resolved["data"]["ridge_px"]) == ("adam", 3)
    assert (resolved["weight"]["balance"], resolved["predict"]["symmetries"]) == ("inverse_frequency", 8)
    assert "--optim.kind is now called --optim.name" in err or not err  # said once by a process


@pytest.mark.parametrize("command", ["train", "predict", "study"])
def test_the_help_of_the_narrowest_terminal_takes_no_minutes(command, monkeypatch, capsys):
    """One column made the parser's help, drawn letter by letter, take minutes."""
    monkeypatch.setenv("COLUMNS", "1")
    started = time.process_time()
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert time.process_time() - started < 20
    assert "--quiet" in capsys.readouterr().out


def test_a_folder_or_a_data_set_in_front_is_what_is_trained_on(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve(["mine", "--profile", "quick"])[0].config.data.folder == str(tmp_path / "mine")
    assert resolve(["hela", "--data.labels", "silver"])[0].config.data.name == "hela"


def test_the_command_of_the_full_size_run_can_be_pasted(tmp_path, monkeypatch):
    """It trains on the same data, whatever was said about it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my images").mkdir()
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/unet"])
    small = ["my images", "--profile", "quick", "--data.label-map", "0=back ground", "1-9=cell", "--data.fold", "2",
             "--data.percentiles", "1", "99"]  # fmt: skip
    config = resolve(small)[0].config
    program, command, *words = shlex.split(full_size_command(config))
    assert (program, command) == ("/somewhere/bin/unet", "train")
    again, _ = resolve(words)
    assert again.config.data == config.data
    assert again.config.model.base_channels == 64


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], True),
        (["--profile", "full"], False),
        (["--model.base-channels", "16"], False),
        (["--train.device", "cuda"], False),
    ],
)
def test_without_a_profile_the_hours_of_the_papers_size_are_said(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["train", "--data.folder", str(tmp_path), *words]) == 2  # it holds no images
    assert ("about 11 hours on two cores with bf16" in capsys.readouterr().err) == told  # 4000 x 4 tiles of 2.4 s


@pytest.mark.parametrize(
    ("command", "named"), [("predict", "[RUN ...] IMAGES [IMAGES ...]"), ("evaluate", "RUN"), ("reproduce", "RUN")]
)
def test_help_names_what_stands_for_runs_and_images(command, named, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert named in capsys.readouterr().out.split("\n")[0]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tra"], ["train"]),
        (["train", "--optim.l"], ["--optim.lr"]),
        (["predict", "--over"], ["--overlay", "--overwrite"]),
        (["evaluate", "--data.f"], ["--data.folder", "--data.foreground"]),
        (["study", "--prof"], ["--profile"]),
        (["data", "--from"], ["--from-file"]),
        (["predict", "exi"], ["existing.tif"]),
    ],
)
def test_the_shell_completes_commands_options_and_files(words, expected, tmp_path, capsys):
    (tmp_path / "existing.tif").touch()
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    words = " ".join(map(shlex.quote, ["unet", *words]))
    ask = f'COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _unet; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert sorted(done.stdout.split()) == expected
    assert sorted(completion.names()) == sorted(COMMANDS)
