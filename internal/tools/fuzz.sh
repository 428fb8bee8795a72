#!/bin/sh
# Runs every fuzz target of the packages given behind the Go command and the time for each.
set -eu
go=$1 time=$2
shift 2
out=$(mktemp)
trap 'rm -f "$out"' EXIT

one() { "$go" test -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 1x "$1" >"$out" 2>&1; }

for package in $("$go" list "$@"); do
	for target in $("$go" test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		if ! one "$package" "$target"; then
			# Go's fuzzer now and then takes its own deadline for a failure; it names no input then. Once more.
			if grep -q 'context deadline exceeded' "$out" && ! grep -q 'Failing input' "$out"; then
				echo "$package $target: stopped by its own deadline, again"
				one "$package" "$target" || { cat "$out"; exit 1; }
			else
				cat "$out"
				exit 1
			fi
		fi
		echo "$package $target: $(grep -o 'execs: [0-9]*' "$out" | tail -n 1), no finding"
	done
done
