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

/* Whole blocks, whose sums never leave the registers: both chains in step, as an
 * addition waits for the one before it in its chain (runs of 4096 in the first-level
 * cache: 96 ns for 118). Two blocks in step were slower. */
FN_WORD size_t FN_KERNEL(add_blocks)(pending *p, const fn_runs *g, const void *x,
                                     size_t from, size_t len, vec shift, size_t r,
                                     fn_terms kind, fastnorm_dtype dtype, double *sum,
                                     double *sq) {
  const size_t length = FN_CHAIN * FN_VEC;
  const bool far = g->far;
  size_t i = 0;
  for (; i + 2 * length <= len; i += 2 * length) {
    chain first = FN_KERNEL(empty_chain)(), second = first;
    FN_UNROLL
    for (size_t k = 0; k < FN_CHAIN; k++) {
      const size_t at = from + i + k * FN_VEC;
      FN_KERNEL(ask_ahead)(x, at + k * FN_VEC, 2, far, dtype);
      FN_KERNEL(add_steps)(&first, shift, x, at, 1, kind, dtype);
      if (FN_IN_STEP)
        FN_KERNEL(add_steps)(&second, shift, x, at + length, 1, kind, dtype);
    }
    if (!FN_IN_STEP)
      FN_KERNEL(add_steps)
    (&second, shift, x, from + i + length, FN_CHAIN, kind, dtype);
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

/* Runs of one block: 16 at a time, whose sums then share one tree and leave as vectors.
 * The sums are those of the runs above, to the bit. */
FN_WORD void FN_KERNEL(moments_of_short_runs)(const fn_runs *g, const T *shift,
                                              double *sum, double *sq, fn_terms kind,
                                              fastnorm_dtype dtype) {
  const size_t len = g->len, length = FN_CHAIN * FN_VEC;
  for (size_t r = 0; r < g->rows; r += 16) {
    const size_t rows = g->rows - r < 16 ? g->rows - r : 16;
    _Alignas(64) T sums[16][FN_HALF], sqs[16][FN_HALF];
    for (size_t k = 0; k < rows; k++) {
      const void *x =
          FN_KERNEL(element)(dtype, g->x, (ptrdiff_t)(r + k) * g->row_stride);
      const vec shift_k = V(splat)(kind == FN_DEVIATIONS ? shift[r + k] : (T)0);
      FN_KERNEL(ask_ahead)(x, 0, len / FN_VEC, g->far, dtype);
      if (len < length) { /* there is but one chain */
        const chain c = FN_KERNEL(last_chain)(shift_k, x, 0, len, kind, dtype);
        if (kind == FN_DEVIATIONS)
          V(store_folded)(sums[k], c.s);
        V(store_folded)(sqs[k], c.q);
      } else {
        chain first = FN_KERNEL(last_chain)(shift_k, x, 0, length, kind, dtype);
        FN_ASIDE(first);
        const chain c = FN_KERNEL(last_chain)(shift_k, x, length, len, kind, dtype);
        FN_KERNEL(store_block)(sums[k], sqs[k], &first, &c, kind);
      }
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

/* The sums of `count` samples of runs r to r + rows, folded. Two, as short runs have,
 * are added without a loop: batch norm training of [1, 2048, 7, 7] 24.0 -> 20.9 us (AMD
 * EPYC Zen 5, avx512). Four would gain 2 % for 2 KB more. */
FN_WORD void FN_KERNEL(add_samples)(const fn_runs *g, size_t r, size_t rows,
                                    const fn_samples *p, size_t count,
                                    T (*slots)[FN_HALF], fastnorm_dtype dtype) {
  const fn_samples of = *p; /* slots may not change it */
  for (size_t k = 0; k < rows; k++) {
    const void *x = FN_KERNEL(element)(dtype, g->x, (ptrdiff_t)(r + k) * g->row_stride);
    vec s = V(splat)((T)0);
#define ADD(i)                                                                         \
  s = V(add)(                                                                          \
      s, FN_KERNEL(fetch)(dtype, FN_KERNEL(element)(dtype, x, of.at[i]), 0, of.n[i]))
    if (count == 2) {
      ADD(0);
      ADD(1);
    } else {
      for (size_t i = 0; i < count; i++)
        ADD(i);
    }
#undef ADD
    V(store_folded)(slots[k], s);
  }
}

FN_WORD void FN_KERNEL(shift_of)(const fn_runs *g, const fn_samples *p, T *shift,
                                 fastnorm_dtype dtype) {
  const f64_vec number = f64_splat((double)p->all);
  const bool tiny = p->all <= FN_HALF && g->segs == 1 && dtype == FASTNORM_DEFAULT;
  for (size_t r = 0; r < g->rows; r += 16) {
    const size_t rows = g->rows - r < 16 ? g->rows - r : 16;
    _Alignas(64) T slots[16][FN_HALF], sums[16];
    const T *x = (const T *)g->x + (ptrdiff_t)r * g->row_stride;
    if (tiny) {
      for (size_t k = 0; k < rows; k += 2, x += 2 * g->row_stride) {
        const T *partner = k + 1 < rows ? x + g->row_stride : x;
        V(store)(slots[k], V(load2_or)(x, partner, g->len, V(splat)((T)0)));
      }
    } else if (p->count == 2) {
      FN_KERNEL(add_samples)(g, r, rows, p, 2, slots, dtype);
    } else {
      FN_KERNEL(add_samples)(g, r, rows, p, p->count, slots, dtype);
    }
    FN_KERNEL(sum_slots)(slots, rows, sums);
    V(store_narrow)(shift + r, f64_div(V(load_wide)(sums), number));
  }
}

static void FN_KERNEL(shift_runs)(const fn_runs *g, const fn_samples *p, void *shift) {
#define CASE(dtype) FN_KERNEL(shift_of)(g, p, (T *)shift, dtype)
  FN_RUN_DTYPES(g->dtype)
#undef CASE
}
