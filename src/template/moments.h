/* template/moments.h - the two reductions: moments of runs here, those of columns in
 * moments_columns.h.
 * SPDX-License-Identifier: MIT
 *
 * One shifted pass: with d = x - shift, the sums of d and of d * d give mean and
 * variance with no cancellation as long as the shift is within about a deviation of the
 * mean; the operation checks that afterwards (fn_finish_one) and repeats the rare run
 * that fails, shifted by the mean that was found. A constant run has d = 0 exactly.
 *
 * Rounding: a lane takes at most FN_CHAIN additions, two such chains are added to a
 * block, a block's lanes are summed by a tree, and the blocks in double. So the error
 * does not grow with the length of a run, and stays small even where every addition
 * rounds the same way: after an outlier, equal small squares lose up to half a unit in
 * the last place each (with chains of 16 that was 4.7e-7 of a variance, now 2e-7).
 *
 * Magnitudes (the L1 norm) are another term in the same chains and not a reduction of
 * their own: one line of add_vec(), with every path, bound and order of the squares. */

#define FN_CHAIN 8
#define FN_BLOCK (2 * FN_CHAIN)

/* Partial sums of blocks, waiting until 16 of them can share one tree. */
typedef struct FN_KERNEL(pending) {
  _Alignas(64) T sum[16][FN_HALF];
  _Alignas(64) T sq[16][FN_HALF];
  size_t row[16];
  size_t n;
} FN_KERNEL(pending);
#define pending FN_KERNEL(pending)

/* out[i] = sum of slot i, and 0 from n on; those slots may be overwritten. */
FN_WORD void FN_KERNEL(sum_slots)(T (*slots)[FN_HALF], size_t n, T *out) {
  if (n > 3) { /* from here on the shared tree is cheaper, also half empty */
    for (size_t i = n; i < 16; i++)
      for (size_t k = 0; k < FN_HALF; k++)
        slots[i][k] = 0;
    V(reduce16)((const T(*)[FN_HALF])slots, out);
  } else {
    for (size_t i = 0; i < 16; i++)
      out[i] = i < n ? V(hsum)(slots[i]) : (T)0;
  }
}

/* Once for all who have blocks waiting: it is as long as what they do to fill them. */
static void FN_KERNEL(drain)(pending *p, bool deviations, double *sum, double *sq) {
  _Alignas(64) T s[16], q[16];
  if (deviations)
    FN_KERNEL(sum_slots)(p->sum, p->n, s);
  FN_KERNEL(sum_slots)(p->sq, p->n, q);
  for (size_t i = 0; i < p->n; i++) {
    if (deviations)
      sum[p->row[i]] += (double)s[i];
    sq[p->row[i]] += (double)q[i];
  }
  p->n = 0;
}

/* The sums of a chain. */
typedef struct FN_KERNEL(chain) {
  vec s, q;
} FN_KERNEL(chain);
#define chain FN_KERNEL(chain)

FN_WORD chain FN_KERNEL(empty_chain)(void) {
  const vec zero = V(splat)((T)0);
  return (chain){zero, zero};
}

FN_WORD void FN_KERNEL(add_vec)(chain *c, vec v, vec shift, fn_terms kind) {
  const vec d = kind == FN_DEVIATIONS ? V(sub)(v, shift) : v;
  if (kind == FN_DEVIATIONS)
    c->s = V(add)(c->s, d);
  c->q = kind == FN_MAGNITUDES ? V(add)(c->q, V(abs)(d)) : V(fma)(d, d, c->q);
}

/* Whole vecs of x from element i on. The processor's own prefetch stays a little ahead
 * of one stream. Where x comes from memory, asking further ahead took rows of 4096
 * floats from 1010 to 885 ns, of 64 from 24 to 19; where x is in a cache, asking takes
 * from what the loads need: a group norm of 6 MB 1.7 to 1.6 ns per 64 bytes without
 * (AMD EPYC Zen 5, avx512). */
FN_WORD void FN_KERNEL(ask_ahead)(const void *x, size_t i, size_t steps, bool far,
                                  fastnorm_dtype dtype) {
  const char *from = (const char *)x + i * FN_KERNEL(element_bytes)(dtype) + 8192;
  if (far)
    for (size_t k = 0; k < steps; k++)
      FN_PREFETCH_VEC(from + k * FN_VEC * FN_KERNEL(element_bytes)(dtype));
}

FN_WORD void FN_KERNEL(add_steps)(chain *c, vec shift, const void *x, size_t i,
                                  size_t steps, fn_terms kind, fastnorm_dtype dtype) {
  for (const size_t end = i + steps * FN_VEC; i != end; i += FN_VEC)
    FN_KERNEL(add_vec)(c, FN_KERNEL(fetch)(dtype, x, i, FN_VEC), shift, kind);
}

FN_WORD void FN_KERNEL(store_block)(T *sum, T *sq, const chain *first,
                                    const chain *second, fn_terms kind) {
  if (kind == FN_DEVIATIONS)
    V(store_folded)(sum, V(add)(first->s, second->s));
  V(store_folded)(sq, V(add)(first->q, second->q));
}

FN_WORD void FN_KERNEL(flush)(pending *p, const chain *first, const chain *second,
                              size_t r, fn_terms kind, double *sum, double *sq) {
  FN_KERNEL(store_block)(p->sum[p->n], p->sq[p->n], first, second, kind);
  p->row[p->n] = r;
  if (++p->n == 16)
    FN_KERNEL(drain)(p, kind == FN_DEVIATIONS, sum, sq);
}

/* A whole block, from element `at` on, whose sums never leave the registers: both
 * chains in step, as an addition waits for the one before it in its chain (runs of 4096
 * in the first-level cache: 96 ns for 118). Two blocks in step were slower. */
FN_WORD void FN_KERNEL(add_block)(chain *first, chain *second, const void *x, size_t at,
                                  vec shift, fn_terms kind, fastnorm_dtype dtype,
                                  bool far) {
  const size_t length = FN_CHAIN * FN_VEC;
  *first = *second = FN_KERNEL(empty_chain)();
  FN_UNROLL
  for (size_t k = 0; k < FN_CHAIN; k++) {
    const size_t i = at + k * FN_VEC;
    FN_KERNEL(ask_ahead)(x, i + k * FN_VEC, 2, far, dtype);
    FN_KERNEL(add_steps)(first, shift, x, i, 1, kind, dtype);
    if (FN_IN_STEP)
      FN_KERNEL(add_steps)(second, shift, x, i + length, 1, kind, dtype);
  }
  if (!FN_IN_STEP)
    FN_KERNEL(add_steps)(second, shift, x, at + length, FN_CHAIN, kind, dtype);
}

/* As many of them as there are. */
FN_WORD size_t FN_KERNEL(add_blocks)(pending *p, const fn_runs *g, const void *x,
                                     size_t from, size_t len, vec shift, size_t r,
                                     fn_terms kind, fastnorm_dtype dtype, double *sum,
                                     double *sq) {
  const size_t block = FN_BLOCK * FN_VEC;
  const bool far = g->far;
  size_t i = 0;
  for (; i + block <= len; i += block) {
    chain first, second;
    FN_KERNEL(add_block)(&first, &second, x, from + i, shift, kind, dtype, far);
    FN_KERNEL(flush)(p, &first, &second, r, kind, sum, sq);
  }
  return i;
}

/* A run whose segments are not whole blocks: chains and blocks go on from one segment
 * to the next, and a segment's last few elements are a step. */
FN_WORD void FN_KERNEL(add_run)(const fn_runs *g, vec shift, size_t r, pending *p,
                                double *sum, double *sq, fn_terms kind,
                                fastnorm_dtype dtype) {
  const size_t len = g->len, segs = g->segs;
  chain first = FN_KERNEL(empty_chain)(), c = first;
  FN_ASIDE(first);
  size_t steps = 0; /* in the block */
  for (size_t seg = 0; seg < segs; seg++) {
    const ptrdiff_t at = (ptrdiff_t)r * g->row_stride + (ptrdiff_t)seg * g->seg_stride;
    const void *x = FN_KERNEL(element)(dtype, g->x, at);
    size_t i = 0, left = len;
    while (left > 0) {
      if (steps == 0) {
        const size_t done =
            FN_KERNEL(add_blocks)(p, g, x, i, left, shift, r, kind, dtype, sum, sq);
        i += done;
        left -= done;
      }
      const size_t full = left / FN_VEC, room = FN_CHAIN - steps % FN_CHAIN;
      const size_t now = full < room ? full : room;
      FN_KERNEL(ask_ahead)(x, i, now, g->far, dtype);
      FN_KERNEL(add_steps)(&c, shift, x, i, now, kind, dtype);
      i += now * FN_VEC;
      left -= now * FN_VEC;
      steps += now;
      if (left > 0 && left < FN_VEC && now < room) {
        FN_KERNEL(add_vec)
        (&c, FN_KERNEL(fetch_or)(dtype, x, i, left, shift), shift, kind);
        left = 0;
        steps++;
      }
      if (steps == FN_CHAIN) {
        first = c;
        FN_ASIDE(first);
        c = FN_KERNEL(empty_chain)();
      }
      if (steps == FN_BLOCK) {
        FN_KERNEL(flush)(p, &first, &c, r, kind, sum, sq);
        first = c = FN_KERNEL(empty_chain)();
        FN_ASIDE(first);
        steps = 0;
      }
    }
  }
  if (steps > 0)
    FN_KERNEL(flush)(p, &first, &c, r, kind, sum, sq);
}

FN_WORD void FN_KERNEL(moments_of_long_runs)(const fn_runs *g, const T *shift,
                                             double *sum, double *sq, fn_terms kind,
                                             fastnorm_dtype dtype) {
  pending p;
  p.n = 0;
  for (size_t r = 0; r < g->rows; r++) {
    if (kind == FN_DEVIATIONS)
      sum[r] = 0.0;
    sq[r] = 0.0;
    FN_KERNEL(add_run)
    (g, V(splat)(kind == FN_DEVIATIONS ? shift[r] : (T)0), r, &p, sum, sq, kind, dtype);
  }
  if (p.n > 0)
    FN_KERNEL(drain)(&p, kind == FN_DEVIATIONS, sum, sq);
}

/* The 16 (or fewer) sums of slots, as doubles. */
FN_WORD void FN_KERNEL(sums_to)(double *to, T (*slots)[FN_HALF], size_t n) {
  T out[16];
  FN_KERNEL(sum_slots)(slots, n, out);
  f64_store(to, V(load_wide)(out));
}

/* The sums of elements i to len, at most a chain. */
FN_WORD chain FN_KERNEL(last_chain)(vec shift, const void *x, size_t i, size_t len,
                                    fn_terms kind, fastnorm_dtype dtype) {
  const size_t steps = (len - i) / FN_VEC, left = (len - i) % FN_VEC;
  chain c = FN_KERNEL(empty_chain)();
  FN_KERNEL(add_steps)(&c, shift, x, i, steps, kind, dtype);
  if (left > 0)
    FN_KERNEL(add_vec)
  (&c, FN_KERNEL(fetch_or)(dtype, x, i + steps * FN_VEC, left, shift), shift, kind);
  return c;
}

/* Elements i to len, at most a block: their folded sums. */
FN_WORD void FN_KERNEL(last_block)(vec shift, const void *x, size_t i, size_t len,
                                   fn_terms kind, fastnorm_dtype dtype, T *sum, T *sq) {
  const size_t length = FN_CHAIN * FN_VEC;
  if (len - i < length) { /* there is but one chain */
    const chain c = FN_KERNEL(last_chain)(shift, x, i, len, kind, dtype);
    if (kind == FN_DEVIATIONS)
      V(store_folded)(sum, c.s);
    V(store_folded)(sq, c.q);
  } else {
    chain first = FN_KERNEL(last_chain)(shift, x, i, i + length, kind, dtype);
    FN_ASIDE(first);
    const chain c = FN_KERNEL(last_chain)(shift, x, i + length, len, kind, dtype);
    FN_KERNEL(store_block)(sum, sq, &first, &c, kind);
  }
}

/* Runs of one block: 16 at a time, whose sums then share one tree and leave as vectors.
 * The sums are those of the runs above, to the bit. */
FN_WORD void FN_KERNEL(moments_of_short_runs)(const fn_runs *g, const T *shift,
                                              double *sum, double *sq, fn_terms kind,
                                              fastnorm_dtype dtype) {
  const size_t len = g->len;
  for (size_t r = 0; r < g->rows; r += 16) {
    const size_t rows = g->rows - r < 16 ? g->rows - r : 16;
    _Alignas(64) T sums[16][FN_HALF], sqs[16][FN_HALF];
    for (size_t k = 0; k < rows; k++) {
      const void *x =
          FN_KERNEL(element)(dtype, g->x, (ptrdiff_t)(r + k) * g->row_stride);
      const vec shift_k = V(splat)(kind == FN_DEVIATIONS ? shift[r + k] : (T)0);
      FN_KERNEL(ask_ahead)(x, 0, len / FN_VEC, g->far, dtype);
      FN_KERNEL(last_block)(shift_k, x, 0, len, kind, dtype, sums[k], sqs[k]);
    }
    if (kind == FN_DEVIATIONS)
      FN_KERNEL(sums_to)(sum + r, sums, rows);
    FN_KERNEL(sums_to)(sq + r, sqs, rows);
  }
}

/* Runs of half a vec: two in each vec, which is already what a slot holds. */
FN_WORD void FN_KERNEL(moments_of_tiny_runs)(const fn_runs *g, const T *shift,
                                             double *sum, double *sq, fn_terms kind) {
  for (size_t r = 0; r < g->rows; r += 16) {
    const size_t rows = g->rows - r < 16 ? g->rows - r : 16;
    _Alignas(64) T sums[16][FN_HALF], sqs[16][FN_HALF];
    for (size_t k = 0; k < rows; k += 2) { /* an odd last run is its own partner */
      const size_t a = r + k, b = k + 1 < rows ? a + 1 : a;
      const vec shift_k =
          kind == FN_DEVIATIONS ? V(splat2)(shift[a], shift[b]) : V(splat)((T)0);
      const vec v =
          V(load2_or)((const T *)g->x + (ptrdiff_t)a * g->row_stride,
                      (const T *)g->x + (ptrdiff_t)b * g->row_stride, g->len, shift_k);
      const vec d = kind == FN_DEVIATIONS ? V(sub)(v, shift_k) : v;
      if (kind == FN_DEVIATIONS)
        V(store)(sums[k], d);
      V(store)(sqs[k], kind == FN_MAGNITUDES ? V(abs)(d) : V(mul)(d, d));
    }
    if (kind == FN_DEVIATIONS)
      FN_KERNEL(sums_to)(sum + r, sums, rows);
    FN_KERNEL(sums_to)(sq + r, sqs, rows);
  }
}

FN_WORD void FN_KERNEL(moments_of)(const fn_runs *g, const T *shift, double *sum,
                                   double *sq, fn_terms kind, fastnorm_dtype dtype) {
  if (g->segs == 1 && g->len <= FN_HALF && dtype == FASTNORM_DEFAULT)
    FN_KERNEL(moments_of_tiny_runs)(g, shift, sum, sq, kind);
  else if (g->segs == 1 && g->len <= FN_BLOCK * FN_VEC)
    FN_KERNEL(moments_of_short_runs)(g, shift, sum, sq, kind, dtype);
  else
    FN_KERNEL(moments_of_long_runs)(g, shift, sum, sq, kind, dtype);
}

static void FN_KERNEL(moments_runs)(const fn_runs *g, const void *shift, double *sum,
                                    double *sq) {
  if (!shift && g->magnitudes) {
    FN_KERNEL(moments_of)(g, NULL, sum, sq, FN_MAGNITUDES, FASTNORM_DEFAULT);
    return;
  }
#define CASE(dtype)                                                                    \
  if (shift)                                                                           \
    FN_KERNEL(moments_of)(g, shift, sum, sq, FN_DEVIATIONS, dtype);                    \
  else                                                                                 \
    FN_KERNEL(moments_of)(g, NULL, sum, sq, FN_SQUARES, dtype)
  FN_RUN_DTYPES(g->dtype)
#undef CASE
}

#if FN_PIPELINES
typedef struct FN_KERNEL(run_sums) {
  double sum, sq;
} FN_KERNEL(run_sums);
#define run_sums FN_KERNEL(run_sums)

/* Of one run, as moments_runs adds them. */
FN_WORD run_sums FN_KERNEL(sums_of_run)(const T *x, size_t len, T shift, fn_terms kind,
                                        bool far) {
  const size_t block = FN_BLOCK * FN_VEC;
  const vec shifts = V(splat)(shift);
  _Alignas(64) T sum[FN_HALF], sq[FN_HALF];
  run_sums s = {0.0, 0.0};
  size_t i = 0;
  for (; i + block <= len; i += block) {
    chain first, second;
    FN_KERNEL(add_block)
    (&first, &second, x, i, shifts, kind, FASTNORM_DEFAULT, far);
    FN_KERNEL(store_block)(sum, sq, &first, &second, kind);
    if (kind == FN_DEVIATIONS)
      s.sum += (double)V(hsum)(sum);
    s.sq += (double)V(hsum)(sq);
  }
  if (i < len) {
    FN_KERNEL(last_block)(shifts, x, i, len, kind, FASTNORM_DEFAULT, sum, sq);
    if (kind == FN_DEVIATIONS)
      s.sum += (double)V(hsum)(sum);
    s.sq += (double)V(hsum)(sq);
  }
  return s;
}

#undef run_sums
#endif
