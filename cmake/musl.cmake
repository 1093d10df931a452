# musl by Debian's musl-tools, on the machine itself. There is no C++ compiler for it: the operators
# new and delete, which use nothing of libc's, are compiled by that of the system.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER musl-gcc)
set(CMAKE_CXX_COMPILER g++)
