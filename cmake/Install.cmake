# What `cmake --install` puts where: the command and what starts it on clusters, both libraries, the public headers, a
# pkg-config file and a CMake package.
include(CMakePackageConfigHelpers)

set(lks_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/lockstep)

install(DIRECTORY include/lockstep DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS lockstep_shared EXPORT lockstep-targets)
install(TARGETS lockstep_static EXPORT lockstep-static-targets)
if(TARGET lockstep)
  install(TARGETS lockstep)
  install(PROGRAMS launch/lockstep-run DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

# Two sets, because only the static one needs the libraries that Lockstep is made with.
install(EXPORT lockstep-targets NAMESPACE lockstep:: DESTINATION ${lks_package_dir})
install(EXPORT lockstep-static-targets NAMESPACE lockstep:: DESTINATION ${lks_package_dir})
configure_package_config_file(cmake/lockstep-config.cmake.in lockstep-config.cmake INSTALL_DESTINATION ${lks_package_dir})
write_basic_package_version_file(lockstep-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/lockstep-config.cmake ${PROJECT_BINARY_DIR}/lockstep-config-version.cmake
        DESTINATION ${lks_package_dir})
install(FILES cmake/Dependencies.cmake DESTINATION ${lks_package_dir} RENAME lockstep-dependencies.cmake)

# pkg-config: the prefix is found from the file's own place, so that an installed tree may be moved.
file(RELATIVE_PATH lks_pc_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
set(lks_pc_mpi_cflags "")
foreach(folder ${MPI_C_INCLUDE_DIRS})
  string(APPEND lks_pc_mpi_cflags " -I${folder}")
endforeach()
list(JOIN MPI_C_LIBRARIES " " lks_pc_mpi_libs)
list(JOIN OpenMP_C_LIBRARIES " " lks_pc_openmp_libs)
set(lks_pc_cuda_libs "")
if(LKS_WITH_CUDA)
  set(lks_pc_cuda_libs " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -ldl -lrt")
endif()
configure_file(cmake/lockstep.pc.in lockstep.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/lockstep.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
