#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the CUDA compiler, and fails where it takes the products of a warpgroup one after the other:
# it says so in a note only, and such a kernel is a tenth slower.
#
# usage: nvcc_strict.sh COMMAND...
output=$("$@" 2>&1)
status=$?
if [ -n "$output" ]; then printf '%s\n' "$output" >&2; fi
case $output in
*"wgmma.mma_async instructions are serialized"*)
    echo "nvcc_strict.sh: see the note above; it counts as a warning" >&2
    exit 1
    ;;
esac
exit $status
