# SPDX-License-Identifier: Apache-2.0
# How a folder of tests/ and the folder fuzz/ declare what they hold. One name builds all of a kind:
# etalon_tests, etalon_tests_AREA (all that the area needs), etalon_unit_tests_AREA (what also runs
# under sanitizers), etalon_fuzzers.

# What all GoogleTest programs include, compiled once.
function(etalon_test_headers)
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/headers.cpp CONTENT "")
  add_library(etalon_test_headers OBJECT EXCLUDE_FROM_ALL ${CMAKE_CURRENT_BINARY_DIR}/headers.cpp)
  etalon_test_options(etalon_test_headers)
  target_link_libraries(etalon_test_headers PRIVATE fmt::fmt)
  etalon_precompile(etalon_test_headers PRIVATE
    <algorithm> <array> <filesystem> <fstream> <functional> <string> <vector>
    <fmt/format.h> <gtest/gtest.h> <rapidcheck.h> <rapidcheck/gtest.h>)
endfunction()

function(etalon_test_options target)
  etalon_optimize(${target} 1)
  target_link_libraries(${target} PRIVATE etalon_options rapidcheck GTest::gtest GTest::gtest_main)
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
endfunction()

# etalon_test(AREA NAME [SOURCES extra.cpp ...] [LINKS etalon_x ...] [DEFINES ...] [SLOW]
# [UNSANITIZED]): the GoogleTest program AREA_NAME_test from tests/AREA/NAME_test.cpp. SLOW: runs in
# `./test all` only. UNSANITIZED: too slow under a sanitizer. With ETALON_UNITY the others of an
# area are one program, AREA_tests.
function(etalon_test area name)
  cmake_parse_arguments(TEST "SLOW;UNSANITIZED" "" "SOURCES;LINKS;DEFINES" ${ARGN})
  if(ETALON_UNITY AND NOT TEST_SLOW AND NOT TEST_UNSANITIZED)
    etalon_add_to_area(${area} ${name}_test.cpp ${TEST_SOURCES})
    target_link_libraries(${area}_tests PRIVATE ${TEST_LINKS})
    target_compile_definitions(${area}_tests PRIVATE ${TEST_DEFINES})
    return()
  endif()
  set(target ${area}_${name}_test)
  add_executable(${target} EXCLUDE_FROM_ALL ${name}_test.cpp ${TEST_SOURCES})
  target_link_libraries(${target} PRIVATE ${TEST_LINKS})
  target_compile_definitions(${target} PRIVATE ${TEST_DEFINES})
  etalon_test_options(${target})
  etalon_precompile(${target} REUSE_FROM etalon_test_headers)
  set(labels ${area})
  if(TEST_SLOW)
    list(APPEND labels slow)
  endif()
  if(TEST_SLOW OR TEST_UNSANITIZED)
    list(APPEND labels unsanitized)
    add_dependencies(etalon_tests_${area} ${target})
  else()
    add_dependencies(etalon_unit_tests_${area} ${target})
  endif()
  etalon_register_test(${area}/${name} LABELS ${labels} COMMAND ${target})
endfunction()

# The program of all tests of an area, run in shards so that every core has some.
function(etalon_add_to_area area)
  set(target ${area}_tests)
  if(NOT TARGET ${target})
    add_executable(${target} EXCLUDE_FROM_ALL)
    etalon_test_options(${target})
    if(NOT area STREQUAL backend)  # its tests name the same things
      etalon_compile_together(${target})
    endif()
    add_dependencies(etalon_unit_tests_${area} ${target})
    set(n_shards 4)
    math(EXPR last "${n_shards} - 1")
    foreach(shard RANGE ${last})
      etalon_register_test(${area}/${shard} LABELS ${area} COMMAND ${target})
      set_property(TEST ${area}/${shard} PROPERTY
                   ENVIRONMENT GTEST_TOTAL_SHARDS=${n_shards} GTEST_SHARD_INDEX=${shard})
    endforeach()
  endif()
  get_target_property(known ${target} SOURCES)
  foreach(source IN LISTS ARGN)
    if(NOT source IN_LIST known)
      target_sources(${target} PRIVATE ${source})
    endif()
  endforeach()
endfunction()

# etalon_test_program(AREA NAME [LINKS ...]): a program from tests/AREA/NAME.cpp for scripts to run.
function(etalon_test_program area name)
  cmake_parse_arguments(TEST "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} EXCLUDE_FROM_ALL ${name}.cpp ${TEST_SOURCES})
  target_link_libraries(${name} PRIVATE ${TEST_LINKS} etalon_options)
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  add_dependencies(etalon_tests_${area} ${name})
endfunction()

# etalon_script_test(AREA NAME [ARGUMENTS ...] [SLOW]): tests/AREA/NAME.py, run by the Python of
# build/venv. The script ends with "N passed, N failed[, N skipped]"; exit code 77: skipped.
function(etalon_script_test area name)
  cmake_parse_arguments(TEST "SLOW" "" "ARGUMENTS" ${ARGN})
  set(labels ${area} script)
  if(TEST_SLOW)
    list(APPEND labels slow)
  endif()
  etalon_register_test(${area}/${name} LABELS ${labels}
    COMMAND ${ETALON_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/${name}.py ${TEST_ARGUMENTS})
  # They are the long ones, and wait more than they compute: none of them is left for the end.
  set_tests_properties(${area}/${name} PROPERTIES COST 100)
endfunction()

# Labels choose what ctest runs: the area, then "script", "slow", "unsanitized".
function(etalon_register_test full_name)
  cmake_parse_arguments(TEST "" "" "LABELS;COMMAND" ${ARGN})
  add_test(NAME ${full_name} COMMAND ${TEST_COMMAND})
  set_tests_properties(${full_name} PROPERTIES
    LABELS "${TEST_LABELS}" SKIP_RETURN_CODE 77 TIMEOUT 1500)
endfunction()

# etalon_fuzz(NAME [SOURCES folder/file.cpp ...] [HEADERS folder ...] LINKS etalon_x ...): the
# libFuzzer program NAME_fuzz from fuzz/NAME_fuzz.cpp. For a parser that needs little of the library
# of its folder: SOURCES are files of src/, HEADERS folders of src/ whose headers these see.
function(etalon_fuzz name)
  cmake_parse_arguments(FUZZ "" "" "SOURCES;HEADERS;LINKS" ${ARGN})
  list(TRANSFORM FUZZ_SOURCES PREPEND ${CMAKE_SOURCE_DIR}/src/)
  list(TRANSFORM FUZZ_HEADERS PREPEND ${CMAKE_BINARY_DIR}/include/)
  add_executable(${name}_fuzz EXCLUDE_FROM_ALL ${name}_fuzz.cpp ${FUZZ_SOURCES})
  if(ETALON_UNITY)
    etalon_compile_together(${name}_fuzz)
  endif()
  target_include_directories(${name}_fuzz PRIVATE ${FUZZ_HEADERS})
  target_link_libraries(${name}_fuzz PRIVATE ${FUZZ_LINKS} etalon_options)
  target_link_options(${name}_fuzz PRIVATE -fsanitize=fuzzer)
  add_dependencies(etalon_fuzzers ${name}_fuzz)
endfunction()
