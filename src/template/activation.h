/* template/activation.h - the activations, as vector polynomials.
 * SPDX-License-Identifier: MIT
 *
 * No branches, no estimates, only operations that round as IEEE 754 says: the same bits
 * everywhere. NaN gives NaN. The coefficients are minimax (Remez), from
 * tools/fit_activations.py; each comment gives the error of the fit before rounding.
 * What results from both is in docs/numerics.md. */

#define FN_ACTIVATIONS(X)                                                              \
  X(IDENTITY)                                                                          \
  X(RELU)                                                                              \
  X(LEAKY_RELU)                                                                        \
  X(RELU6)                                                                             \
  X(CLAMP)                                                                             \
  X(GELU)                                                                              \
  X(GELU_TANH)                                                                         \
  X(SILU)                                                                              \
  X(SIGMOID)                                                                           \
  X(TANH)                                                                              \
  X(HARDSWISH)

/* Polynomials: the coefficient of the highest power comes first.
 *   EXP: (exp(-r) - 1 + r) / r^2, |r| <= ln(2) / 2, so that exp(-r) has 2^-28 (2^-57)
 *   POW2: see the word pow2
 *   EXP_LOW: exp(-u) is Inf there, and at EXP_HIGH lost beside 1 */
#if FN_T_IS_FLOAT
static const float FN_KERNEL(EXP)[] = {0x1.6a18c4p-10f, -0x1.123a08p-7f, 0x1.5558fep-5f,
                                       -0x1.555492p-3f, 0x1.fffffcp-2f};
#define EXP_LOW  -88.74f
#define EXP_HIGH 87.3f
#define POW2     (0x1.8p23f + 127)
#define LN2_HIGH 0x1.62e43p-1f
#define LN2_LOW  -0x1.05c61p-29f
/* The same for |r| <= ln(2) / 16: 0.5 * 2^-24 */
static const float FN_KERNEL(EXP_SHORT)[] = {-0x1.55558ep-3f, 0x1.000878p-1f};
/* erf(x / sqrt(2)) / 2 = x * P(x^2) / Q(x^2), |x| <= 5.4: 0.1 * 2^-24 absolute, and as
 * computed exactly 1 / 2 at 5.5 */
static const float FN_KERNEL(ERF_P)[] = {0x1.91db3p-26f,  0x1.aac294p-18f,
                                         0x1.587166p-13f, 0x1.30c46cp-8f,
                                         0x1.115316p-5f,  0x1.98845p-2f};
static const float FN_KERNEL(ERF_Q)[] = {0x1.46982p-20f,  0x1.2f8e78p-14f,
                                         0x1.e734b6p-10f, 0x1.d0e2d8p-6f,
                                         0x1.004e74p-2f,  1};
#else
static const double FN_KERNEL(EXP)[] = {-0x1.ad72630f0796dp-26, 0x1.28ad84d197c29p-22,
                                        -0x1.71df2cfcfba57p-19, 0x1.a01999fb1f16p-16,
                                        -0x1.a01a01272d53ep-13, 0x1.6c16c1842f662p-10,
                                        -0x1.111111112846bp-7,  0x1.555555555086bp-5,
                                        -0x1.55555555554f8p-3,  0x1.000000000000ap-1};
#define EXP_LOW  -710.0
#define EXP_HIGH 709.0
#define POW2     (0x1.8p52 + 1023)
#define LN2_HIGH 0x1.62e42fefa39efp-1
#define LN2_LOW  0x1.abc9e3b39803fp-56
/* (1 + 2 a) * exp(a^2 / 2) * erfc(a / sqrt(2)) / 2 in (a - 5) / (a + 5), 0 <= a <= 39:
 * 0.1 * 2^-53. The factor keeps the coefficients from cancelling. */
static const double FN_KERNEL(ERFCX)[] = {
    0x1.cbc96a381ebd4p-30,  0x1.2009c76b4faap-27,   -0x1.0f8dafc183461p-30,
    -0x1.28a28b468621ap-24, -0x1.1971f77043cebp-25, 0x1.d437bed41b597p-22,
    0x1.71149e154c2d8p-23,  -0x1.8036d0bb1638ep-19, 0x1.209db0ab010d5p-21,
    0x1.4558ad48c8dbep-16,  -0x1.bb8c821842b2dp-16, -0x1.c5ba7ae2a876ap-14,
    0x1.bdbed357c753bp-12,  -0x1.f1d626a7b39a3p-14, -0x1.d4263644ee0c8p-9,
    0x1.f96034e250943p-7,   -0x1.42359acfe68f1p-5,  0x1.28e8fee38e081p-4,
    -0x1.9c4af953d8959p-4,  0x1.9d3d58860cf85p-4,   -0x1.ba6f247fb87ap-5,
    -0x1.44c9cd8f5795ep-5,  0x1.b135a378924a6p-1};
#endif
#define POLYNOMIAL(x, c)                                                               \
  FN_KERNEL(polynomial)(x, FN_KERNEL(c), sizeof FN_KERNEL(c) / sizeof FN_KERNEL(c)[0])

FN_WORD vec FN_KERNEL(polynomial)(vec x, const T *c, size_t n) {
  vec p = V(splat)(c[0]);
  for (size_t k = 1; k < n; k++)
    p = V(fma)(p, x, V(splat)(c[k]));
  return p;
}

/* max(limit, v) and min(limit, v) in this order give v where it is NaN. */
FN_WORD vec FN_KERNEL(limited)(vec v, T low, T high) {
  return V(min)(V(splat)(high), V(max)(V(splat)(low), v));
}

/* exp(-u) as power * (1 + g * r), u between EXP_LOW and EXP_HIGH. Adding a large number
 * rounds u / ln(2) to a whole one, which is subtracted in two parts. */
typedef struct FN_KERNEL(exponential) {
  vec power, g, r;
} FN_KERNEL(exponential);
#define exponential FN_KERNEL(exponential)

FN_WORD exponential FN_KERNEL(exp_minus)(vec u) {
  const vec whole = V(splat)((T)POW2);
  const vec t = V(fma)(u, V(splat)((T)-0x1.71547652b82fep+0), whole);
  const vec n = V(sub)(t, whole);
  const vec r = V(fma)(n, V(splat)(LN2_LOW), V(fma)(n, V(splat)(LN2_HIGH), u));
  const vec g = V(fma)(POLYNOMIAL(r, EXP), r, V(splat)((T)-1));
  return (exponential){V(pow2)(t), g, r};
}

/* v / (1 + exp(-u)). At EXP_LOW the quotient is 0, so v must be finite there. */
FN_WORD vec FN_KERNEL(logistic)(vec v, vec u) {
  const vec one = V(splat)((T)1);
  const vec x = FN_KERNEL(limited)(u, (T)EXP_LOW, (T)EXP_HIGH);
#if FN_T_IS_FLOAT
  /* As exp_minus, but with eighths of powers of two, which leave so little that two
   * coefficients are enough: this is in the inner loop of a fused SiLU. */
  const vec eighth = V(splat)(0x1.8p20f);
  const vec t = V(fma)(x, V(splat)(-0x1.715476p+0f), eighth);
  const vec r = V(fma)(V(sub)(t, eighth), V(splat)(LN2_HIGH), x);
  const vec g = V(fma)(POLYNOMIAL(r, EXP_SHORT), r, V(splat)(-1.0f));
  const vec power = f32_pow2_eighths(t);
#else
  const exponential e = FN_KERNEL(exp_minus)(x);
  const vec g = e.g, r = e.r, power = e.power;
#endif
  return V(div)(v, V(fma)(V(fma)(g, r, one), power, one));
}

/* So that a factor v is finite where the other is 0: for -Inf the result is -0. */
FN_WORD vec FN_KERNEL(at_least)(T low, vec v) {
  return V(max)(V(splat)(low), v);
}

FN_WORD vec FN_KERNEL(gelu_tanh)(vec v) {
  const vec k = V(splat)((T)1.5957691216057307), k3 = V(splat)((T)0.07135481627260025);
  const vec u = V(mul)(v, V(fma)(V(mul)(v, v), k3, k));
  return FN_KERNEL(logistic)(FN_KERNEL(at_least)(-30, v), u);
}

/* With m = exp(2 v) - 1, in which nothing cancels: m / (m + 2). For small v it is v,
 * also for -0. */
FN_WORD vec FN_KERNEL(tanh)(vec v) {
  const vec one = V(splat)((T)1);
  const exponential e =
      FN_KERNEL(exp_minus)(V(mul)(V(splat)((T)-2), FN_KERNEL(limited)(v, -20, 20)));
  const vec m = V(fma)(e.power, V(mul)(e.g, e.r), V(sub)(e.power, one));
  const vec y = V(div)(m, V(add)(m, V(splat)((T)2)));
  return V(select_le)(V(abs)(v), V(splat)((T)0x1p-28), v, y);
}

#if FN_T_IS_FLOAT
FN_WORD vec FN_KERNEL(gelu)(vec v) {
  const vec half = V(splat)(0.5f), limit = V(splat)(5.5f);
  const vec a = FN_KERNEL(at_least)(-5.5f, v), x = V(min)(limit, a), s = V(mul)(x, x);
  const vec q = V(div)(V(mul)(x, POLYNOMIAL(s, ERF_P)), POLYNOMIAL(s, ERF_Q));
  return V(mul)(a, V(add)(FN_KERNEL(at_least)(-0.5f, q), half));
}
#else
/* With h = exp(-a^2 / 2) * erfcx: v - a * h for positive v, -a * h for negative. The
 * square is taken with its rounding error. */
FN_WORD vec FN_KERNEL(gelu)(vec v) {
  const vec one = V(splat)(1.0), half = V(splat)(0.5), five = V(splat)(5.0);
  const vec a = V(min)(V(splat)(39.0), V(abs)(v)), s = V(mul)(a, a);
  const vec error = V(fma)(a, a, V(sub)(V(splat)(0.0), s));
  const exponential e =
      FN_KERNEL(exp_minus)(V(mul)(half, V(min)(V(splat)(2 * EXP_HIGH), s)));
  const vec t = V(div)(V(sub)(a, five), V(add)(a, five));
  const vec x = V(div)(V(mul)(V(fma)(e.g, e.r, one), POLYNOMIAL(t, ERFCX)),
                       V(fma)(V(splat)(2.0), a, one));
  const vec h = V(mul)(e.power, V(fnma)(V(mul)(half, error), x, x));
  const vec tail = V(mul)(a, h);
  return V(select_le)(V(splat)(0.0), v, V(sub)(v, tail), V(sub)(V(splat)(-0.0), tail));
}
#endif

/* `name` is known at compile time. */
FN_WORD vec FN_KERNEL(activate)(vec v, fastnorm_activation name, T alpha, T beta) {
  const vec zero = V(splat)((T)0);
  switch (name) {
  case FASTNORM_RELU:
    return V(max)(zero, v);
  case FASTNORM_LEAKY_RELU:
    return V(select_le)(zero, v, v, V(mul)(V(splat)(alpha), v));
  case FASTNORM_RELU6:
    return FN_KERNEL(limited)(v, 0, 6);
  case FASTNORM_CLAMP:
    return FN_KERNEL(limited)(v, alpha, beta);
  case FASTNORM_GELU:
    return FN_KERNEL(gelu)(v);
  case FASTNORM_GELU_TANH:
    return FN_KERNEL(gelu_tanh)(v);
  case FASTNORM_SILU:
    return FN_KERNEL(logistic)(FN_KERNEL(at_least)((T)EXP_LOW, v), v);
  case FASTNORM_SIGMOID:
    return FN_KERNEL(logistic)(V(splat)((T)1), v);
  case FASTNORM_TANH:
    return FN_KERNEL(tanh)(v);
  case FASTNORM_HARDSWISH: {
    const vec t = FN_KERNEL(limited)(V(add)(v, V(splat)((T)3)), 0, 6);
    return V(mul)(FN_KERNEL(at_least)(-3, v), V(mul)(t, V(splat)((T)(1.0 / 6))));
  }
  default:
    return v;
  }
}
#undef EXP_LOW
#undef EXP_HIGH
#undef POW2
#undef LN2_HIGH
#undef LN2_LOW
#undef POLYNOMIAL
#undef exponential
