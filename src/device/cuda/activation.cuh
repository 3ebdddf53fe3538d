/* Activations and their slopes, float32, one struct each. Comparisons are written so that NaN
 * passes through. Included by the .cu files of src/device/cuda alone. */
#ifndef LKS_DEVICE_CUDA_ACTIVATION_CUH
#define LKS_DEVICE_CUDA_ACTIVATION_CUH

#include "device/cuda/kernel.cuh"

static __device__ inline float lks_sigmoid(float x) {
    const float e = expf(-fabsf(x)); /* no overflow on either side */
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* The standard normal distribution function, (1 + erf(x / sqrt 2)) / 2, given e^(-x^2 / 2), which
 * backward needs as well. The ratio of tail to density is a polynomial of 1 / (1 + 0.3 |x|), fitted
 * to the least relative error on 0 <= |x| <= 14 (6e-8); beyond that the tail underflows. */
static __device__ inline float lks_normal_cdf(float x, float exp_half_square) {
    const float t = 1.0f / (1.0f + 0.3f * fabsf(x));
    float p = 0.0383784026f;
    p = p * t - 0.169166639f;
    p = p * t + 0.22866109f;
    p = p * t - 0.0765075535f;
    p = p * t + 0.142536208f;
    p = p * t + 0.0946832597f;
    p = p * t + 0.121920399f;
    p = p * t + 0.11948768f;
    p = p * t + 7.16925342e-06f;
    const float tail = p * exp_half_square;
    return x < 0.0f ? tail : 1.0f - tail;
}

/* forward(x) is the activation; backward(v, dy) the gradient, where v is y if FROM_Y, else x. */

struct lks_relu {
    enum { FROM_Y = true };
    __device__ float forward(float x) const {
        return x <= 0.0f ? 0.0f : x;
    }
    __device__ float backward(float y, float dy) const {
        return y <= 0.0f ? 0.0f : dy;
    }
};

/* Where alpha >= 0, y > 0 just where x > 0, and y stands for x. */
template <bool FROM_OUTPUT> struct lks_leaky_relu {
    enum { FROM_Y = FROM_OUTPUT };
    float alpha;
    __device__ float forward(float x) const {
        return x > 0.0f ? x : x * alpha;
    }
    __device__ float backward(float v, float dy) const {
        return v > 0.0f ? dy : dy * alpha;
    }
};

struct lks_gelu {
    enum { FROM_Y = false };
    __device__ float forward(float x) const {
        return x * lks_normal_cdf(x, expf(-0.5f * x * x));
    }
    __device__ float backward(float x, float dy) const {
        const float density_scale = 0.3989422804f; /* 1 / sqrt(2 pi) */
        const float e = expf(-0.5f * x * x);
        return dy * (lks_normal_cdf(x, e) + x * density_scale * e);
    }
};

struct lks_gelu_tanh {
    enum { FROM_Y = false };
    static __device__ float inner(float x) {
        return 0.7978845608f * (x + 0.044715f * x * x * x); /* sqrt(2 / pi) */
    }
    __device__ float forward(float x) const {
        return 0.5f * x * (1.0f + tanhf(inner(x)));
    }
    __device__ float backward(float x, float dy) const {
        const float t = tanhf(inner(x));
        const float slope = 0.7978845608f * (1.0f + 3.0f * 0.044715f * x * x);
        return dy * (0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * slope);
    }
};

struct lks_silu {
    enum { FROM_Y = false };
    __device__ float forward(float x) const {
        return x * lks_sigmoid(x);
    }
    __device__ float backward(float x, float dy) const {
        const float s = lks_sigmoid(x);
        return dy * s * (1.0f + x * (1.0f - s));
    }
};

struct lks_tanh {
    enum { FROM_Y = true };
    __device__ float forward(float x) const {
        return tanhf(x);
    }
    __device__ float backward(float y, float dy) const {
        return dy * (1.0f - y * y);
    }
};

struct lks_sigmoid_activation {
    enum { FROM_Y = true };
    __device__ float forward(float x) const {
        return lks_sigmoid(x);
    }
    __device__ float backward(float y, float dy) const {
        return dy * (1.0f - y) * y;
    }
};

#endif
