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
/* a - gelu(a) in a - 0.375 * j, column j for the a nearest to 0.375 * j, and 0 from
 * 14.5 * 0.375 on: 2^-26 absolute, and 6 * 2^-24 relative up to a = 3.5 */
static const float FN_KERNEL(GELU)[6][16] = {
    {-0x1.2a2b0ep-8f, -0x1.334bf6p-6f, -0x1.72d5f2p-6f, -0x1.6e0908p-7f, 0x1.6691a4p-9f,
     0x1.22235cp-7f, 0x1.d01f1ap-8f, 0x1.70dc7cp-9f, -0x1.e23d76p-17f, -0x1.b7cec2p-11f,
     -0x1.5ace42p-11f, -0x1.55b91p-12f, -0x1.f660cep-14f, -0x1.24588p-15f,
     -0x1.151e9ep-17f, 0},
    {0x1.134b82p-4f, 0x1.7ecb94p-5f, 0x1.3fe684p-8f, -0x1.d15ef6p-6f, -0x1.258b9p-5f,
     -0x1.82ce9ep-6f, -0x1.fd6ae4p-8f, 0x1.ab6d3ap-10f, 0x1.079b94p-8f, 0x1.8b2288p-9f,
     0x1.8feff8p-10f, 0x1.36426ap-11f, 0x1.82c52cp-13f, 0x1.8c99aep-15f,
     0x1.5323ccp-17f, 0},
    {-0x1.7ae7e2p-15f, 0x1.6f579cp-4f, 0x1.08fe22p-3f, 0x1.bcec58p-4f, 0x1.d02b82p-5f,
     0x1.5537fep-7f, -0x1.9e4758p-7f, -0x1.0798a4p-6f, -0x1.6b0472p-7f, -0x1.6d63dep-8f,
     -0x1.22b656p-9f, -0x1.7a0a16p-11f, -0x1.98e55ep-13f, -0x1.73ceb6p-15f,
     -0x1.1e37c2p-17f, 0},
    {-0x1.988418p-2f, -0x1.62008p-2f, -0x1.bb471ap-3f, -0x1.3eae7ep-4f, 0x1.093266p-6f,
     0x1.ab0576p-5f, 0x1.8e26dcp-5f, 0x1.fdccf6p-6f, 0x1.fc4bfp-7f, 0x1.9cae7p-8f,
     0x1.16b96cp-9f, 0x1.3cfc9ep-11f, 0x1.31cbb4p-13f, 0x1.f6fa3cp-16f, 0x1.61e33ap-18f,
     0},
    {0x1p-1f, 0x1.b70f5p-3f, 0x1.95f4dcp-11f, -0x1.baa41ep-4f, -0x1.050e8ep-3f,
     -0x1.93c66ep-4f, -0x1.e4e1f4p-5f, -0x1.dc425cp-6f, -0x1.876f74p-7f,
     -0x1.107234p-8f, -0x1.436fc4p-10f, -0x1.48ed6p-12f, -0x1.1f6cf2p-14f,
     -0x1.b0897p-17f, -0x1.18ae36p-19f, 0},
    {0, 0x1.0fbddap-3f, 0x1.5c198p-3f, 0x1.2c32d6p-3f, 0x1.9a76a6p-4f, 0x1.d2e35cp-5f,
     0x1.c2a496p-6f, 0x1.74a8eap-7f, 0x1.096694p-8f, 0x1.468978p-10f, 0x1.5babccp-12f,
     0x1.40b6c8p-14f, 0x1.008448p-16f, 0x1.63f9c6p-19f, 0x1.acb53ap-22f, 0},
};
static const float FN_KERNEL(GELU_TANH)[6][16] = {
    {-0x1.30ea02p-8f, -0x1.38eeb2p-6f, -0x1.72d0d4p-6f, -0x1.5dbe64p-7f, 0x1.72ebd6p-9f,
     0x1.1271b8p-7f, 0x1.c06138p-8f, 0x1.8e1972p-9f, 0x1.b3b286p-13f, -0x1.b9ae4ep-11f,
     -0x1.867fbap-11f, -0x1.7c97aap-12f, -0x1.e94328p-14f, -0x1.aee562p-16f,
     -0x1.0565ccp-18f, 0},
    {0x1.14b594p-4f, 0x1.7e28a8p-5f, 0x1.1e50f8p-8f, -0x1.d0b5bap-6f, -0x1.1f7bbcp-5f,
     -0x1.7de0a8p-6f, -0x1.0ef484p-7f, 0x1.2e30b6p-10f, 0x1.08f02ap-8f, 0x1.aa063p-9f,
     0x1.b13a36p-10f, 0x1.364c86p-11f, 0x1.3fd2dp-13f, 0x1.d99a34p-16f, 0x1.f2afc8p-19f,
     0},
    {-0x1.8365fcp-15f, 0x1.7078b4p-4f, 0x1.087486p-3f, 0x1.b9d3f6p-4f, 0x1.cfadc6p-5f,
     0x1.72161cp-7f, -0x1.88556ep-7f, -0x1.0ab432p-6f, -0x1.7c8132p-7f, -0x1.7facb4p-8f,
     -0x1.209d6cp-9f, -0x1.461b32p-11f, -0x1.127a74p-13f, -0x1.53775ep-16f,
     -0x1.2f74c4p-19f, 0},
    {-0x1.988416p-2f, -0x1.61c85p-2f, -0x1.baafccp-3f, -0x1.402e66p-4f, 0x1.f3e846p-7f,
     0x1.a7b8fep-5f, 0x1.92f718p-5f, 0x1.05e3bp-5f, 0x1.043ffap-6f, 0x1.952158p-8f,
     0x1.ecd598p-10f, 0x1.cea7c2p-12f, 0x1.499364p-14f, 0x1.5db13ep-17f,
     0x1.0eeeaep-20f, 0},
    {0x1p-1f, 0x1.b72eap-3f, 0x1.1655fp-10f, -0x1.b96ecep-4f, -0x1.058d38p-3f,
     -0x1.9717ap-4f, -0x1.ead1fp-5f, -0x1.de436ap-6f, -0x1.7b972ap-7f, -0x1.e7549ep-9f,
     -0x1.f2c8bcp-11f, -0x1.8fbc86p-13f, -0x1.ebe88ep-16f, -0x1.c74b8ap-19f,
     -0x1.365c4p-22f, 0},
    {0, 0x1.0fc0f2p-3f, 0x1.5c3da4p-3f, 0x1.2c987cp-3f, 0x1.9b5ad8p-4f, 0x1.d2f3bp-5f,
     0x1.bdaaa4p-6f, 0x1.654cap-7f, 0x1.dcc298p-9f, 0x1.04d738p-10f, 0x1.cbce22p-13f,
     0x1.40121ep-15f, 0x1.58b95ep-18f, 0x1.193226p-21f, 0x1.540b2ap-25f, 0},
};
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
/* max(v, 0) - (a - gelu(a)), a = |v|: gelu(-a) is gelu(a) - a. Of sixteen pieces, so no
 * division and half the multiplications of a quotient of polynomials. */
FN_WORD vec FN_KERNEL(in_pieces)(vec v, const float (*table)[16]) {
  const vec whole = V(splat)(0x1.8p23f);
  const vec a = V(min)(V(splat)(5.6f), V(abs)(v));
  const vec t = V(fma)(a, V(splat)(1 / 0.375f), whole);
  const vec r = V(fma)(V(sub)(t, whole), V(splat)(-0.375f), a);
  vec p = f32_lookup(table[0], t);
  for (int k = 1; k < 6; k++)
    p = V(fma)(p, r, f32_lookup(table[k], t));
  return V(sub)(V(max)(V(splat)(-0.0f), v), p);
}
FN_WORD vec FN_KERNEL(gelu)(vec v) {
  return FN_KERNEL(in_pieces)(v, FN_KERNEL(GELU));
}
FN_WORD vec FN_KERNEL(gelu_tanh)(vec v) {
  return FN_KERNEL(in_pieces)(v, FN_KERNEL(GELU_TANH));
}
#else
FN_WORD vec FN_KERNEL(gelu_tanh)(vec v) {
  const vec k = V(splat)(1.5957691216057307), k3 = V(splat)(0.07135481627260025);
  const vec u = V(mul)(v, V(fma)(V(mul)(v, v), k3, k));
  return FN_KERNEL(logistic)(FN_KERNEL(at_least)(-30.0, v), u);
}

/* With h = exp(-a^2 / 2) * erfcx: v - a * h for positive v, -a * h for negative. The
 * square is taken with its rounding error. */
FN_WORD vec FN_KERNEL(gelu)(vec v) {
  const vec one = V(splat)(1.0), half = V(splat)(0.5), five = V(splat)(5.0);
  const vec a = V(min)(V(splat)(39.0), V(abs)(v)), s = V(mul)(a, a);
  const vec error = V(fma)(a, a, V(sub)(V(splat)(0.0), s));
  const exponential e =
      FN_KERNEL(exp_minus)(V(mul)(half, V(min)(V(splat)(2 * EXP_HIGH), s)));
  /* (a - 5) / (a + 5) with what its operands lost, which counts where v is small. */
  const vec inverse = V(div)(one, V(add)(a, five)),
            q = V(mul)(V(sub)(a, five), inverse);
  const vec lost = V(fnma)(a, q, V(fnma)(five, V(add)(q, one), a));
  const vec t = V(fma)(lost, inverse, q);
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
