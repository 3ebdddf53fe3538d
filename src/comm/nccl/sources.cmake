# LKS_NCCL_SOURCES: compiled against NCCL, and by the tests against its look-alike (tests/cuda_emu).
set(LKS_NCCL_SOURCES library.c nccl.c)
list(TRANSFORM LKS_NCCL_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
