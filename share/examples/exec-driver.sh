#!/bin/sh
# A driver for `exec`, whole: relays 1 to 4 that are files of a folder, each with `on` or `off` in it.
#
#     "relays": {"driver": "exec", "command": ["sh", "/usr/local/lib/relays.sh", "/var/lib/pdudaemon/relays"]}
#
# A shell does not read JSON, but the daemon always writes its questions in the same way: without
# blanks, and with the keys in the order of the alphabet.
folder=$1
mkdir -p "$folder" || exit

while IFS= read -r question; do
    outlet=${question#*\"outlet\":\"}
    outlet=${outlet%%\"*}
    case $question in
    *'"do":"hello"'*)
        echo '{"outlets": [1, 2, 3, 4], "reads": true}'
        ;;
    *'"do":"switch"'*'"to":"on"'*)
        echo on >"$folder/$outlet" && echo '{"done": true}' || echo '{"error": "the file cannot be written"}'
        ;;
    *'"do":"switch"'*'"to":"off"'*)
        echo off >"$folder/$outlet" && echo '{"done": true}' || echo '{"error": "the file cannot be written"}'
        ;;
    *'"do":"state"'*)
        if read -r state 2>/dev/null <"$folder/$outlet"; then
            echo "{\"state\": \"$state\"}"
        else
            echo '{"state": "unknown", "why": "nobody has switched it yet"}'
        fi
        ;;
    *)
        echo '{"done": true}'
        ;;
    esac
done
