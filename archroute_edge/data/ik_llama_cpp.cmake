# cmake reads this inside the project() of ik-llama-cpp-python's source archive, where CMAKE_PROJECT_ik_llama_cpp_python_INCLUDE
# names it.

# The archive of 0.1.5 lacks a script that its build runs, which writes down from what it was built.
set(ARCHROUTE_SCRIPT "${CMAKE_CURRENT_SOURCE_DIR}/vendor/ik_llama.cpp/common/cmake/build-info-gen-cpp.cmake")
if(NOT EXISTS "${ARCHROUTE_SCRIPT}")
    file(WRITE "${ARCHROUTE_SCRIPT}" [[
set(BUILD_NUMBER 0)
set(BUILD_COMMIT "unknown")
set(BUILD_COMPILER "${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}")
set(BUILD_TARGET "unknown")
configure_file(common/build-info.cpp.in common/build-info.cpp @ONLY)
]])
endif()

# Flash attention is not used here, and takes most of the time to compile.
set(GGML_IQK_FLASH_ATTENTION OFF CACHE BOOL "")

# Installed side by side, libllama finds libggml beside itself.
set(CMAKE_INSTALL_RPATH "$ORIGIN")

# What the compiler at hand needs, in C and in C++.
if(ARCHROUTE_COMPILE_OPTIONS)
    add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:${ARCHROUTE_COMPILE_OPTIONS}>")
endif()
