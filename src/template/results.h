/* template/results.h - what an application would make of runs, put to another use: the
 * largest magnitude, or an activation at once.
 * SPDX-License-Identifier: MIT
 *
 * Always with a mean, weight and bias: without hi, 0 and -0 in its and the offset's
 * place change no bit of x * scale. Of float alone. */

#if FN_T_IS_FLOAT
typedef struct FN_KERNEL(result) {
  const T *x;
  FN_KERNEL(scaling) by;
} FN_KERNEL(result);
#define result FN_KERNEL(result)

FN_WORD result FN_KERNEL(result_of)(const fn_runs *g, size_t r,
                                    const FN_KERNEL(run_parameters) * p) {
  return (result){.x = (const T *)g->x + (ptrdiff_t)r * g->row_stride,
                  .by = FN_KERNEL(scaling_of)(p, r)};
}

/* Elements from the i-th on, with their weights and biases. */
FN_WORD vec FN_KERNEL(result_at)(const result *s, size_t i, vec weight, vec bias) {
  const vec v = V(load)(s->x + i);
  return V(fma)(FN_KERNEL(normalized)(v, s->by.hi, s->by.scale, s->by.offset, true),
                weight, bias);
}

/* The last n elements, less than a vec, and zeros or the mean: copies, so that the loop
 * over whole vecs serves for them too and there is half the code. */
FN_WORD const T *FN_KERNEL(copied)(const T *p, size_t n, vec fill, T *copy) {
  V(store)(copy, V(load_partial_or)(p, n, fill));
  return copy;
}

FN_WORD void FN_KERNEL(largest_of_runs)(const fn_runs *g, size_t r, int runs,
                                        const FN_KERNEL(run_parameters) * p,
                                        double *largest) {
  const T *weight = p->weight, *bias = p->bias;
  const vec zero = V(splat)((T)0);
  T last[6][FN_VEC];
  result s[4];
  vec most[4];
  FN_UNROLL
  for (int k = 0; k < runs; k++) {
    s[k] = FN_KERNEL(result_of)(g, r + (size_t)k, p);
    most[k] = zero;
  }
  for (size_t i = 0, left = g->len; left > 0; i += FN_VEC) {
    const size_t n = left < FN_VEC ? left : FN_VEC;
    if (n < FN_VEC) {
      weight = FN_KERNEL(copied)(weight + i, n, zero, last[4]);
      bias = FN_KERNEL(copied)(bias + i, n, zero, last[5]);
      for (int k = 0; k < runs; k++)
        s[k].x = FN_KERNEL(copied)(s[k].x + i, n, s[k].by.hi, last[k]);
      i = 0;
    }
    const vec w = V(load)(weight + i), c = V(load)(bias + i);
    FN_UNROLL
    for (int k = 0; k < runs; k++)
      most[k] = V(max_magnitude)(most[k], FN_KERNEL(result_at)(&s[k], i, w, c));
    left -= n;
  }
  FN_UNROLL
  for (int k = 0; k < runs; k++)
    largest[r + (size_t)k] = FN_KERNEL(magnitude_lane)(most[k]);
}

static void FN_KERNEL(largest_runs)(const fn_runs *g, const void *hi, const void *scale,
                                    const void *offset, const void *weight,
                                    const void *bias, double *largest) {
  const FN_KERNEL(run_parameters) p = {0, 0, hi, scale, offset, weight, bias};
  size_t r = 0;
  for (; FN_IN_STEP && r + 4 <= g->rows; r += 4)
    FN_KERNEL(largest_of_runs)(g, r, 4, &p, largest);
  for (; r < g->rows; r++)
    FN_KERNEL(largest_of_runs)(g, r, 1, &p, largest);
}

#if FN_ACTIVATES
FN_WORD void FN_KERNEL(activate_vecs)(const result *run, const T *weight, const T *bias,
                                      size_t n, T *y, fastnorm_activation activation) {
  const result s = *run; /* y may not change it */
  for (size_t i = 0; i < n; i += FN_VEC) {
    const vec t = FN_KERNEL(result_at)(&s, i, V(load)(weight + i), V(load)(bias + i));
    V(store)(y + i, FN_KERNEL(activate)(t, activation, (T)0, (T)0));
  }
}

/* n elements, a multiple of a vec. */
static void FN_KERNEL(activate_some)(const result *s, const T *weight, const T *bias,
                                     size_t n, T *y, fastnorm_activation activation) {
  switch (activation) {
#define X(name)                                                                        \
  case FASTNORM_##name:                                                                \
    FN_KERNEL(activate_vecs)(s, weight, bias, n, y, FASTNORM_##name);                  \
    break;
    FN_ACTIVATED(X)
#undef X
  default:
    break;
  }
}

static void FN_KERNEL(activate_runs)(const fn_runs *g, void *y, ptrdiff_t y_row_stride,
                                     const void *hi, const void *scale,
                                     const void *offset, const void *weight,
                                     const void *bias, fastnorm_activation activation) {
  const FN_KERNEL(run_parameters) p = {0, 0, hi, scale, offset, weight, bias};
  const size_t rest = g->len % FN_VEC, whole = g->len - rest;
  const vec zero = V(splat)((T)0);
  for (size_t r = 0; r < g->rows; r++) {
    T *to = (T *)y + (ptrdiff_t)r * y_row_stride;
    result s = FN_KERNEL(result_of)(g, r, &p);
    FN_KERNEL(activate_some)(&s, p.weight, p.bias, whole, to, activation);
    if (rest > 0) {
      T last[3][FN_VEC];
      s.x = FN_KERNEL(copied)(s.x + whole, rest, s.by.hi, last[0]);
      FN_KERNEL(activate_some)
      (&s, FN_KERNEL(copied)(p.weight + whole, rest, zero, last[1]),
       FN_KERNEL(copied)(p.bias + whole, rest, zero, last[2]), FN_VEC, last[0],
       activation);
      V(store_partial)(to + whole, rest, V(load)(last[0]));
    }
  }
}
#endif
#undef result
#endif
