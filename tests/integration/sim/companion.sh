#!/bin/sh
# A driver program of a transcript: records what it is asked (a newline and a NUL after each question)
# and answers with the file of the question's number. How it begins and rests is in no transcript.
dir=${0%/*}
while IFS= read -r question; do
    case $question in
    '"'*) continue ;; # the text of a program in Python
    *'"do":"hello"'*)
        cat "$dir/hello.out"
        continue
        ;;
    *'"do":"rest"'*)
        echo '{"done": true}'
        continue
        ;;
    esac
    # A program that is to go wrong does so before it does anything else.
    [ -e "$dir/fault" ] && . "$dir/fault"
    read -r number < "$dir/number"
    echo $((number + 1)) > "$dir/number"
    printf '%s\0\n' "$question" >> "$dir/calls"
    [ -e "$dir/$number.out" ] && cat "$dir/$number.out"
done
