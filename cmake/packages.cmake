# Packages for Debian and RPM, by `cpack -G DEB` and `cpack -G RPM` in a build that is configured with
# the prefix /usr: libvalloc0 has the shared library, libvalloc-dev what compilers need, and
# valloc-preload the override libraries and the command. `make packages` builds them.
set(CPACK_PACKAGE_NAME valloc)
set(CPACK_PACKAGE_VENDOR "the valloc authors")
set(CPACK_PACKAGE_CONTACT "the valloc authors <https://github.com/valloc/valloc>")
set(CPACK_PACKAGE_HOMEPAGE_URL https://github.com/valloc/valloc)
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_COMPONENTS_ALL valloc_runtime valloc_development valloc_preload)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENT_VALLOC_RUNTIME_DESCRIPTION "A general-purpose memory allocator, shared library")
set(CPACK_COMPONENT_VALLOC_DEVELOPMENT_DESCRIPTION
    "A general-purpose memory allocator, header and static library")
set(CPACK_COMPONENT_VALLOC_PRELOAD_DESCRIPTION
    "A general-purpose memory allocator for any program, by LD_PRELOAD")

set(packages runtime:libvalloc${PROJECT_VERSION_MAJOR} development:libvalloc-dev preload:valloc-preload)
foreach(package IN LISTS packages)
  string(REGEX MATCH "(.*):(.*)" package ${package})
  set(component ${CMAKE_MATCH_1})
  set(name ${CMAKE_MATCH_2})
  # Only in packages, of which no two may have the same file.
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/doc/${name} RENAME copyright
          COMPONENT valloc_${component} EXCLUDE_FROM_ALL)
  string(TOUPPER ${component} component)
  set(CPACK_DEBIAN_VALLOC_${component}_PACKAGE_NAME ${name})
  string(REGEX REPLACE "-dev$" "-devel" name ${name})
  set(CPACK_RPM_VALLOC_${component}_PACKAGE_NAME ${name})
endforeach()

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_VALLOC_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_VALLOC_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_VALLOC_PRELOAD_PACKAGE_SECTION utils)

set(CPACK_RPM_COMPONENT_INSTALL ON)
set(CPACK_RPM_FILE_NAME RPM-DEFAULT)
set(CPACK_RPM_PACKAGE_LICENSE MIT)

# The CMake package names all libraries.
set(library libvalloc${PROJECT_VERSION_MAJOR})
set(CPACK_DEBIAN_VALLOC_DEVELOPMENT_PACKAGE_DEPENDS
    "${library} (= ${PROJECT_VERSION}), valloc-preload (= ${PROJECT_VERSION})")
set(CPACK_RPM_VALLOC_DEVELOPMENT_PACKAGE_REQUIRES
    "${library} = ${PROJECT_VERSION}, valloc-preload = ${PROJECT_VERSION}")
include(CPack)
