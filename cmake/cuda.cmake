# SPDX-License-Identifier: Apache-2.0
# The CUDA compiler, when it is there. ETALON_CUDA=AUTO builds the backend where nvcc is found and
# new enough, ON demands it, OFF leaves it out. Sets ETALON_HAS_CUDA.
#   -DETALON_CUDA_ARCHITECTURES=90a-real    one kind of card only; a build takes less time. The
#                                           variable of the environment is its default (.ci/run)
set(ETALON_CUDA AUTO CACHE STRING "Build the CUDA backend: AUTO, ON or OFF")
set_property(CACHE ETALON_CUDA PROPERTY STRINGS AUTO ON OFF)
set(architectures "80;90a-real")
if(DEFINED ENV{ETALON_CUDA_ARCHITECTURES})
  set(architectures $ENV{ETALON_CUDA_ARCHITECTURES})
endif()
set(ETALON_CUDA_ARCHITECTURES ${architectures} CACHE STRING
    "Cards to compile for, as for CMAKE_CUDA_ARCHITECTURES; other cards use the PTX of 80")
option(ETALON_CUDA_RACECHECK "Kernels whose order racecheck of compute-sanitizer can follow" OFF)
set(ETALON_CUDA_VERSION_MIN 12.8)
set(ETALON_HAS_CUDA OFF)

function(etalon_find_nvcc result)
  set(${result} "" PARENT_SCOPE)
  find_program(ETALON_NVCC nvcc HINTS $ENV{CUDA_PATH}/bin $ENV{CUDACXX} /usr/local/cuda/bin)
  if(NOT ETALON_NVCC)
    set(why "nvcc is not found")
  else()
    execute_process(COMMAND ${ETALON_NVCC} --version OUTPUT_VARIABLE text ERROR_QUIET)
    string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" ignored "${text}")
    if(CMAKE_MATCH_1 VERSION_LESS ETALON_CUDA_VERSION_MIN)
      set(why "${ETALON_NVCC} is release '${CMAKE_MATCH_1}', ${ETALON_CUDA_VERSION_MIN} is needed")
    endif()
  endif()
  if(NOT why)
    set(${result} ${ETALON_NVCC} PARENT_SCOPE)
  elseif(ETALON_CUDA STREQUAL "ON")
    message(FATAL_ERROR "ETALON_CUDA=ON: ${why}")
  else()
    message(STATUS "CUDA backend: not built: ${why}")
  endif()
endfunction()

# A sanitizer watches the processor only.
if(ETALON_CUDA STREQUAL "ON" OR (ETALON_CUDA STREQUAL "AUTO" AND NOT ETALON_SANITIZE))
  etalon_find_nvcc(nvcc)
  if(nvcc)
    set(CMAKE_CUDA_COMPILER ${nvcc})
    set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
    set(CMAKE_CUDA_ARCHITECTURES ${ETALON_CUDA_ARCHITECTURES})
    set(CMAKE_CUDA_RUNTIME_LIBRARY Static)  # the program runs where there is no driver too
    # Without ccache: it compares what the preprocessor gives for the host, and would take a change
    # inside #if __CUDA_ARCH__ for none.
    enable_language(CUDA)
    # CMake 3.25 does not know that this compiler has C++20.
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    set(ETALON_HAS_CUDA ON)
    message(STATUS "CUDA backend: nvcc ${CMAKE_CUDA_COMPILER_VERSION}, "
                   "architectures ${ETALON_CUDA_ARCHITECTURES}")
  endif()
endif()

# Flags of kernels. The arithmetic depends on the first line (spec FLT-1, FLT-2).
set(ETALON_CUDA_FLAGS
  -fmad=false -ftz=false -prec-div=true -prec-sqrt=true
  --expt-relaxed-constexpr -Xcompiler=-Wall,-Wextra)
