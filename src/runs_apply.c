/* runs_apply.c - a mean, scale and offset per run, applied along it.
 * SPDX-License-Identifier: MIT */
#include "runs.h"

/* Elements of a block of short runs: few, so that reading x, what is added, and writing
 * y take turns often and memory keeps pace with each ([32, 256, 196] with post_add and
 * relu: 8192 elements 400 us, 4096 300, 2048 335). */
#define BLOCK 4096

static const void *offset_by(const fn_run_apply *a, const void *p, size_t i) {
  return p ? fn_element(a->dtype, p, (ptrdiff_t)i) : NULL;
}

/* Runs first to first + g->rows of those that a describes, from element `at` of each
 * on; neither a source nor a sink. */
static void apply_plain(const fn_run_apply *a, const fn_runs *g, const fn_output *out,
                        size_t first, size_t at) {
  const bool along = a->step == 1;
  const void *weight = along ? offset_by(a, a->weight, at) : NULL;
  const void *bias = along ? offset_by(a, a->bias, at) : NULL;
  if (!a->s->any_slow) {
    a->kernels->apply_runs(g, out->y, out->row_stride, out->seg_stride,
                           offset_by(a, a->hi, first), offset_by(a, a->scale, first),
                           offset_by(a, a->offset, first), weight, bias, out->stream);
    return;
  }
  for (size_t r = 0; r < g->rows; r++) {
    const fn_runs one = fn_run_alone(g, a->dtype, r);
    const size_t i = first + r;
    void *y = fn_element(a->dtype, out->y, (ptrdiff_t)r * out->row_stride);
    if (a->s->is_slow[i])
      fn_slow_apply(a->dtype, &one, y, out->seg_stride, &a->s->slow[i],
                    along ? weight : offset_by(a, a->weight, i),
                    along ? bias : offset_by(a, a->bias, i), a->step);
    else
      a->kernels->apply_runs(&one, y, 0, out->seg_stride, offset_by(a, a->hi, i),
                             offset_by(a, a->scale, i), offset_by(a, a->offset, i),
                             weight, bias, out->stream);
  }
}

/* Runs or parts of them that fit the stage. */
static void apply_staged(const fn_run_apply *a, const fn_runs *g, const fn_output *out,
                         size_t first, size_t at) {
  fn_stage stage;
  fn_runs block = *g;
  if (g->source)
    block = fn_gather_runs(a->dtype, g, true, &stage);
  if (!out->sink) {
    apply_plain(a, &block, out, first, at);
    return;
  }
  const fn_output staged = fn_stage_output(&stage, g);
  apply_plain(a, &block, &staged, first, at);
  block.x = &stage;
  block.row_stride = staged.row_stride;
  block.seg_stride = staged.seg_stride;
  fn_scatter_runs(a->dtype, &block, out);
}

/* Whether there is a kernel for all of it; short runs are quicker through a stage. */
static bool is_direct(const fn_run_apply *a, const fn_runs *g, const fn_output *out) {
  return !g->source && out->sink && a->step == 0 && a->hi && !a->s->any_slow &&
         g->len >= 16 && fn_output_is_direct(out, a->dtype);
}

void fn_runs_apply(const fn_run_apply *a, const fn_runs *g, const fn_output *out) {
  const size_t run = g->segs * g->len, most = fn_stage_elements(a->dtype);
  if (is_direct(a, g, out)) {
    const fn_addend add = fn_output_addend(out, false);
    a->kernels->apply_add_runs(g, out->y, out->row_stride, out->seg_stride, a->hi,
                               a->scale, a->offset, &add, out->stream);
    return;
  }
  if (!g->source && !out->sink) {
    apply_plain(a, g, out, 0, 0);
    return;
  }
  if (run <= most) {
    const size_t fit = run <= BLOCK ? BLOCK / run : 1;
    for (size_t r = 0; r < g->rows; r += fit) {
      const fn_output o = fn_output_at(a->dtype, out, r, 0, 0);
      fn_runs some = fn_run_alone(g, a->dtype, r);
      some.rows = g->rows - r < fit ? g->rows - r : fit;
      apply_staged(a, &some, &o, r, 0);
    }
    return;
  }
  const size_t chunks = fn_run_chunks(g, a->dtype);
  for (size_t r = 0; r < g->rows; r++)
    for (size_t i = 0; i < chunks; i++) {
      size_t seg, from;
      const fn_runs chunk = fn_run_chunk(g, a->dtype, r, i);
      fn_run_chunk_begin(g, a->dtype, i, &seg, &from);
      const fn_output o = fn_output_at(a->dtype, out, r, seg, from);
      apply_staged(a, &chunk, &o, r, seg * g->len + from);
    }
}
