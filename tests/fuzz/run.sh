#!/usr/bin/env bash
# run.sh - builds the fuzz target of the C API, and runs it.
# SPDX-License-Identifier: MIT
#
# tests/fuzz/run.sh [--seed N] [--build DIR] [--objects DIR]
#                   [SECONDS [COMPILER [FLAGS...]]]
#
# Without --seed: libFuzzer, with clang, its sanitizers and a corpus in DIR/corpus. What
# it finds it leaves in DIR (`fuzz_api DIR/crash-...` runs it again).
# With --seed N: a plain program of any compiler, whose inputs follow from N alone, so
# that a finding is named by two numbers. FLAGS may hold sanitizers.
# --build DIR builds there and keeps it; --objects DIR takes the library from there, as
# `tests/c/run.sh --build DIR` leaves it (COMPILER and FLAGS must be the same).
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
seed=
build=
objects=
while [[ ${1-} == --* ]]; do
  case $1 in
    --seed) seed=$2 ;;
    --build) build=$2 ;;
    --objects) objects=$2 ;;
    *)
      echo "run.sh: unknown option $1" >&2
      exit 2
      ;;
  esac
  shift 2
done
seconds=${1:-30}
shift || true
if [[ -n $seed ]]; then
  compiler=${1:-cc}
  alone=(-DFASTNORM_FUZZ_ALONE)
else
  compiler=${1:-clang}
  alone=()
fi
shift || true
flags=("$@")
kernels=("$@")
if [[ -z $seed ]]; then
  flags+=(-O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
  # With the undefined behaviour sanitizer as well these take many minutes to compile;
  # `run.sh --seed` on the objects of such a build has it.
  kernels+=(-O1 -fsanitize=fuzzer-no-link,address)
  alone=(-fsanitize=fuzzer,address,undefined)
fi

if [[ -z $build ]]; then
  build=$(mktemp -d)
  trap 'rm -rf "$build"' EXIT
fi
mkdir -p "$build/corpus"
common=(-std=c11 -O2 -g1 -ffp-contract=off -Wall -Wextra -I"$root/include")

# compile SOURCE: unless there is an object that is not older.
compile() {
  local object
  object=$build/$(basename "$1" .c).o
  [[ $object -nt $1 && $object -nt $root/include/fastnorm.h ]] && return
  case $1 in
    */isa_*) "$compiler" "${common[@]}" "${kernels[@]}" -c "$1" -o "$object" ;;
    *) "$compiler" "${common[@]}" "${flags[@]}" -c "$1" -o "$object" ;;
  esac
}
if [[ -z $objects ]]; then
  objects=$build
  jobs=()
  for source in "$root"/src/*.c; do
    compile "$source" &
    jobs+=($!)
    if [[ ${#jobs[@]} -ge 2 ]]; then
      for job in "${jobs[@]}"; do wait "$job"; done
      jobs=()
    fi
  done
  for job in "${jobs[@]}"; do wait "$job"; done
fi
"$compiler" "${common[@]}" "${flags[@]}" "${alone[@]}" -D_GNU_SOURCE -I"$root/src" \
  -I"$root/tests/c" "$root/tests/fuzz/fuzz_api.c" "$objects"/*.o -o "$build/fuzz_api" \
  -lpthread -lm

if [[ -n $seed ]]; then
  "$build/fuzz_api" --seed "$seed" "$seconds"
else
  "$build/fuzz_api" -max_total_time="$seconds" -max_len=600 -len_control=0 -timeout=60 \
    -rss_limit_mb=4096 -artifact_prefix="$build/" -print_final_stats=1 "$build/corpus"
fi
