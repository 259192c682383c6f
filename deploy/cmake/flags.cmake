# Compiler and linker flags, carried by one interface target.
include(CheckCCompilerFlag)
include(CheckLinkerFlag)

check_pie_supported(LANGUAGES C)

add_library(kv_flags INTERFACE)
target_include_directories(kv_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(kv_flags INTERFACE _GNU_SOURCE KV_VERSION="${PROJECT_VERSION}")
target_compile_options(kv_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wvla -Wunused-result -Werror
  -fno-strict-aliasing -fno-omit-frame-pointer -ffunction-sections -fdata-sections)

if(KV_SANITIZE)
  target_compile_options(kv_flags INTERFACE -fsanitize=${KV_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(kv_flags INTERFACE -fsanitize=${KV_SANITIZE})
elseif(NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  # Hardening that costs next to nothing. A distribution's own -D_FORTIFY_SOURCE gives way to ours.
  target_compile_options(kv_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong)
  set(flags -fstack-clash-protection)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    list(APPEND flags -fcf-protection)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64")
    list(APPEND flags -mbranch-protection=standard)
  endif()
  foreach(flag ${flags})
    string(MAKE_C_IDENTIFIER "has${flag}" has)
    check_c_compiler_flag(${flag} ${has})
    if(${has})
      target_compile_options(kv_flags INTERFACE ${flag})
    endif()
  endforeach()
  target_link_options(kv_flags INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
endif()

if(KV_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "KV_FUZZ needs clang: use --preset fuzz")
  endif()
  # Counts edges everywhere, so that the fuzzer sees into the libraries too.
  target_compile_options(kv_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
