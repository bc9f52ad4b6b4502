#!/usr/bin/env bash
# package.sh - the C library as its users get it: installed, found, built into others.
# SPDX-License-Identifier: MIT
#
# tests/c/package.sh [--keep DIR] [CMAKE-OPTIONS...]: installs with CMake into a fresh
# prefix, then builds and runs the examples by find_package, pkg-config,
# add_subdirectory and cargo. Ends with "N passed, N failed". Python examples run with
# $PYTHON (python3), which needs cffi for one of them.
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [[ ${1-} == --keep ]]; then
  trap - EXIT
  work=$2
  mkdir -p "$work"
  shift 2
fi
prefix=$work/prefix
passed=0
failed=0

# check NAME COMMAND...: passed if the command ends well; else what it printed.
check() {
  local name=$1
  shift
  if "$@" >"$work/log" 2>&1; then
    passed=$((passed + 1))
    sed 's/^/  /' "$work/log" | tail -n 3 | grep -E 'differs|pieces|bits' || true
  else
    failed=$((failed + 1))
    echo "FAIL $name"
    tail -n 20 "$work/log"
  fi
}

# same NAME EXPECTED FOUND
same() { check "$1: expected $2, found $3" test "$2" = "$3"; }

install_it() {
  cmake -S "$root" -B "$work/build" -DCMAKE_INSTALL_PREFIX="$prefix" \
    -DCMAKE_INSTALL_LIBDIR=lib "$@" &&
    cmake --build "$work/build" -j 2 && cmake --install "$work/build"
}
check "cmake --install" install_it "$@"
version=$(sed -n 's/.*define FASTNORM_VERSION_STRING *"\(.*\)"/\1/p' \
  "$root/include/fastnorm.h")
shared=$prefix/lib/libfastnorm.so

same "what is installed" "include/fastnorm.h
lib/cmake/fastnorm/fastnorm-config-version.cmake
lib/cmake/fastnorm/fastnorm-config.cmake
lib/cmake/fastnorm/fastnorm-targets-release.cmake
lib/cmake/fastnorm/fastnorm-targets.cmake
lib/libfastnorm.a
lib/libfastnorm.so
lib/libfastnorm.so.${version%%.*}
lib/libfastnorm.so.$version
lib/pkgconfig/fastnorm.pc" \
  "$(cd "$prefix" && find . -type f -o -type l | sed 's,^\./,,' | LC_ALL=C sort)"
same "the soname" "libfastnorm.so.${version%%.*}" \
  "$(objdump -p "$shared" | awk '$1 == "SONAME" { print $2 }')"
same "symbols that are exported and not fastnorm_" "" \
  "$(nm -D --defined-only "$shared" | awk '{ print $3 }' | grep -v '^fastnorm_')"
check "it exports fastnorm_layer_norm" \
  grep -q fastnorm_layer_norm <(nm -D --defined-only "$shared")
same "libraries that it needs beside C's own" "" "$(objdump -p "$shared" |
  awk '$1 == "NEEDED" { print $2 }' | grep -vE '^(libc|libm|libpthread|ld-.*)\.so')"

# ---- The tree may be moved after it is installed: everything is found from there.
mv "$prefix" "$work/moved"
prefix=$work/moved
shared=$prefix/lib/libfastnorm.so
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
export LD_LIBRARY_PATH=$prefix/lib

by_pkg_config() {
  # shellcheck disable=SC2046
  cc -O2 "$root/examples/c/encoder.c" $(pkg-config --cflags --libs fastnorm) -lm \
    -o "$work/encoder" && "$work/encoder"
}
by_pkg_config_statically() {
  # shellcheck disable=SC2046
  cc -O2 -static "$root/examples/c/encoder.c" \
    $(pkg-config --static --cflags --libs fastnorm) -o "$work/encoder_static" &&
    "$work/encoder_static"
}
in_cpp() {
  # shellcheck disable=SC2046
  c++ -std=c++17 -O2 -Wall -Wextra -Werror "$root/examples/cpp/thread_pool.cc" \
    $(pkg-config --cflags --libs fastnorm) -pthread -o "$work/thread_pool" &&
    "$work/thread_pool"
}
same "the version that pkg-config knows" "$version" \
  "$(pkg-config --modversion fastnorm)"
check "pkg-config: C" by_pkg_config
check "pkg-config: C, a static program" by_pkg_config_statically
check "pkg-config: C++ with a pool of its own" in_cpp

# A plugin host: loads the library, calls it with threads, and lets go of it.
cat >"$work/plugin.c" <<END
#include <dlfcn.h>
#include <fastnorm.h>
#include <unistd.h>
static float x[512 * 1024];
int main(void) {
  for (int i = 0; i < 20; i++) {
    void *library = dlopen("libfastnorm.so", RTLD_NOW);
    fastnorm_status (*norm)(const fastnorm_rms_norm_args *) =
        library ? dlsym(library, "fastnorm_rms_norm") : 0;
    if (!norm || norm(&(fastnorm_rms_norm_args){.size = sizeof(fastnorm_rms_norm_args),
                                                .x = x, .y = x, .rows = 512,
                                                .cols = 1024, .exec.num_threads = 4}))
      return 1;
    dlclose(library);
    usleep(1000);
  }
  return 0;
}
END
plugin() {
  # shellcheck disable=SC2046
  cc "$work/plugin.c" $(pkg-config --cflags fastnorm) -ldl -o "$work/plugin" &&
    "$work/plugin"
}
check "a host that loads it and lets go of it" plugin

# A project of three lines, the library found or built inside it.
# project NAME LINES: writes one.
project() {
  mkdir -p "$work/$1"
  cat >"$work/$1/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.21)
project(host C)
$2
add_executable(encoder "$root/examples/c/encoder.c")
target_link_libraries(encoder PRIVATE fastnorm::fastnorm m)
install(TARGETS encoder)
END
}
# build NAME [OPTIONS...]
build() {
  local name=$1
  shift
  cmake -S "$work/$name" -B "$work/$name/build" \
    -DCMAKE_INSTALL_PREFIX="$work/$name/prefix" "$@" &&
    cmake --build "$work/$name/build" -j 2 &&
    cmake --install "$work/$name/build" && "$work/$name/build/encoder"
}
project found "find_package(fastnorm ${version%.*} REQUIRED)"
check "find_package, static" build found -DCMAKE_PREFIX_PATH="$prefix"
same "the static program needs no libfastnorm" "" \
  "$(objdump -p "$work/found/build/encoder" | grep libfastnorm)"
check "find_package, shared" build found -DCMAKE_PREFIX_PATH="$prefix" \
  -DBUILD_SHARED_LIBS=ON
check "the shared program needs it" \
  grep -q libfastnorm <(objdump -p "$work/found/build/encoder")
project newer "find_package(fastnorm 999 REQUIRED)"
check "a version that is not there is not found" \
  test -z "$(build newer -DCMAKE_PREFIX_PATH="$prefix" >/dev/null 2>&1 && echo found)"

project inside "add_subdirectory(\"$root\" fastnorm)"
check "add_subdirectory, by a host that wants fast maths" \
  build inside "-DCMAKE_C_FLAGS=-O1 -ffast-math"
same "what a host installs" "bin/encoder" \
  "$(cd "$work/inside/prefix" && find . -type f | sed 's,^\./,,')"
same "what a host builds beside its own" "libfastnorm.a" \
  "$(cd "$work/inside/build/fastnorm" && find . -name '*.a' -o -name '*.so*' \
    -o -name 'test_*' -type f | sed 's,^\./,,')"
project fetched "include(FetchContent)
FetchContent_Declare(fastnorm SOURCE_DIR \"$root\")
FetchContent_MakeAvailable(fastnorm)"
check "FetchContent, without threads" \
  build fetched -DFASTNORM_THREADS=OFF -DCMAKE_C_FLAGS=-O1
same "symbols of threads where there are to be none" "" \
  "$(nm -u "$work/fetched/build/fastnorm/libfastnorm.a" 2>/dev/null |
    grep -E 'pthread_create')"

# ---- Other languages
in_rust() {
  (cp -r "$root/examples/rust" "$work/rust" && cd "$work/rust" &&
    cargo run --offline --release)
}
if command -v cargo >/dev/null; then
  check "Rust" in_rust
else
  echo "skipped: no cargo"
fi
check "Python, ctypes" "${PYTHON:-python3}" "$root/examples/ffi/ctypes_norm.py" \
  "$shared"
if "${PYTHON:-python3}" -c "import cffi" 2>/dev/null; then
  check "Python, cffi" "${PYTHON:-python3}" "$root/examples/ffi/cffi_norm.py" \
    "$shared" "$prefix/include/fastnorm.h"
else
  echo "skipped: no cffi"
fi

echo "$passed passed, $failed failed"
[[ $failed -eq 0 ]]
