#!/bin/sh
# NXP's bcu without a board: as much as the driver asks of it, in the words of bcu.c. The level of
# a line is a file in the home of whoever runs it.
line=$HOME/bcu-$2
case $1 in
init) ;;
set_gpio)
    echo "$3" >"$line" && echo "set gpio successfully"
    ;;
get_level)
    if [ "$(cat "$line")" = 1 ]; then echo "get $2 level=HIGH"; else echo "get $2 level=LOW"; fi
    ;;
*)
    echo "unknown command $1"
    ;;
esac
