# Third-party packages, each behind one imported target. Names are Debian 12's; scripts/bootstrap.sh installs them.

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(Flatbuffers REQUIRED CONFIG NAMES Flatbuffers FlatBuffers flatbuffers)
find_program(NANDUTI_FLATC flatc REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(ZLIB REQUIRED)
set(Boost_USE_STATIC_LIBS OFF)
find_package(Boost 1.81 REQUIRED COMPONENTS json)
find_package(dnnl REQUIRED CONFIG)
# oneDNN's threads are set through OpenMP.
find_package(OpenMP REQUIRED COMPONENTS CXX)

# libzmq's and cppzmq's own CMake files differ between distributions: look for the files.
find_path(NANDUTI_ZMQ_INCLUDE zmq.hpp REQUIRED)
find_library(NANDUTI_ZMQ_LIBRARY zmq REQUIRED)
add_library(nanduti_zmq INTERFACE)
target_include_directories(nanduti_zmq SYSTEM INTERFACE ${NANDUTI_ZMQ_INCLUDE})
target_link_libraries(nanduti_zmq INTERFACE ${NANDUTI_ZMQ_LIBRARY} Threads::Threads)

find_path(NANDUTI_SODIUM_INCLUDE sodium.h REQUIRED)
find_library(NANDUTI_SODIUM_LIBRARY sodium REQUIRED)
add_library(nanduti_sodium INTERFACE)
target_include_directories(nanduti_sodium SYSTEM INTERFACE ${NANDUTI_SODIUM_INCLUDE})
target_link_libraries(nanduti_sodium INTERFACE ${NANDUTI_SODIUM_LIBRARY})

# FlatBuffers is used header-only.
add_library(nanduti_flatbuffers INTERFACE)

# yaml-cpp 0.7 exports a bare name.
add_library(nanduti_yaml INTERFACE)
if(TARGET yaml-cpp::yaml-cpp)
  target_link_libraries(nanduti_yaml INTERFACE yaml-cpp::yaml-cpp)
else()
  target_link_libraries(nanduti_yaml INTERFACE yaml-cpp)
endif()

# CUDA's headers are enough for the emulated device, which the tests run kernels on: no library of it, and no GPU.
if(NANDUTI_TESTS)
  find_path(NANDUTI_CUDA_INCLUDE cuda_runtime.h HINTS $ENV{CUDA_HOME}/include /usr/local/cuda/include)
  if(NANDUTI_CUDA_INCLUDE)
    find_package(Boost 1.81 REQUIRED COMPONENTS json context)
    add_library(nanduti_cuda_headers INTERFACE)
    target_include_directories(nanduti_cuda_headers SYSTEM INTERFACE ${NANDUTI_CUDA_INCLUDE})
    find_path(NANDUTI_CUDNN_INCLUDE cudnn_version.h HINTS $ENV{CUDNN_HOME}/include ${NANDUTI_CUDA_INCLUDE})
    set(cudnn_major 0)
    if(NANDUTI_CUDNN_INCLUDE)
      file(STRINGS ${NANDUTI_CUDNN_INCLUDE}/cudnn_version.h line REGEX "define CUDNN_MAJOR +[0-9]+")
      string(REGEX REPLACE "[^0-9]" "" cudnn_major "${line}")
    endif()
    if(NOT cudnn_major EQUAL 9)
      message(STATUS "no headers of cuDNN 9 (set CUDNN_HOME): layers on the emulated device are left out")
    elseif(NOT EXISTS ${NANDUTI_CUDA_INCLUDE}/cublas_v2.h)
      message(STATUS "no cublas_v2.h beside CUDA's headers: layers on the emulated device are left out")
    else()
      add_library(nanduti_cudnn_headers INTERFACE)
      target_include_directories(nanduti_cudnn_headers SYSTEM INTERFACE ${NANDUTI_CUDNN_INCLUDE})
      target_link_libraries(nanduti_cudnn_headers INTERFACE nanduti_cuda_headers)
    endif()
  else()
    message(STATUS "no CUDA headers (set CUDA_HOME): the emulated device and its tests are left out")
  endif()
endif()

if(NANDUTI_TESTS)
  find_package(Catch2 2.13 REQUIRED)
  include(Catch)
endif()
