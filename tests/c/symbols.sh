#!/usr/bin/env bash
# symbols.sh - what the built library exports, needs, and where its instructions are.
# SPDX-License-Identifier: MIT
#
# tests/c/symbols.sh [COMPILER [OBJECTS]]: builds by the one-line contract, with hidden
# visibility, or takes what was built so in the directory OBJECTS. Ends with "N passed,
# N failed".
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
compiler=${1:-cc}
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
passed=0
failed=0

# check NAME OFFENDERS: good when there are none.
check() {
  if [[ -z $2 ]]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAIL $1: $(tr '\n' ' ' <<<"$2" | cut -c1-300)"
  fi
}

objects=${2:-$build/objects}
if [[ $# -lt 2 ]]; then
  mkdir "$objects"
  (cd "$objects" &&
    "$compiler" -O3 -ffp-contract=off -fvisibility=hidden -I"$root/include" \
      -c "$root"/src/*.c)
fi
ar rc "$build/libfastnorm.a" "$objects"/*.o

names=$(nm -g --defined-only "$build/libfastnorm.a" | awk 'NF == 3 {print $3}')
check "the archive defines only fastnorm_ and fn_ names" \
  "$(grep -vE '^(fastnorm|fn)_' <<<"$names" || true)"
# What a shared library of these objects would export.
exported=$(readelf -sW "$objects"/*.o |
  awk '$5 == "GLOBAL" && $6 == "DEFAULT" && $7 != "UND" {print $8}')
check "a shared library exports only fastnorm_ names" \
  "$(grep -vE '^fastnorm_' <<<"$exported" || true)"

declared=$(sed 's,/\*.*\*/,,' "$root/include/fastnorm.h" | tr '\n' ' ' |
  grep -oE 'FASTNORM_API [^;{]*\(' | grep -oE 'fastnorm_[a-z0-9_]+ *\($' | tr -d ' (' |
  sort -u)
check "a shared library exports all that the header declares" \
  "$(comm -23 <(echo "$declared") <(sort -u <<<"$exported"))"
check "the header declares all that a shared library exports" \
  "$(comm -13 <(echo "$declared") <(sort -u <<<"$exported"))"

# Nothing is allocated, printed or aborted; so nothing that could is referred to.
needed=$(nm -u "$objects"/*.o | awk '$1 == "U" {print $2}' | sort -u)
unwanted='(m|c|re)alloc|free|aligned_alloc|posix_memalign|mmap|abort|_?exit'
unwanted+='|.*printf.*|f?put[sc]|fwrite|__assert_fail'
check "the library calls nothing that allocates, prints or ends the process" \
  "$(grep -xE "$unwanted" <<<"$needed" || true)"

# Wide registers only where a target region says so: anything else would fault on an
# older CPU.
if objdump -f "$objects"/threads.o | grep -q x86-64; then
  for object in "$objects"/*.o; do
    name=$(basename "$object" .o)
    wide=$(objdump -d --no-show-raw-insn "$object" | grep -oE '%(zmm|ymm|k)[0-9]+' |
      tr -d '0-9' | sort -u || true)
    case $name in
      isa_avx512) wanted='%zmm' unwanted='' ;;
      isa_avx2) wanted='%ymm' unwanted='%(zmm|k)' ;;
      *) wanted='' unwanted='%(zmm|ymm|k)' ;;
    esac
    if [[ -n $unwanted ]]; then
      check "no $unwanted registers in $name" \
        "$(grep -E "$unwanted" <<<"$wide" || true)"
    fi
    if [[ -n $wanted ]]; then
      check "$name uses $wanted registers" \
        "$(grep -q "$wanted" <<<"$wide" || echo none)"
    fi
  done
fi

strict=(-Wall -Wextra -pedantic -Werror -I"$root/include")
check "the header is strict C11" "$(echo '#include "fastnorm.h"' |
  "$compiler" -std=c11 "${strict[@]}" -x c -fsyntax-only - 2>&1)"
case $compiler in
  *clang) cxx=${compiler}++ ;;
  *gcc) cxx=${compiler%gcc}g++ ;;
  *) cxx=c++ ;;
esac
check "the header is C++17, and links" "$( ("$cxx" -std=c++17 "${strict[@]}" \
  "$root/tests/c/test_header.cc" "$build/libfastnorm.a" -o "$build/header" \
  -lpthread -lm &&
  "$build/header" | grep -vx '1 passed, 0 failed') 2>&1)"

echo "$passed passed, $failed failed"
[[ $failed -eq 0 ]]
