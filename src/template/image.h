/* template/image.h - pixels: scaled, normalised, rounded once, and sorted by channel.
 * SPDX-License-Identifier: MIT
 *
 * The arithmetic is double whatever the types, with one rounding where x * scale and
 * mean may cancel: a batch of images waits for memory longer than for it. Where the
 * output has another order than the input, so many pixels at a time as stay in the
 * innermost cache are put into it first. */

#define FN_IMAGE_BLOCK 8192 /* bytes of x: at least 64 pixels of 16 channels */

/* ---- Order: n pixels x [n, channels] to planes, or each from its end ------------- */

/* Loops whose number of channels is known become shuffles. */
#define FN_ORDER(U, S) FN_ORDER_(U, S)
#define FN_ORDER_(U, S)                                                                \
  FN_WORD void U##_split_loop(const S *x, size_t from, size_t n, size_t channels,      \
                              S *y, size_t pitch) {                                    \
    for (size_t i = from; i < n; i++)                                                  \
      for (size_t k = 0; k < channels; k++)                                            \
        y[k * pitch + i] = x[i * channels + k];                                        \
  }                                                                                    \
  static void U##_split(const S *x, size_t from, size_t n, size_t channels, S *y,      \
                        size_t pitch) {                                                \
    switch (channels) {                                                                \
    case 2:                                                                            \
      U##_split_loop(x, from, n, 2, y, pitch);                                         \
      break;                                                                           \
    case 3:                                                                            \
      U##_split_loop(x, from, n, 3, y, pitch);                                         \
      break;                                                                           \
    case 4:                                                                            \
      U##_split_loop(x, from, n, 4, y, pitch);                                         \
      break;                                                                           \
    default:                                                                           \
      U##_split_loop(x, from, n, channels, y, pitch);                                  \
      break;                                                                           \
    }                                                                                  \
  }                                                                                    \
  FN_WORD void U##_turn_loop(const S *x, size_t n, size_t channels, S *y) {            \
    for (size_t i = 0; i < n * channels; i += channels)                                \
      for (size_t k = 0; k < channels; k++)                                            \
        y[i + k] = x[i + channels - 1 - k];                                            \
  }                                                                                    \
  static void U##_turn(const S *x, size_t n, size_t channels, S *y) {                  \
    switch (channels) {                                                                \
    case 3:                                                                            \
      U##_turn_loop(x, n, 3, y);                                                       \
      break;                                                                           \
    case 4:                                                                            \
      U##_turn_loop(x, n, 4, y);                                                       \
      break;                                                                           \
    default:                                                                           \
      U##_turn_loop(x, n, channels, y);                                                \
      break;                                                                           \
    }                                                                                  \
  }
#if FN_T_IS_FLOAT
FN_ORDER(u8, uint8_t)
FN_ORDER(u16, uint16_t)

static void u8_split_fast(const uint8_t *x, size_t n, size_t channels, uint8_t *y,
                          size_t pitch) {
  size_t i = 0;
  if (channels == 3)
    for (; i + 32 <= n; i += 32)
      u8_split3(x + 3 * i, y + i, pitch);
  if (channels == 4)
    for (; i + 32 <= n; i += 32)
      u8_split4(x + 4 * i, y + i, pitch);
  u8_split(x, i, n, channels, y, pitch);
}
#endif
FN_ORDER(FN_T, T)
#undef FN_ORDER
#undef FN_ORDER_

/* A block of x in another order, of whichever of the types x has. */
typedef union FN_KERNEL(image_block) {
#if FN_T_IS_FLOAT
  uint8_t u8[FN_IMAGE_BLOCK];
  uint16_t u16[FN_IMAGE_BLOCK / 2];
#endif
  T t[FN_IMAGE_BLOCK / sizeof(T)];
} FN_KERNEL(image_block);

static void FN_KERNEL(image_order)(const fn_image *im, const void *x, size_t first,
                                   size_t n, FN_KERNEL(image_block) * block,
                                   size_t pitch) {
  const size_t at = first * im->channels, channels = im->channels;
#if FN_T_IS_FLOAT
  if (im->x == FASTNORM_UINT8) {
    const uint8_t *p = (const uint8_t *)x + at;
    if (im->planes)
      u8_split_fast(p, n, channels, block->u8, pitch);
    else
      u8_turn(p, n, channels, block->u8);
    return;
  }
  if (im->x == FASTNORM_FLOAT16 || im->x == FASTNORM_BFLOAT16) {
    const uint16_t *p = (const uint16_t *)x + at;
    if (im->planes)
      u16_split(p, 0, n, channels, block->u16, pitch);
    else
      u16_turn(p, n, channels, block->u16);
    return;
  }
#endif
  if (im->planes)
    V(split)((const T *)x + at, 0, n, channels, block->t, pitch);
  else
    V(turn)((const T *)x + at, n, channels, block->t);
}

/* ---- Values ---------------------------------------------------------------------- */

/* mean and std of the channels of the lanes of a vec. */
typedef struct FN_KERNEL(image_lanes) {
  f64_vec minus_mean[FN_VEC / 16], inverse_std[FN_VEC / 16];
} FN_KERNEL(image_lanes);

FN_WORD FN_KERNEL(image_lanes)
    FN_KERNEL(image_lanes_from)(const fn_image *im, size_t channel) {
  FN_KERNEL(image_lanes) k;
  k.minus_mean[0] = f64_load(im->minus_mean + channel);
  k.inverse_std[0] = f64_load(im->inverse_std + channel);
#if FN_T_IS_FLOAT
  k.minus_mean[1] = f64_load(im->minus_mean + channel + 16);
  k.inverse_std[1] = f64_load(im->inverse_std + channel + 16);
#endif
  return k;
}

FN_WORD FN_KERNEL(image_lanes)
    FN_KERNEL(image_lanes_of)(const fn_image *im, size_t channel) {
  FN_KERNEL(image_lanes) k;
  k.minus_mean[0] = f64_splat(im->minus_mean[channel]);
  k.inverse_std[0] = f64_splat(im->inverse_std[channel]);
#if FN_T_IS_FLOAT
  k.minus_mean[1] = k.minus_mean[0];
  k.inverse_std[1] = k.inverse_std[0];
#endif
  return k;
}

FN_WORD vec FN_KERNEL(image_value)(vec x, f64_vec scale, FN_KERNEL(image_lanes) k) {
#if FN_T_IS_FLOAT
  const f64_vec low = f64_fma(f32_low_wide(x), scale, k.minus_mean[0]);
  const f64_vec high = f64_fma(f32_high_wide(x), scale, k.minus_mean[1]);
  return f32_from_wide(f64_mul(low, k.inverse_std[0]), f64_mul(high, k.inverse_std[1]));
#else
  return f64_mul(f64_fma(x, scale, k.minus_mean[0]), k.inverse_std[0]);
#endif
}

/* Where a row of elements is, and of which types. */
typedef struct FN_KERNEL(image_row) {
  const fn_image *im;
  fastnorm_dtype x_dtype, y_dtype;
  const void *x;
  void *y;
  bool planes, stream;
} FN_KERNEL(image_row);

FN_WORD void FN_KERNEL(image_vec)(const FN_KERNEL(image_row) * r, size_t i, size_t n,
                                  f64_vec scale, FN_KERNEL(image_lanes) k,
                                  bool stream) {
  const vec x = FN_KERNEL(fetch)(r->x_dtype, r->x, i, n);
  FN_KERNEL(put)
  (r->y_dtype, r->y, i, n, FN_KERNEL(image_value)(x, scale, k), NULL, stream);
}

/* n elements: all of `channel`, or, without planes, of one channel after the other from
 * the first on. What comes before the first whole line of a streamed row is apart. */
FN_WORD void FN_KERNEL(image_elements)(FN_KERNEL(image_row) r, size_t n,
                                       size_t channel) {
  const fn_image *im = r.im;
  const size_t channels = im->channels, size = FN_KERNEL(element_bytes)(r.y_dtype);
  const size_t off = r.stream ? (64 - (uintptr_t)r.y % 64) % 64 / size : 0;
  const size_t step = FN_VEC % channels;
  const f64_vec scale = f64_splat(im->scale);
  FN_KERNEL(image_lanes)
  k = r.planes ? FN_KERNEL(image_lanes_of)(im, channel)
               : FN_KERNEL(image_lanes_from)(im, 0);
  size_t i = off < n ? off : n, phase = i % channels;
  if (i > 0)
    FN_KERNEL(image_vec)(&r, 0, i, scale, k, false);
  for (; i + FN_VEC <= n; i += FN_VEC) {
    if (!r.planes) {
      k = FN_KERNEL(image_lanes_from)(im, phase);
      phase += step;
      phase -= phase >= channels ? channels : 0;
    }
    FN_KERNEL(image_vec)(&r, i, FN_VEC, scale, k, r.stream);
  }
  if (i == n)
    return;
  if (!r.planes)
    k = FN_KERNEL(image_lanes_from)(im, phase);
  FN_KERNEL(image_vec)(&r, i, n - i, scale, k, false);
}

/* ---- The kernel ------------------------------------------------------------------ */

FN_WORD void FN_KERNEL(image_pixels)(const fn_image *im, fastnorm_dtype x_dtype,
                                     fastnorm_dtype y_dtype, const void *x, size_t n,
                                     void *y, bool stream) {
  const size_t channels = im->channels, size = FN_KERNEL(element_bytes)(y_dtype);
  FN_KERNEL(image_row) r = {im, x_dtype, y_dtype, x, y, false, stream};
  FN_KERNEL(image_block) block;
  const size_t fit =
      FN_IMAGE_BLOCK / (channels * FN_KERNEL(element_bytes)(x_dtype)) / 64 * 64;
  const size_t off = stream ? (64 - (uintptr_t)y % 64) % 64 / size : 0;
  if (channels == 1 || (!im->planes && !im->reverse)) {
    FN_KERNEL(image_elements)(r, n * channels, 0);
    return;
  }
  for (size_t i = 0, m = 0; i < n; i += m) {
    m = i == 0 && off > 0 ? fit - 64 + off : fit; /* then the next ones begin a line */
    m = n - i < m ? n - i : m;
    FN_KERNEL(image_order)(im, x, i, m, &block, fit);
    if (!im->planes) {
      r.x = &block;
      r.y = (char *)y + i * channels * size;
      FN_KERNEL(image_elements)(r, m * channels, 0);
      continue;
    }
    r.planes = true;
    for (size_t k = 0; k < channels; k++) {
      const size_t plane = im->reverse ? channels - 1 - k : k;
      r.x = (const char *)&block + plane * fit * FN_KERNEL(element_bytes)(x_dtype);
      r.y = (char *)y + ((ptrdiff_t)k * im->plane + (ptrdiff_t)i) * (ptrdiff_t)size;
      FN_KERNEL(image_elements)(r, m, k);
    }
  }
}

static void FN_KERNEL(image)(const fn_image *im, const void *x, size_t n, void *y,
                             bool stream) {
  if (im->x == FASTNORM_UINT8 && im->y == FASTNORM_FLOAT32)
    FN_KERNEL(image_pixels)(im, FASTNORM_UINT8, FASTNORM_FLOAT32, x, n, y, stream);
  else
    FN_KERNEL(image_pixels)(im, im->x, im->y, x, n, y, stream);
  if (stream)
    stream_end();
}
#undef FN_IMAGE_BLOCK
