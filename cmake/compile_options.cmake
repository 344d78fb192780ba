# SPDX-License-Identifier: Apache-2.0
# Flags that every target shares. The arithmetic depends on three of them (spec FLT-1 to FLT-3).
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

add_library(etalon_options INTERFACE)
target_compile_options(etalon_options INTERFACE
  -ffp-contract=off     # fma only where it is written (FLT-2)
  -fno-fast-math        # IEEE-754 binary32 as the specification says (FLT-1)
  -fno-math-errno       # sqrt is one instruction; the result is the same
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wimplicit-fallthrough)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 warns of overlaps in std::string's operator+ that cannot be (GCC bug 105651).
  target_compile_options(etalon_options INTERFACE -Wno-restrict)
endif()
if(ETALON_WERROR)
  target_compile_options(etalon_options INTERFACE -Werror)
endif()
if(ETALON_SANITIZE)
  target_compile_options(etalon_options INTERFACE
    -fsanitize=${ETALON_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(etalon_options INTERFACE -fsanitize=${ETALON_SANITIZE})
endif()

# etalon_optimize(TARGET LEVEL): for what computes little. A sanitizer's checks of it would take
# longer to optimize than to run.
function(etalon_optimize target level)
  if(ETALON_FUZZ)
    return()  # it runs everything often
  endif()
  if(ETALON_SANITIZE)
    set(level 0)
  endif()
  target_compile_options(${target} PRIVATE -O${level})
endfunction()

# etalon_optimize_sanitized(TARGET): for what tests run more than all else. Under a sanitizer that
# takes less time with more optimization than the presets have.
function(etalon_optimize_sanitized target)
  if(ETALON_SANITIZE AND NOT ETALON_FUZZ)
    target_compile_options(${target} PRIVATE -O2)
  endif()
endfunction()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # So that it keeps what was compiled with a precompiled header: ccache's manual says how.
  set(CMAKE_CXX_COMPILER_LAUNCHER
    ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE_PROGRAM})
endif()

# etalon_compile_together(TARGET): its sources in batches that a compiler holds in two GiB.
function(etalon_compile_together target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 12)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # It takes what a batch includes for headers, where types of no name would be a mistake.
    target_compile_options(${target} PRIVATE -Wno-subobject-linkage)
  endif()
endfunction()

# etalon_precompile(TARGET ...): as target_precompile_headers, in a form that ccache keeps. Sources
# that are compiled together share their headers anyway.
function(etalon_precompile target)
  if(ETALON_UNITY)
    return()
  endif()
  target_precompile_headers(${target} ${ARGN})
  if(CCACHE_PROGRAM AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE -fpch-preprocess)
  endif()
endfunction()
