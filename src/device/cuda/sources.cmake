# LKS_CUDA_SOURCES: one line for each file; .cu files are compiled by nvcc, and as host C++ by the tests (tests/cuda_emu).
set(LKS_CUDA_SOURCES
  columns.cu
  conv2d.c
  conv2d_depthwise.cu
  conv2d_product.cu
  conv2d_weights.cu
  cublaslt.c
  device.c
  error.c
  gradients.c
  graph.c
  linear.c
  matmul.c
  memory.c
  ranges.c
  streams.c
)
# Kernels that wait for memory and not for arithmetic: without fused multiply-adds they round as the CPU's do.
set(LKS_CUDA_UNFUSED
  adagrad.cu
  adam.cu
  add.cu
  batch_norm.cu
  batch_norm_columns.cu
  batch_norm_rows.cu
  cast.cu
  decide.cu
  dropout.cu
  eltwise.cu
  layer_norm.cu
  loss.cu
  norm.cu
  pool2d.cu
  relayout.cu
  rmsprop.cu
  sgd.cu
  softmax.cu
)
list(TRANSFORM LKS_CUDA_UNFUSED PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
list(TRANSFORM LKS_CUDA_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
list(APPEND LKS_CUDA_SOURCES ${LKS_CUDA_UNFUSED})
