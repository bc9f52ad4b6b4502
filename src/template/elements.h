/* template/elements.h - elements on their way in and out: widen, add, round, quantise.
 * SPDX-License-Identifier: MIT
 *
 * In: ((x + residual) + residual_bias) in the working type. Out: activation(v +
 * post_add), rounded once. What is the same for a whole call is known at compile time
 * where the loop is short (the type of x or y, the activation); the types of the arrays
 * that are added are asked for each vec, a branch that always goes the same way. */

/* ---- In -------------------------------------------------------------------------- */

FN_WORD void FN_KERNEL(gather_vec)(const fn_gather *g, const void *x, size_t i,
                                   size_t n, T *out, fastnorm_dtype dtype,
                                   fn_gather_sum sum) {
  const bool plain = sum == FN_PLAIN_SUM, any = sum == FN_ANY_SUM;
  const fastnorm_dtype residual_dtype = plain ? dtype : g->residual_dtype;
  vec v = FN_KERNEL(fetch)(dtype, x, i, n);
  if (dtype == FASTNORM_INT8 || dtype == FASTNORM_UINT8)
    v = V(mul)(V(sub)(v, V(splat)((T)g->zero_point)), V(splat)((T)g->scale));
  if (plain || (any && g->residual))
    v = V(add)(v, FN_KERNEL(fetch)(residual_dtype, g->residual, i, n));
  if (any && g->residual_bias)
    v = V(add)(v, FN_KERNEL(fetch)(g->bias_dtype, g->residual_bias, i, n));
  if ((plain || any) && g->residual_out)
    FN_KERNEL(put)(residual_dtype, g->residual_out, i, n, v, NULL, false);
  FN_KERNEL(put)(FASTNORM_DEFAULT, out, i, n, v, NULL, false);
}

FN_WORD void FN_KERNEL(gather_all)(const fn_gather *g, const void *x, size_t n, T *out,
                                   fastnorm_dtype dtype, fn_gather_sum sum) {
  const fn_gather copy = *g; /* out may not change it */
  size_t i = 0;
  for (; i + FN_VEC <= n; i += FN_VEC) {
    FN_KERNEL(gather_vec)(&copy, x, i, FN_VEC, out, dtype, sum);
  }
  if (i < n)
    FN_KERNEL(gather_vec)(&copy, x, i, n - i, out, dtype, sum);
}

/* out = x + added, all of the working type: what a residual mostly is. */
FN_WORD void FN_KERNEL(add_vec_to)(const T *x, const T *added, size_t n, T *out) {
  const vec v = FN_KERNEL(fetch)(FASTNORM_DEFAULT, x, 0, n);
  FN_KERNEL(put)
  (FASTNORM_DEFAULT, out, 0, n,
   V(add)(v, FN_KERNEL(fetch)(FASTNORM_DEFAULT, added, 0, n)), NULL, false);
}

static void FN_KERNEL(add_arrays)(const T *x, const T *added, size_t n, T *out) {
  size_t i = FN_KERNEL(peel)(out, n);
  if (i > 0)
    FN_KERNEL(add_vec_to)(x, added, i, out);
  for (; i + FN_VEC <= n; i += FN_VEC)
    FN_KERNEL(add_vec_to)(x + i, added + i, FN_VEC, out + i);
  if (i < n)
    FN_KERNEL(add_vec_to)(x + i, added + i, n - i, out + i);
}

#if !FN_T_IS_FLOAT
/* Narrower floats, widened exactly: those of 16 bits through float, so many at a time
 * that they stay in the innermost cache. */
static void FN_KERNEL(widen)(const float *x, size_t n, double *out) {
  size_t i = 0;
  for (; i + FN_VEC <= n; i += FN_VEC)
    f64_store(out + i, f32_load_wide(x + i));
  for (; i < n; i++)
    out[i] = (double)x[i];
}

#define FN_WIDEN_BLOCK 512
static void FN_KERNEL(gather_narrower)(const fn_gather *g, const void *x, size_t n,
                                       double *out) {
  float block[FN_WIDEN_BLOCK];
  for (size_t i = 0; i < n; i += FN_WIDEN_BLOCK) {
    const size_t m = n - i < FN_WIDEN_BLOCK ? n - i : FN_WIDEN_BLOCK;
    FN_CAT(gather, f32, FN_ISA)(g, (const uint16_t *)x + i, m, block);
    FN_KERNEL(widen)(block, m, out + i);
  }
}
#undef FN_WIDEN_BLOCK
#endif

static void FN_KERNEL(gather)(const fn_gather *g, const void *x, size_t n, void *out) {
  const bool sum = g->residual || g->residual_bias || g->residual_out;
  if (g->residual && !g->residual_bias && !g->residual_out &&
      FN_KERNEL(element_bytes)(g->dtype) == sizeof(T) &&
      FN_KERNEL(element_bytes)(g->residual_dtype) == sizeof(T)) {
    FN_KERNEL(add_arrays)((const T *)x, (const T *)g->residual, n, (T *)out);
    return;
  }
#define CASE(dtype, sum) FN_KERNEL(gather_all)(g, x, n, (T *)out, dtype, sum)
#if FN_T_IS_FLOAT
  const bool plain = g->residual && !g->residual_bias && g->residual_dtype == g->dtype;
  if (sum && !plain && FN_KERNEL(element_bytes)(g->dtype) != sizeof(T)) {
    CASE(g->dtype, FN_ANY_SUM); /* rare: one loop, that asks, for all types */
    return;
  }
#endif
  switch (g->dtype) {
#if FN_T_IS_FLOAT
  case FASTNORM_FLOAT16:
    if (plain)
      CASE(FASTNORM_FLOAT16, FN_PLAIN_SUM);
    else
      CASE(FASTNORM_FLOAT16, FN_NO_SUM);
    break;
  case FASTNORM_BFLOAT16:
    if (plain)
      CASE(FASTNORM_BFLOAT16, FN_PLAIN_SUM);
    else
      CASE(FASTNORM_BFLOAT16, FN_NO_SUM);
    break;
  case FASTNORM_INT8:
    CASE(FASTNORM_INT8, FN_NO_SUM);
    break;
  case FASTNORM_UINT8:
    CASE(FASTNORM_UINT8, FN_NO_SUM);
    break;
#else
  case FASTNORM_FLOAT32:
    FN_KERNEL(widen)((const float *)x, n, (double *)out);
    break;
  case FASTNORM_FLOAT16:
  case FASTNORM_BFLOAT16:
    FN_KERNEL(gather_narrower)(g, x, n, (double *)out);
    break;
#endif
  default:
    if (sum)
      CASE(FASTNORM_DEFAULT, FN_ANY_SUM);
    else
      CASE(FASTNORM_DEFAULT, FN_NO_SUM);
    break;
  }
#undef CASE
}

/* ---- Out ------------------------------------------------------------------------- */

/* Two loops: the activation, then the store, over so many elements at a time that they
 * stay in the innermost cache in between; one for each activation and type would be
 * 100. A multiple of a cache line of any type. */
#define FN_SCATTER_BLOCK 512

FN_WORD void FN_KERNEL(put_from)(const T *v, size_t n, void *y, const quantizer *q,
                                 fastnorm_dtype dtype, bool stream) {
  const quantizer copy = *q; /* in registers over the loop */
  size_t i = 0;
  for (; i + FN_VEC <= n; i += FN_VEC) {
    if (copy.ahead)
      FN_PREFETCH_VEC(copy.ahead + i * copy.ahead_element);
    FN_KERNEL(put)(dtype, y, i, FN_VEC, V(load)(v + i), &copy, stream);
  }
  if (i < n)
    FN_KERNEL(put)
  (dtype, y, i, n - i, FN_KERNEL(fetch)(FASTNORM_DEFAULT, v, i, n - i), &copy, false);
}

static void FN_KERNEL(put_all)(const T *v, size_t n, void *y, const quantizer *q,
                               fastnorm_dtype dtype, bool stream) {
#define CASE(dtype)                                                                    \
  if (stream && (uintptr_t)y % 64 == 0)                                                \
    FN_KERNEL(put_from)(v, n, y, q, dtype, true);                                      \
  else                                                                                 \
    FN_KERNEL(put_from)(v, n, y, q, dtype, false)
  switch (dtype) {
#if FN_T_IS_FLOAT
  case FASTNORM_FLOAT16:
    CASE(FASTNORM_FLOAT16);
    break;
  case FASTNORM_BFLOAT16:
    CASE(FASTNORM_BFLOAT16);
    break;
  case FASTNORM_INT8:
    CASE(FASTNORM_INT8);
    break;
  case FASTNORM_UINT8:
    CASE(FASTNORM_UINT8);
    break;
#endif
  default:
    CASE(FASTNORM_DEFAULT);
    break;
  }
#undef CASE
}

/* out[i] = v[i] + post_add[from + i], or 0 if that is negative. */
FN_WORD void FN_KERNEL(add_loop)(const fn_scatter *s, const T *v, size_t from, size_t n,
                                 T *out, bool relu) {
  const fn_scatter copy = *s; /* out may not change it */
  const size_t size = FN_KERNEL(element_bytes)(s->post_add_dtype);
  const vec zero = V(splat)((T)0);
  for (size_t i = 0; i < n; i += FN_VEC) {
    const size_t m = n - i < FN_VEC ? n - i : FN_VEC;
    FN_PREFETCH_VEC((const char *)copy.post_add + (from + i) * size + 4096);
    const vec t =
        V(add)(FN_KERNEL(fetch)(FASTNORM_DEFAULT, v, i, m),
               FN_KERNEL(fetch)(copy.post_add_dtype, copy.post_add, from + i, m));
    FN_KERNEL(put)
    (FASTNORM_DEFAULT, out, i, m, relu ? V(max)(zero, t) : t, NULL, false);
  }
}

FN_WORD void FN_KERNEL(activate_loop)(const fn_scatter *s, const T *v, size_t n, T *out,
                                      fastnorm_activation activation) {
  const bool leaky = activation == FASTNORM_LEAKY_RELU;
  const T alpha = leaky && s->alpha == 0 ? (T)0.01 : (T)s->alpha, beta = (T)s->beta;
  for (size_t i = 0; i < n; i += FN_VEC)
    V(store)
  (out + i, FN_KERNEL(activate)(V(load)(v + i), activation, alpha, beta));
}

/* n is a multiple of FN_VEC. */
static void FN_KERNEL(activate_whole)(const fn_scatter *s, const T *v, size_t n,
                                      T *out) {
  switch (s->activation) {
#define X(name)                                                                        \
  case FASTNORM_##name:                                                                \
    FN_KERNEL(activate_loop)(s, v, n, out, FASTNORM_##name);                           \
    break;
    FN_ACTIVATIONS(X)
#undef X
  default:
    break;
  }
}

/* out[i] = activation(v[i] + post_add[from + i]); out may be v. */
static void FN_KERNEL(activate_all)(const fn_scatter *s, const T *v, size_t from,
                                    size_t n, T *out) {
  const bool relu = s->activation == FASTNORM_RELU;
  const size_t rest = n % FN_VEC;
  if (s->post_add) {
    if (relu)
      FN_KERNEL(add_loop)(s, v, from, n, out, true);
    else
      FN_KERNEL(add_loop)(s, v, from, n, out, false);
    v = out;
  }
  if (s->activation == FASTNORM_IDENTITY || (s->post_add && relu))
    return;
  FN_KERNEL(activate_whole)(s, v, n - rest, out);
  if (rest > 0) { /* one copy of the activation is enough: the rest as a whole vec */
    T tail[FN_VEC];
    V(store)(tail, FN_KERNEL(fetch)(FASTNORM_DEFAULT, v, n - rest, rest));
    FN_KERNEL(activate_whole)(s, tail, FN_VEC, tail);
    V(store_partial)(out + (n - rest), rest, V(load)(tail));
  }
}

static void FN_KERNEL(scatter)(const fn_scatter *s, const void *v, size_t n, void *y,
                               bool stream) {
  const T *from = (const T *)v;
  quantizer q = FN_KERNEL(quantizer_of)(s);
  const bool plain = s->activation == FASTNORM_IDENTITY && !s->post_add;
  const size_t size = FN_KERNEL(element_bytes)(s->dtype);
  const bool same = size == sizeof(T);
  if (plain && same && y == v)
    return;
  if (plain && !stream) {
    FN_KERNEL(put_all)(from, n, y, &q, s->dtype, false);
    return;
  }
  /* Streamed lines are whole: what comes before the first one is written apart. */
  const size_t off = (uintptr_t)y % 64 / size;
  const size_t apart = stream && off > 0 ? 64 / size - off : FN_SCATTER_BLOCK;
  T block[FN_SCATTER_BLOCK];
  for (size_t i = 0, m = 0; i < n; i += m) {
    const size_t most = i == 0 ? apart : FN_SCATTER_BLOCK;
    char *to = (char *)y + i * size;
    m = n - i < most ? n - i : most;
    if (same && !stream) {
      FN_KERNEL(activate_all)(s, from + i, i, m, (T *)(void *)to);
      continue;
    }
    if (!plain)
      FN_KERNEL(activate_all)(s, from + i, i, m, block);
    q.ahead = s->ahead ? (const char *)s->ahead + i * s->ahead_element : NULL;
    FN_KERNEL(put_all)(plain ? from + i : block, m, to, &q, s->dtype, stream);
  }
  if (stream)
    stream_end();
}
#undef FN_SCATTER_BLOCK
#undef quantizer
