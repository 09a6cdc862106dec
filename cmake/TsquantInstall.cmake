# Installation: headers, libraries, program, CMake package, pkg-config file.
include(CMakePackageConfigHelpers)
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/tsquant")

set_target_properties(tsquant tsquant_ops PROPERTIES INSTALL_RPATH "$ORIGIN")
set_target_properties(tsquant_ops PROPERTIES EXPORT_NAME ops)
install(TARGETS tsquant tsquant_ops EXPORT tsquantTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
if(TARGET tsquant_cli)
  set_target_properties(tsquant_cli PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS tsquant_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/tsquant" DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT tsquantTargets NAMESPACE tsquant:: DESTINATION ${package_dir})

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/tsquantConfig.cmake.in"
                              "${PROJECT_BINARY_DIR}/tsquantConfig.cmake" INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file("${PROJECT_BINARY_DIR}/tsquantConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/tsquantConfig.cmake" "${PROJECT_BINARY_DIR}/tsquantConfigVersion.cmake"
        DESTINATION ${package_dir})

configure_file("${PROJECT_SOURCE_DIR}/cmake/tsquant.pc.in" "${PROJECT_BINARY_DIR}/tsquant.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/tsquant.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
