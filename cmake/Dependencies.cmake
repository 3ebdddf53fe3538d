# Every library that Lockstep needs. What is missing is named at once, with the packages of Debian and Ubuntu.
#
# The CMake package of an installed Lockstep reads this file too, when a program asks for the static library.

set(lks_missing "")
set(lks_missing_packages "")

# lks_require(NAME PACKAGE VARIABLE): notes a library whose VARIABLE says that it was not found.
macro(lks_require name package variable)
  if(NOT ${variable})
    string(APPEND lks_missing "\n  ${name}: install ${package}")
    list(APPEND lks_missing_packages ${package})
  endif()
endmacro()

find_package(Threads QUIET)

find_package(MPI QUIET COMPONENTS C)
lks_require("MPI" "libopenmpi-dev" MPI_C_FOUND)

find_package(OpenMP QUIET COMPONENTS C)
if(CMAKE_C_COMPILER_ID MATCHES Clang)
  lks_require("OpenMP for clang" "libomp-dev" OpenMP_C_FOUND)
else()
  lks_require("OpenMP" "libgomp1" OpenMP_C_FOUND)
endif()

find_package(PkgConfig QUIET)
lks_require("pkg-config" "pkg-config" PKG_CONFIG_FOUND)
if(PKG_CONFIG_FOUND)
  pkg_check_modules(HDF5 QUIET IMPORTED_TARGET GLOBAL hdf5-openmpi)
  pkg_check_modules(YAML QUIET IMPORTED_TARGET GLOBAL yaml-0.1)
  pkg_check_modules(XXHASH QUIET IMPORTED_TARGET GLOBAL libxxhash)
  pkg_check_modules(JANSSON QUIET IMPORTED_TARGET GLOBAL jansson)
endif()

# Where the parallel HDF5 is not packaged as Debian does it, CMake's own module looks for one.
if(NOT TARGET PkgConfig::HDF5)
  set(HDF5_PREFER_PARALLEL ON)
  find_package(HDF5 QUIET COMPONENTS C)
  if(HDF5_FOUND AND HDF5_IS_PARALLEL)
    add_library(PkgConfig::HDF5 INTERFACE IMPORTED GLOBAL)
    target_include_directories(PkgConfig::HDF5 INTERFACE ${HDF5_C_INCLUDE_DIRS})
    target_link_libraries(PkgConfig::HDF5 INTERFACE ${HDF5_C_LIBRARIES})
  else()
    set(HDF5_FOUND FALSE)
  endif()
endif()
lks_require("HDF5 (parallel build)" "libhdf5-openmpi-dev" HDF5_FOUND)
lks_require("libyaml" "libyaml-dev" YAML_FOUND)
lks_require("xxHash" "libxxhash-dev" XXHASH_FOUND)
lks_require("Jansson" "libjansson-dev" JANSSON_FOUND)

# Found by hand: the CMake package that Debian ships with oneDNN asks for OpenCL's development files, which nothing here uses.
find_path(DNNL_INCLUDE_DIR dnnl.h)
find_library(DNNL_LIBRARY dnnl)
if(DNNL_INCLUDE_DIR AND DNNL_LIBRARY)
  set(dnnl_FOUND TRUE)
  if(NOT TARGET DNNL::dnnl)
    add_library(DNNL::dnnl INTERFACE IMPORTED GLOBAL)
    target_include_directories(DNNL::dnnl INTERFACE ${DNNL_INCLUDE_DIR})
    target_link_libraries(DNNL::dnnl INTERFACE ${DNNL_LIBRARY})
  endif()
endif()
lks_require("oneDNN" "libdnnl-dev" dnnl_FOUND)

find_package(ZLIB QUIET)
lks_require("zlib" "zlib1g-dev" ZLIB_FOUND)

if(LKS_TESTS)
  if(PKG_CONFIG_FOUND)
    pkg_check_modules(CMOCKA QUIET IMPORTED_TARGET cmocka)
  endif()
  lks_require("cmocka (or configure with -DLKS_TESTS=OFF)" "libcmocka-dev" CMOCKA_FOUND)
  find_program(LKS_MPIEXEC NAMES mpirun mpiexec)
  lks_require("mpirun (or configure with -DLKS_TESTS=OFF)" "openmpi-bin" LKS_MPIEXEC)
endif()

if(lks_missing)
  list(JOIN lks_missing_packages " " lks_packages)
  message(FATAL_ERROR "Lockstep needs what was not found:${lks_missing}\n"
                      "On Debian and Ubuntu: apt-get install ${lks_packages}")
endif()
