"""`unet completion`: a script for the shell, which then completes commands, options and files."""

from __future__ import annotations

import importlib
import pkgutil

from unet import commands
from unet.commands import data, study
from unet.commands.parse import known_flags
from unet.errors import ConfigError

_HEAD = """# for bash: eval "$(unet completion)" in ~/.bashrc
# for zsh:  autoload -U +X bashcompinit && bashcompinit && eval "$(unet completion)" in ~/.zshrc
_unet() {
    local word=${COMP_WORDS[COMP_CWORD]} flags=""
    case ${COMP_WORDS[1]} in
"""
_TAIL = """    esac
    if [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W "COMMANDS" -- "$word"))
    elif [ "${word#-}" != "$word" ]; then
        COMPREPLY=($(compgen -W "$flags" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}
complete -o filenames -F _unet unet
"""


def main(argv: list[str]) -> int:
    """Print the script; it is the same for both shells."""
    if argv and argv[0] in ("-h", "--help"):
        print(f"usage: unet completion [bash|zsh]\n{_HEAD.split('_unet()')[0]}", end="")
        return 0
    if argv and argv not in (["bash"], ["zsh"]):
        raise ConfigError(f"unet completion {' '.join(argv)}: it takes bash, zsh or nothing")
    cases = "".join(f'        {name}) flags="{" ".join(flags_of(name))}" ;;\n' for name in names())
    print(_HEAD + cases + _TAIL.replace("COMMANDS", " ".join(names())), end="")
    return 0


def names() -> list[str]:
    """The commands: the modules beside this one that have a `main`."""
    beside = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    return [name for name in beside if hasattr(importlib.import_module(f"unet.commands.{name}"), "main")]


def flags_of(command: str) -> list[str]:
    """All options of a command, as it takes them."""
    if command == "study":
        return [flag for action in study.parser()._actions for flag in action.option_strings]
    if command == "completion":
        return ["--help"]
    if command == "data":
        kinds: list[type] = [data.FetchArguments, data.VerifyArguments, data.LookArguments]
    else:
        kinds = [importlib.import_module(f"unet.commands.{command}").Arguments]
    aliases = ["--from", "--wandb"] if command == "train" else []
    return list(dict.fromkeys([*(flag for kind in kinds for flag in known_flags(kind)), *aliases, "--help"]))
