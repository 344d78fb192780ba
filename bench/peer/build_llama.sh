#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds llama-bench and llama-server of llama.cpp into build/peer/avx2 and build/peer/avx512, or
# those that are named, from the source package of llama-cpp-python. LLAMA_SDIST=FILE uses a package
# that is here already.
#
# Both variants are built without -march=native, so that they hold what their name says, and without
# AMX: built by GCC 12 its AMX kernels crash.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
peer=$root/build/peer
[ $# -gt 0 ] || set -- avx2 avx512
package=llama-cpp-python==0.3.36
mkdir -p "$peer"

sdist=${LLAMA_SDIST:-}
if [ -z "$sdist" ]; then
    python3 -m pip download --quiet --no-deps --no-binary llama-cpp-python -d "$peer" \
        "$package" || { echo "etalon: error: cannot fetch $package" >&2; exit 1; }
    sdist=$(ls "$peer"/llama_cpp_python-*.tar.gz)
fi
rm -rf "$peer/source"
mkdir -p "$peer/source"
tar -xzf "$sdist" -C "$peer/source" --strip-components=1

common=(
    -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=ON
    -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_TOOLS=ON
    -DGGML_NATIVE=OFF -DGGML_OPENMP=ON
    -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_BMI2=ON -DGGML_FMA=ON -DGGML_F16C=ON
    -DGGML_AMX_TILE=OFF -DGGML_AMX_INT8=OFF -DGGML_AMX_BF16=OFF)
avx2=(-DGGML_AVX512=OFF)
avx512=(-DGGML_AVX512=ON -DGGML_AVX512_VNNI=ON -DGGML_AVX512_VBMI=ON)

# build VARIANT OPTION...
build() {
    local folder=$peer/$1
    shift
    cmake -S "$peer/source/vendor/llama.cpp" -B "$folder" -G Ninja "${common[@]}" "$@" \
        >"$folder.log"
    ninja -C "$folder" llama-bench llama-server >>"$folder.log" ||
        { tail -n 40 "$folder.log" >&2; exit 1; }
    echo "$folder/bin/llama-bench" "$folder/bin/llama-server"
}

for variant in "$@"; do
    case $variant in
        avx2) build avx2 "${avx2[@]}" ;;
        avx512) build avx512 "${avx512[@]}" ;;
        *) echo "usage: build_llama.sh [avx2] [avx512]" >&2; exit 2 ;;
    esac
done
