# x86-64 as it was first built: the tests run under qemu's user mode on a processor without SSE4,
# AVX, BMI or popcnt, which stops a program that uses one of them.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER cc)
set(CMAKE_CXX_COMPILER c++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-x86_64;-cpu;Opteron_G1)
