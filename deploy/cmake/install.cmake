# What `cmake --install` puts where, by GNUInstallDirs.
foreach(program kvnode kvctl kvbench)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()
if(TARGET kvclient_shared AND EXISTS ${PROJECT_SOURCE_DIR}/client/kvclient.pc.in)
  install(TARGETS kvclient_shared kvclient_static
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  # <client/kv.h>, as inside the project.
  install(FILES client/kv.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/client)
  configure_file(client/kvclient.pc.in ${PROJECT_BINARY_DIR}/kvclient.pc @ONLY)
  # Also beside the library in the build tree, for trying things without an installation.
  configure_file(client/kvclient.pc.in ${PROJECT_BINARY_DIR}/lib/kvclient.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/kvclient.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
foreach(file README.md LICENSE CHANGELOG.md)
  if(EXISTS ${PROJECT_SOURCE_DIR}/${file})
    install(FILES ${file} DESTINATION ${CMAKE_INSTALL_DOCDIR})
  endif()
endforeach()
if(EXISTS ${PROJECT_SOURCE_DIR}/docs)
  install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR})
endif()
