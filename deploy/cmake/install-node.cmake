# Run by `cmake --install`: what depends on the prefix, which only then is certain. The unit starts the kvnode that is
# installed with it, and reads the configuration that is installed with it, unless that exists: it belongs to the
# administrator then.
set(sysconfdir "${KV_SYSCONFDIR}")
if(NOT IS_ABSOLUTE "${sysconfdir}")
  # As GNUInstallDirs has it: what is in /usr is configured in /etc.
  if(CMAKE_INSTALL_PREFIX STREQUAL "/usr" AND sysconfdir STREQUAL "etc")
    set(sysconfdir /etc)
  else()
    set(sysconfdir "${CMAKE_INSTALL_PREFIX}/${sysconfdir}")
  endif()
endif()
foreach(directory bindir docdir)
  string(TOUPPER ${directory} upper)
  set(${directory} "${KV_${upper}}")
  if(NOT IS_ABSOLUTE "${${directory}}")
    set(${directory} "${CMAKE_INSTALL_PREFIX}/${${directory}}")
  endif()
endforeach()

file(READ "${KV_SOURCE}/deploy/kvnode.service" unit)
# The head tells how to install it by hand, which is done herewith.
string(REGEX REPLACE "^(#[^\n]*\n)+" "# A FlashKV node, as ${sysconfdir}/flashkv/kvnode.conf says.\n" unit "${unit}")
string(REPLACE "/usr/bin/kvnode" "${bindir}/kvnode" unit "${unit}")
string(REPLACE "/etc/flashkv/" "${sysconfdir}/flashkv/" unit "${unit}")
string(REPLACE "/usr/share/doc/flashkv/" "${docdir}/" unit "${unit}")
file(WRITE "${KV_BUILD}/install/kvnode.service" "${unit}")
file(INSTALL "${KV_BUILD}/install/kvnode.service" DESTINATION "${CMAKE_INSTALL_PREFIX}/lib/systemd/system")

if(EXISTS "$ENV{DESTDIR}${sysconfdir}/flashkv/kvnode.conf")
  message(STATUS "Kept as it is: $ENV{DESTDIR}${sysconfdir}/flashkv/kvnode.conf")
else()
  file(INSTALL "${KV_SOURCE}/deploy/kvnode.conf" DESTINATION "${sysconfdir}/flashkv")
endif()
