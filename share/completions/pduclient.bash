# bash completion for pduclient(1)                                     -*- shell-script -*-

_pduclient() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    # --option=value comes as three words.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $prev in
        --command)
            mapfile -t COMPREPLY < <(compgen -W "on off reboot get-status status" -- "$cur")
            return
            ;;
        --daemon)
            mapfile -t COMPREPLY < <(compgen -A hostname -- "$cur")
            return
            ;;
        --hostname | --port | --alias | --delay | --timeout)
            return
            ;;
    esac
    local options="-H --http --daemon --hostname --port --command --alias --delay --timeout
        -h --help -V --version"
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
}

complete -F _pduclient pduclient
