#include "comm/mpi/types.h"

#include "comm/backend.h"
#include "comm/reduce.h"

static void reduce_as(lks_dtype dtype, lks_reduce_op op, const void *in, void *inout, int count) {
    lks_reduce((const void *[]){in, inout}, 2, count, dtype, op, inout);
}

static void max_f32(void *in, void *inout, int *count, MPI_Datatype *type) {
    (void)type;
    reduce_as(LKS_F32, LKS_REDUCE_MAX, in, inout, *count);
}

static void max_f64(void *in, void *inout, int *count, MPI_Datatype *type) {
    (void)type;
    reduce_as(LKS_F64, LKS_REDUCE_MAX, in, inout, *count);
}

/* What MPI lacks: maxima that keep a NaN. */
static const struct {
    lks_dtype dtype;
    lks_reduce_op op;
    MPI_User_function *function;
} own_ops[] = {
    {LKS_F32, LKS_REDUCE_MAX, max_f32},
    {LKS_F64, LKS_REDUCE_MAX, max_f64},
};
enum { OWN_OPS = sizeof own_ops / sizeof own_ops[0] };

lks_status lks_mpi_types_create(lks_mpi_types *types) {
    for (int d = 0; d < LKS_MPI_DTYPES; d++)
        types->ops[d][LKS_REDUCE_SUM] = types->ops[d][LKS_REDUCE_MAX] = MPI_OP_NULL;
    types->types[LKS_F32] = MPI_FLOAT;
    types->types[LKS_F64] = MPI_DOUBLE;
    types->types[LKS_I32] = MPI_INT32_T;
    types->types[LKS_I64] = MPI_INT64_T;
    types->types[LKS_U8] = MPI_UINT8_T;
    types->types[LKS_BF16] = MPI_DATATYPE_NULL;
    types->ops[LKS_F32][LKS_REDUCE_SUM] = MPI_SUM;
    types->ops[LKS_F64][LKS_REDUCE_SUM] = MPI_SUM;
    types->ops[LKS_I64][LKS_REDUCE_SUM] = MPI_SUM;
    types->ops[LKS_I64][LKS_REDUCE_MAX] = MPI_MAX;
    MPI_Datatype *bf16 = &types->types[LKS_BF16];
    lks_status status =
        lks_comm_check_mpi(MPI_Type_contiguous(2, MPI_BYTE, bf16), "MPI_Type_contiguous");
    if (status == LKS_OK) status = lks_comm_check_mpi(MPI_Type_commit(bf16), "MPI_Type_commit");
    for (int i = 0; i < OWN_OPS && status == LKS_OK; i++)
        status = lks_comm_check_mpi(
            MPI_Op_create(own_ops[i].function, 1, &types->ops[own_ops[i].dtype][own_ops[i].op]),
            "MPI_Op_create");
    return status;
}

void lks_mpi_types_free(lks_mpi_types *types) {
    for (int i = 0; i < OWN_OPS; i++) {
        MPI_Op *op = &types->ops[own_ops[i].dtype][own_ops[i].op];
        if (*op != MPI_OP_NULL) MPI_Op_free(op);
    }
    if (types->types[LKS_BF16] != MPI_DATATYPE_NULL) MPI_Type_free(&types->types[LKS_BF16]);
}
