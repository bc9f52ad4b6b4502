/* template/finish_lanes.h - the arithmetic of finish.h: of the runs in the lanes of a
 * vec of doubles, or of one run.
 * SPDX-License-Identifier: MIT
 *
 * Parameters:
 *   FN_L         prefix of the words: f64 or one
 *   lanes        a vec of such
 *   FN_ROUND(x)  the dtype's numbers nearest to x, as doubles
 * FN_LANES(name) is a name here, for the includer too. */

#define L(word)        FN_WORD_OF(FN_L, word)
#define FN_LANES(name) FN_WORD_OF(FN_L, FN_KERNEL(name))
#define found          FN_LANES(found)

typedef struct FN_LANES(found_lanes) {
  lanes hi, lo, var; /* mean = hi + lo, if there is a shift */
  bool good;
} found;

/* From sums of `count` elements; without a shift they are centered about 0. */
FN_WORD found FN_LANES(find)(lanes sum, lanes sq, lanes shift, double count, double eps,
                             bool shifted) {
  const lanes number = L(splat)(count);
  found f = {.hi = L(splat)(0.0), .lo = L(splat)(0.0), .var = sq, .good = true};
  if (shifted) {
    const lanes m = L(div)(sum, number), z = L(add)(shift, m), part = L(sub)(z, shift);
    const lanes error =
        L(add)(L(sub)(shift, L(sub)(z, part)), L(sub)(m, part)); /* of z */
    f.hi = FN_ROUND(z);
    f.lo = FN_ROUND(L(add)(L(sub)(z, f.hi), error));
    f.var = L(max_zero)(L(fnma)(sum, m, sq));
    f.good = L(all_le)(L(mul)(sum, m), L(fma)(number, L(splat)(eps * 0x1p-24), f.var));
  }
  f.var = L(div)(f.var, number);
  f.good &= L(all_le)(sq, L(splat)(V(SQ_MAX)));
  f.good &= L(all_le)(L(splat)(V(VAR_MIN)), L(add)(f.var, L(splat)(eps)));
  return f;
}

FN_WORD lanes FN_LANES(rstd)(lanes var, double eps) {
  return L(inverse)(L(sqrt)(L(add)(var, L(splat)(eps))));
}

/* Whether the dtype is accurate with this scale. */
FN_WORD bool FN_LANES(may_scale)(lanes scale) {
  const bool fits = L(all_le)(L(abs)(scale), L(splat)(V(SCALE_MAX)));
  return fits & L(all_le)(L(splat)(V(SCALE_MIN)), L(abs)(scale));
}

#undef L
#undef found
