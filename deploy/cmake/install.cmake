# What `cmake --install` puts where, by GNUInstallDirs.

# kv_program(NAME SECTION SUMMARY SEE): a program and its manual page, which is made of its --help. A page needs Python,
# and a program that runs where it is built.
function(kv_program name section summary see)
  install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  if(NOT Python3_Interpreter_FOUND OR CMAKE_CROSSCOMPILING)
    return()
  endif()
  set(page ${PROJECT_BINARY_DIR}/reference/${name}.${section})
  add_custom_command(OUTPUT ${page}
    COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/deploy/manual.py --section ${section} --summary ${summary}
      --version ${PROJECT_VERSION} --see ${see} --output ${page} $<TARGET_FILE:${name}>
    DEPENDS ${name} ${PROJECT_SOURCE_DIR}/deploy/manual.py VERBATIM)
  set_property(GLOBAL APPEND PROPERTY kv_pages ${page})
  # A part of the programs may be built alone; then the pages of the others are not there.
  install(FILES ${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section} OPTIONAL)
endfunction()

set(documents "README.md and docs/operations.md among the documents of flashkv, in share/doc.")
if(TARGET kvnode)
  kv_program(kvnode 8 "node of a replicated key-value cluster with the protocol of Redis"
    "kvctl(1), kvbench(1), kv(3). ${documents}")
endif()
if(TARGET kvctl)
  kv_program(kvctl 1 "looks into, reads, writes and cares for a FlashKV cluster" "kvnode(8), kv(3). ${documents}")
endif()
if(TARGET kvbench)
  kv_program(kvbench 1 "loads a FlashKV, Redis or etcd server and measures it" "kvctl(1), kvnode(8). ${documents}")
endif()
get_property(pages GLOBAL PROPERTY kv_pages)
add_custom_target(manuals ALL DEPENDS ${pages})

if(TARGET kvnode)
  install(CODE "
    set(KV_SOURCE [[${PROJECT_SOURCE_DIR}]])
    set(KV_BUILD [[${PROJECT_BINARY_DIR}]])
    set(KV_SYSCONFDIR [[${CMAKE_INSTALL_SYSCONFDIR}]])
    set(KV_BINDIR [[${CMAKE_INSTALL_BINDIR}]])
    set(KV_DOCDIR [[${CMAKE_INSTALL_DOCDIR}]])
    include([[${PROJECT_SOURCE_DIR}/deploy/cmake/install-node.cmake]])")
  install(FILES deploy/flashkv.sysusers DESTINATION lib/sysusers.d RENAME flashkv.conf)
endif()
if(TARGET kvclient_shared AND EXISTS ${PROJECT_SOURCE_DIR}/client/kvclient.pc.in)
  install(TARGETS kvclient_shared kvclient_static
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  # <client/kv.h>, as inside the project.
  install(FILES client/kv.h client/kv_async.h client/kv_pool.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/client)
  if(kvclient_reference)
    install(FILES ${PROJECT_BINARY_DIR}/reference/kv.3 DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
    install(FILES ${PROJECT_BINARY_DIR}/reference/kv.html DESTINATION ${CMAKE_INSTALL_DOCDIR})
  endif()
  # The prefix follows from where the file lies, so that `cmake --install --prefix` and moved trees are right.
  file(RELATIVE_PATH up ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
  string(REGEX REPLACE "/$" "" up "${up}")
  set(KV_PC_PREFIX "\${pcfiledir}/${up}")
  set(KV_PC_LIBDIR "\${pcfiledir}/..")
  set(KV_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
  configure_file(client/kvclient.pc.in ${PROJECT_BINARY_DIR}/kvclient.pc @ONLY)
  # Also beside the library in the build tree, for trying things without an installation.
  set(KV_PC_PREFIX ${PROJECT_SOURCE_DIR})
  set(KV_PC_LIBDIR "\${pcfiledir}")
  set(KV_PC_INCLUDEDIR "\${prefix}")
  configure_file(client/kvclient.pc.in ${PROJECT_BINARY_DIR}/lib/kvclient.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/kvclient.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
foreach(file README.md LICENSE CHANGELOG.md)
  if(EXISTS ${PROJECT_SOURCE_DIR}/${file})
    install(FILES ${file} DESTINATION ${CMAKE_INSTALL_DOCDIR})
  endif()
endforeach()
# Side by side as here, so that the links between them hold.
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY client/examples DESTINATION ${CMAKE_INSTALL_DOCDIR}/client)
