# fastnorm-config.cmake - what find_package(fastnorm) reads.
# SPDX-License-Identifier: MIT
#
# fastnorm::static, fastnorm::shared, and fastnorm::fastnorm, which is the one that
# BUILD_SHARED_LIBS asks for.
include(CMakeFindDependencyMacro)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/fastnorm-targets.cmake)

if(NOT TARGET fastnorm::fastnorm)
  add_library(fastnorm::fastnorm INTERFACE IMPORTED)
  if(BUILD_SHARED_LIBS)
    target_link_libraries(fastnorm::fastnorm INTERFACE fastnorm::shared)
  else()
    target_link_libraries(fastnorm::fastnorm INTERFACE fastnorm::static)
  endif()
endif()
