/* template/elements.h - elements on their way in and out: widen, add, round, quantise.
 * SPDX-License-Identifier: MIT
 *
 * In: ((x + residual) + residual_bias) in the working type. Out: activation(v +
 * post_add), rounded once. What is the same for a whole call is known at compile time
 * where the loop is short (the type of x or y, the activation); the types of the arrays
 * that are added are asked for each vec, a branch that always goes the same way. */

/* n elements from the i-th on, n at most a vec. */
FN_WORD vec FN_KERNEL(fetch)(fastnorm_dtype dtype, const void *p, size_t i, size_t n) {
  const bool whole = n == FN_VEC;
  const T *q = (const T *)p + i;
#if FN_T_IS_FLOAT
  const uint16_t *h = (const uint16_t *)p + i;
  const uint8_t *b = (const uint8_t *)p + i;
  switch (dtype) {
  case FASTNORM_FLOAT16:
    return f32_from_f16(whole ? u16_load(h) : u16_load_partial(h, n));
  case FASTNORM_BFLOAT16:
    return f32_from_bf16(whole ? u16_load(h) : u16_load_partial(h, n));
  case FASTNORM_INT8:
    return f32_from_i8(whole ? u8_load(b) : u8_load_partial(b, n));
  case FASTNORM_UINT8:
    return f32_from_u8(whole ? u8_load(b) : u8_load_partial(b, n));
  default:
    break;
  }
#else
  (void)dtype;
#endif
  return whole ? V(load)(q) : V(load_partial_or)(q, n, V(splat)((T)0));
}

/* How a number becomes an 8-bit element. */
typedef struct FN_KERNEL(quantizer) {
  vec scale, low, high;
  int zero_point;
  const char *ahead; /* as in fn_scatter */
  size_t ahead_element;
} FN_KERNEL(quantizer);
#define quantizer FN_KERNEL(quantizer)

#if FN_T_IS_FLOAT
/* The limits are whole numbers, so they can come before the rounding. Adding 1.5 * 2^23
 * rounds to a whole number, to nearest even, and leaves it in the low bits: the low
 * byte of it plus zero_point is the element. */
FN_WORD u8_vec f32_quantised(vec v, const quantizer *q) {
  const vec t = V(mul)(v, q->scale);
  const vec number = V(select_le)(t, t, t, V(splat)((T)0)); /* NaN as 0 */
  const vec limited = V(min)(V(max)(number, q->low), q->high);
  return f32_to_bytes(V(add)(limited, V(splat)(0x1.8p23f)), q->zero_point);
}
#endif

FN_WORD void FN_KERNEL(put)(fastnorm_dtype dtype, void *p, size_t i, size_t n, vec v,
                            const quantizer *quantizer_of_y, bool stream) {
  const bool whole = n == FN_VEC;
  T *q = (T *)p + i;
#if FN_T_IS_FLOAT
  uint16_t *h = (uint16_t *)p + i;
  uint8_t *b = (uint8_t *)p + i;
  if (dtype == FASTNORM_FLOAT16 || dtype == FASTNORM_BFLOAT16) {
    const u16_vec r = dtype == FASTNORM_FLOAT16 ? f32_to_f16(v) : f32_to_bf16(v);
    if (!whole)
      u16_store_partial(h, n, r);
    else if (stream)
      u16_stream(h, r);
    else
      u16_store(h, r);
    return;
  }
  if (dtype == FASTNORM_INT8 || dtype == FASTNORM_UINT8) {
    const u8_vec r = f32_quantised(v, quantizer_of_y);
    if (!whole)
      u8_store_partial(b, n, r);
    else if (stream)
      u8_stream(b, r);
    else
      u8_store(b, r);
    return;
  }
#else
  (void)dtype;
  (void)quantizer_of_y;
#endif
  if (!whole)
    V(store_partial)(q, n, v);
  else if (stream)
    V(stream)(q, v);
  else
    V(store)(q, v);
}

/* ---- In -------------------------------------------------------------------------- */

FN_WORD void FN_KERNEL(gather_vec)(const fn_gather *g, const void *x, size_t i,
                                   size_t n, T *out, fastnorm_dtype dtype, bool sum) {
  vec v = FN_KERNEL(fetch)(dtype, x, i, n);
  if (dtype == FASTNORM_INT8 || dtype == FASTNORM_UINT8)
    v = V(mul)(V(sub)(v, V(splat)((T)g->zero_point)), V(splat)((T)g->scale));
  if (sum) {
    if (g->residual)
      v = V(add)(v, FN_KERNEL(fetch)(g->residual_dtype, g->residual, i, n));
    if (g->residual_bias)
      v = V(add)(v, FN_KERNEL(fetch)(g->bias_dtype, g->residual_bias, i, n));
    if (g->residual_out)
      FN_KERNEL(put)(g->residual_dtype, g->residual_out, i, n, v, NULL, false);
  }
  FN_KERNEL(put)(FASTNORM_DEFAULT, out, i, n, v, NULL, false);
}

FN_WORD void FN_KERNEL(gather_all)(const fn_gather *g, const void *x, size_t n, T *out,
                                   fastnorm_dtype dtype, bool sum) {
  const fn_gather copy = *g; /* out may not change it */
  size_t i = 0;
  for (; i + FN_VEC <= n; i += FN_VEC) {
    FN_KERNEL(gather_vec)(&copy, x, i, FN_VEC, out, dtype, sum);
  }
  if (i < n)
    FN_KERNEL(gather_vec)(&copy, x, i, n - i, out, dtype, sum);
}

static void FN_KERNEL(gather)(const fn_gather *g, const void *x, size_t n, void *out) {
  const bool sum = g->residual || g->residual_bias || g->residual_out;
#define CASE(dtype)                                                                    \
  if (sum)                                                                             \
    FN_KERNEL(gather_all)(g, x, n, (T *)out, dtype, true);                             \
  else                                                                                 \
    FN_KERNEL(gather_all)(g, x, n, (T *)out, dtype, false)
  switch (g->dtype) {
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

FN_WORD size_t FN_KERNEL(element_bytes)(fastnorm_dtype dtype) {
  switch (dtype) {
  case FASTNORM_FLOAT16:
  case FASTNORM_BFLOAT16:
    return 2;
  case FASTNORM_INT8:
  case FASTNORM_UINT8:
    return 1;
  default:
    return sizeof(T);
  }
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
    V(store)(out + i, FN_KERNEL(activate)(V(load)(v + i), activation, alpha, beta));
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
  const int low = s->dtype == FASTNORM_INT8 ? -128 : 0;
  quantizer q = {.scale = V(splat)((T)s->inverse_scale),
                 .low = V(splat)((T)(low - s->zero_point)),
                 .high = V(splat)((T)(low + 255 - s->zero_point)),
                 .zero_point = s->zero_point,
                 .ahead_element = s->ahead_element};
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

static double FN_KERNEL(largest)(const void *v, size_t n) {
  const T *p = (const T *)v;
  vec most[2] = {V(splat)((T)0), V(splat)((T)0)};
  size_t i = 0;
  for (; i + 2 * FN_VEC <= n; i += 2 * FN_VEC) {
    most[0] = V(max_magnitude)(most[0], V(load)(p + i));
    most[1] = V(max_magnitude)(most[1], V(load)(p + i + FN_VEC));
  }
  for (; i < n; i += FN_VEC)
    most[0] =
        V(max_magnitude)(most[0], FN_KERNEL(fetch)(FASTNORM_DEFAULT, p, i,
                                                   n - i < FN_VEC ? n - i : FN_VEC));
  T lanes[FN_VEC];
  V(store)(lanes, V(max_magnitude)(most[0], most[1]));
  for (size_t half = FN_VEC / 2; half > 0; half /= 2)
    for (i = 0; i < half; i++) {
      const T a = lanes[i], b = lanes[i + half];
      lanes[i] = a >= b || a != a ? a : b;
    }
  return (double)lanes[0];
}
#undef FN_SCATTER_BLOCK
#undef quantizer
