# cmake reads this inside the project() of ik-llama-cpp-python's source archive, where CMAKE_PROJECT_ik_llama_cpp_python_INCLUDE
# names it.

# The archive of 0.1.5 lacks a script that the build of llama-quantize runs, and this program takes longer to compile than the
# library. It is not used here: what stands in its place says so, and needs neither the helpers of programs nor an HTTP library.
set(ARCHROUTE_IK "${CMAKE_CURRENT_SOURCE_DIR}/vendor/ik_llama.cpp")
file(WRITE "${ARCHROUTE_IK}/common/CMakeLists.txt" "")
file(WRITE "${ARCHROUTE_IK}/vendor/cpp-httplib/CMakeLists.txt" "")
file(WRITE "${ARCHROUTE_IK}/examples/quantize/not_built.cpp" [[
#include <cstdio>
int main() {
    std::fputs("llama-quantize is not part of this build of ik_llama.cpp; archroute quantize makes levels\n", stderr);
    return 1;
}
]])
file(WRITE "${ARCHROUTE_IK}/examples/quantize/CMakeLists.txt" "add_executable(llama-quantize not_built.cpp)\n")

# Flash attention over quantized keys and values, which is not used here, takes most of what is left.
set(GGML_IQK_FA_ALL_QUANTS OFF CACHE BOOL "")

# Installed side by side, libllama finds libggml beside itself.
if(APPLE)
    set(CMAKE_INSTALL_RPATH "@loader_path")
else()
    set(CMAKE_INSTALL_RPATH "$ORIGIN")
endif()

# What the compiler at hand needs, in C and in C++.
if(ARCHROUTE_COMPILE_OPTIONS)
    add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:${ARCHROUTE_COMPILE_OPTIONS}>")
endif()
