/* Look-alike of NVTX: ranges that go nowhere, but must be balanced. */
#ifndef LKS_CUDA_EMU_NVTX_H
#define LKS_CUDA_EMU_NVTX_H

#ifdef __cplusplus
extern "C" {
#endif

/* The depth of the new, or of the ended, range; a negative number where none is open. */
int nvtxRangePushA(const char *text);
int nvtxRangePop(void);
void nvtxMarkA(const char *text);

#define nvtxRangePush nvtxRangePushA
#define nvtxMark      nvtxMarkA

#ifdef __cplusplus
}
#endif

#endif
