#!/bin/sh
# A local program of a transcript: records how it is called (NUL after each word and each
# line of its input, a newline after the last) and answers with the files of the call's number.
dir=${0%/*}
# What an agent says of itself is no work.
[ "$*" != "-o metadata" ] || exec cat "$dir/metadata.out"
# A program that is to go wrong does so before it does anything else.
[ -e "$dir/fault" ] && . "$dir/fault"
read -r number < "$dir/number"
echo $((number + 1)) > "$dir/number"
{ printf '%s\0' "${0##*/}" "$@"; tr '\n' '\0'; echo; } >> "$dir/calls"
[ -e "$dir/$number.out" ] && cat "$dir/$number.out"
[ -e "$dir/$number.err" ] && cat "$dir/$number.err" >&2
[ -e "$dir/$number.exit" ] && read -r status < "$dir/$number.exit"
exit "${status:-0}"
