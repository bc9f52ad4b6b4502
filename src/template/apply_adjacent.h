/* template/apply_adjacent.h - the application to runs that lie one after another in x
 * and in y, as if they were one.
 * SPDX-License-Identifier: MIT */

/* What makes t of x, in all lanes. */
typedef struct FN_KERNEL(scaling) {
  vec hi, scale, offset;
} FN_KERNEL(scaling);
#define scaling FN_KERNEL(scaling)

/* Without hi what stands for it and for the offset changes no bit of x * scale. */
FN_WORD scaling FN_KERNEL(scaling_of)(const run_parameters *p, size_t r) {
  return (scaling){.hi = V(splat)(p->hi ? p->hi[r] : (T)0),
                   .scale = V(splat)(p->scale[r]),
                   .offset = V(splat)(p->hi ? p->offset[r] : -(T)0)};
}

/* Those of a run, or of two neighbours in one vec: of the first in n lanes. */
typedef struct FN_KERNEL(parameters) {
  scaling by;
  quantizer q; /* of bytes */
} FN_KERNEL(parameters);
#define parameters FN_KERNEL(parameters)

FN_WORD parameters FN_KERNEL(parameters_of)(const run_parameters *p, const fn_runs *g,
                                            size_t r, fastnorm_dtype to) {
  parameters own = {.by = FN_KERNEL(scaling_of)(p, r)};
  if (to == FASTNORM_UINT8) {
    own.q = FN_KERNEL(quantizer_of)(g->bytes);
    own.q.scale = FN_KERNEL(inverse_scale_of)(g, r);
  }
  return own;
}

FN_WORD vec FN_KERNEL(lane_numbers)(void) {
  static const T lanes[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                            11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                            22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
  return V(load)(lanes);
}

FN_WORD parameters FN_KERNEL(border)(const parameters *p, const parameters *q, size_t n,
                                     fastnorm_dtype to) {
  const vec lane = FN_KERNEL(lane_numbers)(), last = V(splat)((T)n - (T)1);
  const scaling *a = &p->by, *b = &q->by;
  parameters both = {.by = {.hi = V(select_le)(lane, last, a->hi, b->hi),
                            .scale = V(select_le)(lane, last, a->scale, b->scale),
                            .offset = V(select_le)(lane, last, a->offset, b->offset)}};
  if (to == FASTNORM_UINT8) {
    both.q = p->q;
    both.q.scale = V(select_le)(lane, last, p->q.scale, q->q.scale);
  }
  return both;
}

/* The last n of `len` numbers, and the first of them in the other lanes. */
FN_WORD vec FN_KERNEL(joined)(const T *p, size_t len, size_t n) {
  const vec zero = V(splat)((T)0);
  T lanes[2 * FN_VEC];
  V(store)(lanes, V(load_partial_or)(p + (len - n), n, zero));
  V(store)(lanes + n, V(load)(p));
  return V(load)(lanes);
}

/* What is added to n elements, and the limit: max gives t for NaN, and for -Inf, which
 * is no limit. `more` is known at compile time. */
FN_WORD vec FN_KERNEL(added)(vec t, const T *post_add, size_t n, vec least, bool more) {
  if (!more)
    return t;
  if (post_add)
    t = V(add)(t, FN_KERNEL(fetch)(FASTNORM_DEFAULT, post_add, 0, n));
  return V(max)(least, t);
}

FN_WORD vec FN_KERNEL(least_of)(const fn_addend *add) {
  return V(splat)(add && add->relu ? (T)0 : -(T)HUGE_VAL);
}

/* Where runs that lie one after another are, what is added to them, and what is asked
 * for meanwhile. */
typedef struct FN_KERNEL(span) {
  const void *x, *ahead;
  const T *post_add;
  void *y;
  vec least;
} FN_KERNEL(span);
#define span FN_KERNEL(span)

/* What is known at compile time of an application to a span: the types of x and y, what
 * is known of the runs (`mode`: 0, or 3 also where there is but a weight or a bias),
 * whether anything is added. */
typedef struct FN_KERNEL(span_kind) {
  fastnorm_dtype dtype, to;
  int mode;
  bool more;
} FN_KERNEL(span_kind);
#define span_kind FN_KERNEL(span_kind)

/* w and c are the weights and biases of these elements, according to mode. */
FN_WORD void FN_KERNEL(apply_piece)(const span *s, size_t i, size_t n,
                                    const parameters *p, vec w, vec c, bool stream,
                                    span_kind kind) {
  const vec v = n == FN_VEC ? FN_KERNEL(fetch)(kind.dtype, s->x, i, n)
                            : FN_KERNEL(fetch_or)(kind.dtype, s->x, i, n, p->by.hi);
  const vec t = FN_KERNEL(weigh)(
      FN_KERNEL(normalized)(v, p->by.hi, p->by.scale, p->by.offset, true), w, c,
      kind.mode);
  if (kind.mode != 0 && s->ahead)
    FN_PREFETCH_VEC(FN_KERNEL(element)(kind.dtype, s->ahead, (ptrdiff_t)i));
  FN_KERNEL(put)
  (kind.to, s->y, i, n,
   FN_KERNEL(added)(t, kind.more && s->post_add ? s->post_add + i : NULL, n, s->least,
                    kind.more),
   &p->q, stream);
}

/* n of the weights or biases, from element i on, or what stands for them. */
FN_WORD vec FN_KERNEL(weights_at)(const T *p, size_t i, size_t n, T without) {
  const vec other = V(splat)(without);
  return !p            ? other
         : n == FN_VEC ? V(load)(p + i)
                       : V(load_partial_or)(p + i, n, other);
}

FN_WORD vec FN_KERNEL(joint_at)(const T *p, size_t len, size_t n, T without) {
  return p && n > 0 ? FN_KERNEL(joined)(p, len, n) : V(splat)(without);
}

/* Elements of y before the first that can be streamed: not more than a vec. */
FN_WORD size_t FN_KERNEL(span_peel)(const void *y, size_t total, fastnorm_dtype to) {
  return to == FASTNORM_UINT8 ? -(uintptr_t)y % FN_VEC
                              : FN_KERNEL(peel_of)(to, y, total);
}

/* Runs that lie one after another in x and in y are one: its stores begin on lines, and
 * only where two runs meet do lanes differ. (Channels of 196 and 49 elements: a partial
 * vec each, and lines straddled, cost up to the time of the rest.) */
FN_WORD void FN_KERNEL(apply_adjacent)(const span *at, const fn_runs *g,
                                       const run_parameters *parameters_at, bool stream,
                                       span_kind kind) {
  const span s = *at;
  const run_parameters by = *parameters_at;
  const T *weight = kind.mode ? by.weight : NULL, *bias = kind.mode ? by.bias : NULL;
  const T one = (T)1, none = -(T)0;
  const size_t rows = g->rows, len = g->len, total = rows * len;
  parameters p = FN_KERNEL(parameters_of)(&by, g, 0, kind.to);
  size_t i = FN_KERNEL(span_peel)(s.y, total, kind.to), end = len;
  const size_t joint = (len - i) % FN_VEC; /* of the first run in the border */
  const vec edge_w = FN_KERNEL(joint_at)(weight, len, joint, one);
  const vec edge_c = FN_KERNEL(joint_at)(bias, len, joint, none);
  if (i > 0)
    FN_KERNEL(apply_piece)
  (&s, 0, i, &p, FN_KERNEL(weights_at)(weight, 0, i, one),
   FN_KERNEL(weights_at)(bias, 0, i, none), false, kind);
  for (size_t r = 0; i < total;) {
    for (; i + FN_VEC <= end; i += FN_VEC) {
      const size_t k = i + len - end;
      FN_KERNEL(apply_piece)
      (&s, i, FN_VEC, &p, FN_KERNEL(weights_at)(weight, k, FN_VEC, one),
       FN_KERNEL(weights_at)(bias, k, FN_VEC, none), stream, kind);
    }
    const size_t n = end - i, left = total - i;
    const size_t m = left < FN_VEC ? left : FN_VEC; /* n of run r, then of the next */
    const parameters before = p;
    if (++r < rows)
      p = FN_KERNEL(parameters_of)(&by, g, r, kind.to);
    end += len;
    if (n == 0)
      continue;
    const parameters both = FN_KERNEL(border)(&before, &p, n, kind.to);
    vec w = edge_w, c = edge_c;
    if (kind.mode && n != joint) {
      w = FN_KERNEL(joint_at)(weight, len, n, one);
      c = FN_KERNEL(joint_at)(bias, len, n, none);
    }
    if (m == FN_VEC)
      FN_KERNEL(apply_piece)(&s, i, FN_VEC, &both, w, c, stream, kind);
    else
      FN_KERNEL(apply_piece)(&s, i, m, &both, w, c, false, kind);
    i += m;
  }
}

FN_WORD void FN_KERNEL(apply_to_adjacent)(const fn_runs *g, T *y,
                                          const run_parameters *p, const fn_addend *add,
                                          bool stream, bool more) {
  const span_kind kind = {FASTNORM_DEFAULT, FASTNORM_DEFAULT, 0, more};
  span s = {.x = g->x, .y = y, .least = FN_KERNEL(least_of)(add)};
  s.post_add = more ? (const T *)add->post_add : NULL;
  for (size_t seg = 0; seg < g->segs; seg++) {
    /* peel() aligns long spans alone */
    if (stream && g->rows * g->len >= 4 * FN_VEC)
      FN_KERNEL(apply_adjacent)(&s, g, p, true, kind);
    else
      FN_KERNEL(apply_adjacent)(&s, g, p, false, kind);
    s.x = (const T *)s.x + g->seg_stride;
    s.y = (T *)s.y + p->y_seg_stride;
    if (more && s.post_add)
      s.post_add += add->seg_stride;
  }
  if (stream)
    stream_end();
}

static void FN_KERNEL(apply_plainly)(const fn_runs *g, T *y, const run_parameters *p,
                                     bool stream) {
  FN_KERNEL(apply_to_adjacent)(g, y, p, NULL, stream, false);
}

/* Rows that are streamed and do not all begin on lines: a line that two of them share
 * would have to be read first, and where rows are a few lines all stores would be of
 * two. As one, layer norm in C, 16 bytes off a line as NumPy's large arrays are, took
 * of [65536, 64] 1430 -> 1060 us, [32768, 128] 1600 -> 840, [8192, 512] 980 -> 770,
 * [65536, 100] 3020 -> 1760, there also on lines (AMD EPYC Zen 5, avx512). Longer ones
 * lose by it: [2048, 4096] 1750 -> 1810; so do those that are not streamed. To narrow
 * elements: [65536, 128] bfloat16 4550 -> 1700, int8 3630 -> 1840. Not of double: it
 * would be 8 KB more. */
FN_WORD bool FN_KERNEL(apply_off_lines)(const fn_runs *g, void *y,
                                        const run_parameters *p, fastnorm_dtype dtype,
                                        fastnorm_dtype to) {
  const ptrdiff_t len = (ptrdiff_t)g->len;
  const size_t row = g->len * FN_KERNEL(element_bytes)(to);
  const bool off = (uintptr_t)y % 64 != 0 || row % 64 != 0;
  if (!off || g->segs != 1 || g->row_stride != len || p->y_row_stride != len ||
      g->len < FN_VEC || g->len >= 64 * FN_VEC || g->rows < 2 ||
      g->rows * g->len < 4 * FN_VEC)
    return false;
  const span s = {.x = g->x, .ahead = g->ahead, .y = y, .least = V(splat)((T)0)};
  FN_KERNEL(apply_adjacent)(&s, g, p, true, (span_kind){dtype, to, 3, false});
  stream_end();
  return true;
}

#undef parameters
#undef scaling
#undef span
#undef span_kind
