# cmake reads this inside llama-cpp-python's project(), before the project's own settings: CMAKE_PROJECT_llama_cpp_INCLUDE
# names it. What the user's CMAKE_ARGS, CFLAGS or CXXFLAGS say stays as it is.

# llama.cpp's programs share this library, and none of them is in the package. llama-cpp-python forces the cached variable
# of this name to ON; a plain one hides it.
if(NOT LLAMA_BUILD_COMMON)
    set(LLAMA_BUILD_COMMON OFF)
endif()

# What the compiler at hand needs, in C and in C++ (CUDA's and HIP's compilers know no such options).
if(ARCHROUTE_COMPILE_OPTIONS)
    add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:${ARCHROUTE_COMPILE_OPTIONS}>")
endif()
