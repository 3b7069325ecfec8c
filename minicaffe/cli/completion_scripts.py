"""The scripts of bash, zsh and fish that complete command lines of minicaffe.

They are made from `Words` of all commands and start no program, so completing takes no time.  Each has the same rules:
the first word that is an action decides; what follows a flag with a value is completed by the kind of the value, also
behind "="; flags are offered with as many dashes as were typed, underscores and dashes count as equal.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence

from minicaffe.cli.completion_words import Value, Words

# -- bash --------------------------------------------------------------------------------------------------------------

_BASH = r"""# bash completion of minicaffe {version}, made by `minicaffe completion bash`
_minicaffe() {
    local word="${COMP_WORDS[COMP_CWORD]}" flag="${COMP_WORDS[COMP_CWORD-1]}" action= flags= i
    if [[ $word == "=" ]]; then  # bash separates words at "="
        word=
    elif [[ $flag == "=" ]]; then
        flag="${COMP_WORDS[COMP_CWORD-2]}"
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${COMP_WORDS[i]}" in
            {actions_pattern}) action="${COMP_WORDS[i]}"; break ;;
        esac
    done
    if [[ -z $action ]]; then
        COMPREPLY=($(compgen -W "{actions} help --help --version" -- "$word"))
        return
    fi
    flag="${flag//_/-}"
    case "$action ${flag/#--/-}" in
{values}
    esac
    if [[ $word == -* ]]; then
        case "$action" in
{flags}
        esac
        [[ $word == -?* && $word != --* ]] && flags="${flags//--/-}"
        COMPREPLY=($(compgen -W "$flags" -- "$word"))
        [[ ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -W "${flags//_/-}" -- "$word"))
        return
    fi
    case "$action" in
{arguments}
    esac
}
complete -o bashdefault -o default -F _minicaffe minicaffe
"""
_BASH_FILES = "return ;;"  # readline completes names of files where there is no reply
_BASH_NOTHING = "compopt +o default +o bashdefault 2>/dev/null; return ;;"


def bash(commands: Sequence[Words], version: str) -> str:
    """Return the script for bash, 3.2 or newer."""
    names = [each.name for each in commands]
    return _filled(
        _BASH,
        version=version,
        actions=" ".join(names),
        actions_pattern="|".join([*names, "help"]),
        values="\n".join(f"        {line}" for line in _cases(commands, _bash_value)),
        flags="\n".join(
            f'            {each.name}) flags="{" ".join(flag.name for flag in each.flags)}" ;;' for each in commands
        ),
        arguments="\n".join(f"        {line}" for line in _argument_cases(commands, _bash_value)),
    )


def _bash_value(value: Value | None) -> str:
    if value is not None and value.words:
        open_end = "compopt -o nospace 2>/dev/null; " if value.open else ""
        nothing = "compopt +o default +o bashdefault 2>/dev/null; "
        return f'{nothing}{open_end}COMPREPLY=($(compgen -W "{" ".join(value.words)}" -- "$word")); return ;;'
    return _BASH_FILES if value is not None and value.files else _BASH_NOTHING


# -- zsh ---------------------------------------------------------------------------------------------------------------

_ZSH = r"""#compdef minicaffe
# zsh completion of minicaffe {version}, made by `minicaffe completion zsh`
_minicaffe() {
    setopt localoptions extendedglob
    local action flag word
    local -a actions flags dashed
    actions=(
{actions}
    )
    for word in ${words[2,CURRENT-1]}; do
        if [[ $word == help ]] || (( ${actions[(I)${(b)word}:*]} )); then action=$word; break; fi
    done
    if [[ -z $action ]]; then
        _describe 'action' actions
        return
    fi
    if [[ $PREFIX == -*=* ]]; then
        flag=${PREFIX%%=*}
        compset -P 1 '*='
    else
        flag=${words[CURRENT-1]}
    fi
    flag=${flag//_/-}
    case "$action ${flag/#--/-}" in
{values}
    esac
    if [[ $PREFIX == -* ]]; then
        case $action in
{flags}
        esac
        [[ $PREFIX == -[^-]* ]] && flags=("${flags[@]/#--/-}")
        _describe -o 'flag' flags -M 'm:{-_}={_-}'
        return
    fi
    case $action in
{arguments}
    esac
}
if [[ $zsh_eval_context == *func ]]; then _minicaffe "$@"; else compdef _minicaffe minicaffe; fi
"""


def zsh(commands: Sequence[Words], version: str) -> str:
    """Return the script for zsh."""
    return _filled(
        _ZSH,
        version=version,
        actions="\n".join(f"        {_zsh_described(each.name, each.text)}" for each in commands),
        values="\n".join(f"        {line}" for line in _cases(commands, _zsh_value)),
        flags="\n".join(f"            {each.name}) flags=({_zsh_flags(each)}) ;;" for each in commands),
        arguments="\n".join(f"        {line}" for line in _argument_cases(commands, _zsh_value)),
    )


def _zsh_flags(command: Words) -> str:
    return " ".join(_zsh_described(flag.name, flag.text) for flag in command.flags)


def _zsh_described(name: str, text: str) -> str:
    return shlex.quote(f"{name}:{text}")


def _zsh_value(value: Value | None) -> str:
    if value is not None and value.words:
        return f"compadd {'-S ' + repr('') + ' ' if value.open else ''}-- {' '.join(value.words)}; return ;;"
    return "_files; return ;;" if value is not None and value.files else "return 1 ;;"


# -- fish --------------------------------------------------------------------------------------------------------------

_FISH = r"""# fish completion of minicaffe {version}, made by `minicaffe completion fish`
function __minicaffe_action
    for word in (commandline -opc)[2..-1]
        if contains -- $word {actions} help
            echo $word
            return
        end
    end
    return 1
end
function __minicaffe_of
    test "$(__minicaffe_action)" = $argv[1]
end
complete -c minicaffe -n 'not __minicaffe_action >/dev/null' -f
{lines}
"""


def fish(commands: Sequence[Words], version: str) -> str:
    """Return the script for fish, 3.4 or newer."""
    return _filled(
        _FISH, version=version, actions=" ".join(each.name for each in commands), lines="\n".join(_fish_lines(commands))
    )


def _fish_lines(commands: Sequence[Words]) -> Iterator[str]:
    begin = "complete -c minicaffe -n 'not __minicaffe_action >/dev/null'"
    for each in commands:
        yield f"{begin} -a {each.name} -d {_fish_quoted(each.text)}"
    yield f"complete -c minicaffe -n '__minicaffe_of help' -f -a '{' '.join(each.name for each in commands)}'"
    for each in commands:
        condition = f"complete -c minicaffe -n '__minicaffe_of {each.name}'"
        yield f"{condition} {_fish_value(each.argument)}"
        for flag in each.flags:
            name = flag.name.lstrip("-")
            spellings = " ".join(f"-l {one} -o {one}" for one in dict.fromkeys([name, flag.key]))
            value = "" if flag.value is None else f" -r {_fish_value(flag.value)}"
            yield f"{condition} {spellings}{value} -d {_fish_quoted(flag.text)}"


def _fish_value(value: Value | None) -> str:
    if value is not None and value.words:
        return f"-f -a '{' '.join(value.words)}'"
    return "-F" if value is not None and value.files else "-f"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# -- all ---------------------------------------------------------------------------------------------------------------

SHELLS: dict[str, Callable[[Sequence[Words], str], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def _cases(commands: Sequence[Words], branch: Callable[[Value | None], str]) -> Iterator[str]:
    """Yield a branch of "case ACTION FLAG" for each kind of value that follows flags."""
    patterns: dict[str, list[str]] = {}
    for each in commands:
        for flag in each.flags:
            if flag.value is not None:
                patterns.setdefault(branch(flag.value), []).append(f'"{each.name} -{flag.key}"')
    for text, names in patterns.items():
        yield f"{'|'.join(names)}) {text}"


def _argument_cases(commands: Sequence[Words], branch: Callable[[Value | None], str]) -> Iterator[str]:
    """Yield a branch of "case ACTION" for each kind of arguments."""
    patterns: dict[str, list[str]] = {branch(Value(tuple(each.name for each in commands))): ["help"]}
    for each in commands:
        patterns.setdefault(branch(each.argument), []).append(each.name)
    for text, names in patterns.items():
        yield f"{'|'.join(names)}) {text}"


def _filled(template: str, **texts: str) -> str:
    """Replace {name} in a template, which has other braces, too."""
    for name, text in texts.items():
        template = template.replace(f"{{{name}}}", text)
    return template
