# The CUDA toolkit, cuBLASLt, cuDNN and the header-only cudnn-frontend, each proved by linking.
set(CMAKE_CUDA_ARCHITECTURES 90a-real)
if(OCTAVO_CCACHE)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${OCTAVO_CCACHE})
endif()
enable_language(CUDA)
find_package(CUDAToolkit 13 REQUIRED)

# The frontend comes from PyPI (scripts/setup.sh --cuda); libraries beside the toolkit, or where
# their Python packages put them.
find_path(OCTAVO_CUDNN_FRONTEND cudnn_frontend.h
    PATHS ${PROJECT_SOURCE_DIR}/build/cudnn-frontend/include)
find_path(OCTAVO_CUDNN_INCLUDE cudnn.h PATHS ${CUDAToolkit_INCLUDE_DIRS})
find_library(OCTAVO_CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 PATHS ${CUDAToolkit_LIBRARY_DIR})
foreach(part FRONTEND INCLUDE LIBRARY)
    if(NOT OCTAVO_CUDNN_${part})
        message(FATAL_ERROR "Octavo's CUDA backend needs cuDNN 9 and the headers of cudnn-frontend.\n"
            "  Missing: OCTAVO_CUDNN_${part}. Run scripts/setup.sh --cuda for the frontend; cuDNN is "
            "part of NVIDIA's packages (libcudnn9-dev-cuda-13).")
    endif()
endforeach()

set(OCTAVO_CUDA_LIBRARIES
    CUDA::cudart_static CUDA::cublasLt ${OCTAVO_CUDNN_LIBRARY} CUDA::nvrtc)
add_library(octavo_cuda INTERFACE)
target_include_directories(octavo_cuda SYSTEM INTERFACE
    ${CUDAToolkit_INCLUDE_DIRS} ${OCTAVO_CUDNN_INCLUDE} ${OCTAVO_CUDNN_FRONTEND})
target_link_libraries(octavo_cuda INTERFACE ${OCTAVO_CUDA_LIBRARIES})
target_compile_options(octavo_cuda INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:
    # CMake 3.25 knows no C++20 flag for nvcc 13 and would pass none.
    -std=c++20 --expt-relaxed-constexpr -Werror=all-warnings
    -Xcompiler=-Wall,-Wextra
    # fmt 9 holds nvcc for a compiler without constexpr.
    -DFMT_USE_CONSTEXPR=1>)
set(CMAKE_CUDA_STANDARD_REQUIRED OFF)

function(octavo_cuda_links what source)
    set(CMAKE_REQUIRED_INCLUDES ${CUDAToolkit_INCLUDE_DIRS} ${OCTAVO_CUDNN_INCLUDE})
    set(CMAKE_REQUIRED_LIBRARIES ${OCTAVO_CUDA_LIBRARIES})
    set(CMAKE_REQUIRED_FLAGS "-std=c++20")
    set(CMAKE_REQUIRED_QUIET ON)
    check_cxx_source_compiles("${source}" OCTAVO_LINKS_${what})
    if(NOT OCTAVO_LINKS_${what})
        message(FATAL_ERROR "A small program that calls ${what} did not link.\n"
            "  The linker's words are in ${CMAKE_BINARY_DIR}/CMakeFiles/CMakeError.log")
    endif()
    message(STATUS "Found ${what}")
endfunction()

include(CheckCXXSourceCompiles)
octavo_cuda_links(cuBLASLt "#include <cublasLt.h>
    int main() { return cublasLtGetVersion() == 0; }")
octavo_cuda_links(cuDNN "#include <cudnn.h>
    int main() { return cudnnGetVersion() == 0; }")
