# SPDX-License-Identifier: Apache-2.0
# Layers: each folder of src/ is one static library whose headers are visible, as "folder/file.h",
# only to folders that etalon_layer() allows. The include root of a folder is a directory that
# holds one link to it, so an include that breaks the arrows does not compile.
function(etalon_layer name)
  cmake_parse_arguments(LAYER "" "" "MAY_USE" ${ARGN})
  set_property(GLOBAL PROPERTY etalon_layer_${name} "${LAYER_MAY_USE}")
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/include/${name})
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/src/${name} ${CMAKE_BINARY_DIR}/include/${name}/${name}
       SYMBOLIC)
endfunction()

# etalon_library(NAME [PART part] SOURCES a.cpp ... LINKS etalon_base ... SYSTEM fmt::fmt ...): the
# library etalon_NAME, or etalon_NAME_part of what needs less than the rest of its folder.
function(etalon_library name)
  cmake_parse_arguments(LIB "" "PART" "SOURCES;LINKS;SYSTEM" ${ARGN})
  set(target etalon_${name})
  if(LIB_PART)
    string(APPEND target _${LIB_PART})
  endif()
  get_property(allowed GLOBAL PROPERTY etalon_layer_${name})
  foreach(link IN LISTS LIB_LINKS)
    string(REPLACE "etalon_" "" layer ${link})
    if(NOT layer IN_LIST allowed)
      message(FATAL_ERROR "src/${name} may not use src/${layer}: see the arrows in CMakeLists.txt")
    endif()
  endforeach()
  foreach(source IN LISTS LIB_SOURCES)
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${source} AND NOT EXISTS ${source})
      message(WARNING "src/${name}/${source} does not exist yet")
      list(REMOVE_ITEM LIB_SOURCES ${source})
    endif()
  endforeach()
  add_library(${target} STATIC ${LIB_SOURCES})
  if(ETALON_UNITY)
    etalon_compile_together(${target})
  endif()
  target_include_directories(${target} PUBLIC ${CMAKE_BINARY_DIR}/include/${name})
  target_link_libraries(${target} PUBLIC ${LIB_LINKS} ${LIB_SYSTEM} PRIVATE etalon_options)
endfunction()
