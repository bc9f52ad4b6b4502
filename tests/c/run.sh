#!/usr/bin/env bash
# run.sh - builds the library and the C tests with one compiler, and runs them.
# SPDX-License-Identifier: MIT
#
# tests/c/run.sh [--quick|--brief] [--only "bits ..."] [--build DIR]
#                [COMPILER [FLAGS...]]
#
# --quick and --brief run fewer cases of every kind.
# --build DIR builds there and keeps what it built; --build-only runs nothing, and
# --run-only what has been built there.
# RUN is put before each program, for instance "qemu-aarch64 -L /usr/aarch64-linux-gnu".
# Flags come after -O3, so that -O1 -fsanitize=... works.
# Ends with "N passed, N failed".
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
level=()
build=
build_only=
run_only=
only=()
for source in "$root"/tests/c/test_*.c; do
  name=$(basename "$source" .c)
  only+=("${name#test_}")
done
while [[ ${1-} == --* ]]; do
  case $1 in
    --quick | --brief) level=("$1") ;;
    --only)
      read -r -a only <<<"$2"
      shift
      ;;
    --build)
      build=$2
      shift
      ;;
    --build-only) build_only=yes ;;
    --run-only) run_only=yes ;;
    *)
      echo "run.sh: unknown option $1" >&2
      exit 2
      ;;
  esac
  shift
done
compiler=${1:-cc}
shift || true

keep=$build
if [[ -n $keep ]]; then
  mkdir -p "$build"
else
  build=$(mktemp -d)
  trap 'rm -rf "$build"' EXIT
fi
warnings=(-Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
  -Wundef -Wvla -Werror)
# Workers are woken for the smallest work, so that threads share what the tests have.
flags=(-std=c11 -O3 -DFN_BYTES_PER_WAKE=0 -ffp-contract=off -fvisibility=hidden -g1
  "${warnings[@]}" -I"$root/include" "$@")

# compile SOURCE OBJECT [FLAGS...]
compile() {
  local source=$1 object=$2
  shift 2
  "$compiler" "${flags[@]}" "$@" -c "$source" -o "$build/$object"
}

# Two at a time: the machine may be small, and the sources are few.
jobs=()
finish() { for job in "${jobs[@]}"; do wait "$job"; done; jobs=(); }
start() {
  compile "$@" &
  jobs+=($!)
  if [[ ${#jobs[@]} -ge 2 ]]; then finish; fi
}
if [[ -z $run_only ]]; then
  for source in "$root"/src/*.c; do
    start "$source" "$(basename "$source" .c).o"
  done
  for name in "${only[@]}"; do
    start "$root/tests/c/test_$name.c" "test_$name.to" -D_GNU_SOURCE -I"$root/src"
  done
  finish
  for name in "${only[@]}"; do
    "$compiler" "${flags[@]}" "$build/test_$name.to" "$build"/*.o \
      -o "$build/test_$name" -lpthread -lm
  done
fi
[[ -n $build_only ]] && exit 0

# run_one NAME: its output and "CODE SECONDS" into files.
run_one() {
  local begun=$SECONDS code=0
  # shellcheck disable=SC2086
  ${RUN-} "$build/test_$1" "${level[@]}" >"$build/$1.log" 2>&1 </dev/null || code=$?
  echo "$code $((SECONDS - begun))" >"$build/$1.code"
}

# Two at a time, as above.
running=0
for name in "${only[@]}"; do
  if [[ $running -ge 2 ]]; then
    wait -n
    running=$((running - 1))
  fi
  run_one "$name" &
  running=$((running + 1))
done
wait

passed=0
failed=0
for name in "${only[@]}"; do
  read -r code seconds <"$build/$name.code"
  last=$(tail -n 1 "$build/$name.log")
  if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
  else
    failed=$((failed + 1))
  fi
  if [[ $code -ne 0 ]]; then
    cat "$build/$name.log"
    [[ $last =~ \ 0\ failed$ ]] && failed=$((failed + 1))
  fi
  echo "test_$name: $last ($seconds s, exit $code)"
done
echo "$passed passed, $failed failed"
[[ $failed -eq 0 && $passed -gt 0 ]]
