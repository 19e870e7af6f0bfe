# How a folder becomes a library, and a test folder a test program. Every folder's CMakeLists.txt uses what stands here.

add_library(nanduti_flags INTERFACE)
target_include_directories(nanduti_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated)
# Contraction would change the bytes that codecs produce.
target_compile_options(nanduti_flags INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -ffp-contract=off)
# GCC 12 is wrong about these inside fmt 9 at -O3 and inside std::regex under sanitizers.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(nanduti_flags INTERFACE -Wno-stringop-overflow -Wno-maybe-uninitialized)
endif()
if(NANDUTI_WERROR)
  target_compile_options(nanduti_flags INTERFACE -Werror)
endif()
if(NANDUTI_SANITIZE)
  target_compile_options(nanduti_flags INTERFACE -fsanitize=${NANDUTI_SANITIZE} -fno-sanitize-recover=all
                                                 -fno-omit-frame-pointer)
  target_link_options(nanduti_flags INTERFACE -fsanitize=${NANDUTI_SANITIZE})
  # Asio's fences order nothing that its mutexes do not order as well: ThreadSanitizer, which cannot see fences, is right
  # without them.
  if(NANDUTI_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(nanduti_flags INTERFACE -Wno-tsan)
  endif()
endif()
if(NANDUTI_FUZZERS)
  target_compile_options(nanduti_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# Sources of a folder are compiled some at a time: most of a compiler's work is headers. A patched source (test/sim/mutants)
# takes the place of its original, which has to stand alone for that.
option(NANDUTI_UNITY "Compile several sources of a folder together: headers are read less often" OFF)
if(NANDUTI_UNITY AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Said of what unnamed namespaces hold, wherever a source is included.
  target_compile_options(nanduti_flags INTERFACE -Wno-subobject-linkage)
endif()
function(nanduti_unite target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${NANDUTI_UNITY} UNITY_BUILD_BATCH_SIZE 4)
endfunction()

# nanduti_library(NAME [IN_MODULES] [PATCHED] [DEPENDS ...]): all .cc files of the current folder (not of its subfolders) become the
# library nanduti_NAME, alias nanduti::NAME. Files named *_main.cc (they hold a main) and *_test.cc are left out.
# IN_MODULES: modules that are opened at run time hold it too. PATCHED: there are patches to it in test/sim/mutants.
function(nanduti_library name)
  cmake_parse_arguments(ARG "IN_MODULES;PATCHED" "" "DEPENDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  list(FILTER sources EXCLUDE REGEX "_(main|test)\\.cc$")
  if(sources)
    add_library(nanduti_${name} STATIC ${sources})
    target_link_libraries(nanduti_${name} PUBLIC nanduti_flags ${ARG_DEPENDS})
    set_target_properties(nanduti_${name} PROPERTIES POSITION_INDEPENDENT_CODE ${ARG_IN_MODULES})
    # No patched programs are built with sanitizers.
    if(NOT ARG_PATCHED OR NANDUTI_SANITIZE)
      nanduti_unite(nanduti_${name})
    endif()
  else()
    add_library(nanduti_${name} INTERFACE)
    target_link_libraries(nanduti_${name} INTERFACE nanduti_flags ${ARG_DEPENDS})
  endif()
  add_library(nanduti::${name} ALIAS nanduti_${name})
endfunction()

# nanduti_test(NAME [DEPENDS ...]): all *_test.cc files of the current folder become bin/test_NAME, and each test case
# in it a CTest test.
function(nanduti_test name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  add_executable(test_${name} ${sources})
  target_link_libraries(test_${name} PRIVATE nanduti::test_support ${ARG_DEPENDS})
  nanduti_unite(test_${name})
  catch_discover_tests(test_${name} TEST_PREFIX "${name}: " PROPERTIES TIMEOUT 600)
endfunction()

# nanduti_program(NAME MAIN [DEPENDS ...]): an installed program, bin/NAME.
function(nanduti_program name main)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  add_executable(${name} ${main})
  target_link_libraries(${name} PRIVATE nanduti_flags ${ARG_DEPENDS})
  install(TARGETS ${name} RUNTIME)
endfunction()
