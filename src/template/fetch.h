/* template/fetch.h - vecs from elements of any type, and back: widen, round,
 * quantise. SPDX-License-Identifier: MIT
 *
 * The type is known at compile time wherever a loop is short. */

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

/* The same with fill in the lanes from n on, n less than a vec. */
FN_WORD vec FN_KERNEL(fetch_or)(fastnorm_dtype dtype, const void *p, size_t i, size_t n,
                                vec fill) {
  T lanes[FN_VEC];
  if (dtype == FASTNORM_DEFAULT)
    return V(load_partial_or)((const T *)p + i, n, fill);
  V(store)(lanes, FN_KERNEL(fetch)(dtype, p, i, n));
  return V(load_partial_or)(lanes, n, fill);
}

FN_WORD const void *FN_KERNEL(element)(fastnorm_dtype dtype, const void *p,
                                       ptrdiff_t i) {
  return (const char *)p + i * (ptrdiff_t)FN_KERNEL(element_bytes)(dtype);
}

/* Runs may be of 16-bit elements (fn_runs.dtype) where isa_*.c says so by FN_HALVES:
 * CASE for each. They double the code of the kernels of runs. */
#if FN_T_IS_FLOAT && FN_HALVES
#define FN_RUN_DTYPES(dtype)                                                           \
  switch (dtype) {                                                                     \
  case FASTNORM_FLOAT16:                                                               \
    CASE(FASTNORM_FLOAT16);                                                            \
    break;                                                                             \
  case FASTNORM_BFLOAT16:                                                              \
    CASE(FASTNORM_BFLOAT16);                                                           \
    break;                                                                             \
  default:                                                                             \
    CASE(FASTNORM_DEFAULT);                                                            \
    break;                                                                             \
  }
#else
#define FN_RUN_DTYPES(dtype)                                                           \
  (void)(dtype);                                                                       \
  CASE(FASTNORM_DEFAULT);
#endif

/* How a number becomes an 8-bit element. */
typedef struct FN_KERNEL(quantizer) {
  vec scale, low, high;
  int zero_point;
  const char *ahead; /* as in fn_scatter */
  size_t ahead_element;
} FN_KERNEL(quantizer);
#define quantizer FN_KERNEL(quantizer)

FN_WORD quantizer FN_KERNEL(quantizer_of)(const fn_scatter *s) {
  const int low = s->dtype == FASTNORM_INT8 ? -128 : 0;
  return (quantizer){.scale = V(splat)((T)s->inverse_scale),
                     .low = V(splat)((T)(low - s->zero_point)),
                     .high = V(splat)((T)(low + 255 - s->zero_point)),
                     .zero_point = s->zero_point,
                     .ahead = (const char *)s->ahead,
                     .ahead_element = s->ahead_element};
}

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
