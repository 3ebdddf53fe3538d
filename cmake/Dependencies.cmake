# Every library that Lockstep needs, found as Debian packages it. A missing one is one line with its package's name.

find_package(PkgConfig QUIET)
find_package(Threads REQUIRED)

# lks_require(NAME package FOUND condition-variable)
function(lks_require name package found)
  if(NOT found)
    message(FATAL_ERROR "${name} is missing: install the package ${package}")
  endif()
endfunction()

find_package(MPI QUIET COMPONENTS C)
lks_require("MPI (C)" "libopenmpi-dev" "${MPI_C_FOUND}")

find_package(OpenMP QUIET COMPONENTS C)
lks_require("OpenMP for this compiler" "libgomp1 (gcc) or libomp-dev (clang)" "${OpenMP_C_FOUND}")

set(HDF5_PREFER_PARALLEL ON)
if(PkgConfig_FOUND)
  pkg_check_modules(HDF5 QUIET IMPORTED_TARGET hdf5-openmpi)
endif()
lks_require("HDF5 (parallel build)" "libhdf5-openmpi-dev" "${HDF5_FOUND}")

find_package(dnnl QUIET CONFIG)
lks_require("oneDNN" "libdnnl-dev" "${dnnl_FOUND}")

if(PkgConfig_FOUND)
  pkg_check_modules(YAML QUIET IMPORTED_TARGET yaml-0.1)
  pkg_check_modules(XXHASH QUIET IMPORTED_TARGET libxxhash)
endif()
lks_require("libyaml" "libyaml-dev" "${YAML_FOUND}")
lks_require("xxHash" "libxxhash-dev" "${XXHASH_FOUND}")

find_package(ZLIB QUIET)
lks_require("zlib" "zlib1g-dev" "${ZLIB_FOUND}")
