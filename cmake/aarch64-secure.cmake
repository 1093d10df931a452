# The secure build for aarch64, on a processor with memory tags.
include(${CMAKE_CURRENT_LIST_DIR}/aarch64.cmake)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64;-cpu;max;-L;/usr/aarch64-linux-gnu)
