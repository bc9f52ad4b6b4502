/* template/gradient_segments.h - sums of products over runs of short segments.
 * SPDX-License-Identifier: MIT
 *
 * The channels of [N, C, H * W]. A chain is as many whole segments as have FN_STEPS
 * steps, so that nothing has to be asked within one, and two chains are a block as
 * elsewhere. The blocks of all runs take turns: adjacent runs follow each other in
 * memory, and what lies further on is asked for, as the processor does not foresee it
 * (AMD EPYC Zen 5, [32, 256, 196] from the last-level cache: 300 us run by run, 200
 * like this, 150 from the second level). */

/* Where a segment begins, and what is asked for meanwhile. */
typedef struct FN_KERNEL(segment) {
  const T *g, *x, *next_g, *next_x;
} FN_KERNEL(segment);
#define segment FN_KERNEL(segment)

FN_WORD products FN_KERNEL(add_segment)(products s, segment at, size_t len,
                                        const terms *f, bool centered) {
  const size_t left = len % FN_VEC;
  sums q = FN_KERNEL(sums_of)(&s);
  for (const T *end = at.g + (len - left); at.g != end;) {
    FN_PREFETCH_VEC(at.next_g);
    FN_PREFETCH_VEC(at.next_x);
    FN_KERNEL(add_parts_of)(&q, 0, FN_PARTS, at.g, at.x, NULL, f, centered, false);
    at.g += FN_VEC, at.x += FN_VEC, at.next_g += FN_VEC, at.next_x += FN_VEC;
  }
  s = FN_KERNEL(products_of)(&q);
  if (left > 0) {
    FN_PREFETCH_VEC(at.next_g);
    FN_PREFETCH_VEC(at.next_x);
    FN_KERNEL(add_few)(&s, at.g, at.x, NULL, left, f, centered, false);
  }
  return s;
}

FN_WORD bool FN_KERNEL(has_short_segments)(const fn_pairs *p) {
  return p->segs > 1 && !p->weight && p->len <= FN_STEPS * FN_VEC;
}

/* Segments [seg, end) of run r; those `far` further on are asked for. */
FN_WORD products FN_KERNEL(chain_of_segments)(const fn_pairs *p, size_t r, size_t seg,
                                              size_t end, size_t far, const terms *f,
                                              bool centered) {
  const T *g = (const T *)p->g + (ptrdiff_t)r * p->g_row_stride;
  const T *x = (const T *)p->x + (ptrdiff_t)r * p->x_row_stride;
  products s = FN_KERNEL(no_products)();
  for (; seg < end; seg++) {
    const ptrdiff_t n = (ptrdiff_t)seg;
    const ptrdiff_t next = (ptrdiff_t)(seg + far < p->segs ? seg + far : seg);
    const segment at = {g + n * p->g_seg_stride, x + n * p->x_seg_stride,
                        g + next * p->g_seg_stride, x + next * p->x_seg_stride};
    s = FN_KERNEL(add_segment)(s, at, p->len, f, centered);
  }
  return s;
}

FN_WORD void FN_KERNEL(products_of_segments)(const fn_pairs *p, waiting *q,
                                             bool centered) {
  const size_t segs = p->segs, chain = FN_STEPS / ((p->len + FN_VEC - 1) / FN_VEC);
  for (size_t seg = 0; seg < segs; seg += 2 * chain) {
    const size_t half = segs - seg < chain ? segs : seg + chain;
    const size_t end = segs - half < chain ? segs : half + chain;
    for (size_t r = 0; r < p->rows; r++) {
      const terms f = FN_KERNEL(terms_of_run)(p, r, centered);
      const products a =
          FN_KERNEL(chain_of_segments)(p, r, seg, half, 2 * chain, &f, centered);
      const products b =
          FN_KERNEL(chain_of_segments)(p, r, half, end, 2 * chain, &f, centered);
      FN_KERNEL(end_products)(q, r, &a, &b);
    }
  }
}
#undef segment
