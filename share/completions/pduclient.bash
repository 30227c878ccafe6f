# bash completion for pduclient(1)                                     -*- shell-script -*-

# Names of PDUs, outlets and aliases come from the daemon that the line names, when it answers.
_pduclient() {
    # The words as the user sees them: COMP_WORDS is divided at = and : too.
    local line=${COMP_LINE:0:COMP_POINT} cur='' option='' word='' hostname='' field
    local -a fields asked=() names=()
    read -ra fields <<<"$line"
    local program=${fields[0]}
    if [[ $line != *[[:space:]] ]]; then
        cur=${fields[-1]}
        unset 'fields[-1]'
    fi
    for field in "${fields[@]:1}"; do
        case $option in
            --daemon | --token-file | --ca | --cert | --key) asked+=("$option" "$field") ;;&
            --hostname) hostname=$field ;;&
            --*)
                option=''
                continue
                ;;
        esac
        case $field in
            --daemon=* | --token-file=* | --ca=* | --cert=* | --key=* | --tls) asked+=("$field") ;;
            --hostname=*) hostname=${field#*=} ;;
            --daemon | --token-file | --timeout | --delay | --hostname | --port | --alias | \
                --command | --follow | --cancel | --limit | --ca | --cert | --key) option=$field ;;
            -*) ;;
            *) word=${word:-$field} ;;
        esac
    done
    local whole=$cur
    if [[ -z $option && $cur == --*=* ]]; then
        option=${cur%%=*}
        cur=${cur#*=}
    fi

    case $option in
        --command) names=(on off reboot get-status status) ;;
        --daemon) mapfile -t names < <(compgen -A hostname -- "$cur") ;;
        --token-file | --ca | --cert | --key)
            compopt -o filenames 2>/dev/null
            mapfile -t names < <(compgen -f -- "$cur")
            ;;
        --hostname) mapfile -t names < <("$program" complete "${asked[@]}" pdus 2>/dev/null) ;;
        --port) mapfile -t names < <("$program" complete "${asked[@]}" outlets "$hostname" 2>/dev/null) ;;
        --alias) mapfile -t names < <("$program" complete "${asked[@]}" aliases 2>/dev/null) ;;
        --*) ;;
        *)
            local common='--daemon --token-file --tls --ca --cert --key --timeout --json -h --help -V --version'
            local old='-H --http --hostname --port --command --alias --delay'
            case $word:$cur in
                :-*) read -ra names <<<"$common $old" ;;
                :*) names=(list state on off reboot requests) ;;
                list:-*) read -ra names <<<"$common --aliases" ;;
                list:*) mapfile -t names < <("$program" complete "${asked[@]}" pdus 2>/dev/null) ;;
                reboot:-*) read -ra names <<<"$common --delay" ;;
                requests:*) read -ra names <<<"$common --follow --cancel --limit" ;;
                state:-* | on:-* | off:-*) read -ra names <<<"$common" ;;
                state:* | on:* | off:* | reboot:*)
                    mapfile -t names < <("$program" complete "${asked[@]}" targets "$cur" 2>/dev/null)
                    ;;
            esac
            ;;
    esac

    # Readline puts the answer behind the last : or = that is there already.
    local there='' name
    if [[ $whole == *[:=]* && $COMP_WORDBREAKS == *:* ]]; then
        there=${whole%"${whole##*[:=]}"}
        [[ $whole == --*=* ]] && there=${there#*=}
    fi
    COMPREPLY=()
    for name in "${names[@]}"; do
        if [[ $name == "$cur"* ]]; then
            name=${name#"$there"}
            [[ $name == *: ]] && compopt -o nospace 2>/dev/null
            if [[ $option != --@(token-file|ca|cert|key) ]]; then
                printf -v name %q "$name"
            fi
            COMPREPLY+=("$name")
        fi
    done
}

complete -F _pduclient pduclient
