// Training of many small networks on a CPU: replays what schedrl/diffusion/tape.py recorded, run by run.
//
// One thread takes a run and carries it through all steps of a call: there is no barrier between operations, and a
// run's numbers cannot depend on its neighbours, on the number of threads or on the order in which runs are taken.
// A batch is worked on in micro-batches of B images that lie innermost, [channel][row][column][B]: every operation
// is vertical in the vector unit, edges of an image cost nothing, and a micro-batch's features stay in the cache.
// Sums over images are taken in one fixed order.
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

#ifdef __AVX512F__
constexpr int L = 16;  // numbers in a vector register
#else
constexpr int L = 8;
#endif
typedef float V __attribute__((vector_size(L * 4)));
typedef int32_t I __attribute__((vector_size(L * 4)));

inline V load(const float* p) { V v; std::memcpy(&v, p, sizeof v); return v; }
inline void store(float* p, V v) { std::memcpy(p, &v, sizeof v); }
// Keeps a value in a register: compilers would rather read it again for every product, and loads are what is scarce.
inline V held(V v) {
#if defined(__x86_64__) && defined(__AVX__)
    asm("" : "+x"(v));
#endif
    return v;
}
// The same, and keeps its place among others of its kind: where all registers are in use, no other order fits.
inline V pinned(V v) {
#if defined(__x86_64__) && defined(__AVX__)
    asm volatile("" : "+x"(v));
#endif
    return v;
}
inline V all(float x) { return x - V{}; }
inline float sum(V v) {
    float part[L];
    store(part, v);
    for (int half = L / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) part[i] += part[i + half];
    return part[0];
}
inline V root(V v) {
    for (int i = 0; i < L; ++i) v[i] = std::sqrt(v[i]);
    return v;
}

// exp(x) to 2e-7 relative, between the least and the greatest normal float; NaN is the caller's to carry on.
inline V exponential(V x) {
    x = x > 88.0f ? all(88.0f) : x;
    x = x > -87.0f ? x : all(-87.0f);
    V n = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest whole number
    n = n - 12582912.0f;
    V r = x - n * 0.693359375f + n * 2.12194440e-4f;
    V p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    I power = (__builtin_convertvector(n, I) + 127) << 23;
    V scale;
    std::memcpy(&scale, &power, sizeof scale);
    return p * scale;
}
inline V sigmoid(V x) { return 1.0f / (1.0f + exponential(-x)); }

// An instruction of the tape: offsets are in floats, of the arena (features, gradients), the run's row of weights,
// and the area of packed kernels. The order of these columns is tape.COLUMNS.
struct Instruction {
    int64_t op, x, y, out, dx, dy, dout, add_x, add_y, weight, bias, stats, c_in, c_out, height, width, kernel,
        groups, stride_out, stride_in, packed, flipped;
};
enum Op { EMBED, CONVOLVE, NORM_SILU, SILU, HALVE, DOUBLE, JOIN, ADD };

// What tape.Job describes: one call, for all runs.
struct Job {
    const Instruction* code;
    int64_t length;
    const float* frequencies;
    int64_t lanes, arena, packed, parameters, pixels, views, beta, output, gradient;
    const int64_t *inputs, *levels;  // [views], places of images and of their log-SNR; the first is the one denoised
    int64_t runs, threads, prediction;
    float* weights;
    const float* logsnr;    // [runs, steps, batch, views] in training, [runs, count, views] in evaluation
    const float* log_beta;  // the same without views, or nothing
    // Training only.
    const float* images;
    const int64_t* indices;  // [runs, steps, batch]
    const float* noise;      // [runs, steps, batch, pixels]
    int64_t steps, batch;
    const double* factor;        // [runs, steps] or nothing: DSC's part of the rate
    const double* boost;         // [runs] or nothing
    const float* image_weights;  // [runs, steps, batch] or nothing
    float *average, *first, *second;
    double* counts;
    double rate, beta_first, beta_second, epsilon, weight_decay, max_norm, ema_decay, max_factor;
    int64_t printed;
    float *losses, *norms;  // [steps, runs]
    // Evaluation only.
    const float* z;  // [runs or 1, count, views, pixels]
    float* result;   // [runs, count, pixels]
    int64_t count, z_stride;
};

// Output channels in registers at once, of those that are left: with the vectors of a micro-batch, a dozen sums in
// flight hide the multipliers' latency, as far as there are registers.
template <int N>
int outputs_at_once(int64_t left) {
    constexpr int most = L == 16 ? 8 : 12 / N;
    if (left >= most && (most != 6 || left != 8)) return most;
    return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

// Kernels in the order in which they are read: [block of outputs][input][tap][output in the block].
template <int N>
void pack(const float* w, float* to, int64_t outs, int64_t ins, int taps, int64_t so, int64_t si, bool flip) {
    for (int64_t o = 0; o < outs;) {
        const int width = outputs_at_once<N>(outs - o);
        for (int64_t i = 0; i < ins; ++i)
            for (int t = 0; t < taps; ++t)
                for (int k = 0; k < width; ++k)
                    *to++ = w[(o + k) * so + i * si + (flip ? taps - 1 - t : t)];
        o += width;
    }
}

template <int CO, int N>
void convolve_block(const float* x, const float* w, const float* bias, float* out, int ins, int begin, int end, int H,
                    int W, int K, bool add) {
    constexpr int B = N * L;
    const int P = K / 2;
    for (int h = begin; h < end; ++h) {
        const int top = h < P ? P - h : 0, bottom = H + P - h < K ? H + P - h : K;
        for (int c = 0; c < W; ++c) {
            const int left = c < P ? P - c : 0, right = W + P - c < K ? W + P - c : K;
            V acc[CO][N];
            for (int k = 0; k < CO; ++k)
                for (int n = 0; n < N; ++n)
                    acc[k][n] = add ? load(out + ((int64_t(k) * H + h) * W + c) * B + n * L)
                                    : all(bias ? bias[k] : 0.0f);
            auto taps = [&](auto lo, auto hi) {
                for (int i = 0; i < ins; ++i)
                    for (int r = top; r < bottom; ++r) {
                        const float* from = x + ((int64_t(i) * H + h + r - P) * W + c - P) * B;
                        const float* tap = w + (int64_t(i) * K + r) * K * CO;
                        for (int s = lo; s < hi; ++s) {
                            V v[N];
                            for (int n = 0; n < N; ++n) v[n] = held(load(from + s * B + n * L));
                            for (int k = 0; k < CO; ++k)
                                for (int n = 0; n < N; ++n) acc[k][n] += v[n] * tap[s * CO + k];
                        }
                    }
            };
            using std::integral_constant;
            if (K == 3 && left == 0 && right == 3)
                taps(integral_constant<int, 0>{}, integral_constant<int, 3>{});  // the compiler unrolls these
            else if (K == 1)
                taps(integral_constant<int, 0>{}, integral_constant<int, 1>{});
            else
                taps(left, right);
            for (int k = 0; k < CO; ++k)
                for (int n = 0; n < N; ++n) store(out + ((int64_t(k) * H + h) * W + c) * B + n * L, acc[k][n]);
        }
    }
}

// Convolution with "same" padding; also the gradient for the input, with packed kernels turned round. As many rows at a
// time as keep the inputs in the second cache while all outputs pass by.
template <int N>
void convolve(const float* x, const float* packed, const float* bias, float* out, int outs, int ins, int H, int W,
              int K, bool add) {
    constexpr int B = N * L;
    const int64_t map = int64_t(H) * W * B, kernel = int64_t(ins) * K * K;
    const int fit = 32768 / (W * B * ins), rows = fit < 1 ? 1 : fit;
    for (int begin = 0; begin < H; begin += rows) {
        const int end = begin + rows < H ? begin + rows : H;
        for (int o = 0; o < outs;) {
            const int width = outputs_at_once<N>(outs - o);
            auto run = width == 12  ? convolve_block<12, N>
                       : width == 8 ? convolve_block<8, N>
                       : width == 6 ? convolve_block<6, N>
                       : width == 4 ? convolve_block<4, N>
                       : width == 2 ? convolve_block<2, N>
                                    : convolve_block<1, N>;
            run(x, packed + o * kernel, bias ? bias + o : nullptr, out + o * map, ins, begin, end, H, W, K, add);
            o += width;
        }
    }
}

// Gradient for the kernels, CO outputs by T inputs in registers: three neighbouring taps of one channel (TAPS), or the
// same tap of T channels. `next` lies between the T inputs. Adds rows `begin` to `end` to the sums in `sums`.
template <int CO, int T, bool TAPS, int N>
float* kernel_gradient_block(const float* x, const float* g, float* sums, int64_t next, int begin, int end, int H,
                             int W, int shift_h, int shift_w) {
    constexpr int B = N * L;
    const int64_t map = int64_t(H) * W * B;
    V acc[CO][T];
    for (int k = 0; k < CO; ++k)
        for (int t = 0; t < T; ++t) acc[k][t] = load(sums + (k * T + t) * L);
    auto pixel = [&](const float* gp, const float* xp, auto lo, auto hi) {
        for (int n = 0; n < N; ++n) {
            V v[T];
            for (int t = lo; t < hi; ++t) v[t] = pinned(load(xp + t * next + n * L));
            for (int k = 0; k < CO; ++k) {
                const V grad = pinned(load(gp + k * map + n * L));
                for (int t = lo; t < hi; ++t) acc[k][t] = pinned(acc[k][t] + grad * v[t]);
            }
        }
    };
    using std::integral_constant;
    const integral_constant<int, 0> first;
    const integral_constant<int, T> last;
    const int left = shift_w < 0 ? -shift_w : 0, right = shift_w > 0 ? W - shift_w : W;
    if (begin < -shift_h) begin = -shift_h;
    if (end > H - shift_h) end = H - shift_h;
    for (int h = begin; h < end; ++h) {
        const float* gp = g + int64_t(h) * W * B;
        const float* xp = x + (int64_t(h + shift_h) * W + shift_w) * B;
        if constexpr (TAPS) {
            pixel(gp, xp, integral_constant<int, 1>{}, last);
            for (int c = 1; c < W - 1; ++c) pixel(gp + c * B, xp + c * B, first, last);
            pixel(gp + (W - 1) * B, xp + (W - 1) * B, first, integral_constant<int, T - 1>{});
        } else {
            for (int c = left; c < right; ++c) pixel(gp + c * B, xp + c * B, first, last);
        }
    }
    for (int k = 0; k < CO; ++k)
        for (int t = 0; t < T; ++t) store(sums + (k * T + t) * L, acc[k][t]);
    return sums + CO * T * L;
}

// The same for all inputs and taps of CO outputs. A few rows at a time, so that their gradients stay in the first cache
// while all inputs pass by; `sums` holds [input][tap][output in the block] vectors in the order of the passes.
template <int CO, int N>
void kernel_gradient_rows(const float* x, const float* g, float* dw, float* sums, const Instruction& i) {
    const int H = i.height, W = i.width, K = i.kernel, P = K / 2, ins = i.c_in;
    const int64_t map = int64_t(H) * W * N * L, so = i.stride_out, si = i.stride_in;
    const int fit = 4096 / (CO * W * N * L), rows = fit < 1 ? 1 : fit;
    const bool neighbours = K == 3 && W > 1;
    constexpr int T = 2;
    std::memset(sums, 0, sizeof(float) * int64_t(ins) * K * K * CO * L);
    for (int begin = 0; begin < H; begin += rows) {
        const int end = begin + rows < H ? begin + rows : H;
        float* to = sums;
        if (neighbours) {
            for (int c = 0; c < ins; ++c)
                for (int r = -1; r <= 1; ++r)
                    to = kernel_gradient_block<CO, 3, true, N>(x + c * map, g, to, N * L, begin, end, H, W, r, -1);
            continue;
        }
        for (int r = -P; r <= P; ++r)
            for (int s = -P; s <= P; ++s) {
                int c = 0;
                for (; c + T <= ins; c += T)
                    to = kernel_gradient_block<CO, T, false, N>(x + c * map, g, to, map, begin, end, H, W, r, s);
                for (; c < ins; ++c)
                    to = kernel_gradient_block<CO, 1, false, N>(x + c * map, g, to, map, begin, end, H, W, r, s);
            }
    }
    auto collect = [&](int64_t at, int width, int64_t step) {
        for (int k = 0; k < CO; ++k)
            for (int t = 0; t < width; ++t, sums += L) dw[k * so + at + t * step] += sum(load(sums));
    };
    if (neighbours) {
        for (int c = 0; c < ins; ++c)
            for (int r = 0; r < 3; ++r) collect(c * si + r * 3, 3, 1);
        return;
    }
    for (int tap = 0; tap < K * K; ++tap) {
        int c = 0;
        for (; c + T <= ins; c += T) collect(c * si + tap, T, si);
        for (; c < ins; ++c) collect(c * si + tap, 1, si);
    }
}

template <int N>
void kernel_gradient(const float* x, const float* g, float* dw, float* sums, const Instruction& i) {
    const int64_t map = i.height * i.width * N * L;
    int64_t o = 0;
    for (; o + 4 <= i.c_out; o += 4) kernel_gradient_rows<4, N>(x, g + o * map, dw + o * i.stride_out, sums, i);
    for (; o < i.c_out; ++o) kernel_gradient_rows<1, N>(x, g + o * map, dw + o * i.stride_out, sums, i);
}

// Group normalisation, the noise level's modulation, SiLU, of one group.
template <int N>
struct NormSilu {
    static constexpr int B = N * L;
    const Instruction& i;
    float* arena;
    const float* w;
    const int64_t map = i.height * i.width, size = i.c_in / i.groups, count = size * map;

    // Per image: u = factor * hat + offset in channel c, where hat = (x - mean) * inverse and `scale` is 1 or the noise
    // level's. The mean is subtracted first: with little variance, inverse is large and rounding would show.
    void affine(int64_t c, V* scale, V* factor, V* offset) const {
        for (int n = 0; n < N; ++n) {
            scale[n] = all(1.0f);
            V shift{};
            if (i.y >= 0) {
                scale[n] += load(arena + i.y + c * B + n * L);
                shift = load(arena + i.y + (i.c_in + c) * B + n * L);
            }
            factor[n] = scale[n] * w[i.weight + c];
            offset[n] = scale[n] * w[i.bias + c] + shift;
        }
    }

    void forward(int64_t g) const {
        const float* x = arena + i.x + g * count * B;
        V mean[N] = {}, inverse[N] = {}, scale[N], factor[N], offset[N];
        for (int64_t p = 0; p < count; ++p)
            for (int n = 0; n < N; ++n) mean[n] += load(x + p * B + n * L);
        for (int n = 0; n < N; ++n) mean[n] = mean[n] / float(count);
        for (int64_t p = 0; p < count; ++p)
            for (int n = 0; n < N; ++n) {
                const V d = load(x + p * B + n * L) - mean[n];
                inverse[n] += d * d;
            }
        for (int n = 0; n < N; ++n) {
            inverse[n] = 1.0f / root(inverse[n] / float(count) + 1e-5f);
            store(arena + i.stats + 2 * g * B + n * L, mean[n]);
            store(arena + i.stats + (2 * g + 1) * B + n * L, inverse[n]);
        }
        for (int64_t c = g * size; c < (g + 1) * size; ++c) {
            affine(c, scale, factor, offset);
            const float* from = arena + i.x + c * map * B;
            float* out = arena + i.out + c * map * B;
            for (int64_t p = 0; p < map; ++p)
                for (int n = 0; n < N; ++n) {
                    const V u = (load(from + p * B + n * L) - mean[n]) * inverse[n] * factor[n] + offset[n];
                    store(out + p * B + n * L, u * sigmoid(u));
                }
        }
    }

    void backward(int64_t g, float* dw) const {
        V mean[N], inverse[N], scale[N], factor[N], offset[N], along_one[N] = {}, along_x[N] = {};
        for (int n = 0; n < N; ++n) {
            mean[n] = load(arena + i.stats + 2 * g * B + n * L);
            inverse[n] = load(arena + i.stats + (2 * g + 1) * B + n * L);
        }
        for (int64_t c = g * size; c < (g + 1) * size; ++c) {
            affine(c, scale, factor, offset);
            const float* x = arena + i.x + c * map * B;
            float* du = arena + i.dout + c * map * B;  // replaces the gradient of the output
            V ones[N] = {}, xs[N] = {};
            for (int64_t p = 0; p < map; ++p)
                for (int n = 0; n < N; ++n) {
                    const V hat = (load(x + p * B + n * L) - mean[n]) * inverse[n];
                    const V u = hat * factor[n] + offset[n], s = sigmoid(u);
                    const V d = load(du + p * B + n * L) * (s + u * s * (1.0f - s));
                    store(du + p * B + n * L, d);
                    ones[n] += d;
                    xs[n] += d * hat;
                }
            const float gain = w[i.weight + c], bias = w[i.bias + c];
            V for_weight{}, for_bias{};
            for (int n = 0; n < N; ++n) {
                if (i.y >= 0) {
                    float* to = arena + i.dy + c * B + n * L;
                    store(to, gain * xs[n] + bias * ones[n]);
                    store(to + i.c_in * B, ones[n]);
                }
                for_weight += scale[n] * xs[n];
                for_bias += scale[n] * ones[n];
                along_one[n] += factor[n] * ones[n] / float(count);
                along_x[n] += factor[n] * xs[n] / float(count);
            }
            dw[i.weight + c] += sum(for_weight);
            dw[i.bias + c] += sum(for_bias);
        }
        for (int64_t c = g * size; c < (g + 1) * size; ++c) {
            affine(c, scale, factor, offset);
            const float *x = arena + i.x + c * map * B, *du = arena + i.dout + c * map * B;
            float* dx = arena + i.dx + c * map * B;
            for (int64_t p = 0; p < map; ++p)
                for (int n = 0; n < N; ++n) {
                    const V hat = (load(x + p * B + n * L) - mean[n]) * inverse[n];
                    const V d = inverse[n] * (load(du + p * B + n * L) * factor[n] - along_one[n] - hat * along_x[n]);
                    float* to = dx + p * B + n * L;
                    store(to, i.add_x ? load(to) + d : d);
                }
        }
    }
};

// Means of 2 x 2 pixels, and the reverse: `scale` times the sum, or times the value.
void halve(const float* x, float* out, int64_t channels, int64_t H, int64_t W, int64_t B, float scale, bool add) {
    for (int64_t c = 0; c < channels; ++c)
        for (int64_t h = 0; h < H / 2; ++h)
            for (int64_t w = 0; w < W / 2; ++w) {
                const float* from = x + ((c * H + 2 * h) * W + 2 * w) * B;
                float* to = out + ((c * (H / 2) + h) * (W / 2) + w) * B;
                for (int64_t b = 0; b < B; b += L) {
                    V total = load(from + b) + load(from + B + b);
                    total = (total + load(from + W * B + b) + load(from + (W + 1) * B + b)) * scale;
                    store(to + b, add ? load(to + b) + total : total);
                }
            }
}
void spread(const float* x, float* out, int64_t channels, int64_t H, int64_t W, int64_t B, float scale, bool add) {
    for (int64_t c = 0; c < channels; ++c)  // H and W are those of the larger map, here too
        for (int64_t h = 0; h < H; ++h)
            for (int64_t w = 0; w < W; ++w) {
                const float* from = x + ((c * (H / 2) + h / 2) * (W / 2) + w / 2) * B;
                float* to = out + ((c * H + h) * W + w) * B;
                for (int64_t b = 0; b < B; b += L) {
                    const V v = load(from + b) * scale;
                    store(to + b, add ? load(to + b) + v : v);
                }
            }
}
void pass(const float* x, float* out, int64_t size, bool add) {
    for (int64_t k = 0; k < size; k += L) store(out + k, add ? load(out + k) + load(x + k) : load(x + k));
}

// One thread's memory, and the network of the run at hand.
template <int N>
struct Worker {
    static constexpr int64_t B = N * L;
    const Job& job;
    float *arena, *sums, *packed, *gradients;

    explicit Worker(const Job& j) : job(j) {
        int64_t most = 0;  // sums of a gradient for four outputs
        for (const Instruction* i = job.code; i < job.code + job.length; ++i)
            if (i->op == CONVOLVE && 4 * i->c_in * i->kernel * i->kernel > most)
                most = 4 * i->c_in * i->kernel * i->kernel;
        const int64_t floats = job.arena + job.packed + most * L + job.parameters + job.pixels * B;
        const size_t size = floats * sizeof(float);
        arena = static_cast<float*>(std::aligned_alloc(64, (size + 63) / 64 * 64));
        std::memset(arena, 0, size);
        sums = arena + job.arena;
        packed = sums + most * L;
        gradients = packed + job.packed;
    }
    ~Worker() { std::free(arena); }

    void pack_kernels(const float* w, bool backward) {
        for (const Instruction* i = job.code; i < job.code + job.length; ++i) {
            if (i->op != CONVOLVE) continue;
            const int taps = i->kernel * i->kernel;
            pack<N>(w + i->weight, packed + i->packed, i->c_out, i->c_in, taps, i->stride_out, i->stride_in, false);
            if (backward && i->dx >= 0)
                pack<N>(w + i->weight, packed + i->flipped, i->c_in, i->c_out, taps, i->stride_in, i->stride_out, true);
        }
    }

    void forward(const float* w) {
        for (const Instruction* i = job.code; i < job.code + job.length; ++i) {
            const float *x = arena + i->x, *y = arena + i->y;
            float* out = arena + i->out;
            const int64_t map = i->height * i->width * B;
            switch (i->op) {
                case EMBED:
                    for (int64_t f = 0; f < i->c_out / 2; ++f)
                        for (int64_t b = 0; b < B; ++b) {
                            const float angle = x[b] * job.frequencies[f];
                            out[f * B + b] = std::sin(angle);
                            out[(i->c_out / 2 + f) * B + b] = std::cos(angle);
                        }
                    break;
                case CONVOLVE:
                    convolve<N>(x, packed + i->packed, i->bias < 0 ? nullptr : w + i->bias, out, i->c_out, i->c_in, i->height, i->width,
                                i->kernel, false);
                    break;
                case NORM_SILU:
                    for (int64_t g = 0; g < i->groups; ++g) NormSilu<N>{*i, arena, w}.forward(g);
                    break;
                case SILU:
                    for (int64_t k = 0; k < i->c_in * map; k += L) store(out + k, load(x + k) * sigmoid(load(x + k)));
                    break;
                case HALVE: halve(x, out, i->c_in, i->height, i->width, B, 0.25f, false); break;
                case DOUBLE: spread(x, out, i->c_in, i->height, i->width, B, 1.0f, false); break;
                case JOIN:
                    pass(x, out, i->c_in * map, false);
                    pass(y, out + i->c_in * map, (i->c_out - i->c_in) * map, false);
                    break;
                case ADD:
                    for (int64_t k = 0; k < i->c_in * map; k += L) store(out + k, load(x + k) + load(y + k));
                    break;
            }
        }
    }

    void backward(const float* w) {
        float* dw = gradients;
        for (const Instruction* i = job.code + job.length - 1; i >= job.code; --i) {
            const float *x = arena + i->x, *g = arena + i->dout;
            float *dx = arena + i->dx, *dy = arena + i->dy;
            const int64_t map = i->height * i->width * B;
            switch (i->op) {
                case EMBED: break;
                case CONVOLVE:
                    if (i->dx >= 0)
                        convolve<N>(g, packed + i->flipped, nullptr, dx, i->c_in, i->c_out, i->height, i->width,
                                    i->kernel, i->add_x);
                    kernel_gradient<N>(x, g, dw + i->weight, sums, *i);
                    for (int64_t c = 0; i->bias >= 0 && c < i->c_out; ++c) {
                        V total{};
                        for (int64_t k = 0; k < map; k += L) total += load(g + c * map + k);
                        dw[i->bias + c] += sum(total);
                    }
                    break;
                case NORM_SILU:
                    for (int64_t g = 0; g < i->groups; ++g) NormSilu<N>{*i, arena, w}.backward(g, dw);
                    break;
                case SILU:
                    for (int64_t k = 0; k < i->c_in * map; k += L) {
                        const V u = load(x + k), s = sigmoid(u), d = load(g + k) * (s + u * s * (1.0f - s));
                        store(dx + k, i->add_x ? load(dx + k) + d : d);
                    }
                    break;
                case HALVE: spread(g, dx, i->c_in, i->height, i->width, B, 0.25f, i->add_x); break;
                case DOUBLE: halve(g, dx, i->c_in, i->height, i->width, B, 1.0f, i->add_x); break;
                case JOIN:
                    pass(g, dx, i->c_in * map, i->add_x);
                    pass(g + i->c_in * map, dy, (i->c_out - i->c_in) * map, i->add_y);
                    break;
                case ADD:
                    pass(g, dx, i->c_in * map, i->add_x);
                    pass(g, dy, i->c_in * map, i->add_y);
                    break;
            }
        }
    }

    static float mix(float a, float b, float t) { return t < 0.5f ? a + t * (b - a) : b - (b - a) * (1.0f - t); }

    void train(int64_t run) {
        float *w = job.weights + run * job.parameters, *ema = job.average + run * job.parameters;
        float *m = job.first + run * job.parameters, *v = job.second + run * job.parameters;
        const int64_t D = job.pixels, cell = job.batch * D;
        float *target = gradients + job.parameters, *out = arena + job.output;
        for (int64_t step = 0; step < job.steps; ++step) {
            const int64_t row = run * job.steps + step;
            std::memset(gradients, 0, job.parameters * sizeof(float));
            pack_kernels(w, true);
            double loss = 0.0;
            for (int64_t begin = 0; begin < job.batch; begin += B) {
                const int64_t real = job.batch - begin < B ? job.batch - begin : B;
                for (int64_t b = 0; b < B; ++b) {
                    const int64_t at = row * job.batch + begin + b;
                    const bool empty = b >= real;  // in the last micro-batch: zeros in, no gradient out
                    if (job.beta >= 0) arena[job.beta + b] = empty ? 0.0f : job.log_beta[at];
                    for (int64_t v = job.views - 1; v >= 0; --v) {
                        float* z = arena + job.inputs[v];
                        if (empty) {
                            arena[job.levels[v] + b] = 0.0f;
                            for (int64_t d = 0; d < D; ++d) z[d * B + b] = target[d * B + b] = 0.0f;
                            continue;
                        }
                        const float lambda = job.logsnr[at * job.views + v];
                        const float alpha = std::sqrt(1.0 / (1.0 + std::exp(-double(lambda))));
                        const float sigma = std::sqrt(1.0 / (1.0 + std::exp(double(lambda))));
                        arena[job.levels[v] + b] = lambda;
                        const float *x0 = job.images + job.indices[at] * D, *e = job.noise + at * D;
                        for (int64_t d = 0; d < D; ++d) z[d * B + b] = alpha * x0[d] + sigma * e[d];
                        if (v > 0) continue;
                        for (int64_t d = 0; d < D; ++d)
                            target[d * B + b] = job.prediction == 0   ? e[d]
                                                : job.prediction == 1 ? x0[d]
                                                                      : alpha * e[d] - sigma * x0[d];
                    }
                }
                forward(w);
                float* g = arena + job.gradient;
                float scale[B];
                for (int64_t b = 0; b < B; ++b) {
                    scale[b] = 2.0f / float(cell);
                    if (job.image_weights && b < real) scale[b] *= job.image_weights[row * job.batch + begin + b];
                }
                for (int64_t d = 0; d < D; ++d)
                    for (int64_t b = 0; b < B; ++b) {
                        const float error = b < real ? out[d * B + b] - target[d * B + b] : 0.0f;
                        loss += double(error) * error;
                        g[d * B + b] = scale[b] * error;
                    }
                backward(w);
            }
            job.losses[step * job.runs + run] = float(loss / double(cell));
            job.norms[step * job.runs + run] = update(run, row, w, ema, m, v);
        }
    }

    // Adam, AdamW or DSC, the same formulas as optimizer.StackedAdam, and the average weights. Returns the norm.
    float update(int64_t run, int64_t row, float* __restrict w, float* __restrict ema, float* __restrict m,
                 float* __restrict v) {
        const int64_t P = job.parameters;
        const float* __restrict gradient = gradients;
        double square = 0.0;
        for (int64_t p = 0; p < P;) {
            float part[L] = {};  // short sums in float32, their total in float64
            for (const int64_t end = p + 16 * L < P ? p + 16 * L : P; p < end; p += L)
                for (int k = 0; k < L && p + k < end; ++k) part[k] += gradient[p + k] * gradient[p + k];
            for (int k = 0; k < L; ++k) square += part[k];
        }
        const float norm = float(std::sqrt(square));
        float clip = 1.0f;
        if (job.max_norm > 0.0) {
            const float ratio = float(job.max_norm) / (norm + 1e-6f);
            clip = ratio > 1.0f ? 1.0f : ratio;  // a NaN passes
        }
        const double t = job.counts[run] += 1.0;
        double rate = job.rate;
        if (job.factor) {
            const double extra = job.boost[run] > 0.0 ? 1.0 + job.boost[run] * norm : 1.0;
            rate *= job.factor[row] * (extra > job.max_factor ? job.max_factor : extra);  // a NaN passes
        }
        const float size = float(rate / (1.0 - std::pow(job.beta_first, t)));
        const float correction = float(std::sqrt(1.0 - std::pow(job.beta_second, t)));
        const float keep = float(job.beta_second), gain = float(1.0 - job.beta_second);
        const float move = float(1.0 - job.beta_first), shrink = float(1.0 - rate * job.weight_decay);
        const double decay = (1.0 + t) / (10.0 + t);
        const float renew = float(1.0 - (decay < job.ema_decay ? decay : job.ema_decay));
        const float eps = float(job.epsilon);
        const bool printed = job.printed;
        for (int64_t p = 0; p < P; ++p) {
            const float g = gradient[p] * clip;
            m[p] = mix(m[p], g, move);
            v[p] = v[p] * keep + gain * g * g;
            const float change = m[p] / (std::sqrt(v[p]) / correction + eps) * size;
            w[p] = w[p] * shrink - (printed ? change * g : change);
            ema[p] = mix(ema[p], w[p], renew);
        }
        return norm;
    }

    void evaluate(int64_t run) {
        const float* w = job.weights + run * job.parameters;
        const int64_t D = job.pixels;
        pack_kernels(w, false);
        for (int64_t begin = 0; begin < job.count; begin += B) {
            const int64_t real = job.count - begin < B ? job.count - begin : B;
            for (int64_t b = 0; b < B; ++b) {
                const int64_t at = begin + (b < real ? b : 0), row = run * job.count + at;
                if (job.beta >= 0) arena[job.beta + b] = job.log_beta[row];
                for (int64_t v = 0; v < job.views; ++v) {
                    arena[job.levels[v] + b] = job.logsnr[row * job.views + v];
                    const float* from = job.z + run * job.z_stride + (at * job.views + v) * D;
                    for (int64_t d = 0; d < D; ++d) arena[job.inputs[v] + d * B + b] = from[d];
                }
            }
            forward(w);
            for (int64_t b = 0; b < real; ++b) {
                float* to = job.result + (run * job.count + begin + b) * D;
                for (int64_t d = 0; d < D; ++d) to[d] = arena[job.output + d * B + b];
            }
        }
    }
};

template <int N>
void work(const Job& job, bool training) {
    std::atomic<int64_t> next{0};
    auto serve = [&] {
        Worker<N> worker(job);
        for (int64_t run; (run = next++) < job.runs;) training ? worker.train(run) : worker.evaluate(run);
    };
    std::vector<std::thread> helpers;
    for (int64_t t = 1; t < job.threads && t < job.runs; ++t) helpers.emplace_back(serve);
    serve();
    for (auto& helper : helpers) helper.join();
}

}  // namespace

extern "C" {
int64_t lanes() { return L; }
int64_t job_size() { return sizeof(Job); }
void train(const Job* job) { job->lanes == L ? work<1>(*job, true) : work<2>(*job, true); }
void evaluate(const Job* job) { job->lanes == L ? work<1>(*job, false) : work<2>(*job, false); }
}
