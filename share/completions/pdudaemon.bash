# bash completion for pdudaemon(8)                                     -*- shell-script -*-

# The names under `$2` ("pdus" or "aliases") in the config that the command line names.
_pdudaemon_names() {
    local conf=/etc/pdudaemon/pdudaemon.conf index
    for ((index = 1; index < COMP_CWORD; index++)); do
        case ${COMP_WORDS[index]} in
            -c | --conf)
                if [[ ${COMP_WORDS[index + 1]} == = ]]; then
                    conf=${COMP_WORDS[index + 2]}
                else
                    conf=${COMP_WORDS[index + 1]}
                fi
                ;;
        esac
    done
    if [[ -r $conf ]] && type jq &>/dev/null; then
        jq -r --arg section "$1" '.[$section] // {} | keys[]' "$conf" 2>/dev/null
    fi
}

_pdudaemon() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    # --option=value comes as three words.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    local IFS=$'\n'
    case $prev in
        -c | --conf | --logfile)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        --loglevel)
            mapfile -t COMPREPLY < <(compgen -W $'DEBUG\nINFO\nWARN\nERROR' -- "${cur^^}")
            return
            ;;
        --listener)
            mapfile -t COMPREPLY < <(compgen -W $'http\ntcp\nboth' -- "$cur")
            return
            ;;
        --request)
            mapfile -t COMPREPLY < <(compgen -W $'on\noff\nreboot\nget-status' -- "$cur")
            return
            ;;
        --hostname)
            mapfile -t COMPREPLY < <(compgen -W "$(_pdudaemon_names pdus)" -- "$cur")
            return
            ;;
        --alias)
            mapfile -t COMPREPLY < <(compgen -W "$(_pdudaemon_names aliases)" -- "$cur")
            return
            ;;
        --try)
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        --port | --delay | --retries | --retry-delay | --outlet | --set | --detect)
            return
            ;;
    esac
    local options=(
        -c --conf -j --journal --logfile --loglevel --listener
        --check --strict --health --list-drivers --discover
        --detect --http --try --outlet --set
        --drive --hostname --alias --port --request --delay --retries --retry-delay
        -h --help -V --version
    )
    mapfile -t COMPREPLY < <(compgen -W "${options[*]}" -- "$cur")
}

complete -F _pdudaemon pdudaemon
