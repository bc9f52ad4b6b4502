/* template/apply_adjacent.h - the application to runs that lie one after another in x
 * and in y, as if they were one.
 * SPDX-License-Identifier: MIT */

/* The parameters of two neighbours in one vec: those of the first in n lanes. */
typedef struct FN_KERNEL(parameters) {
  vec hi, scale, offset;
} FN_KERNEL(parameters);
#define parameters FN_KERNEL(parameters)

/* Without hi what stands for it and for the offset changes no bit of x * scale. */
FN_WORD parameters FN_KERNEL(parameters_of)(const run_parameters *p, size_t r) {
  return (parameters){V(splat)(p->hi ? p->hi[r] : (T)0), V(splat)(p->scale[r]),
                      V(splat)(p->hi ? p->offset[r] : -(T)0)};
}

FN_WORD vec FN_KERNEL(lane_numbers)(void) {
  T lanes[FN_VEC];
  for (size_t i = 0; i < FN_VEC; i++)
    lanes[i] = (T)i;
  return V(load)(lanes);
}

FN_WORD parameters FN_KERNEL(border)(const parameters *p, const parameters *q,
                                     size_t n) {
  const vec lane = FN_KERNEL(lane_numbers)(), last = V(splat)((T)n - (T)1);
  return (parameters){V(select_le)(lane, last, p->hi, q->hi),
                      V(select_le)(lane, last, p->scale, q->scale),
                      V(select_le)(lane, last, p->offset, q->offset)};
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
  const T *x, *post_add, *ahead;
  T *y;
  vec least;
} FN_KERNEL(span);
#define span FN_KERNEL(span)

/* w and c are the weights and biases of these elements, according to mode. */
FN_WORD void FN_KERNEL(apply_piece)(const span *s, size_t i, size_t n,
                                    const parameters *p, vec w, vec c, bool stream,
                                    bool more, int mode) {
  const T *x = s->x + i;
  const vec v = n == FN_VEC ? V(load)(x) : V(load_partial_or)(x, n, p->hi);
  const vec t = FN_KERNEL(weigh)(
      FN_KERNEL(normalized)(v, p->hi, p->scale, p->offset, true), w, c, mode);
  if (mode != 0 && s->ahead)
    FN_PREFETCH_VEC(s->ahead + i);
  FN_KERNEL(put)
  (FASTNORM_DEFAULT, s->y, i, n,
   FN_KERNEL(added)(t, more && s->post_add ? s->post_add + i : NULL, n, s->least, more),
   NULL, stream);
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

/* Runs that lie one after another in x and in y are one: its stores begin on lines, and
 * only where two runs meet do lanes differ. (Channels of 196 and 49 elements: a partial
 * vec each, and lines straddled, cost up to the time of the rest.) Mode is 0, or 3 also
 * where there is but a weight or a bias. */
FN_WORD void FN_KERNEL(apply_adjacent)(const span *at, size_t rows, size_t len,
                                       const run_parameters *parameters_at, bool stream,
                                       bool more, int mode) {
  const span s = *at;
  const run_parameters by = *parameters_at;
  const T *weight = mode ? by.weight : NULL, *bias = mode ? by.bias : NULL;
  const T one = (T)1, none = -(T)0;
  const size_t total = rows * len;
  parameters p = FN_KERNEL(parameters_of)(&by, 0);
  size_t i = FN_KERNEL(peel)(s.y, total), end = len;
  const size_t joint = (len - i) % FN_VEC; /* of the first run in the border */
  const vec edge_w = FN_KERNEL(joint_at)(weight, len, joint, one);
  const vec edge_c = FN_KERNEL(joint_at)(bias, len, joint, none);
  if (i > 0)
    FN_KERNEL(apply_piece)
  (&s, 0, i, &p, FN_KERNEL(weights_at)(weight, 0, i, one),
   FN_KERNEL(weights_at)(bias, 0, i, none), false, more, mode);
  for (size_t r = 0; i < total;) {
    for (; i + FN_VEC <= end; i += FN_VEC) {
      const size_t k = i + len - end;
      FN_KERNEL(apply_piece)
      (&s, i, FN_VEC, &p, FN_KERNEL(weights_at)(weight, k, FN_VEC, one),
       FN_KERNEL(weights_at)(bias, k, FN_VEC, none), stream, more, mode);
    }
    const size_t n = end - i, left = total - i;
    const size_t m = left < FN_VEC ? left : FN_VEC; /* n of run r, then of the next */
    const parameters before = p;
    if (++r < rows)
      p = FN_KERNEL(parameters_of)(&by, r);
    end += len;
    if (n == 0)
      continue;
    const parameters both = FN_KERNEL(border)(&before, &p, n);
    vec w = edge_w, c = edge_c;
    if (mode && n != joint) {
      w = FN_KERNEL(joint_at)(weight, len, n, one);
      c = FN_KERNEL(joint_at)(bias, len, n, none);
    }
    if (m == FN_VEC)
      FN_KERNEL(apply_piece)(&s, i, FN_VEC, &both, w, c, stream, more, mode);
    else
      FN_KERNEL(apply_piece)(&s, i, m, &both, w, c, false, more, mode);
    i += m;
  }
}

FN_WORD void FN_KERNEL(apply_to_adjacent)(const fn_runs *g, T *y,
                                          const run_parameters *p, const fn_addend *add,
                                          bool stream, bool more) {
  span s = {(const T *)g->x, more ? (const T *)add->post_add : NULL, NULL, y,
            FN_KERNEL(least_of)(add)};
  for (size_t seg = 0; seg < g->segs; seg++) {
    /* peel() aligns long spans alone */
    if (stream && g->rows * g->len >= 4 * FN_VEC)
      FN_KERNEL(apply_adjacent)(&s, g->rows, g->len, p, true, more, 0);
    else
      FN_KERNEL(apply_adjacent)(&s, g->rows, g->len, p, false, more, 0);
    s.x += g->seg_stride;
    s.y += p->y_seg_stride;
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
 * lose by it: [2048, 4096] 1750 -> 1810; so do those that are not streamed. Of float
 * alone: of double it would be 8 KB more. */
FN_WORD bool FN_KERNEL(apply_off_lines)(const fn_runs *g, T *y,
                                        const run_parameters *p) {
  const ptrdiff_t len = (ptrdiff_t)g->len;
  const bool off = (uintptr_t)y % 64 != 0 || g->len * sizeof(T) % 64 != 0;
  if (!off || g->segs != 1 || g->row_stride != len || p->y_row_stride != len ||
      g->len < FN_VEC || g->len >= 64 * FN_VEC || g->rows < 2 ||
      g->rows * g->len < 4 * FN_VEC)
    return false;
  const span s = {(const T *)g->x, NULL, (const T *)g->ahead, y, V(splat)((T)0)};
  FN_KERNEL(apply_adjacent)(&s, g->rows, g->len, p, true, false, 3);
  stream_end();
  return true;
}

#undef parameters
#undef span
